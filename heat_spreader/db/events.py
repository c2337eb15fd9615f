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

"""The record of what was asked, decided and done: append and read, nothing else."""

from collections.abc import Mapping
from collections.abc import Sequence
import datetime
from typing import Any

from oslo_db import exception as db_exc
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import models


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
    project_id: str | None = None,
) -> None:
    """Append an event within the transaction that it records.

    :param project_id: of an event that is about neither a stack nor a cloud
    """
    event = {"before": before, "after": after, "evidence": evidence, "project_id": project_id}
    add_events(session, ctx, stack, [{"type": type, "message": message, "cloud": cloud, **event}])


def add_events(
    session: orm.Session,
    ctx: context.RequestContext,
    stack: models.Stack | None,
    events: Sequence[Mapping[str, Any]],
    moment: datetime.datetime | None = None,
) -> None:
    """Append events within the transaction that they record.

    :param events: type and message of each; cloud, before, after and evidence where it has them
    :param moment: the database's time, where it has just been asked for
    """
    if not events:
        return
    moment = moment or db_api.now(session)
    rows = []
    for event in events:
        cloud = event.get("cloud")
        project_id = stack.project_id if stack is not None else event.get("project_id")
        if stack is None and cloud is not None and not cloud.shared:
            project_id = cloud.project_id
        rows.append(
            {
                "project_id": project_id,
                "stack_id": stack.id if stack is not None else None,
                "stack_name": stack.name if stack is not None else None,
                "cloud_id": cloud.id if cloud is not None else None,
                "cloud_name": cloud.name if cloud is not None else None,
                "type": event["type"],
                "message": event["message"],
                "before": event.get("before"),
                "after": event.get("after"),
                "evidence": event.get("evidence"),
                "actor": ctx.user_id or "engine",
                # The engine's own doings have no roles.
                "roles": list(ctx.roles) if ctx.roles else None,
                "request_id": ctx.request_id,
                "global_request_id": ctx.global_request_id,
                "created_at": moment,
            }
        )
    session.connection().execute(_INSERT, rows)


_EVENTS: Any = models.Event.__table__
_INSERT = sa.insert(_EVENTS)


@db_api.retry
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
    with db_api.reader(ctx) as session:
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


# Seconds that an event rests before it is told: numbers are given out before they are committed.
SETTLED = 2


@db_api.retry
def take_untold(ctx: context.RequestContext, limit: int) -> list[models.Event]:
    """Events that nobody has told yet, in their order; they count as told from now on.

    The first time it is asked, all that there is counts as told.
    """
    with db_api.writer(ctx) as session:
        cursor = session.get(models.Cursor, "notifications", with_for_update=True)
        if cursor is None:
            last = session.scalar(sa.select(sa.func.max(models.Event.id))) or 0
            session.add(models.Cursor(name="notifications", event_id=last))
            try:
                session.flush()
            except db_exc.DBDuplicateEntry as error:
                # Another engine was first: begin again.
                raise db_exc.DBDeadlock(error) from None
            return []
        settled = db_api.now(session) - datetime.timedelta(seconds=SETTLED)
        events = list(
            session.scalars(
                sa.select(models.Event)
                .where(models.Event.id > cursor.event_id, models.Event.created_at <= settled)
                .order_by(models.Event.id)
                .limit(limit)
            )
        )
        if events:
            cursor.event_id = events[-1].id
        return events


@db_api.retry
def purge_events(ctx: context.RequestContext, days: int, batch: int) -> int:
    """Delete up to ``batch`` of the oldest events, as far as they are older than so many days.

    In the order of their ids, which is that of their times but for a moment: there is an index on it.

    :returns: how many; fewer than ``batch`` when no more are as old
    """
    with db_api.writer(ctx) as session:
        before = db_api.now(session) - datetime.timedelta(days=days)
        oldest = session.execute(
            sa.select(models.Event.id, models.Event.created_at)
            .order_by(models.Event.id)
            .limit(batch)
        ).all()
        old = [event_id for event_id, created_at in oldest if created_at < before]
        if old:
            session.execute(
                sa.delete(models.Event).where(
                    models.Event.id <= old[-1], models.Event.created_at < before
                )
            )
        return len(old)
