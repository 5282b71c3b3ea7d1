"""TLS credentials for the client port, the peer port and the channels between nodes.

- Clients check the node by its host name or address. They have no certificate and log in.
- Nodes check each other by the cluster's CA and by name. The connecting node requires the certificate of the node that
  it calls, at any address. The called node reads the caller's name from its certificate.
- `peer_name_from_auth_context` refuses a certificate of the CA without a node's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from parleyd.security.certificate_checks import Pems
from parleyd.security.certificates import key_digest, node_dns_name, node_of_dns_name
from parleyd.security.node_certificates import NodeCertificates


def client_server_credentials(certificates: NodeCertificates | None) -> grpc.ServerCredentials | None:
    """Return the credentials of the client port; None without certificates: use add_insecure_port."""
    return None if certificates is None else _server_credentials(certificates, requires_certificates=False)


def peer_server_credentials(certificates: NodeCertificates | None) -> grpc.ServerCredentials | None:
    """Return the credentials of the peer port, which requires the cluster's certificates; None without certificates."""
    return None if certificates is None else _server_credentials(certificates, requires_certificates=True)


def peer_channel_credentials(certificates: NodeCertificates | None) -> grpc.ChannelCredentials | None:
    """Return the credentials for the next channel to another node; None without certificates: use insecure_channel."""
    if certificates is None:
        return None
    pems = certificates.current
    return grpc.ssl_channel_credentials(
        root_certificates=pems.ca, private_key=pems.key, certificate_chain=pems.certificate
    )


def _server_credentials(certificates: NodeCertificates, *, requires_certificates: bool) -> grpc.ServerCredentials:
    """Return credentials that serve each new connection with the certificate of that moment."""
    served = certificates.current

    def configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
        ca = pems.ca if requires_certificates else None
        return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], root_certificates=ca)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # gRPC asks at every connection, in a thread of its own. None: what it has is still right.
        nonlocal served
        current = certificates.current
        if current is served:
            return None
        served = current
        return configuration(current)

    # The stubs do not have the None that gRPC documents.
    return grpc.dynamic_ssl_server_credentials(configuration(served), fetch, requires_certificates)  # type: ignore[arg-type]


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


def peer_certificate_from_auth_context(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    """Return the SHA-256 of the calling node's certificate; empty for a caller without one."""
    pems = list(auth_context.get("x509_pem_cert", ()))
    return x509.load_pem_x509_certificate(pems[0]).fingerprint(hashes.SHA256()) if pems else b""


def peer_key_from_auth_context(auth_context: Mapping[str, Iterable[bytes]]) -> bytes:
    """Return the digest of the calling node's key; empty for a caller without a certificate."""
    pems = list(auth_context.get("x509_pem_cert", ()))
    return key_digest(x509.load_pem_x509_certificate(pems[0])) if pems else b""
