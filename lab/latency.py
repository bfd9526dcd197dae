"""A relay on loopback that makes a server look far away: every byte arrives half a round trip later.

It emulates delay and nothing else: no loss, no slow start, no limit of rate.  It is a process of its own, so that its
work is not counted as anybody else's.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab.process import HOST, Server

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Latency"]

_PIECE = 256 << 10  # bytes read at a time
_PIECES = 64  # on their way in one direction of one connection


class Latency(Server):
    """A relay to the port `upstream` of loopback.

    Args:
        upstream: the server's port.
        round_trip: seconds from a request to its answer; a new connection takes as long again.
    """

    def __init__(self, upstream: int, *, round_trip: float) -> None:
        super().__init__()
        self._upstream = upstream
        self._round_trip = round_trip

    @property
    def url(self) -> str:
        """Base URL without a slash at its end."""
        return f"http://{HOST}:{self.ports[0]}"

    def command(self) -> Sequence[str | Path]:
        """This module, run with the interpreter at hand."""
        return [sys.executable, "-m", "lab.latency", str(self.ports[0]), str(self._upstream), str(self._round_trip)]

    def environment(self) -> dict[str, str]:
        """Finds this package."""
        return {**super().environment(), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


class _Direction:
    """One direction of a connection: bytes in order, each `delay` seconds after it came."""

    def __init__(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float, ready: float) -> None:
        self._source = source
        self._target = target
        self._delay = delay
        self._ready = ready  # nothing was sent before, by the loop's clock
        self._pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)

    async def read(self) -> None:
        """Note when each piece is due; the empty one, at the end, too."""
        clock, piece = asyncio.get_running_loop().time, b"-"
        while piece:
            piece = await self._source.read(_PIECE)
            await self._pieces.put((max(clock(), self._ready) + self._delay, piece))

    async def write(self) -> None:
        """Send each piece when it is due."""
        clock = asyncio.get_running_loop().time
        while True:
            due, piece = await self._pieces.get()
            await asyncio.sleep(max(0.0, due - clock()))
            if not piece:
                self._target.write_eof()
                return
            self._target.write(piece)
            await self._target.drain()


async def _connection(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], upstream: int, round_trip: float
) -> None:
    # The kernel has accepted at once: what the handshake would have taken is added to the first request.
    now = asyncio.get_running_loop().time()
    far = await asyncio.open_connection(HOST, upstream, limit=_PIECE)
    there = _Direction(near[0], far[1], round_trip / 2, now + round_trip)
    back = _Direction(far[0], near[1], round_trip / 2, now)
    try:
        async with asyncio.TaskGroup() as group:
            for direction in (there, back):
                group.create_task(direction.read())
                group.create_task(direction.write())
    except* OSError:
        pass  # one side has gone: the connection is over
    finally:
        near[1].close()
        far[1].close()


async def _relay(port: int, upstream: int, round_trip: float) -> None:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _connection((reader, writer), upstream, round_trip)

    server = await asyncio.start_server(accepted, HOST, port, limit=_PIECE, backlog=256)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
