//! Random histories: the tries hold and find what plain lists of subscriptions and topics would.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A name of up to four levels over a tiny alphabet, so that names meet; `long` does not fit into a node.
fn name(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(levels), 1..5).prop_map(|levels| levels.join("/"))
}

const LONG: &str = "a-level-that-does-not-fit-into-its-node";
const TOPIC_LEVELS: &[&str] = &["", "a", "b", "$", "$SYS", LONG];
const FILTER_LEVELS: &[&str] = &["", "a", "b", "$SYS", LONG, "+", "+", "#"];

/// One change of a history.
#[derive(Debug, Clone)]
struct Change {
    subscribe: bool,
    group: Option<&'static str>,
    filter: String,
    id: u64,
    options: SubscriptionOptions,
}

fn change() -> impl Strategy<Value = Change> {
    let options = (0_u8..3, any::<bool>(), any::<bool>(), 0_u32..4);
    let options = options.prop_map(|(qos, no_local, retain_as_published, identifier)| SubscriptionOptions {
        qos,
        no_local,
        retain_as_published,
        identifier,
    });
    let group = prop::sample::select(&[None, None, Some("g"), Some("h")][..]);
    let who = (prop::bool::weighted(0.7), group, name(FILTER_LEVELS), 0_u64..30, options);
    who.prop_map(|(subscribe, group, filter, id, options)| Change { subscribe, group, filter, id, options })
}

type Model = BTreeMap<(String, Option<&'static str>, u64), SubscriptionOptions>;

fn apply(change: &Change, trie: &mut SubscriptionTrie<Session>, model: &mut Model) -> Result<(), TestCaseError> {
    let Change { filter, id, options, .. } = change;
    let key = (filter.clone(), change.group, *id);
    let session = Session::new(*id);
    let (was, expected) = match (change.subscribe, change.group) {
        (true, None) => (trie.subscribe(filter, session, *options), model.insert(key, *options)),
        (true, Some(g)) => (trie.subscribe_shared(g, filter, session, *options), model.insert(key, *options)),
        (false, None) => (trie.unsubscribe(filter, *id), model.remove(&key)),
        (false, Some(g)) => (trie.unsubscribe_shared(g, filter, *id), model.remove(&key)),
    };
    prop_assert_eq!(was, expected);
    prop_assert_eq!(trie.len(), model.len());
    Ok(())
}

/// A delivery with its identifiers in order, which is not defined.
fn sorted(delivery: &Delivery) -> Delivery {
    let mut delivery = delivery.clone();
    delivery.identifiers.sort_unstable();
    delivery
}

fn merged(options: &[SubscriptionOptions]) -> Delivery {
    sorted(&Delivery {
        qos: options.iter().map(|o| o.qos).max().unwrap_or(0),
        retain_as_published: options.iter().any(|o| o.retain_as_published),
        identifiers: options.iter().map(|o| o.identifier).filter(|&i| i != 0).collect(),
    })
}

fn check_route(route: &Route<Session>, topic: &str, model: &Model) -> Result<(), TestCaseError> {
    let mut direct: BTreeMap<u64, Vec<SubscriptionOptions>> = BTreeMap::new();
    let mut shared: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
    for ((filter, group, id), options) in model.iter().filter(|entry| naive_match(&entry.0.0, topic)) {
        match group {
            None => direct.entry(*id).or_default().push(*options),
            Some(group) => drop(shared.entry((group, filter)).or_default().insert(*id)),
        }
    }
    prop_assert_eq!(route.targets.len(), direct.len(), "targets of {}", topic);
    for target in &route.targets {
        let options = &direct[&target.subscriber.id()];
        let own: Vec<SubscriptionOptions> = options.iter().filter(|o| !o.no_local).copied().collect();
        prop_assert_eq!(sorted(&target.delivery), merged(options));
        match &target.own {
            Own::Same => prop_assert_eq!(own.len(), options.len()),
            Own::Nothing => prop_assert!(own.is_empty()),
            Own::Other(delivery) => {
                prop_assert!(!own.is_empty() && own.len() < options.len());
                prop_assert_eq!(sorted(delivery), merged(&own));
            }
        }
    }
    let ids = |group: &SharedGroup<Session>| group.members().iter().map(|m| m.subscriber.id()).collect();
    let groups: BTreeMap<_, _> = route.groups.iter().map(|g| ((g.name(), g.filter()), ids(g))).collect();
    prop_assert_eq!(route.groups.len(), groups.len());
    prop_assert_eq!(groups, shared);
    Ok(())
}

fn listed(trie: &SubscriptionTrie<Session>) -> BTreeMap<(String, Option<String>, u64), SubscriptionOptions> {
    let mut listed = BTreeMap::new();
    trie.for_each(|filter, group, session, options| {
        let key = (filter.to_owned(), group.map(str::to_owned), session.id());
        assert_eq!(listed.insert(key, *options), None, "listed twice");
        true
    });
    listed
}

proptest! {
    #[test]
    fn the_trie_routes_as_a_list_of_subscriptions_would(
        history in prop::collection::vec(change(), 0..120),
        topics in prop::collection::vec(name(TOPIC_LEVELS), 1..12),
        weak in any::<bool>(),
    ) {
        let mut trie = if weak { SubscriptionTrie::with_weak_hashes() } else { SubscriptionTrie::new() };
        let (mut model, mut route) = (Model::new(), Route::new());
        let empty = trie.memory_bytes();
        for change in &history {
            apply(change, &mut trie, &mut model)?;
        }
        for topic in &topics {
            trie.route(topic, &mut route);
            check_route(&route, topic, &model)?;
        }
        let expected = model.iter().map(|((f, g, id), o)| ((f.clone(), g.map(str::to_owned), *id), *o)).collect();
        prop_assert_eq!(listed(&trie), expected);

        for (filter, group, id) in model.into_keys() {
            match group {
                None => trie.unsubscribe(&filter, id),
                Some(group) => trie.unsubscribe_shared(group, &filter, id),
            };
        }
        prop_assert_eq!((trie.len(), trie.entries()), (0, (0, 0)));
        prop_assert!(trie.memory_bytes() <= empty + 2 * TABLE_MIN);
    }

    #[test]
    fn the_retained_trie_holds_and_finds_what_a_map_would(
        history in prop::collection::vec((prop::bool::weighted(0.7), name(TOPIC_LEVELS), 0_u32..9), 0..120),
        filters in prop::collection::vec(name(FILTER_LEVELS), 1..12),
        weak in any::<bool>(),
    ) {
        let mut trie = if weak { RetainedTrie::with_weak_hashes() } else { RetainedTrie::new() };
        let mut model = BTreeMap::new();
        let empty = trie.memory_bytes();
        for (set, topic, message) in history {
            if set {
                prop_assert_eq!(trie.set(&topic, message), model.insert(topic, message));
            } else {
                prop_assert_eq!(trie.remove(&topic), model.remove(&topic));
            }
            prop_assert_eq!(trie.len(), model.len());
        }
        for keep_from in [0, 4, 9] {
            trie.retain(|topic, message| {
                assert_eq!(model.get(topic), Some(&*message), "{topic}");
                *message >= keep_from
            });
            model.retain(|_, message| *message >= keep_from);
            prop_assert_eq!(trie.len(), model.len());
            for (topic, message) in &model {
                prop_assert_eq!(trie.get(topic), Some(message));
            }
            for filter in &filters {
                let mut topics = found(&trie, filter);
                topics.sort();
                let expected: BTreeSet<&String> = model.keys().filter(|topic| naive_match(filter, topic)).collect();
                prop_assert_eq!(topics.iter().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>(), "{}", filter);
            }
        }
        prop_assert_eq!(trie.entries(), 0);
        prop_assert!(trie.memory_bytes() <= empty + TABLE_MIN);
    }
}
