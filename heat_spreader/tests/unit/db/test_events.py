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

"""Events and engines: who reads what, page by page, and who was seen when."""

import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import engines as db_engines
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each


class TestEvents(backends.DatabaseTestCase):
    def setUp(self):
        super().setUp()
        self.own = self.cloud("own")
        self.shared = self.cloud("shared", "admin", shared=True)
        self.hidden = self.cloud("hidden", "blue")
        self.web = self.stack("web", [self.own, self.shared])
        self.other = self.stack("web", [self.shared], project="blue")

    def seen(self, project, limit=100, **more):
        rows = db_events.list_events(self.ctx, project, limit=limit, **more)
        return [(row.type, row.stack_name or row.cloud_name) for row in rows]

    def test_a_project_sees_its_own_and_those_of_shared_clouds(self):
        self.assertEqual(
            [("stack.create", "web"), ("cloud.create", "shared"), ("cloud.create", "own")],
            self.seen("green"),
        )
        self.assertEqual(
            [("stack.create", "web"), ("cloud.create", "hidden"), ("cloud.create", "shared")],
            self.seen("blue"),
        )
        self.assertEqual([("cloud.create", "shared")], self.seen("red"))
        self.assertEqual(5, len(self.seen(None)))

    def test_filters(self):
        self.assertEqual([("stack.create", "web")], self.seen("green", stack_id=self.web.id))
        self.assertEqual([], self.seen("green", stack_id=self.other.id))
        self.assertEqual([], self.seen("red", stack_id=self.other.id))
        self.assertEqual(1, len(self.seen(None, stack_id=self.other.id)))
        self.assertEqual(2, len(self.seen("green", type="cloud.create")))
        self.assertEqual([], self.seen("green", type="CLOUD.create"))
        self.assertEqual([("cloud.create", "shared")], self.seen("green", cloud_id=self.shared.id))
        self.assertEqual([], self.seen("green", cloud_id=self.hidden.id))

    def test_since(self):
        rows = db_events.list_events(self.ctx, None, limit=100)
        # Of this moment, and later: the border is in.
        for border in rows:
            later = [row.id for row in rows if row.created_at >= border.created_at]
            found = db_events.list_events(self.ctx, None, since=border.created_at, limit=100)
            self.assertEqual(later, [row.id for row in found])
        future = rows[0].created_at + datetime.timedelta(seconds=1)
        self.assertEqual([], self.seen("green", since=future))

    def test_pages_show_everything_once(self):
        claimed = self.claim(self.web)
        for number in range(7):
            cloud = (self.own, self.shared)[number % 2]
            said = [{"type": "member.resize", "message": str(number), "cloud": cloud}]
            db_rounds.save_members(self.ctx, claimed, {}, said)
            db_clouds.set_verdict(self.ctx, self.shared, "unknown", str(number), {})
            self.shared = db_clouds.update_cloud(self.ctx, self.shared.id, {"description": "x"})
        for project in ("green", "red", None):
            for filters in ({}, {"type": "cloud.update"}, {"cloud_id": self.shared.id}):
                whole = db_events.list_events(self.ctx, project, limit=100, **filters)
                self.assertEqual(
                    sorted({row.id for row in whole}, reverse=True), [r.id for r in whole]
                )
                for limit in (1, 2, 3):
                    paged, marker = [], None
                    while page := db_events.list_events(
                        self.ctx, project, limit=limit, marker=marker, **filters
                    ):
                        self.assertLessEqual(len(page), limit)
                        paged += page
                        marker = page[-1].id
                    self.assertEqual([row.id for row in whole], [row.id for row in paged])

    def test_who_did_it(self):
        claimed = self.claim(self.web)
        ctx = context.engine_context()
        db_rounds.save_members(ctx, claimed, {}, [{"type": "member.drift", "message": "m"}])
        event = self.events(type="member.drift")[0]
        self.assertEqual(("engine", ctx.request_id), (event.actor, event.request_id))
        self.assertEqual("alice", self.events(type="stack.create")[0].actor)


class TestPurge(backends.DatabaseTestCase):
    def age(self, count, days):
        """Make the oldest events older still."""
        with orm.Session(db_api.engine()) as session:
            rows = session.scalars(sa.select(models.Event).order_by(models.Event.id).limit(count))
            for row in rows:
                row.created_at -= datetime.timedelta(days=days)
            session.commit()

    def test_only_what_is_older_goes_and_in_batches(self):
        for name in "abcde":
            self.cloud(name)
        newest = self.events()[-1].id
        self.age(3, 31)
        self.assertEqual(0, db_events.purge_events(self.ctx, 32, 2))
        self.assertEqual(2, db_events.purge_events(self.ctx, 30, 2))
        self.assertEqual(1, db_events.purge_events(self.ctx, 30, 2))
        self.assertEqual(0, db_events.purge_events(self.ctx, 30, 2))
        left = self.events()
        self.assertEqual((2, newest), (len(left), max(event.id for event in left)))


class TestEngines(backends.DatabaseTestCase):
    def engines(self):
        with orm.Session(db_api.engine()) as session:
            return session.scalars(sa.select(models.Engine).order_by(models.Engine.id)).all()

    def beat(self, engine_id, zone=None, version="1"):
        db_engines.heartbeat(self.ctx, engine_id, host="here", zone=zone, version=version)

    def test_a_heartbeat_tells_who_is_alive(self):
        self.beat("a", "z1")
        first = self.engines()[0]
        self.assertEqual(("here", "z1", "1"), (first.host, first.zone, first.version))
        self.assertEqual(first.started_at, first.last_seen_at)
        self.beat("a", "z2", "2")
        self.beat("b")
        again, other = self.engines()
        self.assertEqual(("a", "z2", "2"), (again.id, again.zone, again.version))
        self.assertEqual(first.started_at, again.started_at)
        self.assertGreater(again.last_seen_at, first.last_seen_at)
        self.assertIsNone(other.zone)

    def test_who_was_seen_lately(self):
        self.beat("b")
        self.beat("a")
        listed = db_engines.list_engines(self.ctx, 60)
        self.assertEqual(["a", "b"], [engine.id for engine in listed])
        self.assertEqual([], db_engines.list_engines(self.ctx, -60))

    def test_whoever_was_not_seen_for_long_is_forgotten(self):
        self.beat("a")
        self.beat("b")
        db_engines.forget_engines(self.ctx, 60)
        self.assertEqual(["a", "b"], [row.id for row in self.engines()])
        db_engines.forget_engines(self.ctx, -60)
        self.assertEqual([], self.engines())
