"""Numbers with units: byte sizes, durations, and the time spans of sessions."""

import math
import re
from decimal import Decimal

__all__ = ["SPAN_SECONDS_MAX", "bytes_of", "duration_ms_of", "span_seconds_of"]

SPAN_SECONDS_MAX = 100 * 366 * 86_400
"""The longest session or will delay in seconds: a hundred years. More means as much."""

_POWERS_OF_1024 = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4}

_MS_PER_UNIT = {
    "f": 14 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}

_SECONDS_PER_UNIT = {"w": 7 * 86_400, "d": 86_400, "h": 3_600, "min": 60, "s": 1}

_OLD_SECONDS_PER_UNIT = {"y": 48 * 7 * 86_400, "m": 4 * 7 * 86_400}
"""VerneMQ's years and months. They stand alone, since `m` in `1h30m` would look like minutes."""


def bytes_of(text: str) -> int:
    """Bytes of `512`, `64KB`, `64 KiB`, `1g`: units in any case, all powers of 1024. Raises `ValueError`."""
    match = re.fullmatch(r"\+?([0-9]{1,19})\s*([kmgt]?)(i?b)?", text.lower())
    if not match or (match[3] == "ib" and not match[2]):
        raise ValueError("units are KB, MB, GB and TB" if re.match(r"[0-9]", text) else "")
    return int(match[1]) << 10 * _POWERS_OF_1024[match[2]]


def duration_ms_of(text: str) -> int:
    """Milliseconds of a sum of parts such as `1h30m`, `1.5s`, rounded up; `m` is minutes. Raises `ValueError`."""
    total = Decimal(0)
    for number, unit in _parts(text, r"[0-9]{1,12}(?:\.[0-9]{1,9})?"):
        if unit not in _MS_PER_UNIT:
            raise ValueError(f"{unit!r} is not a unit; units are f (fortnight), w, d, h, m, s and ms")
        total += Decimal(number) * _MS_PER_UNIT[unit]
    return math.ceil(total)


def span_seconds_of(text: str) -> int:
    """Seconds of `90s`, `30min`, `1h30min`, `2d`, `1w`; `1m` and `1y` are VerneMQ's 28 and 336 days.

    Larger units come first and none twice. Above `SPAN_SECONDS_MAX` it is that. Raises `ValueError`.
    """
    parts = _parts(text, r"[0-9]{1,12}")
    if len(parts) == 1 and parts[0][1] in _OLD_SECONDS_PER_UNIT:
        number, unit = parts[0]
        return min(int(number) * _OLD_SECONDS_PER_UNIT[unit], SPAN_SECONDS_MAX)
    total, smaller_than = 0, math.inf
    for number, unit in parts:
        if unit in _OLD_SECONDS_PER_UNIT:
            raise ValueError("m and y mean 28 and 336 days and stand alone; minutes are min, as in 1h30min")
        if unit not in _SECONDS_PER_UNIT:
            raise ValueError(f"{unit!r} is not a unit; units are s, min, h, d and w")
        if _SECONDS_PER_UNIT[unit] >= smaller_than:
            raise ValueError("larger units come first, each once")
        smaller_than = _SECONDS_PER_UNIT[unit]
        total += int(number) * smaller_than
    return min(total, SPAN_SECONDS_MAX)


def _parts(text: str, number: str) -> list[tuple[str, str]]:
    if not re.fullmatch(rf"(?:{number}[a-z]{{1,5}}){{1,8}}", text):
        raise ValueError("a number and its unit, without blanks" if re.match(r"[0-9]", text) else "")
    return re.findall(rf"({number})([a-z]+)", text)
