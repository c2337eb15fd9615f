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

"""Two versions of the service on one database: what ``doc/source/upgrade.rst`` promises of it."""

from typing import Any

from alembic import script
import sqlalchemy as sa

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import events as db_events
from heat_spreader.db import migration
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests.unit.db import backends
from heat_spreader.tests.unit.db import test_migrations

load_tests = backends.on_each


def revisions() -> list[str]:
    """From the first to the newest."""
    directory = script.ScriptDirectory.from_config(migration._config())
    return [revision.revision for revision in directory.walk_revisions()][::-1]


class TestMigrations(test_migrations.EmptyDatabaseTestCase):
    def test_they_only_add(self):
        """Whoever was written for the schema of before finds all of it, and is asked for no more."""
        first, *later = revisions()
        migration.sync(first)
        before = self.describe()
        for revision in later:
            migration.sync(revision)
            after = self.describe()
            for table, was in before.items():
                self.assertIn(table, after, revision)
                now = after[table]
                for name, column in was["columns"].items():
                    self.assertEqual(column, now["columns"].get(name), (revision, table, name))
                for name in now["columns"].keys() - was["columns"].keys():
                    _, nullable, default = now["columns"][name]
                    self.assertTrue(nullable or default is not None, (revision, table, name))
                # An index may come; what refuses rows that were good before may not.
                self.assertEqual(was["rules"], now["rules"], (revision, table))
                self.assertLessEqual(was["indexes"], now["indexes"], (revision, table))
            before = after

    def describe(self) -> dict[str, Any]:
        inspector = sa.inspect(db_api.engine())
        return {
            table: {
                "columns": {
                    column["name"]: (str(column["type"]), column["nullable"], column["default"])
                    for column in inspector.get_columns(table)
                },
                "rules": sorted(
                    str(rule)
                    for rules in (
                        [inspector.get_pk_constraint(table)],
                        inspector.get_unique_constraints(table),
                        inspector.get_foreign_keys(table),
                        inspector.get_check_constraints(table),
                        [index for index in inspector.get_indexes(table) if index["unique"]],
                    )
                    for rule in rules
                ),
                "indexes": {index["name"] for index in inspector.get_indexes(table)},
            }
            for table in inspector.get_table_names()
            if table != "alembic_version"
        }


class Before:
    """The statements of a version that knows no more than the schema of its time.

    :param connection: to a database with the schema of that version
    """

    def __init__(self, connection: sa.Connection) -> None:
        metadata = sa.MetaData()
        metadata.reflect(connection)
        self.tables = metadata.tables

    def insert(self, connection: sa.Connection, table: str, **values: Any) -> None:
        """Add a row, with something in each column, as the models had it."""
        known = self.tables[table].columns
        for column in known:
            if column.name not in values and not column.nullable:
                filler: Any = ""
                if isinstance(column.type, sa.DateTime):
                    filler = values["created_at"]
                elif isinstance(column.type, sa.Boolean):
                    filler = False
                elif isinstance(column.type, sa.Integer):
                    filler = 0
                elif column.name in ("files", "parameters", "ledger"):
                    filler = "{}"
                elif column.name == "tags":
                    filler = "[]"
                values[column.name] = filler
        connection.execute(self.tables[table].insert().values(**values))

    def create_stack(self, connection: sa.Connection, name: str, cloud_id: str) -> None:
        """A stack that is due, with a member."""
        moment = connection.execute(sa.select(self.tables["clouds"].c.created_at)).scalar_one()
        self.insert(
            connection,
            "stacks",
            id=f"id-of-{name}",
            project_id="green",
            name=name,
            count=10,
            status="PENDING",
            generation=1,
            created_at=moment,
            due_at=moment,
        )
        self.insert(
            connection,
            "members",
            id=f"member-of-{name}",
            stack_id=f"id-of-{name}",
            cloud_id=cloud_id,
            weight="0.5",
        )

    def round(self, connection: sa.Connection, stack_id: str, owner: str) -> None:
        """Claim a stack, write a share, and give it back."""
        stacks, members = self.tables["stacks"], self.tables["members"]
        claimed = connection.execute(
            stacks.update()
            .where(stacks.c.id == stack_id, stacks.c.claimed_until.is_(None))
            .values(
                claimed_by=owner,
                claimed_until=stacks.c.created_at,
                claim_epoch=stacks.c.claim_epoch + 1,
            )
        )
        assert claimed.rowcount == 1
        connection.execute(members.update().where(members.c.stack_id == stack_id).values(share=5))
        connection.execute(
            stacks.update()
            .where(stacks.c.id == stack_id)
            .values(claimed_by=None, claimed_until=None, status="ACTIVE")
        )

    def show(self, connection: sa.Connection, name: str) -> Any:
        stacks, members = self.tables["stacks"], self.tables["members"]
        return connection.execute(
            sa.select(stacks, members.c.share)
            .join_from(stacks, members, members.c.stack_id == stacks.c.id)
            .where(stacks.c.name == name)
        ).one()


class TestTwoVersions(test_migrations.EmptyDatabaseTestCase):
    """Each version before on the newest schema, beside the code of today."""

    def test_they_work_on_each_others_stacks(self):
        for revision in revisions()[:-1]:
            self.configure()
            migration.sync(revision)
            with db_api.engine().connect() as connection:
                old = Before(connection)
            migration.sync()
            self.work_together(old)

    def work_together(self, old: Before) -> None:
        ctx = context.RequestContext(user_id="alice", project_id="green", overwrite=False)
        cloud = db_clouds.create_cloud(
            ctx, {"name": "east", "project_id": "green", "kind": "config"}
        )
        with db_api.engine().begin() as connection:
            old.create_stack(connection, "old", cloud.id)

        # The present version takes what the former has left.
        (claim,) = db_rounds.claim_due(ctx, "new-engine", 60, 10)
        self.assertEqual(("old", False), (claim.stack.name, claim.interrupted))
        (member,) = claim.stack.members
        self.assertTrue(
            db_rounds.save_round(
                ctx,
                claim.stack,
                values={"status": "ACTIVE", "observed_generation": 1},
                members={member.id: {"share": 5}},
                events=(),
                due_in=0,
            )
        )
        changed = db_stacks.update_stack(ctx, claim.stack.id, values={"count": 12})
        self.assertEqual((12, 2), (changed.count, changed.generation))
        self.assertEqual(
            ["stack.update"],
            [e.type for e in db_events.list_events(ctx, None, stack_id=changed.id, limit=9)],
        )

        # The former takes what the present one has made and changed.
        created = db_stacks.create_stack(
            ctx,
            {
                "name": "new",
                "project_id": "green",
                "user_id": "alice",
                "count": 10,
                "failover_toleration": 60,
                "failback_stable": 300,
            },
            [{"cloud_id": cloud.id, "weight": "0.5"}],
        )
        with db_api.engine().begin() as connection:
            old.round(connection, created.id, "old-engine")
            old.round(connection, changed.id, "old-engine")
        with db_api.engine().connect() as connection:
            self.assertEqual((10, "ACTIVE", 5), self.shown(old.show(connection, "new")))
            self.assertEqual((12, "ACTIVE", 5), self.shown(old.show(connection, "old")))
        listed = db_stacks.list_stacks(ctx, "green", limit=10)
        self.assertEqual({"old": 5, "new": 5}, {s.name: s.members[0].share for s in listed})

        # A claim of one is a claim for the other.
        mine = db_rounds.claim_stack(ctx, created.id, "new-engine", 60)
        stacks = old.tables["stacks"]
        with db_api.engine().begin() as connection:
            taken = connection.execute(
                stacks.update()
                .where(stacks.c.id == created.id, stacks.c.claimed_until.is_(None))
                .values(claimed_by="old-engine")
            )
        self.assertEqual(0, taken.rowcount)
        self.assertTrue(db_rounds.renew_claim(ctx, mine.stack, 60))

    def shown(self, row: Any) -> tuple[int, str, int]:
        return row._mapping["count"], row.status, row.share
