//! The other end of a connection.

use std::fmt;
use std::net::SocketAddr;

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// On the network.
    Inet(SocketAddr),
    /// On this machine, connected through a Unix socket.
    Local,
}

impl Peer {
    /// Host and port; a client of a Unix socket is `local`, port 0.
    pub fn pair(&self) -> (String, u16) {
        match self {
            Self::Inet(address) => (address.ip().to_string(), address.port()),
            Self::Local => ("local".to_owned(), 0),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(formatter),
            Self::Local => formatter.write_str("local"),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}
