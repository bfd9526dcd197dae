"""How many requests one origin gets at a time.

One idea: a number of connections is *tried*, and stays if the goodput of the next moments says that it pays::

               first answer             all places taken for a few round trips
    ┌─────────┐          ┌─────────┐    it pays: twice as many, or four times
    │ UNKNOWN │ ───────▶ │ OPENING │ ◀─┐
    │1 a file │          │ 2 or 16 │ ──┘
    └─────────┘          └─────────┘
         ▲                    │ it does not: as many as before
         │                    ▼
         │               ┌──────────┐   a hold is over, or the link is another    ┌──────────┐
         │               │          │ ──────────────────────────────────────────▶ │ GROWING  │ ─┐ it pays:
         │               │ STANDING │                                             │    or    │  │ once more
         │               │          │ ◀────────────────────────────────────────── │ SHEDDING │ ◀┘
         │               └──────────┘   it does not: back, and the hold doubles   └──────────┘
         │                    ▲
         │                    │ a refusal takes the place away, and there is no growth for a while; then one by one
         └──── several failures in a row: one request at a time until one succeeds (any state)

A refusal is a 429, a 503, or no connection for one while others have theirs.  Requests that are refused together are
one event: what is left under way the server seems to bear, and if nothing is left, half of it is tried.  Where one
alone is refused again, it is not their number but how soon they come: there is a gap between two from then on, twice
as long after each refusal, shorter after each while without one.

Goodput says nothing where requests are short and many wait: each that ends then lets more of those that wait begin.

Pure: time is an argument, and all that is known of the network is how many bytes came and how soon answers begin.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Hashable

from hydraflow.core.throttle import Throttle
from hydraflow.models import Bound, Decision

__all__ = ["Limiter"]

QUICK = 0.005  # seconds: where answers come sooner, stages cost nothing, and the opening begins with few
FEW = 2  # connections that cost the least CPU for a byte on a clean fast link
BRISK = 50e6  # bytes per second that they bring there; a server near by that gives less has a reason of its own
START = 16  # where a stage is dear, the first one has so many at once: half of them first cost 4 % of the links 10 %
PAYS, PAYS_QUICK = 0.12, 0.25  # twice as many must bring so much more; on a quick link chance alone brings 15 %
WELL = 0.8  # such a gain says that even more will pay: four times as many
STILL = 0.95  # fewer must bring so much of what there was
FELL = 0.8  # goodput below so much of what was judged is another link
STAGE, STAGE_QUICK, STAGE_TRIPS = 0.1, 0.2, 8  # seconds, and latencies, that a stage of the opening lasts at least
TRIAL, TRIAL_TRIPS = 0.5, 12  # the same of a later trial: goodput is judged over seconds
HOLD, HOLD_MOST = 1.0, 60.0  # seconds before the next try to grow, doubling after one that brought nothing
SHED, SHED_MOST = 10.0, 120.0  # the same for a try to shed, which costs more if it fails
CALM_MOST = 80.0  # seconds of peace asked for after refusals, when each try to grow is refused
GLANCE, MEMORY = 0.04, 8.0  # seconds between two samples of goodput, and for which they are kept
GAP, GAP_MOST = 0.1, 10.0  # seconds between two requests, where even one alone is refused; doubling
CLOSE = 0.02  # a gap that is shorter is none
FAILURES = 5  # so many in a row open the circuit
LAPSE = 0.25  # seconds after which somebody who does not ask any more does not wait any more
SHORT = 4  # a body that lasts less than so many latencies: it is the waiting that costs


class _State(enum.Enum):
    UNKNOWN = enum.auto()
    OPENING = enum.auto()
    STANDING = enum.auto()
    GROWING = enum.auto()
    SHEDDING = enum.auto()


class Limiter:
    """Admission of requests to one origin, shared by all transfers of the process.

    Args:
        ceiling: most requests at a time.
        crowd: the same while they are short and many wait; default: as many.
        peace: seconds without a refusal after which one more request is tried.
        throttle: the user's own limit; where it binds, more connections bring nothing.
        gap: least seconds between two requests, whatever the server bears.

    Attributes:
        wanted: somebody needs a place and got none; who holds one without using it should give it back.
        resume_at: no request before this moment, the server has asked for it.
        decisions: the last ones, by monotonic time.
    """

    def __init__(
        self,
        ceiling: int,
        *,
        crowd: int = 0,
        peace: float = 10.0,
        throttle: Throttle | None = None,
        gap: float = 0.0,
    ) -> None:
        self.ceiling = self._most = ceiling
        self._crowd = max(ceiling, crowd)
        self._throttle = throttle
        self.limit = min(START, ceiling)
        self.active = 0
        self.resume_at = 0.0
        self.wanted = False
        self.decisions: deque[Decision] = deque(maxlen=16)
        self._news: Decision | None = None
        self._state = _State.UNKNOWN
        self._held: dict[Hashable, int] = {}
        self._asking: dict[Hashable, float] = {}
        # Refusals.
        self._peace = self._calm = peace
        self._cut_at: float | None = None
        self._calm_until: float | None = None
        self._half = 1
        # Requests per second.
        self._gap = self._least_gap = gap
        self._next_at = 0.0
        self._paced_at = -GAP_MOST
        # Failures.
        self._failures = 0
        self._shut_until = 0.0
        # Goodput.
        self._bytes = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._latency = 1.0
        self._sluggish = False
        self._full_at: float | None = None
        self._full_seen = 0.0
        self._before = (1, 0.0)  # places and goodput to compare with
        self._hold, self._grow_at = HOLD, 0.0
        self._shed, self._shed_at = SHED, 0.0
        self._factor, self._step = 2, 8

    # ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def opens_at(self) -> float:
        """No request before this moment, for whatever reason."""
        return max(self.resume_at, self._shut_until, self._next_at)

    def grant(self, now: float, who: Hashable = None, *, needed: bool = False) -> bool:
        """Take one place, if there is one; `needed` says that bytes wait for it."""
        if now < self.opens_at:
            if self.opens_at == self._next_at and self.active < self.limit:
                self._paced_at = now
            return False
        if self.active >= self.limit or self._unfair(now, who):
            self.wanted = self.wanted or needed
            if needed:
                self._asking[who] = now
            return False
        self.reclaim(who)
        self._asking.pop(who, None)
        self.wanted = False
        if self._gap:
            self._next_at = now + self._gap
        return True

    def reserve(self, now: float) -> float:
        """When a request may be sent that is none of a transfer's and takes no place, in monotonic seconds."""
        at = max(now, self._next_at)
        if self._gap:
            self._next_at = at + self._gap
        return at

    def release(self, who: Hashable = None) -> None:
        """Give a place back."""
        self.active -= 1
        self._held[who] -= 1
        if not self._held[who]:
            del self._held[who]
            self._asking.pop(who, None)  # it may be over; if not, it asks again

    @property
    def surplus(self) -> int:
        """So many requests should end before their time: a trial is over, and they brought nothing."""
        return max(0, self.active - self.limit) if self._state in (_State.STANDING, _State.SHEDDING) else 0

    def reclaim(self, who: Hashable = None) -> None:
        """A request whose place was given back goes on: it counts, even above the limit."""
        self.active += 1
        self._held[who] = self._held.get(who, 0) + 1

    @property
    def bound(self) -> Bound:
        """What keeps the number where it is."""
        if self._calm_until is not None or self._state is _State.UNKNOWN:
            return Bound.SERVER
        return Bound.CEILING if self.limit == self.ceiling else Bound.LINK

    def news(self) -> Decision | None:
        """The last decision, to the first who asks."""
        news, self._news = self._news, None
        return news

    def _unfair(self, now: float, who: Hashable) -> bool:
        """Somebody waits who holds fewer."""
        mine = self._held.get(who, 0)
        return bool(mine) and any(self._held.get(other, 0) < mine for other in self._waiting(now) if other != who)

    def _waiting(self, now: float) -> list[Hashable]:
        """Who has asked for a place of late and got none."""
        self._asking = {who: asked for who, asked in self._asking.items() if now - asked < LAPSE}
        return list(self._asking)

    def throttled(self, now: float) -> bool:
        """Nothing can be faster than it is: the user's own limit is reached."""
        return self._throttle is not None and self._throttle.binds(now)

    @property
    def _quick(self) -> bool:
        return self._latency <= QUICK and not self._sluggish

    def _more(self, now: float) -> bool:
        """There is use for another place."""
        return bool(self._waiting(now)) and not self.throttled(now)

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def succeeded(self, now: float, since: float | None = None) -> None:
        """A request, sent at `since`, was answered as wished."""
        self._failures = 0
        self._shut_until = 0.0
        self._latency = min(self._latency, now - (now if since is None else since))
        if self._state is _State.UNKNOWN:
            self._before, self._shed_at = (1, 0.0), now + self._shed
            start = FEW if self._quick else START
            if self._calm_until is not None or self._throttle is not None:
                start = self._half
            self._enter(_State.OPENING, now, start, "the server answers")

    def ended(self, now: float, since: float, answered: float | None) -> None:
        """A request has brought all it was to bring."""
        if answered is None:
            return
        if now - answered > SHORT * (answered - since):
            self._most = self.ceiling
            if self.limit > self.ceiling:
                self._enter(_State.STANDING, now, self.ceiling, "requests are long")
            return
        waiting = sum(not self._held.get(who) for who in self._waiting(now))
        if waiting and self.limit < self._crowd and self._calm_until is None and not self.throttled(now):
            self._before, self._most = (1, 0.0), self._crowd
            self._enter(_State.OPENING, now, min(2 * self.limit, self.active + waiting), "short requests wait")

    def refused(self, now: float, pause: float = 0.0, since: float | None = None) -> None:
        """The server said to a request sent at `since` that it is too much; `pause` is its Retry-After in seconds.

        The place of the refused request must have been given back: what is active now, the server may bear.
        """
        self.resume_at = max(self.resume_at, now + pause)
        if self._cut_at is None or since is None or since >= self._cut_at:
            again = self._calm_until is not None
            self._calm = min(CALM_MOST, 2 * self._calm) if again else self._peace
            self._cut_at, self._half = now, max(1, (self.active + 1) // 2)
            if again and not self.active:  # even one alone is too much: not their number, but how soon they come
                self._gap = max(self._least_gap, min(GAP_MOST, max(GAP, 2 * self._gap)))
                self._next_at = now + self._gap
        self._calm_until = now + self._calm
        if pause and not self.active:
            self._enter(_State.UNKNOWN, now, 1, f"the server refuses all, and asks to wait {pause:.0f} s")
            return
        bears = min(self.limit, self.active) or min(self.ceiling, self._half)
        self._enter(_State.STANDING, now, bears, f"the server refuses more than {bears}")
        self._before = (bears, 0.0)

    def failed(self, now: float, delay: float) -> None:
        """No connection, or the server is broken; who has seen it tries again after `delay` seconds."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._shut_until = now + delay
            self._enter(_State.UNKNOWN, now, 1, f"{self._failures} failures in a row")

    def received(self, count: int, now: float) -> None:
        """So many bytes have come since the last call."""
        self._bytes += count
        if count:
            self._failures = 0  # it lives, whatever becomes of some requests
        if self._samples and now - self._samples[-1][0] < GLANCE:
            return
        self._samples.append((now, self._bytes))
        while now - self._samples[0][0] > MEMORY:
            self._samples.popleft()
        self._steer(now)

    # ── the controller ───────────────────────────────────────────────────────────────────────────────────────────────

    def _goodput(self, now: float, seconds: float) -> float:
        """Bytes per second over the last `seconds`."""
        last = self._samples[-1]
        for at, count in reversed(self._samples):
            first = (at, count)
            if now - at >= seconds:
                break
        return (last[1] - first[1]) / max(last[0] - first[0], 0.01)

    def _enter(self, state: _State, now: float, limit: int, reason: str) -> None:
        limit = max(1, min(limit, self._most))
        if limit != self.limit:
            self._news = Decision(now, limit, reason)
            self.decisions.append(self._news)
        self.limit, self._state = limit, state
        self._full_at = None

    def _steer(self, now: float) -> None:
        if self._state is _State.UNKNOWN:
            return
        if self._calm_until is not None and now >= self._calm_until:
            self._creep(now)
        self._look_whether_full(now)
        if self._full_at is not None:
            self._judge(now, now - self._full_at)

    def _look_whether_full(self, now: float) -> None:
        """Goodput counts as long as all places are taken, but for the moments between two requests."""
        if self.active == self.limit:
            self._full_seen = now
            if self._full_at is None:
                self._full_at = now
        elif now - self._full_seen > LAPSE:
            self._full_at = None

    def _judge(self, now: float, age: float) -> None:
        """Decide, if the places have been taken for long enough: for `age` seconds."""
        stage = max(STAGE_QUICK if self._quick else STAGE, STAGE_TRIPS * self._latency)
        trial = max(TRIAL, TRIAL_TRIPS * self._latency)
        if self._state is _State.OPENING and age >= stage:
            self._judge_growth(now, age / 2)
        elif self._state is _State.STANDING and age >= max(TRIAL, 8 * self._latency):
            self._stand(now, max(TRIAL, 8 * self._latency))
        elif self._state is _State.GROWING and age >= trial:
            self._judge_growth(now, 0.6 * age)
        elif self._state is _State.SHEDDING and age >= trial:
            self._judge_shedding(now, 0.6 * age)

    def _creep(self, now: float) -> None:
        """Peace has lasted: one more, or sooner one after the other."""
        if self._gap > self._least_gap and now - self._paced_at < self._gap + LAPSE:
            self._gap = max(self._least_gap, self._gap / 1.5 if self._gap > CLOSE else 0.0)
            self._calm_until = now + self._peace
        elif self.limit >= self.ceiling:
            self._calm_until = None
        elif self._more(now):
            self._calm_until = now + self._peace
            self._enter(_State.STANDING, now, self.limit + 1, "no refusal for a while")

    def _judge_growth(self, now: float, seconds: float) -> None:
        goodput, (places, before) = self._goodput(now, seconds), self._before
        more = self.limit / places - 1
        if not before and self._quick and goodput < BRISK and self.limit <= FEW and self._more(now):
            self._sluggish = True
            self._enter(_State.OPENING, now, START, f"{self.limit} bring little for a server that is so near")
            return
        gain = goodput / before - 1 if before else more
        reason = f"{self.limit} bring {gain:+.0%} over {places}" if before else "nothing to compare with yet"
        if gain < (PAYS_QUICK if self._quick else PAYS) * min(more, 1.0):
            self._grow_at, self._shed_at = now + self._hold, max(self._shed_at, now + self._hold)
            self._hold, self._factor = min(HOLD_MOST, 2 * self._hold), min(8, 2 * self._factor)
            self._enter(_State.STANDING, now, places, reason)
            return
        self._before = (self.limit, goodput)
        self._hold, self._factor = HOLD, 2
        self._grow_at, self._shed_at = now + HOLD, now + self._shed
        if self.limit < self.ceiling and self._more(now):
            self._enter(self._state, now, self.limit * (4 if before and 0 < WELL * more <= gain else 2), reason)
        else:
            self._enter(_State.STANDING, now, self.limit, reason)

    def _stand(self, now: float, seconds: float) -> None:
        goodput, (_, before) = self._goodput(now, seconds), self._before
        if goodput < FELL * before:  # another link: what was learnt does not count any more
            self._hold, self._grow_at, self._factor = HOLD, min(self._grow_at, now), 2
            self._before = (self.limit, goodput)
        if self._calm_until is not None:
            return  # as many as the server bears, or fewer
        if now >= self._grow_at and self.limit < self.ceiling and self._more(now):
            self._before = (self.limit, goodput)
            self._enter(_State.GROWING, now, self._factor * self.limit, "a trial")
        elif now >= self._shed_at and self.limit > 1:
            self._before, self._step = (self.limit, goodput), 8
            self._enter(_State.SHEDDING, now, self._fewer(), "a trial")

    def _fewer(self) -> int:
        return self.limit - max(1, self.limit // self._step)

    def _judge_shedding(self, now: float, seconds: float) -> None:
        goodput, (places, before) = self._goodput(now, seconds), self._before
        if goodput < STILL * before:
            self._shed = min(SHED_MOST, 2 * self._shed)
            self._shed_at = now + self._shed
            reason = f"{self.limit} bring {goodput / before - 1:+.0%} over {places}"
            self._enter(_State.STANDING, now, places, reason)
            return
        self._before, self._step = (self.limit, max(before, goodput)), max(2, self._step // 2)
        self._grow_at = now + self._hold
        self._enter(_State.SHEDDING if self.limit > 1 else _State.STANDING, now, self._fewer(), "fewer bring as much")
