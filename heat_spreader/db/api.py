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
connection, failover) happen around a whole function.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import datetime
import functools
import random
import sqlite3
import time
from typing import Any

from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import enginefacade
from oslo_db.sqlalchemy import exc_filters
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import models

_facade = enginefacade.transaction_context()

# Seconds in which a function is begun again. A user waits no longer for the answer that the database
# is away; an engine does not have to, as its loops come again and its claims run out.
PATIENCE = 1.5
# Seconds to wait for a connection: the host of the database may swallow packets.
CONNECT_TIMEOUT = 2

# What the database says of a transaction that it has undone for the sake of another one: MariaDB's
# numbers, PostgreSQL's SQLSTATEs, SQLite's results. oslo.db knows some of them, by their texts; those
# of Galera differ from release to release and PostgreSQL's from language to language.
_UNDONE = {
    1020,  # Record has changed since last read
    1205,  # Lock wait timeout exceeded
    1213,  # Deadlock, or a conflict with another node of Galera
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "55P03",  # lock_not_available
    sqlite3.SQLITE_BUSY,
}
# What a server says that is on its way out, not yet in, or after a failover not the right one. That
# the connection stands does not make it any use: there has to be a new one, perhaps to another server.
_AWAY = {
    1040,  # Too many connections
    1047,  # WSREP has not yet prepared node for application use
    1053,  # Server shutdown in progress
    1290,  # running with --read-only
    1792,  # Cannot execute statement in a READ ONLY transaction
    1836,  # Running in read-only mode
    1927,  # Connection was killed
    2006,  # Server has gone away
    2013,  # Lost connection
    "08000",  # connection_exception, as a proxy in between says
    "08003",  # connection_does_not_exist
    "08006",  # connection_failure
    "25006",  # read_only_sql_transaction
    "57P01",  # admin_shutdown
    "57P02",  # crash_shutdown
    "57P03",  # cannot_connect_now
}


@exc_filters.filters("mysql", sa.exc.DBAPIError, ".*")
@exc_filters.filters("postgresql", sa.exc.DBAPIError, ".*")
@exc_filters.filters("sqlite", sa.exc.DBAPIError, ".*")
def _name_what_passes(error: Any, match: Any, dialect: str, is_disconnect: bool) -> None:
    """Among oslo.db's own filters, as a listener of ours would come too late.

    :raises DBDeadlock, DBConnectionError: which ``retry`` knows
    """
    driver = error.orig
    code = driver.args[0] if driver.args else None
    if dialect == "postgresql":
        code = getattr(driver, "pgcode", None) or getattr(driver, "sqlstate", None)
        if code is None and isinstance(error, sa.exc.OperationalError):
            # Not the server has said it, but libpq: there is no connection, or none any more.
            raise db_exc.DBConnectionError(error)
    elif dialect == "sqlite":
        code = getattr(driver, "sqlite_errorcode", None)
    if code in _UNDONE:
        raise db_exc.DBDeadlock(error)
    if code in _AWAY:
        raise db_exc.DBConnectionError(error)


def retry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run the whole function again when its transaction was undone or the connection lost.

    When the connection is lost in the very moment of the commit, nobody knows whether it was done. It
    is then made once more: a change to the same end, with a second event, or refused as made already.

    :raises Unavailable: within ``PATIENCE`` seconds it did not come to an end
    """

    @functools.wraps(function)
    def until_done(*args: Any, **kwargs: Any) -> Any:
        end = time.monotonic() + PATIENCE
        pause = 0.05
        while True:
            try:
                return function(*args, **kwargs)
            except (db_exc.DBConnectionError, db_exc.DBDeadlock) as error:
                # At random, or two that met would meet again.
                wait = random.uniform(pause / 2, pause)  # noqa: S311
                if time.monotonic() + wait > end:
                    raise exception.Unavailable() from error
            time.sleep(wait)
            pause = min(2 * pause, 0.25)

    return until_done


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
        options[option] = _with_defaults(options[option])
    # Whenever a connection comes back, oslo.db would let other green threads run. Ours are real ones, and
    # this one would lose its turn.
    _facade.configure(**options, thread_checkin=False)
    _facade.append_on_engine_create(_hide_parameters)
    _facade.append_on_engine_create(_sqlite_listeners())


def _hide_parameters(engine: sa.Engine) -> None:
    """An error tells the statement that failed, but not what was to be written: it may be secret."""
    engine.hide_parameters = True


def _is_file(url: sa.URL) -> bool:
    return url.database not in (None, "", ":memory:")


def _with_defaults(url: str | None) -> str | None:
    """What the drivers are to be told, unless the operator has told them."""
    if not url:
        return url
    parsed = sa.make_url(url)
    defaults: dict[str, str] = {}
    if parsed.drivername.startswith(("mysql", "mariadb")):
        # oslo.db asks MariaDB for "utf8", which there has no character of more than three bytes.
        defaults["charset"] = "utf8mb4"
    if parsed.drivername.startswith("sqlite") and _is_file(parsed):
        defaults["plugin"] = _KeepConnections.NAME
    if parsed.get_driver_name() in ("pymysql", "mysqldb", "psycopg2", "psycopg"):
        defaults["connect_timeout"] = str(CONNECT_TIMEOUT)
    parsed = parsed.update_query_dict({**defaults, **parsed.query})
    return parsed.render_as_string(hide_password=False) if defaults else url


class _KeepConnections(sa.engine.CreateEnginePlugin):
    """Has SQLAlchemy keep connections to an SQLite file, as it does by itself; oslo.db asks for none.

    A new connection has to read the schema, which takes longer than most transactions. When the last
    one is closed SQLite copies its log back and waits for the disk twice.
    """

    NAME = "heat_spreader_keep_connections"

    def __init__(self, url: sa.URL, kwargs: dict[str, Any]) -> None:
        # Without a limit to how many there are: SQLite has none, and nobody needs to wait.
        kwargs |= {"poolclass": sa.pool.QueuePool, "max_overflow": -1}

    def update_url(self, url: sa.URL) -> sa.URL:
        return url


sa.dialects.plugins.register(_KeepConnections.NAME, __name__, _KeepConnections.__name__)


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
        engine.dispose()  # oslo.db has tried it already, on a connection that lacks what follows

        @sa.event.listens_for(engine, "connect")
        def pragmas(dbapi: Any, record: Any) -> None:
            for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL"):
                dbapi.execute("PRAGMA " + pragma)

        @sa.event.listens_for(engine, "checkin")
        def forget(dbapi: Any, record: Any) -> None:
            # oslo.db's mark of a transaction that was begun. Left behind by one that nobody has ended, it
            # would have the next one not begin.
            record.info.pop("in_transaction", None)

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
    _facade.dispose_pool()


def reader(ctx: context.RequestContext) -> Any:
    """A transaction that only reads: a context manager that gives the session."""
    return _facade.reader.using(ctx)


def connection(ctx: context.RequestContext) -> Any:
    """A transaction that only reads: a context manager that gives the connection.

    Without a session, which takes as long as a small statement.
    """
    return _facade.reader.connection.using(ctx)


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
    """:raises Unavailable: the database does not answer"""
    with reader(ctx) as session:
        session.execute(sa.select(1))
