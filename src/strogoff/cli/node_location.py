"""Which node a program talks to: the data directory that `--data-dir`, `--config` or the environment leads to."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NodeLocation", "NodeLocationError", "split_location"]


class NodeLocationError(Exception):
    """The options do not say which node; the message says what they lack."""


@dataclass(frozen=True, slots=True)
class NodeLocation:
    """What the command line said about the node. Nothing at all means the environment, then the default place."""

    config: Path | None = None
    data_directory: Path | None = None

    def resolve(self, environment: Mapping[str, str] = os.environ) -> Path:
        """The node's data directory. Raises `strogoff.config.ConfigError` for a configuration that cannot be read."""
        if self.data_directory is not None:
            return self.data_directory
        # Only now: a program that is told the directory starts without reading the table of keys.
        from strogoff.config import load  # noqa: PLC0415
        from strogoff.plugins.names import without_plugin_keys  # noqa: PLC0415

        return load(self.config, environment=environment, extend=without_plugin_keys).data_directory


def split_location(words: Sequence[str]) -> tuple[NodeLocation, list[str]]:
    """Take `--config FILE` and `--data-dir DIR` out of a command line, wherever they stand; the rest stays in order.

    Raises `NodeLocationError` when a value is missing.
    """
    given: dict[str, str] = {}
    rest: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name not in ("--config", "--data-dir"):
            rest.append(word)
            continue
        if not equals:
            value = next(left, "")
        if not value:
            raise NodeLocationError(f"{name}: expected a path after it")
        given[name] = value
    config, directory = given.get("--config"), given.get("--data-dir")
    return NodeLocation(Path(config) if config else None, Path(directory) if directory else None), rest
