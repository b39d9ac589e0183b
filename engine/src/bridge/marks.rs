//! How a message says through which brokers it came: one user property a broker, so that it does not go round in circles.
//!
//! Brokers that speak MQTT 5 pass user properties on, so marks outlive brokers of other kinds on the way.

use crate::codec::UserProperties;

/// The user property of a PUBLISH with the mark of a broker that the message came through.
pub const VIA: &str = "strogoff-via";
/// The user property with which a bridge asks for the mark of a broker, and that broker tells it.
pub const CLUSTER: &str = "strogoff-cluster";
/// Bytes of a mark.
pub const MARK_SIZE_MAX: usize = 128;
/// Marks of one message. One that has more goes round in a circle that nobody in it notices.
pub(super) const MARKS_MAX: usize = 32;

/// A user property as it stands in a property list. Longer strings than MQTT has are cut.
pub fn user_property(name: &str, value: &str) -> Vec<u8> {
    let mut encoded = vec![0x26];
    for text in [name, value] {
        let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
        encoded.extend((bytes.len() as u16).to_be_bytes());
        encoded.extend_from_slice(bytes);
    }
    encoded
}

/// Whether a message has one of these marks. `properties`: its property list.
pub fn is_marked(properties: &[u8], marks: &[&str]) -> bool {
    if properties.is_empty() || memchr::memmem::find(properties, VIA.as_bytes()).is_none() {
        return false;
    }
    let mut count = 0;
    for (name, value) in UserProperties::Encoded(properties) {
        if name == VIA {
            count += 1;
            if count > MARKS_MAX || marks.contains(&value) {
                return true;
            }
        }
    }
    false
}
