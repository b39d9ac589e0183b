"""Structured logs: a sentence with fields, to the places that the `log.*` keys name, written by a thread of its own.

    log = get_logger("broker")
    log.info("listener open", listener="default", address="127.0.0.1:1883")

Who logs never waits: records go through a bounded queue to one thread that formats and writes them. When a disk or a
pipe stands still the queue fills, further records are dropped and counted, and a line says so once it moves again.
"""

import dataclasses
import logging
import queue
import sys
import threading
from collections.abc import Sequence
from typing import Any, Self, TextIO

from strogoff.observe.logfile import RotatingFile
from strogoff.observe.logformat import JsonFormatter, Layout, TextFormatter

__all__ = ["LEVELS", "LogPlan", "LogWriter", "Logger", "get_logger", "level_number"]

ROOT = "strogoff"
_TAKEN_OVER = (ROOT, "asyncio")
"""The loggers that the writer serves; what asyncio has to report are defects of ours."""

LEVELS = {
    "all": logging.NOTSET,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": 25,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "alert": 55,
    "emergency": 60,
}
"""The levels of the configuration, lowest first, as numbers of the logging module."""

QUEUE_SIZE_MAX = 10_000


def level_number(name: str) -> int:
    """The number of a level's name; a name that nobody defined counts as info."""
    return LEVELS.get(name, logging.INFO)


class Logger:
    """Writes messages with fields under one name. Cheap to make; keeps nothing."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def log(self, level: int, message: str, fields: dict[str, Any]) -> None:
        """One message at a level by its number."""
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", message, extra={"fields": fields})

    def debug(self, message: str, **fields: object) -> None:
        """What helps to find a defect."""
        self.log(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """What an operator likes to see in a quiet hour."""
        self.log(logging.INFO, message, fields)

    def notice(self, message: str, **fields: object) -> None:
        """What an operator should know without anything being wrong."""
        self.log(LEVELS["notice"], message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """What is likely to become a problem."""
        self.log(logging.WARNING, message, fields)

    def error(self, message: str, **fields: object) -> None:
        """What did not work."""
        self.log(logging.ERROR, message, fields)

    def exception(self, message: str, **fields: object) -> None:
        """What did not work, with the trace of the exception that is being handled."""
        self._logger.error("%s", message, exc_info=sys.exc_info(), extra={"fields": fields})


def get_logger(name: str) -> Logger:
    """The logger `strogoff.<name>`."""
    return Logger(logging.getLogger(f"{ROOT}.{name}"))


@dataclasses.dataclass(frozen=True, slots=True)
class LogPlan:
    """One place that log lines go to. `file`: None for the standard error stream; `place`: see `TextFormatter`."""

    level: int
    layout: Layout
    file: RotatingFile | None = None
    place: bool = True


class LogWriter:
    """The thread behind the loggers. Use it as a context: inside, records reach the places of the plans.

    `level` is the lowest level that any place gets. Raises `LogFileError` when a log file cannot be opened.
    """

    def __init__(self, plans: Sequence[LogPlan], *, level: int = logging.NOTSET, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._handlers = [self._handler(plan) for plan in plans]
        lowest = min((handler.level for handler in self._handlers), default=logging.CRITICAL + 100)
        self._level = max(level, lowest, 1)
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUE_SIZE_MAX)
        self._entrance = _Entrance(self._queue)
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)

    def __enter__(self) -> Self:
        for logger in map(logging.getLogger, _TAKEN_OVER):
            logger.setLevel(self._level)
            logger.propagate = False
            logger.addHandler(self._entrance)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for logger in map(logging.getLogger, _TAKEN_OVER):
            logger.removeHandler(self._entrance)
        self.close()

    @property
    def dropped(self) -> int:
        """Records that did not fit into the queue, since the start."""
        return self._entrance.dropped

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, as long as that takes no longer than the time given, and end the thread."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            for handler in self._handlers:
                handler.close()

    def _handler(self, plan: LogPlan) -> logging.Handler:
        handler: logging.Handler
        if plan.file is None:
            handler = logging.StreamHandler(self._stream)
            colours = self._stream.isatty()
        else:
            handler, colours = plan.file.open(), False
        text = TextFormatter(colours=colours, place=plan.place)
        handler.setFormatter(JsonFormatter() if plan.layout is Layout.JSON else text)
        handler.setLevel(plan.level)
        return handler

    def _write(self) -> None:
        told = 0
        while record := self._queue.get():
            self._handle(record)
            if self._queue.empty():
                told = self._tell_loss(told)
        self._tell_loss(told)

    def _tell_loss(self, told: int) -> int:
        """Write how many records were lost beyond those told of already; how many that makes in all."""
        dropped = self._entrance.dropped
        if dropped > told:
            self._handle(_dropped_record(dropped - told))
        return dropped

    def _handle(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno >= handler.level:
                handler.handle(record)


class _Entrance(logging.Handler):
    """Puts records into the queue without waiting; counts those that do not fit."""

    def __init__(self, waiting: "queue.Queue[logging.LogRecord | None]") -> None:
        super().__init__()
        self._waiting = waiting
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def _dropped_record(number: int) -> logging.LogRecord:
    record = logging.LogRecord(
        f"{ROOT}.log", logging.WARNING, __file__, 0, "log messages dropped: the log was written too slowly", (), None
    )
    record.fields = {"dropped": number}
    return record


for _name, _number in LEVELS.items():
    if _number:
        logging.addLevelName(_number, _name)
