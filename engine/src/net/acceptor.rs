//! Listening sockets: TCP and Unix, how they are bound, and how connections come out of them.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::broker::Peer;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On the network.
    Inet(SocketAddr),
    /// In the file system.
    Path(PathBuf),
}

impl Address {
    /// Host and port, or path and 0.
    pub fn pair(&self) -> (String, u16) {
        match self {
            Self::Inet(address) => (address.ip().to_string(), address.port()),
            Self::Path(path) => (path.display().to_string(), 0),
        }
    }
}

/// Options of the listening socket. Linux gives them on to the connections that are accepted.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Small packets go out at once.
    pub nodelay: bool,
    /// The kernel looks whether silent peers are still there.
    pub keepalive: bool,
    /// Connections that the kernel keeps until they are accepted.
    pub backlog: i32,
    /// Bytes of the kernel's buffers.
    pub send_buffer: Option<usize>,
    /// Bytes of the kernel's buffers.
    pub receive_buffer: Option<usize>,
    /// Several sockets may listen on one port.
    pub reuse_port: bool,
    /// Seconds for which closing waits for what is unsent.
    pub linger: Option<u32>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: false,
            backlog: 4_096,
            send_buffer: None,
            receive_buffer: None,
            reuse_port: false,
            linger: None,
        }
    }
}

impl SocketOptions {
    fn apply(&self, socket: &Socket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        if self.keepalive {
            socket.set_keepalive(true)?;
        }
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        if let Some(size) = self.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        if let Some(seconds) = self.linger {
            socket.set_linger(Some(Duration::from_secs(seconds.into())))?;
        }
        Ok(())
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Acceptor {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl Acceptor {
    /// The next connection.
    pub fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        match self {
            Self::Tcp(socket) => socket.accept().map(|(stream, peer)| (stream, Peer::Inet(peer))),
            Self::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                // Both kinds of socket are read and written by the same calls.
                let stream = std::net::TcpStream::from(OwnedFd::from(stream));
                Ok((TcpStream::from_std(stream), Peer::Local))
            }
        }
    }
}

impl Source for Acceptor {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.register(registry, token, interests),
            Self::Unix(socket) => socket.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.reregister(registry, token, interests),
            Self::Unix(socket) => socket.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.deregister(registry),
            Self::Unix(socket) => socket.deregister(registry),
        }
    }
}

/// Ends a listening socket that a worker has, at once: dropping it stops the kernel from taking further connections, frees the
/// address and removes the file of a Unix socket.
#[derive(Debug)]
pub struct Doorstop {
    socket: Socket,
    file: Option<SocketFile>,
}

/// The file of a Unix socket, and how to know it again.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for Doorstop {
    fn drop(&mut self) {
        // Errors would mean that it is gone already, which is what is wanted.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(file) = &self.file
            && file_identity(&file.path).ok() == Some(file.identity)
        {
            let _ = fs::remove_file(&file.path);
        }
    }
}

fn file_identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Binds and listens; where that is, since port 0 takes a free one.
pub fn bind(address: &Address, options: &SocketOptions) -> io::Result<(Acceptor, Doorstop, Address)> {
    match address {
        Address::Inet(address) => bind_tcp(*address, options),
        Address::Path(path) => bind_unix(path, options),
    }
}

fn bind_tcp(address: SocketAddr, options: &SocketOptions) -> io::Result<(Acceptor, Doorstop, Address)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted broker must not wait until the kernel has forgotten its old connections.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_tcp_nodelay(options.nodelay)?;
    options.apply(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    let doorstop = Doorstop { socket: socket.try_clone()?, file: None };
    let socket = std::net::TcpListener::from(socket);
    let address = Address::Inet(socket.local_addr()?);
    Ok((Acceptor::Tcp(TcpListener::from_std(socket)), doorstop, address))
}

fn bind_unix(path: &Path, options: &SocketOptions) -> io::Result<(Acceptor, Doorstop, Address)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    options.apply(&socket)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), identity: file_identity(path)? };
    let doorstop = Doorstop { socket: socket.try_clone()?, file: Some(file) };
    socket.listen(options.backlog)?;
    let socket = std::os::unix::net::UnixListener::from(OwnedFd::from(socket));
    Ok((Acceptor::Unix(UnixListener::from_std(socket)), doorstop, Address::Path(path.to_owned())))
}

/// Removes the socket that a process has left which did not end well. What is no socket, or is listened to, stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name that is no socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("strogoff-{}-{name}", std::process::id()))
    }

    fn bind_path(path: &Path) -> io::Result<(Acceptor, Doorstop, Address)> {
        bind(&Address::Path(path.to_owned()), &SocketOptions::default())
    }

    #[test]
    fn a_unix_socket_replaces_a_stale_one_but_neither_a_live_one_nor_another_file() {
        let path = path("stale");
        let (acceptor, doorstop, _) = bind_path(&path).unwrap();
        assert_eq!(bind_path(&path).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        drop((acceptor, doorstop));
        // As after a crash: the file is there and nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_, doorstop, _) = bind_path(&path).unwrap();
        drop(doorstop);
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert_eq!(bind_path(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_file_of_a_successor_is_left_alone() {
        let path = path("successor");
        let (_, doorstop, _) = bind_path(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let successor = bind_path(&path).unwrap();
        drop(doorstop);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
    }

    #[test]
    fn an_address_is_free_as_soon_as_the_doorstop_is_gone() {
        let any = Address::Inet("127.0.0.1:0".parse().unwrap());
        let (acceptor, doorstop, address) = bind(&any, &SocketOptions::default()).unwrap();
        assert_eq!(bind(&address, &SocketOptions::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(doorstop);
        // A worker may still have the old socket for a moment.
        let again = bind(&address, &SocketOptions::default()).unwrap();
        assert_eq!(again.2, address);
        drop(acceptor);
    }
}
