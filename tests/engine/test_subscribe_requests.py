"""`auth_on_subscribe`: what Python is told of a SUBSCRIBE, and what each verdict makes of it."""

from collections.abc import Callable

import pytest

from engine.running import Running
from protocol import requests
from protocol.answers import Suback
from protocol.client import Client
from protocol.requests import Filter
from protocol.wire import Property, Version
from strogoff._engine import SubscribeRequest, Verdict

FILTERS = [Filter("a/+", 2), Filter("$share/g/b", 1), Filter("c", 0)]


@pytest.fixture
def asking(run: Callable[..., Running]) -> Running:
    """An engine that asks about every SUBSCRIBE."""
    return run(hooks=["auth_on_subscribe"])


def subscribe(running: Running, client: Client, **options: object) -> SubscribeRequest:
    client.send(requests.subscribe(client.version, 9, FILTERS, **options))  # type: ignore[arg-type]
    return running.event(SubscribeRequest)


def topics(running: Running, client: Client) -> list[tuple[str, int]]:
    return [(each.topic, each.qos) for each in running.engine.subscriptions(client.client_id)]


def test_a_request_tells_the_filters_in_order(asking: Running) -> None:
    client = asking.connect(Version.V5, "sub")
    properties = [(Property.SUBSCRIPTION_IDENTIFIER, 4), (Property.USER_PROPERTY, ("k", "v"))]
    request = subscribe(asking, client, properties=properties)
    assert (request.client_id, request.mountpoint, request.username) == ("sub", "", None)
    assert request.filters == [("a/+", 2), ("$share/g/b", 1), ("c", 0)]
    assert request.protocol_version == 5
    assert request.properties == [("subscription_identifier", 4), ("user_property", ("k", "v"))]


@pytest.mark.parametrize("version", Version)
def test_subscriptions_are_made_when_they_are_allowed_and_not_before(asking: Running, version: Version) -> None:
    client = asking.connect(version)
    request = subscribe(asking, client)
    assert topics(asking, client) == []
    assert asking.engine.resolve(request.ticket, Verdict.allow())
    assert client.expect(Suback).codes == (2, 1, 0)
    assert topics(asking, client) == [("$share/g/b", 1), ("a/+", 2), ("c", 0)]


@pytest.mark.parametrize(("version", "codes"), [(Version.V3_1_1, (0, 0x80, 1)), (Version.V5, (0, 0x87, 1))])
def test_a_verdict_grants_filter_by_filter(asking: Running, version: Version, codes: tuple[int, ...]) -> None:
    client = asking.connect(version)
    request = subscribe(asking, client)
    changed = [("a/+", 0), ("$share/g/b", 0x87), ("tenant/c", 1)]
    asking.engine.resolve(request.ticket, Verdict.allow(filters=changed))
    assert client.expect(Suback).codes == codes
    assert topics(asking, client) == [("a/+", 0), ("tenant/c", 1)]


@pytest.mark.parametrize(("version", "code"), [(Version.V3_1_1, 0x80), (Version.V5, 0x97)])
def test_a_denied_subscribe_refuses_every_filter(asking: Running, version: Version, code: int) -> None:
    client = asking.connect(version)
    request = subscribe(asking, client)
    asking.engine.resolve(request.ticket, Verdict.deny(0x97))
    assert client.expect(Suback).codes == (code,) * 3
    assert topics(asking, client) == []
    client.barrier()


def test_a_code_that_does_not_belong_in_a_suback_is_not_sent(asking: Running) -> None:
    client = asking.connect(Version.V5)
    asking.engine.resolve(subscribe(asking, client).ticket, Verdict.deny(0x8A))
    assert client.expect(Suback).codes == (0x80,) * 3


def test_a_verdict_with_filters_that_are_none_refuses_those(asking: Running) -> None:
    client = asking.connect(Version.V5)
    request = subscribe(asking, client)
    asking.engine.resolve(request.ticket, Verdict.allow(filters=[("a/#/b", 0), ("$share//x", 0), ("c", 2)]))
    assert client.expect(Suback).codes == (0x8F, 0x8F, 2)
