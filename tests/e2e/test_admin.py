"""The program `vmq-admin` against a running node with real clients."""

import csv
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker_process import BrokerProcess, StartBroker

PROGRAM = str(Path(sys.executable).parent / "vmq-admin")
DEADLINE_S = 20.0
NODE = "VerneMQ@127.0.0.1"


def admin(broker: BrokerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one command against the broker."""
    command = [PROGRAM, "--data-dir", str(broker.data_directory), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)


def done(broker: BrokerProcess, *words: str) -> str:
    """What a command that must succeed printed."""
    result = admin(broker, *words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def failed(broker: BrokerProcess, *words: str) -> str:
    """What a command that must fail said on standard error."""
    result = admin(broker, *words)
    assert result.returncode == 1
    assert result.stdout == ""
    return result.stderr


def without_node(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program where no node is."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("STROGOFF_")}
    return subprocess.run(
        [PROGRAM, *words],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def rows(broker: BrokerProcess, *words: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    table: list[dict[str, Any]] = json.loads(done(broker, *words, "--format=json"))["table"]
    return table


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


class Client:
    """A paho client that remembers what happened to it."""

    def __init__(
        self,
        broker: BrokerProcess,
        client_id: str,
        *,
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
        keep: bool = False,
    ) -> None:
        self.broker, self.version, self.keep = broker, version, keep
        clean = None if version == MQTTProtocolVersion.MQTTv5 else not keep
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=clean, protocol=version)
        self.connected = threading.Event()
        self.subscribed = threading.Event()
        self.messages: dict[str, bytes] = {}
        self.disconnect_reasons: list[int] = []
        self.paho.on_connect = lambda *_: self.connected.set()
        self.paho.on_subscribe = lambda *_: self.subscribed.set()
        self.paho.on_message = lambda _c, _u, message: self.messages.__setitem__(message.topic, bytes(message.payload))
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.disconnect_reasons.append(reason.value)

    def connect(self) -> None:
        options: dict[str, Any] = {}
        if self.version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600 if self.keep else 0
            options = {"clean_start": True, "properties": properties}
        self.paho.connect("127.0.0.1", self.broker.port, **options)
        self.paho.loop_start()
        assert self.connected.wait(DEADLINE_S)

    def subscribe(self, topic: str, qos: int = 0) -> None:
        self.subscribed.clear()
        self.paho.subscribe(topic, qos)
        assert self.subscribed.wait(DEADLINE_S)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self.paho.publish(topic, payload, qos, retain).wait_for_publish(DEADLINE_S)

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()


@contextmanager
def client(broker: BrokerProcess, client_id: str, **options: Any) -> Iterator[Client]:
    connected = Client(broker, client_id, **options)
    connected.connect()
    try:
        yield connected
    finally:
        connected.close()


def test_session_show_has_vernemqs_columns(own_broker: StartBroker) -> None:
    broker = own_broker()
    assert done(broker, "session", "show") == ""
    with client(broker, "sensor-1") as sensor:
        shown = rows(broker, "session", "show")
        port = sensor.paho.socket().getsockname()[1]  # type: ignore[union-attr]
        assert shown == [
            {
                "client_id": "sensor-1",
                "is_online": True,
                "mountpoint": "",
                "peer_host": "127.0.0.1",
                "peer_port": port,
                "user": None,
            }
        ]
        assert done(broker, "session", "show", "--client_id", "--is_online") == (
            "+-----------+-----------+\n"
            "| client_id | is_online |\n"
            "+-----------+-----------+\n"
            "| sensor-1  | true      |\n"
            "+-----------+-----------+\n"
            "\n"
        )


def test_session_show_selects_rows_and_columns(broker: BrokerProcess) -> None:
    with (
        client(broker, "select-a", keep=True) as one,
        client(broker, "select-b", version=MQTTProtocolVersion.MQTTv311),
    ):
        one.subscribe("select/+/x", 1)
        one.subscribe("$share/group/select/#", 2)
        mine = ("--client_id=~^select-",)
        assert [row["client_id"] for row in rows(broker, "session", "show", "--client_id", *mine)] == [
            "select-a",
            "select-b",
        ]
        assert rows(broker, "session", "show", "--client_id", "--protocol=4", *mine) == [{"client_id": "select-b"}]
        assert rows(broker, "session", "show", "--client_id=select-a", "--mountpoint=", "--clean_session") == [
            {"clean_session": False}
        ]
        subscriptions = rows(broker, "session", "show", "--topic", "--qos", "--client_id=select-a")
        assert sorted((row["topic"], row["qos"]) for row in subscriptions) == [
            ("$share/group/select/#", 2),
            ("select/+/x", 1),
        ]
        assert rows(broker, "session", "show", "--client_id", "--topic=select/+/x") == [{"client_id": "select-a"}]
        assert rows(broker, "session", "show", "--client_id", "--is_online=false", *mine) == []


def test_a_session_that_is_offline_is_shown_with_what_waits_for_it(broker: BrokerProcess) -> None:
    with client(broker, "sleeper", keep=True) as sleeper:
        sleeper.subscribe("for/sleeper", 1)
    show = ("session", "show", "--client_id=sleeper", "--is_online", "--offline_messages", "--peer_host", "--statename")
    wait_until(lambda: rows(broker, *show)[0]["is_online"] is False, "the session is offline")
    with client(broker, "waker") as waker:
        waker.publish("for/sleeper", b"good morning")
    assert rows(broker, *show) == [
        {"is_online": False, "offline_messages": 1, "peer_host": None, "statename": "offline"}
    ]


def test_the_limit_is_told_when_it_cuts_rows_off(broker: BrokerProcess) -> None:
    with client(broker, "limit-1"), client(broker, "limit-2"), client(broker, "limit-3"):
        cut = admin(broker, "session", "show", "--client_id", "--client_id=~^limit-", "--limit=2", "--format=csv")
        assert cut.returncode == 0
        assert cut.stdout == "client_id\nlimit-1\nlimit-2\n"
        assert cut.stderr == "vmq-admin: only the first 2 rows are shown: ask for more with --limit=N\n"
        whole = admin(broker, "session", "show", "--client_id", "--client_id=~^limit-", "--limit=3", "--format=csv")
        assert whole.stderr == ""
        assert len(list(csv.reader(io.StringIO(whole.stdout)))) == 4


def test_session_disconnect_tells_the_client_why(broker: BrokerProcess) -> None:
    with client(broker, "unwanted") as unwanted:
        unwanted.paho.reconnect_delay_set(60, 60)
        assert done(broker, "session", "disconnect", "client-id=unwanted") == "Done\n"
        wait_until(lambda: unwanted.disconnect_reasons == [0x98], "DISCONNECT 0x98 (administrative action)")
    assert "no session of nobody" in failed(broker, "session", "disconnect", "client-id=nobody")


def test_session_disconnect_with_cleanup_forgets_a_session_that_is_offline(broker: BrokerProcess) -> None:
    with client(broker, "to-forget", keep=True):
        pass
    show = ("session", "show", "--client_id", "--client_id=to-forget")
    assert rows(broker, *show) == [{"client_id": "to-forget"}]
    done(broker, "session", "disconnect", "--cleanup", "client-id=to-forget")
    wait_until(lambda: rows(broker, *show) == [], "the session is gone")


def test_session_disconnect_of_several_and_of_a_number(broker: BrokerProcess) -> None:
    with client(broker, "many-1") as one, client(broker, "many-2") as two, client(broker, "many-3") as three:
        for each in (one, two, three):
            each.paho.reconnect_delay_set(60, 60)
        done(broker, "session", "disconnect", "clients", "client-ids=many-1,many-2")
        wait_until(lambda: one.disconnect_reasons == two.disconnect_reasons == [0x98], "two are disconnected")
        batch = ("session", "disconnect", "batch", "count=5", "-f", "many-3,many-4")
        assert done(broker, *batch) == "1 clients disconnected\n"
        wait_until(lambda: three.disconnect_reasons == [0x98], "the third is disconnected")
    assert "--node=other@host: no such node" in failed(
        broker, "session", "disconnect", "batch", "count=1", "-n", "other@host"
    )


def test_metrics_show_counts_what_clients_do(own_broker: StartBroker) -> None:
    broker = own_broker()
    with client(broker, "counted") as counted:
        counted.publish("a", b"x")
    text = done(broker, "metrics", "show")
    assert re.search(r"^counter\.mqtt_publish_received = 1$", text, re.MULTILINE)
    assert re.search(r"^counter\.system_wallclock = [1-9]\d*$", text, re.MULTILINE)
    assert all(re.fullmatch(r"(counter|gauge)\.\w+ = \d+", line) for line in text.splitlines())
    version_5 = done(broker, "metrics", "show", "--mqtt_version=5", "--aggregate=false")
    assert "counter.mqtt_publish_received[mqtt_version=5] = 1\n" in version_5
    assert "mqtt_version=4" not in version_5
    described = done(broker, "metrics", "show", "-d").splitlines()
    assert all(line.startswith("# ") for line in described[::2])
    assert len(described) == 2 * len(text.splitlines())
    assert "no metric has the label 'colour'" in failed(broker, "metrics", "show", "--colour=red")
    assert done(broker, "metrics", "reset") == "Done\n"
    assert "counter.mqtt_publish_received = 0\n" in done(broker, "metrics", "show")


def test_listener_show_has_a_row_for_each_listener(broker: BrokerProcess) -> None:
    with client(broker, "listened-to"):
        (row,) = rows(broker, "listener", "show")
        assert (row["type"], row["status"], row["address"], row["port"]) == (
            "mqtt",
            "running",
            "127.0.0.1",
            broker.port,
        )
        assert row["max_conns"] == 10_000
        assert row["active_conns"] >= 1
        assert list(row) == [
            "type",
            "status",
            "address",
            "port",
            "mountpoint",
            "max_conns",
            "active_conns",
            "all_conns",
        ]
        (row,) = rows(broker, "listener", "show", "-m")
        assert row["allowed_protocol_versions"] == "3,4,5,131"


def test_a_listener_is_called_by_kind_and_name_in_sessions_and_in_the_log(own_broker: StartBroker) -> None:
    broker = own_broker({"listener.tcp.second": "127.0.0.1:0"})
    with client(broker, "sensor-1"):
        assert rows(broker, "session", "show", "--listener") == [{"listener": "tcp.default"}]
    opened = [line for line in map(json.loads, broker.log_tail().splitlines()) if line["message"] == "listener open"]
    assert [line["listener"] for line in opened] == ["tcp.default", "tcp.second"]


def test_a_broker_of_a_test_has_nothing_to_warn_of(own_broker: StartBroker) -> None:
    assert '"level": "warning"' not in own_broker().log_tail()


def test_retained_messages_are_shown_and_deleted(own_broker: StartBroker) -> None:
    broker = own_broker()
    with client(broker, "keeper") as keeper:
        for topic, payload in (("r/1", b"one"), ("r/2", b"\xff\x1b"), ("other", b"three")):
            keeper.publish(topic, payload, retain=True)
    assert rows(broker, "retain", "show", "--topic=r/1") == [{"payload": "one", "topic": "r/1"}]
    shown = {row["topic"]: row["payload"] for row in rows(broker, "retain", "show")}
    assert shown == {"r/1": "one", "r/2": "\\xff\x1b", "other": "three"}
    assert "\x1b" not in done(broker, "retain", "show")
    assert len(rows(broker, "retain", "show", "--topic", "--topic=~^r/")) == 2
    cut = admin(broker, "retain", "show", "--topic", "--limit=2")
    assert "only the first 2 rows" in cut.stderr
    assert done(broker, "retain", "delete", "--topic=r/1") == "Done\n"
    assert "no retained message has the topic r/1" in failed(broker, "retain", "delete", "-t", "r/1")
    assert rows(broker, "retain", "delete-expired") == [{"deleted": 0}]
    assert {row["topic"] for row in rows(broker, "retain", "show")} == {"r/2", "other"}


def test_a_changed_setting_is_in_force_at_once_and_shown(own_broker: StartBroker) -> None:
    broker = own_broker()
    assert rows(broker, "show", "max_inflight_messages") == [{"node": NODE, "max_inflight_messages": 20}]
    done(broker, "set", "max_inflight_messages=7", "allow_anonymous=off")
    assert rows(broker, "show", "max_inflight_messages", "allow_anonymous") == [
        {"node": NODE, "max_inflight_messages": 7, "allow_anonymous": False}
    ]
    refused = Client(broker, "refused")
    reasons: list[int] = []
    refused.paho.on_connect = lambda _c, _u, _f, reason, _p: reasons.append(reason.value)
    refused.paho.connect("127.0.0.1", broker.port)
    refused.paho.loop_start()
    wait_until(lambda: bool(reasons), "an answer to CONNECT")
    refused.close()
    assert reasons[0] >= 0x80
    assert "20" in done(broker, "describe", "max_inflight_messages")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("set", "max_inflight_messages=many"), "max_inflight_messages"),
        (("set", "max_inflight_mesages=1"), "max_inflight_messages"),
        (("set", "listener.tcp.default=127.0.0.1:1"), "listener.tcp.default"),
        (("set",), "KEY=VALUE"),
        (("show", "no_such_key"), "no_such_key"),
        (("show",), "KEY"),
        (("describe", "no_such_key"), "no_such_key"),
        (("set", "max_inflight_messages=1", "--node=x@y"), "x@y"),
    ],
)
def test_a_setting_that_cannot_be_changed_or_shown_is_named(
    broker: BrokerProcess, words: tuple[str, ...], told: str
) -> None:
    before = rows(broker, "show", "max_inflight_messages")
    assert told in failed(broker, *words)
    assert rows(broker, "show", "max_inflight_messages") == before


def test_of_several_settings_all_are_changed_or_none(broker: BrokerProcess) -> None:
    failed(broker, "set", "max_inflight_messages=3", "max_online_messages=lots")
    assert rows(broker, "show", "max_inflight_messages")[0]["max_inflight_messages"] == 20


def test_node_status_has_vernemqs_rows(broker: BrokerProcess) -> None:
    with client(broker, "status"):
        status = {row["Status"]: row["Value"] for row in rows(broker, "node", "status")}
    assert list(status) == [
        "num_online",
        "num_offline",
        "msg_in",
        "msg_out",
        "queue_in",
        "queue_out",
        "queue_drop",
        "queue_unhandled",
        "num_subscriptions",
        "num_retained",
        "matches_local",
        "matches_remote",
        "version",
        "node",
        "cluster",
        "incarnation",
        "members",
        "reachable",
        "ready",
        "cluster_ready",
    ]
    assert status["num_online"] >= 1
    assert (status["members"], status["reachable"], status["ready"]) == (1, 1, True)


def test_the_phase_is_one_word_and_its_history_a_table(broker: BrokerProcess) -> None:
    assert done(broker, "node", "phase") == "ready\n"
    phases = [row["phase"] for row in rows(broker, "node", "phase", "--history")]
    assert phases == ["start", "booting", "discovering", "joining", "syncing", "ready"]


def test_a_node_without_peers_is_a_cluster_of_one(broker: BrokerProcess) -> None:
    assert done(broker, "cluster", "show") == (
        "+-------------------+---------+------+-------+-----------+--------+--------+------------+-------+-------+\n"
        "| Node              | Running | link | phase | link_back | behind | lag_ms | held_bytes | since | error |\n"
        "+-------------------+---------+------+-------+-----------+--------+--------+------------+-------+-------+\n"
        "| VerneMQ@127.0.0.1 | true    | self | ready |           |        |        |            |       |       |\n"
        "+-------------------+---------+------+-------+-----------+--------+--------+------------+-------+-------+\n"
        "\n"
    )


def test_a_path_that_is_only_a_prefix_prints_the_commands_below_it(broker: BrokerProcess) -> None:
    assert done(broker, "session").startswith("Usage: vmq-admin session COMMAND\n")
    assert "disconnect batch" in done(broker, "session", "--help")
    assert "session show" in done(broker)


@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        ([], "Usage: vmq-admin [--config FILE | --data-dir DIR] COMMAND"),
        (["--help"], "Usage: vmq-admin [--config FILE | --data-dir DIR] COMMAND"),
        (["session"], "Usage: vmq-admin session COMMAND"),
        (["session", "show", "--help"], "Usage: vmq-admin session show [FLAGS]"),
    ],
)
def test_help_needs_no_running_node(tmp_path: Path, words: list[str], beginning: str) -> None:
    result = without_node(tmp_path, *words)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(beginning)
    assert "session disconnect batch" in result.stdout or words[:1] == ["session"]


def test_help_does_not_need_a_configuration_that_can_be_read(tmp_path: Path) -> None:
    result = without_node(tmp_path, "--config", "missing.conf", "metrics", "show", "-h")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: vmq-admin metrics show")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sesion", "show", "--help"], "no command 'sesion'"),
        (["session", "show"], "no node is running on data/admin.sock"),
        (["sesion", "show"], "no node is running on data/admin.sock"),
        (["session", "disconnect", "client-id=c", "--mountpoint", "--help"], "no node is running on data/admin.sock"),
    ],
)
def test_what_is_no_question_about_a_command_needs_a_node(tmp_path: Path, words: list[str], told: str) -> None:
    result = without_node(tmp_path, *words)
    assert (result.returncode, result.stdout) == (1, "")
    assert told in result.stderr


def test_an_unknown_flag_is_told_in_one_short_line(broker: BrokerProcess) -> None:
    told = failed(broker, "session", "show", "--client_di")
    assert told == (
        "vmq-admin: 'session show' has no flag --client_di: did you mean --client_id? See 'session show --help'\n"
    )


def test_every_command_has_a_help_text(broker: BrokerProcess) -> None:
    listed = re.findall(r"^  ([a-z-]+(?: [a-z-]+)*)  ", done(broker).partition("Commands\n")[2], re.MULTILINE)
    assert len(listed) >= 15
    for path in listed:
        assert done(broker, *path.split(), "--help").startswith(f"Usage: vmq-admin {path}"), path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sesion", "show"), "no command 'sesion'"),
        (("session", "show", "--colour"), "no flag --colour"),
        (("session", "disconnect"), "needs client-id=CLIENT"),
        (("session", "show", "--limit=x"), "expected a whole number"),
        (("session", "show", "--client_id=~("), "not a regular expression"),
        (("session", "show", "--format=xml"), "expected human, json or csv"),
    ],
)
def test_a_command_that_failed_says_so_on_standard_error(
    broker: BrokerProcess, words: tuple[str, ...], told: str
) -> None:
    assert told in failed(broker, *words)


def test_a_node_that_does_not_run_is_told_with_the_socket_that_was_tried(tmp_path: Path) -> None:
    command = [PROGRAM, "--data-dir", str(tmp_path), "cluster", "show"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"vmq-admin: no node is running on {tmp_path}/admin.sock")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!I", 0xFFFFFFFF),
        struct.pack("!I", 10) + b"short",
        struct.pack("!I", 3) + b"{}}",
        struct.pack("!I", 200_000) + b"[" * 200_000,
        struct.pack("!I", 14) + b'{"version": 1}',
        struct.pack("!I", 30) + b'{"version": 1, "words": [[1]]}',
    ],
)
def test_what_is_no_request_ends_its_own_connection_only(broker: BrokerProcess, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(broker.data_directory / "admin.sock"))
        connection.settimeout(DEADLINE_S)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    assert done(broker, "node", "ping") == "pong\n"


def test_silent_connections_take_no_place_for_long(own_broker: StartBroker) -> None:
    broker = own_broker()
    idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    try:
        for each in idle:
            each.connect(str(broker.data_directory / "admin.sock"))
        wait_until(lambda: admin(broker, "node", "ping").returncode == 0, "the silent ones were given up")
    finally:
        for each in idle:
            each.close()


def test_systree_publishes_metrics_and_the_classic_topics(own_broker: StartBroker) -> None:
    broker = own_broker(systree_interval=200, systree_retain=True)
    with client(broker, "watcher") as watcher:
        watcher.subscribe("$SYS/#")
        topics = (f"$SYS/{NODE}/mqtt/connect/received", "$SYS/broker/clients/connected", "$SYS/broker/uptime")
        wait_until(lambda: all(topic in watcher.messages for topic in topics), "the $SYS tree")
        assert int(watcher.messages[topics[0]]) >= 1
        assert watcher.messages["$SYS/broker/version"].startswith(b"strogoff version ")
        wait_until(lambda: watcher.messages[topics[1]] == b"1", "one connected client")
        done(broker, "set", "systree_enabled=off")
        watcher.messages.clear()
        assert rows(broker, "show", "systree_enabled")[0]["systree_enabled"] is False
    assert len(rows(broker, "retain", "show", "--topic", "--topic=~^.SYS/broker/")) >= 5


def test_a_silent_connection_does_not_delay_the_stop(own_broker: StartBroker) -> None:
    broker = own_broker()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(broker.data_directory / "admin.sock"))
        done(broker, "node", "ping")
        start = time.monotonic()
        broker.stop()
        assert time.monotonic() - start < 3.0
        silent.settimeout(DEADLINE_S)
        assert silent.recv(1) == b""
