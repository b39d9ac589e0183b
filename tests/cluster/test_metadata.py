"""The interface of the metadata store: its events, and the choice of the store."""

from collections.abc import Sequence

import pytest

from strogoff.cluster.merge import latest
from strogoff.cluster.metadata import (
    Event,
    EventLog,
    EventsLostError,
    Origin,
    UnknownMetadataPluginError,
    open_metadata,
)


def test_a_watcher_hears_of_its_prefix_in_order() -> None:
    log, heard = EventLog(), list[Sequence[Event]]()
    log.add([(b"a/0", (), b"0", True)])
    end = log.watch(b"a/", heard.append)
    log.add([(b"a/1", (), b"1", True), (b"b/1", (), b"1", True), (b"a/2", (b"1",), None, False)])
    log.add([(b"b/2", (), b"1", True)])
    assert heard == [
        [Event(2, b"a/1", (), b"1", Origin.LOCAL), Event(4, b"a/2", (b"1",), None, Origin.REMOTE)],
    ]
    end()
    end()
    log.add([(b"a/3", (), b"1", True)])
    assert len(heard) == 1


def test_events_since_a_revision_are_told_while_they_are_remembered() -> None:
    log = EventLog(kept=2)
    for number in range(1, 8):
        log.add([(b"k%d" % number, (), b"v", True)])
    assert log.revision == 7
    assert [event.revision for event in log.since(5)] == [6, 7]
    assert log.since(7) == []
    with pytest.raises(EventsLostError, match="read anew"):
        log.since(1)
    with pytest.raises(EventsLostError):
        log.since(8)


def test_after_a_reset_everybody_reads_anew() -> None:
    log, heard = EventLog(), list[Sequence[Event]]()
    log.watch(b"", heard.append)
    log.add([(b"k", (), b"v", True)])
    before = log.revision
    log.reset()
    assert heard[-1] == ()
    assert log.revision > before
    with pytest.raises(EventsLostError):
        log.since(before)
    assert log.since(log.revision) == []


def test_an_unknown_store_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownMetadataPluginError, match=r"metadata_plugin = etcd .* use one of vmq_swc"):
        open_metadata("etcd", {"vmq_swc": lambda _: pytest.fail("not asked for")}, latest)
