"""The store of a running node: opened, backed up and compacted while others go on."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Self

import pytest

from strogoff import _engine
from strogoff.store.archive import BackupError, unpack_backup
from strogoff.store.files import log_files, store_of
from strogoff.store.node_store import NodeStore, StoreCareError
from unit.stores import CONTENT, SEGMENT_BYTES, content_of, damage, make_store

DEADLINE_S = 20.0


def quiet(_done: int, _total: int) -> None:
    """A watch that does nothing."""


class Node:
    """An engine and its store, opened on a data directory."""

    def __init__(self, data: Path) -> None:
        data.mkdir(exist_ok=True)
        self.engine = _engine.Engine({"workers": 1, "store.segment_bytes": SEGMENT_BYTES})
        self.store = NodeStore(self.engine, data, "me@here")

    async def __aenter__(self) -> Self:
        await self.store.open()
        self.engine.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.to_thread(self.engine.stop)


def run(scenario: Coroutine[None, None, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await scenario

    asyncio.run(limited())


def test_a_new_store_is_made_for_its_owner_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Node(tmp_path / "data") as node:
            assert node.store.directory == store_of(tmp_path / "data")
            assert node.store.directory.stat().st_mode & 0o777 == 0o700
            assert log_files(node.store.directory)

    run(scenario())


def test_a_store_that_is_damaged_is_not_opened(tmp_path: Path) -> None:
    file = damage(make_store(store_of(tmp_path)))

    async def scenario() -> None:
        with pytest.raises(_engine.StoreError, match=file.name):
            await Node(tmp_path).store.open()

    run(scenario())


def test_a_restore_that_was_cut_short_is_no_empty_store(tmp_path: Path) -> None:
    make_store(tmp_path / "store.restoring")

    async def scenario() -> None:
        with pytest.raises(_engine.StoreError, match="a restore was cut short"):
            await Node(tmp_path).store.open()
        assert not store_of(tmp_path).exists()

    run(scenario())


def test_a_backup_has_what_was_written_before_it_and_later_ones_have_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Node(tmp_path / "data") as node:
            for number in range(3):
                node.engine.store_write([(b"%d" % number, b"x")])
                await node.store.backup(tmp_path / f"{number}.tar", quiet)
            node.engine.store_write([(b"late", b"x")])
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            manifest = unpack_backup(tmp_path / f"{number}.tar", tmp_path / str(number), quiet)
            assert manifest.node == "me@here"
            assert content_of(tmp_path / str(number)) == {b"%d" % each: b"x" for each in range(number + 1)}

    run(scenario())


def test_writing_goes_on_while_a_backup_is_made(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Node(tmp_path / "data") as node:
            node.engine.store_write(list(CONTENT.items()))

            def write(done: int, _total: int) -> None:
                node.engine.store_write([(b"during %d" % done, b"x" * 10_000)])

            await node.store.backup(tmp_path / "b.tar", write)
            assert len(node.engine.store_scan(b"during ")) > 0
        (tmp_path / "b").mkdir()
        unpack_backup(tmp_path / "b.tar", tmp_path / "b", quiet)
        assert content_of(tmp_path / "b") == CONTENT

    run(scenario())


class Held:
    """A watch that keeps the backup from going on, and knows when it has begun."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _done: int, _total: int) -> None:
        self.began.set()
        assert self.go_on.wait(DEADLINE_S)


def test_there_is_one_backup_or_compaction_at_a_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        held = Held()
        async with Node(tmp_path / "data") as node, asyncio.TaskGroup() as tasks:
            first = tasks.create_task(node.store.backup(tmp_path / "1.tar", held))
            await asyncio.to_thread(held.began.wait)
            with pytest.raises(StoreCareError, match="being backed up already"):
                await node.store.backup(tmp_path / "2.tar", quiet)
            with pytest.raises(StoreCareError, match="being backed up already"):
                await node.store.compact()
            held.go_on.set()
            await first
            await node.store.compact()
            await node.store.backup(tmp_path / "2.tar", quiet)

    run(scenario())


def test_a_backup_that_is_cancelled_leaves_nothing_and_another_can_be_made(tmp_path: Path) -> None:
    async def scenario() -> None:
        held = Held()
        async with Node(tmp_path / "data") as node, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(node.store.backup(tmp_path / "1.tar", held))
            await asyncio.to_thread(held.began.wait)
            running.cancel()
            await asyncio.sleep(0)
            assert (tmp_path / "1.tar.partial").exists()
            assert not running.done()
            held.go_on.set()
            await asyncio.wait([running])
            assert running.cancelled()
            assert not (tmp_path / "1.tar.partial").exists()
            assert not (tmp_path / "1.tar").exists()
            await node.store.backup(tmp_path / "1.tar", quiet)

    run(scenario())


def test_a_backup_that_fails_lets_go_of_the_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Node(tmp_path / "data") as node:
            for _ in range(2):
                with pytest.raises(BackupError, match="nowhere cannot be used"):
                    await node.store.backup(tmp_path / "nowhere" / "b.tar", quiet)
            await node.store.backup(tmp_path / "b.tar", quiet)

    run(scenario())


def test_compacting_keeps_what_there_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Node(tmp_path / "data") as node:
            for _ in range(50):
                node.engine.store_write([(key, value + b"x" * 5_000) for key, value in CONTENT.items()])
            node.engine.store_write(list(CONTENT.items()))
            before, after = await node.store.compact()
            assert after < before
            assert dict(node.engine.store_scan(b"")) == CONTENT
        assert content_of(store_of(tmp_path / "data")) == CONTENT

    run(scenario())
