"""What the engine has to tell, into the log. A flood of it, as from clients that break the protocol, is cut off."""

import time
from collections.abc import Callable, Mapping

from strogoff.observe.logging import Logger, level_number

__all__ = ["BURST_MAX", "LINES_PER_S", "EngineLog"]

LINES_PER_S = 100.0
BURST_MAX = 1_000.0
"""Lines that may come at once after a quiet time."""

_KEEP_ALIVE_TIMEOUT = "0x8D"
_WARNING, _INFO = level_number("warning"), level_number("info")


class EngineLog:
    """Writes the engine's log events. `clock`: seconds, monotonic.

    `keep_alive_as_warning`: the key `logging.keepalive_as_warning`; off makes a client that fell silent an information.
    """

    __slots__ = ("_clock", "_logger", "_tokens", "_untold", "_updated", "keep_alive_as_warning", "suppressed")

    def __init__(
        self, logger: Logger, *, keep_alive_as_warning: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._clock = clock
        self._tokens = BURST_MAX
        self._updated = clock()
        self._untold = 0
        self.keep_alive_as_warning = keep_alive_as_warning
        self.suppressed = 0

    def write(self, level: str, message: str, fields: Mapping[str, str]) -> None:
        """One event; counted in `suppressed` instead when there are too many."""
        if not self._may_write():
            self._untold += 1
            self.suppressed += 1
            return
        if self._untold:
            self._logger.warning("more was left out of the log: the engine had too much to tell", number=self._untold)
            self._untold = 0
        self._logger.log(self._level(level, fields), message, dict(fields))

    def _level(self, level: str, fields: Mapping[str, str]) -> int:
        number = level_number(level)
        is_silence = number == _WARNING and fields.get("reason_code") == _KEEP_ALIVE_TIMEOUT
        return _INFO if is_silence and not self.keep_alive_as_warning else number

    def _may_write(self) -> bool:
        now = self._clock()
        self._tokens = min(BURST_MAX, self._tokens + (now - self._updated) * LINES_PER_S)
        self._updated = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
