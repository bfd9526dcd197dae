# ruff: noqa: INP001 - a script, in no package
"""Make docs/images/terminal.svg: real commands on a real pseudo-terminal, against the tests' origin on loopback.

python docs/make_terminal_picture.py
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lab import data  # noqa: E402
from lab.shell import clean  # noqa: E402
from tests.faults.origin import Origin  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURE = ROOT / "docs" / "images" / "terminal.svg"
COLUMNS = 108
SIZE = 60_000_000  # bytes
RATE = 3_000_000  # bytes per second of one connection
HALF = re.compile(rb"[234]\d\.\d/6\d\.\d MB")  # the display, at about half of it

FETCH = 'hydraflow "$SITE/genome.fa.gz#sha256=$SHA256" -o data'
STREAM = """hydraflow "$SITE/genome.fa.gz#sha256=$SHA256" --stream | zcat | grep -c '^>'"""
WRONG = 'hydraflow "$SITE/reads.fastq.gz" --md5 d41d8cd98f00b204e9800998ecf8427e; echo "exit code $?"'

# A frame of the display begins with this: back to the start of the line, and clear it.
FRAME = b"\r\x1b[2K"


def run(command: str, directory: Path, variables: dict[str, str], *, interrupt: bool = False) -> bytes:
    """Run a command on a terminal and give what it sent; `interrupt`: Ctrl-C at half of the transfer."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    script = f'hydraflow() {{ "{sys.executable}" -m hydraflow "$@"; }}; {command}'
    process = subprocess.Popen(  # noqa: S603 - our own commands
        ["/bin/bash", "-c", script],
        cwd=directory,
        env=variables,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    sent = b""
    for piece in pieces(master):
        sent += piece
        if interrupt and HALF.search(sent):
            os.killpg(process.pid, signal.SIGINT)
            interrupt = False
    process.wait()
    os.close(master)
    return sent


def pieces(master: int) -> Iterator[bytes]:
    """What comes from the terminal, until everybody has closed it."""
    with contextlib.suppress(OSError):
        while select.select([master], [], [], 60)[0] and (piece := os.read(master, 65536)):
            yield piece


def at_half(sent: bytes) -> bytes:
    """The display as it stood at half of the transfer."""
    return next(frame for frame in sent.split(FRAME) if HALF.search(frame)).partition(b"\x1b[?25h")[0].strip()


def left(sent: bytes) -> bytes:
    """The lines that stay: the display takes its own away."""
    lines = [line.split(FRAME)[-1].rpartition(b"\x1b[2K")[2] for line in sent.split(b"\r\n")]
    shown = [re.sub(rb"\x1b\[\?25[hl]|\r", b"", line) for line in lines]
    return b"\n".join(line for line in shown if line.strip() and not re.search(rb"[0-9]/6\d\.\d MB", line))


def show(console: Console, command: str, *outputs: bytes) -> None:
    """A prompt, a command and what came, and a line between two of them."""
    if console.file.tell():
        console.print()
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    for output in outputs:
        console.print(Text.from_ansi(output.decode()))


def main() -> None:
    """Run everything, and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    with tempfile.TemporaryDirectory() as scratch:
        served, here = Path(scratch, "served"), Path(scratch, "here")
        served.mkdir()
        here.mkdir()
        genome = data.fasta(served / "genome.fa.gz", SIZE)
        with Origin() as origin:
            origin.add("/genome.fa.gz", genome.path.read_bytes())
            origin.add("/reads.fastq.gz", genome.path.read_bytes()[:5_000_000])
            origin.when().slow(RATE)
            variables = {
                **clean(os.environ),
                "PYTHONPATH": str(ROOT),
                "TERM": "xterm-256color",
                "SITE": origin.url,
                "SHA256": genome.sha256,
            }
            first = run(FETCH, here, variables, interrupt=True)
            show(console, FETCH, at_half(first), b"^C", left(first))
            show(console, FETCH, left(run(FETCH, here, variables)))
            show(console, STREAM, left(run(STREAM, here, variables)))
            show(console, WRONG, left(run(WRONG, here, variables)))
    # The pages that show the picture do not load fonts from elsewhere.
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(console.export_svg(title="hydraflow", code_format=without_fonts))
    sys.stdout.write(f"wrote {PICTURE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
