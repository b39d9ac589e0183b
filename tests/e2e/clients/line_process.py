"""A client program in a process of its own, whose standard output is read line by line while it runs."""

import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from e2e.clients.connection import DEADLINE_S


class LineProcess:
    """Runs `command`; each line of its output goes to `take`, in a thread. Its errors are in the file `errors`."""

    def __init__(self, command: Sequence[str], take: Callable[[str], None], errors: Path) -> None:
        self._errors = errors
        with errors.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout, take), daemon=True)
        self._reader.start()

    def write(self, line: str) -> None:
        """Send a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def terminate(self) -> None:
        """SIGTERM, on which a client says DISCONNECT."""
        self._process.terminate()
        self._end()

    def kill(self) -> None:
        """SIGKILL: the system closes the connection, the client says nothing."""
        self._process.kill()
        self._end()

    def next_of(self, arrived: "queue.Queue[str]", what: str) -> str:
        """The next item of a queue that `take` fills. A program that has ended fills nothing, so it ends the wait."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                return arrived.get(timeout=0.5 if self._reader.is_alive() else 0)
            if not self._reader.is_alive() and arrived.empty():
                raise RuntimeError(f"{what} did not come: the client has ended\n{self._complaints()}")
        raise TimeoutError(f"{what} not within {DEADLINE_S:g} s\n{self._complaints()}")

    def _complaints(self) -> str:
        return self._errors.read_text(errors="replace")

    def _end(self) -> None:
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    @staticmethod
    def _read(output: IO[str], take: Callable[[str], None]) -> None:
        for line in output:
            take(line.rstrip("\n"))
