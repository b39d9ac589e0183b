//! The messages of the handshake as bytes.
//!
//! ```text
//! message    length of what follows (u32), kind (u8), fields
//! hello      magic, lowest and highest version, lane, cluster, incarnation, boot, nonce, name, name looked for, settings
//! challenge  version, cluster, incarnation, boot, nonce, name
//! proof      MAC of the dialler
//! welcome    standing, sequence numbers and credit of the data lane, size of messages, MAC of the acceptor
//! refusal    code, text, MAC of the acceptor or nothing
//! ```
//!
//! This form is the same in all versions. Fields that a later one appends to hello, challenge or welcome are skipped.

use std::sync::Arc;

use super::bytes::{Malformed, Reader, put_text};
use super::identity::{AGREED_MAX, Boot, ClusterId, Identity, Incarnation, NAME_LEN_MAX, PeerId};
use super::inbox::Resume;
use super::lane::Lane;
use super::refusal::{Refusal, RefusalCode};
use super::roster::Standing;

/// Bytes of a message of the handshake, its length included: settings of full length fit.
pub const MESSAGE_LEN_MAX: usize = 64 * 1_024;
/// Bytes of a nonce and of a MAC.
pub const NONCE_LEN: usize = 32;
/// Bytes of the text of a refusal, at most.
const REFUSAL_LEN_MAX: usize = 4_096;
const LENGTH_LEN: usize = 4;
const MAGIC: [u8; 8] = *b"STROGOFF";

/// A number that is used once.
pub type Nonce = [u8; NONCE_LEN];
/// A message authentication code.
pub type Mac = [u8; NONCE_LEN];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello = 1,
    Challenge = 2,
    Proof = 3,
    Welcome = 4,
    Refusal = 5,
}

/// Protocol versions that a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

/// What this code speaks. A node speaks the version before its own as well, so that a cluster can be upgraded node by node.
pub const VERSIONS: Versions = Versions { lowest: 1, highest: 1 };

impl Versions {
    /// The highest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

/// What a dialler says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it speaks.
    pub versions: Versions,
    /// What the connection is for.
    pub lane: Lane,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// Who it is.
    pub node: PeerId,
    /// Its nonce.
    pub nonce: Nonce,
    /// Whom it looks for.
    pub wanted: String,
    /// Its settings that must agree.
    pub agreed: Vec<(String, String)>,
}

/// What an acceptor says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub version: u16,
    pub cluster: Option<ClusterId>,
    pub node: PeerId,
    pub nonce: Nonce,
}

/// What a dialler is told when it is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it may do.
    pub standing: Standing,
    /// How far the data lane had come, and its credit; all 0 on other lanes.
    pub resume: Resume,
    /// Bytes of one message that are taken.
    pub message_len_max: u64,
}

/// The bytes of the whole message at the front; `None`: it is not all there.
pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(length) = bytes.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
    let length = LENGTH_LEN + u32::from_be_bytes(*length) as usize;
    if length <= LENGTH_LEN || length > MESSAGE_LEN_MAX {
        return Err(Malformed);
    }
    Ok((bytes.len() >= length).then_some(length))
}

fn message(kind: Kind) -> Vec<u8> {
    let mut buffer = vec![0; LENGTH_LEN];
    buffer.push(kind as u8);
    buffer
}

fn finish(mut buffer: Vec<u8>) -> Vec<u8> {
    debug_assert!(buffer.len() <= MESSAGE_LEN_MAX, "limits of an identity keep it shorter");
    let length = (buffer.len() - LENGTH_LEN) as u32;
    buffer[..LENGTH_LEN].copy_from_slice(&length.to_be_bytes());
    buffer
}

/// The fields of a whole message of a kind.
fn open(message: &[u8], kind: Kind) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader(message);
    reader.take(LENGTH_LEN)?;
    if reader.u8()? == kind as u8 { Ok(reader) } else { Err(Malformed) }
}

/// The kind of a whole message.
pub(super) fn kind_of(message: &[u8]) -> Option<Kind> {
    let kinds = [Kind::Hello, Kind::Challenge, Kind::Proof, Kind::Welcome, Kind::Refusal];
    kinds.into_iter().find(|kind| message.get(LENGTH_LEN) == Some(&(*kind as u8)))
}

fn put_cluster(buffer: &mut Vec<u8>, cluster: Option<ClusterId>) {
    buffer.push(u8::from(cluster.is_some()));
    buffer.extend_from_slice(&cluster.map_or([0; 16], |cluster| cluster.0));
}

fn read_cluster(reader: &mut Reader<'_>) -> Result<Option<ClusterId>, Malformed> {
    let is_there = reader.u8()?;
    let cluster = ClusterId(reader.array()?);
    match is_there {
        0 => Ok(None),
        1 => Ok(Some(cluster)),
        _ => Err(Malformed),
    }
}

fn read_name(reader: &mut Reader<'_>) -> Result<Arc<str>, Malformed> {
    let name = reader.text()?;
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(Malformed);
    }
    Ok(name.into())
}

impl Hello {
    pub(super) fn encode(identity: &Identity, lane: Lane, wanted: &str, versions: Versions, nonce: &Nonce) -> Vec<u8> {
        let mut buffer = message(Kind::Hello);
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&versions.lowest.to_be_bytes());
        buffer.extend_from_slice(&versions.highest.to_be_bytes());
        buffer.push(lane as u8);
        put_cluster(&mut buffer, identity.cluster);
        buffer.extend_from_slice(&identity.node.incarnation.0);
        buffer.extend_from_slice(&identity.node.boot.0);
        buffer.extend_from_slice(nonce);
        put_text(&mut buffer, identity.node.name.as_bytes());
        put_text(&mut buffer, wanted.as_bytes());
        let agreed = &identity.agreed[..identity.agreed.len().min(AGREED_MAX)];
        buffer.extend_from_slice(&(agreed.len() as u16).to_be_bytes());
        for (name, value) in agreed {
            put_text(&mut buffer, name.as_bytes());
            put_text(&mut buffer, value.as_bytes());
        }
        finish(buffer)
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = open(message, Kind::Hello)?;
        if reader.array()? != MAGIC {
            return Err(Malformed);
        }
        let versions = Versions { lowest: reader.u16()?, highest: reader.u16()? };
        let lane = Lane::by_code(reader.u8()?).ok_or(Malformed)?;
        let cluster = read_cluster(&mut reader)?;
        let (incarnation, boot) = (Incarnation(reader.array()?), Boot(reader.array()?));
        let nonce = reader.array()?;
        let name = read_name(&mut reader)?;
        let wanted = reader.text()?.to_owned();
        let count = reader.u16()?;
        if usize::from(count) > AGREED_MAX {
            return Err(Malformed);
        }
        let mut agreed = Vec::new();
        for _ in 0..count {
            agreed.push((reader.text()?.to_owned(), reader.text()?.to_owned()));
        }
        Ok(Self { versions, lane, cluster, node: PeerId { name, incarnation, boot }, nonce, wanted, agreed })
    }
}

impl Challenge {
    pub fn encode(identity: &Identity, version: u16, nonce: &Nonce) -> Vec<u8> {
        let mut buffer = message(Kind::Challenge);
        buffer.extend_from_slice(&version.to_be_bytes());
        put_cluster(&mut buffer, identity.cluster);
        buffer.extend_from_slice(&identity.node.incarnation.0);
        buffer.extend_from_slice(&identity.node.boot.0);
        buffer.extend_from_slice(nonce);
        put_text(&mut buffer, identity.node.name.as_bytes());
        finish(buffer)
    }

    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = open(message, Kind::Challenge)?;
        let version = reader.u16()?;
        let cluster = read_cluster(&mut reader)?;
        let (incarnation, boot) = (Incarnation(reader.array()?), Boot(reader.array()?));
        let nonce = reader.array()?;
        let name = read_name(&mut reader)?;
        Ok(Self { version, cluster, node: PeerId { name, incarnation, boot }, nonce })
    }
}

pub(super) fn encode_proof(mac: &Mac) -> Vec<u8> {
    let mut buffer = message(Kind::Proof);
    buffer.extend_from_slice(mac);
    finish(buffer)
}

pub(super) fn decode_proof(message: &[u8]) -> Result<Mac, Malformed> {
    let mut reader = open(message, Kind::Proof)?;
    let mac = reader.array()?;
    if reader.0.is_empty() { Ok(mac) } else { Err(Malformed) }
}

/// Room for the MAC of a message is at its end; what is before it is what the MAC is of.
pub(super) fn split_mac(message: &[u8]) -> Result<(&[u8], &Mac), Malformed> {
    message.split_last_chunk::<NONCE_LEN>().ok_or(Malformed)
}

impl Terms {
    /// The message; `mac` makes the MAC of what it is given.
    pub(super) fn encode(&self, mac: impl FnOnce(&[u8]) -> Mac) -> Vec<u8> {
        let mut buffer = message(Kind::Welcome);
        buffer.push(self.standing as u8);
        for number in [self.resume.kept, self.resume.received, self.resume.credit, self.message_len_max] {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        seal(buffer, mac)
    }

    /// `message`: without its MAC.
    pub(super) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = open(message, Kind::Welcome)?;
        let standing = match reader.u8()? {
            code if code == Standing::Guest as u8 => Standing::Guest,
            code if code == Standing::Member as u8 => Standing::Member,
            _ => return Err(Malformed),
        };
        let resume = Resume { kept: reader.u64()?, received: reader.u64()?, credit: reader.u64()? };
        Ok(Self { standing, resume, message_len_max: reader.u64()? })
    }
}

/// Gives a message its length, which the MAC covers, and its MAC.
fn seal(buffer: Vec<u8>, mac: impl FnOnce(&[u8]) -> Mac) -> Vec<u8> {
    let start = buffer.len();
    let mut buffer = buffer;
    buffer.extend_from_slice(&[0; NONCE_LEN]);
    let mut buffer = finish(buffer);
    let mac = mac(&buffer[..start]);
    buffer[start..].copy_from_slice(&mac);
    buffer
}

/// `mac`: makes the MAC, if the dialler has proved to know the secret.
pub(super) fn encode_refusal(refusal: &Refusal, mac: Option<impl FnOnce(&[u8]) -> Mac>) -> Vec<u8> {
    let mut buffer = message(Kind::Refusal);
    buffer.push(refusal.code as u8);
    let mut length = refusal.text.len().min(REFUSAL_LEN_MAX);
    while !refusal.text.is_char_boundary(length) {
        length -= 1;
    }
    put_text(&mut buffer, &refusal.text.as_bytes()[..length]);
    match mac {
        Some(mac) => seal(buffer, mac),
        None => finish(buffer),
    }
}

/// What a refusal says, and whether a MAC stands behind it.
pub(super) fn decode_refusal(message: &[u8]) -> Result<(Refusal, bool), Malformed> {
    let mut reader = open(message, Kind::Refusal)?;
    let code = RefusalCode::by_code(reader.u8()?).ok_or(Malformed)?;
    let text = reader.text()?;
    Ok((Refusal::new(code, text), reader.0.len() == NONCE_LEN))
}
