"""What systemd hears of a node."""

import socket
from pathlib import Path

import pytest

from strogoff.phases import Phase
from strogoff.service_manager import SOCKET_VARIABLE, tell


@pytest.mark.parametrize(
    ("phase", "is_restart", "expected"),
    [
        (Phase.SYNCING, False, {"STATUS=syncing"}),
        (Phase.READY, False, {"STATUS=ready", "READY=1"}),
        (Phase.DRAINING, False, {"STATUS=draining", "STOPPING=1"}),
        (Phase.DRAINING, True, {"STATUS=draining"}),
    ],
)
def test_it_is_told_when_the_node_serves_clients_and_when_it_ends(
    tmp_path: Path, phase: Phase, is_restart: bool, expected: set[str]
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(1)
        tell(phase, is_restart=is_restart, environment={SOCKET_VARIABLE: path})
        assert set(manager.recv(1_000).decode().split("\n")) == expected


def test_an_abstract_address_begins_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")
        manager.settimeout(1)
        address = manager.getsockname()
        tell(Phase.READY, environment={SOCKET_VARIABLE: "@" + address[1:].decode()})
        assert b"READY=1" in manager.recv(1_000)


@pytest.mark.parametrize("address", ["", "nowhere/notify", "x" * 200, "a\0b"])
def test_a_node_goes_on_where_nobody_listens(address: str) -> None:
    tell(Phase.READY, environment={SOCKET_VARIABLE: address})
