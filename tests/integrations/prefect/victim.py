"""Flows that are ended from outside: `python -m tests.integrations.prefect.victim WAY URL DEST`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner

from hydraflow.prefect import FetchedFile, hydra_fetch, hydra_fetch_many, hydra_pipe, hydra_stream


@flow
def direct(url: str, dest: str) -> FetchedFile:
    return hydra_fetch(url, dest)


@flow
def submitted(url: str, dest: str) -> FetchedFile:
    return hydra_fetch.submit(url, dest).result()


@flow
def mapped(url: str, dest: str) -> list[FetchedFile]:
    return hydra_fetch.map([url, f"{url}?2"], [dest, f"{dest}.2"]).result()


@flow
def many(url: str, dest: str) -> list[FetchedFile]:
    return hydra_fetch_many.submit([url], Path(dest).parent).result()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def pooled(url: str, dest: str) -> FetchedFile:
    return hydra_fetch.submit(url, dest).result()


@flow
async def awaited(url: str, dest: str) -> FetchedFile:
    return await hydra_fetch(url, dest)


@flow
async def submitted_in_async(url: str, dest: str) -> FetchedFile:
    return hydra_fetch.submit(url, dest).result()


@task
def nested_task(url: str, dest: str) -> FetchedFile:
    return hydra_fetch(url, dest)


@flow
def nested(url: str, dest: str) -> FetchedFile:
    return nested_task.submit(url, dest).result()


@flow
def piped(url: str, dest: str) -> None:
    hydra_pipe.submit(url, f"cat > /dev/null && touch {dest}.commit").result()


@flow
def fetched_and_piped(url: str, dest: str) -> None:
    futures = [
        hydra_fetch.submit(url, dest),
        hydra_pipe.submit(f"{url}.piped", f"cat > /dev/null && touch {dest}.commit"),
    ]
    for each in futures:
        each.result()


@task
def stream_task(url: str) -> int:
    with hydra_stream(url) as stream:
        return sum(map(len, stream))


@flow
def streamed(url: str, dest: str) -> int:
    return stream_task.submit(url).result()


@flow(timeout_seconds=2)
def timed_out(url: str, dest: str) -> None:
    hydra_fetch.submit(url, dest)
    while True:
        time.sleep(0.1)


@flow
def sleeping(url: str, dest: str) -> None:
    """Nothing of ours."""
    time.sleep(60)


def main(way: str, url: str, dest: str) -> None:
    """Run one of them."""
    run = globals()[way]
    result = run(url, dest)
    if asyncio.iscoroutine(result):
        asyncio.run(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
