"""TLS listeners: versions, certificates of both sides, names, tickets, exchange of certificates, failures."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable

import pytest

from certificates import CertificateAuthority, Issued
from engine.running import Running, eventually
from engine.secured import client_context, counted, dial_tls, listen, network, tls_config
from protocol import requests
from protocol.answers import Connack, Pingresp
from protocol.client import Client, Network, dial, unique
from protocol.wire import Version
from strogoff._engine import LogEvent, RegisterRequest, TlsConfig, Verdict

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture(scope="module")
def server(authority: CertificateAuthority) -> Issued:
    return authority.issue("localhost", ["localhost"])


def failure(running: Running) -> str:
    """What the log says of a connection that failed."""
    return running.event(LogEvent, level="warning").message


def shake_hands(port: int, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLSocket:
    connection = dial_tls(context, name)(port)
    assert isinstance(connection, ssl.SSLSocket)
    return connection


# -- what goes through ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_clients_of_both_versions_and_kinds_of_keys_are_served(
    running: Running, authority: CertificateAuthority, version: ssl.TLSVersion, key: str
) -> None:
    issued = authority.issue("localhost", ["localhost"], key=key)  # type: ignore[arg-type]
    listener = listen(running, "ssl", tls=tls_config(issued))
    context = client_context(authority, minimum=version, maximum=version)
    clients = network(listener, dial_tls(context))
    client = clients.connect(Version.V5)
    client.subscribe("t", qos=1)
    for size in (0, 1, 16_384, 300_000):
        client.publish("t", b"x" * size, qos=1)
        message = client.receive()
        assert len(message.payload) == size
        client.complete(message)
    client.disconnect()
    clients.close()


def test_packets_may_be_spread_over_records_and_share_them(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    clients = network(listener, dial_tls(client_context(authority)))
    client = clients.open(Version.V3_1_1)
    client.send(requests.connect(Version.V3_1_1, unique())[:5])
    rest = requests.connect(Version.V3_1_1, unique())
    client.send(rest[5:])
    assert client.expect(Connack).code == 0
    ping = b"\xc0\x00"
    for byte in ping * 3:
        client.send(bytes([byte]))
    client.send(ping * 200)
    for _ in range(203):
        client.expect(Pingresp)
    client.barrier()
    clients.close()


def test_what_an_eager_client_sends_with_its_handshake_is_not_lost(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(authority, minimum=V13).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with dial(listener.port) as connection:
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65_536))
        client.write(requests.connect(Version.V3_1_1, unique()) + b"\xc0\x00" * 3_000)
        # The end of the handshake and the first packets in one go.
        connection.sendall(outgoing.read())
        received = b""
        while len(received) < 4 + 2 * 3_000:
            with contextlib.suppress(ssl.SSLWantReadError):
                received += client.read(65_536)
                continue
            incoming.write(connection.recv(65_536))
        assert received == b"\x20\x02\x00\x00" + b"\xd0\x00" * 3_000


def test_a_client_that_does_not_read_blocks_nobody_and_loses_nothing(
    run: Callable[..., Running], authority: CertificateAuthority, server: Issued
) -> None:
    running = run({"max_online_messages": -1, "max_queued_bytes": 0})
    listener = listen(running, "ssl", tls=tls_config(server), send_buffer=8_192)
    clients = network(listener, dial_tls(client_context(authority)))
    slow, publisher = clients.connect(Version.V5), running.connect(Version.V5)
    slow.subscribe("t", qos=0)
    payloads = [number.to_bytes(4, "big") * 4_000 for number in range(300)]
    for payload in payloads:
        publisher.publish("t", payload)
    publisher.barrier()
    assert [slow.receive().payload for _ in payloads] == payloads
    clients.close()


def test_the_last_packet_of_the_broker_arrives_and_tls_ends_in_order(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    context = client_context(authority)
    connection = shake_hands(listener.port, context)
    client = Client(connection, Version.V5)
    client.handshake()
    assert running.engine.disconnect(client.client_id)
    # Without a close_notify of the broker `recv` would raise here.
    connection.settimeout(5)
    assert connection.recv(100)[0] == 0xE0
    assert connection.recv(100) == b""
    connection.close()
    eventually(lambda: active(running, listener.name) == 0, "the connection is gone")


def test_a_client_may_end_tls_before_tcp(running: Running, authority: CertificateAuthority, server: Issued) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    connection = shake_hands(listener.port, client_context(authority))
    client = Client(connection, Version.V5)
    client.handshake()
    connection.settimeout(5)
    connection.unwrap()
    eventually(lambda: active(running, listener.name) == 0, "the connection is gone")
    connection.close()


# -- certificates of clients ------------------------------------------------------------------------------------------


def test_a_client_without_a_certificate_is_refused_where_one_is_demanded(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    config = tls_config(server, client_ca=authority.pem, require_client_certificate=True)
    listener = listen(running, "ssl", tls=config)
    refused(listener.port, client_context(authority))
    assert "the client has no certificate" in failure(running)
    certificate = authority.issue("alice", client=True)
    clients = network(listener, dial_tls(client_context(authority, certificate)))
    clients.connect(Version.V5).barrier()
    clients.close()


@pytest.mark.parametrize("version", [V12, V13])
def test_bad_certificates_are_refused_with_the_reason_in_the_log(
    running: Running, authority: CertificateAuthority, server: Issued, version: ssl.TLSVersion
) -> None:
    revoked, good = authority.issue("mallory", client=True), authority.issue("alice", client=True)
    authority.revoke(revoked)
    config = tls_config(
        server, client_ca=authority.pem, require_client_certificate=True, crl=authority.revocation_list()
    )
    listener = listen(running, "ssl", tls=config)
    for certificate, reason in [
        (CertificateAuthority("Other").issue("alice", client=True), "does not trust"),
        (authority.issue("alice", client=True, days=-1), "has expired"),
        (authority.issue("alice", client=False), "not made for its purpose"),
        (revoked, "is revoked"),
    ]:
        refused(listener.port, client_context(authority, certificate, minimum=version, maximum=version))
        assert reason in failure(running)
    clients = network(listener, dial_tls(client_context(authority, good, minimum=version, maximum=version)))
    clients.connect(Version.V5).barrier()
    clients.close()
    counted(running, "tls_handshake_error", 4)
    assert {each.name: each.failed_connections for each in running.engine.listeners()}["other"] == 4


def test_a_revocation_list_that_is_out_of_date_vouches_for_nobody(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    stale = authority.revocation_list(days=-1)
    listener = listen(running, "ssl", tls=tls_config(server, client_ca=authority.pem, crl=stale))
    refused(listener.port, client_context(authority, authority.issue("alice", client=True)))
    assert "revocation list is out of date" in failure(running)


def test_depth_bounds_the_intermediates_of_a_client(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    first = CertificateAuthority("First", issuer=authority)
    second = CertificateAuthority("Second", issuer=first)
    listeners = [
        listen(running, "ssl", f"depth{depth}", tls=tls_config(server, client_ca=authority.pem, depth=depth))
        for depth in (0, 1, 2)
    ]
    for intermediates, issuer in enumerate([authority, first, second]):
        context = client_context(authority, issuer.issue("alice", client=True))
        for depth, listener in enumerate(listeners):
            if intermediates <= depth:
                clients = network(listener, dial_tls(context))
                clients.connect(Version.V5).barrier()
                clients.close()
            else:
                refused(listener.port, context)
                assert "(depth)" in failure(running)


def test_the_common_name_replaces_the_user_name_and_a_hook_sees_the_certificate(
    run: Callable[..., Running], authority: CertificateAuthority, server: Issued
) -> None:
    running = run({"allow_anonymous": False}, hooks=["auth_on_register"])
    config = tls_config(server, client_ca=authority.pem)
    listener = listen(running, "ssl", tls=config, use_identity_as_username=True)
    certificate = authority.issue("alice", client=True)
    context = client_context(authority, certificate)
    for issued, username in [(certificate, "alice"), (None, "bob")]:
        context = client_context(authority, issued)
        clients = network(listener, dial_tls(context))
        client = clients.open(Version.V5)
        client.send(requests.connect(Version.V5, unique(), username="bob", password=b"secret"))
        request = running.event(RegisterRequest)
        assert (request.username, request.password) == (username, b"secret")
        assert request.client_certificate == (issued and issued.der)
        assert (request.listener_kind, request.listener_address) == ("ssl", ("127.0.0.1", listener.port))
        running.engine.resolve(request.ticket, Verdict.allow())
        assert client.expect(Connack).code == 0
        clients.close()


def test_a_certificate_without_a_common_name_is_refused_where_it_is_the_user_name(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    config = tls_config(server, client_ca=authority.pem)
    listener = listen(running, "ssl", tls=config, use_identity_as_username=True)
    refused(listener.port, client_context(authority, authority.issue(None, client=True)))
    assert "no common name" in failure(running)


# -- names, tickets, exchange -----------------------------------------------------------------------------------------


def served(port: int, context: ssl.SSLContext, name: str) -> bytes:
    """The certificate that a listener shows to a client that asks for a name."""
    with shake_hands(port, context, name) as connection:
        shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        return shown


def test_the_name_that_a_client_asks_for_chooses_the_certificate(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    one, wild = authority.issue("one", ["one.example"]), authority.issue("wild", ["*.wild.example"])
    given = authority.issue("given", ["inner.example", "given.example"])
    identities = [(each.certificate_pem, each.key_pem, ()) for each in (server, one, wild)]
    config = TlsConfig(identities=[*identities, (given.certificate_pem, given.key_pem, ["given.example"])])
    listener = listen(running, "ssl", tls=config)
    context = client_context(authority)
    context.check_hostname = False
    for name, expected in [
        ("localhost", server),
        ("one.example", one),
        ("ONE.example", one),
        ("a.wild.example", wild),
        ("a.b.wild.example", server),
        ("given.example", given),
        ("inner.example", server),
        ("unknown.example", server),
    ]:
        assert served(listener.port, context, name) == expected.der, name


@pytest.mark.parametrize("version", [V12, V13])
def test_a_client_that_comes_back_resumes_and_keeps_its_certificate(
    run: Callable[..., Running], authority: CertificateAuthority, server: Issued, version: ssl.TLSVersion
) -> None:
    running = run({"allow_anonymous": False}, hooks=["auth_on_register"])
    config = tls_config(server, client_ca=authority.pem, require_client_certificate=True)
    listener = listen(running, "ssl", tls=config, use_identity_as_username=True)
    context = client_context(authority, authority.issue("alice", client=True), minimum=version, maximum=version)
    session: ssl.SSLSession | None = None
    for is_resumed in (False, True):
        connection = dial_tls(context, session=session)(listener.port)
        assert isinstance(connection, ssl.SSLSocket)
        client = Client(connection, Version.V5)
        client.send(requests.connect(Version.V5, unique()))
        request = running.event(RegisterRequest)
        assert request.username == "alice"
        running.engine.resolve(request.ticket, Verdict.allow())
        assert client.expect(Connack).code == 0
        assert connection.session_reused is is_resumed
        session = connection.session
        client.close()


def test_another_configuration_is_for_new_connections_and_old_ones_live_on(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    context = client_context(authority)
    clients = network(listener, dial_tls(context))
    before = clients.connect(Version.V5)
    renewed = authority.issue("localhost", ["localhost"])
    assert running.engine.set_listener_tls("other", tls_config(renewed))
    assert served(listener.port, context, "localhost") == renewed.der
    before.barrier()
    clients.close()
    assert not running.engine.set_listener_tls("nobody", tls_config(renewed))
    with pytest.raises(ValueError, match="has no TLS"):
        running.engine.set_listener_tls("default", tls_config(renewed))


def test_a_revocation_acts_on_a_client_with_a_ticket(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    certificate = authority.issue("alice", client=True)
    terms = {"client_ca": authority.pem, "require_client_certificate": True}
    listener = listen(running, "ssl", tls=tls_config(server, **terms))
    context = client_context(authority, certificate, minimum=V12, maximum=V12)
    with shake_hands(listener.port, context) as connection:
        session = connection.session
    authority.revoke(certificate)
    running.engine.set_listener_tls("other", tls_config(server, crl=authority.revocation_list(), **terms))
    with pytest.raises(ssl.SSLError):
        dial_tls(context, session=session)(listener.port)
    assert "is revoked" in failure(running)


# -- failures ---------------------------------------------------------------------------------------------------------


def test_versions_and_ciphers_that_do_not_meet_are_named_in_the_log(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    new = listen(running, "ssl", "new", tls=tls_config(server, versions=["tlsv1.3"]))
    refused(new.port, client_context(authority, maximum=V12))
    assert "no TLS version" in failure(running)
    strict = tls_config(server, versions=["tlsv1.2"], ciphers=["ECDHE-ECDSA-AES256-GCM-SHA384"])
    narrow = listen(running, "ssl", "narrow", tls=strict)
    context = client_context(authority, maximum=V12)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    refused(narrow.port, context)
    assert "no cipher suite" in failure(running)
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    with shake_hands(narrow.port, context) as connection:
        cipher = connection.cipher()
        assert cipher is not None
        assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_plain_mqtt_on_a_tls_port_is_told_in_the_log(running: Running, server: Issued) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    with Client(dial(listener.port), Version.V3_1_1) as client:
        client.send(requests.connect(Version.V3_1_1, unique()))
        assert "does not speak TLS" in failure(running)


def test_a_client_that_goes_without_a_word_is_no_failure(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    dial(listener.port).close()
    clients = network(listener, dial_tls(client_context(authority)))
    clients.connect(Version.V5).disconnect()
    clients.close()
    eventually(lambda: active(running, listener.name) == 0, "both are gone")
    assert running.metric("tls_handshake_error") == 0


def test_a_handshake_that_trickles_in_ends_at_its_deadline(running: Running, server: Issued) -> None:
    listener = listen(running, "ssl", tls=tls_config(server), tls_handshake_timeout=300)
    start = time.monotonic()
    with dial(listener.port) as connection:
        connection.settimeout(0.05)
        for byte in b"\x16\x03\x01\x02\x00" + b"\x01" * 400:
            try:
                connection.sendall(bytes([byte]))
                if connection.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert 0.25 < time.monotonic() - start < 3
    assert "tls_handshake_timeout" in failure(running)


def test_a_broken_record_ends_the_connection_and_is_counted(
    running: Running, authority: CertificateAuthority, server: Issued
) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    connection = shake_hands(listener.port, client_context(authority))
    client = Client(connection, Version.V5)
    client.handshake()
    with socket.socket(fileno=connection.detach()) as bare:
        bare.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        bare.settimeout(5)
        while bare.recv(4_096):
            pass
    assert "could not be decrypted" in failure(running)
    counted(running, "tls_error", 1)
    running.connect(Version.V5).barrier()


def test_a_configuration_that_cannot_work_is_refused_with_a_sentence(
    authority: CertificateAuthority, server: Issued
) -> None:
    other = authority.issue("other")
    pem, key = server.certificate_pem, server.key_pem
    for identity, options, sentence in [
        ((pem, other.key_pem, ()), {}, "the private key does not belong to the certificate"),
        ((b"", key, ()), {}, 'certificate: there is no "BEGIN CERTIFICATE"'),
        ((pem, b"", ()), {}, "private key: there is no unencrypted private key"),
        ((pem, server.encrypted_key_pem("x"), ()), {}, "private key: there is no unencrypted private key"),
        ((pem, key, ()), {"client_ca": b"x"}, "CA: "),
        ((pem, key, ()), {"client_ca": authority.pem, "crl": b"x"}, "crl: "),
        ((pem, key, ()), {"crl": authority.revocation_list()}, "crl: it needs the CA"),
        ((pem, key, ()), {"require_client_certificate": True}, "no CA"),
        ((pem, key, ()), {"versions": ["tlsv1.1"]}, "tlsv1.1"),
        ((pem, key, ()), {"versions": []}, "versions"),
        ((pem, key, ()), {"ciphers": ["RC4-MD5"]}, "RC4-MD5"),
        ((pem, key, ()), {"curves": ["sect571r1"]}, "sect571r1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            TlsConfig(identities=[identity], **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="certificate"):
        TlsConfig(identities=[])


def refused(port: int, context: ssl.SSLContext) -> None:
    """Try to connect; the broker is to end it during the handshake, of which a client of 1.3 learns when it reads."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        say_hello(port, context)


def say_hello(port: int, context: ssl.SSLContext) -> None:
    with shake_hands(port, context) as connection:
        connection.sendall(requests.connect(Version.V5, unique()))
        if connection.recv(100) == b"":
            raise ConnectionResetError


def active(running: Running, name: str) -> int:
    """Connections that are open on a listener."""
    return {each.name: each.active_connections for each in running.engine.listeners()}[name]


def test_many_clients_at_once_are_served(running: Running, authority: CertificateAuthority, server: Issued) -> None:
    listener = listen(running, "ssl", tls=tls_config(server))
    clients = Network(listener.port, dial_tls(client_context(authority)))
    crowd = [clients.connect(Version.V3_1_1) for _ in range(60)]
    for client in crowd:
        client.subscribe("all")
    crowd[0].publish("all", b"hello")
    assert all(client.receive().payload == b"hello" for client in crowd)
    clients.close()
