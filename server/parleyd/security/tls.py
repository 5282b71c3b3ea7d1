"""Who may talk to whom: gRPC credentials for the client port, the peer port and the channels between nodes.

- Clients check the node by its host name or address; they show no certificate, they log in.
- Nodes check each other by the cluster's CA and by name: the dialler demands the certificate of the very node it
  means, whatever the address, and the node that is called reads the caller's name from its certificate.
- A certificate of the CA without a node's name is refused as a peer by `peer_name_from_auth_context`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc

from parleyd.security.certificates import CertificateError, node_dns_name, node_of_dns_name
from parleyd.settings.table import Settings


def client_server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return what the client port presents; None with `insecure`: use add_insecure_port."""
    if settings.insecure:
        return None
    return grpc.ssl_server_credentials([_own_pair(settings)])


def peer_server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return what the peer port presents and demands: a certificate of the cluster's CA. None with `insecure`."""
    if settings.insecure:
        return None
    ca = _read(settings.ca_file, "ca_file")
    return grpc.ssl_server_credentials([_own_pair(settings)], root_certificates=ca, require_client_auth=True)


def peer_channel_credentials(settings: Settings) -> grpc.ChannelCredentials | None:
    """Return what this node shows when it dials another; None with `insecure`: use insecure_channel."""
    if settings.insecure:
        return None
    key, certificate = _own_pair(settings)
    ca = _read(settings.ca_file, "ca_file")
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def peer_channel_options(name: str) -> list[tuple[str, str]]:
    """Return the channel options that make the dialler accept nobody but node `name`."""
    # The override is the name the certificate is checked against; the authority follows it by itself.
    return [("grpc.ssl_target_name_override", node_dns_name(name))]


def peer_name_from_auth_context(auth_context: Mapping[str, Iterable[bytes]]) -> str | None:
    """Return which node calls, by its certificate; None for a caller that is no node (then: UNAUTHENTICATED).

    With `insecure` there is no certificate and so no name: every caller is None.
    """
    if b"ssl" not in auth_context.get("transport_security_type", ()):
        return None
    # Only DNS names count: x509_subject_alternative_name would mix in URIs and mail addresses.
    names = [name.decode("ascii", "replace") for name in auth_context.get("peer_dns", ())]
    nodes = [node for node in map(node_of_dns_name, names) if node is not None]
    # A certificate for two nodes would let one speak for the other.
    return nodes[0] if len(nodes) == 1 else None


def _own_pair(settings: Settings) -> tuple[bytes, bytes]:
    return _read(settings.key_file, "key_file"), _read(settings.cert_file, "cert_file")


def _read(path: Path | None, setting: str) -> bytes:
    if path is None:
        raise CertificateError(f"{setting} is not set: give certificates, made with `parleyd cert`")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
