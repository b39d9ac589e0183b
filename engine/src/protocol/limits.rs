//! Limits that a verdict gave one client in place of the settings.

use std::borrow::Cow;
use std::sync::Arc;

use crate::settings::{SettingError, Settings, Value};

use super::Context;

/// Settings that a verdict may override, by the names of their keys.
pub const OVERRIDABLE: [&str; 12] = [
    "max_message_size",
    "max_message_rate",
    "max_inflight_messages",
    "max_online_messages",
    "max_offline_messages",
    "max_subscriptions_per_client",
    "queue_type",
    "upgrade_outgoing_qos",
    "topic_alias_max_client",
    "topic_alias_max_broker",
    "receive_max_client",
    "receive_max_broker",
];

/// What one client has in place of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits(Vec<(&'static str, Value)>);

impl SessionLimits {
    /// Takes a limit, in the range of the setting that it stands for.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), SettingError> {
        Settings::default().set(name, &value)?;
        let known = OVERRIDABLE.iter().find(|known| **known == name);
        let known = known.ok_or_else(|| SettingError::Unknown(name.to_owned()))?;
        self.0.push((known, value));
        Ok(())
    }

    /// All limits by the names of the settings.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The settings with these limits in their places.
    pub fn over<'a>(&self, settings: &'a Settings) -> Cow<'a, Settings> {
        if self.is_empty() {
            return Cow::Borrowed(settings);
        }
        let mut own = settings.clone();
        for (name, value) in &self.0 {
            let taken = own.set(name, value);
            debug_assert!(taken.is_ok(), "it was checked when it was set");
        }
        Cow::Owned(own)
    }
}

/// The settings that hold for a session: its own where it has some. Those are the settings of the time when its client
/// connected, with the limits of the verdict.
#[inline]
pub(super) fn in_force<'a>(own: Option<&'a Arc<Settings>>, cx: &'a Context) -> &'a Settings {
    own.map_or(&cx.settings, |own| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_take_the_place_of_the_settings() {
        let settings = Settings::default();
        let mut limits = SessionLimits::default();
        assert!(matches!(limits.over(&settings), Cow::Borrowed(_)));
        limits.set("max_online_messages", Value::Int(7)).unwrap();
        let own = limits.over(&settings);
        assert_eq!((own.max_online_messages, own.max_offline_messages), (7, settings.max_offline_messages));
    }

    #[test]
    fn what_is_out_of_range_or_nobodys_to_limit_is_refused() {
        let mut limits = SessionLimits::default();
        assert!(limits.set("max_inflight_messages", Value::Int(65_536)).is_err());
        assert!(limits.set("event_queue_limit", Value::Int(5)).is_err());
        assert!(limits.is_empty());
    }

    #[test]
    fn every_limit_is_a_setting() {
        let known = Settings::default().values();
        assert!(OVERRIDABLE.iter().all(|name| known.iter().any(|(setting, _)| setting == name)));
    }
}
