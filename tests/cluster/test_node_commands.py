"""`node status` and `node history` of nodes of a cluster."""

import csv
import io
import re
from datetime import datetime

from cluster.clients import StartNode, clustered, tables
from cluster.real_nodes import ClusterNode, eventually


def status(node: ClusterNode) -> dict[str, str]:
    table = csv.DictReader(io.StringIO(node.broker.admin("node", "status", "--format=csv")))
    return {row["Status"]: row["Value"] for row in table}


def history(node: ClusterNode) -> list[dict[str, str]]:
    events, *_ = tables(node.broker.admin("node", "history", "--format=csv"))
    return events


def of_cluster(node: ClusterNode) -> list[tuple[str, str]]:
    """Event and node, without the phases."""
    return [(row["event"], row["node"]) for row in history(node) if row["event"] != "phase"]


def test_the_status_of_a_node_tells_who_it_is_and_of_what_cluster(started: StartNode) -> None:
    one, two = clustered(started, "one", "two")
    of_one, of_two = status(one), status(two)
    assert of_one["cluster"] == of_two["cluster"]
    assert re.fullmatch("[0-9a-f]{32}", of_one["cluster"])
    assert re.fullmatch("[0-9a-f]{16}", of_one["incarnation"])
    assert of_one["incarnation"] != of_two["incarnation"]
    assert (of_one["node"], of_two["node"]) == (one.name, two.name)
    assert (of_one["members"], of_one["reachable"], of_one["ready"]) == ("2", "2", "true")
    two.broker.stop()
    eventually(lambda: status(one)["reachable"] == "1", "one member is away")
    assert status(one)["members"] == "2"


def test_a_node_that_starts_tells_what_it_waits_for(started: StartNode) -> None:
    one, two = clustered(started, "one", "two", cluster__sync_timeout=60_000, cluster__link_timeout=20_000)
    two.broker.stop()
    one.broker.stop()
    since = one.broker.log_size()
    one.broker.launch()
    eventually(lambda: '"phase": "syncing"' in one.broker.log_tail(since), "it gets in step")
    assert status(one)["ready"] == f"waits for what {two.name} subscribes to"
    two.broker.start()
    one.broker.await_answer()
    assert status(one)["ready"] == "true"


def test_the_history_of_a_node_tells_of_members_and_links(started: StartNode) -> None:
    one, two = clustered(started, "one", "two")
    assert of_cluster(one) == [("joined", two.name), ("link up", two.name)]
    assert of_cluster(two) == [("joined", two.name), ("link up", one.name)]
    joined = next(row for row in history(two) if row["event"] == "joined")
    assert joined["detail"] == f"through {one.name}"
    two.broker.kill()
    eventually(lambda: len(of_cluster(one)) == 3, "the link is down")
    assert of_cluster(one)[-1] == ("link down", two.name)
    assert history(one)[-1]["detail"]
    assert one.broker.admin("cluster", "leave", f"node={two.name}").strip() == "Done"
    assert of_cluster(one)[-1] == ("removed", two.name)


def test_the_history_begins_with_the_phases_of_the_start_and_is_in_order(started: StartNode) -> None:
    rows = history(clustered(started, "one", "two")[0])
    assert [row["detail"] for row in rows[:3]] == ["start", "booting", "discovering"]
    times = [datetime.fromisoformat(row["time"]) for row in rows]
    assert times == sorted(times)


def test_a_node_that_leaves_has_left(started: StartNode) -> None:
    one, two = clustered(started, "one", "two")
    assert one.broker.admin("cluster", "leave", f"node={two.name}", "-k").splitlines()[-1].strip() == "Done"
    assert two.broker.await_end() == 0
    eventually(lambda: ("left", two.name) in of_cluster(one), "it has left")
