"""TLS listeners with the clients that people use: versions, certificates of clients, names, renewal."""

import queue
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker_process import BrokerProcess, Setting, StartBroker, free_port
from certificates import CertificateAuthority, Issued
from protocol.client import Client, dial
from protocol.wire import Version

DEADLINE_S = 20.0
USE_IDENTITY = {"require_certificate": True, "use_identity_as_username": True}


@dataclass(frozen=True)
class Secured:
    """A broker with a TLS listener for `localhost`, and the authority of its certificate and of its clients."""

    broker: BrokerProcess
    port: int
    authority: CertificateAuthority
    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    def mosquitto_pub(self, client: Issued | None = None, *options: str) -> subprocess.CompletedProcess[str]:
        """Publish once, with a client certificate if there is one."""
        command = ["mosquitto_pub", "-h", "localhost", "-p", str(self.port), "--cafile", str(self.ca)]
        command += ["-t", "t", "-m", "hello", "-q", "1", *options]
        if client is not None:
            certificate, key = client.write(self.directory, "client")
            command += ["--cert", str(certificate), "--key", str(key)]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def presented(self, name: str = "localhost") -> str:
        """The common name of the certificate that a client gets who asks for this name."""
        context = self.context()
        context.check_hostname = False
        with context.wrap_socket(dial(self.port), server_hostname=name) as connection:
            found = connection.getpeercert()
        assert found is not None
        subject = found["subject"]
        assert isinstance(subject, tuple)
        return next(str(value) for ((kind, value),) in subject if kind == "commonName")


Secure = Callable[..., Secured]


@pytest.fixture
def authority() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture
def secure(own_broker: StartBroker, tmp_path: Path, authority: CertificateAuthority) -> Secure:
    """`secure(require_certificate=True)`: a broker with these options of its TLS listener."""

    def start(**options: Setting) -> Secured:
        certificate, key = authority.issue("localhost", ["localhost"]).write(tmp_path, "server")
        port = free_port()
        settings = {
            "listener.ssl.default": f"127.0.0.1:{port}",
            "listener.ssl.certfile": str(certificate),
            "listener.ssl.keyfile": str(key),
            "listener.ssl.cafile": str(authority.write(tmp_path)),
            **{f"listener.ssl.{name}": value for name, value in options.items()},
        }
        broker = own_broker(settings)
        broker.await_ready()
        return Secured(broker, port, authority, tmp_path)

    return start


@pytest.fixture
def connect_paho() -> Iterator[Callable[..., tuple[paho.Client, "queue.Queue[bytes]"]]]:
    """A connected paho-mqtt and what it receives of the topic `t`."""
    clients = []

    def connect(secured: Secured, version: ssl.TLSVersion) -> tuple[paho.Client, "queue.Queue[bytes]"]:
        payloads: queue.Queue[bytes] = queue.Queue()
        ready: queue.Queue[None] = queue.Queue()
        client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        context = secured.context()
        context.minimum_version = context.maximum_version = version
        client.tls_set_context(context)
        client.on_connect = lambda *_: client.subscribe("t", 1)
        client.on_subscribe = lambda *_: ready.put(None)
        client.on_message = lambda _c, _u, message: payloads.put(message.payload)
        client.connect("localhost", secured.port)
        client.loop_start()
        clients.append(client)
        ready.get(timeout=DEADLINE_S)
        return client, payloads

    yield connect
    for client in clients:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_paho_publishes_and_receives(
    secure: Secure,
    connect_paho: Callable[..., tuple[paho.Client, "queue.Queue[bytes]"]],
    version: ssl.TLSVersion,
) -> None:
    client, payloads = connect_paho(secure(), version)
    large = bytes(range(256)) * 1_000
    for payload in (b"small", large):
        client.publish("t", payload, qos=1)
        assert payloads.get(timeout=DEADLINE_S) == payload


def test_a_version_that_the_listener_does_not_speak_is_refused(secure: Secure) -> None:
    secured = secure(tls_version="tlsv1.3")
    context = secured.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with dial(secured.port) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")
    secured.broker.await_log("TLS handshake failed")


def test_mosquitto_trusts_the_listener_by_its_authority(secure: Secure) -> None:
    secured = secure()
    assert secured.mosquitto_pub().returncode == 0
    CertificateAuthority("Another").write(secured.directory)
    refused = secured.mosquitto_pub()
    assert refused.returncode != 0
    assert "TLS error" in refused.stderr


def test_who_has_no_certificate_of_the_authority_stays_outside(secure: Secure, authority: CertificateAuthority) -> None:
    secured = secure(require_certificate=True)
    assert secured.mosquitto_pub(authority.issue("ann", client=True)).returncode == 0
    strangers = {
        "none": None,
        "of another authority": CertificateAuthority().issue("ann", client=True),
        "expired": authority.issue("ann", client=True, days=-1),
        "of a server": authority.issue("ann"),
    }
    for what, certificate in strangers.items():
        assert secured.mosquitto_pub(certificate).returncode != 0, what
    assert "counter.tls_handshake_error = 4" in secured.broker.admin("metrics", "show")


def test_a_certificate_that_was_revoked_is_refused(
    secure: Secure, authority: CertificateAuthority, tmp_path: Path
) -> None:
    ann, bob = authority.issue("ann", client=True), authority.issue("bob", client=True)
    crl = tmp_path / "revoked.crl"
    crl.write_bytes(authority.revocation_list())
    secured = secure(require_certificate=True, crlfile=str(crl))
    assert secured.mosquitto_pub(bob).returncode == 0
    authority.revoke(bob)
    crl.write_bytes(authority.revocation_list())
    assert secured.broker.admin("tls", "clear-pem-cache") == "Done\n"
    assert secured.mosquitto_pub(bob).returncode != 0
    assert secured.mosquitto_pub(ann).returncode == 0


def test_the_name_in_the_certificate_is_the_user_name(secure: Secure, authority: CertificateAuthority) -> None:
    secured = secure(**USE_IDENTITY)
    certificate, key = authority.issue("ann", client=True).write(secured.directory, "client")
    context = secured.context()
    context.load_cert_chain(certificate, key)
    with (
        context.wrap_socket(dial(secured.port), server_hostname="localhost") as connection,
        Client(connection, Version.V5) as client,
    ):
        client.handshake("c", username="mallory", password=b"x")
        shown = secured.broker.admin("session", "show", "--client_id", "--user")
    assert "ann" in shown
    assert "mallory" not in shown


def test_a_name_that_was_asked_for_has_a_certificate_of_its_own(
    secure: Secure, authority: CertificateAuthority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("other.example", ["other.example"]).write(tmp_path, "other")
    secured = secure(**{"default.sni.other.certfile": str(certificate), "default.sni.other.keyfile": str(key)})
    assert secured.presented("other.example") == "other.example"
    assert secured.presented("localhost") == "localhost"
    assert secured.presented("unknown.example") == "localhost"


@pytest.mark.parametrize("is_asked_for", [True, False], ids=["on command", "by itself"])
def test_a_certificate_is_renewed_under_clients(
    secure: Secure,
    connect_paho: Callable[..., tuple[paho.Client, "queue.Queue[bytes]"]],
    authority: CertificateAuthority,
    is_asked_for: bool,
) -> None:
    secured = secure()
    client, payloads = connect_paho(secured, ssl.TLSVersion.TLSv1_3)
    assert secured.presented() == "localhost"
    authority.issue("renewed", ["localhost"]).write(secured.directory, "server")
    if is_asked_for:
        assert secured.broker.admin("tls", "clear-pem-cache") == "Done\n"
    else:
        secured.broker.await_log("certificates read again", DEADLINE_S)
    assert secured.presented() == "renewed"
    assert "renewed" in secured.broker.admin("tls", "show")
    client.publish("t", b"still here", qos=1)
    assert payloads.get(timeout=DEADLINE_S) == b"still here"


def test_a_renewal_that_cannot_be_used_leaves_the_old_certificate(secure: Secure) -> None:
    secured = secure()
    (secured.directory / "server.crt").write_text("nonsense")
    done = secured.broker.program("vmq-admin", "tls", "clear-pem-cache")
    assert done.returncode == 1
    assert "ssl.default" in done.stderr
    assert secured.presented() == "localhost"


def test_certificates_that_end_soon_are_told(secure: Secure, authority: CertificateAuthority) -> None:
    secured = secure()
    assert secured.broker.admin("tls", "check") == "All fine\n"
    authority.issue("brief", ["localhost"], days=1).write(secured.directory, "server")
    assert "server.crt" in secured.broker.admin("tls", "check")


def test_a_key_that_others_may_read_gives_a_warning(own_broker: StartBroker, tmp_path: Path) -> None:
    certificate, key = CertificateAuthority().issue("localhost", ["localhost"]).write(tmp_path, "server")
    key.chmod(0o644)
    broker = own_broker(
        {
            "listener.ssl.default": "127.0.0.1:0",
            "listener.ssl.certfile": str(certificate),
            "listener.ssl.keyfile": str(key),
        }
    )
    broker.await_log('"mode": "0644"')
