"""`cluster show`, `cluster join` and `cluster leave`: who belongs to the cluster, and how that changes."""

from datetime import UTC, datetime

from strogoff._engine import PeerInfo
from strogoff.admin.arguments import Call
from strogoff.admin.commands.node import holdings_table
from strogoff.admin.registry import Argument, Flag, FlagKind, command
from strogoff.admin.result import CommandError, Result, Table, Text, Value
from strogoff.broker import Broker
from strogoff.cluster.guard.outcome import Outlook
from strogoff.cluster.guard.policy import Course, Policy
from strogoff.cluster.joining import ClusterError
from strogoff.cluster.leaving import SUMMARY_INTERVAL_S, TIMEOUT_S
from strogoff.cluster.node import Link, MemberView, PeerView
from strogoff.phases import Phase

__all__ = ["COMMANDS"]

COLUMNS = ("Node", "Running", "link", "phase", "link_back", "behind", "lag_ms", "held_bytes", "since", "error")
SECONDS_MAX = 86_400.0


@command(
    "cluster show",
    "Show the nodes of the cluster.",
    description="""
link: how this node reaches it, since when, and what is in the way; link_back: how it reaches this node.
behind: writes of this node to the metadata that it has not got yet.
lag_ms: how long the oldest messages of QoS 1 and 2 for it have waited that it has not acknowledged. held_bytes: of all
messages that wait for it.
What a node does not say of itself within 2 seconds stays empty.
""",
)
async def show(broker: Broker, _call: Call) -> Result:
    """A row for each member; a node without peers is a cluster of one."""
    notes: list[str] = []
    said = await broker.cluster.ask_members(lambda node, why: notes.append(f"{node} says nothing of itself: {why}"))
    phase = broker.phases.current
    links = {info.name: info for info in broker.engine.peers()}
    own = ("self", phase.value, *("",) * (len(COLUMNS) - 4))
    rows: list[tuple[Value, ...]] = [
        _row(view, said.get(view.member.name), links.get(view.member.name), phase) for view in broker.cluster.show()
    ]
    return Result.of(Table(COLUMNS, rows or [(broker.node_name, phase is not Phase.STOPPED, *own)]), notes=notes)


@command(
    "cluster join",
    "Join the cluster that a node belongs to.",
    description="""
The command runs on the node that is to join, and ends when it belongs to the cluster and has its metadata. If it is
refused, nothing has changed on either side.
--policy says what becomes of what this node holds and the cluster does not know: strict refuses to join while there is
something of clients or administrators; merge makes it part of the cluster, and archives it first; reset archives it and
joins empty. Where the node has to start again for that it says so, and the join goes on by itself.
--dry-run tells what this node holds, what a join would do with it, and what the other node says, and changes nothing.
""",
    arguments=(Argument("discovery-node", "a node of the cluster, NAME@HOST or NAME@HOST:PORT", required=True),),
    flags=(
        Flag("policy", "strict, merge or reset (cluster.join_policy)", metavar="POLICY"),
        Flag("dry-run", "say what would come of it, and change nothing", kind=FlagKind.SWITCH),
    ),
    is_lasting=True,
)
async def join(broker: Broker, call: Call) -> Result:
    """`Done` once the metadata of the cluster is here."""
    target, joining, policy = call.required("discovery-node"), broker.cluster.joining, _policy(call)
    try:
        if call.switch("dry-run"):
            return _outlook(broker.node_name, await joining.look(target, policy=policy))
        joined = await joining.join(target, policy=policy)
    except ClusterError as error:
        raise CommandError(str(error)) from None
    return Result.of(Text(joined.text))


def _policy(call: Call) -> Policy | None:
    text = call.value("policy")
    try:
        return Policy(text) if text else None
    except ValueError:
        raise CommandError(f"--policy={text}: expected {', '.join(policy.value for policy in Policy)}") from None


_COURSES = {
    Course.REFUSE: "refuse to join",
    Course.JOIN: "join",
    Course.BEGIN_ANEW: "start again with empty metadata, and join then",
    Course.RESET: "start again, archive its store, and join empty",
}


def _outlook(node: str, outlook: Outlook) -> Result:
    """What would come of a join."""
    peer = outlook.peer
    rows: list[tuple[Value, ...]] = [
        ("reached", peer.is_reached),
        ("cluster", peer.cluster),
        ("members", ",".join(peer.members)),
        ("version", peer.version),
        ("would let it in", peer.is_reached and not peer.problem),
        ("problem", outlook.problem or peer.problem),
        (f"with {outlook.policy.value} this node would", _COURSES[outlook.course]),
    ]
    return Result.of(holdings_table(outlook.inventory), Table((peer.name, f"to {node}"), rows))


@command(
    "cluster leave",
    "Take a node out of the cluster.",
    description="""
A node that can be reached lets nobody in any more. With -k its clients are disconnected, its sessions go to the other
nodes with all that waits for them, it is taken out, and stops. If something is in the way, what has gone has gone:
give the command again. What waits on a node that cannot be reached stays on its disk.
""",
    arguments=(Argument("node", "the node, NAME@HOST", required=True),),
    flags=(
        Flag("kill_sessions", "disconnect its clients and hand its sessions over", short="k", kind=FlagKind.SWITCH),
        Flag("summary-interval", "seconds between two lines that tell how far it is (5)", short="i", metavar="SECONDS"),
        Flag("timeout", "seconds in which its clients have to be gone (60)", short="t", metavar="SECONDS"),
    ),
    is_lasting=True,
)
async def leave(broker: Broker, call: Call) -> Result:
    """`Done` once the other members are told."""
    name = call.required("node")
    link = next((view.link for view in broker.cluster.show() if view.member.name == name), Link.DOWN)
    try:
        if link is Link.DOWN:
            await broker.cluster.removal.remove(name)
            return Result.of(Text("Done"))
        done = await broker.leaving.leave(
            name,
            kills_sessions=call.switch("kill_sessions"),
            tell=call.tell,
            interval_s=_seconds(call, "summary-interval", SUMMARY_INTERVAL_S),
            timeout_s=_seconds(call, "timeout", TIMEOUT_S),
        )
    except ClusterError as error:
        raise CommandError(str(error)) from None
    return Result.of(Text(done))


def _seconds(call: Call, flag: str, default: float) -> float:
    text = call.value(flag, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= SECONDS_MAX:
        raise CommandError(f"--{flag}={text}: expected seconds, 0 to {SECONDS_MAX:g}")
    return seconds


COMMANDS = (show, join, leave)


def _row(view: MemberView, said: PeerView | None, link: PeerInfo | None, phase: Phase) -> tuple[Value, ...]:
    of_peer: tuple[Value, ...] = ("", "", "") if said is None else (said.phase, said.link, said.behind)
    if view.link is Link.SELF:
        of_peer = (phase.value, "", "")
    waiting: tuple[Value, ...] = ("", "") if link is None else (link.oldest_age_ms, link.held_bytes)
    since = datetime.fromtimestamp(view.since, UTC).isoformat(timespec="seconds") if view.since else ""
    is_running = view.link is not Link.DOWN
    return (view.member.name, is_running, view.link.value, *of_peer, *waiting, since, view.error)
