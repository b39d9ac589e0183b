"""What a user should know about a configuration that works: keys without effect, likely slips, what was chosen."""

import dataclasses
import enum
from collections.abc import Mapping

from strogoff.config.keys import Activity, Key
from strogoff.config.sources import Origin, Source

__all__ = ["Note", "NoteKind", "note_on_join", "notes_on_effect"]

KEYS_SHOWN_MAX = 12


class NoteKind(enum.Enum):
    """How a note is meant. `NOTICE` tells what holds without a file, `WARNING` what is probably not intended."""

    NOTICE = "notice"
    WARNING = "warning"
    NOT_ACTIVE_YET = "known, not active yet"
    DOES_NOT_APPLY = "does not apply"

    @property
    def label(self) -> str:
        """The word before the sentence. What has no effect says so itself."""
        return "warning" if self is NoteKind.WARNING else "notice"


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """One sentence, and the keys it is about."""

    kind: NoteKind
    text: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The sentence."""
        return self.text


def notes_on_effect(assigned: Mapping[str, tuple[Key, Source]]) -> list[Note]:
    """A note for each assigned key that does nothing yet, and one for all that have no meaning here."""
    notes = [
        Note(NoteKind.NOT_ACTIVE_YET, f"{name} ({source}): known, not active yet", (name,))
        for name, (key, source) in assigned.items()
        if key.activity is Activity.LATER
    ]
    idle = tuple(
        name
        for name, (key, source) in assigned.items()
        if key.activity is Activity.NEVER and source.origin is not Origin.DEFAULT
    )
    if idle:
        shown = ", ".join(idle[:KEYS_SHOWN_MAX]) + (", ..." if len(idle) > KEYS_SHOWN_MAX else "")
        subject = "1 key does" if len(idle) == 1 else f"{len(idle)} keys do"
        notes.append(Note(NoteKind.DOES_NOT_APPLY, f"{subject} not apply to Strogoff and had no effect: {shown}", idle))
    return notes


def note_on_join(policy: tuple[str, Source], prevents: tuple[bool, Source]) -> Note | None:
    """That two keys say different things about a join. Each with its value and where that came from."""
    policy_name, guard_name = "cluster.join_policy", "vmq_swc.prevent_nonempty_join"
    meant = "strict" if prevents[0] else "merge"
    if Origin.DEFAULT in {policy[1].origin, prevents[1].origin} or policy[0] == meant:
        return None
    return Note(
        NoteKind.WARNING,
        f"{policy_name} = {policy[0]} ({policy[1]}) holds, and not {guard_name} = {'on' if prevents[0] else 'off'} "
        f"({prevents[1]}), which means {meant}: remove one of them",
        (policy_name, guard_name),
    )
