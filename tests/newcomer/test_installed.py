"""README's first steps from the first line on: a clone, an environment, the installation, an empty home.

It needs git and a package index, so it is no part of `make test`, which goes the same way from the fourth line on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT
from tests.cli.newcomer import Newcomer, first_steps, public

#: What pip may need to reach its index from where this runs; nothing else of the environment is the newcomer's.
_PIP = ("PIP_CERT", "PIP_INDEX_URL", "PIP_PROXY", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy")
_REPOSITORY = "https://github.com/hydraflow-io/hydraflow"


@pytest.mark.timeout(600)
def test_from_the_clone_to_the_stream(samples, tmp_path):
    install, use = first_steps()
    commands, home = tmp_path / "bin", tmp_path / "home"
    commands.mkdir()
    home.mkdir()
    (commands / "python3").symlink_to(Path(sys.base_prefix, "bin", Path(sys.executable).resolve().name))
    known = {name: os.environ[name] for name in _PIP if name in os.environ}
    known |= {"HOME": str(home), "PATH": f"{commands}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    # Of the address of the clone, git takes this tree instead.
    known |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf", "GIT_CONFIG_VALUE_0": _REPOSITORY}
    with public(tmp_path / "far", samples.read("genome.fa.gz") * 2) as server:
        newcomer = Newcomer(home, known, server)
        newcomer.type("\n".join(["set -e", *install]))
        newcomer.enter(home / "hydraflow")
        newcomer.use(use)
        newcomer.check()
