"""Three ways to stream into a job, each with a good stream, a wrong one, a reader that leaves and one that fails."""

from __future__ import annotations

import os
import signal
import stat
from dataclasses import dataclass

import pytest

from tests.integrations.snakemake.conftest import until, with_digest

DATA = os.urandom(3_000_000)

#: What the job does with `{input}` or, in the pipelines, with its standard input.
READERS = {
    "good": "cat",
    "wrong": "cat",
    "early": "head -c 100000",
    "failing": "sh -c 'cat > /dev/null; exit 3'",
}


def shell_pipe(query: str, reader: str) -> str:
    """The job's own pipeline."""
    return (
        f"rule x:\n    input: storage.hydra({query!r}, retrieve=False)\n    output: 'x.out'\n"
        f'    shell: "python -m hydraflow {{input:q}} --stream --quiet | {reader} > {{output}}"\n'
    )


def producer(query: str, reader: str) -> str:
    """A rule whose output is a pipe."""
    return (
        f"rule x:\n    input: 'x.fifo'\n    output: 'x.out'\n    shell: \"{reader} < {{input}} > {{output}}\"\n"
        f"rule produce:\n    input: storage.hydra({query!r}, retrieve=False)\n    output: pipe('x.fifo')\n"
        '    shell: "python -m hydraflow {input:q} --fifo {output} --quiet"\n'
    )


def fifo_input(query: str, reader: str) -> str:
    """An input that is a pipe."""
    return (
        f"rule x:\n    input: access.sequential(storage.hydra({query + '&stream=fifo'!r}))\n    output: 'x.out'\n"
        f'    shell: "{reader} < {{input}} > {{output}}"\n'
    )


FORMS = {"shell": shell_pipe, "producer": producer, "fifo": fifo_input}


@dataclass
class Seen:
    """What came of a run."""

    code: int
    output: bool
    left: list[str]
    said: str


def leftovers(workflow) -> list[str]:
    """Everything but Snakemake's own records, the Snakefile, and empty directories."""
    return sorted(
        str(path.relative_to(workflow.directory))
        for path in workflow.directory.rglob("*")
        if not path.is_dir()
        and path.name not in {"Snakefile", "x.out"}
        and (".snakemake" not in path.parts or "storage" in path.parts)
    )


def run(workflow, origin, form: str, case: str, *arguments: str) -> Seen:
    query = with_digest(origin.add("/x.bin", DATA), b"other" if case == "wrong" else DATA)
    workflow.write("rule all:\n    input: 'x.out'\n" + FORMS[form](query, READERS[case]))
    code, said = workflow.run(*arguments)
    return Seen(code, workflow.path("x.out").exists(), leftovers(workflow), said)


@pytest.mark.parametrize("form", FORMS)
def test_good(workflow, origin, form):
    seen = run(workflow, origin, form, "good")
    assert seen.code == 0, seen.said
    assert workflow.path("x.out").read_bytes() == DATA
    assert seen.left == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ["wrong", "early", "failing"])
def test_bad(workflow, origin, form, case):
    seen = run(workflow, origin, form, case)
    assert seen.code == 1, seen.said
    assert not seen.output
    assert not [name for name in seen.left if workflow.path(name).is_file()], seen.said
    assert ("Error in rule x" if case == "failing" or form != "fifo" else "failed to stream") in seen.said
    if case == "wrong":
        assert "sha256" in seen.said


# An input that is a pipe.


def test_retries(workflow, origin):
    query = with_digest(origin.add("/x.bin", DATA), DATA)
    text = fifo_input(query, READERS["good"]).replace("    output:", "    retries: 1\n    output:")
    # Once it fails after having read everything.
    workflow.write(
        text.replace("cat <", "if ! test -e tried; then touch tried; cat {input} > /dev/null; exit 1; fi; cat <")
    )
    code, said = workflow.run("x.out")
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == DATA


def test_zcat(workflow, nginx, samples):
    """GNU gzip opens without blocking."""
    query = f"{nginx.url}/genome.fa.gz#sha256={samples.sha256['genome.fa.gz']}"
    workflow.write(fifo_input(query, "").replace(" < {input}", "sleep 0.3; zcat {input} | grep -c '^>'"))
    code, said = workflow.run("x.out")
    assert code == 0, said
    assert workflow.path("x.out").read_text().strip() == str(samples.records)
    assert "streamed" in said


def test_small(workflow, origin):
    data = b"ACGT"
    workflow.write(fifo_input(with_digest(origin.add("/x.bin", data), data), "cat"))
    code, said = workflow.run("x.out")
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == data


def test_not_read(workflow, origin):
    workflow.write(fifo_input(with_digest(origin.add("/x.bin", DATA), DATA), "true").replace("< {input}", ""))
    code, said = workflow.run("x.out")
    assert code == 1
    assert "ended without reading the stream" in said
    assert not workflow.path("x.out").exists()


def test_read_twice(workflow, origin):
    """The second reader gets an error, and does not wait for ever."""
    workflow.write(
        fifo_input(with_digest(origin.add("/x.bin", DATA), DATA), "cat").replace("cat < {input}", "cat {input} {input}")
    )
    code, said = workflow.run("x.out")
    assert code == 1
    assert "No such device or address" in said
    assert not workflow.path("x.out").exists()


@pytest.mark.parametrize("obstacle", ["no annotation", "two jobs", "no metadata"])
def test_a_file_where_a_pipe_cannot_be(workflow, origin, obstacle):
    text = fifo_input(with_digest(origin.add("/x.bin", DATA), DATA), "cat")
    if obstacle == "no annotation":
        text = text.replace("access.sequential", "")
    if obstacle == "two jobs":
        text += text.replace("rule x", "rule y").replace("x.out", "y.out")
    workflow.write("rule all:\n    input: 'x.out'" + (", 'y.out'\n" if obstacle == "two jobs" else "\n") + text)
    code, said = workflow.run(*(["--drop-metadata"] if obstacle == "no metadata" else []))
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == DATA
    assert "fetched" in said


def test_killed(workflow, origin):
    """What a kill leaves at the input's place is not taken for the file."""
    query = with_digest(origin.add("/x.bin", DATA), DATA)
    text = fifo_input(query, "").replace(" < {input}", "touch begun; sleep 60; cat {input}")
    workflow.write(text)
    with workflow.start("x.out") as process:
        try:
            until(workflow.path("begun").exists, process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    (left,) = [path for path in workflow.directory.rglob("x.bin") if stat.S_ISFIFO(path.lstat().st_mode)]
    assert left.lstat().st_mtime == 0
    workflow.write(fifo_input(query, "cat"))
    code, said = workflow.run("--nolock", "--rerun-incomplete", "x.out")
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == DATA
