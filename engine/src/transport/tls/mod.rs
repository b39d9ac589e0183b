//! TLS on one connection: records to bytes and back, over a socket that does not block.
//!
//! Many MQTT packets go into one record: a writer hands over all that waits at once. What TLS has taken counts as written;
//! it keeps at most [`HELD_MAX`] bytes that the socket did not take yet.

mod clients;
mod config;
mod depth;
mod dial;
mod faults;
mod identities;
mod names;
mod offers;

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{ProtocolVersion, ServerConnection};

pub use clients::verifier as client_verifier;
pub use config::{TlsConfig, TlsConfigError, TlsOptions};
pub use depth::check_depth;
pub use dial::{DialTls, DialTlsOptions};
pub use faults::not_in_common;
pub use identities::IdentityPem;
pub use offers::Offers;

use super::{Fault, Received, read_socket};

/// Ciphertext that waits for the socket at most, which also bounds what one call encrypts.
const HELD_MAX: usize = 64 * 1_024;
/// The socket is asked for this much at least: little room is no reason to read a record in crumbs.
const READ_MIN: usize = 4 * 1_024;

/// What a handshake has found out about a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsClient {
    /// Its certificate, DER.
    pub certificate: Option<Arc<[u8]>>,
    /// The common name in it.
    pub common_name: Option<String>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// IANA's name of the cipher suite.
    pub cipher: String,
}

/// One end of a TLS connection.
#[derive(Debug)]
pub struct TlsLayer {
    connection: ServerConnection,
    /// Bytes from the socket that TLS has not been given yet, since what came before them must be taken first.
    raw: Vec<u8>,
    /// What went wrong, to be told once what came before it is taken.
    fault: Option<String>,
    /// The client has said that nothing more comes.
    is_over: bool,
}

impl TlsLayer {
    /// The server's end, before the handshake.
    pub fn new(config: &TlsConfig) -> io::Result<Self> {
        let mut connection = ServerConnection::new(Arc::clone(&config.0)).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(HELD_MAX));
        Ok(Self { connection, raw: Vec::new(), fault: None, is_over: false })
    }

    /// Goes on with the handshake as far as the socket allows. True: it is done.
    pub fn shake_hands(
        &mut self,
        socket: &TcpStream,
        scratch: &mut [u8],
        received: &mut Received,
    ) -> Result<bool, Fault> {
        loop {
            // What there is to say goes out first: on a fault that is the alert.
            let flushed = self.flush(socket);
            if let Some(fault) = self.fault.take() {
                return Err(Fault::Tls(fault));
            }
            if !self.connection.is_handshaking() {
                // Our last flight may wait for the socket, then what is written later waits behind it; or the client may be
                // gone already, then what it has sent is still to be read.
                received.wants_write = !flushed.unwrap_or(true);
                received.has_more = true;
                return Ok(true);
            }
            received.wants_write = !flushed?;
            if received.wants_write || received.is_over {
                return Ok(false);
            }
            match read_socket(socket, scratch)? {
                None => {
                    received.has_more = false;
                    return Ok(false);
                }
                Some(0) => received.is_over = true,
                Some(count) => {
                    received.count += count;
                    self.raw.extend_from_slice(&scratch[..count]);
                    self.feed_handshake();
                }
            }
        }
    }

    /// What the handshake has found out.
    pub fn client(&self) -> TlsClient {
        let certificate = self.connection.peer_certificates().and_then(|chain| chain.first());
        TlsClient {
            common_name: certificate.and_then(clients::common_name),
            certificate: certificate.map(|certificate| certificate.as_ref().into()),
            version: match self.connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "",
            },
            cipher: self
                .connection
                .negotiated_cipher_suite()
                .map(|suite| names::suite_name(suite.suite()))
                .unwrap_or_default(),
        }
    }

    /// Reads the socket at most once and decrypts into `into`.
    pub fn read(&mut self, socket: &TcpStream, into: &mut [u8], scratch: &mut [u8]) -> Result<Received, Fault> {
        let mut received = Received::default();
        self.decrypt(&[], into, &mut received);
        received.has_more = true;
        if received.count == 0 && self.raw.is_empty() && !self.is_over && self.fault.is_none() {
            // Hardly more than there is room for, so that little has to be put by.
            let room = into.len().max(READ_MIN).min(scratch.len());
            received.has_more = false;
            match read_socket(socket, &mut scratch[..room])? {
                None => received.is_dry = true,
                Some(0) => received.is_over = true,
                Some(count) => {
                    self.decrypt(&scratch[..count], into, &mut received);
                    received.has_more = count == room;
                }
            }
        }
        if received.count == 0
            && let Some(fault) = self.fault.take()
        {
            // The alert goes out if the socket takes it; the connection is over either way.
            let _ = self.flush(socket);
            return Err(Fault::Tls(fault));
        }
        received.is_over |= self.is_over && received.count == 0;
        received.has_more |= self.has_more() || (self.is_over && received.count > 0);
        // A socket that takes nothing any more may still have something to read.
        received.wants_write = !self.flush(socket).unwrap_or(true);
        Ok(received)
    }

    /// Takes the plaintext that is there, then gives TLS more to decrypt, until one of both is used up.
    fn decrypt(&mut self, fresh: &[u8], into: &mut [u8], received: &mut Received) {
        let mut rest = fresh;
        loop {
            while received.count < into.len() {
                match self.connection.reader().read(&mut into[received.count..]) {
                    Ok(count) if count > 0 => received.count += count,
                    // Nothing there, or the client has closed, which is known from elsewhere.
                    _ => break,
                }
            }
            let is_full = received.count == into.len();
            if is_full || self.fault.is_some() || self.is_over {
                break;
            }
            if !self.raw.is_empty() {
                let mut put_by = std::mem::take(&mut self.raw);
                let count = self.feed(&put_by);
                put_by.drain(..count);
                self.raw = put_by;
            } else if !rest.is_empty() {
                let count = self.feed(rest);
                rest = &rest[count..];
            } else {
                break;
            }
        }
        if self.is_over || self.fault.is_some() {
            self.raw = Vec::new();
        } else if !rest.is_empty() {
            self.raw.extend_from_slice(rest);
        }
    }

    /// Gives TLS the next bytes from the socket; how many it took. A fault is kept.
    fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let count = match self.connection.read_tls(&mut rest) {
            Ok(count) => count,
            Err(error) => {
                self.fault = Some(format!("the client sent more than TLS can hold: {error}"));
                return bytes.len();
            }
        };
        match self.connection.process_new_packets() {
            Ok(state) => self.is_over = state.peer_has_closed(),
            Err(error) => self.fault = Some(faults::explain(&error)),
        }
        count.max(1)
    }

    /// Gives TLS what has come until the handshake is done; the packets of an eager client behind it stay where they are.
    fn feed_handshake(&mut self) {
        let raw = std::mem::take(&mut self.raw);
        let mut used = 0;
        while used < raw.len() && self.fault.is_none() && self.connection.is_handshaking() {
            used += self.feed(&raw[used..]);
        }
        self.raw.extend_from_slice(raw.get(used..).unwrap_or_default());
    }

    fn has_more(&mut self) -> bool {
        !self.raw.is_empty()
            || self.fault.is_some()
            || self.connection.reader().into_first_chunk().is_ok_and(|chunk| !chunk.is_empty())
    }

    /// Encrypts as much of `slices` as there is room for and writes it; how many bytes it took. `WouldBlock`: there is no room.
    pub fn write(&mut self, socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush(socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.connection.writer().write_vectored(slices)?;
        self.flush(socket)?;
        Ok(taken)
    }

    /// Writes what TLS holds. False: the socket did not take all of it.
    pub fn flush(&mut self, mut socket: &TcpStream) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Says that nothing more comes; it goes out with the next flush.
    pub fn say_goodbye(&mut self) {
        self.connection.send_close_notify();
    }
}
