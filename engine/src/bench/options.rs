//! What a run is asked to do: workloads and options with their defaults and limits.
//!
//! Options come as names and values, the long options of `strogoff bench` with underscores; an unknown name or a value out
//! of range is an error that says what was expected.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::clock::{Nanos, SECOND, from_seconds, to_seconds};
use super::stamp::STAMP_SIZE;
use crate::codec::{ProtocolVersion, QoS};

/// What traffic a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Publishers alone.
    Pub,
    /// Subscribers alone, for what others publish.
    Sub,
    /// Connections.
    Conn,
    /// Publisher i to subscriber i.
    P2p,
    /// All publishers to each subscriber.
    FanIn,
    /// All publishers on one topic that all subscribers have.
    FanOut,
    /// Requests and their answers.
    Rr,
    /// Messages for sessions whose client is away.
    Offline,
    /// Retained messages.
    Retained,
}

impl Workload {
    /// All, with the names they are asked for by.
    pub const ALL: [(&'static str, Self); 9] = [
        ("pub", Self::Pub),
        ("sub", Self::Sub),
        ("conn", Self::Conn),
        ("p2p", Self::P2p),
        ("fanin", Self::FanIn),
        ("fanout", Self::FanOut),
        ("rr", Self::Rr),
        ("offline", Self::Offline),
        ("retained", Self::Retained),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, workload)| *workload == self).map_or("", |(name, _)| name)
    }

    /// Whether it goes on for a duration.
    pub fn lasts(self) -> bool {
        !matches!(self, Self::Conn | Self::Offline | Self::Retained)
    }

    fn parse(name: &str) -> Result<Self, OptionError> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, workload)| *workload).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
            OptionError(format!("workload: '{name}' is none of {}", known.join(", ")))
        })
    }
}

/// The value of an option as it comes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// Words.
    Text(String),
    /// Yes or no.
    Flag(bool),
}

/// What is wrong with an option; begins with its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(pub String);

/// A checked set of options. Times are in nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What traffic to make.
    pub workload: Workload,
    /// Name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The version to speak.
    pub version: ProtocolVersion,
    /// `QoS` of messages and subscriptions.
    pub qos: QoS,
    /// Whether messages are published as retained.
    pub retain: bool,
    /// Bytes of a payload.
    pub size: usize,
    /// Messages to publish in all; 0: as many as fit into `duration`.
    pub count: u64,
    /// How long is measured.
    pub duration: Nanos,
    /// How long the traffic runs before that.
    pub warmup: Nanos,
    /// Messages per second in all; 0: as many as can be.
    pub rate: f64,
    /// Deliveries that may be under way in all; 0: any number.
    pub outstanding: u64,
    /// Unacknowledged messages of a publisher.
    pub window: u16,
    /// How many publishers.
    pub publishers: u32,
    /// How many subscribers.
    pub subscribers: u32,
    /// How many clients `conn` connects.
    pub connections: u32,
    /// Messages of `offline` (for each session) and `retained` (in all).
    pub messages: u32,
    /// How many connections are set up at a time.
    pub concurrency: u32,
    /// How long `conn` holds its connections.
    pub hold: Nanos,
    /// Whether clients ask for a clean session.
    pub clean: bool,
    /// User name of all clients.
    pub username: Option<String>,
    /// Password of all clients.
    pub password: Option<String>,
    /// What topics begin with.
    pub topic_prefix: String,
    /// What client ids begin with.
    pub client_id_prefix: String,
    /// The topic filter of `sub`, instead of everything below the prefix.
    pub topic: Option<String>,
    /// Seconds.
    pub keep_alive: u16,
    /// Whether the clients of `conn` subscribe, each to a topic of its own.
    pub subscribe: bool,
    /// Whether subscribers share one subscription.
    pub share: bool,
    /// How long to wait for messages that do not come.
    pub drain: Nanos,
    /// The whole run ends after this time.
    pub max_time: Nanos,
    /// How long to pause after small reads when as much as possible is sent; 0: not at all.
    pub coalesce: Nanos,
    /// A process of the broker, to measure what it uses.
    pub pid: Option<u32>,
    /// Whether clients connect over TLS.
    pub tls: bool,
    /// PEM file with who may have signed the broker's certificate; none: any certificate is taken.
    pub cafile: Option<String>,
    /// The only version of TLS: 1.2 or 1.3.
    pub tls_version: Option<String>,
    /// The only cipher suite, by its standard name.
    pub cipher: Option<String>,
    /// Whether a client that comes back may resume its TLS session.
    pub resume: bool,
    /// Whether clients connect over WebSocket.
    pub websocket: bool,
}

/// Connections of one run, at most: the descriptors that a process may have are the limit before.
pub const CONNECTIONS_MAX: u32 = 1_000_000;
/// Pairs of a publisher and a subscriber whose order is followed, at most: each takes 40 bytes.
const PAIRS_MAX: u64 = 1_000_000;
/// Bytes of all payload templates, at most.
const TEMPLATES_MAX: u64 = 256 << 20;
/// Days would fit, but a run that is forgotten should end.
const TIME_MAX_S: f64 = 86_400.0;

struct Reader<'a> {
    given: BTreeMap<&'a str, &'a Given>,
}

impl Reader<'_> {
    fn integer(&mut self, name: &str, default: i64, range: RangeInclusive<i64>) -> Result<i64, OptionError> {
        let value = match self.given.remove(name) {
            None => default,
            Some(Given::Integer(value)) => *value,
            Some(_) => return Err(OptionError(format!("{name}: expected a whole number"))),
        };
        if range.contains(&value) {
            return Ok(value);
        }
        Err(OptionError(format!("{name}: {value} is not between {} and {}", range.start(), range.end())))
    }

    fn small(&mut self, name: &str, default: u32, range: RangeInclusive<u32>) -> Result<u32, OptionError> {
        let range = i64::from(*range.start())..=i64::from(*range.end());
        Ok(u32::try_from(self.integer(name, i64::from(default), range)?).unwrap_or(default))
    }

    fn number(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64, OptionError> {
        let value = match self.given.remove(name) {
            None => default,
            #[allow(clippy::cast_precision_loss)] // a number that large is out of every range
            Some(Given::Integer(value)) => *value as f64,
            Some(Given::Number(value)) => *value,
            Some(_) => return Err(OptionError(format!("{name}: expected a number"))),
        };
        if range.contains(&value) {
            return Ok(value);
        }
        Err(OptionError(format!("{name}: {value} is not between {} and {}", range.start(), range.end())))
    }

    fn time(&mut self, name: &str, default_s: f64, range: RangeInclusive<f64>) -> Result<Nanos, OptionError> {
        self.number(name, default_s, range).map(from_seconds)
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool, OptionError> {
        match self.given.remove(name) {
            None => Ok(default),
            Some(Given::Flag(value)) => Ok(*value),
            Some(_) => Err(OptionError(format!("{name}: expected true or false"))),
        }
    }

    fn text(&mut self, name: &str, size_max: usize) -> Result<Option<String>, OptionError> {
        match self.given.remove(name) {
            None => Ok(None),
            Some(Given::Text(text)) if text.len() <= size_max && !text.contains('\0') => Ok(Some(text.clone())),
            Some(Given::Text(_)) => {
                Err(OptionError(format!("{name}: expected at most {size_max} bytes without a null")))
            }
            Some(_) => Err(OptionError(format!("{name}: expected text"))),
        }
    }
}

impl Options {
    /// Checks options. What is not given has its default, which depends on the workload.
    pub fn new(workload: &str, given: &[(String, Given)]) -> Result<Self, OptionError> {
        let workload = Workload::parse(workload)?;
        let mut reader = Reader { given: given.iter().map(|(name, value)| (name.as_str(), value)).collect() };
        let options = Self::read(workload, &mut reader)?;
        if let Some(name) = reader.given.keys().next() {
            return Err(OptionError(format!("{name}: there is no such option")));
        }
        options.check()?;
        Ok(options)
    }

    fn read(workload: Workload, reader: &mut Reader<'_>) -> Result<Self, OptionError> {
        let version = match reader.integer("version", 4, 3..=5)? {
            3 => ProtocolVersion::V3_1,
            4 => ProtocolVersion::V3_1_1,
            _ => ProtocolVersion::V5,
        };
        let qos = reader.integer("qos", i64::from(workload == Workload::Offline), 0..=2)?;
        let (publishers, subscribers) = read_clients(workload, reader)?;
        let outstanding = reader.integer("outstanding", -1, -1..=1_000_000_000)?;
        let rate = reader.number("rate", 0.0, 0.0..=100e6)?;
        let duration = reader.time("duration", 5.0, 0.05..=TIME_MAX_S)?;
        let warmup = reader.time("warmup", 0.0, 0.0..=3_600.0)?;
        let default_max_time_s = to_seconds(warmup + duration + 60 * SECOND).max(300.0);
        Ok(Self {
            workload,
            host: reader.text("host", 255)?.unwrap_or_else(|| "127.0.0.1".into()),
            port: u16::try_from(reader.integer("port", 1_883, 1..=65_535)?).unwrap_or(1_883),
            version,
            qos: QoS::from_u8(u8::try_from(qos).unwrap_or(0)).unwrap_or_default(),
            retain: reader.flag("retain", workload == Workload::Retained)?,
            size: reader.small("size", 100, STAMP_SIZE as u32..=16 << 20)? as usize,
            count: u64::try_from(reader.integer("count", 0, 0..=1_000_000_000_000)?).unwrap_or(0),
            duration,
            warmup,
            rate,
            outstanding: u64::try_from(outstanding)
                .unwrap_or_else(|_| default_outstanding(workload, rate, publishers, subscribers)),
            window: u16::try_from(reader.integer("window", 100, 1..=65_535)?).unwrap_or(100),
            publishers,
            subscribers,
            connections: reader.small("connections", 1_000, 1..=CONNECTIONS_MAX)?,
            messages: reader.small("messages", default_messages(workload), 1..=10_000_000)?,
            concurrency: reader.small("concurrency", 64, 1..=10_000)?,
            hold: reader.time("hold", 1.0, 0.0..=TIME_MAX_S)?,
            clean: reader.flag("clean", true)?,
            username: reader.text("username", 1_024)?,
            password: reader.text("password", 1_024)?,
            topic_prefix: reader.text("topic_prefix", 1_024)?.unwrap_or_else(|| "bench".into()),
            client_id_prefix: reader.text("client_id_prefix", 128)?.unwrap_or_else(|| "bench".into()),
            topic: reader.text("topic", 1_024)?,
            keep_alive: u16::try_from(reader.integer("keep_alive", 60, 0..=65_535)?).unwrap_or(60),
            subscribe: reader.flag("subscribe", false)?,
            share: reader.flag("share", false)?,
            drain: reader.time("drain", 2.0, 0.0..=600.0)?,
            max_time: reader.time("max_time", default_max_time_s, 1.0..=2.0 * TIME_MAX_S)?,
            coalesce: Nanos::from(reader.small("coalesce_us", 200, 0..=100_000)?) * 1_000,
            pid: Some(reader.small("pid", 0, 0..=u32::MAX)?).filter(|pid| *pid > 0),
            tls: reader.flag("tls", false)?,
            cafile: reader.text("cafile", 4_096)?,
            tls_version: reader.text("tls_version", 8)?,
            cipher: reader.text("cipher", 64)?,
            resume: reader.flag("resume", false)?,
            websocket: reader.flag("websocket", false)?,
        })
    }

    /// What single ranges do not say.
    fn check(&self) -> Result<(), OptionError> {
        let pairs = u64::from(self.publishers) * u64::from(self.subscribers);
        if matches!(self.workload, Workload::FanIn | Workload::FanOut) && pairs > PAIRS_MAX {
            return Err(OptionError(format!("publishers, subscribers: {pairs} pairs, the limit is {PAIRS_MAX}")));
        }
        if u64::from(self.publishers) * self.size as u64 > TEMPLATES_MAX {
            return Err(OptionError(format!(
                "size: {} publishers with payloads of {} bytes take more than {} MiB",
                self.publishers,
                self.size,
                TEMPLATES_MAX >> 20
            )));
        }
        if self.workload == Workload::Offline && self.qos == QoS::AtMostOnce {
            return Err(OptionError("qos: offline needs 1 or 2, a broker need not keep messages of QoS 0".into()));
        }
        if self.workload == Workload::Offline && u64::from(self.messages) * u64::from(self.subscribers) > 1 << 31 {
            return Err(OptionError("messages: more than 2^31 messages in all".into()));
        }
        for (name, text) in [("topic_prefix", &self.topic_prefix), ("client_id_prefix", &self.client_id_prefix)] {
            if text.is_empty() || text.contains(['#', '+']) {
                return Err(OptionError(format!("{name}: expected text without '+' and '#'")));
            }
        }
        if self.topic_prefix.starts_with('$') {
            return Err(OptionError("topic_prefix: topics that begin with '$' belong to the broker".into()));
        }
        if let Some(topic) = &self.topic {
            crate::codec::text::validate_subscription_filter(topic)
                .map_err(|error| OptionError(format!("topic: the filter {}", error.detail())))?;
        }
        if self.version != ProtocolVersion::V5 && self.password.is_some() && self.username.is_none() {
            return Err(OptionError("password: before version 5 there is no password without a user name".into()));
        }
        let asks_for_tls = self.cafile.is_some() || self.tls_version.is_some() || self.cipher.is_some() || self.resume;
        if asks_for_tls && !self.tls {
            return Err(OptionError("tls: cafile, tls_version, cipher and resume have no meaning without it".into()));
        }
        let is_timed = self.count == 0 && self.workload.lasts();
        if is_timed && self.max_time < self.warmup + self.duration {
            return Err(OptionError("max_time: is over before warmup and duration are".into()));
        }
        Ok(())
    }

    /// Seconds of session expiry that clients of version 5 ask for when their session has to outlive its connection.
    pub const SESSION_EXPIRY_S: u32 = 3_600;

    /// Whether as much as possible is sent, so that a pause costs no latency that anybody measures.
    pub fn is_saturating(&self) -> bool {
        self.rate <= 0.0 && self.workload != Workload::Rr
    }
}

fn read_clients(workload: Workload, reader: &mut Reader<'_>) -> Result<(u32, u32), OptionError> {
    let (publishers, subscribers) = match workload {
        Workload::Pub => (1, 0),
        Workload::Sub => (0, 1),
        Workload::Conn => (0, 0),
        Workload::P2p | Workload::Rr => {
            let pairs = reader.small("pairs", 1, 1..=CONNECTIONS_MAX / 2)?;
            return Ok((pairs, pairs));
        }
        Workload::FanIn => (50, 1),
        Workload::FanOut => (1, 50),
        Workload::Offline => (4, 100),
        Workload::Retained => (4, 1),
    };
    let mut read = |name: &str, default: u32| match default {
        0 => Ok(0),
        _ => reader.small(name, default, 1..=CONNECTIONS_MAX / 2),
    };
    Ok((read("publishers", publishers)?, read("subscribers", subscribers)?))
}

fn default_messages(workload: Workload) -> u32 {
    if workload == Workload::Retained { 20_000 } else { 200 }
}

/// Deliveries under way for one subscriber: enough to keep it busy, and half of what brokers queue for a client unless they
/// are told otherwise (1,000 messages with `VerneMQ` and mosquitto).
const OUTSTANDING_EACH: u64 = 500;

/// Only a closed loop has a limit of its own; a fixed rate and lone publishers or subscribers have none.
fn default_outstanding(workload: Workload, rate: f64, publishers: u32, subscribers: u32) -> u64 {
    match workload {
        Workload::Rr if rate <= 0.0 => u64::from(publishers),
        Workload::P2p | Workload::FanIn | Workload::FanOut if rate <= 0.0 => u64::from(subscribers) * OUTSTANDING_EACH,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(workload: &str, given: &[(&str, Given)]) -> Result<Options, String> {
        let given: Vec<_> = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Options::new(workload, &given).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_depend_on_the_workload() {
        let fanin = options("fanin", &[]).unwrap();
        assert_eq!((fanin.publishers, fanin.subscribers, fanin.qos), (50, 1, QoS::AtMostOnce));
        assert_eq!(options("offline", &[]).unwrap().qos, QoS::AtLeastOnce);
        assert!(options("retained", &[]).unwrap().retain);
        assert_eq!(options("p2p", &[("pairs", Given::Integer(7))]).unwrap().subscribers, 7);
    }

    #[test]
    fn errors_name_the_option_and_what_was_expected() {
        let cases = [
            ("fly", vec![], "workload: 'fly' is none of pub, sub, conn"),
            ("pub", vec![("speed", Given::Integer(1))], "speed: there is no such option"),
            ("pub", vec![("pairs", Given::Integer(1))], "pairs: there is no such option"),
            ("pub", vec![("qos", Given::Integer(3))], "qos: 3 is not between 0 and 2"),
            ("pub", vec![("qos", Given::Text("1".into()))], "qos: expected a whole number"),
            ("pub", vec![("size", Given::Integer(1))], "size: 1 is not between 24 and"),
            ("pub", vec![("rate", Given::Number(f64::NAN))], "rate: NaN is not between"),
            ("pub", vec![("clean", Given::Integer(1))], "clean: expected true or false"),
            ("pub", vec![("topic_prefix", Given::Text("a/#".into()))], "topic_prefix: expected text without"),
            ("pub", vec![("topic_prefix", Given::Text("$SYS".into()))], "topic_prefix: topics that begin with '$'"),
            ("sub", vec![("topic", Given::Text("a/#/b".into()))], "topic: the filter has '#'"),
            (
                "p2p",
                vec![("duration", Given::Integer(10)), ("max_time", Given::Number(9.5))],
                "max_time: is over before warmup and duration are",
            ),
            ("offline", vec![("qos", Given::Integer(0))], "qos: offline needs 1 or 2"),
            ("pub", vec![("password", Given::Text("x".into()))], "password: before version 5"),
            (
                "fanin",
                vec![("publishers", Given::Integer(2_000)), ("subscribers", Given::Integer(2_000))],
                "publishers, subscribers: 4000000 pairs",
            ),
            (
                "fanin",
                vec![("publishers", Given::Integer(20)), ("size", Given::Integer(16 << 20))],
                "size: 20 publishers with payloads of 16777216 bytes take more than 256 MiB",
            ),
        ];
        for (workload, given, expected) in cases {
            let error = options(workload, &given).unwrap_err();
            assert!(error.starts_with(expected), "{error:?} instead of {expected:?}");
        }
    }
}
