"""Nodes that find their cluster by themselves, as the rule sees them: a simulated start, in steps of 0.1 s.

Each node has a time at which it starts, and for each other node a time from which on it can see that one. Between them
is nothing but the rule: a node that starts alone lets others join and goes on looking, and who joins is a member at
once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from strogoff.cluster.discovery.rule import (
    Found,
    Join,
    Manner,
    Own,
    Said,
    Standing,
    StartAlone,
    Waited,
    decide,
)

STEP_S = 0.1


@dataclass(slots=True)
class Node:
    """`sees_from`: for each other name the time from which on it is found. `cluster`: 0 while it is in none."""

    name: str
    starts_at: float
    sees_from: dict[str, float]
    told_from: float = 0.0
    cluster: int = 0
    changed_at: float = 0.0
    seen: tuple[str, ...] = ()


@dataclass(slots=True)
class Start:
    """A start of several nodes. `manner`: of all of them."""

    manner: Manner
    nodes: list[Node]
    now: float = 0.0
    founders: list[str] = field(default_factory=list)

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while self.now < until_s:
            self.now = round(self.now + STEP_S, 3)
            for node in self.nodes:
                if self._members_with(node) <= 1 and node.starts_at <= self.now:
                    self._step(node)

    def clusters(self) -> set[int]:
        """Which there are; 0 among them while a node has none."""
        return {node.cluster for node in self.nodes}

    def _step(self, node: Node) -> None:
        found = self._found(node)
        seen = tuple(each.place for each in found)
        if seen != node.seen:
            node.seen, node.changed_at = seen, self.now
        told_at = max(node.starts_at, node.told_from)
        waited = Waited(
            self.now - node.starts_at,
            self.now - told_at if self.now >= told_at else None,
            self.now - max(node.changed_at, told_at),
        )
        standing = Standing.ALONE if node.cluster else Standing.NEW
        decision = decide(Own(node.name, standing, node.cluster), found, waited, self.manner)
        match decision:
            case StartAlone() if not node.cluster:
                node.cluster = 1 + len(self.founders)
                self.founders.append(node.name)
            case Join():
                node.cluster = self._named(decision.node).cluster
                assert node.cluster, "who lets others join has a cluster"

    def _found(self, node: Node) -> list[Found]:
        others = [other for other in self.nodes if other is not node]
        if self.now < node.told_from:
            return []
        found = []
        for other in others:
            answers = node.sees_from[other.name] <= self.now and other.starts_at <= self.now
            if answers:
                found.append(Found(other.name, other.name, self._said(other)))
            elif self.manner.is_complete:
                found.append(Found(other.name, other.name))
        return found

    def _members_with(self, node: Node) -> int:
        """How many are in its cluster; 0 while it is in none."""
        return sum(other.cluster == node.cluster for other in self.nodes) if node.cluster else 0

    def _said(self, node: Node) -> Said:
        if node.cluster == 0:
            return Said(node.name, Standing.NEW, 0, is_settled=False)
        members = self._members_with(node)
        standing = Standing.MEMBER if members > 1 else Standing.ALONE
        return Said(node.name, standing, node.cluster, members=members)

    def _named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


def random_start(
    seed: int, manner: Manner, name: Callable[[int], str], *, starts_within_s: float, sees_within_s: float
) -> Start:
    """Two to six nodes in any order, each with its own delays. The same for a seed each time."""
    draw = random.Random(seed)
    names = [name(number) for number in range(draw.randint(2, 6))]
    draw.shuffle(names)
    nodes = [
        Node(
            each,
            draw.uniform(0, starts_within_s),
            {other: draw.uniform(0, sees_within_s) for other in names if other != each},
            told_from=draw.choice([0.0, draw.uniform(0, sees_within_s)]),
        )
        for each in names
    ]
    if manner.expect:
        manner = replace(manner, expect=len(names))
    return Start(manner, nodes)
