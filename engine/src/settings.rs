//! The engine's settings: the configuration keys that act on the data plane, with their ranges and defaults.
//!
//! Settings are read through an [`arc_swap::ArcSwap`] once a turn, so a change holds for what happens next without a lock.

use std::sync::Arc;

use thiserror::Error;

use crate::message::Millis;

/// How a full queue drops and in which order it delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    /// Oldest first; a full queue refuses the new message.
    Fifo,
    /// Newest first; a full queue drops the oldest.
    Lifo,
}

/// Which session gets a message when several share one client id (`allow_multiple_sessions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverMode {
    /// All of them.
    Fanout,
    /// One of them.
    Balance,
}

/// What a publisher's acknowledgement waits for (`cluster.publish_ack`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishAck {
    /// What this node has to do.
    Local,
    /// Also until every other node that subscribes and can be reached has the message.
    Peers,
}

/// A value as it crosses the boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// "Never", "as the client asks".
    None,
    /// on / off.
    Bool(bool),
    /// A number in the unit of the key.
    Int(i64),
    /// A word.
    Text(String),
}

/// A setting that cannot be taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingError {
    /// No such name.
    #[error("{0}: the engine has no setting of this name")]
    Unknown(String),
    /// Wrong type or out of range.
    #[error("{name}: expected {expected}, got {got}")]
    Invalid {
        /// The key.
        name: &'static str,
        /// What would be right.
        expected: String,
        /// What came.
        got: String,
    },
}

/// Conversion between a field and the value that crosses the boundary.
trait Field: Sized {
    fn read(value: &Value, range: (i64, i64)) -> Result<Self, String>;
    fn write(&self) -> Value;
}

impl Field for bool {
    fn read(value: &Value, _range: (i64, i64)) -> Result<Self, String> {
        match value {
            Value::Bool(value) => Ok(*value),
            _ => Err("True or False".into()),
        }
    }
    fn write(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Field for i64 {
    fn read(value: &Value, (low, high): (i64, i64)) -> Result<Self, String> {
        match value {
            Value::Int(value) if (low..=high).contains(value) => Ok(*value),
            _ => Err(format!("a whole number from {low} to {high}")),
        }
    }
    fn write(&self) -> Value {
        Value::Int(*self)
    }
}

/// Declares that an unsigned type is a field; the range of the setting keeps values within the type.
macro_rules! unsigned {
    ($($kind:ty),*) => {
        $(impl Field for $kind {
            fn read(value: &Value, range: (i64, i64)) -> Result<Self, String> {
                let number = i64::read(value, range)?;
                Self::try_from(number).map_err(|_| format!("a whole number up to {}", Self::MAX))
            }
            fn write(&self) -> Value {
                Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        })*
    };
}

unsigned!(u16, u32, u64, usize);

impl<T: Field> Field for Option<T> {
    fn read(value: &Value, range: (i64, i64)) -> Result<Self, String> {
        match value {
            Value::None => Ok(None),
            value => T::read(value, range).map(Some).map_err(|expected| format!("None or {expected}")),
        }
    }
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::None, T::write)
    }
}

impl Field for Arc<str> {
    fn read(value: &Value, (_, longest): (i64, i64)) -> Result<Self, String> {
        match value {
            Value::Text(text) if text.len() as u64 <= longest.unsigned_abs() => Ok(text.as_str().into()),
            _ => Err(format!("a string of at most {longest} bytes")),
        }
    }
    fn write(&self) -> Value {
        Value::Text(self.to_string())
    }
}

/// Declares a field type that is one of a few words.
macro_rules! words {
    ($kind:ty: $($variant:path = $word:literal),*) => {
        impl Field for $kind {
            fn read(value: &Value, _range: (i64, i64)) -> Result<Self, String> {
                match value {
                    $(Value::Text(word) if word == $word => Ok($variant),)*
                    _ => Err(concat!("one of", $(" ", $word),*).into()),
                }
            }
            fn write(&self) -> Value {
                match self { $($variant => Value::Text($word.into()),)* }
            }
        }
    };
}

words!(QueueType: QueueType::Fifo = "fifo", QueueType::Lifo = "lifo");
words!(DeliverMode: DeliverMode::Fanout = "fanout", DeliverMode::Balance = "balance");
words!(SharedPolicy: SharedPolicy::PreferLocal = "prefer_local", SharedPolicy::Random = "random",
       SharedPolicy::LocalOnly = "local_only", SharedPolicy::PreferOnlineBeforeLocal = "prefer_online_before_local");

words!(PublishAck: PublishAck::Local = "local", PublishAck::Peers = "peers");
words!(SyncMode: SyncMode::Always = "always", SyncMode::Interval = "interval", SyncMode::Never = "never");

pub use crate::routing::SharedPolicy;
use crate::store::SyncMode;

/// Declares the settings: field, type, default, range, key.
macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $kind:ty = $default:expr, $low:expr, $high:expr, $key:literal;)*) => {
        /// All settings of the data plane.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings { $($(#[$doc])* pub $field: $kind,)* }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Settings {
            /// Changes one setting by the name of its configuration key.
            pub fn set(&mut self, name: &str, value: &Value) -> Result<(), SettingError> {
                match name {
                    $($key => {
                        self.$field = <$kind>::read(value, ($low, $high)).map_err(|expected| SettingError::Invalid {
                            name: $key, expected, got: format!("{value:?}"),
                        })?;
                    })*
                    _ => return Err(SettingError::Unknown(name.into())),
                }
                Ok(())
            }

            /// All settings by the names of their configuration keys.
            pub fn values(&self) -> Vec<(&'static str, Value)> {
                vec![$(($key, self.$field.write()),)*]
            }
        }
    };
}

const YEAR_S: i64 = 366 * 24 * 3_600;
/// Longest span in seconds: a session expiry interval above it means "for ever".
const SPAN_S_MAX: i64 = 100 * YEAR_S;
/// Largest packet that MQTT can express, in bytes.
const PACKET_SIZE_MAX: u32 = 268_435_460;

settings! {
    /// Worker threads; 0: one a core.
    workers: usize = 0, 0, 1_024, "workers";
    /// Accept CONNECT without asking anybody.
    allow_anonymous: bool = false, 0, 0, "allow_anonymous";
    /// Let clients connect while the cluster is not ready.
    allow_register_during_netsplit: bool = false, 0, 0, "allow_register_during_netsplit";
    /// Let clients publish while the cluster is not ready.
    allow_publish_during_netsplit: bool = false, 0, 0, "allow_publish_during_netsplit";
    /// Let clients subscribe while the cluster is not ready.
    allow_subscribe_during_netsplit: bool = false, 0, 0, "allow_subscribe_during_netsplit";
    /// Let clients unsubscribe while the cluster is not ready.
    allow_unsubscribe_during_netsplit: bool = false, 0, 0, "allow_unsubscribe_during_netsplit";
    /// Longest client id in bytes.
    max_client_id_size: usize = 100, 1, 65_535, "max_client_id_size";
    /// Outgoing window of 3.x sessions; 0: no limit but the packet identifiers.
    max_inflight_messages: usize = 20, 0, 65_535, "max_inflight_messages";
    /// Queue of a connected session; -1: no limit.
    max_online_messages: i64 = 1_000, -1, i64::MAX, "max_online_messages";
    /// Queue of an offline session; -1: no limit.
    max_offline_messages: i64 = 1_000, -1, i64::MAX, "max_offline_messages";
    /// On reconnect keep the offline queue even beyond the online limit.
    override_max_online_messages: bool = false, 0, 0, "override_max_online_messages";
    /// Order and drop policy.
    queue_type: QueueType = QueueType::Fifo, 0, 0, "queue_type";
    /// Several sessions with one client id.
    queue_deliver_mode: DeliverMode = DeliverMode::Fanout, 0, 0, "queue_deliver_mode";
    /// Let several clients connect with the same client id.
    allow_multiple_sessions: bool = false, 0, 0, "allow_multiple_sessions";
    /// Largest packet in bytes; 0: the protocol's own limit.
    max_message_size: usize = 0, 0, PACKET_SIZE_MAX.into(), "max_message_size";
    /// Largest CONNECT in bytes, which comes from somebody nobody knows yet.
    max_connect_packet_size: usize = 1_048_576, 64, PACKET_SIZE_MAX.into(), "max_connect_packet_size";
    /// Publishes per second of one session; 0: no limit.
    max_message_rate: u64 = 0, 0, 1_000_000_000, "max_message_rate";
    /// Bytes of messages that one session may have queued; 0: no limit.
    max_queued_bytes: usize = 268_435_456, 0, i64::MAX, "max_queued_bytes";
    /// Subscriptions of one client; 0: no limit.
    max_subscriptions_per_client: usize = 0, 0, i64::MAX, "max_subscriptions_per_client";
    /// Seconds that a persistent 3.x session outlives its connection.
    persistent_client_expiration: Option<u32> = None, 0, SPAN_S_MAX, "persistent_client_expiration";
    /// Longest will delay in seconds.
    max_last_will_delay: Option<u32> = None, 0, SPAN_S_MAX, "max_last_will_delay";
    /// Deliver with the subscription's QoS even where the publisher's is lower.
    upgrade_outgoing_qos: bool = false, 0, 0, "upgrade_outgoing_qos";
    /// No will when the same client id connects again.
    suppress_lwt_on_session_takeover: bool = false, 0, 0, "suppress_lwt_on_session_takeover";
    /// Who of a shared group gets a message.
    shared_subscription_policy: SharedPolicy = SharedPolicy::PreferLocal, 0, 0, "shared_subscription_policy";
    /// What a publisher's acknowledgement waits for.
    publish_ack: PublishAck = PublishAck::Peers, 0, 0, "cluster.publish_ack";
    /// Levels of topics and filters; 0: no limit.
    topic_max_depth: usize = 10, 0, 65_535, "topic_max_depth";
    /// Bytes of topics and filters.
    max_topic_length: usize = 65_535, 1, 65_535, "max_topic_length";
    /// Topic aliases that a client may use.
    topic_alias_max_client: u16 = 0, 0, 65_535, "topic_alias_max_client";
    /// Topic aliases that the broker uses.
    topic_alias_max_broker: u16 = 0, 0, 65_535, "topic_alias_max_broker";
    /// Cap on the outgoing window of MQTT 5 sessions.
    receive_max_client: u16 = 65_535, 1, 65_535, "receive_max_client";
    /// Receive Maximum that the broker announces.
    receive_max_broker: u16 = 65_535, 1, 65_535, "receive_max_broker";
    /// Longest keep alive in seconds; 0: as the client asks.
    max_keep_alive: u16 = 0, 0, 65_535, "max_keep_alive";
    /// Milliseconds until CONNECT must have come.
    mqtt_connect_timeout: Millis = 5_000, 1, 3_600_000, "mqtt_connect_timeout";
    /// Disconnect an MQTT 3.1 client whose publish is refused.
    disconnect_on_unauthorized_publish_v3: bool = false, 0, 0, "disconnect_on_unauthorized_publish_v3";
    /// Retained messages of this node; 0: no limit.
    max_retained_messages: usize = 10_000_000, 0, i64::MAX, "max_retained_messages";
    /// Seconds between sweeps of expired retained messages; 0: only when the store is full.
    expire_retain_cache: u64 = 0, 0, YEAR_S, "expire_retain_cache";
    /// Bytes that wait for a slow reader before its messages queue.
    max_connection_buffer: usize = 262_144, 4_096, 1_073_741_824, "max_connection_buffer";
    /// Events that may wait for Python.
    event_queue_limit: usize = 100_000, 1, 100_000_000, "event_queue_limit";
    /// Bytes of messages in events that may wait for Python.
    event_queue_bytes: usize = 268_435_456, 4_096, i64::MAX, "event_queue_bytes";
    /// Requests that may wait for a verdict.
    max_pending_hooks: usize = 100_000, 1, 100_000_000, "max_pending_hooks";
    /// What messages that a bridge takes elsewhere are marked with; empty: they are not.
    bridge_mark: Arc<str> = Arc::from(""), 0, 128, "bridge_mark";
    /// Threads that check passwords whose hashes are slow on purpose.
    password_check_threads: usize = 1, 1, 64, "password_check_threads";
    /// Slow password checks that may wait; beyond that clients are refused as long as the server is busy.
    max_pending_password_checks: usize = 10_000, 1, 10_000_000, "max_pending_password_checks";
    /// Right passwords with slow hashes that are remembered; 0: none.
    password_cache_size: usize = 10_000, 0, 10_000_000, "password_cache_size";
    /// Milliseconds until a request without a verdict is refused.
    hook_timeout: Millis = 5_000, 1, 3_600_000, "plugins.hook_timeout";
    /// What has to happen before a message counts as kept.
    store_sync: SyncMode = SyncMode::Interval, 0, 0, "store.sync";
    /// Milliseconds between two syncs with `interval`.
    store_sync_interval: Millis = 1_000, 1, 60_000, "store.sync_interval";
    /// Bytes of the store's files; 0: no limit.
    store_max_bytes: u64 = 0, 0, i64::MAX, "store.max_bytes";
    /// Bytes of one file of the store.
    store_segment_bytes: u64 = 33_554_432, 65_536, 1_073_741_824, "store.segment_bytes";
    /// Memory for messages of clients that are away, beside the store.
    store_cache_bytes: usize = 33_554_432, 0, i64::MAX, "store.cache_bytes";
}

impl Settings {
    /// Largest packet that is accepted, in bytes.
    pub fn packet_size_max(&self) -> usize {
        if self.max_message_size == 0 { PACKET_SIZE_MAX as usize } else { self.max_message_size }
    }

    /// Queue limit of a session that is online or offline, in messages.
    pub fn queue_limit(&self, is_online: bool) -> usize {
        let limit = if is_online { self.max_online_messages } else { self.max_offline_messages };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Queue limit in bytes.
    pub fn queue_limit_bytes(&self) -> usize {
        if self.max_queued_bytes == 0 { usize::MAX } else { self.max_queued_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_range_is_refused_with_its_name_and_range() {
        let mut settings = Settings::default();
        let error = settings.set("max_inflight_messages", &Value::Int(70_000)).unwrap_err();
        assert_eq!(error.to_string(), "max_inflight_messages: expected a whole number from 0 to 65535, got Int(70000)");
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn the_values_of_the_defaults_set_the_defaults() {
        let mut settings = Settings::default();
        for (name, value) in Settings::default().values() {
            settings.set(name, &value).unwrap();
        }
        assert_eq!(settings, Settings::default());
    }
}
