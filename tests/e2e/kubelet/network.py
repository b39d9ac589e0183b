"""A network of the test's own: namespaces for hosts, joined by a bridge device in a namespace that has no way out.

Each namespace is kept by a process that ends when its input does, so that with the test everything is gone, whatever
the test ended with. Needs root, and `ip`, `nsenter` and `unshare`; `why_impossible` says what is missing.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence

BRIDGE_ADDRESS = "10.88.0.1"
DNS_ADDRESS = "10.88.0.2"
_BRIDGE_MAC = "02:00:0a:58:00:01"
_FIRST_HOST = 10
_PREFIX_BITS = 16
_CLONE_NEWNET = 0x40000000
_PROGRAMS = ("ip", "nsenter", "unshare", "setpriv")

_libc = ctypes.CDLL(None, use_errno=True)


def why_impossible() -> str | None:
    """What keeps this machine from making such a network, or None."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"there is no program {', '.join(missing)}"
    if os.geteuid() != 0:
        return "namespaces of the network need root"
    try:
        Network().close()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"a network namespace with a bridge cannot be made ({error})"
    return None


class Namespace:
    """A network namespace with a host name of its own, until it is closed and the last process in it has ended."""

    def __init__(self, host_name: str) -> None:
        command = [
            "unshare",
            "--net",
            "--uts",
            "--ipc",
            "sh",
            "-c",
            'hostname "$0" && echo ready && exec cat',
            host_name,
        ]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        if not self._keeper.stdout.readline():
            self.close()
            raise OSError("unshare cannot make a namespace")

    @property
    def pid(self) -> int:
        """A process in the namespace."""
        return self._keeper.pid

    def command(self, *words: str) -> list[str]:
        """What runs a program in it, as the same process."""
        return ["nsenter", f"--target={self.pid}", "--net", "--uts", "--ipc", "--", *words]

    def enter(self) -> None:
        """Move the calling thread to it, for good: the sockets that it opens are there."""
        descriptor = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, f"setns: {os.strerror(number)}")
        finally:
            os.close(descriptor)

    def ip(self, lines: Sequence[str]) -> None:
        """Commands of `ip`. Raises `CalledProcessError`."""
        subprocess.run(
            self.command("ip", "-batch", "-"), input="\n".join(lines) + "\n", text=True, check=True, capture_output=True
        )

    def close(self) -> None:
        """Give it up. Idempotent."""
        self._keeper.kill()
        self._keeper.wait()
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()


class Host:
    """A namespace with an address in the network."""

    def __init__(self, network: "Network", name: str, number: int) -> None:
        self.address = f"10.88.{number // 256}.{number % 256}"
        self.namespace = Namespace(name)
        self._bridge, self._port = network.namespace, f"port{number}"
        try:
            self._bridge.ip(
                [
                    f"link add {self._port} type veth peer name eth0 netns {self.namespace.pid}",
                    f"link set {self._port} master cluster up",
                ]
            )
            self.namespace.ip(
                [
                    f"addr add {self.address}/{_PREFIX_BITS} dev eth0",
                    "link set eth0 up",
                    "link set lo up",
                    f"route add default via {BRIDGE_ADDRESS}",
                ]
            )
        except subprocess.CalledProcessError:
            self.namespace.close()
            raise

    def enter(self) -> None:
        """Move the calling thread there, for good."""
        self.namespace.enter()

    def unplug(self) -> None:
        """From now on nothing goes in or out."""
        self._bridge.ip([f"link set {self._port} down"])

    def plug_in(self) -> None:
        self._bridge.ip([f"link set {self._port} up"])

    def close(self) -> None:
        """The device ends with the namespace, in its own time; its name and its address are not used again."""
        self.namespace.close()


class Network:
    """The bridge, and the hosts that come to it. Each host gets an address that none had before."""

    def __init__(self) -> None:
        self.namespace = Namespace("bridge")
        self._next = _FIRST_HOST
        try:
            self.namespace.ip(
                [
                    # Otherwise it would change with the devices that come and go, and hosts would look for it in vain.
                    f"link add cluster address {_BRIDGE_MAC} type bridge",
                    f"addr add {BRIDGE_ADDRESS}/{_PREFIX_BITS} dev cluster",
                    f"addr add {DNS_ADDRESS}/{_PREFIX_BITS} dev cluster",
                    "link set lo up",
                    "link set cluster up",
                ]
            )
        except subprocess.CalledProcessError:
            self.close()
            raise

    def host(self, name: str) -> Host:
        number, self._next = self._next, self._next + 1
        return Host(self, name, number)

    def add_address(self, address: str) -> None:
        """One that the bridge's own namespace answers for."""
        self.namespace.ip([f"addr add {address}/32 dev lo"])

    def enter(self) -> None:
        """Move the calling thread to where all hosts can be reached from."""
        self.namespace.enter()

    def close(self) -> None:
        self.namespace.close()
