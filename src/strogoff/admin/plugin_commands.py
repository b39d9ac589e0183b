"""The commands that plugins bring, as commands of the tree."""

from collections.abc import Iterable

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Argument, Command, Flag, FlagKind
from strogoff.admin.result import CommandError, Result, Table, Text
from strogoff.broker import Broker
from strogoff.plugins.contract import PluginCommand, Rows

__all__ = ["commands_of_plugins"]


def commands_of_plugins(commands: Iterable[PluginCommand]) -> list[Command]:
    """The commands of plugins as commands of the tree."""
    return [_command_of(declared) for declared in commands]


def _command_of(declared: PluginCommand) -> Command:
    async def run(_broker: Broker, call: Call) -> Result:
        given = dict(call.arguments) | {name: "true" for name, _ in call.flags if call.switch(name)}
        try:
            answer = await declared.function(given)
        except ValueError as error:
            raise CommandError(str(error)) from None
        return Result.of(Text(answer) if isinstance(answer, str) else _table(answer))

    arguments = tuple(
        Argument(name, text, required=name in declared.required) for name, text in declared.arguments.items()
    )
    flags = tuple(Flag(name, text, kind=FlagKind.SWITCH) for name, text in declared.flags.items())
    return Command(tuple(declared.path.split()), declared.summary, run, arguments=arguments, flags=flags)


def _table(rows: Rows) -> Table:
    columns = tuple(rows[0]) if rows else ()
    return Table(columns, [tuple(row.get(column) for column in columns) for row in rows])
