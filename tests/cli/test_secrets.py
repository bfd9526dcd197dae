"""Credentials in a URL or a header go to the server, and to no output, in no mode, whatever happens."""

from __future__ import annotations

import base64

import pytest

PASSWORD, SIGNATURE, TOKEN = "pa55w0rd", "5ca1ab1e0ff1ce", "t0k3n"
SECRETS = [PASSWORD, SIGNATURE, TOKEN]
HEADER = ("--header", f"X-Token: {TOKEN}")


def signed(url: str, name: str = "user") -> str:
    return f"{url.replace('://', f'://{name}:{PASSWORD}@')}?X-Amz-Signature={SIGNATURE}&X-Amz-Date=20240101T000000Z"


def check(hydraflow, ran):
    """Nothing printed, and nothing on disk but the data, holds a secret."""
    printed = ran.stdout.decode(errors="replace") + ran.stderr
    state = [path for path in hydraflow.directory.rglob(".*/*") if path.is_file()]
    left = "".join(path.read_bytes().decode(errors="replace") for path in state) + "".join(hydraflow.left())
    assert not [secret for secret in SECRETS if secret in printed or secret in left]


FAULTS = {
    "success": lambda rule: rule.head_delay(0),
    "refused": lambda rule: rule.status(403, body=SIGNATURE.encode()),
    "busy": lambda rule: rule.status(503),
    "dropped": lambda rule: rule.drop(),
    "garbage": lambda rule: rule.garbage(),
}


@pytest.mark.parametrize(
    ("fault", "mode"),
    [*((fault, ["-nu", "--json"]) for fault in FAULTS), ("success", ["-q"]), ("refused", ["-s"]), ("dropped", ["-s"])],
    ids=str,
)
def test_transfers(hydraflow, origin, data, fault, mode):
    url = signed(origin.add("/x.bin", data))
    FAULTS[fault](origin.when())
    ran = hydraflow(url, *HEADER, *mode, environment={"HYDRAFLOW_MAX_WAIT": "0.3"})
    assert (ran.code == 0) == (fault == "success")
    basic = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    assert {record.headers["authorization"] for record in origin.ledger} == {basic}, "the server must get them"
    assert {record.headers["x-token"] for record in origin.ledger} == {TOKEN}
    check(hydraflow, ran)


def test_redirects(hydraflow, origin, data):
    url = origin.add("/x.bin", b"")
    moved = origin.when(path="/x.bin").redirect(f"{origin.add('/y.bin', data)}?token={TOKEN}")
    ran = hydraflow(signed(url), "--json")
    assert (ran.code, moved.fired) == (0, 1)
    assert b"token=***" in ran.stdout, "the final URL is told, without what grants access"
    check(hydraflow, ran)


def test_connections_that_fail(hydraflow):
    ran = hydraflow(signed("http://127.0.0.1:1/x.bin"), "--json", environment={"HYDRAFLOW_FIRST_WAIT": "0.1"})
    assert ran.code == 4
    check(hydraflow, ran)


USAGE = [
    [signed("ftp://127.0.0.1/x.bin")],
    [signed("http://127.0.0.1:x/x.bin")],
    [signed("http://[127.0.0.1/x.bin")],
    [signed("http://127.0.0.1/x.bin") + "#colour=red"],
    [signed("http://127.0.0.1/x.bin"), signed("http://127.0.0.1/x.bin")],
    [signed("http://127.0.0.1/x.bin"), signed("http://127.0.0.1/x.bin", "other")],
    ["--threads", signed("http://127.0.0.1/x.bin")],
    ["--header", f"Authorization {TOKEN}", "http://127.0.0.1/x.bin"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=range(len(USAGE)))
def test_usage_errors(hydraflow_here, arguments):
    ran = hydraflow_here(*arguments)
    assert ran.code == 2
    assert not [secret for secret in SECRETS if secret in ran.stdout.decode() + ran.stderr]


def test_interrupted(hydraflow, origin, data, wait_for):
    origin.when().slow(2_000_000)
    process = hydraflow.start(signed(origin.add("/x.bin", data)), *HEADER)
    wait_for(lambda: origin.bytes_served() > 300_000)
    process.terminate()
    ran = hydraflow.finish(process)
    assert ran.code == 143
    assert "download/.x.bin.hydra/journal" in hydraflow.left()
    check(hydraflow, ran)
