"""moto's S3 on loopback, from the `moto` package: checksums of every algorithm, of objects and of parts."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from lab.process import HOST, MissingBinaryError, Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Moto", "s3_client"]

# moto does all that S3 does, but for the field by which every S3 can be told.
_SERVER = """\
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)

def s3(environ, start):
    return moto(environ, lambda status, fields, *rest: start(status, [*fields, ("x-amz-request-id", "0")], *rest))

run_simple(sys.argv[1], int(sys.argv[2]), s3, threaded=True)
"""


class Moto(Server):
    """An S3 that keeps its objects in memory."""

    def __init__(self) -> None:
        if importlib.util.find_spec("moto") is None:
            raise MissingBinaryError("no moto: pip install -e '.[dev]'")
        super().__init__()

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        return f"http://{HOST}:{self.ports[0]}"

    def command(self) -> Sequence[str | Path]:
        """An interpreter that runs moto's application."""
        return [sys.executable, "-W", "ignore", "-c", _SERVER, HOST, str(self.ports[0])]


def s3_client(url: str) -> Any:
    """boto3's client of an S3 at `url`, with credentials that nobody checks.

    Raises:
        MissingBinaryError: boto3 is not installed.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise MissingBinaryError(f"no boto3: {error}") from error
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="anna",
        aws_secret_access_key="s3cr3t",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 2}),
    )
