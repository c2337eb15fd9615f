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

"""The engine process from start to stop, in this process: real threads, sockets and time.

Only its intervals are shorter than an operator would have them, and the bus is in memory.
"""

import logging
import threading
import time

import fixtures
from oslo_db import exception as db_exc
import oslo_messaging
from oslo_messaging.notify import _impl_test
from oslotest import base
import sqlalchemy as sa

from heat_spreader import context
from heat_spreader import rpc
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.engine import service
from heat_spreader.tests import fake_heat
from heat_spreader.tests import fixtures as spreader_fixtures
from heat_spreader.tests.unit.engine import world


class ServiceTest(base.BaseTestCase):
    clouds: tuple[str, ...] = ("cloud1", "cloud2", "cloud3")

    def setUp(self):
        super().setUp()
        self.config = self.useFixture(spreader_fixtures.Database()).config
        self.site = self.useFixture(fake_heat.FakeSite(*self.clouds))
        self.config.set(host="test-host")
        self.config.set(
            "engine",
            sweep_interval=0.05,
            progress_interval=0.05,
            resync_interval=300.0,
            retry_interval=0.2,
            claim_lease=4.0,
            threads=4,
            zone="north",
        )
        self.config.set("health", probe_interval=0.1, probe_timeout=1.0)
        self.config.set("clouds", config_file=self.site.clouds_yaml, timeout=1.0)
        self.ctx = context.RequestContext(user_id="alice", project_id="p", overwrite=False)
        self.ids = {name: self.register(name) for name in self.site.heats}

    def register(self, name):
        values = {"name": name, "project_id": "p", "kind": "config", "config_cloud": name}
        return db_clouds.create_cloud(self.ctx, values).id

    def start(self):
        engine = service.Engine(self.config.conf, "fake://")
        engine.start()
        self.addCleanup(engine.stop)
        return engine

    def create_stack(self, count=10, name="web", clouds=None, project="p"):
        stack = db_stacks.create_stack(
            self.ctx,
            {
                "name": name,
                "project_id": project,
                "user_id": "alice",
                "count": count,
                "template": world.TEMPLATE,
                "failover_toleration": 0,
                "failback_stable": 0,
            },
            [
                {"cloud_id": cloud_id, "weight": weight}
                for cloud_id, weight in zip(
                    clouds or list(self.ids.values())[:3], ("0.6", "0.2", "0.2"), strict=False
                )
            ],
        )
        return stack.id

    def stack(self, stack_id):
        return db_stacks.get_stack(self.ctx, stack_id, None)

    def units(self, name="web"):
        found = [heat.stack(name) for heat in self.site.heats.values()]
        return tuple(int(stack.parameters["count"]) if stack else None for stack in found)

    def until(self, condition, seconds=10):
        for _ in range(100 * seconds):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(f"it did not come so within {seconds} s")


class TestEngine(ServiceTest):
    def test_the_main_job(self):
        """6/2/2, a cloud is killed: 7/3/0, it comes back: 6/2/2."""
        stack = self.create_stack()
        self.start()
        self.until(lambda: self.units() == (6, 2, 2))
        self.until(lambda: self.stack(stack).status == "ACTIVE")
        self.site.heats["cloud3"].fault("refuse")
        self.until(lambda: self.units() == (7, 3, 2))
        self.until(lambda: self.stack(stack).status == "DEGRADED")
        self.site.heats["cloud3"].heal()
        self.until(lambda: self.units() == (6, 2, 2))
        self.until(lambda: self.stack(stack).status == "ACTIVE")
        self.assertEqual([6, 2, 2], [member.share for member in self.stack(stack).members])
        for heat in self.site.heats.values():
            self.assertEqual(1, len(heat.asked("POST")))

    def test_a_sweep_finds_what_is_due(self):
        """No message comes: the stack is stored and that is all."""
        self.start()
        self.until(lambda: db_clouds.get_cloud(self.ctx, "cloud3", None).verdict == "healthy")
        self.create_stack()
        self.until(lambda: self.units() == (6, 2, 2))

    def test_a_message_leads_to_a_round(self):
        self.config.set("engine", sweep_interval=3600.0)
        self.start()
        for name in self.clouds:  # a verdict has the engine sweep, too
            self.until(
                lambda name=name: db_clouds.get_cloud(self.ctx, name, None).verdict == "healthy"
            )
        stack = self.create_stack()
        self.assertEqual((None, None, None), self.units())
        transport = rpc.get_transport(self.config.conf, "fake://")
        self.addCleanup(transport.cleanup)
        rpc.EngineClient(transport).reconcile(self.ctx, stack)
        self.until(lambda: self.units() == (6, 2, 2))

    def test_what_changes_in_mid_round_gets_the_next_round_at_once(self):
        """No message tells of it, no sweep is due and no observer looks again."""
        self.config.set("engine", sweep_interval=3600.0, progress_interval=3600.0)
        self.config.set("health", probe_interval=3600.0)
        self.config.set("clouds", timeout=20.0)
        self.config.set("engine", claim_lease=60.0)
        engine = self.start()
        self.until(
            lambda: all(c.verdict == "healthy" for c in db_clouds.list_clouds(self.ctx, None))
        )
        in_hand, answer = threading.Event(), threading.Event()
        self.addCleanup(answer.set)

        def wait(request, proceed):
            in_hand.set()
            answer.wait(30)
            return proceed()

        self.site.heats["cloud1"].fault(wait, method="POST")
        stack = self.create_stack()
        for _ in range(3):  # one round for all of them
            engine._endpoint.reconcile(self.ctx, stack)
        self.assertTrue(in_hand.wait(10))
        self.assertEqual(1, self.stack(stack).claim_epoch)
        db_stacks.update_stack(self.ctx, stack, values={"count": 20})
        answer.set()
        self.until(lambda: self.stack(stack).claim_epoch == 2)

    def test_a_verdict_is_acted_upon_at_once(self):
        """No sweep is due, and whoever found the cloud dead names no stack."""
        stack = self.create_stack()
        engine = self.start()
        self.until(lambda: self.stack(stack).status == "ACTIVE")
        self.config.set("engine", sweep_interval=3600.0)
        engine._endpoint.reconcile(self.ctx, stack)  # at its end the sweep begins to wait as long
        self.until(lambda: self.stack(stack).claimed_by is None)
        self.site.heats["cloud3"].fault("refuse")
        self.until(lambda: self.units() == (7, 3, 2))

    def test_heartbeat(self):
        self.start()

        def engines():
            with db_api.engine().connect() as connection:
                return connection.exec_driver_sql("SELECT id, host, zone FROM engines").all()

        self.until(engines)
        [(engine_id, host, zone)] = engines()
        self.assertTrue(engine_id.startswith("test-host:"))
        self.assertEqual(("test-host", "north"), (host, zone))

    def test_what_it_sees_is_under_the_name_of_its_host(self):
        self.start()

        def observers():
            _, found = db_clouds.list_observations(self.ctx, self.ids.values())
            return {row.observer for rows in found.values() for row in rows}

        self.until(observers)
        self.assertEqual({"test-host"}, observers())


class TestManyProjects(ServiceTest):
    clouds = ("cloud1",)

    def test_the_flood_of_one_does_not_hold_up_another(self):
        flood = [self.create_stack(1, f"flood-{n}", project="flood") for n in range(150)]
        # The last one in the order in which they became due.
        modest = self.create_stack(1, "modest", project="modest")
        self.start()
        self.until(lambda: self.stack(modest).observed_generation == 1)
        left = [n for n in flood if self.stack(n).observed_generation == 0]
        self.assertNotEqual([], left)


class TestNotifications(ServiceTest):
    clouds = ("cloud1",)

    def setUp(self):
        super().setUp()
        conf = self.config.conf
        oslo_messaging.get_notification_transport(conf, "fake://")  # registers its options
        self.config.set(transport_url="fake://")
        self.config.set("oslo_messaging_notifications", driver=["test"])
        _impl_test.reset()
        self.useFixture(fixtures.MonkeyPatch("heat_spreader.db.events.SETTLED", 0))

    @property
    def told(self):
        return [(m["event_type"], m["payload"]) for _, m, _, _ in _impl_test.NOTIFICATIONS]

    def test_what_is_asked_and_done_is_told_with_a_payload_of_one_version(self):
        self.config.set("notifications", enabled=True)
        self.start()
        self.until(lambda: self.begun())
        stack = self.create_stack(1)
        self.until(lambda: "spreader.stack.create.start" in [kind for kind, _ in self.told])
        (payload,) = [p for kind, p in self.told if kind == "spreader.stack.create.start"]
        self.assertEqual(
            set(
                """version event_id project_id stack_id stack_name cloud_id cloud_name message before
                after evidence actor roles request_id global_request_id created_at""".split()
            ),
            set(payload),
        )
        self.assertEqual(
            ("1.0", stack, "alice"), (payload["version"], payload["stack_id"], payload["actor"])
        )
        self.until(lambda: "spreader.member.create" in [kind for kind, _ in self.told])
        numbers = [payload["event_id"] for _, payload in self.told]
        self.assertEqual(sorted(set(numbers)), numbers)

    def begun(self):
        with db_api.engine().connect() as connection:
            return connection.exec_driver_sql("SELECT 1 FROM cursors").all()

    def test_nothing_is_told_by_default(self):
        self.start()
        stack = self.create_stack(1)
        self.until(lambda: self.stack(stack).observed_generation == 1)
        self.assertEqual([], self.told)


class TestDatabaseAway(ServiceTest):
    clouds = ("cloud1", "cloud2")

    def test_it_is_said_once_and_then_work_goes_on(self):
        logged = self.useFixture(fixtures.FakeLogger("heat_spreader.engine", level=logging.INFO))
        self.start()
        stack = self.create_stack(clouds=list(self.ids.values()))
        self.until(lambda: self.stack(stack).status == "ACTIVE")

        def refuse(*args):
            raise db_exc.DBConnectionError("Lost connection")

        sa.event.listen(sa.Engine, "before_cursor_execute", refuse)
        try:
            self.until(lambda: "does not answer" in logged.output)
            time.sleep(2 * db_api.PATIENCE)  # for the others to find out, too
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", refuse)
        self.until(lambda: "answers again" in logged.output)
        db_stacks.update_stack(self.ctx, stack, values={"count": 20})
        self.until(lambda: self.units() == (12, 4))
        about = [line for line in logged.output.splitlines() if "database" in line.lower()]
        self.assertEqual(2, len(about), about)
        self.assertNotIn("Traceback", logged.output)


class TestHanging(ServiceTest):
    """Some clouds take each request and never answer, and nothing is known of it yet."""

    clouds = ("cloud1", "cloud2", "cloud3", "cloud4")
    stacks = 24

    def hang(self, *names):
        for name in names:
            self.site.heats[name].fault("hang")
            # What hangs there holds up the end of the test as well.
            self.addCleanup(self.site.heats[name].server.stop)

    def patched(self, name):
        return [seen for seen in self.site.heats[name].asked("PATCH") if seen.at > self.since]

    def assert_others_are_served(self, *hung):
        # Neither a timeout nor a probe ends the waiting before the test does.
        self.config.set("clouds", timeout=60.0, concurrency=4)
        self.config.set("health", probe_timeout=60.0)
        self.config.set("engine", claim_lease=600.0, retry_interval=2.0)
        clouds = [self.ids[name] for name in ("cloud1", "cloud2", "cloud3")]
        everywhere = [
            self.create_stack(name=f"all{n:02}", clouds=clouds) for n in range(self.stacks)
        ]
        answering = [name for name in self.clouds if name not in hung]
        other = self.create_stack(
            name="other", count=10, clouds=[self.ids[name] for name in answering]
        )
        self.start()
        for stack in (*everywhere, other):
            self.until(lambda stack=stack: self.stack(stack).status == "ACTIVE")
        self.since = time.time()
        self.hang(*hung)
        for stack in everywhere:
            db_stacks.update_stack(self.ctx, stack, values={"count": 20})
        for name in hung:
            self.until(lambda name=name: self.patched(name))
        # One more comes when the lanes of the clouds that hang are full.
        before = self.units("other")
        db_stacks.update_stack(self.ctx, other, values={"count": 30})
        self.until(
            lambda: (
                sum(now != then for now, then in zip(self.units("other"), before, strict=True))
                == len(answering)
            )
        )
        # So are those that have a part there, in all that is in sight.
        self.until(lambda: len(self.patched("cloud2")) >= self.stacks)
        for name in hung:
            # No more than there are places, each for another Heat stack, and none has an answer.
            paths = [seen.path for seen in self.patched(name)]
            self.assertLessEqual(len(paths), 4)
            self.assertEqual(len(paths), len(set(paths)))

    def test_one_of_three(self):
        self.assert_others_are_served("cloud3")

    def test_two_of_four(self):
        self.assert_others_are_served("cloud1", "cloud3")


class TestStop(ServiceTest):
    def threads(self):
        return {thread for thread in threading.enumerate() if thread.is_alive()}

    def stop(self, engine):
        started = time.monotonic()
        engine.stop()
        engine.wait()
        return time.monotonic() - started

    def test_all_threads_end(self):
        before = self.threads()
        engine = service.Engine(self.config.conf, "fake://")
        engine.start()
        self.create_stack()
        self.until(lambda: self.units() == (6, 2, 2))
        self.assertGreater(len(self.threads() - before), 3)
        self.assertLess(self.stop(engine), 10)
        ours = ("round", "work", "observe")
        left = [t.name for t in self.threads() - before if t.name.startswith(ours)]
        self.assertEqual([], left)
        seen = sum(len(heat.requests) for heat in self.site.heats.values())
        time.sleep(0.05)
        self.assertEqual(seen, sum(len(heat.requests) for heat in self.site.heats.values()))

    def test_before_anything_was_done(self):
        engine = service.Engine(self.config.conf, "fake://")
        engine.start()
        self.assertLess(self.stop(engine), 10)

    def test_a_round_in_hand_is_finished(self):
        """It gives its claim back, so nobody has to wait for the lease."""
        posted = threading.Event()

        def slow(request, proceed):
            posted.set()
            time.sleep(0.05)
            return proceed()

        self.site.heats["cloud1"].fault(slow, method="POST")
        stack = self.create_stack()
        engine = service.Engine(self.config.conf, "fake://")
        engine.start()
        self.assertTrue(posted.wait(10))
        self.assertLess(self.stop(engine), 10)
        row = self.stack(stack)
        self.assertIsNone(row.claimed_by)
        self.assertIsNotNone(row.members[0].heat_stack_id)
        self.assertEqual((6, 2, 2), self.units())

    def test_with_a_cloud_that_hangs(self):
        """No longer than its timeout."""
        engine = service.Engine(self.config.conf, "fake://")
        engine.start()
        self.create_stack()
        self.until(lambda: self.units() == (6, 2, 2))
        self.site.heats["cloud2"].fault("hang")
        self.until(lambda: db_clouds.get_cloud(self.ctx, "cloud2", None).verdict != "healthy")
        self.assertLess(self.stop(engine), 10)

    def test_started_again(self):
        engine = service.Engine(self.config.conf, "fake://")
        engine.start()
        self.create_stack()
        self.until(lambda: self.units() == (6, 2, 2))
        self.stop(engine)
        db_stacks.update_stack(self.ctx, self.stack("web").id, values={"count": 20})
        self.start()
        self.until(lambda: self.units() == (12, 4, 4))
