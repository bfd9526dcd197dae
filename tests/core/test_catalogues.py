"""What Zenodo and ENA answer: right, of another file, malformed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydraflow.core import catalogues

MD5, OTHER = "8d777f385d3dfec8815d20f7496026dc", "0" * 32


@pytest.mark.parametrize("field", ["files", "entries"])
@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([{"key": "x.zip", "checksum": f"md5:{MD5}", "size": 4}], True),
        ([{"key": "y.zip", "checksum": f"md5:{OTHER}"}, {"key": "x.zip", "checksum": f"md5:{MD5}"}], True),
        ([{"key": "x.zip", "checksum": f"md5:{MD5}"}] * 2, True),
        ([{"key": "y.zip", "checksum": f"md5:{MD5}"}], False),
        ([{"key": "a/x.zip", "checksum": f"md5:{MD5}"}], False),
        ([{"key": "x.zip", "checksum": f"md5:{MD5}"}, {"key": "x.zip", "checksum": f"md5:{OTHER}"}], False),
        ([{"key": "x.zip", "checksum": f"md5:{MD5}-2"}], False),
        ([{"key": "x.zip", "checksum": MD5}], False),
        ([{"key": "x.zip", "checksum": None}], False),
        ([{"key": "x.zip"}], False),
        (["x.zip"], False),
        ([], False),
        ({}, False),
        (None, False),
    ],
)
def test_zenodo(field, files, found):
    read = catalogues.zenodo(json.dumps({field: files}).encode(), "x.zip")
    assert [str(digest) for digest in read] == ([f"md5:{MD5}"] if found else [])


PATH = "ftp.sra.ebi.ac.uk/vol1/fastq/SRR000/SRR000001/SRR000001_1.fastq.gz"
MATE = PATH.replace("_1.", "_2.")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"fastq_ftp": PATH, "fastq_md5": MD5}, True),
        ({"fastq_ftp": f"{MATE};{PATH}", "fastq_md5": f"{OTHER};{MD5}"}, True),
        ({"submitted_ftp": PATH, "submitted_md5": MD5, "fastq_ftp": None}, True),
        ({"fastq_ftp": MATE, "fastq_md5": MD5}, False),
        ({"fastq_ftp": f"{MATE};{PATH}", "fastq_md5": MD5}, False),
        ({"fastq_ftp": PATH, "fastq_md5": f"{MD5};"}, False),
        ({"fastq_ftp": f"{PATH};{PATH}", "fastq_md5": f"{MD5};{OTHER}"}, False),
        ({"fastq_ftp": PATH, "fastq_md5": "x"}, False),
        ({"fastq_ftp": f"x/{PATH}", "fastq_md5": MD5}, False),
        ({}, False),
        ([], False),
    ],
)
def test_ena(row, found):
    read = catalogues.ena(json.dumps([row]).encode(), PATH)
    assert [str(digest) for digest in read] == ([f"md5:{MD5}"] if found else [])


@pytest.mark.parametrize("data", [b"", b"<html>", b"{}", b"[]", b"3", b"\xff", b"[" * 100_000, b'"x"', b"null"])
def test_what_is_no_answer(data):
    assert catalogues.zenodo(data, "x") == ()
    assert catalogues.ena(data, "x") == ()


values = st.recursive(
    st.none() | st.text(max_size=5) | st.integers() | st.sampled_from([PATH, "x.zip", MD5, f"md5:{MD5}"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["files", "entries", "key", "checksum", "fastq_ftp", "fastq_md5"]), inner)
    ),
    max_leaves=15,
)


@given(values)
@settings(deadline=None)
def test_nothing_raises(value):
    data = json.dumps(value).encode()
    assert [str(digest) for digest in catalogues.zenodo(data, "x.zip")] in ([], [f"md5:{MD5}"])
    assert [str(digest) for digest in catalogues.ena(data, PATH)] in ([], [f"md5:{MD5}"])
