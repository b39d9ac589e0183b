"""Strogoff: a clustered MQTT broker, a drop-in replacement for VerneMQ."""

__all__ = ["version"]


def version() -> str:
    """The version of the installed package, which is also the engine's.

    A source tree that is on the path without being installed has none and says so.
    """
    # Here, since it costs a quarter of the time in which vmq-admin starts, and most commands do not ask.
    from importlib import metadata  # noqa: PLC0415

    try:
        return metadata.version("strogoff")
    except metadata.PackageNotFoundError:
        return "0.0.0+not-installed"
