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

"""Whole rounds of the real engine against fake Heats; then a look at the database and at Heat.

Which of our functions was called is nobody's business here. Time is the world's: what takes minutes
takes none.
"""

import collections
from concurrent import futures
import contextlib
import functools
import logging

import fixtures

from heat_spreader.db import events as db_events
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests import fake_heat
from heat_spreader.tests.unit.engine import world

WEIGHTS = ".6 .2 .2"


class MainJob(world.WorldTest):
    """Ten units over three clouds, from a template; one cloud goes and comes back."""

    # Every action is seen under way.
    seconds = 1.5

    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack(
            WEIGHTS,
            10,
            parameters={"flavor": "large"},
            timeout_mins=7,
        )

    def settle(self):
        return self.world.settle(self.web, self.engine)

    def test_6_2_2(self):
        self.settle()
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual(3, self.world.live())
        stack = self.world.row(self.web)
        self.assertEqual("ACTIVE", stack.status)
        self.assertEqual(stack.generation, stack.observed_generation)
        self.assertIsNone(stack.claimed_by)
        self.assertEqual(
            {
                "desired": 10,
                "assigned": 10,
                "unassigned": 0,
                "shortfall": 0,
                "excess": 0,
                "confirmed": 10,
                "in_doubt": 0,
                "bound": 10,
                "distance": 0,
            },
            stack.ledger,
        )
        for name, share in (("cloud1", 6), ("cloud2", 2), ("cloud3", 2)):
            member = self.world.members(self.web)[name]
            found = self.heats[name].stack("web")
            self.assertEqual(
                (share, share, share, share),
                (member.share, member.held, member.observed_count, member.confirmed),
            )
            self.assertEqual(("ACTIVE", "CREATE_COMPLETE"), (member.status, member.heat_status))
            self.assertTrue(member.owned)
            self.assertEqual(found.id, member.heat_stack_id)
            self.assertEqual({"count": str(share), "flavor": "large"}, found.parameters)
            self.assertEqual(7, found.timeout_mins)
            self.assertIn(f"heat-spreader-stack-{self.web}", found.tags)
            self.assertIn(f"heat-spreader-member-{member.id}", found.tags)
        self.assertEqual(3, len(self.world.asked("POST")))
        self.assertEqual([], self.world.asked("PATCH"))

    def fail_over_and_back(self, fault):
        self.settle()
        cloud3 = self.heats["cloud3"]
        cloud3.fault(fault)
        self.world.until(lambda: self.world.units() == (7, 3, 2), self.engine, limit=20)
        self.settle()
        self.assertEqual((7, 3, 0), self.world.shares(self.web))
        stack = self.world.row(self.web)
        self.assertEqual("DEGRADED", stack.status)
        self.assertEqual(
            (10, 2, 12), tuple(stack.ledger[k] for k in ("confirmed", "in_doubt", "bound"))
        )
        self.assertEqual("unreachable", self.world.cloud("cloud3").verdict)
        self.assertEqual("OUT_OF_SIGHT", self.world.members(self.web)["cloud3"].status)

        confirmed = []

        def back():
            confirmed.append(self.world.row(self.web).ledger["confirmed"])
            return self.world.units() == (6, 2, 2) and self.world.at_rest(self.web)

        cloud3.heal()
        self.world.until(back, self.engine, limit=30)
        self.assertGreaterEqual(min(confirmed), 10)
        self.assertEqual((6, 2, 2), self.world.shares(self.web))
        self.assertEqual("ACTIVE", self.world.row(self.web).status)
        self.assertEqual([], cloud3.asked("PATCH"))
        self.assertEqual(
            ["stack.failover", "stack.failback"],
            [e.type for e in self.world.events(self.web) if e.type.startswith("stack.fail")],
        )

    def test_killed_and_back(self):
        self.fail_over_and_back("refuse")

    def test_count_changes_in_mid_update(self):
        """Intermediate ones may be skipped; the last one stands; a Heat at work is left alone."""
        self.settle()
        for name in self.heats:
            self.heats[name].seconds = 4
        for count in (20, 30, 5, 40, 15):
            self.world.change(self.web, count=count)
            self.world.run(self.engine, seconds=2)
        self.settle()
        self.assertEqual((9, 3, 3), self.world.units())
        for name in self.heats:
            self.assertLessEqual(len(self.heats[name].asked("PATCH")), 4)

    def test_new_weights_raise_before_they_lower(self):
        self.settle()
        self.heats["cloud3"].seconds = 5
        self.world.change(self.web, weights=".2 .2 .6")
        self.settle()
        self.assertEqual((2, 2, 6), self.world.units())
        [raised] = self.heats["cloud3"].asked("PATCH")
        [lowered] = self.heats["cloud1"].asked("PATCH")
        self.assertGreater(lowered.at, raised.at + 5)


class TestMainJobWithoutConvergence(MainJob):
    convergence = False


class TestMainJob(MainJob):
    convergence = True

    def test_back_with_nothing(self):
        """Its units must run before the others give theirs up."""
        self.settle()
        cloud3 = self.heats["cloud3"]
        cloud3.fault("refuse")
        self.world.until(lambda: self.world.units() == (7, 3, 2), self.engine)
        self.settle()
        cloud3.heal()
        self.world.by_hand("cloud3").delete()
        cloud3.seconds = 5
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.settle()
        self.assertEqual(3, self.world.live())
        made = cloud3.stack("web")
        for name in ("cloud1", "cloud2"):
            lowered = self.heats[name].asked("PATCH")[-1]
            self.assertGreater(lowered.at, made.created + 5)

    def test_count(self):
        self.settle()
        for count, units in ((20, (12, 4, 4)), (5, (3, 1, 1)), (0, (0, 0, 0)), (10, (6, 2, 2))):
            self.world.change(self.web, count=count)
            self.settle()
            self.assertEqual(units, self.world.units())
            self.assertEqual(units, self.world.shares(self.web))
        self.assertEqual(3, self.world.live())

    def test_failover_keeps_its_evidence(self):
        self.settle()
        self.heats["cloud3"].fault("refuse")
        self.world.until(lambda: self.world.units() == (7, 3, 2), self.engine)
        [event] = self.world.events(self.web, "stack.failover")
        self.assertEqual("cloud3", event.cloud_name)
        self.assertEqual({"cloud1": 6, "cloud2": 2, "cloud3": 2}, event.before)
        self.assertEqual({"cloud1": 7, "cloud2": 3, "cloud3": 0}, event.after)
        self.assertEqual("unreachable", event.evidence["verdict"])
        self.assertIn("Heat cannot be reached", event.evidence["reason"])

    def test_no_write_to_a_cloud_out_of_sight(self):
        self.settle()
        self.heats["cloud3"].fault("error")
        asked = len(self.world.asked("POST", "PATCH", "DELETE"))
        self.world.run(self.engine, seconds=3)
        self.world.change(self.web, count=20)
        self.world.run(self.engine, seconds=10)
        self.assertEqual((14, 4, 2), self.world.units())
        self.assertEqual([], self.heats["cloud3"].asked("PATCH"))
        self.assertEqual(asked + 2, len(self.world.asked("POST", "PATCH", "DELETE")))

    def test_count_changes_while_being_created(self):
        self.world.run(self.engine, seconds=1)
        self.world.change(self.web, count=20)
        self.settle()
        self.assertEqual((12, 4, 4), self.world.units())
        self.assertEqual(3, self.world.live())

    def test_a_change_in_mid_round_is_not_lost(self):
        self.settle()
        self.world.change(self.web, count=20)

        def meanwhile(when, what):
            if when == "before" and what.startswith("PATCH") and "cloud2" in what:
                self.world.change(self.web, count=30)

        with self.world.watched(meanwhile):
            self.engine.work()
        self.settle()
        self.assertEqual((18, 6, 6), self.world.units())

    def test_a_patch_carries_the_count_and_nothing_else(self):
        self.settle()
        self.world.change(self.web, count=20)
        self.settle()
        [seen] = self.heats["cloud1"].asked("PATCH")
        self.assertEqual({"count": 12}, seen.body["parameters"])
        self.assertEqual({"parameters", "timeout_mins"}, set(seen.body))
        self.assertEqual("large", self.heats["cloud1"].stack("web").parameters["flavor"])

    def test_another_cloud_comes_in(self):
        two = self.world.create_stack(".6 .4", name="two")
        self.world.settle(two, self.engine)
        self.assertEqual((6, 4, None), self.world.units("two"))
        self.world.change(two, members={"cloud2": {"weight": "0.2"}, "cloud3": {"weight": "0.2"}})
        self.world.settle(two, self.engine)
        self.assertEqual((6, 2, 2), self.world.units("two"))

    def test_events_tell_the_story(self):
        self.settle()
        self.world.change(self.web, count=11)
        self.settle()
        told = [(event.type, event.cloud_name) for event in self.world.events(self.web)]
        self.assertEqual(("stack.create", None), told[0])
        self.assertEqual(3, sum(type == "member.create" for type, _ in told))
        [resized] = self.world.events(self.web, "member.resize")
        self.assertEqual(("cloud1", 6, 7), (resized.cloud_name, resized.before, resized.after))

    def test_hung_and_back(self):
        self.fail_over_and_back("hang")


del MainJob


NO_COUNT = world.TEMPLATE.replace("  count: {type", "  size: {type").replace(
    "get_param: count", "get_param: size"
)


class TakeOver(world.WorldTest):
    """Heat stacks that exist already: their count is ours to set, and nothing else."""

    def take_over(self, weights=WEIGHTS, count=10, **columns):
        return self.world.create_stack(weights, count, template=None, **columns)

    def make(self, *counts, **options):
        for name, count in zip(self.heats, counts, strict=False):
            self.world.by_hand(name).create(count, **options)

    def test_6_2_2(self):
        self.make(1, 1, 3)
        web = self.take_over()
        self.world.settle(web, self.engine)
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual("ACTIVE", self.world.row(web).status)
        self.assertEqual(3, self.world.live())
        for member in self.world.members(web).values():
            self.assertFalse(member.owned)
            self.assertEqual(member.share, member.held)
        for name in self.heats:
            self.assertEqual([], self.heats[name].asked("POST")[1:])
            self.assertEqual(1, len(self.heats[name].asked("PATCH")))
            self.assertIsNone(self.heats[name].stack("web").tags)

    def test_killed_and_back(self):
        self.make(6, 2, 2)
        web = self.take_over()
        self.world.settle(web, self.engine)
        self.assertEqual([], self.world.asked("PATCH"))
        self.heats["cloud3"].fault("refuse")
        self.world.until(lambda: self.world.units() == (7, 3, 2), self.engine)
        self.world.settle(web, self.engine)
        self.heats["cloud3"].heal()
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.world.settle(web, self.engine)
        self.assertEqual("ACTIVE", self.world.row(web).status)

    def test_no_count_parameter(self):
        """Heat would take the PATCH and ignore it, so none may be sent."""
        self.make(6, 2)
        self.world.by_hand("cloud3").create(2, template=NO_COUNT, parameter="size")
        made = len(self.world.asked("POST"))
        web = self.take_over()
        self.world.run(self.engine, seconds=8)
        self.assertEqual("ERROR", self.world.row(web).status)
        member = self.world.members(web)["cloud3"]
        self.assertEqual("ERROR", member.status)
        self.assertIn("declares no parameter 'count'", member.status_reason)
        self.assertIn("flavor, size", member.status_reason)
        self.assertEqual(made, len(self.world.asked("POST", "PATCH", "PUT", "DELETE")))
        self.assertEqual(1, len(self.world.events(web, "member.refused")))


class TestTakeOverWithoutConvergence(TakeOver):
    convergence = False


class TestTakeOver(TakeOver):
    convergence = True

    def test_one_is_not_there(self):
        self.make(1, 1)
        web = self.take_over()
        self.world.run(self.engine, seconds=8)
        self.assertEqual((6, 2, None), self.world.units())
        stack = self.world.row(web)
        self.assertEqual("ERROR", stack.status)
        self.assertIn("'cloud3' has no Heat stack named 'web'", stack.status_reason)
        self.assertEqual("ERROR", self.world.members(web)["cloud3"].status)
        self.world.by_hand("cloud3").create(1)
        self.world.settle(web, self.engine)
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)

    def test_removed_by_hand(self):
        self.make(6, 2, 2)
        web = self.take_over()
        self.world.settle(web, self.engine)
        self.world.by_hand("cloud2").delete()
        self.world.run(self.engine, seconds=10)
        self.assertEqual("ERROR", self.world.row(web).status)
        self.assertEqual("ERROR", self.world.members(web)["cloud2"].status)
        self.assertEqual((6, None, 2), self.world.units())
        self.assertEqual(1, len(self.world.events(web, "member.missing")))

    def test_leaving(self):
        self.make(6, 2, 2)
        web = self.take_over()
        self.world.settle(web, self.engine)
        self.heats["cloud1"].seconds = 5
        self.world.change(
            web,
            members={
                "cloud1": {"weight": "0.8"},
                "cloud3": {"leaving": True, "weight": "0"},
            },
        )
        self.world.until(lambda: "cloud3" not in self.world.members(web), self.engine)
        self.world.settle(web, self.engine)
        self.assertEqual((8, 2, 0), self.world.units())
        self.assertEqual(3, self.world.live())
        [raised] = self.heats["cloud1"].asked("PATCH")
        [lowered] = self.heats["cloud3"].asked("PATCH")
        self.assertGreater(lowered.at, raised.at + 5)
        self.assertEqual("ACTIVE", self.world.row(web).status)

    def test_deleted_stack_leaves_them_as_they_are(self):
        self.make(6, 2, 2)
        web = self.take_over()
        self.world.settle(web, self.engine)
        self.heats["cloud3"].fault("refuse")
        self.world.run(self.engine, seconds=2)
        self.world.change(web, deleting=True)
        self.world.until(lambda: self.world.stack(web) is None, self.engine, limit=5)
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual([], self.world.asked("DELETE", "PATCH"))


del TakeOver


class TestForeignNames(world.WorldTest):
    def test_the_name_is_taken(self):
        """Somebody else's Heat stack is neither resized nor deleted, and a person is told."""
        self.world.by_hand("cloud2").create(4)
        web = self.world.create_stack()
        self.world.run(self.engine, seconds=8)
        self.assertEqual((6, 4, 2), self.world.units())
        stack = self.world.row(web)
        self.assertEqual("ERROR", stack.status)
        self.assertIn("The name is taken in this cloud", stack.status_reason)
        member = self.world.members(web)["cloud2"]
        self.assertEqual("ERROR", member.status)
        self.assertIsNone(member.heat_stack_id)
        self.assertEqual(1, len(self.world.events(web, "member.refused")))

        self.world.change(web, deleting=True)
        self.world.until(lambda: self.world.stack(web) is None, self.engine)
        self.assertEqual((None, 4, None), self.world.units())
        self.assertEqual([], self.heats["cloud2"].asked("PATCH"))
        self.assertEqual([], self.heats["cloud2"].asked("DELETE"))

    def test_it_is_freed(self):
        self.world.by_hand("cloud2").create(4)
        web = self.world.create_stack()
        self.world.run(self.engine, seconds=5)
        self.world.by_hand("cloud2").delete()
        self.world.settle(web, self.engine)
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)

    def test_stacks_of_two_projects_with_one_name(self):
        """What one is to another: a name that is taken."""
        one = self.world.create_stack()
        two = self.world.create_stack(project_id="q")
        self.world.run(self.engine, seconds=10)
        self.assertEqual(3, self.world.live())
        self.assertEqual({"ACTIVE", "ERROR"}, {self.world.row(s).status for s in (one, two)})


class Faults(world.WorldTest):
    """Answers that are lost, and answers that say no."""

    def created(self, *args, **options):
        web = self.world.create_stack(*args, **options)
        self.world.settle(web, self.engine)
        return web

    def settled(self, stacks):
        self.world.until(lambda: all(map(self.world.at_rest, stacks.values())), self.engine)
        for stack in stacks.values():
            self.assertEqual("ACTIVE", self.world.row(stack).status)
            self.assertEqual("", self.world.members(stack)["cloud2"].problem)
            self.assertEqual([], self.world.events(stack, "member.drift"))

    def check_resize(self, **patches):
        """Each kind of fault happens to a stack of that name, in one cloud.

        :param patches: how many times the fault happens, and how many PATCHes there are in the end
        """
        cloud2 = self.heats["cloud2"]
        stacks = {kind: self.world.create_stack(name=kind) for kind in patches}
        self.settled(stacks)
        for kind, stack in stacks.items():
            cloud2.fault(kind, method="PATCH", path=f"/{kind}/", times=patches[kind][0])
            self.world.change(stack, count=20)
        self.settled(stacks)
        for kind, (_, asked) in patches.items():
            self.assertEqual((12, 4, 4), self.world.units(kind), kind)
            self.assertEqual(asked, len(cloud2.asked("PATCH", f"/{kind}/")), kind)

    def test_resize_done_but_the_answer_is_lost(self):
        self.check_resize(lose=(1, 1), error_after=(1, 1))

    def test_lost_answer_long_after_an_update(self):
        """A Heat stack that was updated before shows a lost update by its time alone."""
        web = self.created()
        self.world.change(web, count=20)
        self.world.settle(web, self.engine)
        self.world.run(self.engine, seconds=3)
        for fault in ("lose", "error_after"):
            self.heats["cloud1"].fault(fault, method="PATCH", times=1)
        self.world.change(web, count=30)
        self.world.settle(web, self.engine)
        self.world.change(web, count=40)
        self.world.settle(web, self.engine)
        self.assertEqual((24, 8, 8), self.world.units())
        self.assertEqual(3, len(self.heats["cloud1"].asked("PATCH")))


class TestFaults(Faults):
    convergence = True

    def test_resize_not_done(self):
        self.check_resize(
            error=(1, 2),
            hang=(1, 2),
            unavailable=(1, 2),
            not_found=(1, 2),
            garbage=(1, 2),
            conflict=(3, 4),
        )

    def check_create(self, **posts):
        """Each kind of fault happens once to a stack of that name, in one cloud."""
        cloud2 = self.heats["cloud2"]

        def once(kind):
            happened = []

            def fault(request, proceed):
                if request.json_body["stack_name"] != kind or happened:
                    return proceed()
                happened.append(kind)
                return fake_heat.FAULTS[kind](request, proceed)

            return fault

        # One after another, so that each of them sees every request.
        whole = functools.reduce(
            lambda inner, fault: (
                lambda request, proceed: fault(request, lambda: inner(request, proceed))
            ),
            [once(kind) for kind in posts],
            lambda request, proceed: proceed(),
        )
        cloud2.fault(whole, method="POST")
        stacks = {kind: self.world.create_stack(name=kind) for kind in posts}
        self.settled(stacks)
        for kind, asked in posts.items():
            self.assertEqual((6, 2, 2), self.world.units(kind), kind)
            self.assertEqual(1, sum(found.name == kind for found in cloud2.live()), kind)
            sent = [seen for seen in cloud2.asked("POST") if seen.body["stack_name"] == kind]
            self.assertEqual(asked, len(sent), kind)

    def test_create_done_but_the_answer_is_lost(self):
        self.check_create(lose=1, error_after=1)

    def test_create_not_done(self):
        self.check_create(error=2, hang=2, unavailable=2, conflict=2, garbage=2, not_found=2)

    def test_delete_without_a_good_answer(self):
        kinds = ("lose", "error_after", "error", "hang", "conflict")
        stacks = {kind: self.world.create_stack(name=kind) for kind in kinds}
        self.settled(stacks)
        for kind, stack in stacks.items():
            self.heats["cloud2"].fault(kind, method="DELETE", path=f"/{kind}/", times=1)
            self.world.change(stack, deleting=True)
        self.world.until(lambda: not any(map(self.world.stack, stacks.values())), self.engine)
        self.assertEqual(0, self.world.live())

    def test_heat_fails(self):
        """The others run what it could not; it is taken back there, and tried again later."""
        web = self.created()
        cloud2 = self.heats["cloud2"]
        cloud2.fail("UPDATE", "no valid host was found", times=1)
        self.world.change(web, count=20)
        self.world.until(lambda: "no valid host" in self.world.row(web).status_reason, self.engine)
        self.world.settle(web, self.engine)
        self.assertEqual(2, self.world.units()[1])
        self.assertEqual(20, sum(self.world.units()))
        self.assertEqual("DEGRADED", self.world.row(web).status)
        member = self.world.members(web)["cloud2"]
        self.assertEqual(("FULL", 2), (member.status, member.capacity))
        self.assertIn("no valid host", member.status_reason)
        [event] = self.world.events(web, "member.full")
        self.assertEqual(("cloud2", 2), (event.cloud_name, event.after))
        self.world.until(lambda: self.world.units() == (12, 4, 4), self.engine)
        self.world.settle(web, self.engine)
        self.assertEqual(
            ("ACTIVE", None), (self.world.row(web).status, member_capacity(self, web))
        )
        raised = [seen.at for seen in cloud2.asked("PATCH") if wanted(seen) == 4]
        self.assertGreater(raised[1] - raised[0], self.world.full_for)

    def test_what_fails_again_is_left_for_longer(self):
        web = self.created()
        cloud2 = self.heats["cloud2"]
        cloud2.fault("quota", method="PATCH", times=3)
        self.world.change(web, count=20)
        self.world.until(lambda: self.world.units() == (12, 4, 4), self.engine, limit=600)
        first, second, third, fourth = (seen.at for seen in cloud2.asked("PATCH"))
        for shorter, longer in (
            (second - first, third - second),
            (third - second, fourth - third),
        ):
            self.assertGreater(longer, 1.8 * shorter)

    def test_interrupted_is_no_want_of_room(self):
        for reason in ("Stack UPDATE cancelled", "Engine went down during stack UPDATE"):
            web = self.created(name=reason.split()[1].lower())
            self.heats["cloud2"].fail("UPDATE", reason, times=1)
            self.world.change(web, count=20)
            self.world.settle(web, self.engine)
            self.assertEqual([], self.world.events(web, "member.full"))
            self.assertEqual((12, 4, 4), self.world.units(reason.split()[1].lower()))

    def test_creation_fails(self):
        self.heats["cloud2"].fail("CREATE", "no valid host was found", times=1)
        web = self.world.create_stack()
        self.world.until(lambda: "no valid host" in self.world.row(web).status_reason, self.engine)
        self.world.settle(web, self.engine)
        self.assertEqual((8, None, 2), self.world.units())
        self.world.until(lambda: self.world.row(web).status == "ACTIVE", self.engine)
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual(3, self.world.live())

    def test_what_never_ran_is_not_counted_on_when_less_of_it_is_asked_for(self):
        """A taken-over Heat stack whose creation failed at 5 runs nothing, also when 4 are wanted."""
        self.heats["cloud1"].fail("CREATE", "Engine went down during stack CREATE", times=1)
        self.world.by_hand("cloud1").create(5)
        self.world.by_hand("cloud2").create(4)
        web = self.world.create_stack(".8 .2", 5, template=None)
        self.heats["cloud1"].seconds = 5
        self.world.until(lambda: self.heats["cloud1"].asked("PATCH"), self.engine)
        self.assertEqual(0, self.world.members(web)["cloud1"].confirmed)
        self.world.settle(web, self.engine)
        self.assertEqual((4, 1), self.world.units()[:2])
        [raised], [lowered] = (self.heats[name].asked("PATCH") for name in ("cloud1", "cloud2"))
        self.assertGreater(lowered.at, raised.at + 5)

    def test_a_raise_that_fails_lowers_nothing(self):
        web = self.created()
        self.heats["cloud3"].fail("UPDATE", "no valid host was found", times=1)
        self.world.change(web, weights=".2 .2 .6")
        self.world.until(lambda: "no valid host" in self.world.row(web).status_reason, self.engine)
        self.world.settle(web, self.engine)
        self.assertEqual(10, sum(self.world.units()))
        self.assertEqual(2, self.world.units()[2])
        self.world.until(lambda: self.world.units() == (2, 2, 6), self.engine)
        raised = self.heats["cloud3"].asked("PATCH")[-1]
        self.assertEqual(6, wanted(raised))
        for cloud in ("cloud1", "cloud2"):
            for seen in self.heats[cloud].asked("PATCH"):
                lowered_before = seen.at < raised.at + self.seconds
                self.assertFalse(lowered_before and wanted(seen) < 2, f"{cloud} {seen}")

    def test_too_large_for_heat(self):
        self.heats["cloud1"].max_resources = 5
        web = self.world.create_stack()
        self.world.until(
            lambda: "Maximum resources per stack" in self.world.row(web).status_reason, self.engine
        )
        self.world.settle(web, self.engine)
        self.assertEqual((None, 5, 5), self.world.units())
        self.heats["cloud1"].max_resources = 1000
        self.world.until(lambda: self.world.row(web).status == "ACTIVE", self.engine)
        self.assertEqual((6, 2, 2), self.world.units())

    def test_project_full(self):
        """Its units run elsewhere, and a person is told why."""
        self.heats["cloud2"].max_stacks = 0
        web = self.world.create_stack()
        self.world.run(self.engine, seconds=10)
        self.assertEqual((8, None, 2), self.world.units())
        member = self.world.members(web)["cloud2"]
        self.assertEqual("FULL", member.status)
        self.assertIn("maximum stacks per tenant", member.status_reason)
        self.assertEqual("DEGRADED", self.world.row(web).status)
        self.assertEqual(1, len(self.heats["cloud2"].asked("POST")))
        self.heats["cloud2"].max_stacks = 10
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.world.until(lambda: self.world.row(web).status == "ACTIVE", self.engine)

    def test_all_are_full(self):
        """What fits nowhere is the shortfall, with each cloud's reason; a change tries at once."""
        web = self.created()
        for cloud in self.heats.values():
            cloud.fault("quota", method="PATCH")
        self.world.change(web, count=20)
        self.world.settle(web, self.engine)
        self.assertEqual((6, 2, 2), self.world.units())
        row = self.world.row(web)
        self.assertEqual(("DEGRADED", 10), (row.status, row.ledger["shortfall"]))
        self.assertIn("10 unit(s) fit nowhere", row.status_reason)
        for cloud in self.heats.values():
            cloud.heal()
        self.world.change(web, description="there is room now")
        self.assertLess(self.world.settle(web, self.engine), 10)
        self.assertEqual((12, 4, 4), self.world.units())

    def test_credentials_refused(self):
        """Told at once; when it lasts, the others run what was to be added."""
        web = self.created()
        self.heats["cloud2"].fault("forbidden", method="PATCH")
        self.world.change(web, count=20)
        self.world.run(self.engine, seconds=3)
        self.assertEqual((12, 2, 4), self.world.units())
        member = self.world.members(web)["cloud2"]
        self.assertEqual("ERROR", member.status)
        self.assertIn("not authorized", member.status_reason)
        self.world.run(self.engine, seconds=12)
        self.assertEqual(20, sum(self.world.units()))
        self.assertEqual(2, self.world.units()[1])
        self.assertEqual(3, len(self.heats["cloud2"].asked("PATCH")))
        self.assertEqual(1, len(self.world.events(web, "member.refused")))
        self.assertEqual([], self.world.events(web, "stack.failover"))

    def test_a_bad_template(self):
        web = self.world.create_stack(template="heat_template_version: 2021-04-16\nparameters: {}")
        self.world.run(self.engine, seconds=10)
        stack = self.world.row(web)
        self.assertEqual("ERROR", stack.status)
        self.assertIn("The Parameter (count) was not defined in template", stack.status_reason)
        self.assertEqual(0, self.world.live())

    def test_a_cloud_that_cannot_be_read_delays_no_other(self):
        """It lists its Heat stacks and answers 500 when it is asked for a single one."""
        web = self.created()
        self.heats["cloud3"].fault("error", method="GET", path="/stacks/web/")
        self.world.by_hand("cloud3").resize(5)
        self.world.run(self.engine, seconds=4)
        self.world.change(web, count=20)
        self.world.run(self.engine, seconds=6)
        self.assertEqual((14, 4, 5), self.world.units())
        self.assertEqual("OUT_OF_SIGHT", self.world.members(web)["cloud3"].status)
        self.assertIn("DBConnectionError", self.world.members(web)["cloud3"].status_reason)

    def test_the_database_fails(self):
        """Whatever an engine meets: it says so, and the next rounds make it good."""
        self.engine.look()
        for moment in ("before save_members", "after save_members", "before save_round"):
            web = self.world.create_stack(name=moment.replace(" ", "-"))
            self.work_that_fails(web, moment)
            self.world.settle(web, self.engine)
            self.assertEqual((6, 2, 2), self.world.units(moment.replace(" ", "-")), moment)
            self.world.change(web, count=20)
            self.work_that_fails(web, "before save_round")
            self.world.settle(web, self.engine)
            self.assertEqual(20, sum(self.world.units(moment.replace(" ", "-"))), moment)
            self.assertEqual([], self.world.events(web, "member.drift"))

    def work_that_fails(self, stack, moment):
        failed = []

        def fail(when, what):
            if not failed and f"{when} {what}" == moment:
                failed.append(moment)
                raise RuntimeError("the database went away")

        with self.world.watched(fail):
            self.engine.work()
        self.assertEqual([moment], failed)
        row = self.world.row(stack)
        self.assertEqual(("ERROR", None), (row.status, row.claimed_by))
        self.assertIn("unexpected error", row.status_reason)


def wanted(seen):
    """The count that a PATCH asked for."""
    return seen.body["parameters"]["count"]


def member_capacity(test, stack):
    return test.world.members(stack)["cloud2"].capacity


class TestFaultsWithoutConvergence(Faults):
    convergence = False

    def test_told_that_heat_is_at_work(self):
        """Somebody else began an update that no listing has shown yet."""
        self.may_trespass = True
        web = self.created()
        self.heats["cloud2"].seconds = 4
        self.world.by_hand("cloud2").resize(7)
        self.world.change(web, count=20)
        self.engine.sweep()
        member = self.world.members(web)["cloud2"]
        self.assertEqual("WAITING", member.status)
        self.assertIn("busy", member.status_reason)
        self.world.settle(web, self.engine)
        self.world.until(lambda: self.world.units() == (12, 4, 4), self.engine)
        self.world.settle(web, self.engine)
        self.assertEqual("", self.world.members(web)["cloud2"].problem)


del Faults


class TestDrift(world.WorldTest):
    """Somebody else changes what is ours to set: it is set right, and told."""

    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack()
        self.world.settle(self.web, self.engine)

    def drift(self, seconds=1.5):
        self.heats["cloud1"].seconds = seconds
        before = len(self.world.events(self.web, "member.drift"))
        self.world.by_hand("cloud1").resize(9)
        self.world.until(
            lambda: len(self.world.events(self.web, "member.drift")) > before, self.engine
        )
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.world.settle(self.web, self.engine)
        event = self.world.events(self.web, "member.drift")[-1]
        self.assertEqual(("cloud1", 6, 9), (event.cloud_name, event.before, event.after))
        self.assertIn("Somebody else changed count", event.message)
        self.assertEqual("ACTIVE", self.world.row(self.web).status)

    def test_of_a_heat_stack_that_was_never_updated(self):
        self.drift()

    def test_of_one_that_was_updated_before(self):
        self.world.change(self.web, count=20)
        self.world.settle(self.web, self.engine)
        self.world.change(self.web, count=10)
        self.world.settle(self.web, self.engine)
        self.world.clock.advance(5)
        self.drift()
        self.assertEqual(1, len(self.world.events(self.web, "member.drift")))

    def test_that_takes_its_time(self):
        """What is under way is left alone until it is over."""
        self.drift(seconds=5)

    def test_is_healed_without_a_unit_less(self):
        """Of two clouds the one that was lowered is raised before the other is lowered."""
        self.world.by_hand("cloud1").resize(1)
        self.world.by_hand("cloud3").resize(7)
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        [_, raised] = self.heats["cloud1"].asked("PATCH")
        [_, lowered] = self.heats["cloud3"].asked("PATCH")
        self.assertGreater(lowered.at, raised.at + self.seconds)

    def test_removed_by_hand(self):
        gone = self.heats["cloud2"].stack("web")
        self.world.by_hand("cloud2").delete()
        self.world.until(lambda: gone.deleted is not None, self.engine)
        self.world.settle(self.web, self.engine)
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual(3, self.world.live())
        [event] = self.world.events(self.web, "member.missing")
        self.assertEqual("cloud2", event.cloud_name)
        self.assertEqual("ACTIVE", self.world.row(self.web).status)

    def test_removed_by_hand_between_two_looks(self):
        self.heats["cloud2"].seconds = 0
        self.world.by_hand("cloud2").delete()
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.world.settle(self.web, self.engine)
        self.assertEqual(1, len(self.world.events(self.web, "member.missing")))

    def test_what_is_our_own_is_no_drift(self):
        for count in (20, 5, 10):
            self.world.change(self.web, count=count)
            self.world.settle(self.web, self.engine)
        self.assertEqual([], self.world.events(self.web, "member.drift"))
        self.assertEqual([], self.world.events(self.web, "member.missing"))


class TestRepair(world.WorldTest):
    """What a stack's users want done about what others do, and about what never ends."""

    def created(self, **repair):
        web = self.world.create_stack(**repair)
        self.world.settle(web, self.engine)
        return web

    def status(self, web, cloud="cloud1"):
        return self.world.members(web)[cloud].status

    def resize_by_hand(self, web, count):
        self.world.by_hand("cloud1").resize(count)
        self.world.run(self.engine, seconds=4)

    def test_a_change_that_comes_back_is_fought_once(self):
        web = self.created()
        self.resize_by_hand(web, 9)
        self.assertEqual((6, 2, 2), self.world.units())
        self.resize_by_hand(web, 9)
        self.assertEqual((9, 2, 2), self.world.units())
        row = self.world.row(web)
        self.assertEqual(("ERROR", "ERROR"), (row.status, self.status(web)))
        self.assertIn("owner in that cloud is user 'demo'", row.status_reason)
        [event] = self.world.events(web, "member.conflict")
        self.assertEqual((6, 9), (event.before, event.after))
        self.resize_by_hand(web, 8)
        self.world.run(self.engine, seconds=20)
        self.assertEqual((8, 2, 2), self.world.units())
        # Until a user decides.
        self.world.change(web, count=20)
        self.world.settle(web, self.engine)
        self.assertEqual((12, 4, 4), self.world.units())
        self.assertEqual("ACTIVE", self.world.row(web).status)

    def test_after_a_quiet_hour_it_is_another_change(self):
        web = self.created()
        for _ in range(3):
            self.resize_by_hand(web, 9)
            self.assertEqual((6, 2, 2), self.world.units())
            self.clock.advance(3601)
            self.world.run(self.engine, seconds=3)
        self.assertEqual([], self.world.events(web, "member.conflict"))

    def test_a_change_that_is_only_reported(self):
        web = self.created(on_drift="report")
        self.resize_by_hand(web, 9)
        self.world.run(self.engine, seconds=10)
        self.assertEqual((9, 2, 2), self.world.units())
        self.assertEqual(("DEGRADED", "DRIFTED"), (self.world.row(web).status, self.status(web)))
        self.assertEqual(1, len(self.world.events(web, "member.drift")))
        self.world.change(web, count=20)
        self.world.settle(web, self.engine)
        self.assertEqual((12, 4, 4), self.world.units())
        self.assertEqual("ACTIVE", self.world.row(web).status)

    def test_what_was_reported_is_healed_when_that_is_wanted(self):
        web = self.created(on_drift="report")
        self.resize_by_hand(web, 1)
        self.world.change(web, on_drift="heal")
        self.world.settle(web, self.engine)
        self.assertEqual((6, 2, 2), self.world.units())

    def test_a_change_that_is_ignored(self):
        web = self.created(on_drift="ignore")
        self.resize_by_hand(web, 9)
        self.assertEqual((9, 2, 2), self.world.units())
        self.assertEqual("ACTIVE", self.world.row(web).status)
        self.assertEqual([], self.world.events(web, "member.drift"))

    def delete_by_hand(self):
        self.heats["cloud2"].seconds = 0
        self.world.by_hand("cloud2").delete()
        self.world.run(self.engine, seconds=6)

    def test_missing_and_held(self):
        web = self.created(on_missing="hold")
        self.delete_by_hand()
        self.assertEqual((6, None, 2), self.world.units())
        self.assertEqual("MISSING", self.status(web, "cloud2"))
        self.world.change(web, count=20)
        self.world.settle(web, self.engine)
        self.assertEqual((12, None, 4), self.world.units())
        self.assertEqual("DEGRADED", self.world.row(web).status)

    def test_missing_and_moved(self):
        web = self.created(on_missing="move")
        self.delete_by_hand()
        self.world.settle(web, self.engine)
        self.assertEqual((8, None, 2), self.world.units())
        self.assertEqual("MISSING", self.status(web, "cloud2"))
        self.assertEqual(0, self.world.row(web).ledger["shortfall"])

    def test_missing_again(self):
        web = self.created()
        self.delete_by_hand()
        self.assertEqual((6, 2, 2), self.world.units())
        self.delete_by_hand()
        self.world.run(self.engine, seconds=20)
        self.assertEqual((6, None, 2), self.world.units())
        self.assertEqual("ERROR", self.status(web, "cloud2"))
        self.assertIn("ask who else", self.world.row(web).status_reason)
        self.world.change(web, count=10)
        self.world.settle(web, self.engine)
        self.assertEqual((6, 2, 2), self.world.units())

    def test_a_check_that_finds_nothing(self):
        web = self.created()
        self.world.ask_for_a_check(web)
        self.engine.work()
        self.assertEqual(3, len(self.world.asked("POST", path="/actions")))
        self.world.settle(web, self.engine)
        self.assertEqual("ACTIVE", self.world.row(web).status)
        self.assertEqual([], self.world.asked("PATCH"))
        self.assertEqual(3, len(self.world.asked("POST", path="/actions")))

    def test_a_check_that_finds_something(self):
        for drift, patches, status in (
            ("heal", 1, "ACTIVE"),
            ("report", 0, "DEGRADED"),
            ("ignore", 0, "ACTIVE"),
        ):
            web = self.created(name=drift, on_drift=drift)
            self.heats["cloud2"].fail("CHECK", "resources.group[1]: it is gone", times=1)
            self.world.ask_for_a_check(web)
            self.world.run(self.engine, seconds=4)
            self.assertEqual(1, len(self.world.events(web, "member.failed")), drift)
            self.world.settle(web, self.engine)
            self.assertEqual(status, self.world.row(web).status, drift)
            self.assertEqual(patches, len(self.world.asked("PATCH", path=f"/{drift}/")), drift)
            self.assertEqual((6, 2, 2), self.world.units(drift))

    def test_a_check_that_finds_something_without_convergence(self):
        for heat in self.heats.values():
            heat.convergence = False
        web = self.created()
        self.heats["cloud2"].fail("CHECK", "resources.group[1]: it is gone", times=1)
        self.world.ask_for_a_check(web)
        self.world.settle(web, self.engine)
        self.assertEqual("ACTIVE", self.world.row(web).status)
        self.assertEqual(1, len(self.world.asked("PATCH")))
        self.assertEqual("CHECK_FAILED", self.world.events(web, "member.failed")[0].after)
        self.assertEqual((6, 2, 2), self.world.units())

    def test_a_check_that_finds_it_put_right(self):
        web = self.created(on_drift="report")
        self.heats["cloud2"].fail("CHECK", "resources.group[1]: it is gone", times=1)
        self.world.ask_for_a_check(web)
        self.world.settle(web, self.engine)
        self.assertEqual("DEGRADED", self.world.row(web).status)
        self.world.ask_for_a_check(web)
        self.world.settle(web, self.engine)
        self.assertEqual("ACTIVE", self.world.row(web).status)
        self.assertEqual([], self.world.asked("PATCH"))

    def stuck(self, **repair):
        web = self.created(timeout_mins=1, **repair)
        self.heats["cloud2"].seconds = 1e9
        self.world.change(web, count=20)
        self.world.run(self.engine, seconds=100, step=10)
        self.assertEqual("CONVERGING", self.world.row(web).status)
        self.world.run(self.engine, seconds=40, step=10)
        return web

    def test_an_update_that_never_ends_is_reported(self):
        web = self.stuck()
        row = self.world.row(web)
        self.assertEqual("ERROR", row.status)
        self.assertIn(
            "UPDATE_IN_PROGRESS in cloud 'cloud2' for more than 2 minutes", row.status_reason
        )
        self.assertEqual(1, len(self.heats["cloud2"].asked("PATCH")))

    def test_an_update_that_never_ends_is_sent_again(self):
        self.may_trespass = True
        self.heats["cloud2"].cancels_after = 1e12  # those who were at it are dead
        web = self.stuck(on_stuck="retry")
        self.assertEqual(2, len(self.heats["cloud2"].asked("PATCH")))
        self.heats["cloud2"].seconds = 0.5
        self.world.run(self.engine, seconds=160, step=5)
        self.world.settle(web, self.engine)
        self.assertEqual((12, 4, 4), self.world.units())


class TestMovement(world.WorldTest):
    """How fast units move at a count that stays."""

    def moved(self, **rebalance):
        web = self.world.create_stack(**rebalance)
        self.world.settle(web, self.engine)
        self.world.change(web, weights=".2 .2 .6")
        return web

    def test_gradual(self):
        web = self.moved(rebalance_mode="gradual", rebalance_step=1)
        seen = []

        def arrived():
            seen.append(self.world.units())
            return self.world.units() == (2, 2, 6)

        self.world.until(arrived, self.engine)
        self.assertEqual({10, 11}, {sum(units) for units in seen})
        self.assertEqual(
            [(5, 2, 3), (4, 2, 4), (3, 2, 5), (2, 2, 6)],
            [units for units in dict.fromkeys(seen) if sum(units) == 10],
        )
        self.world.settle(web, self.engine)
        self.assertEqual(0, self.world.row(web).ledger["distance"])

    def test_on_demand(self):
        web = self.moved(rebalance_mode="on-demand")
        self.world.settle(web, self.engine)
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual(4, self.world.row(web).ledger["distance"])
        self.world.change(web, count=14)
        self.world.settle(web, self.engine)
        self.assertEqual((6, 2, 6), self.world.units())

    def test_failover_is_never_slowed_down(self):
        for mode in ("gradual", "on-demand"):
            web = self.world.create_stack(name=mode, rebalance_mode=mode, stable=0)
            self.world.settle(web, self.engine)
            self.heats["cloud3"].fault("refuse")
            self.world.until(lambda m=mode: self.world.units(m)[:2] == (7, 3), self.engine)
            self.heats["cloud3"].heal()
            self.world.until(lambda m=mode: self.world.units(m) == (6, 2, 2), self.engine)
            self.world.settle(web, self.engine)


class TestLateCreates(world.WorldTest):
    """Heat's queue: a create that was answered with 500 is carried out when nobody expects it."""

    def setUp(self):
        super().setUp()
        self.queue = []

        def queued(request, proceed):
            self.queue.append(proceed)
            raise fake_heat.HeatFault(500, "MessagingTimeout")

        self.heats["cloud2"].fault(queued, method="POST", times=1)
        self.web = self.world.create_stack()
        self.engine.work()
        self.assertEqual(1, len(self.queue))

    def test_of_a_stack_that_is_gone(self):
        self.world.change(self.web, deleting=True)
        self.world.until(lambda: self.world.stack(self.web) is None, self.engine)
        self.world.run(self.engine, seconds=30)
        self.queue.pop()()
        self.assertEqual(1, self.world.live())
        self.world.run(self.engine, seconds=5)
        self.assertEqual(0, self.world.live())

    def test_of_a_member_that_has_left(self):
        self.world.leave(self.web, "cloud2")
        self.world.until(lambda: "cloud2" not in self.world.members(self.web), self.engine)
        self.queue.pop()()
        self.assertEqual((6, 2, 2), self.world.units())
        self.world.run(self.engine, seconds=5)
        self.assertEqual((6, None, 2), self.world.units())

    def test_of_one_that_was_created_again_and_is_deleted(self):
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.world.settle(self.web, self.engine)
        self.world.change(self.web, deleting=True)
        self.world.until(lambda: self.world.stack(self.web) is None, self.engine)
        self.queue.pop()()
        self.assertEqual(1, self.world.live())
        self.world.run(self.engine, seconds=5)
        self.assertEqual(0, self.world.live())
        [event] = self.world.events(self.web, "member.late")
        self.assertIn("created the Heat stack after", event.message)
        self.assertEqual(("p", "web"), (event.project_id, event.stack_name))

    def test_of_one_that_was_created_again(self):
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        with contextlib.suppress(fake_heat.HeatFault):  # the name is taken
            self.queue.pop()()
        self.world.settle(self.web, self.engine)
        self.assertEqual(3, self.world.live())

    def test_released_ones_stay(self):
        self.queue.pop()()
        self.world.settle(self.web, self.engine)
        self.world.change(self.web, deleting=True, release=True)
        self.world.run(self.engine, seconds=5)
        self.assertEqual((6, 2, 2), self.world.units())


class TestDelete(world.WorldTest):
    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack()

    def gone(self):
        return self.world.stack(self.web) is None

    def test_ours_are_deleted(self):
        self.world.settle(self.web, self.engine)
        self.world.change(self.web, deleting=True)
        self.engine.work()
        self.assertEqual("DELETING", self.world.row(self.web).status)
        self.world.until(self.gone, self.engine, limit=10)
        self.assertEqual(0, self.world.live())
        self.assertEqual({}, self.world.members(self.web))
        told = [event.type for event in self.world.events(self.web)]
        self.assertEqual(3, told.count("member.delete"))
        self.assertEqual("stack.delete.end", told[-1])
        self.assertNotIn("member.missing", told)
        self.assertEqual(3, len(self.world.asked("DELETE")))

    def test_released(self):
        self.world.settle(self.web, self.engine)
        self.world.change(self.web, deleting=True, release=True)
        self.engine.work()
        self.assertTrue(self.gone())
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual([], self.world.asked("DELETE"))

    def test_what_is_out_of_sight_can_be_forgotten(self):
        self.world.settle(self.web, self.engine)
        self.heats["cloud3"].fault("refuse")
        self.world.change(self.web, deleting=True)
        self.world.run(self.engine, seconds=10)
        self.assertEqual(["cloud3"], list(self.world.members(self.web)))
        claim = db_rounds.claim_stack(self.world.ctx, self.web, "a user", 60)
        db_rounds.save_round(
            self.world.ctx, claim.stack, values={"forget": True}, members={}, events=(), due_in=0
        )
        self.world.until(self.gone, self.engine, limit=10)
        [event] = self.world.events(self.web, "member.forgotten")
        self.assertEqual(("cloud3", 2), (event.cloud_name, event.before))
        self.heats["cloud3"].heal()
        self.world.run(self.engine, seconds=10)
        self.assertEqual(1, self.world.live(), "what was forgotten is left alone")

    def test_before_anything_was_created(self):
        self.world.change(self.web, deleting=True)
        self.world.until(self.gone, self.engine, limit=10)
        self.assertEqual(0, self.world.live())
        self.assertEqual([], self.world.asked("POST"))

    def test_while_it_is_being_created(self):
        self.engine.work()
        self.world.change(self.web, deleting=True)
        self.world.until(self.gone, self.engine, limit=10)
        self.assertEqual(0, self.world.live())

    def test_while_the_answer_to_its_creation_is_lost(self):
        self.heats["cloud2"].fault("lose", method="POST", times=1)
        self.engine.work()
        self.assertEqual(3, self.world.live())
        self.world.change(self.web, deleting=True)
        self.world.until(self.gone, self.engine, limit=20)
        self.assertEqual(0, self.world.live())

    def test_a_cloud_out_of_sight_delays_no_other(self):
        self.world.settle(self.web, self.engine)
        self.heats["cloud3"].fault("refuse")
        self.world.run(self.engine, seconds=2)
        self.world.change(self.web, deleting=True)
        self.world.until(lambda: self.world.units() == (None, None, 2), self.engine, limit=10)
        self.world.run(self.engine, seconds=6)
        stack = self.world.row(self.web)
        self.assertEqual("DELETING", stack.status)
        self.assertIn("deletion waits for it", stack.status_reason)
        self.assertEqual(["cloud3"], list(self.world.members(self.web)))
        self.heats["cloud3"].heal()
        self.world.until(self.gone, self.engine, limit=20)
        self.assertEqual(0, self.world.live())

    def test_a_cloud_that_hangs_when_asked_delays_no_other(self):
        self.world.settle(self.web, self.engine)
        self.heats["cloud3"].fault("hang")
        self.world.change(self.web, deleting=True)
        self.engine.sweep()
        self.world.until(lambda: self.world.units() == (None, None, 2), self.engine, limit=10)
        self.heats["cloud3"].heal()
        self.world.until(self.gone, self.engine, limit=20)

    def test_heat_cannot_delete(self):
        """Shown, and tried again after a while, longer each time."""
        self.world.settle(self.web, self.engine)
        cloud2 = self.heats["cloud2"]
        cloud2.fail("DELETE", "a port is in use", times=3)
        self.world.change(self.web, deleting=True)
        self.world.until(
            lambda: "a port is in use" in self.world.row(self.web).status_reason, self.engine
        )
        self.world.until(self.gone, self.engine)
        self.assertEqual(0, self.world.live())
        first, second, third, fourth = (seen.at for seen in cloud2.asked("DELETE"))
        self.assertGreater(third - second, 0.8 * self.world.retry_interval)
        self.assertGreater(fourth - third, 2 * 0.8 * self.world.retry_interval)
        self.assertGreater(second - first, 0)
        self.assertEqual(1, len(self.world.events(self.web, "stack.delete.end")))

    def test_somebody_has_deleted_them(self):
        self.world.settle(self.web, self.engine)
        for name in self.heats:
            self.world.by_hand(name).delete()
        self.world.change(self.web, deleting=True)
        self.world.until(self.gone, self.engine, limit=10)
        self.assertEqual(0, self.world.live())


class TestLeaving(world.WorldTest):
    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack()
        self.world.settle(self.web, self.engine)

    def left(self):
        return "cloud3" not in self.world.members(self.web)

    def leave(self, **others):
        self.world.change(
            self.web,
            members=others | {"cloud3": {"leaving": True, "weight": "0"}},
        )

    def test_its_units_move_first(self):
        self.heats["cloud1"].seconds = 5
        self.leave(cloud1={"weight": "0.8"})
        self.engine.work()
        self.assertEqual("LEAVING", self.world.members(self.web)["cloud3"].status)
        self.world.until(self.left, self.engine)
        self.world.settle(self.web, self.engine)
        self.assertEqual((8, 2, None), self.world.units())
        self.assertEqual(2, self.world.live())
        [raised] = self.heats["cloud1"].asked("PATCH")
        [removed] = self.heats["cloud3"].asked("DELETE")
        self.assertGreater(removed.at, raised.at + 5)
        self.assertEqual("ACTIVE", self.world.row(self.web).status)
        [event] = self.world.events(self.web, "member.left")
        self.assertEqual("cloud3", event.cloud_name)

    def test_out_of_sight(self):
        self.heats["cloud3"].fault("refuse")
        self.leave(cloud1={"weight": "0.8"})
        self.world.until(lambda: self.world.units() == (8, 2, 2), self.engine)
        self.world.run(self.engine, seconds=10)
        self.assertFalse(self.left())
        self.heats["cloud3"].heal()
        self.world.until(self.left, self.engine)
        self.assertEqual((8, 2, None), self.world.units())

    def test_taken_back_in_time(self):
        self.heats["cloud1"].seconds = 5
        self.leave(cloud1={"weight": "0.8"})
        self.world.run(self.engine, seconds=2)
        self.world.change(
            self.web,
            members={"cloud1": {"weight": "0.6"}, "cloud3": {"leaving": False, "weight": "0.2"}},
        )
        self.world.settle(self.web, self.engine)
        self.assertEqual((6, 2, 2), self.world.units())
        self.assertEqual([], self.world.asked("DELETE"))

    def test_taken_back_in_the_last_moment(self):
        """What a user asked for is never forgotten, whatever the engine is about to do."""
        for moment in (
            "before forget_member",
            "before DELETE",
            "after DELETE",
            "before save_round",
        ):
            back = []

            def take_back(when, what, moment=moment, back=back):
                if not back and moment.split() == [when, what.split()[0]]:
                    back.append(moment)
                    self.world.change(
                        self.web, members={"cloud3": {"leaving": False, "weight": "0.2"}}
                    )

            self.leave()
            with self.world.watched(take_back):
                self.world.run(self.engine, seconds=3)
            self.assertEqual([moment], back)
            self.world.settle(self.web, self.engine)
            self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
            self.assertEqual(3, self.world.live())
            self.assertEqual("ACTIVE", self.world.row(self.web).status)
            self.assertFalse(self.world.members(self.web)["cloud3"].leaving)


class TestQuiet(world.WorldTest):
    """When nothing changes, an engine lists each cloud and leaves it at that."""

    def requests(self):
        return collections.Counter(
            f"{seen.method} {seen.path}" for h in self.heats.values() for seen in h.requests
        )

    def rows(self, *stacks):
        return [
            {name: value for name, value in vars(row).items() if name != "cloud"}
            for stack in stacks
            for row in self.world.members(stack).values()
        ]

    def test_quiet_rounds(self):
        self.world.by_hand("cloud1").create(6, name="theirs")
        ours = self.world.create_stack()
        theirs = self.world.create_stack("1", 6, name="theirs", template=None)
        standby = self.world.create_stack("1 0", 3, name="standby")
        stacks = (ours, theirs, standby)
        for stack in stacks:
            self.world.settle(stack, self.engine)
        # As the last answers of Heat were about updates, time tells these from the next ones.
        self.world.run(self.engine, seconds=3)
        rows, before = self.rows(*stacks), self.requests()
        events = len(db_events.list_events(self.world.ctx, None, limit=1000))
        for _ in range(4):
            db_rounds.nudge_stacks(self.world.ctx, stacks)
            self.engine.work()
            self.clock.advance(1)
        self.assertEqual({"GET /stacks": 4 * 3}, self.requests() - before)
        self.assertEqual(rows, self.rows(*stacks))
        self.assertEqual(events, len(db_events.list_events(self.world.ctx, None, limit=1000)))

    def test_after_a_failover(self):
        web = self.world.create_stack()
        self.world.settle(web, self.engine)
        self.heats["cloud3"].fault("refuse")
        self.world.until(lambda: self.world.units() == (7, 3, 2), self.engine)
        self.world.settle(web, self.engine)
        self.world.run(self.engine, seconds=3)
        rows, before = self.rows(web), self.requests()
        for _ in range(3):
            db_rounds.nudge_stacks(self.world.ctx, [web])
            self.engine.work()
        self.assertEqual({"GET /stacks": 3 * 2}, self.requests() - before)
        self.assertEqual(rows, self.rows(web))

    def test_the_next_round_is_far_away(self):
        web = self.world.create_stack()
        self.world.settle(web, self.engine)
        self.world.run(self.engine, seconds=2)
        wait = (self.world.row(web).due_at - self.clock.now()).total_seconds()
        self.assertGreater(wait, 0.7 * self.world.resync_interval)
        self.assertLess(wait, self.world.resync_interval)

    def test_the_round_after_is_due_when_time_decides(self):
        web = self.world.create_stack(toleration=50, stable=70)
        self.world.settle(web, self.engine)
        self.heats["cloud3"].fault("refuse")
        self.world.run(self.engine, seconds=4)
        since = self.world.cloud("cloud3").verdict_since
        due = (self.world.row(web).due_at - since).total_seconds()
        self.assertGreaterEqual(due, 50)
        self.assertLess(due, 52)


class TestLanes(world.WorldTest):
    seconds = 5.0

    def test_a_heat_is_given_only_so_much_at_once(self):
        """What waits says why, and goes on when Heat is done with the others."""
        self.world.max_in_progress = 2
        engine = self.world.engine("considerate")
        engine.look()
        stacks = [self.world.create_stack(name=f"web{number}") for number in range(5)]
        busiest = 0

        def done():
            nonlocal busiest
            for cloud_heat in self.heats.values():
                at_work = [found for found in cloud_heat.live() if found.status == "IN_PROGRESS"]
                busiest = max(busiest, len(at_work))
            return all(self.world.at_rest(stack) for stack in stacks)

        engine.sweep()
        waiting = self.world.members(stacks[-1])["cloud1"]
        self.assertEqual("WAITING", waiting.status)
        self.assertIn("cloud 'cloud1' is at 2 operations already", waiting.status_reason)
        self.world.until(done, engine)
        self.assertEqual(2, busiest)
        for number in range(5):
            self.assertEqual((6, 2, 2), self.world.units(f"web{number}"))

    def test_what_we_began_is_not_looked_at_before_it_is_done(self):
        """Heat puts down a new time for it, which is no news."""
        web = self.world.create_stack()
        self.world.settle(web, self.engine)
        self.world.change(web, count=20)
        self.engine.sweep()
        asked = self.world.asked("GET")
        self.engine.nudged.clear()
        self.engine.look()
        self.engine.reconcile(web)
        self.assertEqual([], self.engine.nudged)
        self.assertEqual(asked, self.world.asked("GET"))
        self.world.settle(web, self.engine)
        self.assertEqual((12, 4, 4), self.world.units())

    def test_after_a_timeout_nothing_is_sent_until_a_listing_is_good(self):
        stacks = [self.world.create_stack(name=f"web{number}") for number in range(3)]
        for stack in stacks:
            self.world.settle(stack, self.engine)
        self.heats["cloud2"].fault("hang")
        for stack in stacks:
            self.world.change(stack, count=20)
        self.engine.sweep()
        self.assertEqual(1, len(self.heats["cloud2"].asked("PATCH")))
        self.heats["cloud2"].heal()
        self.clock.advance(2)
        self.engine.sweep()
        self.assertEqual(1, len(self.heats["cloud2"].asked("PATCH")))
        for stack in stacks:
            self.world.settle(stack, self.engine)
            self.assertEqual(20, sum(m.observed_count for m in self.world.members(stack).values()))


class TestNudges(world.WorldTest):
    def test_a_heat_stack_that_is_complete_before_its_id_is_stored(self):
        """The listing that shows it cannot tell whose it is, and it moves no more."""
        self.world.retry_interval = 60.0
        engine = self.world.engine("patient")

        def listed(when, what):
            if (when, what) == ("before", "save_round") and self.world.live():
                self.clock.advance(self.seconds)
                engine.look()

        engine.look()
        web = self.world.create_stack()
        with self.world.watched(listed):
            engine.sweep()
        self.assertEqual("CONVERGING", self.world.row(web).status)
        self.assertLess(self.world.settle(web, engine), 5)

    """A stack that is nudged in mid-round has another round, whatever the first one says."""

    def test_in_mid_round(self):
        web = self.world.create_stack()
        self.world.settle(web, self.engine)
        self.world.run(self.engine, seconds=2)

        def nudge(when, what):
            if (when, what) == ("before", "save_round"):
                db_rounds.nudge_stacks(self.world.ctx, [web])

        with self.world.watched(nudge):
            # Like a late message: the stack is not due, somebody else had the round already.
            self.engine.reconcile(web)
        self.assertIn(web, db_rounds.due_stacks(self.world.ctx, 10))


class Fuse:
    """Lets so many requests and uses of the database pass; then the engine is dead."""

    def __init__(self, length):
        self.length = length
        self.passed = 0
        self.dead_before = ""

    def __call__(self, when, what):
        if self.dead_before:
            raise world.Killed
        if when == "before":
            if self.passed == self.length:
                self.dead_before = what
                raise world.Killed
            self.passed += 1


class Crash(world.WorldTest):
    """An engine is killed at every point of its way, and another one takes over after the lease.

    To die after one request or use of the database is the same as to die before the next one. Each
    point gets a stack of its own; all live in the same clouds at the same time.
    """

    clouds = ("cloud1", "cloud2")

    def prepare(self, names, settled):
        stacks = {name: self.world.create_stack(".6 .4", name=name) for name in names}
        if settled:
            self.world.until(lambda: all(map(self.world.at_rest, stacks.values())), self.engine)
        return stacks

    def live(self, stacks, fuses, seconds):
        for _ in range(seconds):
            self.engine.look()
            due = db_rounds.due_stacks(self.world.ctx, 1000)
            for stack, fuse in zip(stacks.values(), fuses, strict=True):
                if stack in due and not fuse.dead_before:
                    with self.world.watched(fuse):
                        try:
                            self.engine.reconcile(stack)
                        except world.Killed:
                            pass
            self.clock.advance(1)

    def everywhere(self, change, done, *, before=None, seconds=8, settled=True):
        """Do ``change`` to stacks, kill their engines, and see that ``done`` is so for each.

        :param done: is given the name of a stack and its id
        :param before: is called before stacks are made, of which some come after a change
        """
        before = before or (lambda: None)
        before()
        whole = Fuse(10**6)
        first = self.prepare(["whole"], settled)
        change(first["whole"])
        self.live(first, [whole], seconds)
        self.assertTrue(done("whole", first["whole"]), "it takes longer when nobody dies")

        # Jitter may cost a round more or less.
        names = [f"web{i}" for i in range(whole.passed + 3)]
        before()
        stacks = self.prepare(names, settled)
        fuses = [Fuse(i) for i in range(len(names))]
        for stack in stacks.values():
            change(stack)
        self.live(stacks, fuses, seconds)
        self.assertEqual("", fuses[-1].dead_before)
        self.assertGreaterEqual(sum(bool(fuse.dead_before) for fuse in fuses), whole.passed - 3)

        self.clock.advance(self.world.lease + 1)
        fresh = self.world.engine("engine2")
        for _ in range(60):
            fresh.work()
            wrong = [
                f"{name}, killed before {fuse.dead_before}: {self.world.units(name)}"
                for (name, stack), fuse in zip(stacks.items(), fuses, strict=True)
                if not done(name, stack) or not self.world.at_rest(stack)
            ]
            if not wrong:
                break
            self.clock.advance(1)
        self.assertEqual([], wrong)
        return fresh

    def runs(self, *units):
        def done(name, stack):
            if self.world.units(name) != units:
                return False
            row = self.world.row(stack)
            return (
                row.status in ("ACTIVE", "DEGRADED") and row.observed_generation == row.generation
            )

        return done

    def one_each(self):
        """No cloud has two Heat stacks for one of ours."""
        for cloud_heat in self.heats.values():
            names = [found.name for found in cloud_heat.live()]
            self.assertEqual(len(set(names)), len(names))

    def gone(self, name, stack):
        return set(self.world.units(name)) == {None} and self.world.stack(stack) is None


class TestCrash(Crash):
    def test_create(self):
        self.everywhere(lambda stack: None, self.runs(6, 4), settled=False)
        self.one_each()

    def test_create_with_answers_that_are_lost(self):
        self.heats["cloud2"].fault("lose", method="POST")

        def made(name, stack):
            return self.world.units(name) == (6, 4)

        fresh = self.everywhere(lambda stack: None, made, settled=False, seconds=6)
        self.heats["cloud2"].heal()
        stacks = [row.id for row in db_stacks.list_stacks(self.world.ctx, None, limit=1000)]
        self.world.until(lambda: all(map(self.world.at_rest, stacks)), fresh)
        self.one_each()

    def test_new_weights(self):
        self.everywhere(lambda stack: self.world.change(stack, weights=".3 .7"), self.runs(3, 7))
        self.one_each()

    def test_failover(self):
        def in_sight():
            self.heats["cloud2"].heal()
            self.world.until(lambda: self.world.cloud("cloud2").verdict == "healthy", self.engine)

        fresh = self.everywhere(
            lambda stack: self.heats["cloud2"].fault("refuse"),
            self.runs(10, 4),
            before=in_sight,
            seconds=10,
        )
        self.heats["cloud2"].heal()
        back = self.runs(6, 4)
        rows = db_stacks.list_stacks(self.world.ctx, None, limit=1000)
        self.world.until(lambda: all(back(row.name, row.id) for row in rows), fresh)
        self.one_each()

    def test_delete(self):
        self.everywhere(lambda stack: self.world.change(stack, deleting=True), self.gone)
        self.assertEqual(0, self.world.live())

    def test_leaving(self):
        self.everywhere(lambda stack: self.world.leave(stack, "cloud2"), self.runs(6, None))
        self.one_each()

    def test_a_raise_of_which_nobody_was_left_to_tell_fails(self):
        """What had come to run before it is not taken away for want of room."""
        web = self.world.create_stack(".6 .4")
        self.world.until(lambda: self.world.units() == (6, 4), self.engine)
        self.assertEqual(0, self.world.members(web)["cloud1"].confirmed)
        self.clock.advance(5)  # by now they are made, and the row does not say so
        self.heats["cloud1"].fail("UPDATE", "no valid host was found", times=1)
        self.world.change(web, count=20)

        def die(when, what):
            if (when, what) == ("before", "save_round"):
                raise world.Killed

        self.engine.look()
        with self.world.watched(die):
            self.assertRaises(world.Killed, self.engine.reconcile, web)
        self.assertEqual(1, len(self.heats["cloud1"].asked("PATCH")))
        self.clock.advance(self.world.lease + 1)
        fresh = self.world.engine("engine2")
        self.world.until(lambda: self.world.events(web, "member.full"), fresh)
        self.world.until(lambda: self.world.units() == (6, 14), fresh)
        self.world.until(lambda: self.world.units() == (12, 8), fresh, limit=600)
        counts = [int(s.body["parameters"]["count"]) for s in self.heats["cloud1"].asked("PATCH")]
        self.assertEqual([12, 6, 12], counts)

    def test_what_a_round_has_found_is_stored_before_it_is_changed(self):
        """Units of a lost answer to a create, and then a raise of which nobody was left to tell."""
        web = self.world.create_stack("1 0", count=2)
        self.heats["cloud1"].fault("lose", method="POST")
        self.engine.look()
        self.engine.reconcile(web)
        self.heats["cloud1"].heal()
        self.clock.advance(5)
        self.heats["cloud1"].fail("UPDATE", "no valid host was found", times=1)
        self.world.change(web, count=10)

        def die(when, what):
            if (when, what.split()[0]) == ("after", "PATCH"):
                raise world.Killed

        self.engine.look()
        with self.world.watched(die):
            self.assertRaises(world.Killed, self.engine.reconcile, web)
        self.assertEqual(2, self.world.members(web)["cloud1"].confirmed)

    def test_drift(self):
        def drift(stack):
            name = self.world.row(stack).name
            self.world.by_hand("cloud1").resize(9, name)

        self.everywhere(drift, self.runs(6, 4))
        told = [
            len(self.world.events(row.id, "member.drift"))
            for row in db_stacks.list_stacks(self.world.ctx, None, limit=1000)
        ]
        # Who comes after a crash cannot tell drift from a write of the one that died.
        self.assertEqual({0, 1}, set(told))


class TestCrashWithoutConvergence(Crash):
    convergence = False

    def test_new_weights(self):
        self.everywhere(lambda stack: self.world.change(stack, weights=".3 .7"), self.runs(3, 7))
        for row in db_stacks.list_stacks(self.world.ctx, None, limit=1000):
            self.assertEqual([], self.world.events(row.id, "member.drift"))


class Stall:
    """At one point of its round an engine stands still until something else has happened."""

    def __init__(self, length, meanwhile):
        self.length = length
        self.passed = 0
        self.meanwhile = meanwhile
        self.stalled_before = ""

    def __call__(self, when, what):
        if when == "before":
            if self.passed == self.length:
                self.stalled_before = what
                self.meanwhile()
            self.passed += 1


class TestManyEngines(world.WorldTest):
    clouds = ("cloud1", "cloud2")
    seconds = 0.0
    # A PATCH that was on the wire when its engine was superseded comes too late, and is healed.
    may_trespass = True

    def setUp(self):
        super().setUp()
        self.other = self.world.engine("engine2")
        self.other.look()

    def writes(self):
        return len(self.world.asked("POST", "PATCH", "DELETE"))

    def everything(self, stack):
        """All that the database knows of a stack."""
        row = self.world.stack(stack)
        rows = [row, *row.members] if row else []
        return [
            {name: value for name, value in vars(item).items() if name not in ("members", "cloud")}
            for item in rows
        ] + [event.id for event in self.world.events(stack)]

    def superseded_everywhere(self, change, units, *, settled=True):
        """Its lease ends while an engine stands still, another one does all the work; it wakes.

        It must write nothing any more: neither to the database, nor to Heat but for the one request
        that it was sending.
        """
        for length in range(1, 100):
            name = f"web{length}"
            stack = self.world.create_stack(".6 .4", name=name)
            if settled:
                self.world.settle(stack, self.engine)
            self.engine.look()
            change(stack)
            found = []

            def meanwhile(stack=stack, found=found):
                self.clock.advance(self.world.lease + 1)
                self.world.settle(stack, self.other)
                found[:] = [self.everything(stack), self.writes()]

            stall = Stall(length, meanwhile)
            with self.world.watched(stall):
                self.engine.reconcile(stack)
            if not stall.stalled_before:
                break
            what = stall.stalled_before
            self.assertEqual(found[0], self.everything(stack), what)
            on_the_wire = what.split()[0] in ("POST", "PATCH", "DELETE")
            self.assertEqual(found[1] + on_the_wire, self.writes(), what)
            self.world.settle(stack, self.other)
            self.world.until(lambda name=name: self.world.units(name) == units, self.other)
        # The claim is one more; nothing is wrong with an engine that stands still before it.
        self.assertGreaterEqual(length, 4)
        for cloud_heat in self.heats.values():
            names = [made.name for made in cloud_heat.live()]
            self.assertEqual(len(set(names)), len(names))

    def test_superseded_while_it_creates(self):
        self.superseded_everywhere(lambda stack: None, (6, 4), settled=False)

    def test_superseded_while_it_resizes(self):
        self.superseded_everywhere(lambda stack: self.world.change(stack, count=20), (12, 8))

    def test_superseded_while_it_deletes(self):
        self.superseded_everywhere(
            lambda stack: self.world.change(stack, deleting=True), (None, None)
        )

    def test_superseded_while_it_waits_for_a_token(self):
        """A slow Keystone takes the lease away before the PATCH is on the wire."""
        web = self.world.create_stack(".6 .4")
        self.world.settle(web, self.engine)
        self.world.change(web, count=20)
        other = self.world.engine("engine3", connections=self.world.connect())
        other.look()
        slow = []

        def keystone(request, proceed):
            if not slow:
                slow.append(request.path)
                self.clock.advance(self.world.lease + 1)
                self.world.settle(web, other)
            return proceed()

        def token_ends(when, what):
            if (when, what) == ("after", "claim_stack"):
                self.world.keystone.fault(keystone)
                self.world.connections.forget()

        before = self.writes()
        with self.world.watched(token_ends):
            self.engine.reconcile(web)
        self.assertTrue(slow)
        self.assertEqual(before + 2, self.writes())
        self.assertEqual((12, 8), self.world.units())

    def test_superseded_between_two_requests(self):
        """What Heat sends along takes longer than the lease."""
        web = self.world.create_stack(".6 .4")
        self.world.settle(web, self.engine)
        self.heats["cloud1"].fail("CHECK", "resources.group[1]: it is gone", times=1)
        self.world.ask_for_a_check(web)
        slow = []

        def template(request, proceed):
            slow.append(request.path)
            self.heats["cloud1"].heal()
            self.clock.advance(self.world.lease + 1)
            self.world.settle(web, self.other)
            return proceed()

        self.heats["cloud1"].fault(template, method="GET", path="/template$")
        self.world.until(lambda: slow, self.engine)
        self.assertEqual(1, len(self.world.asked("PATCH")))
        self.assertEqual((6, 4), self.world.units())

    def test_gone_by_the_time_its_template_is_read(self):
        web = self.world.create_stack(".6 .4")
        self.engine.look()

        def meanwhile(when, what):
            if (when, what) == ("before", "get_stack"):
                self.clock.advance(self.world.lease + 1)
                self.world.change(web, deleting=True)
                self.world.until(lambda: self.world.stack(web) is None, self.other)

        logged = self.useFixture(fixtures.FakeLogger("heat_spreader", level=logging.ERROR))
        with self.world.watched(meanwhile):
            self.engine.reconcile(web)
        self.assertEqual("", logged.output)
        self.assertIsNone(self.world.stack(web))
        self.assertEqual(0, self.world.live())

    def test_both_try_all_the_time(self):
        """Whatever the one is about to do, the other one tries to have a round of its own."""
        web = self.world.create_stack(".6 .4")

        def other(when, what):
            self.other.look()
            self.other.reconcile(web)

        def rounds():
            with self.world.watched(other):
                self.engine.reconcile(web)
            self.engine.look()
            self.clock.advance(1)

        for _ in range(4):
            rounds()
        self.assertEqual((6, 4), self.world.units())
        self.assertEqual(2, len(self.world.asked("POST")))
        self.world.change(web, count=20)
        for _ in range(4):
            rounds()
        self.assertEqual((12, 8), self.world.units())
        self.assertEqual(2, len(self.world.asked("PATCH")))
        self.assertEqual([], self.world.trespasses)
        self.assertEqual("ACTIVE", self.world.row(web).status)

    def test_side_by_side(self):
        """In threads of their own, with lanes for each cloud."""
        engines = [self.world.engine(f"engine{i}", threads=True) for i in (3, 4)]
        for engine in engines:
            self.addCleanup(engine.reconciler.stop)
        names = [f"web{i}" for i in range(4)]
        stacks = [self.world.create_stack(".6 .4", name=name) for name in names]
        with futures.ThreadPoolExecutor(2) as pool:
            for count, units in ((10, (6, 4)), (20, (12, 8))):
                for stack in stacks:
                    self.world.change(stack, count=count)
                for _ in range(40):
                    list(pool.map(lambda engine: engine.work(), engines))
                    self.clock.advance(1)
                    if all(map(self.world.at_rest, stacks)):
                        break
                self.assertEqual({units}, {self.world.units(name) for name in names})
        self.assertEqual(2 * 4, len(self.world.asked("POST")))
        self.assertEqual(2 * 4, len(self.world.asked("PATCH")))
        self.assertEqual([], self.world.trespasses)

    def test_a_dead_engine_delays_its_stacks_by_one_lease(self):
        web = self.world.create_stack(".6 .4")
        self.engine.look()
        with self.world.watched(Fuse(1)):
            self.assertRaises(world.Killed, self.engine.reconcile, web)
        self.other.look()
        self.clock.advance(self.world.lease - 1)
        self.other.work()
        self.assertEqual((None, None), self.world.units())
        self.assertEqual("engine1", self.world.row(web).claimed_by)
        self.clock.advance(1)
        self.other.work()
        self.assertEqual((6, 4), self.world.units())

    def test_a_lease_outlasts_a_slow_round(self):
        """An engine that is slow, but not too slow, keeps what it holds."""
        web = self.world.create_stack(".6 .4")
        self.engine.look()

        def slow(when, what):
            if when == "before" and what in ("renew_claim", "save_round"):
                self.clock.advance(self.world.lease - self.world.timeout - 5)
                self.other.sweep()

        with self.world.watched(slow):
            self.engine.reconcile(web)
        self.assertEqual((6, 4), self.world.units())
        self.assertIsNone(self.world.row(web).claimed_by)
        self.assertEqual(1, self.world.row(web).claim_epoch)
