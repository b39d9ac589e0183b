"""The limit of open files, which each connection takes one of."""

import resource

from strogoff.observe.logging import get_logger

__all__ = ["raise_descriptor_limit"]

DESCRIPTORS_RESERVED = 128
"""Files and sockets that are not connections of clients."""

_log = get_logger("broker")


def raise_descriptor_limit(connections_max: int | None) -> None:
    """Raise the limit of open files as far as the system lets it, and warn when it is less than the connections need.

    `connections_max`: of all listeners together, None for no limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files could not be raised", limit=soft, wanted=hard, reason=str(error))
    if connections_max is None or soft == resource.RLIM_INFINITY or soft >= connections_max + DESCRIPTORS_RESERVED:
        return
    _log.warning(
        "fewer files may be open than max_connections allows clients: raise the limit (ulimit -n, LimitNOFILE=)",
        limit=soft,
        max_connections=connections_max,
        needed=connections_max + DESCRIPTORS_RESERVED,
    )
