"""Keys of discovery that do not make sense together are told before the start."""

import pytest

from strogoff.config import ConfigError, Configuration, load


def configured(*settings: str, listener: bool = True) -> Configuration:
    cluster = ("listener.vmq.default=127.0.0.1:44053",) if listener else ()
    return load(overrides=(*cluster, *settings))


def test_without_discovery_nothing_is_asked_for() -> None:
    assert configured(listener=False).get("cluster.discovery") == "none"


def test_a_list_of_nodes_is_enough() -> None:
    configuration = configured("cluster.discovery=static", "cluster.discovery.static.nodes=a@10.0.0.1,b@10.0.0.2:7")
    assert configuration.get("cluster.discovery.static.nodes") == ("a@10.0.0.1", "b@10.0.0.2:7")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["cluster.discovery=static"], r"cluster\.discovery\.static\.nodes is not set"),
        (["cluster.discovery=file"], r"cluster\.discovery\.file\.path is not set"),
        (["cluster.discovery=static", "cluster.discovery.static.nodes=a"], r"'a' is no node.*NAME@HOST"),
        (["cluster.discovery=static", "cluster.discovery.static.nodes=a@h:x"], r"'a@h:x'"),
    ],
)
def test_what_is_missing_is_told(settings: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        configured(*settings)


def test_a_node_that_looks_for_others_needs_a_listener_for_them() -> None:
    with pytest.raises(ConfigError, match=r"no listener for other nodes.*listener\.vmq\.default"):
        configured("cluster.discovery=static", "cluster.discovery.static.nodes=a@h", listener=False)
