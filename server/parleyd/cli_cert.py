"""`parleyd cert`: the cluster's CA and the certificates of its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from parleyd.exits import ExitCode
from parleyd.security.certificate_files import load_certificates, plan_renewal, write_ca, write_node, write_renewal
from parleyd.security.certificates import (
    CA_DAYS,
    NODE_DAYS,
    CertificateError,
    day,
    key_digest,
    names_in,
    node_dns_name,
    nodes_in,
)

cert_app = typer.Typer(
    help="Make and show certificates: one CA for the cluster, one certificate for each node.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the files; made if missing.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


@contextmanager
def _certificate_errors() -> Iterator[None]:
    try:
        yield
    except CertificateError as error:
        typer.echo(f"parleyd: {error}", err=True)
        raise typer.Exit(ExitCode.CERTIFICATE) from None


@cert_app.command()
def ca(
    out: _Out,
    days: Annotated[int, typer.Option(help="Number of days for which it is valid.")] = CA_DAYS,
    force: _Force = False,
) -> None:
    """Make the CA of a new cluster: ca.pem and ca.key."""
    with _certificate_errors():
        made = write_ca(out, days=days, force=force)
    typer.echo(f"{made.certificate}  give it to every node and every client")
    typer.echo(
        f"{made.key}  anybody who has it can add nodes: do not store it on a node, and keep a copy in a safe place"
    )
    typer.echo(f"valid until {day(made.issued.expires_at)}")


@cert_app.command()
def node(
    *,
    name: Annotated[str, typer.Argument(help="Name of the node, as in its settings.")],
    out: _Out,
    host: Annotated[
        list[str], typer.Option(help="DNS name or IP address at which clients reach the node; repeat for each.")
    ],
    ca_dir: Annotated[Path | None, typer.Option("--ca", help="Folder with ca.pem and ca.key; default: --out.")] = None,
    days: Annotated[
        int, typer.Option(help="Number of days for which it is valid; never longer than the CA.")
    ] = NODE_DAYS,
    force: _Force = False,
) -> None:
    """Make the certificate of one node: NAME.pem and NAME.key, signed by the CA."""
    with _certificate_errors():
        made = write_node(out, ca_dir or out, name, host, days=days, force=force)
    typer.echo(f"{made.certificate}  for {node_dns_name(name)}, {', '.join(host)}")
    typer.echo(f"{made.key}  only for node {name}: copy it there over a safe connection, mode 600")
    typer.echo(f"valid until {day(made.issued.expires_at)}")


@cert_app.command()
def renew(
    *,
    files: Annotated[list[Path], typer.Argument(help="Certificates of nodes, PEM. No key is needed.")],
    ca_dir: Annotated[
        Path | None, typer.Option("--ca", help="Folder with ca.pem and ca.key; default: the folder of the file.")
    ] = None,
    days: Annotated[
        int, typer.Option(help="Number of days for which it is valid; never longer than the CA.")
    ] = NODE_DAYS,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new key, too. The others refuse the old one once the node has it.")
    ] = False,
    signed_by: Annotated[
        Path | None,
        typer.Option(help="Certificates of CAs, one of which signed the old certificate; default: the CA that signs."),
    ] = None,
) -> None:
    """Replace certificates of nodes by new ones with the same names and key. A running node takes them over."""
    with _certificate_errors():
        # All of them before any is written.
        renewed = [
            plan_renewal(file, ca_dir or file.parent, signed_by=signed_by, days=days, new_key=new_key) for file in files
        ]
        for made in renewed:
            write_renewal(made)
            typer.echo(f"{made.certificate}  valid until {day(made.issued.expires_at)}")
            if new_key:
                typer.echo(f"{made.key}  only for this node: copy it there over a safe connection, mode 600")
    if new_key:
        typer.echo("Copy both files to the node, where they take effect within ten seconds. Nothing is restarted.")
        typer.echo("From then on, the other nodes refuse the old key.")
    else:
        typer.echo("Copy it to the node, where it takes effect within ten seconds. Nothing is restarted.")


@cert_app.command()
def show(file: Annotated[Path, typer.Argument(help="A certificate, PEM.")]) -> None:
    """Print the owner of a certificate, its names, and its validity."""
    with _certificate_errors():
        certificates = load_certificates(file)
    for certificate in certificates:
        for line in _describe(certificate):
            typer.echo(line)


def _describe(certificate: x509.Certificate) -> Iterator[str]:
    yield f"subject      {certificate.subject.rfc4514_string()}"
    yield f"issuer       {certificate.issuer.rfc4514_string()}"
    yield f"node         {', '.join(nodes_in(certificate)) or 'none: not a node certificate'}"
    yield f"names        {', '.join(names_in(certificate)) or 'none'}"
    yield f"valid        {day(certificate.not_valid_before_utc)} to {day(certificate.not_valid_after_utc)}"
    yield f"SHA-256      {certificate.fingerprint(hashes.SHA256()).hex(':')}"
    yield f"key SHA-256  {key_digest(certificate).hex(':')}"
