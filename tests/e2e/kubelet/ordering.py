"""What a stateful set does next: which pods are made and which are ended, given those that there are.

It follows the controller of Kubernetes: first the replicas in order, then those that are too many from the highest on,
then the update, from the highest ordinal down, one pod at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from e2e.kubelet.manifests import StatefulSet


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod as the controller sees it.

    `is_ready`: it runs and is ready. `is_available`: and has been for as long as is wanted (None: as `is_ready`).
    `has_failed`: it will never run again.
    """

    revision: str
    is_ready: bool
    is_ending: bool = False
    has_failed: bool = False
    is_available: bool | None = None

    @property
    def is_settled(self) -> bool:
        """Whether others need not wait for it any more."""
        return (self.is_ready if self.is_available is None else self.is_available) and not self.is_ending


@dataclass(frozen=True, slots=True)
class Create:
    """Make the pod of an ordinal, of a revision of the template."""

    ordinal: int
    is_former: bool = False
    """Of the template before the update: it is below the partition."""


@dataclass(frozen=True, slots=True)
class Delete:
    """End the pod of an ordinal."""

    ordinal: int


def next_steps(
    stateful_set: StatefulSet, pods: Mapping[int, Seen], *, is_update_complete: bool
) -> list[Create | Delete]:
    """`is_update_complete`: all pods had the revision of the template before, so that there is none but it."""
    steps: list[Create | Delete] = []
    for ordinal in range(stateful_set.replicas):
        pod = pods.get(ordinal)
        if pod is None:
            steps.append(Create(ordinal, is_former=ordinal < stateful_set.partition and not is_update_complete))
        elif pod.has_failed and not pod.is_ending:
            steps.append(Delete(ordinal))
        elif pod.is_settled:
            continue
        if not stateful_set.is_parallel:
            return steps
    if steps:
        return steps
    condemned = sorted((ordinal for ordinal in pods if ordinal >= stateful_set.replicas), reverse=True)
    if condemned and not stateful_set.is_parallel:
        return _one_at_a_time(condemned, pods)
    steps += [Delete(ordinal) for ordinal in condemned if not pods[ordinal].is_ending]
    if steps or not stateful_set.is_rolling:
        return steps
    return _update(stateful_set, pods)


def _one_at_a_time(condemned: list[int], pods: Mapping[int, Seen]) -> list[Create | Delete]:
    """The highest, unless it is on its way already. One that is not ready waits for nobody but is the first to go."""
    highest = condemned[0]
    if pods[highest].is_ending:
        return []
    unready = [ordinal for ordinal in condemned if not pods[ordinal].is_ready]
    if unready and not pods[highest].is_ready and highest != min(unready):
        return []
    return [Delete(highest)]


def _update(stateful_set: StatefulSet, pods: Mapping[int, Seen]) -> list[Create | Delete]:
    for ordinal in range(stateful_set.replicas - 1, stateful_set.partition - 1, -1):
        pod = pods[ordinal]
        if pod.revision != stateful_set.template.revision and not pod.is_ending:
            return [Delete(ordinal)]
        if not pod.is_settled:
            return []
    return []
