"""Who runs a bridge: one node, the same for all who ask, and no other as long as it can."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypothesis_profiles import load_profile
from strogoff.bridge.election import Candidacy, elected, read_candidacies

load_profile()


def test_the_one_that_has_run_it_longest_keeps_it() -> None:
    candidates = {"a": Candidacy("f"), "b": Candidacy("f", 20.0), "c": Candidacy("f", 10.0)}
    assert elected("br", candidates) == "c"
    del candidates["c"]
    assert elected("br", candidates) == "b"


@given(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=5), st.text(max_size=5))
def test_the_answer_depends_on_nothing_but_who_there_is(nodes: set[str], bridge: str) -> None:
    answers = {
        elected(bridge, dict.fromkeys(order, Candidacy("f")))
        for order in itertools.permutations(sorted(nodes), len(nodes))
    }
    assert len(answers) == 1
    assert answers <= nodes


def test_bridges_are_spread_over_the_nodes() -> None:
    candidates = dict.fromkeys(("a", "b", "c"), Candidacy("f"))
    assert {elected(f"br{number}", candidates) for number in range(30)} == set(candidates)


@pytest.mark.parametrize(
    "payload",
    [{}, {"bridges": []}, {"bridges": {"b": {"since": None}}}, {"bridges": {"b": {"fingerprint": "f", "since": "x"}}}],
)
def test_what_is_no_answer_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_candidacies(payload)


def test_what_a_node_says_is_read() -> None:
    said = {"bridges": {"b": {"fingerprint": "f", "since": 1.5}, "c": {"fingerprint": "g", "since": None}}}
    assert read_candidacies(said) == {"b": Candidacy("f", 1.5), "c": Candidacy("g")}
