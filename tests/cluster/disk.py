"""A simulated store: what is written is there after a crash, unless the power went."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Disk:
    """A store that keeps batches in memory until they are synced."""

    synced: dict[bytes, bytes] = field(default_factory=dict)
    batches: list[list[tuple[bytes, bytes | None]]] = field(default_factory=list)

    def write(self, batch: list[tuple[bytes, bytes | None]]) -> None:
        if batch:
            self.batches.append(batch)

    def sync(self) -> None:
        for batch in self.batches:
            for key, value in batch:
                if value is None:
                    self.synced.pop(key, None)
                else:
                    self.synced[key] = value
        self.batches.clear()

    def lose(self, kept: int) -> bool:
        """Lose what is behind so many batches; whether anything is lost."""
        lost = len(self.batches) > kept
        del self.batches[kept:]
        self.sync()
        return lost

    def rows(self) -> list[tuple[bytes, bytes]]:
        self.sync()
        return sorted(self.synced.items())
