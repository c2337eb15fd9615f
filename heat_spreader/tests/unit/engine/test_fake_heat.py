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

"""The fake Heat shows every fact that a real Heat shows, and some that those show at times only."""

import time

from keystoneauth1 import exceptions as ksa_exceptions
import testtools

from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine.core import values
from heat_spreader.tests import fake_heat
from heat_spreader.tests import heat_contract


class OnTheFake:
    """Time passes when a test sleeps, and takes no time then."""

    step = 1

    def find_heat(self):
        self.later = 0.0
        site = self.useFixture(
            fake_heat.FakeSite(
                "cloud1",
                clock=lambda: time.time() + self.later,
                convergence=self.convergence,
                seconds=self.pause,
            )
        )
        self.clouds_yaml, self.entry = site.clouds_yaml, "cloud1"

    def sleep(self, seconds):
        self.later += seconds


class TestFakeHeat(OnTheFake, heat_contract.HeatContract):
    convergence = False


class TestFakeHeatWithConvergence(OnTheFake, heat_contract.HeatContract):
    convergence = True


class TestByChance(testtools.TestCase):
    """What a real Heat does now and then, the fake does every time."""

    def setUp(self):
        super().setUp()
        self.now = time.time()
        self.site = self.useFixture(
            fake_heat.FakeSite("cloud1", sockets=False, clock=lambda: self.now, seconds=10)
        )
        self.heat = self.site.heats["cloud1"]
        connections = clouds.Clouds([self.site.clouds_yaml], transport=self.site.transport)
        self.cloud = connections.connect("cloud1")

    def create(self, name="web", tags=()):
        template = heat_contract.TEMPLATE
        made = heat.create_stack(self.cloud, name, template, None, None, {"count": 1}, tags)
        self.now += 10
        return made

    def found(self, made):
        return heat.get_stack(self.cloud, "web", made)

    def test_outputs_during_an_update_are_a_404(self):
        made = self.create()
        heat.resize(self.cloud, "web", made, "count", 2)
        exc = self.assertRaises(ksa_exceptions.NotFound, self.cloud.get, f"/stacks/web/{made}")
        error = heat.classify(exc)
        self.assertEqual((values.Outcome.BUSY, "NotFound"), (error.outcome, error.error_type))
        self.assertEqual("UPDATE_IN_PROGRESS", self.found(made).status)
        self.now += 10
        self.cloud.get(f"/stacks/web/{made}")

    def test_an_update_that_preempts_another_fails_until_that_one_is_through(self):
        made = self.create()
        heat.resize(self.cloud, "web", made, "count", 2)
        self.now += 4
        for wait in (5, 10):
            heat.resize(self.cloud, "web", made, "count", 3)
            self.now += wait
        self.assertEqual(
            ("UPDATE_FAILED", True), (self.found(made).status, self.found(made).interrupted)
        )
        heat.resize(self.cloud, "web", made, "count", 3)
        self.now += 10
        self.assertEqual("UPDATE_COMPLETE", self.found(made).status)

    def test_an_update_right_after_another_takes_its_place(self):
        made = self.create()
        heat.resize(self.cloud, "web", made, "count", 2)
        self.now += 0.5
        heat.resize(self.cloud, "web", made, "count", 3)
        self.now += 10
        found = self.found(made)
        self.assertEqual(("UPDATE_COMPLETE", 3), (found.status, found.count("count")))

    def test_a_deleted_stack_is_listed_a_moment_longer(self):
        made = self.create(tags=["a-tag"])
        heat.delete_stack(self.cloud, "web", made)
        self.now += 10.5
        listed = self.cloud.get("/stacks").json()["stacks"]
        self.assertEqual(["DELETE_COMPLETE"], [row["stack_status"] for row in listed])
        self.assertEqual([], heat.list_stacks(self.cloud, None))
        self.assertIsNone(heat.find_stack(self.cloud, "a-tag"))
        self.now += 1
        self.assertEqual([], self.cloud.get("/stacks").json()["stacks"])

    def test_a_limit_of_stacks(self):
        self.heat.max_stacks = 1
        self.create()
        error = self.assertRaises(heat.HeatError, self.create, "other")
        self.assertEqual((values.Outcome.BUSY, True), (error.outcome, error.quota))

    def test_failing_for_a_while(self):
        made = self.create()
        self.heat.fail("UPDATE", "no valid host was found", times=1)
        for status in ("UPDATE_FAILED", "UPDATE_COMPLETE"):
            heat.resize(self.cloud, "web", made, "count", 2)
            self.now += 10
            self.assertEqual(status, self.found(made).status)

    def test_of_two_that_carry_a_tag_the_older_living_one_is_found(self):
        first = self.create("first", ["a-tag"])
        second = self.create("second", ["a-tag"])
        third = self.create("third", ["a-tag"])
        self.assertEqual(first, heat.find_stack(self.cloud, "a-tag").id)
        heat.delete_stack(self.cloud, "first", first)
        self.assertEqual(second, heat.find_stack(self.cloud, "a-tag").id)
        heat.delete_stack(self.cloud, "second", second)
        heat.delete_stack(self.cloud, "third", third)
        self.assertTrue(heat.find_stack(self.cloud, "a-tag").deleting)
