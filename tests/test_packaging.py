"""The package is what `pyproject.toml` says: dependencies declared, files there, the command installed."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import hydraflow
from tests.test_floors import FLOORS, PACKAGES, imports

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

#: What each front may import besides the dependencies of all; everything else is its host's, and comes with it.
FRONTS = {
    "hydraflow.prefect": {"prefect", "anyio"},
    "hydraflow.snakemake": {"snakemake", "snakemake_interface_common", "snakemake_interface_storage_plugins"},
}

#: Modules of other extras, with what they may import where that is installed.
OPTIONAL = {"hydraflow.adapters.decoding": {"isal", "backports", "compression"}}

#: Parts of what is declared: their versions follow from it.
PARTS = {"pydantic": "pydantic-settings", "pydantic-core": "pydantic-settings"}


def normal(name: str) -> str:
    """The name of a distribution in the form in which all spellings are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def distributions() -> Mapping[str, list[str]]:
    """Which distributions have which top-level module; it takes a second to read."""
    return importlib.metadata.packages_distributions()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]) for requirement in requirements}


def foreign(module: str) -> set[str]:
    """Top-level modules that are neither ours nor Python's."""
    tops = {found.module.partition(".")[0] for found in imports(module)}
    return tops - set(PACKAGES) - sys.stdlib_module_names


@pytest.mark.parametrize("module", sorted(FLOORS))
def test_every_import_is_declared(module):
    front = next((name for name in FRONTS if module.startswith(name)), "")
    homes = distributions()
    wanted = {normal(homes[name][0]) for name in foreign(module) - FRONTS.get(front, OPTIONAL.get(module, set()))}
    assert {PARTS.get(name, name) for name in wanted} <= declared(PROJECT["project"]["dependencies"])


def test_the_oldest_python_can_install_what_is_pinned():
    """A pin that wants a later patch release than a stable distribution has ends `make test` before it begins."""
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    pinned = {normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wants = {
        normal(each.name): each.metadata.get("Requires-Python") or ""
        for each in importlib.metadata.distributions()
        if normal(each.name) in pinned
    }
    assert len(wants) > 100
    assert {name: text for name, text in wants.items() if oldest not in SpecifierSet(text)} == {}


@pytest.mark.parametrize("front", ["prefect", "snakemake"])
def test_every_front_has_an_extra(front):
    extras = PROJECT["project"]["optional-dependencies"]
    assert front in declared(extras[front])
    assert f"hydraflow-io[decompress,{','.join(sorted(FRONTS)).replace('hydraflow.', '')}]" in extras["all"]


def test_decompression_has_an_extra():
    assert declared(PROJECT["project"]["optional-dependencies"]["decompress"]) == {"isal", "backports-zstd"}


def test_every_dependency_is_needed():
    used = set().union(*map(foreign, FLOORS))
    homes = distributions()
    needed = {normal(home) for name in used for home in homes.get(name, [])}
    assert declared(PROJECT["project"]["dependencies"]) <= needed


def test_the_packages_are_those_that_are_tested():
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(PACKAGES)


def test_everything_that_is_shipped_is_there():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    missing = [path for path in included if not (ROOT / path.lstrip("/")).exists()]
    assert not missing
    assert (ROOT / PROJECT["project"]["readme"]).is_file()
    assert (ROOT / "hydraflow" / "py.typed").is_file()


def test_the_installed_version():
    assert importlib.metadata.version(PROJECT["project"]["name"]) == hydraflow.__version__


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "hydraflow"], [str(Path(sys.executable).parent / "hydraflow")]]
)
def test_the_command(command, tmp_path):
    done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"hydraflow, version {hydraflow.__version__}\n"


def test_public_names_are_there():
    assert [name for name in hydraflow.__all__ if not hasattr(hydraflow, name)] == []
    assert set(hydraflow.__all__) <= set(dir(hydraflow))
