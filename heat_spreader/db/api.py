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

"""Every query and every write, one function each; callers get rows that are read-only and detached.

A race is settled by one conditional UPDATE and its row count. Transactions are short: nothing here
waits for HTTP or RPC, and retries (deadlock, lost connection) happen around a whole function.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import datetime
import json
import sqlite3
from typing import Any

from oslo_config import cfg
from oslo_db import api as oslo_db_api
from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import enginefacade
from oslo_db.sqlalchemy import utils as db_utils
from oslo_utils import uuidutils
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import models

_facade = enginefacade.transaction_context()

_retry = oslo_db_api.wrap_db_retry(
    max_retries=10,
    retry_interval=0.05,
    inc_retry_interval=True,
    max_retry_interval=1,
    retry_on_deadlock=True,
    retry_on_disconnect=True,
)


# --- set-up ---------------------------------------------------------------------------------------


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
def _duplicate(error: exception.SpreaderException) -> Any:
    try:
        yield
    except db_exc.DBDuplicateEntry:
        raise error from None


@contextlib.contextmanager
def _clouds_stay() -> Any:
    """A member can come in between the look at its cloud and that cloud's removal."""
    try:
        yield
    except db_exc.DBReferenceError:
        raise exception.Conflict(
            reason="a cloud was removed in the meantime; list the clouds and try again"
        ) from None


# --- stacks ---------------------------------------------------------------------------------------

_STACK_WITH_MEMBERS = orm.selectinload(models.Stack.members).joinedload(models.Member.cloud)


@_retry
def create_stack(
    ctx: context.RequestContext, values: Mapping[str, Any], members: Sequence[Mapping[str, Any]]
) -> models.Stack:
    """Store a new stack with its members; due at once.

    :raises StackExists: the project has a stack of that name
    :raises Conflict: a cloud of a member is gone
    """
    with (
        _clouds_stay(),
        _duplicate(exception.StackExists(name=values["name"])),
        _facade.writer.using(ctx) as session,
    ):
        moment = now(session)
        stack = models.Stack(
            id=uuidutils.generate_uuid(),
            created_at=moment,
            updated_at=moment,
            due_at=moment,
            request_id=ctx.request_id,
            status="PENDING",
            status_reason="Waiting for an engine.",
            **values,
        )
        for position, member in enumerate(members):
            stack.members.append(_member(stack, position, member))
        session.add(stack)
        session.flush()
        stack = _load_stack(session, stack.id)
        add_event(
            session,
            ctx,
            "stack.create",
            f"Stack created with count {stack.count} over {len(members)} cloud(s).",
            stack=stack,
            after=_wanted(stack),
        )
        return stack


@_retry
def get_stack(ctx: context.RequestContext, stack: str, project_id: str | None) -> models.Stack:
    """One stack by id or name, with members and their clouds.

    :param project_id: only in this project; None looks in all (administrators, engines)
    :raises StackNotFound: nothing there, or it belongs to somebody else
    :raises AmbiguousName: over all projects, several carry the name
    """
    with _facade.reader.using(ctx) as session:
        query = sa.select(models.Stack).options(_STACK_WITH_MEMBERS)
        if project_id is not None:
            query = query.where(models.Stack.project_id == project_id)
        found = session.scalars(query.where(models.Stack.id == stack)).one_or_none()
        if found is not None:
            return found
        named = session.scalars(query.where(models.Stack.name == stack)).all()
        if len(named) > 1:
            raise exception.AmbiguousName(name=stack)
        if not named:
            raise exception.StackNotFound(stack=stack)
        return named[0]


@_retry
def list_stacks(
    ctx: context.RequestContext,
    project_id: str | None,
    *,
    filters: Mapping[str, Any] | None = None,
    limit: int,
    marker: str | None = None,
    sort_key: str = "created_at",
    sort_dir: str = "desc",
) -> list[models.Stack]:
    """Stacks in a stable order; filters are exact: name, status, tag, cloud_id.

    :raises StackNotFound: the marker is no stack that the caller can see
    """
    filters = dict(filters or {})
    with _facade.reader.using(ctx) as session:
        # A page of a thousand templates would fill the memory, and no list shows them.
        query = sa.select(models.Stack).options(
            _STACK_WITH_MEMBERS,
            orm.defer(models.Stack.template, raiseload=True),
            orm.defer(models.Stack.environment, raiseload=True),
            orm.defer(models.Stack.files, raiseload=True),
        )
        if project_id is not None:
            query = query.where(models.Stack.project_id == project_id)
        if "cloud_id" in filters:
            query = query.where(
                models.Stack.members.any(models.Member.cloud_id == filters.pop("cloud_id"))
            )
        if "tag" in filters:
            # Tags are a small JSON list of plain words; the schema keeps quotes out of them. No LIKE:
            # that of SQLite takes "A" for "a".
            tags = sa.type_coerce(models.Stack.tags, sa.Text)
            query = query.where(sa.func.replace(tags, json.dumps(filters.pop("tag")), "") != tags)
        for column, value in filters.items():
            query = query.where(getattr(models.Stack, column) == value)
        after = None
        if marker is not None:
            after = session.get(models.Stack, marker)
            if after is None or project_id not in (None, after.project_id):
                raise exception.StackNotFound(stack=marker)
        query = db_utils.paginate_query(
            query,
            models.Stack,
            limit,
            [sort_key, "id"],
            marker=after,
            sort_dirs=[sort_dir, sort_dir],
        )
        return list(session.scalars(query).all())


@_retry
def update_stack(
    ctx: context.RequestContext,
    stack_id: str,
    *,
    values: Mapping[str, Any] | None = None,
    members: Mapping[str, Mapping[str, Any]] | None = None,
    generation: int | None = None,
    event: str = "stack.update",
) -> models.Stack:
    """Apply one change of a user: stack columns, members, or both; raises the generation.

    :param members: cloud id to columns; a cloud without a member gets one
    :param generation: apply only if the stack is still at this generation
    :raises ConcurrentUpdate: it is not
    :raises StackDeleting: the stack takes no changes any more
    """
    values = dict(values or {})
    with _clouds_stay(), _facade.writer.using(ctx) as session:
        # First of all: from here on until the end the row is ours, and all that is read is current.
        raised = session.execute(
            sa.update(models.Stack)
            .where(
                models.Stack.id == stack_id,
                models.Stack.deleting.is_(False),
                sa.true() if generation is None else models.Stack.generation == generation,
            )
            .values(generation=models.Stack.generation + 1)
            .execution_options(synchronize_session=False)
        )
        stack = _load_stack(session, stack_id)
        if raised.rowcount != 1:
            if stack.deleting:
                raise exception.StackDeleting(stack=stack.name)
            raise exception.ConcurrentUpdate(
                stack=stack.name, current=stack.generation, wanted=generation
            )
        wanted_before = _wanted(stack)
        moment = now(session)
        values |= {
            "updated_at": moment,
            "due_at": moment,
            "request_id": ctx.request_id,
            "status": "DELETING" if values.get("deleting") else "CONVERGING",
            "status_reason": "Waiting for an engine.",
        }
        for column, value in values.items():
            setattr(stack, column, value)
        existing = {member.cloud_id: member for member in stack.members}
        for cloud_id, columns in (members or {}).items():
            if cloud_id in existing:
                for column, value in columns.items():
                    setattr(existing[cloud_id], column, value)
            else:
                position = max((m.position for m in stack.members), default=-1) + 1
                stack.members.append(_member(stack, position, {**columns, "cloud_id": cloud_id}))
        for member in stack.members:
            # What failed before may go well now: try at once.
            member.failures, member.retry_at = 0, None
            if members or "failover_rule" in values or "min_clouds" in values:
                # What a user changed about the distribution ends the floors of a failover.
                member.floor = None
        session.flush()
        stack = _load_stack(session, stack_id)
        add_event(
            session,
            ctx,
            event,
            _difference(wanted_before, _wanted(stack)),
            stack=stack,
            before=wanted_before,
            after=_wanted(stack),
        )
        return stack


def _member(stack: models.Stack, position: int, columns: Mapping[str, Any]) -> models.Member:
    """A new member; with a template its Heat stack is ours, without one it is taken over."""
    return models.Member(
        id=uuidutils.generate_uuid(),
        position=position,
        owned=stack.template is not None,
        **columns,
    )


def _load_stack(session: orm.Session, stack_id: str) -> models.Stack:
    stack = session.scalars(
        sa.select(models.Stack)
        .options(_STACK_WITH_MEMBERS)
        .where(models.Stack.id == stack_id)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if stack is None:
        raise exception.StackNotFound(stack=stack_id)
    return stack


def _wanted(stack: models.Stack) -> dict[str, Any]:
    """The part of a stack that users argue about, small enough to keep with every event."""
    members: dict[str, Any] = {}
    for member in stack.members:
        # A project's own cloud and a shared one may have the same name.
        label = member.cloud_id if member.cloud.name in members else member.cloud.name
        members[label] = {
            "weight": member.weight,
            "minimum": member.minimum,
            "maximum": member.maximum,
            "leaving": member.leaving,
        }
    return {
        "count": stack.count,
        "count_parameter": stack.count_parameter,
        "failover": {"rule": stack.failover_rule, "toleration": stack.failover_toleration},
        "deleting": stack.deleting,
        "members": members,
    }


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What a user changed, in words: "Changed: count from 10 to 12; weight of east from 0.6 to 0.5"."""
    if after["deleting"] and not before["deleting"]:
        return "Deletion asked for."
    changes = [
        f"{key.replace('_', ' ')} from {before[key]} to {after[key]}"
        for key in ("count", "count_parameter")
        if before[key] != after[key]
    ]
    if before["failover"] != after["failover"]:
        changes.append("failover")
    for cloud, wanted in after["members"].items():
        was = before["members"].get(cloud)
        if was is None:
            changes.append(f"{cloud} joins with weight {wanted['weight']}")
        elif wanted["leaving"] and not was["leaving"]:
            changes.append(f"{cloud} is to leave")
        else:
            changes += [
                f"{key} of {cloud} from {was[key]} to {wanted[key]}"
                for key in ("weight", "minimum", "maximum")
                if was[key] != wanted[key]
            ]
    return f"Changed: {'; '.join(changes)[:2000]}." if changes else "Other settings changed."


# --- clouds ---------------------------------------------------------------------------------------


@_retry
def create_cloud(ctx: context.RequestContext, values: Mapping[str, Any]) -> models.Cloud:
    """:raises CloudExists: the project has a cloud of that name"""
    with (
        _duplicate(exception.CloudExists(name=values["name"])),
        _facade.writer.using(ctx) as session,
    ):
        moment = now(session)
        cloud = models.Cloud(
            id=uuidutils.generate_uuid(), created_at=moment, updated_at=moment, **values
        )
        session.add(cloud)
        session.flush()
        add_event(session, ctx, "cloud.create", f"Cloud '{cloud.name}' registered.", cloud=cloud)
        return cloud


def _visible(query: Any, project_id: str | None) -> Any:
    """A project sees its own clouds and the shared ones; None sees all."""
    if project_id is None:
        return query
    return query.where(
        sa.or_(models.Cloud.project_id == project_id, models.Cloud.shared.is_(True))
    )


@_retry
def get_cloud(ctx: context.RequestContext, cloud: str, project_id: str | None) -> models.Cloud:
    """One cloud by id or name; a project's own cloud hides a shared one of the same name.

    :raises CloudNotFound: nothing there that the project can see
    :raises AmbiguousName: several carry the name
    """
    with _facade.reader.using(ctx) as session:
        query = _visible(sa.select(models.Cloud), project_id)
        found = session.scalars(
            query.where(sa.or_(models.Cloud.id == cloud, models.Cloud.name == cloud))
        ).all()
        for preferred in (
            [row for row in found if row.id == cloud],
            [row for row in found if row.project_id == project_id],
            found,
        ):
            if len(preferred) > 1:
                raise exception.AmbiguousName(name=cloud)
            if preferred:
                return preferred[0]
        raise exception.CloudNotFound(cloud=cloud)


@_retry
def list_clouds(
    ctx: context.RequestContext,
    project_id: str | None,
    *,
    name: str | None = None,
    verdict: str | None = None,
    limit: int | None = None,
    marker: str | None = None,
) -> list[models.Cloud]:
    """Clouds by name. :raises CloudNotFound: the marker is no cloud that the project can see"""
    with _facade.reader.using(ctx) as session:
        query = _visible(sa.select(models.Cloud), project_id)
        if name is not None:
            query = query.where(models.Cloud.name == name)
        if verdict is not None:
            query = query.where(models.Cloud.verdict == verdict)
        after = None
        if marker is not None:
            after = session.scalars(
                _visible(sa.select(models.Cloud).where(models.Cloud.id == marker), project_id)
            ).one_or_none()
            if after is None:
                raise exception.CloudNotFound(cloud=marker)
        query = db_utils.paginate_query(query, models.Cloud, limit, ["name", "id"], marker=after)
        return list(session.scalars(query).all())


@_retry
def update_cloud(
    ctx: context.RequestContext, cloud_id: str, values: Mapping[str, Any]
) -> models.Cloud:
    """Change a cloud and wake the stacks in it.

    :raises CloudNotFound: it is gone
    :raises CloudExists: the new name is taken
    """
    with (
        _duplicate(exception.CloudExists(name=values.get("name", ""))),
        _facade.writer.using(ctx) as session,
    ):
        cloud = session.get(models.Cloud, cloud_id, with_for_update=True)
        if cloud is None:
            raise exception.CloudNotFound(cloud=cloud_id)
        before = {column: getattr(cloud, column) for column in values}
        for column, value in values.items():
            setattr(cloud, column, value)
        cloud.updated_at = now(session)
        session.flush()
        _nudge_cloud(session, cloud_id, cloud.updated_at)
        add_event(
            session,
            ctx,
            "cloud.update",
            f"Changed: {', '.join(sorted(values))}.",
            cloud=cloud,
            before=before,
            after=dict(values),
        )
        return cloud


@_retry
def delete_cloud(ctx: context.RequestContext, cloud_id: str) -> None:
    """:raises CloudInUse: members live in it; :raises CloudNotFound: it is gone"""
    with _facade.writer.using(ctx) as session:
        cloud = session.get(models.Cloud, cloud_id, with_for_update=True)
        if cloud is None:
            raise exception.CloudNotFound(cloud=cloud_id)
        used = session.scalar(
            sa.select(sa.func.count(models.Member.id)).where(models.Member.cloud_id == cloud_id)
        )
        if used:
            raise exception.CloudInUse(cloud=cloud.name, stacks=used)
        add_event(session, ctx, "cloud.delete", f"Cloud '{cloud.name}' removed.", cloud=cloud)
        try:
            session.execute(sa.delete(models.Cloud).where(models.Cloud.id == cloud_id))
        except db_exc.DBReferenceError:
            # A member came in between the count and the delete; the foreign key settles the race.
            raise exception.CloudInUse(cloud=cloud.name, stacks=1) from None


@_retry
def count_members(ctx: context.RequestContext, cloud_ids: Iterable[str]) -> dict[str, int]:
    """How many members live in each of these clouds."""
    with _facade.reader.using(ctx) as session:
        rows = session.execute(
            sa.select(models.Member.cloud_id, sa.func.count(models.Member.id))
            .where(models.Member.cloud_id.in_(list(cloud_ids)))
            .group_by(models.Member.cloud_id)
        )
        return {cloud_id: count for cloud_id, count in rows}


# --- observations and verdicts --------------------------------------------------------------------


@_retry
def record_observation(
    ctx: context.RequestContext,
    cloud_id: str,
    observer: str,
    *,
    outcome: str,
    detail: str,
    latency_ms: int | None,
    miss: bool,
    good: bool,
    fresh_for: float,
) -> datetime.datetime | None:
    """Store what one observer saw just now; runs of misses and goods go on counting.

    A run that was interrupted for longer than ``fresh_for`` seconds starts anew: an engine that was
    away must not add a miss to those of yesterday.

    :returns: the database's time; None when the cloud is no longer registered
    """
    with _facade.writer.using(ctx) as session:
        # The cloud's row is the lock: a cloud that is locked does not go, and of several processes
        # that observe under one name none loses the count of another.
        if session.get(models.Cloud, cloud_id, with_for_update=True) is None:
            return None
        moment = now(session)
        row = session.get(models.Observation, (cloud_id, observer))
        if row is None:
            row = models.Observation(
                cloud_id=cloud_id, observer=observer, misses=0, goods=0, since=moment, outcome=""
            )
            session.add(row)
        elif row.observed_at < moment - datetime.timedelta(seconds=fresh_for):
            row.misses = row.goods = 0
        if row.outcome != outcome:
            row.since = moment
        row.outcome, row.detail, row.latency_ms = outcome, detail, latency_ms
        row.misses = row.misses + 1 if miss else 0
        row.goods = row.goods + 1 if good else 0
        row.observed_at = moment
        return moment


@_retry
def list_observations(
    ctx: context.RequestContext, cloud_ids: Iterable[str]
) -> tuple[datetime.datetime, dict[str, list[models.Observation]]]:
    """The present time and all observations of these clouds, by cloud id."""
    with _facade.reader.using(ctx) as session:
        found: dict[str, list[models.Observation]] = {cloud_id: [] for cloud_id in cloud_ids}
        for row in session.scalars(
            sa.select(models.Observation).where(models.Observation.cloud_id.in_(list(found)))
        ):
            found[row.cloud_id].append(row)
        return now(session), found


@_retry
def set_verdict(
    ctx: context.RequestContext,
    cloud: models.Cloud,
    verdict: str,
    reason: str,
    evidence: Any,
) -> bool:
    """Replace the verdict that ``cloud`` carried; False when another engine did so first.

    A new verdict starts a new ``verdict_since``, is an event, and wakes every stack in the cloud. The
    same verdict with another reason only stores the reason.
    """
    with _facade.writer.using(ctx) as session:
        moment = now(session)
        values: dict[str, Any] = {"verdict_reason": reason}
        if verdict != cloud.verdict:
            values |= {"verdict": verdict, "verdict_since": moment}
        changed = session.execute(
            sa.update(models.Cloud)
            .where(models.Cloud.id == cloud.id, models.Cloud.verdict == cloud.verdict)
            .values(**values)
            .execution_options(synchronize_session=False)
        )
        if changed.rowcount != 1:
            return False
        if verdict != cloud.verdict:
            _nudge_cloud(session, cloud.id, moment)
            add_event(
                session,
                ctx,
                "cloud.verdict",
                f"Cloud '{cloud.name}' is {verdict} (was {cloud.verdict}): {reason}",
                cloud=cloud,
                before=cloud.verdict,
                after=verdict,
                evidence=evidence,
            )
        return True


# --- the engine's side of stacks ------------------------------------------------------------------


@_retry
def due_stacks(ctx: context.RequestContext, limit: int) -> list[str]:
    """Ids of stacks whose time has come and that no engine holds, the longest waiting first."""
    with _facade.reader.using(ctx) as session:
        moment = now(session)
        return list(
            session.scalars(
                sa.select(models.Stack.id)
                .where(
                    models.Stack.due_at <= moment,
                    sa.or_(
                        models.Stack.claimed_until.is_(None), models.Stack.claimed_until < moment
                    ),
                )
                .order_by(models.Stack.due_at)
                .limit(limit)
            )
        )


@dataclasses.dataclass(frozen=True)
class Claim:
    """The right to run rounds of one stack.

    :ivar stack: the stack as claimed, with its new ``claim_epoch``
    :ivar moment: the database's time of the claim
    :ivar interrupted: the last holder never gave its claim back, so it may have died in mid-write
    """

    stack: models.Stack
    moment: datetime.datetime
    interrupted: bool


@_retry
def claim_stack(
    ctx: context.RequestContext, stack_id: str, owner: str, lease: float
) -> Claim | None:
    """Take the right to run rounds of this stack for ``lease`` seconds; None if another holds it."""
    with _facade.writer.using(ctx) as session:
        # Locked before anything is read: otherwise MariaDB would show the members as they were before
        # the round that just gave its claim back.
        expired = session.scalar(
            sa.select(models.Stack.claimed_until)
            .where(models.Stack.id == stack_id)
            .with_for_update()
        )
        moment = now(session)
        claimed = session.execute(
            sa.update(models.Stack)
            .where(
                models.Stack.id == stack_id,
                sa.or_(models.Stack.claimed_until.is_(None), models.Stack.claimed_until < moment),
            )
            .values(
                claimed_by=owner,
                claimed_until=moment + datetime.timedelta(seconds=lease),
                claim_epoch=models.Stack.claim_epoch + 1,
            )
            .execution_options(synchronize_session=False)
        )
        if claimed.rowcount != 1:
            return None
        return Claim(_load_stack(session, stack_id), moment, interrupted=expired is not None)


@_retry
def renew_claim(ctx: context.RequestContext, stack: models.Stack, lease: float) -> bool:
    """Hold the claim for another ``lease`` seconds; False when it is lost."""
    with _facade.writer.using(ctx) as session:
        moment = now(session)
        renewed = session.execute(
            sa.update(models.Stack)
            .where(
                models.Stack.id == stack.id,
                models.Stack.claim_epoch == stack.claim_epoch,
                models.Stack.claimed_until >= moment,
            )
            .values(claimed_until=moment + datetime.timedelta(seconds=lease))
            .execution_options(synchronize_session=False)
        )
        return renewed.rowcount == 1


@_retry
def save_members(
    ctx: context.RequestContext,
    stack: models.Stack,
    members: Mapping[str, Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]] = (),
) -> bool:
    """Store what was seen of or done to members in mid-round; False when the claim is lost."""
    with _facade.writer.using(ctx) as session:
        if not _holds_claim(session, stack):
            return False
        _write_members(session, members)
        for event in events:
            add_event(session, ctx, stack=stack, **event)
        return True


@_retry
def save_round(
    ctx: context.RequestContext,
    stack: models.Stack,
    *,
    values: Mapping[str, Any],
    members: Mapping[str, Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    due_in: float | None,
) -> bool:
    """Store a round and give the claim back, in one transaction; False when the claim is lost.

    A change that a user made during the round keeps its status and makes the stack due at once.

    :param stack: the stack as claimed: its epoch and generation are checked
    :param members: member id to columns
    :param due_in: seconds until the next round
    """
    with _facade.writer.using(ctx) as session:
        if not _holds_claim(session, stack):
            return False
        moment = now(session)
        current = session.execute(
            sa.select(models.Stack.generation, models.Stack.due_at).where(
                models.Stack.id == stack.id
            )
        ).one()
        values = dict(values)
        if current.generation != stack.generation:
            values["due_at"] = moment
            values.pop("status", None)
            values.pop("status_reason", None)
            # The change has also ended all waiting after what failed before it.
            members = {
                member_id: {
                    column: value
                    for column, value in columns.items()
                    if column not in ("failures", "retry_at")
                }
                for member_id, columns in members.items()
            }
        elif current.due_at == stack.due_at:
            values["due_at"] = (
                None if due_in is None else moment + datetime.timedelta(seconds=due_in)
            )
        # Otherwise a nudge came during the round: the stack stays due.
        session.execute(
            sa.update(models.Stack)
            .where(models.Stack.id == stack.id)
            .values(claimed_by=None, claimed_until=None, **values)
            .execution_options(synchronize_session=False)
        )
        _write_members(session, members)
        for event in events:
            add_event(session, ctx, stack=stack, **event)
        return True


@_retry
def finish_delete(ctx: context.RequestContext, stack: models.Stack, message: str) -> bool:
    """Forget a stack of which nothing is left in any cloud; False when the claim is lost."""
    with _facade.writer.using(ctx) as session:
        if not _holds_claim(session, stack):
            return False
        add_event(session, ctx, "stack.delete.end", message, stack=stack)
        session.execute(sa.delete(models.Member).where(models.Member.stack_id == stack.id))
        session.execute(sa.delete(models.Stack).where(models.Stack.id == stack.id))
        return True


@_retry
def forget_member(ctx: context.RequestContext, stack: models.Stack, member_id: str) -> bool:
    """Remove a member that has left; False when the claim is lost.

    :raises ConcurrentUpdate: a user has changed the stack since it was claimed, perhaps to make the
        member stay; the next round decides
    """
    with _facade.writer.using(ctx) as session:
        if not _holds_claim(session, stack):
            return False
        current = session.scalar(
            sa.select(models.Stack.generation).where(models.Stack.id == stack.id)
        )
        if current != stack.generation:
            raise exception.ConcurrentUpdate(
                stack=stack.name, current=current, wanted=stack.generation
            )
        session.execute(sa.delete(models.Member).where(models.Member.id == member_id))
        return True


def _holds_claim(session: orm.Session, stack: models.Stack) -> bool:
    """Whether the claim still stands; locks the row, so it stands until the transaction ends."""
    held = session.scalar(
        sa.select(models.Stack.claim_epoch)
        .where(models.Stack.id == stack.id, models.Stack.claim_epoch == stack.claim_epoch)
        .with_for_update()
    )
    return held is not None


def _write_members(session: orm.Session, members: Mapping[str, Mapping[str, Any]]) -> None:
    for member_id, columns in members.items():
        if columns:
            session.execute(
                sa.update(models.Member)
                .where(models.Member.id == member_id)
                .values(**columns)
                .execution_options(synchronize_session=False)
            )


@_retry
def nudge_stacks(ctx: context.RequestContext, stack_ids: Iterable[str]) -> None:
    """Make these stacks due now."""
    with _facade.writer.using(ctx) as session:
        session.execute(
            sa.update(models.Stack)
            .where(models.Stack.id.in_(list(stack_ids)))
            .values(due_at=now(session))
            .execution_options(synchronize_session=False)
        )


def _nudge_cloud(session: orm.Session, cloud_id: str, moment: datetime.datetime) -> None:
    session.execute(
        sa.update(models.Stack)
        .where(
            models.Stack.id.in_(
                sa.select(models.Member.stack_id).where(models.Member.cloud_id == cloud_id)
            )
        )
        .values(due_at=moment)
        .execution_options(synchronize_session=False)
    )


@_retry
def members_of_heat_stacks(
    ctx: context.RequestContext, cloud_id: str, heat_stack_ids: Sequence[str]
) -> list[models.Member]:
    """The members that own these Heat stacks of one cloud."""
    with _facade.reader.using(ctx) as session:
        found: list[models.Member] = []
        for start in range(0, len(heat_stack_ids), 500):  # keep the IN list within every backend
            found += session.scalars(
                sa.select(models.Member).where(
                    models.Member.cloud_id == cloud_id,
                    models.Member.heat_stack_id.in_(heat_stack_ids[start : start + 500]),
                )
            )
        return found


@_retry
def has_adopted_members(ctx: context.RequestContext, cloud_id: str) -> bool:
    """Whether the cloud carries Heat stacks that we took over, which bear no tag of ours."""
    with _facade.reader.using(ctx) as session:
        return (
            session.scalars(
                sa.select(models.Member.id)
                .where(models.Member.cloud_id == cloud_id, models.Member.owned.is_(False))
                .limit(1)
            ).first()
            is not None
        )


# --- events ---------------------------------------------------------------------------------------


def add_event(
    session: orm.Session,
    ctx: context.RequestContext,
    type: str,
    message: str,
    *,
    stack: models.Stack | None = None,
    cloud: models.Cloud | None = None,
    before: Any = None,
    after: Any = None,
    evidence: Any = None,
) -> None:
    """Append an event within the transaction that it records."""
    project_id = stack.project_id if stack is not None else None
    if stack is None and cloud is not None and not cloud.shared:
        project_id = cloud.project_id
    session.add(
        models.Event(
            project_id=project_id,
            stack_id=stack.id if stack is not None else None,
            stack_name=stack.name if stack is not None else None,
            cloud_id=cloud.id if cloud is not None else None,
            cloud_name=cloud.name if cloud is not None else None,
            type=type,
            message=message,
            before=before,
            after=after,
            evidence=evidence,
            actor=ctx.user_id or "engine",
            request_id=ctx.request_id,
            created_at=now(session),
        )
    )


@_retry
def list_events(
    ctx: context.RequestContext,
    project_id: str | None,
    *,
    stack_id: str | None = None,
    cloud_id: str | None = None,
    type: str | None = None,
    since: datetime.datetime | None = None,
    limit: int,
    marker: int | None = None,
) -> list[models.Event]:
    """Events, newest first; a project sees its own and those of shared clouds."""
    with _facade.reader.using(ctx) as session:
        query = sa.select(models.Event).order_by(models.Event.id.desc()).limit(limit)
        for column, value in (("stack_id", stack_id), ("cloud_id", cloud_id), ("type", type)):
            if value is not None:
                query = query.where(getattr(models.Event, column) == value)
        if since is not None:
            query = query.where(models.Event.created_at >= since)
        if marker is not None:
            query = query.where(models.Event.id < marker)
        if project_id is None:
            return list(session.scalars(query))
        if stack_id is not None:
            # All events of a stack are of one project. To ask for both would lead MariaDB to read
            # all of the project's, to intersect them.
            return [event for event in session.scalars(query) if event.project_id == project_id]
        # Not one question with "or": each of these is answered from the end of an index, however
        # many events there are.
        found = [
            *session.scalars(query.where(models.Event.project_id == project_id)),
            *session.scalars(query.where(models.Event.project_id.is_(None))),
        ]
        return sorted(found, key=lambda event: event.id, reverse=True)[:limit]


# --- engines --------------------------------------------------------------------------------------


@_retry
def heartbeat(
    ctx: context.RequestContext, engine_id: str, *, host: str, zone: str | None, version: str
) -> None:
    """Say that this engine is alive."""
    with _facade.writer.using(ctx) as session:
        moment = now(session)
        row = session.get(models.Engine, engine_id)
        if row is None:
            row = models.Engine(id=engine_id, host=host, started_at=moment)
            session.add(row)
        row.zone, row.version, row.last_seen_at = zone, version, moment


@_retry
def forget_engines(ctx: context.RequestContext, unseen_for: float) -> None:
    """Drop engines that have not been seen for this many seconds."""
    with _facade.writer.using(ctx) as session:
        session.execute(
            sa.delete(models.Engine).where(
                models.Engine.last_seen_at < now(session) - datetime.timedelta(seconds=unseen_for)
            )
        )


@_retry
def ping(ctx: context.RequestContext) -> None:
    """:raises DBError: the database does not answer"""
    with _facade.reader.using(ctx) as session:
        session.execute(sa.select(1))
