"""The files of a listener's TLS, read and checked: what the engine needs, what an operator wants to know."""

import datetime
import ssl
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from strogoff._engine import LinkTls, TlsConfig
from strogoff.config import Listener
from strogoff.config.tls_files import IdentityFiles, TlsFiles
from strogoff.observe.logging import get_logger

__all__ = [
    "CertificateError",
    "CertificateInfo",
    "certificates_of",
    "engine_tls",
    "https_context",
    "link_tls",
    "stamps",
]

SIZE_MAX: Final = 16 * 1024 * 1024
"""Of one file: authorities of the whole world have less than one megabyte, long revocation lists a few."""

_VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}

_log = get_logger("tls")


class CertificateError(Exception):
    """A file that cannot be used: the message names the key, the file, and what is wrong."""


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a certificate says."""

    path: Path
    not_before: datetime.datetime
    not_after: datetime.datetime
    common_name: str
    issuer: str
    names: tuple[str, ...]


def engine_tls(listener: Listener) -> TlsConfig:
    """What the engine needs for the TLS of a listener. Raises `CertificateError`."""
    files = _files(listener)
    identities = [_identity(listener, files, identity) for identity in _identities(files)]
    try:
        return TlsConfig(
            identities=identities,
            client_ca=None if files.cafile is None else _read(f"{listener.key}.cafile", files.cafile),
            require_client_certificate=files.require_certificate,
            crl=None if files.crlfile is None else _read(f"{listener.key}.crlfile", files.crlfile),
            depth=files.depth,
            versions=files.versions,
            ciphers=files.ciphers,
            curves=files.curves,
        )
    except ValueError as error:
        raise CertificateError(f"{listener.key}: {error}") from error


def link_tls(listener: Listener) -> LinkTls:
    """What the engine needs for links to and from other nodes. Raises `CertificateError`."""
    files = _files(listener)
    if files.identity is None or files.cafile is None:
        raise CertificateError(f"{listener.key}: links with TLS need certfile and cafile")
    certificates, key, _ = _identity(listener, files, files.identity)
    try:
        return LinkTls(
            certificates=certificates,
            key=key,
            ca=_read(f"{listener.key}.cafile", files.cafile),
            crl=None if files.crlfile is None else _read(f"{listener.key}.crlfile", files.crlfile),
            depth=files.depth,
            versions=files.versions,
            ciphers=files.ciphers,
            curves=files.curves,
            handshake_timeout_ms=listener.tls_handshake_timeout,
        )
    except ValueError as error:
        raise CertificateError(f"{listener.key}: {error}") from error


def https_context(listener: Listener) -> ssl.SSLContext:
    """What the HTTP server needs for the TLS of a listener. Raises `CertificateError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = _files(listener)
    versions = [_VERSIONS[version] for version in files.versions if version in _VERSIONS]
    context.minimum_version, context.maximum_version = min(versions), max(versions)
    load_into(context, listener)
    if files.cafile is not None:
        _checked(f"{listener.key}.cafile", files.cafile, lambda: context.load_verify_locations(files.cafile))
        context.verify_mode = ssl.CERT_REQUIRED if files.require_certificate else ssl.CERT_OPTIONAL
    return context


def load_into(context: ssl.SSLContext, listener: Listener) -> None:
    """Load a listener's certificate into a context; connections to come present it. Raises `CertificateError`."""
    files = _files(listener)
    identity = files.identity
    if identity is None:
        raise CertificateError(f"{listener.key}.certfile: a listener with TLS needs a certificate")
    _warn_of_mode(identity)
    password = files.key_password or ""
    _checked(
        identity.certfile_key,
        identity.certfile,
        lambda: context.load_cert_chain(identity.certfile, identity.keyfile, lambda: password),
    )


def certificates_of(listener: Listener) -> Iterator[CertificateInfo]:
    """The certificates that a listener presents, and the authorities that it knows. Raises `CertificateError`."""
    files = _files(listener)
    named = [(identity.certfile_key, identity.certfile) for identity in _identities(files)]
    if files.cafile is not None:
        named.append((f"{listener.key}.cafile", files.cafile))
    for key, path in named:
        for certificate in _certificates(key, path, _read(key, path)):
            yield _info(path, certificate)


def stamps(files: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when one of the files does; None for one that is not there."""
    return tuple(_stamp(path) for path in files.paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _files(listener: Listener) -> TlsFiles:
    assert listener.tls is not None, "only listeners with TLS have its files"
    return listener.tls


def _identities(files: TlsFiles) -> list[IdentityFiles]:
    return [identity for identity in (files.identity, *files.others) if identity is not None]


def _identity(listener: Listener, files: TlsFiles, identity: IdentityFiles) -> tuple[bytes, bytes, list[str]]:
    pem = _read(identity.certfile_key, identity.certfile)
    certificates = _certificates(identity.certfile_key, identity.certfile, pem)
    if not certificates:
        raise CertificateError(f"{identity.certfile_key}: {identity.certfile} has no certificate in PEM form")
    _warn_of_mode(identity)
    own = _info(identity.certfile, certificates[0])
    if own.not_after < datetime.datetime.now(datetime.UTC):
        _log.warning(
            "the certificate has expired, so clients will refuse it",
            listener=listener.key,
            file=str(identity.certfile),
            expired=str(own.not_after),
        )
    return pem, _private_key(files, identity), list(own.names)


def _private_key(files: TlsFiles, identity: IdentityFiles) -> bytes:
    """The key without its password."""
    pem = _read(identity.keyfile_key, identity.keyfile)
    if b"ENCRYPTED" not in pem:
        return pem
    password = files.key_password
    if password is None:
        message = f"{identity.keyfile_key}: {identity.keyfile} is encrypted: keypasswd has to be set"
        raise CertificateError(message)
    try:
        key = serialization.load_pem_private_key(pem, password.encode())
    except (ValueError, TypeError) as error:
        message = f"{identity.keyfile_key}: {identity.keyfile} cannot be decrypted with keypasswd"
        raise CertificateError(message) from error
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _warn_of_mode(identity: IdentityFiles) -> None:
    try:
        mode = stat.S_IMODE(identity.keyfile.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        _log.warning(
            f"other users can use the private key: chmod 600 {identity.keyfile}",
            key=identity.keyfile_key,
            mode=f"{mode:04o}",
        )


def _read(key: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise CertificateError(f"{key}: {path} cannot be read: {error.strerror}") from error
    if len(content) > SIZE_MAX:
        raise CertificateError(f"{key}: {path} has more than {SIZE_MAX} bytes")
    return content


def _certificates(key: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN" not in pem:
        raise CertificateError(f"{key}: {path} has no certificate in PEM form")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError(f"{key}: {path} is not a certificate: {error}") from error


def _info(path: Path, certificate: x509.Certificate) -> CertificateInfo:
    return CertificateInfo(
        path,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        _common_name(certificate.subject),
        _common_name(certificate.issuer) or certificate.issuer.rfc4514_string(),
        _names(certificate),
    )


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def _checked(key: str, path: Path, load: "object") -> None:
    assert callable(load)
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else str(error)
        raise CertificateError(f"{key}: {path} cannot be used: {reason}") from error
