"""Links between engines in this process: what Python says about peers and hears from them."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

import pytest

from certificates import CertificateAuthority
from engine.running import eventually, has, is_readable
from strogoff._engine import (
    ClusterListenerInfo,
    Engine,
    LinkTls,
    PeerConfig,
    PeerInfo,
    PeerMessage,
    PeerRefused,
    PeerState,
)

DEADLINE_S = 20.0
CLUSTER = bytes(range(16))
LIMITS = {"link_timeout_ms": 1_000}
E = TypeVar("E", PeerMessage, PeerState, PeerRefused)


class Node:
    """An engine with a cluster listener. Its name is `NAME@127.0.0.1`, its incarnation made of the name."""

    def __init__(
        self,
        name: str,
        *,
        cluster: bytes | None = CLUSTER,
        secret: bytes = b"secret",
        agreed: list[tuple[str, str]] | None = None,
        tls: LinkTls | None = None,
    ) -> None:
        self.name = f"{name}@127.0.0.1"
        self.incarnation = name.encode().ljust(16, b"\0")
        self.engine = Engine({"workers": 1})
        self.engine.start()
        self.engine.start_cluster(
            self.name,
            self.incarnation,
            cluster=cluster,
            secret=secret,
            agreed=agreed or [],
            link_timeout_ms=LIMITS["link_timeout_ms"],
        )
        self.engine.set_link_tls(tls)
        self.has_tls = tls is not None
        self.listener = self.engine.open_cluster_listener("default", "127.0.0.1", 0, tls=tls)
        self._events: list[PeerMessage | PeerState | PeerRefused] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.engine.stop(5_000)

    def config(self, **changes: object) -> PeerConfig:
        """How others dial this node."""
        options = {"incarnation": self.incarnation, "tls": self.has_tls, **changes}
        return PeerConfig(self.name, [f"127.0.0.1:{self.listener.port}"], **options)  # type: ignore[arg-type]

    def info(self, peer: "Node | str") -> PeerInfo:
        name = peer if isinstance(peer, str) else peer.name
        return next(info for info in self.engine.peers() if info.name == name)

    def event(self, kind: type[E], **attributes: object) -> E:
        """The next event of this kind with these attributes; others stay for later."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for index, event in enumerate(self._events):
                if isinstance(event, kind) and has(event, attributes):
                    del self._events[index]
                    return event
            left = deadline - time.monotonic()
            assert left > 0, f"no {kind.__name__} with {attributes} came"
            if is_readable(self.engine.peer_event_fd(), left):
                self._events.extend(self.engine.drain_peers())

    def metric(self, name: str) -> int:
        return sum(each.value for each in self.engine.metrics() if each.name == name)


@pytest.fixture
def node() -> Iterator[Callable[..., Node]]:
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Node(*arguments, **options))


def link(a: Node, b: Node) -> None:
    a.engine.set_peers([b.config()])
    b.engine.set_peers([a.config()])
    a.event(PeerState, peer=b.name, state="reachable")
    b.event(PeerState, peer=a.name, state="reachable")


def test_two_nodes_reach_each_other_and_exchange_messages_in_order(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    link(a, b)
    large = bytes(300_000)
    for number in range(100):
        assert a.engine.peer_send(b.name, "metadata", b"%d" % number)
    assert a.engine.peer_send(b.name, "control", large)
    for number in range(100):
        event = b.event(PeerMessage, lane="metadata")
        assert (event.peer, event.incarnation, event.data) == (a.name, a.incarnation, b"%d" % number)
    assert b.event(PeerMessage, lane="control").data == large
    assert not is_readable(b.engine.peer_event_fd())
    assert a.metric("cluster_control_sent") == 101
    assert b.metric("cluster_control_received") == 101


def test_what_is_known_of_a_link_is_told(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    link(a, b)
    info = a.info(b)
    assert (info.state, info.incarnation, info.refusal, info.answering) == ("reachable", b.incarnation, None, None)
    assert time.time() - DEADLINE_S < info.since <= time.time()
    assert [(each.direction, each.lane) for each in info.lanes] == [
        (direction, lane) for direction in ("dialled", "accepted") for lane in ("control", "metadata", "data")
    ]
    assert all(each.state == "alive" and each.round_trip_us is not None for each in info.lanes)
    assert (info.dropped, info.dropped_bytes, info.held_bytes, info.queued_bytes) == ((0, 0, 0), 0, 0, 0)
    assert info.bytes_sent > 0
    assert (a.metric("cluster_peers"), a.metric("cluster_peers_reachable"), a.metric("cluster_peer_up")) == (1, 1, 1)


def test_a_peer_that_stops_is_down_with_its_reason_and_gets_no_messages(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    link(a, b)
    b.engine.stop(5_000)
    event = a.event(PeerState, peer=b.name, state="down")
    assert event.reason
    eventually(lambda: not a.engine.peer_send(b.name, "control", b"x"), "nothing is taken for it")
    assert not a.engine.peer_send("nobody@127.0.0.1", "control", b"x")
    assert a.metric("cluster_peer_down") == 1
    assert a.info(b).messages_turned_away >= 1


def test_a_node_joins_as_a_guest_is_answered_and_becomes_a_member(node: Callable[..., Node]) -> None:
    newcomer, member = node("n", cluster=None), node("m")
    newcomer.engine.set_peers([member.config()])
    refused = newcomer.event(PeerState, peer=member.name, refusal="joining_closed")
    assert refused.state == "down"
    assert member.name in refused.reason
    assert member.event(PeerRefused, refusal="joining_closed").peer == newcomer.name
    member.engine.set_peers([], joining=True)
    newcomer.event(PeerState, peer=member.name, state="guest")
    assert newcomer.engine.peer_send(member.name, "control", b"may I?")
    assert not newcomer.engine.peer_send(member.name, "metadata", b"not yet")
    assert member.event(PeerMessage).peer == newcomer.name
    assert member.info(newcomer).state == "guest"
    assert member.engine.peer_send(newcomer.name, "control", b"welcome")
    assert newcomer.event(PeerMessage).data == b"welcome"
    member.engine.set_peers([newcomer.config()], joining=True)
    newcomer.engine.set_cluster(CLUSTER)
    newcomer.event(PeerState, peer=member.name, state="reachable")
    member.event(PeerState, peer=newcomer.name, state="reachable")


def test_a_node_that_was_removed_hears_it(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    link(a, b)
    a.engine.set_peers([])
    assert a.engine.peers() == []
    assert "cluster" in b.event(PeerState, peer=a.name, refusal="not_a_member").reason


@pytest.mark.parametrize(
    ("options", "refusal", "words"),
    [
        ({"secret": b"another"}, "secret", "distributed_cookie"),
        ({"cluster": bytes(16)}, "wrong_cluster", "cluster"),
        ({"agreed": [("vmq_swc.swc_groups", "5")]}, "settings", "vmq_swc.swc_groups"),
    ],
)
def test_nodes_that_do_not_fit_say_why(
    node: Callable[..., Node], options: dict[str, object], refusal: str, words: str
) -> None:
    a, b = node("a", agreed=[("vmq_swc.swc_groups", "10")]), node("b", **options)
    a.engine.set_peers([b.config()])
    b.engine.set_peers([a.config()])
    assert words in a.event(PeerState, peer=b.name, refusal=refusal).reason
    assert words in b.event(PeerRefused, refusal=refusal).reason
    assert a.info(b).state == "down"


def test_another_data_directory_than_expected_is_told(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    a.engine.set_peers([b.config(incarnation=bytes(16))])
    b.engine.set_peers([a.config()])
    assert bytes(16).hex() in a.event(PeerState, peer=b.name, refusal="wrong_incarnation").reason


def test_an_address_tells_the_name_of_its_node(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    a.engine.set_peers([PeerConfig("seed", [f"127.0.0.1:{b.listener.port}"])])
    a.event(PeerState, peer="seed", refusal="wrong_node")
    assert a.info("seed").answering == b.name


def node_tls(authority: CertificateAuthority, host: str = "127.0.0.1") -> LinkTls:
    issued = authority.issue_for_node(host)
    return LinkTls(certificates=issued.certificate_pem, key=issued.key_pem, ca=authority.pem)


def test_links_over_tls_and_certificates_that_are_exchanged(node: Callable[..., Node]) -> None:
    ours, theirs = CertificateAuthority("ours"), CertificateAuthority("theirs")
    a, b = node("a", tls=node_tls(ours)), node("b", tls=node_tls(theirs))
    assert a.listener.is_tls
    a.engine.set_peers([b.config()])
    b.engine.set_peers([a.config()])
    assert "authority" in a.event(PeerState, peer=b.name, state="down").reason
    assert b.engine.set_cluster_listener_tls("default", node_tls(ours))
    assert not b.engine.set_cluster_listener_tls("other", node_tls(ours))
    b.engine.set_link_tls(node_tls(ours))
    a.event(PeerState, peer=b.name, state="reachable")
    b.event(PeerState, peer=a.name, state="reachable")


def test_whoever_is_no_node_is_refused_and_told(node: Callable[..., Node]) -> None:
    a = node("a")
    with socket.create_connection(("127.0.0.1", a.listener.port), DEADLINE_S) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        event = a.event(PeerRefused, refusal="malformed")
        assert event.address == stranger.getsockname()
    assert (event.listener, event.peer) == ("default", None)
    info = a.engine.cluster_listeners()[0]
    assert (info.all_connections, info.failed_connections) == (1, 1)
    assert a.metric("cluster_accept_errors") == 1


def test_listeners_open_and_close(node: Callable[..., Node]) -> None:
    a = node("a")
    assert isinstance(a.listener, ClusterListenerInfo)
    assert (a.listener.name, a.listener.address, a.listener.is_tls) == ("default", "127.0.0.1", False)
    with pytest.raises(ValueError, match="already"):
        a.engine.open_cluster_listener("default", "127.0.0.1", 0)
    with pytest.raises(ValueError, match="address"):
        a.engine.open_cluster_listener("other", "localhost", 0)
    with pytest.raises(OSError, match="in use"):
        a.engine.open_cluster_listener("other", "127.0.0.1", a.listener.port)
    tls = node_tls(CertificateAuthority())
    with pytest.raises(ValueError, match="no TLS"):
        a.engine.set_cluster_listener_tls("default", tls)
    with pytest.raises(ValueError, match="max_connections: expected 1 or more"):
        a.engine.open_cluster_listener("other", "127.0.0.1", 0, max_connections=0)
    small = a.engine.open_cluster_listener("small", "127.0.0.1", 0, max_connections=5)
    assert (a.listener.max_connections, small.max_connections, small.active_connections) == (None, 5, 0)
    assert a.engine.close_cluster_listener("small")
    assert a.engine.close_cluster_listener("default")
    assert not a.engine.close_cluster_listener("default")
    assert a.engine.cluster_listeners() == []


def test_limits_are_checked_and_changed(node: Callable[..., Node]) -> None:
    a = node("a")
    a.engine.set_link_limits(link_timeout_ms=10_000, credit=1 << 20)
    with pytest.raises(ValueError, match=r"cluster\.link_timeout: expected 50"):
        a.engine.set_link_limits(link_timeout_ms=1)
    with pytest.raises(ValueError, match=r"cluster\.credit"):
        a.engine.set_link_limits(credit=0)
    with pytest.raises(ValueError, match="queued_bytes"):
        a.engine.set_link_limits(queued_bytes="many")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="patience"):
        a.engine.set_link_limits(patience=1)  # type: ignore[call-arg]


def test_what_is_said_wrongly_is_told(node: Callable[..., Node]) -> None:
    engine = Engine()
    with pytest.raises(RuntimeError, match="start_cluster"):
        engine.set_peers([])
    with pytest.raises(ValueError, match="incarnation: expected 16 bytes"):
        engine.start_cluster("a@h", b"short")
    with pytest.raises(ValueError, match="name"):
        engine.start_cluster("", bytes(16))
    assert engine.peers() == []
    assert engine.cluster_listeners() == []
    assert engine.drain_peers() == []
    a = node("a")
    with pytest.raises(RuntimeError, match="before"):
        a.engine.start_cluster("a@h", bytes(16))
    with pytest.raises(ValueError, match="twice"):
        a.engine.set_peers([PeerConfig("b@h", []), PeerConfig("b@h", [])])
    with pytest.raises(ValueError, match="lane"):
        a.engine.peer_send("b@h", "data", b"")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cluster: expected 16 bytes"):
        a.engine.set_cluster(b"x")
    with pytest.raises(ValueError, match="certificate"):
        LinkTls(certificates=b"", key=b"", ca=b"")
    with pytest.raises(ValueError, match="is not offered"):
        LinkTls(certificates=b"", key=b"", ca=b"", versions=["tlsv1.1"])
    with pytest.raises(ValueError, match="handshake_timeout_ms: expected 1 or more"):
        LinkTls(certificates=b"", key=b"", ca=b"", handshake_timeout_ms=0)


def test_a_configuration_of_a_peer_is_a_value() -> None:
    config = PeerConfig("a@h", ["h:1"], incarnation=bytes(16), tls=True)
    assert (config.name, config.addresses, config.incarnation, config.tls) == ("a@h", ["h:1"], bytes(16), True)
    assert config == PeerConfig("a@h", ["h:1"], incarnation=bytes(16), tls=True)
    assert config != PeerConfig("a@h", ["h:1"])


def test_events_that_nobody_takes_are_bounded_and_counted(node: Callable[..., Node]) -> None:
    a, b = node("a"), node("b")
    link(a, b)
    b.engine.configure({"event_queue_limit": 10})
    for _ in range(20):
        assert a.engine.peer_send(b.name, "metadata", b"x")
    eventually(lambda: b.metric("cluster_events_dropped") == 15, "half of the room is for messages")
    b.engine.stop(5_000)
    assert [type(event) for event in b.engine.drain_peers()] == [PeerMessage] * 5 + [PeerState]
