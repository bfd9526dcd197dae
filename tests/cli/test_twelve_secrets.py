"""Twelve kinds of credentials at once, in every way that a run can end: none is printed, and none is left behind."""

from __future__ import annotations

import base64
import logging
import os

import pytest

from hydraflow.api import fetch
from hydraflow.errors import HydraError
from hydraflow.settings import load

#: Each has letters that nothing else has, so that no encoding of it is overlooked that keeps letters.
KINDS = {
    "password in the URL": "pwAQXJ1",
    "Amazon signature": "amzsigAQXJ2",
    "Amazon session token": "amztokAQXJ3",
    "Google signature": "googAQXJ4",
    "Azure signature": "azureAQXJ5",
    "CloudFront policy": "policyAQXJ6",
    "token in the query": "tokenAQXJ7",
    "Authorization": "bearerAQXJ8",
    "Cookie": "cookieAQXJ9",
    "header of the caller's own": "customAQXJ10",
    "signed target of a redirect": "targetAQXJ11",
    "password of netrc": "netrcAQXJ12",
}
NEEDLES = [*KINDS.values(), base64.b64encode(f"anna:{KINDS['password of netrc']}".encode()).decode()]
QUERY = "&".join([
    f"X-Amz-Signature={KINDS['Amazon signature']}",
    f"X-Amz-Security-Token={KINDS['Amazon session token']}",
    f"X-Goog-Signature={KINDS['Google signature']}",
    f"sig={KINDS['Azure signature']}&se=2030",
    f"Policy={KINDS['CloudFront policy']}",
    f"token={KINDS['token in the query']}",
])  # fmt: skip
HEADERS = {
    "Authorization": f"Bearer {KINDS['Authorization']}",
    "Cookie": f"session={KINDS['Cookie']}",
    "X-Api-Key": KINDS["header of the caller's own"],
}
FAULTS = {
    "success": lambda rule: rule.head_delay(0),
    "refused": lambda rule: rule.status(403, body=KINDS["Amazon signature"].encode()),
    "gone": lambda rule: rule.status(404),
    "busy": lambda rule: rule.status(503),
    "cut": lambda rule: rule.drop(),
    "garbage": lambda rule: rule.garbage(),
}
ENDINGS = [*FAULTS, "wrong digest"]


def prepare(origin, data, fault: str) -> str:
    target = origin.add("/y.bin", data, headers={"Content-MD5": base64.b64encode(bytes(16)).decode()}
                        if fault == "wrong digest" else {})  # fmt: skip
    origin.when(path="/x.bin").redirect(f"{target}?X-Amz-Signature={KINDS['signed target of a redirect']}")
    if fault in FAULTS:
        FAULTS[fault](origin.when(path="/y.bin"))
    if fault == "slow":
        origin.when(path="/y.bin").slow(1_500_000)
    return f"{origin.url}/x.bin?{QUERY}"


def found_in(text: bytes) -> list[str]:
    return [needle for needle in NEEDLES if needle.encode().lower() in text.lower()]


def left_in(directory) -> bytes:
    """Names and contents of everything that lies there, but the netrc itself."""
    files = [path for path in directory.rglob("*") if path.name != "netrc"]
    return b"\n".join([os.fsencode(str(files)), *(path.read_bytes() for path in files if path.is_file())])


@pytest.mark.parametrize("fault", ENDINGS)
# --json beside the lines for people, which are plain here: that is -nu, too.
@pytest.mark.parametrize(
    "mode", [["-vv", "--json", "--report", "r.html"], ["-s"], ["--verify", "require"]], ids=" ".join
)
def test_the_command(hydraflow, origin, data, fault, mode):
    url = prepare(origin, data, fault).replace("://", f"://user:{KINDS['password in the URL']}@")
    netrc = hydraflow.directory / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login anna password {KINDS['password of netrc']}\n")
    arguments = [word for name, value in HEADERS.items() for word in ("--header", f"{name}: {value}")]
    environment = {"HYDRAFLOW_MAX_WAIT": "0.2", "NETRC": str(netrc), "PYTHONDEVMODE": ""}
    ran = hydraflow(url, *arguments, *mode, environment=environment)
    assert (ran.code == 0) == (fault == "success" and mode != ["--verify", "require"])
    assert len(origin.ledger) >= 2, "the server was asked, and redirected"
    assert ("--report" in mode) == ((hydraflow.directory / "r.html").exists())
    printed = ran.stderr.encode() + (b"" if mode == ["-s"] else ran.stdout)
    assert found_in(printed + left_in(hydraflow.directory)) == []


def test_a_checkpoint(hydraflow, origin, data, wait_for):
    url = prepare(origin, data, "slow").replace("://", f"://user:{KINDS['password in the URL']}@")
    arguments = [word for name, value in HEADERS.items() for word in ("--header", f"{name}: {value}")]
    process = hydraflow.start(url, *arguments)
    wait_for(lambda: origin.bytes_served() > 1_000_000)
    process.terminate()
    ran = hydraflow.finish(process)
    assert ran.code == 143
    assert any(name.endswith("journal") for name in hydraflow.left())
    assert found_in(ran.stdout + ran.stderr.encode() + left_in(hydraflow.directory)) == []


@pytest.mark.parametrize("fault", ENDINGS)
def test_logs_errors_and_results(origin, data, tmp_path, monkeypatch, caplog, fault):
    """In a program that logs everything, without a way to ask for less."""
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login anna password {KINDS['password of netrc']}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio", "hydraflow"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    told: list[str] = []
    settings = load(max_wait=0.2, retry_delay=0.02, user_agent=f"secrets/{fault}")
    headers = {name: value for name, value in HEADERS.items() if name != "Authorization"}
    try:
        result = fetch(prepare(origin, data, fault), tmp_path / "x", headers=headers, settings=settings,
                       on_progress=lambda progress: told.append(repr(progress)))  # fmt: skip
        told += [repr(result), str(result.as_dict())]
    except HydraError as error:
        told += [repr(error), str(error), str(vars(error)), str(error.__cause__), str(error.__context__)]
    sent = {record.headers.get("authorization") for record in origin.ledger}
    assert NEEDLES[-1] in str(sent), "netrc was used"
    assert found_in("\n".join([*told, caplog.text]).encode() + left_in(tmp_path)) == []
