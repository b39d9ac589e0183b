"""Counters of the control plane: few, named by what was counted, with labels where one number would not do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from strogoff.observe.metrics import Series

__all__ = ["Counters"]

SERIES_A_NAME_MAX = 1_000
"""Labels come from names in the configuration; should they ever come from elsewhere, memory stays bounded."""


@dataclass(slots=True)
class Counters:
    """Counts by name and labels. `descriptions` declares the names; one that is not declared is a defect."""

    descriptions: Mapping[str, str]
    _values: dict[str, dict[tuple[tuple[str, str], ...], int]] = field(default_factory=dict)

    def add(self, name: str, count: int = 1, **labels: str) -> None:
        """Count something."""
        assert name in self.descriptions, f"{name} is not declared"
        values = self._values.setdefault(name, {})
        key = tuple(sorted(labels.items()))
        if key in values or len(values) < SERIES_A_NAME_MAX:
            values[key] = values.get(key, 0) + count

    def reset(self) -> None:
        """Set all to 0."""
        self._values.clear()

    def series(self) -> list[Series]:
        """A series for each name and labels that were counted, and one with 0 for a name that was not."""
        return [
            Series(name, "counter", value, description, dict(labels))
            for name, description in self.descriptions.items()
            for labels, value in (self._values.get(name) or {(): 0}).items()
        ]
