"""What the pages tell people to type is typed, against a server on loopback in place of example.org."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

import pytest

from lab.nginx import Nginx
from tests.cli.conftest import ENVIRONMENT, ROOT
from tests.cli.newcomer import Newcomer, first_steps, public

DOCS = ROOT / "docs"
FOX = b"The quick brown fox jumps over the lazy dog"
PAGES = ["manifests.md", "tutorials/genomics.md", "tutorials/hpc.md", "tutorials/machine-learning.md"]


@pytest.fixture(scope="module")
def site(samples, tmp_path_factory):
    """The files that the pages speak of, at a real server; and their directory."""
    directory = tmp_path_factory.mktemp("site")
    genome = samples.read("genome.fa.gz")
    shard = _tar()
    files = {"genome.fa.gz": genome, "mirror/genome.fa.gz": genome, "test.txt": b"test", "1.fq.gz": FOX,
             "2.fq.gz": FOX + b".", "model.safetensors": genome * 2, "sample.bin": b"",
             **{f"shard-0000{n}.tar": shard for n in range(4)}}  # fmt: skip
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    (directory / "mirror").mkdir()
    for name, data in {**files, "SHA256SUMS": sums.encode()}.items():
        (directory / name).write_bytes(data)
    with Nginx(directory) as server:
        yield server


def _tar() -> bytes:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("one.txt"), io.BytesIO())
    return buffer.getvalue()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page(hydraflow, site, page):
    """All of them, in order, in one shell; none fails."""
    scripts = blocks(page, "bash")
    assert scripts
    script = "set -euo pipefail\n" + "\n".join(scripts)
    ran = hydraflow.shell(script.replace("https://example.org", site.url))
    assert ran.code == 0, ran.stderr


def test_first_steps(hydraflow, samples, tmp_path):
    """From README to a verified file, a resumed one and a stream; `make newcomer` begins with the installation."""
    install, use = first_steps()
    assert [line.split()[0] for line in install] == ["git", "python3", "pip"]
    commands = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with public(tmp_path / "far", samples.read("genome.fa.gz") * 2) as server:
        newcomer = Newcomer(hydraflow.directory, {**os.environ, **ENVIRONMENT, "PATH": commands}, server)
        newcomer.use(use)
        newcomer.check()


def test_python_of_the_tutorial(site):
    [example] = blocks("tutorials/machine-learning.md", "python")
    names: dict[str, object] = {}
    exec(example.replace("https://example.org", site.url), names)
    assert names["total"] == 4 * len(_tar())


def right_hand_side() -> list[str]:
    rows = [
        re.split(r"(?<!\\)\|", line)[2] for line in (DOCS / "migration.md").read_text().splitlines() if line[:1] == "|"
    ]
    found = [cell.strip().strip("`").replace(r"\|", "|") for cell in rows]
    return [cell for cell in found if "hydraflow " in cell]


@pytest.mark.parametrize("command", right_hand_side())
def test_commands_of_the_migration_page(hydraflow, site, command):
    (hydraflow.directory / "list.txt").write_text(f"{site.url}/1.fq.gz\n{site.url}/2.fq.gz\n")
    (hydraflow.directory / "genome.meta4").write_text(
        '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="genome.fa.gz">'
        f"<url>{site.url}/genome.fa.gz</url></file></metalink>"
    )
    assert hydraflow.shell(command.replace("https://example.org", site.url)).code == 0


def test_the_readme_s_commands_are_commands():
    """They cannot all be run, since some need other programs; but every option in them is one."""
    from hydraflow.cli.fetch import command

    known = {name for each in command.params for name in each.opts} | {"--from", "--help"}
    told = re.findall(r"^hydraflow (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    options = {word for line in told for word in re.findall(r"(?<=\s)--?[a-z][a-z-]*", line.partition(" -- ")[0])}
    assert {"--stream", "-o", "--from"} <= options
    assert not {each for each in options if each.startswith("--")} - known
