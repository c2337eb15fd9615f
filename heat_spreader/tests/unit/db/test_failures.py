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

"""A database that fails in the middle of a transaction, or goes away: what is left is done, once.

The errors are the drivers' own, raised where the driver would raise them; connections are killed by
the servers.
"""

from collections.abc import Iterator
import contextlib
import sqlite3
from typing import Any
from unittest import mock

from psycopg2 import errors as pg_errors
import pymysql
import sqlalchemy as sa

from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each


def mariadb(number: int, message: str) -> Exception:
    kind = pymysql.err.error_map.get(number, pymysql.err.OperationalError)
    return kind(number, message)


def postgresql(code: str) -> Exception:
    error = pg_errors.lookup(code)("the server says so, in any language\n")
    error.__setstate__({"pgcode": code})
    return error


def busy() -> Exception:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


# The transaction is undone, the connection as good as before.
UNDONE = {
    "sqlite": [busy()],
    "mysql": [
        mariadb(1020, "Record has changed since last read in table 'stacks'"),
        mariadb(1205, "Lock wait timeout exceeded; try restarting transaction"),
        mariadb(1213, "Deadlock found when trying to get lock; try restarting transaction"),
        mariadb(1213, "WSREP detected deadlock/conflict and aborted the transaction."),
        mariadb(1213, "Deadlock: wsrep aborted transaction"),
    ],
    "postgresql": [postgresql(code) for code in ("40001", "40P01", "55P03")],
}
# The connection is of no use any more, though the driver may not see it.
AWAY = {
    "sqlite": [],
    "mysql": [
        mariadb(1040, "Too many connections"),
        mariadb(1047, "WSREP has not yet prepared node for application use"),
        mariadb(1053, "Server shutdown in progress"),
        mariadb(1290, "The MariaDB server is running with the --read-only option"),
        mariadb(1792, "Cannot execute statement in a READ ONLY transaction"),
        mariadb(1836, "Running in read-only mode"),
        mariadb(1927, "Connection was killed"),
        mariadb(2006, "MySQL server has gone away"),
        mariadb(2013, "Lost connection to MySQL server during query"),
    ],
    "postgresql": [
        *(postgresql(code) for code in ("08006", "25006", "57P01", "57P02", "57P03")),
        # What comes from libpq and not from the server has no code.
        pg_errors.OperationalError("SSL SYSCALL error: EOF detected"),
    ],
}


class FailureTestCase(backends.DatabaseTestCase):
    @contextlib.contextmanager
    def failing(
        self, error: Exception, start: str, times: int = 1
    ) -> Iterator[list[tuple[int, bool]]]:
        """The driver raises an error at the statements that begin so, as many times.

        Gives, for each such statement, the connection and whether it failed.
        """
        engine = db_api.engine()
        seen: list[tuple[int, bool]] = []
        connections: list[Any] = []  # kept, as the next one might get the same id

        def execute(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
            if statement.startswith(start):
                connections.append(cursor.connection)
                fails = len(seen) < times
                seen.append((id(cursor.connection), fails))
                if fails:
                    raise error

        sa.event.listen(engine, "do_execute", execute)
        try:
            yield seen
        finally:
            sa.event.remove(engine, "do_execute", execute)

    def assert_idle(self) -> None:
        """No connection is left in a transaction."""
        pool = db_api.engine().pool
        if self.backend != "sqlite":  # whose connections are not pooled
            self.assertEqual(0, pool.checkedout())


class CreateTestCase(FailureTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.numbers = iter(range(1000))
        self.where = self.cloud()

    def create(self, error: Exception, times: int) -> list[tuple[int, bool]]:
        """Create a stack, with so many errors in between; what becomes of it."""
        name = f"stack-{next(self.numbers)}"
        with self.failing(error, "INSERT INTO events", times) as seen:
            created = self.stack(name, (self.where,))
        self.assertEqual(times + 1, len(seen), error)
        found = db_stacks.list_stacks(self.ctx, None, filters={"name": name}, limit=10)
        self.assertEqual([created.id], [stack.id for stack in found], error)
        self.assertEqual(1, len(found[0].members), error)
        self.assertEqual(
            ["stack.create"], [event.type for event in self.events(stack_id=created.id)], error
        )
        self.assert_idle()
        return seen


class TestRetries(CreateTestCase):
    """Errors at the last statement, so that all the others have to be undone."""

    def test_a_transaction_that_was_undone_is_done_once(self):
        for error in UNDONE[self.backend]:
            self.create(error, 1)
        self.create(error, 2)

    def test_a_change_is_made_once(self):
        stack = self.stack("web", (self.where,))
        for number, error in enumerate([*UNDONE[self.backend], *AWAY[self.backend]], 1):
            with self.failing(error, "INSERT INTO events"):
                changed = db_stacks.update_stack(self.ctx, stack.id, values={"count": number})
            self.assertEqual(stack.generation + number, changed.generation, error)
            self.assertEqual(1 + number, len(self.events(stack_id=stack.id)), error)

    def test_a_commit_that_is_refused(self):
        """Galera compares with the other nodes at the end: a conflict comes with the COMMIT."""
        error = UNDONE[self.backend][-1]
        engine = db_api.engine()
        commit, refused = engine.dialect.do_commit, []

        def refuse(connection: Any) -> None:
            if not refused:
                refused.append(connection)
                raise error
            commit(connection)

        with mock.patch.object(engine.dialect, "do_commit", refuse):
            created = self.stack("web", (self.where,))
        self.assertEqual(1, len(refused))
        found = db_stacks.list_stacks(self.ctx, None, limit=10)
        self.assertEqual([created.id], [stack.id for stack in found])
        self.assertEqual(1, len(self.events(stack_id=created.id)))

    def test_nothing_is_left_when_it_does_not_get_better(self):
        self.patch(db_api, "PATIENCE", 0.1)
        for error in [*UNDONE[self.backend][-1:], *AWAY[self.backend][-1:]]:
            with self.failing(error, "INSERT INTO events", times=1000):
                self.assertRaises(exception.Unavailable, self.stack, "web", (self.where,))
            self.assertEqual([], db_stacks.list_stacks(self.ctx, None, limit=10))
            self.assert_idle()

    def test_other_errors_are_raised_at_once(self):
        error = {
            "sqlite": sqlite3.OperationalError("no such column: x"),
            "mysql": mariadb(1054, "Unknown column 'x' in 'field list'"),
            "postgresql": postgresql("42703"),
        }[self.backend]
        with self.failing(error, "INSERT INTO events", times=1000) as seen:
            raised = backends.attempt(lambda: self.stack("web", (self.where,)))
        self.assertIsInstance(raised, Exception)
        self.assertNotIsInstance(raised, exception.Unavailable)
        self.assertEqual(1, len(seen))


class TestServersAway(CreateTestCase):
    on = backends.SERVERS

    def test_what_is_of_no_use_is_not_used_again(self):
        """Behind a proxy a new connection may lead to another server, an old one never does."""
        for error in AWAY[self.backend]:
            seen = self.create(error, 1)
            self.assertNotEqual(seen[0][0], seen[1][0], error)

    def test_stale_connections_cost_nobody_an_error(self):
        """All of the pool were cut by a failover; each is tried before it is used."""
        self.patch(db_api, "PATIENCE", 0)  # so that no retry hides an error
        engine = db_api.engine()
        with contextlib.ExitStack() as several:
            for _ in range(4):
                several.enter_context(engine.connect())
        self.assertEqual(4, engine.pool.checkedin())
        kill(self.backend)
        outcomes = backends.at_once(
            *(lambda: db_clouds.list_clouds(self.new_context(), None) for _ in range(4))
        )
        for outcome in outcomes:
            self.assertEqual([self.where.id], [cloud.id for cloud in outcome])

    def test_connections_are_killed_while_threads_work(self):
        # Of what is done, not of how fast: the machine may be busy.
        self.patch(db_api, "PATIENCE", 30)
        names = [[f"cloud-{worker}-{number}" for number in range(12)] for worker in range(4)]
        killed: list[int] = []

        def work(wanted: list[str]) -> None:
            ctx = self.new_context()
            for number, name in enumerate(wanted):
                if wanted is names[0] and number % 3 == 2:
                    killed.append(kill(self.backend))
                try:
                    db_clouds.create_cloud(
                        ctx, {"name": name, "project_id": "green", "kind": "config"}
                    )
                except exception.CloudExists:
                    # Killed between the commit and its answer: made, and not made again.
                    pass

        outcomes = backends.at_once(*(lambda w=wanted: work(w) for wanted in names))
        self.assertEqual([None] * len(names), outcomes)
        self.assertGreaterEqual(sum(killed), 4)
        wanted = sorted(name for some in names for name in some)
        found = [cloud.name for cloud in db_clouds.list_clouds(self.ctx, "green")]
        self.assertEqual(wanted, sorted(set(found) - {self.where.name}))
        told = [event.cloud_name for event in self.events(type="cloud.create")]
        self.assertEqual(wanted, sorted(set(told) - {self.where.name}))
        self.assertEqual(len(wanted) + 1, len(told))


def kill(server: str) -> int:
    """Have the server cut all connections to our database; how many there were."""
    database = db_api.engine().url.database
    with backends.admin(server).engine.connect() as connection:
        if server == "postgresql":
            return connection.execute(
                sa.text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = :database"
                ),
                {"database": database},
            ).scalar_one()
        found = connection.execute(
            sa.text("SELECT id FROM information_schema.processlist WHERE db = :database"),
            {"database": database},
        ).all()
        killed = 0
        for (number,) in found:
            with contextlib.suppress(sa.exc.OperationalError):  # it has gone by itself
                connection.execute(sa.text(f"KILL CONNECTION {number}"))
                killed += 1
        return killed
