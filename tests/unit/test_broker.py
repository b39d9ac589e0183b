"""A node in this process: its services, its stop, and what it answers where nobody else does."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import pytest

from strogoff import broker as broker_module
from strogoff.broker import Broker, Service, StartAgainError, StartError
from strogoff.config import load
from strogoff.data_directory import DataDirectoryError
from strogoff.phases import Phase
from strogoff.store.files import store_of
from unit.stores import damage, make_store

DEADLINE_S = 20.0

# MQTT 3.1.1, clean session, no client id, no credentials.
CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"


def _broker(directory: Path, *settings: str, services: tuple[Service, ...] = ()) -> Broker:
    fixed = ("listener.tcp.default=127.0.0.1:0", f"platform_data_dir={directory}/data")
    return Broker(load(environment={}, overrides=(*fixed, *settings)), services=services)


def _phases(broker: Broker) -> list[Phase]:
    return [passage.phase for passage in broker.phases.passages]


async def _while_running(broker: Broker, scenario: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(broker.run())
        while broker.phases.current is not Phase.READY:
            assert not running.done()
            await asyncio.sleep(0.01)
        await scenario()
        broker.request_stop("the test is over")


def _run(main: Coroutine[None, None, None]) -> None:
    asyncio.run(main)


class Flaky:
    """A service that fails at its first run and is content at its second."""

    name = "flaky"

    def __init__(self) -> None:
        self.runs = 0
        self.settled = asyncio.Event()

    async def run(self, _broker: Broker) -> None:
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("first run")
        self.settled.set()
        await asyncio.Event().wait()


def test_a_service_that_fails_is_started_again_and_the_node_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "SERVICE_RESTART_S", 0.0)

    async def main() -> None:
        flaky = Flaky()
        broker = _broker(tmp_path, services=(flaky,))

        async def scenario() -> None:
            await flaky.settled.wait()
            assert broker.phases.current is Phase.READY

        await _while_running(broker, scenario)
        assert flaky.runs == 2
        assert broker.phases.current is Phase.STOPPED

    _run(main())


def test_a_node_that_is_told_to_stop_before_it_is_up_does_not_open_its_listeners(tmp_path: Path) -> None:
    async def main() -> None:
        broker = _broker(tmp_path)
        broker.request_stop("changed my mind")
        await broker.run()
        assert _phases(broker) == [Phase.START, Phase.DRAINING, Phase.STOPPED]

    _run(main())


def test_a_node_says_that_it_is_to_be_started_again_unless_somebody_wants_it_to_stop(tmp_path: Path) -> None:
    async def main() -> None:
        broker = _broker(tmp_path)
        broker.request_restart("of a reason")
        with pytest.raises(StartAgainError, match="of a reason"):
            await broker.run()
        broker = _broker(tmp_path)
        broker.request_restart("of a reason")
        broker.request_stop("enough")
        await broker.run()
        broker = _broker(tmp_path)
        broker.request_stop("enough")
        broker.request_restart("of a reason")
        await broker.run()

    _run(main())


def test_a_start_that_fails_stops_what_had_been_started(tmp_path: Path) -> None:
    async def main() -> None:
        flaky = Flaky()
        broker = _broker(tmp_path, "listener.tcp.other=192.0.2.1:1883", services=(flaky,))
        with pytest.raises(StartError, match=r"listener\.tcp\.other = 192\.0\.2\.1:1883: .*address of this machine"):
            await broker.run()
        assert Phase.READY not in _phases(broker)
        assert broker.phases.current is Phase.STOPPED

    _run(main())


def test_a_second_node_on_the_data_directory_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        first = _broker(tmp_path)

        async def scenario() -> None:
            with pytest.raises(DataDirectoryError, match="in use by another broker"):
                await _broker(tmp_path).run()

        await _while_running(first, scenario)

    _run(main())


def test_a_question_that_nobody_answers_is_a_refusal_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        broker = _broker(tmp_path, "allow_anonymous=off", "plugins.hook_timeout=3600000")

        async def scenario() -> None:
            broker.engine.set_hooks(["auth_on_register"])
            (listener,) = broker.engine.listeners()
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(CONNECT)
            connack = await reader.readexactly(4)
            assert (connack[0], connack[3]) == (0x20, 5)
            writer.close()
            await writer.wait_closed()

        await _while_running(broker, scenario)

    _run(main())


def _start_error(broker: Broker) -> str:
    async def main() -> None:
        await broker.run()

    with pytest.raises(StartError) as told:
        _run(main())
    assert broker.phases.current is Phase.STOPPED
    assert Phase.DISCOVERING not in _phases(broker)
    return str(told.value)


def test_a_damaged_store_is_no_empty_store(tmp_path: Path) -> None:
    file = damage(make_store(store_of(tmp_path / "data")))
    told = _start_error(_broker(tmp_path))
    assert file.name in told
    assert "strogoff store restore" in told
    assert "strogoff store check --repair" in told


def test_a_restore_that_was_cut_short_is_told(tmp_path: Path) -> None:
    make_store(tmp_path / "data" / "store.restoring")
    assert "a restore was cut short" in _start_error(_broker(tmp_path))


def test_a_store_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").touch()
    assert "platform_data_dir" in _start_error(_broker(tmp_path))


def test_services_answer_while_a_large_store_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        flaky = Flaky()
        flaky.runs = 1
        broker = _broker(tmp_path, services=(flaky,))
        open_store = broker.store.open

        async def slowly() -> None:
            await flaky.settled.wait()
            assert broker.phases.current is Phase.BOOTING
            await open_store()

        monkeypatch.setattr(broker.store, "open", slowly)

        async def scenario() -> None:
            assert flaky.runs == 2

        await _while_running(broker, scenario)

    _run(main())
