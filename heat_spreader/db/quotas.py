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

"""Quotas: how much a project may have, and how much it has.

Nothing is counted along: what there is is counted when more is asked for, by one transaction of the
project after the other. So no count can go wrong, and two at once cannot both have the last one.
"""

from collections.abc import Mapping
from typing import Any

from oslo_db import exception as db_exc
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import events as db_events
from heat_spreader.db import models

RESOURCES = ("stacks", "members", "units", "clouds")
UNLIMITED = -1

_QUOTAS: Any = models.Quota.__table__
_STACKS: Any = models.Stack.__table__
_MEMBERS: Any = models.Member.__table__
_CLOUDS: Any = models.Cloud.__table__
_OF_PROJECT = sa.select(_QUOTAS).where(_QUOTAS.c.project_id == sa.bindparam("project"))
_USED = sa.select(
    sa.select(sa.func.count())
    .select_from(_STACKS)
    .where(_STACKS.c.project_id == sa.bindparam("project"))
    .scalar_subquery()
    .label("stacks"),
    sa.select(sa.func.coalesce(sa.func.sum(_STACKS.c.count), 0))
    .where(_STACKS.c.project_id == sa.bindparam("project"))
    .scalar_subquery()
    .label("units"),
    sa.select(sa.func.count())
    .select_from(_MEMBERS.join(_STACKS))
    .where(_STACKS.c.project_id == sa.bindparam("project"))
    .scalar_subquery()
    .label("members"),
    sa.select(sa.func.count())
    .select_from(_CLOUDS)
    .where(_CLOUDS.c.project_id == sa.bindparam("project"))
    .scalar_subquery()
    .label("clouds"),
)


def lock(session: orm.Session, project_id: str) -> None:
    """From here until the end of the transaction nobody else asks for more in this project.

    To be called before anything is read: MariaDB reads what there was at a transaction's first read.
    """
    asked = {"project": project_id}
    if session.execute(_OF_PROJECT.with_for_update(), asked).one_or_none() is not None:
        return
    try:
        session.execute(sa.insert(_QUOTAS), {"project_id": project_id})
    except db_exc.DBDuplicateEntry as error:
        # Somebody else was first: begin again.
        raise db_exc.DBDeadlock(error) from None


def check(
    session: orm.Session, project_id: str, defaults: Mapping[str, int], *resources: str
) -> None:
    """Count what there is within the transaction that asked for more of these, under the lock.

    :param defaults: the limit of each resource for projects that have none of their own
    :raises QuotaExceeded: that is more than the project may have
    """
    limits = _limits(session, project_id, defaults)
    used = session.execute(_USED, {"project": project_id}).one()
    for resource in resources:
        limit, has = limits[resource], int(getattr(used, resource))
        if limit != UNLIMITED and has > limit:
            raise exception.QuotaExceeded(resource=resource, limit=limit, wanted=has)


def _limits(session: orm.Session, project_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    own = session.execute(_OF_PROJECT, {"project": project_id}).one_or_none()
    limits = {}
    for resource in RESOURCES:
        limit = getattr(own, resource) if own is not None else None
        limits[resource] = defaults[resource] if limit is None else limit
    return limits


@db_api.retry
def show(
    ctx: context.RequestContext, project_id: str, defaults: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Limit and use of each resource; the limit is -1 where there is none."""
    with db_api.reader(ctx) as session:
        limits = _limits(session, project_id, defaults)
        used = session.execute(_USED, {"project": project_id}).one()
        return {
            resource: {"limit": limits[resource], "used": int(getattr(used, resource))}
            for resource in RESOURCES
        }


@db_api.retry
def change(ctx: context.RequestContext, project_id: str, limits: Mapping[str, int | None]) -> None:
    """Set limits of a project; None: the default again. What it has already, it keeps."""
    with db_api.writer(ctx) as session:
        lock(session, project_id)
        own = session.execute(_OF_PROJECT, {"project": project_id}).one()
        session.execute(
            sa.update(_QUOTAS)
            .where(_QUOTAS.c.project_id == sa.bindparam("project"))
            .values(dict(limits)),
            {"project": project_id},
        )
        db_events.add_event(
            session,
            ctx,
            "quota.update",
            f"Quota of project {project_id} changed: {', '.join(sorted(limits))}.",
            project_id=project_id,
            before={resource: getattr(own, resource) for resource in limits},
            after=dict(limits),
        )
