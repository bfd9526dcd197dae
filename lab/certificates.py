"""A throw-away certificate authority, and a certificate of it for loopback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Certificates", "make"]


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of PEM files.

    Attributes:
        authority: what a client has to trust.
        certificate: the server's, for `localhost` and `127.0.0.1`.
        key: the server's private key.
    """

    authority: Path
    certificate: Path
    key: Path


def make(directory: Path) -> Certificates:
    """Write a new authority and a server certificate into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = Certificates(directory / "authority.pem", directory / "server.pem", directory / "server.key")
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(paths.authority))
    for position, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(str(paths.certificate), append=position > 0)
    paths.key.touch(mode=0o600)
    server.private_key_pem.write_to_path(str(paths.key))
    return paths
