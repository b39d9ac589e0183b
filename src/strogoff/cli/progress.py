"""A line on a terminal that says how far something is, and is gone when it is done. Pipes and files get none of it."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from strogoff.admin.render import printable

__all__ = ["progress_line"]

_CLEARED = "\r\x1b[K"


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """Gives a function that shows a text in place of the former one."""
    shown = ""

    def tell(text: str) -> None:
        nonlocal shown
        if text != shown and sys.stderr.isatty():
            print(f"{_CLEARED}{printable(text)}", end="", file=sys.stderr, flush=True)
            shown = text

    try:
        yield tell
    finally:
        if shown:
            print(_CLEARED, end="", file=sys.stderr, flush=True)
