//! The yardstick: a relay that copies headers and streams bodies, and knows nothing else.
//!
//! `bare-relay LISTEN UPSTREAM THREADS`, both addresses as `host:port`. What Turnpike costs above it is the price of
//! metering: HTTP itself, hyper and the sockets cost the same here. So it has what makes Turnpike fast (one runtime per
//! thread, a listener and a pool for each) and nothing of what makes it a gateway.

use std::{
    cell::RefCell,
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    thread,
};

use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Body, Frame, Incoming, SizeHint},
    client, header,
    header::{HeaderMap, HeaderName, HeaderValue},
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

type AnyError = Box<dyn Error + Send + Sync>;
type Sender = client::conn::http1::SendRequest<Incoming>;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, threads] = arguments.as_slice() else {
        return Err("usage: bare-relay LISTEN UPSTREAM THREADS".into());
    };
    let (listen, upstream) = (listen.parse()?, upstream.parse()?);
    let threads: usize = threads.parse()?;
    let first = listener(listen)?;
    let listen = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listener(listen)?);
    }
    println!("listening on http://{listen}");
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| thread::spawn(move || run(listener, upstream)))
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

/// A listener that shares its address with those of the other threads.
fn listener(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

const BACKLOG: i32 = 4096;

fn run(listener: std::net::TcpListener, upstream: SocketAddr) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let relay = Rc::new(Relay {
        upstream,
        host: HeaderValue::from_str(&upstream.to_string())?,
        idle: Rc::default(),
    });
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            tokio::task::spawn_local(serve(client, Rc::clone(&relay)));
        }
    })
}

async fn serve(client: TcpStream, relay: Rc<Relay>) {
    let service = service_fn(move |request| {
        let relay = Rc::clone(&relay);
        async move { Ok::<_, Infallible>(relay.exchange(request).await) }
    });
    // A client that breaks off is no news.
    let _ = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(client), service)
        .await;
}

/// One thread's relay.
struct Relay {
    upstream: SocketAddr,
    host: HeaderValue,
    /// Connections that wait for a request, the latest last.
    idle: Rc<RefCell<Vec<Sender>>>,
}

impl Relay {
    async fn exchange(
        &self,
        mut request: Request<Incoming>,
    ) -> Response<Either<Lent, Empty<Bytes>>> {
        drop_hop_by_hop(request.headers_mut());
        request
            .headers_mut()
            .insert(header::HOST, self.host.clone());
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(path);
        }
        match self.send(request).await {
            Ok(mut response) => {
                drop_hop_by_hop(response.headers_mut());
                response.map(Either::Left)
            }
            Err(_) => {
                let mut response = Response::new(Either::Right(Empty::new()));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        }
    }

    async fn send(&self, request: Request<Incoming>) -> Result<Response<Lent>, AnyError> {
        let mut sender = self.sender().await?;
        let response = sender.send_request(request).await?;
        Ok(response.map(|body| Lent {
            body,
            sender: Some(sender),
            idle: Rc::clone(&self.idle),
        }))
    }

    async fn sender(&self) -> Result<Sender, AnyError> {
        loop {
            // Not in the condition of a `while let`: the borrow would last into the body.
            let idle = self.idle.borrow_mut().pop();
            let Some(mut sender) = idle else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(sender)
    }
}

/// An answer's body, which gives its connection back once it has ended.
struct Lent {
    body: Incoming,
    sender: Option<Sender>,
    idle: Rc<RefCell<Vec<Sender>>>,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if (frame.is_none() || self.body.is_end_stream())
            && let Some(sender) = self.sender.take()
        {
            self.idle.borrow_mut().push(sender);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(connection) = headers.remove(header::CONNECTION) {
        for name in connection.to_str().unwrap_or_default().split(',') {
            headers.remove(name.trim());
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
