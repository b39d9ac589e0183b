"""What a plugin is: the class that authors derive from, and when it becomes active."""

import enum
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

from strogoff.plugins.context import PluginContext
from strogoff.plugins.settings import NoSettings

__all__ = ["Activation", "Plugin", "PluginCommand", "Rows", "command", "commands_of", "settings_model"]

Rows: TypeAlias = Sequence[Mapping[str, str | int | float | bool | None]]
"""A table: the columns are those of the first row."""

CommandFunction: TypeAlias = "Callable[[Any, Mapping[str, str]], Awaitable[str | Rows]]"
Handler = TypeVar("Handler", bound=Callable[..., Any])

_COMMAND = "_strogoff_command"


class Activation(enum.Enum):
    """The phase of the node in which a plugin is started."""

    BOOT = "boot"
    """While the node boots: what decides about clients has to be there before the first one comes."""
    READY = "ready"
    """When the node serves clients: what acts on its own, such as a bridge. It is stopped first."""


@dataclass(frozen=True, slots=True)
class PluginCommand:
    """A command of `vmq-admin` while the plugin is on. `arguments` and `flags`: names with their help texts."""

    path: str
    summary: str
    function: Callable[[Mapping[str, str]], Awaitable[str | Rows]]
    arguments: Mapping[str, str]
    required: frozenset[str]
    flags: Mapping[str, str]

    @property
    def first_word(self) -> str:
        """Where the command stands in the tree: a plugin has this word for itself."""
        return self.path.split()[0]


class Plugin:
    """A plugin. Derive from it, give it a name, and write methods with the names of hooks.

    `settings` is annotated with the plugin's own dataclass where it has settings. `context` is how it reaches the
    broker. Hooks are called only between `start` and `stop`.
    """

    name: ClassVar[str]
    """The plugin's name, which is also the first word of its configuration keys: letters, digits, `_` and `-`."""

    activation: ClassVar[Activation] = Activation.BOOT

    engine_policy: ClassVar[frozenset[str]] = frozenset()
    """Hooks that the engine decides by itself with what this plugin has compiled, where no other plugin has a say."""

    settings: Any = NoSettings()
    context: PluginContext

    def __init__(self, settings: Any = None, context: PluginContext | None = None) -> None:
        """Make a plugin that is not started; without arguments one to test with, its settings at their defaults."""
        self.settings = settings_model(type(self))() if settings is None else settings
        self.context = PluginContext(self.name) if context is None else context

    async def start(self) -> None:
        """Get ready. What it raises is told to the operator, and the plugin stays off."""

    async def stop(self) -> None:
        """Give up what `start` took. Tasks of the context have been ended."""

    async def settings_changed(self, settings: Any) -> None:
        """Take over settings that an operator has changed. What it raises refuses them; then the old ones hold."""
        self.settings = settings


def settings_model(plugin: type[Plugin]) -> type:
    """The dataclass that a plugin annotates its `settings` with; `NoSettings` when it does not."""
    annotated = typing.get_type_hints(plugin).get("settings", Any)
    if annotated is Any:
        return NoSettings
    if not isinstance(annotated, type):
        raise TypeError(f"the settings of {plugin.__name__} have to be annotated with a dataclass")
    return annotated


def command(
    path: str,
    summary: str,
    *,
    arguments: Mapping[str, str] | None = None,
    required: Sequence[str] = (),
    flags: Mapping[str, str] | None = None,
) -> Callable[[Handler], Handler]:
    """Make an `async` method a command: it gets the arguments and flags that were given and returns a text or rows.

    `arguments` are written `name=value`, `flags` `--name`; what they map to is the help text.
    """
    if not path.split():
        raise ValueError("a command needs a path, such as 'sesame words'")

    def mark(method: Handler) -> Handler:
        setattr(method, _COMMAND, (path, summary, dict(arguments or {}), frozenset(required), dict(flags or {})))
        return method

    return mark


def commands_of(plugin: Plugin) -> list[PluginCommand]:
    """The commands that a plugin declares."""
    found: list[PluginCommand] = []
    for name in dir(type(plugin)):
        declared = getattr(getattr(type(plugin), name, None), _COMMAND, None)
        if declared is not None:
            path, summary, arguments, required, flags = declared
            found.append(PluginCommand(path, summary, getattr(plugin, name), arguments, required, flags))
    return found
