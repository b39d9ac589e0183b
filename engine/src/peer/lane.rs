//! The lanes of a link: what would hold up something else has a connection of its own.

/// One of the connections that make a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    /// Requests of one control plane to another, and their answers.
    Control = 1,
    /// Replicated metadata.
    Metadata = 2,
    /// Messages of clients, from engine to engine.
    Data = 3,
}

impl Lane {
    /// All of them, in the order in which they are dialled.
    pub const ALL: [Self; 3] = [Self::Control, Self::Metadata, Self::Data];

    /// The lane of a number, if there is one.
    pub fn by_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u8 == code)
    }

    /// The lane of a name, if there is one.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Metadata => "metadata",
            Self::Data => "data",
        }
    }

    /// Its place in [`Lane::ALL`].
    pub(super) fn place(self) -> usize {
        self as usize - 1
    }
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This node: it is for what goes to the peer.
    Dialled,
    /// The peer: it is for what comes from there.
    Accepted,
}

impl Side {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dialled => "dialled",
            Self::Accepted => "accepted",
        }
    }
}
