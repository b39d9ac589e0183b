"""The commands, one module a subject; each exports `COMMANDS`."""

from strogoff.admin.commands import (
    bridges,
    cluster,
    configuration,
    listeners,
    metrics,
    node,
    plugins,
    retained,
    sessions,
    store,
    tls,
)
from strogoff.admin.registry import Registry

__all__ = ["build_registry"]


def build_registry() -> Registry:
    """The tree of all commands of a node."""
    subjects = (bridges, cluster, configuration, listeners, metrics, node, plugins, retained, sessions, store, tls)
    return Registry(command for subject in subjects for command in subject.COMMANDS)
