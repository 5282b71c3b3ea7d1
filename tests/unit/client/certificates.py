"""A certificate authority for tests."""

import datetime
import ipaddress

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Signs server certificates."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The certificate clients are given."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, address: str, *, valid_from_h: int = -1, valid_to_h: int = 1) -> grpc.ServerCredentials:
        """Credentials of a server at an IP address, valid between these hours from now."""
        return grpc.ssl_server_credentials([self.pair(address, valid_from_h=valid_from_h, valid_to_h=valid_to_h)])

    def pair(self, address: str, *, valid_from_h: int = -1, valid_to_h: int = 1) -> tuple[bytes, bytes]:
        """Key and certificate of a server at an IP address."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
        builder = self._builder(subject, key, valid_from_h, valid_to_h)
        certificate = builder.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return key_pem, certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid_from_h: int = -1, valid_to_h: int = 1
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(hours=valid_from_h))
            .not_valid_after(now + datetime.timedelta(hours=valid_to_h))
        )
