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
"""The core alone over random sequences of failures and returns, and proof that it would be noticed."""

from unittest import mock

import testtools

from heat_spreader.engine.core import health
from heat_spreader.engine.core import plan
from heat_spreader.engine.core import values
from heat_spreader.tests.simulation import sequences

# As many as a gate has time for; 100 000 of them take a quarter of an hour as a command.
SEQUENCES = 500


class TestSequences(testtools.TestCase):
    def test_no_promise_is_broken(self):
        wrong = [(seed, said) for seed in range(SEQUENCES) if (said := sequences.play(seed))]
        self.assertEqual([], wrong)

    def test_a_seed_takes_the_same_course_every_time(self):
        worlds = [sequences.World(7), sequences.World(7)]
        for world in worlds:
            world.play(6)
        self.assertEqual(worlds[0].members, worlds[1].members)


class TestPlants(testtools.TestCase):
    """A bug that is planted in the core is found."""

    def found(self, words):
        said = next((said for seed in range(SEQUENCES) if (said := sequences.play(seed))), "")
        self.assertIn(words, said)

    def test_a_floor_that_is_missing(self):
        def none(members, bids, out):
            return dict.fromkeys(m.id for m in members)

        with mock.patch.object(plan, "_floors", none):
            self.found("failed")

    def test_a_vote_for_the_first_who_comes(self):
        with mock.patch.object(health, "_zones", lambda readings: [[r] for r in readings[:1]]):
            self.found("was cut off")

    def test_what_is_sick_taken_for_lost(self):
        evil = (values.Outcome.UNREACHABLE, values.Outcome.SICK)
        with mock.patch.object(health, "_is_lost", lambda r, misses: r.outcome in evil):
            self.found("was sick")

    def test_a_brake_that_does_not_hold(self):
        def left(stack, member, now):
            return stack.toleration - (now - member.verdict_since).total_seconds()

        with mock.patch.object(plan, "_fails_over_in", left):
            self.found("go out although the brake is on")
