"""Who decides a hook: Python's chain, or the engine by itself with rules that a plugin has compiled."""

from collections.abc import Iterable, Mapping
from typing import Final, TypedDict

from strogoff._engine import AccessList, Engine, PasswordTable
from strogoff.plugins.chain import EVERYBODY, Chains

__all__ = ["AccessControl"]


class _Deciders(TypedDict):
    register: str
    publish: str
    subscribe: str


INHERITED: Final = _Deciders(register="inherit", publish="inherit", subscribe="inherit")


class AccessControl:
    """Keeps the engine's deciders and policies as the plugins want them.

    The engine has room for one list of rules and one table of passwords: those of the first plugin that brings some.
    Where another plugin with rules of its own decides, its Python side is asked.
    """

    def __init__(self, engine: Engine, chains: Chains) -> None:
        self._engine = engine
        self._chains = chains
        self._policies: Mapping[str, frozenset[str]] = {}
        self._access_lists: dict[str, AccessList] = {}
        self._passwords: dict[str, PasswordTable] = {}

    def set_access_list(self, plugin: str, access_list: AccessList) -> None:
        """Exchange a plugin's rules; the next packet is checked by them."""
        self._access_lists[plugin] = access_list
        self._set_policy()

    def set_passwords(self, plugin: str, passwords: PasswordTable) -> None:
        """Exchange a plugin's passwords; the next CONNECT is checked by them."""
        self._passwords[plugin] = passwords
        self._set_policy()

    def forget(self, plugin: str) -> None:
        """Give up what a plugin has compiled."""
        had_rules = self._access_lists.pop(plugin, None) is not None
        had_passwords = self._passwords.pop(plugin, None) is not None
        if had_rules or had_passwords:
            self._set_policy()

    def apply(self, listeners: Iterable[str], policies: Mapping[str, frozenset[str]]) -> None:
        """Tell the engine who decides, for the node and for each listener that chooses. `policies`: by plugin."""
        self._policies = policies
        self._engine.set_access(**self._deciders(""))
        for listener in listeners:
            chooses = self._chains.choices.get(listener, EVERYBODY) != EVERYBODY
            self._engine.set_access(**(self._deciders(listener) if chooses else INHERITED), listener=listener)

    def _set_policy(self) -> None:
        access_list = next(iter(self._access_lists.values()), None)
        passwords = next(iter(self._passwords.values()), None)
        self._engine.set_policy(access_list=access_list, passwords=passwords)

    def _deciders(self, listener: str) -> _Deciders:
        return _Deciders(
            register=self._decider("auth_on_register", listener, next(iter(self._passwords), "")),
            publish=self._decider("auth_on_publish", listener, next(iter(self._access_lists), "")),
            subscribe=self._decider("auth_on_subscribe", listener, next(iter(self._access_lists), "")),
        )

    def _decider(self, hook: str, listener: str, owner: str) -> str:
        links = self._chains.links(hook, listener)
        if not links:
            return "closed"
        is_policy = [link.plugin for link in links] == [owner] and hook in self._policies.get(owner, frozenset())
        return "policy" if is_policy else "hook"
