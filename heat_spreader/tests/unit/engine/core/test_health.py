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

"""Facts about judge(): a table of every rule, and properties over whole histories of probes.

The histories keep the running counts the way the database keeps them.
"""

import dataclasses
import datetime
import itertools

import hypothesis
from hypothesis import strategies as st
from oslotest import base

from heat_spreader.engine.core import health
from heat_spreader.engine.core import values

Outcome = values.Outcome
Verdict = values.Verdict

NOW = datetime.datetime(2026, 1, 1, 12, 0, 0)
MISSES, GOODS, FRESH_FOR = 3, 3, 45.0


def reading(said, observer="north", age=1.0):
    """An outcome with its run, written "ok 2" or "unreachable 3"; a run of 1 need not be told."""
    outcome, _, run = said.partition(" ")
    run = int(run or 1)
    at = NOW - datetime.timedelta(seconds=age)
    return values.Reading(
        observer=observer,
        outcome=Outcome(outcome),
        detail=f"detail of {outcome}",
        misses=run if outcome == "unreachable" else 0,
        goods=run if outcome == "ok" else 0,
        since=at,
        observed_at=at,
    )


def readings(*said):
    """One fresh reading for each text, by observers of names of their own."""
    return [reading(text, f"observer{i}") for i, text in enumerate(said)]


def judge(previous, seen, now=NOW, *, misses=MISSES, goods=GOODS):
    return health.judge(previous, seen, now, misses=misses, goods=goods, fresh_for=FRESH_FOR)


H, S, U, R, K = (
    Verdict.HEALTHY,
    Verdict.SUSPECT,
    Verdict.UNREACHABLE,
    Verdict.REFUSING,
    Verdict.UNKNOWN,
)
FROM = (H, S, U, R, K)

# What one observer says, and the verdict that follows from each verdict before: healthy, suspect,
# unreachable, refusing, unknown.
ALONE = {
    "ok": (H, H, U, H, H),
    "ok 2": (H, H, U, H, H),
    "ok 3": (H, H, H, H, H),
    "ok 4": (H, H, H, H, H),
    "unreachable": (S, S, U, S, K),
    "unreachable 2": (S, S, U, S, K),
    "unreachable 3": (U, U, U, U, K),
    "unreachable 9": (U, U, U, U, K),
    "refusing": (R, R, R, R, R),
    "busy": (S, S, U, S, K),
    "sick": (S, S, U, S, K),
    "missing": (S, S, U, S, K),
    "rejected": (S, S, U, S, K),
}

# name: (verdict before, what the observers say, verdict after)
TOGETHER = {
    "2 of 2 miss": (H, ["unreachable 3", "unreachable 3"], U),
    "1 of 2 misses: no majority": (H, ["unreachable 3", "ok"], S),
    "1 of 2 misses, the other is sick": (H, ["unreachable 3", "sick"], S),
    "both missed, one not often enough": (H, ["unreachable 3", "unreachable 2"], S),
    "1 of 3 misses: it is cut off itself": (H, ["unreachable 9", "ok", "ok"], H),
    "2 of 3 miss": (H, ["unreachable 3", "unreachable 4", "ok"], U),
    "3 of 3 miss": (S, ["unreachable 3", "unreachable 3", "unreachable 3"], U),
    "1 of 3 misses, 1 is refused, 1 is well": (H, ["unreachable 3", "refusing", "ok"], S),
    "2 of 5 miss": (H, ["unreachable 3"] * 2 + ["ok"] * 3, H),
    "3 of 5 miss": (H, ["unreachable 3"] * 3 + ["ok"] * 2, U),
    "2 of 5 miss, 2 are well, 1 is told to wait": (
        H,
        ["unreachable 3"] * 2 + ["ok"] * 2 + ["busy"],
        S,
    ),
    "1 of 2 is refused": (H, ["refusing", "ok"], S),
    "2 of 3 are refused": (H, ["refusing", "refusing", "ok"], R),
    "back: 2 of 3 had 3 good answers": (U, ["ok 3", "ok 3", "unreachable 3"], H),
    "not yet back: 1 of 3 had": (U, ["ok 3", "ok 2", "ok 1"], U),
    "not yet back: 1 of 2 had": (U, ["ok 3", "ok 2"], U),
    "unknown, 2 of 3 are well": (K, ["ok", "ok", "unreachable 3"], H),
    "unknown, 1 of 3 is well": (K, ["ok", "sick", "unreachable 3"], K),
    "unknown, nobody is answered": (K, ["unreachable 3", "unreachable 3"], K),
}


class TestRules(base.BaseTestCase):
    def test_one_observer(self):
        wrong = []
        for said, expected in ALONE.items():
            for before, after in zip(FROM, expected, strict=True):
                judgement = judge(before, [reading(said)])
                if judgement.verdict is not after:
                    wrong.append(f"{before}, then {said}: {judgement.verdict}, not {after}")
        self.assertEqual([], wrong)

    def test_the_table_has_every_outcome(self):
        self.assertEqual(set(Outcome), {said.partition(" ")[0] for said in ALONE})

    def test_several_observers(self):
        wrong = []
        for name, (before, said, after) in TOGETHER.items():
            judgement = judge(before, readings(*said))
            if judgement.verdict is not after:
                wrong.append(f"{name}: {judgement.verdict}, not {after}")
        self.assertEqual([], wrong)

    def test_nobody_looked(self):
        for before in FROM:
            self.assertIs(before, judge(before, []).verdict)

    def test_stale_readings_do_not_vote(self):
        stale = reading("unreachable 9", "gone", age=FRESH_FOR + 1)
        for before in FROM:
            self.assertIs(before, judge(before, [stale]).verdict)
        self.assertIs(H, judge(H, [stale, reading("ok")]).verdict)
        self.assertIs(U, judge(H, [dataclasses.replace(stale, observed_at=NOW)]).verdict)

    def test_a_stale_observer_is_no_part_of_the_majority(self):
        gone = [reading("ok", f"gone{i}", age=FRESH_FOR + 1) for i in range(3)]
        self.assertIs(U, judge(H, [*gone, *readings("unreachable 3", "unreachable 3")]).verdict)

    def test_a_reading_counts_until_it_is_just_as_old_as_allowed(self):
        self.assertIs(R, judge(H, [reading("refusing", age=FRESH_FOR)]).verdict)
        self.assertIs(H, judge(H, [reading("refusing", age=FRESH_FOR + 0.001)]).verdict)

    def test_the_numbers_are_those_handed_in(self):
        self.assertIs(S, judge(H, [reading("unreachable 4")], misses=5).verdict)
        self.assertIs(U, judge(H, [reading("unreachable")], misses=1).verdict)
        self.assertIs(H, judge(U, [reading("ok")], goods=1).verdict)
        self.assertIs(U, judge(U, [reading("ok 4")], goods=5).verdict)


class TestReasons(base.BaseTestCase):
    """What an operator reads."""

    def test_each_rule_says_what_it_rests_on(self):
        evidence = "north saw unreachable: detail of unreachable"
        for before, said, reason in (
            (H, "ok", "it answers"),
            (H, "unreachable 2", f"missed 2 of 3; {evidence}"),
            (H, "unreachable 3", f"3 or more misses in a row; {evidence}"),
            (K, "unreachable 2", ""),  # still to be seen for the first time
            (K, "unreachable 3", f"never seen yet; {evidence}"),
            (K, "sick", "never seen yet; north saw sick: detail of sick"),
            (H, "refusing", "it refuses the credentials; north saw refusing: detail of refusing"),
            (H, "sick", "it answers but does not serve; north saw sick: detail of sick"),
            (U, "ok 3", "3 good answers in a row"),
            (U, "ok 2", "not yet 3 good answers in a row; north saw ok: detail of ok"),
        ):
            self.assertEqual(reason, judge(before, [reading(said)]).reason)
        self.assertEqual("nobody has looked at it lately", judge(H, []).reason)

    def test_all_that_voted_are_named(self):
        judgement = judge(H, readings("unreachable 3", "ok", "unreachable 5"))
        self.assertIn("observer0", judgement.reason)
        self.assertIn("observer2", judgement.reason)
        self.assertNotIn("observer1", judgement.reason)


PROPERTY = hypothesis.settings(max_examples=60, deadline=None, database=None)
outcomes = st.sampled_from(Outcome)


@st.composite
def any_readings(draw):
    """What some observers say; each as the database would have it."""
    said = []
    for i in range(draw(st.integers(0, 5))):
        outcome = draw(outcomes)
        counted = outcome in (Outcome.OK, Outcome.UNREACHABLE)
        run = draw(st.integers(1, 6)) if counted else 1
        age = draw(st.sampled_from([0.0, 1.0, FRESH_FOR, FRESH_FOR + 0.001, 1e6]))
        said.append(reading(f"{outcome} {run}", f"observer{i}", age))
    return said


def history(probes, before=Verdict.UNKNOWN):
    """The verdict after each probe of one observer, running counts kept as the database does."""
    misses = goods = 0
    verdict = before
    for outcome in probes:
        misses = misses + 1 if outcome is Outcome.UNREACHABLE else 0
        goods = goods + 1 if outcome is Outcome.OK else 0
        seen = dataclasses.replace(reading(outcome), misses=misses, goods=goods)
        verdict = judge(verdict, [seen]).verdict
        yield verdict


class TestProperties(base.BaseTestCase):
    @PROPERTY
    @hypothesis.given(st.sampled_from(Verdict), any_readings(), st.randoms())
    def test_it_depends_on_the_readings_alone_and_not_on_their_order(self, before, seen, random):
        judgement = judge(before, seen)
        self.assertEqual(judgement, judge(before, list(seen)))
        shuffled = random.sample(seen, len(seen))
        self.assertIs(judgement.verdict, judge(before, shuffled).verdict)

    @PROPERTY
    @hypothesis.given(st.sampled_from(Verdict), any_readings())
    def test_it_is_settled(self, before, seen):
        """To judge the same readings again changes no verdict, so engines cannot argue."""
        once = judge(before, seen).verdict
        self.assertIs(once, judge(once, seen).verdict)

    @PROPERTY
    @hypothesis.given(st.sampled_from(Verdict), any_readings())
    def test_every_judgement_has_a_reason(self, before, seen):
        """All but one: that a cloud is still to be seen for the first time."""
        judgement = judge(before, seen)
        self.assertEqual(judgement.reason.strip(), judgement.reason)
        if not judgement.reason:
            self.assertIs(K, before)
            self.assertIs(K, judgement.verdict)

    @PROPERTY
    @hypothesis.given(st.sampled_from(Verdict), any_readings())
    def test_unreachable_takes_a_majority_of_fresh_misses(self, before, seen):
        fresh = [r for r in seen if (NOW - r.observed_at).total_seconds() <= FRESH_FOR]
        lost = [r for r in fresh if r.misses >= MISSES]
        hypothesis.assume(before is not U and 2 * len(lost) <= len(fresh))
        self.assertIsNot(U, judge(before, seen).verdict)

    @PROPERTY
    @hypothesis.given(any_readings())
    def test_what_was_never_seen_is_never_called_unreachable(self, seen):
        self.assertIsNot(U, judge(K, seen).verdict)

    @PROPERTY
    @hypothesis.given(st.lists(outcomes, max_size=20))
    def test_one_observer_alone_takes_enough_misses_in_a_row(self, probes):
        for i, verdict in enumerate(history(probes)):
            lately = probes[max(0, i - MISSES + 1) : i + 1]
            if verdict is U and (i == 0 or U is not list(history(probes))[i - 1]):
                self.assertEqual([Outcome.UNREACHABLE] * MISSES, lately)

    @PROPERTY
    @hypothesis.given(
        st.lists(outcomes.filter(lambda outcome: outcome is not Outcome.UNREACHABLE)),
        st.sampled_from([H, S, R, K]),
    )
    def test_a_cloud_that_answers_is_never_called_unreachable(self, probes, before):
        """Refusing, sick, busy, rejecting for as long as it likes: its units are not moved."""
        self.assertNotIn(U, list(history(probes, before)))

    @PROPERTY
    @hypothesis.given(st.lists(outcomes, max_size=20))
    def test_no_way_straight_from_unreachable_to_healthy_without_enough_good_answers(self, probes):
        verdicts = [U, *history(probes, U)]
        for i, (before, after) in enumerate(itertools.pairwise(verdicts)):
            if (before, after) == (U, H):
                self.assertEqual([Outcome.OK] * GOODS, probes[i - GOODS + 1 : i + 1])

    @PROPERTY
    @hypothesis.given(st.lists(outcomes, max_size=10))
    def test_good_answers_heal_whatever_was_before(self, probes):
        self.assertIs(H, list(history([*probes, *[Outcome.OK] * GOODS]))[-1])
