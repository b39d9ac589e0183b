"""Which plugins are to be on when a node starts: what the configuration says, and what operators decided since."""

from dataclasses import dataclass
from pathlib import Path

from strogoff.config import Configuration, Origin
from strogoff.config.keys import split_key
from strogoff.observe.logging import get_logger
from strogoff.plugins.discovery import BUILT_IN
from strogoff.plugins.state import PluginState, StateFile, StateFileError

__all__ = ["Selected", "Selection"]

_log = get_logger("plugins")


@dataclass(frozen=True, slots=True)
class Selected:
    """A plugin that is to be on. `directory`: where its code is, None for one that is installed."""

    name: str
    directory: Path | None


class Selection:
    """The configuration's word goes before what operators decided: what it says, it will say at each start."""

    def __init__(self, state: StateFile) -> None:
        self._state = state

    def at_start(self, configuration: Configuration) -> list[Selected]:
        """The plugins in the order in which they are started: by `plugins.NAME.priority`, then by name."""
        wanted = {
            name: configured_directory(configuration, name)
            for name in _names(configuration)
            if configuration.get(f"plugins.{name}")
        }
        for name, state in self._remembered().items():
            if is_configured(configuration, name):
                continue
            wanted.pop(name, None)
            if state.is_enabled:
                wanted[name] = Path(state.directory) if state.directory else None
        names = sorted(wanted, key=lambda name: (_priority(configuration, name), name))
        return [Selected(name, wanted[name]) for name in names]

    def remember(self, name: str, *, is_enabled: bool, directory: Path | None) -> None:
        """Keep what an operator decided. It holds now even where it cannot be kept, which is logged."""
        state = PluginState(is_enabled, "" if directory is None else str(directory.absolute()))
        try:
            self._state.write({**self._state.read(), name: state})
        except StateFileError as error:
            _log.error("the change will be forgotten at the next start", plugin=name, reason=str(error))

    def _remembered(self) -> dict[str, PluginState]:
        try:
            return self._state.read()
        except StateFileError as error:
            _log.error("what was enabled and disabled at run time is not known", reason=str(error))
            return {}


def configured_directory(configuration: Configuration, name: str) -> Path | None:
    """`plugins.NAME.path`."""
    directory = configuration.get(f"plugins.{name}.path")
    return Path(directory) if directory else None


def is_configured(configuration: Configuration, name: str) -> bool:
    """Whether file, environment or command line say whether the plugin is on."""
    return configuration.source_of(f"plugins.{name}").origin not in {Origin.DEFAULT, Origin.BUILT_IN}


def _names(configuration: Configuration) -> list[str]:
    words = (split_key(key) for key in configuration.assigned)
    assigned = [word[1] for word in words if word[0] == "plugins" and len(word) == 2]
    return list(dict.fromkeys([*BUILT_IN, *(name for name in assigned if _is_switch(configuration, name))]))


def _is_switch(configuration: Configuration, name: str) -> bool:
    """Whether `plugins.NAME` switches a plugin that exists in this version; `plugins.hook_timeout` does not."""
    key = configuration.table[f"plugins.{name}"]
    return key.type_name == "flag" and key.is_active


def _priority(configuration: Configuration, name: str) -> float:
    priority = configuration.get(f"plugins.{name}.priority")
    return float("inf") if priority is None else float(priority)
