"""How `session show` walks the sessions: pages, early ends, look-ups, rows for subscriptions."""

import dataclasses
from typing import cast

import pytest

from strogoff._engine import Engine, SessionInfo, SubscriptionInfo
from strogoff.admin.arguments import Call
from strogoff.admin.commands import sessions
from strogoff.admin.commands.sessions import DEFAULT_COLUMNS, FIELDS, session_row, subscription_row
from strogoff.admin.query import Query, query_of
from strogoff.admin.registry import FlagKind


@dataclasses.dataclass(frozen=True)
class Session:
    """The attributes of the engine's `SessionInfo`."""

    client_id: str
    mountpoint: str = ""
    username: str | None = None
    is_online: bool = True
    peer_host: str | None = "192.0.2.1"
    peer_port: int | None = 50_000
    listener: str | None = "default"
    protocol: int = 5
    clean_session: bool = True
    session_expiry_interval: int | None = 0
    keep_alive: int = 60
    online_messages: int = 2
    offline_messages: int = 3
    waiting_acks: int = 1
    subscriptions: int = 0
    deliver_mode: str = "fanout"
    num_sessions: int = 1
    queue_started_at: float = 1_700_000_000.5
    session_started_at: float | None = None
    bytes_received: int = 10
    bytes_sent: int = 20


@dataclasses.dataclass(frozen=True)
class Subscription:
    """The attributes of the engine's `SubscriptionInfo`."""

    topic: str
    qos: int = 1
    no_local: bool = False
    retain_as_published: bool = True
    identifier: int | None = None


class Sessions:
    """The queries of an engine over a list of sessions, with a record of what was asked."""

    def __init__(self, *every: Session, topics: dict[str, list[str]] | None = None) -> None:
        self.every = sorted(every, key=lambda each: (each.mountpoint, each.client_id))
        self.topics = topics or {}
        self.pages: list[int] = []
        self.looked_up: list[tuple[str, str]] = []

    def sessions(self, *, after: tuple[str, str] | None, limit: int) -> list[Session]:
        self.pages.append(limit)
        return [each for each in self.every if after is None or (each.mountpoint, each.client_id) > after][:limit]

    def session(self, client_id: str, mountpoint: str) -> Session | None:
        self.looked_up.append((mountpoint, client_id))
        return next((each for each in self.every if (each.client_id, each.mountpoint) == (client_id, mountpoint)), None)

    def subscriptions(self, client_id: str, _mountpoint: str) -> list[Subscription]:
        return [Subscription(topic) for topic in self.topics.get(client_id, [])]


def _query(*flags: tuple[str, str | None]) -> Query:
    return query_of(Call(flags=flags), FIELDS, DEFAULT_COLUMNS)


def _ids(engine: Sessions, *flags: tuple[str, str | None]) -> list[object]:
    rows = sessions._rows(cast("Engine", engine), "a@b", _query(*flags))
    return [row["client_id"] for row in rows]


def test_a_session_has_every_field_it_is_asked_for() -> None:
    row = session_row(cast("SessionInfo", Session("c", username="u")), "a@b")
    row |= subscription_row(cast("SubscriptionInfo", Subscription("t")))
    assert list(row) == list(FIELDS)
    assert (row["node"], row["user"], row["queue_size"], row["statename"]) == ("a@b", "u", 5, "online")
    assert (row["queue_started_at"], row["session_started_at"], row["rap"]) == (1_700_000_000_500, None, True)


def test_every_field_has_a_flag() -> None:
    flags = {flag.name for flag in sessions.show.flags if flag.kind is FlagKind.FIELD}
    assert flags == set(FIELDS)


def test_all_sessions_are_found_over_the_ends_of_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PAGE_SIZE", 3)
    engine = Sessions(*(Session(f"c{number}", mountpoint="m" if number % 2 else "") for number in range(8)))
    assert _ids(engine, ("is_online", "true")) == ["c0", "c2", "c4", "c6", "c1", "c3", "c5", "c7"]
    assert engine.pages == [3, 3, 3]


def test_no_more_is_asked_for_than_shown() -> None:
    engine = Sessions(*(Session(f"c{number}") for number in range(8)))
    assert _ids(engine, ("limit", "2")) == ["c0", "c1", "c2"]
    assert engine.pages == [3]


def test_a_walk_ends_when_the_limit_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PAGE_SIZE", 2)
    engine = Sessions(*(Session(f"c{number:03}") for number in range(100)))
    assert _ids(engine, ("limit", "2"), ("protocol", "5")) == ["c000", "c001", "c002"]
    assert engine.pages == [2, 2]


def test_a_client_named_in_full_is_looked_up_without_a_walk() -> None:
    engine = Sessions(Session("c"), Session("c", mountpoint="m"))
    assert _ids(engine, ("client_id", "c"), ("mountpoint", "m")) == ["c"]
    assert _ids(engine, ("mountpoint", ""), ("client_id", "absent")) == []
    assert (engine.pages, engine.looked_up) == ([], [("m", "c"), ("", "absent")])


def test_a_field_of_subscriptions_makes_a_row_for_each_of_them() -> None:
    engine = Sessions(Session("a"), Session("b"), Session("c"), topics={"a": ["x", "y"], "c": ["x"]})
    assert _ids(engine, ("topic", None)) == ["a", "a", "c"]
    assert _ids(engine, ("topic", "x")) == ["a", "c"]
    assert _ids(engine, ("topic", "x"), ("client_id", "~a|b")) == ["a"]


def test_one_session_with_many_subscriptions_is_cut_off_as_well() -> None:
    engine = Sessions(Session("a"), topics={"a": [f"t/{number}" for number in range(50)]})
    assert len(_ids(engine, ("topic", None), ("limit", "5"))) == 6
