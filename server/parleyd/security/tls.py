"""TLS credentials for the client port, the peer port and the channels between nodes.

- Clients check the node by its host name or address. They have no certificate and log in.
- Nodes check each other by the cluster's CA and by name. The connecting node requires the certificate of the node that
  it calls, at any address. The called node reads the caller's name from its certificate.
- `peer_name_from_auth_context` refuses a certificate of the CA without a node's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc
from cryptography import x509

from parleyd.security.certificates import CertificateError, key_digest, node_dns_name, node_of_dns_name
from parleyd.settings.table import Settings


def client_server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the credentials of the client port; None with `insecure`: use add_insecure_port."""
    if settings.insecure:
        return None
    return grpc.ssl_server_credentials([_own_pair(settings)])


def peer_server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the credentials of the peer port, which requires the cluster's certificates; None with `insecure`."""
    if settings.insecure:
        return None
    ca = _read(settings.ca_file, "ca_file")
    return grpc.ssl_server_credentials([_own_pair(settings)], root_certificates=ca, require_client_auth=True)


def peer_channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """Return the credentials for a call to another node; None with `insecure`: use insecure_channel."""
    if settings.insecure:
        return None
    key, certificate = _own_pair(settings)
    ca = _read(settings.ca_file, "ca_file")
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def peer_channel_options(name: str) -> list[tuple[str, str]]:
    """Return the channel options that accept only the certificate of node `name`."""
    # The certificate is checked against the override. The authority follows it by itself.
    return [("grpc.ssl_target_name_override", node_dns_name(name))]


def peer_name_from_auth_context(auth_context: Mapping[str, Iterable[bytes]]) -> str | None:
    """Return the calling node's name from its certificate; None for a caller that is no node (then: UNAUTHENTICATED).

    With `insecure` there is no certificate and so no name: the result is None for every caller.
    """
    if b"ssl" not in auth_context.get("transport_security_type", ()):
        return None
    # Only DNS names count. x509_subject_alternative_name would include URIs and mail addresses.
    names = [name.decode("ascii", "replace") for name in auth_context.get("peer_dns", ())]
    nodes = [node for node in map(node_of_dns_name, names) if node is not None]
    # A certificate for two nodes would let one node act as the other.
    return nodes[0] if len(nodes) == 1 else None


def peer_key_from_auth_context(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    """Return the digest of the calling node's key; empty for a caller without a certificate."""
    pems = list(auth_context.get("x509_pem_cert", ()))
    return key_digest(x509.load_pem_x509_certificate(pems[0])) if pems else b""


def own_key_digest(settings: Settings) -> bytes:
    """Return the digest of this node's key; empty with `insecure`."""
    if settings.insecure:
        return b""
    _, certificate = _own_pair(settings)
    return key_digest(x509.load_pem_x509_certificate(certificate))


def _own_pair(settings: Settings) -> tuple[bytes, bytes]:
    return _read(settings.key_file, "key_file"), _read(settings.cert_file, "cert_file")


def _read(path: Path | None, setting: str) -> bytes:
    if path is None:
        raise CertificateError(f"{setting} is not set: give certificates, made with `parleyd cert`")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
