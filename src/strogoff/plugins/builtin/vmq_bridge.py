"""`vmq_bridge`: runs the bridges that the configuration describes, from the moment that the node serves its clients."""

from typing import ClassVar

from strogoff.plugins.contract import Activation, Plugin

__all__ = ["BridgePlugin"]


class BridgePlugin(Plugin):
    """On: the bridges run. What they are is in `strogoff.bridge`; their keys are the broker's own."""

    name: ClassVar[str] = "vmq_bridge"
    activation: ClassVar[Activation] = Activation.READY

    async def start(self) -> None:
        """Start the bridges. Raises `ValueError` for what is configured wrongly."""
        await self.context.start_bridges()

    async def stop(self) -> None:
        """End the bridges."""
        await self.context.stop_bridges()
