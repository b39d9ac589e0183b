//! Which topics on the other side a message goes to.
//!
//! A message goes to each topic there once, whatever the number of rules that lead to it. Where subscriptions overlap in part
//! the sender may send one copy for each: the identifiers of the subscriptions tell which copy stands for which rules, so that
//! exactly one of them is forwarded to each topic.

/// The longest topic of MQTT, in bytes.
const TOPIC_SIZE_MAX: usize = 65_535;

/// Which way messages go, seen from this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the other broker, at the `QoS` of the rule.
    Out,
    /// From the other broker, at the `QoS` that it comes with, if the rule's is not below that.
    In,
}

/// A topic rule, as far as it is about one way.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What is left out in front of the topic, with the `/` behind it; may be empty.
    pub source_prefix: Box<str>,
    /// What is put there.
    pub target_prefix: Box<str>,
    /// What the rule is about behind the prefixes: a filter without a group.
    pub pattern: Box<str>,
    /// 0 to 2.
    pub qos: u8,
    /// Whether a retained message is forwarded as one.
    pub keeps_retain: bool,
}

/// A subscription on the side that messages come from, for some rules.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// From 1.
    pub identifier: u32,
    /// As it stands in SUBSCRIBE.
    pub wire_filter: Box<str>,
    /// Whether it is one of a group.
    pub is_shared: bool,
    /// The highest `QoS` of its rules.
    pub qos: u8,
    /// Whether Retain As Published is wanted.
    pub keeps_retain: bool,
    /// The rules that it is for.
    pub rules: Vec<Rule>,
}

/// What is published on the other side for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Its topic there.
    pub topic: String,
    /// 0 to 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
}

/// All subscriptions for one way.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The way.
    pub way: Way,
    /// The subscriptions.
    pub subscriptions: Vec<Subscription>,
}

/// What the rules that lead to one topic ask for, and the subscription whose copy is forwarded.
struct Wanted {
    forward: Forward,
    owner: u32,
    is_owner_certain: bool,
    owner_qos: u8,
}

impl Mapping {
    /// What to publish for a message. `through`: the identifiers of the subscriptions that this copy came through; none where
    /// the sender does not tell.
    pub fn forwards(&self, topic: &str, qos: u8, retain: bool, through: &[u32]) -> Vec<Forward> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for subscription in &self.subscriptions {
            for rule in &subscription.rules {
                if let Some(target) = rule.target(topic) {
                    want(&mut wanted, target, rule, subscription);
                }
            }
        }
        wanted
            .into_iter()
            .filter(|want| through.is_empty() || through.contains(&want.owner))
            .map(|want| Forward {
                qos: if self.way == Way::Out { want.forward.qos } else { want.forward.qos.min(qos) },
                retain: retain && want.forward.retain,
                topic: want.forward.topic,
            })
            .collect()
    }
}

fn want(wanted: &mut Vec<Wanted>, topic: String, rule: &Rule, subscription: &Subscription) {
    let is_certain = !subscription.is_shared;
    let Some(known) = wanted.iter_mut().find(|known| known.forward.topic == topic) else {
        let forward = Forward { topic, qos: rule.qos, retain: rule.keeps_retain };
        let owner = subscription.identifier;
        wanted.push(Wanted { forward, owner, is_owner_certain: is_certain, owner_qos: rule.qos });
        return;
    };
    known.forward.qos = known.forward.qos.max(rule.qos);
    known.forward.retain |= rule.keeps_retain;
    // A copy for a group may come to another member of it, so one that comes here for certain goes before it.
    if (is_certain, rule.qos) > (known.is_owner_certain, known.owner_qos) {
        known.owner = subscription.identifier;
        (known.is_owner_certain, known.owner_qos) = (is_certain, rule.qos);
    }
}

impl Rule {
    /// The topic on the other side; `None` where the rule does not apply. A topic that only a wildcard would put below `$` on the
    /// other side has no place there.
    pub fn target(&self, topic: &str) -> Option<String> {
        let Some(rest) = self.rest_of(topic) else {
            // "a/" before "#" matches the topic "a" too, which has no level behind the prefix.
            let parent =
                self.source_prefix.strip_suffix('/').filter(|parent| *parent == topic && &*self.pattern == "#");
            let target = self.target_prefix.strip_suffix('/');
            return parent.and(target).filter(|target| !target.is_empty()).map(str::to_owned);
        };
        let is_below_dollar = |prefix: &str| prefix.is_empty() && rest.starts_with('$');
        let is_wild = self.pattern.starts_with(['+', '#']);
        if is_wild && (is_below_dollar(&self.source_prefix) || is_below_dollar(&self.target_prefix)) {
            return None;
        }
        let is_topic = self.target_prefix.len() + rest.len();
        if is_topic == 0 || is_topic > TOPIC_SIZE_MAX || !matches(&self.pattern, rest) {
            return None;
        }
        let mut target = String::with_capacity(is_topic);
        target.push_str(&self.target_prefix);
        target.push_str(rest);
        Some(target)
    }

    fn rest_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&*self.source_prefix)
    }
}

/// Whether a filter matches the levels of a topic, whatever `$` they begin with.
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}
