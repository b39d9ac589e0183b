//! What a subscription is: who subscribed, and with which options.

/// A local session, or another node, as routing sees it. Cloning must be cheap: a route owns clones of what it found.
pub trait Subscriber: Clone {
    /// Identifies the session on this node; two subscribers with the same id are the same session.
    fn id(&self) -> u64;

    /// Whether a client is connected to the session now, or the node can be reached. Only shared groups ask.
    fn is_online(&self) -> bool;

    /// Whether other nodes are told what it subscribes to. Not so for one of these, and for whoever keeps to its own node.
    fn is_announced(&self) -> bool {
        true
    }
}

/// The options of one subscription, as far as delivery depends on them (MQTT 5.0 §3.8.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Maximum quality of service granted, 0 to 2.
    pub qos: u8,
    /// Messages are not sent to the session that published them ([MQTT-3.8.3-3]).
    pub no_local: bool,
    /// The RETAIN flag is forwarded as it was published ([MQTT-3.3.1-13]).
    pub retain_as_published: bool,
    /// Subscription Identifier, 0 for none.
    pub identifier: u32,
}

const QOS: u8 = 0b11;
const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;

impl SubscriptionOptions {
    /// The options as one byte, as in SUBSCRIBE. The identifier is not among them.
    pub fn to_byte(self) -> u8 {
        let mut byte = self.qos & QOS;
        byte |= if self.no_local { NO_LOCAL } else { 0 };
        byte | if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
    }

    /// The options from their byte.
    pub fn from_byte(byte: u8, identifier: u32) -> Self {
        let (no_local, retain_as_published) = (byte & NO_LOCAL != 0, byte & RETAIN_AS_PUBLISHED != 0);
        Self { qos: (byte & QOS).min(2), no_local, retain_as_published, identifier }
    }
}

/// One subscriber of one filter, directly or as a member of a shared group.
#[derive(Debug, Clone)]
pub struct Member<S> {
    /// Who receives.
    pub subscriber: S,
    /// How.
    pub options: SubscriptionOptions,
}

/// The members of a shared group on another node, which chooses among them.
#[derive(Debug, Clone)]
pub struct RemoteMembers<S> {
    /// The node.
    pub node: S,
    /// How many there are.
    pub count: u32,
    /// Whether a client of one of them is connected.
    pub has_online: bool,
}
