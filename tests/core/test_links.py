"""The Link field: mirrors and descriptions, in all spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydraflow.core import links
from hydraflow.models import Head

BASE = "https://h/d/x.gz"
META = 'type="application/metalink4+xml"'


@pytest.mark.parametrize(
    ("value", "mirrors", "described"),
    [
        (f"<x.meta4>; rel=describedby; {META}", [], ["https://h/d/x.meta4"]),
        (f'</x.meta4>;rel="describedby";{META}', [], ["https://h/x.meta4"]),
        ('<x.meta4>; rel=describedby; type="application/Metalink4+XML; v=1"', [], ["https://h/d/x.meta4"]),
        ("<x.meta4>; rel=describedby", [], []),
        (f"<x.meta4>; rel=alternate; {META}", [], []),
        ("<http://m/x.gz>; rel=duplicate; pri=2; geo=de, <https://n/x.gz>; rel=duplicate; pri=1",
         ["https://n/x.gz", "http://m/x.gz"], []),
        ("<http://m/x.gz>; rel=duplicate, <http://n/x.gz>; pri=9; rel=duplicate",
         ["http://n/x.gz", "http://m/x.gz"], []),
        ('<http://m/a,b;c>; title="a, <b>; rel=x \\" "; rel="next duplicate"', ["http://m/a,b;c"], []),
        ("<http://m/x>; rel=duplicate; rel=next", ["http://m/x"], []),
        ("<http://m/x>; rel=next; rel=duplicate", [], []),
        ("<http://m/x>; REL=Duplicate", ["http://m/x"], []),
        ("<http://m/x>; rel=duplicate, <http://m/x>; rel=duplicate; pri=1", ["http://m/x"], []),
        ("<http://m/x>; rel=duplicate; pri=x; depth", ["http://m/x"], []),
        (f"<http://m/x>; rel=duplicate; pri={'9' * 5000}, <http://n/x>; rel=duplicate; pri=9",
         ["http://n/x", "http://m/x"], []),
        ("<ftp://m/x>; rel=duplicate", [], []),
        ("<file:///etc/passwd>; rel=duplicate", [], []),
        ("<http://[::1>; rel=duplicate, <http://m/x>; rel=duplicate", ["http://m/x"], []),
        ("http://m/x; rel=duplicate", [], []),
        ("<>; rel=duplicate", [], []),
        ("", [], []),
        (None, [], []),
    ],
)  # fmt: skip
def test_links(value, mirrors, described):
    found = links.parse(value, BASE)
    assert list(links.mirrors(found)) == mirrors
    assert list(links.described_by(found)) == described


def head(link: str, url: str, redirects: tuple[Head, ...] = ()) -> Head:
    return Head(200, (("link", link),), url, redirects=redirects)


def test_duplicates_are_few_and_as_secure_as_what_was_asked():
    many = ", ".join(f"<{scheme}://m{n}/x>; rel=duplicate" for n in range(9) for scheme in ("http", "https"))
    for url in (BASE, BASE.replace("https", "HTTPS")):
        assert links.duplicates(head(many, BASE), url) == tuple(f"https://m{n}/x" for n in range(4))
    assert links.duplicates(head(many, BASE), "http://h/x") == (
        "http://m0/x",
        "https://m0/x",
        "http://m1/x",
        "https://m1/x",
    )


def test_nothing_is_a_duplicate_of_itself():
    first = head("</same>; rel=duplicate, <http://n/x>; rel=duplicate", "http://h/redacted")
    named = "<http://h/x?key=1>; rel=duplicate, <y>; rel=duplicate, <http://n/x>; rel=duplicate"
    last = head(named, "http://n/x", (first,))
    assert links.duplicates(last, "http://h/x?key=1") == ("http://h/same", "http://n/y")


def test_links_are_bounded():
    assert len(links.parse(", ".join(f"<http://m/{n}>; rel=duplicate" for n in range(500)), BASE)) == 100


@given(st.text(alphabet='<>;,=" \\abc/:http.rel', max_size=200) | st.text(max_size=100))
def test_nothing_raises(value):
    found = links.parse(value, BASE)
    assert all(link.url.startswith(("http://", "https://")) for link in found)
    assert len(links.mirrors(found)) <= len(found) >= len(links.described_by(found))
