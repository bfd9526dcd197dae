"""The Link field: mirrors and descriptions, in all spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hydraflow.core import links

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


def test_links_are_bounded():
    assert len(links.parse(", ".join(f"<http://m/{n}>; rel=duplicate" for n in range(500)), BASE)) == 100


@given(st.text(alphabet='<>;,=" \\abc/:http.rel', max_size=200) | st.text(max_size=100))
def test_nothing_raises(value):
    found = links.parse(value, BASE)
    assert all(link.url.startswith(("http://", "https://")) for link in found)
    assert len(links.mirrors(found)) <= len(found) >= len(links.described_by(found))
