"""Links over TLS: `listener.vmqs`, certificates of both ends, and new ones without a restart."""

from pathlib import Path

import pytest

from broker_process import BrokerError, Setting
from certificates import CertificateAuthority
from cluster.clients import Connect, StartNode, await_route
from cluster.real_nodes import ClusterNode, eventually, make_node

HOST = "127.0.0.1"


class Files:
    """The certificate of a node on disk."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name

    def write(self, authority: CertificateAuthority) -> dict[str, Setting]:
        """The settings of its listener."""
        certificate, key = authority.issue_for_node(HOST).write(self.directory, self.name)
        ca = authority.write(self.directory, f"{self.name}-ca")
        return {
            "listener__vmqs__default__certfile": str(certificate),
            "listener__vmqs__default__keyfile": str(key),
            "listener__vmqs__default__cafile": str(ca),
        }


def start(started: StartNode, files: Files, authority: CertificateAuthority) -> ClusterNode:
    return started(files.name, family="vmqs", **files.write(authority))


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


def test_a_listener_without_an_authority_is_told_before_the_start(tmp_path: Path) -> None:
    settings = Files(tmp_path, "one").write(CertificateAuthority())
    del settings["listener__vmqs__default__cafile"]
    node = make_node(tmp_path, "one", family="vmqs", **settings)
    with pytest.raises(BrokerError, match=r"listener\.vmqs\.default\.cafile"):
        node.broker.start()
