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

"""Nobody waits for a cloud or for the message bus while a transaction is open.

A transaction holds locks that others wait for, and a connection of the pool; a cloud may take its time.
"""

import threading
from typing import Any

import fixtures
from oslo_messaging._drivers import impl_fake
from oslotest import base
import sqlalchemy as sa
import webtest

from heat_spreader.tests import fixtures as spreader_fixtures
from heat_spreader.tests.unit.engine import world


class Transactions(fixtures.Fixture):
    """Knows which are open, in whichever thread and engine.

    :ivar begun: how many there have been
    :ivar waited: what was waited for
    :ivar trespasses: what was waited for within a transaction
    """

    def _setUp(self) -> None:
        self._open: set[int] = set()
        self._lock = threading.Lock()
        self.begun = 0
        self.waited: list[str] = []
        self.trespasses: list[str] = []
        for name, listener in (
            ("begin", self._begin),
            ("commit", self._end),
            ("rollback", self._end),
        ):
            sa.event.listen(sa.Engine, name, listener)
            self.addCleanup(sa.event.remove, sa.Engine, name, listener)

    def _begin(self, connection: sa.Connection) -> None:
        with self._lock:
            self.begun += 1
            self._open.add(id(connection))

    def _end(self, connection: sa.Connection) -> None:
        with self._lock:
            self._open.discard(id(connection))

    def wait_for(self, what: str) -> None:
        with self._lock:
            self.waited.append(what)
            if self._open:
                self.trespasses.append(what)


class TestRounds(world.WorldTest):
    def test_no_request_to_a_cloud_is_made_within_one(self):
        transactions = self.useFixture(Transactions())

        def watch(when: str, what: str) -> None:
            if " http" in what:  # and not a use of the database
                transactions.wait_for(f"{when} {what}")

        stack_id = self.world.create_stack()
        with self.world.watched(watch):
            self.world.settle(stack_id, self.engine)
            self.world.change(stack_id, count=20)
            self.world.settle(stack_id, self.engine)
            self.heats["cloud1"].fault("unavailable")
            self.world.run(self.engine, seconds=20)
            self.heats["cloud1"].heal()
            self.world.settle(stack_id, self.engine)
            self.world.leave(stack_id, "cloud3")
            self.world.settle(stack_id, self.engine)
            self.world.change(stack_id, deleting=True)
            self.world.until(lambda: self.world.stack(stack_id) is None, self.engine)
        for method in ("GET", "POST", "PATCH", "DELETE"):
            self.assertIn(f"before {method}", " ".join(transactions.waited))
        self.assertGreater(transactions.begun, 50)
        self.assertEqual([], transactions.trespasses)


class TestRequests(base.BaseTestCase):
    def test_no_engine_is_nudged_within_one(self):
        http = webtest.TestApp(
            self.useFixture(spreader_fixtures.API()).app,
            extra_environ={"REMOTE_ADDR": "127.0.0.1"},
        )
        transactions = self.useFixture(Transactions())
        send = impl_fake.FakeDriver.send

        def watched(*args: Any, **kwargs: Any) -> Any:
            transactions.wait_for(f"{args[3]['method']}")
            return send(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(f"{impl_fake.__name__}.FakeDriver.send", watched))
        http.post_json("/v1/clouds", {"name": "east", "config_cloud": "east"})
        http.post_json("/v1/stacks", {"name": "web", "count": 1})
        http.patch_json("/v1/stacks/web", {"count": 2})
        http.put_json("/v1/stacks/web/members/east", {"weight": "0.5"})
        http.post_json("/v1/stacks/web/actions", {"retry": None})
        http.delete("/v1/stacks/web")
        self.assertEqual(5 * ["reconcile"], transactions.waited)
        self.assertGreater(transactions.begun, 5)
        self.assertEqual([], transactions.trespasses)
