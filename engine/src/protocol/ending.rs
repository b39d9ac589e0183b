//! How a connection ends and what to do after a packet.

use std::fmt;

use crate::codec::{DecodeError, ReasonCode};
use crate::message::Millis;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// DISCONNECT from the client; the will goes with it unless the client asked for it.
    Client {
        /// Reason code of the DISCONNECT, 0 for 3.x.
        reason: ReasonCode,
    },
    /// The broker ended it because of what the client did or did not do.
    Broken {
        /// For DISCONNECT and the log.
        reason: ReasonCode,
        /// What was wrong, for people.
        cause: Cause,
    },
    /// The socket closed or failed.
    Lost,
    /// Another connection has the client id now.
    TakenOver {
        /// Publish no will (`suppress_lwt_on_session_takeover`, or a will with a delay whose session goes on).
        keeps_will: bool,
    },
    /// An operator or the end of the broker.
    Administrative {
        /// For DISCONNECT.
        reason: ReasonCode,
    },
}

impl Ending {
    /// Whether the will is not published [MQTT-3.14.4-3].
    pub fn cancels_will(&self) -> bool {
        match self {
            Self::Client { reason } => *reason == ReasonCode::SUCCESS,
            Self::TakenOver { keeps_will } => *keeps_will,
            _ => false,
        }
    }

    /// An end because of what the client did, or did not do.
    pub fn broken(reason: ReasonCode, cause: &'static str) -> Self {
        Self::Broken { reason, cause: Cause::Text(cause) }
    }
}

impl fmt::Display for Ending {
    /// A few words for logs and events.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { .. } => formatter.write_str("client disconnected"),
            Self::Broken { cause, .. } => cause.fmt(formatter),
            Self::Lost => formatter.write_str("connection lost"),
            Self::TakenOver { .. } => formatter.write_str("session taken over"),
            Self::Administrative { .. } => formatter.write_str("closed by the broker"),
        }
    }
}

impl From<DecodeError> for Ending {
    fn from(error: DecodeError) -> Self {
        Self::Broken { reason: error.reason, cause: Cause::Decode(error) }
    }
}

/// What a client did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// In words.
    Text(&'static str),
    /// It sent bytes that are not MQTT.
    Decode(DecodeError),
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Decode(error) => error.fmt(formatter),
        }
    }
}

/// What to do after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Next packet.
    Continue,
    /// Read nothing until [`Session::answer`].
    Pause,
    /// Read nothing for so many milliseconds.
    Throttle(Millis),
    /// Write what is in the output, then close.
    Close(Ending),
}

/// A step that closes because of what the client did.
pub(super) fn broken(reason: ReasonCode, detail: &'static str) -> Step {
    Step::Close(Ending::broken(reason, detail))
}
