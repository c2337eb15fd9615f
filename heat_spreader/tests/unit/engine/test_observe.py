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

"""What an engine sees of clouds: readings and verdicts in the database, and which stacks it wakes.

Looks are taken one by one on the world's clock; only the lanes at the end run in real time.
"""

import threading
import time

import fixtures
from oslotest import base

from heat_spreader import context
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import events as db_events
from heat_spreader.db import rounds as db_rounds
from heat_spreader.engine import clouds
from heat_spreader.engine import observe
from heat_spreader.tests import fake_heat
from heat_spreader.tests import fixtures as spreader_fixtures
from heat_spreader.tests.unit.engine import world


class TestVerdicts(world.WorldTest):
    clouds = ("cloud1", "cloud2")

    def look(self, times=1):
        for _ in range(times):
            self.engine.look("cloud1")
            self.clock.advance(1)
        return self.verdict()

    def verdict(self, name="cloud1"):
        return self.world.cloud(name).verdict

    def reading(self, name="cloud1"):
        cloud = self.world.cloud(name)
        _, found = db_clouds.list_observations(self.world.ctx, [cloud.id])
        [row] = found[cloud.id]
        return row

    def told(self):
        """The verdicts that came, with what they took the place of."""
        found = db_events.list_events(self.world.ctx, None, type="cloud.verdict", limit=100)
        return [(event.before, event.after) for event in reversed(found)]

    def test_first_look(self):
        self.assertEqual("unknown", self.verdict())
        self.assertIsNone(self.engine.observer.snapshot(self.world.cloud("cloud1").id))
        self.assertEqual("healthy", self.look())
        self.assertEqual([("unknown", "healthy")], self.told())
        cloud = self.world.cloud("cloud1")
        self.assertEqual("it answers", cloud.verdict_reason)
        self.assertIsNotNone(cloud.verdict_since)
        self.assertEqual({}, self.engine.observer.snapshot(cloud.id).heat_stacks)
        self.assertIsNone(self.engine.observer.snapshot(self.world.cloud("cloud2").id))
        reading = self.reading()
        self.assertEqual(
            ("host", "ok", 0, 1),
            (reading.observer, reading.outcome, reading.misses, reading.goods),
        )
        self.assertIsNotNone(reading.latency_ms)

    def test_gone_and_back(self):
        self.look()
        self.heats["cloud1"].fault("refuse")
        verdicts = [self.look() for _ in range(4)]
        self.assertEqual(["suspect", "suspect", "unreachable", "unreachable"], verdicts)
        self.assertEqual(4, self.reading().misses)
        self.heats["cloud1"].heal()
        verdicts = [self.look() for _ in range(3)]
        self.assertEqual(["unreachable", "unreachable", "healthy"], verdicts)
        self.assertEqual(
            [
                ("unknown", "healthy"),
                ("healthy", "suspect"),
                ("suspect", "unreachable"),
                ("unreachable", "healthy"),
            ],
            self.told(),
        )
        self.assertEqual("unknown", self.verdict("cloud2"))

    def test_a_miss_now_and_then(self):
        self.look()
        for _ in range(4):
            self.heats["cloud1"].fault("refuse")
            self.assertEqual("suspect", self.look(2))
            self.heats["cloud1"].heal()
            self.assertEqual("healthy", self.look())

    def test_every_way_not_to_answer(self):
        for fault in ("refuse", "hang", "lose", "unavailable"):
            self.look(3)
            self.heats["cloud1"].fault(fault)
            self.assertEqual("unreachable", self.look(3), fault)
            self.assertEqual("unreachable", self.reading().outcome)
            self.heats["cloud1"].heal()

    def test_what_answers_is_never_unreachable(self):
        for fault, verdict in (
            ("forbidden", "refusing"),
            ("unauthorized", "refusing"),
            ("error", "suspect"),
            ("conflict", "suspect"),
            ("garbage", "suspect"),
            ("not_found", "suspect"),
            ("elsewhere", "suspect"),
        ):
            self.look(3)
            self.heats["cloud1"].fault(fault)
            self.assertEqual(verdict, self.look(), fault)
            self.assertEqual(verdict, self.look(9), fault)
            self.heats["cloud1"].heal()
        self.assertNotIn("unreachable", [after for _, after in self.told()])

    def test_revoked_tokens_are_no_matter(self):
        self.look()
        self.world.keystone.revoke()
        self.assertEqual("healthy", self.look())

    def test_an_address_that_never_answered(self):
        self.heats["cloud1"].fault("refuse")
        self.assertEqual("unknown", self.look(5))
        self.assertIn("never seen yet", self.world.cloud("cloud1").verdict_reason)

    def test_no_entry_in_clouds_yaml(self):
        cloud = self.world.cloud("cloud1")
        db_clouds.update_cloud(self.world.ctx, cloud.id, {"config_cloud": "nowhere"})
        self.assertEqual("refusing", self.look())
        self.assertIn("no entry 'nowhere'", self.world.cloud("cloud1").verdict_reason)

    def test_the_evidence_is_kept(self):
        self.look()
        self.heats["cloud1"].fault("refuse")
        self.look(3)
        event = db_events.list_events(self.world.ctx, None, type="cloud.verdict", limit=1)[0]
        self.assertEqual("cloud1", event.cloud_name)
        self.assertIn("is unreachable (was suspect): 3 or more misses in a row", event.message)
        self.assertEqual("missed", event.evidence["rule"])
        self.assertEqual("missed", self.world.cloud("cloud1").verdict_rule)
        evidence = event.evidence["votes"]["host"]
        self.assertEqual(
            ("unreachable", 3, 0), tuple(evidence[k] for k in ("outcome", "misses", "goods"))
        )
        self.assertIn("Heat cannot be reached", evidence["detail"])
        self.assertEqual(self.reading().observed_at.isoformat(), evidence["observed_at"])

    def test_a_pause_breaks_a_row_of_misses(self):
        """Two misses before an engine was stopped and one after are no three in a row."""
        self.look()
        self.heats["cloud1"].fault("refuse")
        self.look(2)
        self.clock.advance(self.world.probing.fresh_for + 1)
        self.assertEqual("suspect", self.look())
        self.assertEqual("suspect", self.look())
        self.assertEqual("unreachable", self.look())

    def test_looks_at_work_under_way_are_no_misses_in_a_row(self):
        """While something is made there, a cloud is looked at more often than it is probed."""
        self.look()
        self.heats["cloud1"].fault("refuse")
        for _ in range(8):
            self.engine.look("cloud1")
            self.clock.advance(0.1)
        self.assertEqual(("suspect", 1), (self.verdict(), self.reading().misses))
        self.assertEqual("unreachable", self.look(2))

    def test_a_process_that_stood_still_tells_old_news(self):
        """Frozen between the answer of the cloud and the database, it has not just now seen it."""
        self.look()
        self.heats["cloud1"].fault("refuse")
        self.look(2)

        def freeze(when, what):
            if (when, what) == ("before", "record_observation"):
                self.clock.advance(60)

        with self.world.watched(freeze):
            self.engine.look("cloud1")
        self.assertEqual("suspect", self.verdict())
        age = self.clock.now() - self.reading().observed_at
        self.assertGreater(age.total_seconds(), 59)

    def test_an_observer_that_loses_its_network_abstains(self):
        doubt = []
        self.engine = self.world.engine("engine1", doubt=lambda: "".join(doubt))
        self.engine.look()
        doubt.append("no route")
        for name in self.heats:
            self.heats[name].fault("refuse")
        for _ in range(5):
            # The first look counts: until the second one more than half of the clouds answer.
            self.engine.look("cloud1", "cloud2")
            self.clock.advance(1)
        for name in self.heats:
            self.assertIn(self.verdict(name), ("healthy", "suspect"), name)
            self.assertEqual("no route", self.reading(name).abstains)
        # Its network is back, and the clouds are gone all the same.
        doubt.clear()
        for _ in range(3):
            self.engine.look("cloud1", "cloud2")
            self.clock.advance(1)
        self.assertEqual("unreachable", self.verdict())

    def test_one_cloud_of_several_is_no_reason_to_ask_around(self):
        asked = []
        self.engine = self.world.engine("engine1", doubt=lambda: asked.append("") or "no route")
        self.engine.look()
        self.heats["cloud1"].fault("refuse")
        self.assertEqual("unreachable", self.look(3))
        self.assertEqual([], asked)

    def vote(self, observer, outcome):
        """What another observer says of cloud1."""
        db_clouds.record_observation(
            self.world.ctx,
            self.world.cloud("cloud1").id,
            observer,
            outcome=outcome,
            detail="it said so",
            latency_ms=1,
            miss=outcome == "unreachable",
            good=outcome == "ok",
            fresh_for=100,
        )

    def test_an_observer_that_is_cut_off_moves_nothing(self):
        self.look()
        self.heats["cloud1"].fault("refuse")
        for _ in range(5):
            self.vote("host2", "ok")
            self.vote("host3", "ok")
            self.assertEqual("healthy", self.look())
        self.assertEqual([("unknown", "healthy")], self.told())

    def test_two_of_three_observers(self):
        self.look()
        self.vote("host2", "ok")
        self.heats["cloud1"].fault("refuse")
        for expected in ("suspect", "suspect", "unreachable"):
            self.vote("host2", "unreachable")
            self.vote("host3", "ok")
            self.assertEqual(expected, self.look())

    def test_an_observer_that_went_away_has_no_vote(self):
        self.vote("host2", "ok")
        self.vote("host3", "ok")
        self.look()
        self.heats["cloud1"].fault("refuse")
        self.clock.advance(self.world.probing.fresh_for)
        self.assertEqual("unreachable", self.look(3))

    def test_two_engines_tell_it_once(self):
        """They judge at the same moment; one of them is first."""
        self.look()
        other = self.world.engine("engine2")
        self.heats["cloud1"].fault("refuse")
        raced = []

        def race(when, what):
            if (when, what) == ("before", "set_verdict") and not raced:
                raced.append(what)
                other.look("cloud1")

        with self.world.watched(race):
            self.look()
        self.assertTrue(raced)
        self.assertEqual([("unknown", "healthy"), ("healthy", "suspect")], self.told())


class TestWaking(world.WorldTest):
    """Which stacks an observer wakes, and what it asks for that."""

    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack()
        self.world.settle(self.web, self.engine)
        self.world.run(self.engine, seconds=3)
        self.engine.nudged.clear()

    def due(self):
        return db_rounds.due_stacks(self.world.ctx, 10)

    def listings(self, name="cloud1"):
        return self.heats[name].asked("GET", "^/stacks$")

    def test_nothing_moved(self):
        for _ in range(3):
            self.engine.look()
        self.assertEqual([], self.engine.nudged)
        self.assertEqual([], self.due())

    def test_somebody_changed_it(self):
        self.world.by_hand("cloud1").resize(9)
        self.engine.look("cloud2", "cloud3")
        self.assertEqual([], self.engine.nudged)
        self.engine.look("cloud1")
        self.assertEqual([self.web], self.engine.nudged)
        self.assertEqual([self.web], self.due())

    def test_somebody_removed_it(self):
        self.heats["cloud1"].seconds = 0
        self.world.by_hand("cloud1").delete()
        self.engine.look()
        self.assertEqual([self.web], self.engine.nudged)

    def test_what_is_known_wakes_nobody(self):
        """A new engine finds everything as the database says."""
        fresh = self.world.engine("engine2")
        fresh.look()
        self.assertEqual([], fresh.nudged)

    def test_what_changed_while_no_engine_ran(self):
        self.world.by_hand("cloud1").resize(9)
        fresh = self.world.engine("engine2")
        fresh.look()
        self.assertEqual([self.web], fresh.nudged)

    def test_what_is_not_ours_wakes_nobody(self):
        self.world.by_hand("cloud1").create(3, name="theirs")
        self.engine.look()
        self.assertEqual([], self.engine.nudged)

    def test_a_verdict_wakes_the_stacks_in_the_cloud(self):
        other = self.world.create_stack("1", name="elsewhere")
        self.world.settle(other, self.engine)
        self.heats["cloud3"].fault("refuse")
        self.engine.look()
        self.assertEqual([self.web], self.due())

    def test_a_nudge_outlives_a_database_that_is_away(self):
        """What was seen to move is told at the next look, if it could not be told at this one."""
        for name in ("members_of_heat_stacks", "nudge_stacks"):
            self.world.by_hand("cloud1").resize(9)

            def away(when, what, name=name):
                if (when, what) == ("before", name):
                    raise RuntimeError("the database went away")

            with self.world.watched(away):
                self.assertRaises(RuntimeError, self.engine.look, "cloud1")
            self.assertEqual([], self.engine.nudged)
            self.engine.look("cloud1")
            self.assertEqual([self.web], self.engine.nudged)
            self.world.settle(self.web, self.engine)
            self.world.run(self.engine, seconds=3)
            self.engine.nudged.clear()

    def test_one_request_a_look(self):
        before = [len(self.heats[name].requests) for name in self.heats]
        self.engine.look()
        after = [len(self.heats[name].requests) for name in self.heats]
        self.assertEqual([n + 1 for n in before], after)

    def test_only_ours_are_asked_for(self):
        self.engine.look()
        self.assertEqual("heat-spreader", self.listings()[-1].query["tags"])
        self.world.by_hand("cloud1").create(3, name="theirs")
        snapshot = self.engine.observer.snapshot(self.world.cloud("cloud1").id)
        self.assertEqual({"web"}, {row.name for row in snapshot.heat_stacks.values()})

    def test_all_are_asked_for_where_some_were_taken_over(self):
        self.world.by_hand("cloud1").create(3, name="theirs")
        self.world.create_stack("1", 3, name="theirs", template=None)
        self.engine.look()
        self.engine.look()  # what the look before has found in the database
        self.assertNotIn("tags", self.listings()[-1].query)
        self.assertIn("tags", self.listings("cloud2")[-1].query)
        snapshot = self.engine.observer.snapshot(self.world.cloud("cloud1").id)
        self.assertEqual({"web", "theirs"}, {row.name for row in snapshot.heat_stacks.values()})


class TestSnapshots(world.WorldTest):
    clouds = ("cloud1",)

    def snapshot(self):
        return self.engine.observer.snapshot(self.cloud.id)

    def setUp(self):
        super().setUp()
        self.cloud = self.world.cloud("cloud1")
        self.engine.look()

    def test_dated_before_it_was_asked_for(self):
        """What is written while a listing is on its way may not be in it."""
        asked = []

        def when_asked(request, proceed):
            asked.append(self.clock.now())
            return proceed()

        self.heats["cloud1"].fault(when_asked)
        before = self.clock.now()
        self.clock.advance(0.01)
        self.engine.look()
        self.assertLess(before, self.snapshot().at)
        self.assertLess(self.snapshot().at, asked[0])

    def test_none_while_the_cloud_does_not_serve(self):
        for fault in ("refuse", "error", "forbidden", "conflict"):
            self.assertIsNotNone(self.snapshot())
            self.heats["cloud1"].fault(fault)
            self.engine.look()
            self.assertIsNone(self.snapshot(), fault)
            self.heats["cloud1"].heal()
            self.engine.look()

    def test_none_after_work_failed_there(self):
        self.engine.observer.hurry(self.cloud.id)
        self.assertIsNotNone(self.snapshot())
        self.engine.observer.hurry(self.cloud.id, doubt=True)
        self.assertIsNone(self.snapshot())
        self.engine.look()
        self.assertIsNotNone(self.snapshot())

    def test_none_for_a_process_that_stood_still(self):
        age = self.engine.observer._settings.trusted_for
        self.clock.advance(0.9 * age)
        self.assertIsNotNone(self.snapshot())
        self.clock.advance(0.2 * age)
        self.assertIsNone(self.snapshot())
        self.engine.look()
        self.assertIsNotNone(self.snapshot())

    def test_unknown_clouds(self):
        self.assertIsNone(self.engine.observer.snapshot("nowhere"))
        self.engine.observer.hurry("nowhere", doubt=True)

    def test_a_cloud_that_was_removed_in_the_meantime(self):
        lane = self.engine.observer._lanes[self.cloud.id]
        db_clouds.delete_cloud(self.world.ctx, self.cloud.id)
        self.engine.observer.observe(self.cloud, lane)
        self.assertEqual(
            {self.cloud.id: []}, db_clouds.list_observations(self.world.ctx, [self.cloud.id])[1]
        )


class TestLanes(base.BaseTestCase):
    """The threads, in real time."""

    def setUp(self):
        super().setUp()
        self.useFixture(spreader_fixtures.Database())
        self.site = self.useFixture(fake_heat.FakeSite("cloud1", "cloud2", sockets=False))
        self.ctx = context.RequestContext(user_id="alice", project_id="p", overwrite=False)
        self.ids = {name: self.register(name) for name in self.site.heats}
        self.nudged = []

    def register(self, name):
        values = {"name": name, "project_id": "p", "kind": "config", "config_cloud": name}
        return db_clouds.create_cloud(self.ctx, values).id

    def observer(self, **settings):
        defaults = {
            "observer": "host",
            "probe_interval": 0.02,
            "probe_timeout": 2.0,
            "progress_interval": 0.01,
            "misses": 3,
            "goods": 3,
        }
        observer = observe.Observer(
            observe.Settings(**defaults | settings),
            clouds.Clouds([self.site.clouds_yaml], transport=self.site.transport),
            lambda ctx, stack_id: self.nudged.append(stack_id),
            lambda cloud, heat_stack, grave: None,
        )
        self.addCleanup(observer.stop)
        return observer

    def until(self, condition):
        for _ in range(1000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("it did not come so within 10 s")

    def looks(self, name):
        return len(self.site.heats[name].requests)

    def test_every_cloud_is_looked_at_again_and_again(self):
        observer = self.observer()
        observer.refresh()
        self.until(lambda: all(self.looks(name) > 2 for name in self.site.heats))
        for cloud_id in self.ids.values():
            self.assertIsNotNone(observer.snapshot(cloud_id))

    def test_a_cloud_that_hangs_delays_no_other(self):
        release = threading.Event()
        self.addCleanup(release.set)

        def hang(request, proceed):
            release.wait(10)
            return proceed()

        self.site.heats["cloud1"].fault(hang)
        observer = self.observer()
        observer.refresh()
        self.until(lambda: self.looks("cloud2") > 5)
        self.assertEqual(1, self.looks("cloud1"))
        self.assertIsNone(observer.snapshot(self.ids["cloud1"]))
        release.set()

    def test_clouds_come_and_go(self):
        observer = self.observer()
        observer.refresh()
        self.until(lambda: self.looks("cloud1") and self.looks("cloud2"))
        db_clouds.delete_cloud(self.ctx, self.ids["cloud1"])
        observer.refresh()
        self.assertIsNone(observer.snapshot(self.ids["cloud1"]))
        name = f"observe-{self.ids['cloud1']}"
        self.until(lambda: name not in [thread.name for thread in threading.enumerate()])
        again = self.register("cloud1")
        observer.refresh()
        self.until(lambda: observer.snapshot(again) is not None)

    def test_hurry(self):
        observer = self.observer(probe_interval=60.0)
        observer.refresh()
        self.until(lambda: observer.snapshot(self.ids["cloud1"]) is not None)
        seen = self.looks("cloud1")
        observer.hurry(self.ids["cloud1"])
        self.until(lambda: self.looks("cloud1") > seen)

    def test_hurry_is_not_more_often_than_the_progress_interval(self):
        observer = self.observer(probe_interval=60.0, progress_interval=0.1)
        started = time.monotonic()
        observer.refresh()

        def third_look():
            observer.hurry(self.ids["cloud1"])
            return self.looks("cloud1") >= 3

        self.until(third_look)
        self.assertGreaterEqual(time.monotonic() - started, 0.2)

    def test_a_changed_cloud_is_looked_at_at_once(self):
        observer = self.observer(probe_interval=60.0)
        observer.refresh()
        self.until(lambda: observer.snapshot(self.ids["cloud1"]) is not None)
        db_clouds.update_cloud(self.ctx, self.ids["cloud1"], {"config_cloud": "nowhere"})
        observer.refresh()
        self.until(lambda: observer.snapshot(self.ids["cloud1"]) is None)

    def test_a_lane_outlives_a_database_that_is_away(self):
        observer = self.observer()
        away = []

        def get_cloud(*args):
            away.append(args)
            raise RuntimeError("the database went away")

        with fixtures.MonkeyPatch("heat_spreader.db.clouds.get_cloud", get_cloud):
            observer.refresh()
            self.until(lambda: len(away) > 4)
        self.until(lambda: observer.snapshot(self.ids["cloud1"]) is not None)

    def test_stop(self):
        observer = self.observer(probe_interval=60.0)
        observer.refresh()
        self.until(lambda: self.looks("cloud1") and self.looks("cloud2"))
        started = time.monotonic()
        observer.stop()
        self.assertLess(time.monotonic() - started, 10, "a probe interval is not waited for")
        self.assertEqual(
            [], [t.name for t in threading.enumerate() if t.name.startswith("observe-")]
        )

    def test_stop_does_not_wait_for_a_cloud_that_hangs(self):
        release = threading.Event()
        self.addCleanup(release.set)
        asked = threading.Event()

        def hang(request, proceed):
            asked.set()
            release.wait(10)
            return proceed()

        self.site.heats["cloud1"].fault(hang)
        observer = self.observer(probe_timeout=0.1)
        observer.refresh()
        self.assertTrue(asked.wait(10))
        started = time.monotonic()
        observer.stop()
        self.assertLess(time.monotonic() - started, 5)
