"""The key table: all keys of VerneMQ are known, every row is sound, unknown keys find their nearest."""

import re
from collections import Counter

import pytest

from strogoff.config import Activity, Key, Relevance, changeable_keys, key_table
from strogoff.config.keys import levels

TABLE = key_table()


def test_every_key_of_vernemq_is_known() -> None:
    counts = Counter(key.relevance for key in TABLE)
    assert counts[Relevance.CORE] == 499
    assert counts[Relevance.ERLANG_VM] == 82
    assert counts[Relevance.STORAGE_TUNING] == 44
    assert counts[Relevance.DEPRECATED] == 8


def test_vernemq_leaves_as_many_keys_out_of_its_file_and_changes_as_many_at_run_time() -> None:
    of_vernemq = [key for key in TABLE if key.relevance is not Relevance.STROGOFF]
    assert sum(key.is_hidden for key in of_vernemq) == 385
    # Those of bridges may change here, too.
    assert sum(key.is_runtime_settable and not key.name.startswith("vmq_bridge.") for key in of_vernemq) == 50


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("allow_anonymous", "off"),
        ("max_inflight_messages", "20"),
        ("persistent_client_expiration", "never"),
        ("listener.max_connections", "10000"),
        ("nodename", "VerneMQ@127.0.0.1"),
        ("prometheus_namespace", "vernemq_"),
        ("systree_mountpoint", ""),
        ("vmq_bridge.ssl.$name.insecure", "off"),
        ("erlang.async_threads", "64"),
        ("leveldb.data_root", "$(platform_data_dir)/leveldb"),
        ("vmq_diversity.mongodb.read_preference", "primaryPreferred"),
        ("listener.vmq.$name", "0.0.0.0:44053"),
    ],
)
def test_the_defaults_are_those_of_vernemq(name: str, default: str) -> None:
    assert TABLE[name].default == default


@pytest.mark.parametrize("key", list(TABLE), ids=lambda key: key.name)
def test_a_key_has_a_type_a_sentence_and_a_default_of_its_type(key: Key) -> None:
    assert key.type.expected
    assert key.documentation.endswith(".")
    if key.default is not None:
        key.type.read(key.default.replace("$(platform_data_dir)", "./data"))
    if key.is_inherited:
        assert len(levels(key.name)) > 1


def test_an_active_default_needs_no_remark() -> None:
    remarks = [key.type.read(key.default).remark for key in TABLE if key.is_active and key.default is not None]
    assert not any(remarks)


def test_keys_of_the_erlang_machine_and_of_its_stores_do_not_apply() -> None:
    strangers = {Relevance.ERLANG_VM, Relevance.STORAGE_TUNING, Relevance.DEPRECATED}
    exceptions = {key.name for key in TABLE if key.relevance in strangers and key.activity is not Activity.NEVER}
    assert exceptions == {"platform_data_dir", "queue_deliver_mode"}
    core_without_effect = {
        key.name for key in TABLE if key.relevance is Relevance.CORE and key.activity is Activity.NEVER
    }
    acceptors = {name for name in core_without_effect if name.endswith(".nr_of_acceptors")}
    between_nodes = {f"listener.{words}.mountpoint" for words in ("vmq", "vmqs", "vmq.$name", "vmqs.$name")}
    of_another_cluster = {
        "coordinate_registrations",
        "max_drain_time",
        "max_msgs_per_drain_step",
        "remote_enqueue_timeout",
        "cluster_ready_rpc_timeout",
    }
    of_another_buffer = {
        f"vmq_bridge.{kind}.$name.{word}"
        for kind in ("tcp", "ssl")
        for word in ("queue_dir", "segment_size", "pubrel_queue_ratio")
    } | {"vmq_bridge.ssl.$name.customize_hostname_check"}
    others = {"retry_interval"} | between_nodes | of_another_cluster | of_another_buffer
    assert core_without_effect - acceptors == others


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("listener.tcp.default", "listener.tcp.$name"),
        ("listener.tcp.mountpoint", "listener.tcp.mountpoint"),
        ("listener.tcp.my-one.mountpoint", "listener.tcp.$name.mountpoint"),
        (r"listener.tcp.a\.b", "listener.tcp.$name"),
        ("plugins.vmq_acl", "plugins.vmq_acl"),
        ("plugins.mine", "plugins.$name"),
        ("plugins.hook_timeout", "plugins.hook_timeout"),
        ("vmq_bridge.tcp.br0.topic.7", "vmq_bridge.tcp.$name.topic.$topic_id"),
        ("http_module.vmq_http_pub.auth.mode", "http_module.vmq_http_pub.auth.mode"),
        ("http_module.other.auth.mode", "http_module.$name.auth.mode"),
        ("listener.http.h.http_module.vmq_metrics_http.auth.mode", "listener.http.$name.http_module.$module.auth.mode"),
    ],
)
def test_a_key_is_found_by_its_name_before_a_pattern(name: str, pattern: str) -> None:
    key = TABLE.find(name)
    assert key is not None
    assert key.name == pattern


@pytest.mark.parametrize(
    "name", ["", ".", "listener", "listener.tcp.", "Allow_anonymous", "listener.tcp.a.b.c", "x" * 999]
)
def test_other_names_are_no_keys(name: str) -> None:
    assert TABLE.find(name) is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("allow_anonymus", "allow_anonymous"),
        ("listner.tcp.default", "listener.tcp.default"),
        ("listener.tcp.mine.mount_point", "listener.tcp.mine.mountpoint"),
        ("max_inflight_message", "max_inflight_messages"),
        ("completely.different", None),
    ],
)
def test_an_unknown_key_finds_its_nearest(name: str, nearest: str | None) -> None:
    assert TABLE.nearest(name) == nearest


def test_whatever_counts_bytes_may_be_written_with_a_unit() -> None:
    in_bytes = [key for key in TABLE if re.search(r"\bbytes\b", key.documentation)]
    assert len(in_bytes) > 20
    assert [key.name for key in in_bytes if not key.type_name.startswith("bytesize")] == []


def test_only_keys_that_act_can_change_at_run_time() -> None:
    names = {key.name for key in changeable_keys()}
    assert {"allow_anonymous", "max_online_messages", "systree_interval", "max_queued_bytes"} <= names
    assert names.isdisjoint({"workers", "nodename", "graphite_port", "retry_interval"})
