//! Every rule of matching, merging and choosing by example, and the sizes at which a naive structure would fail.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// Ids of the direct subscribers of a topic.
fn reached(trie: &SubscriptionTrie<Session>, topic: &str) -> Vec<u64> {
    let mut route = Route::new();
    trie.route(topic, &mut route);
    route.targets.iter().map(|target| target.subscriber.id()).collect()
}

const MATCHES: &[(&str, &str, bool)] = &[
    ("a/b", "a/b", true),
    ("a/b", "a/B", false),
    ("a/b", "a", false),
    ("a", "a/b", false),
    ("a/b", "a/b/", false),
    ("/a", "a", false),
    ("/", "/", true),
    ("+", "a", true),
    ("+", "", true),
    ("+", "a/b", false),
    ("+/+", "/a", true),
    ("/+", "/a", true),
    ("+", "/a", false),
    ("a/+", "a", false),
    ("a/+", "a/", true),
    ("a/+/c", "a//c", true),
    ("a/+/c", "a/b/d", false),
    ("+/b/+", "a/b/c", true),
    ("#", "a", true),
    ("#", "/", true),
    ("#", "a/b/c", true),
    ("a/#", "a", true),
    ("a/#", "a/", true),
    ("a/#", "a/b/c", true),
    ("a/#", "ab", false),
    ("a/+/#", "a", false),
    ("a/+/#", "a/b", true),
    ("+/#", "a", true),
    ("#", "$SYS/a", false),
    ("+/a", "$SYS/a", false),
    ("+/#", "$SYS", false),
    ("$SYS/#", "$SYS/a", true),
    ("$SYS/#", "$SYS", true),
    ("$SYS/+", "$SYS/a", true),
    ("a/+", "a/$b", true),
    ("a/#", "a/$b", true),
    ("/+", "/$b", true),
    // Malformed filters are literal text where the wildcard does not stand alone in its place.
    ("a+", "ab", false),
    ("#/a", "b/a", false),
];

#[test]
fn a_filter_matches_what_the_specification_says() {
    for &(filter, topic, matches) in MATCHES {
        assert_eq!(naive_match(filter, topic), matches, "reference: {filter} {topic}");
        let mut trie = SubscriptionTrie::new();
        trie.subscribe(filter, Session::new(1), qos(0));
        assert_eq!(!reached(&trie, topic).is_empty(), matches, "subscription: {filter} {topic}");
        let mut retained = RetainedTrie::new();
        retained.set(topic, 0);
        assert_eq!(!found(&retained, filter).is_empty(), matches, "retained: {filter} {topic}");
    }
}

#[test]
fn subscribing_again_replaces_the_options_and_says_which() {
    let mut trie = SubscriptionTrie::new();
    for filter in ["a/b", "a/+", "a/#"] {
        assert_eq!(trie.subscribe(filter, Session::new(1), qos(1)), None);
        assert_eq!(trie.subscribe(filter, Session::new(1), qos(2)), Some(qos(1)));
        assert_eq!(trie.unsubscribe(filter, 9), None);
        assert_eq!(trie.unsubscribe(filter, 1), Some(qos(2)));
        assert_eq!(trie.unsubscribe(filter, 1), None);
    }
    assert!(trie.is_empty());
}

#[test]
fn overlapping_subscriptions_are_one_delivery_with_all_identifiers() {
    let mut trie = SubscriptionTrie::new();
    let session = Session::new(1);
    let mut add = |filter, qos, retain_as_published, identifier| {
        let options = SubscriptionOptions { qos, no_local: false, retain_as_published, identifier };
        trie.subscribe(filter, session.clone(), options);
    };
    add("a/b", 0, false, 5);
    add("a/+", 2, false, 7);
    add("a/#", 1, true, 5);
    add("#", 1, false, 0);
    let mut route = Route::new();
    trie.route("a/b", &mut route);
    assert_eq!(route.targets.len(), 1);
    let Target { delivery, own, .. } = &mut route.targets[0];
    delivery.identifiers.sort_unstable();
    assert_eq!((delivery.qos, delivery.retain_as_published), (2, true));
    assert_eq!(delivery.identifiers.as_slice(), [5, 5, 7]);
    assert_eq!(*own, Own::Same);
}

#[test]
fn a_publisher_gets_what_its_subscriptions_without_no_local_give() {
    let no_local = |identifier| SubscriptionOptions { qos: 2, no_local: true, retain_as_published: true, identifier };
    let local = |identifier| SubscriptionOptions { qos: 1, identifier, ..SubscriptionOptions::default() };
    let own_of = |subscriptions: &[(&str, SubscriptionOptions)]| {
        let mut trie = SubscriptionTrie::new();
        for &(filter, options) in subscriptions {
            trie.subscribe(filter, Session::new(1), options);
        }
        let mut route = Route::new();
        trie.route("a", &mut route);
        route.targets.remove(0).own
    };
    assert_eq!(own_of(&[("a", no_local(1))]), Own::Nothing);
    assert_eq!(own_of(&[("a", no_local(1)), ("+", no_local(2))]), Own::Nothing);
    let only_three = Own::Other(Box::new(Delivery::of(local(3))));
    assert_eq!(own_of(&[("a", no_local(1)), ("+", local(3))]), only_three);
    assert_eq!(own_of(&[("a", local(3)), ("+", no_local(1))]), only_three);
    assert_eq!(own_of(&[("a", local(3)), ("+", no_local(1)), ("#", no_local(2))]), only_three);
    let Own::Other(both) = own_of(&[("a", local(3)), ("+", no_local(1)), ("#", local(4))]) else { panic!("two kinds") };
    assert_eq!((both.qos, both.retain_as_published, both.identifiers.len()), (1, false, 2));
}

#[test]
fn a_great_overlap_is_merged_too() {
    let mut trie = SubscriptionTrie::new();
    for id in 0..1000 {
        trie.subscribe("a", Session::new(id), qos(0));
        trie.subscribe("+", Session::new(id + 500), qos(1));
        trie.subscribe("#", Session::new(id + 1000), qos(2));
    }
    let mut route = Route::new();
    for _ in 0..2 {
        trie.route("a", &mut route);
        let by_id: BTreeMap<u64, u8> = route.targets.iter().map(|t| (t.subscriber.id(), t.delivery.qos)).collect();
        assert_eq!((route.targets.len(), by_id.len()), (2000, 2000));
        assert!(by_id.iter().all(|(&id, &qos)| qos
            == if id < 500 {
                0
            } else if id < 1000 {
                1
            } else {
                2
            }));
    }
}

#[test]
fn a_route_holds_nothing_after_it_was_cleared() {
    let session = Session::new(1);
    let mut trie = SubscriptionTrie::new();
    trie.subscribe("a", session.clone(), qos(0));
    trie.subscribe_shared("g", "a", session.clone(), qos(0));
    let mut route = Route::new();
    trie.route("a", &mut route);
    assert_eq!((route.targets.len(), route.groups.len(), Rc::strong_count(&session.0)), (1, 1, 4));
    route.clear();
    drop(trie);
    assert_eq!(Rc::strong_count(&session.0), 1);
}

#[test]
fn a_very_deep_topic_is_walked_and_not_recursed_into() {
    let topic = "/".repeat(65_534);
    let filter = format!("{topic}+");
    let all_plus = vec!["+"; 32_768].join("/");
    let mut trie = SubscriptionTrie::new();
    trie.subscribe(&filter, Session::new(1), qos(0));
    trie.subscribe(&all_plus, Session::new(2), qos(0));
    assert_eq!(reached(&trie, &topic), [1]);
    trie.for_each(|name, _, session, _| {
        assert_eq!(name, if session.id() == 1 { &filter } else { &all_plus });
        true
    });
    assert!(trie.unsubscribe(&filter, 1).is_some() && trie.unsubscribe(&all_plus, 2).is_some());
    assert_eq!(trie.entries(), (0, 0));

    let mut retained = RetainedTrie::new();
    retained.set(&topic, 1);
    assert_eq!(found(&retained, "#"), [topic.as_str()]);
    assert_eq!(found(&retained, &filter), [topic.as_str()]);
    retained.retain(|_, _| false);
    assert_eq!(retained.entries(), 0);
}

#[test]
fn hostile_wildcards_cost_no_more_than_the_nodes_there_are() {
    let mut trie = SubscriptionTrie::new();
    for mask in 0..1_u64 << 10 {
        let level = |bit: u32| if mask >> bit & 1 == 1 { "+" } else { "x" };
        trie.subscribe(&(0..10).map(level).collect::<Vec<_>>().join("/"), Session::new(mask), qos(0));
    }
    let topic = ["x"; 10].join("/");
    let all: BTreeSet<u64> = reached(&trie, &topic).into_iter().collect();
    assert_eq!(all.len(), 1 << 10);
    assert!(trie.entries().0 < 2 << 10);
}

#[test]
fn a_hundred_thousand_subscribers_of_one_filter_come_and_go() {
    let mut trie = SubscriptionTrie::new();
    let empty = trie.memory_bytes();
    for id in 0..100_000 {
        trie.subscribe("a/+", Session::new(id), qos(0));
    }
    assert_eq!((trie.len(), reached(&trie, "a/b").len()), (100_000, 100_000));
    for id in 0..100_000 {
        assert_eq!(trie.unsubscribe("a/+", id * 7 % 100_000), Some(qos(0)));
    }
    assert_eq!((trie.len(), trie.entries()), (0, (0, 0)));
    assert!(trie.memory_bytes() <= empty + TABLE_MIN);
}

#[test]
fn churn_does_not_leak() {
    let mut trie = SubscriptionTrie::new();
    let mut after_first = None;
    for round in 0..50 {
        let names: Vec<String> = (0..200).map(|n| format!("long-device-name-{round}-{n}/+/{n}")).collect();
        for (id, name) in (0..).zip(&names) {
            trie.subscribe(name, Session::new(id), qos(0));
            trie.subscribe(name.trim_end_matches(char::is_numeric).trim_end_matches('/'), Session::new(id), qos(0));
            trie.subscribe(&name.replace('+', "x"), Session::new(id), qos(0));
            trie.subscribe_shared("g", name, Session::new(id), qos(0));
        }
        for (id, name) in (0..).zip(&names) {
            trie.unsubscribe(name, id);
            trie.unsubscribe(name.trim_end_matches(char::is_numeric).trim_end_matches('/'), id);
            trie.unsubscribe(&name.replace('+', "x"), id);
            trie.unsubscribe_shared("g", name, id);
        }
        assert_eq!((trie.len(), trie.entries()), (0, (0, 0)));
        assert_eq!(*after_first.get_or_insert(trie.memory_bytes()), trie.memory_bytes());
    }
}

fn group_of(sessions: &[Session]) -> std::sync::Arc<SharedGroup<Session>> {
    let mut trie = SubscriptionTrie::new();
    for session in sessions {
        trie.subscribe_shared("g", "a/+", session.clone(), qos(1));
    }
    let mut route = Route::new();
    trie.route("a/b", &mut route);
    assert!(route.targets.is_empty());
    route.groups.remove(0)
}

const POLICIES: [SharedPolicy; 4] =
    [SharedPolicy::PreferLocal, SharedPolicy::Random, SharedPolicy::LocalOnly, SharedPolicy::PreferOnlineBeforeLocal];

/// How often each session is chosen in a thousand messages for each.
fn shares(group: &SharedGroup<Session>, policy: SharedPolicy) -> BTreeMap<u64, usize> {
    let mut shares = BTreeMap::new();
    for message in 0..1000 * group.members().len() as u64 {
        let random = message.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17);
        let member = group.select(policy, random, 0, |_| true).expect("somebody takes it");
        *shares.entry(member.subscriber.id()).or_insert(0) += 1;
    }
    shares
}

#[test]
fn a_group_shares_evenly_among_its_online_members() {
    let sessions: Vec<Session> = (1..=6).map(Session::new).collect();
    // Neighbours go offline, so that a choice that only skips them would burden the next one.
    for neighbour in &sessions[1..4] {
        neighbour.0.1.set(false);
    }
    for policy in POLICIES {
        let shares = shares(&group_of(&sessions), policy);
        assert_eq!(shares.keys().copied().collect::<Vec<_>>(), [1, 5, 6], "{policy:?}");
        assert!(shares.values().all(|share| (1800..=2200).contains(share)), "{policy:?} {shares:?}");
    }
}

#[test]
fn offline_members_share_evenly_when_nobody_is_online() {
    let group = group_of(&(1..=4).map(Session::offline).collect::<Vec<_>>());
    for policy in POLICIES {
        let shares = shares(&group, policy);
        assert!(shares.values().all(|share| (900..=1100).contains(share)), "{policy:?} {shares:?}");
    }
}

#[test]
fn a_member_that_cannot_take_a_message_leaves_it_to_others() {
    let group = group_of(&[Session::new(1), Session::new(2), Session::offline(3)]);
    for policy in POLICIES {
        for random in 0..20 {
            let choose = |refusing: &[u64]| {
                let chosen = group.select(policy, random << 58, 0, |session| !refusing.contains(&session.id()));
                chosen.map(|member| member.subscriber.id())
            };
            assert_eq!(choose(&[1]), Some(2));
            assert_eq!(choose(&[1, 2]), Some(3));
            assert_eq!(choose(&[1, 2, 3]), None);
        }
    }
}

#[test]
fn no_local_in_a_group_passes_over_the_publisher() {
    let mut trie = SubscriptionTrie::new();
    trie.subscribe_shared("g", "a", Session::new(1), SubscriptionOptions { no_local: true, ..qos(0) });
    let mut route = Route::new();
    trie.route("a", &mut route);
    for policy in POLICIES {
        assert!(route.groups[0].select(policy, 0, 1, |_| true).is_none());
        assert!(route.groups[0].select(policy, 0, 2, |_| true).is_some());
    }
}

#[test]
fn a_group_in_a_route_stays_as_it_was_found() {
    let mut trie = SubscriptionTrie::new();
    trie.subscribe_shared("g", "a", Session::new(1), qos(0));
    let mut route = Route::new();
    trie.route("a", &mut route);
    trie.subscribe_shared("g", "a", Session::new(2), qos(0));
    trie.unsubscribe_shared("g", "a", 1);
    let ids = |group: &SharedGroup<Session>| group.members().iter().map(|m| m.subscriber.id()).collect::<Vec<_>>();
    assert_eq!(ids(&route.groups[0]), [1]);
    trie.route("a", &mut route);
    assert_eq!(ids(&route.groups[0]), [2]);
    assert_eq!((route.groups[0].name(), route.groups[0].filter()), ("g", "a"));
}

#[test]
fn retained_messages_are_set_replaced_and_removed() {
    let mut trie = RetainedTrie::new();
    assert_eq!(trie.set("a/b", 1), None);
    assert_eq!(trie.set("a/b", 2), Some(1));
    assert_eq!(trie.set("a", 3), None);
    assert_eq!((trie.get("a/b"), trie.get("a"), trie.get("a/b/c"), trie.len()), (Some(&2), Some(&3), None, 2));
    assert_eq!((trie.remove("a/b/c"), trie.remove("a")), (None, Some(3)));
    assert_eq!((trie.remove("a"), trie.remove("a/b"), trie.entries()), (None, Some(2), 0));
}

#[test]
fn matching_stops_when_told_and_is_ordered() {
    let mut trie = RetainedTrie::new();
    for topic in ["b/2", "a", "b/1", "a/1", "b"] {
        trie.set(topic, 0);
    }
    assert_eq!(found(&trie, "#"), ["b", "b/2", "b/1", "a", "a/1"]);
    let mut seen = 0;
    trie.matching("#", &mut |_, _| {
        seen += 1;
        seen < 3
    });
    assert_eq!(seen, 3);
}
