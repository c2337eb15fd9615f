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
Rule = values.Rule
Verdict = values.Verdict

NOW = datetime.datetime(2026, 1, 1, 12, 0, 0)
MISSES, GOODS, FRESH_FOR = 3, 3, 45.0


def reading(said, observer="north", age=1.0, **more):
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
        **more,
    )


def readings(*said, **more):
    """One fresh reading for each text, by observers of names of their own."""
    return [reading(text, f"observer{i}", **more) for i, text in enumerate(said)]


def word(outcome, observer="watchdog", lasts=60.0, **more):
    """What a watchdog reports."""
    told = reading(f"{outcome} 0", observer, age=3600.0, **more)
    return dataclasses.replace(told, expires_at=NOW + datetime.timedelta(seconds=lasts))


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

# name: (zone and what the observer there says, verdict after healthy)
ZONES = {
    "three of one zone are one vote": (
        ["a/unreachable 3"] * 3 + ["b/ok", "c/ok"],
        H,
    ),
    "two zones of three": (["a/unreachable 3"] * 2 + ["b/unreachable 3", "c/ok"], U),
    "two zones, one misses": (["a/unreachable 3"] * 5 + ["b/ok"], S),
    "a zone that is divided says nothing": (["a/unreachable 3", "a/ok", "b/unreachable 3"], S),
    "its majority speaks for a zone": (
        ["a/unreachable 3", "a/unreachable 3", "a/ok", "b/unreachable 3", "c/ok"],
        U,
    ),
    "in no zone: a vote for each": (["/unreachable 3", "/unreachable 3", "a/ok"], U),
    "one zone alone": (["a/unreachable 3", "a/unreachable 3"], U),
}


class TestRules(base.BaseTestCase):
    def test_one_observer(self):
        wrong = []
        for said, expected in ALONE.items():
            for before, after in zip(FROM, expected, strict=True):
                judgement = judge(before, [reading(said, seen=before is not K)])
                if judgement.verdict is not after:
                    wrong.append(f"{before}, then {said}: {judgement.verdict}, not {after}")
        self.assertEqual([], wrong)

    def test_the_table_has_every_outcome(self):
        self.assertEqual(set(Outcome), {said.partition(" ")[0] for said in ALONE})

    def test_several_observers(self):
        wrong = []
        for name, (before, said, after) in TOGETHER.items():
            judgement = judge(before, readings(*said, seen=before is not K))
            if judgement.verdict is not after:
                wrong.append(f"{name}: {judgement.verdict}, not {after}")
        self.assertEqual([], wrong)

    def test_zones(self):
        wrong = []
        for name, (said, after) in ZONES.items():
            seen = [
                reading(text.partition("/")[2], f"observer{i}", zone=text.partition("/")[0])
                for i, text in enumerate(said)
            ]
            judgement = judge(H, seen)
            if judgement.verdict is not after:
                wrong.append(f"{name}: {judgement.verdict}, not {after}")
        self.assertEqual([], wrong)

    def test_who_abstains_has_no_vote(self):
        unsure = [reading("unreachable 9", f"cut{i}", abstains="no route") for i in range(3)]
        self.assertIs(H, judge(H, [*unsure, reading("ok")]).verdict)
        self.assertIs(U, judge(H, [*unsure, reading("unreachable 3")]).verdict)
        for before in FROM:
            judgement = judge(before, unsure)
            self.assertIs(before, judgement.verdict)
            self.assertIs(Rule.STALE, judgement.rule)
            self.assertIn("cut0 abstains: no route", judgement.reason)

    def test_who_never_saw_a_cloud_does_not_miss_it(self):
        """A new host behind a firewall, or a cold start in the middle of an outage."""
        strangers = readings("unreachable 9", "unreachable 9", seen=False)
        self.assertIs(H, judge(H, [*strangers, reading("ok")]).verdict)
        self.assertIs(U, judge(H, [*strangers, reading("unreachable 3")]).verdict)
        # With nobody else to ask it is not known how the cloud is. What was known to be away stays so.
        for before, after in ((H, K), (S, K), (R, K), (K, K), (U, U)):
            judgement = judge(before, strangers)
            self.assertIs(after, judgement.verdict, before)
            self.assertIs(Rule.STRANGERS, judgement.rule)

    def test_who_never_saw_a_cloud_has_a_say_when_it_answers(self):
        self.assertIs(R, judge(H, [reading("refusing", seen=False)]).verdict)
        self.assertIs(S, judge(H, [reading("sick", seen=False)]).verdict)

    def test_a_cloud_that_an_observer_knows_goes_from_unknown_to_unreachable(self):
        self.assertIs(U, judge(K, [reading("unreachable 3", seen=True)]).verdict)

    def test_the_word_of_a_watchdog_stands_until_it_expires(self):
        self.assertIs(U, judge(H, [word("unreachable")]).verdict)
        self.assertIs(H, judge(U, [word("ok")]).verdict)
        self.assertIs(H, judge(H, [word("unreachable"), *readings("ok", "ok")]).verdict)
        self.assertIs(U, judge(H, [word("unreachable"), *readings("unreachable 3", "ok")]).verdict)
        self.assertIs(K, judge(K, [word("unreachable", seen=False)]).verdict)
        for lasts in (0.0, -1.0):
            self.assertIs(H, judge(H, [word("unreachable", lasts=lasts), reading("ok")]).verdict)
            self.assertIs(Rule.STALE, judge(H, [word("unreachable", lasts=lasts)]).rule)

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
        sick = "north saw sick: detail of sick"
        refused = "north saw refusing: detail of refusing"
        for before, said, rule, reason in (
            (H, "ok", Rule.ANSWERS, "it answers"),
            (H, "unreachable 2", Rule.DOUBTED, f"missed 2 of 3; {evidence}"),
            (H, "unreachable 3", Rule.MISSED, f"3 or more misses in a row; {evidence}"),
            (K, "unreachable 2", Rule.STRANGERS, ""),  # still to be seen for the first time
            (K, "unreachable 3", Rule.STRANGERS, f"never seen yet; {evidence}"),
            (U, "unreachable 3", Rule.MISSED, f"3 or more misses in a row; {evidence}"),
            (K, "sick", Rule.NEVER_SEEN, f"never seen yet; {sick}"),
            (H, "refusing", Rule.REFUSED, f"it refuses the credentials; {refused}"),
            (H, "sick", Rule.SICK, f"it answers but does not serve; {sick}"),
            (U, "ok 3", Rule.RETURNED, "3 good answers in a row"),
            (
                U,
                "ok 2",
                Rule.RETURNING,
                "not yet 3 good answers in a row; north saw ok: detail of ok",
            ),
        ):
            judgement = judge(before, [reading(said, seen=before is not K)])
            self.assertEqual((rule, reason), (judgement.rule, judgement.reason))
        judgement = judge(H, [])
        self.assertEqual(
            (Rule.STALE, "nobody has looked at it lately"), (judgement.rule, judgement.reason)
        )

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
        said.append(
            reading(
                f"{outcome} {run}",
                f"observer{i}",
                age,
                zone=draw(st.sampled_from([None, None, "a", "b"])),
                # Who had a good answer has seen the cloud.
                seen=outcome is Outcome.OK or draw(st.booleans()),
                abstains=draw(st.sampled_from(["", "", "", "no route"])),
            )
        )
    return said


def voting(seen):
    """Those of them that count, by zone."""
    zones = {}
    for r in seen:
        fresh = (NOW - r.observed_at).total_seconds() <= FRESH_FOR
        if fresh and not r.abstains and (r.seen or r.outcome is not Outcome.UNREACHABLE):
            zones.setdefault(r.zone or r.observer, []).append(r)
    return list(zones.values())


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
    @hypothesis.given(st.sampled_from([H, S, R, K]), any_readings())
    def test_unreachable_takes_a_majority_of_fresh_misses_and_no_more(self, before, seen):
        zones = voting(seen)
        lost = [z for z in zones if 2 * sum(r.misses >= MISSES for r in z) > len(z)]
        self.assertEqual(2 * len(lost) > len(zones), judge(before, seen).verdict is U)

    @PROPERTY
    @hypothesis.given(st.sampled_from(Verdict), any_readings(), any_readings())
    def test_those_without_a_vote_change_nothing(self, before, seen, others):
        """Not even a crowd of observers that are cut off, or of such that never saw the cloud."""
        hypothesis.assume(voting(seen))
        mute = [
            dataclasses.replace(r, observer=f"other{i}", abstains="no route")
            for i, r in enumerate(others)
        ]
        strange = [
            dataclasses.replace(r, observer=f"stranger{i}", seen=False)
            for i, r in enumerate(others)
            if r.outcome is Outcome.UNREACHABLE
        ]
        alone = judge(before, seen)
        self.assertEqual(alone, judge(before, [*mute, *seen, *strange]))

    @PROPERTY
    @hypothesis.given(any_readings())
    def test_what_was_never_seen_is_never_called_unreachable(self, seen):
        never = [dataclasses.replace(r, seen=False) for r in seen]
        self.assertIsNot(U, judge(K, never).verdict)

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


WINDOW, PATIENCE = 300.0, 60.0


def standing(cloud, said):
    """A cloud and how it stands: "h", "u 5" for unreachable since 5 seconds, "s 5", "r", "k"."""
    verdict, _, since = said.partition(" ")
    return values.CloudState(
        cloud,
        {"h": H, "s": S, "u": U, "r": R, "k": K}[verdict],
        NOW - datetime.timedelta(seconds=float(since or 3600)),
        Rule.DOUBTED if verdict == "s" else None,
    )


def brake(said, held=()):
    """The clouds are named by letters; ``said`` has a word for each, with commas between."""
    clouds = [
        standing(name, word.strip())
        for name, word in zip("abcdefgh", said.split(","), strict=False)
        if word
    ]
    return health.brake(clouds, NOW, frozenset(held), window=WINDOW, patience=PATIENCE)


# name: (how the clouds stand, those that hold it on already, those that do now)
BRAKE = {
    "three of five at once": ("u 5, u 4, u 6, h, h", "", "abc"),
    "two of five": ("u 5, u 5, h, h, h", "", ""),
    "two of three, three is the least": ("u 5, u 5, h", "", ""),
    "one that may carry most of the weight": ("u 5, h, h", "", ""),
    "three of three": ("u 5, u 5, u 5", "", "abc"),
    "three of six are no more than half": ("u 5, u 5, u 5, h, h, h", "", ""),
    "four of six": ("u 5, u 5, u 5, u 5, h, h", "", "abcd"),
    "one after the other": ("u 1000, u 500, u 5, h, h", "", ""),
    "within the window, one hour ago": ("u 3700, u 3600, u 3500, h, h", "", "abc"),
    "just within it": ("u 300, u 150, u 0, h, h", "", "abc"),
    "just not": ("u 301, u 150, u 0, h, h", "", ""),
    "never seen clouds are not counted": ("u 5, u 5, u 5, h, k, k, k", "", "abc"),
    "what refuses answers": ("r, r, r, h, h", "", ""),
    "it does not lapse with time": ("u 9000, u 8000, u 7000, h, h", "abc", "abc"),
    "nor as more goes down": ("u 900, u 900, u 900, u 5, h", "abc", "abcd"),
    "nor when all are down": ("u 900, u 900, u 900, u 5, u 5", "abc", "abcde"),
    "one of them is back": ("h 5, u 900, u 900, h, h", "abc", ""),
    "one is back and another one goes": ("h 5, u 900, u 900, u 5, h", "abc", "bcd"),
    "what was away before does not hold it on": ("h 5, u 900, u 900, u 9000, h", "abc", ""),
    "all are back": ("h, h, h, h, h", "abc", ""),
}


class TestNextChange(base.BaseTestCase):
    def said(self, verdict, *seen):
        return health.next_change(
            verdict, seen, NOW, misses=MISSES, goods=GOODS, fresh_for=FRESH_FOR
        )

    def test_each_verdict(self):
        three = readings("ok", "unreachable 2", "ok 5")
        misses = (
            "3 misses in a row by 2 of 3 vote(s) (observer1 2 of 3 so far) make it unreachable."
        )
        for verdict, expected in (
            (H, f"A miss makes it suspect; {misses}"),
            (S, f"Good answers to 2 of 3 vote(s) make it healthy; {misses}"),
            (
                U,
                "3 good answers in a row to 2 of 3 vote(s) (observer0 1 of 3, observer2 5 of 3 so far) "
                "make it healthy.",
            ),
            (R, "Credentials that it accepts, as seen by 2 of 3 vote(s), make it healthy."),
            (K, "A good answer to 2 of 3 vote(s) makes it healthy."),
        ):
            self.assertEqual(expected, self.said(verdict, *three))

    def test_zones_and_those_without_a_vote(self):
        seen = [
            reading("ok", "a", zone="north"),
            reading("ok", "b", zone="north"),
            reading("unreachable 9", "c", abstains="no route"),
            reading("unreachable 9", "d", seen=False),
            reading("unreachable 9", "e", age=FRESH_FOR + 1),
        ]
        self.assertIn("by 1 of 1 vote(s) make it", self.said(H, *seen))
        self.assertEqual(
            {"a": True, "b": True, "c": False, "d": False, "e": False},
            health.votes(seen, NOW, FRESH_FOR),
        )
        self.assertIn("at present nobody may", self.said(H, *seen[2:]))


class TestRelapses(base.BaseTestCase):
    def test_soon_after_it_came_back(self):
        for returned, expected in ((None, 0), (0, 3), (60, 3), (61, 0)):
            at = None if returned is None else NOW - datetime.timedelta(seconds=returned)
            self.assertEqual(expected, health.relapses(2, at, NOW, 60.0), returned)


class TestBrake(base.BaseTestCase):
    def test_when_it_is_on(self):
        wrong = []
        for name, (said, held, expected) in BRAKE.items():
            found = "".join(sorted(brake(said, held).clouds))
            if found != expected:
                wrong.append(f"{name}: {found!r}, not {expected!r}")
        self.assertEqual([], wrong)

    def test_how_many_are_known(self):
        self.assertEqual(4, brake("u 5, u 5, u 5, h, k").known)

    def test_those_in_doubt_are_waited_for(self):
        """One is judged before the others are, and a stack may tolerate nothing."""
        held = brake("u 1, s 20, s 10, h, h")
        self.assertEqual(
            (frozenset(), NOW + datetime.timedelta(seconds=50)), (held.clouds, held.hold_until)
        )
        for said in (
            "u 1, s 20, h, h, h",  # too few
            "u 1, s 61, s 70, h, h",  # in doubt for longer than it takes to be judged
            "h, s 5, s 5, s 5, h",  # nobody is lost yet
            "u 400, s 5, s 5, h, h",  # it has been away for long
        ):
            self.assertIsNone(brake(said).hold_until, said)

    @PROPERTY
    @hypothesis.given(
        st.lists(st.sampled_from(["h", "u 5", "u 100", "u 5000", "s 5", "r", "k"]), max_size=8),
        st.sets(st.sampled_from("abcdefgh")),
    )
    def test_it_takes_three_and_more_than_half(self, said, held):
        on = brake(",".join(said), held)
        down = {name for name, word in zip("abcdefgh", said, strict=False) if word.startswith("u")}
        self.assertLessEqual(on.clouds, down)
        if on.clouds:
            self.assertGreaterEqual(len(on.clouds), 3)
            self.assertGreater(2 * len(on.clouds), on.known)

    @PROPERTY
    @hypothesis.given(
        st.lists(st.sampled_from(["h", "u 5", "s 5", "r"]), min_size=3, max_size=8),
        st.integers(0, 7),
    )
    def test_it_never_lapses_as_more_goes_down(self, said, which):
        before = brake(",".join(said)).clouds
        said[which % len(said)] = "u 0"
        self.assertLessEqual(before, brake(",".join(said), before).clouds)
