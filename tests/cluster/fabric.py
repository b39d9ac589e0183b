"""A network made for one test: hosts in namespaces of their own, and between them links that fail on command.

Each host is a network namespace with a TUN device. What it sends arrives at the test, which carries it to the host it
is for, later, slowly or not at all. So a link can be cut in one direction or for one port, and nothing depends on
modules of the kernel or on programs for filters. Namespaces and devices have no names outside and end with the test's
process.

Needs root and `/dev/net/tun`; `why_impossible` says what is missing.
"""

import ctypes
import fcntl
import heapq
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_TUN = Path("/dev/net/tun")
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN_WITHOUT_HEADER = 0x0001 | 0x1000
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFFLAGS = 0x8916, 0x891C, 0x8914
_IFF_UP_AND_RUNNING = 0x1 | 0x40

_DEVICE = "link"
_PREFIX = "10.77.0"
_PACKET_MAX = 65_536
_PACKETS_PER_TURN = 64
_QUEUED_MAX_S = 1.0
"""What would wait longer than this for a slow link is dropped, as a router would."""

_libc = ctypes.CDLL(None, use_errno=True)


def why_impossible() -> str | None:
    """What keeps this machine from making such a network, or None."""
    if not _TUN.exists():
        return f"there is no {_TUN}"
    try:
        Host(1).close()
    except OSError as error:
        return f"a network namespace with a TUN device cannot be made ({error}): this needs root"
    return None


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Host:
    """A network namespace with one address. `number`: 1 to 254, the last part of the address."""

    def __init__(self, number: int) -> None:
        self.address = f"{_PREFIX}.{number}"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"host-{number}")
        try:
            self.device, self._namespace = self.run(self._enter_new_namespace)
        except OSError:
            self._thread.shutdown()
            raise

    def _enter_new_namespace(self) -> tuple[int, int]:
        _call("unshare", _CLONE_NEWNET)
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        device = -1
        try:
            device = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14x", _DEVICE.encode(), _IFF_TUN_WITHOUT_HEADER))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                for request, address in ((_SIOCSIFADDR, self.address), (_SIOCSIFNETMASK, "255.255.255.0")):
                    fcntl.ioctl(control, request, _interface_address(_DEVICE, address))
                for name in ("lo", _DEVICE):
                    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), _IFF_UP_AND_RUNNING))
        except OSError:
            os.close(namespace)
            if device != -1:
                os.close(device)
            raise
        return device, namespace

    def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a function on the host: sockets that it opens and processes that it starts belong there."""
        return self._thread.submit(function, *arguments, **named).result()

    def enter(self) -> None:
        """Move the calling thread to the host, for good."""
        _call("setns", self._namespace, _CLONE_NEWNET)

    def close(self) -> None:
        """Give everything back. The namespace ends with the last process in it."""
        self._thread.shutdown()
        os.close(self.device)
        os.close(self._namespace)


def _interface_address(interface: str, address: str) -> bytes:
    return struct.pack("16sHH4s8x", interface.encode(), socket.AF_INET, 0, socket.inet_aton(address))


@dataclass(slots=True)
class Way:
    """One direction of a link: what becomes of the packets that go there."""

    is_cut: bool = False
    cut_port: int = 0
    """Only packets from or to this TCP port are dropped."""
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    """0: as fast as it goes."""
    free_at: float = 0.0
    dropped: int = 0

    def arrival(self, packet: bytes, now: float) -> float | None:
        """When the packet arrives, or None for never."""
        if self.is_cut or (self.cut_port and self.cut_port in _ports(packet)):
            self.dropped += 1
            return None
        if not self.bytes_per_s:
            return now + self.delay_s
        if self.free_at > now + _QUEUED_MAX_S:
            self.dropped += 1
            return None
        self.free_at = max(self.free_at, now) + len(packet) / self.bytes_per_s
        return self.free_at + self.delay_s


def _ports(packet: bytes) -> tuple[int, ...]:
    """Source and destination of a TCP packet."""
    header_size = (packet[0] & 0x0F) * 4
    if packet[9] != socket.IPPROTO_TCP or len(packet) < header_size + 4:
        return ()
    return struct.unpack_from("!HH", packet, header_size)


class Fabric:
    """The links between hosts. All of them work until one is told otherwise. `close` ends it and its hosts."""

    def __init__(self, hosts: int) -> None:
        self.hosts: list[Host] = []
        self._ways: dict[tuple[int, int], Way] = {}
        self._in_flight: list[tuple[float, int, int, bytes]] = []
        self._numbers = count()
        self._is_over = False
        self._wake_reader, self._wake_writer = os.pipe()
        self._carrier = threading.Thread(target=self._carry_until_closed, name="fabric")
        try:
            for number in range(1, hosts + 1):
                self.hosts.append(Host(number))
        except OSError:
            self._give_back()
            raise
        self._devices = {socket.inet_aton(host.address): host.device for host in self.hosts}
        self._ways = {(a.device, b.device): Way() for a in self.hosts for b in self.hosts if a is not b}
        self._carrier.start()

    def way(self, source: Host, target: Host) -> Way:
        """The direction from one host to another; change it as you like."""
        return self._ways[source.device, target.device]

    def ways_between(self, some: list[Host], others: list[Host]) -> list[Way]:
        """Both directions of every link between two groups of hosts."""
        return [way for a in some for b in others for way in (self.way(a, b), self.way(b, a))]

    def close(self) -> None:
        self._is_over = True
        os.write(self._wake_writer, b"x")
        self._carrier.join()
        self._give_back()

    def _give_back(self) -> None:
        for host in self.hosts:
            host.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _carry_until_closed(self) -> None:
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        for device in self._devices.values():
            poller.register(device, select.POLLIN)
        while not self._is_over:
            wait_ms = 1_000.0
            if self._in_flight:
                wait_ms = max(0.0, self._in_flight[0][0] - time.monotonic()) * 1_000
            for device, _ in poller.poll(wait_ms):
                if device != self._wake_reader:
                    self._take(device)
            self._deliver(time.monotonic())

    def _take(self, source: int) -> None:
        for _ in range(_PACKETS_PER_TURN):
            try:
                packet = os.read(source, _PACKET_MAX)
            except BlockingIOError:
                return
            # Everything but IPv4 to one of the hosts is noise of the kernel.
            target = self._devices.get(packet[16:20]) if packet[0] >> 4 == 4 else None
            if target is None or target == source:
                continue
            arrival = self._ways[source, target].arrival(packet, time.monotonic())
            if arrival is not None:
                heapq.heappush(self._in_flight, (arrival, next(self._numbers), target, packet))

    def _deliver(self, now: float) -> None:
        while self._in_flight and self._in_flight[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._in_flight)
            os.write(target, packet)


@contextmanager
def cut(*ways: Way) -> Iterator[None]:
    """Nothing passes there meanwhile."""
    for way in ways:
        way.is_cut = True
    try:
        yield
    finally:
        for way in ways:
            way.is_cut = False
