//! A connection that this program opens: a socket, with TLS and WebSocket where they are wanted. The load generator and bridges
//! use it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

const READ_SIZE: usize = 64 << 10;
/// Payload of one frame, at most.
const FRAME_SIZE: usize = 64 << 10;
/// Bytes that the layers hold since the socket does not take them.
const STAGED_MAX: usize = 1 << 20;
/// Frames without payload that are taken at once.
const ROUNDS_MAX: usize = 64;
/// What a broker may answer to the upgrade.
const ANSWER_MAX: usize = 8 << 10;

/// What lies between a client and its socket.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// TLS, and the name that the broker's certificate has to be for.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// WebSocket.
    pub websocket: Option<WebSocketTarget>,
}

/// What the request for a WebSocket asks for.
#[derive(Debug, Clone)]
pub struct WebSocketTarget {
    /// Host and port.
    pub host: Arc<str>,
    /// Path, with the slash that it begins with.
    pub path: Arc<str>,
}

impl Layers {
    /// Whether there is nothing between.
    pub fn is_empty(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }
}

/// A connection as bytes of MQTT.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    layered: Option<Box<Layered>>,
}

#[derive(Debug)]
struct Layered {
    tls: Option<ClientConnection>,
    websocket: Option<WebSocket>,
    /// Bytes for the layer below, or the socket, that it did not take.
    staged: Vec<u8>,
    staged_from: usize,
}

impl Wire {
    /// Over a socket that connects.
    pub fn new(socket: TcpStream, layers: &Layers) -> io::Result<Self> {
        if layers.is_empty() {
            return Ok(Self { socket, layered: None });
        }
        let tls = layers.tls.clone().map(|(config, name)| ClientConnection::new(config, name)).transpose();
        let mut tls = tls.map_err(io::Error::other)?;
        if let Some(tls) = &mut tls {
            tls.set_buffer_limit(Some(256 << 10));
        }
        let websocket = layers.websocket.as_ref().map(WebSocket::new);
        let staged = websocket.as_ref().map(|websocket| websocket.request.clone()).unwrap_or_default();
        Ok(Self { socket, layered: Some(Box::new(Layered { tls, websocket, staged, staged_from: 0 })) })
    }

    /// Has the socket watched.
    pub fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        registry.register(&mut self.socket, token, interest)
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads bytes of MQTT; whether the socket may have more. `WouldBlock`: nothing now.
    #[inline]
    pub fn read(&mut self, space: &mut [u8]) -> io::Result<(usize, bool)> {
        let Self { socket, layered } = self;
        match layered {
            None => socket.read(space).map(|count| (count, count == space.len())),
            Some(layered) => layered.read(socket, space),
        }
    }

    /// Writes bytes of MQTT.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { socket, layered } = self;
        match layered {
            None => socket.write(bytes),
            Some(layered) => layered.write(socket, bytes),
        }
    }

    /// Writes what the layers hold. `WouldBlock`: the socket takes no more now.
    #[inline]
    pub fn flush(&mut self) -> io::Result<()> {
        let Self { socket, layered } = self;
        layered.as_mut().map_or(Ok(()), |layered| layered.flush(socket))
    }
}

impl Layered {
    /// `Interrupted`: nothing yet, and there may be more.
    fn read(&mut self, socket: &mut TcpStream, space: &mut [u8]) -> io::Result<(usize, bool)> {
        let mut rounds = 0;
        loop {
            let (count, more) = self.read_below(socket, space)?;
            if count == 0 {
                return Ok((0, false));
            }
            let Some(websocket) = &mut self.websocket else { return Ok((count, more)) };
            let (payload, answers) = websocket.take(&mut space[..count])?;
            self.staged.extend_from_slice(&answers);
            self.flush_quietly(socket)?;
            if self.staged.len() - self.staged_from > STAGED_MAX {
                return Err(io::Error::other("the other side sends and does not read"));
            }
            if payload > 0 {
                return Ok((payload, more));
            }
            rounds += 1;
            if !more || rounds == ROUNDS_MAX {
                return Err(if more { io::ErrorKind::Interrupted } else { io::ErrorKind::WouldBlock }.into());
            }
        }
    }

    fn read_below(&mut self, socket: &mut TcpStream, space: &mut [u8]) -> io::Result<(usize, bool)> {
        let Some(tls) = &mut self.tls else { return socket.read(space).map(|count| (count, count == space.len())) };
        loop {
            match tls.reader().read(space) {
                Ok(count) => return Ok((count, true)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Without a goodbye: it is over anyway.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((0, false)),
                Err(error) => return Err(error),
            }
            let mut sealed = [0; READ_SIZE / 4];
            // No more than there is room for once it is open: the library holds little.
            let most = space.len().clamp(1, sealed.len());
            let count = socket.read(&mut sealed[..most])?;
            let mut rest = &sealed[..count];
            if rest.is_empty() {
                return Ok((0, false));
            }
            let mut filled = 0;
            while !rest.is_empty() {
                tls.read_tls(&mut rest)?;
                tls.process_new_packets().map_err(io::Error::other)?;
                // The library holds little: what came is taken out before more goes in.
                while filled < space.len() {
                    match tls.reader().read(&mut space[filled..]) {
                        Ok(0) => break,
                        Ok(count) => filled += count,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
            }
            while tls.wants_write() {
                match tls.write_tls(socket) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
            }
            if filled > 0 {
                return Ok((filled, true));
            }
        }
    }

    fn write(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        let Some(websocket) = &mut self.websocket else { return self.write_below(socket, bytes) };
        let count = bytes.len().min(FRAME_SIZE);
        if websocket.is_open {
            websocket.frame(&bytes[..count], &mut self.staged);
        } else {
            // The broker has not agreed yet: it gets this as the first frame when it does.
            websocket.early.extend_from_slice(&bytes[..count]);
        }
        self.flush_quietly(socket)?;
        Ok(count)
    }

    fn write_below(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return socket.write(bytes) };
        let taken = tls.writer().write(bytes)?;
        while tls.wants_write() {
            match tls.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while self.staged_from < self.staged.len() {
            let staged = std::mem::take(&mut self.staged);
            let written = self.write_below(socket, &staged[self.staged_from..]);
            self.staged = staged;
            self.staged_from += written?;
        }
        self.staged.clear();
        self.staged_from = 0;
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(socket)?;
        }
        Ok(())
    }

    fn flush_quietly(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        match self.flush(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            outcome => outcome,
        }
    }
}

/// The client's side of a WebSocket.
#[derive(Debug)]
struct WebSocket {
    request: Vec<u8>,
    is_open: bool,
    /// The answer to the upgrade as far as it has come.
    answer: Vec<u8>,
    /// What was written before the broker agreed.
    early: Vec<u8>,
    random: u32,
    head: Vec<u8>,
    /// Payload of the current frame that has not come, and whether it is a control frame's.
    left: u64,
    control: Option<(u8, Vec<u8>)>,
}

impl WebSocket {
    fn new(target: &WebSocketTarget) -> Self {
        let WebSocketTarget { host, path } = target;
        let random = ahash::RandomState::new();
        let nonce: [u8; 16] = std::array::from_fn(|index| random.hash_one(index) as u8);
        let key = STANDARD.encode(nonce);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        let [a, b, c, d, ..] = nonce;
        Self {
            request: request.into_bytes(),
            is_open: false,
            answer: Vec::new(),
            early: Vec::new(),
            random: u32::from_be_bytes([a, b, c, d]) | 1,
            head: Vec::new(),
            left: 0,
            control: None,
        }
    }

    /// A masked binary frame.
    fn frame(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.masked(0x82, payload, out);
    }

    fn masked(&mut self, first: u8, payload: &[u8], out: &mut Vec<u8>) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let mask = self.random.to_ne_bytes();
        out.push(first);
        match payload.len() {
            length @ 0..=125 => out.push(0x80 | length as u8),
            length @ 126..=0xFFFF => {
                out.push(0xFE);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(0xFF);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// Takes the frames off what has come, in place: how much payload there is, and what has to be answered.
    fn take(&mut self, bytes: &mut [u8]) -> io::Result<(usize, Vec<u8>)> {
        let mut answers = Vec::new();
        let mut from = 0;
        if !self.is_open {
            let before = self.answer.len();
            self.answer.extend_from_slice(bytes);
            let Some(end) = self.answer.windows(4).position(|end| end == b"\r\n\r\n") else {
                if self.answer.len() > ANSWER_MAX {
                    return Err(io::Error::other("the answer to the WebSocket request has no end"));
                }
                return Ok((0, answers));
            };
            if !self.answer.starts_with(b"HTTP/1.1 101") {
                let line = self.answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let line = String::from_utf8_lossy(line).into_owned();
                return Err(io::Error::other(format!("the WebSocket was refused: {line}")));
            }
            from = end + 4 - before;
            self.is_open = true;
            self.answer = Vec::new();
            let early = std::mem::take(&mut self.early);
            if !early.is_empty() {
                self.frame(&early, &mut answers);
            }
        }
        let mut to = 0;
        while from < bytes.len() {
            if self.left == 0 {
                self.head.push(bytes[from]);
                from += 1;
                self.look_at_head(&mut answers)?;
                continue;
            }
            let count = (bytes.len() - from).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if let Some((_, payload)) = &mut self.control {
                payload.extend_from_slice(&bytes[from..from + count]);
            } else {
                bytes.copy_within(from..from + count, to);
                to += count;
            }
            from += count;
            self.left -= count as u64;
            if self.left == 0 {
                self.end_control(&mut answers)?;
            }
        }
        Ok((to, answers))
    }

    fn look_at_head(&mut self, answers: &mut Vec<u8>) -> io::Result<()> {
        let [first, second, ref rest @ ..] = self.head[..] else { return Ok(()) };
        let size = match second {
            0..=125 => 0,
            126 => 2,
            127 => 8,
            _ => return Err(io::Error::other("the broker masks its frames")),
        };
        if rest.len() < size {
            return Ok(());
        }
        let long = rest.iter().fold(0, |length: u64, byte| length << 8 | u64::from(*byte));
        self.left = if size == 0 { second.into() } else { long };
        self.control = (first & 0x08 != 0).then(|| (first & 0x0F, Vec::new()));
        if self.control.is_some() && (self.left > 125 || first & 0x80 == 0) {
            // RFC 6455, 5.5
            return Err(io::Error::other("a control frame of WebSocket that is too long, or cut into parts"));
        }
        self.head.clear();
        if self.left == 0 { self.end_control(answers) } else { Ok(()) }
    }

    fn end_control(&mut self, answers: &mut Vec<u8>) -> io::Result<()> {
        match self.control.take() {
            Some((0x9, payload)) => {
                self.masked(0x8A, &payload, answers);
                Ok(())
            }
            Some((0x8, payload)) => {
                let code = payload.first_chunk().map_or(1_005, |code| u16::from_be_bytes(*code));
                if code == 1_000 { Ok(()) } else { Err(io::Error::other(format!("the WebSocket was closed: {code}"))) }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> WebSocketTarget {
        WebSocketTarget { host: "x".into(), path: "/mqtt".into() }
    }

    #[test]
    fn frames_are_taken_off_wherever_they_are_cut() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        let bytes = [&answer[..], &[0x82, 3, b'a', b'b', b'c', 0x89, 1, b'p', 0x82, 126, 0, 2, b'd', b'e']].concat();
        for cut in 1..bytes.len() {
            let mut websocket = WebSocket::new(&target());
            let (mut found, mut answers) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                let mut part = part.to_vec();
                let (count, more) = websocket.take(&mut part).unwrap();
                found.extend_from_slice(&part[..count]);
                answers.extend(more);
            }
            assert_eq!(found, b"abcde", "{cut}");
            assert_eq!((answers.len(), answers[0]), (7, 0x8A));
        }
    }

    #[test]
    fn a_refused_upgrade_is_told_with_its_status() {
        let error = WebSocket::new(&target()).take(&mut b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "the WebSocket was refused: HTTP/1.1 404 Not Found");
    }

    #[test]
    fn what_is_sent_is_masked_and_can_be_unmasked() {
        let mut out = Vec::new();
        WebSocket::new(&target()).frame(b"hello", &mut out);
        assert_eq!(out[..2], [0x82, 0x85]);
        let payload: Vec<u8> = out[6..].iter().zip(out[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(payload, b"hello");
    }
}
