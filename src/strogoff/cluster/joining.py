"""What is checked when a node wants to join, without the links: who it is, what it speaks, what must be the same."""

from collections.abc import Mapping
from typing import Any, Final

from strogoff._engine import PeerInfo
from strogoff.cluster.members import BadMemberError, Member
from strogoff.cluster.requests import RemoteError
from strogoff.cluster.terms import Terms

__all__ = ["PROTOCOL", "ClusterError", "address_of", "joiner_of", "obstacle", "request_to_join"]

PROTOCOL: Final = 1
"""The version of what nodes say to each other over the links."""
DEFAULT_PORT: Final = 44053
DEFAULT_TLS_PORT: Final = 44054


class ClusterError(Exception):
    """A command of the cluster cannot be carried out. The message says which node refuses, why, and what to do."""


def request_to_join(member: Member, version: str, terms: Terms) -> dict[str, Any]:
    """What a node says of itself that wants to join."""
    return {
        "protocol": PROTOCOL,
        "version": version,
        "member": member.encode().decode(),
        "settings": dict(terms.agreed),
    }


def joiner_of(node: str, request: Mapping[str, Any], *, name: str, terms: Terms) -> Member:
    """Who wants to join the cluster of the node `name`. Raises `RemoteError` if that may not be."""
    if request.get("protocol") != PROTOCOL:
        raise RemoteError(
            f"it speaks version {request.get('protocol')} of the cluster protocol, {name} speaks {PROTOCOL}"
        )
    try:
        joiner = Member.decode(str(request.get("member")).encode())
    except BadMemberError as error:
        raise RemoteError(str(error)) from None
    if joiner.name != node:
        raise RemoteError(f"it is {node} and calls itself {joiner.name}")
    if not joiner.addresses:
        raise RemoteError("it has no cluster listener: set listener.vmq.NAME = ADDRESS:PORT there")
    settings = request.get("settings")
    for key, here in terms.agreed:
        there = settings.get(key, here) if isinstance(settings, dict) else here
        if there != here:
            raise RemoteError(f"{key} must be the same on all nodes: it is {here} on {name} and {there} on {node}")
    return joiner


def obstacle(info: PeerInfo | None) -> str:
    """What keeps a link from coming about."""
    if info is not None and info.answering is not None:
        return f"{info.answering} answers there"
    return info.error if info is not None and info.error else "it does not answer"


def address_of(target: str, *, is_tls: bool = False) -> tuple[str, str]:
    """Name and address of a node: NAME@HOST or NAME@HOST:PORT, an IPv6 address with a port in brackets. Raises
    `ClusterError`.
    """
    name, at, place = target.partition("@")
    if not at or not name or not place:
        raise ClusterError(f"'{target}' is no name of a node: write NAME@HOST, or NAME@HOST:PORT for another port")
    if place.startswith("["):
        host, bracket, colon_and_port = place[1:].partition("]")
        port = colon_and_port.removeprefix(":")
        if not bracket or not host or colon_and_port not in {"", f":{port}"}:
            raise ClusterError(f"'{target}' is no name of a node: write NAME@[ADDRESS]:PORT for an IPv6 address")
    elif place.count(":") > 1:
        host, port = place, ""
    else:
        host, colon, port = place.partition(":")
        if colon and not port:
            raise ClusterError(f"'{target}' has no port: write NAME@HOST:PORT")
    if port and not port.isdecimal():
        raise ClusterError(f"'{target}' has no port: write NAME@HOST:PORT")
    shown = f"[{host}]" if ":" in host else host
    return f"{name}@{host}", f"{shown}:{port or (DEFAULT_TLS_PORT if is_tls else DEFAULT_PORT)}"
