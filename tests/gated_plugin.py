"""A plugin that holds a node in the phase `booting` until a file is there."""

from pathlib import Path

from broker_process import Setting

__all__ = ["write_gated_plugin"]

SOURCE = """\
import asyncio
import pathlib

from strogoff.plugins import Plugin


class Gated(Plugin):
    name = "gated"

    async def start(self):
        while not pathlib.Path({gate!r}).exists():
            await asyncio.sleep(0.01)
"""


def write_gated_plugin(directory: Path, gate: Path) -> dict[str, Setting]:
    """Write it; returns the settings that switch it on. A node with them starts when `gate` exists."""
    (directory / "gated.py").write_text(SOURCE.format(gate=str(gate)))
    return {"plugins.gated": True, "plugins.gated.path": str(directory)}
