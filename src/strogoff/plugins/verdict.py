"""What a hook answers: `NEXT`, `OK`, a refusal, or (made by the request itself) acceptance with changes."""

import enum
from typing import Final, TypeAlias

from strogoff._engine import Verdict

__all__ = ["NEXT", "OK", "Answer", "Next", "ReasonCode", "Verdict", "deny"]


class Next(enum.Enum):
    """The answer of a plugin that does not decide: the next one of the chain is asked."""

    NEXT = "next"


NEXT: Final = Next.NEXT

OK: Final[Verdict] = Verdict.allow()
"""Accept as it is. To accept with changes, let the request make the verdict: `request.accept(topic=...)`."""

Answer: TypeAlias = Verdict | Next | None
"""What a deciding hook returns. None, which is what a function without `return` gives, means `NEXT`."""


class ReasonCode(enum.IntEnum):
    """Reasons for a refusal, by MQTT 5's names (MQTT 5, section 2.4). 3.x clients get what their version has for it."""

    UNSPECIFIED_ERROR = 0x80
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    BAD_AUTHENTICATION_METHOD = 0x8C
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    QUOTA_EXCEEDED = 0x97
    PAYLOAD_FORMAT_INVALID = 0x99
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    CONNECTION_RATE_EXCEEDED = 0x9F


def deny(
    reason: int = ReasonCode.NOT_AUTHORIZED, reason_string: str | None = None, *, server_reference: str | None = None
) -> Verdict:
    """Refuse. `reason`: a `ReasonCode`, or any code of 0x80 and above; the texts go to MQTT 5 clients.

    `server_reference` belongs to `USE_ANOTHER_SERVER` and `SERVER_MOVED`. Raises `ValueError` for a code below 0x80.
    """
    if server_reference is None:
        return Verdict.deny(int(reason), reason_string)
    return Verdict.deny(int(reason), reason_string, server_reference=server_reference)
