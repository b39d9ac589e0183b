//! A connection that has come in, from its first byte until it has proved to know the secret.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::handshake::{GreetStep, Greeter};
use super::hello::{MESSAGE_LEN_MAX, VERSIONS, message_len};
use super::listener::ClusterListener;
use super::patience::{Late, Patience};
use super::pulse::{Micros, later};
use super::refusal::{Refusal, RefusalCode};
use super::shared::{Shared, nonce};
use super::tls::{LinkTls, host_of};
use super::wire::Wire;

/// Bytes that are read at once.
const READ_LEN: usize = 4_096;

/// A connection in its handshake.
pub(super) struct Visitor {
    pub wire: Arc<Wire>,
    pub listener: Arc<ClusterListener>,
    pub address: SocketAddr,
    pub tls: Option<Arc<LinkTls>>,
    pub greeter: Option<Greeter>,
    pub came_at: Micros,
    input: Vec<u8>,
    output: Vec<u8>,
    pub patience: Patience,
}

/// What came of a visitor's step.
pub(super) enum Outcome {
    Wait,
    /// It has proved to know the secret.
    Proven,
    /// It was refused.
    Refused(Refusal),
}

/// Whether whoever has come shows a certificate of its own host.
pub(super) fn check_certificate(tls: Option<&LinkTls>, wire: &Wire, name: &str) -> Result<(), Refusal> {
    let Some(tls) = tls else { return Ok(()) };
    let host = host_of(name);
    if tls.is_for(wire.certificate().as_ref(), &[host]) {
        return Ok(());
    }
    let text = format!("the certificate of {name} is not for {host}: put that name into it");
    Err(Refusal::new(RefusalCode::Certificate, text))
}

impl Visitor {
    /// Somebody who has just come in, and has so much time to be let in.
    pub fn new(
        wire: Arc<Wire>,
        listener: Arc<ClusterListener>,
        address: SocketAddr,
        tls: Option<Arc<LinkTls>>,
        now: Micros,
        limit: Duration,
    ) -> Self {
        let mut patience = Patience::until(later(now, limit));
        patience.begin_tls(tls.as_ref().and_then(|tls| tls.deadline(now)));
        let (input, output) = (Vec::new(), Vec::new());
        Self { wire, listener, address, tls, greeter: None, came_at: now, input, output, patience }
    }

    /// With what it is late, if it is.
    pub fn lateness(&self, now: Micros) -> Option<&'static str> {
        Some(match self.patience.lateness(now)? {
            Late::Tls => "it was not done with the handshake of TLS in time (tls_handshake_timeout)",
            Late::Altogether => "it has not said in time who it is (outgoing_cluster_handshake_ack_timeout)",
        })
    }

    /// Goes on with the handshake as far as the socket allows.
    pub fn advance(&mut self, shared: &Shared) -> io::Result<Outcome> {
        if self.greeter.is_none() {
            if !self.wire.shake_hands()? {
                return Ok(Outcome::Wait);
            }
            self.patience.end_tls();
            let identity = shared.identity.load_full();
            self.greeter = Some(Greeter::new(&identity, VERSIONS, nonce()?, &self.wire.binding()));
        }
        let Some(greeter) = &mut self.greeter else { return Ok(Outcome::Wait) };
        loop {
            let step = match message_len(&self.input) {
                Ok(None) => None,
                Ok(Some(length)) => {
                    let message: Vec<u8> = self.input.drain(..length).collect();
                    Some(greeter.advance(&message))
                }
                Err(_) => Some(greeter.malformed()),
            };
            match step {
                None => {}
                Some(GreetStep::Send(bytes)) => self.output.extend_from_slice(&bytes),
                // Nothing may follow a proof before the welcome.
                Some(GreetStep::Proven) if self.input.is_empty() => return Ok(Outcome::Proven),
                Some(GreetStep::Proven) => return Err(closed("it has sent something before it was let in")),
                Some(GreetStep::Refuse(bytes, refusal)) => {
                    // A socket that has taken a few hundred bytes so far takes the refusal.
                    let _ = self.wire.write(&bytes);
                    return Ok(Outcome::Refused(refusal));
                }
            }
            self.wire.write_off(&mut self.output)?;
            if !matches!(message_len(&self.input), Ok(None)) {
                continue;
            }
            let mut buffer = [0; READ_LEN];
            match self.wire.read(&mut buffer)? {
                None => return Ok(Outcome::Wait),
                Some(0) => return Err(closed("it has closed the connection in the middle of the greeting")),
                Some(_) if self.input.len() > MESSAGE_LEN_MAX => return Err(closed("its greeting has no end")),
                Some(count) => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// As whom it has come, as far as it has said.
    pub fn name(&self) -> Option<Arc<str>> {
        let hello = self.greeter.as_ref().and_then(Greeter::hello)?;
        Some(Arc::clone(&hello.node.name))
    }
}

fn closed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, reason)
}
