//! What Python is told of metrics: the counters of the node, and gauges that are read when they are asked for.

use std::collections::HashMap;

use crate::net::Workers;

use super::engine::Engine;
use super::records::Metric;
use super::store;

impl Engine {
    pub(super) fn all_metrics(&self) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = self
            .node
            .metrics
            .samples()
            .into_iter()
            .map(|sample| Metric {
                name: sample.name.to_owned(),
                kind: "counter".to_owned(),
                labels: sample.labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                value: sample.value,
                description: sample.description.to_owned(),
            })
            .collect();
        let single = |kind: &'static str| {
            move |(name, value, description): (&'static str, usize, &'static str)| Metric {
                name: name.to_owned(),
                kind: kind.to_owned(),
                labels: HashMap::new(),
                value: value as u64,
                description: description.to_owned(),
            }
        };
        metrics.extend(self.gauges().into_iter().map(single("gauge")));
        metrics.extend(self.cluster.metrics(&self.node));
        if let Some(store) = self.node.store() {
            let figures = store.figures();
            metrics.extend(store::counters(&figures).into_iter().map(single("counter")));
            metrics.extend(store::gauges(&figures, store).into_iter().map(single("gauge")));
            metrics.extend(store::operation_errors(&figures));
        }
        metrics
    }

    fn gauges(&self) -> Vec<(&'static str, usize, &'static str)> {
        let connections = self.workers.get().map_or(0, Workers::connections);
        let websockets = self.workers.get().map_or(0, Workers::websockets).min(connections);
        let (router_len, router_memory) = {
            let router = self.node.router.read();
            (router.len(), router.memory_bytes())
        };
        let queues = self.node.queue_figures();
        let (retained_len, retained_memory) = {
            let retained = self.node.retained.read();
            (retained.len(), retained.memory_bytes())
        };
        vec![
            ("router_subscriptions", router_len, "Subscriptions in the routing table."),
            ("router_memory", router_memory, "Memory of the routing table in bytes."),
            ("retain_messages", retained_len, "Retained messages held."),
            ("retain_memory", retained_memory, "Memory of the index of retained messages in bytes."),
            ("queue_processes", self.node.registry.len(), "Sessions, online and offline."),
            ("queue_messages", queues.messages, "Messages in the queues of all sessions, those under way included."),
            ("queue_oldest_age_s", queues.oldest_age_s, "Seconds that the oldest message has waited in a queue."),
            ("active_mqtt_connections", connections - websockets, "Open connections on tcp and ssl listeners."),
            ("active_mqttws_connections", websockets, "Open connections on ws and wss listeners."),
            ("total_active_connections", connections, "Open connections on all MQTT listeners."),
            ("events_waiting", self.node.events.len(), "Events that wait for the control plane."),
            ("hooks_waiting", self.node.open_tickets(), "Requests that wait for a verdict of a plugin."),
        ]
    }
}
