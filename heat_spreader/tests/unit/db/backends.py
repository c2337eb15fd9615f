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

"""The databases that a test can be run on, and the test case that is run on each of them.

SQLite is always there. MariaDB and PostgreSQL are found as oslo.db finds them: at the URLs in
OS_TEST_DBAPI_ADMIN_CONNECTION, or else at their usual ports with openstack_citest as user, password
and database. Where they are not, their tests do not exist, which ``test_servers`` reports as skipped;
with SPREADER_TEST_REQUIRE_SERVERS set they exist and fail.
"""

import atexit
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import datetime
import functools
import os
import secrets
import tempfile
import threading
from typing import Any
import unittest

from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import provision
from oslotest import base
import testtools
from testtools import testcase

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests import fixtures as spreader_fixtures

SERVERS = ("mysql", "postgresql")
# Asked for now: within a test it is a directory that ends with the test.
_TEMPORARY = tempfile.gettempdir()
REQUIRED = bool(os.environ.get("SPREADER_TEST_REQUIRE_SERVERS"))


def admin(server: str) -> provision.Backend:
    """The server, to create databases on; :raises BackendNotAvailable: it does not answer"""
    return provision.Backend.backend_for_database_type(server)


@functools.cache
def present() -> tuple[str, ...]:
    """The databases to test on."""
    found = ["sqlite"]
    for server in SERVERS:
        try:
            admin(server)
        except db_exc.BackendNotAvailable:
            if not REQUIRED:
                continue
        found.append(server)
    return tuple(found)


def on_each(
    loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None
) -> unittest.TestSuite:
    """A module's ``load_tests``: each test once for each database."""
    suite = unittest.TestSuite()
    for test in testtools.iterate_tests(tests):
        if not isinstance(test, OnEach):
            suite.addTest(test)
            continue
        for backend in (name for name in present() if name in test.on):
            copy = testcase.clone_test_with_new_id(test, f"{test.id()}({backend})")
            copy.backend = backend
            suite.addTest(copy)
    return suite


class OnEach:
    """Marks test cases that ``on_each`` repeats.

    :cvar on: the databases for which they mean something
    :cvar backend: the one of this copy
    """

    on = ("sqlite", *SERVERS)
    backend = "sqlite"


@contextlib.contextmanager
def new_database(server: str) -> Iterator[str]:
    """The URL of a database that is there for the time of the context."""
    if server == "sqlite":
        with tempfile.TemporaryDirectory(dir=_TEMPORARY) as directory:
            yield f"sqlite:///{directory}/spreader.sqlite"
        return
    name = f"spreader_{secrets.token_hex(6)}"
    admin(server).create_named_database(name)
    try:
        yield admin(server).provisioned_database_url(name).render_as_string(hide_password=False)
    finally:
        admin(server).drop_named_database(name)


@functools.cache
def shared_database(server: str) -> str:
    """The URL of one database for all tests of this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(new_database(server))


_bound: tuple[str, Any] | None = None


def bind(conf: cfg.ConfigOpts) -> None:
    """Put the configured database behind ``db.api``, unless the test before has left it there.

    Most of the time that a test takes would otherwise go into compiling the same statements anew.
    """
    global _bound
    if _bound != (conf.database.connection, db_api._facade):
        db_api.configure(conf)
        models.Base.metadata.create_all(db_api.engine())
        _bound = (conf.database.connection, db_api._facade)


class DatabaseTestCase(OnEach, base.BaseTestCase):
    """An empty database behind ``heat_spreader.db.api``, and a few rows to put into it."""

    def setUp(self) -> None:
        super().setUp()
        self.config = self.useFixture(spreader_fixtures.Config())
        self.config.set("database", connection=shared_database(self.backend))
        bind(self.config.conf)
        with db_api.engine().begin() as connection:
            for table in reversed(models.Base.metadata.sorted_tables):
                connection.execute(table.delete())
        self.ctx = self.new_context()

    def new_context(self, project: str = "green", **values: Any) -> context.RequestContext:
        """Of one thread, as the transaction is kept on it."""
        return context.RequestContext(
            user_id="alice", project_id=project, overwrite=False, **values
        )

    def cloud(self, name: str = "cloud1", project: str = "green", **values: Any) -> models.Cloud:
        return db_clouds.create_cloud(
            self.ctx, {"name": name, "project_id": project, "kind": "config", **values}
        )

    def stack(
        self,
        name: str = "web",
        clouds: tuple[models.Cloud, ...] = (),
        ctx: context.RequestContext | None = None,
        project: str = "green",
        **values: Any,
    ) -> models.Stack:
        """A stack with a member of weight 0.5 in each cloud."""
        return db_stacks.create_stack(
            ctx or self.ctx,
            {
                "name": name,
                "project_id": project,
                "user_id": "alice",
                "count": 10,
                "failover_toleration": 60,
                "failback_stable": 300,
                **values,
            },
            [{"cloud_id": cloud.id, "weight": "0.5"} for cloud in clouds],
        )

    def read(self, stack: models.Stack) -> models.Stack:
        """The stack as it is now."""
        return db_stacks.get_stack(self.ctx, stack.id, None)

    def claim(self, stack: models.Stack, owner: str = "one", lease: float = 60) -> models.Stack:
        """The stack as claimed."""
        claim = db_rounds.claim_stack(self.new_context(), stack.id, owner, lease)
        self.assertIsNotNone(claim)
        return claim.stack

    def save(self, stack: models.Stack, **changes: Any) -> bool:
        """End the round of a claimed stack."""
        return db_rounds.save_round(
            self.new_context(),
            stack,
            **{"values": {}, "members": {}, "events": (), "due_in": 300, **changes},
        )

    def look(
        self,
        cloud: models.Cloud,
        outcome: str = "ok",
        observer: str = "here",
        fresh_for: float = 60,
        **more: Any,
    ) -> db_clouds.Look | None:
        """Record what an observer saw of a cloud."""
        return db_clouds.record_observation(
            self.new_context(),
            cloud.id,
            observer,
            outcome=outcome,
            detail=f"it says {outcome}",
            latency_ms=3,
            miss=outcome == "unreachable",
            good=outcome == "ok",
            fresh_for=fresh_for,
            **more,
        )

    def observe(self, *args: Any, **kwargs: Any) -> datetime.datetime | None:
        """The same, when only the time is asked for."""
        look = self.look(*args, **kwargs)
        return look and look.moment

    def events(self, **filters: Any) -> list[models.Event]:
        """Oldest first."""
        return db_events.list_events(self.ctx, None, limit=100_000, **filters)[::-1]


def attempt(operation: Callable[[], Any]) -> Any:
    """What it returns, or the exception that it raises."""
    try:
        return operation()
    except Exception as error:
        return error


def at_once(*operations: Callable[[], Any]) -> list[Any]:
    """Run each in a thread of its own; what each of them returned or raised."""
    outcomes: list[Any] = [None] * len(operations)
    ready = threading.Barrier(len(operations))

    def run(number: int) -> None:
        ready.wait()
        outcomes[number] = attempt(operations[number])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(operations))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
