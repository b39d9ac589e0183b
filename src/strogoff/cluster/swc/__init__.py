"""Server Wide Clocks: the replicated metadata of the cluster, as a library without network, disk, clock or chance.

Every member has every key and may write it at any time. Each write has a *dot*, (actor, counter); a replica's *node
clock* says which dots it has seen. From these follow what supersedes what, what a peer lacks, and when a delete may
be forgotten. The papers: Gonçalves, Almeida, Baquero, Fonte, *Concise Server-Wide Causality Management for Eventually
Consistent Data Stores*, DAIS 2015; *DottedDB: Anti-Entropy without Merkle Trees, Deletes without Tombstones*, SRDS
2017.

How to drive it
---------------

    replica = Replica(actor, members=members, nonce=nonce, rows=scan_of_the_store)

    replica.put(key, value), replica.delete(key)   local writes, as many at a time as there are
    replica.receive(peer, data)                    a message from a peer
    replica.pull(peer)                             now and then, from a random member that is reachable; at once from
                                                   the peer of a new link, and from those in `output.behind`
    replica.repeat(), replica.cancel()             no answer in time; no answer at all
    replica.collect()                              after each exchange
    replica.set_members(members)                   the membership has changed

After any of these `replica.take()` gives an `Output`, to be worked off in this order, one output after the other:

1. persist `writes`, as one atomic batch;
2. when they are persisted, and not before, send `messages`, and acknowledge the local writes;
3. tell `changes` to those who watch; after `reloaded` they have to read anew;
4. if `more` is set, take again.

**Persist before send** is what makes a dot name one write for ever. *Persisted* means: it is there after any crash
that the replica is then loaded from **under the same actor**. Where the tail of the log may have been lost (an
unclean end, and the store does not sync each batch), load it under an actor with a new incarnation; the replica then
retires the old one by itself, and fetches from its peers what these have of it. The same holds for a wiped disk
(there is nothing to load), and for a restored backup.

Members are actors, not names. A node that comes back as a new actor takes its old one's place in the members. An
actor that is no member is not listened to; its entries leave clocks and watermarks when all members have the same of
it. A node that was removed learns it from `Refused(reason=NOT_A_MEMBER)`, keeps its data, and comes back as a
new actor: what the cluster has deleted meanwhile is dropped from its data by the first exchange, what only it has is
kept.

A peer that knows more of this replica's actor, or of what it has seen, than the replica itself proves that the store
has lost something that was persisted. The replica's `condition` is `LOST_HISTORY` then; it refuses to write until
`retire` gives it a new actor. This is a second line only: a replica that has written as much as it lost before it meets
a peer looks sound, and its writes are lost on that peer. The first line is the new incarnation.

What is where
-------------

`replica` is all that a caller needs. `state` is what a replica knows, with the invariant that the rest is built on;
`container` the versions of one key, `clock` the node clock, `dotkeys` the dot-key map, `watermark` who has seen what.
`exchange` is anti-entropy, its two sides `giving` and `taking`. `messages` and `records` are the forms on the wire
and in the store, `wire` what they share. `pending` and `output` are what waits for `take`, and what it gives.

One store a node, not ten groups of keys: groups let ten processes work at once, which this is not, and ten clocks cost
ten exchanges and ten watermarks to say the same.

All rows are in memory, beside what the store holds. A write needs the dots of what it supersedes, an event the values
that were, and an exchange both; reading one back from the store was measured at twice the cost of a whole replicated
write, and a core that reads is not pure. It costs about 160 bytes a key beside the value, 310 while a member is away.
"""

from strogoff.cluster.swc.container import DamagedRowError
from strogoff.cluster.swc.dots import Actor, TooManyActorsError
from strogoff.cluster.swc.limits import Limits
from strogoff.cluster.swc.messages import RefusalReason
from strogoff.cluster.swc.output import Change, Output, Pulled, Refused
from strogoff.cluster.swc.parts import Condition
from strogoff.cluster.swc.records import DamagedStoreError
from strogoff.cluster.swc.replica import (
    BacklogFullError,
    LostHistoryError,
    NoMemberError,
    Replica,
    ValueTooLargeError,
)
from strogoff.cluster.swc.wire import DecodeError

__all__ = [
    "Actor",
    "BacklogFullError",
    "Change",
    "Condition",
    "DamagedRowError",
    "DamagedStoreError",
    "DecodeError",
    "Limits",
    "LostHistoryError",
    "NoMemberError",
    "Output",
    "Pulled",
    "RefusalReason",
    "Refused",
    "Replica",
    "TooManyActorsError",
    "ValueTooLargeError",
]
