//! Where the broker is, and the sockets to it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address, at most. An untuned Linux has 28,000 ports for them and finds the first half of
/// these, the even or the odd ones, much faster than the rest.
const CONNECTIONS_PER_SOURCE: usize = 10_000;

/// An address to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    address: SocketAddr,
    /// Whether connections come from several addresses of this machine's loopback network.
    spread: bool,
}

impl Target {
    /// Resolves a name; the first address counts. `connections`: how many there will be.
    pub fn resolve(host: &str, port: u16, connections: usize) -> io::Result<Self> {
        let address = (host, port).to_socket_addrs()?.next();
        let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
        let is_loopback = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
        Ok(Self { address, spread: is_loopback && connections > CONNECTIONS_PER_SOURCE })
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the broker is on this machine, so that both have one clock.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// The source address of a connection, where it is not the system's choice.
    fn source(&self, connection: usize) -> Option<Ipv4Addr> {
        if !self.spread {
            return None;
        }
        let number = u32::try_from(connection / CONNECTIONS_PER_SOURCE).ok()? + 2;
        let [_, high, middle, low] = number.to_be_bytes();
        Some(Ipv4Addr::new(127, high, middle, low))
    }

    /// Begins to connect; the socket is writable when it stands or has failed.
    pub fn connect(&self, connection: usize) -> io::Result<TcpStream> {
        let socket =
            Socket::new(Domain::for_address(self.address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        if let Some(source) = self.source(connection) {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(TcpStream::from_std(socket.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_connections_over_loopback_come_from_several_addresses() {
        let few = Target::resolve("127.0.0.1", 1_883, 10_000).unwrap();
        assert_eq!(few.source(9_999), None);
        let many = Target::resolve("127.0.0.1", 1_883, 50_000).unwrap();
        assert_eq!(many.source(9_999), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(many.source(20_000), Some(Ipv4Addr::new(127, 0, 0, 4)));
        let elsewhere = Target::resolve("192.0.2.1", 1_883, 50_000).unwrap();
        assert_eq!((elsewhere.source(40_000), elsewhere.is_loopback()), (None, false));
    }

    #[test]
    fn a_connection_from_another_loopback_address_arrives() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::resolve("127.0.0.1", listener.local_addr().unwrap().port(), 50_000).unwrap();
        let _stream = target.connect(10_000).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 3]));
    }
}
