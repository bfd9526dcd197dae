"""What shows that two answers are of the same bytes."""

from __future__ import annotations

import pytest

from hydraflow.core import evidence
from hydraflow.core.evidence import Evidence
from hydraflow.models import Claim, Digest, DigestSource, Resource, Validator
from tests.core.test_transfer import BAD, CALLER, GOOD

STRONG, OTHER, NONE = Validator('"v1"'), Validator('"v2"'), Validator()
HEADER = Claim(Digest("md5", GOOD), DigestSource.GOOG_HASH)
LIE = Claim(Digest("md5", BAD), DigestSource.S3_ETAG)


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        (Resource("u", "u", 100, True, OTHER), Evidence.NONE),
        (Resource("u", "u", 100, True, STRONG), Evidence.SAME),
        (Resource("u", "u", 100, True, Validator('W/"v1"')), Evidence.NONE),
        (Resource("u", "u", 99, True, STRONG), Evidence.OTHER),
        (Resource("u", "u", None, True, STRONG), Evidence.OTHER),
        (Resource("u", "u", 100, True, STRONG, encoding="gzip"), Evidence.OTHER),
        (Resource("u", "u", 100, True, OTHER, claims=(HEADER,)), Evidence.SAME),
        (Resource("u", "u", 100, True, NONE, claims=(HEADER,)), Evidence.NONE),
        (Resource("u", "u", 100, True, STRONG, claims=(LIE,)), Evidence.OTHER),
    ],
)
def test_evidence(seen: Resource, shown: Evidence):
    assert evidence.compare(100, STRONG, (CALLER,), None, seen) is shown


def test_a_file_of_unknown_size_is_like_no_other():
    seen = Resource("u", "u", None, True, STRONG)
    assert evidence.compare(None, STRONG, (), None, seen) is Evidence.OTHER
