//! The handshake of a connection, both ends. Pure: bytes in, bytes out; nonces are passed in.
//!
//! ```text
//! dialler                                acceptor
//!   hello: who, whom, lane, nonce  ─────▶
//!                                  ◀─────  challenge: who, version, nonce
//!   proof: MAC                     ─────▶
//!                                  ◀─────  welcome: terms, MAC      or  refusal: reason, MAC
//! ```
//!
//! A MAC is HMAC-SHA256 under the secret of the cluster, of a label for the end that makes it and of everything that went over
//! the connection before it, names, lane and both nonces among it: so no MAC is worth anything on another connection, at the
//! other end, for another lane, or for another pair of nodes. With TLS the channel's own keys go in as well, so a
//! node in the middle that has a good certificate cannot pass a proof on.
//!
//! The dialler proves first. A stranger thus learns nothing but the acceptor's name, cluster and version; everything else, above
//! all why a node is not let in, is told to those alone who know the secret, and believed from them alone.

use std::sync::Arc;

use pbkdf2::hmac::{Hmac, Mac as _};
use sha2::{Digest, Sha256};

use super::bytes::Malformed;
use super::hello::{
    Challenge, Hello, Kind, Mac, Nonce, Terms, Versions, decode_proof, decode_refusal, encode_proof, encode_refusal,
    kind_of, split_mac,
};
use super::identity::{Identity, Incarnation, PeerId};
use super::lane::Lane;
use super::refusal::{Refusal, RefusalCode};

const DIALLER: &[u8] = b"strogoff link, dialler";
const ACCEPTOR: &[u8] = b"strogoff link, acceptor";

/// Everything that has gone over a connection, as a hash.
#[derive(Clone)]
struct Transcript(Sha256);

impl Transcript {
    fn new(binding: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(binding))
    }

    fn add(&mut self, message: &[u8]) {
        self.0.update(message);
    }

    /// The code of one end for a message that follows, or for none.
    fn code(&self, secret: &[u8], label: &[u8], message: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let Ok(mut code) = Hmac::<Sha256>::new_from_slice(secret) else { unreachable!("HMAC takes any key") };
        code.update(label);
        code.update(&self.0.clone().finalize());
        code.update(message);
        code
    }

    fn make(&self, secret: &[u8], label: &[u8], message: &[u8]) -> Mac {
        self.code(secret, label, message).finalize().into_bytes().into()
    }

    fn is_good(&self, secret: &[u8], label: &[u8], message: &[u8], mac: &Mac) -> bool {
        self.code(secret, label, message).verify_slice(mac).is_ok()
    }
}

/// Why a dialler does not get through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFault {
    /// The other end said no, and knows the secret unless the code can come from a stranger.
    #[error("{0}")]
    Refused(Refusal),
    /// The other end speaks something else.
    #[error("what answers there is not a Strogoff node, or one of a version that does not fit")]
    Malformed,
    /// The other end does not know the secret, or somebody in between has changed what was said.
    #[error("the node that answers does not know the secret of this one (distributed_cookie)")]
    Secret,
    /// Another node than expected.
    #[error("{answering} answers, and {wanted} was looked for: correct the address")]
    WrongNode {
        /// Who answered.
        answering: Arc<str>,
        /// Who was expected.
        wanted: Arc<str>,
    },
    /// The expected node, with another data directory.
    #[error("{name} answers with the data directory {found}, and it is known with {expected}")]
    WrongIncarnation {
        /// The node.
        name: Arc<str>,
        /// What is known.
        expected: Incarnation,
        /// What it has now.
        found: Incarnation,
    },
}

impl From<Malformed> for DialFault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// What a dialler does next.
#[derive(Debug)]
pub enum DialStep {
    /// Send this and wait.
    Send(Vec<u8>),
    /// The connection is ready.
    Done(Box<Welcome>),
}

/// What a dialler knows in the end.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Who is at the other end.
    pub peer: Arc<PeerId>,
    /// The version that is spoken.
    pub version: u16,
    /// What was agreed.
    pub terms: Terms,
}

/// Whom a dialler looks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: Arc<str>,
    /// Its data directory, if that is known.
    pub incarnation: Option<Incarnation>,
}

/// The dialling end.
pub struct Dialler {
    identity: Arc<Identity>,
    wanted: Wanted,
    versions: Versions,
    transcript: Transcript,
    challenge: Option<Challenge>,
    answering: Option<PeerId>,
}

impl Dialler {
    /// Begins, with what is to be sent first. `binding`: keys of the channel, empty without TLS.
    pub fn begin(
        identity: &Arc<Identity>,
        lane: Lane,
        wanted: Wanted,
        versions: Versions,
        nonce: &Nonce,
        binding: &[u8],
    ) -> (Self, Vec<u8>) {
        let hello = Hello::encode(identity, lane, &wanted.name, versions, nonce);
        let mut transcript = Transcript::new(binding);
        transcript.add(&hello);
        let identity = Arc::clone(identity);
        (Self { identity, wanted, versions, transcript, challenge: None, answering: None }, hello)
    }

    /// Takes a whole message of the other end.
    pub fn advance(&mut self, message: &[u8]) -> Result<DialStep, DialFault> {
        match kind_of(message) {
            Some(Kind::Challenge) if self.challenge.is_none() => self.answer(message).map(DialStep::Send),
            Some(Kind::Welcome) => self.finish(message).map(|welcome| DialStep::Done(Box::new(welcome))),
            Some(Kind::Refusal) => Err(self.refused(message)?),
            _ => Err(DialFault::Malformed),
        }
    }

    /// As whom this node speaks.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who answers, once it has proved to know the secret.
    pub fn answering(&self) -> Option<&PeerId> {
        self.answering.as_ref()
    }

    fn answer(&mut self, message: &[u8]) -> Result<Vec<u8>, DialFault> {
        let challenge = Challenge::decode(message)?;
        let is_spoken = (self.versions.lowest..=self.versions.highest).contains(&challenge.version);
        if !is_spoken {
            return Err(DialFault::Malformed);
        }
        self.transcript.add(message);
        self.challenge = Some(challenge);
        let proof = encode_proof(&self.transcript.make(&self.identity.secret, DIALLER, &[]));
        self.transcript.add(&proof);
        Ok(proof)
    }

    fn finish(&mut self, message: &[u8]) -> Result<Welcome, DialFault> {
        let Some(challenge) = self.challenge.take() else { return Err(DialFault::Malformed) };
        let (message, mac) = split_mac(message)?;
        if !self.transcript.is_good(&self.identity.secret, ACCEPTOR, message, mac) {
            return Err(DialFault::Secret);
        }
        let terms = Terms::decode(message)?;
        let peer = challenge.node;
        self.answering = Some(peer.clone());
        if peer.name != self.wanted.name {
            return Err(DialFault::WrongNode { answering: peer.name, wanted: Arc::clone(&self.wanted.name) });
        }
        if let Some(expected) = self.wanted.incarnation
            && expected != peer.incarnation
        {
            return Err(DialFault::WrongIncarnation { name: peer.name, expected, found: peer.incarnation });
        }
        Ok(Welcome { peer: Arc::new(peer), version: challenge.version, terms })
    }

    fn refused(&mut self, message: &[u8]) -> Result<DialFault, DialFault> {
        let (refusal, has_mac) = decode_refusal(message)?;
        if has_mac {
            let (message, mac) = split_mac(message)?;
            let Some(challenge) = self.challenge.take() else { return Err(DialFault::Malformed) };
            if !self.transcript.is_good(&self.identity.secret, ACCEPTOR, message, mac) {
                return Err(DialFault::Secret);
            }
            self.answering = Some(challenge.node);
        } else if !refusal.code.is_believed_unproven() {
            return Err(DialFault::Malformed);
        }
        Ok(DialFault::Refused(refusal))
    }
}

/// What an acceptor does next.
#[derive(Debug)]
pub enum GreetStep {
    /// Send this and wait.
    Send(Vec<u8>),
    /// The dialler knows the secret: judge it, then [`Greeter::welcome`] or [`Greeter::refuse`].
    Proven,
    /// Send this and close.
    Refuse(Vec<u8>, Refusal),
}

/// The accepting end.
pub struct Greeter {
    identity: Arc<Identity>,
    versions: Versions,
    nonce: Nonce,
    transcript: Transcript,
    hello: Option<Hello>,
    is_proven: bool,
}

impl Greeter {
    /// Begins. `binding`: keys of the channel, empty without TLS.
    pub fn new(identity: &Arc<Identity>, versions: Versions, nonce: Nonce, binding: &[u8]) -> Self {
        let (identity, transcript) = (Arc::clone(identity), Transcript::new(binding));
        Self { identity, versions, nonce, transcript, hello: None, is_proven: false }
    }

    /// Who has come, as far as it was told.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// As whom this node speaks.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes a whole message of the other end.
    pub fn advance(&mut self, message: &[u8]) -> GreetStep {
        match (kind_of(message), &self.hello) {
            (Some(Kind::Hello), None) => self.greet(message),
            (Some(Kind::Proof), Some(_)) if !self.is_proven => self.examine(message),
            _ => self.malformed(),
        }
    }

    /// The refusal of something that is no handshake.
    pub fn malformed(&self) -> GreetStep {
        self.refusing(Refusal::new(
            RefusalCode::Malformed,
            "this is the port for links between Strogoff nodes, and what came is no greeting of one",
        ))
    }

    fn refusing(&self, refusal: Refusal) -> GreetStep {
        GreetStep::Refuse(self.refuse(&refusal), refusal)
    }

    fn greet(&mut self, message: &[u8]) -> GreetStep {
        let Ok(hello) = Hello::decode(message) else { return self.malformed() };
        let Some(version) = self.versions.common(hello.versions) else {
            let (own, other) = (self.versions, hello.versions);
            let text = format!(
                "{} speaks versions {} to {} of the links' protocol, {} speaks {} to {}: upgrade the older one",
                self.identity.node.name, own.lowest, own.highest, hello.node.name, other.lowest, other.highest
            );
            return self.refusing(Refusal::new(RefusalCode::Version, text));
        };
        self.transcript.add(message);
        self.hello = Some(hello);
        let challenge = Challenge::encode(&self.identity, version, &self.nonce);
        self.transcript.add(&challenge);
        GreetStep::Send(challenge)
    }

    fn examine(&mut self, message: &[u8]) -> GreetStep {
        let Ok(mac) = decode_proof(message) else { return self.malformed() };
        if !self.transcript.is_good(&self.identity.secret, DIALLER, &[], &mac) {
            let text = format!(
                "the secrets of the two nodes differ (distributed_cookie); {} refuses",
                self.identity.node.name
            );
            return self.refusing(Refusal::new(RefusalCode::Secret, text));
        }
        self.transcript.add(message);
        self.is_proven = true;
        GreetStep::Proven
    }

    /// What lets the dialler in.
    pub fn welcome(&self, terms: &Terms) -> Vec<u8> {
        debug_assert!(self.is_proven, "a stranger is not let in");
        terms.encode(|message| self.transcript.make(&self.identity.secret, ACCEPTOR, message))
    }

    /// What keeps it out.
    pub fn refuse(&self, refusal: &Refusal) -> Vec<u8> {
        let mac = |message: &[u8]| self.transcript.make(&self.identity.secret, ACCEPTOR, message);
        encode_refusal(refusal, self.is_proven.then_some(mac))
    }
}
