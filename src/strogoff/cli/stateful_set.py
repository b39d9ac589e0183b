"""What Kubernetes wants of the StatefulSet that this pod belongs to: whether the pod goes for good, or comes back."""

import http.client
import json
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Account", "Pod", "StatefulSet", "UndecidedError", "ask_for_set", "members_before", "pod_of", "why_gone"]

ACCOUNT_DIRECTORY: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
ANSWER_TIMEOUT_S: Final = 5.0
_POD_NAMES: Final = ("MY_POD_NAME", "POD_NAME", "HOSTNAME")
_NAMESPACES: Final = ("MY_POD_NAMESPACE", "POD_NAMESPACE")
_OF_SET: Final = re.compile(r"(?P<set>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)-(?P<ordinal>[0-9]{1,9})")


class UndecidedError(Exception):
    """Kubernetes could not be asked; the message says why and what to do. `is_lasting`: asking again is of no use."""

    def __init__(self, message: str, *, is_lasting: bool = True) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a StatefulSet: the set's name, and the number that the pod has in it."""

    of_set: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class StatefulSet:
    """How many pods are wanted, and the number of the first one. `is_going`: it is deleted, or gone already."""

    replicas: int
    first_ordinal: int = 0
    is_going: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Where the API is and who asks: address, port, and the directory with token, certificates and namespace."""

    host: str
    port: int
    namespace: str
    directory: Path

    @classmethod
    def of_pod(cls, variables: Mapping[str, str], directory: Path | None = None) -> "Account":
        """What Kubernetes has put into the pod. Raises `UndecidedError`."""
        directory = directory or ACCOUNT_DIRECTORY
        host, port = variables.get("KUBERNETES_SERVICE_HOST"), variables.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not port.isdigit():
            raise UndecidedError("this is no pod of Kubernetes: KUBERNETES_SERVICE_HOST is not set")
        namespace = next((variables[name] for name in _NAMESPACES if variables.get(name)), None)
        return cls(host, int(port), namespace or _read(directory / "namespace"), directory)


def pod_of(variables: Mapping[str, str]) -> Pod:
    """Which pod this is. Raises `UndecidedError`."""
    name = next((variables[name] for name in _POD_NAMES if variables.get(name)), "")
    match = _OF_SET.fullmatch(name)
    if match is None:
        raise UndecidedError(
            f"{name[:80]!r} is no name of a pod of a StatefulSet: set MY_POD_NAME to metadata.name by a fieldRef"
        )
    return Pod(match["set"], int(match["ordinal"]))


def why_gone(pod: Pod, wanted: StatefulSet) -> str | None:
    """Why the pod will not come back, in words; None when it will, or when everything is put to rest with its data.

    No pods at all is a pause: the last one could give its sessions to nobody. A set that is deleted leaves its volumes.
    """
    end = wanted.first_ordinal + wanted.replicas
    if wanted.is_going or wanted.replicas == 0 or wanted.first_ordinal <= pod.ordinal < end:
        return None
    return f"the StatefulSet {pod.of_set} has {wanted.replicas} replicas, and this is its pod {pod.ordinal}"


def members_before(pod: Pod, wanted: StatefulSet, members: Iterable[str]) -> list[str]:
    """Of the members (NAME@POD.DOMAIN) those that shall leave before this one: pods that go too, with higher numbers.

    Kubernetes may end all of them at once. A node that leaves gives its sessions to others, which had better stay.
    """
    found: dict[int, str] = {}
    for member in members:
        match = _OF_SET.fullmatch(member.partition("@")[2].partition(".")[0])
        if match is None or match["set"] != pod.of_set or int(match["ordinal"]) <= pod.ordinal:
            continue
        other = Pod(match["set"], int(match["ordinal"]))
        if why_gone(other, wanted) is not None:
            found[other.ordinal] = member
    return [found[ordinal] for ordinal in sorted(found)]


def ask_for_set(account: Account, name: str) -> StatefulSet:
    """Ask the API for a StatefulSet. Raises `UndecidedError`."""
    token, certificates = _read(account.directory / "token"), account.directory / "ca.crt"
    path = f"/apis/apps/v1/namespaces/{account.namespace}/statefulsets/{name}"
    try:
        context = ssl.create_default_context(cafile=str(certificates))
        connection = http.client.HTTPSConnection(account.host, account.port, timeout=ANSWER_TIMEOUT_S, context=context)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
            response = connection.getresponse()
            body = response.read(ANSWER_BYTES_MAX)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        reason = f"the API of Kubernetes at {account.host}:{account.port} does not answer: {error}"
        raise UndecidedError(reason, is_lasting=False) from None
    return _read_answer(response.status, body, account, name)


def _read_answer(status: int, body: bytes, account: Account, name: str) -> StatefulSet:
    match status:
        case 200:
            return _read_set(body, name)
        case 404:
            return StatefulSet(0, is_going=True)
        case 401 | 403:
            raise UndecidedError(
                f"the service account of this pod may not read the StatefulSet {name} in {account.namespace} "
                f"(status {status}): let its role get statefulsets, as the chart does with rbac.create"
            )
        case _:
            raise UndecidedError(f"the API of Kubernetes answers with status {status}", is_lasting=False)


def _read_set(body: bytes, name: str) -> StatefulSet:
    try:
        found: Any = json.loads(body)
        spec = found["spec"]
        return StatefulSet(
            int(spec.get("replicas", 1)),
            int((spec.get("ordinals") or {}).get("start", 0)),
            "deletionTimestamp" in found["metadata"],
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UndecidedError(
            f"what the API of Kubernetes says of the StatefulSet {name} cannot be read: {error!r}"
        ) from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UndecidedError(
            f"{path} cannot be read, so Kubernetes is not asked: {error}; give the pod a service account and its token"
        ) from None
