# ruff: noqa: INP001 - a module of mkdocs, in no package
"""What mkdocs does not do by itself: the home page, the reference, and links that lead out of docs/."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))

import reference  # noqa: E402

_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_config(config: Any) -> Any:
    """The pages that stand for `*` in the navigation; other people write them, and one more needs no line there."""
    config["nav"] = _expanded(config["nav"], Path(config["docs_dir"]))
    return config


def _expanded(items: list[Any], docs: Path) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if isinstance(item, str) and item.endswith("*"):
            found += sorted(path.relative_to(docs).as_posix() for path in docs.glob(f"{item}.md"))
        elif isinstance(item, dict):
            found.append({name: _expanded(sub, docs) if isinstance(sub, list) else sub for name, sub in item.items()})
        else:
            found.append(item)
    return found


def on_files(files: Any, *, config: Any) -> Any:
    """Pages that are made: the home page is README.md, as seen from docs/."""
    home = re.sub(_LINK, lambda link: f"{link[1]}{_from_docs(link[2])}{link[3]}", (ROOT / "README.md").read_text())
    for name, text in {"index.md": home, **reference.pages()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def _from_docs(link: str) -> str:
    return link.removeprefix("docs/") if link.startswith("docs/") else f"../{link}"


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Links to files of the repository that are no pages lead to where it is published."""
    here = posixpath.dirname(page.file.src_uri)

    def replace(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, link[2]))
        if target == "README.md":
            return f"{link[1]}{posixpath.relpath('index.md', here or '.')}{link[3]}"
        if target.startswith("docs/") and not target.endswith(".py"):
            return link[0]
        return f"{link[1]}{config['repo_url']}/blob/main/{target}{link[3]}"

    return re.sub(_LINK, replace, markdown)
