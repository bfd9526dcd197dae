"""Caddy on loopback, from the `caddyserver` package: an HTTP/2 server over TLS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lab.process import HOST, Server, script

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from lab.certificates import Certificates

__all__ = ["Caddy"]


class Caddy(Server):
    """Caddy serving the files of `root`: HTTP/1.1 in clear text, HTTP/1.1 and HTTP/2 over TLS."""

    def __init__(self, root: Path, *, tls: Certificates) -> None:
        self._binary = script("caddy")
        super().__init__(ports=2)
        self.root = root.resolve()
        self._tls = tls

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        return f"http://{HOST}:{self.ports[0]}"

    @property
    def tls_url(self) -> str:
        """Base URL over TLS, by the name that the certificate bears."""
        return f"https://localhost:{self.ports[1]}"

    def command(self) -> Sequence[str | Path]:
        """Write the configuration and say how to start with it."""
        configuration = self.directory / "caddy.json"
        configuration.write_text(json.dumps(self.configuration()))
        return [self._binary, "run", "--config", configuration]

    def environment(self) -> dict[str, str]:
        """Its data and configuration stay in the temporary directory."""
        home = str(self.directory)
        return {**super().environment(), "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}

    def configuration(self) -> dict[str, Any]:
        """Caddy's JSON: no admin port, no certificates of its own, nothing persisted."""
        pair = {"certificate": str(self._tls.certificate), "key": str(self._tls.key)}
        return {
            "admin": {"disabled": True, "config": {"persist": False}},
            "logging": {"logs": {"default": {"level": "WARN"}}},
            "storage": {"module": "file_system", "root": str(self.directory / "storage")},
            "apps": {
                "http": {
                    "servers": {
                        "plain": self._server(self.ports[0]),
                        "tls": {**self._server(self.ports[1]), "tls_connection_policies": [{}]},
                    }
                },
                "tls": {"certificates": {"load_files": [pair]}},
            },
        }

    def _server(self, port: int) -> dict[str, Any]:
        return {
            "listen": [f"{HOST}:{port}"],
            "routes": [{"handle": [{"handler": "file_server", "root": str(self.root)}]}],
            "automatic_https": {"disable": True},
            "protocols": ["h1", "h2"],
        }
