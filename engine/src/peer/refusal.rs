//! Why a node does not let another one in.

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RefusalCode {
    /// No protocol version in common.
    Version = 1,
    /// The secrets differ.
    Secret = 2,
    /// Too many connections wait for their handshake.
    Busy = 3,
    /// What came is no handshake.
    Malformed = 4,
    /// Another node was looked for at this address.
    WrongNode = 5,
    /// Another cluster.
    WrongCluster = 6,
    /// Of this cluster, but not, or no longer, a member.
    NotAMember = 7,
    /// A member, but with another data directory.
    WrongIncarnation = 8,
    /// A setting that must be the same is not.
    Settings = 9,
    /// Not a member yet, and then there is the control lane only.
    GuestLane = 10,
    /// Nobody may join now.
    JoiningClosed = 11,
    /// The name of the node that was asked.
    NameTaken = 12,
    /// The certificate is of another host.
    Certificate = 13,
    /// Of this cluster, with a data directory that was taken out of it for good.
    Removed = 14,
}

impl RefusalCode {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Version, "version"),
        (Self::Secret, "secret"),
        (Self::Busy, "busy"),
        (Self::Malformed, "malformed"),
        (Self::WrongNode, "wrong_node"),
        (Self::WrongCluster, "wrong_cluster"),
        (Self::NotAMember, "not_a_member"),
        (Self::WrongIncarnation, "wrong_incarnation"),
        (Self::Settings, "settings"),
        (Self::GuestLane, "guest_lane"),
        (Self::JoiningClosed, "joining_closed"),
        (Self::NameTaken, "name_taken"),
        (Self::Certificate, "certificate"),
        (Self::Removed, "removed"),
    ];

    /// The kind of a number, if there is one.
    pub(super) fn by_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().map(|(kind, _)| kind).find(|kind| *kind as u8 == code)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Whether it is believed from somebody who has not proved to know the secret. Nothing that makes a node act on its data
    /// may come from a stranger.
    pub(super) fn is_believed_unproven(self) -> bool {
        matches!(self, Self::Version | Self::Secret | Self::Busy | Self::Malformed)
    }
}

/// A refusal with what a person has to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The kind.
    pub code: RefusalCode,
    /// What differs, and what to do.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}
