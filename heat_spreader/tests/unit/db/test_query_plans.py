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

"""The queries that run all the time use an index, on tables large enough for the planner to care.

What is explained is the very statement that ``db`` sends.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import datetime
from typing import Any

import sqlalchemy as sa

from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each

NOW = datetime.datetime(2026, 1, 1)
SECOND = datetime.timedelta(seconds=1)


class TestPlans(backends.DatabaseTestCase):
    STACKS, CLOUDS, OBSERVERS, EVENTS = 2000, 200, 10, 6000

    def setUp(self) -> None:
        super().setUp()
        with db_api.engine().begin() as connection:
            for model, rows in (
                (models.Cloud, self.clouds()),
                (models.Stack, self.stacks()),
                (models.Member, self.members()),
                (models.Observation, self.observations()),
                (models.Event, self.event_rows()),
                (models.Tombstone, self.tombstones()),
            ):
                table = model.__table__
                defaults = {
                    column.name: "" if isinstance(column.type, sa.Text) else 0
                    for column in table.columns
                    if not column.nullable and column.name != "id"
                }
                connection.execute(table.insert(), [{**defaults, **row} for row in rows])
        with db_api.engine().connect() as connection:
            # PostgreSQL's runs in a transaction or not, as it likes; MariaDB's takes the tables by name.
            tables = ", ".join(models.Base.metadata.tables)
            analyze = f"ANALYZE TABLE {tables}" if self.backend == "mysql" else "ANALYZE"
            connection.exec_driver_sql(analyze)
            connection.commit()

    def clouds(self) -> Iterator[dict[str, Any]]:
        for number in range(self.CLOUDS):
            yield {
                "id": f"cloud-{number}",
                "project_id": f"project-{number % 50}",
                "name": f"cloud-{number}",
                "kind": "config",
                "verdict": "healthy",
                "created_at": NOW,
                "updated_at": NOW,
            }

    def stacks(self) -> Iterator[dict[str, Any]]:
        for number in range(self.STACKS):
            yield {
                "id": f"stack-{number}",
                "project_id": f"project-{number % 50}",
                "name": f"stack-{number}",
                "status": "ACTIVE",
                # Nearly all rest; a few wait.
                "due_at": NOW + SECOND * (10**9 if number % 200 else number),
                "created_at": NOW,
                "updated_at": NOW,
            }

    def members(self) -> Iterator[dict[str, Any]]:
        for number in range(2 * self.STACKS):
            yield {
                "id": f"member-{number}",
                "stack_id": f"stack-{number // 2}",
                # A cloud carries a third of all, but for one that carries very few.
                "cloud_id": "cloud-9" if number % 400 == 399 else f"cloud-{number % 3}",
                "heat_stack_id": f"heat-{number}",
            }

    def observations(self) -> Iterator[dict[str, Any]]:
        for number in range(self.CLOUDS * self.OBSERVERS):
            yield {
                "cloud_id": f"cloud-{number % self.CLOUDS}",
                "observer": f"observer-{number // self.CLOUDS}",
                "since": NOW,
                "observed_at": NOW,
            }

    def tombstones(self) -> Iterator[dict[str, Any]]:
        for number in range(self.STACKS):
            yield {
                "member_id": f"gone-{number}",
                "cloud_id": f"cloud-{number % self.CLOUDS}",
                "project_id": "project-1",
                "stack_id": f"gone-{number}",
                "created_at": NOW,
            }

    def event_rows(self) -> Iterator[dict[str, Any]]:
        for number in range(self.EVENTS):
            # A few are about shared clouds, a few of our project, most of others.
            shared, ours = number % 200 == 0, number % 100 == 7
            project = "project-7" if ours else f"project-{number % 40 + 10}"
            yield {
                "project_id": None if shared else project,
                "stack_id": None if shared else f"stack-{number % 300}",
                "type": "x",
                "actor": "engine",
                "created_at": NOW + SECOND * number,
            }

    @contextlib.contextmanager
    def sent(self) -> Iterator[list[tuple[str, Any]]]:
        """The statements that are sent within the context, with their parameters."""
        statements: list[tuple[str, Any]] = []

        def note(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            statements.append((statement, parameters))

        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            yield statements
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)

    def plans(self, table: str, operation: Callable[[], Any]) -> list[str]:
        """How the database carries out each query that ``operation`` makes of the table."""
        with self.sent() as statements:
            operation()
        explain = "EXPLAIN QUERY PLAN " if self.backend == "sqlite" else "EXPLAIN "
        with db_api.engine().connect() as connection:
            return [
                "\n".join(
                    " ".join(map(str, row))
                    for row in connection.exec_driver_sql(explain + statement, parameters)
                )
                for statement, parameters in statements
                if f"FROM {table}" in statement.replace("\n", " ")
            ]

    def test_what_runs_all_the_time(self):
        """None of these reads a whole table, or all that a project has to sort it."""
        middle = db_events.list_events(self.ctx, "project-7", limit=40)[-1].id
        heat_ids = [f"heat-{number}" for number in range(0, 30, 3)]
        for rows, index, table, query in (
            (10, "ix_stacks_due_at", "stacks", lambda: db_rounds.due_stacks(self.ctx, 64)),
            (
                10,
                "ix_members_heat_stack_id",
                "members",
                lambda: db_rounds.members_of_heat_stacks(self.ctx, "cloud-0", heat_ids),
            ),
            (
                self.OBSERVERS,
                {"mysql": "PRIMARY", "postgresql": "pk_observations"}.get(
                    self.backend, "sqlite_autoindex_observations_1"
                ),
                "observations",
                lambda: db_clouds.list_observations(self.ctx, ["cloud-7"])[1]["cloud-7"],
            ),
            (
                20,
                "ix_events_project_id_id",
                "events",
                lambda: db_events.list_events(self.ctx, "project-7", limit=20),
            ),
            (
                20,
                "ix_events_project_id_id",
                "events",
                lambda: db_events.list_events(self.ctx, "project-7", limit=20, marker=middle),
            ),
            (
                10,
                "ix_events_stack_id_id",
                "events",
                lambda: db_events.list_events(self.ctx, "project-7", stack_id="stack-7", limit=10),
            ),
            (
                20,
                {"mysql": "PRIMARY", "postgresql": "pk_events"}.get(self.backend, "SCAN events"),
                "events",
                lambda: db_events.list_events(self.ctx, None, limit=20),
            ),
        ):
            self.assertEqual(rows, len(query()), index)
            plans = self.plans(table, query)
            self.assertNotEqual([], plans)
            for plan in plans:
                self.assertIn(index, plan)
                # PostgreSQL sorts a handful rather than walk backwards; the others only when they must.
                for word in ("Seq Scan", "TEMP B-TREE", "filesort"):
                    self.assertNotIn(word, plan)
                if index != f"SCAN {table}":  # SQLite's word for going along the primary key, too
                    self.assertNotIn(f"SCAN {table}", plan)

        def show():
            return db_stacks.get_stack(self.ctx, "stack-7", None)

        self.assertEqual(2, len(show().members))
        index = "sqlite_autoindex_members_2"
        if self.backend != "sqlite":
            index = "uq_members_stack_id_cloud_id"
        for plan in self.plans("members", show):
            self.assertIn(index, plan)

    def test_no_step_of_an_engine_reads_a_whole_table(self):
        """Every statement of a sweep, of a round and of a look at a cloud finds its rows by an index."""
        claimed: list[db_rounds.Claim] = []
        cloud = db_clouds.get_cloud(self.ctx, "cloud-9", None)

        def claim() -> None:
            claimed.extend(db_rounds.claim_due(self.ctx, "engine", 60, 5))

        def save() -> None:
            stack = claimed[0].stack
            members = {member.id: {"share": 1} for member in stack.members}
            event = {"type": "stack.active", "message": "It is so."}
            self.assertTrue(db_rounds.save_members(self.ctx, stack, members))
            self.assertTrue(self.save(stack, members=members, events=[event]))

        def leave() -> None:
            stack = claimed[1].stack
            self.assertTrue(db_rounds.forget_member(self.ctx, stack, stack.members[0]))
            self.assertTrue(db_rounds.finish_delete(self.ctx, stack, "It is gone."))

        for step in (
            lambda: db_rounds.due_stacks(self.ctx, 64),
            claim,
            lambda: db_rounds.renew_claim(self.ctx, claimed[0].stack, 60),
            save,
            leave,
            lambda: db_rounds.release_claims(
                self.ctx, [claim.stack for claim in claimed[2:]], interrupted=False
            ),
            lambda: db_rounds.claim_stack(self.ctx, "stack-7", "engine", 60),
            lambda: db_rounds.nudge_stacks(self.ctx, ["stack-7", "stack-8"]),
            lambda: db_rounds.members_of_heat_stacks(self.ctx, cloud.id, ["heat-399"]),
            lambda: self.observe(cloud),
            lambda: db_clouds.has_adopted_members(self.ctx, cloud.id),
            # A new verdict makes all stacks in the cloud due.
            lambda: db_clouds.set_verdict(self.ctx, cloud, "suspect", "missed", None),
            lambda: db_clouds.update_cloud(self.ctx, cloud.id, {"cordoned": True}),
        ):
            with self.sent() as statements:
                step()
            asked = [
                (statement, parameters)
                for statement, parameters in statements
                if statement.startswith(("SELECT", "UPDATE", "DELETE")) and "WHERE" in statement
            ]
            self.assertNotEqual([], asked)
            for statement, parameters in asked:
                self.assertEqual([], self.scanned(statement, parameters), statement)
        self.assertEqual(5, len(claimed))

    def scanned(self, statement: str, parameters: Any) -> list[str]:
        """The lines of the plan that read the whole of a large table."""
        large = ("stacks", "members", "observations", "tombstones", "events")
        if isinstance(parameters, list):  # for several rows, each of which is found alike
            parameters = parameters[0]
        explain = "EXPLAIN QUERY PLAN " if self.backend == "sqlite" else "EXPLAIN "
        with db_api.engine().connect() as connection:
            plan = [
                tuple(row) for row in connection.exec_driver_sql(explain + statement, parameters)
            ]
        if self.backend == "mysql":
            return [str(row) for row in plan if row[2] in large and row[3] in ("ALL", "index")]
        word = "SCAN" if self.backend == "sqlite" else "Seq Scan on"
        return [str(row) for row in plan for table in large if f"{word} {table}" in f"{row[-1]} "]
