"""The metadata of a node that does not run: read, and written as the node itself would."""

from collections.abc import Mapping

from cluster.real_nodes import ClusterNode
from strogoff import _engine
from strogoff.cluster.hlc import stamped
from strogoff.cluster.identity import IDENTITY_KEY, Identity
from strogoff.cluster.node import MERGE
from strogoff.cluster.swc import Actor, Replica
from strogoff.cluster.swc_store import ROWS_PREFIX, rows_of
from strogoff.store.files import store_of


def put_rows(node: ClusterNode, rows: Mapping[bytes, bytes]) -> None:
    """Write rows."""
    engine = _opened(node)
    try:
        replica = _replica(engine)
        for key, value in rows.items():
            replica.put(key, stamped(engine.stamp(), value))
        engine.store_write(replica.take().writes, wait=True)
    finally:
        engine.stop()


def get_rows(node: ClusterNode) -> dict[bytes, bytes]:
    """All rows."""
    engine = _opened(node)
    try:
        return dict(_replica(engine).scan(b""))
    finally:
        engine.stop()


def known_actors(node: ClusterNode) -> set[str]:
    """The names of the nodes of whose writes it knows."""
    return {key.removeprefix(b"member/").decode() for key in get_rows(node) if key.startswith(b"member/")}


def _opened(node: ClusterNode) -> _engine.Engine:
    engine = _engine.Engine({"workers": 1})
    engine.open_store(str(store_of(node.broker.data_directory)))
    return engine


def _replica(engine: _engine.Engine) -> Replica:
    row = engine.store_get(IDENTITY_KEY)
    assert row is not None, "the node has been started"
    actor: Actor = Identity.decode(row).actor
    return Replica(actor, members=[actor], nonce=1, rows=rows_of(engine), resolve=MERGE, prefix=ROWS_PREFIX)
