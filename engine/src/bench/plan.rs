//! Who the clients of a run are: their settings, topics and topic filters.

use super::link::Link;
use super::options::{Options, Workload};
use super::publisher::MessageShape;
use crate::codec::ProtocolVersion;
use crate::protocol::client::ClientSettings;

/// Bytes of a packet beyond its payload that are accepted, topic and properties included.
const PACKET_OVERHEAD: u32 = 1 << 20;

/// Names and settings of a run's clients.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What was asked for.
    pub options: &'a Options,
    /// The mark of this run; it is in topics and client ids, so that runs do not meet.
    pub run: u32,
}

impl Plan<'_> {
    /// A plan with a mark of its own.
    pub fn new(options: &Options) -> Plan<'_> {
        let seed = super::clock::now() ^ (u64::from(std::process::id()) << 32);
        let run = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        Plan { options, run }
    }

    /// How messages look.
    pub fn shape(&self) -> MessageShape {
        let Options { version, qos, retain, size, .. } = *self.options;
        MessageShape { version, qos, retain, size }
    }

    /// A topic below the prefix of the options and the mark of the run.
    pub fn topic(&self, rest: &str) -> String {
        format!("{}/{:08x}/{rest}", self.options.topic_prefix, self.run)
    }

    /// A filter, shared if that is asked for.
    pub fn filter(&self, filter: &str) -> Box<str> {
        if self.options.share { format!("$share/bench/{filter}").into() } else { filter.into() }
    }

    /// A client; `name` tells it from the others. `keeps_session`: its session outlives its connection.
    pub fn link(&self, name: &str, filter: Option<Box<str>>, keeps_session: bool) -> Link {
        Link::new(self.settings(name, keeps_session || !self.options.clean), filter)
    }

    fn settings(&self, name: &str, keeps_session: bool) -> ClientSettings {
        let options = self.options;
        let mut client_id = format!("{}-{:08x}-{name}", options.client_id_prefix, self.run);
        if options.version == ProtocolVersion::V3_1 && client_id.len() > 23 && options.client_id_prefix == "bench" {
            // 3.1 allows 23 characters.
            client_id = format!("b{:08x}-{name}", self.run);
        }
        ClientSettings {
            version: options.version,
            client_id,
            clean_start: !keeps_session,
            keep_alive_s: options.keep_alive,
            session_expiry_s: if keeps_session { Options::SESSION_EXPIRY_S } else { 0 },
            username: options.username.clone(),
            password: options.password.clone().map(String::into_bytes),
            send_window: options.window,
            packet_size_max: options.size as u32 + PACKET_OVERHEAD,
            ..ClientSettings::default()
        }
    }

    /// The topic of publisher `i` of a traffic run.
    pub fn publish_topic(&self, i: u32) -> String {
        match self.options.workload {
            Workload::FanOut => self.topic("all"),
            Workload::Rr => self.topic(&format!("request/{i}")),
            _ => self.topic(&i.to_string()),
        }
    }

    /// The filter of subscriber `i` of a traffic run.
    pub fn subscribe_filter(&self, i: u32) -> Box<str> {
        match self.options.workload {
            Workload::Sub => match &self.options.topic {
                Some(topic) => self.filter(topic),
                None => self.filter(&format!("{}/#", self.options.topic_prefix)),
            },
            Workload::FanIn => self.filter(&self.topic("#")),
            Workload::FanOut => self.filter(&self.topic("all")),
            Workload::Rr => self.topic(&format!("request/{i}")).into(),
            _ => self.filter(&self.topic(&i.to_string())),
        }
    }
}
