"""The provider and its objects, called as Snakemake calls them, against real servers."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_storage_plugins.exceptions import FileOrDirectoryNotFoundError
from snakemake_interface_storage_plugins.tests import TestStorageBase

from hydraflow.adapters.store import Store
from hydraflow.core import urls
from hydraflow.snakemake import host
from hydraflow.snakemake.settings import check
from snakemake_storage_plugin_hydra import StorageProvider, StorageProviderSettings
from tests.faults.origin import Origin
from tests.integrations.snakemake.conftest import ROOT, retrieve, with_digest

DATA = bytes(range(256)) * 4000
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"
DATE_SECONDS = 1735689600


class TestStorage(TestStorageBase):
    """What the interface package expects of a plugin."""

    __test__ = True
    retrieve_only = True

    @pytest.fixture(autouse=True)
    def _server(self, nginx, samples):
        self.nginx, self.samples = nginx, samples

    def get_query(self, tmp_path):
        return f"{self.nginx.url}/sample.bin#sha256={self.samples.sha256['sample.bin']}"

    def get_query_not_existing(self, tmp_path):
        return f"{self.nginx.url}/none.bin"

    def get_storage_provider_cls(self):
        return StorageProvider

    def get_storage_provider_settings(self):
        return StorageProviderSettings()


# Settings.


def test_import_is_cheap():
    heavy = {"httpx", "httpcore", "uvloop", "pydantic", "pydantic_settings", "rich", "click", "hydraflow.engine"}
    code = (
        "import sys, snakemake_interface_storage_plugins.storage_object, snakemake_interface_storage_plugins.settings;"
        "before = set(sys.modules); import snakemake_storage_plugin_hydra; print(*(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    loaded = set(ran.stdout.split())
    assert "hydraflow.snakemake.provider" in loaded
    assert not heavy & loaded


def test_unknown_settings(tmp_path):
    settings = StorageProviderSettings()
    vars(settings).update(sha256="12", keep_local=True)  # as Snakemake does with storage.hydra(url, sha256=...)
    with pytest.raises(WorkflowError, match=r"(?s)unknown setting.*sha256.*#sha256=HEX"):
        StorageProvider(local_prefix=tmp_path, logger=logging.getLogger(), settings=settings)


def test_wrong_on_error(provide):
    with pytest.raises(WorkflowError, match="job or abort, not 'ignore'"):
        provide(on_error="ignore")


@pytest.mark.parametrize(
    ("name", "value"),
    [("threads", 0), ("threads", "many"), ("max_requests_per_second", 0), ("state_dir", "~nobody-x/d")],
)
def test_wrong_values(provide, name, value):
    with pytest.raises(WorkflowError, match=f"{name} of the hydra storage provider"):
        provide(**{name: value})


def test_wrong_variables(monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_STORAGE_HYDRA_OFFLINE", "maybe")
    with pytest.raises(WorkflowError, match=r"OFFLINE is one of .* not 'maybe'"):
        StorageProviderSettings()
    monkeypatch.delenv("SNAKEMAKE_STORAGE_HYDRA_OFFLINE")
    monkeypatch.setenv("SNAKEMAKE_STORAGE_HYDRA_STATE_DIR", "lab::state")
    with pytest.raises(WorkflowError, match="STATE_DIR holds for all tags: give 'lab::state' by --storage-hydra"):
        check(StorageProviderSettings())


def test_hints_are_in_the_words_of_snakemake(provide, origin, caplog):
    origin.when(path="/x.bin").status(403)
    retrieve(provide().object(with_digest(origin.add("/x.bin", DATA), DATA)))
    (said,) = [record.getMessage() for record in caplog.records if "cannot retrieve" in record.getMessage()]
    assert "SNAKEMAKE_STORAGE_HYDRA_TOKEN" in said
    assert "--header" not in said


def test_token_is_not_shown():
    assert "hush" not in repr(StorageProviderSettings(token="hush"))


def test_token_goes_to_its_origin_only(provide, origin):
    with Origin() as other:
        url = origin.add("/x.bin", b"")
        origin.when(path="/x.bin").redirect(other.add("/y.bin", DATA))
        provide(token="hush").object(url).retrieve_object()
        assert {record.headers.get("authorization") for record in origin.requests("/x.bin")} == {"Bearer hush"}
        assert {record.headers.get("authorization") for record in other.requests("/y.bin")} == {None}


# Queries.


@pytest.mark.parametrize(
    ("query", "alone", "beside"),
    [
        ("https://host/x", True, False),
        ("http://host/x", True, False),
        ("hydra+https://host/x", True, True),
        ("s3://bucket/x", False, False),
        ("x.fa", False, False),
    ],
)
@pytest.mark.parametrize("crowded", [False, True])
def test_claims_of_the_class(query, alone, beside, crowded, request):
    if crowded:
        request.getfixturevalue("rival")
    answer = StorageProvider.is_valid_query(query)
    assert bool(answer) is (beside if crowded else alone)
    assert bool(answer.reason) is not bool(answer)


@pytest.mark.usefixtures("rival")
def test_the_instance_takes_every_url(provide):
    assert provide().is_valid_query("https://host/x")
    assert not provide().is_valid_query("s3://bucket/x")


@pytest.fixture
def rival(tmp_path, monkeypatch):
    """Another plugin is installed."""
    package = tmp_path / "snakemake_storage_plugin_http"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)


def test_prefix_is_taken_off(provide):
    assert provide().object("hydra+https://host/x").query == "https://host/x"


def test_retrieved_and_not_retrieved_are_apart(provide):
    provider, query = provide(), "https://host/x.fa"
    assert provider.object(query).local_path() == provider.local_prefix / "host/x.fa"
    assert provider.object(query, retrieve=False).local_path() != provider.object(query).local_path()


def test_secrets_are_not_shown(provide):
    query = "https://user:hush@host/x?id=7&token=hush#sha256=12"
    shown = provide().object(query).print_query
    assert "hush" not in shown
    assert "id=7" in shown
    refused = provide().is_valid_query(query)
    assert not refused
    assert "hush" not in str(refused)


def test_patterns_are_not_asked_about(provide, origin):
    provider = provide()
    provider.object(f"{origin.url}/{{sample}}.fa#sha256={{sum}}")
    url = origin.add("/x.bin", DATA)
    assert provider.object(url).exists()
    assert {record.path for record in origin.ledger} == {"/x.bin"}


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What is there.


def test_one_request_tells_everything(provide, origin):
    obj = provide().object(origin.add("/x.bin", DATA, last_modified=DATE))

    async def ask():
        return (
            await obj.managed_exists(),
            await obj.managed_mtime(),
            await obj.managed_size(),
            await obj.managed_checksum(),
        )

    assert asyncio.run(ask()) == (True, DATE_SECONDS, len(DATA), None)
    assert (obj.exists(), obj.mtime(), obj.size(), obj.checksum()) == (True, DATE_SECONDS, len(DATA), None)
    assert asyncio.run(obj.managed_local_footprint()) == len(DATA)
    assert len(origin.ledger) == 1


def test_all_are_asked_when_the_first_is(provide, origin):
    provider = provide()
    objects = [provider.object(origin.add(f"/{number}", DATA)) for number in range(5)]
    for number in range(5):
        origin.when(path=f"/{number}").head_delay(0.1)
    assert objects[0].exists()
    wait_for(lambda: len(origin.ledger) == 5)
    assert origin.peak_requests > 1
    assert all(obj.exists() for obj in objects)
    assert len(origin.ledger) == 5


def test_declared_digest_is_the_identity(provide, origin):
    obj = provide().object(with_digest(origin.add("/x.bin", DATA, last_modified=DATE), DATA))
    assert obj.checksum() == obj.query.partition("#")[2].replace("=", ":")
    other = provide().object(with_digest(origin.add("/x.bin", DATA, last_modified=DATE.replace("2025", "2026")), DATA))
    assert obj.mtime() == other.mtime() < DATE_SECONDS


def test_crc_is_no_checksum_for_snakemake(provide):
    assert provide().object("https://host/x#crc32c=00000000").checksum() is None


@pytest.mark.parametrize("status", [404, 410])
def test_absent(provide, origin, status):
    url = origin.add("/x.bin", DATA)
    origin.when(path="/x.bin").status(status)
    obj = provide().object(url)
    assert obj.exists() is False
    assert asyncio.run(obj.managed_exists()) is False
    with pytest.raises(FileOrDirectoryNotFoundError, match=r"x\.bin"):
        obj.size()
    with pytest.raises(FileOrDirectoryNotFoundError, match=r"x\.bin"):
        asyncio.run(obj.managed_mtime())


@pytest.mark.parametrize("status", [401, 403, 405, 500, 503, 429])
@pytest.mark.usefixtures("impatient")
def test_refused_is_not_absent(provide, origin, status):
    url = origin.add("/x.bin", DATA)
    origin.when(path="/x.bin").status(status)
    obj = provide().object(f"{url}?token=hush")
    origin.when(path="/x.bin?token=hush").status(status)
    for ask in (obj.exists, obj.mtime, obj.size, lambda: asyncio.run(obj.managed_exists())):
        with pytest.raises(WorkflowError, match="cannot find out about") as caught:
            ask()
        assert not isinstance(caught.value, FileOrDirectoryNotFoundError)
        assert str(status) in str(caught.value)
        assert "hush" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_unreachable_is_not_absent(provide, origin):
    obj = provide().object(origin.add("/x.bin", DATA))
    origin.pause()
    with pytest.raises(WorkflowError, match="cannot find out about"):
        obj.exists()
    origin.resume()
    assert obj.exists()


# Retrieval.


def test_retrieve(provide, origin, caplog):
    obj = provide().object(with_digest(origin.add("/x.bin", DATA, last_modified=DATE), DATA))
    with caplog.at_level(logging.INFO):
        retrieve(obj)
    assert obj.local_path().read_bytes() == DATA
    (line,) = [record.getMessage() for record in caplog.records if record.name == "tests.snakemake"]
    assert line.startswith("hydra: x.bin: fetched 1.0 MB")
    assert "verified sha256 (url fragment)" in line
    assert [*(obj.provider.local_prefix / ".hydra").iterdir()] == []


@pytest.mark.parametrize(
    "date", [None, DATE, "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", "no date"]
)
@pytest.mark.parametrize("declared", [False, True])
def test_retrieved_is_as_old_as_in_the_storage(provide, origin, date, declared):
    url = origin.add("/x.bin", DATA, last_modified=date)
    obj = provide().object(with_digest(url, DATA) if declared else url)
    retrieve(obj)
    assert obj.local_path().stat().st_mtime == obj.mtime() >= 1


def test_empty_file(provide, nginx, samples):
    obj = provide().object(f"{nginx.url}/empty.bin#sha256={samples.sha256['empty.bin']}&size=0")
    retrieve(obj)
    assert obj.local_path().read_bytes() == b""


def test_as_many_at_a_time_as_there_are_threads(provide, origin):
    provider = provide(threads=2)
    objects = [provider.object(origin.add(f"/{number}", DATA)) for number in range(6)]
    assert all(obj.exists() for obj in objects)
    wait_for(lambda: not origin._in_flight)
    assert 1 <= origin.peak_requests <= 2
    for number in range(6):
        origin.when(path=f"/{number}").head_delay(0.05)
    retrieve(*objects)
    assert all(obj.local_path().read_bytes() == DATA for obj in objects)
    assert origin.peak_requests == 2


def test_rate_of_requests(provide, origin):
    """It is requests that are counted, not files: also those for the ranges of one."""
    data = os.urandom(30 << 20)
    obj = provide(max_requests_per_second=10).object(with_digest(origin.add("/x.bin", data), data))
    begun = time.monotonic()
    retrieve(obj)
    assert time.monotonic() - begun > (len(origin.ledger) - 2) / 10
    assert len(origin.ledger) > 2


def test_rate(provide, origin):
    provider = provide(max_requests_per_second=5)
    objects = [provider.object(origin.add(f"/{number}", DATA)) for number in range(8)]
    begun = time.monotonic()
    assert all(obj.exists() for obj in objects)
    assert 0.5 < time.monotonic() - begun < 5


@pytest.mark.parametrize("on_error", ["job", "abort"])
def test_wrong_digest(provide, origin, on_error, caplog):
    obj = provide(on_error=on_error).object(with_digest(origin.add("/x.bin", DATA), b"other"))
    if on_error == "abort":
        with pytest.raises(WorkflowError, match=r"cannot retrieve .*sha256"):
            retrieve(obj)
        assert not obj.local_path().exists()
    else:
        retrieve(obj)
        assert obj.local_path().is_socket()
        assert obj.local_path().stat().st_mtime < obj.mtime()
        assert any("cannot retrieve" in record.getMessage() for record in caplog.records)
    with pytest.raises(WorkflowError, match=r"cannot retrieve .*sha256"):
        obj.retrieve_object()


def test_on_a_node_the_error_is_that_of_the_job(provide, origin, monkeypatch):
    """There the job is the process: it is not let start, and nothing else ends with it."""
    monkeypatch.setattr(host, "runs_one_job", lambda: True)
    obj = provide().object(with_digest(origin.add("/x.bin", DATA), b"other"))
    with pytest.raises(WorkflowError, match=r"cannot retrieve .*sha256"):
        retrieve(obj)
    assert not obj.local_path().exists()


def test_a_later_try_replaces_the_mark(provide, origin):
    url = origin.add("/x.bin", DATA)
    obj = provide().object(url)
    assert obj.exists()
    gone = origin.when(path="/x.bin", request=1).status(404)
    retrieve(obj)
    assert obj.local_path().is_socket()
    retrieve(obj)
    assert gone.fired == 1
    assert obj.local_path().read_bytes() == DATA


def test_cancelled_goes_on_later(provide, origin):
    data = os.urandom(12 << 20)
    url = origin.add("/x.bin", data)
    obj = provide(threads=2).object(with_digest(url, data))
    slow = origin.when(path="/x.bin").slow(4_000_000)

    async def give_up():
        task = asyncio.ensure_future(obj.managed_retrieve())
        await asyncio.to_thread(wait_for, lambda: origin.bytes_served("/x.bin") > 5_000_000)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - begun

    assert asyncio.run(give_up()) < 1
    assert slow.fired > 1
    assert not obj.local_path().exists()
    origin.rules.clear()
    before = origin.bytes_served("/x.bin")
    retrieve(obj)
    assert obj.local_path().read_bytes() == data
    assert origin.bytes_served("/x.bin") - before < 8_500_000


def test_left_between_fetch_and_move(provide, origin):
    obj = provide().object(with_digest(origin.add("/x.bin", DATA), DATA))
    state = obj.provider.state(obj.query)
    state.parent.mkdir(parents=True)
    state.write_bytes(DATA)
    retrieve(obj)
    assert obj.local_path().read_bytes() == DATA
    assert len(origin.ledger) == 1
    assert not state.parent.exists()


@pytest.mark.parametrize("declared", [False, True])
def test_left_between_fetch_and_move_but_another_now(provide, origin, declared):
    url = origin.add("/x.bin", DATA, last_modified=DATE)
    obj = provide().object(with_digest(url, DATA) if declared else url)
    state = obj.provider.state(obj.query)
    state.parent.mkdir(parents=True)
    state.write_bytes(b"old")
    retrieve(obj)
    assert obj.local_path().read_bytes() == DATA


def test_what_is_kept_without_a_date_has_to_have_its_tag(provide, origin, tmp_path):
    for tag, data, fetched in (('"1"', b"aaaa", 1), ('"1"', b"aaaa", 0), ('"2"', b"bbbb", 1)):
        url = origin.add("/x.bin", data, etag=tag, last_modified=None)
        before = len(origin.ledger)
        obj = provide(state_dir=str(tmp_path / "state")).object(url)
        retrieve(obj)
        assert obj.local_path().read_bytes() == data
        # Each asks what is there, by a byte.
        assert sum(record.body_bytes_sent >= len(data) for record in origin.ledger[before:]) == fetched


def test_a_file_of_the_future_is_as_old_as_the_run(provide, origin):
    """A server's clock that is ahead must not make the file younger than what is made of it."""
    obj = provide().object(origin.add("/x.bin", DATA, last_modified="Fri, 01 Jan 2100 00:00:00 GMT"))
    retrieve(obj)
    assert obj.mtime() <= time.time()
    assert obj.local_path().stat().st_mtime == pytest.approx(obj.mtime(), abs=1e-3)


def test_a_dead_server_is_waited_for_once(provide, monkeypatch):
    """What is promised by a digest needs no answer, and many such files must not wait one after the other."""
    monkeypatch.setenv("HYDRAFLOW_FIRST_WAIT", "0.5")
    objects = [provide().object(with_digest(f"http://127.0.0.1:9/{n}.bin", DATA)) for n in range(1)]
    provider = objects[0].provider
    objects += [provider.object(with_digest(f"http://127.0.0.1:9/{n}.bin", DATA)) for n in range(1, 20)]
    begun = time.monotonic()
    for _ in range(3):
        for obj in objects:
            assert asyncio.run(obj.managed_exists())
    assert time.monotonic() - begun < 5


def test_waits_for_another_process(provide, origin):
    obj = provide().object(origin.add("/x.bin", DATA))
    other = Store(obj.provider.state(obj.query), urls.canonical(obj.query))
    other.claim()
    timer = threading.Timer(0.7, other.close)
    timer.start()
    begun = time.monotonic()
    retrieve(obj)
    timer.join()
    assert time.monotonic() - begun > 0.6
    assert obj.local_path().read_bytes() == DATA


def test_the_last_word_on_a_node(provide, origin, monkeypatch):
    """No checksum is asked for after a job of a cluster: what became of its stream is said in the cleaning."""
    for name in ("may_feed", "runs_one_job"):
        monkeypatch.setattr(host, name, lambda: True)
    obj = provide().object(with_digest(origin.add("/x.bin", DATA), DATA) + "&stream=fifo")
    obj.is_ondemand_eligible = True
    retrieve(obj)
    assert obj.local_path().is_fifo()
    with pytest.raises(WorkflowError, match=r"failed to stream .*: the job ended without reading the stream"):
        obj.cleanup()


def test_state_directory(provide, tmp_path):
    provider = provide(state_dir=str(tmp_path / "state"))
    path = provider.state("https://host/d/x.fa.gz#size=3")
    assert path.name == "x.fa.gz"
    assert path.parent.parent == tmp_path / "state"
    assert provide().state("https://host/x").parent.parent == Path(provide().local_prefix / ".hydra")
    assert provide(state_dir="~/state").state("https://host/x").is_relative_to(Path.home())
