"""Bridges over TLS and WebSocket: names, authorities, own certificates, and what is told when they do not fit."""

import subprocess
from pathlib import Path

import pytest

from bridge.brokers import Bridged, Mosquitto, await_connected, bridge_rows, bridge_settings
from bridge.hearing import Clients
from broker_process import Setting, free_port
from certificates import CertificateAuthority
from cluster.real_nodes import eventually
from protocol.marks import V5


def passes(clients: Clients, port: int, other_port: int) -> None:
    """A message goes over, and another one comes back."""
    here, there = clients(port).connect(V5), clients(other_port).connect(V5)
    for sender, receiver in ((here, there), (there, here)):
        receiver.subscribe("t/#", qos=1)
        # More than one record of TLS, and more than one short frame of WebSocket.
        payload = b"x" * 40_000
        sender.publish("t/x", payload, qos=1)
        message = receiver.receive()
        assert message.payload == payload
        receiver.unsubscribe("t/#")


@pytest.fixture
def authority() -> CertificateAuthority:
    return CertificateAuthority()


def secured(authority: CertificateAuthority, directory: Path, port: int, kind: str) -> dict[str, Setting]:
    """A listener that asks for certificates of clients."""
    certificate, key = authority.issue("localhost", names=["localhost"]).write(directory, "broker")
    name = f"listener.{kind}.s"
    return {
        name: f"127.0.0.1:{port}",
        f"{name}.cafile": str(authority.write(directory)),
        f"{name}.certfile": str(certificate),
        f"{name}.keyfile": str(key),
        f"{name}.require_certificate": True,
    }


@pytest.mark.parametrize("kind", ["ssl", "wss"])
@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_a_bridge_over_tls(
    bridged: Bridged, clients: Clients, authority: CertificateAuthority, tmp_path: Path, kind: str, version: str
) -> None:
    port = free_port()
    other = bridged(secured(authority, tmp_path, port, kind))
    certificate, key = authority.issue("bridge", client=True).write(tmp_path, "bridge")
    options: dict[str, Setting] = {
        "cafile": str(tmp_path / "ca.crt"),
        "certfile": str(certificate),
        "keyfile": str(key),
        "tls_version": version,
        "mqtt_version": 5,
    }
    broker = bridged(bridge_settings(port, "t/* both 1", kind=kind, host="localhost", **options))
    await_connected(broker)
    passes(clients, broker.port, other.port)


def test_what_does_not_fit_is_told(bridged: Bridged, authority: CertificateAuthority, tmp_path: Path) -> None:
    port = free_port()
    bridged(secured(authority, tmp_path, port, "ssl"))
    certificate, key = authority.issue("bridge", client=True).write(tmp_path, "bridge")
    identity: dict[str, Setting] = {"certfile": str(certificate), "keyfile": str(key)}
    ca: dict[str, Setting] = {"cafile": str(tmp_path / "ca.crt")}
    stranger = CertificateAuthority("Stranger").write(tmp_path, "stranger")
    cases: dict[str, tuple[dict[str, Setting], str]] = {
        "wrongname": ({**ca, **identity, "sni": "elsewhere"}, "elsewhere"),
        "wrongca": ({**identity, "cafile": str(stranger)}, "UnknownIssuer"),
        "nocert": (ca, "ertificate"),
        "nofile": ({**identity, "cafile": "/nonexistent"}, "cafile: /nonexistent cannot be read"),
    }
    settings: dict[str, Setting] = {}
    for name, (options, _) in cases.items():
        settings |= bridge_settings(port, "t/*", name=name, kind="ssl", host="localhost", **options)
    insecure: dict[str, Setting] = {**identity, "insecure": True, "sni": "elsewhere"}
    settings |= bridge_settings(port, "t/*", name="insecure", kind="ssl", host="localhost", **insecure)
    broker = bridged(settings)
    for name, (_, expected) in cases.items():
        eventually(lambda name=name, expected=expected: expected in bridge_rows(broker)[name]["last error"], name)  # type: ignore[misc]
    assert bridge_rows(broker)["insecure"]["state"] == "connected"


def test_a_bridge_over_websocket(bridged: Bridged, clients: Clients) -> None:
    port = free_port()
    other = bridged({"listener.ws.w": f"127.0.0.1:{port}"})
    broker = bridged(bridge_settings(port, "t/* both 1", kind="ws", mqtt_version=4))
    await_connected(broker)
    passes(clients, broker.port, other.port)


def test_user_name_and_password_are_shown(bridged: Bridged, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    mosquitto = Mosquitto(tmp_path / "mosquitto", [f"password_file {passwords}", "allow_anonymous false"])
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "user", "secret"], check=True)
    mosquitto.start()
    try:
        options: dict[str, Setting] = {"username": "user", "password": "secret"}
        wrong: dict[str, Setting] = {"username": "user", "password": "wrong"}
        settings = bridge_settings(mosquitto.port, "t/*", name="right", **options)
        settings |= bridge_settings(mosquitto.port, "t/*", name="wrong", mqtt_version=5, **wrong)
        broker = bridged(settings)
        eventually(lambda: bridge_rows(broker)["right"]["state"] == "connected", "it is let in")
        eventually(lambda: "refused: not_authorized" in bridge_rows(broker)["wrong"]["last error"], "it is not let in")
    finally:
        mosquitto.stop()
