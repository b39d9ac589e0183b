//! Who receives a message: the subscriptions of a mountpoint and its retained messages, found by topic. Another node that has
//! subscribers to a filter is a subscriber of it, and the members that it has of a shared group are a number there.
//!
//! Pure data structures: no I/O, no clock, no lock. The caller keeps a [`SubscriptionTrie`] and a [`RetainedTrie`] a
//! mountpoint, each behind a lock of its own, and drives them so:
//!
//! ```text
//! SUBSCRIBE     trie.subscribe(filter, subscriber, options)    write lock; says which options it replaced
//!               retained.matching(filter, &mut |topic, m| ..)  read lock; unless Retain Handling says otherwise
//! UNSUBSCRIBE   trie.unsubscribe(filter, id)                   write lock
//! PUBLISH       trie.route(topic, &mut route)                  read lock; one Route a worker, used again and again
//!               for target in &route.targets { .. }            no lock: the route owns its subscribers and groups
//!               for group in &route.groups { group.choose(..) }
//!               route.clear()                                  so that groups are not kept alive, see SharedGroup
//! PUBLISH+RETAIN  retained.set(topic, message) / retained.remove(topic)
//! ```
//!
//! Topics and filters are compared byte by byte without normalising ([MQTT-4.7.3-4]), an empty level is a level, and
//! a filter that starts with a wildcard does not match a topic that starts with `$` ([MQTT-4.7.2-1]). Whether a name
//! is well formed at all is for the codec to decide; a malformed one is harmless here: `+` is a wildcard only where
//! it is a whole level and `#` only where it is the whole last level, anything else is literal text.
//!
//! Invariants: nothing here recurses, whatever the depth of a topic. A node that carries nothing is removed at once,
//! so a peer that subscribes and unsubscribes leaves nothing behind but capacity. Hashes are keyed per process, and
//! equal hashes never route: the text is always compared.

mod arena;
mod leaf;
mod level;
mod retained;
mod roster;
mod route;
mod shared;
mod subscription;
mod table;
mod trie;

#[cfg(test)]
mod tests;

pub use retained::RetainedTrie;
pub use route::{Delivery, Own, Route, Target};
pub use shared::{Choice, SharedGroup, SharedPolicy};
pub use subscription::{Member, RemoteMembers, Subscriber, SubscriptionOptions};
pub use trie::{OnFilter, SubscriptionTrie};
