"""What was measured, as values and as JSON, and the arithmetic on it.

Clients are compared within a round, where both met the same machine; a figure is the median over the rounds, and the
quartiles beside it are the noise.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from benchmarks.suites import GB

__all__ = ["OK", "Result", "Round", "Run", "Spread", "Summary"]

OK = "ok"
PROOF = 0  # the round that is not counted


@dataclass(frozen=True, slots=True)
class Run:
    """One client, once. Times in seconds, `peak` in bytes; `outcome` is `OK` or says what was wrong.

    Round 0 proves what a stream delivers, and is not counted.  Behind a link, `requests` are all that the server
    answered, and `refused` those with 429 or 503.
    """

    client: str
    round: int
    wall: float
    user: float
    system: float
    peak: int
    outcome: str
    requests: int = 0
    refused: int = 0

    @property
    def cpu(self) -> float:
        """Seconds of processor time, the kernel's on its behalf included."""
        return self.user + self.system


@dataclass(frozen=True, slots=True)
class Round:
    """What the machine was doing before it: load average, and share of the cores' time that others used."""

    number: int
    load: float
    busy: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A median between its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """None of nothing; one value is its own quartiles."""
        if len(values) < 2:
            return cls(*values, *values, *values) if values else None
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, statistics.median(values), high)


@dataclass(frozen=True, slots=True)
class Summary:
    """A client in a suite: only runs that were right count.

    Attributes:
        cpu: seconds.
        cpu_per_gb: seconds per 10⁹ bytes.
        wall: seconds.
        peak: bytes, the largest of all runs.
        cpu_ratio: to each baseline, of the same round.
        wall_ratio: to each baseline, of the same round.
        right: runs that count.
        runs: how many were tried, the proof apart.
        failures: what was wrong, and how often.
        requests: of a run, on average.
        refused: share of them.
    """

    cpu: Spread | None
    cpu_per_gb: Spread | None
    wall: Spread | None
    peak: int
    cpu_ratio: dict[str, Spread]
    wall_ratio: dict[str, Spread]
    right: int
    runs: int
    failures: dict[str, int]
    requests: float = 0.0
    refused: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """A suite that was run.

    Attributes:
        suite: its name.
        date: of the first round, ISO 8601.
        size: bytes that each client fetched in a round.
        files: how many.
        machine: its facts.
        baselines: clients that the others are compared to.
        versions: of each client that ran, in their order.
        missing: clients that could not run here, and why.
        rounds: what the machine was doing.
        runs: all that was measured.
    """

    suite: str
    date: str
    size: int
    files: int
    machine: dict[str, str]
    baselines: tuple[str, ...]
    versions: dict[str, str]
    missing: dict[str, str]
    rounds: tuple[Round, ...]
    runs: tuple[Run, ...]

    @property
    def failed(self) -> list[str]:
        """Clients with a run that was not right."""
        return [name for name in self.versions if self.summary(name).failures]

    def summary(self, client: str) -> Summary:
        """The figures of one client."""
        mine = [run for run in self.runs if run.client == client]
        good = [run for run in mine if run.outcome == OK and run.round != PROOF]
        cpu = [run.cpu for run in good]
        return Summary(
            cpu=Spread.of(cpu),
            cpu_per_gb=Spread.of([seconds * GB / self.size for seconds in cpu]),
            wall=Spread.of([run.wall for run in good]),
            peak=max((run.peak for run in good), default=0),
            cpu_ratio=self._ratios(good, lambda run: run.cpu),
            wall_ratio=self._ratios(good, lambda run: run.wall),
            right=len(good),
            runs=sum(run.round != PROOF for run in mine),
            failures=dict(Counter(run.outcome for run in mine if run.outcome != OK)),
            requests=sum(run.requests for run in good) / max(1, len(good)),
            refused=sum(run.refused for run in good) / max(1, sum(run.requests for run in good)),
        )

    def _ratios(self, runs: Sequence[Run], figure: Callable[[Run], float]) -> dict[str, Spread]:
        spreads = {name: Spread.of(self._paired(runs, name, figure)) for name in self.baselines}
        return {name: spread for name, spread in spreads.items() if spread is not None}

    def _paired(self, runs: Sequence[Run], baseline: str, figure: Callable[[Run], float]) -> list[float]:
        """Ratios within a round; a round in which either failed says nothing."""
        base = {run.round: figure(run) for run in self.runs if run.client == baseline and run.outcome == OK}
        return [figure(run) / base[run.round] for run in runs if base.get(run.round)]

    def to_json(self) -> str:
        """Everything, and the summaries for whoever reads it elsewhere."""
        values = dataclasses.asdict(self)
        values["summary"] = {name: dataclasses.asdict(self.summary(name)) for name in self.versions}
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        del values["summary"]
        values["baselines"] = tuple(values["baselines"])
        values["rounds"] = tuple(Round(**each) for each in values["rounds"])
        values["runs"] = tuple(Run(**each) for each in values["runs"])
        return cls(**values)
