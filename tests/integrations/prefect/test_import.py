from __future__ import annotations

import subprocess
import sys


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


def test_without_prefect_the_error_says_what_to_install() -> None:
    done = python("import sys; sys.modules['prefect'] = None; import hydraflow.prefect")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: hydraflow.prefect needs Prefect: pip install 'hydraflow-io[prefect]'"
    )


def test_a_broken_prefect_is_not_called_missing() -> None:
    done = python("import sys; sys.modules['pydantic_core'] = None; import hydraflow.prefect")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of pydantic_core")


def test_nothing_below_imports_prefect() -> None:
    done = python("import sys, hydraflow.api, hydraflow.cli; print('prefect' in sys.modules)")
    assert (done.returncode, done.stdout) == (0, "False\n")
