"""Three ways to stream into a job, each with a good stream, a wrong one, a reader that leaves and one that fails.

All are rules of one workflow, run with --keep-going: what becomes of one of them is not to touch the others.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from dataclasses import dataclass

import pytest

from tests.faults.origin import Origin
from tests.integrations.snakemake.conftest import Workflow, until, with_digest

pytestmark = pytest.mark.xdist_group("streaming")  # they share a run

DATA = os.urandom(3_000_000)
SMALL = b"ACGT"

#: What the job does with its standard input.
READERS = {
    "good": "cat",
    "wrong": "cat",
    "early": "head -c 100000",
    "failing": "sh -c 'cat > /dev/null; exit 3'",
}
#: What else it may do with an input that is a pipe.
COMMANDS = {
    "small": "cat {input} > {output}",
    # To a file of its own: cat says it in four writes, and other jobs write between.
    "twice": "cat {input} {input} > {output} 2> complaint",
    "unread": "touch {output}",
    # Once it fails after having read everything.
    "again": "if test -e tried; then cat {input} > {output}; else touch tried; cat {input} > /dev/null; exit 1; fi",
    # GNU gzip opens without blocking.
    "late": "sleep 0.3; zcat {input} | grep -c '^>' > {output}",
}


def shell_pipe(name: str, query: str, reader: str) -> str:
    """The job's own pipeline."""
    return (
        f"rule {name}:\n    input: storage.hydra({query!r}, retrieve=False)\n    output: '{name}.out'\n"
        f'    shell: "python -m hydraflow {{input:q}} --stream --quiet | {reader} > {{output}}"\n'
    )


def producer(name: str, query: str, reader: str) -> str:
    """A rule whose output is a pipe."""
    return (
        f"rule {name}:\n    input: '{name}.fifo'\n    output: '{name}.out'\n"
        f'    shell: "{reader} < {{input}} > {{output}}"\n'
        f"rule {name}_source:\n    input: storage.hydra({query!r}, retrieve=False)\n    output: pipe('{name}.fifo')\n"
        '    shell: "python -m hydraflow {input:q} --fifo {output} --quiet"\n'
    )


def fifo_input(name: str, query: str, reader: str) -> str:
    """An input that is a pipe."""
    return fifo_rule(name, query, f"{reader} < {{input}} > {{output}}")


def fifo_rule(name: str, query: str, command: str, promise: str = "access.sequential") -> str:
    return (
        f"rule {name}:\n    input: {promise}(storage.hydra({query + '&stream=fifo'!r}))\n    output: '{name}.out'\n"
        f'    retries: {int(name == "again")}\n    shell: "{command}"\n'
    )


FORMS = {"shell": shell_pipe, "producer": producer, "fifo": fifo_input}


@dataclass
class Seen:
    """What came of the run."""

    workflow: Workflow
    code: int
    said: str
    records: int

    def output(self, name: str) -> bytes | None:
        path = self.workflow.path(f"{name}.out")
        return path.read_bytes() if path.exists() else None

    def left(self) -> list[str]:
        """Files and pipes, but not Snakemake's own records, nor what the workflow is to write."""
        return sorted(
            str(path.relative_to(self.workflow.directory))
            for path in self.workflow.directory.rglob("*")
            if (path.is_file() or path.is_fifo())
            and path.name not in {"Snakefile", "tried", "complaint"}
            and path.suffix != ".out"
            and (".snakemake" not in path.parts or "storage" in path.parts)
        )


@pytest.fixture(scope="module")
def seen(tmp_path_factory, samples):
    workflow, rules = Workflow(tmp_path_factory.mktemp("streaming")), []
    with Origin() as origin:

        def query(name: str, data: bytes = DATA) -> str:
            return with_digest(origin.add(f"/{name}.bin", data), b"other" if name.endswith("wrong") else data)

        for form, rule in FORMS.items():
            rules += [rule(f"{form}_{case}", query(f"{form}_{case}"), reader) for case, reader in READERS.items()]
        data = {"small": SMALL, "late": samples.read("genome.fa.gz")}
        rules += [fifo_rule(name, query(name, data.get(name, DATA)), command) for name, command in COMMANDS.items()]
        # No pipe can be where nothing is promised; where two jobs want it, it depends on when they do.
        rules.append(fifo_rule("careless", query("careless"), COMMANDS["small"], promise=""))
        shared = query("shared")
        rules += [fifo_rule(name, shared, COMMANDS["small"]) for name in ("shared", "sharing")]
        outputs = [f"{name}.out" for name in re.findall(r"rule (\w+):", "".join(rules)) if "_source" not in name]
        workflow.write(f"rule all:\n    input: {outputs}\n{''.join(rules)}")
        code, said = workflow.run("--keep-going")
    return Seen(workflow, code, said, samples.records)


@pytest.mark.parametrize("form", FORMS)
def test_good(seen, form):
    assert seen.output(f"{form}_good") == DATA, seen.said
    assert f"Error in rule {form}_good" not in seen.said


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ["wrong", "early", "failing"])
def test_bad(seen, form, case):
    assert seen.code == 1
    assert seen.output(f"{form}_{case}") is None, seen.said
    by_the_verdict = form == "fifo" and case != "failing"
    failed = rf"failed to stream .*/fifo_{case}\.bin" if by_the_verdict else f"Error in rule {form}_{case}:"
    assert re.search(failed, seen.said)


def test_wrong_digests_are_said(seen):
    assert len(re.findall("sha256 mismatch", seen.said)) >= len(FORMS)


def test_nothing_is_left(seen):
    assert seen.left() == []
    assert len(list(seen.workflow.directory.glob("*.out"))) == len(FORMS) + 6


# An input that is a pipe.


@pytest.mark.parametrize("name", ["again", "careless", "shared", "sharing"])
def test_whole(seen, name):
    assert seen.output(name) == DATA, seen.said


def test_small(seen):
    assert seen.output("small") == SMALL, seen.said


def test_late(seen):
    assert seen.output("late") == f"{seen.records}\n".encode(), seen.said


def test_a_file_where_a_pipe_cannot_be(seen):
    assert "hydra: careless.bin: fetched" in seen.said
    for name in ("fifo_good", "again", "small"):
        assert f"hydra: {name}.bin: streamed" in seen.said


def test_not_read(seen):
    assert re.search(r"failed to stream .*/unread\.bin: the job ended without reading the stream", seen.said)
    assert seen.output("unread") is None


def test_read_twice(seen):
    """The second reader gets an error, and does not wait for ever."""
    complaint = seen.workflow.path("complaint").read_text()
    assert re.search(r"cat: .*/twice\.bin: No such device or address", complaint), seen.said
    assert seen.output("twice") is None


def test_empty(workflow, origin):
    """No byte can be in the pipe before the job starts, so it gets a file."""
    workflow.write(fifo_rule("x", with_digest(origin.add("/x.bin", b""), b""), "wc -c < {input} > {output}"))
    code, said = workflow.run("x.out")
    assert code == 0, said
    assert workflow.path("x.out").read_text().strip() == "0"


def test_no_outputs(workflow, origin):
    """Snakemake asks for no checksum after such a job: what it was given must be right before."""
    query = with_digest(origin.add("/x.bin", DATA), b"other")
    workflow.write(fifo_rule("x", query, "cat {input} > seen").replace("    output: 'x.out'\n", ""))
    code, said = workflow.run("x")
    assert code == 1, said
    assert not workflow.path("seen").exists() or not workflow.path("seen").read_bytes()


#: What the first job does with its stream while a second one begins, which is when `begun` is there.
MEANWHILE = "touch begun; until test -e c.out; do sleep 0.1; done"
DURING = {
    "has read a part": f"{{{{ head -c 100000; {MEANWHILE}; cat; }}}} < {{input}} > {{output}}",
    "has not opened it": f"{MEANWHILE}; cat {{input}} > {{output}}",
}


@pytest.mark.parametrize("during", DURING)
@pytest.mark.parametrize("other", ["", "&stream=fifo"])
def test_another_job_wants_it_meanwhile(workflow, origin, during, other):
    """It gets a file, and each of the two has its own verdict."""
    query = with_digest(origin.add("/x.bin", DATA), DATA)
    workflow.write(f"{fifo_rule('a', query, DURING[during])}{second(query + other)}")
    code, said = workflow.run("a.out", "c.out")
    assert code == 0, said
    for name in "ac":
        assert workflow.path(f"{name}.out").read_bytes() == DATA, said
    assert ("streamed" in said) == (during == "has read a part")
    assert "fetched" in said


def test_another_job_wants_what_is_wrong(workflow, origin):
    query = with_digest(origin.add("/x.bin", DATA), b"other")
    command = "cat {input} > {output}; touch begun; sleep 1.5"
    workflow.write(f"{fifo_rule('a', query, command)}{second(query + '&stream=fifo')}")
    code, said = workflow.run("--keep-going", "a.out", "c.out")
    assert code == 1, said
    assert not workflow.path("a.out").exists(), said
    assert not workflow.path("c.out").exists(), said
    assert "failed to stream" in said


def second(query: str) -> str:
    """A rule whose job starts while another one is at work."""
    return (
        f"rule c:\n    input: access.sequential(storage.hydra({query!r})), 'pre'\n    output: 'c.out'\n"
        "    shell: 'cat {input[0]} > {output}'\n"
        "rule pre:\n    output: 'pre'\n    shell: 'until test -e begun; do sleep 0.1; done; touch {output}'\n"
    )


def test_without_metadata(workflow, origin):
    """Nobody would tell the provider that the job has ended: it gets a file."""
    workflow.write(fifo_rule("x", with_digest(origin.add("/x.bin", DATA), DATA), COMMANDS["small"]))
    code, said = workflow.run("--drop-metadata", "x.out")
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == DATA
    assert "fetched" in said


def test_killed(workflow, origin):
    """What a kill leaves at the input's place is not taken for the file."""
    query = with_digest(origin.add("/x.bin", DATA), DATA)
    workflow.write(fifo_rule("x", query, "touch begun; sleep 60; cat {input} > {output}"))
    with workflow.start("x.out") as process:
        try:
            until(workflow.path("begun").exists, process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    (left,) = [path for path in workflow.directory.rglob("x.bin") if stat.S_ISFIFO(path.lstat().st_mode)]
    assert left.lstat().st_mtime == 0
    workflow.write(fifo_input("x", query, "cat"))
    code, said = workflow.run("--nolock", "--rerun-incomplete", "x.out")
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == DATA
