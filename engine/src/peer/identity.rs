//! Who a node is to its peers.

use std::sync::Arc;

use super::bytes::hex;

/// Of which cluster a node is a member.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// Which data directory a node has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub [u8; 16]);

/// Which run of the process it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boot(pub [u8; 8]);

/// Shows bytes as hexadecimal digits.
macro_rules! shown_in_hex {
    ($($kind:ty),*) => {
        $(
            impl std::fmt::Display for $kind {
                fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    formatter.write_str(&hex(&self.0))
                }
            }
            impl std::fmt::Debug for $kind {
                fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    write!(formatter, "{self}")
                }
            }
        )*
    };
}

shown_in_hex!(ClusterId, Incarnation, Boot);

/// One run of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerId {
    /// `name@host`.
    pub name: Arc<str>,
    /// Its data directory.
    pub incarnation: Incarnation,
    /// The run of its process.
    pub boot: Boot,
}

/// What this node tells of itself in every handshake.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This run of this node.
    pub node: PeerId,
    /// Its cluster; none: it has not joined one yet.
    pub cluster: Option<ClusterId>,
    /// Settings that must be the same on both ends, by name.
    pub agreed: Vec<(String, String)>,
    /// What every node of the cluster knows and nobody else.
    pub secret: Vec<u8>,
}

/// Longest name of a node in bytes.
pub const NAME_LEN_MAX: usize = 255;
/// Settings that must agree, at most.
pub const AGREED_MAX: usize = 64;
/// Bytes of the name or the value of one of them, at most.
pub const AGREED_LEN_MAX: usize = 255;

impl Identity {
    /// What is wrong with it, if anything: a peer could not read it.
    pub fn fault(&self) -> Option<String> {
        let name = &self.node.name;
        if name.is_empty() || name.len() > NAME_LEN_MAX {
            return Some(format!("name: expected 1 to {NAME_LEN_MAX} bytes, got {}", name.len()));
        }
        if self.agreed.len() > AGREED_MAX {
            return Some(format!("agreed: expected at most {AGREED_MAX} settings, got {}", self.agreed.len()));
        }
        let is_long = |(name, value): &&(String, String)| name.len() > AGREED_LEN_MAX || value.len() > AGREED_LEN_MAX;
        let long = self.agreed.iter().find(is_long)?;
        Some(format!("agreed: expected at most {AGREED_LEN_MAX} bytes in name and value of {:?}", long.0))
    }
}
