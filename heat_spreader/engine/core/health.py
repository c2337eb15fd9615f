#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""From what observers saw to a verdict on one cloud. Pure: the time and the limits are handed in.

A verdict only says what is held to be true of a cloud. What a stack does about it (how long it
tolerates an outage, where units go) is decided in ``plan``.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import datetime
from typing import Any

from heat_spreader.engine.core import values

Judgement = values.Judgement
Outcome = values.Outcome
Reading = values.Reading
Rule = values.Rule
Verdict = values.Verdict


def judge(
    previous: values.Verdict,
    readings: Sequence[values.Reading],
    now: datetime.datetime,
    *,
    misses: int,
    goods: int,
    fresh_for: float,
) -> values.Judgement:
    """Judge a cloud by a majority of votes; the first rule that fits wins.

    Each observer has a vote, but those of one zone have one together. Who has not looked lately, or
    does not trust what it sees, has none; and neither has who misses a cloud that it has never seen,
    which may be as well its own network.

    :param previous: the verdict so far; leaving *unreachable* takes more than entering *suspect*
    :param misses: misses in a row that an observer needs to hold the cloud for unreachable
    :param goods: good answers in a row that it needs to hold it for returned
    :param fresh_for: seconds after which a reading no longer counts
    """
    fresh = [r for r in readings if is_fresh(r, now, fresh_for) and not r.abstains]
    if not fresh:
        doubting = [r for r in readings if is_fresh(r, now, fresh_for)]
        why = "".join(f"; {r.observer} abstains: {r.abstains}" for r in doubting)
        return Judgement(previous, Rule.STALE, f"nobody has looked at it lately{why}")
    voters = [r for r in fresh if not _is_stranger(r)]
    if not voters:
        if previous is Verdict.UNREACHABLE:
            return Judgement(previous, Rule.STRANGERS, f"nobody has seen it since; {_says(fresh)}")
        first = previous is Verdict.UNKNOWN and all(r.misses < misses for r in fresh)
        return Judgement(
            Verdict.UNKNOWN, Rule.STRANGERS, "" if first else f"never seen yet; {_says(fresh)}"
        )
    zones = _zones(voters)

    def majority(holds: Callable[[Reading], bool]) -> bool:
        for_it = [zone for zone in zones if 2 * sum(map(holds, zone)) > len(zone)]
        return 2 * len(for_it) > len(zones)

    lost = [r for r in voters if _is_lost(r, misses)]
    refused = [r for r in voters if r.outcome is Outcome.REFUSING]
    missed = [r for r in voters if r.outcome is Outcome.UNREACHABLE]

    if majority(lambda r: _is_lost(r, misses)):
        if previous is Verdict.UNKNOWN and not any(r.seen for r in lost):
            # To call it down would move units because of a typing error in its address.
            return Judgement(Verdict.UNKNOWN, Rule.NEVER_SEEN, f"never seen yet; {_says(lost)}")
        return Judgement(
            Verdict.UNREACHABLE,
            Rule.MISSED,
            f"{misses} or more misses in a row; {_says(lost)}",
        )
    if majority(lambda r: r.outcome is Outcome.REFUSING):
        return Judgement(
            Verdict.REFUSING, Rule.REFUSED, f"it refuses the credentials; {_says(refused)}"
        )
    if previous is Verdict.UNREACHABLE:
        if majority(lambda r: _is_back(r, goods)):
            return Judgement(Verdict.HEALTHY, Rule.RETURNED, f"{goods} good answers in a row")
        return Judgement(
            Verdict.UNREACHABLE,
            Rule.RETURNING,
            f"not yet {goods} good answers in a row; {_says(voters)}",
        )
    if majority(lambda r: r.outcome is Outcome.OK):
        return Judgement(Verdict.HEALTHY, Rule.ANSWERS, "it answers")
    if previous is Verdict.UNKNOWN:
        # Still to be seen for the first time: a single lost answer says nothing, so no reason yet.
        reason = "" if missed else f"never seen yet; {_says(voters)}"
        return Judgement(Verdict.UNKNOWN, Rule.NEVER_SEEN, reason)
    if missed:
        return Judgement(
            Verdict.SUSPECT,
            Rule.DOUBTED,
            f"missed {max(r.misses for r in missed)} of {misses}; {_says(missed)}",
        )
    return Judgement(Verdict.SUSPECT, Rule.SICK, f"it answers but does not serve; {_says(voters)}")


def relapses(
    before: int, returned_at: datetime.datetime | None, now: datetime.datetime, memory: float
) -> int:
    """How many times in a row a cloud that goes away now did so soon after it had come back.

    :param memory: seconds after which a cloud that came back counts as well again
    """
    if returned_at is None or (now - returned_at).total_seconds() > memory:
        return 0
    return before + 1


# Fewer clouds than this may fail at once and are replaced all the same.
LEAST = 3


def brake(
    clouds: Iterable[values.CloudState],
    now: datetime.datetime,
    held: frozenset[str] = frozenset(),
    *,
    window: float,
    patience: float,
) -> values.Brake:
    """Whether so many clouds went away at once that it is more likely to be a mistake.

    These are at least three, and more than half of those that are known. Once it is on, time
    does not release it, and neither does a further outage: those of its clouds that return do.

    :param held: clouds for which it is on already
    :param window: seconds within which outages count as one
    :param patience: seconds in which a cloud that was missed is either missed often enough or not
    """
    known = [c for c in clouds if c.verdict is not Verdict.UNKNOWN]

    def too_many(some: set[str]) -> bool:
        return len(some) >= LEAST and 2 * len(some) > len(known)

    down = {c.cloud: c.since or now for c in known if c.verdict is Verdict.UNREACHABLE}
    since = min((down[cloud] for cloud in held if cloud in down), default=None)
    together = {c for c, at in down.items() if c in held or (since is not None and at >= since)}
    if too_many(together):
        return values.Brake(frozenset(together), len(known))
    if held:
        return values.Brake(known=len(known))
    for first in down.values():
        together = {c for c, at in down.items() if 0 <= (at - first).total_seconds() <= window}
        if too_many(together):
            return values.Brake(frozenset(together), len(known))
    lately = {c for c, at in down.items() if (now - at).total_seconds() <= window}
    doubted = {
        c.cloud: c.since + datetime.timedelta(seconds=patience)
        for c in known
        if c.verdict is Verdict.SUSPECT and c.rule == Rule.DOUBTED and c.since is not None
    }
    doubted = {cloud: until for cloud, until in doubted.items() if until > now}
    if lately and too_many(lately | doubted.keys()):
        return values.Brake(known=len(known), hold_until=max(doubted.values()))
    return values.Brake(known=len(known))


def reading(row: Any) -> values.Reading:
    """The reading that a row of the table of observations holds."""
    return Reading(
        observer=row.observer,
        outcome=Outcome(row.outcome),
        detail=row.detail,
        misses=row.misses,
        goods=row.goods,
        since=row.since,
        observed_at=row.observed_at,
        zone=row.zone,
        seen=row.seen_at is not None,
        abstains=row.abstains or "",
        expires_at=row.expires_at,
    )


def votes(
    readings: Iterable[values.Reading], now: datetime.datetime, fresh_for: float
) -> dict[str, bool]:
    """Whether the reading of each observer counts now."""
    return {
        r.observer: is_fresh(r, now, fresh_for) and not r.abstains and not _is_stranger(r)
        for r in readings
    }


def next_change(
    verdict: values.Verdict,
    readings: Sequence[values.Reading],
    now: datetime.datetime,
    *,
    misses: int,
    goods: int,
    fresh_for: float,
) -> str:
    """What would change this verdict next, in one sentence for a person."""
    counts = votes(readings, now, fresh_for)
    voters = [r for r in readings if counts[r.observer]]
    if not voters:
        return "A reading of somebody who may vote; at present nobody may."
    zones = _zones(voters)
    need, all_ = len(zones) // 2 + 1, f"of {len(zones)} vote(s)"

    def stand(name: str, wanted: int) -> str:
        runs = sorted((r for r in voters if getattr(r, name)), key=lambda r: r.observer)
        told = ", ".join(f"{r.observer} {getattr(r, name)} of {wanted}" for r in runs)
        return f" ({told} so far)" if told else ""

    lost = f"{misses} misses in a row by {need} {all_}{stand('misses', misses)}"
    if verdict is Verdict.HEALTHY:
        return f"A miss makes it suspect; {lost} make it unreachable."
    if verdict is Verdict.SUSPECT:
        return f"Good answers to {need} {all_} make it healthy; {lost} make it unreachable."
    if verdict is Verdict.UNREACHABLE:
        found = f"{goods} good answers in a row to {need} {all_}{stand('goods', goods)}"
        return f"{found} make it healthy."
    if verdict is Verdict.REFUSING:
        return f"Credentials that it accepts, as seen by {need} {all_}, make it healthy."
    return f"A good answer to {need} {all_} makes it healthy."


def is_fresh(reading: values.Reading, now: datetime.datetime, fresh_for: float) -> bool:
    """Whether the reading still speaks for its observer."""
    if reading.expires_at is not None:
        return now < reading.expires_at
    return (now - reading.observed_at).total_seconds() <= fresh_for


def doubts_itself(failing: int, clouds: int) -> bool:
    """Whether an observer that misses so many clouds at once should look at its own network first."""
    return 2 * failing > clouds


def _is_stranger(r: Reading) -> bool:
    return r.outcome is Outcome.UNREACHABLE and not r.seen and r.expires_at is None


def _is_lost(r: Reading, misses: int) -> bool:
    return r.outcome is Outcome.UNREACHABLE and (r.misses >= misses or r.expires_at is not None)


def _is_back(r: Reading, goods: int) -> bool:
    return r.outcome is Outcome.OK and (r.goods >= goods or r.expires_at is not None)


def _zones(readings: Iterable[Reading]) -> list[list[Reading]]:
    """Those who vote together; an observer in no zone votes by itself."""
    zones: dict[tuple[bool, str], list[Reading]] = {}
    for r in readings:
        zones.setdefault((bool(r.zone), r.zone or r.observer), []).append(r)
    return list(zones.values())


def _says(readings: Iterable[Reading]) -> str:
    return "; ".join(f"{r.observer} saw {r.outcome}: {r.detail}" for r in readings)
