"""Plugins of a running broker: enabled, disabled, failing, slow, kept over a restart."""

import time
from pathlib import Path

import pytest

from broker_process import BrokerProcess, StartBroker
from protocol import requests
from protocol.answers import Publish
from protocol.client import Client
from protocol.wire import Version

NOT_AUTHORIZED = 0x87
HEAD = "import asyncio, time\nfrom strogoff.plugins import *\n\nclass P(Plugin):\n    name = 'p'\n"


def plugin(directory: Path, *methods: str) -> Path:
    """A plugin `p` with these methods, in a directory of its own."""
    body = "".join(f"    {line}\n" for method in methods for line in [*method.split("\n"), ""])
    (directory / "p.py").write_text(HEAD + body)
    return directory


@pytest.fixture
def guarded(own_broker: StartBroker) -> BrokerProcess:
    """A broker that lets nobody in unless a plugin does."""
    return own_broker(allow_anonymous=False)


def code(broker: BrokerProcess, client_id: str = "c", **options: object) -> int:
    with Client(broker.port, Version.V5) as client:
        return client.handshake(client_id, **options).code  # type: ignore[arg-type]


def enable(broker: BrokerProcess, directory: Path) -> str:
    return broker.admin("plugin", "enable", "--name=p", f"--path={directory}")


def test_a_plugin_decides_as_long_as_it_is_on(guarded: BrokerProcess, tmp_path: Path) -> None:
    assert code(guarded) == NOT_AUTHORIZED
    assert enable(guarded, plugin(tmp_path, "def auth_on_register(self, request): return OK")) == "Done\n"
    assert code(guarded) == 0
    assert "P.auth_on_register" in guarded.admin("plugin", "show", "--plugin=p")
    assert guarded.admin("plugin", "disable", "--name=p") == "Done\n"
    assert code(guarded) == NOT_AUTHORIZED
    assert guarded.admin("plugin", "show", "--plugin=p") == ""


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("async def start(self): raise RuntimeError('no licence')", "the plugin p could not start: no licence"),
        ("def on_registered(self, event): pass", "on_registered is not the name of a hook"),
        ("@command('session rob', 'x')\nasync def rob(self, arguments): pass", "the broker has that word"),
        ("settings: int", "int is no dataclass"),
    ],
)
def test_a_plugin_that_cannot_start_leaves_all_as_it_was(
    guarded: BrokerProcess, tmp_path: Path, method: str, sentence: str
) -> None:
    before = guarded.admin("plugin", "show")
    plugin(tmp_path, method, "def auth_on_register(self, request): return OK")
    failed = guarded.program("vmq-admin", "plugin", "enable", "--name=p", f"--path={tmp_path}")
    assert failed.returncode == 1
    assert sentence in failed.stderr
    assert guarded.admin("plugin", "show") == before
    assert code(guarded) == NOT_AUTHORIZED


def test_what_a_plugin_started_ends_with_it(guarded: BrokerProcess, tmp_path: Path) -> None:
    plugin(
        tmp_path,
        "async def start(self):\n    self.context.create_task(self.tick())\n    self.context.subscribe('in', self.got)",
        "async def tick(self):\n"
        "    while True:\n        self.context.publish('tick', b'x')\n        await asyncio.sleep(0.01)",
        "def got(self, message): self.context.publish('out', message.payload)",
        "def auth_on_register(self, request): return OK",
    )
    enable(guarded, tmp_path)
    with Client(guarded.port, Version.V5) as client:
        client.handshake("c")
        client.subscribe("tick", "out")
        assert client.receive().topic == "tick"
        client.publish("in", b"echo")
        while client.receive().topic != "out":
            pass
        guarded.admin("plugin", "disable", "--name=p")
        client.publish("in", b"nobody")
        while client.poll(Publish, within=0.1) is not None:
            pass
        client.expect_nothing()


def test_what_was_enabled_is_on_after_a_restart(guarded: BrokerProcess, tmp_path: Path) -> None:
    enable(guarded, plugin(tmp_path, "def auth_on_register(self, request): return OK"))
    guarded.admin("plugin", "disable", "--name=vmq_acl")
    guarded.restart()
    assert code(guarded) == 0
    assert "vmq_acl" not in guarded.admin("plugin", "show")
    guarded.admin("plugin", "disable", "--name=p")
    guarded.restart()
    assert code(guarded) == NOT_AUTHORIZED


def test_what_the_configuration_says_holds_again_after_a_restart(own_broker: StartBroker, tmp_path: Path) -> None:
    plugin(tmp_path, "def auth_on_register(self, request): return OK")
    broker = own_broker({"allow_anonymous": False, "plugins.p": True, "plugins.p.path": str(tmp_path)})
    assert code(broker) == 0
    assert "holds again after a restart" in broker.admin("plugin", "disable", "--name=p")
    assert code(broker) == NOT_AUTHORIZED
    broker.restart()
    assert code(broker) == 0


def test_a_hook_that_raises_refuses_and_is_told_and_counted(guarded: BrokerProcess, tmp_path: Path) -> None:
    enable(guarded, plugin(tmp_path, "def auth_on_register(self, request): return 1 / 0"))
    assert code(guarded) == NOT_AUTHORIZED
    assert "counter.plugin_hook_errors[hook=auth_on_register,plugin=p] = 1" in guarded.admin(
        "metrics", "show", "--aggregate=false"
    )
    assert "ZeroDivisionError" in guarded.log_tail()


def test_one_slow_check_delays_only_its_client(guarded: BrokerProcess, tmp_path: Path) -> None:
    wait = "await asyncio.sleep(5 * (request.client_id == 'slow'))"
    slow = f"async def auth_on_register(self, request):\n    {wait}\n    return OK"
    enable(guarded, plugin(tmp_path, slow))
    with Client(guarded.port, Version.V5) as waiting:
        waiting.send(requests.connect(Version.V5, "slow"))
        begin = time.monotonic()
        assert [code(guarded, f"quick{number}") for number in range(20)] == [0] * 20
        assert time.monotonic() - begin < 5


def test_a_blocking_check_delays_only_its_client(guarded: BrokerProcess, tmp_path: Path) -> None:
    wait = "time.sleep(5 * (request.client_id == 'slow'))"
    slow = f"@blocking\ndef auth_on_register(self, request):\n    {wait}\n    return OK"
    enable(guarded, plugin(tmp_path, slow))
    with Client(guarded.port, Version.V5) as waiting:
        waiting.send(requests.connect(Version.V5, "slow"))
        begin = time.monotonic()
        assert [code(guarded, f"quick{number}") for number in range(20)] == [0] * 20
        assert time.monotonic() - begin < 5


def test_a_hook_over_its_deadline_refuses(own_broker: StartBroker, tmp_path: Path) -> None:
    broker = own_broker({"allow_anonymous": False, "plugins.hook_timeout": 50})
    enable(broker, plugin(tmp_path, "async def auth_on_register(self, request): await asyncio.sleep(60)"))
    assert code(broker) == NOT_AUTHORIZED
    broker.await_log("a hook took longer than plugins.hook_timeout")


def test_a_notification_that_raises_harms_nobody(guarded: BrokerProcess, tmp_path: Path) -> None:
    plugin(
        tmp_path,
        "def auth_on_register(self, request): return OK",
        "def on_register(self, event): raise RuntimeError('sync')",
        "async def on_publish(self, event): raise RuntimeError('async')",
    )
    enable(guarded, tmp_path)
    with Client(guarded.port, Version.V5) as client:
        assert client.handshake("c").code == 0
        assert client.publish("t", qos=1) == 0x10
        client.barrier()
    guarded.await_log("RuntimeError('async')")
    assert "RuntimeError('sync')" in guarded.log_tail()


def test_a_plugin_is_told_of_the_phases(own_broker: StartBroker, tmp_path: Path) -> None:
    told = tmp_path / "phases"
    plugin(
        tmp_path,
        f"def on_phase(self, change):\n    open({str(told)!r}, 'a').write(change.phase.value + ' ')",
    )
    broker = own_broker({"plugins.p": True, "plugins.p.path": str(tmp_path)})
    broker.stop()
    assert told.read_text().split() == ["discovering", "joining", "syncing", "ready", "draining"]


def test_a_plugin_that_cannot_be_loaded_stops_the_start(tmp_path: Path, own_broker: StartBroker) -> None:
    broker = own_broker()
    checked = broker.program(
        "strogoff", "config", "show", "--set", "plugins.p=on", "--set", f"plugins.p.path={tmp_path}"
    )
    assert checked.returncode == 3
    assert f"there is no plugin p in {tmp_path}" in checked.stderr


def test_a_session_is_authorised_again(guarded: BrokerProcess, tmp_path: Path) -> None:
    plugin(
        tmp_path,
        "allowed = {'a', 'b'}",
        "def auth_on_register(self, request): return OK",
        "def auth_on_subscribe(self, request):\n    return OK if request.filters[0][0] in self.allowed else deny()",
        "@command('p forbid', 'x', arguments={'topic': 'x'})\n"
        "async def forbid(self, arguments):\n    self.allowed.discard(arguments['topic'])\n    return 'Done'",
    )
    guarded.admin("plugin", "disable", "--name=vmq_acl")
    enable(guarded, tmp_path)
    with Client(guarded.port, Version.V5) as client:
        client.handshake("c", username="u")
        assert [list(client.subscribe(topic).codes) for topic in "abc"] == [[0], [0], [NOT_AUTHORIZED]]
        assert guarded.admin("session", "reauthorize", "username=u", "client-id=c") == "Unchanged\n"
        guarded.admin("p", "forbid", "topic=b")
        assert guarded.admin("session", "reauthorize", "client-id=c") == "Done\n"
        topics = guarded.admin("session", "show", "--topic")
        assert "| a " in topics
        assert "| b " not in topics
