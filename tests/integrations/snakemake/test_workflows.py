"""Whole workflows, run by a real Snakemake."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.integrations.snakemake.conftest import ROOT, until, with_digest

OLD = "Wed, 01 Jan 2020 00:00:00 GMT"
NEW = "Fri, 01 Jan 2100 00:00:00 GMT"


def rule(name: str, query: str, *extra: str) -> str:
    """A rule that copies one file of a storage."""
    lines = [f"rule {name}:", f"    input: storage.hydra({query!r})", f"    output: '{name}.out'", *extra]
    return "\n".join([*lines, "    shell: 'cat {input} > {output}'", ""])


def rule_all(*names: str) -> str:
    return f"rule all:\n    input: {[f'{name}.out' for name in names]}\n"


def test_example(workflow, nginx, samples):
    url, sha256 = f"{nginx.url}/genome.fa.gz", samples.sha256["genome.fa.gz"]
    call = ("-s", str(ROOT / "Snakefile.example"), "--config", f"url={url}", f"sha256={sha256}", "--")
    code, said = workflow.run(*call, "all")
    assert code == 0, said
    for name in ("count", "streamed", "piped", "fifo"):
        assert workflow.path(f"{name}.txt").read_text().strip() == str(samples.records)
    assert re.search(r"hydra: genome.fa.gz: fetched .* verified sha256 \(url fragment\)", said)
    assert not [*workflow.path(".snakemake/storage").rglob("*.gz")]


def test_several_at_a_time(workflow, origin):
    names, data = "abcd", os.urandom(300_000)
    queries = {name: with_digest(origin.add(f"/{name}.bin", data), data) for name in names}

    def all_are_asked_for():
        return all(len(origin.requests(f"/{name}.bin")) > 1 for name in names)

    # None is answered before all are asked for: one after the other, they would wait for ever.
    for name in names:
        origin.when(path=f"/{name}.bin", request=2).wait(head=all_are_asked_for)
    workflow.write(rule_all(*names) + "".join(rule(name, query) for name, query in queries.items()))
    code, said = workflow.run()
    assert code == 0, said
    assert all(workflow.path(f"{name}.out").read_bytes() == data for name in names)
    assert len(origin.ledger) == 2 * len(names)


def test_failures_stay_with_their_jobs(workflow, origin):
    data = os.urandom(10_000)
    url = {name: origin.add(f"/{name}.bin", data) for name in ("good", "fine", "wrong", "gone", "flaky")}
    gone = origin.when(path="/gone.bin", request=2).status(404)
    flaky = origin.when(path="/flaky.bin", request=2).status(403)
    workflow.write(
        rule_all(*url)
        + rule("good", with_digest(url["good"], data))
        + rule("fine", url["fine"])
        + rule("wrong", with_digest(url["wrong"], b"other"))
        + rule("gone", url["gone"])
        + rule("flaky", url["flaky"], "    retries: 1")
    )
    code, said = workflow.run("--keep-going")
    assert code == 1, said
    assert gone.fired == flaky.fired == 1
    for name in ("good", "fine", "flaky"):
        assert workflow.path(f"{name}.out").read_bytes() == data
    for name in ("wrong", "gone"):
        assert not workflow.path(f"{name}.out").exists()
        assert f"Error in rule {name}:" in said
    assert len(re.findall("cannot retrieve .* will fail", said)) == 3


def test_one_bad_url_among_ten(workflow, origin):
    """What is declared is taken to be there, so that a server without it, or without life, fails one job."""
    names, data = [f"n{number}" for number in range(10)], os.urandom(10_000)
    queries = {name: with_digest(origin.add(f"/{name}.bin", data), data) for name in names}
    queries["n3"] = queries["n3"].replace("/n3.bin", "/none.bin")
    queries["n7"] = queries["n7"].replace(origin.url, "http://127.0.0.1:9")
    workflow.write(rule_all(*names) + "".join(rule(name, query) for name, query in queries.items()))
    code, said = workflow.run("--keep-going", HYDRAFLOW_FIRST_WAIT="0.2")
    assert code == 1, said
    assert [name for name in names if not workflow.path(f"{name}.out").exists()] == ["n3", "n7"]
    assert "Error in rule n3:" in said
    assert "404" in said


def test_jobs_that_never_open_what_was_not_retrieved(workflow, origin):
    """tar leaves a socket out and is content, and so are mv and ln; no output of theirs may stay."""
    data = os.urandom(10_000)
    url = origin.add("/x.bin", data)
    wrong = with_digest(url, b"other")
    movable = with_digest(origin.add("/y.bin", data), b"other")
    commands = {
        "packed": "tar cf {output[0]} {input} && touch {output[1]}",
        "again": "tar cf {output[0]} {input} && touch {output[1]}",
        "moved": "mv {input} {output[0]} && touch {output[1]}",
        "linked": "ln -s $(realpath {input}) {output[0]} && touch {output[1]}",
        "measured": "stat -c %s {input} > {output[0]} && touch {output[1]}",
    }
    workflow.write(
        f"rule all:\n    input: {[f'{name}.{n}' for name in commands for n in (1, 2)]}\n"
        + "".join(
            f"rule {name}:\n"
            f"    input: storage.hydra({(movable if name == 'moved' else wrong)!r}), 'local.txt'\n"
            f"    output: '{name}.1', '{name}.2'\n"
            f"    shell: '{command.replace('{input}', '{input[0]}')}'\n"
            for name, command in commands.items()
        )
        + rule("good", with_digest(origin.add("/good.bin", data), data))
    )
    workflow.path("local.txt").touch()
    code, said = workflow.run("--keep-going", "all", "good.out")
    assert code == 1, said
    assert workflow.path("good.out").read_bytes() == data
    for name in commands:
        assert not any(workflow.path(f"{name}.{n}").exists() for n in (1, 2)), name
    assert said.count("one of its inputs was not there: cannot retrieve") == len(commands)
    snakefile = workflow.path("Snakefile")
    snakefile.write_text(snakefile.read_text().replace(wrong, with_digest(url, data)))
    code, said = workflow.run("measured.1", "packed.1")
    assert code == 0, said
    assert workflow.path("measured.1").read_text() == "10000\n"


def test_a_local_copy_that_was_damaged(workflow, origin):
    data = os.urandom(10_000)
    query = with_digest(origin.add("/x.bin", data), data)
    workflow.write(rule_all("x") + rule("x", query))
    code, said = workflow.run("--keep-storage-local-copies")
    assert code == 0, said
    (kept,) = workflow.path(".snakemake/storage").rglob("x.bin")
    os.truncate(kept, 10)
    code, said = workflow.run("--keep-storage-local-copies", "--forceall")
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == kept.read_bytes() == data


def test_busy_for_a_while(workflow, origin):
    data = os.urandom(10_000)
    url = origin.add("/x.bin", data)
    for request in (2, 3):
        origin.when(path="/x.bin", request=request).status(503)
    workflow.write(rule_all("x") + rule("x", with_digest(url, data), "    retries: 2"))
    code, said = workflow.run(HYDRAFLOW_MAX_WAIT="0", HYDRAFLOW_RETRY_DELAY="0.01")
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == data


def test_nothing_to_ask(workflow, origin):
    """What is declared in full needs no request before it is fetched."""
    data = os.urandom(10_000)
    queries = [f"{with_digest(origin.add(f'/{n}.bin', data), data)}&size={len(data)}" for n in range(3)]
    workflow.write(
        rule_all("x", "y", "z") + "".join(rule(name, query) for name, query in zip("xyz", queries, strict=True))
    )
    code, said = workflow.run("--dry-run")
    assert code == 0, said
    assert origin.ledger == []
    code, said = workflow.run()
    assert code == 0, said
    assert len(origin.ledger) == 3


@pytest.mark.parametrize("present", [False, True])
def test_outputs_are_refused(workflow, origin, present):
    url = origin.add("/x.bin", b"x") if present else f"{origin.url}/x.bin"
    workflow.write(f"rule x:\n    output: storage.hydra({url!r})\n    shell: 'touch ran; echo > {{output}}'\n")
    for options in ((), ("--dry-run",), ("--forceall",)):
        code, said = workflow.run("x", *options)
        assert code == 1
        assert "rule x has an output in storage.hydra, which can only be read" in said
        assert "Traceback" not in said
    assert not workflow.path("ran").exists()


def test_abort(workflow, origin):
    data = b"ACGT" * 1000
    workflow.write(rule_all("x") + rule("x", with_digest(origin.add("/x.bin", data), b"other")))
    code, said = workflow.run("--keep-going", "--storage-hydra-on-error", "abort")
    assert code == 1
    assert "cannot retrieve" in said
    assert "sha256" in said
    assert "rule x:" not in said
    assert not workflow.path("x.out").exists()


def test_absent(workflow, origin):
    workflow.write(rule_all("x") + rule("x", f"{origin.url}/x.bin"))
    code, said = workflow.run()
    assert code == 1
    assert "MissingInputException" in said


def test_not_known_is_not_absent(workflow, origin):
    url = origin.add("/x.bin", b"ACGT")
    origin.when(path="/x.bin").status(503)
    workflow.write(rule_all("x") + rule("x", url))
    code, said = workflow.run(HYDRAFLOW_FIRST_WAIT="0.2")
    assert code == 1
    assert "MissingInputException" not in said
    assert "cannot find out about" in said
    assert "503" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_goes_on(workflow, origin, number):
    data = os.urandom(12 << 20)
    query = with_digest(origin.add("/x.bin", data), data)
    slow = origin.when(path="/x.bin").slow(200_000)  # over each connection
    workflow.write(rule_all("x") + rule("x", query))
    with workflow.start() as process:
        try:
            until(lambda: origin.bytes_served("/x.bin") > 7_000_000, process)
            os.killpg(process.pid, number)
            process.wait(10)
        finally:
            process.kill()
    assert process.returncode in (1, 128 + number, -number)
    assert slow.fired > 1
    assert not list(workflow.directory.glob(".snakemake/storage/hydra/127*/**/x.bin"))
    assert list(workflow.directory.glob(".snakemake/storage/hydra/.hydra/*/.x.bin.hydra"))
    assert not workflow.path("x.out").exists()
    origin.rules.clear()
    code, said = workflow.run(*(["--nolock"] if number == signal.SIGKILL else []))
    assert code == 0, said
    assert workflow.path("x.out").read_bytes() == data
    assert re.search(r"fetched \(resumed\) .* from the checkpoint, verified sha256", said)
    # Lost: what the probe left unread and, by a kill, half a second of what came before.
    allowed = 1.1 if number == signal.SIGINT else 1.3
    assert origin.bytes_served("/x.bin") < allowed * len(data)


def test_digest_decides_on_reruns(workflow, origin):
    data, changed = b"ACGT" * 1000, b"TGCA" * 1000
    declared, dated = (origin.add(f"/{name}.bin", data, last_modified=OLD) for name in ("declared", "dated"))
    text = rule_all("declared", "dated") + rule("dated", dated)
    workflow.write(text + rule("declared", with_digest(declared, data)))
    code, said = workflow.run()
    assert code == 0, said
    for name in ("declared", "dated"):
        origin.add(f"/{name}.bin", changed if name == "declared" else data, last_modified=NEW)
    code, said = workflow.run("--dry-run")
    assert code == 0
    assert "rule dated:" in said
    assert "rule declared:" not in said
    workflow.write(text + rule("declared", with_digest(declared, changed)))
    code, said = workflow.run("declared.out")
    assert code == 0, said
    assert workflow.path("declared.out").read_bytes() == changed


def test_wildcards(workflow, origin):
    data = {"a": b"AAAA", "b": b"CCCC"}
    sums = {name: with_digest(origin.add(f"/{name}.fa", text), text).partition("=")[2] for name, text in data.items()}
    workflow.write(
        f"rule all:\n    input: {[f'{name}.{digest}.out' for name, digest in sums.items()]}\n"
        "rule copy:\n"
        f"    input: storage('hydra+{origin.url}/{{sample}}.fa#sha256={{sum}}')\n"
        "    output: '{sample}.{sum}.out'\n"
        "    shell: 'cat {input} > {output}'\n"
    )
    code, said = workflow.run()
    assert code == 0, said
    for name, digest in sums.items():
        assert workflow.path(f"{name}.{digest}.out").read_bytes() == data[name]


def test_a_token_for_a_tag(workflow, origin):
    private, public = (origin.add(f"/{name}.bin", b"ACGT") for name in ("private", "public"))
    workflow.write(
        "storage lab:\n    provider='hydra',\nstorage open:\n    provider='hydra',\n"
        + rule_all("private", "public")
        + rule("private", private).replace("storage.hydra", "storage.lab")
        + rule("public", public).replace("storage.hydra", "storage.open")
    )
    code, said = workflow.run("--storage-hydra-token", "lab::hush")
    assert code == 0, said
    assert {record.headers.get("authorization") for record in origin.requests("/private.bin")} == {"Bearer hush"}
    assert {record.headers.get("authorization") for record in origin.requests("/public.bin")} == {None}
    code, said = workflow.run("--forceall", SNAKEMAKE_STORAGE_HYDRA_TOKEN="whist")
    assert code == 0, said
    assert origin.requests("/public.bin")[-1].headers["authorization"] == "Bearer whist"


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("storage.hydra('https://host/x#sha265=12')", "unknown option 'sha265'"),
        ("storage.hydra('https://host/x', md5='12')", r"unknown setting .*md5"),
    ],
)
def test_mistakes_are_named(workflow, expression, complaint):
    workflow.write(f"rule all:\n    input: {expression}\n")
    code, said = workflow.run()
    assert code == 1
    assert re.search(complaint, said)


def test_options(workflow):
    workflow.write(rule_all())
    code, said = workflow.run("--help")
    assert code == 0
    for option in ("threads", "token", "state-dir", "on-error"):
        assert f"--storage-hydra-{option}" in said
    assert "SNAKEMAKE_STORAGE_HYDRA_TOKEN" in said
