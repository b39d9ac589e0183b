"""Configuration by environment variables: VerneMQ's container variables and Strogoff's own.

`STROGOFF_SET_LISTENER__TCP__DEFAULT=0.0.0.0:1883` sets `listener.tcp.default`: `__` stands for a dot, the leading run
of capitals, digits and `_` is lower-cased. `DOCKER_VERNEMQ_...` works the same and knows the container's special
variables. Only names are translated; a value is taken whole, but for single quotes around it.
"""

import dataclasses
import re
from collections.abc import Mapping

from strogoff.config.errors import Problem
from strogoff.config.keys import key_table
from strogoff.config.sources import Assignment, Origin, Source

__all__ = ["OWN_PREFIX", "VERNEMQ_PREFIX", "EnvironmentReading", "read_environment", "unquoted"]

VERNEMQ_PREFIX = "DOCKER_VERNEMQ_"
OWN_PREFIX = "STROGOFF_SET_"

_CONTAINER_VARIABLES = re.compile(
    rf"{VERNEMQ_PREFIX}(?:DISCOVERY_NODE|DISCOVERY_KUBERNETES|KUBERNETES_[A-Z_]+|SWARM|COMPOSE|USER_.+)"
)
_CONTAINER_NAMES = ("DOCKER_IP_ADDRESS", "DOCKER_NET_INTERFACE")
_API_KEY_NAMES = ("API_KEY", "API_KEY_SCOPE")
_KEY = re.compile(r"[A-Za-z0-9_.\\-]+")


@dataclasses.dataclass(slots=True)
class EnvironmentReading:
    """What the environment sets. `not_active`: the container's variables that do nothing yet, in order."""

    assignments: list[Assignment] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    not_active: list[str] = dataclasses.field(default_factory=list)


def read_environment(variables: Mapping[str, str]) -> EnvironmentReading:
    """Read the variables of both prefixes, sorted by name, Strogoff's last (they win). Others are not looked at."""
    reading = EnvironmentReading()
    of_vernemq = sorted(name for name in variables if name.startswith(VERNEMQ_PREFIX))
    for name in of_vernemq:
        if _CONTAINER_VARIABLES.fullmatch(name):
            reading.not_active.append(name)
        else:
            _read_variable(reading, name, VERNEMQ_PREFIX, variables[name])
    companions = _CONTAINER_NAMES + (_API_KEY_NAMES if of_vernemq else ())
    reading.not_active += [name for name in companions if name in variables]
    for name in sorted(name for name in variables if name.startswith(OWN_PREFIX)):
        _read_variable(reading, name, OWN_PREFIX, variables[name])
    return reading


def _read_variable(reading: EnvironmentReading, name: str, prefix: str, value: str) -> None:
    key = _key_of(name.removeprefix(prefix))
    where = f"environment {name}"
    if not _KEY.fullmatch(key):
        example = f"{prefix}MAX_INFLIGHT_MESSAGES"
        reading.problems.append(Problem(where, "names no key", advice=f"write it as {example}"))
        return
    text = unquoted(value.strip())
    if not value:
        reading.problems.append(Problem(where, "has no value", key, "write '' for an empty one, or remove it"))
        return
    if name == f"{VERNEMQ_PREFIX}NODENAME" and "@" not in text:
        # VerneMQ's container takes the host part only and always calls the node VerneMQ.
        text = f"VerneMQ@{text}"
    reading.assignments.append(Assignment(key, text, Source(Origin.ENVIRONMENT, name)))


def _key_of(rest: str) -> str:
    run = re.match(r"[A-Z0-9_]*", rest)
    assert run is not None, "the pattern matches the empty text"
    key = (rest[: run.end()].lower() + rest[run.end() :]).replace("__", ".")
    lowered = key.lower()
    # LOG.CONSOLE.LEVEL, an example of VerneMQ's own manual, would otherwise be the unknown key log.CONSOLE.LEVEL.
    return lowered if key_table().find(key) is None and key_table().find(lowered) is not None else key


def unquoted(text: str) -> str:
    """The text without the single quotes (one or three) around it."""
    for quotes in ("'''", "'"):
        if len(text) >= 2 * len(quotes) and text.startswith(quotes) and text.endswith(quotes):
            return text[len(quotes) : -len(quotes)]
    return text
