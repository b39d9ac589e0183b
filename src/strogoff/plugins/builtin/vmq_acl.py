"""`vmq_acl`: what clients may publish and subscribe, by the rules of a file."""

import asyncio
import dataclasses
from pathlib import Path
from typing import ClassVar, Final

from strogoff._engine import AccessList, PublishRequest, SubscribeRequest
from strogoff.plugins.builtin.rule_file import RuleFile, RuleFileError
from strogoff.plugins.contract import Plugin
from strogoff.plugins.settings import setting
from strogoff.plugins.verdict import NEXT, OK, Answer

__all__ = ["AccessRules", "AclSettings"]

SHIPPED_FILE: Final = Path("./etc/vmq.acl")
SHIPPED_RULES: Final = b"topic #\n"
"""What VerneMQ's packages have in the file of that name: everybody may do everything."""


@dataclasses.dataclass(frozen=True, slots=True)
class AclSettings:
    """The keys `vmq_acl.*`."""

    acl_file: Path = setting(SHIPPED_FILE)
    acl_reload_interval: int = setting(10)


class AccessRules(Plugin):
    """Allows what a rule allows; about the rest it says nothing, so that another plugin may allow it."""

    name: ClassVar[str] = "vmq_acl"
    engine_policy: ClassVar[frozenset[str]] = frozenset({"auth_on_publish", "auth_on_subscribe"})
    settings: AclSettings

    async def start(self) -> None:
        """Read the file. Raises `RuleFileError` for one that was named and cannot be read."""
        self._rules, _ = AccessList.parse(b"")
        self._watching: asyncio.Task[None] | None = None
        await self._begin(self.settings)

    async def settings_changed(self, settings: AclSettings) -> None:
        """Read the other file; the old one stays in force when that fails."""
        await self._begin(settings)
        self.settings = settings

    def auth_on_publish(self, request: PublishRequest) -> Answer:
        """Whether a rule allows the topic."""
        is_allowed = self._rules.may_publish(request.mountpoint, request.client_id, request.username, request.topic)
        return OK if is_allowed else NEXT

    def auth_on_subscribe(self, request: SubscribeRequest) -> Answer:
        """Whether rules allow all filters."""
        who = (request.mountpoint, request.client_id, request.username)
        is_allowed = all(self._rules.may_subscribe(*who, topic_filter) for topic_filter, _ in request.filters)
        return OK if is_allowed else NEXT

    async def _begin(self, settings: AclSettings) -> None:
        file = RuleFile(settings.acl_file, self.context.log, self._use)
        try:
            await file.load()
        except RuleFileError as error:
            if settings.acl_file != SHIPPED_FILE:
                raise
            text = (
                "everybody may publish and subscribe everything: vmq_acl.acl_file is not set and its default not there"
            )
            self.context.log.notice(text, file=str(SHIPPED_FILE), reason=str(error))
            self._use(SHIPPED_RULES)
        if self._watching is not None:
            self._watching.cancel()
        if settings.acl_reload_interval > 0:
            self._watching = self.context.create_task(file.watch(settings.acl_reload_interval), name="acl file")

    def _use(self, content: bytes) -> list[str]:
        self._rules, remarks = AccessList.parse(content)
        self.context.set_access_list(self._rules)
        return remarks
