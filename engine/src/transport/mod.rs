//! How bytes come in and go out: a socket, and on top of it what the listener wants.
//!
//! From below: the socket (TCP or Unix), TLS, WebSocket. A PROXY header is read before any of them exists ([`peek`]). A
//! plain connection has no layers and pays one branch for that. Layers live under one lock, which is a leaf: whoever holds a
//! session may take it, nobody takes a session under it. The reader takes it without the session.
//!
//! What a layer has taken counts as written. It holds a bounded number of bytes that the socket did not take; until these
//! are out ([`Transport::flush`]) the connection counts as blocked.

pub mod outgoing;
pub mod proxy;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod websocket;

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use parking_lot::Mutex;

use tls::{TlsClient, TlsConfig, TlsLayer};
use websocket::layer::WebSocketLayer;

/// What came of an attempt to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes; none may mean that only the layers had something to do.
    pub count: usize,
    /// There may be more to read without a new event of the socket.
    pub has_more: bool,
    /// The socket had nothing.
    pub is_dry: bool,
    /// The peer has closed its side and everything before that is read.
    pub is_over: bool,
    /// A layer has something to write that the socket did not take: [`Transport::flush`] when it does.
    pub wants_write: bool,
}

/// Why a connection cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The socket is broken.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// TLS; the alert is on its way.
    #[error("{0}")]
    Tls(String),
    /// WebSocket; the close frame is on its way.
    #[error("{0}")]
    WebSocket(&'static str),
}

/// Layers above the socket.
#[derive(Debug)]
struct Layers {
    tls: Option<TlsLayer>,
    websocket: Option<WebSocketLayer>,
}

/// A connection as bytes.
#[derive(Debug)]
pub struct Transport {
    /// A Unix socket is read, written and shut down by the same calls, so one type serves for both.
    socket: TcpStream,
    layers: Option<Box<Mutex<Layers>>>,
}

impl Transport {
    /// Bytes as they are on the socket.
    pub fn plain(socket: TcpStream) -> Self {
        Self { socket, layers: None }
    }

    /// With room for layers: TLS at once, if asked for; WebSocket after its upgrade.
    pub fn layered(socket: TcpStream, tls: Option<&TlsConfig>) -> io::Result<Self> {
        let tls = tls.map(TlsLayer::new).transpose()?;
        Ok(Self { socket, layers: Some(Box::new(Mutex::new(Layers { tls, websocket: None }))) })
    }

    /// The socket, to be watched.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether there is more than the socket.
    #[inline]
    pub fn is_layered(&self) -> bool {
        self.layers.is_some()
    }

    /// Reads once. `scratch`: where layers put what is not yet for the reader.
    #[inline]
    pub fn read(&self, into: &mut [u8], scratch: &mut [u8]) -> Result<Received, Fault> {
        match &self.layers {
            None => Ok(plain_read(&self.socket, into)?),
            Some(layers) => layers.lock().read(&self.socket, into, scratch),
        }
    }

    /// Writes as much as there is room for. `WouldBlock`: there is none.
    #[inline]
    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.layers {
            None => match slices {
                [one] => (&self.socket).write(one),
                many => (&self.socket).write_vectored(many),
            },
            Some(layers) => layers.lock().write(&self.socket, slices),
        }
    }

    /// Writes what the layers hold. False: the socket did not take all of it.
    pub fn flush(&self) -> io::Result<bool> {
        self.layers.as_ref().map_or(Ok(true), |layers| layers.lock().flush(&self.socket))
    }

    /// Says goodbye in all layers and closes our side when everything is out. False: call it again when the socket takes more.
    pub fn finish(&self) -> io::Result<bool> {
        if let Some(layers) = &self.layers
            && !layers.lock().say_goodbye(&self.socket)?
        {
            return Ok(false);
        }
        self.socket.shutdown(Shutdown::Write)?;
        Ok(true)
    }

    /// Closes both sides at once.
    pub fn abort(&self) {
        // It fails only where the peer was faster.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Goes on with the TLS handshake. With `Some` it is done.
    pub fn shake_hands(&self, scratch: &mut [u8]) -> Result<(Option<TlsClient>, Received), Fault> {
        let mut received = Received::default();
        let Some(layers) = &self.layers else { return Ok((Some(TlsClient::default()), received)) };
        let mut layers = layers.lock();
        let Some(tls) = &mut layers.tls else { return Ok((Some(TlsClient::default()), received)) };
        let is_done = tls.shake_hands(&self.socket, scratch, &mut received)?;
        Ok((is_done.then(|| tls.client()), received))
    }

    /// Speaks WebSocket from now on. `rest`: bytes behind the client's upgrade request, which are read first.
    pub fn start_websocket(&self, frame_size_max: u64, rest: &[u8]) {
        if let Some(layers) = &self.layers {
            layers.lock().websocket = Some(WebSocketLayer::new(frame_size_max, rest));
        }
    }
}

impl Layers {
    fn read(&mut self, socket: &TcpStream, into: &mut [u8], scratch: &mut [u8]) -> Result<Received, Fault> {
        let Self { tls, websocket } = self;
        let mut below = |into: &mut [u8]| match tls {
            Some(tls) => tls.read(socket, into, scratch),
            None => Ok(plain_read(socket, into)?),
        };
        let Some(websocket) = websocket else { return below(into) };
        let mut received = websocket.read(into, below)?;
        if websocket.has_something_to_say() {
            // As in TLS: what was read counts, even where nothing can be written any more.
            received.wants_write |= !self.flush(socket).unwrap_or(true);
        }
        Ok(received)
    }

    fn write(&mut self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Self { tls, websocket } = self;
        let below = |slices: &[IoSlice<'_>]| write_below(tls, socket, slices);
        match websocket {
            Some(websocket) => websocket.write(slices, below),
            None => write_below(tls, socket, slices),
        }
    }

    fn flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        let Self { tls, websocket } = self;
        if let Some(websocket) = websocket
            && !websocket.flush(|slices| write_below(tls, socket, slices))?
        {
            return Ok(false);
        }
        tls.as_mut().map_or(Ok(true), |tls| tls.flush(socket))
    }

    fn say_goodbye(&mut self, socket: &TcpStream) -> io::Result<bool> {
        if let Some(websocket) = &mut self.websocket {
            websocket.say_goodbye();
            if !self.flush(socket)? {
                return Ok(false);
            }
        }
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye();
        }
        self.flush(socket)
    }
}

fn write_below(tls: &mut Option<TlsLayer>, mut socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        let written = match tls {
            Some(tls) => tls.write(socket, slices),
            None => socket.write_vectored(slices),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => return Err(io::ErrorKind::WriteZero.into()),
            written => return written,
        }
    }
}

/// A short read has emptied the socket; the next bytes are announced by a new event.
#[inline]
fn plain_read(socket: &TcpStream, into: &mut [u8]) -> io::Result<Received> {
    Ok(match read_socket(socket, into)? {
        None => Received { is_dry: true, ..Received::default() },
        Some(0) => Received { is_over: true, ..Received::default() },
        Some(count) => Received { count, has_more: count == into.len(), ..Received::default() },
    })
}

/// Reads the socket once; `None`: nothing is there.
#[inline]
pub fn read_socket(mut socket: &TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.read(into) {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Looks at what a socket has without taking it; `None`: nothing is there.
pub fn peek(socket: &TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.peek(into) {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
