"""What the documents and the help say is so."""

from __future__ import annotations

import ast
import html
import os
import re
import subprocess
import sys
from dataclasses import fields

import click
import pytest

from hydraflow import errors
from hydraflow.cli import texts
from hydraflow.cli.fetch import command
from hydraflow.cli.tasks import PARTIAL
from hydraflow.settings import Settings, load
from tests.cli.conftest import ROOT
from tests.test_floors import FLOORS

README = (ROOT / "README.md").read_text()
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "lab/*.md", "workflows/*.md", "benchmarks/*.md")
    for page in ROOT.glob(pattern)
)


def table(text: str, heading: str) -> list[list[str]]:
    """Cells of the Markdown table that begins with this line, without the two lines of its head."""
    rows = text.partition(f"\n{heading}\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert rows, f"no table {heading!r}"
    # `\|` is a bar in a cell.
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def options() -> set[frozenset[str]]:
    """The spellings of each option of the command."""
    context = click.Context(command, **command.context_settings)
    return {frozenset(each.opts) for each in command.get_params(context) if isinstance(each, click.Option)}


def test_the_table_of_options():
    cells = [row[0] for row in table(README, "| option | meaning |")]
    spellings = [re.findall(r"`(-[-\w]+)", cell) for cell in cells]
    assert {frozenset(names) for names in spellings if names} == options()
    assert [cell for cell, names in zip(cells, spellings, strict=True) if not names] == ["`URL...`"]


def test_values_have_one_name_in_the_table_and_the_help():
    told = {row[0] for row in table(README, "| option | meaning |")}
    takers = {
        (max(each.opts, key=len), each.metavar)
        for each in command.params
        if isinstance(each, click.Option) and each.metavar
    }
    assert takers
    for option, metavar in takers:
        assert any(f"`{option} {metavar}`" in cell for cell in told), option


@pytest.mark.parametrize("name", ["threads", "output", "buffer", "limit_rate", "max_wait"])
def test_an_option_names_its_setting(name):
    [option] = [each for each in command.params if each.name == name]
    assert f"[HYDRAFLOW_{name.upper()}, or " in option.help


# ── exit codes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def codes() -> set[int]:
    """All exit codes that an error can become, and those of success and of signals."""
    tree = [errors.HydraError]
    for kind in tree:
        tree += kind.__subclasses__()
    return {kind.exit_code for kind in tree[1:]} | {0, PARTIAL, 129, 130, 143}


def test_the_table_of_exit_codes():
    rows = table(README, "| exit code | meaning |")
    assert {int(code) for row in rows for code in re.findall(r"\d+", row[0])} | {129} == codes()
    assert "(129:" in next(row[1] for row in rows if "130" in row[0])


def test_the_help_tells_the_exit_codes():
    told = texts.EXIT_CODES.partition("Of several")[0]
    assert {int(code) for code in re.findall(r"\b\d+\b", told)} == codes() - {129}


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_settings():
    rows = table((ROOT / "docs/configuration.md").read_text(), "| setting | variable | default | meaning |")
    assert [row[0].strip("`") for row in rows] == [field.name for field in fields(Settings)]
    for (name, variable, default, meaning), field in zip(rows, fields(Settings), strict=True):
        assert variable == f"`HYDRAFLOW_{name.strip('`').upper()}`"
        assert meaning == field.metadata["meaning"]
        if field.default in (None, ""):
            assert default == "", name
        else:
            given = load(**{name.strip("`"): default.strip("`")})
            assert getattr(given, name.strip("`")) == field.default, name


def test_the_help_tells_every_setting(hydraflow):
    told = " ".join(hydraflow("--help").stdout.decode().split())
    for field in fields(Settings):
        assert f"HYDRAFLOW_{field.name.upper()} {field.metadata['meaning']}" in told


@pytest.mark.parametrize("name", [[], *([name] for name in texts.COMMANDS)], ids=lambda name: " ".join(name) or "main")
def test_the_help_fits_a_terminal(hydraflow_here, monkeypatch, name):
    """80 columns, examples included, which no terminal should break; and each command has some."""
    monkeypatch.setenv("COLUMNS", "80")
    told = hydraflow_here(*name, "--help").stdout.decode()
    assert [line for line in told.splitlines() if len(line) > 80] == []
    assert re.search(r"\bExamples:\n(?: .*\n)*    hydraflow |\bExamples:\n    eval ", told)


# ── architecture and format ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_floors():
    rows = table((ROOT / "docs/architecture.md").read_text(), "| floor | modules | job |")
    told = {name: int(row[0]) for row in rows for name in re.findall(r"`([\w.]+)`", row[1])}
    # Packages that only hold modules, and the one that everything is in, are no rooms of their own.
    holders = {"hydraflow", "hydraflow.core", "hydraflow.adapters", "hydraflow.snakemake", "hydraflow.sources"}
    assert told == {name.removeprefix("hydraflow."): floor for name, floor in FLOORS.items() if name not in holders}


def test_the_picture_of_the_journal():
    source = ast.get_docstring(ast.parse((ROOT / "hydraflow/core/journal.py").read_text()))
    page = (ROOT / "docs/journal-format.md").read_text()
    drawn = page.partition("```text\n")[2].partition("\n```")[0].splitlines()
    told = [line.removeprefix("    ") for line in source.splitlines()]
    assert len(drawn) > 10
    assert "\n".join(drawn) in "\n".join(told)


# ── examples and links ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_python_example(nginx, samples, tmp_path, monkeypatch, capsys):
    [example] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "gzip" in block]
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example.replace("https://example.org", nginx.url), names)
    assert names["records"] == samples.records
    assert (tmp_path / "data/genome.fa.gz").read_bytes() == samples.read("genome.fa.gz")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{len(samples.read('genome.fa.gz'))} size fetched"
    assert shown[1].startswith("md5 mismatch: expected d41d8cd98f00b204e9800998ecf8427e")
    assert shown[1].endswith(" 5")
    assert not (tmp_path / "other/genome.fa.gz").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    inside = [link.partition("#")[0] for link in links if not re.match(r"https?:|#|mailto:", link)]
    assert [link for link in inside if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["test", "demo"])
def test_the_make_targets_of_the_readme(name):
    assert f"\nmake {name} " in README
    done = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_terminal_picture():
    picture = (ROOT / "docs/images/terminal.svg").read_text()
    told = re.sub(r"<[^>]+>", "", picture).replace("&#160;", " ")
    for words in ("run the same command again to go on", "from the checkpoint", "verified sha256", "exit code 5"):
        assert words in told
    assert "@font-face" not in picture


# ── troubleshooting, and the site ────────────────────────────────────────────────────────────────────────────────────

TROUBLE = (ROOT / "docs/troubleshooting.md").read_text()


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_has_its_section(name):
    """Where its `help` leads to; with the hint that people have seen, and the exit code."""
    kind = getattr(errors, name)
    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n?)*)", TROUBLE, re.MULTILINE))
    section = " ".join(sections[name].split())
    assert kind.default_hint in section
    assert name == "HydraError" or f"*Exit code {kind.exit_code}" in section
    error = kind.__new__(kind)
    assert error.help.endswith(f"/docs/troubleshooting.md#{name.lower()}")


def hints() -> set[tuple[str, str]]:
    """What the code tells people to do, and the kind of error; `{}` for what is put in."""
    found = set()
    for path in sorted((ROOT / "hydraflow").rglob("*.py")):
        tree = ast.parse(path.read_text())
        known = {
            each.targets[0].id: each.value
            for each in tree.body
            if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
        }
        for call in ast.walk(tree):
            kind = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
            given = [each.value for each in call.keywords if each.arg == "hint"] if kind in errors.__all__ else []
            for value in given:
                hint = known.get(value.id, value) if isinstance(value, ast.Name) else value
                found |= {
                    (kind, each.value) for each in ast.walk(hint) if isinstance(each, ast.Constant) and each.value
                }
    return found


@pytest.mark.parametrize(("kind", "hint"), sorted(each for each in hints() if each[0] != "ConfigurationError"))
def test_every_hint_is_explained(kind, hint):
    """Word for word where its error is; what is wrong with a command line is told by the hint itself."""
    section = " ".join(re.search(rf"^## {kind}\n((?:(?!^## ).*\n?)*)", TROUBLE, re.MULTILINE)[1].split())
    said = section.replace("`", "").replace(" (hydraflow run), or", ", or").lower()
    assert hint.rstrip(".").replace("Pass ", "").replace(" if that is meant", "").lower() in said


def test_hints_are_found():
    assert len(hints()) > 40


def test_verbose_leads_there(hydraflow, origin):
    ran = hydraflow(f"{origin.url}/x.bin", "-v")
    assert (
        ran.lines[-1] == f"x.bin: more about it: {errors.NotFoundError.help.fget(errors.NotFoundError('', status=404))}"
    )


def test_the_site_is_built(tmp_path):
    """With the reference; a link that leads nowhere would be an error."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = html.unescape((tmp_path / "reference/cli/index.html").read_text())
    assert all(option in told for names in options() for option in names)
    assert all(f'id="hydraflow-{name}"' in told for name in texts.COMMANDS if name != "fetch")
    assert "HYDRAFLOW_MAX_WAIT" in (tmp_path / "reference/settings/index.html").read_text()
    assert "troubleshooting/#diskfullerror" in (tmp_path / "reference/errors/index.html").read_text()
    home = (tmp_path / "index.html").read_text()
    assert 'src="images/terminal.svg"' in home
    assert "https://fonts" not in home, "nothing is loaded from elsewhere"
