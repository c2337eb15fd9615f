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
"""The brake in the database: who sees which, one event for each change, and no lost updates."""

import types

from heat_spreader.db import brakes as db_brakes
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import rounds as db_rounds
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each


def decide(clouds, moment, held):
    """On while three clouds or more are unreachable."""
    away = frozenset(row.id for row in clouds if row.verdict == "unreachable")
    on = away if len(away) >= 3 else frozenset()
    return types.SimpleNamespace(clouds=on, known=len(clouds), hold_until=None)


class TestBrakes(backends.DatabaseTestCase):
    def judge(self, cloud, verdict="unreachable", ctx=None):
        row = db_clouds.get_cloud(ctx or self.ctx, cloud.id, None)
        return db_clouds.set_verdict(
            ctx or self.ctx, row, verdict, "so it is", {}, "missed", decide
        )

    def clouds(self, number, project="admin", shared=True):
        return [self.cloud(f"{project}{n}", project, shared=shared) for n in range(number)]

    def engaged(self):
        """The scopes that have one, each with how many clouds hold it on."""
        found = db_brakes.list_brakes(self.ctx).values()
        return {row.scope: len(row.clouds) for row in found if row.engaged_at}

    def brakes(self, stack):
        """What a round of this stack is told."""
        claim = db_rounds.claim_stack(self.new_context(), stack.id, "one", 60)
        self.save(claim.stack)
        return sorted(brake.scope for brake in claim.brakes if brake.engaged_at)

    def test_on_and_off(self):
        clouds = self.clouds(4)
        stack = self.stack("web", clouds[:1])
        self.assertEqual([], self.brakes(stack))
        for number, cloud in enumerate(clouds[1:], 1):
            self.judge(cloud)
            self.assertEqual({"": 3} if number == 3 else {}, self.engaged())
        [event] = self.events(type="brake.engaged")
        self.assertEqual((None, None, None), (event.project_id, event.stack_id, event.cloud_id))
        self.assertIn("3 of 4 clouds went away at once", event.message)
        self.assertEqual(["admin1", "admin2", "admin3"], event.after)
        self.assertEqual("unreachable", event.evidence["admin1"]["verdict"])
        # Not only those in the clouds that went away: nobody fails back or is drained any more.
        self.assertEqual([stack.id], db_rounds.due_stacks(self.ctx, 10))
        self.assertEqual([""], self.brakes(stack))
        self.judge(clouds[0])
        self.assertEqual({"": 4}, self.engaged())
        self.judge(clouds[1], "healthy")
        self.assertEqual({"": 3}, self.engaged())
        self.assertEqual(1, len(self.events(type="brake.engaged")))
        self.brakes(stack)
        self.judge(clouds[2], "healthy")
        self.assertEqual({}, self.engaged())
        self.assertEqual(1, len(self.events(type="brake.released")))
        self.assertEqual([stack.id], db_rounds.due_stacks(self.ctx, 10))
        self.assertEqual([], self.brakes(stack))
        self.assertIsNotNone(db_brakes.list_brakes(self.ctx)[""].released_at)

    def test_a_project_has_one_of_its_own(self):
        """Nobody puts on that of others by registering clouds and having them go away."""
        shared, own = self.clouds(2), self.clouds(3, "green", shared=False)
        here = self.stack("here", [own[0]])
        there = self.stack("there", [shared[0]], project="blue")
        for cloud in own:
            self.judge(cloud)
        self.assertEqual({"green": 3}, self.engaged())
        [event] = self.events(type="brake.engaged")
        self.assertEqual("green", event.project_id)
        self.assertEqual((["green"], []), (self.brakes(here), self.brakes(there)))

    def test_clouds_that_a_project_was_given(self):
        clouds = self.clouds(3, "admin", shared=False)
        for cloud in clouds:
            db_clouds.update_cloud(self.ctx, cloud.id, {}, projects=["green"])
        here = self.stack("here", [clouds[0]])
        for cloud in clouds:
            self.judge(cloud)
        self.assertEqual({"admin": 3, "green": 3}, self.engaged())
        self.assertEqual(["green"], self.brakes(here))
        told = self.events(type="brake.engaged")
        self.assertEqual(["admin", "green"], sorted(event.project_id for event in told))

    def test_that_of_the_shared_clouds_is_for_everybody(self):
        shared, own = self.clouds(3), self.clouds(3, "green", shared=False)
        here = self.stack("here", [own[0]])
        for cloud in shared:
            self.judge(cloud)
        self.assertEqual({"": 3}, self.engaged())
        self.assertEqual([""], self.brakes(here))
        # One event, one alarm, though those of the project are more by now.
        self.judge(own[0])
        self.assertEqual(1, len(self.events(type="brake.engaged")))

    def test_what_changes_otherwise(self):
        clouds = self.clouds(3)
        for cloud in clouds:
            self.judge(cloud)
        db_clouds.delete_cloud(self.ctx, clouds[0].id)
        [change] = db_brakes.settle_brakes(self.ctx, decide)
        self.assertEqual(("", False), (change.scope, change.engaged))
        self.assertEqual([], db_brakes.settle_brakes(self.ctx, decide))
        self.assertEqual({}, self.engaged())

    def test_clouds_that_go_at_the_same_moment(self):
        """Each verdict is a transaction of its own; the last one sees them all."""
        clouds = self.clouds(3)
        outcomes = backends.at_once(
            *(lambda c=cloud: self.judge(c, ctx=self.new_context()) for cloud in clouds)
        )
        self.assertEqual([True] * 3, outcomes)
        self.assertEqual({"": 3}, self.engaged())
        self.assertEqual(1, len(self.events(type="brake.engaged")))
