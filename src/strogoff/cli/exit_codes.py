"""How the programs end: the numbers that scripts and service managers look at."""

import enum

__all__ = ["ExitCode"]


class ExitCode(enum.IntEnum):
    """The exit codes of `strogoff` and `vmq-admin`."""

    OK = 0
    """Done; for `start`: stopped as asked."""
    FAILED = 1
    """The command did not work, or a check found something; standard error says what."""
    USAGE = 2
    """The command line is not understood."""
    CONFIGURATION = 3
    """The configuration has errors."""
    START_FAILED = 4
    """The node cannot start: an address or the data directory is in use, the store is damaged, the system refuses."""
    REMOVED = 5
    """The node was taken out of its cluster while it was away. Its next start puts its state away and begins empty."""
    FORCED = 130
    """A second signal ended the node before its orderly stop was done."""
