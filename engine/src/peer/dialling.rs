//! A connection that this node opens, from the first packet to the welcome.

use std::io;
use std::sync::Arc;

use mio::net::TcpStream;

use super::handshake::{DialFault, DialStep, Dialler, Wanted, Welcome};
use super::hello::{MESSAGE_LEN_MAX, VERSIONS, message_len};
use super::identity::{ClusterId, PeerId};
use super::lane::Lane;
use super::link::{PeerConfig, PeerLink};
use super::patience::{Late, Patience};
use super::pulse::Micros;
use super::refusal::{Refusal, RefusalCode};
use super::resolve::Target;
use super::shared::nonce;
use super::tls::{LinkTls, host_of};
use super::wire::Wire;

/// Bytes that are read at once; what follows the welcome in them belongs to the connection.
const READ_LEN: usize = 4_096;

/// Why a connection does not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialFailure {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Tls(String),
    #[error("{0}")]
    Handshake(#[from] DialFault),
    #[error("the peer has closed the connection in the middle of the greeting")]
    Closed,
    #[error("the peer was not ready for the link in time (outgoing_cluster_handshake_ack_timeout)")]
    Late,
    #[error("the peer was not done with the handshake of TLS in time (tls_handshake_timeout)")]
    LateTls,
}

impl From<Late> for DialFailure {
    fn from(late: Late) -> Self {
        match late {
            Late::Tls => Self::LateTls,
            Late::Altogether => Self::Late,
        }
    }
}

impl DialFailure {
    /// The peer's refusal, or this node's for its part.
    pub fn refusal(&self) -> Option<RefusalCode> {
        match self {
            Self::Handshake(DialFault::Refused(Refusal { code, .. })) => Some(*code),
            Self::Handshake(DialFault::Secret) => Some(RefusalCode::Secret),
            Self::Handshake(DialFault::Malformed) => Some(RefusalCode::Malformed),
            Self::Handshake(DialFault::WrongNode { .. }) => Some(RefusalCode::WrongNode),
            Self::Handshake(DialFault::WrongIncarnation { .. }) => Some(RefusalCode::WrongIncarnation),
            Self::Socket(_) | Self::Tls(_) | Self::Closed | Self::Late | Self::LateTls => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connect,
    Tls,
    Greet,
}

/// A connection on its way.
pub(super) struct Opening {
    pub wire: Arc<Wire>,
    pub target: Target,
    pub patience: Patience,
    lane: Lane,
    wanted: Wanted,
    tls: Option<LinkTls>,
    stage: Stage,
    dialler: Option<Dialler>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Opening {
    /// Begins to connect.
    pub fn begin(
        link: &PeerLink,
        config: &PeerConfig,
        lane: Lane,
        target: Target,
        deadline: Micros,
    ) -> Result<Self, DialFailure> {
        let tls = if config.is_tls {
            let missing = || {
                let text = "the peer's listener speaks TLS (vmqs), and this node has no certificate for links";
                DialFailure::Tls(text.to_owned())
            };
            Some(link.shared.dial_tls.load_full().ok_or_else(missing)?)
        } else {
            None
        };
        let layer = tls.as_ref().map(|tls| tls.dial(&target.host)).transpose().map_err(DialFailure::Tls)?;
        let wire = Arc::new(Wire::new(TcpStream::connect(target.address)?, layer)?);
        let wanted = Wanted { name: Arc::clone(&config.name), incarnation: config.incarnation };
        Ok(Self {
            wire,
            target,
            patience: Patience::until(deadline),
            lane,
            wanted,
            tls: tls.as_deref().cloned(),
            stage: Stage::Connect,
            dialler: None,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// Goes on as far as the socket allows. `Some`: it is open.
    pub fn advance(&mut self, link: &PeerLink) -> Result<Option<Welcome>, DialFailure> {
        if self.stage == Stage::Connect {
            if !self.wire.is_connected()? {
                return Ok(None);
            }
            self.stage = Stage::Tls;
            self.patience.begin_tls(self.tls.as_ref().and_then(|tls| tls.deadline(link.shared.now())));
        }
        if self.stage == Stage::Tls {
            if !self.wire.shake_hands()? {
                return Ok(None);
            }
            self.check_names()?;
            let identity = link.shared.identity.load_full();
            let nonce = nonce()?;
            let binding = self.wire.binding();
            let (dialler, hello) =
                Dialler::begin(&identity, self.lane, self.wanted.clone(), VERSIONS, &nonce, &binding);
            self.dialler = Some(dialler);
            self.output = hello;
            self.stage = Stage::Greet;
            self.patience.end_tls();
        }
        self.greet()
    }

    fn check_names(&self) -> Result<(), DialFailure> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let (host, node_host) = (&*self.target.host, host_of(&self.wanted.name));
        if tls.is_for(self.wire.certificate().as_ref(), &[host, node_host]) {
            return Ok(());
        }
        Err(DialFailure::Tls(format!("the peer's certificate is neither for {host} nor for {node_host}")))
    }

    fn greet(&mut self) -> Result<Option<Welcome>, DialFailure> {
        let Some(dialler) = &mut self.dialler else { return Ok(None) };
        loop {
            while let Some(length) = message_len(&self.input).map_err(DialFault::from)? {
                let message: Vec<u8> = self.input.drain(..length).collect();
                match dialler.advance(&message)? {
                    DialStep::Send(bytes) => self.output.extend_from_slice(&bytes),
                    DialStep::Done(welcome) => return Ok(Some(*welcome)),
                }
            }
            self.wire.write_off(&mut self.output)?;
            let mut buffer = [0; READ_LEN];
            match self.wire.read(&mut buffer)? {
                None => return Ok(None),
                Some(0) => return Err(DialFailure::Closed),
                Some(_) if self.input.len() > MESSAGE_LEN_MAX => return Err(DialFault::Malformed.into()),
                Some(count) => self.input.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// What came behind the welcome.
    pub fn rest(&self) -> &[u8] {
        &self.input
    }

    /// Of which cluster this node has said that it is.
    pub fn told_cluster(&self) -> Option<ClusterId> {
        self.dialler.as_ref().and_then(|dialler| dialler.identity().cluster)
    }

    /// Who answers, once that is proved.
    pub fn answering(&self) -> Option<&PeerId> {
        self.dialler.as_ref().and_then(Dialler::answering)
    }
}
