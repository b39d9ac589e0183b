"""Configuration by environment variables: VerneMQ's container variables and Strogoff's own.

`STROGOFF_SET_LISTENER__TCP__DEFAULT=0.0.0.0:1883` sets `listener.tcp.default`: `__` stands for a dot, the leading run
of capitals, digits and `_` is lower-cased. `DOCKER_VERNEMQ_...` works the same and knows the container's special
variables. Only names are translated; a value is taken whole, but for single quotes around it. `..._FILE` takes the
value from a file.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from strogoff.config.errors import Problem
from strogoff.config.keys import KeyTable, key_table
from strogoff.config.placeholders import PlaceholderError, content_of
from strogoff.config.sources import Assignment, Origin, Source

__all__ = ["OWN_PREFIX", "VERNEMQ_PREFIX", "EnvironmentReading", "read_environment", "take_from_files", "unquoted"]

VERNEMQ_PREFIX = "DOCKER_VERNEMQ_"
OWN_PREFIX = "STROGOFF_SET_"
USER_PREFIX = f"{VERNEMQ_PREFIX}USER_"

_CONTAINER_VARIABLES = re.compile(rf"{VERNEMQ_PREFIX}KUBERNETES_[A-Z_]+")
# What names the node, and finds others: see `container` and `container_discovery`.
_OF_THE_CONTAINER = re.compile(
    rf"{VERNEMQ_PREFIX}(?:DISCOVERY_NODE|DISCOVERY_KUBERNETES|SWARM|COMPOSE"
    r"|KUBERNETES_(?:CLUSTER_NAME|NAMESPACE|SUBDOMAIN|LABEL_SELECTOR|INSECURE))"
)
_API_KEY_NAMES = ("API_KEY", "API_KEY_SCOPE")
_KEY = re.compile(r"[A-Za-z0-9_.\\-]+")
_USER = re.compile(r"[A-Za-z0-9_.-]+")
_FROM_FILE = re.compile(r"(.+)_(?:FILE|file)")


@dataclasses.dataclass(slots=True)
class EnvironmentReading:
    """What the environment sets. `not_active`: the container's variables that do nothing yet, in order."""

    assignments: list[Assignment] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    not_active: list[str] = dataclasses.field(default_factory=list)


def read_environment(variables: Mapping[str, str]) -> EnvironmentReading:
    """Read the variables of both prefixes, sorted by name, Strogoff's last (they win). Others are not looked at.

    Assignments of `..._FILE` still have the name of the file: `take_from_files` reads it.
    """
    reading = EnvironmentReading()
    of_vernemq = sorted(name for name in variables if name.startswith(VERNEMQ_PREFIX))
    for name in of_vernemq:
        if _OF_THE_CONTAINER.fullmatch(name):
            continue
        if _CONTAINER_VARIABLES.fullmatch(name):
            reading.not_active.append(name)
        elif name.startswith(USER_PREFIX):
            _read_user(reading, name, variables[name])
        else:
            _read_variable(reading, name, VERNEMQ_PREFIX, variables[name])
    companions = _API_KEY_NAMES if of_vernemq else ()
    reading.not_active += [name for name in companions if name in variables]
    for name in sorted(name for name in variables if name.startswith(OWN_PREFIX)):
        _read_variable(reading, name, OWN_PREFIX, variables[name])
    return reading


def take_from_files(
    assignments: Iterable[Assignment], variables: Mapping[str, str], table: KeyTable
) -> tuple[list[Assignment], list[Problem]]:
    """Read the files that `..._FILE` variables name. A name that is a key as it stands (`...__ACL_FILE`) is that key.

    The value is the file's text without the line end at its end, and taken as it is.
    """
    taken: list[Assignment] = []
    problems: list[Problem] = []
    for assignment in assignments:
        named = _FROM_FILE.fullmatch(assignment.key)
        is_from_file = (
            assignment.source.origin is Origin.ENVIRONMENT
            and named is not None
            and table.find(assignment.key) is None
            and table.find(named[1]) is not None
        )
        if not is_from_file or named is None:
            taken.append(assignment)
            continue
        variable = assignment.source.detail
        plain = variable[: -len("_FILE")]
        if plain in variables:
            advice = f"set {plain} or {variable}"
            problems.append(Problem(f"environment {variable}", f"{plain} is set as well", named[1], advice))
            continue
        try:
            text = content_of(Path(assignment.text))
        except PlaceholderError as error:
            problems.append(Problem(f"environment {variable}", str(error), named[1]))
            continue
        if not text:
            problems.append(Problem(f"environment {variable}", f"the file {assignment.text} is empty", named[1]))
            continue
        text = _whole_node_name(plain, text)
        taken.append(dataclasses.replace(assignment, key=named[1], text=text, is_literal=True))
    return taken, problems


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
    reading.assignments.append(Assignment(key, _whole_node_name(name, text), Source(Origin.ENVIRONMENT, name)))


def _read_user(reading: EnvironmentReading, name: str, password: str) -> None:
    """`DOCKER_VERNEMQ_USER_JULES=...`: the user jules. A password may hold anything, blanks and `=` among it."""
    where = f"environment {name}"
    user = name.removeprefix(USER_PREFIX)
    from_file = _FROM_FILE.fullmatch(user)
    user = from_file[1] if from_file else user
    if not _USER.fullmatch(user):
        advice = "use letters, digits, . _ and -, or a password file (vmq_passwd.password_file)"
        reading.problems.append(Problem(where, "names no user", advice=advice))
        return
    if not password:
        reading.problems.append(Problem(where, "has no value", advice="give the user a password, or remove it"))
        return
    word = user.lower().replace(".", r"\.")
    key = f"vmq_passwd.user.{word}.password" + ("_file" if from_file else "")
    reading.assignments.append(Assignment(key, password, Source(Origin.ENVIRONMENT, name), is_literal=True))


def _whole_node_name(variable: str, text: str) -> str:
    """VerneMQ's container takes the host part only and always calls the node VerneMQ."""
    return f"VerneMQ@{text}" if variable == f"{VERNEMQ_PREFIX}NODENAME" and "@" not in text else text


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
