"""What the environment of a container is: its own variables, those of maps and secrets, and those of services."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from e2e.kubelet.manifests import Container, Manifest, ManifestError, Service

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z0-9_.-]+)\)")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_NO_NAME = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What a pod is told about itself."""

    name: str
    namespace: str
    uid: str
    address: str
    node: str
    service_account: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def field(self, path: str) -> str:
        """The value of a `fieldRef`. Raises `ManifestError`."""
        plain = {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "metadata.uid": self.uid,
            "status.podIP": self.address,
            "status.podIPs": self.address,
            "status.hostIP": self.address,
            "spec.nodeName": self.node,
            "spec.serviceAccountName": self.service_account,
        }
        if path in plain:
            return plain[path]
        keyed = _KEYED.fullmatch(path)
        if keyed is None:
            raise ManifestError(f"fieldRef: the stand-in does not know {path}")
        return {"labels": self.labels, "annotations": self.annotations}[keyed[1]].get(keyed[2], "")


@dataclass(slots=True)
class Data:
    """Config maps and secrets by their names, each with its entries."""

    maps: dict[str, dict[str, bytes]] = field(default_factory=dict)
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def read(self, manifest: Manifest) -> None:
        """Take a manifest of either kind."""
        plain = {key: text.encode() for key, text in (manifest.get("stringData") or {}).items()}
        entries = manifest.get("data") or {}
        if manifest["kind"] == "Secret":
            decoded = {key: base64.b64decode(text, validate=True) for key, text in entries.items()}
            self.secrets[manifest["metadata"]["name"]] = decoded | plain
        else:
            binary = {key: base64.b64decode(text) for key, text in (manifest.get("binaryData") or {}).items()}
            self.maps[manifest["metadata"]["name"]] = {key: text.encode() for key, text in entries.items()} | binary

    def entries(self, kind: str, name: str, *, is_optional: bool = False) -> dict[str, bytes]:
        """Of a `configMap` or a `secret`. Raises `ManifestError` if it is missing."""
        found = (self.secrets if kind == "secret" else self.maps).get(name)
        if found is None and not is_optional:
            raise ManifestError(f"there is no {kind} {name}")
        return found or {}


def environment_of(
    container: Container, facts: PodFacts, data: Data, services: Mapping[str, str] | None = None
) -> dict[str, str]:
    """All variables that the manifest gives to a container; later ones win. Raises `ManifestError`."""
    variables = dict(services or {})
    for source in container.env_from:
        variables |= _all_of(source, data)
    for entry in container.env:
        name = entry["name"]
        value = _looked_up(entry["valueFrom"], facts, data) if "valueFrom" in entry else entry.get("value", "")
        if value is None:
            continue
        variables[name] = value if "valueFrom" in entry else expanded(str(value), variables)
    return variables


def _all_of(source: Manifest, data: Data) -> dict[str, str]:
    for kind, reference in (("configMap", source.get("configMapRef")), ("secret", source.get("secretRef"))):
        if reference is not None:
            entries = data.entries(kind, reference["name"], is_optional=bool(reference.get("optional")))
            return {source.get("prefix", "") + key: value.decode() for key, value in entries.items()}
    raise ManifestError(f"envFrom: the stand-in does not know {', '.join(source)}")


def _looked_up(source: Manifest, facts: PodFacts, data: Data) -> str | None:
    """None: it is missing, and may be."""
    if "fieldRef" in source:
        return facts.field(source["fieldRef"]["fieldPath"])
    for kind, field_name in (("configMap", "configMapKeyRef"), ("secret", "secretKeyRef")):
        if field_name in source:
            reference = source[field_name]
            is_optional = bool(reference.get("optional"))
            entries = data.entries(kind, reference["name"], is_optional=is_optional)
            if reference["key"] in entries:
                return entries[reference["key"]].decode()
            if is_optional:
                return None
            raise ManifestError(f"the {kind} {reference['name']} has no key {reference['key']}")
    raise ManifestError(f"valueFrom: the stand-in does not know {', '.join(source)}")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where there is such a variable, `$$` by one dollar sign, all else as it is."""
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0]), text)


def service_links(services: Sequence[tuple[Service, str]]) -> dict[str, str]:
    """Variables that tell where services are which have an address, as each container of their namespace gets them."""
    variables: dict[str, str] = {}
    for service, address in services:
        if service.is_headless or not service.ports:
            continue
        prefix = _NO_NAME.sub("_", service.name.upper())
        variables[f"{prefix}_SERVICE_HOST"] = address
        first = service.ports[0]
        variables[f"{prefix}_SERVICE_PORT"] = str(first.number)
        variables[f"{prefix}_PORT"] = f"tcp://{address}:{first.number}"
        for port in service.ports:
            if port.name:
                variables[f"{prefix}_SERVICE_PORT_{_NO_NAME.sub('_', port.name.upper())}"] = str(port.number)
            base = f"{prefix}_PORT_{port.number}_{port.protocol}"
            variables[base] = f"{port.protocol.lower()}://{address}:{port.number}"
            variables[f"{base}_PROTO"] = port.protocol.lower()
            variables[f"{base}_PORT"] = str(port.number)
            variables[f"{base}_ADDR"] = address
    return variables
