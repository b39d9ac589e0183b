"""A plugin's own configuration: a dataclass that says which keys there are, and reading it.

A field `words: int = setting(10, minimum=1)` of the settings of the plugin `sesame` is the key `sesame.words`. Types:
`bool` (`on` or `off` in the file), `int`, `str`, `Path`, `Literal` and enums of texts, `tuple[str, ...]` (a list), each
also with `| None` for "not set". `kind` names one of the configuration's own types instead: `bytesize`, `duration`,
`span`, `address` (see `strogoff.config.values`). A field `door: dict[str, Door]` with a second dataclass makes keys
`sesame.door.NAME.field` with names that the user chooses; with `setting({}, direct=True)` they are `sesame.NAME.field`.
"""

import dataclasses
import enum
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from strogoff.config import Activity, Configuration, Key, Relevance
from strogoff.config.keys import split_key
from strogoff.config.values import type_named

__all__ = ["NoSettings", "SettingsError", "keys_of", "read_settings", "setting"]

_METADATA = "strogoff"
_GROUP = "$name"

Model = TypeVar("Model")


class SettingsError(Exception):
    """The settings of a plugin lack something. `problems`: key and sentence."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{key}: {text}" for key, text in problems.items()))
        self.problems = dict(problems)


@dataclasses.dataclass(frozen=True, slots=True)
class NoSettings:
    """The settings of a plugin that has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Declared:
    documentation: str = ""
    minimum: int | None = None
    maximum: int | None = None
    kind: str | None = None
    is_secret: bool = False
    is_runtime_settable: bool = False
    is_direct: bool = False


def setting(
    default: Any = dataclasses.MISSING,
    *,
    documentation: str = "",
    minimum: int | None = None,
    maximum: int | None = None,
    kind: str | None = None,
    secret: bool = False,
    runtime: bool = False,
    direct: bool = False,
) -> Any:
    """Declare a field of a plugin's settings. Without `default` the key has to be set.

    `secret` keeps the value out of all that is shown; `runtime` lets `vmq-admin set` change it, which the plugin is
    told by `settings_changed`; `direct` leaves the name of a field for groups out of their keys.
    """
    declared = _Declared(documentation, minimum, maximum, kind, secret, runtime, direct)
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata={_METADATA: declared})
    return dataclasses.field(default=default, metadata={_METADATA: declared})


def keys_of(plugin: str, model: type) -> list[Key]:
    """The keys that a settings class stands for. Raises `TypeError` for a field of a type that no key can have."""
    return [_key(name, field, hint) for name, field, hint in _fields(plugin, model)]


def read_settings(plugin: str, model: type[Model], configuration: Configuration) -> Model:
    """The settings as the configuration gives them. Raises `SettingsError` for keys that have to be set and are not."""
    missing: dict[str, str] = {}
    values = _read(plugin, model, configuration, missing)
    if missing:
        raise SettingsError(missing)
    return model(**values)


def _read(prefix: str, model: type, configuration: Configuration, missing: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(model)
    for field in _dataclass_fields(model):
        hint = hints[field.name]
        if group := _group(hint):
            values[field.name] = _read_group(_above(prefix, field), group, configuration, missing)
            continue
        name = f"{prefix}.{field.name}"
        value = configuration.get(name)
        if value is None and configuration.text_of(name) is None:
            default = _default(field)
            if default is dataclasses.MISSING:
                missing[name] = "has to be set"
                values[field.name] = None
            else:
                values[field.name] = default
        else:
            values[field.name] = _converted(value, hint)
    return values


def _read_group(prefix: str, model: type, configuration: Configuration, missing: dict[str, str]) -> dict[str, Any]:
    depth = len(split_key(prefix))
    above = split_key(prefix)
    names = dict.fromkeys(
        words[depth]
        for words in map(split_key, configuration.assigned)
        if len(words) == depth + 2 and words[:depth] == above
    )
    return {name: model(**_read(f"{prefix}.{name}", model, configuration, missing)) for name in names}


def _fields(prefix: str, model: type) -> Iterator[tuple[str, "dataclasses.Field[Any]", Any]]:
    hints = typing.get_type_hints(model)
    for field in _dataclass_fields(model):
        hint = hints[field.name]
        if group := _group(hint):
            yield from _fields(f"{_above(prefix, field)}.{_GROUP}", group)
        else:
            yield f"{prefix}.{field.name}", field, hint


def _above(prefix: str, field: "dataclasses.Field[Any]") -> str:
    """What stands in the keys of a group before the name that the user chooses."""
    return prefix if _declared(field).is_direct else f"{prefix}.{field.name}"


def _dataclass_fields(model: type) -> tuple["dataclasses.Field[Any]", ...]:
    if not dataclasses.is_dataclass(model):
        raise TypeError(f"{model.__name__} is no dataclass, so it cannot be the settings of a plugin")
    return dataclasses.fields(model)


def _group(hint: Any) -> type | None:
    """The model behind `dict[str, Model]`."""
    arguments = typing.get_args(hint)
    is_group = typing.get_origin(hint) is dict and len(arguments) == 2 and dataclasses.is_dataclass(arguments[1])
    return arguments[1] if is_group else None


def _declared(field: "dataclasses.Field[Any]") -> _Declared:
    declared = field.metadata.get(_METADATA, _Declared())
    assert isinstance(declared, _Declared)
    return declared


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _key(name: str, field: "dataclasses.Field[Any]", hint: Any) -> Key:
    declared = _declared(field)
    type_name = declared.kind or _type_name(name, hint, declared)
    try:
        type_named(type_name)
    except ValueError as error:
        raise TypeError(f"{name}: {error}") from None
    default = _default(field)
    return Key(
        name=name,
        type_name="secret" if declared.is_secret else type_name,
        default=None if default is dataclasses.MISSING or default is None else _text(default),
        is_inherited=False,
        activity=Activity.CONTROL,
        relevance=Relevance.STROGOFF,
        is_runtime_settable=declared.is_runtime_settable,
        is_hidden=True,
        documentation=declared.documentation or "A setting of a plugin.",
    )


def _type_name(name: str, hint: Any, declared: _Declared) -> str:
    hint = _without_none(hint)
    if hint is int:
        low = "" if declared.minimum is None else str(declared.minimum)
        high = "" if declared.maximum is None else str(declared.maximum)
        if high and not low:
            raise TypeError(f"{name}: a maximum needs a minimum")
        return f"integer({low}..{high})" if low else "integer"
    if typing.get_origin(hint) is typing.Literal:
        return f"enum({','.join(str(word) for word in typing.get_args(hint))})"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return f"enum({','.join(str(member.value) for member in hint)})"
    if typing.get_origin(hint) is tuple and typing.get_args(hint) == (str, ...):
        return "words"
    simple: dict[Any, str] = {bool: "flag", str: "string", Path: "file"}
    if hint not in simple:
        raise TypeError(f"{name}: a setting cannot have the type {hint!r}; name the configuration's type with kind=")
    return simple[hint]


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [part for part in typing.get_args(hint) if part is not types.NoneType]
        if len(others) == 1:
            return others[0]
    return hint


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return "[" + ",".join(str(item) for item in value) + "]"
    return str(value)


def _converted(value: Any, hint: Any) -> Any:
    hint = _without_none(hint)
    if hint is Path:
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    return value
