"""The watermark: what each member is known to have seen of each actor. A lower bound, always.

A column is what one member said of itself, or what another member heard it say, at some time: since clocks only grow,
it stays true. It is not stored; a replica that starts again hears it again. What it decides is stored, as floors.

For an actor that left, the whole entry counts and not its base: a dot that died with it leaves a gap which nobody
will ever fill. When all members, each knowing that the actor is gone, report the same entry, nobody can learn
anything more of it.
"""

from collections.abc import Collection, Iterable, Mapping

from strogoff.cluster.swc.clock import Entry

__all__ = ["Watermark"]


class Watermark:
    """Columns by member, and of actors that left the entries that members report."""

    __slots__ = ("_turn", "columns", "reports")

    def __init__(self) -> None:
        self.columns: dict[int, dict[int, int]] = {}
        self.reports: dict[int, dict[int, Entry]] = {}
        self._turn = 0

    def keep(self, members: Collection[int]) -> None:
        """Forget what others than these said."""
        self.columns = {member: column for member, column in self.columns.items() if member in members}
        for reports in self.reports.values():
            for member in [member for member in reports if member not in members]:
                del reports[member]

    def keep_actors(self, actors: Collection[int]) -> None:
        """Forget what was said of others than these."""
        self.reports = {actor: reports for actor, reports in self.reports.items() if actor in actors}
        for member, column in self.columns.items():
            self.columns[member] = {actor: base for actor, base in column.items() if actor in actors}

    def heard(self, member: int, entries: Mapping[int, Entry], retired: Collection[int]) -> None:
        """A member told its clock, and which actors in it are no members to it."""
        column = self.columns.setdefault(member, {})
        for actor, entry in entries.items():
            column[actor] = max(column.get(actor, 0), entry[0])
            if actor in retired:
                self.reports.setdefault(actor, {})[member] = entry
            elif actor in self.reports:
                self.reports[actor].pop(member, None)

    def heard_past(self, member: int, entries: Mapping[int, Entry]) -> None:
        """A member told what it knows of actors that left for good."""
        for actor, entry in entries.items():
            self.reports.setdefault(actor, {})[member] = entry

    def heard_of(self, member: int, column: Mapping[int, int]) -> None:
        """A member told the column of another."""
        known = self.columns.setdefault(member, {})
        for actor, base in column.items():
            if base > known.get(actor, 0):
                known[actor] = base

    def stable(self, actor: int, base: int, others: Iterable[int]) -> int:
        """Up to which counter of an actor this replica, with its base, and all others have everything."""
        for member in others:
            column = self.columns.get(member)
            known = 0 if column is None else column.get(actor, 0)
            if known < base:
                base = known
                if not base:
                    break
        return base

    def agreed(self, actor: int, entry: Entry, others: Collection[int]) -> bool:
        """Whether all others have said that the actor is gone and that they have exactly this of it."""
        reports = self.reports.get(actor, {})
        return all(reports.get(member) == entry for member in others)

    def settle(self, actor: int) -> None:
        """Forget an actor that left for good."""
        self.reports.pop(actor, None)
        for column in self.columns.values():
            column.pop(actor, None)

    def some(self, count: int, actors: Collection[int], always: int | None) -> dict[int, dict[int, int]]:
        """So many columns, others the next time, with what they say of these actors. `always`: whose is among them."""
        members = [member for member in self.columns if member != always]
        if len(members) > count:
            start = self._turn % len(members)
            self._turn += count
            members = (members + members)[start : start + count]
        if always in self.columns:
            members.append(always)
        return {
            member: {actor: base for actor, base in self.columns[member].items() if base and actor in actors}
            for member in members
        }
