"""What a file is called where its URL does not say; no name leads out of the directory."""

from __future__ import annotations

import pytest

from hydraflow.api import fetch, fetch_all
from hydraflow.errors import ConfigurationError, NotFoundError

DATA = b"data" * 100


def left(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/record/content", {"Content-Disposition": "attachment; filename=x.zip"}, "x.zip"),
        ("/record/content", {"Content-Disposition": 'attachment; filename="../../../x.zip"'}, "x.zip"),
        ("/record/content", {"Content-Disposition": "attachment; filename*=UTF-8''%2Fetc%2Fpasswd"}, "passwd"),
        ("/record/content", {"Content-Disposition": 'attachment; filename=".."'}, "content"),
        ("/record/content", {"Content-Type": "application/zip"}, "content.zip"),
        ("/", {"Content-Type": "text/csv; charset=utf-8"}, "download.csv"),
        ("/x.gz", {"Content-Disposition": "attachment; filename=y.gz"}, "x.gz"),
        ("/README", {"Content-Type": "text/plain"}, "README"),
    ],
)
@pytest.mark.parametrize("how", ["one", "many"])
def test_names(origin, tmp_path, settings, path, headers, name, how):
    url, directory = origin.add(path, DATA, headers=headers), tmp_path / "in" / "here"
    if how == "one":
        assert fetch(url, f"{directory}/", settings=settings).path == directory / name
    else:
        (outcome,) = fetch_all([url], directory, settings=settings)
        assert outcome.path == directory / name
    assert left(tmp_path) == [f"in/here/{name}"]


def test_the_last_redirect_may_tell(origin, tmp_path, settings):
    origin.add("/z.bam", DATA)
    origin.when(path="/get").redirect("/z.bam?token=1")
    assert fetch(f"{origin.url}/get", f"{tmp_path}/", settings=settings).path == tmp_path / "z.bam"


def test_the_caller_names_it(origin, tmp_path, settings):
    url = origin.add("/content", DATA, headers={"Content-Disposition": "attachment; filename=x.zip"})
    assert fetch(url, tmp_path / "mine", settings=settings).path == tmp_path / "mine"
    assert len(origin.ledger) == 1, "nobody need be asked"


def test_it_is_asked_for_again_and_found_there(origin, tmp_path, settings):
    url = origin.add("/content", DATA, headers={"Content-Disposition": "attachment; filename=x.zip"})
    first, second = (fetch(url, f"{tmp_path}/", settings=settings) for _ in range(2))
    assert (first.path, str(second.outcome)) == (second.path, "already present")


def test_two_of_one_name(origin, tmp_path, settings):
    headers = {"Content-Disposition": "attachment; filename=x.zip"}
    given = [origin.add(f"/{n}/content", DATA + bytes([n]), headers=headers) for n in range(2)]
    outcomes = fetch_all(given, tmp_path, settings=settings)
    assert sorted(isinstance(outcome, ConfigurationError) for outcome in outcomes) == [False, True]
    assert left(tmp_path) == ["x.zip"]
    with pytest.raises(ConfigurationError, match="given twice"):
        fetch_all([given[0], given[0]], tmp_path, settings=settings)


def test_nobody_there_to_name_it(origin, tmp_path, settings):
    with pytest.raises(NotFoundError):
        fetch(f"{origin.url}/content", f"{tmp_path}/new/", settings=settings)
    assert list(tmp_path.iterdir()) == []
