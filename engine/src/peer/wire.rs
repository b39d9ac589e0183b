//! One connection as bytes: a socket that does not block, with or without TLS. It is read by one thread and written by
//! whoever has something for it; without TLS they do not disturb one another.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use parking_lot::Mutex;
use rustls::Connection;
use rustls::pki_types::CertificateDer;

use super::listener::Seat;
use super::tls::explain;

/// Ciphertext that waits for the socket at most.
const HELD_MAX: usize = 64 * 1_024;
/// Bytes that the kernel takes before it has sent those before: a heartbeat waits behind so many.
const UNSENT_MAX: u32 = 256 * 1_024;
/// Bytes of channel binding.
const BINDING_LEN: usize = 32;
const BINDING_LABEL: &[u8] = b"EXPORTER-strogoff-link";

/// A connection as bytes.
pub struct Wire {
    socket: TcpStream,
    tls: Option<Mutex<Box<Connection>>>,
    /// Its place at the listener that it came in by. It goes after the socket.
    _seat: Option<Seat>,
}

impl Wire {
    /// Over a socket, through TLS if there is one.
    pub fn new(socket: TcpStream, tls: Option<Connection>) -> io::Result<Self> {
        let tls = tls.map(|mut connection| {
            connection.set_buffer_limit(Some(HELD_MAX));
            Mutex::new(Box::new(connection))
        });
        socket.set_nodelay(true)?;
        socket2::SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_MAX)?;
        Ok(Self { socket, tls, _seat: None })
    }

    /// The same, as one of a listener's connections.
    pub fn seated(self, seat: Seat) -> Self {
        Self { _seat: Some(seat), ..self }
    }

    /// Has the socket watched, for changes in both directions.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Ends that. It has to be done before the last holder lets go, since others may still hold the socket open.
    pub fn deregister(&self, registry: &Registry) {
        // It fails only where it is not watched, which is what is wanted.
        let _ = registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()));
    }

    /// Whether a connection that was begun is there; `false`: not yet.
    pub fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on with the handshake of TLS as far as the socket allows. True: it is done, or there is no TLS.
    pub fn shake_hands(&self) -> io::Result<bool> {
        let Some(tls) = &self.tls else { return Ok(true) };
        let mut tls = tls.lock();
        loop {
            let is_flushed = flush(&mut tls, &self.socket)?;
            if !tls.is_handshaking() {
                return Ok(true);
            }
            if !is_flushed || !fill(&mut tls, &self.socket)? {
                return Ok(false);
            }
        }
    }

    /// What binds a handshake above to this channel; empty without TLS.
    pub fn binding(&self) -> Vec<u8> {
        let Some(tls) = &self.tls else { return Vec::new() };
        tls.lock().export_keying_material([0; BINDING_LEN], BINDING_LABEL, None).map_or_else(|_| Vec::new(), Vec::from)
    }

    /// The certificate of the other end.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.tls.as_ref()?.lock().peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
    }

    /// Reads once. `None`: nothing is there; 0: nothing will come any more.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(tls) = &self.tls else { return attempt(|| (&self.socket).read(into)) };
        let mut tls = tls.lock();
        loop {
            match tls.reader().read(into) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            }
            if !fill(&mut tls, &self.socket)? {
                return Ok(None);
            }
            // Keys may have to be updated; where the socket is full the next write does it.
            flush(&mut tls, &self.socket)?;
        }
    }

    /// Writes once; how many bytes it took, 0: none at the moment.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            return Ok(attempt(|| (&self.socket).write(bytes))?.unwrap_or(0));
        };
        let mut tls = tls.lock();
        if !flush(&mut tls, &self.socket)? {
            return Ok(0);
        }
        let count = tls.writer().write(bytes)?;
        flush(&mut tls, &self.socket)?;
        Ok(count)
    }

    /// Writes as much as the socket takes, and removes that from the front.
    pub fn write_off(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(bytes)?;
            if written == 0 {
                break;
            }
            bytes.drain(..written);
        }
        self.flush()?;
        Ok(())
    }

    /// Writes what TLS holds. False: the socket did not take all of it.
    pub fn flush(&self) -> io::Result<bool> {
        self.tls.as_ref().map_or(Ok(true), |tls| flush(&mut tls.lock(), &self.socket))
    }

    /// Ends the connection. What the kernel has is still sent.
    pub fn close(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.lock();
            tls.send_close_notify();
            // The other end notices without it as well.
            let _ = flush(&mut tls, &self.socket);
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Gives TLS what the socket has. False: it has nothing.
fn fill(tls: &mut Connection, mut socket: &TcpStream) -> io::Result<bool> {
    match attempt(|| tls.read_tls(&mut socket))? {
        None => Ok(false),
        Some(0) if tls.is_handshaking() => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => {
            if let Err(error) = tls.process_new_packets() {
                // The alert goes out if the socket takes it; the connection is over either way.
                let _ = flush(tls, socket);
                return Err(io::Error::new(io::ErrorKind::InvalidData, explain(&error)));
            }
            Ok(true)
        }
    }
}

fn flush(tls: &mut Connection, mut socket: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        if attempt(|| tls.write_tls(&mut socket))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tries until it is not interrupted; `None`: it would block.
fn attempt(mut what: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match what() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
