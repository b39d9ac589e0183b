"""From files, environment and command line to a configuration: which file, which layer goes before which."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from strogoff.config.container import THIS_HOST, Host, name_in_container
from strogoff.config.container_discovery import discovery_in_container
from strogoff.config.environment import read_environment, take_from_files, unquoted
from strogoff.config.errors import ConfigError, Problem
from strogoff.config.extension import NO_EXTENSION, Extend, Extension
from strogoff.config.keys import key_table, split_key
from strogoff.config.listeners import MQTT_FAMILIES
from strogoff.config.notes import Note, NoteKind
from strogoff.config.parser import ParsedFile, parse_file
from strogoff.config.settings import Configuration, build_configuration
from strogoff.config.sources import Assignment, Origin, Source

__all__ = ["FILE_VARIABLE", "FoundFile", "find_file", "load", "read_option"]

FILE_VARIABLE = "STROGOFF_CONFIG"
DEFAULT_FILES = (Path("etc/strogoff.conf"), Path("/etc/strogoff/strogoff.conf"))
VERNEMQ_FILES = (Path("vernemq.conf"), Path("etc/vernemq.conf"), Path("/etc/vernemq/vernemq.conf"))
BUILT_IN = Source(Origin.BUILT_IN)
BUILT_IN_LISTENER = "listener.tcp.default"
BUILT_IN_ADDRESS = "127.0.0.1:1883"


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """The file to read, None for the built-in configuration; `notes` tell what else lies around."""

    path: Path | None
    notes: tuple[Note, ...] = ()


def find_file(path: Path | None, environment: Mapping[str, str], directory: Path = Path()) -> FoundFile:
    """The file of `--config` (`path`), of `STROGOFF_CONFIG`, or at a default place seen from `directory`.

    A file that was named has to exist; whether it does is seen when it is read.
    """
    if path is not None:
        return FoundFile(path)
    if named := environment.get(FILE_VARIABLE):
        return FoundFile(Path(named))
    for candidate in DEFAULT_FILES:
        if _is_file(directory / candidate):
            return FoundFile(candidate if directory == Path() else directory / candidate)
    text = "{} is not read by itself: start with --config {} to use VerneMQ's file"
    notes = [
        Note(NoteKind.NOTICE, text.format(candidate, candidate))
        for candidate in VERNEMQ_FILES
        if _is_file(directory / candidate)
    ]
    return FoundFile(None, tuple(notes))


def load(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    extend: Extend | None = None,
    host: Host = THIS_HOST,
) -> Configuration:
    """Read the configuration: defaults, then the file, the variables of `environment`, then `overrides` (`KEY=VALUE`).

    `path` None looks for a file with `find_file`; without one the built-in configuration takes its place. `extend`
    finds the keys of plugins. `host` is asked for a name where only VerneMQ's container variables tell how to find one.
    Raises `ConfigError` with everything that is wrong, wherever it stands.
    """
    variables = environment or {}
    found = find_file(path, variables)
    parsed = ParsedFile() if found.path is None else parse_file(found.path)
    reading = read_environment(variables)
    options, option_problems = _read_options(overrides)
    problems = parsed.problems + reading.problems + option_problems
    notes = [*found.notes, *(Note(NoteKind.WARNING, str(remark), (remark.key or "",)) for remark in parsed.remarks)]
    notes += _repeated(parsed.assignments)
    notes += [
        Note(NoteKind.NOT_ACTIVE_YET, f"environment {name}: known, not active yet") for name in reading.not_active
    ]
    given = [*parsed.assignments, *reading.assignments, *options]
    extension = extend({assignment.key: assignment for assignment in given}) if extend else NO_EXTENSION
    given, file_problems = take_from_files(given, variables, key_table().extended(extension.keys))
    problems += file_problems
    if not any(assignment.key == "nodename" for assignment in given):
        given, name_problems = _with_name(given, variables, host)
        problems += name_problems
    given = [*discovery_in_container(variables, given), *given]
    if found.path is None:
        return _built_in(given, problems, notes, extension)
    notes += _files_beside(found.path)
    configuration = build_configuration(given, problems=problems, notes=notes, file=found.path, extension=extension)
    return dataclasses.replace(configuration, notes=(*configuration.notes, *_unreachable(configuration)))


def _with_name(
    given: list[Assignment], variables: Mapping[str, str], host: Host
) -> tuple[list[Assignment], Sequence[Problem]]:
    try:
        found = name_in_container(variables, host)
    except ConfigError as error:
        return given, error.problems
    return given if found is None else [found, *given], ()


def read_option(text: str) -> Assignment:
    """`KEY=VALUE` of the command line. Single quotes around the value are left out. Raises `ConfigError`."""
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key or not value:
        advice = "write '' for an empty value" if equals and key else None
        raise ConfigError([Problem("--set", f"expected KEY=VALUE, not {text[:80]!r}", advice=advice)])
    return Assignment(key, unquoted(value), Source(Origin.OPTION))


def _read_options(texts: Sequence[str]) -> tuple[list[Assignment], list[Problem]]:
    assignments: list[Assignment] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            assignments.append(read_option(text))
        except ConfigError as error:
            problems += error.problems
    return assignments, problems


def _built_in(
    given: list[Assignment], problems: list[Problem], notes: list[Note], extension: Extension
) -> Configuration:
    """The configuration without a file: loopback only, anonymous clients there.

    Who opens another address without a file does not thereby open it to everybody.
    """
    base: list[Assignment] = []
    if not any(_is_mqtt_address(assignment.key) for assignment in given):
        base.append(Assignment(BUILT_IN_LISTENER, BUILT_IN_ADDRESS, BUILT_IN))
    anonymous = Assignment("allow_anonymous", "on", BUILT_IN)
    configuration = build_configuration([*base, anonymous, *given], problems=problems, notes=notes, extension=extension)
    exposed = [listener for listener in configuration.listeners if not listener.is_loopback]
    if exposed and configuration.source_of("allow_anonymous") is BUILT_IN:
        configuration = build_configuration([*base, *given], notes=notes, extension=extension)
    notices = (*_built_in_notices(configuration), *configuration.notes, *_unreachable(configuration))
    return dataclasses.replace(configuration, notes=notices)


def _unreachable(configuration: Configuration) -> list[Note]:
    text = "no MQTT listener is open, so no client can connect: add listener.tcp.default = ADDRESS:PORT"
    return [] if configuration.listeners else [Note(NoteKind.WARNING, text)]


def _built_in_notices(configuration: Configuration) -> list[Note]:
    addresses = ", ".join(str(listener.endpoint) for listener in configuration.listeners) or "no address"
    reach = "this machine only" if all(item.is_loopback for item in configuration.listeners) else "other machines too"
    anonymous = (
        "clients need no user name and no password"
        if configuration.get("allow_anonymous")
        else "clients without a user name are refused (allow_anonymous = off)"
    )
    sentences = (
        f"there is no configuration file; the broker listens on {addresses}, for {reach}",
        anonymous,
        f"data are kept under {configuration.get('platform_data_dir')}",
    )
    return [Note(NoteKind.NOTICE, sentence) for sentence in sentences]


def _is_mqtt_address(key: str) -> bool:
    words = split_key(key)
    if len(words) != 3 or words[0] != "listener" or words[1] not in MQTT_FAMILIES:
        return False
    row = key_table().find(key)
    return row is not None and row.is_pattern


def _repeated(assignments: list[Assignment]) -> list[Note]:
    """Keys that one file sets twice. That another file overrules one (`conf.d`) is how includes are used."""
    notes: list[Note] = []
    last: dict[tuple[str, str], Assignment] = {}
    for assignment in assignments:
        file, _, _ = assignment.source.detail.rpartition(":")
        if earlier := last.get((assignment.key, file)):
            text = f"{assignment.key} is set twice: {assignment.source} overrules {earlier.source}"
            notes.append(Note(NoteKind.WARNING, text, (assignment.key,)))
        last[assignment.key, file] = assignment
    return notes


def _files_beside(path: Path) -> list[Note]:
    of_erlang = [
        Note(NoteKind.WARNING, f"{path.parent / name} is a file of the Erlang machine and is not read")
        for name in ("advanced.config", "vm.args")
        if _is_file(path.parent / name)
    ]
    text = "{} is not read, as {} is: set STROGOFF_CONFIG to use it instead"
    of_vernemq = [
        Note(NoteKind.WARNING, text.format(path.parent / name, path))
        for name in ("vernemq.conf", "vernemq.conf.local")
        if path.name not in {"vernemq.conf", "vernemq.conf.local"} and _is_file(path.parent / name)
    ]
    return of_erlang + of_vernemq


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
