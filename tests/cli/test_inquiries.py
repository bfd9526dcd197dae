"""Commands that ask and change nothing: probe, state, doctor, completion; and `state rm`, which does."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hydraflow import inspecting
from tests.cli.conftest import ROOT

BIN = Path(sys.executable).parent


# ── probe ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def told(ran) -> dict[str, str]:
    """The rows, by their first word."""
    rows = [line.strip() for line in ran.stdout.decode().splitlines()]
    return {row[:12].strip(): row[12:].strip() for row in rows if len(row) > 12}


def md5_of(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def test_probe_tells_what_a_fetch_would_meet(hydraflow, origin, data):
    digest = hashlib.sha256(data).hexdigest()
    origin.add("/SHA256SUMS", f"{digest}  x.bin\n".encode())
    url = origin.add("/x.bin", data)
    ran = hydraflow("probe", url)
    assert (ran.code, ran.stderr) == (0, "")
    assert origin.bytes_served("/x.bin") < 100
    assert hydraflow.left() == []
    rows = told(ran)
    assert ran.stdout.startswith(b"x.bin\n")
    assert rows["size"] == "3.1 MB (3,145,728 bytes)"
    assert rows["version"] == '"v1" (tells any two versions apart)'
    assert rows["parts"] == "the server sends them"
    source = f"sha256:{digest} (checksum file over http {origin.url}/SHA256SUMS)"
    assert rows["verified by"] == f"the size; with --verify require by {source}", "as a fetch does it"
    assert "size checked, no digest known" in hydraflow(url, "-o", "d").stderr
    ran = hydraflow("probe", origin.add("/y.bin", data, headers={"Content-MD5": md5_of(data)}))
    assert told(ran)["verified by"].startswith("md5:")
    assert hydraflow.left() == ["d", "d/x.bin"]
    assert rows["fetched"] == "over several connections, as many as pay; a later run goes on where one ended"


def test_probe_of_what_cannot_be_resumed(hydraflow, origin, data):
    url = origin.add("/x.bin", data, etag=None)
    assert told(hydraflow("probe", url))["fetched"].startswith("over one connection, since versions could be mixed")
    origin.when().ignore_range()
    assert told(hydraflow("probe", url))["fetched"] == "over one connection; a later run begins anew"


def test_probe_shows_no_control_characters(hydraflow, origin, data):
    """A header may have C1 control characters in it, by which some terminals are driven as by escape sequences."""
    ran = hydraflow("probe", origin.add("/x.bin", data, headers={"Content-Encoding": "\x9b2J"}))
    assert ran.code == 0
    assert "encoding     \ufffd2" in ran.stdout.decode()
    assert "\x9b" not in ran.stdout.decode()


def test_probe_for_programs(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    origin.when(path="/old").redirect(url)
    ran = hydraflow("probe", f"{origin.url}/old", f"{origin.url}/missing", f"{url}#md5={'0' * 32}", "--json")
    assert ran.code == 3
    old, missing, known = map(json.loads, ran.stdout.splitlines())
    assert (old["ok"], old["final_url"], old["resumable"], old["size"]) == (True, url, True, len(data))
    assert (missing["ok"], missing["error"]) == (False, "NotFoundError")
    assert (known["digest"], known["digest_source"]) == (f"md5:{'0' * 32}", "url fragment")
    assert ran.error.startswith(f"error: {origin.url}/missing: 404")


# ── state ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def half(hydraflow, origin, data, wait_for):
    """A transfer at work, slowly; and what it has told so far."""
    origin.when().slow(1_000_000)
    process = hydraflow.start(origin.add("/x.bin", data), "-o", "d", "-t", "1")
    wait_for(lambda: origin.bytes_served() > 1_000_000)
    return process


def test_state_of_a_transfer_at_work_and_afterwards(hydraflow, origin, data, half):
    ran = hydraflow("state", "ls")
    assert f"another process ({half.pid} on " in ran.stdout.decode()
    refused = hydraflow("state", "rm", "d")
    assert refused.code == 8
    assert "is fetching d/x.bin. End it first." in refused.error
    half.send_signal(signal.SIGTERM)
    assert hydraflow.finish(half).code == 143

    [left] = map(json.loads, hydraflow("state", "ls", "d/x.bin", "--json").stdout.splitlines())
    assert (left["path"], left["url"], left["size"]) == ("d/x.bin", f"{origin.url}/x.bin", len(data))
    assert 0 < left["done"] < len(data)
    assert (left["owner"], left["note"]) == (None, "")
    line = hydraflow("state", "ls").stdout.decode().splitlines()[0]
    assert line.startswith("d/x.bin  ")
    assert " of 3.1 MB (" in line

    assert hydraflow("state", "rm", "d", "--older-than", "1h").stdout == b"0 unfinished files, 0 B removed\n"
    assert ".x.bin.hydra" in str(hydraflow.left())
    ran = hydraflow("state", "rm", "d")
    assert ran.code == 0
    assert ran.stdout.decode().splitlines()[1].startswith("1 unfinished file, ")
    assert hydraflow.left() == ["d"]


def test_state_of_what_is_none(hydraflow):
    (hydraflow.directory / ".y.hydra").mkdir()
    (hydraflow.directory / ".z.hydra").write_text("a file")
    (hydraflow.directory / "y").write_text("mine")
    ran = hydraflow("state", "ls")
    assert ran.stdout.decode().splitlines()[0].startswith("y  nothing to go on from  untouched for ")
    assert ran.stdout.decode().splitlines()[1] == "1 unfinished file, 0 B on disk"
    assert hydraflow("state", "rm", ".").code == 0
    assert hydraflow.left() == [".z.hydra", "y"], "a file at its final name stays"


def test_state_does_not_follow_links(hydraflow, tmp_path):
    (tmp_path / ".far.hydra").mkdir()
    (hydraflow.directory / ".x.hydra").symlink_to(tmp_path / ".far.hydra")
    (hydraflow.directory / "there").symlink_to(tmp_path)
    hydraflow("state", "rm", ".")
    assert (tmp_path / ".far.hydra").is_dir()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rm"], 2, "what to remove must be named"),
        (["ls", "nowhere"], 6, "there is no such file or directory: nowhere"),
        (["ls", "--older-than", "soon"], 2, "a time such as 90, 12h or 7d was expected, not 'soon'"),
        (["list"], 2, "is not one of 'ls', 'rm'"),
        ([], 2, "Missing argument"),
    ],
)
def test_state_refuses(hydraflow_here, arguments, code, message):
    ran = hydraflow_here("state", *arguments)
    assert ran.code == code
    assert message in ran.error


def test_a_directory_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(place):
        if os.fspath(place).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    told = []
    assert list(inspecting.leftovers(tmp_path, told.append)) == []
    assert [str(error) for error in told] == [f"cannot read {tmp_path}/closed: Permission denied"]


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doctor_finds_nothing_wrong(hydraflow):
    ran = hydraflow(
        "doctor", "--json", environment={"SSL_CERT_FILE": "", "HTTPS_PROXY": "http://me:t0psecret@proxy:3128"}
    )
    found = {line["name"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert ran.code == 0, ran.stdout
    assert found["loop"]["value"].startswith("uvloop ")
    assert "authorities" in found["certificates"]["value"]
    assert found["proxies"]["value"] == "https by http://proxy:3128"
    assert "GB free" in found["output"]["value"]
    assert b"t0psecret" not in ran.stdout
    assert hydraflow.left() == []


@pytest.mark.parametrize(
    ("environment", "arguments", "line"),
    [
        ({"HYDRAFLOW_THREADS": "many"}, [], "! settings "),
        ({"HYDRAFLOW_CA_FILE": "/no/where"}, [], "! ca_file "),
        ({"SSL_CERT_FILE": "/no/where"}, [], "! certificates "),
        ({}, ["-o", "/proc/x"], "! output "),
    ],
)
def test_doctor_finds_what_is_wrong(hydraflow, environment, arguments, line):
    ran = hydraflow("doctor", *arguments, environment=environment)
    assert ran.code == 2
    assert [each for each in ran.stdout.decode().splitlines() if each.startswith("!")] == [
        each for each in ran.stdout.decode().splitlines() if each.startswith(line)
    ]


def test_doctor_knows_what_may_be_meant(hydraflow):
    ran = hydraflow("doctor", environment={"HYDRAFLOW_VERIFI": "require"})
    assert ran.code == 0
    (line,) = [each for each in ran.stdout.decode().splitlines() if each.startswith("? variable")]
    assert line.split(maxsplit=2)[2] == "HYDRAFLOW_VERIFI is not known  (perhaps HYDRAFLOW_VERIFY is meant)"


# ── completion ───────────────────────────────────────────────────────────────────────────────────────────────────────


def completed(words: str, directory: Path) -> set[str]:
    """What a real bash would offer behind these words."""
    script = f"""
    eval "$(hydraflow completion bash)"
    COMP_WORDS=({words}); COMP_CWORD=$(({len(words.split())} - 1))
    [[ "{words}" == *" " ]] && COMP_WORDS+=("") && COMP_CWORD=$((COMP_CWORD + 1))
    _hydraflow_completion hydraflow
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=directory,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    # The script switches how bash completes; that fails where nobody types, and is no matter.
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("hydraflow pr", {"probe"}),
        ("hydraflow --lim", {"--limit-rate"}),
        ("hydraflow lock --ch", {"--check"}),
        ("hydraflow http://h/x --verify ", {"auto", "require", "none"}),
        ("hydraflow state ", {"ls", "rm"}),
    ],
)
def test_bash_completes(tmp_path, words, offered):
    assert completed(words, tmp_path) == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(
    ("words", "offered"),
    [("hydraflow lock --ch", "--check"), ("hydraflow --input sam", "samples.tsv")],
)
def test_fish_completes(tmp_path, words, offered):
    (tmp_path / "samples.tsv").touch()
    script = f"hydraflow completion fish | source; complete -C '{words}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.split()[0] == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completes(tmp_path):
    """In a terminal of its own, as zsh completes nowhere else."""
    answer = tmp_path / "answer"
    script = f"""
    zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z 'PS1=; autoload -Uz compinit; compinit -u -d {tmp_path}/dump; eval "$(hydraflow completion zsh)"'
    zpty -w z 'finish() {{ print -r -- $BUFFER > {answer}; exit }}; zle -N finish; bindkey "^X" finish'
    zpty -w -n z $'hydraflow pr\t\x18'
    for _ in {{1..150}}; do [[ -s {answer} ]] && break; zpty -r -t z waste; sleep 0.1; done
    """
    subprocess.run(
        ["zsh", "-f", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "TERM": "xterm", "LANG": "C.UTF-8"},
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert answer.read_text() == "hydraflow probe \n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_for_other_shells(hydraflow, shell):
    ran = hydraflow("completion", shell)
    assert ran.code == 0
    assert f"_HYDRAFLOW_COMPLETE={shell}_complete" in ran.stdout.decode()
    asked = {"_HYDRAFLOW_COMPLETE": f"{shell}_complete", "COMP_WORDS": "hydraflow pro", "COMP_CWORD": "1"}
    if shell == "fish":
        asked["COMP_CWORD"] = "pro"
    assert "probe" in hydraflow(environment=asked).stdout.decode()


def test_a_question_that_nobody_understands(hydraflow):
    assert hydraflow(environment={"_HYDRAFLOW_COMPLETE": "tcsh_complete"}).code == 2
    assert hydraflow("completion", "tcsh").code == 2
