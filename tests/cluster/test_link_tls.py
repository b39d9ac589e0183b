"""Links over TLS: `listener.vmqs`, certificates of both ends, and new ones without a restart."""

import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_process import BrokerError, Setting
from certificates import CertificateAuthority
from cluster.clients import Connect, StartNode, await_route, metric
from cluster.real_nodes import ClusterNode, eventually, make_node

HOST = "127.0.0.1"


class Files:
    """The certificate of a node on disk."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name

    def write(self, authority: CertificateAuthority, root: CertificateAuthority | None = None) -> dict[str, Setting]:
        """The settings of its listener. `root`: whom it trusts, if that is not the authority itself."""
        certificate, key = authority.issue_for_node(HOST).write(self.directory, self.name)
        ca = (root or authority).write(self.directory, f"{self.name}-ca")
        return {
            "listener__vmqs__default__certfile": str(certificate),
            "listener__vmqs__default__keyfile": str(key),
            "listener__vmqs__default__cafile": str(ca),
        }


def start(started: StartNode, files: Files, authority: CertificateAuthority, **options: Setting) -> ClusterNode:
    """A node; `options` are those of its listener."""
    more = {f"listener__vmqs__default__{name}": value for name, value in options.items()}
    return started(files.name, family="vmqs", **files.write(authority), **more)


def why_not(joiner: ClusterNode, node: ClusterNode) -> str:
    """Why one cannot join the other."""
    with pytest.raises(BrokerError, match="cannot reach") as refused:
        joiner.join(node)
    return str(refused.value)


def secured(node: ClusterNode, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A connection of somebody who is no node."""
    return context.wrap_socket(socket.create_connection((HOST, node.cluster_port), 10.0), server_hostname=HOST)


def test_nodes_join_and_pass_messages_on_over_tls(started: StartNode, connect: Connect, tmp_path: Path) -> None:
    authority = CertificateAuthority()
    one, two = (start(started, Files(tmp_path, name), authority) for name in ("one", "two"))
    assert two.join(one) == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "both see each other")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("tea", qos=1)
    await_route(publisher, subscriber, "tea")
    one.broker.restart()
    eventually(lambda: one.sees(two) and two.sees(one), "both see each other after a restart")


def test_a_certificate_of_another_authority_lets_nobody_join(started: StartNode, tmp_path: Path) -> None:
    one = start(started, Files(tmp_path, "one"), CertificateAuthority("ours"))
    two = start(started, Files(tmp_path, "two"), CertificateAuthority("theirs"))
    with pytest.raises(BrokerError, match=f"two@{HOST} cannot reach one@{HOST}"):
        two.join(one)
    assert one.sees()


def test_a_node_without_tls_does_not_come_in(started: StartNode, tmp_path: Path) -> None:
    one = start(started, Files(tmp_path, "one"), CertificateAuthority())
    two = started("two")
    with pytest.raises(BrokerError, match=f"two@{HOST} cannot reach one@{HOST}"):
        two.join(one)
    assert one.sees()


def test_new_certificates_are_taken_without_a_restart(started: StartNode, tmp_path: Path) -> None:
    first, second = CertificateAuthority("first"), CertificateAuthority("second")
    all_files = [Files(tmp_path, name) for name in ("one", "two")]
    one = start(started, all_files[0], first)
    two = start(started, all_files[1], second)
    all_files[0].write(second)
    one.broker.await_log("certificates of links read again")
    assert two.join(one) == "Done"


def test_commands_about_certificates_cover_those_of_links(started: StartNode, tmp_path: Path) -> None:
    authority = CertificateAuthority()
    one = start(started, Files(tmp_path, "one"), authority)
    shown = one.broker.admin("tls", "show", "--format=csv")
    assert str(tmp_path / "one.crt") in shown
    assert str(tmp_path / "one-ca.crt") in shown
    assert one.broker.admin("tls", "check").strip() == "All fine"
    assert one.broker.admin("tls", "clear-pem-cache").strip() == "Done"
    (tmp_path / "one.key").write_text("nothing")
    with pytest.raises(BrokerError, match="the certificates that were read before stay in force"):
        one.broker.admin("tls", "clear-pem-cache")


def test_certificates_that_cannot_be_used_leave_those_that_were_there(started: StartNode, tmp_path: Path) -> None:
    authority = CertificateAuthority()
    files = Files(tmp_path, "one")
    one, two = start(started, files, authority), start(started, Files(tmp_path, "two"), authority)
    (tmp_path / "one.crt").write_text("nothing")
    one.broker.await_log("the certificates that were read before stay in force")
    assert two.join(one) == "Done"


@pytest.mark.parametrize(
    ("ours", "theirs", "key"),
    [
        ({"tls_version": "tlsv1.3"}, {"tls_version": "tlsv1.2"}, "tls_version"),
        (
            {"tls_version": "tlsv1.2", "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
            {"ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"},
            "ciphers",
        ),
        ({"eccs": "[secp384r1]"}, {"eccs": "[X25519]"}, "eccs"),
    ],
)
def test_nodes_that_agree_on_nothing_are_told_which_key_it_is(
    started: StartNode, tmp_path: Path, ours: dict[str, Setting], theirs: dict[str, Setting], key: str
) -> None:
    authority = CertificateAuthority()
    one = start(started, Files(tmp_path, "one"), authority, **ours)
    two = start(started, Files(tmp_path, "two"), authority, **theirs)
    assert key in why_not(two, one)
    one.broker.await_log(f"({key})")
    assert one.sees()


def test_nodes_that_agree_on_one_thing_are_linked(started: StartNode, tmp_path: Path) -> None:
    authority = CertificateAuthority()
    one = start(started, Files(tmp_path, "one"), authority, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", eccs="[X25519]")
    two = start(
        started, Files(tmp_path, "two"), authority, tls_version="tlsv1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"
    )
    assert two.join(one) == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "both see each other")


def chained(started: StartNode, directory: Path, depth: int) -> tuple[ClusterNode, ClusterNode, ssl.SSLContext]:
    """A node that allows so many intermediate certificates, one that has one of them, and TLS as that one does it."""
    root = CertificateAuthority("root")
    between = CertificateAuthority("between", issuer=root)
    one = start(started, Files(directory, "one"), root, depth=depth)
    files = Files(directory, "two")
    two = started("two", family="vmqs", **files.write(between, root))
    context = ssl.create_default_context(cafile=str(directory / "two-ca.crt"))
    context.load_cert_chain(directory / "two.crt", directory / "two.key")
    return one, two, context


def test_a_chain_as_deep_as_it_may_be_is_taken_by_both_ends(started: StartNode, tmp_path: Path) -> None:
    one, two, _ = chained(started, tmp_path, depth=1)
    assert two.join(one) == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "both see each other")


def test_a_deeper_chain_is_refused_by_both_ends(started: StartNode, tmp_path: Path) -> None:
    one, two, context = chained(started, tmp_path, depth=0)
    assert "1 intermediate certificates came with it, and 0 are allowed (depth)" in why_not(one, two)
    with secured(one, context) as connection, pytest.raises(ssl.SSLError):
        # In TLS 1.3 a server judges the client after the client has finished.
        connection.recv(1)
    one.broker.await_log("1 intermediate certificates came with it, and 0 are allowed (depth)")


def test_whoever_says_nothing_is_sent_away_after_the_handshake_timeout(started: StartNode, tmp_path: Path) -> None:
    one = start(started, Files(tmp_path, "one"), CertificateAuthority(), tls_handshake_timeout=100)
    with socket.create_connection((HOST, one.cluster_port), 4.0) as silent:
        while silent.recv(1_024):
            pass
    one.broker.await_log("(tls_handshake_timeout)")


def test_beyond_max_connections_others_wait(started: StartNode, tmp_path: Path) -> None:
    one = start(
        started, Files(tmp_path, "one"), CertificateAuthority(), max_connections=2, tls_handshake_timeout=60_000
    )
    address = (HOST, one.cluster_port)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(address))
        eventually(lambda: metric(one, "cluster_accepts_held_back"), "one waits")
        assert metric(one, "cluster_accepts") == 2
    eventually(lambda: metric(one, "cluster_accepts") == 3, "it comes in when the others go")


def test_a_listener_that_asks_for_no_certificates_is_told_that_it_does(started: StartNode, tmp_path: Path) -> None:
    one = start(started, Files(tmp_path, "one"), CertificateAuthority(), require_certificate=False)
    one.broker.await_log("has no effect: both ends of a link always show a certificate")
    context = ssl.create_default_context(cafile=str(tmp_path / "one-ca.crt"))
    with secured(one, context) as connection, pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        connection.recv(1)
    one.broker.await_log("the peer shows no certificate")


def test_a_listener_without_an_authority_is_told_before_the_start(tmp_path: Path) -> None:
    settings = Files(tmp_path, "one").write(CertificateAuthority())
    del settings["listener__vmqs__default__cafile"]
    node = make_node(tmp_path, "one", family="vmqs", **settings)
    with pytest.raises(BrokerError, match=r"listener\.vmqs\.default\.cafile"):
        node.broker.start()
