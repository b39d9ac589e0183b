"""Where nodes may be: a list, a file; how often they are looked for."""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from strogoff.cluster.discovery.finding import Pauses
from strogoff.cluster.discovery.places import FileSource, Place, SourceError, StaticSource
from strogoff.cluster.discovery.settings import discovery_settings
from strogoff.cluster.terms import terms_of
from strogoff.config import load

LISTENER = "listener.vmq.default=127.0.0.1:44053"


def test_a_list_names_nodes_and_their_addresses() -> None:
    source = StaticSource(["a@h", "b@[::1]:7"], port=9)
    assert asyncio.run(source.look()) == [Place("a@h", "h:9"), Place("b@::1", "[::1]:7")]


@pytest.mark.parametrize(("settings", "port"), [((), 44053), (("cluster.discovery.port=5",), 5)])
def test_other_nodes_have_the_port_of_this_one_unless_another_is_set(settings: Sequence[str], port: int) -> None:
    keys = ("cluster.discovery=static", "cluster.discovery.static.nodes=a@h")
    configuration = load(overrides=(LISTENER, *keys, *settings))
    source = discovery_settings(configuration, terms_of(configuration)).source
    assert source is not None
    assert asyncio.run(source.look()) == [Place("a@h", f"h:{port}")]


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    source = FileSource(path, port=44053)
    with pytest.raises(SourceError, match=r"No such file.*cluster\.discovery\.file\.path"):
        asyncio.run(source.look())
    path.write_text("# nobody yet\n\n")
    with pytest.raises(SourceError, match="names no node"):
        asyncio.run(source.look())
    path.write_text("a@h # the first\n\n  b@h:7\n")
    assert asyncio.run(source.look()) == [Place("a@h", "h:44053"), Place("b@h", "h:7")]
    path.write_text("a@h\nb\n")
    with pytest.raises(SourceError, match="'b' is no name of a node"):
        asyncio.run(source.look())
    path.write_bytes(b"\xff\n")
    with pytest.raises(SourceError, match="decode"):
        asyncio.run(source.look())


def test_the_settings_are_those_of_the_keys() -> None:
    keys = ("cluster.discovery=static", "cluster.discovery.static.nodes=a@h", "cluster.discovery.expect=3")
    configuration = load(overrides=(LISTENER, *keys, "cluster.discovery.start_alone_after=5000"))
    settings = discovery_settings(configuration, terms_of(configuration))
    assert (settings.kind, settings.interval_s, settings.retry_max_s, settings.nodes_max) == ("static", 1.0, 30.0, 64)
    manner = settings.manner
    assert (manner.is_complete, manner.patience_s, manner.expect, manner.start_alone_after_s) == (True, 1.0, 3, 5.0)
    nothing = discovery_settings(load(), terms_of(load()))
    assert nothing.source is None
    assert nothing.manner.start_alone_after_s is None


def test_pauses_double_up_to_a_limit_and_are_never_all_alike() -> None:
    pauses = list(itertools.islice(Pauses(1.0, 30.0), 8))
    for pause, whole in zip(pauses, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert whole / 2 <= pause <= whole
    assert len(set(pauses)) == 8
