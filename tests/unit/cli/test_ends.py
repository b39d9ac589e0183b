"""The second signal, and other ends of the programs that need a broker which does not stop by itself."""

import signal
import subprocess
import sys
from pathlib import Path

from broker_process import free_port

DEADLINE_S = 20.0

# A broker whose orderly stop never ends.
STUBBORN = """
import asyncio, sys
import strogoff.broker
from strogoff.cli.main import main

async def never(self):
    print("draining", flush=True)
    await asyncio.Event().wait()

strogoff.broker.Broker._go_down = never
sys.exit(main(sys.argv[1:]))
"""


def test_a_second_sigint_ends_a_stop_that_takes_too_long(tmp_path: Path) -> None:
    words = ["start", "--set", f"listener.tcp.default=127.0.0.1:{free_port()}", "--set", "log.console.level=notice"]
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            if '"ready"' in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "draining\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
        assert process.stderr.read().endswith("stopped by force\n")
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_has_seen_enough_is_no_error_message(tmp_path: Path) -> None:
    program = "import sys\nfrom strogoff.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "config", "generate"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() != ""
    process.stdout.close()
    assert process.wait(DEADLINE_S) in (0, 1)
    assert process.stderr.read() == ""
    process.stderr.close()
