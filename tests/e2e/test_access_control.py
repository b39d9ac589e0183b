"""Password files and access control lists of a running broker, with the tools that people use for them."""

import hashlib
import subprocess
import time
from base64 import b64encode
from pathlib import Path

import pytest

from broker_process import BrokerProcess, StartBroker
from protocol.client import Client
from protocol.wire import Version

BAD_USER_NAME_OR_PASSWORD = 0x86
NOT_AUTHORIZED = 0x87
NOBODY_SUBSCRIBED = 0x10
"""Success of a publish that nobody receives."""

RULES = """\
topic read news/#

user ann
topic office/+
topic write control/ann

pattern write sensors/%c/#
"""


@pytest.fixture
def guarded(own_broker: StartBroker, tmp_path: Path) -> BrokerProcess:
    """A broker that knows ann, whose password is `secret`, and the rules."""
    users, rules = tmp_path / "users", tmp_path / "rules"
    users.write_text(entry("ann", "secret"))
    rules.write_text(RULES)
    return own_broker(
        {
            "allow_anonymous": False,
            "vmq_passwd.password_file": str(users),
            "vmq_passwd.password_reload_interval": 1,
            "vmq_acl.acl_file": str(rules),
            "vmq_acl.acl_reload_interval": 1,
        }
    )


def entry(user: str, password: str) -> str:
    """A line as VerneMQ's and mosquitto's tools write it: `$6$`, salt, SHA-512."""
    salt = b"saltsaltsalt"
    digest = hashlib.sha512(password.encode() + salt).digest()
    return f"{user}:$6${b64encode(salt).decode()}${b64encode(digest).decode()}\n"


def code(broker: BrokerProcess, user: str | None = None, password: bytes | None = None) -> int:
    with Client(broker.port, Version.V5) as client:
        return client.handshake("c", username=user, password=password).code


def test_users_of_the_file_come_in_with_their_password(guarded: BrokerProcess) -> None:
    assert code(guarded, "ann", b"secret") == 0
    assert code(guarded, "ann", b"Secret") in {BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED}
    assert code(guarded, "ann") in {BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED}
    assert code(guarded, "bob", b"secret") == NOT_AUTHORIZED
    assert code(guarded) == NOT_AUTHORIZED


def test_users_of_the_environment_come_in_beside_those_of_the_file(guarded: BrokerProcess, tmp_path: Path) -> None:
    guarded.stop()
    secret = tmp_path / "secret"
    secret.write_text("a=b c\n")
    guarded.environment = {"DOCKER_VERNEMQ_USER_JULES_FILE": str(secret), "DOCKER_VERNEMQ_USER_ANN": "another"}
    guarded.start()
    assert code(guarded, "jules", b"a=b c") == 0
    assert code(guarded, "jules", b"a") in {BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED}
    assert code(guarded, "ann", b"another") == 0
    shown = guarded.admin("config", "show", "vmq_passwd.user.jules.password")
    assert "a=b" not in shown
    assert "environment DOCKER_VERNEMQ_USER_JULES_FILE" in shown
    (tmp_path / "users").write_text(entry("bob", "hunter2"))
    deadline = time.monotonic() + 20
    while code(guarded, "bob", b"hunter2") != 0:
        assert time.monotonic() < deadline, guarded.log_tail()
        time.sleep(0.05)
    assert code(guarded, "jules", b"a=b c") == 0
    guarded.stop()
    guarded.environment = {}
    guarded.start()
    assert code(guarded, "jules", b"a=b c") == NOT_AUTHORIZED


def test_a_file_that_was_changed_is_read_again(guarded: BrokerProcess, tmp_path: Path) -> None:
    assert code(guarded, "bob", b"hunter2") == NOT_AUTHORIZED
    done = guarded.program("vmq-passwd", "-b", str(tmp_path / "users"), "bob", "hunter2")
    assert done.returncode == 0, done.stderr
    guarded.await_log("file read again")
    assert code(guarded, "bob", b"hunter2") == 0
    assert code(guarded, "ann", b"secret") == 0
    # A file that has gone leaves the users as they were.
    (tmp_path / "users").unlink()
    guarded.await_log("the rules that were read before stay in force")
    assert code(guarded, "bob", b"hunter2") == 0


def test_rules_say_what_may_be_published_and_subscribed(guarded: BrokerProcess) -> None:
    with Client(guarded.port, Version.V5) as client:
        client.handshake("c", username="ann", password=b"secret")
        for topic, expected in {
            "office/door": NOBODY_SUBSCRIBED,
            "control/ann": NOBODY_SUBSCRIBED,
            "sensors/c/1": NOBODY_SUBSCRIBED,
            "sensors/d/1": NOT_AUTHORIZED,
            "news/today": NOT_AUTHORIZED,
            "control/bob": NOT_AUTHORIZED,
        }.items():
            assert client.publish(topic, b"x", qos=1) == expected, topic
        for topic_filter, expected in {
            "news/#": 0,
            "news/+": 0,
            "office/+": 0,
            "office/#": NOT_AUTHORIZED,
            "#": NOT_AUTHORIZED,
            "control/ann": NOT_AUTHORIZED,
        }.items():
            assert client.subscribe(topic_filter).codes == (expected,), topic_filter


def test_rules_that_were_changed_hold_for_clients_that_are_connected(guarded: BrokerProcess, tmp_path: Path) -> None:
    with Client(guarded.port, Version.V5) as client:
        client.handshake("c", username="ann", password=b"secret")
        assert client.publish("later/x", b"x", qos=1) == NOT_AUTHORIZED
        (tmp_path / "rules").write_text(RULES + "topic later/#\n")
        guarded.await_log("file read again")
        assert client.publish("later/x", b"x", qos=1) == NOBODY_SUBSCRIBED


def test_mosquitto_is_told_that_the_password_is_wrong(guarded: BrokerProcess) -> None:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(guarded.port), "-u", "ann", "-q", "1"]
    command += ["-t", "office/door", "-m", "open"]
    assert subprocess.run([*command, "-P", "secret"], timeout=20, check=False).returncode == 0
    refused = subprocess.run([*command, "-P", "wrong"], timeout=20, check=False, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "Connection Refused" in refused.stderr
