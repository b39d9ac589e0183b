//! The hooks that Python can listen to, and who a client is to them.

use std::sync::Arc;

bitflags::bitflags! {
    /// Hooks that Python listens to. What nobody listens to is not even built.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Hooks: u32 {
        /// Decide on a CONNECT.
        const AUTH_ON_REGISTER = 1;
        /// Decide on a PUBLISH.
        const AUTH_ON_PUBLISH = 1 << 1;
        /// Decide on a SUBSCRIBE.
        const AUTH_ON_SUBSCRIBE = 1 << 2;
        /// Enhanced authentication.
        const ON_AUTH = 1 << 3;
        /// A client was accepted.
        const ON_REGISTER = 1 << 4;
        /// A publish was accepted.
        const ON_PUBLISH = 1 << 5;
        /// A subscription was made.
        const ON_SUBSCRIBE = 1 << 6;
        /// A client asked to unsubscribe.
        const ON_UNSUBSCRIBE = 1 << 7;
        /// A message is sent to a client.
        const ON_DELIVER = 1 << 8;
        /// A message is stored for an offline client.
        const ON_OFFLINE_MESSAGE = 1 << 9;
        /// A session got its client.
        const ON_CLIENT_WAKEUP = 1 << 10;
        /// A persistent session lost its client.
        const ON_CLIENT_OFFLINE = 1 << 11;
        /// A session ended with its connection.
        const ON_CLIENT_GONE = 1 << 12;
        /// A session was offline for too long.
        const ON_SESSION_EXPIRED = 1 << 13;
        /// Subscriptions are gone.
        const ON_TOPIC_UNSUBSCRIBED = 1 << 14;
        /// A message was dropped.
        const ON_MESSAGE_DROP = 1 << 15;
    }
}

/// VerneMQ's names of the hooks, in the order of the bits.
pub const HOOK_NAMES: [&str; 16] = [
    "auth_on_register",
    "auth_on_publish",
    "auth_on_subscribe",
    "on_auth",
    "on_register",
    "on_publish",
    "on_subscribe",
    "on_unsubscribe",
    "on_deliver",
    "on_offline_message",
    "on_client_wakeup",
    "on_client_offline",
    "on_client_gone",
    "on_session_expired",
    "on_topic_unsubscribed",
    "on_message_drop",
];

impl Hooks {
    /// The hook of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        let position = HOOK_NAMES.iter().position(|known| *known == name)?;
        Some(Self::from_bits_retain(1 << position))
    }

    /// VerneMQ's name of a single hook.
    pub fn name(self) -> &'static str {
        HOOK_NAMES.get(self.bits().trailing_zeros() as usize).copied().unwrap_or("unknown")
    }
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name space of topics and client ids.
    pub mountpoint: Arc<str>,
    /// Client id.
    pub client_id: Arc<str>,
    /// User name.
    pub username: Option<Arc<str>>,
    /// 3, 4 or 5.
    pub protocol_version: u8,
    /// Name of the listener it came through.
    pub listener: Arc<str>,
}

/// The listener of those clients that are parts of the broker. No other has a name that begins so.
pub const INTERNAL_LISTENER: &str = "$internal";
/// How the client ids of parts of the broker begin, and nobody else's.
pub const INTERNAL_CLIENT_ID: &str = "$bridge/";

impl Identity {
    /// Whether it is a part of the broker, which needs no leave for what it does and which no hook hears of.
    #[inline]
    pub fn is_internal(&self) -> bool {
        self.listener.starts_with('$')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_found_by_their_names() {
        for (position, name) in HOOK_NAMES.iter().enumerate() {
            let hook = Hooks::by_name(name).unwrap();
            assert_eq!((hook.bits(), hook.name()), (1 << position, *name));
        }
        assert_eq!(Hooks::by_name("on_nothing"), None);
    }
}
