"""`vmq_passwd`: who may connect, by the users and passwords of a file and of the configuration."""

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from strogoff._engine import PasswordTable, RegisterRequest, hash_password
from strogoff.plugins.builtin.rule_file import RuleFile, RuleFileError
from strogoff.plugins.contract import Plugin
from strogoff.plugins.settings import setting
from strogoff.plugins.verdict import NEXT, OK, Answer, ReasonCode, deny

__all__ = ["PasswordSettings", "Passwords"]

SHIPPED_FILE: Final = Path("./etc/vmq.passwd")
WRONG_PASSWORD: Final = deny(ReasonCode.BAD_USER_NAME_OR_PASSWORD)


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """The keys `vmq_passwd.user.NAME.*`."""

    password: str = setting(secret=True)


@dataclasses.dataclass(frozen=True, slots=True)
class PasswordSettings:
    """The keys `vmq_passwd.*`."""

    password_file: Path = setting(SHIPPED_FILE)
    password_reload_interval: int = setting(10)
    user: dict[str, User] = setting({})


class Passwords(Plugin):
    """Accepts users of the file with their passwords and refuses them without; strangers are for other plugins."""

    name: ClassVar[str] = "vmq_passwd"
    engine_policy: ClassVar[frozenset[str]] = frozenset({"auth_on_register"})
    settings: PasswordSettings

    async def start(self) -> None:
        """Read the file. Raises `RuleFileError` for one that was named and cannot be read."""
        self._users, _ = PasswordTable.parse(b"")
        self._watching: asyncio.Task[None] | None = None
        # What is kept is the hash, as for the file, and it is made once: it takes tens of milliseconds.
        self._configured = await asyncio.to_thread(_lines_of, self.settings.user)
        await self._begin(self.settings)

    async def settings_changed(self, settings: PasswordSettings) -> None:
        """Read the other file; the old one stays in force when that fails."""
        await self._begin(settings)
        self.settings = settings

    async def auth_on_register(self, request: RegisterRequest) -> Answer:
        """Whether the password is the user's."""
        username, password = request.username, request.password
        if username is not None and self._users.is_slow(username):
            is_right = await asyncio.to_thread(self._users.check, username, password)
        else:
            is_right = self._users.check(username, password)
        if is_right is None:
            return NEXT
        return OK if is_right else WRONG_PASSWORD

    async def _begin(self, settings: PasswordSettings) -> None:
        file = RuleFile(settings.password_file, self.context.log, self._use)
        try:
            await file.load()
        except RuleFileError as error:
            if settings.password_file != SHIPPED_FILE:
                raise
            known = len(self.settings.user)
            self.context.log.info("there is no password file", users_of_the_configuration=known, reason=str(error))
            self._use(b"")
        if self._watching is not None:
            self._watching.cancel()
        if settings.password_reload_interval > 0:
            work = file.watch(settings.password_reload_interval)
            self._watching = self.context.create_task(work, name="password file")

    def _use(self, content: bytes) -> list[str]:
        self._users, remarks = PasswordTable.parse(content.rstrip(b"\n") + b"\n" + self._configured)
        self.context.set_passwords(self._users)
        return remarks


def _lines_of(users: Mapping[str, User]) -> bytes:
    r"""Lines of a password file. In a key the dot of a name is written as `\.`."""
    hashes = {name.replace(r"\.", "."): hash_password(user.password.encode()) for name, user in users.items()}
    return "".join(f"{name}:{hashed}\n" for name, hashed in hashes.items()).encode()
