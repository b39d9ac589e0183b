"""Who decides: nobody, Python, or the rules that the engine was given; for the node and for single listeners."""

import hashlib
from base64 import b64encode
from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol import requests
from protocol.answers import Connack
from protocol.client import Client
from protocol.requests import Will
from protocol.wire import Version
from strogoff._engine import AccessList, PasswordTable, PublishRequest, hash_password

NOT_AUTHORIZED = 0x87
BAD_PASSWORD = 0x86


def salted(password: bytes, salt: bytes = b"saltsaltsalt") -> str:
    return f"$6${b64encode(salt).decode()}${b64encode(hashlib.sha512(password + salt).digest()).decode()}"


def rules(text: str) -> AccessList:
    access_list, remarks = AccessList.parse(text.encode())
    assert remarks == []
    return access_list


def passwords(**users: str) -> PasswordTable:
    table, remarks = PasswordTable.parse("".join(f"{name}:{line}\n" for name, line in users.items()).encode())
    assert remarks == []
    return table


@pytest.fixture
def guarded(run: Callable[..., Running]) -> Running:
    """An engine that decides everything by its own rules and has none yet."""
    running = run({"allow_anonymous": False})
    running.engine.set_access(register="policy", publish="policy", subscribe="policy")
    return running


@pytest.fixture
def ruled(run: Callable[..., Running]) -> Running:
    """An engine that lets everybody connect and decides the rest by its own rules."""
    running = run()
    running.engine.set_access(publish="policy", subscribe="policy")
    return running


def connack(running: Running, **options: object) -> int:
    with running.open(Version.V5) as client:
        return client.handshake("c", **options).code  # type: ignore[arg-type]


def published(client: Client, topic: str) -> int:
    return client.publish(topic, b"x", qos=1)


def granted(client: Client, *filters: str) -> list[int]:
    return list(client.subscribe(*filters, qos=1).codes)


def test_a_password_lets_its_user_in_and_nobody_else(guarded: Running) -> None:
    guarded.engine.set_policy(access_list=None, passwords=passwords(ann=salted(b"secret")))
    assert connack(guarded, username="ann", password=b"secret") == 0
    assert connack(guarded, username="ann", password=b"Secret") == BAD_PASSWORD
    assert connack(guarded, username="ann") == NOT_AUTHORIZED
    assert connack(guarded, username="bob", password=b"secret") == NOT_AUTHORIZED
    assert connack(guarded) == NOT_AUTHORIZED


def test_a_slow_hash_is_paid_for_once(guarded: Running) -> None:
    line = hash_password(b"secret", memory_kib=8_192, passes=1)
    guarded.engine.set_policy(access_list=None, passwords=passwords(ann=line))
    for _ in range(3):
        assert connack(guarded, username="ann", password=b"secret") == 0
        assert connack(guarded, username="ann", password=b"wrong") == BAD_PASSWORD


def test_a_slow_check_holds_up_nobody_else(guarded: Running) -> None:
    slow = hash_password(b"secret", memory_kib=131_072, passes=8)
    guarded.engine.set_policy(access_list=rules("topic #"), passwords=passwords(slow=slow, quick=salted(b"secret")))
    with guarded.open(Version.V5) as waiting:
        waiting.send(requests.connect(Version.V5, "slow", username="slow", password=b"secret"))
        other = guarded.open(Version.V5)
        assert other.handshake("quick", username="quick", password=b"secret").code == 0
        for _ in range(20):
            other.barrier()
        assert waiting.poll(Connack) is None, "the slow check should have been slower than all of this"
        assert waiting.expect(Connack).code == 0


def test_too_many_slow_checks_are_refused_and_counted(run: Callable[..., Running]) -> None:
    running = run({"allow_anonymous": False, "max_pending_password_checks": 1})
    running.engine.set_access(register="policy")
    slow = hash_password(b"secret", memory_kib=131_072, passes=4)
    running.engine.set_policy(access_list=None, passwords=passwords(slow=slow))
    clients = [running.open(Version.V5) for _ in range(6)]
    for number, client in enumerate(clients):
        client.send(requests.connect(Version.V5, f"c{number}", username="slow", password=b"secret"))
    codes = sorted(client.expect(Connack).code for client in clients)
    assert codes[0] == 0
    assert codes[-1] == 0x89
    assert running.metric("password_check_overload") == codes.count(0x89)


def test_rules_decide_about_publishing(ruled: Running) -> None:
    ruled.engine.set_policy(access_list=rules("pattern write in/%c\n"), passwords=None)
    client = ruled.connect(Version.V5, "c")
    assert published(client, "in/c") == 0x10
    assert published(client, "in/d") == NOT_AUTHORIZED
    assert ruled.metric("mqtt_publish_auth_error") == 1


def test_new_rules_hold_for_clients_that_are_connected(ruled: Running) -> None:
    client = ruled.connect(Version.V5, "c")
    assert published(client, "a") == NOT_AUTHORIZED, "without rules nothing is allowed"
    ruled.engine.set_policy(access_list=rules("topic a\n"), passwords=None)
    assert [published(client, "a") for _ in range(2)] == [0x10, 0x10]
    ruled.engine.set_policy(access_list=rules("topic b\n"), passwords=None)
    assert published(client, "a") == NOT_AUTHORIZED


def test_each_filter_of_a_subscribe_is_decided_for_itself(ruled: Running) -> None:
    ruled.engine.set_policy(access_list=rules("topic read a/+\n"), passwords=None)
    client = ruled.connect(Version.V5, "c")
    assert granted(client, "a/b", "a/#", "$share/g/a/c") == [1, NOT_AUTHORIZED, 1]


def test_a_refused_publish_ends_a_3_1_1_client(ruled: Running) -> None:
    client = ruled.connect(Version.V3_1_1, "c")
    client.send(requests.publish(client.version, "a", b"x"))
    client.expect_closed()


def test_a_will_that_may_not_be_published_keeps_its_client_out(ruled: Running) -> None:
    ruled.engine.set_policy(access_list=rules("topic write ok\n"), passwords=None)
    assert connack(ruled, will=Will("ok", b"x")) == 0
    assert connack(ruled, will=Will("no", b"x")) == NOT_AUTHORIZED


def test_closed_means_nobody(run: Callable[..., Running]) -> None:
    running = run()
    client = running.connect(Version.V5, "c")
    assert published(client, "a") == 0x10
    running.engine.set_access(publish="closed", subscribe="closed")
    assert published(client, "a") == NOT_AUTHORIZED
    assert granted(client, "a") == [NOT_AUTHORIZED]


def test_a_listener_may_have_a_decider_of_its_own(run: Callable[..., Running]) -> None:
    running = run(hooks=["auth_on_publish"])
    running.engine.set_access(publish="closed", listener="later")
    other = running.engine.open_listener("later", "tcp", "127.0.0.1", 0)
    with Client(other.port, Version.V5) as client:
        assert client.handshake("other").code == 0
        assert published(client, "a") == NOT_AUTHORIZED
        running.engine.set_access(publish="inherit", listener="later")
        client.send(requests.publish(client.version, "a", b"x", qos=1, packet_id=9))
        request = running.event(PublishRequest)
        assert (request.client_id, request.listener) == ("other", "later")


def test_an_unknown_decider_is_refused(running: Running) -> None:
    with pytest.raises(
        ValueError, match=r"publish: expected one of inherit, open, hook, policy, closed, got .perhaps."
    ):
        running.engine.set_access(publish="perhaps")


def test_the_engine_forgets_who_waits_when_they_go(guarded: Running) -> None:
    slow = hash_password(b"secret", memory_kib=65_536, passes=4)
    guarded.engine.set_policy(access_list=None, passwords=passwords(slow=slow))
    with guarded.open(Version.V5) as client:
        client.send(requests.connect(Version.V5, "c", username="slow", password=b"secret"))
    eventually(lambda: guarded.metric("hooks_waiting") == 0, "nobody waits for a check any more")
