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

from collections.abc import Sequence
import datetime

from heat_spreader.engine.core import values

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
    """Judge a cloud by a majority of its fresh readings; the first rule that fits wins.

    :param previous: the verdict so far; leaving *unreachable* takes more than entering *suspect*
    :param misses: misses in a row that an observer needs to hold the cloud for unreachable
    :param goods: good answers in a row that it needs to hold it for returned
    :param fresh_for: seconds after which a reading no longer counts
    """
    fresh = [r for r in readings if (now - r.observed_at).total_seconds() <= fresh_for]
    if not fresh:
        return values.Judgement(previous, "nobody has looked at it lately")

    def majority(votes: Sequence[values.Reading]) -> bool:
        return 2 * len(votes) > len(fresh)

    lost = [r for r in fresh if r.misses >= misses]
    good = [r for r in fresh if r.outcome is values.Outcome.OK]
    refused = [r for r in fresh if r.outcome is values.Outcome.REFUSING]
    missed = [r for r in fresh if r.misses]

    if majority(lost):
        if previous is Verdict.UNKNOWN:
            # Never seen alive: to call it down would move units because of a typing error.
            return values.Judgement(Verdict.UNKNOWN, f"never seen yet; {_says(lost)}")
        return values.Judgement(
            Verdict.UNREACHABLE, f"{misses} or more misses in a row; {_says(lost)}"
        )
    if majority(refused):
        return values.Judgement(Verdict.REFUSING, f"it refuses the credentials; {_says(refused)}")
    if previous is Verdict.UNREACHABLE:
        back = [r for r in fresh if r.goods >= goods]
        if majority(back):
            return values.Judgement(Verdict.HEALTHY, f"{goods} good answers in a row")
        return values.Judgement(
            Verdict.UNREACHABLE,
            f"not yet {goods} good answers in a row; {_says(fresh)}",
        )
    if majority(good):
        return values.Judgement(Verdict.HEALTHY, "it answers")
    if previous is Verdict.UNKNOWN:
        # Still to be seen for the first time: a single lost answer says nothing, so no reason yet.
        reason = "" if missed else f"never seen yet; {_says(fresh)}"
        return values.Judgement(Verdict.UNKNOWN, reason)
    if missed:
        return values.Judgement(
            Verdict.SUSPECT, f"missed {max(r.misses for r in missed)} of {misses}; {_says(missed)}"
        )
    return values.Judgement(Verdict.SUSPECT, f"it answers but does not serve; {_says(fresh)}")


def _says(readings: Sequence[values.Reading]) -> str:
    return "; ".join(f"{r.observer} saw {r.outcome}: {r.detail}" for r in readings)
