"""Which questions are asked of which URL: hosts and paths as the providers have them."""

from __future__ import annotations

import hashlib

import pytest

from hydraflow.models import DigestSource, Head
from hydraflow.sources import publishers

MD5 = hashlib.md5(b"data").hexdigest()
NCBI = "https://ftp.ncbi.nlm.nih.gov"
ENA_REPORT = (
    "https://www.ebi.ac.uk/ena/portal/api/filereport?accession=SRR000001&result=read_run"
    "&fields=fastq_ftp,fastq_md5,submitted_ftp,submitted_md5,sra_ftp,sra_md5&format=json"
)
GENOME = f"{NCBI}/genomes/all/GCF/000/001/405/GCF_000001405.40_GRCh38.p14"


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        (f"{GENOME}/x_genomic.fna.gz", f"{GENOME}/md5checksums.txt"),
        (f"{NCBI}/blast/db/nt.00.tar.gz", f"{NCBI}/blast/db/nt.00.tar.gz.md5"),
        (f"{NCBI}/pub/taxonomy/taxdump.tar.gz", f"{NCBI}/pub/taxonomy/taxdump.tar.gz.md5"),
        ("https://hgdownload.soe.ucsc.edu/goldenPath/hg38/bigZips/hg38.fa.gz",
         "https://hgdownload.soe.ucsc.edu/goldenPath/hg38/bigZips/md5sum.txt"),
        ("https://ftp.ebi.ac.uk/pub/databases/gencode/Gencode_human/release_44/x.gtf.gz",
         "https://ftp.ebi.ac.uk/pub/databases/gencode/Gencode_human/release_44/MD5SUMS"),
        ("https://ftp.uniprot.org/pub/databases/uniprot/current_release/knowledgebase/complete/x.fasta.gz",
         "https://ftp.uniprot.org/pub/databases/uniprot/current_release/knowledgebase/complete/RELEASE.metalink"),
        ("https://zenodo.org/records/123/files/x.zip?download=1", "https://zenodo.org/api/records/123/files"),
        ("https://zenodo.org/record/123/files/a%20b.zip", "https://zenodo.org/api/records/123/files"),
        ("https://zenodo.org/api/records/123/files/x.zip/content", "https://zenodo.org/api/records/123/files"),
        ("https://ftp.sra.ebi.ac.uk/vol1/fastq/SRR000/SRR000001/SRR000001_1.fastq.gz",
         ENA_REPORT),
    ],
)  # fmt: skip
def test_known_publishers(url, asked):
    assert [question.url for question in publishers.elsewhere(url)] == [asked]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/genomes/x.fna.gz",
        "https://ftp.ncbi.nlm.nih.gov.example.org/genomes/x.fna.gz",
        "https://xftp.ncbi.nlm.nih.gov/genomes/x.fna.gz",
        f"{NCBI}/sra/x.sra",
        f"{GENOME}/x.fna.gz?token=1",
        "https://ftp.ensembl.org/pub/release-110/fasta/homo_sapiens/dna/x.fa.gz",
        "https://zenodo.org/communities/x",
        "https://sandbox.zenodo.org/records/1/files/x.zip",
        "https://ftp.sra.ebi.ac.uk/vol1/other/x",
    ],
)
def test_strangers_are_not_asked(url):
    assert list(publishers.elsewhere(url)) == []


def test_the_usual_places():
    assert [question.url for question in publishers.usual("https://h/d%20d/x%2By.gz")] == [
        "https://h/d%20d/x%2By.gz.sha256",
        "https://h/d%20d/x%2By.gz.md5",
        "https://h/d%20d/SHA256SUMS",
        "https://h/d%20d/md5checksums.txt",
    ]
    every = [question.url.rpartition("/")[2] for question in publishers.usual("https://h/d/x", rare=True)]
    assert every[4:] == ["MD5SUMS", "CHECKSUMS", "sha256sum.txt", "md5sum.txt"]


@pytest.mark.parametrize("url", ["https://h/x?versionId=1", "https://u:p@h/x"])
def test_what_is_asked_for_with_more_than_a_path_is_not_guessed_about(url):
    assert list(publishers.usual(url)) == []


def test_names_are_those_of_the_decoded_path():
    question = next(iter(publishers.elsewhere(f"{GENOME}/a%20b%2Bc.gz")))
    assert [str(digest) for digest in question.read(f"{MD5}  ./a b+c.gz\n".encode())] == [f"md5:{MD5}"]
    assert question.source is DigestSource.SIDECAR


def test_the_answer_may_tell_where():
    link = '<x.meta4>; rel=describedby; type="application/metalink4+xml"'
    hub = Head(302, (("link", link),), "https://hub/d/x.gz")
    end = Head(200, (("link", link),), "https://mirror/e/x.gz", redirects=(hub,))
    asked = list(publishers.in_the_answer(end, "https://hub/d/x.gz", "x.gz"))
    assert [question.url for question in asked] == ["https://hub/d/x.meta4", "https://mirror/e/x.meta4"]
    read = asked[0].read
    file = f'<metalink><file name="{{}}"><hash type="md5">{MD5}</hash></file></metalink>'
    assert [str(digest) for digest in read(file.format("x.gz").encode())] == [f"md5:{MD5}"]
    assert read(file.format("y.gz").encode()) == ()
    assert read(b"<html/>") == ()
    assert list(publishers.in_the_answer(Head(200, (), "https://h/x"), "https://h/x", "x")) == []
