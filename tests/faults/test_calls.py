"""Callers of every kind: threads, running loops, forks, cancellations and exceptions that come out of nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hydraflow import runtime
from hydraflow.api import Hydra, afetch, apipe, aprobe, astream, fetch, fetch_all, pipe, probe, stream
from hydraflow.errors import ConfigurationError, DigestMismatchError, HydraError, NotFoundError
from hydraflow.models import Outcome
from tests.faults.fronts import MIB, noise

ROOT = Path(__file__).parents[2]
DATA = noise(9 * MIB)


@pytest.fixture
def url(origin):
    return origin.add("/x.bin", DATA)


def stands_still(origin) -> bool:
    """The origin sends nothing for a while, sooner or later."""
    for _ in range(10):
        served = origin.bytes_served()
        time.sleep(0.2)
        if origin.bytes_served() == served:
            return True
    return False


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def read_all(fd: int) -> bytes:
    with open(fd, "rb") as reader:
        return reader.read()


async def until(condition) -> None:
    while not condition():  # noqa: ASYNC110 - what happens in another thread has no event here
        await asyncio.sleep(0.01)


class TestAwaitable:
    async def _all(self, url, settings, tmp_path):
        result = await afetch(url, tmp_path / "x", settings=settings)
        resource = await aprobe(url, settings=settings)
        async with astream(url, settings=settings) as opened:
            data = b"".join([chunk async for chunk in opened])
            assert opened.result.outcome is Outcome.STREAMED
        reading, writing = os.pipe()
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(read_all, reading)
            piped = await apipe(url, writing, settings=settings)
            os.close(writing)
            assert read.result() == DATA
        assert (result.size, resource.size, data, piped.size) == (len(DATA), len(DATA), DATA, len(DATA))

    def test_twins(self, url, settings, tmp_path):
        asyncio.run(self._all(url, settings, tmp_path))
        assert (tmp_path / "x").read_bytes() == DATA

    def test_the_caller_s_loop_goes_on(self, origin, url, settings, tmp_path):
        origin.when().head_delay(0.4)

        async def work():
            beats = 0
            fetching = asyncio.ensure_future(afetch(url, tmp_path / "x", settings=settings))
            while not fetching.done():
                beats += 1
                await asyncio.sleep(0.01)
            return beats

        assert asyncio.run(work()) > 20

    def test_error(self, origin, settings, tmp_path):
        with pytest.raises(NotFoundError):
            asyncio.run(afetch(f"{origin.url}/none", tmp_path / "x", settings=settings))

    def test_error_in_a_stream(self, origin, url, settings):
        rule = origin.when().flip(MIB)
        digest = f"md5:{hashlib.md5(DATA).hexdigest()}"

        async def work():
            async with astream(url, digest=digest, settings=settings) as opened:
                return [len(chunk) async for chunk in opened]

        with pytest.raises(DigestMismatchError):
            asyncio.run(work())
        assert rule.fired >= 1

    def test_leaving_a_stream(self, origin, url, settings):
        origin.when().slow(2 * MIB)

        async def work():
            async with astream(url, settings=settings) as opened:
                return await opened.read(100)

        begun = time.monotonic()
        assert asyncio.run(work()) == DATA[:100]
        assert time.monotonic() - begun < 3

    def test_a_read_that_is_cancelled_loses_nothing(self, origin, url, settings):
        """By a timeout, say: the thread that reads for it goes on."""
        origin.when().slow(4 * MIB)

        async def work():
            got, cancelled = b"", 0
            async with astream(url, settings=settings) as opened:
                while True:
                    # Of another size each time: what one asked for who wanted much may go to one who wants less.
                    most = 1000 if cancelled % 2 else MIB
                    try:
                        chunk = await asyncio.wait_for(opened.read(most), 0.001)
                    except TimeoutError:
                        cancelled += 1
                        continue
                    assert len(chunk) <= most
                    if not chunk:
                        return got, cancelled
                    got += chunk

        got, cancelled = asyncio.run(work())
        assert cancelled > 20
        assert got == DATA

    def test_two_reads_at_a_time_take_turns(self, url, settings):
        async def work():
            async with astream(url, settings=settings) as opened:
                got = []

                async def read():
                    while chunk := await opened.read(100_000):
                        got.append(chunk)

                await asyncio.gather(read(), read())
                return got

        assert b"".join(asyncio.run(work())) == DATA

    @pytest.mark.parametrize("most", [0, -1])
    def test_a_read_of_nothing_is_refused(self, url, settings, most):
        async def work():
            async with astream(url, settings=settings) as opened:
                await asyncio.wait_for(opened.read(most), 5)

        with pytest.raises(ValueError, match="at least 1 byte"):
            asyncio.run(work())

    def test_many_pipes_at_once(self, origin, settings, tmp_path):
        """More than a pool of threads holds; the reader takes them in the other order."""
        count = 12
        urls = [origin.add(f"/{n}", noise(200_000, n)) for n in range(count)]

        def read_backwards():
            return [(tmp_path / f"{n}.pipe").read_bytes() for n in reversed(range(count))]

        async def work():
            pipes = [
                asyncio.ensure_future(apipe(url, tmp_path / f"{n}.pipe", settings=settings))
                for n, url in enumerate(urls)
            ]
            await until(lambda: len(names(tmp_path)) == count)
            with ThreadPoolExecutor(1) as pool:
                read = await asyncio.get_running_loop().run_in_executor(pool, read_backwards)
            await asyncio.gather(*pipes)
            return read

        read = asyncio.run(asyncio.wait_for(work(), 10))
        assert read == [noise(200_000, n) for n in reversed(range(count))]
        assert names(tmp_path) == []


class TestCancelled:
    def test_afetch_flushes_its_checkpoint(self, origin, url, settings, tmp_path):
        """What had come when the caller went is there for the next run, though no checkpoint was due."""
        rare = replace(settings, sync_interval=60.0)
        rule = origin.when(times=4).slow(3 * MIB)

        async def work():
            fetching = asyncio.ensure_future(afetch(url, tmp_path / "x", settings=rare))
            await until(lambda: origin.bytes_served() >= 2 * MIB)
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching

        asyncio.run(work())
        assert rule.fired >= 1
        assert names(tmp_path) == [".x.hydra"]
        origin.rules.clear()
        served = origin.bytes_served()
        result = fetch(url, tmp_path / "x", settings=settings)
        assert (tmp_path / "x").read_bytes() == DATA
        assert result.outcome is Outcome.RESUMED
        assert result.bytes_from_checkpoint > MIB
        assert served + result.bytes_from_network <= 1.1 * len(DATA) + 4 * 256 * 1024

    @pytest.mark.parametrize("delay", [0.0, 0.001, 0.005, 0.02, 0.1])
    def test_at_any_moment_the_destination_is_free_afterwards(self, origin, url, settings, tmp_path, delay):
        async def work():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await afetch(url, tmp_path / "x", settings=settings)

        for _ in range(5):
            asyncio.run(work())
        result = fetch(url, tmp_path / "x", settings=settings)
        assert (tmp_path / "x").read_bytes() == DATA
        assert result.size == len(DATA)
        assert names(tmp_path) == ["x"]

    @pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.01])
    def test_at_once_keeps_what_an_earlier_run_left(self, origin, url, settings, tmp_path, delay):
        """A run that is ended before it has looked at the checkpoint must not clear it away."""
        impatient = replace(settings, max_wait=1.0)
        origin.when(request=1).slow(64 * MIB)
        dead = origin.when().raw(b"")
        with pytest.raises(HydraError) as caught:
            fetch(url, tmp_path / "x", settings=impatient)
        assert dead.fired >= 1, caught.value

        async def work():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await afetch(url, tmp_path / "x", settings=settings)

        origin.rules.clear()
        origin.when().head_delay(0.2)
        for _ in range(5):
            asyncio.run(work())
        origin.rules.clear()
        assert fetch(url, tmp_path / "x", settings=settings).bytes_from_checkpoint == 4 * MIB

    def test_apipe(self, origin, url, settings, tmp_path):
        origin.when().slow(2 * MIB)

        async def work():
            piping = asyncio.ensure_future(apipe(url, tmp_path / "p", settings=settings))
            await until(lambda: origin.bytes_served() >= 100_000)
            piping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await piping

        begun = time.monotonic()
        asyncio.run(work())
        assert time.monotonic() - begun < 3
        assert names(tmp_path) == []

    def test_task_group(self, origin, url, settings, tmp_path):
        """One fails, the other is cancelled, and neither is wrapped."""
        origin.when(path="/x.bin").slow(2 * MIB)

        async def work():
            async with asyncio.TaskGroup() as group:
                group.create_task(afetch(url, tmp_path / "x", settings=settings))
                await asyncio.sleep(0.3)
                group.create_task(afetch(f"{origin.url}/none", tmp_path / "y", settings=settings))

        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(work())
        assert [type(error) for error in caught.value.exceptions] == [NotFoundError]


class Injected(BaseException):
    """As KeyboardInterrupt comes, or Prefect's timeout."""


def inject(thread: threading.Thread, kind: type[BaseException]) -> None:
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind)) == 1


class TestInterrupted:
    @pytest.mark.parametrize("way", ["fetch", "stream", "pipe"])
    def test_exception_thrown_into_a_waiting_thread(self, origin, url, settings, tmp_path, way):
        origin.when().slow(MIB)
        caught: list[tuple[BaseException, float]] = []
        reading, writing = os.pipe()

        def work():
            try:
                if way == "fetch":
                    fetch(url, tmp_path / "x", settings=settings)
                elif way == "pipe":
                    pipe(url, writing, settings=settings)
                else:
                    with stream(url, settings=settings) as opened:
                        opened.read()
            except BaseException as error:  # noqa: BLE001
                caught.append((error, time.monotonic()))

        thread = threading.Thread(target=work)
        thread.start()
        while origin.bytes_served() < 100_000:
            time.sleep(0.01)
        time.sleep(0.1)
        thrown = time.monotonic()
        inject(thread, Injected)
        thread.join(5)
        os.close(reading)
        os.close(writing)
        (error, moment) = caught[0]
        assert type(error) is Injected
        assert moment - thrown < 0.7
        assert stands_still(origin), "the transfer goes on though its caller has gone"
        if way == "fetch":
            origin.rules.clear()
            result = fetch(url, tmp_path / "x", settings=settings)
            assert result.bytes_from_checkpoint > 0
            assert (tmp_path / "x").read_bytes() == DATA

    def test_while_nothing_moves(self, origin, url, settings, tmp_path):
        origin.when().head_delay(30)
        slow = replace(settings, read_timeout=30.0)
        caught: list[BaseException] = []

        def work():
            try:
                fetch(url, tmp_path / "x", settings=slow)
            except BaseException as error:  # noqa: BLE001
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.2)
        inject(thread, Injected)
        thread.join(2)
        assert [type(error) for error in caught] == [Injected]
        assert names(tmp_path) == []


class TestWhereFrom:
    def test_inside_a_running_loop(self, url, settings, tmp_path):
        """Snakemake calls its plugins so: sync, with a loop running in the same thread."""

        async def work():
            with stream(url, settings=settings) as opened:
                return fetch(url, tmp_path / "x", settings=settings), opened.read()

        result, data = asyncio.run(work())
        assert (result.size, data) == (len(DATA), DATA)

    def test_many_threads(self, origin, settings, tmp_path):
        urls = [origin.add(f"/{n}", noise(300_000, n)) for n in range(16)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda url: fetch(url, f"{tmp_path}/", settings=settings), urls))
        assert [(tmp_path / str(n)).read_bytes() for n in range(16)] == [noise(300_000, n) for n in range(16)]

    def test_after_a_fork(self, url, settings, tmp_path):
        fetch(url, tmp_path / "before", settings=settings)
        child = os.fork()
        if child == 0:
            try:
                fetch(url, tmp_path / "child", settings=settings)
                with stream(url, settings=settings) as opened:
                    os._exit(0 if opened.read() == DATA else 3)
            except BaseException:  # noqa: BLE001
                os._exit(4)
        fetch(url, tmp_path / "after", settings=settings)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (tmp_path / "child").read_bytes() == (tmp_path / "after").read_bytes() == DATA

    def test_forked_while_another_thread_starts_a_transfer(self, url, settings, tmp_path):
        """It holds a lock in that moment, which nobody would let go in the child."""
        with runtime._guard:
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                try:
                    fetch(url, tmp_path / "child", settings=settings)
                    os._exit(0)
                except BaseException:  # noqa: BLE001
                    os._exit(4)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert (tmp_path / "child").read_bytes() == DATA

    def test_forked_in_the_middle(self, origin, url, settings):
        """The child neither hangs at its end nor ends the parent's transfer."""
        origin.when().slow(6 * MIB)
        with stream(url, settings=settings) as opened:
            data = opened.read(1000)
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert data + opened.read() == DATA

    def test_from_the_progress_callback(self, url, settings, tmp_path):
        """It runs in the engine's thread: to wait there for the engine would be to wait for ever."""

        def tell(_progress):
            probe(url, settings=settings)

        with pytest.raises(ConfigurationError, match="engine"):
            fetch(url, tmp_path / "x", on_progress=tell, settings=settings)
        assert not (tmp_path / "x").exists()

    def test_it_is_called_ten_times_a_second_at_most(self, origin, settings, tmp_path):
        """However many pieces come; what happens besides, such as the beginning and the end, is told at once."""
        url, told = origin.add("/slow.bin", noise(8 * MIB)), []
        origin.when().slow(2 * MIB)
        result = fetch(url, tmp_path / "x", on_progress=told.append, settings=replace(settings, threads=1))
        assert 10 < len(told) <= 10 * result.elapsed + 10

    def test_a_callback_that_fails(self, url, settings, tmp_path):
        def tell(_progress):
            raise LookupError("the caller's own")

        with pytest.raises(LookupError):
            fetch(url, tmp_path / "x", on_progress=tell, settings=settings)
        fetch(url, tmp_path / "x", settings=settings)
        assert names(tmp_path) == ["x"]

    @pytest.mark.parametrize(
        "ending",
        [
            "",
            "sys.exit(3)",
            "raise LookupError('own')",
            "threading.Thread(target=opened.read, daemon=True).start(); time.sleep(0.2)",
            "threading.Thread(target=fetch, args=(url, sys.argv[2]), kwargs=told, daemon=True).start(); came.wait(15)",
        ],
    )
    def test_the_program_ends_in_the_middle(self, origin, url, tmp_path, ending):
        """An open stream, or a fetch in a daemon thread, does not keep the interpreter from ending, nor crash it."""
        origin.when().slow(200_000)
        program = f"""
import sys, threading, time
from hydraflow.api import stream, fetch
url = sys.argv[1]
came = threading.Event()
told = {{"on_progress": lambda progress: progress.done and came.set()}}
manager = stream(url)
opened = manager.__enter__()
opened.read(10)
{ending}
"""
        begun = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-c", program, url, str(tmp_path / "x")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert time.monotonic() - begun < 8
        expected = {"sys.exit(3)": 3, "raise LookupError('own')": 1}.get(ending, 0)
        assert ran.returncode == expected, ran.stderr
        if "daemon" not in ending and expected != 1:
            assert ran.stderr == ""
        assert "RuntimeError" not in ran.stderr
        if "fetch" in ending:
            origin.rules.clear()
            assert fetch(url, tmp_path / "x").bytes_from_checkpoint > 0

    @pytest.mark.parametrize(
        "way", ["threading.Thread(target=work).start()", "concurrent.futures.ThreadPoolExecutor(1).submit(work)"]
    )
    def test_the_program_waits_for_its_threads(self, origin, url, tmp_path, way):
        """The main thread is over, another one still fetches: Python waits for it, and it must be able to finish."""
        rule = origin.when().slow(6 * MIB)
        program = f"""
import concurrent.futures, sys, threading
from hydraflow.api import fetch
def work():
    fetch(sys.argv[1], sys.argv[2], digest=sys.argv[3])
{way}
"""
        digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
        ran = subprocess.run(
            [sys.executable, "-c", program, url, str(tmp_path / "x"), digest],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert rule.fired >= 1
        assert (ran.returncode, ran.stderr) == (0, "")
        assert (tmp_path / "x").read_bytes() == DATA


class TestSettingsAndArguments:
    @pytest.mark.parametrize("value", ["é", "日本"])
    def test_header_that_http_cannot_carry(self, url, settings, tmp_path, value):
        with pytest.raises(ConfigurationError, match="header"):
            fetch(url, tmp_path / "x", headers={"X-Name": value}, settings=settings)

    def test_user_agent_that_http_cannot_carry(self, url, settings, tmp_path):
        odd = replace(settings, user_agent="日本")
        with pytest.raises(ConfigurationError):
            fetch(url, tmp_path / "x", settings=odd)

    def test_nul_in_the_destination(self, url, settings, tmp_path):
        with pytest.raises(ConfigurationError):
            fetch(url, f"{tmp_path}/a\0b", settings=settings)

    def test_an_engine_that_cannot_be_made(self, settings, monkeypatch):
        """The caller gets the error; it does not wait for ever."""

        def fail(_settings):
            raise LookupError("no engine today")

        monkeypatch.setattr(runtime, "Engine", fail)
        with pytest.raises(LookupError, match="today"):
            probe("http://127.0.0.1/", settings=replace(settings, read_timeout=0.123))


class TestMany:
    def test_fetch_all(self, origin, settings, tmp_path):
        urls = [origin.add(f"/{n}.bin", noise(n * 300_000, n)) for n in range(6)]
        told = []
        outcomes = fetch_all(
            urls, tmp_path, settings=settings, on_outcome=lambda name, outcome: told.append((name, outcome))
        )
        assert [outcome.size for outcome in outcomes] == [n * 300_000 for n in range(6)]
        assert {name for name, _ in told} == {f"{n}.bin" for n in range(6)}
        assert all((tmp_path / f"{n}.bin").read_bytes() == noise(n * 300_000, n) for n in range(6))

    def test_one_of_them_fails(self, origin, settings, tmp_path):
        urls = [origin.add("/a", noise(1000, 1)), f"{origin.url}/none", origin.add("/b", noise(1000, 2))]
        outcomes = fetch_all(urls, tmp_path, settings=settings)
        assert [type(outcome).__name__ for outcome in outcomes] == ["FetchResult", "NotFoundError", "FetchResult"]
        assert names(tmp_path) == ["a", "b"]

    def test_awaited_it_raises_after_all_were_tried(self, origin, settings, tmp_path):
        urls = [f"{origin.url}/none", origin.add("/b", noise(1000, 2))]

        async def work():
            async with Hydra(settings) as hydra:
                return await hydra.fetch_all(urls, tmp_path)

        with pytest.raises(NotFoundError):
            asyncio.run(work())
        assert names(tmp_path) == ["b"]

    def test_two_urls_with_one_name(self, origin, settings, tmp_path):
        urls = [origin.add("/a/x.bin", b"1"), origin.add("/b/x.bin", b"2")]
        with pytest.raises(ConfigurationError, match=r"x\.bin"):
            fetch_all(urls, tmp_path, settings=settings)
        with pytest.raises(ConfigurationError, match="twice"):
            fetch_all([urls[0], urls[0]], tmp_path, settings=settings)
        assert origin.ledger == []
        assert names(tmp_path) == []

    def test_none(self, settings, tmp_path):
        assert fetch_all([], tmp_path, settings=settings) == []

    async def _streams(self, settings, urls, **options):
        read = []
        async with Hydra(settings) as hydra:
            async for name, opened in hydra.stream_all(urls, **options):
                read.append((name, b"".join([chunk async for chunk in opened])))
        return read

    @pytest.mark.parametrize("threads", [1, 4])
    @pytest.mark.parametrize("ahead", [1, 2, 5])
    def test_stream_all(self, origin, settings, threads, ahead):
        few = replace(settings, threads=threads)
        urls = [origin.add(f"/{n}.bin", noise(3 * MIB, n)) for n in range(4)]
        read = asyncio.run(asyncio.wait_for(self._streams(few, urls, ahead=ahead), 10))
        assert [name for name, _ in read] == [f"{n}.bin" for n in range(4)]
        assert [data for _, data in read] == [noise(3 * MIB, n) for n in range(4)]

    def test_stream_all_with_an_error(self, origin, settings):
        urls = [origin.add("/a", b"1"), f"{origin.url}/none", origin.add("/b", b"2")]
        with pytest.raises(NotFoundError):
            asyncio.run(self._streams(settings, urls))

    def test_stream_all_nothing_ahead(self, settings):
        with pytest.raises(ConfigurationError):
            asyncio.run(self._streams(settings, ["http://127.0.0.1/x"], ahead=0))

    def test_stream_all_left_early(self, origin, settings):
        urls = [origin.add(f"/{n}.bin", noise(3 * MIB, n)) for n in range(4)]
        origin.when().slow(MIB)

        async def work():
            async with Hydra(settings) as hydra, contextlib.aclosing(hydra.stream_all(urls)) as streams:
                _name, opened = await anext(streams)
                return await opened.read(10)

        assert asyncio.run(work()) == noise(3 * MIB, 0)[:10]
        assert stands_still(origin)


class TestLoops:
    """The same transfers on the plain event loop, in its debug mode: it complains of everything that is not right."""

    @pytest.fixture
    def plain(self, monkeypatch, caplog):
        def new_loop():
            loop = asyncio.new_event_loop()
            loop.set_debug(True)
            loop.slow_callback_duration = 1.0
            loop.set_exception_handler(lambda _loop, context: problems.append(context))
            return loop

        problems: list[object] = []
        monkeypatch.setattr(runtime, "_new_loop", new_loop)
        monkeypatch.setattr(runtime, "_thread", None)
        yield
        thread = runtime._thread
        assert thread is not None, "the test used another thread"
        thread.stop()
        thread.loop.close()
        assert problems == []
        assert [record for record in caplog.records if record.name == "asyncio" and record.levelname != "DEBUG"] == []

    @pytest.mark.usefixtures("plain")
    def test_transfers(self, origin, url, settings, tmp_path):
        rule = origin.when(every=3).drop(after=100_000)
        digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
        assert fetch(url, tmp_path / "x", digest=digest, settings=settings).size == len(DATA)
        with stream(url, digest=digest, settings=settings) as opened:
            assert opened.read() == DATA
        with stream(url, settings=settings) as opened:
            opened.read(100)
        with pytest.raises(NotFoundError):
            fetch(f"{origin.url}/none", tmp_path / "y", settings=settings)
        assert rule.fired >= 2

    @pytest.mark.usefixtures("plain")
    def test_cancellation(self, origin, url, settings, tmp_path):
        origin.when().slow(MIB)

        async def work():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await afetch(url, tmp_path / "x", settings=settings)

        asyncio.run(work(), debug=True)
        origin.rules.clear()
        assert fetch(url, tmp_path / "x", settings=settings).outcome is Outcome.RESUMED


def test_two_digests_of_the_caller_that_differ(tmp_path):
    url = f"http://127.0.0.1:1/x#md5={'0' * 32}"
    with pytest.raises(ConfigurationError, match=f"md5:{'1' * 32}, and in the URL md5:{'0' * 32}"):
        fetch(url, tmp_path / "x", digest=f"md5:{'1' * 32}")


class TestStopped:
    """Prefect's task runners set a flag, and throw nothing."""

    @pytest.mark.parametrize(
        "call",
        [
            lambda url, where, stopped: fetch(url, where / "x.bin", stopped=stopped),
            lambda url, where, stopped: fetch_all([url], where, stopped=stopped),
        ],
        ids=["fetch", "fetch_all"],
    )
    def test_ends_the_transfer_and_keeps_the_checkpoint(self, origin, url, tmp_path, call):
        origin.when().stall(after=MIB)
        with pytest.raises(asyncio.CancelledError):
            call(url, tmp_path, lambda: origin.bytes_served() >= MIB)
        assert stands_still(origin)
        assert names(tmp_path) == [".x.bin.hydra"]
        origin.rules.clear()
        assert fetch(url, tmp_path / "x.bin").bytes_from_checkpoint >= MIB
