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

"""Clouds: who sees which, what is in use, what observers saw of them, and the verdict."""

import datetime

from heat_spreader import exception
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import rounds as db_rounds
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each


class TestClouds(backends.DatabaseTestCase):
    def names(self, project, **more):
        return [row.name for row in db_clouds.list_clouds(self.ctx, project, **more)]

    def test_a_new_cloud(self):
        cloud = self.cloud("east", region="R1", config_cloud="east")
        for row in (cloud, db_clouds.get_cloud(self.ctx, cloud.id, "green")):
            self.assertEqual(("unknown", None), (row.verdict, row.verdict_since))
            self.assertEqual((False, False, False), (row.shared, row.cordoned, row.draining))
            self.assertEqual(
                ("east", "R1", "green"), (row.config_cloud, row.region, row.project_id)
            )
            self.assertEqual(row.created_at, row.updated_at)
        self.assertEqual(["cloud.create"], [event.type for event in self.events()])

    def test_a_name_is_taken_once_in_a_project(self):
        self.cloud("east")
        self.assertRaises(exception.CloudExists, self.cloud, "east")
        self.cloud("EAST")
        self.cloud("east", "blue")
        self.assertEqual(["EAST", "east", "east"], self.names(None))

    def test_a_project_sees_its_own_and_the_shared_ones(self):
        own, shared = self.cloud("own"), self.cloud("shared", "admin", shared=True)
        hidden = self.cloud("hidden", "blue")
        self.assertEqual(["own", "shared"], self.names("green"))
        for cloud in (own, shared):
            for reference in (cloud.id, cloud.name):
                self.assertEqual(
                    cloud.id, db_clouds.get_cloud(self.ctx, reference, "green").id, reference
                )
        for reference in (hidden.id, hidden.name, "nothing", "OWN"):
            self.assertRaises(
                exception.CloudNotFound, db_clouds.get_cloud, self.ctx, reference, "green"
            )
            self.assertRaises(
                exception.CloudNotFound, self.names, "green", limit=1, marker=reference
            )
        self.assertEqual(hidden.id, db_clouds.get_cloud(self.ctx, "hidden", None).id)

    def test_its_own_hides_a_shared_one_of_the_same_name(self):
        shared = self.cloud("east", "admin", shared=True)
        self.assertEqual(shared.id, db_clouds.get_cloud(self.ctx, "east", "green").id)
        own = self.cloud("east")
        self.assertEqual(own.id, db_clouds.get_cloud(self.ctx, "east", "green").id)
        self.assertEqual(shared.id, db_clouds.get_cloud(self.ctx, shared.id, "green").id)
        self.assertRaises(exception.AmbiguousName, db_clouds.get_cloud, self.ctx, "east", None)

    def test_two_shared_ones_of_one_name_need_an_id(self):
        one, two = (self.cloud("east", project, shared=True) for project in ("red", "blue"))
        self.assertRaises(exception.AmbiguousName, db_clouds.get_cloud, self.ctx, "east", "green")
        self.assertEqual(one.id, db_clouds.get_cloud(self.ctx, "east", "red").id)
        self.assertEqual(two.id, db_clouds.get_cloud(self.ctx, two.id, "green").id)

    def test_an_id_goes_before_a_name(self):
        east = self.cloud("east")
        self.cloud(east.id)
        self.assertEqual("east", db_clouds.get_cloud(self.ctx, east.id, "green").name)

    def test_filters_and_pages(self):
        for name in ("c", "a", "e", "b", "d"):
            self.cloud(name)
        self.assertEqual(["b"], self.names("green", name="b"))
        self.assertEqual([], self.names("green", name="B"))
        self.assertEqual([], self.names("green", verdict="healthy"))
        self.assertEqual(5, len(self.names("green", verdict="unknown")))
        paged, marker = [], None
        while page := db_clouds.list_clouds(self.ctx, "green", limit=2, marker=marker):
            paged += [row.name for row in page]
            marker = page[-1].id
        self.assertEqual(["a", "b", "c", "d", "e"], paged)

    def test_a_change_wakes_the_stacks_in_it(self):
        east, west = self.cloud("east"), self.cloud("west")
        here, there = self.stack("here", [east]), self.stack("there", [west])
        for stack in (here, there):
            self.save(self.claim(stack))
        changed = db_clouds.update_cloud(self.ctx, east.id, {"draining": True, "description": "x"})
        for row in (changed, db_clouds.get_cloud(self.ctx, east.id, None)):
            self.assertTrue(row.draining)
            self.assertGreater(row.updated_at, east.updated_at)
        self.assertEqual([here.id], db_rounds.due_stacks(self.ctx, 10))
        event = self.events(type="cloud.update")[0]
        self.assertEqual({"draining": False, "description": ""}, event.before)
        self.assertEqual({"draining": True, "description": "x"}, event.after)

    def test_a_change_that_cannot_be(self):
        self.cloud("east")
        west = self.cloud("west")
        self.assertRaises(
            exception.CloudExists, db_clouds.update_cloud, self.ctx, west.id, {"name": "east"}
        )
        self.assertRaises(
            exception.CloudNotFound, db_clouds.update_cloud, self.ctx, "gone", {"name": "x"}
        )
        self.assertEqual([], self.events(type="cloud.update"))

    def test_a_cloud_goes_when_nothing_is_in_it(self):
        east, west = self.cloud("east"), self.cloud("west")
        stack = self.stack("web", [east])
        for cloud in (east, west):
            self.observe(cloud)
        self.assertEqual(
            {east.id: 0},
            {c: use.units for c, use in db_clouds.count_use(self.ctx, [east.id, west.id]).items()},
        )
        self.assertEqual(
            {east.id: 1},
            {
                c: use.members
                for c, use in db_clouds.count_use(self.ctx, [east.id, west.id]).items()
            },
        )
        error = self.assertRaises(exception.CloudInUse, db_clouds.delete_cloud, self.ctx, east.id)
        self.assertIn("1 stack(s)", str(error))
        db_clouds.delete_cloud(self.ctx, west.id)
        self.assertRaises(exception.CloudNotFound, db_clouds.delete_cloud, self.ctx, west.id)
        self.assertEqual(["east"], self.names(None))
        self.assertEqual({west.id: []}, db_clouds.list_observations(self.ctx, [west.id])[1])
        self.assertEqual(["cloud.delete"], [e.type for e in self.events(cloud_id=west.id)][1:])
        db_rounds.forget_member(self.ctx, self.claim(stack), stack.members[0])
        db_clouds.delete_cloud(self.ctx, east.id)


class TestObservations(backends.DatabaseTestCase):
    def latest(self, cloud, observer="here"):
        rows = db_clouds.list_observations(self.ctx, [cloud.id])[1][cloud.id]
        return next(row for row in rows if row.observer == observer)

    def counts(self, cloud, observer="here"):
        row = self.latest(cloud, observer)
        return row.misses, row.goods

    def test_runs_of_misses_and_goods_are_counted(self):
        cloud = self.cloud()
        for outcome, expected in (
            ("ok", (0, 1)),
            ("ok", (0, 2)),
            ("unreachable", (1, 0)),
            ("unreachable", (2, 0)),
            ("refusing", (0, 0)),
            ("unreachable", (1, 0)),
            ("ok", (0, 1)),
        ):
            self.observe(cloud, outcome)
            self.assertEqual(expected, self.counts(cloud), outcome)
        row = self.latest(cloud)
        self.assertEqual(("ok", "it says ok", 3), (row.outcome, row.detail, row.latency_ms))

    def test_observers_count_on_their_own(self):
        cloud = self.cloud()
        self.observe(cloud, "unreachable", "here")
        self.observe(cloud, "ok", "there")
        self.observe(cloud, "unreachable", "here")
        self.assertEqual((2, 0), self.counts(cloud, "here"))
        self.assertEqual((0, 1), self.counts(cloud, "there"))

    def test_a_run_that_was_interrupted_starts_anew(self):
        cloud = self.cloud()
        for _ in range(3):
            self.observe(cloud, "unreachable")
        # Already a reading of just now is older than no time at all.
        self.observe(cloud, "unreachable", fresh_for=-1)
        self.assertEqual((1, 0), self.counts(cloud))
        for _ in range(2):
            self.observe(cloud, "ok")
        self.observe(cloud, "ok", fresh_for=-1)
        self.assertEqual((0, 1), self.counts(cloud))

    def test_looks_that_follow_each_other_too_fast_count_once(self):
        """Three looks within a second are not three misses, nor are those of three processes."""
        cloud = self.cloud()
        for outcome in ("unreachable", "ok"):
            for _ in range(3):
                self.observe(cloud, outcome, spacing=60)
            self.assertEqual(1, max(self.counts(cloud)), outcome)
            self.observe(cloud, outcome)
            self.assertEqual(2, max(self.counts(cloud)), outcome)

    def test_who_abstains_counts_nothing(self):
        cloud = self.cloud()
        for _ in range(2):
            self.observe(cloud, "unreachable")
        self.observe(cloud, "unreachable", abstains="no route")
        self.assertEqual((0, 0), self.counts(cloud))
        self.assertEqual("no route", self.latest(cloud).abstains)
        self.observe(cloud, "unreachable")
        self.assertEqual((1, 0), self.counts(cloud))
        self.assertIsNone(self.latest(cloud).abstains)

    def test_what_comes_late_is_dated_when_it_was_seen(self):
        cloud = self.cloud()
        look = self.look(cloud, "ok", age=lambda: 30.0)
        seen = self.latest(cloud).observed_at
        self.assertEqual(look.moment - datetime.timedelta(seconds=30), seen)
        self.observe(cloud, "unreachable", age=lambda: 20.0)
        self.assertEqual((1, 0), self.counts(cloud))
        # Older than what is known already.
        late = self.look(cloud, "ok", age=lambda: 40.0)
        self.assertEqual((1, 0), self.counts(cloud))
        self.assertEqual(["unreachable"], [row.outcome for row in late.observations])

    def test_who_has_seen_the_cloud_is_remembered(self):
        cloud = self.cloud()
        self.observe(cloud, "unreachable", zone="north")
        self.assertEqual((None, "north"), (self.latest(cloud).seen_at, self.latest(cloud).zone))
        seen = self.observe(cloud, "ok")
        for outcome in ("unreachable", "refusing"):
            self.observe(cloud, outcome)
            self.assertEqual(seen, self.latest(cloud).seen_at)

    def test_since_tells_when_the_outcome_last_changed(self):
        cloud = self.cloud()
        first = self.observe(cloud, "ok")
        second = self.observe(cloud, "ok")
        self.assertGreaterEqual(second, first)
        self.assertEqual(
            (first, second), (self.latest(cloud).since, self.latest(cloud).observed_at)
        )
        third = self.observe(cloud, "unreachable")
        self.assertEqual(third, self.latest(cloud).since)

    def test_a_cloud_that_is_gone(self):
        cloud = self.cloud()
        self.observe(cloud)
        db_clouds.delete_cloud(self.ctx, cloud.id)
        self.assertIsNone(self.observe(cloud))

    def test_a_look_tells_all_that_is_known_of_the_cloud(self):
        east, west = self.cloud("east"), self.cloud("west")
        self.look(east, "unreachable", "there")
        self.look(west, "ok", "there")
        look = self.look(east, "ok", "here")
        self.assertEqual(("east", "unknown"), (look.cloud.name, look.cloud.verdict))
        self.assertEqual(
            [("here", "ok", look.moment), ("there", "unreachable")],
            [
                (row.observer, row.outcome)
                + ((row.observed_at,) if row.observer == "here" else ())
                for row in sorted(look.observations, key=lambda row: row.observer)
            ],
        )

    def test_a_look_tells_of_heat_stacks_that_were_taken_over(self):
        east, west = self.cloud("east"), self.cloud("west")
        self.stack("made", [east, west], template="heat_template_version: 2021-04-16")
        self.assertFalse(db_clouds.has_adopted_members(self.ctx, east.id))
        self.assertFalse(self.look(east).adopted)
        self.stack("found", [east])
        self.assertTrue(db_clouds.has_adopted_members(self.ctx, east.id))
        self.assertTrue(self.look(east).adopted)
        self.assertFalse(self.look(west).adopted)

    def test_they_are_listed_by_cloud_with_the_time(self):
        east, west, north = (self.cloud(name) for name in ("east", "west", "north"))
        self.observe(east, observer="b")
        self.observe(east, observer="a")
        seen = self.observe(west)
        self.observe(north)
        now, found = db_clouds.list_observations(self.ctx, [east.id, west.id, "gone"])
        self.assertGreaterEqual(now, seen)
        self.assertEqual({east.id, west.id, "gone"}, set(found))
        self.assertEqual(["a", "b"], sorted(row.observer for row in found[east.id]))
        self.assertEqual([seen], [row.observed_at for row in found[west.id]])
        self.assertEqual([], found["gone"])
        self.assertEqual({}, db_clouds.list_observations(self.ctx, [])[1])


class TestVerdicts(backends.DatabaseTestCase):
    def test_a_new_verdict_is_an_event_and_wakes_the_stacks(self):
        cloud, other = self.cloud("east", "admin", shared=True), self.cloud("west")
        stacks = [self.stack(name, [cloud]) for name in ("one", "two")]
        stacks.append(self.stack("three", [other]))
        for stack in stacks:
            self.save(self.claim(stack))
        evidence = {"here": {"outcome": "unreachable", "misses": 3}}
        self.assertTrue(
            db_clouds.set_verdict(
                self.ctx, cloud, "unreachable", "3 misses in a row", evidence, "missed"
            )
        )
        row = db_clouds.get_cloud(self.ctx, cloud.id, None)
        self.assertEqual(("unreachable", "3 misses in a row"), (row.verdict, row.verdict_reason))
        self.assertEqual("missed", row.verdict_rule)
        self.assertGreater(row.verdict_since, cloud.created_at)
        self.assertEqual({stacks[0].id, stacks[1].id}, set(db_rounds.due_stacks(self.ctx, 10)))
        event = self.events(type="cloud.verdict")[0]
        self.assertEqual(("unknown", "unreachable"), (event.before, event.after))
        self.assertEqual(evidence, event.evidence)
        self.assertEqual((None, cloud.id), (event.project_id, event.cloud_id))

    def test_another_reason_for_the_same_verdict_only_stores_it(self):
        cloud = self.cloud()
        db_clouds.set_verdict(self.ctx, cloud, "healthy", "it answers", {})
        before = db_clouds.get_cloud(self.ctx, cloud.id, None)
        stack = self.stack("web", [cloud])
        self.save(self.claim(stack))
        self.assertTrue(db_clouds.set_verdict(self.ctx, before, "healthy", "it still does", {}))
        after = db_clouds.get_cloud(self.ctx, cloud.id, None)
        self.assertEqual("it still does", after.verdict_reason)
        self.assertEqual(before.verdict_since, after.verdict_since)
        self.assertEqual([], db_rounds.due_stacks(self.ctx, 10))
        self.assertEqual(1, len(self.events(type="cloud.verdict")))
        # Also when nothing differs at all.
        self.assertTrue(db_clouds.set_verdict(self.ctx, after, "healthy", "it still does", {}))

    def test_whoever_judged_by_an_older_verdict_is_not_heard(self):
        cloud = self.cloud()
        self.assertTrue(db_clouds.set_verdict(self.ctx, cloud, "healthy", "it answers", {}))
        for verdict in ("unreachable", "unknown"):
            self.assertFalse(db_clouds.set_verdict(self.ctx, cloud, verdict, "late", {}))
        row = db_clouds.get_cloud(self.ctx, cloud.id, None)
        self.assertEqual(("healthy", "it answers"), (row.verdict, row.verdict_reason))
        self.assertEqual(1, len(self.events(type="cloud.verdict")))

    def test_a_cloud_that_is_gone(self):
        cloud = self.cloud()
        db_clouds.delete_cloud(self.ctx, cloud.id)
        self.assertFalse(db_clouds.set_verdict(self.ctx, cloud, "healthy", "it answers", {}))
