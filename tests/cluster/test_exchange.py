"""Exchanges: what they cost, and that they come to their end whatever happens between two pages."""

from collections.abc import Iterable

import pytest

from strogoff.cluster.swc import Actor, NoMemberError, Pulled, RefusalReason, Refused, Replica
from strogoff.cluster.swc.limits import Limits
from strogoff.cluster.swc.messages import PageState, PullAnswer, decode

ONE, OTHER, THIRD = Actor("one", 1), Actor("other", 2), Actor("third", 3)
PAGES = Limits(page_bytes=1_000, collected_max=10_000, erased_max=50)


class Net:
    """Replicas, their disks, and all messages that ever were."""

    def __init__(self, *actors: Actor, limits: Limits = PAGES) -> None:
        self.limits = limits
        self.disks: dict[Actor, dict[bytes, bytes]] = {actor: {} for actor in actors}
        self.replicas = {actor: self._made(actor) for actor in actors}
        self.sent: list[tuple[Actor, Actor, bytes]] = []
        self.ended: list[Pulled | Refused] = []

    def _made(self, actor: Actor) -> Replica:
        rows = sorted(self.disks[actor].items())
        return Replica(actor, members=list(self.disks), nonce=id(object()) & 0xFFFF_FFFF, rows=rows, limits=self.limits)

    def restart(self, actor: Actor) -> None:
        self.replicas[actor] = self._made(actor)

    def join(self, actor: Actor) -> None:
        self.disks[actor] = {}
        for replica in self.replicas.values():
            replica.set_members(list(self.disks))
        self.replicas[actor] = self._made(actor)

    def take(self, actor: Actor) -> list[tuple[Actor, bytes]]:
        """Persist, and return what is to be sent."""
        output = self.replicas[actor].take()
        for key, value in output.writes:
            if value is None:
                self.disks[actor].pop(key, None)
            else:
                self.disks[actor][key] = value
        self.ended += output.ended
        self.sent += [(actor, peer, data) for peer, data in output.messages]
        return output.messages

    def hand_over(self, sender: Actor, messages: Iterable[tuple[Actor, bytes]]) -> None:
        for peer, data in messages:
            if peer in self.replicas:
                self.replicas[peer].receive(sender, data)

    def settle(self) -> None:
        moved = True
        while moved:
            moved = False
            for actor in self.replicas:
                messages = self.take(actor)
                moved = moved or bool(messages)
                self.hand_over(actor, messages)

    def pull(self, actor: Actor, peer: Actor) -> Pulled | Refused:
        self.replicas[actor].pull(peer)
        self.settle()
        return self.ended[-1]

    def collect(self) -> None:
        for _ in range(2):
            for actor in self.replicas:
                for peer in self.replicas:
                    if actor != peer:
                        self.pull(actor, peer)
            for replica in self.replicas.values():
                while replica.collect():
                    pass
        self.settle()

    def answers(self) -> list[PullAnswer]:
        return [message for _, _, data in self.sent if isinstance(message := decode(data), PullAnswer)]


def test_equal_replicas_exchange_two_short_messages_however_long_their_history() -> None:
    net = Net(ONE, OTHER, limits=Limits())
    for number in range(20_000):
        net.replicas[ONE].put(b"k%d" % (number % 10), b"v")
        if not number % 1_000:
            net.settle()
    net.collect()
    net.sent.clear()
    assert net.pull(OTHER, ONE) == Pulled(ONE, whole=False, keys=0)
    assert len(net.sent) == 2
    assert sum(len(data) for _, _, data in net.sent) < 500


def test_an_exchange_moves_the_difference_and_nothing_else() -> None:
    net = Net(ONE, OTHER)
    for number in range(500):
        net.replicas[ONE].put(b"k%d" % number, b"v")
    net.settle()
    net.collect()
    for number in range(7):
        net.replicas[ONE].put(b"k%d" % number, b"w")
        net.replicas[ONE].put(b"k%d" % number, b"x")
    net.take(ONE)  # nobody hears it
    assert net.pull(OTHER, ONE) == Pulled(ONE, whole=False, keys=7)
    assert net.replicas[OTHER].get(b"k3") == b"x"


def test_a_joining_node_gets_everything_in_bounded_pages_though_writes_and_collection_go_on() -> None:
    net = Net(ONE, OTHER)
    for number in range(300):
        net.replicas[ONE].put(b"k%03d" % number, b"v" * 20)
    net.replicas[ONE].delete(b"k007")
    net.settle()
    net.collect()
    net.join(THIRD)
    net.replicas[THIRD].pull(ONE)
    for number in range(400):
        messages = net.take(THIRD)
        net.hand_over(THIRD, messages)
        if not messages:
            break
        if number < 30:
            net.replicas[ONE].put(b"new%03d" % number, b"v")
            net.replicas[ONE].delete(b"k%03d" % (number * 7))
            net.replicas[ONE].collect()
        net.hand_over(ONE, [message for message in net.take(ONE) if message[0] == THIRD])
    assert net.ended[-1] == Pulled(ONE, whole=True, keys=net.ended[-1].keys) if isinstance(net.ended[-1], Pulled) else 0
    assert dict(net.replicas[THIRD].scan(b"")) == dict(net.replicas[ONE].scan(b""))
    assert max(len(data) for _, peer, data in net.sent if peer == THIRD) < 2 * PAGES.page_bytes
    net.restart(THIRD)
    assert dict(net.replicas[THIRD].scan(b"")) == dict(net.replicas[ONE].scan(b""))


def test_a_page_that_was_lost_is_asked_for_again_and_the_sync_goes_on_from_there() -> None:
    net = Net(ONE, limits=Limits(page_bytes=1_000))
    fill(net, 200)
    net.join(OTHER)
    net.replicas[OTHER].pull(ONE)
    pages = 0
    while net.replicas[OTHER].pulling:
        net.hand_over(OTHER, net.take(OTHER))
        net.take(ONE)  # the answer is lost
        net.replicas[OTHER].repeat()
        net.hand_over(OTHER, net.take(OTHER))
        net.hand_over(ONE, net.take(ONE))
        pages += 1
    net.take(OTHER)
    assert pages > 5
    assert dict(net.replicas[OTHER].scan(b"")) == dict(net.replicas[ONE].scan(b""))
    sizes = [answer.following - answer.position for answer in net.answers()]
    assert sum(sizes) == 400  # each page twice, and none from the beginning


def test_a_node_that_dies_during_its_first_sync_erases_what_it_had_and_begins_anew() -> None:
    net = Net(ONE)
    fill(net, 200)
    net.join(OTHER)
    net.replicas[OTHER].pull(ONE)
    for _ in range(3):
        net.hand_over(OTHER, net.take(OTHER))
        net.hand_over(ONE, net.take(ONE))
    net.take(OTHER)
    assert len(net.disks[OTHER]) > 30
    net.restart(OTHER)
    assert len(net.replicas[OTHER]) == 0
    net.replicas[ONE].set_members([ONE])  # in its absence it is removed, and what it had is deleted
    for number in range(10):
        net.replicas[ONE].delete(b"k%03d" % number)
    net.take(ONE)
    net.replicas[ONE].collect()
    net.replicas[ONE].set_members([ONE, OTHER])
    assert net.pull(OTHER, ONE) == Pulled(ONE, whole=True, keys=190)
    while net.replicas[OTHER].parts.pending.erased:
        net.take(OTHER)
    net.restart(OTHER)
    assert len(net.replicas[OTHER]) == 190
    assert dict(net.replicas[OTHER].scan(b"")) == dict(net.replicas[ONE].scan(b""))
    assert len(net.disks[OTHER]) == 193


def test_what_was_stored_of_a_sync_that_was_given_up_is_erased_in_bounded_batches() -> None:
    net = Net(ONE)
    fill(net, 200)
    net.join(OTHER)
    net.replicas[OTHER].pull(ONE)
    for _ in range(4):
        net.hand_over(OTHER, net.take(OTHER))
        net.hand_over(ONE, net.take(ONE))
    net.take(OTHER)
    net.replicas[OTHER].cancel()
    more = True
    while more:
        output = net.replicas[OTHER].take()
        assert len(output.writes) <= PAGES.erased_max + 3
        for key, value in output.writes:
            assert value is not None or net.disks[OTHER].pop(key)
        more = output.more
    assert not [key for key in net.disks[OTHER] if key.startswith(b"swc/o")]


def test_a_giver_that_starts_anew_refuses_to_go_on() -> None:
    net = Net(ONE)
    fill(net, 200)
    net.join(OTHER)
    net.replicas[OTHER].pull(ONE)
    for _ in range(2):
        net.hand_over(OTHER, net.take(OTHER))
        net.hand_over(ONE, net.take(ONE))
    net.restart(ONE)
    net.settle()
    assert net.ended == [Refused(ONE, RefusalReason.GONE)]
    assert net.pull(OTHER, ONE) == Pulled(ONE, whole=True, keys=200)


def test_a_large_difference_is_fetched_as_a_whole_copy_so_that_little_is_held_back() -> None:
    net = Net(ONE, OTHER, limits=Limits(page_bytes=1_000, staged_bytes_max=3_000))
    for number in range(200):
        net.replicas[ONE].put(b"k%03d" % number, b"v" * 20)
    net.take(ONE)
    net.replicas[OTHER].put(b"own", b"v")
    net.take(OTHER)
    assert net.pull(OTHER, ONE) == Pulled(ONE, whole=True, keys=200)
    assert net.replicas[OTHER].get(b"own") == b"v"
    net.pull(ONE, OTHER)
    assert dict(net.replicas[OTHER].scan(b"")) == dict(net.replicas[ONE].scan(b""))


def test_a_whole_copy_does_not_bring_back_what_was_deleted_and_forgotten_here() -> None:
    net = Net(ONE, OTHER, limits=Limits(page_bytes=1_000, staged_bytes_max=3_000))
    net.replicas[OTHER].put(b"gone", b"v")
    net.settle()
    net.collect()
    net.replicas[ONE].set_members([ONE])
    net.replicas[ONE].delete(b"gone")
    net.replicas[ONE].collect()
    net.take(ONE)
    assert len(net.replicas[ONE]) == 0
    net.replicas[ONE].set_members([ONE, OTHER])
    for number in range(200):
        net.replicas[OTHER].put(b"k%03d" % number, b"v" * 20)
    net.take(OTHER)
    assert net.pull(ONE, OTHER) == Pulled(OTHER, whole=True, keys=201)
    assert net.replicas[ONE].get(b"gone") is None
    net.pull(OTHER, ONE)
    assert net.replicas[OTHER].get(b"gone") is None


def test_the_answer_to_an_exchange_that_was_given_up_is_dropped() -> None:
    net = Net(ONE, OTHER)
    net.replicas[ONE].put(b"k", b"v")
    net.take(ONE)
    net.replicas[OTHER].pull(ONE)
    net.hand_over(OTHER, net.take(OTHER))
    late = net.take(ONE)
    net.replicas[OTHER].pull(ONE)
    net.hand_over(ONE, late)
    assert net.replicas[OTHER].pulling == ONE
    assert net.replicas[OTHER].get(b"k") is None
    net.settle()
    assert net.replicas[OTHER].get(b"k") == b"v"


def test_collection_waits_for_a_peer_that_is_given_pages() -> None:
    net = Net(ONE)
    fill(net, 200)
    net.join(OTHER)
    net.replicas[OTHER].pull(ONE)
    for _ in range(3):
        net.hand_over(OTHER, net.take(OTHER))
        net.hand_over(ONE, net.take(ONE))
    # The peer seems to know what is written now, though the list that it is given was made before.
    net.replicas[ONE].put(b"new", b"v")
    net.hand_over(ONE, net.take(ONE))
    net.replicas[ONE].parts.watermark.heard_of(1, {0: 10_000})
    net.replicas[ONE].collect()
    net.settle()
    assert net.ended[-1] == Pulled(ONE, whole=True, keys=201)
    assert dict(net.replicas[OTHER].scan(b"")) == dict(net.replicas[ONE].scan(b""))


def test_a_busy_giver_says_so() -> None:
    net = Net(ONE, limits=Limits(page_bytes=1_000, givings_max=1))
    fill(net, 200)
    net.join(OTHER)
    net.join(THIRD)
    for actor in (OTHER, THIRD):
        net.replicas[actor].pull(ONE)
        for _ in range(2):
            net.hand_over(actor, net.take(actor))
            net.hand_over(ONE, net.take(ONE))
    net.take(THIRD)
    assert net.ended == [Refused(ONE, RefusalReason.BUSY)]


def test_a_stranger_is_refused_and_nothing_changes_on_either_side() -> None:
    net = Net(ONE)
    fill(net, 5)
    stranger = Replica(THIRD, members=[THIRD, ONE], nonce=1)
    stranger.put(b"mine", b"v")
    stranger.pull(ONE)
    before = dict(net.disks[ONE])
    for _, data in stranger.take().messages:
        net.replicas[ONE].receive(THIRD, data)
    for peer, data in net.take(ONE):
        assert peer == THIRD
        stranger.receive(ONE, data)
    assert stranger.take().ended == [Refused(ONE, RefusalReason.NOT_A_MEMBER)]
    assert net.disks[ONE] == before
    assert [key for key, _ in stranger.scan(b"")] == [b"mine"]


def test_only_a_member_can_be_pulled_from() -> None:
    replica = Replica(ONE, members=[ONE, OTHER], nonce=1)
    for peer in (ONE, THIRD):
        with pytest.raises(NoMemberError):
            replica.pull(peer)


def test_who_lacks_what_was_collected_is_told_before_anything_is_listed() -> None:
    net = Net(ONE)
    fill(net, 50)
    net.join(OTHER)
    net.pull(OTHER, ONE)
    first, second, *_ = net.answers()
    assert (first.state, first.rows) == (PageState.TOO_OLD, [])
    assert second.rows


def fill(net: Net, count: int) -> None:
    for number in range(count):
        net.replicas[ONE].put(b"k%03d" % number, b"v" * 20)
    net.settle()
    for _ in range(2):
        while net.replicas[ONE].collect():
            pass
    net.settle()
