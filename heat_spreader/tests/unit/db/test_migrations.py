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

"""The migrations: one line of them, each does what it says, and together they make the models."""

import contextlib
import pathlib
import re
from typing import Any

from alembic import script
import fixtures
from oslo_db.sqlalchemy import engines
from oslo_db.sqlalchemy import test_migrations
from oslotest import base
import sqlalchemy as sa

from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import migration
from heat_spreader.db import models
from heat_spreader.tests import fixtures as spreader_fixtures
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each


class EmptyDatabaseTestCase(backends.OnEach, base.BaseTestCase):
    """Begins with a database in which there is nothing at all."""

    def setUp(self) -> None:
        super().setUp()
        self.config = self.useFixture(spreader_fixtures.Config())
        self.configure()

    def configure(self) -> None:
        """Put another empty one behind ``heat_spreader.db.api``."""
        if self.backend == "sqlite":
            directory = self.useFixture(fixtures.TempDir()).path
            url = f"sqlite:///{pathlib.Path(directory) / 'empty.sqlite'}"
        else:
            stack = contextlib.ExitStack()
            self.addCleanup(stack.close)
            url = stack.enter_context(backends.new_database(self.backend))
        self.config.set("database", connection=url)
        db_api.configure(self.config.conf)
        self.addCleanup(db_api.dispose)


class TestRevisions(base.BaseTestCase):
    def test_they_form_one_line(self):
        directory = script.ScriptDirectory.from_config(migration._config())
        self.assertEqual(1, len(directory.get_heads()))
        self.assertEqual(1, len(directory.get_bases()))
        self.assertEqual([migration.head()], directory.get_heads())
        for revision in directory.walk_revisions():
            self.assertFalse(revision.is_merge_point or revision.is_branch_point)

    def test_files_sort_as_they_follow_each_other(self):
        directory = script.ScriptDirectory.from_config(migration._config())
        files = [pathlib.Path(revision.path).name for revision in directory.walk_revisions()]
        self.assertEqual(sorted(files, reverse=True), files)


class TestCommands(EmptyDatabaseTestCase):
    def test_a_database_is_brought_to_the_newest_revision(self):
        self.assertIsNone(migration.version())
        error = self.assertRaises(exception.StartupError, migration.check)
        self.assertIn("heat-spreader-manage db sync", str(error))
        for _ in range(2):
            migration.sync()
            self.assertEqual(migration.head(), migration.version())
            migration.check()

    def test_a_database_of_a_newer_version_is_worked_with_and_left_as_it_is(self):
        log = self.useFixture(fixtures.FakeLogger("heat_spreader.db.migration"))
        migration.sync()
        with db_api.engine().begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        # In the middle of an upgrade, what runs must be able to start again.
        migration.check()
        self.assertIn("at revision 9999, which is newer than this version", log.output)
        self.assertRaises(exception.StartupError, migration.sync)
        self.assertEqual("9999", migration.version())

    def test_a_database_of_an_older_version_is_refused(self):
        migration.sync("0001")
        error = self.assertRaises(exception.StartupError, migration.check)
        self.assertIn("is at revision 0001", str(error))

    def test_a_revision_that_does_not_exist(self):
        self.assertRaises(exception.StartupError, migration.sync, "9999")
        self.assertIsNone(migration.version())

    def test_a_revision_can_be_written_down(self):
        migration.stamp()
        self.assertEqual(migration.head(), migration.version())
        self.assertEqual(["alembic_version"], sa.inspect(db_api.engine()).get_table_names())


class TestEachRevision(EmptyDatabaseTestCase):
    def test_one_by_one(self):
        """Each revision needs a check here; what is to be there before goes into ``_pre_``."""
        directory = script.ScriptDirectory.from_config(migration._config())
        for revision in reversed(list(directory.walk_revisions())):
            number = revision.revision
            with db_api.engine().begin() as connection:
                getattr(self, f"_pre_{number}", lambda connection: None)(connection)
            migration.sync(number)
            self.assertEqual(number, migration.version())
            with db_api.engine().begin() as connection:
                getattr(self, f"_check_{number}")(connection)

    def _check_0001(self, connection):
        self.assertEqual(
            {
                "alembic_version",
                "clouds",
                "engines",
                "events",
                "members",
                "observations",
                "stacks",
            },
            set(sa.inspect(connection).get_table_names()),
        )
        now = "2026-01-01 00:00:00"
        for table, values in (
            ("clouds", {"id": "c", "project_id": "p", "name": "east", "created_at": now}),
            ("observations", {"cloud_id": "c", "observer": "here", "since": now}),
        ):
            self.insert(connection, table, values)
        connection.execute(sa.text("DELETE FROM clouds"))
        left = connection.execute(sa.text("SELECT count(*) FROM observations")).scalar_one()
        self.assertEqual(0, left, "observations go with their cloud")

    def _pre_0002(self, connection):
        now = "2026-01-01 00:00:00"
        for table, values in (
            ("clouds", {"id": "c", "project_id": "p", "name": "east", "created_at": now}),
            ("stacks", {"id": "s", "project_id": "p", "name": "web", "created_at": now}),
            ("members", {"id": "m", "stack_id": "s", "cloud_id": "c", "written_at": now}),
        ):
            self.insert(connection, table, values)

    def _check_0002(self, connection):
        """Stacks from before behave as they did, until a user says otherwise."""
        stack = connection.execute(sa.text("SELECT * FROM stacks")).one()
        self.assertEqual(
            ("immediate", 1, "heal", "recreate", "report", False),
            (
                stack.rebalance_mode,
                stack.rebalance_step,
                stack.on_drift,
                stack.on_missing,
                stack.on_stuck,
                bool(stack.forget),
            ),
        )
        member = connection.execute(sa.text("SELECT * FROM members")).one()
        self.assertEqual((None, 0, 0), (member.capacity, member.fulls, member.drifts))
        for flag in ("creating", "deleting", "check_asked", "conflict"):
            self.assertFalse(getattr(member, flag), flag)
        self.insert(
            connection,
            "tombstones",
            {"member_id": "m", "cloud_id": "c", "created_at": "2026-01-01 00:00:00"},
        )
        for table in ("members", "stacks", "clouds"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
        left = connection.execute(sa.text("SELECT count(*) FROM tombstones")).scalar_one()
        self.assertEqual(0, left, "tombstones go with their cloud")

    def _pre_0003(self, connection):
        now = "2026-01-01 00:00:00"
        for cloud, verdict in (("known", "unreachable"), ("new", "unknown")):
            values = {"id": cloud, "project_id": "p", "name": cloud, "verdict": verdict}
            self.insert(connection, "clouds", values | {"created_at": now})
            values = {"cloud_id": cloud, "observer": "here", "outcome": "unreachable"}
            self.insert(connection, "observations", values | {"since": now})

    def _check_0003(self, connection):
        """Whoever watched a cloud that was known to work goes on having a say."""
        rows = connection.execute(sa.text("SELECT * FROM observations")).all()
        self.assertEqual(
            {"known": True, "new": False},
            {row.cloud_id: row.seen_at is not None for row in rows},
        )
        self.assertEqual({(None, None)}, {(row.zone, row.abstains) for row in rows})
        brakes = connection.execute(sa.text("SELECT count(*) FROM brakes")).scalar_one()
        self.assertEqual(0, brakes, "no brake is on")

    def _pre_0004(self, connection):
        row = {"id": "c", "project_id": "p", "name": "east", "created_at": "2026-01-01 00:00:00"}
        self.insert(connection, "clouds", row)

    def _check_0004(self, connection):
        """Clouds from before are reached as they were; a credential stays behind its cloud."""
        cloud = connection.execute(sa.text("SELECT * FROM clouds WHERE id = 'c'")).one()
        self.assertIsNone(cloud.credential_id)
        now = "2026-01-01 00:00:00"
        self.insert(connection, "cloud_projects", {"cloud_id": "c", "project_id": "2026"})
        self.insert(connection, "trials", {"cloud_id": "c", "tried_at": now})
        self.insert(connection, "credentials", {"id": "k", "cloud_id": "c", "created_at": now})
        connection.execute(sa.text("DELETE FROM clouds"))
        for table, left in (("cloud_projects", 0), ("trials", 0), ("credentials", 1)):
            count = connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one()
            self.assertEqual(left, count, table)

    def _check_0005(self, connection):
        """Nobody has a quota of its own, and events from before say no roles."""
        self.insert(connection, "quotas", {"project_id": "2026"})
        quota = connection.execute(sa.text("SELECT * FROM quotas")).one()
        self.assertEqual((None,) * 4, tuple(quota)[1:])
        event = {"type": "t", "message": "m", "actor": "a", "created_at": "2026-01-01 00:00:00"}
        self.insert(connection, "events", event)
        stored = connection.execute(sa.text("SELECT * FROM events")).one()
        self.assertEqual((None, None), (stored.roles, stored.global_request_id))

    def _pre_0006(self, connection):
        stack = {"id": "h", "project_id": "p", "name": "web", "created_at": "2026-01-01 00:00:00"}
        self.insert(connection, "stacks", stack)

    def _check_0006(self, connection):
        """What a stack from before hides is not known, which is another thing than nothing."""
        query = sa.text("SELECT hidden FROM stacks WHERE id = 'h'")
        self.assertIsNone(connection.execute(query).scalar_one())

    def _check_0007(self, connection):
        self.insert(connection, "cursors", {"name": "2026"})

    def insert(self, connection: sa.Connection, table: str, values: dict[str, Any]) -> None:
        """Insert a row; what must be there and is not given is zero, empty or the same time."""
        columns = sa.inspect(connection).get_columns(table)
        moment = next(value for name, value in values.items() if str(value).startswith("2026"))
        for column in columns:
            if not column["nullable"] and column["name"] not in values:
                filler: Any = ""
                if isinstance(column["type"], sa.DateTime):
                    filler = moment
                elif isinstance(column["type"], sa.Boolean):
                    filler = False
                elif isinstance(column["type"], sa.Integer):
                    filler = 0
                values[column["name"]] = filler
        # Not as text: "release" is a word of MariaDB's own.
        target = sa.table(table, *map(sa.column, values))
        connection.execute(target.insert().values(values))


class TestModels(EmptyDatabaseTestCase, test_migrations.ModelsMigrationsSync):
    """What the migrations make is what the models say, as alembic sees it and as the database does."""

    def db_sync(self, engine: sa.Engine) -> None:
        migration.sync(engine=engine)

    def setUp(self) -> None:
        super().setUp()
        # Not ours: oslo.db opens two connections at a time here, and our writer on SQLite has one.
        self._engine = engines.create_engine(self.config.conf.database.connection)
        self.addCleanup(self._engine.dispose)

    def get_engine(self) -> sa.Engine:
        return self._engine

    def get_metadata(self) -> sa.MetaData:
        return models.Base.metadata

    def include_object(self, obj: Any, name: str, type_: str, *_: Any) -> bool:
        return not (type_ == "table" and name == "alembic_version")

    def test_the_database_sees_no_difference(self):
        """Also in what alembic does not compare: collations, fractions of a second, deletions."""
        migration.sync()
        migrated = self.describe()
        self.configure()
        models.Base.metadata.create_all(db_api.engine())
        created = self.describe()
        self.assertEqual(set(models.Base.metadata.tables), set(created))
        for table, description in created.items():
            self.assertEqual(description, migrated[table], table)

    def describe(self) -> dict[str, list[str]]:
        """All that the database tells of each of our tables, in an order of no meaning."""
        with db_api.engine().connect() as connection:
            return {
                table: sorted(self.lines(connection, table))
                for table in sa.inspect(connection).get_table_names()
                if table != "alembic_version"
            }

    def lines(self, connection: sa.Connection, table: str) -> list[str]:
        def ask(query: str) -> list[str]:
            return [" ".join(map(str, row)) for row in connection.exec_driver_sql(query)]

        if self.backend == "postgresql":
            return [
                *ask(
                    "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attcollation, "
                    "attidentity, pg_get_expr(adbin, adrelid) FROM pg_attribute LEFT JOIN pg_attrdef "
                    f"ON adrelid = attrelid AND adnum = attnum WHERE attrelid = '{table}'::regclass "
                    "AND attnum > 0"
                ),
                *ask(f"SELECT indexdef FROM pg_indexes WHERE tablename = '{table}'"),
                *ask(
                    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
                    f"WHERE conrelid = '{table}'::regclass"
                ),
            ]
        if self.backend == "sqlite":
            # Not the statement that made the table: a column that was added later stands at its end.
            return [
                *ask(
                    f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{table}')"
                ),
                *ask(
                    f"SELECT l.\"unique\", i.seqno, i.name FROM pragma_index_list('{table}') l "
                    "JOIN pragma_index_info(l.name) i"
                ),
                *ask(
                    f'SELECT "from", "table", "to", on_delete FROM pragma_foreign_key_list(\'{table}\')'
                ),
            ]
        text = ask(f"SHOW CREATE TABLE {table}")[0]
        return [re.sub(r"\s+", " ", line).strip(" ,") for line in text.splitlines()]
