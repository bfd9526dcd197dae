"""A module imports only from lower floors, the core does no I/O, and importing the package costs next to nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hydraflow", "snakemake_storage_plugin_hydra")

#: Every module stands here once. `docs/architecture.md` draws the same picture.
FLOORS = {
    "hydraflow": 0,  # the version, and names that are loaded on first use
    "hydraflow.errors": 0,
    "hydraflow.models": 0,
    "hydraflow.core": 0,
    "hydraflow.core.bounds": 1,
    "hydraflow.core.catalogues": 1,
    "hydraflow.core.headers": 1,
    "hydraflow.core.history": 1,
    "hydraflow.core.links": 1,
    "hydraflow.core.metalink": 1,
    "hydraflow.core.names": 1,
    "hydraflow.core.ranges": 1,
    "hydraflow.core.retry": 1,
    "hydraflow.core.sidecars": 1,
    "hydraflow.core.tally": 1,
    "hydraflow.core.throttle": 1,
    "hydraflow.core.urls": 2,
    "hydraflow.core.claims": 2,
    "hydraflow.core.integrity": 2,
    "hydraflow.core.journal": 2,
    "hydraflow.core.limiter": 2,
    "hydraflow.core.planner": 2,
    "hydraflow.core.evidence": 3,
    "hydraflow.core.manifests": 3,
    "hydraflow.core.locks": 4,
    "hydraflow.core.sources": 3,
    "hydraflow.core.reorder": 2,
    "hydraflow.core.responses": 3,
    "hydraflow.core.events": 4,
    "hydraflow.core.scheduler": 5,
    "hydraflow.core.transfer": 6,
    "hydraflow.environment": 3,
    "hydraflow.settings": 4,
    "hydraflow.adapters": 0,
    "hydraflow.adapters.files": 3,
    "hydraflow.adapters.ownership": 4,
    "hydraflow.adapters.hashing": 5,
    "hydraflow.adapters.netrc": 5,
    "hydraflow.adapters.network": 4,
    "hydraflow.adapters.pacing": 5,
    "hydraflow.adapters.store": 5,
    "hydraflow.adapters.threads": 5,
    "hydraflow.adapters.sinks": 6,
    "hydraflow.adapters.routing": 5,
    "hydraflow.adapters.transport": 6,
    "hydraflow.adapters.decoding": 7,
    "hydraflow.adapters.pipes": 7,
    "hydraflow.adapters.spool": 7,
    "hydraflow.sources": 0,
    "hydraflow.sources.publishers": 3,
    "hydraflow.sources.lookup": 7,
    "hydraflow.engine": 8,
    "hydraflow.delivery": 9,
    "hydraflow.ordering": 9,
    "hydraflow.runtime": 9,
    "hydraflow.streams": 10,
    "hydraflow.api": 11,
    "hydraflow.inspecting": 12,
    "hydraflow.verifying": 12,
    "hydraflow.consumers": 12,
    "hydraflow.locking": 12,
    "hydraflow.progress": 12,
    "hydraflow.display": 13,
    "hydraflow.report": 13,
    "hydraflow.prefect.dispatch": 12,
    "hydraflow.prefect.profiles": 12,
    "hydraflow.prefect.records": 12,
    "hydraflow.prefect.retrying": 12,
    "hydraflow.prefect.runs": 12,
    "hydraflow.prefect.serialising": 12,
    "hydraflow.prefect.artifacts": 13,
    "hydraflow.prefect.budgets": 13,
    "hydraflow.prefect.fifos": 13,
    "hydraflow.prefect.lineage": 13,
    "hydraflow.prefect.manifests": 13,
    "hydraflow.prefect.pinning": 13,
    "hydraflow.snakemake": 0,
    "hydraflow.snakemake.feeding": 13,
    "hydraflow.snakemake.pins": 13,
    "hydraflow.snakemake.host": 12,
    "hydraflow.snakemake.probes": 12,
    "hydraflow.snakemake.queries": 12,
    "hydraflow.snakemake.retrieval": 12,
    "hydraflow.snakemake.settings": 12,
    "hydraflow.prefect.caching": 14,
    "hydraflow.prefect.streaming": 14,
    "hydraflow.snakemake.objects": 14,
    "hydraflow.cli.products": 13,
    "hydraflow.cli.lists": 14,
    "hydraflow.cli.output": 14,
    "hydraflow.cli.texts": 14,
    "hydraflow.cli.options": 15,
    "hydraflow.cli.tasks": 16,
    "hydraflow.cli.fetch": 17,
    "hydraflow.cli.completion": 17,
    "hydraflow.cli.doctor": 17,
    "hydraflow.cli.endings": 17,
    "hydraflow.cli.lock": 17,
    "hydraflow.cli.probe": 17,
    "hydraflow.cli.state": 17,
    "hydraflow.cli.run": 17,
    "hydraflow.cli.verify": 17,
    "hydraflow.cli.session": 18,
    "hydraflow.cli": 19,
    "hydraflow.__main__": 20,
    "hydraflow.prefect.fetching": 15,
    "hydraflow.prefect.piping": 15,
    "hydraflow.prefect": 16,
    "hydraflow.snakemake.provider": 15,
    "snakemake_storage_plugin_hydra": 16,
}

#: Imports upwards that only type checkers see, each with its reason.
FOR_TYPE_CHECKERS = {
    "hydraflow": {
        # the homes of the names that `__getattr__` loads on first use
        "hydraflow.api",
        "hydraflow.errors",
        "hydraflow.locking",
        "hydraflow.models",
        "hydraflow.settings",
    },
    # Snakemake gives an object its provider; the two know each other by design of its interface
    "hydraflow.snakemake.objects": {"hydraflow.snakemake.provider"},
}

IMPURE = {"asyncio", "httpcore", "httpx", "logging", "os", "pydantic", "random", "socket", "threading", "time"}


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    for_type_checkers: bool


def path_of(module: str) -> Path:
    plain = ROOT.joinpath(*module.split("."))
    return plain / "__init__.py" if plain.is_dir() else plain.with_suffix(".py")


def modules() -> set[str]:
    """Names of all modules that are there."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files}


def imports(module: str) -> list[Import]:
    """Everything that a module imports, wherever in it the statement stands."""
    tree = ast.parse(path_of(module).read_text())
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            names = [_imported(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        found += [Import(name, node.lineno, node in guarded) for name in names]
    return found


def _imported(package: str, name: str) -> str:
    """`from package import name` imports a module of that name if there is one, else the package."""
    return f"{package}.{name}" if f"{package}.{name}" in FLOORS else package


def ours(found: Import) -> bool:
    return found.module.partition(".")[0] in PACKAGES


def test_every_module_has_a_floor():
    assert modules() == set(FLOORS)


@pytest.mark.parametrize("module", sorted(FLOORS))
def test_imports_go_down(module):
    allowed = FOR_TYPE_CHECKERS.get(module, set())
    upwards = [
        f"{path_of(module).relative_to(ROOT)}:{found.line} imports {found.module}"
        for found in imports(module)
        if ours(found)
        and FLOORS[found.module] >= FLOORS[module]
        and not (found.for_type_checkers and found.module in allowed)
    ]
    assert not upwards


@pytest.mark.parametrize("module", sorted(FOR_TYPE_CHECKERS))
def test_exceptions_are_needed(module):
    upwards = {found.module for found in imports(module) if found.for_type_checkers and ours(found)}
    assert upwards >= FOR_TYPE_CHECKERS[module]


@pytest.mark.parametrize("module", ["hydraflow.core", "hydraflow.adapters", "hydraflow.snakemake", "hydraflow.sources"])
def test_packages_only_hold_modules(module):
    assert not [found for found in imports(module) if ours(found)]


@pytest.mark.parametrize("module", sorted(name for name in FLOORS if name.startswith("hydraflow.core.")))
def test_the_core_is_pure(module):
    foreign = {found.module.partition(".")[0] for found in imports(module)}
    assert not foreign & IMPURE


@pytest.mark.parametrize("front", ["prefect", "snakemake"])
def test_only_a_front_knows_its_host(front):
    strangers = {
        module
        for module in FLOORS
        if not module.startswith(f"hydraflow.{front}")
        for found in imports(module)
        if found.module.partition(".")[0].startswith(front) and not ours(found)
    }
    assert not strangers


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_is_cheap(package):
    heavy = "'asyncio', 'httpx', 'httpcore', 'pydantic', 'uvloop', 'rich', 'prefect'"
    if package != "hydraflow":
        heavy = "'httpx', 'httpcore', 'pydantic', 'uvloop', 'prefect'"  # Snakemake's own interface loads asyncio
    code = f"import json, sys, {package}; print(json.dumps([name for name in [{heavy}] if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_names_are_loaded_on_first_use():
    code = "import sys, hydraflow; hydraflow.HydraError; hydraflow.Digest; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import os", ("os", False)),
        ("def f():\n    from hydraflow import api", ("hydraflow.api", False)),
        ("from hydraflow import __version__", ("hydraflow", False)),
        ("from hydraflow.core import urls", ("hydraflow.core.urls", False)),
        ("if TYPE_CHECKING:\n    import httpx", ("httpx", True)),
        ("if typing.TYPE_CHECKING:\n    import httpx", ("httpx", True)),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import httpx", ("httpx", False)),
    ],
)
def test_the_walk_sees_every_import(tmp_path, monkeypatch, text, expected):
    (tmp_path / "sample.py").write_text(text)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert [(found.module, found.for_type_checkers) for found in imports("sample")] == [expected]
