"""HTTP/2, when it is asked for: many bodies share a connection, and none may hold up the others."""

from __future__ import annotations

import pytest

from hydraflow import settings as hydraflow_settings
from hydraflow.api import fetch, stream


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("server", ["nginx_http2", "caddy"])
def test_bodies_that_are_left_early(request, server, tmp_path):
    """What is left of them does not fill the window of those that come after."""
    url = f"{request.getfixturevalue(server).tls_url}/files/large.bin"
    settings = hydraflow_settings.load(
        threads=4, buffer=2 << 20, user_agent=f"interop/early/{server}", http2=True, read_timeout=2
    )
    for number in range(8):
        with stream(url, settings=settings) as opened:
            opened.read(1000)
        result = fetch(url, tmp_path / str(number), settings=settings)
        assert (result.http_version, result.retries) == ("HTTP/2", 0)
