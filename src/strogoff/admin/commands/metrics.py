"""`metrics show` and `metrics reset`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, FlagKind, Reach, command
from strogoff.admin.result import CommandError, Result, Table, Text
from strogoff.broker import Broker
from strogoff.observe.metrics import Series, aggregated, matching

__all__ = ["COMMANDS", "lines"]


@command(
    "metrics show",
    "Show the metrics of this node, or of others with --node.",
    description="--LABEL=VALUE selects the series with that label, such as --mqtt_version=5 or --reason_code=success.",
    flags=(
        Flag("with-descriptions", "a line of explanation before each", short="d", kind=FlagKind.SWITCH),
        Flag("aggregate", "true (default): sum over all labels; false: a line for each", short="a", metavar="BOOL"),
        Flag("node", "of all nodes, or of the one that is named; the node is a label then", kind=FlagKind.FIELD),
    ),
    any_flag="--LABEL=VALUE",
    reach=Reach.NODES_ASKED_FOR,
)
async def show(broker: Broker, call: Call) -> Result:
    """One line a series."""
    declared = ("with-descriptions", "aggregate", "node")
    labels = [(name, value or "") for name, value in call.flags if name not in declared]
    series = broker.metrics.snapshot()
    _check_labels(series, labels)
    selected = matching(series, labels)
    if _aggregate(call):
        selected = aggregated(selected)
    if any(name == "node" for name, _ in call.flags):
        selected = [replace(row, labels={**row.labels, "node": broker.node_name}) for row in selected]
    text = "\n".join(lines(selected, with_descriptions=call.switch("with-descriptions")))
    return Result.of(Text(text, _table(selected))) if selected else Result()


@command("metrics reset", "Set the counters of this node to 0.")
async def reset(broker: Broker, _call: Call) -> Result:
    """Gauges, and what counts since the start of the process, stay."""
    broker.engine.reset_metrics()
    broker.counters.reset()
    return Result.done()


COMMANDS = (show, reset)


def lines(series: Iterable[Series], *, with_descriptions: bool) -> list[str]:
    """`counter.name = value`; labels, where there are any, in brackets after the name."""
    text = []
    for row in series:
        if with_descriptions:
            text.append(f"# {row.description}")
        labels = _labels(row)
        text.append(f"{row.kind}.{row.name}{f'[{labels}]' if labels else ''} = {row.value}")
    return text


def _table(series: Iterable[Series]) -> Table:
    return Table(("name", "type", "labels", "value"), [(row.name, row.kind, _labels(row), row.value) for row in series])


def _labels(row: Series) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(row.labels.items()))


def _check_labels(series: Sequence[Series], labels: Sequence[tuple[str, str]]) -> None:
    known = {name for row in series for name in row.labels}
    for name, _ in labels:
        if name not in known:
            raise CommandError(f"no metric has the label '{name}': known are {', '.join(sorted(known)) or 'none'}")


def _aggregate(call: Call) -> bool:
    text = call.value("aggregate", "true")
    if text not in ("true", "false"):
        raise CommandError(f"--aggregate={text}: expected true or false")
    return text == "true"
