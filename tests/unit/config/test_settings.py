"""Values, inheritance, listeners, placeholders and the notes about them."""

import itertools
from pathlib import Path

import pytest

from strogoff.config import ConfigError, Configuration, NoteKind, Origin
from strogoff.config.parser import parse_text
from strogoff.config.settings import build_configuration


def configured(text: str, directory: Path = Path()) -> Configuration:
    parsed = parse_text(text, "my.conf", directory)
    return build_configuration(parsed.assignments, problems=parsed.problems)


def problems_of(text: str, directory: Path = Path()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configured(text, directory)
    return [str(problem) for problem in caught.value.problems]


def notes_of(configuration: Configuration, kind: NoteKind) -> list[str]:
    return [note.text for note in configuration.notes if note.kind is kind]


def test_a_key_that_is_not_set_has_its_default() -> None:
    configuration = configured("")
    assert configuration.get("max_inflight_messages") == 20
    assert configuration.get("persistent_client_expiration") is None
    assert configuration.source_of("max_inflight_messages").origin is Origin.DEFAULT
    assert configuration.text_of("max_inflight_messages") == "20"
    assert configuration.node_name == "VerneMQ@127.0.0.1"
    assert configuration.data_directory == Path("data")


def test_the_last_of_several_assignments_holds_and_is_named() -> None:
    configuration = configured("max_inflight_messages = 1\nmax_inflight_messages = 2")
    assert configuration.get("max_inflight_messages") == 2
    assert str(configuration.source_of("max_inflight_messages")) == "my.conf:2"


def test_an_unknown_key_cannot_be_asked_for() -> None:
    with pytest.raises(KeyError):
        configured("").get("max_inflight")


def test_all_that_is_wrong_is_told_at_once_with_place_key_expectation_and_advice() -> None:
    assert problems_of("allow_anonymus = on\nqueue_type = filo\nnodename\nsystree_qos = 3\n") == [
        "my.conf:3: expected key = value, found 'nodename'; start a comment with #",
        "my.conf:1: allow_anonymus: there is no such key; did you mean allow_anonymous?",
        "my.conf:2: queue_type: expected fifo or lifo, not 'filo'",
        "my.conf:4: systree_qos: expected a whole number from 0 to 2, not '3'",
    ]


def test_an_unknown_key_that_is_overruled_is_still_an_error() -> None:
    assert len(problems_of("nonsense = 1\nnonsense = 2")) == 2


def test_a_secret_is_not_repeated_in_an_error() -> None:
    assert "hunter2" not in "".join(problems_of("distributed_cookie = 'hunter2\0'"))


@pytest.mark.parametrize(
    ("lines", "connections", "mountpoint", "versions"),
    [
        ("", 10_000, "", (3, 4, 5, 131)),
        ("listener.max_connections = 5\nlistener.mountpoint = root", 5, "root", (3, 4, 5, 131)),
        ("listener.max_connections = 5\nlistener.tcp.max_connections = 6", 6, "", (3, 4, 5, 131)),
        ("listener.tcp.max_connections = 6\nlistener.tcp.a.max_connections = 7", 7, "", (3, 4, 5, 131)),
        ("listener.tcp.max_connections = 6\nlistener.tcp.a.max_connections = -1", 6, "", (3, 4, 5, 131)),
        ("listener.max_connections = infinity\nlistener.tcp.max_connections = -1", None, "", (3, 4, 5, 131)),
        ("listener.mountpoint = root\nlistener.tcp.mountpoint = family", 10_000, "family", (3, 4, 5, 131)),
        ("listener.mountpoint = root\nlistener.tcp.a.mountpoint = off", 10_000, "", (3, 4, 5, 131)),
        ("listener.mountpoint = root\nlistener.tcp.a.mountpoint = ''", 10_000, "", (3, 4, 5, 131)),
        ("listener.tcp.allowed_protocol_versions = 5", 10_000, "", (5,)),
        ("listener.tcp.a.allowed_protocol_versions = [3,4]", 10_000, "", (3, 4)),
    ],
)
def test_a_listener_inherits_from_its_family_and_from_the_root(
    lines: str, connections: int | None, mountpoint: str, versions: tuple[int, ...]
) -> None:
    (listener,) = configured(f"listener.tcp.a = 127.0.0.1:1883\n{lines}").listeners
    assert (listener.kind, listener.name, listener.address, listener.port) == ("tcp", "a", "127.0.0.1", 1883)
    assert listener.max_connections == connections
    assert listener.mountpoint == mountpoint
    assert listener.allowed_protocol_versions == versions


def test_the_source_of_an_inherited_value_is_where_it_was_written() -> None:
    configuration = configured("listener.tcp.a = 1883\nlistener.tcp.max_connections = 6")
    assert str(configuration.source_of("listener.tcp.a.max_connections")) == "my.conf:2"
    assert configuration.text_of("listener.tcp.a.max_connections") == "6"


def test_the_other_options_of_a_listener_are_honoured() -> None:
    text = """
    listener.tcp.a = [::1]:1883
    listener.tcp.a.allow_anonymous_override = on
    listener.tcp.a.max_connection_lifetime = 60
    listener.tcp.buffer_sizes = 1,2,3
    listener.tcp.b = 127.0.0.1:1884
    """
    first, second = configured(text).listeners
    assert (first.address, first.allow_anonymous, first.max_connection_lifetime) == ("::1", True, 60)
    sockets = [(item.socket_options.send_buffer, item.socket_options.receive_buffer) for item in (first, second)]
    assert sockets == [(1, 2), (1, 2)]
    assert (second.allow_anonymous, second.max_connection_lifetime) == (None, 0)


def test_listeners_of_each_kind_are_told_apart() -> None:
    text = "listener.tcp.a = local:/run/m.sock:0\nlistener.http.b = 8888\nlistener.vmq.c.buffer_sizes = 1,2,3"
    configuration = configured(text)
    assert [item.key for item in configuration.listeners] == ["listener.tcp.a"]
    assert [item.key for item in configuration.http_listeners] == ["listener.http.b"]
    assert [item.is_active for item in configuration.all_listeners] == [True, True, True]
    assert configuration.all_listeners[0].unix_path == "/run/m.sock"
    assert configuration.all_listeners[2].port == 44053
    assert any("listener.vmq.c" in note for note in notes_of(configuration, NoteKind.NOT_ACTIVE_YET))


def test_options_of_tls_are_inherited() -> None:
    text = """
    listener.ssl.certfile = family.pem
    listener.ssl.keyfile = family.key
    listener.ssl.require_certificate = on
    listener.ssl.cafile = ca.pem
    listener.ssl.a = 127.0.0.1:8883
    listener.ssl.b = 127.0.0.1:8884
    listener.ssl.b.certfile = own.pem
    listener.ssl.b.require_certificate = off
    listener.ssl.b.tls_version = tlsv1.3
    listener.ssl.b.ciphers = TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384
    listener.ssl.b.sni.shop.certfile = shop.pem
    listener.ssl.b.tls_handshake_timeout = 700
    """
    first, second = configured(text).listeners
    assert first.tls is not None
    assert second.tls is not None
    assert first.tls.identity is not None
    assert second.tls.identity is not None
    assert [str(path) for path in first.tls.paths] == ["family.pem", "family.key", "ca.pem"]
    assert [str(path) for path in second.tls.paths] == ["own.pem", "family.key", "shop.pem", "ca.pem"]
    assert (first.tls.require_certificate, second.tls.require_certificate) == (True, False)
    assert (first.tls.versions, second.tls.versions) == (("tlsv1.2", "tlsv1.3"), ("tlsv1.3",))
    assert second.tls.ciphers == ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")
    assert (first.tls_handshake_timeout, second.tls_handshake_timeout) == (5_000, 700)


def test_links_ask_for_certificates_whatever_the_file_says() -> None:
    text = "listener.vmqs.a = 127.0.0.1:44054\nlistener.vmqs.certfile = a.pem\nlistener.vmqs.cafile = ca.pem\n"
    assert notes_of(configured(text), NoteKind.WARNING) == []
    assert notes_of(configured(f"{text}listener.vmqs.require_certificate = on"), NoteKind.WARNING) == []
    for level in ("listener.vmqs", "listener.vmqs.a"):
        (note,) = notes_of(configured(f"{text}{level}.require_certificate = off"), NoteKind.WARNING)
        assert "listener.vmqs.a.require_certificate = off (my.conf:4) has no effect" in note


def test_a_handshake_of_tls_may_have_no_limit() -> None:
    text = "listener.ssl.a = 8883\nlistener.ssl.a.certfile = a.pem\nlistener.ssl.tls_handshake_timeout = infinity"
    assert configured(text).listeners[0].tls_handshake_timeout is None


def test_limits_of_connections_are_inherited() -> None:
    text = """
    listener.max_connection_rate = 100
    listener.max_connections = 5000
    listener.ws.a = 127.0.0.1:8080
    listener.tcp.b = 127.0.0.1:1883
    listener.tcp.max_connections = 7
    listener.tcp.b.max_connection_rate = infinity
    """
    first, second = configured(text).listeners
    assert (first.max_connection_rate, first.max_connections) == (100, 5_000)
    assert (second.max_connection_rate, second.max_connections) == (None, 7)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("", "listener.ssl.a.certfile: a listener with TLS needs a certificate; name a PEM file"),
        ("tls_version = tlsv1.1", "listener.ssl.a.tls_version: tlsv1.1 is not safe and not offered"),
        ("require_certificate = on", "listener.ssl.a.cafile: clients' certificates are asked for"),
        ("psk_support = on", "listener.ssl.a.psk_support: pre-shared keys are not supported; use certificates"),
        ("auth_plugins = []", "listener.ssl.a.auth_plugins: names nobody"),
        ("tls_versions = tlsv1.3", "did you mean listener.ssl.a.tls_version?"),
    ],
)
def test_a_listener_that_could_not_open_is_told_when_the_file_is_read(option: str, sentence: str) -> None:
    text = "listener.ssl.a = 8883\n" + (f"listener.ssl.a.{option}" if option else "")
    assert any(sentence in problem for problem in problems_of(text))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("[]", ""),
        ("[{nodelay, true}, {linger, {true, 0}}, {send_timeout, 30000}]", "linger 0"),
        (
            "[{nodelay,false},{backlog,100},{sndbuf,4096},{recbuf,8192},{keepalive,true},{reuseport,true}]",
            "nodelay False, keepalive True, backlog 100, send_buffer 4096, receive_buffer 8192, reuse_port True",
        ),
    ],
)
def test_socket_options_are_read_in_vernemqs_notation(text: str, changed: str) -> None:
    (listener,) = configured(f"listener.tcp.a = 1883\ntcp_listen_options = {text}").listeners
    assert str(listener.socket_options) == changed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nodelay", "the options stand in brackets"),
        ("[nodelay]", "is not written {NAME, VALUE}"),
        ("[{nodelay, 1}]", "nodelay has to be true or false, not 1"),
        ("[{backlog, 0}]", "backlog has to be a number from 1 to 65535, not 0"),
        ("[{linger, 5}]", "linger is written {linger, {true, SECONDS}}"),
        ("[{ttl, 5}]", "there is no option ttl: expected nodelay"),
    ],
)
def test_a_socket_option_that_cannot_be_is_named(text: str, sentence: str) -> None:
    (problem,) = problems_of(f"listener.tcp.a = 1883\ntcp_listen_options = {text}")
    assert sentence in problem


def test_an_option_of_a_listener_without_address_is_remarked_upon() -> None:
    (note,) = notes_of(configured("listener.tcp.a.mountpoint = x"), NoteKind.WARNING)
    assert "there is no listener.tcp.a = ADDRESS:PORT" in note


def test_two_listeners_with_one_address_are_an_error_that_names_both() -> None:
    (problem,) = problems_of("listener.tcp.a = 127.0.0.1:1883\nlistener.ws.b = 127.0.0.1:1883")
    assert problem == (
        "my.conf:2: listener.ws.b: 127.0.0.1:1883 is already the address of listener.tcp.a (my.conf:1); "
        "give one of them another port"
    )


def test_free_ports_do_not_collide() -> None:
    assert len(configured("listener.tcp.a = 127.0.0.1:0\nlistener.tcp.b = 127.0.0.1:0").listeners) == 2


def test_the_number_of_listeners_is_limited() -> None:
    (problem,) = problems_of("\n".join(f"listener.tcp.n{number} = 127.0.0.1:0" for number in range(1_001)))
    assert "1001 listeners are configured; 1000 are possible" in problem


def test_an_address_within_another_is_remarked_upon() -> None:
    (note,) = notes_of(configured("listener.tcp.a = 0.0.0.0:1883\nlistener.tcp.b = 127.0.0.1:1883"), NoteKind.WARNING)
    assert "listener.tcp.a on 0.0.0.0:1883 includes 127.0.0.1:1883" in note


def test_a_host_name_is_resolved_when_the_listener_opens() -> None:
    (listener,) = configured("listener.tcp.a = localhost:1883").listeners
    assert listener.address == "localhost"
    assert listener.is_loopback
    assert listener.literal_address() in ("127.0.0.1", "::1")


def test_keys_without_effect_are_told() -> None:
    configuration = configured(
        "graphite_enabled = on\nerlang.async_threads = 3\nleveldb.threads = 9\nretry_interval = 5"
    )
    assert notes_of(configuration, NoteKind.NOT_ACTIVE_YET) == ["graphite_enabled (my.conf:1): known, not active yet"]
    (summary,) = notes_of(configuration, NoteKind.DOES_NOT_APPLY)
    assert summary.startswith("3 keys do not apply to Strogoff")
    assert "erlang.async_threads, leveldb.threads, retry_interval" in summary


def test_a_wrong_value_of_a_key_that_does_not_apply_is_no_error() -> None:
    (note,) = notes_of(configured("erlang.max_ports = many"), NoteKind.WARNING)
    assert "it does not matter here" in note


def test_the_flag_that_aborts_the_start_of_vernemq_does_not() -> None:
    assert (
        configured("listener.tcp.proxy_protocol_use_cn_as_username = off").get(
            "listener.tcp.x.proxy_protocol_use_cn_as_username"
        )
        is False
    )


def test_placeholders_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("s3cret $(no)\n")
    text = """
    platform_data_dir = /srv/mqtt
    log.console.file = $(platform_data_dir)/$(nodename).log
    distributed_cookie = $(<secret.txt)
    """
    configuration = configured(text, tmp_path)
    assert configuration.get("log.console.file") == "/srv/mqtt/VerneMQ@127.0.0.1.log"
    assert configuration.get("distributed_cookie") == "s3cret $(no)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log.console.file = $(log.error.file)\nlog.error.file = $(log.console.file)", "refer to one another"),
        ("log.console.file = $(log.console.file)", "refer to one another"),
        ("log.console.file = $(no.such.key)/x", r"\$(no.such.key) has no value"),
        ("distributed_cookie = $(<missing)", "cannot read missing"),
        ("distributed_cookie = $(<.)", "cannot read ."),
    ],
)
def test_a_placeholder_that_cannot_be_replaced_is_an_error(text: str, message: str) -> None:
    assert message.replace("\\", "") in problems_of(text)[0]


def test_placeholders_that_multiply_are_stopped() -> None:
    names = ["graphite_host", "graphite_prefix", "log.syslog.app_name", "log.syslog.remote.host", "log.error.file"]
    lines = [f"{names[0]} = {'x' * 1_000}"]
    lines += [f"{name} = {f'$({earlier})' * 100}" for earlier, name in itertools.pairwise(names)]
    assert any("grows beyond" in problem for problem in problems_of("\n".join(lines)))


def test_the_engine_gets_its_settings_by_name_and_in_its_units() -> None:
    settings = configured(
        "persistent_client_expiration = 1d\nmax_last_will_delay = client\nmax_queued_bytes = 1MB\n"
        "allow_anonymous = on\n"
        "max_inflight_messages = 100000\nqueue_type = lifo\nplugins.hook_timeout = 70"
    ).engine_settings()
    assert settings["persistent_client_expiration"] == 86_400
    assert settings["max_last_will_delay"] is None
    assert settings["max_queued_bytes"] == 1_048_576
    assert settings["allow_anonymous"] is True
    assert settings["max_inflight_messages"] == 65_535
    assert settings["queue_type"] == "lifo"
    assert settings["plugins.hook_timeout"] == 70
    assert set(settings) == ENGINE_SETTINGS


ENGINE_SETTINGS = {
    "workers",
    "allow_anonymous",
    "allow_publish_during_netsplit",
    "allow_register_during_netsplit",
    "allow_subscribe_during_netsplit",
    "allow_unsubscribe_during_netsplit",
    "cluster.publish_ack",
    "max_client_id_size",
    "max_inflight_messages",
    "max_online_messages",
    "max_offline_messages",
    "override_max_online_messages",
    "queue_type",
    "queue_deliver_mode",
    "allow_multiple_sessions",
    "max_message_size",
    "max_message_rate",
    "max_queued_bytes",
    "max_subscriptions_per_client",
    "persistent_client_expiration",
    "max_last_will_delay",
    "upgrade_outgoing_qos",
    "suppress_lwt_on_session_takeover",
    "shared_subscription_policy",
    "topic_max_depth",
    "max_topic_length",
    "topic_alias_max_client",
    "topic_alias_max_broker",
    "receive_max_client",
    "receive_max_broker",
    "max_keep_alive",
    "mqtt_connect_timeout",
    "disconnect_on_unauthorized_publish_v3",
    "max_retained_messages",
    "expire_retain_cache",
    "max_connect_packet_size",
    "max_connection_buffer",
    "event_queue_limit",
    "event_queue_bytes",
    "max_pending_hooks",
    "max_pending_password_checks",
    "password_cache_size",
    "password_check_threads",
    "plugins.hook_timeout",
    "store.sync",
    "store.sync_interval",
    "store.max_bytes",
    "store.segment_bytes",
    "store.cache_bytes",
}
