"""Which file is read, which layer goes before which, and what holds without a file."""

from pathlib import Path

import pytest

from strogoff.config import ConfigError, Configuration, NoteKind, find_file, load


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def texts(configuration: Configuration, kind: NoteKind) -> list[str]:
    return [note.text for note in configuration.notes if note.kind is kind]


def test_a_stronger_layer_overrules_a_weaker_one(tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text("max_online_messages = 1\nmax_offline_messages = 1\nmax_inflight_messages = 1\n")
    environment = {"STROGOFF_SET_MAX_OFFLINE_MESSAGES": "2", "DOCKER_VERNEMQ_MAX_INFLIGHT_MESSAGES": "2"}
    configuration = load(file, environment=environment, overrides=["max_inflight_messages=3"])
    names = ("max_client_id_size", "max_online_messages", "max_offline_messages", "max_inflight_messages")
    assert [configuration.get(name) for name in names] == [100, 1, 2, 3]
    assert [str(configuration.source_of(name)) for name in names] == [
        "default",
        f"{file}:1",
        "environment STROGOFF_SET_MAX_OFFLINE_MESSAGES",
        "--set",
    ]


def test_mistakes_of_all_layers_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "my.conf").write_text("a\n")
    with pytest.raises(ConfigError) as caught:
        load(Path("my.conf"), environment={"STROGOFF_SET_B": "1"}, overrides=["c=1", "d", "queue_type=x", "nodename="])
    assert [problem.where for problem in caught.value.problems] == [
        "my.conf:1",
        "--set",
        "--set",
        "environment STROGOFF_SET_B",
        "--set",
        "--set",
    ]


def test_with_a_file_the_defaults_are_those_of_vernemq(tmp_path: Path) -> None:
    (tmp_path / "my.conf").write_text("")
    configuration = load(Path("my.conf"))
    assert configuration.get("allow_anonymous") is False
    assert configuration.listeners == ()
    assert any("no client can connect" in text for text in texts(configuration, NoteKind.WARNING))
    assert configuration.file == Path("my.conf")


def test_without_a_file_the_broker_is_open_on_loopback_only_and_says_so() -> None:
    configuration = load()
    (listener,) = configuration.listeners
    assert (listener.key, str(listener.endpoint)) == ("listener.tcp.default", "127.0.0.1:1883")
    assert configuration.get("allow_anonymous") is True
    assert configuration.data_directory == Path("data")
    assert configuration.get("log.console") == "console"
    assert texts(configuration, NoteKind.NOTICE) == [
        "there is no configuration file; the broker listens on 127.0.0.1:1883, for this machine only",
        "clients need no user name and no password",
        "data are kept under ./data",
    ]


def test_without_a_file_another_loopback_address_is_open_too() -> None:
    configuration = load(overrides=["listener.tcp.default=127.0.0.1:0", "platform_data_dir=/srv/x"])
    assert configuration.get("allow_anonymous") is True
    assert texts(configuration, NoteKind.NOTICE)[2] == "data are kept under /srv/x"


def test_without_a_file_an_address_of_the_network_is_not_open_to_everybody() -> None:
    configuration = load(environment={"STROGOFF_SET_LISTENER__TCP__OUTSIDE": "0.0.0.0:1883"})
    assert [item.name for item in configuration.listeners] == ["outside"]
    assert configuration.get("allow_anonymous") is False
    assert "are refused" in texts(configuration, NoteKind.NOTICE)[1]


def test_without_a_file_the_network_can_be_opened_on_purpose() -> None:
    assert load(overrides=["listener.tcp.default=0.0.0.0:0", "allow_anonymous=on"]).get("allow_anonymous") is True


def test_variables_are_read_only_where_they_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROGOFF_SET_NONSENSE", "1")
    assert load().get("allow_anonymous") is True


def test_variables_of_the_container_are_reported() -> None:
    configuration = load(environment={"DOCKER_VERNEMQ_KUBERNETES_ISTIO_ENABLED": "1"})
    assert "environment DOCKER_VERNEMQ_KUBERNETES_ISTIO_ENABLED: known, not active yet" in texts(
        configuration, NoteKind.NOT_ACTIVE_YET
    )


def test_the_named_file_goes_before_the_variable_and_that_before_the_default_place(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "strogoff.conf").write_text("")
    variables = {"STROGOFF_CONFIG": "variable.conf"}
    assert find_file(Path("named.conf"), variables).path == Path("named.conf")
    assert find_file(None, variables).path == Path("variable.conf")
    assert find_file(None, {}).path == Path("etc/strogoff.conf")
    assert find_file(None, {}, tmp_path).path == tmp_path / "etc" / "strogoff.conf"


def test_a_named_file_that_is_missing_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^no\.conf: cannot be read: No such file"):
        load(environment={"STROGOFF_CONFIG": "no.conf"})


def test_a_file_of_vernemq_is_mentioned_but_not_read(tmp_path: Path) -> None:
    (tmp_path / "vernemq.conf").write_text("nonsense")
    assert "--config vernemq.conf" in load().notes[-1].text + load().notes[3].text


def test_files_of_the_erlang_machine_are_mentioned(tmp_path: Path) -> None:
    for name in ("my.conf", "vm.args", "advanced.config"):
        (tmp_path / name).write_text("")
    warnings = texts(load(Path("my.conf")), NoteKind.WARNING)
    assert sum("Erlang machine" in text for text in warnings) == 2


def test_a_file_of_vernemq_beside_the_one_that_is_read_is_mentioned(tmp_path: Path) -> None:
    for name in ("my.conf", "vernemq.conf.local"):
        (tmp_path / name).write_text("")
    [warning] = [text for text in texts(load(Path("my.conf")), NoteKind.WARNING) if "vernemq" in text]
    assert warning == "vernemq.conf.local is not read, as my.conf is: set STROGOFF_CONFIG to use it instead"
    (tmp_path / "vernemq.conf").write_text("")
    assert not any("STROGOFF_CONFIG" in text for text in texts(load(Path("vernemq.conf")), NoteKind.WARNING))


def test_a_key_that_one_file_sets_twice_is_remarked_upon_an_overruling_include_is_not(tmp_path: Path) -> None:
    (tmp_path / "more.inc").write_text("max_online_messages = 5\n")
    (tmp_path / "my.conf").write_text("max_online_messages = 3\nqueue_type = fifo\nqueue_type = lifo\ninclude more.inc")
    configuration = load(Path("my.conf"))
    repeated = [text for text in texts(configuration, NoteKind.WARNING) if "set twice" in text]
    assert repeated == ["queue_type is set twice: my.conf:3 overrules my.conf:2"]
    assert configuration.get("max_online_messages") == 5


def test_double_quotes_around_a_value_are_left_out_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "my.conf").write_text('systree_mountpoint = "x"\ngraphite_prefix = a"b"c\n')
    configuration = load(Path("my.conf"))
    assert configuration.get("systree_mountpoint") == "x"
    assert configuration.get("graphite_prefix") == 'a"b"c'
    assert sum("double quotes" in text for text in texts(configuration, NoteKind.WARNING)) == 1


def test_a_file_of_vernemq_works_unchanged(tmp_path: Path) -> None:
    (tmp_path / "vernemq.conf").write_text(
        "allow_anonymous = off\nlistener.tcp.default = 127.0.0.1:1883\nlistener.vmq.clustering = 0.0.0.0:44053\n"
        "listener.http.default = 127.0.0.1:8888\nplugins.vmq_passwd = on\nvmq_acl.acl_file = ./etc/vmq.acl\n"
        "retry_interval = 20\nmetadata_plugin = vmq_swc\nerlang.async_threads = 64\n"
        "leveldb.maximum_memory.percent = 20\n"
        "persistent_client_expiration = 1w\nnodename = VerneMQ@127.0.0.1\ninclude conf.d/*.conf"
    )
    configuration = load(Path("vernemq.conf"))
    assert [item.key for item in configuration.listeners] == ["listener.tcp.default"]
    assert texts(configuration, NoteKind.WARNING) == []
