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

"""Two at once: no write is lost, one claim wins, and whatever comes first the outcome is right.

The interleavings are made, not hoped for: one operation is stopped after each of its statements in
turn, and the other is let in there. A database that makes the other wait is a right answer too.
"""

from collections.abc import Callable
from collections.abc import Iterator
import re
import threading
import time
from typing import Any

import sqlalchemy as sa
import testtools

from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models
from heat_spreader.db import quotas as db_quotas
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each


class RaceTestCase(backends.DatabaseTestCase):
    # Seconds after which the second operation is held for waiting on a lock of the first; on SQLite
    # it always waits.
    PATIENCE = {"sqlite": 0.01}

    def points(self) -> Iterator[int]:
        """Numbers of the statements of an operation, for ``interleave``, as long as there are any."""
        self.reached, point = True, 0
        while self.reached:
            point += 1
            yield point
            if self.backend == "sqlite":
                return  # a writer there has the database for itself from its first statement on

    def interleave(
        self, point: int, first: Callable[[], Any], second: Callable[[], Any]
    ) -> tuple[Any, Any]:
        """Let ``second`` in after so many statements of ``first``; what both returned or raised."""
        this, outcome, statements = threading.get_ident(), [], 0
        other = threading.Thread(target=lambda: outcome.append(backends.attempt(second)))

        def pause(*_: Any) -> None:
            nonlocal statements
            if threading.get_ident() == this:
                statements += 1
                if statements == point:
                    other.start()
                    other.join(self.PATIENCE.get(self.backend, 0.1))

        sa.event.listen(sa.Engine, "after_cursor_execute", pause)
        try:
            result = backends.attempt(first)
        finally:
            sa.event.remove(sa.Engine, "after_cursor_execute", pause)
        self.reached = other.ident is not None
        if not self.reached:
            other.start()
        other.join()
        return result, outcome[0]

    def assert_no_error(self, *outcomes: Any) -> None:
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def assert_one_error(self, kinds: Any, *outcomes: Any) -> None:
        """All went well but one, which was refused in one of these ways."""
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        self.assertEqual(1, len(errors), outcomes)
        self.assertIsInstance(errors[0], kinds)

    def update(self, stack: models.Stack, **changes: Any) -> Callable[[], models.Stack]:
        return lambda: db_stacks.update_stack(self.new_context(), stack.id, **changes)

    def due(self) -> list[str]:
        return db_rounds.due_stacks(self.ctx, 100)


class TestQuotas(RaceTestCase):
    """Of two requests at once for the last that there is, one gets it."""

    LIMITS = {"stacks": 1, "members": 1, "units": 10, "clouds": 1}

    def create(self, name: str, project: str, count: int = 1) -> Callable[[], models.Stack]:
        values = {
            "name": name,
            "project_id": project,
            "user_id": "u",
            "count": count,
            "failover_toleration": 1,
            "failback_stable": 1,
        }
        return lambda: db_stacks.create_stack(self.new_context(), values, [], limits=self.LIMITS)

    def test_the_last_stack(self):
        for point in self.points():
            project = f"p{point}"
            outcomes = self.interleave(
                point, self.create("one", project), self.create("two", project)
            )
            self.assert_one_error(exception.QuotaExceeded, *outcomes)
            shown = db_quotas.show(self.ctx, project, self.LIMITS)
            self.assertEqual({"limit": 1, "used": 1}, shown["stacks"])

    def test_the_last_cloud(self):
        for point in self.points():
            values = {"kind": "config", "project_id": f"p{point}"}

            def create(name: str, values: dict[str, str] = values) -> Callable[[], models.Cloud]:
                return lambda: db_clouds.create_cloud(
                    self.new_context(), {"name": name, **values}, limits=self.LIMITS
                )

            outcomes = self.interleave(point, create("one"), create("two"))
            self.assert_one_error(exception.QuotaExceeded, *outcomes)

    def test_the_last_units(self):
        for point in self.points():
            project = f"p{point}"
            self.LIMITS = {**self.LIMITS, "stacks": 2}
            stacks = [self.create(name, project, 4)() for name in ("one", "two")]
            limits = (project, self.LIMITS)
            grow = {"values": {"count": 6}, "limits": limits}
            outcomes = self.interleave(
                point, self.update(stacks[0], **grow), self.update(stacks[1], **grow)
            )
            self.assert_one_error(exception.QuotaExceeded, *outcomes)
            shown = db_quotas.show(self.ctx, project, self.LIMITS)
            self.assertEqual({"limit": 10, "used": 10}, shown["units"])

    def test_another_project_does_not_wait_and_does_not_matter(self):
        for point in self.points():
            outcomes = self.interleave(
                point, self.create("one", f"a{point}"), self.create("one", f"b{point}")
            )
            self.assert_no_error(*outcomes)


class TestUsers(RaceTestCase):
    def test_two_changes_are_both_kept(self):
        east, west = self.cloud("east"), self.cloud("west")
        for point in self.points():
            stack = self.stack(f"web{point}", [east])
            outcomes = self.interleave(
                point,
                self.update(stack, values={"count": 11}, members={west.id: {"weight": "0.1"}}),
                self.update(stack, values={"surge": 5}, members={east.id: {"weight": "0.2"}}),
            )
            self.assert_no_error(*outcomes)
            row = self.read(stack)
            self.assertEqual((3, 11, 5), (row.generation, row.count, row.surge))
            self.assertEqual(["0.2", "0.1"], [member.weight for member in row.members])
            self.assertEqual({2, 3}, {outcome.generation for outcome in outcomes})
            # Each event tells what its own change did, in the order in which they were made.
            first, second = self.events(stack_id=stack.id)[1:]
            self.assertEqual(first.after, second.before)
            self.assertEqual(10, first.before["count"])

    def test_of_two_for_one_generation_one_is_refused(self):
        for point in self.points():
            stack = self.stack(f"web{point}")
            outcomes = self.interleave(
                point,
                self.update(stack, values={"count": 11}, generation=1),
                self.update(stack, values={"count": 12}, generation=1),
            )
            self.assert_one_error(exception.ConcurrentUpdate, *outcomes)
            row = self.read(stack)
            self.assertEqual(2, row.generation)
            self.assertEqual([11 if isinstance(outcomes[1], Exception) else 12], [row.count])
            self.assertEqual(2, len(self.events(stack_id=stack.id)))

    def test_one_member_that_two_add(self):
        cloud = self.cloud()
        for point in self.points():
            stack = self.stack(f"web{point}")
            outcomes = self.interleave(
                point,
                self.update(stack, members={cloud.id: {"weight": "0.1"}}),
                self.update(stack, members={cloud.id: {"maximum": 3}}),
            )
            self.assert_no_error(*outcomes)
            self.assertEqual(
                [("0.1", 3)], [(m.weight, m.maximum) for m in self.read(stack).members]
            )

    def test_one_name_for_two_stacks(self):
        cloud = self.cloud()
        for point in self.points():
            name = f"web{point}"
            outcomes = self.interleave(
                point,
                lambda name=name: self.stack(name, [cloud], self.new_context()),
                lambda name=name: self.stack(name, [cloud], self.new_context()),
            )
            self.assert_one_error(exception.StackExists, *outcomes)
            self.assertEqual(point, len(self.events(type="stack.create")))
            self.assertEqual(
                {cloud.id: point},
                {c: use.members for c, use in db_clouds.count_use(self.ctx, [cloud.id]).items()},
            )

    def test_one_name_for_two_clouds(self):
        values = {"project_id": "green", "kind": "config"}
        for point in self.points():
            create = [
                lambda name=f"cloud{point}": db_clouds.create_cloud(
                    self.new_context(), {"name": name, **values}
                )
            ] * 2
            self.assert_one_error(exception.CloudExists, *self.interleave(point, *create))

    def test_a_cloud_is_changed_by_two(self):
        for point in self.points():
            cloud = self.cloud(f"cloud{point}")
            outcomes = self.interleave(
                point,
                lambda id=cloud.id: db_clouds.update_cloud(
                    self.new_context(), id, {"cordoned": True}
                ),
                lambda id=cloud.id: db_clouds.update_cloud(
                    self.new_context(), id, {"draining": True}
                ),
            )
            self.assert_no_error(*outcomes)
            row = db_clouds.get_cloud(self.ctx, cloud.id, None)
            self.assertEqual((True, True), (row.cordoned, row.draining))

    def test_a_cloud_goes_while_it_is_changed(self):
        def change():
            return db_clouds.update_cloud(self.new_context(), cloud.id, {"cordoned": True})

        def delete():
            return db_clouds.delete_cloud(self.new_context(), cloud.id)

        for operations in ((change, delete), (delete, change), (delete, delete)):
            for point in self.points():
                cloud = self.cloud()
                outcomes = self.interleave(point, *operations)
                gone = [o for o in outcomes if isinstance(o, Exception)]
                for outcome in gone:
                    self.assertIsInstance(outcome, exception.CloudNotFound)
                if operations == (delete, delete):
                    self.assertEqual(1, len(gone))
                self.assertEqual([], db_clouds.list_clouds(self.ctx, None))
                deleted = self.events(cloud_id=cloud.id, type="cloud.delete")
                self.assertEqual(1, len(deleted))

    def test_a_cloud_goes_while_a_member_comes(self):
        def add():
            return db_stacks.update_stack(
                self.new_context(), stack.id, members={cloud.id: {"weight": "0.1"}}
            )

        def delete():
            return db_clouds.delete_cloud(self.new_context(), cloud.id)

        for operations in ((add, delete), (delete, add)):
            for point in self.points():
                cloud = self.cloud(f"cloud{point}")
                stack = self.stack(f"{operations[0].__name__}{point}")
                outcomes = self.interleave(point, *operations)
                self.assert_one_error((exception.CloudInUse, exception.Conflict), *outcomes)
                members = self.read(stack).members
                clouds = db_clouds.list_clouds(self.ctx, None, name=cloud.name)
                self.assertEqual(len(clouds), len(members))
                if clouds:
                    forget(self, stack)


def forget(test, stack):
    """Take a stack and its members away."""
    db_rounds.finish_delete(test.new_context(), test.claim(stack), "Deleted.")
    for cloud in db_clouds.list_clouds(test.ctx, None):
        db_clouds.delete_cloud(test.new_context(), cloud.id)


class TestEngines(RaceTestCase):
    def claims(self, stack: models.Stack, owner: str) -> Callable[[], db_rounds.Claim | None]:
        return lambda: db_rounds.claim_stack(self.new_context(), stack.id, owner, 60)

    def test_one_claim_wins(self):
        for lease in (None, -1):
            for point in self.points():
                stack = self.stack(f"web{point}{lease}")
                if lease:
                    self.claim(stack, "old", lease)
                outcomes = self.interleave(
                    point, self.claims(stack, "one"), self.claims(stack, "two")
                )
                self.assert_no_error(*outcomes)
                won = [claim for claim in outcomes if claim]
                self.assertEqual(1, len(won))
                self.assertEqual(lease is not None, won[0].interrupted)
                self.assertEqual(won[0].stack.claimed_by, self.read(stack).claimed_by)

    def test_two_that_take_what_is_due_take_different_stacks(self):
        for point in self.points():
            stacks = {self.stack(f"web{point}{number}").id for number in range(4)}
            outcomes = self.interleave(
                point,
                *[
                    lambda owner=owner: db_rounds.claim_due(self.new_context(), owner, 60, 2)
                    for owner in ("one", "two")
                ],
            )
            self.assert_no_error(*outcomes)
            taken = [claim.stack.id for claims in outcomes for claim in claims]
            taken += [c.stack.id for c in db_rounds.claim_due(self.ctx, "three", 60, 4)]
            self.assertEqual(sorted(stacks), sorted(taken))
            for claims in outcomes:
                self.assertNotEqual([], claims)

    def test_a_claim_has_all_that_the_round_before_stored(self):
        cloud = self.cloud()
        for point in self.points():
            stack = self.stack(f"web{point}", [cloud])
            held = self.claim(stack, "one")
            claim, saved = self.interleave(
                point,
                self.claims(stack, "two"),
                lambda held=held: self.save(held, members={held.members[0].id: {"held": 7}}),
            )
            self.assertIs(True, saved)
            self.assertNotIsInstance(claim, Exception)
            if claim is not None:
                self.assertEqual([7], [member.held for member in claim.stack.members])
                self.assertFalse(claim.interrupted)

    def test_a_claim_has_all_of_a_generation(self):
        cloud = self.cloud()
        for point in self.points():
            stack = self.stack(f"web{point}", [cloud])
            claim, changed = self.interleave(
                point,
                self.claims(stack, "one"),
                self.update(stack, members={cloud.id: {"weight": "0.75"}}),
            )
            self.assert_no_error(claim, changed)
            weights = {1: "0.5", 2: "0.75"}
            if claim is None:  # it met the change in mid-write
                self.assertIn(stack.id, self.due())
                continue
            self.assertEqual(weights[claim.stack.generation], claim.stack.members[0].weight, point)
            # Saved without a look at what came meanwhile, it is due again at once.
            self.save(claim.stack)
            if claim.stack.generation == 1:
                self.assertIn(stack.id, self.due())

    def test_a_change_while_a_round_is_saved(self):
        for order in (1, -1):
            for point in self.points():
                stack = self.stack(f"web{point}{order}")
                claimed = self.claim(stack)
                operations = (
                    lambda claimed=claimed: self.save(claimed, values={"status": "ACTIVE"}),
                    self.update(stack, values={"count": 11}),
                )
                self.assert_no_error(*self.interleave(point, *operations[::order]))
                row = self.read(stack)
                self.assertEqual((2, 11, "CONVERGING"), (row.generation, row.count, row.status))
                self.assertIsNone(row.claimed_by)
                self.assertIn(stack.id, self.due())

    def test_a_nudge_while_a_round_is_claimed_or_saved(self):
        cloud = self.cloud()
        verdict = 0

        def judge():
            nonlocal verdict
            verdict += 1
            row = db_clouds.get_cloud(self.new_context(), cloud.id, None)
            return db_clouds.set_verdict(self.new_context(), row, str(verdict), "so it is", {})

        def nudge():
            return db_rounds.nudge_stacks(self.new_context(), [stack.id])

        def run():
            claim = db_rounds.claim_stack(self.new_context(), stack.id, "one", 60)
            if claim is None:
                return True  # somebody was just writing to it
            claims.append(claim.stack)
            return self.save(claim.stack)

        for wake in (judge, nudge):
            for operations in ((run, wake), (wake, run)):
                for point in self.points():
                    claims: list[models.Stack] = []
                    stack = self.stack(f"{operations[0].__name__}{wake.__name__}{point}", [cloud])
                    self.save(self.claim(stack), due_in=300)
                    self.assert_no_error(*self.interleave(point, *operations))
                    # Either the round saw the stack as nudged, or another one follows.
                    seen = claims and claims[0].due_at < claims[0].claimed_until
                    self.assertTrue(seen or stack.id in self.due(), (wake.__name__, point))

    def test_a_member_is_taken_back_while_it_is_forgotten(self):
        cloud = self.cloud()
        for order in (1, -1):
            for point in self.points():
                stack = self.stack(f"web{point}{order}", [cloud])
                self.update(stack, members={cloud.id: {"leaving": True}})()
                claimed = self.claim(stack)
                operations = (
                    lambda claimed=claimed: db_rounds.forget_member(
                        self.new_context(), claimed, claimed.members[0]
                    ),
                    self.update(stack, members={cloud.id: {"leaving": False, "weight": "1"}}),
                )
                outcomes = self.interleave(point, *operations[::order])
                errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
                self.assertLessEqual(len(errors), 1)
                for error in errors:
                    self.assertIsInstance(error, exception.ConcurrentUpdate)
                self.assertEqual(
                    [("1", False)], [(m.weight, m.leaving) for m in self.read(stack).members]
                )

    def test_a_stack_goes_while_it_is_changed(self):
        for order in (1, -1):
            for point in self.points():
                stack = self.stack(f"web{point}{order}")
                self.update(stack, values={"deleting": True})()
                claimed = self.claim(stack)
                operations = (
                    lambda claimed=claimed: db_rounds.finish_delete(
                        self.new_context(), claimed, "Deleted."
                    ),
                    self.update(stack, values={"count": 11}),
                )
                outcomes = self.interleave(point, *operations[::order])
                self.assert_one_error(
                    (exception.StackDeleting, exception.StackNotFound), *outcomes
                )
                self.assertRaises(exception.StackNotFound, self.read, stack)

    def test_a_cloud_is_seen_by_two_processes_of_one_observer(self):
        for point in self.points():
            cloud = self.cloud(f"cloud{point}")
            for expected in (2, 4):
                outcomes = self.interleave(
                    point, *[lambda cloud=cloud: self.observe(cloud, "unreachable")] * 2
                )
                self.assert_no_error(*outcomes)
                reached = self.reached
                row = db_clouds.list_observations(self.ctx, [cloud.id])[1][cloud.id][0]
                self.assertEqual(expected, row.misses)
            self.reached = self.reached or reached

    def test_a_cloud_goes_while_it_is_observed(self):
        for known in (False, True):
            for point in self.points():
                cloud = self.cloud(f"cloud{point}{known}")
                if known:
                    self.observe(cloud)
                outcomes = self.interleave(
                    point,
                    lambda cloud=cloud: self.observe(cloud),
                    lambda cloud=cloud: db_clouds.delete_cloud(self.new_context(), cloud.id),
                )
                self.assert_no_error(*outcomes)
                self.assertEqual([], db_clouds.list_clouds(self.ctx, None))
                self.assertEqual(
                    [], db_clouds.list_observations(self.ctx, [cloud.id])[1][cloud.id]
                )

    def test_one_verdict_wins(self):
        for point in self.points():
            cloud = self.cloud(f"cloud{point}")
            self.stack(f"web{point}", [cloud])
            outcomes = self.interleave(
                point,
                lambda cloud=cloud: db_clouds.set_verdict(
                    self.new_context(), cloud, "healthy", "a", {}
                ),
                lambda cloud=cloud: db_clouds.set_verdict(
                    self.new_context(), cloud, "suspect", "b", {}
                ),
            )
            self.assertEqual({True, False}, set(outcomes))
            self.assertEqual(1, len(self.events(type="cloud.verdict", cloud_id=cloud.id)))


class TestThreads(backends.DatabaseTestCase):
    """Without a script: as many as there are, all at the same moment."""

    def test_one_of_eight_claims_wins(self):
        for number in range(5):
            stack = self.stack(f"web{number}")
            outcomes = backends.at_once(
                *(
                    lambda owner=str(owner), stack=stack: db_rounds.claim_stack(
                        self.new_context(), stack.id, owner, 60
                    )
                    for owner in range(8)
                )
            )
            won = [claim for claim in outcomes if claim is not None]
            self.assertEqual([1], [claim.stack.claim_epoch for claim in won])

    def test_engines_share_what_is_due(self):
        """Four engines, 24 stacks, and users who change them: no claim is given twice."""
        cloud = self.cloud()
        stacks = [self.stack(f"web{number:02}", [cloud]) for number in range(24)]
        rounds: dict[str, list[tuple[str, int]]] = {str(number): [] for number in range(4)}
        changed = threading.Event()
        all_have_some = threading.Barrier(len(rounds), timeout=30)

        def engine(name: str) -> None:
            while True:
                claims = db_rounds.claim_due(self.new_context(), name, 60, 3)
                if claims and not rounds[name]:
                    all_have_some.wait()  # or the first one might do it all
                if not claims:
                    if changed.is_set() and not self.due_anywhere():
                        return
                    time.sleep(0.001)
                for claim in claims:
                    self.assertEqual(
                        [cloud.id], [member.cloud_id for member in claim.stack.members]
                    )
                    rounds[name].append((claim.stack.id, claim.stack.claim_epoch))
                    self.assertTrue(
                        self.save(
                            claim.stack,
                            members={claim.stack.members[0].id: {"held": claim.stack.count}},
                            events=[{"type": "stack.status", "message": "so it is"}],
                        )
                    )

        def user() -> None:
            for number, stack in enumerate(stacks):
                db_stacks.update_stack(self.new_context(), stack.id, values={"count": number})
            changed.set()

        outcomes = backends.at_once(user, *[lambda name=name: engine(name) for name in rounds])
        self.assertEqual([None] * 5, outcomes)
        given = [claim for taken in rounds.values() for claim in taken]
        self.assertEqual(len(given), len(set(given)))
        self.assertEqual({stack.id for stack in stacks}, {stack_id for stack_id, _ in given})
        for name, taken in rounds.items():
            self.assertNotEqual([], taken, name)
        for number, stack in enumerate(stacks):
            self.assertEqual([number], [member.held for member in self.read(stack).members])

    def due_anywhere(self) -> list[str]:
        return db_rounds.due_stacks(self.new_context(), 1)

    def test_no_write_is_lost_and_no_database_is_locked(self):
        """Four writers and two readers for two seconds."""
        east, west = self.cloud("east"), self.cloud("west")
        stack = self.stack("web", [east, west])
        end = time.monotonic() + 2
        writes: list[int] = []
        reads: list[int] = []

        def write(number):
            written = 0
            while time.monotonic() < end:
                db_stacks.update_stack(
                    self.new_context(),
                    stack.id,
                    values={"count": number},
                    members={(east, west)[number % 2].id: {"priority": written}},
                )
                written += 1
            writes.append(written)

        def read():
            done = 0
            while time.monotonic() < end:
                row = db_stacks.get_stack(self.new_context(), stack.id, "green")
                # A generation is seen whole.
                self.assertEqual(2, len(row.members))
                db_rounds.due_stacks(self.new_context(), 10)
                done += 1
            reads.append(done)

        operations = [lambda number=number: write(number) for number in range(4)]
        outcomes = backends.at_once(*operations, read, read)
        self.assertEqual([None] * 6, outcomes)
        row = self.read(stack)
        self.assertEqual(1 + sum(writes), row.generation)
        self.assertEqual(1 + sum(writes), len(self.events(stack_id=stack.id)))
        for done in (*writes, *reads):
            self.assertGreater(done, 0)


class TestDeadlock(backends.DatabaseTestCase):
    on = backends.SERVERS  # SQLite has one lock only, so there is no second one to wait for

    def test_it_is_tried_again(self):
        first, second = sorted((self.stack("a"), self.stack("b")), key=lambda stack: stack.id)
        for stack in (first, second):
            self.save(self.claim(stack))
        failed: list[BaseException] = []

        def note(problem: Any) -> None:
            failed.append(problem.original_exception)

        # This one has the second row and wants the first; it has written so much that the other is
        # the one to be given up.
        with db_api.engine().connect() as connection, connection.begin():
            sa.event.listen(db_api.engine(), "handle_error", note)
            self.addCleanup(sa.event.remove, db_api.engine(), "handle_error", note)
            table = models.Engine.__table__
            connection.execute(
                table.insert(),
                [
                    {
                        "id": str(number),
                        "host": "h",
                        "version": "1",
                        "started_at": first.created_at,
                        "last_seen_at": first.created_at,
                    }
                    for number in range(100)
                ],
            )
            lock = sa.select(models.Stack.id).with_for_update()
            connection.execute(lock.where(models.Stack.id == second.id))
            nudge = threading.Thread(
                target=lambda: outcome.append(
                    backends.attempt(
                        lambda: db_rounds.nudge_stacks(self.new_context(), [first.id, second.id])
                    )
                )
            )
            outcome: list[Any] = []
            nudge.start()
            time.sleep(0.3)
            connection.execute(lock.where(models.Stack.id == first.id))
        nudge.join()
        self.assertEqual([None], outcome)
        self.assertThat(
            [str(error) for error in failed],
            testtools.matchers.AnyMatch(
                testtools.matchers.MatchesRegex(".*[Dd]eadlock", re.DOTALL),
            ),
        )
        self.assertEqual({first.id, second.id}, set(db_rounds.due_stacks(self.ctx, 10)))
