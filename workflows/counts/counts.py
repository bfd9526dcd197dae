"""What the Snakefile beside it calls: make an index of transcripts, count reads by it, put counts into one table.

python counts.py index transcripts.fa.gz transcripts.mmi
python counts.py count transcripts.mmi reads.fastq.gz > sample.tsv
python counts.py table counts/*.tsv > counts.tsv
"""

import collections
import sys
from pathlib import Path

import mappy

_SURE = 1  # least mapping quality: a read that fits several transcripts equally well has 0, and is not counted


def index(transcripts: str, target: str) -> None:
    """Make an index for short reads."""
    if not mappy.Aligner(transcripts, preset="sr", fn_idx_out=target):
        sys.exit(f"{transcripts}: no sequences in it")


def count(source: str, reads: str) -> None:
    """Print how many reads each transcript has, and how many have no place, or several."""
    aligner = mappy.Aligner(source, preset="sr")
    if not aligner:
        sys.exit(f"{source}: no index")
    found: collections.Counter[str] = collections.Counter()
    for _, sequence, _ in mappy.fastx_read(reads):
        best = next((hit.ctg for hit in aligner.map(sequence) if hit.is_primary and hit.mapq >= _SURE), "*")
        found[best] += 1
    for name in [*aligner.seq_names, "*"]:
        print(name, found[name], sep="\t")


def table(*samples: str) -> None:
    """Print the counts of all samples side by side."""
    columns = [dict(line.split("\t") for line in Path(name).read_text().splitlines()) for name in samples]
    print("transcript", *(Path(name).stem for name in samples), sep="\t")
    for transcript in columns[0]:
        print(transcript, *(column[transcript] for column in columns), sep="\t")


if __name__ == "__main__":
    {"index": index, "count": count, "table": table}[sys.argv[1]](*sys.argv[2:])
