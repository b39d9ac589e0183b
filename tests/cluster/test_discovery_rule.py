"""Who starts a cluster, who joins, and who waits: the rule as a table, and in simulated starts."""

import pytest

from cluster.discovering import Node, Start, random_start
from strogoff.cluster.discovery.rule import (
    Decision,
    Found,
    Join,
    Manner,
    Own,
    Said,
    Standing,
    StartAlone,
    Wait,
    Waited,
    decide,
    in_order,
    ordinal_of,
)

NAMES = Manner(is_complete=True, patience_s=1.0)
ADDRESSES = Manner(is_complete=False, patience_s=10.0)
LATE = Waited(100.0, 100.0, 100.0)
NOW = Waited(0.0, 0.0, 0.0)


def pod(number: int) -> str:
    return f"VerneMQ@broker-{number}.brokers.default.svc.cluster.local"


def new(name: str) -> Found:
    return Found(name, name, Said(name, Standing.NEW, 1, is_settled=False))


def alone(name: str, *, is_settled: bool = True, looks: bool = True, state: str = "") -> Found:
    return Found(name, name, Said(name, Standing.ALONE, 7, is_settled=is_settled, looks=looks, state=state))


def member(name: str, members: int, cluster: int, *, is_settled: bool = True) -> Found:
    return Found(name, name, Said(name, Standing.MEMBER, cluster, members=members, is_settled=is_settled))


def silent(name: str) -> Found:
    return Found("10.0.0.9:44053", name, None, "connection refused")


def judge(
    name: str,
    *found: Found,
    waited: Waited = NOW,
    manner: Manner = NAMES,
    standing: Standing = Standing.NEW,
    state: str = "",
) -> Decision:
    return decide(Own(name, standing, 99, state), found, waited, manner)


def waits_for(decision: Decision) -> str:
    assert isinstance(decision, Wait), decision
    return "; ".join(str(reason) for reason in decision.reasons)


def joins(decision: Decision) -> str:
    assert isinstance(decision, Join), decision
    return decision.node


def test_the_node_with_the_lowest_name_starts_when_all_have_answered() -> None:
    assert isinstance(judge("a@h", new("b@h"), new("c@h")), StartAlone)
    assert waits_for(judge("b@h", new("a@h"), new("c@h"))) == "a@h, which starts the cluster and has not done so yet"


def test_who_does_not_answer_is_waited_for_with_patience_by_the_first_and_without_end_by_others() -> None:
    assert "an answer of b@h: connection refused" in waits_for(judge("a@h", silent("b@h"), new("c@h")))
    assert isinstance(judge("a@h", silent("b@h"), new("c@h"), waited=LATE), StartAlone)
    text = waits_for(judge("b@h", silent("a@h"), new("c@h"), waited=LATE))
    assert text == "a@h, which alone may start the cluster: connection refused"


def test_another_node_starts_alone_if_it_is_told_to_and_the_first_does_not_answer() -> None:
    manner = Manner(is_complete=True, patience_s=1.0, start_alone_after_s=30.0)
    assert isinstance(judge("b@h", silent("a@h"), waited=LATE, manner=manner), StartAlone)
    assert waits_for(judge("b@h", silent("a@h"), waited=Waited(29, 29, 29), manner=manner))
    assert waits_for(judge("b@h", new("a@h"), waited=LATE, manner=manner))


def test_the_largest_cluster_is_joined_and_goes_before_everything_else() -> None:
    found = (member("x@h", 2, 5), member("z@h", 3, 6), member("y@h", 3, 6), alone("b@h"), new("c@h"), silent("d@h"))
    assert joins(judge("a@h", *found)) == "y@h"
    assert joins(judge("a@h", *found, standing=Standing.ALONE)) == "y@h"
    assert joins(judge("a@h", member("y@h", 2, 9), member("x@h", 2, 8))) == "x@h"


def test_a_member_that_lets_nobody_in_yet_is_waited_for() -> None:
    assert joins(judge("a@h", member("x@h", 2, 5, is_settled=False), member("y@h", 2, 5))) == "y@h"
    assert "x@h, which has a cluster" in waits_for(judge("a@h", member("x@h", 2, 5, is_settled=False), waited=LATE))


def test_a_node_that_has_started_the_cluster_is_joined_but_not_before_all_had_time_to_answer() -> None:
    assert joins(judge("b@h", alone("a@h"), new("c@h"))) == "a@h"
    assert "an answer of c@h" in waits_for(judge("b@h", alone("a@h"), silent("c@h")))
    assert joins(judge("b@h", alone("a@h"), silent("c@h"), waited=LATE)) == "a@h"
    assert "does not let others in yet" in waits_for(judge("b@h", alone("a@h", is_settled=False), waited=LATE))
    # It is joined by one with a lower name, too, since that one is new.
    assert joins(judge("a@h", alone("b@h"))) == "b@h"


@pytest.mark.parametrize(
    ("own", "state", "other", "expected"),
    [
        ("b@h", "", alone("a@h"), "a@h"),
        ("a@h", "", alone("b@h"), None),
        ("a@h", "", alone("b@h", state="1 sessions"), "b@h"),
        ("b@h", "1 sessions", alone("a@h"), None),
        ("b@h", "1 sessions", alone("a@h", state="2 sessions"), "a@h"),
        ("a@h", "", alone("b@h", looks=False), "b@h"),
    ],
)
def test_of_two_nodes_alone_the_one_with_less_to_lose_joins_the_other(
    own: str, state: str, other: Found, expected: str | None
) -> None:
    decision = judge(own, other, standing=Standing.ALONE, state=state)
    if expected is None:
        assert isinstance(decision, StartAlone)
    else:
        assert joins(decision) == expected


def test_a_node_that_was_alone_before_starts_again_as_soon_as_it_can_know_of_no_other() -> None:
    assert isinstance(judge("b@h", new("a@h"), standing=Standing.ALONE), StartAlone)
    assert isinstance(judge("b@h", standing=Standing.ALONE, manner=ADDRESSES), StartAlone)
    assert waits_for(judge("b@h", silent("a@h"), standing=Standing.ALONE))
    assert isinstance(judge("b@h", silent("a@h"), standing=Standing.ALONE, waited=LATE), StartAlone)
    untold = Waited(0.5, None, 0.5)
    assert waits_for(judge("b@h", standing=Standing.ALONE, waited=untold, manner=ADDRESSES))
    assert isinstance(judge("b@h", standing=Standing.ALONE, waited=Waited(11, None, 11), manner=ADDRESSES), StartAlone)


def test_nobody_starts_a_cluster_while_the_source_is_silent() -> None:
    decision = decide(Own("a@h", Standing.NEW, 9), (), Waited(1_000, None, 1_000), ADDRESSES, "no answer within 5 s")
    assert waits_for(decision) == "word of where other nodes are: no answer within 5 s"
    decision = decide(Own(pod(1), Standing.NEW, 9), (), Waited(1_000, None, 1_000), ADDRESSES, "no answer within 5 s")
    assert waits_for(decision).endswith("it has not been found; word of where other nodes are: no answer within 5 s")


def test_the_first_pod_starts_alone_after_its_patience_and_earlier_when_it_has_seen_others() -> None:
    assert "other nodes, for 10 s" in waits_for(judge(pod(0), waited=Waited(9, 9, 9), manner=ADDRESSES))
    assert isinstance(judge(pod(0), waited=Waited(10, 10, 10), manner=ADDRESSES), StartAlone)
    assert waits_for(judge(pod(0), new(pod(1)), waited=Waited(2, 2, 0.5), manner=ADDRESSES))
    assert isinstance(judge(pod(0), new(pod(1)), waited=Waited(2, 2, 1), manner=ADDRESSES), StartAlone)
    assert waits_for(judge(pod(0), new(pod(1)), silent(""), waited=Waited(2, 2, 1), manner=ADDRESSES))


def test_another_pod_never_starts_a_cluster() -> None:
    text = waits_for(judge(pod(1), new(pod(2)), waited=LATE, manner=ADDRESSES))
    assert text == f"{pod(0)}, which alone may start the cluster: it has not been found"
    from_one = Manner(is_complete=False, patience_s=10.0, first_ordinal=1)
    assert isinstance(judge(pod(1), new(pod(2)), waited=LATE, manner=from_one), StartAlone)


def test_a_number_of_nodes_can_be_expected() -> None:
    manner = Manner(is_complete=False, patience_s=10.0, expect=3)
    text = waits_for(judge("a@h", new("b@h"), silent(""), waited=LATE, manner=manner))
    assert "1 more nodes (cluster.discovery.expect = 3); an answer of the node at 10.0.0.9:44053" in text
    assert isinstance(judge("a@h", new("b@h"), new("c@h"), manner=manner), StartAlone)
    assert waits_for(judge("b@h", new("a@h"), new("c@h"), waited=LATE, manner=manner))


def test_only_the_seed_that_is_named_starts_a_cluster() -> None:
    manner = Manner(is_complete=True, patience_s=1.0, seed="b@h")
    assert waits_for(judge("a@h", new("b@h"), waited=LATE, manner=manner))
    assert isinstance(judge("b@h", new("a@h"), manner=manner), StartAlone)


def test_numbers_in_names_count_as_numbers() -> None:
    assert in_order(["n-10@h", "n-2@h", "m@h"]) == ["m@h", "n-2@h", "n-10@h"]
    assert in_order(["a@10.0.0.10", "a@10.0.0.9"]) == ["a@10.0.0.9", "a@10.0.0.10"]


@pytest.mark.parametrize(
    ("name", "ordinal"),
    [(pod(0), 0), (pod(12), 12), ("a@10.0.0.1", None), ("n-1@h-1", None), ("n-1@h.local", None), ("a@::1", None)],
)
def test_a_pod_of_a_stateful_set_is_known_by_its_host(name: str, ordinal: int | None) -> None:
    assert ordinal_of(name) == ordinal


SEEDS = range(300)


@pytest.mark.parametrize(
    ("manner", "name"),
    [
        (NAMES, lambda number: f"n{number}@h"),
        (ADDRESSES, pod),
        (Manner(is_complete=False, patience_s=10.0, expect=1), lambda number: f"n{number}@h"),
        (Manner(is_complete=False, patience_s=10.0, seed="n1@h"), lambda number: f"n{number}@h"),
    ],
    ids=["named", "stateful set", "expected number", "named seed"],
)
def test_nodes_that_start_and_see_each_other_at_any_time_come_to_one_cluster(manner, name) -> None:  # type: ignore[no-untyped-def]
    for seed in SEEDS:
        start = random_start(seed, manner, name, starts_within_s=40, sees_within_s=40)
        start.run(until_s=100)
        assert start.clusters() == {1}, (seed, start.nodes)


def test_without_names_and_numbers_one_cluster_takes_that_all_see_each_other_in_time() -> None:
    for seed in SEEDS:
        start = random_start(seed, ADDRESSES, lambda number: f"n{number}@h", starts_within_s=9, sees_within_s=9)
        start.run(until_s=60)
        assert start.clusters() == {1}, (seed, start.nodes)


def test_all_at_once_takes_no_patience() -> None:
    for manner, name in ((NAMES, "n{}@h"), (ADDRESSES, "VerneMQ@broker-{}.brokers.svc")):
        names = [name.format(number) for number in range(3)]
        start = Start(manner, [Node(each, 0, {other: 0 for other in names if other != each}) for each in names])
        start.run(until_s=1.5)
        assert start.clusters() == {1}


def test_nodes_that_are_told_to_start_alone_are_several_clusters_until_they_see_each_other() -> None:
    """The simulation can tell one cluster from two."""
    manner = Manner(is_complete=True, patience_s=1.0, start_alone_after_s=5.0)
    names = [f"n{number}@h" for number in range(4)]
    start = Start(manner, [Node(name, 0, {other: 60 for other in names if other != name}) for name in names])
    start.run(until_s=30)
    assert start.clusters() == {1, 2, 3, 4}
    start.run(until_s=90)
    assert len(start.clusters()) == 1
