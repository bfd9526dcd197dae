"""Streams in flows: what each kind of end does to the run, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow, task

from hydraflow.errors import (
    ConfigurationError,
    DigestMismatchError,
    HydraError,
    NotFoundError,
    ReaderGoneError,
    ResourceChangedError,
)
from hydraflow.prefect import CommandFailedError, PipeResult, fifos, hydra_pipe, hydra_stream
from hydraflow.prefect.serialising import SERIALIZER
from tests.integrations.prefect.victims import until

if TYPE_CHECKING:
    from tests.faults.origin import Origin
    from tests.integrations.prefect.conftest import RunLog

NOISE = random.Random(9).randbytes(3_000_000).hex().encode()
LINES = b"".join(b">%07d\n%b\n" % (number, NOISE[60 * number : 60 * number + 60]) for number in range(100_000))
DATA = gzip.compress(LINES, 1)
SHA256 = hashlib.sha256(DATA).hexdigest()
COUNT = "zcat | grep -c '^>'"
WRONG = "sha256:" + "0" * 64

quick = hydra_pipe.with_options(retry_delay_seconds=0)


@pytest.fixture
def url(origin: Origin) -> str:
    return f"{origin.add('/x.fa.gz', DATA)}#sha256={SHA256}"


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Neither directory nor pipe, and no process of a command."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("HYDRAFLOW_TEST_MARK", str(place))
    yield
    assert [path for path in place.iterdir() if path.name.startswith("hydraflow")] == []
    assert [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and _is_marked(pid, str(place))] == []


def _is_marked(process: Path, mark: str) -> bool:
    """It was started with our environment, which only commands of these tests have."""
    if int(process.name) == os.getpid():
        return False
    try:
        return f"HYDRAFLOW_TEST_MARK={mark}".encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def _reads(pid: int) -> bool:
    """It has a pipe of a name open."""
    with contextlib.suppress(OSError):
        return any("hydraflow-" in str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


class TestConsumers:
    """The ways to read a stream; no run is needed for them."""

    def test_a_command_reads_its_input(self, url: str) -> None:
        with hydra_stream(url) as stream:
            result = stream.run(COUNT)
        assert result.stdout == "100000\n"
        assert stream.result is not None
        assert stream.result.proof == "verified sha256 (url fragment)"
        assert result.stream == stream.result

    def test_a_command_reads_a_named_pipe(self, url: str) -> None:
        with hydra_stream(url) as stream:
            assert stream.run('basename "$HYDRA_FIFO"; zcat "$HYDRA_FIFO" | wc -c').stdout == f"x.fa.gz\n{len(LINES)}\n"

    def test_words_of_a_program(self, url: str) -> None:
        with hydra_stream(url) as stream:
            assert stream.run(["sha256sum", "{}"]).stdout.startswith(SHA256)

    def test_braces_in_a_line_are_its_own(self, url: str) -> None:
        with hydra_stream(url) as stream:
            assert stream.run("zcat | awk '{} END {print NR}'").stdout == "200000\n"

    def test_chunks(self, url: str) -> None:
        with hydra_stream(url) as stream:
            assert b"".join(stream) == DATA
        assert stream.result is not None

    def test_a_file(self, url: str) -> None:
        with hydra_stream(url) as stream, stream.open() as raw, gzip.open(io.BufferedReader(raw)) as lines:
            assert sum(1 for _ in lines) == 200_000

    def test_a_named_pipe_of_ones_own(self, url: str) -> None:
        with hydra_stream(url) as stream:
            path = os.fspath(stream)
            assert Path(path).name == "x.fa.gz"
            assert subprocess.run(["sha256sum", path], check=True, capture_output=True).stdout.startswith(
                SHA256.encode()
            )
        assert stream.result is not None

    def test_decompressed(self, url: str) -> None:
        with hydra_stream(url, decompress=True) as stream:
            assert stream.run("grep -c '^>'").stdout == "100000\n"

    def test_async(self, url: str) -> None:
        async def all_ways() -> tuple[bytes, str, bytes]:
            async with hydra_stream(url) as stream:
                chunks = [chunk async for chunk in stream]
                assert stream.result is not None
            async with hydra_stream(url) as stream:
                counted = await stream.run(COUNT)
            async with hydra_stream(url) as stream:
                process = await asyncio.create_subprocess_exec("cat", os.fspath(stream), stdout=subprocess.PIPE)
                copied, _ = await process.communicate()
            return b"".join(chunks), counted.stdout, copied

        assert asyncio.run(all_ways()) == (DATA, "100000\n", DATA)

    def test_only_one(self, url: str) -> None:
        with hydra_stream(url) as stream:
            stream.run(COUNT)
            with pytest.raises(ConfigurationError, match="only once"):
                list(stream)
        with pytest.raises(ConfigurationError, match="not open"):
            hydra_stream(url).run(COUNT)

    def test_none_asks_nobody(self, origin: Origin, url: str) -> None:
        with hydra_stream(url):
            pass
        assert origin.ledger == []

    def test_much_output_is_cut_and_counted(self, url: str) -> None:
        with hydra_stream(url) as stream:
            result = stream.run("zcat")
        assert result.stdout_bytes == len(LINES)
        assert result.stdout.encode() == LINES[-65536:]

    def test_broken_chunks_raise(self, url: str) -> None:
        with pytest.raises(DigestMismatchError), hydra_stream(url.partition("#")[0], digest=WRONG) as stream:
            list(stream)

    def test_a_pipe_of_ones_own_that_breaks_raises(self, url: str) -> None:
        with pytest.raises(DigestMismatchError), hydra_stream(url.partition("#")[0], digest=WRONG) as stream:
            done = subprocess.run(["cat", stream], check=False, capture_output=True)
        assert done.returncode == -9
        assert 0 < len(done.stdout) <= len(DATA) - 65536

    @pytest.mark.parametrize("line", ['wc -l "$1" && touch "$2"', 'cat < "$1" | wc -l && touch "$2"'])
    def test_a_shell_of_ones_own_does_not_commit(self, url: str, tmp_path: Path, line: str) -> None:
        shell = ["bash", "-o", "pipefail", "-c", line, "own"]
        with pytest.raises(DigestMismatchError), hydra_stream(url.partition("#")[0], digest=WRONG) as stream:
            subprocess.run([*shell, stream, tmp_path / "commit"], check=False, capture_output=True)
        assert not (tmp_path / "commit").exists()

    def test_a_reader_that_nobody_here_has_started_sees_all_but_the_end(self, url: str) -> None:
        with pytest.raises(DigestMismatchError), hydra_stream(url.partition("#")[0], digest=WRONG) as stream:
            data = Path(stream).read_bytes()
        assert 0 < len(data) <= len(DATA) - 65536

    @pytest.mark.parametrize("partial", [False, True])
    def test_a_pipe_of_ones_own_that_is_left(self, url: str, partial: bool) -> None:
        def read() -> None:
            with hydra_stream(url, allow_partial=partial) as stream:
                subprocess.run(["head", "-c", "10", stream], check=True, capture_output=True)

        if partial:
            read()
        else:
            with pytest.raises(ReaderGoneError):
                read()

    def test_a_pipe_of_ones_own_that_nobody_opens(self, url: str) -> None:
        with pytest.raises(ReaderGoneError, match="left before everything was read"), hydra_stream(url) as stream:
            os.fspath(stream)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_reader_that_comes_just_when_it_breaks_sees_no_end(
        self, origin: Origin, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        """It opens the pipe before, or after, those that have it open are looked for."""
        look, readers = fifos._kill_readers, []

        def meanwhile(directory: Path) -> bool:
            if when == "after":
                found = look(directory)
            readers.append(subprocess.Popen(["cat", directory / "none.gz"], stderr=subprocess.DEVNULL))
            if when == "before":
                until(lambda: readers[-1].poll() is not None or _reads(readers[-1].pid))
                found = look(directory)
            readers[-1].wait(20)
            return found

        monkeypatch.setattr(fifos, "_kill_readers", meanwhile)
        with pytest.raises(NotFoundError), hydra_stream(f"{origin.url}/none.gz") as stream:
            until(lambda: bool(os.fspath(stream) and readers))
        assert readers
        assert all(each.wait(20) != 0 for each in readers)

    def test_not_after_its_end(self, url: str) -> None:
        with hydra_stream(url) as stream:
            pass
        with pytest.raises(ConfigurationError, match="not open"):
            list(stream)

    @pytest.mark.parametrize("way", ["sync", "async"])
    def test_a_loop_that_is_left_early_ends_the_transfer_with_the_context(
        self, origin: Origin, url: str, way: str
    ) -> None:
        origin.when().slow(200_000)
        kept: list[Any] = []  # by whoever has left it

        def read() -> None:
            with hydra_stream(url) as stream:
                kept.append(iter(stream))
                next(kept[0])

        async def aread() -> None:
            async with hydra_stream(url) as stream:
                kept.append(aiter(stream))
                await anext(kept[0])

        with pytest.raises(ReaderGoneError, match="not all was verified"):
            asyncio.run(aread()) if way == "async" else read()
        served = origin.bytes_served()
        time.sleep(0.5)
        assert origin.bytes_served() - served < 50_000

    @pytest.mark.parametrize("read", [0, 10])
    def test_a_file_that_is_left_early(self, url: str, read: int) -> None:
        with hydra_stream(url, allow_partial=bool(read)) as stream, stream.open() as file:
            assert len(file.read(read)) == read
        assert stream.result is None

    def test_a_file_that_is_not_read_behind_its_last_bytes(self, url: str) -> None:
        """What reads an archive up to its end marker was given the last bytes after they were verified."""
        with hydra_stream(url) as stream, stream.open() as file:
            left = len(DATA)
            while left:
                left -= len(file.read(min(left, 10_000)))

    def test_an_error_in_the_body_is_the_error(self, url: str) -> None:
        with pytest.raises(ZeroDivisionError), hydra_stream(url) as stream:
            assert 1 / len(os.fspath(stream)[:0])


@pytest.mark.usefixtures("prefect_server")
class TestRuns:
    """`hydra_pipe` as a task: the state of its run, and `&& touch commit`."""

    @pytest.mark.parametrize("way", ["direct", "submit", "await"])
    def test_a_good_end(self, url: str, tmp_path: Path, way: str, run_log: RunLog) -> None:
        command = f"{COUNT} && touch {tmp_path}/commit"

        @flow
        def sync_flow() -> PipeResult:
            return quick(url, command) if way == "direct" else quick.submit(url, command).result()

        @flow
        async def async_flow() -> PipeResult:
            return await quick(url, command)

        result = asyncio.run(async_flow()) if way == "await" else sync_flow()
        assert (result.stdout, result.returncode) == ("100000\n", 0)
        assert result.stream is not None
        assert result.stream.digest == f"sha256:{SHA256}"
        assert (tmp_path / "commit").exists()
        assert any("verified sha256 (url fragment); exit code 0" in line for line in run_log.lines)

    @pytest.mark.parametrize(
        ("command", "way"),
        [
            (COUNT, "direct"),
            ('zcat "$HYDRA_FIFO" | wc -l', "direct"),
            ("cat > /dev/null", "direct"),
            ("cat > /dev/null", "submit"),
            ("cat > /dev/null", "await"),
        ],
    )
    def test_a_wrong_digest(self, origin: Origin, url: str, tmp_path: Path, command: str, way: str) -> None:
        plain, line = url.partition("#")[0], f"{command} && touch {tmp_path}/commit"

        def pipe() -> Any:
            if way == "submit":
                return flow(lambda: quick.submit(plain, line, digest=WRONG).result())()
            return quick(plain, line, digest=WRONG)

        async def awaited() -> Any:
            return await quick(plain, line, digest=WRONG)

        with pytest.raises(DigestMismatchError):
            asyncio.run(awaited()) if way == "await" else pipe()
        time.sleep(0.3)
        assert not (tmp_path / "commit").exists()
        assert len({record.connection for record in origin.ledger}) >= 1
        assert origin.bytes_served() <= 1.1 * len(DATA)  # not retried

    def test_a_missing_file(self, origin: Origin, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError):
            quick(f"{origin.url}/none.gz", f"cat > /dev/null && touch {tmp_path}/commit")
        assert not (tmp_path / "commit").exists()

    def test_an_early_reader(self, origin: Origin, url: str, tmp_path: Path) -> None:
        with pytest.raises(ReaderGoneError):
            quick(url, ["head", "-c", "10"])
        result = quick(url, ["head", "-c", "10"], allow_partial=True)
        assert result.stdout_bytes == 10
        assert result.stream is None
        assert result.returncode == 0

    def test_a_failing_command_is_not_retried(self, origin: Origin, url: str) -> None:
        with pytest.raises(CommandFailedError, match="exit code 3: no such genome") as caught:
            quick(url, "cat > /dev/null; echo no such genome >&2; exit 3")
        assert (caught.value.returncode, caught.value.stderr) == (3, "no such genome\n")
        assert origin.bytes_served() <= 1.1 * len(DATA)

    def test_a_dead_command(self, url: str) -> None:
        with pytest.raises(CommandFailedError) as caught:
            quick(url, "cat > /dev/null; kill -9 $$")
        assert caught.value.returncode == 128 + 9

    @pytest.mark.parametrize(
        "way",
        [pytest.param("direct", marks=pytest.mark.timeout(60, method="thread")), "submit", "await"],
    )
    def test_a_timeout(self, origin: Origin, url: str, tmp_path: Path, way: str, run_log: RunLog) -> None:
        origin.when().stall(after=100_000)
        short = hydra_pipe.with_options(timeout_seconds=0.7, retries=0)
        line = f"cat > /dev/null && touch {tmp_path}/commit"

        @flow
        def sync_flow() -> Any:
            return short(url, line) if way == "direct" else short.submit(url, line).result()

        @flow
        async def async_flow() -> Any:
            return await short(url, line)

        start = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(async_flow()) if way == "await" else sync_flow()
        assert time.monotonic() - start < 6
        assert any("TimedOut" in line for line in run_log.lines)
        assert not (tmp_path / "commit").exists()

    def test_a_drop_is_cured_by_a_retry_that_goes_on(
        self, origin: Origin, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_log: RunLog
    ) -> None:
        monkeypatch.setenv("HYDRAFLOW_MAX_WAIT", "0.6")
        cut = origin.when(request=1).drop(after=2_500_000)
        outage = origin.when(request=2).status(503, headers={"Retry-After": "36000"})
        result = quick(url, f"{COUNT} && touch {tmp_path}/commit", keep=tmp_path / "x.fa.gz")
        assert (cut.fired, outage.fired) == (1, 1)
        assert result.stdout == "100000\n"
        assert any("Retry 1/3" in line for line in run_log.lines)
        assert origin.bytes_served() <= 1.4 * len(DATA)  # anew it would be 1.6
        assert (tmp_path / "x.fa.gz").read_bytes() == DATA

    def test_a_task_of_ones_own(self, url: str) -> None:
        @task
        def first_line() -> bytes:
            with hydra_stream(url, allow_partial=True) as stream, stream.open() as raw:
                return next(iter(gzip.open(io.BufferedReader(raw))))

        @flow
        def outer() -> bytes:
            return first_line.submit().result()

        assert outer() == b">0000000\n"


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("gone", status=404, url="https://host/x"),
        DigestMismatchError("wrong", algorithm="md5", expected="0", actual="1", source="caller"),
        ResourceChangedError("new", was="a", now="b", url="https://host/x", hint="Lock it anew."),
        CommandFailedError("failed", returncode=3, stderr="no such genome"),
        HydraError("odd"),
    ],
)
def test_errors_come_back_from_json(error: HydraError) -> None:
    again = SERIALIZER.loads(SERIALIZER.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_groups_of_errors_come_back_from_json() -> None:
    group = ExceptionGroup("2 of 3 files failed", [NotFoundError("gone", status=404), ValueError("odd")])
    again = SERIALIZER.loads(SERIALIZER.dumps(group))
    assert isinstance(again, ExceptionGroup)
    assert str(again) == str(group)
    first, second = again.exceptions
    assert isinstance(first, NotFoundError)
    assert (str(first), first.status) == ("gone", 404)
    assert isinstance(second, ValueError)


@pytest.mark.usefixtures("prefect_server")
def test_the_name_of_a_run_tells_no_variable_of_the_command(url: str) -> None:
    names: list[str] = []
    noting = quick.with_options(on_completion=[lambda task, run, state: names.append(run.name)])
    noting(url, "TOKEN=hush cat > /dev/null")
    noting(url, "TOKEN=hush\ncat > /dev/null")
    assert names == ["pipe-x.fa.gz-cat"] * 2
