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
"""Outages of clouds and of those who look at them: whole rounds against fake Heats.

What is asserted is what the Heats hold afterwards, and what an operator is told.
"""

import dataclasses
import datetime
import itertools

from heat_spreader.db import brakes as db_brakes
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import events as db_events
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests import fake_heat
from heat_spreader.tests.unit.engine import world


class OutageTest(world.WorldTest):
    """Five clouds of which each holds two units."""

    clouds = ("cloud1", "cloud2", "cloud3", "cloud4", "cloud5")
    weights = ".2 .2 .2 .2 .2"
    units = (2, 2, 2, 2, 2)
    toleration, stable = 3, 4

    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack(
            self.weights, toleration=self.toleration, stable=self.stable
        )
        self.world.settle(self.web, self.engine)
        self.assertEqual(self.units, self.world.units())
        self.writes = len(self.asked())

    def asked(self):
        return self.world.asked("POST", "PATCH", "DELETE")

    def cut(self, *numbers):
        for number in numbers:
            self.heats[f"cloud{number}"].fault("refuse")

    def mend(self, *numbers):
        for number in numbers:
            self.heats[f"cloud{number}"].heal()

    def run_for(self, seconds, *engines):
        self.world.run(*(engines or (self.engine,)), seconds=seconds)

    def told(self, type):
        found = db_events.list_events(self.world.ctx, None, type=type, limit=100)
        return [event.message for event in reversed(found)]

    def held(self):
        """The brakes that are on, with their clouds."""
        on = db_brakes.list_brakes(self.world.ctx).values()
        names = {self.world.cloud(name).id: name for name in self.heats}
        return {b.scope: {names[cloud] for cloud in b.clouds} for b in on if b.engaged_at}


class TestBrake(OutageTest):
    def test_three_of_five_vanish(self):
        self.cut(1, 2, 3)
        self.run_for(60)
        self.assertEqual(self.writes, len(self.asked()))
        self.assertEqual(self.units, self.world.units())
        self.assertEqual({"": {"cloud1", "cloud2", "cloud3"}}, self.held())
        [said] = self.told("brake.engaged")
        self.assertIn("3 of 5 clouds went away at once ('cloud1', 'cloud2', 'cloud3')", said)
        stack = self.world.row(self.web)
        self.assertEqual("DEGRADED", stack.status)
        self.assertIn("The brake is on", stack.status_reason)
        # One more does not make it lapse.
        self.cut(4)
        self.run_for(30)
        self.assertEqual(self.writes, len(self.asked()))
        self.assertEqual(1, len(self.told("brake.engaged")))
        self.assertEqual(4, len(self.held()[""]))

    def test_forced(self):
        self.cut(1, 2, 3)
        self.run_for(20)
        db_stacks.force_failover(self.world.ctx, self.web)
        self.world.until(lambda: self.world.units() == (2, 2, 2, 5, 5), self.engine)
        self.assertEqual(
            ["Failover forced: cloud1, cloud2, cloud3 unreachable at this time."],
            self.told("stack.force-failover"),
        )
        # Another one that goes away meanwhile was not meant.
        self.cut(4)
        self.run_for(30)
        self.assertEqual((2, 2, 2, 5, 5), self.world.units())

    def test_two_of_five_move(self):
        self.cut(1, 2)
        self.world.until(lambda: self.world.units()[2:] != (2, 2, 2), self.engine)
        self.assertEqual(10, sum(self.world.units()[2:]) + self.moving())
        self.assertEqual({}, self.held())

    def moving(self):
        self.run_for(5)
        return 10 - sum(self.world.units()[2:])

    def test_two_that_are_back_release_it(self):
        self.cut(1, 2, 3)
        self.run_for(20)
        self.mend(1, 2)
        self.world.until(lambda: not self.held(), self.engine)
        self.assertEqual(1, len(self.told("brake.released")))
        # The third is waited for once more, and then it is replaced.
        self.run_for(self.toleration - 1)
        self.assertEqual(self.units, self.world.units())
        self.world.until(
            lambda: sum(u for i, u in enumerate(self.world.units()) if i != 2) == 10, self.engine
        )

    def test_what_a_user_wants_more_is_raised(self):
        self.cut(1, 2, 3)
        self.run_for(20)
        self.world.change(self.web, count=14)
        self.world.until(lambda: self.world.units() == (2, 2, 2, 4, 4), self.engine)
        self.world.change(self.web, count=8)
        self.run_for(20)
        self.assertEqual((2, 2, 2, 4, 4), self.world.units())

    def test_an_engine_that_starts_anew_keeps_it(self):
        self.cut(1, 2, 3)
        self.run_for(20)
        other = self.world.engine("engine2")
        self.run_for(60, other)
        self.assertEqual(self.writes, len(self.asked()))
        self.assertEqual(1, len(self.told("brake.engaged")))

    def test_two_engines_that_judge_at_once_see_each_other(self):
        """Each of them learns of one outage; together they are three."""
        self.cut(1, 2, 3)
        self.run_for(2)
        self.engine.look("cloud1")
        other = self.world.engine("engine2")
        raced = []

        def race(when, what):
            if (when, what) == ("before", "set_verdict") and not raced:
                raced.append(what)
                other.look("cloud3")

        with self.world.watched(race):
            self.engine.look("cloud2")
        self.assertTrue(raced)
        self.assertEqual(3, len(self.held()[""]))

    def test_a_removed_cloud(self):
        """Who takes a cloud that is gone out of the service, takes it out of the count."""
        self.world.leave(self.web, "cloud1")
        self.world.settle(self.web, self.engine)
        self.cut(1, 2, 3)
        self.run_for(20)
        self.assertTrue(self.held())
        db_clouds.delete_cloud(self.world.ctx, self.world.cloud("cloud1").id)
        self.engine.observer.refresh()
        on = db_brakes.list_brakes(self.world.ctx)[""]
        self.assertIsNone(on.engaged_at)

    def test_lost_clouds_do_not_hold_it_on(self):
        """Who declares them lost knows more than those who look."""
        self.cut(1, 2, 3)
        self.run_for(20)
        for number in (1, 2, 3):
            cloud = self.world.cloud(f"cloud{number}")
            db_clouds.update_cloud(self.world.ctx, cloud.id, {"lost": True})
        self.engine.observer.refresh()
        self.assertEqual({}, self.held())
        self.world.until(lambda: self.world.units()[3:] == (5, 5), self.engine)
        self.run_for(5)
        ledger = self.world.row(self.web).ledger
        self.assertEqual((10, 0, 10), tuple(ledger[k] for k in ("confirmed", "in_doubt", "bound")))


class TestWitnesses(world.WorldTest):
    """Three hosts in three zones look at three clouds."""

    def setUp(self):
        super().setUp()
        self.engines = [
            self.world.engine(
                f"engine{n}", host=f"host{n}", zone=f"zone{n}", connections=self.world.connect()
            )
            for n in (1, 2, 3)
        ]
        self.web = self.world.create_stack()
        self.world.settle(self.web, *self.engines)
        self.before, self.looking = self.written(), 1

    def written(self):
        return len(self.world.asked("POST", "PATCH", "DELETE"))

    def cut_off(self, *hosts, cloud="cloud3"):
        """These hosts do not reach the cloud; the others do."""

        def fault(request, proceed):
            if self.looking in hosts:
                raise fake_heat.HangUp
            return proceed()

        self.heats[cloud].fault(fault)

    def run_for(self, seconds):
        for _ in range(seconds):
            for number, engine in enumerate(self.engines, 1):
                self.looking = number
                engine.work()
            self.clock.advance(1)

    def test_one_of_them_is_cut_off(self):
        for cloud in self.heats:
            self.cut_off(2, cloud=cloud)
        self.run_for(60)
        self.assertEqual(self.before, self.written())
        self.assertEqual("healthy", self.world.cloud("cloud3").verdict)
        # Also where it is the one that has the stack at hand.
        statuses = [event.after for event in self.world.events(self.web, "stack.status")]
        self.world.change(self.web, count=11)
        self.run_for(20)
        self.assertEqual(11, sum(self.world.units()))
        self.assertEqual("ACTIVE", self.world.row(self.web).status)
        self.assertNotIn("DEGRADED", statuses)

    def test_an_engine_that_is_cut_off_says_nothing_new_of_a_stack(self):
        self.cut_off(2)
        events = len(self.world.events(self.web))
        for _ in range(5):
            self.looking = 2
            self.engines[1].look()
            self.engines[1].reconcile(self.web)
            self.clock.advance(1)
        self.assertEqual("ACTIVE", self.world.row(self.web).status)
        self.assertEqual(events, len(self.world.events(self.web)))

    def test_two_of_them_are_enough(self):
        self.cut_off(2, 3)
        self.run_for(20)
        self.assertEqual("unreachable", self.world.cloud("cloud3").verdict)
        self.assertEqual((7, 3), self.world.units()[:2])

    def test_two_of_one_zone_are_not(self):
        self.engines[2].observer._settings = dataclasses.replace(
            self.engines[2].observer._settings, zone="zone2"
        )
        self.cut_off(2, 3)
        self.run_for(60)
        self.assertEqual("suspect", self.world.cloud("cloud3").verdict)
        self.assertEqual(self.before, self.written())


class TestPlanned(world.WorldTest):
    """Cordon, drain and loss: what an operator says of a cloud."""

    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack()
        self.world.settle(self.web, self.engine)

    def plan(self, name="cloud3", **changes):
        db_clouds.update_cloud(self.world.ctx, self.world.cloud(name).id, changes)

    def units_in(self, name="cloud3"):
        cloud = self.world.cloud(name)
        return db_clouds.count_use(self.world.ctx, [cloud.id])[cloud.id].units

    def test_drain_and_undrain_under_load(self):
        """The count is met at every moment, whatever a user asks for meanwhile."""
        for heat in self.heats.values():
            heat.seconds = 2.5
        confirmed, counts = [], iter((12, 9, 15, 10))

        def watch(wanted):
            ledger = self.world.row(self.web).ledger
            confirmed.append((ledger["confirmed"], ledger["desired"]))
            return self.world.units() == wanted and self.world.at_rest(self.web)

        self.plan(draining=True)
        self.world.until(lambda: watch((7, 3, 0)), self.engine)
        self.assertEqual(0, self.units_in())
        self.plan(draining=False)
        self.world.until(lambda: watch((6, 2, 2)), self.engine)
        self.assertEqual(2, self.units_in())
        self.assertEqual([], [c for c in confirmed if c[0] < 10])
        for count in counts:
            least = min(count, sum(self.world.units()))
            self.world.change(self.web, count=count)
            self.plan(draining=count % 2 == 0)
            confirmed.clear()
            self.world.until(lambda: watch(self.world.units()), self.engine)
            self.assertEqual([], [c for c in confirmed if c[0] < least], count)

    def test_cordon(self):
        self.plan(cordoned=True)
        self.world.change(self.web, count=20)
        self.world.settle(self.web, self.engine)
        self.assertEqual(2, self.world.units()[2])
        self.plan(cordoned=False)
        self.world.until(lambda: self.world.units() == (12, 4, 4), self.engine)

    def test_it_ends_by_itself(self):
        end = self.clock.now() + datetime.timedelta(seconds=30)
        self.plan(draining=True, draining_until=end)
        self.plan("cloud1", cordoned=True, cordoned_until=end)
        self.world.until(lambda: self.world.units()[2] == 0, self.engine)
        self.engine.observer.refresh()
        self.assertTrue(self.world.cloud("cloud3").draining)
        self.clock.advance(30)
        other = self.world.engine("engine2")
        for engine in (self.engine, other):
            engine.observer.refresh()
        self.assertFalse(self.world.cloud("cloud3").draining)
        self.assertFalse(self.world.cloud("cloud1").cordoned)
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        for kind in ("cordoned", "draining"):
            found = db_events.list_events(self.world.ctx, None, type=f"cloud.{kind}.end", limit=10)
            self.assertEqual(1, len(found))

    def test_lost_ends_floors(self):
        self.world.change(self.web, failover_rule="proportional")
        self.world.settle(self.web, self.engine)
        self.heats["cloud3"].fault("refuse")
        self.world.until(lambda: self.world.units()[:2] == (8, 2), self.engine)
        self.assertEqual(6, self.world.members(self.web)["cloud1"].floor)
        self.plan(lost=True)
        self.assertIsNone(self.world.members(self.web)["cloud1"].floor)
        # What is done for a cloud that is lost needs no answer of it.
        self.world.change(self.web, deleting=True)
        self.world.until(lambda: self.world.stack(self.web) is None, self.engine)
        events = self.world.events(self.web, "member.forgotten")
        self.assertEqual(["cloud3"], [event.cloud_name for event in events])


class TestReturn(world.WorldTest):
    toleration, stable = 3, 8

    def setUp(self):
        super().setUp()
        self.web = self.make()

    def make(self, name="web", **more):
        web = self.world.create_stack(
            name=name, toleration=self.toleration, stable=self.stable, **more
        )
        self.world.settle(web, self.engine)
        return web

    def cut(self):
        self.heats["cloud3"].fault("refuse")

    def mend(self):
        self.heats["cloud3"].heal()

    def is_out(self, web=None):
        return self.world.members(web or self.web)["cloud3"].out_since is not None

    def fail_over(self, *engines):
        engines = engines or (self.engine,)
        self.cut()
        self.world.until(lambda: self.world.units()[:2] == (7, 3), *engines)
        self.mend()
        cloud = self.world.cloud("cloud3")
        return (
            self.world.until(lambda: self.world.cloud("cloud3").verdict == "healthy", *engines)
            and cloud.relapses
        )

    def test_each_relapse_makes_it_wait_longer(self):
        """Over restarts of the engine, too: what happened before is in the database."""
        waited = []
        for _ in range(3):
            self.fail_over(self.world.engine("next"))
            waited.append(
                self.world.until(lambda: not self.is_out(), self.world.engine("and next"))
            )
            self.world.settle(self.web, self.engine)
        self.assertEqual(2, self.world.cloud("cloud3").relapses)
        for seconds, expected in zip(waited, (8, 16, 32), strict=True):
            self.assertTrue(expected - 3 <= seconds <= expected + 2, waited)

    def test_after_a_long_time_it_is_well_again(self):
        self.fail_over()
        self.world.until(lambda: not self.is_out(), self.engine)
        self.clock.advance(3601)
        self.world.settle(self.web, self.engine)
        self.fail_over()
        self.assertEqual(0, self.world.cloud("cloud3").relapses)

    def test_a_cloud_that_comes_and_goes(self):
        """Once its units have been replaced they stay so, however often it seems to be back."""
        for _ in range(12):
            self.cut()
            self.world.run(self.engine, seconds=9)
            self.mend()
            self.world.run(self.engine, seconds=9)
        self.assertEqual(1, len(self.world.events(self.web, "stack.failover")))
        self.assertEqual([], self.world.events(self.web, "stack.failback"))
        self.assertEqual((7, 3), self.world.units()[:2])

    def test_each_move_tells_what_it_rested_on(self):
        self.fail_over()
        events = self.world.events(self.web, "member.resize")
        evidence = next(event.evidence for event in events if event.cloud_name == "cloud1")
        self.assertIn("weight 0.7 of 10, 0.1 of it from clouds out of sight", evidence["reason"])
        self.assertEqual(["cloud3"], [*evidence["clouds"]])
        self.assertEqual("unreachable", evidence["clouds"]["cloud3"]["verdict"])
        self.assertEqual("missed", evidence["clouds"]["cloud3"]["rule"])
        [event] = self.world.events(self.web, "stack.failover")
        self.assertLess(event.evidence["missed_since"], event.evidence["since"])

    def test_by_hand(self):
        self.world.change(self.web, failback_mode="manual")
        self.fail_over()
        self.world.run(self.engine, seconds=60)
        self.assertTrue(self.is_out())
        self.assertIn("say failback", self.world.members(self.web)["cloud3"].status_reason)
        db_stacks.failback(self.world.ctx, self.web)
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.assertFalse(self.world.members(self.web)["cloud3"].recalled)
        [event] = self.world.events(self.web, "stack.recall")
        self.assertEqual("Failback asked for: cloud3 healthy again at this time.", event.message)

    def test_what_is_away_is_not_recalled(self):
        self.world.change(self.web, failback_mode="manual")
        self.cut()
        self.world.until(lambda: self.is_out(), self.engine)
        db_stacks.failback(self.world.ctx, self.web)
        self.mend()
        self.world.run(self.engine, seconds=30)
        self.assertTrue(self.is_out())
        # It was back when a user said so, and then it went away before anybody acted.
        db_stacks.failback(self.world.ctx, self.web)
        self.assertTrue(self.world.members(self.web)["cloud3"].recalled)
        self.cut()
        self.engine.look("cloud3")
        self.world.until(lambda: self.world.cloud("cloud3").verdict == "unreachable", self.engine)
        self.mend()
        self.world.run(self.engine, seconds=30)
        self.assertTrue(self.is_out())

    def test_in_batches(self):
        """Never fewer units than before, and no more than a batch at a time on the way."""
        many = self.make("many", count=40, failback_batch=3)
        self.cut()
        self.world.until(lambda: self.is_out(many), self.engine)
        self.world.settle(many, self.engine)
        [lost] = [m for m in self.heats["cloud3"].live() if m.name == "many"]
        self.heats["cloud3"].stacks.pop(lost.id, None)
        self.mend()
        seen = []

        def watch():
            now = self.world.units("many")
            if not seen or seen[-1] != now:
                seen.append(now)
            return now == (24, 8, 8)

        self.world.until(watch, self.engine, limit=300)
        for before, after in itertools.pairwise(seen):
            self.assertGreaterEqual(sum(u or 0 for u in after), 40, seen)
            self.assertLessEqual((after[2] or 0) - (before[2] or 0), 3, seen)


class TestFewClouds(world.WorldTest):
    """What the brake must not stop: it counts clouds, and two are not many."""

    def lose(self, *names):
        web = self.world.create_stack()
        self.world.settle(web, self.engine)
        for name in names:
            self.heats[name].fault("refuse")
        left = [i for i, name in enumerate(self.heats) if name not in names]
        self.world.until(lambda: sum(self.world.units()[i] or 0 for i in left) == 10, self.engine)
        found = db_events.list_events(self.world.ctx, None, type="brake.engaged", limit=10)
        self.assertEqual([], found)

    def test_the_one_that_carries_most(self):
        self.lose("cloud1")

    def test_two_of_three(self):
        self.lose("cloud1", "cloud2")


class TestRestart(world.WorldTest):
    """All engines begin anew in the middle of an outage."""

    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack(toleration=10)
        self.world.settle(self.web, self.engine)
        self.writes = len(self.world.asked("POST", "PATCH", "DELETE"))

    def written(self):
        return len(self.world.asked("POST", "PATCH", "DELETE")) - self.writes

    def test_at_any_moment_of_it(self):
        """It moves when it would have moved, and not because somebody was cold."""
        for looks in range(8):
            heat = self.heats["cloud3"]
            heat.fault("refuse")
            self.world.run(self.engine, seconds=looks)
            verdict = self.world.cloud("cloud3").verdict
            fresh = self.world.engine(f"fresh{looks}")
            fresh.work()
            self.assertEqual(0, self.written(), looks)
            if verdict == "unreachable":
                self.assertEqual("unreachable", self.world.cloud("cloud3").verdict)
            heat.heal()
            self.world.run(fresh, seconds=8)
            self.assertEqual(0, self.written(), looks)
            self.engine = fresh

    def test_it_goes_on_where_it_was(self):
        self.heats["cloud3"].fault("refuse")
        self.world.run(self.engine, seconds=8)
        self.assertEqual("unreachable", self.world.cloud("cloud3").verdict)
        fresh = self.world.engine("fresh")
        took = self.world.until(lambda: self.world.units()[:2] == (7, 3), fresh)
        # Of the ten seconds that are tolerated some were over.
        self.assertLess(took, 9)

    def test_new_hosts_that_have_never_seen_the_cloud(self):
        """With nobody left who knew it, nobody can tell an outage from a firewall."""
        self.heats["cloud3"].fault("refuse")
        self.clock.advance(self.world.probing.fresh_for + 1)
        cold = [self.world.engine(f"cold{n}", host=f"cold{n}") for n in (1, 2)]
        self.world.run(*cold, seconds=60)
        self.assertEqual("unknown", self.world.cloud("cloud3").verdict)
        self.assertEqual(0, self.written())
        self.heats["cloud3"].heal()
        self.world.run(*cold, seconds=3)
        self.assertEqual("healthy", self.world.cloud("cloud3").verdict)
        self.heats["cloud3"].fault("refuse")
        self.world.until(lambda: self.world.units()[:2] == (7, 3), *cold)


class TestFlapping(world.WorldTest):
    """With the times of a real site: a probe each ten seconds, one minute tolerated, five stable."""

    def test_an_hour(self):
        self.world.probing = dataclasses.replace(
            self.world.probing, probe_interval=10.0, probe_timeout=5.0
        )
        engine = self.world.engine("real")
        engine.reconciler._settings = dataclasses.replace(
            engine.reconciler._settings, stable_ceiling=900
        )
        web = self.world.create_stack(toleration=60, stable=300)
        self.world.until(lambda: self.world.at_rest(web), engine, step=10)

        def pass_by(seconds):
            for second in range(0, seconds, 10):
                # The others are not what this is about: often enough to be known to be well.
                engine.look("cloud3", *(["cloud1", "cloud2"] if second % 30 == 0 else []))
                engine.sweep()
                self.clock.advance(10)

        for _ in range(20):
            self.heats["cloud3"].fault("refuse")
            pass_by(90)
            self.heats["cloud3"].heal()
            pass_by(90)
        self.assertLessEqual(len(self.world.events(web, "stack.failover")), 1)
        self.assertEqual([], self.world.events(web, "stack.failback"))
        fewest, waited = 10, 0
        while self.world.units() != (6, 2, 2) or not self.world.at_rest(web):
            pass_by(30)
            waited += 30
            fewest = min(fewest, self.world.row(web).ledger["confirmed"])
            self.assertLess(waited, 2000)
        self.assertEqual(10, fewest)
        # It had relapsed so often that the window was at its ceiling.
        self.assertGreater(waited, 700)


class TestWhatIsNoOutage(world.WorldTest):
    """It answers, so its units run: for an hour nothing is moved, and afterwards nothing has to be."""

    def test_an_hour(self):
        self.world.probing = dataclasses.replace(
            self.world.probing, probe_interval=10.0, probe_timeout=5.0
        )
        engine = self.world.engine("real")
        web = self.world.create_stack(toleration=60)
        self.world.until(lambda: self.world.at_rest(web), engine, step=10)
        before = len(self.world.asked("POST", "PATCH", "DELETE"))
        for fault, verdict in (
            ("unauthorized", "refusing"),
            ("forbidden", "refusing"),
            ("conflict", "suspect"),
            ("error", "suspect"),
        ):
            self.heats["cloud3"].fault(fault)
            for second in range(0, 3600, 10):
                # The others are not what this is about: often enough to be known to be well.
                engine.look("cloud3", *(["cloud1", "cloud2"] if second % 30 == 0 else []))
                engine.sweep()
                self.clock.advance(10)
            self.assertEqual(verdict, self.world.cloud("cloud3").verdict)
            self.heats["cloud3"].heal()
            self.world.run(engine, seconds=60, step=10)
            self.assertEqual("ACTIVE", self.world.row(web).status)
        self.assertEqual(before, len(self.world.asked("POST", "PATCH", "DELETE")))
        self.assertEqual([], self.world.events(web, "stack.failover"))


class TestNoToleration(OutageTest):
    toleration = 0

    def test_three_of_five_vanish(self):
        """The first one is judged when the others are only suspect."""
        self.cut(1, 2, 3)
        self.run_for(1)
        for number in (1, 1, 2, 3):
            self.engine.look(f"cloud{number}")
            self.clock.advance(1)
            self.engine.sweep()
        self.assertEqual("unreachable", self.world.cloud("cloud1").verdict)
        self.assertEqual("suspect", self.world.cloud("cloud2").verdict)
        self.run_for(30)
        self.assertEqual(self.writes, len(self.asked()))
        self.assertEqual(3, len(self.held()[""]))

    def test_one_of_five_moves_at_once(self):
        self.cut(1)
        self.run_for(4)
        self.assertEqual(10, sum(self.world.units()[1:]))

    def test_others_that_are_only_suspect_for_a_moment(self):
        self.cut(1, 2, 3)
        self.run_for(2)
        self.mend(2, 3)
        self.world.until(lambda: sum(self.world.units()[1:]) == 10, self.engine, limit=20)
        self.assertEqual([], self.told("brake.engaged"))
