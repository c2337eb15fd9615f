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

"""A minute of chaos on real parts, and what makes its verdict worth something."""

import itertools
import pathlib
import subprocess
import sys

from oslotest import base

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import chaos  # noqa: E402

# With it a minute has something of all.
SEED = 12


class ChaosTest(base.BaseTestCase):
    def test_after_a_minute_of_chaos_all_is_as_it_was_wanted_last(self) -> None:
        done = subprocess.run(
            [
                TOP / "sandbox" / "chaos",
                f"--dir={TOP / '.sandbox-test-chaos'}",
                "--base-port=23200",
                f"--bin={pathlib.Path(sys.executable).parent}",
                "--minutes=1",
                f"--seed={SEED}",
                "--stacks=4",
                # What is in mid-update lasts as long as it takes, and not a second for each unit.
                "--convergence=on",
                "--fast",
                "--settle=180",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout)
        self.assertEqual(0, done.returncode, done.stdout)


class ScheduleTest(base.BaseTestCase):
    def test_a_seed_repeats_it(self) -> None:
        self.assertEqual(chaos.schedule(SEED, 600), chaos.schedule(SEED, 600))
        self.assertNotEqual(chaos.schedule(SEED, 600), chaos.schedule(SEED + 1, 600))

    def test_the_minute_of_the_test_above_has_something_of_all(self) -> None:
        planned = chaos.schedule(SEED, 60)
        self.assertEqual({"engines", "broker", "database", "heats"}, set(planned))
        for lane, outages in planned.items():
            self.assertTrue(outages, f"nothing happens to the {lane}")
        engines = {(outage.how, outage.seconds > 6) for outage in planned["engines"]}
        self.assertIn(("hung", True), engines, "none sleeps for longer than its lease")
        self.assertIn("killed", {how for how, _ in engines})
        self.assertEqual({"killed", "hung"}, {outage.how for outage in planned["heats"]})

    def test_outages_of_one_lane_do_not_overlap(self) -> None:
        for outages in chaos.schedule(SEED, 600).values():
            for before, after in itertools.pairwise(outages):
                self.assertLess(before.at + before.seconds, after.at)


class JudgementTest(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.outages = chaos.Outages(None, None, SEED, 60, self.log)  # type: ignore[arg-type]
        self.answers = chaos.Answers(self.outages, self.log)

    @staticmethod
    def log(text: str) -> None:
        print(text)

    def judge(self, status: int | None, began: float = 100.0) -> list[str]:
        self.answers.judge("GET /", began, 0.5, status, "words")
        return self.answers.wrong

    def test_an_acceptance_is_right(self) -> None:
        self.assertEqual([], self.judge(202))

    def test_an_error_is_wrong(self) -> None:
        self.assertIn("500", self.judge(500)[0])

    def test_no_answer_is_wrong(self) -> None:
        self.assertIn("no answer", self.judge(None)[0])

    def test_a_503_is_right_only_while_the_database_is_away_or_has_just_come_back(self) -> None:
        self.outages.away("database", 99, 101)
        self.outages.away("broker", 0, 1000)
        self.assertEqual([], self.judge(503))
        self.assertEqual([], self.judge(503, began=103))
        self.assertIn("503", self.judge(503, began=105)[0])

    def test_a_change_without_an_answer_may_stand_until_the_next_one_is_accepted(self) -> None:
        wish = chaos.Wish(5, ("0.6", "0.2", "0.2"))
        wish.asked_count(10, accepted=False)
        self.assertEqual([5, 10], wish.counts)
        wish.asked_count(15, accepted=True)
        self.assertEqual([15], wish.counts)

    def test_shares_have_no_rest(self) -> None:
        for weights in chaos.WEIGHTS:
            for count in chaos.COUNTS:
                self.assertEqual(count, sum(chaos.shares(count, weights).values()))
        self.assertEqual(
            {"cloud1": 9, "cloud2": 3, "cloud3": 3}, chaos.shares(15, ("0.6", "0.2", "0.2"))
        )
