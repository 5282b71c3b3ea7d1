"""The cluster's own CA and the certificates of its nodes.

A node's certificate names its node by the DNS name `<node>.node.parley`, which no resolver has. A connecting node
requires that name at any address (server/parleyd/security/tls.py). A caller is a peer only if its certificate has one.
Only `issue_node_certificate` writes such a name, and it refuses it among the ordinary hosts.

This module makes certificates. certificate_checks.py checks those on disk, certificate_files.py handles files.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from parleyd.addresses import AddressError, parse_host
from parleyd.security.names import InvalidInputError, validate_node_name

NODE_DOMAIN = ".node.parley"
CA_DAYS = 3650
NODE_DAYS = 825
MAX_DAYS = 36_500

# Clocks of machines without a time server differ by minutes. A new certificate must be valid on all of them at once.
_CLOCK_SKEW = datetime.timedelta(hours=1)


class CertificateError(Exception):
    """A certificate or key that cannot be used or made. The text contains which file, why and what to do."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes
    expires_at: datetime.datetime


def node_dns_name(name: str) -> str:
    """Return the name that a node's certificate must carry."""
    return name + NODE_DOMAIN


def node_of_dns_name(dns_name: str) -> str | None:
    """Return the node that a name in a certificate identifies; None for any other name and for wildcards."""
    name, domain, rest = dns_name.partition(NODE_DOMAIN)
    if not domain or rest:
        return None
    try:
        return validate_node_name(name)
    except InvalidInputError:
        return None


def make_ca(*, days: int = CA_DAYS, now: datetime.datetime | None = None) -> Issued:
    """Make the CA of a new cluster; its random name distinguishes the CAs of two clusters."""
    now = now or datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Parley cluster CA {secrets.token_hex(4)}")])
    ends = now + _span(days)
    certificate = (
        _builder(subject, subject, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _issued(certificate, key)


def issue_node_certificate(
    ca_certificate: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    name: str,
    hosts: Sequence[str],
    *,
    days: int = NODE_DAYS,
    now: datetime.datetime | None = None,
) -> Issued:
    """Make a certificate for node `name`, reached by clients at `hosts` (DNS names, IP addresses).

    It never outlives the CA. Raises `CertificateError` for a bad name, a bad host or a CA that has expired.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        validate_node_name(name)
    except InvalidInputError as error:
        raise CertificateError(f"the node {error}") from None
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(node_dns_name(name)), *_host_names(hosts)]
    certificate = _sign_for_node(ca_certificate, ca_key, name, names, key.public_key(), now, days)
    return _issued(certificate, key)


def renew_node_certificate(
    ca_certificate: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    old: x509.Certificate,
    *,
    days: int = NODE_DAYS,
    new_key: bool = False,
    now: datetime.datetime | None = None,
) -> Issued:
    """Make a certificate for the node, the names and the key of `old`, whose private key nobody needs for this.

    `key_pem` is empty then. With `new_key` it is a new key's. The caller knows who signed `old`.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    nodes = nodes_in(old)
    if len(nodes) != 1:
        raise CertificateError(
            f"it names {' and '.join(nodes) or 'no node'}, not one node: make a new one with `parleyd cert node`"
        )
    hosts = [name for name in names_in(old) if name != node_dns_name(nodes[0])]
    if new_key:
        return issue_node_certificate(ca_certificate, ca_key, nodes[0], hosts, days=days, now=now)
    public_key = old.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise CertificateError("its key is none that `parleyd cert` makes: renew it where it was made")
    names = [x509.DNSName(node_dns_name(nodes[0])), *_host_names(hosts)]
    certificate = _sign_for_node(ca_certificate, ca_key, nodes[0], names, public_key, now, days)
    return Issued(_pem(certificate), b"", certificate.not_valid_after_utc)


def _sign_for_node(
    ca_certificate: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    name: str,
    names: Sequence[x509.GeneralName],
    public_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.Certificate:
    if ca_certificate.not_valid_after_utc <= now:
        raise CertificateError(f"the CA expired on {day(ca_certificate.not_valid_after_utc)}: make a new one")
    ends = min(now + _span(days), ca_certificate.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    both_sides = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        _builder(subject, ca_certificate.subject, public_key, now, ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(both_sides, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return all DNS names and IP addresses a certificate is valid for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def nodes_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the nodes that a certificate names; a valid one has exactly one."""
    return tuple(node for node in map(node_of_dns_name, names_in(certificate)) if node is not None)


def key_digest(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's public key info: it stays when the certificate is renewed for the key."""
    info = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(info).digest()


def day(when: datetime.datetime) -> str:
    """Format a day for people."""
    return f"{when.astimezone(datetime.UTC):%Y-%m-%d}"


def _host_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    if not hosts:
        raise CertificateError("no host is given: name every address clients reach the node at (--host)")
    names: dict[str, x509.GeneralName] = {}
    for text in hosts:
        try:
            host = parse_host(text)
        except AddressError as error:
            raise CertificateError(f"{error}; give a host without a port") from None
        if host.endswith(NODE_DOMAIN):
            raise CertificateError(f"{host} cannot be a host: names ending in {NODE_DOMAIN} identify nodes")
        try:
            names[host] = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            names[host] = x509.DNSName(host)
    return list(names.values())


def _span(days: int) -> datetime.timedelta:
    if not 1 <= days <= MAX_DAYS:
        raise CertificateError(f"a certificate cannot be valid for {days} days; give 1 to {MAX_DAYS}")
    return datetime.timedelta(days=days)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(ends)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(_pem(certificate), key_pem, certificate.not_valid_after_utc)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
