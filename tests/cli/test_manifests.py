"""`--input`: many files from a list, a summary, what failed, and a second try of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from hydraflow.core import locks
from lab.nginx import Nginx
from tests.cli.conftest import ROOT

LONG = "d" * 5000

#: Of the thousand files: those with a wrong digest in the list, and those that are not there.
BAD, MISSING = {10, 500, 900}, {20, 700}


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A thousand files of 100 KB on a real server, and the table that lists them."""
    directory, random, rows = tmp_path_factory.mktemp("thousand"), Random(1), ["url\tsha256\tsize\tsample"]
    with Nginx(directory) as server:
        for number in range(1000):
            data = random.randbytes(100_000)
            if number not in MISSING:
                (directory / f"{number}.bin").write_bytes(data)
            digest = "0" * 64 if number in BAD else hashlib.sha256(data).hexdigest()
            rows.append(f"{server.url}/{number}.bin\t{digest}\t100000\ts{number}")
        yield directory, "\n".join(rows) + "\n"


def test_a_thousand_files(hydraflow, thousand):
    served, table = thousand
    (hydraflow.directory / "m.tsv").write_text(table)
    ran = hydraflow("--input", "m.tsv", "-o", "d", "--json", "--failed", "failed.jsonl")
    assert ran.code == 9
    told = {line["name"]: line for line in map(json.loads, ran.stdout.splitlines())}
    expected = {f"{n}.bin": 5 if n in BAD else 3 if n in MISSING else 0 for n in range(1000)}
    assert {name: line["exit_code"] for name, line in told.items()} == expected
    assert all(line["ok"] == (line["exit_code"] == 0) for line in told.values())
    assert ran.lines[0] == "m.tsv: passed over, since it means nothing here: sample"
    errors = [line for line in ran.lines if line.startswith("error: ")]
    assert len(errors) == 5
    assert len(ran.lines) <= 9, "of a thousand files only those that failed have lines of their own"
    total = r"1,000 files: 995 done \(99\.5 MB in \d+\.\d s\), 5 failed \(3 wrong digest, 2 not found\)"
    assert re.fullmatch(total, ran.lines[-2])
    assert ran.lines[-1] == "what failed is listed in failed.jsonl: to try it again, --input failed.jsonl"
    names = {path.name for path in (hydraflow.directory / "d").iterdir()}
    assert names == {name for name, code in expected.items() if code == 0}
    _rerun_of_the_failed(hydraflow, served)


def _rerun_of_the_failed(hydraflow, served):
    listed = (hydraflow.directory / "failed.jsonl").read_text().splitlines()
    assert len(listed) == 5
    assert {line["size"] for line in map(json.loads, listed)} == {100_000}
    (served / "20.bin").write_bytes(_data(20))
    ran = hydraflow("--input", "failed.jsonl", "-o", "d", "--json", "-q", "--failed", "failed.jsonl")
    assert ran.code == 9
    codes = {line["name"]: line["exit_code"] for line in map(json.loads, ran.stdout.splitlines())}
    assert codes == {"10.bin": 5, "500.bin": 5, "900.bin": 5, "700.bin": 3, "20.bin": 0}
    assert len((hydraflow.directory / "failed.jsonl").read_text().splitlines()) == 4
    (served / "20.bin").unlink()


def _data(number: int) -> bytes:
    random = Random(1)
    return [random.randbytes(100_000) for _ in range(number + 1)][-1]


def test_what_failed_is_for_its_owner_only_and_goes_when_all_is_well(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    missing = origin.url.replace("//", "//me:t0psecret@") + "/missing.bin"
    ran = hydraflow(url, missing, "--failed", "failed")
    listed = hydraflow.directory / "failed"
    assert ran.code == 3
    assert json.loads(listed.read_text()) == {"url": missing}
    assert stat.S_IMODE(listed.stat().st_mode) == 0o600
    assert "t0psecret" not in ran.stderr
    origin.add("/missing.bin", data)
    assert hydraflow("-i", "failed", "--failed", "failed").code == 0
    assert hydraflow.left() == ["download", "download/missing.bin", "download/x.bin"]


def test_a_manifest_of_one_s_own_is_not_overwritten(hydraflow, origin, data):
    text = f"url\n{origin.add('/x.bin', data)}\n{origin.url}/missing.bin\n"
    (hydraflow.directory / "m").write_text(text)
    ran = hydraflow("--input", "m", "--failed", "./m")
    assert ran.code == 2
    assert ran.error.startswith("error: --failed would take the place of m, which is not a list of failures")
    assert (hydraflow.directory / "m").read_text() == text
    assert not origin.ledger


PRECIOUS = {"failed": "a list of failures", "report": "a report", "output": "a data lock"}


@pytest.mark.parametrize("option", PRECIOUS)
def test_nothing_else_is_lost_to_a_small_file(hydraflow, origin, data, option):
    """One option's file is easily given to another one; what is there and of another kind stays."""
    url, precious = origin.add("/x.bin", data), hydraflow.directory / "precious"
    precious.write_text("mine")
    ran = hydraflow("lock", url, "-o", "precious") if option == "output" else hydraflow(url, f"--{option}", "precious")
    assert ran.code == 2
    assert f"--{option} would take the place of precious, which is not {PRECIOUS[option]}" in ran.stderr
    assert precious.read_text() == "mine"
    assert not origin.ledger


@pytest.mark.parametrize("option", PRECIOUS)
def test_a_small_file_may_be_no_plain_one(hydraflow, origin, data, option):
    """What is written to /dev/null, a pipe or through a link leaves them what they are."""
    url, here = origin.add("/x.bin", data), hydraflow.directory

    def write(place):
        if option == "output":
            return hydraflow("lock", url, "-o", place)
        wanted = url if option == "report" else f"{origin.url}/missing.bin"
        return hydraflow(wanted, "-o", "d", f"--{option}", place)

    (here / "target").touch()
    (here / "link").symlink_to("target")
    write("link")
    assert (here / "link").is_symlink()
    assert (here / "target").stat().st_size
    os.mkfifo(here / "fifo")
    reader = os.open(here / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write("fifo")
        assert (here / "fifo").is_fifo()
        assert os.read(reader, 1000)
    finally:
        os.close(reader)
    write("/dev/null")
    assert Path("/dev/null").is_char_device()


def test_a_list_of_failures_that_is_not_needed_stays_what_it_is(hydraflow, origin, data):
    os.mkfifo(hydraflow.directory / "fifo")
    assert hydraflow(origin.add("/x.bin", data), "--failed", "fifo").code == 0
    assert (hydraflow.directory / "fifo").is_fifo()


def test_a_report_does_not_take_the_place_of_what_was_fetched(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "-o", "d", "--report", "d/x.bin")
    assert ran.code == 2
    assert (hydraflow.directory / "d/x.bin").read_bytes() == data


def test_a_digest_of_another_kind_than_the_lock_s(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    assert hydraflow("lock", url, "-o", "-").stdout.startswith(b"{")
    assert hydraflow("lock", url, "-q").code == 0
    ran = hydraflow("--locked", "data.lock", f"{url}#md5={'0' * 32}")
    assert ran.code == 2
    assert "the URL has a md5, data.lock a sha256: one of them would go unchecked" in ran.stderr


def test_all_of_a_lock_can_be_run_on(hydraflow, origin, data):
    assert hydraflow("lock", origin.add("/x.bin", data), "-q").code == 0
    ran = hydraflow("run", "--locked", "data.lock", "--", "wc", "-c")
    assert (ran.code, ran.stdout.strip()) == (0, b"%d" % len(data))


def test_several_lists(hydraflow, origin, data):
    for name in "ab":
        (hydraflow.directory / name).write_text(origin.add(f"/{name}.bin", data))
    assert hydraflow("-i", "a", "-i", "b", "-o", "d").code == 0
    assert hydraflow.left() == ["a", "b", "d", "d/a.bin", "d/b.bin"]


def test_all_failed(hydraflow, origin):
    (hydraflow.directory / "m").write_text(f"{origin.url}/a\n{origin.url}/b\n")
    assert hydraflow("--input", "m").code == 3


def test_standard_input_names_mirrors_and_headers(hydraflow, origin, data):
    origin.when(path="/x.bin").status(503)
    lines = f"{origin.add('/x.bin', data)}\t{origin.add('/y/x.bin', data)}\n  out=a/b.bin\n  header=X-A: b\n"
    done = hydraflow.shell('printf %s "$LIST" | hydraflow --input - -o d', LIST=lines)
    assert done.code == 0, done.stderr
    assert (hydraflow.directory / "d/a/b.bin").read_bytes() == data
    assert {record.headers.get("x-a") for record in origin.ledger} == {"b"}


def test_a_name_that_says_nothing_is_kept_if_it_was_given(hydraflow, origin, data):
    row = {"url": origin.add("/x.bin", data), "name": "data"}
    (hydraflow.directory / "m").write_text(json.dumps([row, f"{origin.add('/z.bin', data)}"]))
    assert hydraflow("--input", "m", "-o", "d").code == 0
    assert hydraflow.left() == ["d", "d/data", "d/z.bin", "m"]


def test_names_that_the_server_tells(hydraflow, origin, data):
    """Every line is about one file, under the name that it got; what was printed can be fetched again by it."""
    for number in range(3):
        headers = {"Content-Disposition": f'attachment; filename="{number}.bin"'}
        origin.add(f"/{number}/content", data[: 1000 * number], headers=headers)
    urls = [f"{origin.url}/{number}/content" for number in range(3)]
    (hydraflow.directory / "m").write_text("\n".join(urls))
    ran = hydraflow("--input", "m", "-o", "d", "--json")
    assert ran.code == 0
    lines = {line["name"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert {name: line["url"] for name, line in lines.items()} == {f"{n}.bin": urls[n] for n in range(3)}
    assert sorted(line.partition(":")[0] for line in ran.lines[:3]) == [f"{n}.bin" for n in range(3)]
    (hydraflow.directory / "again").write_bytes(ran.stdout)
    assert hydraflow("--input", "again", "-o", "e").code == 0
    assert sorted(path.name for path in (hydraflow.directory / "e").iterdir()) == ["0.bin", "1.bin", "2.bin"]


def test_a_failure_is_not_asked_for_without_what_was_expected(hydraflow, origin, data):
    """Its line does not say which digest the file must have: fetched again, it would pass for right."""
    (hydraflow.directory / "m").write_text(f"{origin.add('/x.bin', data)}#md5={'0' * 32}")
    ran = hydraflow("-i", "m", "-o", "d", "--json")
    assert ran.code == 5
    (hydraflow.directory / "again").write_bytes(ran.stdout)
    ran = hydraflow("-i", "again", "-o", "d")
    assert ran.code == 2
    assert "again: file 1: a failure as --json prints it does not say what was expected" in ran.stderr


def test_what_failed_keeps_the_digest_of_the_command_line(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    assert hydraflow(url, "--md5", "0" * 32, "-o", "d", "--failed", "f").code == 5
    assert json.loads((hydraflow.directory / "f").read_text())["digest"] == f"md5:{'0' * 32}"
    assert hydraflow("-i", "f", "-o", "d").code == 5
    assert not (hydraflow.directory / "d/x.bin").exists()


def test_what_json_printed_verifies_what_it_is_about(hydraflow, origin, data):
    """Files below the directory under their names, and a file that failed is one that is not there."""
    lines = "".join(f"{origin.add(f'/{n}.bin', data)}\trun{n}/reads.bin\n" for n in (1, 2))
    (hydraflow.directory / "m").write_text(f"url\tname\n{lines}{origin.url}/missing.bin\tmissing.bin\n")
    ran = hydraflow("-i", "m", "-o", "d", "--json")
    assert ran.code == 9
    (hydraflow.directory / "j").write_bytes(ran.stdout)
    (hydraflow.directory / "d/run2/reads.bin").write_bytes(b"")
    ran = hydraflow("verify", "d", "--from", "j")
    assert "d/run2/reads.bin: NOT VERIFIED (size mismatch" in ran.stderr
    assert "d/missing.bin: NOT VERIFIED (there is no such file)" in ran.stderr
    assert ran.code == 6


def test_a_failure_has_the_url_that_it_is_about(hydraflow, origin, data):
    (hydraflow.directory / "d").mkdir()
    for name in ("x.bin", "y.bin"):
        (hydraflow.directory / "d" / name).write_bytes(b"mine")
    urls = [origin.add(f"/{name}.bin", data) for name in "xy"]
    ran = hydraflow(*urls, "-o", "d", "--json")
    assert ran.code == 6
    assert sorted(json.loads(line)["url"] for line in ran.stdout.splitlines()) == urls


def test_what_is_said_on_the_command_line_of_a_list_of_one(hydraflow, origin, data):
    """The list has the one file that the options are about."""
    (hydraflow.directory / "m").write_text(f"{origin.url}/missing.bin")
    mirror, md5 = origin.add("/y.bin", data), hashlib.md5(data).hexdigest()
    ran = hydraflow("--input", "m", "--mirror", mirror, "--md5", md5, "--name", "x/z.bin", "-o", "d")
    assert ran.code == 0, ran.stderr
    assert (hydraflow.directory / "d/x/z.bin").read_bytes() == data
    assert "verified md5" in ran.stderr


def test_a_list_can_be_streamed(hydraflow, origin):
    urls = [origin.add(f"/{n}.txt", f"{n}\n".encode()) for n in range(5)]
    (hydraflow.directory / "m").write_text("\n".join(urls))
    ran = hydraflow("--input", "m", "--stream")
    assert (ran.code, ran.stdout) == (0, b"0\n1\n2\n3\n4\n")


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", [], "m lists no file"),
        ("nonsense", [], "m: line 1: this is not a URL with a host"),
        ("url,md5\nhttp://h/a,1\n", [], "m: line 2: a md5 digest has 32"),
        ("http://h/a/x\nhttp://h/b/x\n", [], "two URLs would be written to one name, x"),
        ("http://h/a\nhttp://h/b\n", ["--md5", "0" * 32], "one digest cannot be that of several URLs"),
        (f"http://h/a#md5={'1' * 32}\n", ["--md5", "0" * 32], "two digests are given"),
        ("http://h/a\nhttp://h/b\n", ["--name", "x"], "--name is of one URL"),
        ("http://h/a\n", ["--name", "../x"], "'../x' is not a name for a file below the output directory"),
        ("http://h/a\n", ["--name", "x", "--stream"], "--name is for files"),
        (
            "http://h/a.gz\n",
            ["-o", "b.gz"],
            "--output is a directory, and 'b.gz' looks like a file. Write -o DIR --name",
        ),
        ('{"url": "http://h/a"}\r\n{"url" "http://h/b"}\n', [], "m: line 2: it is not JSON: Expecting ':' delimiter"),
        ("http://h/a\n  header=bad\n", [], "m: line 2: header=: 'Name: value' was expected"),
        ("sample,file_url\ns1,http://h/a\n", [], "m: line 1: this is no URL, and no head of a table"),
        (f"http://h/a,{'1' * 32}\n", [], "m: line 1: a digest stands behind a comma"),
        ('{"url": "http://h/a", "headers": {"X": "y"}}', ["-s"], "headers of one file cannot be sent in a stream"),
        ('{"url": "http://h/a", "name": "b"}', ["-s", "--keep"], "a stream is kept under the name in its URL"),
        ("http://h..h/a\n", [], "m: line 1: no host can have this name"),
        (f"http://{'h' * 64}.org/a\n", [], "m: line 1: no host can have this name"),
        ("http://h/a\nhttp://h/b\n", ["--mirror", "http://h/c"], "--mirror is of one URL"),
        ("http://h/a\n", ["--stream", "--failed", "f"], "--failed is for files"),
    ],
)
def test_refused_before_anything_is_asked_for(hydraflow_here, tmp_path, text, arguments, message):
    (tmp_path / "m").write_text(text)
    ran = hydraflow_here("--input", "m", *arguments)
    assert ran.code == 2
    assert message in ran.error


@pytest.mark.parametrize("place", [".", "/", ""])
@pytest.mark.parametrize("option", ["--failed", "--report", "lock"])
def test_what_is_to_be_written_can_be_no_directory(hydraflow_here, option, place):
    """Known before anything is fetched."""
    command = ["lock", "http://127.0.0.1:9/x", "-o"] if option == "lock" else ["http://127.0.0.1:9/x", option]
    ran = hydraflow_here(*command, place)
    assert ran.code == 6
    assert ran.error == f"error: cannot write {Path(place)}: it is a directory. Name a file in it."


def test_a_directory_that_is_gone(hydraflow):
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" -m hydraflow doctor'
    ran = subprocess.run(
        ["sh", "-c", script, sys.executable],
        cwd=hydraflow.directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == "hydraflow: error: the directory that this was started in is gone\n"
    assert ran.returncode == 6


@pytest.mark.parametrize("arguments", [["http://127.0.0.1:9/x", "-o", LONG], [LONG], ["doctor", "-o", LONG]])
def test_a_path_that_can_be_none(hydraflow, arguments):
    ran = hydraflow(*arguments, environment={"HYDRAFLOW_MAX_WAIT": "0"})
    assert ran.code != 1
    assert "Traceback" not in ran.stderr


def test_a_lock_of_nothing(hydraflow_here, tmp_path):
    (tmp_path / "l").write_bytes(locks.encode([]))
    ran = hydraflow_here("--locked", "l")
    assert (ran.code, ran.error) == (2, "error: l lists no file")


def test_a_scheme_in_capitals(hydraflow, origin, data):
    url = origin.add("/x.bin", data).replace("http:", "HTTP:")
    assert hydraflow("lock", url, "-q").code == 0
    assert hydraflow("--locked", "data.lock", "-o", "d").code == 0
    assert hydraflow("verify", "d/x.bin", "--from", f"{url}#md5={hashlib.md5(data).hexdigest()}").code == 0


def test_headings_are_no_escape_sequences(hydraflow, origin, data):
    (hydraflow.directory / "m").write_text(f"url\t\x1b[2Jsample\n{origin.add('/x.bin', data)}\ts1\n")
    ran = hydraflow("--input", "m")
    assert ran.code == 0
    assert ran.lines[0] == "m: passed over, since it means nothing here: \ufffd[2Jsample"


def test_a_list_that_is_not_there(hydraflow_here):
    ran = hydraflow_here("--input", "m")
    assert (ran.code, ran.error) == (6, "error: cannot read m: No such file or directory")


def test_a_list_of_failures_that_cannot_be_written(hydraflow, origin):
    ran = hydraflow(f"{origin.url}/missing", "--failed", "no/where")
    assert ran.code == 6
    assert "cannot write no/where: No such file or directory" in ran.stderr
