"""`python -m benchmarks`: run suites, write the results, draw the picture."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import ByteSize, TypeAdapter, ValidationError

from benchmarks import BenchmarkError, chart, compare, machine, report, rounds
from benchmarks.peers import ROOT, Client, all_clients
from benchmarks.results import Result
from benchmarks.site import serving
from benchmarks.suites import SUITES
from lab.process import MissingBinaryError

RESULTS = ROOT / "benchmarks" / "results"
CHART = ROOT / "docs" / "images" / "bench.svg"
_LOOK = 2.0  # seconds of looking whether others are at work


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; gives the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.report:
        _publish(options, [])
        return 0
    try:
        if not options.busy_ok:
            _refuse_if_busy()
        with contextlib.ExitStack() as stack:
            results = _run(options, _clients(options, stack))
    except (BenchmarkError, MissingBinaryError) as error:
        parser.error(str(error))
    if options.compare is None:
        _publish(options, results)
    for result in results:
        print(f"\n{report.table(result)}", end="")
    return 1 if any(result.failed for result in results) else 0


def _refuse_if_busy() -> None:
    in_use = machine.busy(_LOOK)
    if in_use > rounds.BUSY:
        load = machine.load()
        raise BenchmarkError(f"the machine is busy: {in_use:.0%} of its cores, load {load:.2f}; wait, or --busy-ok")


def _clients(options: argparse.Namespace, stack: contextlib.ExitStack) -> list[Client]:
    if options.compare is None:
        return all_clients(options.clients)
    return compare.clients(stack.enter_context(compare.worktree(options.compare)))


def _run(options: argparse.Namespace, clients: Sequence[Client]) -> list[Result]:
    baselines = ("curl", "aria2") if options.compare is None else (compare.BASELINE,)
    results = []
    with serving(options.size, options.data) as site:
        for name in options.suites or SUITES:
            result = rounds.run(
                SUITES[name], clients, site, rounds=options.rounds, baselines=baselines, timeout=options.timeout
            )
            results.append(result)
            if options.compare is None:  # at once, so that an interrupted run leaves what it has
                report.write(options.results, [result])
    return results


def _publish(options: argparse.Namespace, results: Sequence[Result]) -> None:
    report.write(options.results, results)
    picture = options.chart or (CHART if options.results == RESULTS else options.results / CHART.name)
    chart.write(picture, report.load(options.results))
    print(f"\nwritten: {options.results / 'README.md'}, {picture}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--suites", type=_suites, default=[], metavar="A,B", help=f"of {', '.join(SUITES)}; default: all")
    add("--clients", type=_names, default=[], metavar="A,B", help="default: all; ratios need curl and aria2")
    add("--rounds", type=_count, default=5, metavar="N", help="default: 5")
    add("--size", type=_size, default=_size("2GiB"), metavar="BYTES", help="of the one large file; default: 2GiB")
    add("--timeout", type=float, default=300.0, metavar="S", help="longest time for one run; default: 300")
    add("--data", type=Path, metavar="DIR", help="for twice the size; default: /dev/shm, else a temporary directory")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    add("--chart", type=Path, metavar="FILE", help="default: docs/images/bench.svg, or in DIR if that is given")
    add("--busy-ok", action="store_true", help="measure although others are at work, and say so in the results")
    add("--compare", metavar="REV", help="measure only hydraflow: this tree against that revision; nothing is written")
    add("--report", action="store_true", help="measure nothing: make table and picture anew from the JSON files")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _suites(text: str) -> list[str]:
    names = _names(text)
    if unknown := sorted(set(names) - SUITES.keys()):
        raise argparse.ArgumentTypeError(f"unknown suite {', '.join(unknown)}: choose from {', '.join(SUITES)}")
    return names


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _size(text: str) -> int:
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError(f"a size is written 2GiB or 500MB, not {text!r}") from None
    if size < 1:
        raise argparse.ArgumentTypeError("must be 1 byte or more")
    return size


def _terminated(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted: everything that was started has been stopped")
        sys.exit(128 + signal.SIGINT)
