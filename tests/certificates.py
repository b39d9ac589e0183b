"""A certificate authority for tests: issues certificates, revokes them, and writes what a broker and its clients need.

Keys are made once per kind and shared where a test does not care, since making an RSA key costs a second.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KeyKind: TypeAlias = Literal["ec", "rsa"]
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and those that lead to the root."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def certificate_pem(self) -> bytes:
        """The certificate and its chain."""
        return b"".join(each.public_bytes(PEM) for each in (self.certificate, *self.chain))

    @property
    def key_pem(self) -> bytes:
        """The private key, not encrypted."""
        return self.encrypted_key_pem(None)

    @property
    def der(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def encrypted_key_pem(self, password: str | None) -> bytes:
        """The private key, encrypted where there is a password."""
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password.encode())
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)

    def write(self, directory: Path, name: str, *, password: str | None = None) -> tuple[Path, Path]:
        """Write `NAME.crt` and `NAME.key`, which its owner alone may read; the two paths."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        certificate.write_bytes(self.certificate_pem)
        key.write_bytes(self.encrypted_key_pem(password))
        key.chmod(0o600)
        return certificate, key


class CertificateAuthority:
    """An authority with a root of its own."""

    def __init__(self, common_name: str = "Strogoff Test CA", *, issuer: "CertificateAuthority | None" = None) -> None:
        self._issuer = issuer
        self.key = make_key("ec")
        self.name = subject(common_name)
        self._revoked: list[int] = []
        self.certificate = self._sign_own()

    def _sign_own(self) -> x509.Certificate:
        issuer = self._issuer or self
        builder = draft(self.name, issuer.name, self.key, days=(-1, 365)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        return builder.add_extension(usage, critical=True).sign(issuer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(PEM)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What has to be presented so that the root is reached; nothing for a root."""
        return () if self._issuer is None else (self.certificate, *self._issuer.chain)

    def issue(
        self,
        common_name: str | None,
        names: Sequence[str] = (),
        *,
        client: bool = False,
        days: int = 30,
        key: KeyKind = "ec",
    ) -> Issued:
        """A certificate for a server with these names (addresses too), or for a client. `days` < 0: it has expired."""
        private = make_key(key)
        first, last = (-1, days) if days >= 0 else (days - 10, days)
        builder = draft(subject(common_name), self.name, private, days=(first, last))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general(name) for name in names]), critical=False
            )
        return Issued(builder.sign(self.key, hashes.SHA256()), private, self.chain)

    def issue_for_node(self, host: str, *more: str) -> Issued:
        """A certificate for both ends of links, since a node is both. `more`: names beside that of its host."""
        key = make_key("ec")
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = draft(subject(host), self.name, key, days=(-1, 30)).add_extension(both, critical=False)
        names = [general(name) for name in (host, *more)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key, self.chain)

    def revoke(self, *issued: Issued) -> None:
        """Have them stand in the lists that are made from now on."""
        self._revoked.extend(each.certificate.serial_number for each in issued)

    def revocation_list(self, *, days: int = 30) -> bytes:
        """All that is revoked, PEM. `days` < 0: a list that is out of date."""
        now = datetime.datetime.now(datetime.UTC)
        last = now + datetime.timedelta(days=min(days, 0) - 1)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(last)
        builder = builder.next_update(now + datetime.timedelta(days=days))
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        for serial in self._revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(last).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)

    def write(self, directory: Path, name: str = "ca") -> Path:
        """Write `NAME.crt`."""
        path = directory / f"{name}.crt"
        path.write_bytes(self.pem)
        return path


_rsa_keys: list[rsa.RSAPrivateKey] = []


def make_key(kind: KeyKind) -> PrivateKey:
    """A private key: P-256, or RSA of 2048 bits, of which there is one."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if not _rsa_keys:
        _rsa_keys.append(rsa.generate_private_key(65_537, 2_048))
    return _rsa_keys[0]


def subject(common_name: str | None) -> x509.Name:
    """A distinguished name, with a common name where there is one."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Strogoff")]
    if common_name is not None:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def draft(name: x509.Name, issuer: x509.Name, key: PrivateKey, *, days: tuple[int, int]) -> x509.CertificateBuilder:
    """What all certificates have."""
    now = datetime.datetime.now(datetime.UTC)
    first, last = (now + datetime.timedelta(days=each) for each in days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(first).not_valid_after(last)


def general(name: str) -> x509.GeneralName:
    """A name or an address as it stands in a certificate."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
