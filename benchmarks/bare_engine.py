# ruff: noqa: INP001 - programs of this folder are run by path
"""The engine without the broker around it: nobody decides about clients, so nothing is checked. For comparison."""

import signal
import sys
from pathlib import Path

from strogoff._engine import Engine


def main() -> None:
    """Serve on the port that the file names until SIGTERM. `--version` says what this is."""
    if sys.argv[1] == "--version":
        print("engine without access control")  # noqa: T201 - a program
        return
    engine = Engine({"allow_anonymous": True, "max_inflight_messages": 1000, "max_online_messages": 100_000})
    engine.start()
    engine.open_listener("default", "tcp", "127.0.0.1", int(Path(sys.argv[1]).read_text()), max_connections=19_000)
    signal.sigwait({signal.SIGTERM})
    engine.stop()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
