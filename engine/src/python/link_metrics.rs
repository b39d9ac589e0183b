//! Metrics of the links to other nodes.

use std::sync::Arc;

use crate::peer::{Figures, PeerInfo, PeerLink};

use super::records::Metric;

/// What the links count all together, and what they are like now.
pub(super) fn sums(figures: &Figures, events_waiting: u64, events_dropped: u64) -> Vec<Metric> {
    let Figures { counts, dropped, .. } = figures;
    let counters = [
        ("cluster_bytes_received", counts.bytes_received, "Bytes received from other nodes."),
        ("cluster_bytes_sent", counts.bytes_sent, "Bytes sent to other nodes."),
        ("cluster_bytes_dropped", dropped.bytes, "Bytes for other nodes that were dropped."),
        ("cluster_messages_sent", counts.messages_sent, "Clients' messages for other nodes."),
        ("cluster_messages_received", counts.messages_received, "Clients' messages from other nodes."),
        ("cluster_control_sent", counts.control_sent, "Control and metadata messages sent to other nodes."),
        ("cluster_control_received", counts.control_received, "Control and metadata messages from other nodes."),
        (
            "cluster_control_dropped",
            figures.messages_turned_away,
            "Control and metadata messages that no connection could take, or that were lost with one.",
        ),
        (
            "cluster_events_dropped",
            events_dropped,
            "Events of links dropped because too many waited for the control plane.",
        ),
        ("cluster_peer_up", counts.ups, "Times that a peer became reachable."),
        ("cluster_peer_down", counts.downs, "Times that a peer was reachable no more."),
        ("cluster_dials", counts.dials, "Connections to other nodes that were begun."),
        ("cluster_dial_errors", counts.dial_failures, "Those that failed before they were ready."),
        ("cluster_silences", counts.silences, "Connections given up because no heartbeat came back in time."),
        ("cluster_accepts", figures.accepted, "Connections that came in on cluster listeners."),
        ("cluster_accept_errors", figures.refused, "Those that were not let in."),
        (
            "cluster_accepts_crowded_out",
            figures.crowded_out,
            "Those among them that had to make room for newer ones before they had said who they are.",
        ),
        (
            "cluster_accepts_held_back",
            figures.held_back,
            "Times that connections had to wait because a cluster listener had as many as it may (max_connections).",
        ),
    ];
    let gauges = [
        ("cluster_peers", figures.peers as u64, "Other nodes that are peers of this one."),
        ("cluster_peers_reachable", figures.reachable as u64, "Those among them that are reachable."),
        ("cluster_held_bytes", figures.held_bytes as u64, "Bytes of messages held for other nodes."),
        ("cluster_events_waiting", events_waiting, "Events of links that wait for the control plane."),
    ];
    let dropped_by_qos = dropped.messages.iter().zip(["0", "1", "2"]).map(|(value, qos)| {
        let description = "Clients' messages for other nodes that were dropped.";
        metric("counter", Some(("qos", qos)), ("cluster_messages_dropped", *value, description))
    });
    let counters = counters.map(|figure| metric("counter", None, figure));
    let gauges = gauges.map(|figure| metric("gauge", None, figure));
    counters.into_iter().chain(gauges).chain(dropped_by_qos).collect()
}

/// What waits for each peer, under a label with its name. A guest is no peer.
pub(super) fn of_peers(links: &[Arc<PeerLink>]) -> Vec<Metric> {
    let peers = links.iter().filter(|link| link.index().is_some());
    peers.map(|link| link.info()).flat_map(|info| gauges_of_peer(&info)).collect()
}

fn gauges_of_peer(info: &PeerInfo) -> [Metric; 2] {
    let gauges = [
        (
            "cluster_peer_oldest_age_ms",
            info.oldest_age_ms,
            "Milliseconds that the oldest messages of QoS 1 and 2 have waited which another node has not acknowledged.",
        ),
        ("cluster_peer_held_bytes", info.held_bytes as u64, "Bytes of messages held for another node."),
    ];
    gauges.map(|figure| metric("gauge", Some(("peer", &info.name)), figure))
}

/// A metric of a name, a value and a description, perhaps under a label.
fn metric(kind: &str, label: Option<(&str, &str)>, (name, value, description): (&str, u64, &str)) -> Metric {
    Metric {
        name: name.to_owned(),
        kind: kind.to_owned(),
        labels: label.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        value,
        description: description.to_owned(),
    }
}
