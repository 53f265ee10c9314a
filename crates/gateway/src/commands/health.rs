//! `turnpike health`: asks the gateway that runs here whether it is well, where there is no curl to ask with.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use crate::{
    cli,
    fatal::{Code, Fatal},
    settings,
};

/// How long the gateway may take over each step.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than its answer has.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Prints what the gateway says. Exit code 0: it is well, 1: it says that it is not.
///
/// # Errors
/// When nobody answers at `ADMIN_ADDRESS`.
pub(super) fn run(command: cli::Health, listen: &settings::Listen) -> Result<ExitCode, Fatal> {
    let path = if command.ready { "/readyz" } else { "/healthz" };
    let address = reachable(listen.admin_address);
    let answer = ask(address, path).map_err(|error| {
        Fatal::because(
            Code::Unavailable,
            &format!("nobody answers at {address} (ADMIN_ADDRESS)"),
            &error,
        )
    })?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    print!("{body}");
    Ok(if answer.starts_with("HTTP/1.1 200 ") {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Where one connects to reach who listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_asked_at_loopback() {
        let asked = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8081"), "127.0.0.1:8081");
        assert_eq!(asked("[::]:8081"), "[::1]:8081");
        assert_eq!(asked("10.0.0.1:1"), "10.0.0.1:1");
    }
}
