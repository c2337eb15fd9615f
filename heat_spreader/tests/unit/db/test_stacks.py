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

"""Stacks and their members as users see and change them."""

import datetime
import itertools
import time

from heat_spreader import exception
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each

LATER = datetime.datetime(2040, 1, 1)
# All that can have gone wrong with a member.
TROUBLE = {
    "failures": 4,
    "retry_at": LATER,
    "capacity": 4,
    "full_until": LATER,
    "fulls": 2,
    "drifts": 3,
    "drifted_at": LATER,
    "conflict": True,
    "missing_since": LATER,
    "problem": "Quota exceeded.",
}
ZERO = {"failures": 0, "fulls": 0, "drifts": 0, "conflict": False, "problem": ""}


class TestCreate(backends.DatabaseTestCase):
    def test_a_new_stack_waits_for_an_engine(self):
        stack = self.stack()
        self.assertEqual((1, 0), (stack.generation, stack.observed_generation))
        self.assertEqual("PENDING", stack.status)
        self.assertEqual(stack.created_at, stack.updated_at)
        self.assertEqual(self.ctx.request_id, stack.request_id)
        self.assertFalse(stack.deleting)
        self.assertEqual({}, stack.ledger)
        self.assertEqual([stack.id], db_rounds.due_stacks(self.ctx, 10))

    def test_members_keep_their_order(self):
        clouds = [self.cloud(name) for name in ("c", "a", "b")]
        stack = self.stack(clouds=clouds)
        for row in (stack, self.read(stack)):
            self.assertEqual(["c", "a", "b"], [member.cloud.name for member in row.members])
            self.assertEqual([0, 1, 2], [member.position for member in row.members])
            self.assertEqual(["0.5"] * 3, [member.weight for member in row.members])

    def test_heat_stacks_are_ours_when_there_is_a_template(self):
        cloud = self.cloud()
        taken_over = self.stack("web", [cloud])
        made = self.stack("db", [cloud], template="heat_template_version: 2021-04-16")
        self.assertFalse(taken_over.members[0].owned)
        self.assertTrue(made.members[0].owned)

    def test_it_is_an_event(self):
        cloud = self.cloud()
        stack = self.stack(clouds=[cloud])
        event = self.events(stack_id=stack.id)[0]
        self.assertEqual("stack.create", event.type)
        self.assertEqual(("green", "web"), (event.project_id, event.stack_name))
        self.assertEqual(("alice", self.ctx.request_id), (event.actor, event.request_id))
        self.assertEqual(10, event.after["count"])
        self.assertEqual("0.5", event.after["members"]["cloud1"]["weight"])

    def test_a_name_is_taken_once_in_a_project(self):
        self.stack("web")
        cloud = self.cloud()
        self.assertRaises(exception.StackExists, self.stack, "web", [cloud])
        # Nothing of the attempt is left.
        self.assertEqual(
            {}, {c: use.members for c, use in db_clouds.count_use(self.ctx, [cloud.id]).items()}
        )
        self.assertEqual(1, len(self.events(type="stack.create")))
        self.stack("web", project="blue")
        self.stack("Web")

    def test_a_cloud_that_is_gone(self):
        cloud = self.cloud()
        db_clouds.delete_cloud(self.ctx, cloud.id)
        self.assertRaises(exception.Conflict, self.stack, "web", [cloud])
        self.assertEqual([], db_stacks.list_stacks(self.ctx, None, limit=10))


class TestGet(backends.DatabaseTestCase):
    def test_by_id_or_by_name(self):
        stack = self.stack()
        for reference in (stack.id, "web"):
            for project in ("green", None):
                found = db_stacks.get_stack(self.ctx, reference, project)
                self.assertEqual(stack.id, found.id)

    def test_what_another_project_has_is_not_found(self):
        stack = self.stack()
        for reference in (stack.id, "web", "nothing"):
            self.assertRaises(
                exception.StackNotFound, db_stacks.get_stack, self.ctx, reference, "blue"
            )

    def test_names_differ_by_case(self):
        self.stack("web")
        self.assertRaises(exception.StackNotFound, db_stacks.get_stack, self.ctx, "WEB", "green")
        other = self.stack("WEB")
        self.assertEqual(other.id, db_stacks.get_stack(self.ctx, "WEB", "green").id)

    def test_a_name_that_several_projects_use(self):
        green, blue = self.stack("web"), self.stack("web", project="blue")
        self.assertEqual(green.id, db_stacks.get_stack(self.ctx, "web", "green").id)
        self.assertEqual(blue.id, db_stacks.get_stack(self.ctx, blue.id, None).id)
        self.assertRaises(exception.AmbiguousName, db_stacks.get_stack, self.ctx, "web", None)

    def test_an_id_goes_before_a_name(self):
        stack = self.stack("web")
        self.stack(stack.id)
        self.assertEqual("web", db_stacks.get_stack(self.ctx, stack.id, "green").name)


class TestList(backends.DatabaseTestCase):
    def names(self, project="green", limit=100, **more):
        return [row.name for row in db_stacks.list_stacks(self.ctx, project, limit=limit, **more)]

    def test_newest_first_and_only_of_the_project(self):
        for name, project in (("a", "green"), ("b", "green"), ("c", "green"), ("d", "blue")):
            self.stack(name, project=project)
            time.sleep(0.002)  # SQLite's clock counts milliseconds
        self.assertEqual(["c", "b", "a"], self.names())
        self.assertEqual(["d", "c", "b", "a"], self.names(None))
        self.assertEqual([], self.names("red"))

    def test_filters_are_exact(self):
        east, west = self.cloud("east"), self.cloud("west")
        self.stack("web", [east])
        self.stack("Web", [east, west])
        self.stack("web-2", [west])
        for filters, expected in (
            ({"name": "web"}, ["web"]),
            ({"name": "we"}, []),
            ({"status": "PENDING"}, ["Web", "web", "web-2"]),
            ({"status": "pending"}, []),
            ({"cloud_id": east.id}, ["Web", "web"]),
            ({"cloud_id": west.id, "name": "web-2"}, ["web-2"]),
            ({"cloud_id": "none"}, []),
        ):
            found = self.names(filters=filters)
            self.assertEqual(expected, sorted(found), filters)

    def test_tags_are_exact(self):
        for name, tags in (
            ("a", ["prod"]),
            ("b", ["Prod", "x"]),
            ("c", ["production"]),
            ("d", ["x", "größe 🔥"]),
            ("e", ["50%", "a_b"]),
            ("f", ["500", "axb"]),
            ("g", []),
        ):
            self.stack(name, tags=tags)
        for tag, expected in (
            ("prod", ["a"]),
            ("Prod", ["b"]),
            ("x", ["b", "d"]),
            ("größe 🔥", ["d"]),
            ("50%", ["e"]),
            ("a_b", ["e"]),
            ("rod", []),
            ("", []),
            ('x", "y', []),
        ):
            self.assertEqual(expected, sorted(self.names(filters={"tag": tag})), tag)

    def test_pages_show_everything_once(self):
        for number in range(7):
            # Equal values in every column but the id, so that only the id can tell them apart.
            self.stack(f"web{number}", count=number // 3)
        for key, direction in itertools.product(
            ("name", "status", "count", "created_at", "updated_at"), ("asc", "desc")
        ):
            sort = {"sort_key": key, "sort_dir": direction}
            whole = self.names(**sort)
            self.assertEqual(7, len(whole))
            paged, marker = [], None
            while page := db_stacks.list_stacks(self.ctx, "green", limit=2, marker=marker, **sort):
                paged += [row.name for row in page]
                marker = page[-1].id
            self.assertEqual(whole, paged, sort)
            values = [
                getattr(row, key)
                for row in db_stacks.list_stacks(self.ctx, "green", limit=100, **sort)
            ]
            self.assertEqual(sorted(values, reverse=direction == "desc"), values)

    def test_a_marker_that_the_project_cannot_see(self):
        own, other = self.stack("web"), self.stack("web", project="blue")
        for marker in (other.id, "nothing"):
            self.assertRaises(exception.StackNotFound, self.names, marker=marker)
        self.assertEqual(["web"], self.names(None, marker=other.id))
        self.assertEqual([], self.names(None, marker=own.id))

    def test_members_are_there_and_what_is_long_is_not(self):
        self.stack("web", [self.cloud("east"), self.cloud("west")], template="long")
        row = db_stacks.list_stacks(self.ctx, "green", limit=1)[0]
        self.assertEqual(["east", "west"], [member.cloud.name for member in row.members])
        for column in ("template", "environment", "files"):
            self.assertFalse(hasattr(row, column))


class TestUpdate(backends.DatabaseTestCase):
    def update(self, stack, **changes):
        return db_stacks.update_stack(self.new_context(), stack.id, **changes)

    def test_a_change_raises_the_generation_and_makes_the_stack_due(self):
        stack = self.stack()
        self.save(self.claim(stack), values={"status": "ACTIVE", "status_reason": "All is well."})
        self.assertEqual([], db_rounds.due_stacks(self.ctx, 10))
        changed = self.update(stack, values={"count": 12})
        for row in (changed, self.read(stack)):
            self.assertEqual((2, 12), (row.generation, row.count))
            self.assertEqual("CONVERGING", row.status)
            self.assertGreater(row.updated_at, stack.updated_at)
            self.assertEqual(stack.created_at, row.created_at)
        self.assertEqual([stack.id], db_rounds.due_stacks(self.ctx, 10))

    def test_only_at_the_generation_that_was_asked_for(self):
        stack = self.stack()
        self.assertEqual(2, self.update(stack, values={"count": 11}, generation=1).generation)
        for stale in (1, 3):
            error = self.assertRaises(
                exception.ConcurrentUpdate,
                self.update,
                stack,
                values={"count": 13},
                generation=stale,
            )
            self.assertIn(f"is at generation 2, not {stale}", str(error))
        self.assertEqual((2, 11), (self.read(stack).generation, self.read(stack).count))
        self.assertEqual(3, self.update(stack, values={"count": 13}, generation=2).generation)

    def test_members_change_join_and_keep_their_place(self):
        east, west = self.cloud("east"), self.cloud("west")
        stack = self.stack("web", [east])
        changed = self.update(
            stack,
            members={east.id: {"weight": "0.25", "maximum": 7}, west.id: {"weight": "0.75"}},
        )
        self.assertEqual(
            [("east", "0.25", 7), ("west", "0.75", None)],
            [(m.cloud.name, m.weight, m.maximum) for m in changed.members],
        )
        self.assertEqual(2, changed.generation)
        again = self.update(stack, members={east.id: {"leaving": True}})
        self.assertEqual([True, False], [m.leaving for m in again.members])
        self.assertEqual([m.id for m in changed.members], [m.id for m in self.read(stack).members])

    def test_it_clears_what_held_the_members_back(self):
        stack = self.stack("web", [self.cloud()])
        claimed = self.claim(stack)
        held_back = {**TROUBLE, "floor": 5}
        self.save(claimed, members={claimed.members[0].id: held_back})
        member = self.update(stack, values={"description": "new"}).members[0]
        self.assertEqual((0, None, 5), (member.failures, member.retry_at, member.floor))
        self.assertEqual((None, None, 0), (member.capacity, member.full_until, member.fulls))
        self.assertEqual((0, None, False), (member.drifts, member.drifted_at, member.conflict))
        # A Heat stack that somebody deleted is not back because of an edit.
        self.assertEqual(TROUBLE["missing_since"], member.missing_since)
        member = self.update(stack, members={member.cloud_id: {"weight": "0.1"}}).members[0]
        self.assertIsNone(member.floor)

    def test_the_event_tells_before_and_after(self):
        stack = self.stack()
        self.update(stack, values={"count": 12})
        event = self.events(type="stack.update")[0]
        self.assertEqual("Changed: count from 10 to 12.", event.message)
        self.assertEqual((10, 12), (event.before["count"], event.after["count"]))
        self.update(stack, values={"description": "x"}, event="weight.update")
        self.assertEqual(1, len(self.events(type="weight.update")))

    def test_the_event_says_it_in_words(self):
        own, shared = self.cloud("east"), self.cloud("east", "admin", shared=True)
        stack = self.stack("web", [own])
        for changes, words in (
            (
                {"values": {"count": 12}, "members": {own.id: {"weight": "0.4"}}},
                "Changed: count from 10 to 12; weight of east from 0.5 to 0.4.",
            ),
            (
                {"members": {shared.id: {"weight": "0.1"}}},
                f"Changed: {shared.id} joins with weight 0.1.",
            ),
            (
                {"members": {shared.id: {"maximum": 3}}},
                f"Changed: maximum of {shared.id} from None to 3.",
            ),
            ({"members": {own.id: {"leaving": True}}}, "Changed: east is to leave."),
            ({"values": {"failover_rule": "hold"}}, "Changed: failover."),
            (
                {"values": {"rebalance_mode": "gradual", "rebalance_step": 2}},
                "Changed: rebalance mode from immediate to gradual; rebalance step from 1 to 2.",
            ),
            (
                {"values": {"on_drift": "report"}},
                "Changed: repair of drift from heal to report.",
            ),
            ({"values": {"description": "x"}}, "Other settings changed."),
        ):
            self.update(stack, **changes)
            self.assertEqual(words, self.events(stack_id=stack.id)[-1].message)

    def test_a_stack_that_is_being_deleted_takes_no_changes(self):
        stack = self.stack()
        deleted = self.update(stack, values={"deleting": True, "release": True})
        self.assertEqual(("DELETING", True), (deleted.status, deleted.release))
        self.assertEqual(
            "Deletion asked for: all Heat stacks are left as they are.",
            self.events(type="stack.update")[0].message,
        )
        for generation in (None, 2):
            self.assertRaises(
                exception.StackDeleting,
                self.update,
                stack,
                values={"count": 1},
                generation=generation,
            )
        self.assertEqual(2, self.read(stack).generation)

    def test_how_a_stack_is_deleted_may_change_in_the_course_of_it(self):
        stack = self.stack("web", [self.cloud()])
        self.update(stack, values={"deleting": True})
        claimed = self.claim(stack)
        self.save(claimed, members={claimed.members[0].id: TROUBLE})
        deleted = self.update(stack, values={"deleting": True, "forget": True}, generation=2)
        self.assertEqual(
            ("DELETING", 3, True, False),
            (deleted.status, deleted.generation, deleted.forget, deleted.release),
        )
        # Whoever asks again wants it tried again.
        self.assertEqual((0, None), (deleted.members[0].failures, deleted.members[0].retry_at))
        self.assertEqual([stack.id], db_rounds.due_stacks(self.ctx, 10))
        self.assertRaises(
            exception.ConcurrentUpdate,
            self.update,
            stack,
            values={"deleting": True, "release": True},
            generation=2,
        )

    def test_a_stack_that_is_gone(self):
        stack = self.stack()
        self.assertRaises(
            exception.StackNotFound,
            db_stacks.update_stack,
            self.ctx,
            "nothing",
            values={"count": 1},
        )
        self.update(stack, values={"deleting": True})
        db_rounds.finish_delete(self.ctx, self.claim(stack), "Deleted.")
        self.assertRaises(exception.StackNotFound, self.update, stack, values={"count": 1})

    def test_a_cloud_that_is_gone_changes_nothing(self):
        stack, cloud = self.stack(), self.cloud()
        db_clouds.delete_cloud(self.ctx, cloud.id)
        self.assertRaises(
            exception.Conflict,
            self.update,
            stack,
            values={"count": 1},
            members={cloud.id: {"weight": "1"}},
        )
        self.assertEqual((1, 10), (self.read(stack).generation, self.read(stack).count))


class TestActions(backends.DatabaseTestCase):
    def setUp(self):
        super().setUp()
        self.web = self.stack("web", [self.cloud("east"), self.cloud("west")])
        claimed = self.claim(self.web)
        east = {**TROUBLE, "heat_stack_id": "made"}
        self.save(claimed, members={claimed.members[0].id: east}, values={"status": "ERROR"})

    def test_a_check_is_asked_where_there_is_something_to_check(self):
        self.assertEqual([], db_rounds.due_stacks(self.ctx, 10))
        asked = db_stacks.check_stack(self.new_context(), self.web.id)
        for row in (asked, self.read(self.web)):
            self.assertEqual([True, False], [member.check_asked for member in row.members])
            self.assertEqual((1, "ERROR"), (row.generation, row.status))
            self.assertEqual(self.web.updated_at, row.updated_at)
            self.assertEqual(4, row.members[0].capacity)
        self.assertEqual([self.web.id], db_rounds.due_stacks(self.ctx, 10))

    def test_a_retry_forgets_all_trouble(self):
        ctx = self.new_context()
        asked = db_stacks.retry_stack(ctx, self.web.id)
        for row in (asked, self.read(self.web)):
            self.assertEqual((1, "CONVERGING"), (row.generation, row.status))
            self.assertEqual(ctx.request_id, row.request_id)
            member = row.members[0]
            self.assertEqual(
                {**dict.fromkeys(TROUBLE), **ZERO},
                {name: getattr(member, name) for name in TROUBLE},
            )
            self.assertFalse(member.check_asked)
        self.assertEqual([self.web.id], db_rounds.due_stacks(self.ctx, 10))

    def test_both_are_events(self):
        db_stacks.check_stack(self.new_context(), self.web.id)
        db_stacks.retry_stack(self.new_context(), self.web.id)
        db_stacks.retry_stack(self.new_context(), self.web.id)
        check, retry, again = self.events(stack_id=self.web.id)[-3:]
        self.assertEqual(
            ("stack.check", "Check asked for.", "alice"), (check.type, check.message, check.actor)
        )
        self.assertEqual(
            "Retry asked for: east is no longer taken for full at 4; east is no longer left to "
            "others; the Heat stack in east may be created again.",
            retry.message,
        )
        self.assertEqual(("stack.retry", "alice"), (retry.type, retry.actor))
        self.assertEqual("Retry asked for.", again.message)

    def test_not_of_a_stack_that_is_being_deleted(self):
        db_stacks.update_stack(self.new_context(), self.web.id, values={"deleting": True})
        for ask in (db_stacks.check_stack, db_stacks.retry_stack):
            self.assertRaises(exception.StackDeleting, ask, self.new_context(), self.web.id)

    def test_not_of_a_stack_that_is_gone(self):
        for ask in (db_stacks.check_stack, db_stacks.retry_stack):
            self.assertRaises(exception.StackNotFound, ask, self.new_context(), "nothing")
