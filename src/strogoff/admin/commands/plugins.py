"""`plugin show`, `plugin enable` and `plugin disable`."""

from pathlib import Path

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, FlagKind, command
from strogoff.admin.result import CommandError, Result, Table, Text
from strogoff.broker import Broker
from strogoff.plugins.manager import PluginError

__all__ = ["COMMANDS"]

_COLUMNS = ("Plugin", "Type", "Hook(s)", "M:F/A")
_NAME = Flag("name", "the plugin", metavar="NAME")


@command(
    "plugin show",
    "Show the plugins that are on, in the order in which they are asked.",
    flags=(
        Flag("plugin", "only this one", metavar="NAME"),
        Flag("hook", "only those that serve this hook", metavar="HOOK"),
        Flag("internal", "also parts of the broker itself; there are none that are plugins", kind=FlagKind.SWITCH),
    ),
)
async def show(broker: Broker, call: Call) -> Result:
    """A row for each hook of each plugin, one for a plugin without hooks."""
    plugin, hook = call.value("plugin"), call.value("hook")
    rows = [
        (info.name, "application", name, function)
        for info in broker.plugins.show()
        for name, function in (info.hooks or {"": ""}).items()
        if plugin in ("", info.name) and hook in ("", name)
    ]
    return Result.of(Table(_COLUMNS, rows))


@command(
    "plugin enable",
    "Start a plugin.",
    description="""
It is asked after the plugins that are on already. The next start of the node starts it again, unless the
configuration says otherwise (plugins.NAME).
""",
    flags=(_NAME, Flag("path", "directory with its code, for one that is not installed", metavar="DIR")),
)
async def enable(broker: Broker, call: Call) -> Result:
    """Fails with the reason; everything is then as it was."""
    name = _required_name(call)
    path = call.value("path")
    try:
        await broker.plugins.enable(name, Path(path) if path else None)
    except PluginError as error:
        raise CommandError(f"Can't enable plugin {name}: {error}") from None
    return _done(broker, name)


@command(
    "plugin disable",
    "Stop a plugin, and all that it started.",
    description="The next start of the node leaves it off, unless the configuration says otherwise (plugins.NAME).",
    flags=(_NAME,),
)
async def disable(broker: Broker, call: Call) -> Result:
    """Fails when it is not on."""
    name = _required_name(call)
    try:
        await broker.plugins.disable(name)
    except PluginError as error:
        raise CommandError(f"Can't disable plugin {name}: {error}") from None
    return _done(broker, name)


COMMANDS = (show, enable, disable)


def _required_name(call: Call) -> str:
    name = call.value("name")
    if not name:
        raise CommandError("the plugin's name is missing: --name=NAME")
    return name


def _done(broker: Broker, name: str) -> Result:
    if not broker.plugins.is_fixed(name):
        return Result.done()
    return Result.of(Text(f"Done\nplugins.{name} stands in the configuration, which holds again after a restart"))
