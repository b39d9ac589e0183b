"""`set`, `show`, `describe` and `config show`: the configuration of the running node."""

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, FlagKind, Reach, command
from strogoff.admin.result import CommandError, Result, Table, Text, Value
from strogoff.broker import Broker
from strogoff.config import ConfigError, Configuration, change, describe, show

__all__ = ["COMMANDS"]

_WHERE = (
    Flag("node", "on this node instead of the one that is asked", short="n", metavar="NODE"),
    Flag("all", "on all nodes of the cluster", short="a", kind=FlagKind.SWITCH),
)


@command(
    "set",
    "Change keys of the running node.",
    description="""
Values are written as in the configuration file. All are changed, or none. Nothing is written to disk: a restart
returns to the file. Sessions that exist keep the limits they were given.
""",
    flags=_WHERE,
    any_argument="KEY=VALUE",
    reach=Reach.NODES_ASKED_FOR,
)
async def set_keys(broker: Broker, call: Call) -> Result:
    """Fails with everything that is wrong, and then changes nothing."""
    if not call.arguments:
        raise CommandError("'set' needs KEY=VALUE: see 'describe KEY' for what a key accepts")
    changes = dict(call.arguments)
    try:
        await broker.change_configuration(change(broker.configuration, changes))
    except (ConfigError, ValueError) as error:
        raise CommandError(str(error)) from None
    if call.switch("all"):
        return Result.of(Table(("Node", "Node Down/Unreachable", "Result"), [(broker.node_name, False, "ok")]))
    lines = [f'"{key}" set to {_shown(broker.configuration, key)}' for key in changes]
    return Result.of(Text("\n".join(lines)))


@command("show", "Show keys of the running node.", flags=_WHERE, words="KEY", reach=Reach.NODES_ASKED_FOR)
async def show_keys(broker: Broker, call: Call) -> Result:
    """One row with the node and a column for each key."""
    keys = tuple(dict.fromkeys(call.words))
    if not keys:
        raise CommandError("'show' needs KEY: 'config show' shows all")
    row = (broker.node_name, *(_value(broker.configuration, key) for key in keys))
    return Result.of(Table(("node", *keys), [row]))


@command("describe", "Say what keys mean, what they accept, and what they are now.", words="KEY")
async def describe_keys(broker: Broker, call: Call) -> Result:
    """A paragraph for each key."""
    if not call.words:
        raise CommandError("'describe' needs KEY")
    try:
        texts = [
            f"{describe(key, broker.configuration.table)}\n  now:     {_shown(broker.configuration, key)}"
            for key in call.words
        ]
    except ConfigError as error:
        raise CommandError(str(error)) from None
    return Result.of(Text("\n\n".join(texts)))


@command(
    "config show",
    "Show all keys that act, their values, and where each value comes from.",
    flags=(Flag("only-set", "leave out what stands at its default", kind=FlagKind.SWITCH),),
    words="KEY",
)
async def show_all(broker: Broker, call: Call) -> Result:
    """A row for each key."""
    try:
        found = show(broker.configuration, call.words, only_set=call.switch("only-set"))
    except ConfigError as error:
        raise CommandError(str(error)) from None
    return Result.of(Table(("key", "value", "source"), [(row.key, row.value, str(row.source)) for row in found]))


COMMANDS = (set_keys, show_keys, describe_keys, show_all)


def _value(configuration: Configuration, key: str) -> Value:
    """A key's value: numbers and flags as such, a secret hidden, everything else as the file writes it."""
    shown = _shown(configuration, key)
    if configuration.table[key].is_secret:
        return shown
    value = configuration.get(key)
    return value if isinstance(value, bool | int) else shown


def _shown(configuration: Configuration, key: str) -> str:
    try:
        (row,) = show(configuration, [key])
    except ConfigError as error:
        raise CommandError(str(error)) from None
    return row.value
