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

"""The database of the simulation: SQLite in memory, and a session that is quick.

The functions of ``heat_spreader.db`` run on it unchanged, with the statements that SQLAlchemy
makes for SQLite and the conversions of its types. Knows nothing of what is simulated.
"""

from collections import namedtuple
from collections.abc import Callable
from collections.abc import Sequence
import operator
import sqlite3
from typing import Any
import weakref

from oslo_config import cfg
from oslo_db.sqlalchemy import exc_filters
from oslo_log import log
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import conf as spreader_conf
from heat_spreader.db import api as db_api
from heat_spreader.db import models


class Database:
    """The database of all scenarios of this process, one after another; emptied in between.

    :ivar passed: called with each stage of a transaction: "begin", "commit" (is about to be carried
        out) and "committed"; what it raises comes of the transaction
    """

    def __init__(self) -> None:
        self.passed: Callable[[str], None] = lambda stage: None
        conf = cfg.CONF
        spreader_conf.register(conf)
        log.register_options(conf)
        conf([], project="heat-spreader", default_config_files=[], default_config_dirs=[])
        conf.set_override("connection", "sqlite://", "database")
        db_api.configure(conf)
        # One connection and one session for ever: what oslo.db and SQLAlchemy do anew for each
        # transaction takes longer than most transactions, and there are millions of them.
        engine = sa.create_engine(
            "sqlite://", poolclass=sa.pool.StaticPool, connect_args={"cached_statements": 1000}
        )
        exc_filters.register_engine(engine)
        models.Base.metadata.create_all(engine)
        connection = engine.connect()
        driver: Any = connection.connection.driver_connection
        self.connection: sqlite3.Connection = driver
        self.connection.execute("PRAGMA foreign_keys = ON")
        transaction = _Transaction(self, _Session(connection, self.connection))
        db_api.connection = db_api.reader = db_api.writer = lambda ctx: transaction
        self._tables = [table.name for table in reversed(models.Base.metadata.sorted_tables)]

    def empty(self) -> None:
        for table in self._tables:
            self.connection.execute(f"DELETE FROM {table}")
        self.connection.commit()

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the rows say now; to be asked between transactions only."""
        return self.connection.execute(question, values).fetchall()


class _Transaction:
    """What ``reader`` and ``writer`` give: nobody gives way within one, so there is never another."""

    def __init__(self, database: Database, session: "_Session") -> None:
        self._database = database
        self._session = session

    def __enter__(self) -> "_Session":
        self._database.passed("begin")
        return self._session

    def __exit__(self, error: Any, *_: object) -> None:
        if error is not None:
            self._session.end(commit=False)
            return
        try:
            self._database.passed("commit")
        except Exception:
            self._session.end(commit=False)
            raise
        self._session.end(commit=True)
        self._database.passed("committed")


class _Session(orm.Session):
    """Runs what is asked again and again without SQLAlchemy, which takes five times as long as SQLite.

    A statement that is seen for the second time is one that the product keeps. How it is put to
    SQLite, and what has to be converted, is found out once. What is put together anew each time,
    what concerns entities and what fails goes through SQLAlchemy as ever.
    """

    def __init__(self, connection: sa.Connection, driver: sqlite3.Connection) -> None:
        super().__init__(bind=connection, expire_on_commit=False)
        self._driver = driver
        self._dialect = connection.dialect
        self._kept: weakref.WeakKeyDictionary[Any, dict[Any, _Statement | None]] = (
            weakref.WeakKeyDictionary()
        )

    def connection(self, *_: Any, **__: Any) -> Any:
        """A connection, as far as anybody uses it."""
        return self

    def execute(self, statement: Any, params: Any = None, **options: Any) -> Any:
        kept = self._kept.get(statement)
        if kept is None:
            self._kept[statement] = {}
            return super().execute(statement, params, **options)
        many = isinstance(params, list)
        first = (params[0] if many else params) or {}
        shape = (
            many,
            *first,
            *(len(value) for value in first.values() if isinstance(value, list)),
        )
        if shape not in kept:
            kept[shape] = _prepared(statement, first, many, self._dialect)
        prepared = kept[shape]
        if prepared is None:
            return super().execute(statement, params, **options)
        try:
            return prepared.run(self._driver, params if many else [first])
        except sqlite3.Error:
            # Once more, for the error that oslo.db makes of it.
            return super().execute(statement, params, **options)

    def scalars(self, statement: Any, params: Any = None, **options: Any) -> Any:
        return self.execute(statement, params, **options).scalars()

    def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
        return self.execute(statement, params, **options).scalar()

    def end(self, *, commit: bool) -> None:
        if self.in_transaction():
            (self.commit if commit else self.rollback)()
            self.expunge_all()
        elif self._driver.in_transaction:
            (self._driver.commit if commit else self._driver.rollback)()


def _prepared(
    statement: Any, example: dict[str, Any], many: bool, dialect: Any
) -> "_Statement | None":
    """None: SQLAlchemy has more to do for it than to send it."""
    columns = None if statement.is_select else list(example)
    compiled = statement.compile(dialect=dialect, column_keys=columns, for_executemany=many)
    if statement._propagate_attrs or compiled.update_prefetch:
        return None
    return _Statement(statement, compiled, example, dialect)


class _Statement:
    """A statement as SQLite takes it, for parameters of one shape."""

    def __init__(
        self, statement: Any, compiled: Any, example: dict[str, Any], dialect: Any
    ) -> None:
        state = compiled.construct_expanded_state(example)
        self._text = state.statement
        parts = {
            part: (name, place)
            for name, expanded in state.parameter_expansion.items()
            for place, part in enumerate(expanded)
        }
        defaults = {column.key: column.default for column in compiled.insert_prefetch}
        # Of each value: where it comes from, and how it is converted.
        self._values: list[tuple[Callable[[dict[str, Any]], Any], Any]] = []
        for part in state.positiontup:
            name, place = parts.get(part, (part, None))
            if name in defaults:
                value = _default(defaults[name])
            elif name in example:
                value = _given(name, place)
            else:
                value = _always(state.parameters[part])
            kind = compiled.binds[name].type.dialect_impl(dialect)
            self._values.append((value, kind.bind_processor(dialect)))
        self._row: Callable[[Sequence[Any]], Any] | None = None
        self._conversions: list[tuple[int, Callable[[Any], Any]]] = []
        if statement.is_select:
            selected = list(statement.selected_columns)
            names = [column.name for column in selected]
            self._row = namedtuple("Row", names, rename=True)._make  # type: ignore[misc]
            for place, column in enumerate(selected):
                kind = column.type.dialect_impl(dialect)
                if convert := kind.result_processor(dialect, None):
                    self._conversions.append((place, convert))

    def run(self, driver: sqlite3.Connection, rows: list[dict[str, Any]]) -> "_Result":
        if len(rows) > 1:
            cursor = driver.executemany(self._text, [self._bound(row) for row in rows])
        else:
            cursor = driver.execute(self._text, self._bound(rows[0]))
        if self._row is None:
            return _Result((), cursor.rowcount)
        return _Result(map(self._converted, cursor.fetchall()), -1)

    def _bound(self, parameters: dict[str, Any]) -> list[Any]:
        return [
            value(parameters) if convert is None else convert(value(parameters))
            for value, convert in self._values
        ]

    def _converted(self, row: tuple[Any, ...]) -> Any:
        values = list(row)
        for place, convert in self._conversions:
            values[place] = convert(values[place])
        return self._row(values)  # type: ignore[misc]


def _given(name: str, place: int | None) -> Callable[[dict[str, Any]], Any]:
    if place is None:
        return operator.itemgetter(name)
    return lambda parameters: parameters[name][place]


def _always(value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda parameters: value


def _default(default: Any) -> Callable[[dict[str, Any]], Any]:
    return default.arg if default.is_callable else _always(default.arg)


class _Result(list[Any]):
    """As much of SQLAlchemy's results as is used."""

    def __init__(self, rows: Any, rowcount: int) -> None:
        super().__init__(rows)
        self.rowcount = rowcount

    def all(self) -> list[Any]:
        return self

    def one(self) -> Any:
        (row,) = self
        return row

    def one_or_none(self) -> Any:
        return self.one() if self else None

    def scalars(self) -> "_Result":
        return _Result((row[0] for row in self), self.rowcount)

    def scalar(self) -> Any:
        return self[0][0] if self else None
