"""A listener that an operator describes by options: checked by the same types as those of the file."""

from collections.abc import Mapping
from typing import Any

from strogoff.config.addresses import read_address
from strogoff.config.errors import ConfigError, Problem
from strogoff.config.keys import key_table
from strogoff.config.listeners import Listener, listener_of, problems_of_listeners
from strogoff.config.settings import Configuration, problem_of_unknown_key
from strogoff.config.sources import Origin, Source
from strogoff.config.values import INHERIT, NotOfTypeError

__all__ = ["listener_from_options"]

RUNTIME = Source(Origin.RUNTIME)


def listener_from_options(
    configuration: Configuration, kind: str, address: str, port: int, options: Mapping[str, str]
) -> Listener:
    """A listener with these options, by their names; what is not named is as for the listeners of its kind.

    Its name is made from its address. `address` is one that is bound to, or `local:PATH`. Raises `ConfigError` with
    everything that is wrong.
    """
    name = f"{address}_{port}".replace(".", "_").replace(":", "_").replace("/", "_")
    key = f"listener.{kind}.{name}"
    problems: list[Problem] = []
    given: dict[str, Any] = {}
    for word, text in options.items():
        row = key_table().find(f"{key}.{word}")
        if row is None:
            problems.append(problem_of_unknown_key(f"listener.{kind}.NAME.{word}"))
            continue
        try:
            value = row.type.read(text).value
        except NotOfTypeError as error:
            problems.append(Problem("", str(error), word))
            continue
        if value is not INHERIT:
            given[f"{key}.{word}"] = value
    text = f"{address}:0" if address.startswith("local:") else _with_port(address, port)
    try:
        endpoint = read_address(text)
    except ValueError as error:
        problems.append(Problem("", str(error), "address"))
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)

    def get(wanted: str) -> Any:
        return given[wanted] if wanted in given else configuration.get(wanted)

    listener = listener_of(kind, name, endpoint, get, RUNTIME)
    if found := problems_of_listeners([listener], get):
        raise ConfigError(found)
    return listener


def _with_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address and not address.startswith("[") else f"{address}:{port}"
