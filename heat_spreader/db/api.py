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

"""The database that all the modules beside this one work on: set-up, access, retries, the clock.

The modules are named after nouns and hold every query and every write, one function each; callers
get rows that are read-only and detached. A race is settled by one conditional UPDATE and its row
count. Transactions are short: nothing there waits for HTTP or RPC, and retries (deadlock, lost
connection) happen around a whole function.
"""

from collections.abc import Iterator
import contextlib
import datetime
import sqlite3
from typing import Any

from oslo_config import cfg
from oslo_db import api as oslo_db_api
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import enginefacade
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import models

_facade = enginefacade.transaction_context()

retry = oslo_db_api.wrap_db_retry(
    max_retries=10,
    retry_interval=0.05,
    inc_retry_interval=True,
    max_retry_interval=1,
    retry_on_deadlock=True,
    retry_on_disconnect=True,
)


def configure(conf: cfg.ConfigOpts) -> None:
    """Bind this module to ``[database] connection``; again, for another database."""
    global _facade
    dispose()
    _facade = enginefacade.transaction_context()
    options = dict(conf.database)
    url = options["connection"] or ""
    if url.startswith("sqlite"):
        options["sqlite_fk"] = True
        if _is_file(sa.make_url(url)):
            # A second engine for readers, so that only writers pay for BEGIN IMMEDIATE.
            options["slave_connection"] = url
    for option in ("connection", "slave_connection"):
        options[option] = _with_all_of_unicode(options[option])
    _facade.configure(**options)
    _facade.append_on_engine_create(_sqlite_listeners())


def _is_file(url: sa.URL) -> bool:
    return url.database not in (None, "", ":memory:")


def _with_all_of_unicode(url: str | None) -> str | None:
    """oslo.db asks MariaDB for "utf8", which there has no character of more than three bytes."""
    if not url or not url.startswith(("mysql", "mariadb")):
        return url
    parsed = sa.make_url(url)
    if "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed.render_as_string(hide_password=False)


# A connection to an SQLite file that does nothing but stay open. When the last one is closed, which
# without a pool is after each transaction, SQLite copies its log back and waits for the disk twice.
_idle: sqlite3.Connection | None = None


def _sqlite_listeners() -> Any:
    """Make SQLite safe for threads: WAL, and a writer that takes its lock when it begins.

    With a deferred BEGIN a transaction that reads and then writes fails with "database is locked" as
    soon as another writer was faster, and no busy timeout helps.
    """
    engines: list[Any] = []

    def listen(engine: sa.Engine) -> None:
        if engine.dialect.name != "sqlite":
            return
        engines.append(engine)

        @sa.event.listens_for(engine, "connect")
        def pragmas(dbapi: Any, record: Any) -> None:
            global _idle
            for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL"):
                dbapi.execute("PRAGMA " + pragma)
            if _idle is None and _is_file(engine.url):
                (file,), how = engine.dialect.create_connect_args(engine.url)
                _idle = sqlite3.connect(file, uri=how.get("uri", False), check_same_thread=False)
                _idle.execute("SELECT count(*) FROM sqlite_master").fetchall()

        if len(engines) == 1:  # oslo.db creates the writer's engine first
            # oslo.db emits a literal BEGIN of its own; a listener on "begin" would come after it.
            @sa.event.listens_for(engine, "before_cursor_execute", retval=True)
            def immediate(
                conn: Any, cursor: Any, statement: str, params: Any, ctx: Any, many: bool
            ) -> tuple[str, Any]:
                return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), params

    return listen


def engine() -> sa.Engine:
    """The writer's SQLAlchemy engine, for migrations and health checks."""
    return _facade.writer.get_engine()


def dispose() -> None:
    """Close all connections: before a fork, and before another database is configured."""
    global _idle
    if _idle is not None:
        _idle.close()
        _idle = None
    _facade.dispose_pool()


def reader(ctx: context.RequestContext) -> Any:
    """A transaction that only reads: a context manager that gives the session."""
    return _facade.reader.using(ctx)


def writer(ctx: context.RequestContext) -> Any:
    """A transaction that writes: a context manager that gives the session."""
    return _facade.writer.using(ctx)


# Asked for in almost every transaction, so not put together anew each time.
_CLOCKS = {
    "sqlite": sa.select(sa.func.strftime("%Y-%m-%d %H:%M:%f000", "now", type_=models.Time)),
    "postgresql": sa.select(sa.func.timezone("UTC", sa.func.clock_timestamp(), type_=models.Time)),
    "mysql": sa.select(sa.func.utc_timestamp(sa.text("6"), type_=models.Time)),
}
_CLOCKS["mariadb"] = _CLOCKS["mysql"]


def now(session: orm.Session) -> datetime.datetime:
    """The database's clock in naive UTC: the only clock that all engines share."""
    return session.scalars(_CLOCKS[session.get_bind().dialect.name]).one()


@contextlib.contextmanager
def duplicate(error: exception.SpreaderException) -> Iterator[None]:
    """:raises error: in the place of a duplicate key"""
    try:
        yield
    except db_exc.DBDuplicateEntry:
        raise error from None


@retry
def ping(ctx: context.RequestContext) -> None:
    """:raises DBError: the database does not answer"""
    with reader(ctx) as session:
        session.execute(sa.select(1))
