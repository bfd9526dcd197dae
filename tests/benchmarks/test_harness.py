"""The benchmark harness: it measures what ran, counts no wrong output, and drops nobody in silence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import BenchmarkError, chart, compare, machine, peers, report, rounds, site
from benchmarks.__main__ import main
from benchmarks.measure import measure
from benchmarks.peers import Client
from benchmarks.results import OK, Result, Round, Run, Spread
from benchmarks.suites import SUITES, Mode

MB = 1_000_000
BURN = "import time\nwhile time.process_time() < 0.15: pass"
SVG = "{http://www.w3.org/2000/svg}"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the harness needs Linux")


# The arithmetic.


def run(client, number, cpu, wall=1.0, outcome=OK):
    return Run(client, number, wall, user=cpu * 0.75, system=cpu * 0.25, peak=50 * MB, outcome=outcome)


def result(*runs, suite="file-plain", missing=None):
    return Result(
        suite=suite,
        date="2030-01-02T03:04:05+00:00",
        size=2_000 * MB,
        files=1,
        machine={
            "cpu": "Abacus",
            "cores": "2",
            "memory": "8 GiB",
            "system": "Linux",
            "python": "P",
            "data": "in memory",
        },
        baselines=("curl", "aria2"),
        versions={run.client: "1.0" for run in runs},
        missing=missing or {},
        rounds=(Round(1, 0.1, 0.0), Round(2, 0.2, 0.5)),
        runs=runs,
    )


@pytest.mark.parametrize(
    ("values", "spread"),
    [
        ([], None),
        ([3.0], Spread(3.0, 3.0, 3.0)),
        ([1.0, 3.0], Spread(1.5, 2.0, 2.5)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], Spread(2.0, 3.0, 4.0)),
    ],
)
def test_spread(values, spread):
    assert Spread.of(values) == spread


def test_ratios_are_taken_within_a_round():
    # In round 2 the machine was four times slower, for both: the ratio of the medians would say 2.0.
    both = [run("curl", 1, 1.0), run("me", 1, 2.0), run("curl", 2, 4.0), run("me", 2, 4.0), run("curl", 3, 1.0)]
    summary = result(*both, run("me", 3, 1.5, wall=3.0)).summary("me")
    assert summary.cpu_ratio == {"curl": Spread(1.25, 1.5, 1.75)}
    assert summary.wall_ratio == {"curl": Spread(1.0, 1.0, 2.0)}
    assert summary.cpu == Spread(1.75, 2.0, 3.0)
    assert summary.cpu_per_gb == Spread(0.875, 1.0, 1.5)
    assert (summary.right, summary.runs, summary.failures) == (3, 3, {})


def test_a_failed_run_counts_for_nothing_but_is_told():
    measured = result(
        run("curl", 1, 1.0),
        run("me", 1, 1.0),
        run("curl", 2, 1.0, outcome="exit code 7"),
        run("me", 2, 9.0),
        run("curl", 3, 1.0),
        run("me", 3, 0.01, outcome="wrong bytes"),
    )
    summary = measured.summary("me")
    assert summary.cpu_ratio["curl"] == Spread(1.0, 1.0, 1.0)
    assert (summary.right, summary.runs, summary.failures) == (2, 3, {"wrong bytes": 1})
    assert measured.failed == ["curl", "me"]
    assert "2/3; wrong bytes ×1" in report.table(measured)


def test_the_proof_is_not_counted():
    summary = result(run("curl", 0, 9.0), run("curl", 1, 1.0)).summary("curl")
    assert (summary.cpu, summary.runs) == (Spread(1.0, 1.0, 1.0), 1)


def test_json_and_back():
    measured = result(run("curl", 1, 1.0), run("me", 1, 2.0), missing={"axel": "gone"})
    assert Result.from_json(measured.to_json()) == measured
    assert json.loads(measured.to_json())["summary"]["me"]["cpu_ratio"]["curl"]["median"] == 2.0


def test_every_client_is_first_once():
    assert [rounds.in_turn("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert sorted(rounds.in_turn("abc", 2)) == ["a", "b", "c"]
    assert rounds.in_turn([], 1) == []


# The picture and the tables.


def test_svg_names_every_client():
    suites = [
        result(run("curl", 1, 2.0), run("hydraflow", 1, 1.0), missing={"axel": "gone"}),
        result(run("curl", 1, 0.1, wall=0.6), run("<&>", 1, 0.1, outcome="exit code 1"), suite="small"),
    ]
    root = ET.fromstring(chart.draw(suites))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"curl", "hydraflow", "axel", "<&>", "not installed", "failed"} <= set(texts)
    assert {"1.00", "0.50", "0.60"} <= set(texts)
    bars = {bar.get("class"): float(bar.get("width")) for bar in root.find(f"{SVG}g").iter(f"{SVG}rect")}
    assert bars["peer"] == pytest.approx(2 * bars["own"])


def test_svg_of_nothing():
    assert ET.fromstring(chart.draw([])).tag == f"{SVG}svg"


def test_table_tells_the_circumstances():
    text = report.table(result(run("curl", 1, 1.0), run("hydraflow", 1, 2.0), missing={"axel": "no axel on PATH"}))
    assert "| hydraflow | 1.00 (1.00–1.00) | 2.00 (2.00–2.00) | 1.00 (1.00–1.00) |" in text
    assert "**missing**: axel, no axel on PATH" in text
    assert "before round 2:" in text
    assert "Abacus, 2 cores" in text


def test_tables_keep_earlier_suites(tmp_path):
    report.write(tmp_path, [result(run("curl", 1, 1.0))])
    report.write(tmp_path, [result(run("curl", 1, 1.0), suite="small")])
    assert (tmp_path / "README.md").read_text().count("\n## ") == 2


# The measurement.


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return str(path)


def test_cpu_of_children_and_of_the_reader_is_counted(log):
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    alone = measured([sys.executable, "-c", child], None, log)
    assert alone["user"] + alone["system"] >= 0.15
    piped = measured([sys.executable, "-c", BURN], [sys.executable, "-c", BURN], log)
    assert piped["user"] + piped["system"] >= 0.3
    assert (alone["codes"], piped["codes"]) == ([0], [0, 0])


def test_peak_is_that_of_the_client(log):
    large = measured([sys.executable, "-c", "x = b'1' * 80_000_000"], None, log)
    assert 80 * MB < large["peak"] < 160 * MB
    assert measured([shutil.which("true")], None, log)["peak"] < 20 * MB


def test_each_of_the_pipe_tells_its_code(log):
    shell = shutil.which("sh")
    took = measured([shell, "-c", "exit 3"], [shell, "-c", "cat; exit 4"], log)
    assert took["codes"] == [4, 3]


def test_time_runs_out_for_all_of_them(log):
    sleep = [shutil.which("sh"), "-c", "sleep 60 & wait"]
    took = measured(sleep, sleep, log, timeout=0.3)
    assert took["timed_out"]
    assert 0.3 <= took["wall"] < 5


def measured(client, reader, log, timeout=20.0):
    task = {"client": client, "reader": reader, "output": None, "log": log, "timeout": timeout}
    command = [sys.executable, "-I", "-S", measure.__code__.co_filename, json.dumps(task)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout)


def test_the_machine():
    assert 0 <= machine.busy(0.05) <= 1
    assert all(machine.facts().values())
    assert machine.memory_free() > MB


# All of it, on a small file.


@pytest.fixture
def few_programs(tmp_path, monkeypatch):
    """PATH with what the harness needs, curl, and no other peer."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("curl", "cat", "sha256sum", "sh"):
        if (found := shutil.which(name)) is None:
            pytest.skip(f"no {name} on PATH")
        (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.mark.usefixtures("few_programs")
def test_end_to_end(tmp_path, data, capsys):
    target = tmp_path / "results"
    chosen = ["--suites=file-plain,stream-tls", "--clients=curl,axel,httpx,hydraflow,hydraflow-sha256"]
    plan = ["--rounds=2", "--size=4MiB", "--busy-ok", f"--data={data}", f"--results={target}"]
    code = main([*chosen, *plan])
    output = capsys.readouterr().out
    assert code == 0, output
    assert "missing: axel, no axel on PATH" in output
    plain, tls = report.load(target)
    assert (plain.suite, tls.suite) == ("file-plain", "stream-tls")
    ran = ["curl", "httpx", "hydraflow", "hydraflow-sha256"]
    assert list(plain.versions) == list(tls.versions) == ran
    assert (set(plain.missing), set(tls.missing)) == ({"axel"}, set())
    assert [run.client for run in plain.runs] == [*ran[1:], ran[0], *ran[2:], *ran[:2]]
    assert [run.round for run in tls.runs] == [0] * 4 + [1] * 4 + [2] * 4
    assert {run.outcome for run in (*plain.runs, *tls.runs)} == {OK}
    assert all(run.cpu > 0 and run.wall > 0 and run.peak > MB for run in plain.runs)
    assert plain.summary("hydraflow").cpu_ratio["curl"].median > 0
    assert plain.size == 4 << 20
    texts = [text.text for text in ET.parse(target / "bench.svg").iter(f"{SVG}text")]
    assert all(texts.count(name) == 2 for name in ran)
    assert texts.count("axel") == 1
    assert list(data.iterdir()) == []


@pytest.mark.usefixtures("few_programs")
def test_many_files_from_afar(tmp_path, data, capsys):
    target = tmp_path / "results"
    chosen = ["--suites=small", "--clients=curl,httpx,hydraflow-t16", "--rounds=1"]
    code = main([*chosen, "--busy-ok", f"--data={data}", f"--results={target}"])
    assert code == 0, capsys.readouterr().out
    (small,) = report.load(target)
    assert (small.files, small.size) == (200, 20 * MB)
    # 200 files over at most 16 connections of 40 ms each, and as much again for the connection.
    assert all(run.wall > (200 / 16 + 1) * 0.04 for run in small.runs)


@pytest.fixture
def served(data):
    with site.serving(100_000, data) as served:
        yield served


def shell(name, text, mode=Mode.FILE):
    return Client(name, {mode: lambda job: [shutil.which("sh"), "-c", text.format(served=job.served[0])]})


def test_a_wrong_output_never_counts(served):
    clients = [
        shell("right", "cat {served} > large.bin"),
        shell("short", "head -c 99999 {served} > large.bin"),
        shell("other", "head -c 99999 {served} > large.bin; printf 0 >> large.bin; printf 1 >> large.bin"),
        shell("same length", "tr '\\000' '\\001' < {served} > large.bin"),
        shell("nothing", "true"),
        shell("failing", "cat {served} > large.bin; echo the reason >&2; exit 9"),
    ]
    said = []
    told = rounds.run(SUITES["file-plain"], clients, served, rounds=1, say=said.append)
    outcomes = {run.client: run.outcome for run in told.runs}
    wrong = dict.fromkeys(("short", "other", "same length", "nothing"), "wrong bytes")
    assert outcomes == {"right": OK, **wrong, "failing": "exit code 9"}
    assert sorted(told.failed) == sorted(outcomes.keys() - {"right"})
    assert any("the reason" in line for line in said)


def test_a_stream_must_prove_itself(served):
    clients = [
        shell("right", "cat {served}", Mode.STREAM),
        shell("short", "head -c 99999 {served}", Mode.STREAM),
    ]
    told = rounds.run(SUITES["stream-plain"], clients, served, rounds=2, say=lambda _: None)
    assert [(run.client, run.round) for run in told.runs] == [("right", 0), ("short", 0), ("right", 1), ("right", 2)]
    assert told.failed == ["short"]
    assert "0/0; wrong bytes ×1" in report.table(told)


def test_who_takes_too_long_has_no_further_turn(served):
    told = rounds.run(
        SUITES["file-plain"], [shell("slow", "sleep 60")], served, rounds=2, timeout=0.2, say=lambda _: None
    )
    assert [run.outcome for run in told.runs] == ["more than 0.2 s"]


def test_the_environment_of_a_client(served, monkeypatch):
    monkeypatch.setenv("HYDRAFLOW_THREADS", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nowhere")
    client = shell("any", 'test "$MARK$HYDRAFLOW_THREADS$XDG_CONFIG_HOME" = 1 && cat {served} > large.bin')
    client = replace(client, environment={"MARK": "1"})
    told = rounds.run(SUITES["file-plain"], [client], served, rounds=1, say=lambda _: None)
    assert [run.outcome for run in told.runs] == [OK]


# What cannot be done is said at once.


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--suites=file-plain,nonsense"], "unknown suite nonsense"),
        (["--clients=curl,nonsense", "--busy-ok"], "unknown client nonsense"),
        (["--size=much"], "a size is written"),
        (["--size=0"], "1 byte or more"),
        (["--rounds=0"], "1 or more"),
        (["--compare=nonsense", "--busy-ok"], "no revision 'nonsense'"),
        (["--size=900TiB", "--clients=curl", "--busy-ok"], "no room"),
    ],
)
def test_usage(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_refuses_a_busy_machine(monkeypatch, capsys):
    monkeypatch.setattr(machine, "busy", lambda _: 0.5)
    with pytest.raises(SystemExit):
        main(["--clients=curl"])
    assert "the machine is busy: 50% of its cores" in capsys.readouterr().err


# Two revisions.


@pytest.fixture
def repository(tmp_path):
    """A repository with two versions of a file."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet")
    for text in ("old", "new"):
        (root / "file").write_text(text)
        git(root, "add", "file")
        git(root, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "-m", text)
    return root


def git(root, *arguments):
    return subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True).stdout


def test_worktree(repository, tmp_path):
    with compare.worktree("HEAD~1", repository, tmp_path / "work") as tree:
        assert (tree / "file").read_text() == "old"
        stale = tree
    assert not stale.exists()
    stale.mkdir()  # what a killed run leaves
    (stale / "file").write_text("stale")
    with compare.worktree("HEAD~1", repository, tmp_path / "work") as tree:
        assert (tree / "file").read_text() == "old"
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_worktree_of_no_revision(repository, tmp_path):
    with (
        pytest.raises(BenchmarkError, match="no revision 'nonsense'"),
        compare.worktree("nonsense", repository, tmp_path),
    ):
        pytest.fail("there is no such revision")


def test_the_compared_trees_are_what_runs(tmp_path):
    package = tmp_path / "hydraflow"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0.0.7"\n')
    (package / "__main__.py").write_text("import hydraflow, sys; sys.exit(f'ran {hydraflow.__version__}')\n")
    old, new = compare.clients(tmp_path)
    assert (old.name, old.version) == ("old", "0.0.7")
    job = type("Job", (), {"urls": ("x",)})

    def complaint(client):
        command = client.commands[Mode.FILE](job)
        return subprocess.run(command, check=False, env=client.environment, capture_output=True, text=True).stderr

    assert complaint(old) == "ran 0.0.7\n"
    assert "hydraflow: error" in complaint(new)


def test_every_client_has_its_work():
    clients = {client.name: set(client.commands) for client in peers.all_clients(["curl", "aria2", "axel", "httpx"])}
    assert clients == {
        "curl": {Mode.FILE, Mode.STREAM, Mode.MANY},
        "aria2": {Mode.FILE, Mode.MANY, Mode.FAR},
        "axel": {Mode.FILE, Mode.FAR},
        "httpx": {Mode.FILE, Mode.STREAM, Mode.MANY},
    }
    assert Path(peers.ROOT, "Makefile").is_file()
