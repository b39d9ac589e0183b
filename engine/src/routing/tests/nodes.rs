//! Other nodes in the trie: as direct subscribers, and as members of shared groups by number.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NODES_FROM: u64 = 1_000;

fn remote(id: u64, count: u32, has_online: bool) -> RemoteMembers<Session> {
    RemoteMembers { node: Session::new(id), count, has_online }
}

/// A group with members on this node and on others.
fn group(members: &[Session], remotes: &[RemoteMembers<Session>]) -> std::sync::Arc<SharedGroup<Session>> {
    let mut trie = SubscriptionTrie::new();
    for member in members {
        trie.subscribe_shared("g", "a", member.clone(), qos(1));
    }
    for remote in remotes {
        trie.share_remotely("g", "a", remote.clone());
    }
    let mut route = Route::new();
    trie.route("a", &mut route);
    route.groups.remove(0)
}

/// How often each is chosen in so many messages; 0: nobody.
fn shares(group: &SharedGroup<Session>, policy: SharedPolicy, messages: u64) -> BTreeMap<u64, u64> {
    let mut shares = BTreeMap::new();
    for message in 0..messages {
        let random = message.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(17);
        let chosen = match group.choose(policy, random, 0, |_| true) {
            Some(Choice::Member(member)) => member.subscriber.id(),
            Some(Choice::Node(node)) => node.id(),
            None => 0,
        };
        *shares.entry(chosen).or_insert(0) += 1;
    }
    shares
}

fn who(group: &SharedGroup<Session>, policy: SharedPolicy) -> Vec<u64> {
    shares(group, policy, 200).into_keys().collect()
}

#[test]
fn a_policy_says_whether_members_here_come_before_those_elsewhere() {
    use SharedPolicy::{LocalOnly, PreferLocal, PreferOnlineBeforeLocal, Random};
    let both = group(&[Session::new(1)], &[remote(1_001, 1, true)]);
    assert_eq!(who(&both, PreferLocal), [1]);
    assert_eq!(who(&both, LocalOnly), [1]);
    assert_eq!(who(&both, PreferOnlineBeforeLocal), [1]);
    assert_eq!(who(&both, Random), [1, 1_001]);

    let offline_here = group(&[Session::offline(1)], &[remote(1_001, 1, true), remote(1_002, 5, false)]);
    assert_eq!(who(&offline_here, PreferLocal), [1]);
    assert_eq!(who(&offline_here, LocalOnly), [1]);
    assert_eq!(who(&offline_here, PreferOnlineBeforeLocal), [1_001]);
    assert_eq!(who(&offline_here, Random), [1_001]);

    let nobody_here = group(&[], &[remote(1_001, 1, false), remote(1_002, 1, true)]);
    for policy in [PreferLocal, Random, PreferOnlineBeforeLocal] {
        assert_eq!(who(&nobody_here, policy), [1_002], "{policy:?}");
    }
    assert_eq!(who(&nobody_here, LocalOnly), [0]);

    let nobody_online = group(&[Session::offline(1)], &[remote(1_001, 1, false)]);
    for policy in [PreferLocal, Random, PreferOnlineBeforeLocal] {
        assert_eq!(who(&nobody_online, policy), [1], "{policy:?}");
    }
}

#[test]
fn nodes_have_the_chances_of_their_members() {
    let members: Vec<Session> = (1..=2).map(Session::new).collect();
    let group = group(&members, &[remote(1_001, 2, true), remote(1_002, 4, true)]);
    let shares = shares(&group, SharedPolicy::Random, 8_000);
    for (id, share) in [(1, 1_000), (2, 1_000), (1_001, 2_000), (1_002, 4_000)] {
        assert!(shares[&id].abs_diff(share) < share / 5, "{shares:?}");
    }
}

#[test]
fn a_node_that_cannot_be_reached_is_the_last_resort() {
    let away = RemoteMembers { node: Session::offline(1_001), count: 100, has_online: true };
    let reachable = group(&[], &[away.clone(), remote(1_002, 1, false)]);
    let alone = group(&[], &[away]);
    for policy in [SharedPolicy::PreferLocal, SharedPolicy::Random, SharedPolicy::PreferOnlineBeforeLocal] {
        assert_eq!(who(&reachable, policy), [1_002], "{policy:?}");
        assert_eq!(who(&alone, policy), [1_001], "{policy:?}");
    }
}

#[test]
fn members_that_cannot_take_a_message_leave_it_to_another_node() {
    let group = group(&[Session::new(1)], &[remote(1_001, 1, true)]);
    for policy in [SharedPolicy::PreferLocal, SharedPolicy::Random, SharedPolicy::PreferOnlineBeforeLocal] {
        for random in 0..20 {
            assert!(matches!(group.choose(policy, random << 58, 0, |_| false), Some(Choice::Node(_))), "{policy:?}");
        }
    }
    assert!(group.choose(SharedPolicy::LocalOnly, 7, 0, |_| false).is_none());
}

#[derive(Debug, Clone)]
struct Step {
    is_there: bool,
    filter: &'static str,
    group: Option<&'static str>,
    id: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let filter = prop::sample::select(&["a", "a/b", "+", "a/+", "#", "a/#", "c/d/e"][..]);
    let group = prop::sample::select(&[None, Some("g"), Some("h")][..]);
    let id = prop_oneof![0_u64..6, NODES_FROM..NODES_FROM + 4];
    (prop::bool::weighted(0.65), filter, group, id).prop_map(|(is_there, filter, group, id)| Step {
        is_there,
        filter,
        group,
        id,
    })
}

type Model = BTreeSet<(&'static str, Option<&'static str>, u64)>;

fn apply(step: &Step, trie: &mut SubscriptionTrie<Session>, model: &mut Model) {
    let Step { is_there, filter, group, id } = *step;
    let session = Session::new(id);
    match (is_there, group, id >= NODES_FROM) {
        (true, None, _) => drop(trie.subscribe(filter, session, qos(1))),
        (true, Some(group), false) => drop(trie.subscribe_shared(group, filter, session, qos(1))),
        (true, Some(group), true) => trie.share_remotely(group, filter, remote(id, 3, true)),
        (false, None, _) => drop(trie.unsubscribe(filter, id)),
        (false, Some(group), false) => drop(trie.unsubscribe_shared(group, filter, id)),
        (false, Some(group), true) => {
            assert_eq!(trie.unshare_remotely(group, filter, id), model.contains(&(filter, Some(group), id)));
        }
    }
    if is_there {
        model.insert((filter, group, id));
    } else {
        model.remove(&(filter, group, id));
    }
    assert_eq!(trie.len(), model.len());
}

fn note(found: &OnFilter<'_, Session>, filter: &str, seen: &mut Vec<(String, Option<String>, u64)>) {
    seen.extend(found.members().iter().map(|member| (filter.to_owned(), None, member.subscriber.id())));
    for group in found.groups() {
        let ids = group.members().iter().map(|member| member.subscriber.id());
        let nodes = group.remotes().iter().map(|remote| remote.node.id());
        seen.extend(ids.chain(nodes).map(|id| (filter.to_owned(), Some(group.name().to_owned()), id)));
    }
}

fn walked(trie: &SubscriptionTrie<Session>, limit: usize) -> Vec<(String, Option<String>, u64)> {
    let (mut seen, mut position) = (Vec::new(), Some(0));
    while let Some(at) = position {
        position = trie.walk(at, limit, |filter, found| note(&found, filter, &mut seen));
    }
    seen
}

fn owned(model: &Model) -> BTreeSet<(String, Option<String>, u64)> {
    model.iter().map(|(filter, group, id)| ((*filter).to_owned(), group.map(str::to_owned), *id)).collect()
}

proptest! {
    #[test]
    fn a_walk_shows_everything_once(history in prop::collection::vec(step(), 0..80), limit in 1_usize..9) {
        let (mut trie, mut model) = (SubscriptionTrie::new(), Model::new());
        for step in &history {
            apply(step, &mut trie, &mut model);
        }
        let seen = walked(&trie, limit);
        prop_assert_eq!(seen.len(), model.len());
        prop_assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), owned(&model));
        for filter in ["a", "+", "a/#", "c/d/e"] {
            let mut at = Vec::new();
            if let Some(found) = trie.at(filter) {
                note(&found, filter, &mut at);
            }
            let expected: BTreeSet<_> = owned(&model).into_iter().filter(|(name, ..)| name == filter).collect();
            prop_assert_eq!(at.into_iter().collect::<BTreeSet<_>>(), expected);
        }
        for (filter, group, id) in model.clone() {
            apply(&Step { is_there: false, filter, group, id }, &mut trie, &mut model);
        }
        prop_assert_eq!((trie.len(), trie.entries()), (0, (0, 0)));
    }

    #[test]
    fn a_walk_misses_nothing_that_stays(
        before in prop::collection::vec(step(), 0..60),
        meanwhile in prop::collection::vec(step(), 0..60),
        limit in 1_usize..5,
    ) {
        let (mut trie, mut model) = (SubscriptionTrie::new(), Model::new());
        for step in &before {
            apply(step, &mut trie, &mut model);
        }
        let mut staying = model.clone();
        let (mut seen, mut position, mut steps) = (Vec::new(), Some(0), meanwhile.iter());
        while let Some(at) = position {
            position = trie.walk(at, limit, |filter, found| note(&found, filter, &mut seen));
            for step in steps.by_ref().take(3) {
                apply(step, &mut trie, &mut model);
                staying = staying.intersection(&model).copied().collect();
            }
        }
        let seen: BTreeSet<_> = seen.into_iter().collect();
        prop_assert!(owned(&staying).is_subset(&seen), "{:?} {:?}", staying, seen);
    }
}
