"""httpx as it comes, on uvloop: what a script of thirty lines would do.

python httpx_client.py file URL      into the current directory, 8 ranges at a time
python httpx_client.py stream URL    to standard output, one request
python httpx_client.py many LIST     every URL of the file LIST into the current directory, 16 at a time
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path, PurePosixPath

import httpx
import uvloop

RANGES = 8
FILES = 16
TIMEOUT = 60.0  # seconds


def client() -> httpx.AsyncClient:
    """Default settings but for the timeout and the pool, which must not be smaller than the work."""
    return httpx.AsyncClient(timeout=TIMEOUT, limits=httpx.Limits(max_connections=None))


def destination(url: str) -> Path:
    """The URL's file name, in the current directory."""
    return Path(PurePosixPath(httpx.URL(url).path).name)


async def file(url: str) -> None:
    """Eight ranges, each written in its place."""
    async with client() as http:
        size = int((await http.head(url)).raise_for_status().headers["Content-Length"])
        step = -(-size // RANGES)
        with destination(url).open("wb", buffering=0) as target:
            starts = range(0, size, step)
            await asyncio.gather(
                *(part(http, url, start, min(start + step, size), target.fileno()) for start in starts)
            )


async def part(http: httpx.AsyncClient, url: str, start: int, stop: int, descriptor: int) -> None:
    """The bytes [start, stop)."""
    async with http.stream("GET", url, headers={"Range": f"bytes={start}-{stop - 1}"}) as answer:
        answer.raise_for_status()
        position = start
        async for piece in answer.aiter_raw():
            position += os.pwrite(descriptor, piece, position)
    if position != stop:
        raise SystemExit(f"expected {stop - start} bytes from {start}, got {position - start}")


async def stream(url: str) -> None:
    """One request, to standard output."""
    async with client() as http, http.stream("GET", url) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_raw():
            view = memoryview(piece)
            while view:
                view = view[os.write(1, view) :]


async def many(urls: list[str]) -> None:
    """All files, each with one request."""
    waiting = iter(urls)

    async def lane(http: httpx.AsyncClient) -> None:
        for url in waiting:
            answer = (await http.get(url)).raise_for_status()
            destination(url).write_bytes(answer.content)

    async with client() as http:
        await asyncio.gather(*(lane(http) for _ in range(FILES)))


if __name__ == "__main__":
    mode, target = sys.argv[1:]
    if mode == "many":
        uvloop.run(many(Path(target).read_text().split()))
    else:
        uvloop.run({"file": file, "stream": stream}[mode](target))
