//! Sockets to listen on.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;

use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

/// Connections the kernel keeps for us while we do not accept. The kernel has a maximum of its own (`somaxconn`).
const BACKLOG: i32 = 4096;

/// Listens on `address`. Several listeners may share an address: the kernel spreads connections over them.
///
/// Non-blocking, and made outside any runtime, so that a taken port is known before workers start.
///
/// # Errors
/// As the system gives them, such as an address in use or not ours.
pub fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
