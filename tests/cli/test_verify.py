"""`hydraflow verify`: files that are there, against URLs, manifests of every kind, and digests."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.core.test_integrity import of_parts

MIB = 1 << 20


@pytest.fixture
def file(hydraflow, data):
    path = hydraflow.directory / "x.bin"
    path.write_bytes(data)
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verify(hydraflow, *arguments, **options):
    return hydraflow("verify", *map(str, arguments), **options)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_by_the_answer_of_a_url(hydraflow, origin, data, file):
    import base64

    md5 = hashlib.md5(data)
    url = origin.add("/x.bin", data, headers={"Content-MD5": base64.b64encode(md5.digest()).decode()})
    ran = verify(hydraflow, file, "--from", url)
    assert (ran.code, ran.stdout, ran.lines) == (0, b"", [f"{file}: verified md5 (Content-MD5 header)"])
    assert verify(hydraflow, file, "--from", url, "-q").lines == []
    assert verify(hydraflow, file.parent, "--from", url).code == 0, "a file of the URL's name in a directory"
    flip(file)
    ran = verify(hydraflow, file, "--from", url)
    assert ran.code == 5
    assert "NOT VERIFIED" in ran.lines[0]
    assert md5.hexdigest() in ran.lines[0]


def test_by_a_checksum_file_beside_the_url(hydraflow, origin, data, file):
    url = origin.add("/x.bin", data)
    sums = origin.add("/SHA256SUMS", f"{sha256(data)}  x.bin\n".encode())
    ran = verify(hydraflow, file, "--from", url, "--json")
    assert ran.code == 0
    told = json.loads(ran.stdout)
    assert (told["ok"], told["digest"], told["digest_url"]) == (True, f"sha256:{sha256(data)}", sums)
    assert told["verification"] == "sidecar"


def test_nobody_knows(hydraflow, origin, data, file):
    ran = verify(hydraflow, file, "--from", origin.add("/x.bin", data), "--json")
    assert ran.code == 5
    assert json.loads(ran.stdout)["error"] == "UnverifiableError"
    ran = verify(hydraflow, file, "--from", origin.add("/x.bin", data + b"x"))
    assert (ran.code, "size mismatch" in ran.lines[0]) == (5, True)
    assert verify(hydraflow, file, "--from", f"{origin.url}/none").code == 3


def test_by_a_digest(hydraflow, data, file):
    assert verify(hydraflow, file, "--digest", f"SHA-256:{sha256(data).upper()}").code == 0
    assert verify(hydraflow, file, "--digest", f"sha256:{'0' * 64}").code == 5
    assert verify(hydraflow, file.parent / "none", "--digest", f"sha256:{sha256(data)}").code == 6
    large = file.parent / "large.bin"
    large.write_bytes(bytes(9 * MIB))
    parts = of_parts(bytes(9 * MIB), 8 * MIB)
    assert verify(hydraflow, large, "--digest", f"md5:{parts}-2").code == 0
    ran = verify(hydraflow, large, "--digest", f"md5:{parts}-3")
    assert (ran.code, "NOT VERIFIED" in ran.lines[0]) == (5, True)


def gnu(name, data):
    return f"{sha256(data)}  {name}\n"


MANIFESTS = {
    "gnu": gnu,
    "bsd": lambda name, data: f"SHA256 ({name}) = {sha256(data)}\n",
    "ncbi": lambda name, data: f"{hashlib.md5(data).hexdigest()}  ./{name}\n",
    "json": lambda name, data: json.dumps({"name": name, "ok": True, "digest": f"sha256:{sha256(data)}"}) + "\n",
    "metalink": lambda name, data: (
        f'<metalink><file name="{name}"><hash type="sha-256">{sha256(data)}</hash></file></metalink>'
    ),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_by_a_manifest(hydraflow, data, file, kind):
    manifest = hydraflow.directory / "manifest"
    manifest.write_text(MANIFESTS[kind]("x.bin", data))
    assert verify(hydraflow, file, "--from", manifest).code == 0
    ran = verify(hydraflow, file.parent, "--from", manifest)
    assert ran.code == 0
    assert ran.lines[0].endswith(f"(manifest {manifest})")
    flip(file)
    assert verify(hydraflow, file, "--from", manifest).code == 5
    other = file.rename(file.with_name("other.bin"))
    assert verify(hydraflow, other.parent, "--from", manifest).code == 6
    assert verify(hydraflow, other, "--from", manifest).code == 2


def test_what_json_printed_is_a_manifest(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    fetched = hydraflow(f"{url}#sha256={sha256(data)}", f"{origin.url}/none", "--json", "-o", "d")
    manifest = hydraflow.directory / "results.jsonl"
    manifest.write_bytes(fetched.stdout)
    ran = verify(hydraflow, "d", "--from", manifest)
    assert (ran.code, len(ran.lines)) == (6, 2)
    assert "d/none: NOT VERIFIED (there is no such file)" in ran.stderr


def test_what_json_printed_of_a_file_that_the_server_named(hydraflow, origin, data):
    url = origin.add("/content", data, headers={"Content-Disposition": "attachment; filename=x.zip"})
    manifest = hydraflow.directory / "results.jsonl"
    manifest.write_bytes(hydraflow(f"{url}#sha256={sha256(data)}", "--json", "-o", "d").stdout)
    ran = verify(hydraflow, "d", "--from", manifest)
    assert (ran.code, ran.lines[0].partition(": ")[0]) == (0, "d/x.zip")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.bin", "a/../../x.bin"])
def test_a_manifest_does_not_lead_out_of_the_directory(hydraflow, data, file, name):
    inside = hydraflow.directory / "inside"
    inside.mkdir()
    manifest = hydraflow.directory / "manifest"
    manifest.write_text(gnu(name, data))
    ran = verify(hydraflow, inside, "--from", manifest)
    assert (ran.code, "is not a place in" in ran.lines[0]) == (2, True)


def test_names_do_not_reach_the_terminal_raw(hydraflow, data):
    manifest = hydraflow.directory / "manifest"
    manifest.write_text(f"\\{sha256(data)}  a\\nb\x1b[31m\u202ec\n")
    ran = verify(hydraflow, hydraflow.directory, "--from", manifest)
    assert (ran.code, len(ran.lines)) == (6, 1)
    assert ran.lines[0].isprintable()


@pytest.mark.parametrize("text", ["", "hello\n", "12345 67 x.bin\n", "{", '{"x": 1}', "<html/>", "\0" * 99,
                                  f"{'0' * 64}  x.bin\n{'1' * 64}  x.bin\n"])  # fmt: skip
def test_what_is_no_manifest(hydraflow, file, text):
    manifest = hydraflow.directory / "manifest"
    manifest.write_text(text)
    assert verify(hydraflow, file, "--from", manifest).code == 2


def test_usage(hydraflow, file):
    assert verify(hydraflow, file).code == 2
    assert verify(hydraflow, file, "--from", "x", "--digest", "md5:0").code == 2
    assert verify(hydraflow, file, "--digest", "md5:0").code == 2
    assert verify(hydraflow, file, "--from", file.parent / "none").code == 6
    assert b"MANIFEST" in hydraflow("verify", "--help").stdout


@pytest.mark.parametrize("name", ["SHA256SUMS", "sha256sum.txt", "x.bin.sha256"])
def test_by_a_checksum_file_at_a_url(hydraflow, origin, data, file, name):
    listed = f"{sha256(data)}  x.bin\n{sha256(b'')}  empty\n"
    url = origin.add(f"/{name}", listed.encode())
    (file.parent / "empty").touch()
    for path, count in ((file, 1), (file.parent, 2)):
        ran = verify(hydraflow, path, "--from", url, "--json")
        told = [json.loads(line) for line in ran.stdout.splitlines()]
        assert ran.code == 0
        assert [(each["ok"], each["digest_url"], each["verification"]) for each in told] == [
            (True, url, "sidecar")
        ] * count
    assert told[0]["digest_source"] == "checksum file over http"
    flip(file)
    assert verify(hydraflow, file, "--from", url).code == 5
    file.rename(file.with_name("other"))
    assert "other is not listed in " + url in verify(hydraflow, file.with_name("other"), "--from", url).stderr


def test_a_digest_alone_at_a_url(hydraflow, origin, data, file):
    url = origin.add("/x.bin.sha256", sha256(data).encode() + b"\n")
    assert verify(hydraflow, file, "--from", url).code == 0
    flip(file)
    assert verify(hydraflow, file, "--from", url).code == 5


def test_a_checksum_file_itself_against_its_url(hydraflow, origin, data):
    listed = f"{sha256(data)}  x.bin\n".encode()
    url = origin.add("/SHA256SUMS", listed, headers={"Repr-Digest": "sha-256=:AAAA:"})
    path = hydraflow.directory / "SHA256SUMS"
    path.write_bytes(listed + b"x")
    assert "size mismatch" in verify(hydraflow, path, "--from", url).lines[0]


def test_credentials_are_those_of_a_fetch(hydraflow, origin, data, file):
    """~/.netrc counts, and what hydraflow sets itself cannot be set."""
    netrc = hydraflow.directory / "netrc"
    netrc.write_text("machine 127.0.0.1 login anna password s3cr3t\n")
    url = origin.add("/x.bin", data)
    verify(hydraflow, file, "--from", url, environment={"NETRC": str(netrc)})
    assert {record.headers.get("authorization") for record in origin.ledger} == {"Basic YW5uYTpzM2NyM3Q="}
    ran = verify(hydraflow, file, "--from", url, "--header", "Range: bytes=0-0")
    assert (ran.code, "hydraflow's own to set" in ran.stderr) == (2, True)
