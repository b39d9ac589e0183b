"""The TLS options of a listener: which files, which versions, what is asked of clients. Nothing is read here."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from strogoff.config.keys import split_key

__all__ = ["IdentityFiles", "TlsFiles", "tls_files"]

Option: TypeAlias = Callable[[str, Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class IdentityFiles:
    """A certificate (with its chain) and its private key, each by the key of the configuration that names the file."""

    certfile: Path
    keyfile: Path
    certfile_key: str
    keyfile_key: str


@dataclasses.dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a listener does about TLS. `others` are further certificates, chosen by the name that a client asks for.

    `depth`: intermediate certificates that a client may present. Empty `ciphers` and `curves`: all that are sound.
    """

    identity: IdentityFiles | None
    others: tuple[IdentityFiles, ...] = ()
    key_password: str | None = None
    cafile: Path | None = None
    crlfile: Path | None = None
    require_certificate: bool = False
    versions: tuple[str, ...] = ("tlsv1.2", "tlsv1.3")
    ciphers: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    depth: int = 1

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files, to be watched."""
        identities = [identity for identity in (self.identity, *self.others) if identity is not None]
        files = [path for identity in identities for path in (identity.certfile, identity.keyfile)]
        return tuple(dict.fromkeys([*files, *(path for path in (self.cafile, self.crlfile) if path is not None)]))


def tls_files(key: str, option: Option, assigned: Iterable[str]) -> TlsFiles:
    """The options of the listener `listener.KIND.NAME` (`key`). `option(word, otherwise)` gives one, inherited."""
    return TlsFiles(
        identity=_identity(key, option),
        others=tuple(_others(key, option, assigned)),
        key_password=option("keypasswd", None) or None,
        cafile=_path(option("cafile", "")),
        crlfile=_path(option("crlfile", "")),
        require_certificate=option("require_certificate", False),  # noqa: FBT003 - the value of a key that is not there
        versions=option("tls_version", ()),
        ciphers=tuple(word for word in (option("ciphers", "") or "").replace(",", ":").split(":") if word),
        curves=option("eccs", ()),
        depth=option("depth", 1),
    )


def _identity(prefix: str, option: Option, word: str = "") -> IdentityFiles | None:
    certfile, keyfile = _path(option(f"{word}certfile", "")), _path(option(f"{word}keyfile", ""))
    if certfile is None:
        return None
    # One file may hold both.
    return IdentityFiles(certfile, keyfile or certfile, f"{prefix}.{word}certfile", f"{prefix}.{word}keyfile")


def _others(key: str, option: Option, assigned: Iterable[str]) -> Iterable[IdentityFiles]:
    depth = len(split_key(key))
    prefix = (*split_key(key), "sni")
    labels = [words[depth + 1] for words in map(split_key, assigned) if words[: depth + 1] == prefix]
    for label in dict.fromkeys(labels):
        identity = _identity(key, option, f"sni.{label}.")
        if identity is not None:
            yield identity


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
