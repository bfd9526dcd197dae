"""A real network that can be cut: two namespaces joined by a virtual cable (Linux, no privileges needed).

The near one is for clients, the far one for servers; neither sees anything else.  What is done to the cable is done by
the kernel, so that a client meets what it would meet with a real one: no carrier, no route, or nothing at all.  In
place of the cable there can be a `Link`, which is as slow, as long and as bad as one wants.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lab.link import Link
from lab.nginx import Nginx
from lab.process import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cable", "CableError", "FarNginx"]

NEAR, OTHER, FAR = "10.77.0.1", "10.77.0.3", "10.77.0.2"
NAME = "server.test"
_NOBODY = "02:00:00:00:00:99"
_LISTENING = "0A"


class CableError(RuntimeError):
    """There are no namespaces to be had here; the message is the system's."""


class Cable:
    """The two namespaces, for as long as the context lasts.

    Args:
        names: `server.test` can be looked up, at a name server on the far side.
        link: what joins them, if not a cable; it cannot be pulled.
    """

    def __init__(self, *, names: bool = False, link: Link | None = None) -> None:
        self._names = names
        self.link = link
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._holder: subprocess.Popen[str] | None = None
        self.near = self.far = 0

    def __enter__(self) -> Self:
        tools = [shutil.which(name) for name in ("unshare", "nsenter", "ip")]
        if sys.platform != "linux" or None in tools:
            raise CableError("unshare, nsenter and ip (util-linux, iproute2) are needed")
        command = [
            "unshare",
            "--map-current-user",
            "--keep-caps",
            "--net",
            "--mount",
            sys.executable,
            "-m",
            "lab.cable",
        ]
        command += ["names"] * self._names
        if self.link is not None:
            self._scratch = tempfile.TemporaryDirectory(prefix="lab-")
            command += ["link", str(self.link.build(Path(self._scratch.name))), *self.link.arguments()]
        self._holder = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.near, self.far = map(int, self._answer().split())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder is not None:
            with contextlib.suppress(OSError):
                self._holder.communicate(timeout=10)  # it ends with its input
        if self._scratch is not None:
            self._scratch.cleanup()

    def enter(self, pid: int) -> list[str]:
        """What to put before a command that shall run in the namespace of `near` or `far`."""
        nsenter = shutil.which("nsenter") or "nsenter"
        spaces = ["--user", "--net", *["--mount"] * self._names]  # with --mount, the working directory is another
        return [nsenter, f"--target={pid}", *spaces, "--preserve-credentials"]

    def pull(self) -> None:
        """Pull the cable out: both ends lose their carrier."""
        self._do("far link set far down")

    def plug(self) -> None:
        """Put it in again."""
        self._do("far link set far up")

    def drop(self) -> None:
        """Lose every packet in both directions, without a word."""
        self._do(f"near neigh replace {FAR} lladdr {_NOBODY} dev near nud permanent")
        self._do(f"far neigh replace {NEAR} lladdr {_NOBODY} dev far nud permanent")

    def carry(self) -> None:
        """Lose none any more."""
        self._do(f"near neigh del {FAR} dev near")
        self._do(f"far neigh del {NEAR} dev far")

    def leave(self) -> None:
        """Switch the near side's network off: there is no route to anywhere."""
        self._do("near link set near down")

    def join(self) -> None:
        """Switch it on again."""
        self._do("near link set near up")

    def roam(self) -> None:
        """Give the near side another address, as another wireless network does; the old one is gone."""
        self._do(f"near addr del {NEAR}/24 dev near")
        self._do(f"near addr add {OTHER}/24 dev near")

    def forget(self) -> None:
        """Stop the name server."""
        self._do("forget")

    def know(self) -> None:
        """Start it again."""
        self._do("know")

    def _do(self, command: str) -> None:
        assert self._holder is not None
        assert self._holder.stdin is not None
        self._holder.stdin.write(f"{command}\n")
        self._holder.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._holder is not None
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        line = self._holder.stdout.readline()
        if not line:
            raise CableError(f"no network namespaces here: {self._holder.stderr.read().strip()[-500:]}")
        return line


class FarNginx(Nginx):
    """nginx at the far end of a cable, with small buffers; at that of a link, with the system's."""

    def __init__(self, cable: Cable, root: Path, **options: Any) -> None:
        super().__init__(root, **options)
        self.cable = cable

    @property
    def url(self) -> str:
        """Base URL, as the near side sees it."""
        return f"http://{FAR}:{self.ports[0]}"

    @property
    def named_url(self) -> str:
        """The same by name."""
        return f"http://{NAME}:{self.ports[0]}"

    def configuration(self) -> str:
        """The text of nginx.conf."""
        buffers = " sndbuf=128k" if self.cable.link is None else ""
        return super().configuration().replace(f"{HOST}:{self.ports[0]};", f"{FAR}:{self.ports[0]}{buffers};")

    def command(self) -> Sequence[str | Path]:
        """The server in the far namespace."""
        return [*self.cable.enter(self.cable.far), *super().command()]

    def _wait_ready(self) -> None:
        self._wait(lambda: self.ports[0] in _listening(self.cable.far), "not ready")


def _listening(pid: int) -> list[int]:
    """Ports that somebody listens on in the namespace of a process."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].partition(":")[2], 16) for row in rows if row[3] == _LISTENING]


# ── inside of the namespaces ─────────────────────────────────────────────────────────────────────────────────────────


class _Holder:
    """Keeps the namespaces, and the capabilities over them, and does what it is told.

    Args:
        link: the program that joins them, and its arguments; a cable joins them if there is none.
    """

    def __init__(self, link: Sequence[str] = ()) -> None:
        # It ends when its input does, and that is when this process ends.
        self._far = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self._names: subprocess.Popen[bytes] | None = None
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._far.pid}/ns/net").readlink() == own:
            time.sleep(0.005)
        self._link: subprocess.Popen[bytes] | None = None
        if link:
            self._emulate(link)
        else:
            self._lay()
        for line in (
            f"near addr add {NEAR}/24 dev near",
            f"far addr add {FAR}/24 dev far",
            *(f"{side} link set {name} up" for side in ("near", "far") for name in ("lo", side)),
        ):
            self.do(line)
        if link:
            self._settle()

    def _lay(self) -> None:
        # Small, as the far side's: what lies in buffers is lost with its connection.
        Path("/proc/sys/net/ipv4/tcp_rmem").write_text("4096 131072 262144")
        self.do(f"near link add near type veth peer name far netns {self._far.pid}")

    def _emulate(self, link: Sequence[str]) -> None:
        program, *figures = link
        # It ends with its input, too.
        self._link = subprocess.Popen(
            [program, str(os.getpid()), str(self._far.pid), *figures], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._link.stdout is not None
        if not self._link.stdout.readline():
            raise CableError("no emulated link: see what it says above")

    def _settle(self) -> None:
        """Have TCP behave as on most servers, and no run learn from the one before."""
        for side, across in (("near", []), ("far", self._across())):
            knob = "net.ipv4.tcp_no_metrics_save=1"
            subprocess.run([*across, "sysctl", "-qw", knob], check=True)
            # By route: outside of the first namespace the kernel keeps the choice to the one that the machine prefers.
            self.do(f"{side} route change 10.77.0.0/24 dev {side} congctl cubic")
            self.do(f"{side} link set {side} txqueuelen 10000")

    def resolve(self, directory: Path) -> None:
        """Have names looked up on the far side, and nowhere else."""
        configuration = directory / "resolv.conf"
        configuration.write_text(f"nameserver {FAR}\noptions timeout:1 attempts:1\n")
        subprocess.run(["mount", "--bind", configuration, "/etc/resolv.conf"], check=True)
        self.do("know")

    def do(self, line: str) -> None:
        match line.split():
            case ["near", *arguments]:
                subprocess.run(["ip", *arguments], check=True)
            case ["far", *arguments]:
                subprocess.run([*self._across(), "ip", *arguments], check=True)
            case ["know"]:
                self._names = subprocess.Popen(
                    [*self._across(), sys.executable, "-m", "lab.cable", "serve"], stdout=subprocess.PIPE
                )
                assert self._names.stdout is not None
                self._names.stdout.readline()
            case _:
                self.end()

    def end(self) -> None:
        if self._names is not None:
            self._names.kill()
            self._names.communicate()
            self._names = None

    def _across(self) -> list[str]:
        return ["nsenter", f"--target={self._far.pid}", "--net", "--preserve-credentials"]


def _serve_names() -> None:
    """Answer every question for an IPv4 address with the far end's, and every other one with nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((FAR, 53))
        print(flush=True)
        while True:
            query, client = server.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            is_address = query[end - 4 : end - 2] == b"\0\1"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(FAR) if is_address else b""
            head = query[:2] + b"\x81\x80\0\1" + bytes([0, is_address]) + b"\0\0\0\0"
            server.sendto(head + query[12:end] + answer, client)


def _hold(*, names: bool, link: Sequence[str]) -> None:
    holder = _Holder(link)
    try:
        with tempfile.TemporaryDirectory() as directory:
            if names:
                holder.resolve(Path(directory))
            print(os.getpid(), holder._far.pid, flush=True)  # noqa: SLF001 - one module
            for line in sys.stdin:
                holder.do(line)
                print("ok", flush=True)
    finally:
        holder.end()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        _serve_names()
    else:
        _hold(names="names" in sys.argv, link=sys.argv[sys.argv.index("link") + 1 :] if "link" in sys.argv else ())
