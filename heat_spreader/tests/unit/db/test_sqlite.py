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

"""One process on one SQLite file: the API's threads and the engine's write at the same time."""

from oslotest import base
import webtest

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import events as db_events
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests import fixtures
from heat_spreader.tests.unit.db import backends

STACKS = 4
CHANGES = 15


class TestOneFile(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.http = webtest.TestApp(
            self.useFixture(fixtures.API()).app, extra_environ={"REMOTE_ADDR": "127.0.0.1"}
        )
        self.http.post_json("/v1/clouds", {"name": "east", "config_cloud": "east"})
        for number in range(STACKS):
            body = {
                "name": f"web{number}",
                "count": 1,
                "members": [{"cloud": "east", "weight": 1}],
            }
            self.http.post_json("/v1/stacks", body)

    def test_nobody_finds_it_locked(self):
        self.patch(db_api, "PATIENCE", 0)  # so that no retry hides it
        rounds: list[str] = []

        def user(number: int) -> list[int]:
            """Changes a stack and looks at all; the generations that came of it."""
            found = []
            for count in range(1, CHANGES + 1):
                changed = self.http.patch_json(f"/v1/stacks/web{number}", {"count": count})
                found.append(changed.json["generation"])
                self.http.get("/v1/stacks")
            return found

        def engine(name: str) -> None:
            """Does rounds, with a write in the middle, until nothing has been due for some time."""
            ctx = context.engine_context()
            idle = 0
            while idle < 3:
                claims = db_rounds.claim_due(ctx, name, 60, 2)
                idle = 0 if claims else idle + 1
                for claim in claims:
                    (member,) = claim.stack.members
                    self.assertTrue(
                        db_rounds.save_members(ctx, claim.stack, {member.id: {"held": 1}})
                    )
                    values = {
                        "status": "ACTIVE",
                        "observed_generation": claim.stack.generation,
                    }
                    event = {"type": "stack.active", "message": "It is so."}
                    self.assertTrue(
                        db_rounds.save_round(
                            ctx,
                            claim.stack,
                            values=values,
                            members={member.id: {"share": claim.stack.count}},
                            events=[event],
                            due_in=300,
                        )
                    )
                    rounds.append(claim.stack.id)

        outcomes = backends.at_once(
            *(lambda n=number: user(n) for number in range(STACKS)),
            *(lambda n=name: engine(n) for name in ("one", "two", "three")),
        )
        engine("last")  # what was changed after the others had gone
        for found in outcomes[:STACKS]:
            self.assertEqual(list(range(2, CHANGES + 2)), found)
        self.assertEqual([None] * 3, outcomes[STACKS:])

        ctx = context.engine_context()
        for stack in db_stacks.list_stacks(ctx, None, limit=10):
            self.assertEqual((CHANGES, CHANGES + 1), (stack.count, stack.observed_generation))
            self.assertEqual([CHANGES], [member.share for member in stack.members])
            types = [
                event.type
                for event in db_events.list_events(ctx, None, stack_id=stack.id, limit=1000)
            ]
            self.assertEqual(CHANGES, types.count("stack.update"))
            self.assertEqual(rounds.count(stack.id), types.count("stack.active"))
