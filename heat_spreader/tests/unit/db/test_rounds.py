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

"""What engines do with stacks: find those that are due, claim one, save a round, forget it."""

import datetime

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.engine.core import plan
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each


def due(limit=10):
    return db_rounds.due_stacks(context.engine_context(), limit)


class TestSweep(backends.DatabaseTestCase):
    def test_the_longest_waiting_first(self):
        stacks = [self.stack(name) for name in ("a", "b", "c")]
        for stack, due_in in zip(stacks, (-1, -3, -2), strict=True):
            self.save(self.claim(stack), due_in=due_in)
        a, b, c = (stack.id for stack in stacks)
        self.assertEqual([b, c, a], due())
        self.assertEqual([b, c], due(limit=2))

    def test_what_is_claimed_or_not_yet_due_is_left_out(self):
        waiting, claimed, expired, resting, idle = (self.stack(name) for name in "abcde")
        self.claim(claimed)
        self.claim(expired, lease=-1)
        self.save(self.claim(resting), due_in=100)
        self.save(self.claim(idle), due_in=None)
        self.assertEqual({waiting.id, expired.id}, set(due()))

    def test_a_nudge_makes_due(self):
        stacks = [self.stack(name) for name in "abc"]
        for stack in stacks:
            self.save(self.claim(stack), due_in=100)
        db_rounds.nudge_stacks(self.ctx, {stacks[0].id, stacks[2].id, "gone"})
        self.assertEqual({stacks[0].id, stacks[2].id}, set(due()))
        db_rounds.nudge_stacks(self.ctx, [])


class TestClaimDue(backends.DatabaseTestCase):
    def taken(self, limit=10, owner="one"):
        return db_rounds.claim_due(self.new_context(), owner, 60, limit)

    def test_the_longest_waiting_first_and_no_more_than_asked_for(self):
        stacks = [self.stack(name, [self.cloud(name)]) for name in ("a", "b", "c")]
        for stack, due_in in zip(stacks, (-1, -3, -2), strict=True):
            self.save(self.claim(stack), due_in=due_in)
        a, b, c = (stack.id for stack in stacks)
        claims = self.taken(limit=2)
        self.assertEqual([b, c], [claim.stack.id for claim in claims])
        for claim in claims:
            self.assertEqual((2, "one"), (claim.stack.claim_epoch, claim.stack.claimed_by))
            self.assertEqual(
                claim.moment + datetime.timedelta(seconds=60), claim.stack.claimed_until
            )
            self.assertFalse(claim.interrupted)
            self.assertEqual([claim.stack.name], [m.cloud.name for m in claim.stack.members])
        self.assertEqual([a], [claim.stack.id for claim in self.taken(owner="two")])
        self.assertEqual([], self.taken())

    def test_those_of_some_projects_are_left(self):
        mine, theirs = (
            self.stack("mine", project_id="green"),
            self.stack("theirs", project_id="blue"),
        )
        claims = db_rounds.claim_due(self.new_context(), "one", 60, 10, ["green", "red"])
        self.assertEqual([theirs.id], [claim.stack.id for claim in claims])
        self.assertEqual([mine.id], [claim.stack.id for claim in self.taken()])

    def test_no_template_is_read(self):
        """Nor what comes with it: only creations need them, and they may be large."""
        large = {"environment": "e" * 1000, "files": {"f": "f" * 1000}}
        self.stack("made", template="t" * 1000, **large)
        self.stack("adopted")
        for claim in self.taken():
            self.assertEqual(claim.stack.name == "made", claim.stack.templated)
            self.assertEqual(set(), {*large, "template"} & set(vars(claim.stack)))

    def test_what_an_engine_left_is_taken_over_as_interrupted(self):
        stack = self.stack()
        self.claim(stack, lease=-1)
        self.assertEqual([True], [claim.interrupted for claim in self.taken()])

    def test_what_is_claimed_or_not_yet_due_is_left(self):
        claimed, resting = self.stack("claimed"), self.stack("resting")
        self.claim(claimed)
        self.save(self.claim(resting), due_in=100)
        self.assertEqual([], self.taken())


class TestRelease(backends.DatabaseTestCase):
    def release(self, *stacks, interrupted=False):
        db_rounds.release_claims(self.new_context(), stacks, interrupted=interrupted)

    def test_what_was_not_begun_can_be_taken_at_once(self):
        claimed = [self.claim(self.stack(name)) for name in "ab"]
        self.release(*claimed)
        self.assertEqual({stack.id for stack in claimed}, set(due()))
        claims = db_rounds.claim_due(self.new_context(), "two", 60, 10)
        self.assertEqual([False, False], [claim.interrupted for claim in claims])

    def test_what_was_begun_counts_as_interrupted(self):
        claimed = self.claim(self.stack())
        self.release(claimed, interrupted=True)
        claim = db_rounds.claim_stack(self.new_context(), claimed.id, "two", 60)
        self.assertTrue(claim.interrupted)

    def test_whoever_gave_it_back_writes_no_more(self):
        stack = self.claim(self.stack())
        for interrupted in (False, True):
            self.release(stack, interrupted=interrupted)
            self.assertFalse(self.save(stack))
            self.assertFalse(db_rounds.renew_claim(self.new_context(), stack, 60))

    def test_the_claim_of_another_stands(self):
        old = self.claim(self.stack(), lease=-1)
        new = self.claim(old, "two")
        self.release(old)
        self.assertTrue(self.save(new))


class TestClaim(backends.DatabaseTestCase):
    def test_a_claim_is_exclusive_until_it_is_given_back(self):
        stack = self.stack("web", [self.cloud()])
        claim = db_rounds.claim_stack(self.ctx, stack.id, "one", 60)
        self.assertEqual((1, "one"), (claim.stack.claim_epoch, claim.stack.claimed_by))
        self.assertEqual(claim.moment + datetime.timedelta(seconds=60), claim.stack.claimed_until)
        self.assertFalse(claim.interrupted)
        self.assertEqual("cloud1", claim.stack.members[0].cloud.name)
        for owner in ("one", "two"):
            self.assertIsNone(db_rounds.claim_stack(self.ctx, stack.id, owner, 60))
        self.assertTrue(self.save(claim.stack))
        row = self.read(stack)
        self.assertEqual((None, None), (row.claimed_by, row.claimed_until))
        again = db_rounds.claim_stack(self.ctx, stack.id, "two", 60)
        self.assertEqual(2, again.stack.claim_epoch)
        self.assertFalse(again.interrupted)

    def test_what_is_not_due_can_be_claimed(self):
        stack = self.stack()
        self.save(self.claim(stack), due_in=100)
        self.assertEqual(2, self.claim(stack).claim_epoch)

    def test_a_stack_that_is_gone(self):
        self.assertIsNone(db_rounds.claim_stack(self.ctx, "gone", "one", 60))

    def test_an_expired_claim_is_taken_over_as_interrupted(self):
        stack = self.stack()
        self.claim(stack, "one", lease=-1)
        claim = db_rounds.claim_stack(self.ctx, stack.id, "two", 60)
        self.assertEqual((2, "two"), (claim.stack.claim_epoch, claim.stack.claimed_by))
        self.assertTrue(claim.interrupted)

    def test_a_claim_is_renewed_while_it_lasts(self):
        stack = self.stack()
        claimed = self.claim(stack, lease=5)
        self.assertTrue(db_rounds.renew_claim(self.ctx, claimed, 60))
        self.assertGreater(
            self.read(stack).claimed_until,
            claimed.claimed_until + datetime.timedelta(seconds=50),
        )
        self.assertIsNone(db_rounds.claim_stack(self.ctx, stack.id, "two", 60))
        # Expired, taken over, given back: each is the end.
        self.assertTrue(db_rounds.renew_claim(self.ctx, claimed, -1))
        self.assertFalse(db_rounds.renew_claim(self.ctx, claimed, 60))
        other = self.claim(stack, "two")
        self.assertFalse(db_rounds.renew_claim(self.ctx, claimed, 60))
        self.save(other)
        self.assertFalse(db_rounds.renew_claim(self.ctx, other, 60))

    def test_whoever_is_superseded_changes_nothing(self):
        cloud = self.cloud()
        stack = self.stack("web", [cloud])
        old = self.claim(stack, "one", lease=-1)
        member = old.members[0].id
        new = self.claim(stack, "two")
        before = len(self.events())
        said = [{"type": "stack.status", "message": "stale"}]
        self.assertFalse(
            self.save(old, values={"status": "ERROR"}, members={member: {"held": 9}}, events=said)
        )
        self.assertFalse(db_rounds.save_members(self.ctx, old, {member: {"held": 9}}, said))
        self.assertFalse(db_rounds.forget_member(self.ctx, old, old.members[0]))
        self.assertFalse(db_rounds.finish_delete(self.ctx, old, "stale"))
        self.assertFalse(db_rounds.renew_claim(self.ctx, old, 60))
        row = self.read(stack)
        self.assertEqual(("PENDING", "two", 2), (row.status, row.claimed_by, row.claim_epoch))
        self.assertEqual([0], [m.held for m in row.members])
        self.assertEqual(before, len(self.events()))
        # The new one is not disturbed.
        self.assertTrue(self.save(new, members={member: {"held": 3}}))
        self.assertEqual(3, self.read(stack).members[0].held)

    def test_the_same_holds_once_the_new_one_has_given_it_back(self):
        stack = self.stack()
        old = self.claim(stack, "one", lease=-1)
        self.save(self.claim(stack, "two"), values={"status": "ACTIVE"})
        self.assertFalse(self.save(old, values={"status": "ERROR"}))
        self.assertEqual("ACTIVE", self.read(stack).status)


class TestSave(backends.DatabaseTestCase):
    def setUp(self):
        super().setUp()
        self.east, self.west = self.cloud("east"), self.cloud("west")
        self.web = self.stack("web", [self.east, self.west])

    def test_a_round_is_stored_at_once_and_gives_the_claim_back(self):
        claimed = self.claim(self.web)
        east, west = claimed.members
        self.assertTrue(
            self.save(
                claimed,
                values={
                    "status": plan.StackStatus.ACTIVE,
                    "status_reason": "All is well.",
                    "ledger": {"desired": 10},
                    "observed_generation": 1,
                },
                members={
                    east.id: {"share": 6, "held": 6, "heat_stack_id": "heat-1"},
                    west.id: {},
                },
                events=[
                    {"type": "stack.status", "message": "m", "before": "PENDING"},
                    {"type": "member.create", "message": "n", "cloud": east.cloud},
                ],
                due_in=100,
            )
        )
        row = self.read(self.web)
        self.assertEqual(("ACTIVE", "All is well."), (row.status, row.status_reason))
        self.assertEqual(
            ({"desired": 10}, 1, 1), (row.ledger, row.observed_generation, row.generation)
        )
        self.assertEqual(
            [(6, "heat-1"), (0, None)], [(m.held, m.heat_stack_id) for m in row.members]
        )
        self.assertEqual((None, None), (row.claimed_by, row.claimed_until))
        self.assertEqual(row.updated_at, self.web.updated_at)
        self.assertEqual([], due())
        status, create = self.events(stack_id=self.web.id)[1:]
        self.assertEqual(("PENDING", None), (status.before, status.cloud_name))
        self.assertEqual(
            ("east", "green", "web"), (create.cloud_name, create.project_id, create.stack_name)
        )

    def test_members_are_stored_in_mid_round(self):
        claimed = self.claim(self.web)
        east = claimed.members[0].id
        said = [{"type": "member.create", "message": "m"}]
        self.assertTrue(db_rounds.save_members(self.ctx, claimed, {east: {"held": 4}}, said))
        row = self.read(self.web)
        self.assertEqual("one", row.claimed_by)
        self.assertEqual([4, 0], [member.held for member in row.members])
        self.assertEqual(1, len(self.events(type="member.create")))

    def test_a_change_of_a_user_in_mid_round_is_not_lost(self):
        claimed = self.claim(self.web)
        db_stacks.update_stack(self.new_context(), self.web.id, values={"count": 20})
        self.assertTrue(
            self.save(
                claimed,
                values={"status": "ACTIVE", "status_reason": "old", "observed_generation": 1},
                members={claimed.members[0].id: {"held": 4}},
                due_in=300,
            )
        )
        row = self.read(self.web)
        self.assertEqual((2, 1, 20), (row.generation, row.observed_generation, row.count))
        self.assertEqual(("CONVERGING", "Waiting for an engine."), (row.status, row.status_reason))
        self.assertEqual(4, row.members[0].held)
        self.assertEqual([self.web.id], due())

    def test_nor_is_what_it_cleared(self):
        claimed = self.claim(self.web)
        east = claimed.members[0]
        db_stacks.update_stack(
            self.new_context(), self.web.id, values={"parameters": {"flavor": "m1"}}
        )
        held_back = {"failures": 1, "retry_at": claimed.claimed_until, "problem": "no flavor"}
        self.save(claimed, members={east.id: held_back})
        member = self.read(self.web).members[0]
        self.assertEqual(
            (0, None, "no flavor"), (member.failures, member.retry_at, member.problem)
        )

    def test_a_retry_in_mid_round_is_not_lost(self):
        claimed = self.claim(self.web)
        east = claimed.members[0]
        db_stacks.retry_stack(self.new_context(), self.web.id)
        missing = {"failures": 1, "capacity": 3, "missing_since": claimed.claimed_until}
        self.save(
            claimed,
            values={"status": "ERROR", "status_reason": "old"},
            members={east.id: {**missing, "problem": "gone", "heat_stack_id": None}},
        )
        row = self.read(self.web)
        self.assertEqual(("CONVERGING", "Waiting for an engine."), (row.status, row.status_reason))
        member = row.members[0]
        self.assertEqual((0, None, ""), (member.failures, member.capacity, member.problem))
        self.assertIsNone(member.missing_since)
        self.assertEqual([self.web.id], due())

    def test_nor_is_a_check(self):
        claimed = self.claim(self.web)
        east = claimed.members[0]
        db_rounds.save_members(self.ctx, claimed, {east.id: {"heat_stack_id": "made"}})
        db_stacks.check_stack(self.new_context(), self.web.id)
        self.save(claimed, values={"status": "ACTIVE"}, members={east.id: {"failures": 1}})
        row = self.read(self.web)
        self.assertEqual((True, 1), (row.members[0].check_asked, row.members[0].failures))
        self.assertEqual(("ACTIVE", [self.web.id]), (row.status, due()))

    def test_deletion_in_mid_round_is_not_lost(self):
        claimed = self.claim(self.web)
        db_stacks.update_stack(self.new_context(), self.web.id, values={"deleting": True})
        self.save(claimed, values={"status": "ERROR", "status_reason": "old"})
        self.assertEqual(
            ("DELETING", True), (self.read(self.web).status, self.read(self.web).deleting)
        )
        self.assertEqual([self.web.id], due())

    def test_a_nudge_in_mid_round_is_not_lost(self):
        nudges = {
            "nudge": lambda: db_rounds.nudge_stacks(self.new_context(), [self.web.id]),
            "verdict": lambda: db_clouds.set_verdict(
                self.new_context(),
                db_clouds.get_cloud(self.ctx, self.east.id, None),
                *next(verdicts),
                {},
            ),
            "cloud": lambda: db_clouds.update_cloud(
                self.new_context(), self.east.id, {"draining": True}
            ),
        }
        verdicts = iter([(str(number), "so it is") for number in range(10)])
        # Whether the stack was due, was claimed before its time, or had no time set at all.
        for due_in in (-1, 300, None):
            for name, nudge in nudges.items():
                self.save(self.claim(self.web), due_in=due_in)
                claimed = self.claim(self.web)
                nudge()
                self.save(claimed, values={"status": "ACTIVE"}, due_in=300)
                self.assertEqual([self.web.id], due(), (due_in, name))
                self.assertEqual("ACTIVE", self.read(self.web).status)

    def test_without_any_it_rests_as_long_as_asked(self):
        for before in (-1, 300, None):
            self.save(self.claim(self.web), due_in=before)
            claim = db_rounds.claim_stack(self.ctx, self.web.id, "one", 60)
            self.save(claim.stack, due_in=100)
            self.assertEqual([], due())
            rest = self.read(self.web).due_at - claim.moment
            self.assertLess(abs(rest.total_seconds() - 100), 10)
        self.save(self.claim(self.web), due_in=None)
        self.assertIsNone(self.read(self.web).due_at)


class TestForget(backends.DatabaseTestCase):
    def setUp(self):
        super().setUp()
        self.east, self.west = self.cloud("east"), self.cloud("west")
        self.web = self.stack("web", [self.east, self.west])

    def names(self):
        return [member.cloud.name for member in self.read(self.web).members]

    def test_a_member_that_has_left(self):
        self.update({self.east.id: {"leaving": True}})
        claimed = self.claim(self.web)
        self.assertTrue(db_rounds.forget_member(self.ctx, claimed, claimed.members[0]))
        self.assertEqual(["west"], self.names())
        self.assertTrue(self.save(claimed))

    def test_a_member_that_a_user_took_back_meanwhile(self):
        self.update({self.east.id: {"leaving": True}})
        claimed = self.claim(self.web)
        self.update({self.east.id: {"leaving": False, "weight": "1"}})
        self.assertRaises(
            exception.ConcurrentUpdate,
            db_rounds.forget_member,
            self.ctx,
            claimed,
            claimed.members[0],
        )
        self.assertEqual(["east", "west"], self.names())
        self.assertTrue(self.save(claimed))
        self.assertEqual([self.web.id], due())

    def test_a_stack_of_which_nothing_is_left(self):
        self.stack("other", [self.east])
        db_stacks.update_stack(self.ctx, self.web.id, values={"deleting": True})
        claimed = self.claim(self.web)
        for member in claimed.members:
            self.assertTrue(db_rounds.forget_member(self.ctx, claimed, member))
        self.assertTrue(db_rounds.finish_delete(self.ctx, claimed, "Deleted."))
        self.assertRaises(exception.StackNotFound, self.read, self.web)
        self.assertEqual(
            {self.east.id: 1},
            {
                c: use.members
                for c, use in db_clouds.count_use(self.ctx, [self.east.id, self.west.id]).items()
            },
        )
        self.assertFalse(self.save(claimed))
        self.assertFalse(db_rounds.finish_delete(self.ctx, claimed, "Deleted."))
        # Its events outlive it.
        last = self.events(stack_id=self.web.id)[-1]
        self.assertEqual(("stack.delete.end", "web"), (last.type, last.stack_name))

    def test_members_go_with_their_stack(self):
        claimed = self.claim(self.web)
        self.assertTrue(db_rounds.finish_delete(self.ctx, claimed, "Released."))
        self.assertEqual(
            {},
            {
                c: use.members
                for c, use in db_clouds.count_use(self.ctx, [self.east.id, self.west.id]).items()
            },
        )
        db_clouds.delete_cloud(self.ctx, self.east.id)

    def update(self, members):
        return db_stacks.update_stack(self.new_context(), self.web.id, members=members)


class TestMembersOfACloud(backends.DatabaseTestCase):
    def test_by_the_heat_stacks_that_they_own(self):
        east, west = self.cloud("east"), self.cloud("west")
        for number in range(3):
            claimed = self.claim(self.stack(f"web{number}", [east, west]))
            self.save(
                claimed,
                members={
                    member.id: {"heat_stack_id": f"{member.cloud.name}-{number}"}
                    for member in claimed.members
                },
            )

        def found(cloud, ids):
            members = db_rounds.members_of_heat_stacks(self.ctx, cloud.id, ids)
            return sorted(member.heat_stack_id for member in members)

        self.assertEqual(["east-0", "east-2"], found(east, ["east-0", "east-2", "west-1"]))
        self.assertEqual(["west-1"], found(west, ["east-0", "west-1"]))
        self.assertEqual([], found(west, []))
        many = [f"none-{number}" for number in range(1200)]
        self.assertEqual(["east-1", "east-2"], found(east, ["east-1", *many, "east-2"]))

    def test_a_tombstone_for_whom_a_create_may_be_on_its_way(self):
        east, west = self.cloud("east"), self.cloud("west")
        web = self.stack("web", [east, west], template="heat_template_version: 2021-04-16")
        first = self.claim(web).members[0]
        db_rounds.save_members(self.ctx, self.read(web), {first.id: {"creating": True}})
        claimed = self.read(web)
        for member in claimed.members:
            self.assertTrue(db_rounds.forget_member(self.ctx, claimed, member))
            # As after a commit of which the answer was lost.
            self.assertTrue(db_rounds.forget_member(self.ctx, claimed, member))
        graves = self.look(east).graves
        self.assertEqual([first.id], list(graves))
        self.assertEqual((web.id, "web"), (graves[first.id].stack_id, graves[first.id].stack_name))
        self.assertEqual({}, self.look(west).graves)
        db_rounds.forget_tombstones(self.ctx, 60)
        self.assertEqual([first.id], list(self.look(east).graves))
        db_rounds.forget_tombstones(self.ctx, -60)
        self.assertEqual({}, self.look(east).graves)
