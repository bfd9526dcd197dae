"""What is fetched once serves others: jobs, nodes, later runs, and runs without a network."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from hydraflow.snakemake import host
from snakemake_storage_plugin_hydra import StorageProviderSettings
from tests.integrations.snakemake.conftest import retrieve, with_digest, write_lock

DATA = os.urandom(2_000_000)
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"

#: Runs a job at once, in its own group, as the scheduler of a cluster would on some node.
SUBMIT = """#!/bin/sh
cp "$1" "$0.$$"
NODE=$$ setsid sh "$0.$$" > "$0.$$.log" 2>&1 &
echo $!
"""


# A state directory of one's own.


@pytest.mark.parametrize("declared", [False, True])
def test_what_was_fetched_stays(provide, origin, tmp_path, declared):
    url = origin.add("/x.bin", DATA, last_modified=DATE)
    query = with_digest(url, DATA) if declared else url
    for name in ("first", "second"):
        obj = provide(state_dir=str(tmp_path / "state"), prefix=name).object(query)
        retrieve(obj)
        assert obj.local_path().read_bytes() == DATA
        assert obj.provider.state(query).samefile(obj.local_path())
    assert origin.bytes_served("/x.bin") < 1.1 * len(DATA)


def test_what_stays_is_checked(provide, origin, tmp_path, caplog):
    query = with_digest(origin.add("/x.bin", DATA), DATA)
    obj = provide(state_dir=str(tmp_path / "state")).object(query)
    retrieve(obj)
    obj.local_path().write_bytes(b"a job writes to its input")
    again = provide(state_dir=str(tmp_path / "state"), prefix="again").object(query)
    retrieve(again)
    assert again.local_path().read_bytes() == DATA


def test_copied_where_it_cannot_be_linked(provide, origin, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    obj = provide(state_dir=str(tmp_path / "state")).object(origin.add("/x.bin", DATA, last_modified=DATE))
    retrieve(obj)
    assert obj.local_path().read_bytes() == DATA
    assert obj.local_path().stat().st_mtime == obj.mtime()
    assert not obj.provider.state(obj.query).samefile(obj.local_path())


# Offline.


@pytest.mark.parametrize("declared", [False, True])
def test_offline(provide, origin, tmp_path, declared):
    url = origin.add("/x.bin", DATA, last_modified=DATE)
    query = with_digest(url, DATA) if declared else url
    online = provide(state_dir=str(tmp_path / "state")).object(query)
    retrieve(online)
    asked = len(origin.ledger)
    origin.pause()
    offline = provide(state_dir=str(tmp_path / "state"), offline=True, prefix="offline").object(query)
    assert offline.exists()
    assert offline.size() == len(DATA)
    assert offline.mtime() == online.mtime()
    retrieve(offline)
    assert offline.local_path().read_bytes() == DATA
    assert len(origin.ledger) == asked


def test_offline_and_never_fetched(provide, origin):
    obj = provide(offline=True).object(with_digest(origin.add("/x.bin", DATA), DATA))
    assert not obj.exists()
    with pytest.raises(WorkflowError, match="this run is offline"):
        obj.retrieve_object()
    assert origin.ledger == []


def test_offline_and_changed(provide, origin, tmp_path, caplog):
    query = with_digest(origin.add("/x.bin", DATA), DATA)
    retrieve(provide(state_dir=str(tmp_path / "state")).object(query))
    obj = provide(state_dir=str(tmp_path / "state"), offline=True, prefix="offline").object(query)
    obj.provider.state(query).write_bytes(bytes(len(DATA)))
    retrieve(obj)
    assert obj.local_path().is_socket()
    assert "cannot retrieve" in caplog.text


# Headers.


def test_headers_go_to_their_host(provide, origin):
    url = origin.add("/x.bin", DATA)
    text = f"X-All: a b\n{url.split('/')[2]}=X-Here: c:d\nlocalhost=X-There: e\n"
    retrieve(provide(headers=text, token="hush").object(url))
    for record in origin.ledger:
        assert record.headers["x-all"] == "a b"
        assert record.headers["x-here"] == "c:d"
        assert "x-there" not in record.headers
        assert record.headers["authorization"] == "Bearer hush"


def test_a_header_of_authorization_goes_before_the_token(provide, origin):
    url = origin.add("/x.bin", DATA)
    retrieve(provide(headers="authorization: Basic eA==", token="hush").object(url))
    assert {record.headers["authorization"] for record in origin.ledger} == {"Basic eA=="}


@pytest.mark.parametrize("headers", ["hush", "a b: hush", "ho/st=X: hush"])
def test_wrong_headers_are_not_shown(provide, headers):
    with pytest.raises(WorkflowError, match=r"line 1 is not 'Name: value'") as raised:
        provide(headers=headers)
    assert "hush" not in str(raised.value)


def test_headers_are_not_shown():
    assert "hush" not in repr(StorageProviderSettings(headers="X: hush"))


def test_headers_come_from_the_environment(workflow, origin):
    url = origin.add("/x.bin", DATA)
    workflow.write(
        f"rule x:\n    input: storage.hydra({url!r})\n    output: 'x.out'\n    shell: 'cp {{input}} {{output}}'\n"
    )
    code, said = workflow.run("x.out", SNAKEMAKE_STORAGE_HYDRA_HEADERS="X-One: a hush\nX-Two: b")
    assert code == 0, said
    assert {(record.headers["x-one"], record.headers["x-two"]) for record in origin.ledger} == {("a hush", "b")}
    assert "hush" not in said


def test_settings_come_from_the_environment(monkeypatch, provide):
    for name, value in {"THREADS": "3", "STATE_DIR": "/d", "ON_ERROR": "abort", "OFFLINE": "true"}.items():
        monkeypatch.setenv(f"SNAKEMAKE_STORAGE_HYDRA_{name}", value)
    found = StorageProviderSettings(threads=5)
    assert (found.threads, found.state_dir, found.on_error, found.offline) == (5, "/d", "abort", True)
    assert StorageProviderSettings().threads == 3


# Prefetch.


@pytest.mark.parametrize(("size", "power"), [("5", 5), ("20GB", 20 * 10**9), ("1.5 MiB", 1.5 * 2**20), ("2k", 2000)])
def test_sizes(provide, size, power):
    assert provide(prefetch=size)._budget == power


@pytest.mark.parametrize("size", ["", "-1", "1 sack", "GB"])
def test_wrong_sizes(provide, size):
    if size:
        with pytest.raises(WorkflowError, match="is a size such as 20GB"):
            provide(prefetch=size)
    else:
        assert provide(prefetch=size)._budget == 0


def test_ahead_of_their_jobs(workflow, origin):
    """While one job sleeps, the input of the next one comes; and no more than is allowed."""
    urls = [with_digest(origin.add(f"/{number}.bin", DATA), DATA) for number in range(3)]
    workflow.write(
        "rule all:\n    input: expand('{n}.out', n=range(3))\n"
        + "".join(
            f"rule x{n}:\n    input: storage.hydra({url!r})\n    output: '{n}.out'\n"
            "    shell: 'sleep 1; test -e seen || ls .snakemake/storage/hydra/.hydra/*/*.bin > seen; '\n"
            "        'cp {input} {output}'\n"
            for n, url in enumerate(urls)
        )
    )
    code, said = workflow.run("--cores", "1", "--storage-hydra-prefetch", "3MB")
    assert code == 0, said
    assert len(origin.ledger) == 6
    assert len(workflow.path("seen").read_text().split()) == 1  # two would not fit


# A cluster: jobs retrieve on their nodes.


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None or shutil.which("rsync") is None,
    reason="needs snakemake-executor-plugin-cluster-generic, snakemake-storage-plugin-fs and rsync",
)
def test_nodes(workflow, origin):
    """Each URL is served once, though three jobs on three nodes want it; a pipe ends well there, and the lock holds."""
    x, y, z, early = (origin.add(f"/{name}.bin", DATA) for name in ("x", "y", "z", "early"))
    lock = write_lock(workflow.path("data.lock"), **dict.fromkeys((x, y, z, early), DATA))
    streamed = f"{z}#stream=fifo"
    workflow.write(
        "rule all:\n    input: '1.out', '2.out', '3.out', 'z.out', 'early.out'\n"
        f"rule x:\n    input: storage.hydra({x!r}), storage.hydra({y!r})\n    output: '{{n}}.out'\n"
        "    shell: 'cat {input} > {output}'\n"
        f"rule z:\n    input: access.sequential(storage.hydra({streamed!r}))\n    output: 'z.out'\n"
        "    shell: 'cat {input} > {output}'\n"
        f"rule early:\n    input: access.sequential(storage.hydra('{early}#stream=fifo'))\n    output: 'early.out'\n"
        "    shell: 'head -c 100000 {input} > {output}'\n"
    )
    submit = workflow.path("submit")
    submit.write_text(SUBMIT)
    submit.chmod(0o755)
    options = {
        "--executor": "cluster-generic",
        "--cluster-generic-submit-cmd": str(submit),
        "--default-storage-provider": "fs",
        "--default-storage-prefix": str(workflow.path("results")),
        "--remote-job-local-storage-prefix": str(workflow.path("scratch/$NODE")),
        "--storage-hydra-lock": lock,
        "--storage-hydra-state-dir": str(workflow.path("state")),
        "--seconds-between-status-checks": "1",
        "--jobs": "4",
    }
    shared = ("--shared-fs-usage", "persistence", "software-deployment", "sources", "source-cache")
    code, said = workflow.run("--keep-going", *shared, *(word for option in options.items() for word in option))
    logs = "".join(path.read_text() for path in workflow.directory.glob("submit.*.log"))
    feeds = host.removes_stored_outputs()
    assert code == feeds, said + logs
    assert all(workflow.path(f"results/{n}.out").read_bytes() == DATA + DATA for n in (1, 2, 3))
    assert workflow.path("results/z.out").read_bytes() == DATA
    for name in ("x", "y"):
        assert logs.count(f"hydra: {name}.bin: fetched") == 1
        assert logs.count(f"hydra: {name}.bin: already present") == 2
    assert logs.count("hydra: z.bin: streamed") == feeds
    assert bool(re.search(r"failed to stream .*/early\.bin: the job ended", logs)) == feeds
    assert workflow.path("results/early.out").exists() == (not feeds)
