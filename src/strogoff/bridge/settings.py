"""The bridges that a configuration describes: `vmq_bridge.KIND.NAME` and the keys below it."""

import dataclasses
import enum
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from strogoff.bridge.topics import Direction, TopicRule, TopicRuleError, overlap, parse_topic_rule
from strogoff.config import Configuration, Note, Problem
from strogoff.config.keys import split_key
from strogoff.config.notes import NoteKind

__all__ = ["BridgeSettings", "Spread", "TlsSettings", "bridges_of", "check_bridges"]

KINDS: Final = {"tcp": 1883, "ssl": 8883, "ws": 80, "wss": 443}
"""What is spoken, and the port that its brokers usually have."""
RULES_MAX: Final = 100
BRIDGES_MAX: Final = 1_000


class Spread(enum.Enum):
    """`cluster`: which of the nodes that configure a bridge alike run it."""

    ONE = "one"
    """One of them, and another one when that goes."""
    EVERY = "every"
    """Each, so that each message comes and goes as often as there are nodes."""
    SHARE = "share"
    """Each, and each message goes over one of them: in by a shared subscription, out by the node that it came to."""


@dataclasses.dataclass(frozen=True, slots=True)
class TlsSettings:
    """TLS of a bridge. Without `cafile` the system's authorities count. `depth`: intermediate certificates."""

    cafile: Path | None
    certfile: Path | None
    keyfile: Path | None
    insecure: bool
    version: str
    depth: int
    server_name: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class BridgeSettings:
    """One bridge. `client_id` None: one is made. Times are seconds, `connect_timeout` milliseconds.

    `buffer_max`: messages, None for no limit. `window`: messages of QoS 1 and 2 under way at a time.
    """

    name: str
    kind: str
    host: str
    port: int
    rules: tuple[TopicRule, ...]
    spread: Spread
    client_id: str | None
    is_clean: bool
    username: str | None
    password: str | None = dataclasses.field(repr=False)
    keep_alive: int
    version: int
    is_private: bool
    mountpoint: str
    longest_wait: int
    connect_timeout: int
    session_expiry: int
    buffer_max: int | None
    window: int
    lasts: bool
    family: str
    path: str
    tls: TlsSettings | None

    @property
    def endpoint(self) -> str:
        """Host and port, as `bridge show` tells them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def fingerprint(self) -> str:
        """The same on all nodes that configure the bridge alike. It tells nothing of the password."""
        digest = hashlib.sha256(f"{self!r}{self.password!r}".encode()).hexdigest()
        return digest[:32]


def check_bridges(configuration: Configuration) -> tuple[list[Problem], list[Note]]:
    """What is wrong with the bridges of a configuration, and what is probably not meant."""
    _, problems, notes = bridges_of(configuration)
    return problems, notes


def bridges_of(configuration: Configuration) -> tuple[list[BridgeSettings], list[Problem], list[Note]]:
    """The bridges in the order of the file, what is wrong with them, and what is probably not meant."""
    bridges: list[BridgeSettings] = []
    problems: list[Problem] = []
    notes: list[Note] = []
    found = _names(configuration.assigned)
    if len(found) > BRIDGES_MAX:
        return [], [Problem("vmq_bridge", f"{len(found)} bridges are configured; {BRIDGES_MAX} are possible")], []
    kinds: dict[str, str] = {}
    for kind, name in found:
        reader = _Reader(configuration, kind, name)
        if reader.key not in configuration.assigned:
            option = next(key for key in configuration.assigned if key.startswith(f"{reader.key}."))
            source = configuration.assigned[option].source
            text = f"{option} ({source}) does nothing: there is no {reader.key} = HOST:PORT"
            notes.append(Note(NoteKind.WARNING, text, (option,)))
            continue
        if name in kinds:
            reader.problem(
                reader.key, f"there is a bridge {name} already, vmq_bridge.{kinds[name]}.{name}", "rename it"
            )
        kinds[name] = kind
        bridge = reader.read()
        problems += reader.problems
        notes += reader.notes
        if bridge is not None:
            bridges.append(bridge)
    return bridges, problems, notes


def _names(keys: Iterable[str]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for key in keys:
        words = split_key(key)
        if len(words) >= 3 and words[0] == "vmq_bridge" and words[1] in KINDS:
            found[words[1], words[2]] = None
    return list(found)


class _Reader:
    """Reads one bridge."""

    def __init__(self, configuration: Configuration, kind: str, name: str) -> None:
        self.key = f"vmq_bridge.{kind}.{name}"
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        self._configuration = configuration
        self._kind = kind
        self._name = name

    def problem(self, key: str, message: str, advice: str | None = None) -> None:
        """Something is wrong with a key."""
        self.problems.append(Problem(str(self._configuration.source_of(key)), message, key, advice))

    def _get(self, option: str) -> Any:
        key = f"{self.key}.{option}"
        return self._configuration.get(key) if self._configuration.table.find(key) is not None else None

    def _text(self, option: str) -> str | None:
        return str(self._get(option) or "") or None

    def read(self) -> BridgeSettings | None:
        """The bridge; None when something is wrong with it."""
        endpoint = self._endpoint()
        rules = self._rules()
        tls = self._tls() if self._kind in {"ssl", "wss"} else None
        for option in ("psk", "identity"):
            if self._text(option):
                advice = "use certificates (cafile, certfile, keyfile)"
                self.problem(f"{self.key}.{option}", "TLS with pre-shared keys is not possible", advice)
        if self._text("password") and not self._text("username") and self._get("mqtt_version") != "5":
            self.problem(f"{self.key}.password", "MQTT 3 has no password without a user name", "set username, too")
        if endpoint is None or self.problems:
            return None
        client_id = self._text("client_id")
        return BridgeSettings(
            name=self._name.replace(r"\.", "."),
            kind=self._kind,
            host=endpoint[0],
            port=endpoint[1],
            rules=rules,
            spread=Spread(self._get("cluster")),
            client_id=None if client_id in (None, "auto") else client_id,
            is_clean=bool(self._get("cleansession")),
            username=self._text("username"),
            password=self._text("password"),
            keep_alive=int(self._get("keepalive_interval")),
            version=int(self._get("mqtt_version")),
            is_private=bool(self._get("try_private")),
            mountpoint=str(self._get("mountpoint") or ""),
            longest_wait=int(self._get("restart_timeout")),
            connect_timeout=int(self._get("connect_timeout")),
            session_expiry=int(self._get("session_expiry_interval")),
            buffer_max=self._get("max_outgoing_buffered_messages"),
            window=int(self._get("outgoing_batch_size")),
            lasts=bool(self._get("persistent_queue")),
            family=str(self._get("inet_version")),
            path=str(self._get("path") or "/mqtt"),
            tls=tls,
        )

    def _endpoint(self) -> tuple[str, int] | None:
        text = str(self._configuration.get(self.key) or "")
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536:
            return host, int(port)
        advice = f"for example {self.key} = broker.example.org:{KINDS[self._kind]}"
        self.problem(self.key, f"expected HOST:PORT of the other broker, not {text!r}", advice)
        return None

    def _rules(self) -> tuple[TopicRule, ...]:
        prefix = f"{self.key}.topic."
        rules: list[TopicRule] = []
        numbered: list[tuple[int, str]] = []
        for key in self._configuration.assigned:
            if not key.startswith(prefix):
                continue
            number = key.removeprefix(prefix)
            if not (number.isascii() and number.isdigit() and 1 <= int(number) <= RULES_MAX):
                self.problem(key, f"expected a number from 1 to {RULES_MAX} behind topic.", "number the rules from 1")
                continue
            numbered.append((int(number), key))
        for _, key in sorted(numbered):
            try:
                rules.append(parse_topic_rule(str(self._configuration.get(key) or "")))
            except TopicRuleError as error:
                self.problem(key, str(error), error.advice)
        if not numbered:
            text = f"{self.key} has no topic rules, so it bridges nothing: add {prefix}1 = PATTERN"
            self.notes.append(Note(NoteKind.WARNING, text, (self.key,)))
        comes_back = any(
            overlap(one.remote_filter, other.remote_filter)
            for one in rules
            for other in rules
            if one.goes(Direction.OUT) and other.goes(Direction.IN)
        )
        if comes_back and self._get("cluster") != Spread.ONE.value and self._get("mqtt_version") != "5":
            option = f"{self.key}.cluster"
            text = (
                f"{option} = {self._get('cluster')}: what one node takes to the other broker comes back over another "
                f"one, since MQTT 3 cannot say where it was: set {self.key}.mqtt_version = 5"
            )
            self.notes.append(Note(NoteKind.WARNING, text, (option,)))
        return tuple(rules)

    def _tls(self) -> TlsSettings:
        def path(option: str) -> Path | None:
            text = self._text(option)
            return Path(text) if text else None

        certfile, keyfile = path("certfile"), path("keyfile")
        if (certfile is None) != (keyfile is None):
            given, lacking = ("certfile", "keyfile") if keyfile is None else ("keyfile", "certfile")
            self.problem(f"{self.key}.{given}", f"it is of no use without {self.key}.{lacking}", "set both or none")
        version = self._get("tls_version")
        return TlsSettings(
            cafile=path("cafile"),
            certfile=certfile,
            keyfile=keyfile,
            insecure=bool(self._get("insecure")),
            version=str(version[0] if isinstance(version, tuple) and version else version or "tlsv1.2"),
            depth=int(self._get("depth")),
            server_name=self._text("sni"),
        )
