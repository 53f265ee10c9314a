//! A load balancer as small as they come: connections go in turn to the replicas whose `/readyz` says 200.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use testkit::raw::Wire;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{Turnpike, eventually};

/// How often replicas are asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Balancer {
    pub(super) address: SocketAddr,
    replicas: Arc<Mutex<Vec<Replica>>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy)]
struct Replica {
    clients: SocketAddr,
    admin: SocketAddr,
    is_ready: bool,
}

impl Balancer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replicas = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(ask(Arc::clone(&replicas)));
        tasks.spawn(accept(listener, Arc::clone(&replicas)));
        Self {
            address,
            replicas,
            _tasks: tasks,
        }
    }

    /// Sends clients there as well, from when it is ready.
    pub(super) async fn add(&self, replica: &Turnpike) {
        self.replicas.lock().unwrap().push(Replica {
            clients: replica.clients,
            admin: replica.admin,
            is_ready: false,
        });
        eventually("it is ready", async || self.sends_to(replica).then_some(())).await;
    }

    pub(super) fn sends_to(&self, replica: &Turnpike) -> bool {
        let replicas = self.replicas.lock().unwrap();
        replicas
            .iter()
            .any(|it| it.clients == replica.clients && it.is_ready)
    }
}

async fn ask(replicas: Arc<Mutex<Vec<Replica>>>) {
    loop {
        let now = replicas.lock().unwrap().clone();
        for replica in now {
            let is_ready = is_ready(replica.admin).await;
            for it in replicas.lock().unwrap().iter_mut() {
                if it.admin == replica.admin {
                    it.is_ready = is_ready;
                }
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(admin).await else {
        return false;
    };
    let mut wire = Wire::new(stream);
    let request = "GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
    if wire.try_send(request).await.is_err() {
        return false;
    }
    wire.read_to_end().await.0.starts_with(b"HTTP/1.1 200")
}

async fn accept(listener: TcpListener, replicas: Arc<Mutex<Vec<Replica>>>) {
    let mut connections = JoinSet::new();
    let mut turn = 0_usize;
    while let Ok((mut client, _)) = listener.accept().await {
        turn += 1;
        let ready: Vec<_> = {
            let replicas = replicas.lock().unwrap();
            let ready = replicas.iter().filter(|replica| replica.is_ready);
            ready.map(|replica| replica.clients).collect()
        };
        connections.spawn(async move {
            // One that takes no connection is passed over, as any balancer does.
            for step in 0..ready.len() {
                let address = ready[(turn + step) % ready.len()];
                if let Ok(mut replica) = TcpStream::connect(address).await {
                    let _ = copy_bidirectional(&mut client, &mut replica).await;
                    return;
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
