"""The name of a node in a container that was not given one: what VerneMQ's start script finds out by itself."""

import contextlib
import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from strogoff.config.environment import VERNEMQ_PREFIX
from strogoff.config.errors import ConfigError, Problem
from strogoff.config.sources import Assignment, Origin, Source

__all__ = ["THIS_HOST", "Host", "is_on", "name_in_container"]

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_SIOCGIFADDR: Final = 0x8915
_KUBERNETES: Final = f"{VERNEMQ_PREFIX}DISCOVERY_KUBERNETES"
_BY_ADDRESS: Final = tuple(f"{VERNEMQ_PREFIX}{word}" for word in ("DISCOVERY_NODE", "SWARM", "COMPOSE"))
_POD_NAMES: Final = ("MY_POD_NAME", "POD_NAME")
_NAMESPACES: Final = (f"{VERNEMQ_PREFIX}KUBERNETES_NAMESPACE", "MY_POD_NAMESPACE", "POD_NAMESPACE")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class Host(Protocol):
    """What a container can say of itself."""

    def full_name(self) -> str:
        """Its name with its domain, as far as it knows it."""

    def namespace(self) -> str | None:
        """The namespace that Kubernetes has put into its files, None without a service account."""

    def address_of(self, interface: str) -> str | None:
        """The IPv4 address of an interface, None where there is none."""

    def default_address(self) -> str | None:
        """The IPv4 address from which it would talk to others."""


class _ThisHost:
    """The machine, or the container, that the program runs in."""

    def full_name(self) -> str:
        return socket.getfqdn()

    def namespace(self) -> str | None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() or None
        return None

    def address_of(self, interface: str) -> str | None:
        name = interface.encode()[:15]
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name))
            return socket.inet_ntoa(answer[20:24])
        return None

    def default_address(self) -> str | None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            # Connecting a datagram socket chooses the route and sends nothing; the address is one for documentation.
            asking.connect(("192.0.2.1", 9))
            address = str(asking.getsockname()[0])
            return None if ipaddress.ip_address(address).is_loopback else address
        return None


THIS_HOST: Final[Host] = _ThisHost()


def is_on(variables: Mapping[str, str], name: str) -> bool:
    """Whether a variable switches something on. In VerneMQ's container its mere presence does, even as `0`."""
    return variables.get(name, "").strip().lower() not in {"", "0", "off", "no", "false"}


def name_in_container(variables: Mapping[str, str], host: Host = THIS_HOST) -> Assignment | None:
    """The node's name as VerneMQ's container would make it up, None where no variable of the container asks for that.

    In Kubernetes the name of the pod in DNS; else the address that a variable gives, or from which others are reached.
    Raises `ConfigError` that says which variable to set.
    """
    if is_on(variables, _KUBERNETES):
        return _named(*_name_of_pod(variables, host))
    if address := variables.get("DOCKER_IP_ADDRESS", "").strip():
        return _named(address, "DOCKER_IP_ADDRESS")
    if interface := variables.get("DOCKER_NET_INTERFACE", "").strip():
        found = host.address_of(interface)
        if found is None:
            raise _error("DOCKER_NET_INTERFACE", f"{interface[:80]!r} has no IPv4 address", "set DOCKER_IP_ADDRESS")
        return _named(found, "DOCKER_NET_INTERFACE")
    for name in _BY_ADDRESS:
        if is_on(variables, name):
            found = host.default_address()
            if found is None:
                raise _error(name, "this container has no IPv4 address", f"set {VERNEMQ_PREFIX}NODENAME")
            return _named(found, name)
    return None


def _named(host_part: str, variable: str) -> Assignment:
    return Assignment("nodename", f"VerneMQ@{host_part}", Source(Origin.ENVIRONMENT, variable), is_literal=True)


def _error(variable: str, message: str, advice: str) -> ConfigError:
    return ConfigError([Problem(f"environment {variable}", message, "nodename", advice)])


def _name_of_pod(variables: Mapping[str, str], host: Host) -> tuple[str, str]:
    """The pod's name in DNS, and the variable that says which pod it is.

    Kubernetes writes it into the pod's own files where it has one, so nobody has to be asked for it.
    """
    variable = next((name for name in _POD_NAMES if variables.get(name)), None)
    if variable is None:
        advice = f"set MY_POD_NAME to metadata.name by a fieldRef, or {VERNEMQ_PREFIX}NODENAME"
        raise _error(_KUBERNETES, "the name of this pod is not known", advice)
    pod = variables[variable].strip()
    if not _LABEL.fullmatch(pod):
        raise _error(variable, f"{pod[:80]!r} is no name of a pod", "set it to metadata.name by a fieldRef")
    subdomain = variables.get(f"{VERNEMQ_PREFIX}KUBERNETES_SUBDOMAIN", "").strip()
    full = host.full_name()
    if not subdomain and full.startswith(f"{pod}.") and full.count(".") > 1:
        return full, variable
    namespace = next((variables[name].strip() for name in _NAMESPACES if variables.get(name)), host.namespace())
    if not subdomain or not namespace:
        lacking = "the headless service" if not subdomain else "the namespace"
        name = "SUBDOMAIN" if not subdomain else "NAMESPACE"
        advice = f"set {VERNEMQ_PREFIX}KUBERNETES_{name}, or {VERNEMQ_PREFIX}NODENAME"
        raise _error(_KUBERNETES, f"the name of {lacking} of the pod {pod} is not known", advice)
    domain = variables.get(f"{VERNEMQ_PREFIX}KUBERNETES_CLUSTER_NAME", "").strip() or "cluster.local"
    return f"{pod}.{subdomain}.{namespace}.svc.{domain}", variable
