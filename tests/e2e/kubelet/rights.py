"""Who may ask the API for what: roles and their bindings, as manifests give them to service accounts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from e2e.kubelet.manifests import Manifest


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants: a verb, the group and kind of objects, and the name of one, or empty for all."""

    verb: str
    group: str
    resource: str
    name: str = ""


@dataclass(slots=True)
class Rights:
    """Roles and bindings of one namespace."""

    _roles: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    _bindings: dict[str, tuple[str, list[str]]] = field(default_factory=dict)

    def read(self, manifest: Manifest) -> None:
        """Take a Role or a RoleBinding."""
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "Role":
            self._roles[name] = list(manifest.get("rules") or ())
        else:
            subjects = manifest.get("subjects") or ()
            accounts = [subject["name"] for subject in subjects if subject["kind"] == "ServiceAccount"]
            self._bindings[name] = (manifest["roleRef"]["name"], accounts)

    def may(self, account: str, request: Request) -> bool:
        """Whether one of the account's roles has a rule for it."""
        return any(
            _allows(rule, request)
            for role, accounts in self._bindings.values()
            if account in accounts
            for rule in self._roles.get(role, ())
        )


def _allows(rule: Mapping[str, Any], request: Request) -> bool:
    names = rule.get("resourceNames")
    return (
        request.verb in rule["verbs"]
        and request.group in rule["apiGroups"]
        and request.resource in rule["resources"]
        and (not names or request.name in names)
    )
