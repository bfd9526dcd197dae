"""What each option does, seen from the server and on the disk."""

from __future__ import annotations

import hashlib
import json

import pytest


def test_output_is_download_by_default(hydraflow, origin, data):
    hydraflow(origin.add("/x.bin", data))
    assert (hydraflow.directory / "download/x.bin").read_bytes() == data


def test_an_option_beats_the_environment(hydraflow, origin, data):
    url, environment = origin.add("/x.bin", data), {"HYDRAFLOW_OUTPUT": "there"}
    assert hydraflow(url, environment=environment).code == 0
    assert hydraflow(url, "-o", "here", environment=environment).code == 0
    assert {"there/x.bin", "here/x.bin"} <= set(hydraflow.left())


def test_threads_is_a_ceiling(hydraflow, origin, data):
    url = origin.add("/x.bin", data * 6)
    origin.when().slow(20_000_000)
    assert hydraflow(url, "--threads", 2).code == 0
    assert origin.peak_requests == 2


def test_several_connections(hydraflow, origin, data):
    url = origin.add("/x.bin", data * 6)
    origin.when().slow(20_000_000)
    assert hydraflow(url, "-t", 6).code == 0
    assert origin.peak_requests > 2


def test_name(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    ran = hydraflow(f"{url}#size={len(data)}", "-o", "d", "--name", "y.bin")
    assert ran.code == 0, ran.stderr
    assert [path.name for path in (hydraflow.directory / "d").iterdir()] == ["y.bin"]


def test_a_directory_may_have_a_suffix(hydraflow, origin, data):
    (hydraflow.directory / "d.bin").mkdir()
    assert hydraflow(origin.add("/x.bin", data), "-o", "d.bin").code == 0
    assert (hydraflow.directory / "d.bin/x.bin").read_bytes() == data


def test_header(hydraflow, origin, data):
    url = origin.add("/x.bin", data)
    ran = hydraflow(url, "--header", "Authorization: Bearer abc:def", "--header", "X-Empty:")
    assert ran.code == 0
    assert {record.headers["authorization"] for record in origin.ledger} == {"Bearer abc:def"}
    assert {record.headers["x-empty"] for record in origin.ledger} == {""}
    assert {record.headers["accept-encoding"] for record in origin.ledger} == {"identity"}


@pytest.mark.parametrize(
    "header", ["Authorization Bearer t0psecret", "Bearer t0psecret:", "A: t0psecret\x1b[2J", ": t0psecret"]
)
def test_a_bad_header_is_not_shown(hydraflow, origin, data, header):
    ran = hydraflow(origin.add("/x.bin", data), "--header", header)
    assert ran.code == 2
    assert "t0psecret" not in ran.stderr
    assert not origin.ledger


def interrupted(hydraflow, origin, url, wait_for):
    """A run that left a checkpoint."""
    origin.when().slow(2_000_000)
    process = hydraflow.start(url)
    wait_for(lambda: origin.bytes_served() > 500_000)
    process.terminate()
    assert hydraflow.finish(process).code == 143
    origin.rules.clear()
    origin.ledger.clear()


def test_resume(hydraflow, origin, data, wait_for):
    url = origin.add("/x.bin", data)
    interrupted(hydraflow, origin, url, wait_for)
    ran = hydraflow(url)
    assert ran.lines[0].startswith("x.bin: going on after ")
    assert "from the checkpoint" in ran.lines[1]
    assert origin.bytes_served() < len(data)


def test_no_resume(hydraflow, origin, data, wait_for):
    url = origin.add("/x.bin", data)
    interrupted(hydraflow, origin, url, wait_for)
    ran = hydraflow(url, "--no-resume", "--json", "-q")
    assert json.loads(ran.stdout)["outcome"] == "fetched"
    assert origin.bytes_served() == len(data)
    assert (hydraflow.directory / "download/x.bin").read_bytes() == data


def test_overwrite(hydraflow, origin, data):
    (hydraflow.directory / "x.bin").write_text("mine")
    ran = hydraflow(origin.add("/x.bin", data), "-o", ".", "--overwrite")
    assert ran.code == 0
    assert (hydraflow.directory / "x.bin").read_bytes() == data
    assert hydraflow.left() == ["x.bin"]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "SHA-512"])
def test_digest(hydraflow, origin, data, algorithm):
    digest = hashlib.new(algorithm.replace("-", "").lower(), data).hexdigest()
    ran = hydraflow(origin.add("/x.bin", data), "--digest", f"{algorithm}:{digest.upper()}")
    assert ran.code == 0
    assert f"verified {algorithm.replace('-', '').lower()} (caller)" in ran.stderr


def test_md5(hydraflow, origin, data):
    ran = hydraflow(origin.add("/x.bin", data), "--md5", hashlib.md5(data).hexdigest())
    assert ran.code == 0
    assert "verified md5 (caller)" in ran.stderr


def test_the_first_failure_counts_after_all_were_tried(hydraflow, origin, data):
    wrong = origin.add("/wrong.bin", data) + "#md5=" + "0" * 32
    origin.when(path="/wrong.bin").head_delay(0.5)  # it fails last
    urls = [origin.add("/a.bin", data), wrong, origin.url + "/missing.bin", origin.add("/b.bin", data)]
    ran = hydraflow(*urls)
    assert ran.code == 5
    assert {line.partition(":")[0] for line in ran.lines[:-1]} == {"a.bin", "b.bin", "error"}
    errors = [line.split(":")[1].strip() for line in ran.lines if line.startswith("error")]
    assert sorted(errors) == ["missing.bin", "wrong.bin"]
    assert hydraflow.left() == ["download", "download/a.bin", "download/b.bin"]


def test_digests_of_several_urls(hydraflow, origin, data):
    urls = [origin.add(f"/{n}.bin", data[n:]) + f"#md5={hashlib.md5(data[n:]).hexdigest()}" for n in range(3)]
    ran = hydraflow(*urls, "--json", "-q")
    assert ran.code == 0
    assert [json.loads(line)["verification"] for line in ran.stdout.splitlines()] == ["caller"] * 3


def test_two_urls_with_one_name(hydraflow, origin, data):
    origin.add("/a/x.bin", data)
    origin.add("/b/x.bin", data)
    ran = hydraflow(f"{origin.url}/a/x.bin", f"{origin.url}/b/x.bin")
    assert ran.code == 2
    assert "two URLs would be written to one name, x.bin" in ran.error
    assert f"{origin.url}/a/x.bin" in ran.error
    assert not origin.ledger
