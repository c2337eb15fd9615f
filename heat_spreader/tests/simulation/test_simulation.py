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

"""The simulator at work, and proof that it would see what it is there to see."""

import os
import random
import subprocess
import sys

import testtools

from heat_spreader.engine import heat
from heat_spreader.tests import heat_contract
from heat_spreader.tests.simulation import heats
from heat_spreader.tests.simulation import plants
from heat_spreader.tests.simulation import schedule

# How many scenarios a planted bug may take to be found.
FOUND_WITHIN = {
    "no-epoch-check": 300,
    "lower-before-raise": 100,
    "replayed-write": 300,
    "missing-floor": 1000,
    "claim-not-renewed": 1000,
    "one-vote": 100,
    "no-brake": 200,
}


def simulate(*arguments):
    """Run scenarios in a process of their own, whose sets have the same order every time."""
    return subprocess.run(
        [sys.executable, "-m", "heat_spreader.tests.simulation", *arguments],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class TestScenarios(testtools.TestCase):
    def test_no_promise_is_broken(self):
        done = simulate("--scenarios", "1000")
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertIn("0 with a violation", done.stdout)
        # Of a fault that nobody met nothing has been shown.
        met = done.stdout.partition("met: ")[2].partition("\n")[0]
        kinds = {*heats.WIRE, "crash", "stall", "deadlock", "database away", "commit unanswered"}
        self.assertEqual(set(), {kind for kind in kinds if f" {kind}" not in met}, met)

    def test_a_seed_takes_the_same_course_every_time(self):
        for seed in ("3", "7"):
            courses = {simulate("--seed", seed).stdout for _ in range(2)}
            self.assertEqual(1, len(courses))


class TestPlants(testtools.TestCase):
    """A bug that is planted is found, and its seed shows it again."""

    def found(self, plant):
        most = str(FOUND_WITHIN[plant])
        done = simulate("--plant", plant, "--scenarios", most, "--most", "1")
        self.assertEqual(1, done.returncode, f"not found within {most} scenarios: {done.stdout}")
        self.assertIn("VIOLATED", done.stdout)
        replay = next(line for line in done.stdout.splitlines() if line.startswith("replay: "))
        again = simulate(*replay.partition(" -- ")[2].split())
        self.assertEqual(1, again.returncode, again.stdout)
        self.assertIn("VIOLATED", again.stdout)

    def test_no_epoch_check(self):
        self.found("no-epoch-check")

    def test_lower_before_raise(self):
        self.found("lower-before-raise")

    def test_a_write_that_is_replayed(self):
        self.found("replayed-write")

    def test_one_vote_that_is_enough(self):
        self.found("one-vote")

    def test_a_brake_that_does_not_hold(self):
        self.found("no-brake")

    def test_a_floor_that_is_missing(self):
        self.found("missing-floor")

    def test_a_claim_that_is_not_renewed(self):
        self.found("claim-not-renewed")

    def test_each_plant_has_a_test(self):
        self.assertEqual(set(plants.PLANTS), set(FOUND_WITHIN))


class Facts(testtools.TestCase):
    """What a real Heat shows, the simulated one shows too; see ``heat_contract``."""

    pause, step = 4, 1
    convergence = False

    create = heat_contract.HeatContract.create
    standing = heat_contract.HeatContract.standing
    settled = heat_contract.HeatContract.settled
    resize = heat_contract.HeatContract.resize
    refused = heat_contract.HeatContract.refused

    def setUp(self):
        super().setUp()
        self.schedule = schedule.Schedule(random.Random(1))
        self.addCleanup(self.schedule.close)
        numbers = iter(range(1000))
        simulated = heats.Heat(
            "cloud1",
            self.schedule,
            convergence=self.convergence,
            new_id=lambda: f"{next(numbers):032x}",
        )
        simulated.duration = (self.pause, self.pause)
        self.cloud = heats.Wire(simulated, 10.0, lambda *request: None, lambda *request: None)
        self.name, self.tag = "Contract-1.x", "member-x"

    def sleep(self, seconds):
        self.schedule.sleep(seconds)

    def delete(self, name, heat_stack_id):
        """Nothing is left when the world ends."""

    def hold(self, fact):
        """Tell a fact as an actor: it has to wait now and then."""
        trouble = []

        def work():
            try:
                fact(self)
            except Exception as error:
                trouble.append(error)

        self.schedule.start(None, "test", work)
        self.schedule.run(10_000)
        if trouble:
            raise trouble[0]


class FactsWithConvergence(Facts):
    convergence = True


def _add(name):
    fact = getattr(heat_contract.HeatContract, name)
    for facts in (Facts, FactsWithConvergence):
        setattr(facts, name, lambda self, fact=fact: self.hold(fact))


for _name in """a_life found_by_name_and_by_id none_where_there_is_none found_by_tag a_taken_name
    an_id_with_another_name_is_not_found created_twice_is_created_once a_name_that_is_being_deleted
    the_same_value_is_a_full_update updated_time_is_when_the_update_began
    a_resize_of_what_does_not_exist a_resize_of_what_is_being_deleted the_count_during_an_update
    a_resize_of_what_is_being_created a_second_update""".split():
    _add(f"test_{_name}")


class TestWire(testtools.TestCase):
    """Each fault means to the product what it means on a real network."""

    def outcome(self, kind, method="PATCH"):
        facts = Facts("test_a_life")
        facts.setUp()
        said = []

        def work():
            made = facts.standing()
            facts.cloud.heat.troubles.append(
                heats.Trouble(kind, methods=("PATCH",), seconds=1.0, every=1.0)
            )
            facts.cloud.heat.troubles[0].begun = facts.schedule.now - 0.5
            try:
                heat.resize(facts.cloud, made.name, made.id, "count", 3)
            except heat.HeatError as error:
                said.append((str(error.outcome), error.maybe_done, error.quota))
            facts.cloud.heat.troubles.clear()
            facts.sleep(20)
            said.append(heat.get_stack(facts.cloud, made.name, made.id).count("count"))

        facts.schedule.start(None, "test", work)
        facts.schedule.run(1000)
        facts.schedule.close()
        return said

    def test_what_becomes_of_a_write(self):
        for kind, expected in {
            "refuse": [("unreachable", False, False), 2],
            "flap": [("unreachable", False, False), 2],
            "hang": [("unreachable", True, False), 2],
            "lose": [("unreachable", True, False), 3],
            "slow": [3],
            "late": [("sick", True, False), 3],
            "late_hang": [("unreachable", True, False), 3],
            "unauthorized": [("refusing", False, False), 2],
            "forbidden": [("refusing", False, False), 2],
            "keystone": [("refusing", False, False), 2],
            "keystone_slow": [3],
            "conflict": [("busy", False, False), 2],
            "busy": [("busy", False, False), 2],
            "quota": [("busy", False, True), 2],
            "error": [("sick", True, False), 2],
            "error_after": [("sick", True, False), 3],
            "unavailable": [("unreachable", True, False), 2],
            "garbage": [("sick", True, False), 2],
        }.items():
            self.assertEqual(expected, self.outcome(kind), kind)
            self.assertIn(kind, heats.WIRE)
