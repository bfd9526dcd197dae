"""`hydraflow lock`, and fetching by a lock: the same files, or both values."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

import hydraflow as package
from hydraflow.errors import ResourceChangedError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def locked(hydraflow, origin, data):
    """Three files of the origin, locked: one announces a digest, of two it is computed."""
    urls = [origin.add("/a.bin", data), origin.add("/b.bin", data[:1000]), origin.add("/c.bin", b"")]
    (hydraflow.directory / "m").write_text("\n".join(urls))
    ran = hydraflow("lock", "m", "-o", "data.lock")
    assert ran.code == 0
    origin.ledger.clear()
    return urls, ran


def lock_of(hydraflow) -> dict:
    return json.loads((hydraflow.directory / "data.lock").read_text())


def test_what_is_recorded(hydraflow, locked, data):
    urls, ran = locked
    assert ran.lines[-1] == "data.lock: 3 files locked; fetch them by: hydraflow --locked data.lock"
    assert ran.lines[0] == "a.bin: nobody promises a digest; computed from 3.1 MB that were read"
    files = lock_of(hydraflow)["files"]
    assert [file["url"] for file in files] == urls
    assert files[0] == {
        "name": "a.bin", "url": urls[0], "size": len(data), "digest": f"sha256:{sha256(data)}", "etag": '"v1"',
        "last_modified": None,
    }  # fmt: skip


def test_the_same_files(hydraflow, locked, data):
    ran = hydraflow("--locked", "data.lock", "-o", "d", "--json", "-q")
    assert ran.code == 0
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {line["verification"] for line in told} == {"caller"}
    assert (hydraflow.directory / "d/a.bin").read_bytes() == data
    assert (hydraflow.directory / "d/c.bin").read_bytes() == b""


def test_a_promised_digest_is_taken_and_nothing_read(hydraflow, origin, data):
    digest = sha256(data)
    field = base64.b64encode(bytes.fromhex(digest)).decode()
    ran = hydraflow("lock", origin.add("/x.bin", data, headers={"Repr-Digest": f"sha-256=:{field}:"}))
    assert ran.code == 0, ran.stderr
    assert lock_of(hydraflow)["files"][0]["digest"] == f"sha256:{digest}"
    assert origin.bytes_served() < 100


def test_a_changed_file_is_refused_with_both_values(hydraflow, origin, locked, data):
    other = data[1:] + b"x"
    origin.add("/a.bin", other, etag='"v2"')
    origin.add("/b.bin", data[:1001], etag='"v2"')
    ran = hydraflow("--locked", "data.lock", "-o", "d", "--json")
    assert ran.code == 9
    told = {line["name"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert told["a.bin"]["message"] == (
        f"not the file that data.lock has locked: sha256 was {sha256(data)}, is {sha256(other)}"
    )
    assert told["b.bin"]["message"] == ("not the file that data.lock has locked: size was 1,000 bytes, is 1,001 bytes")
    assert (told["a.bin"]["error"], told["a.bin"]["exit_code"]) == ("ResourceChangedError", 7)
    assert "If the new file is meant, lock it anew: hydraflow lock." in ran.stderr
    assert hydraflow.left() == ["d", "d/c.bin", "data.lock", "m"]


@pytest.mark.parametrize("arguments", [["--stream"], ["--fifo", "/dev/null"], []])
def test_one_of_the_lock(hydraflow, origin, locked, data, arguments):
    if arguments == ["--fifo", "/dev/null"]:
        ran = hydraflow("run", locked[0][1], "--locked", "data.lock", "--", "cat")
    else:
        ran = hydraflow(locked[0][1], "--locked", "data.lock", *arguments)
    assert ran.code == 0, ran.stderr
    assert {record.path for record in origin.ledger} == {"/b.bin"}
    assert ran.stdout == (data[:1000] if arguments else b"")
    origin.add("/b.bin", data[:999] + b"y", etag='"v2"')
    ran = hydraflow(locked[0][1], "--locked", "data.lock", "--stream")
    assert ran.code == 7
    assert f"sha256 was {sha256(data[:1000])}, is {sha256(data[:999] + b'y')}" in ran.error


def test_what_is_not_locked_is_refused(hydraflow, origin, locked):
    ran = hydraflow(f"{origin.url}/d.bin", "--locked", "data.lock")
    assert (ran.code, ran.error) == (2, f"error: {origin.url}/d.bin is not in data.lock. Lock it: hydraflow lock.")
    (hydraflow.directory / "n").write_text(f"url,md5\n{locked[0][0]},\n{origin.url}/d.bin,\n")
    assert hydraflow("--input", "n", "--locked", "data.lock").code == 2
    assert not origin.ledger


def test_check_asks_and_does_not_fetch(hydraflow, origin, locked, data):
    assert hydraflow("lock", "--check", "data.lock").code == 0
    origin.add("/a.bin", data, etag='"v2"')
    origin.when(path="/c.bin").status(404)
    served = origin.bytes_served()
    ran = hydraflow("lock", "--check", "data.lock")
    assert ran.code == 7
    assert ran.lines[0].startswith('error: a.bin: not the file that data.lock has locked: ETag was "v1", is "v2"')
    assert ran.lines[1].startswith("error: c.bin: 404")
    assert ran.lines[2] == "data.lock: 1 of 3 files are as they were, as far as their server tells"
    assert origin.bytes_served() - served < 100


def test_a_new_lock_tells_what_is_new(hydraflow, origin, locked, data):
    origin.add("/b.bin", b"new", etag='"v2"')
    ran = hydraflow("lock", "m")
    was, now = f"sha256:{sha256(data[:1000])}", f"sha256:{sha256(b'new')}"
    assert f"b.bin: was {was}, 1,000 bytes; is {now}, 3 bytes" in ran.lines
    assert lock_of(hydraflow)["files"][1]["size"] == 3


def test_a_file_that_cannot_be_had_leaves_the_lock_as_it_was(hydraflow, origin, locked):
    before = (hydraflow.directory / "data.lock").read_bytes()
    ran = hydraflow("lock", "m", f"{origin.url}/missing.bin")
    assert ran.code == 3
    assert ran.lines[-1] == "1 of 4 files cannot be locked; data.lock is left as it was"
    assert (hydraflow.directory / "data.lock").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Either a manifest or URLs to lock are needed, or --check LOCK."),
        (["m", "--check", "l"], "Either a manifest"),
        (
            ["http://me:t0psecret@h/x"],
            "http://h/x has a password or a signature in it, and a lock is for others to read",
        ),
        (["--check", "m"], "m is not a data lock"),
    ],
)
def test_what_cannot_be_locked(hydraflow_here, tmp_path, arguments, message):
    (tmp_path / "m").write_text("http://h/x")
    ran = hydraflow_here("lock", *arguments)
    assert ran.code == 2
    assert message in ran.error
    assert "t0psecret" not in ran.stderr


def test_a_manifest_that_contradicts_the_server(hydraflow, origin, data):
    (hydraflow.directory / "m").write_text(f"url,size,md5\n{origin.add('/x.bin', data)},7,{'0' * 32}\n")
    ran = hydraflow("lock", "m")
    assert ran.code == 5
    assert "not what the manifest says: size 7 bytes in the manifest, 3,145,728 bytes by the server" in ran.stderr


def test_two_files_of_one_name(hydraflow, origin, data):
    ran = hydraflow("lock", origin.add("/a/x.bin", b"1"), origin.add("/b/x.bin", b"2"))
    assert ran.code == 2
    assert "two files would be written to one name, x.bin" in ran.error


# ── the door for other fronts ────────────────────────────────────────────────────────────────────────────────────────


def test_from_python(hydraflow, origin, locked, data, tmp_path):
    lock, url = hydraflow.directory / "data.lock", locked[0][0]
    with package.locked(url, lock) as pinned:
        assert package.fetch(pinned, tmp_path / "one").digest.value == sha256(data)
    origin.add("/a.bin", data[1:] + b"x", etag='"v2"')
    with pytest.raises(ResourceChangedError) as caught, package.locked(url, lock) as pinned:
        package.fetch(pinned, tmp_path / "two")
    assert (caught.value.was, caught.value.now) == (f"sha256 {sha256(data)}", f"sha256 {sha256(data[1:] + b'x')}")
    with pytest.raises(package.HydraError, match="404"), package.locked(f"{origin.url}/b.bin", lock):
        package.fetch(f"{origin.url}/missing", tmp_path / "three")


def test_files_can_be_checked_by_the_lock_and_by_a_table(hydraflow, locked, data):
    assert hydraflow("--locked", "data.lock", "-o", "d", "-q").code == 0
    ran = hydraflow("verify", "d", "--from", "data.lock")
    assert ran.code == 0
    assert [line.partition(":")[0] for line in ran.lines] == ["d/a.bin", "d/b.bin", "d/c.bin"]
    (hydraflow.directory / "t.tsv").write_text(f"url\tsha256\n{locked[0][1]}\t{sha256(data[:1000])}\n")
    assert hydraflow("verify", "d", "--from", "t.tsv").code == 0
    (hydraflow.directory / "d/b.bin").write_bytes(b"x")
    assert hydraflow("verify", "d", "--from", "data.lock").code == 5
    assert hydraflow("verify", "d", "--from", "t.tsv").code == 5
