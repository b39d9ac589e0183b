"""Commands that take long: they tell how far they are, have no time limit, and end with whoever asked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from strogoff.admin.arguments import Call
from strogoff.admin.client import ask
from strogoff.admin.protocol import HEADER_SIZE, SOCKET_NAME, Failure, Request, Success, frame_size, response_from
from strogoff.admin.registry import Registry, command
from strogoff.admin.result import Result, Text
from strogoff.admin.server import AdminServer
from strogoff.broker import Broker
from strogoff.config import load
from strogoff.phases import Phase

DEADLINE_S = 20.0
PROGRESS_INTERVAL_S = 0.02
TIMEOUT_S = 0.1


class Work:
    """A command that takes as long as a test wants."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.was_cancelled = False

    def registry(self, *, is_lasting: bool = True) -> Registry:
        @command("work", "Work.", is_lasting=is_lasting)
        async def work(_broker: Broker, call: Call) -> Result:
            call.tell("half of it")
            self.began.set()
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise
            finally:
                self.ended.set()
            return Result.of(Text("all of it"))

        return Registry([work])


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strogoff.admin.server.PROGRESS_INTERVAL_S", PROGRESS_INTERVAL_S)
    monkeypatch.setattr("strogoff.admin.server.TIMEOUT_S", TIMEOUT_S)


def with_node(tmp_path: Path, scenario: Callable[[Work, Path], Awaitable[None]], *, is_lasting: bool = True) -> None:
    """Run the scenario beside a node whose only command is the work."""

    async def main() -> None:
        work, data = Work(), tmp_path / "data"
        overrides = ("listener.tcp.default=127.0.0.1:0", f"platform_data_dir={data}")
        registry = work.registry(is_lasting=is_lasting)
        broker = Broker(load(environment={}, overrides=overrides), services=[AdminServer(registry)])
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(broker.run())
            while broker.phases.current is not Phase.READY or not (data / SOCKET_NAME).exists():
                assert not running.done()
                await asyncio.sleep(0.01)
            await scenario(work, data)
            broker.request_stop("the test is over")

    asyncio.run(main())


def test_a_program_hears_how_far_it_is_and_gets_the_answer_in_the_end(tmp_path: Path) -> None:
    async def scenario(work: Work, data: Path) -> None:
        loop, heard = asyncio.get_running_loop(), list[str]()

        def listen(text: str) -> None:
            heard.append(text)
            if len(heard) > 2:
                loop.call_soon_threadsafe(work.go_on.set)

        response = await asyncio.to_thread(ask, data, ["work"], tell=listen)
        assert isinstance(response, Success)
        assert response.result == Result.of(Text("all of it"))
        assert set(heard) == {"half of it"}

    with_node(tmp_path, scenario)


def test_a_program_of_an_older_release_gets_the_answer_and_nothing_before_it(tmp_path: Path) -> None:
    async def scenario(work: Work, data: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(data / SOCKET_NAME)
        writer.write(Request(("work",)).encode())
        await work.began.wait()
        await asyncio.sleep(5 * PROGRESS_INTERVAL_S)
        work.go_on.set()
        size = frame_size(await reader.readexactly(HEADER_SIZE), 1 << 20)
        assert isinstance(response_from(await reader.readexactly(size)), Success)
        writer.close()

    with_node(tmp_path, scenario)


def test_what_lasts_has_no_time_limit_and_everything_else_has(tmp_path: Path) -> None:
    async def lasting(work: Work, data: Path) -> None:
        asked = asyncio.get_running_loop().run_in_executor(None, ask, data, ["work"])
        await work.began.wait()
        await asyncio.sleep(2 * TIMEOUT_S)
        assert not work.ended.is_set()
        work.go_on.set()
        assert isinstance(await asked, Success)

    async def short(work: Work, data: Path) -> None:
        response = await asyncio.to_thread(ask, data, ["work"])
        assert isinstance(response, Failure)
        assert "took longer" in response.error

    with_node(tmp_path / "1", lasting)
    with_node(tmp_path / "2", short, is_lasting=False)


@pytest.mark.parametrize("wants_progress", [False, True])
def test_it_ends_when_whoever_asked_goes_away(tmp_path: Path, wants_progress: bool) -> None:
    async def scenario(work: Work, data: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as program:
            program.connect(str(data / SOCKET_NAME))
            program.sendall(Request(("work",), wants_progress).encode())
            await work.began.wait()
        await work.ended.wait()
        assert work.was_cancelled

    with_node(tmp_path, scenario)


def test_it_ends_with_the_node(tmp_path: Path) -> None:
    works = list[Work]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as program:

        async def scenario(work: Work, data: Path) -> None:
            works.append(work)
            program.connect(str(data / SOCKET_NAME))
            program.sendall(Request(("work",), wants_progress=True).encode())
            await work.began.wait()

        with_node(tmp_path, scenario)
    assert works[0].was_cancelled


def test_the_program_of_a_short_command_may_go_away_and_it_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strogoff.admin.server.TIMEOUT_S", DEADLINE_S)

    async def scenario(work: Work, data: Path) -> None:
        _reader, writer = await asyncio.open_unix_connection(data / SOCKET_NAME)
        writer.write(Request(("work",)).encode())
        await work.began.wait()
        writer.close()
        await writer.wait_closed()
        work.go_on.set()
        await work.ended.wait()
        assert not work.was_cancelled

    with_node(tmp_path, scenario, is_lasting=False)
