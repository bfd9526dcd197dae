"""A data lock says which file each URL is: what has changed is refused, and only the jobs that need it fail."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from urllib.parse import urlsplit

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_storage_plugin_hydra import StorageProviderSettings
from tests.integrations.snakemake.conftest import retrieve, write_lock

DATA = os.urandom(300_000)
#: As long as DATA, and longer.
OTHER, LONGER = os.urandom(300_000), os.urandom(300_001)


@pytest.fixture
def lock(tmp_path, origin) -> str:
    return write_lock(tmp_path / "data.lock", **{origin.add("/x.bin", DATA): DATA})


def test_pinned(provide, origin, lock):
    obj = provide(lock=lock).object(f"{origin.url}/x.bin")
    assert obj.checksum() == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert (asyncio.run(obj.managed_exists()), asyncio.run(obj.managed_size())) == (True, len(DATA))
    assert origin.ledger == []
    retrieve(obj)
    assert obj.local_path().read_bytes() == DATA


def test_what_the_url_says_beside_it_stays(provide, origin, lock):
    mirror = "http://127.0.0.1:9/x.bin"
    query = provide(lock=lock).object(f"{origin.url}/x.bin#mirror={mirror}&stream=fifo").query
    assert query.endswith("&stream=fifo")
    assert f"&size={len(DATA)}" in query
    assert "mirror=" in query
    assert provide(lock=lock).is_valid_query(f"{origin.url}/x.bin#stream=fifo")  # the lock has its digest


def test_a_later_lock_is_another_file(provide, origin, lock, tmp_path):
    url = f"{origin.url}/x.bin"
    later = write_lock(tmp_path / "later.lock", **{url: OTHER})
    old, new = (provide(lock=each).object(url) for each in (lock, later))
    assert old.local_path() != new.local_path()
    assert old.checksum() != new.checksum()


@pytest.mark.parametrize("stated", ["", "#size={size}", "#sha256={sha256}"])
def test_credentials_and_what_agrees(provide, origin, lock, stated):
    stated = stated.format(size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
    query = f"hydra+http://user:hush@{urlsplit(origin.url).netloc}/x.bin{stated}"
    assert provide(lock=lock).is_valid_query(query)
    assert "&size=" in provide(lock=lock).object(query).query


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [("/y.bin", "y.bin is not in .*data.lock"), ("/x.bin#sha256=" + "0" * 64, "two digests"), ("/x.bin#size=1", "two")],
)
def test_what_the_lock_does_not_have(provide, origin, lock, stated, complaint):
    refused = provide(lock=lock).is_valid_query(origin.url + stated)
    assert not refused
    assert re.search(complaint, str(refused))


def test_no_lock(provide, tmp_path):
    (tmp_path / "data.lock").write_text("{}")
    with pytest.raises(WorkflowError, match=r"the lock of the hydra .*data\.lock is not a data lock"):
        provide(lock=str(tmp_path / "data.lock"))
    with pytest.raises(WorkflowError, match=r"cannot read .*none\.lock"):
        provide(lock=str(tmp_path / "none.lock"))


def test_the_path_is_of_where_one_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert StorageProviderSettings(lock="data.lock").lock == str(tmp_path / "data.lock")
    monkeypatch.setenv("SNAKEMAKE_STORAGE_HYDRA_LOCK", "~/data.lock")
    assert StorageProviderSettings().lock == os.path.expanduser("~/data.lock")  # noqa: PTH111


def test_changed(workflow, origin):
    """In a workflow: both values are shown, its jobs fail, and the others do not; in all forms of input."""
    urls = {name: origin.add(f"/{name}.bin", DATA) for name in ("same", "other", "piped", "fifo")}
    write_lock(workflow.path("data.lock"), **dict.fromkeys(urls.values(), DATA))
    for name in ("other", "piped"):
        origin.add(f"/{name}.bin", OTHER)
    origin.add("/fifo.bin", LONGER)
    workflow.write(
        'storage hydra:\n    provider="hydra",\n    lock="data.lock",\n'
        "rule all:\n    input: 'same.out', 'other.out', 'piped.out', 'fifo.out'\n"
        f"rule copy:\n    input: storage.hydra('{origin.url}/{{name,same|other}}.bin')\n"
        "    output: '{name}.out'\n    shell: 'cat {input} > {output}'\n"
        f"rule piped:\n    input: storage.hydra({urls['piped']!r}, retrieve=False)\n"
        "    output: 'piped.out'\n    shell: 'python -m hydraflow {input:q} --stream -q > {output}'\n"
        f"rule fifo:\n    input: access.sequential(storage.hydra({urls['fifo'] + '#stream=fifo'!r}))\n"
        "    output: 'fifo.out'\n    shell: 'cat {input} > {output}'\n"
    )
    code, said = workflow.run("--keep-going")
    assert code == 1, said
    assert workflow.path("same.out").read_bytes() == DATA
    assert not [name for name in ("other", "piped", "fifo") if workflow.path(f"{name}.out").exists()], said
    was, now = (hashlib.sha256(data).hexdigest() for data in (DATA, OTHER))
    (line,) = re.findall("hydra: cannot retrieve .*/other.bin.*", said)
    assert re.search(rf"not the file that .*data\.lock has locked: sha256 was {was}, is {now}", line)
    (line,) = re.findall("hydra: cannot retrieve .*/fifo.bin.*", said)
    assert "data.lock has locked: size was 300,000 bytes, is 300,001 bytes" in line
    assert re.search(rf"sha256 mismatch: expected {was}, got {now}", said)  # the command knows of the digest only


def test_a_url_that_nobody_locked(workflow, origin):
    """Nothing runs, whether it is written out or comes of wildcards; from the command line."""
    write_lock(workflow.path("data.lock"), **{origin.add("/a.bin", DATA): DATA})
    copy = "    output: '{name}.out'\n    shell: 'cat {input} > {output}'\n"
    workflow.write(
        "rule all:\n    input: 'a.out', 'b.out'\n"
        f"rule copy:\n    input: storage.hydra('{origin.url}/{{name}}.bin')\n{copy}"
    )
    code, said = workflow.run("--storage-hydra-lock", "data.lock")
    assert code == 1
    assert "/b.bin is not in " in said
    assert "hydraflow lock" in said
    assert origin.ledger == []
    code, said = workflow.run("a.out", "--storage-hydra-lock", "data.lock")
    assert code == 0, said
    assert workflow.path("a.out").read_bytes() == DATA
