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

"""Engine processes, known by their heartbeats."""

import datetime

import sqlalchemy as sa

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import models


@db_api.retry
def heartbeat(
    ctx: context.RequestContext, engine_id: str, *, host: str, zone: str | None, version: str
) -> None:
    """Say that this engine is alive."""
    with db_api.writer(ctx) as session:
        moment = db_api.now(session)
        row = session.get(models.Engine, engine_id)
        if row is None:
            row = models.Engine(id=engine_id, host=host, started_at=moment)
            session.add(row)
        row.zone, row.version, row.last_seen_at = zone, version, moment


@db_api.retry
def forget_engines(ctx: context.RequestContext, unseen_for: float) -> None:
    """Drop engines that have not been seen for this many seconds."""
    with db_api.writer(ctx) as session:
        session.execute(
            sa.delete(models.Engine).where(
                models.Engine.last_seen_at
                < db_api.now(session) - datetime.timedelta(seconds=unseen_for)
            )
        )


@db_api.retry
def list_engines(ctx: context.RequestContext, seen_within: float) -> list[models.Engine]:
    """Engines that were seen within so many seconds, by host."""
    with db_api.reader(ctx) as session:
        since = db_api.now(session) - datetime.timedelta(seconds=seen_within)
        return list(
            session.scalars(
                sa.select(models.Engine)
                .where(models.Engine.last_seen_at >= since)
                .order_by(models.Engine.host, models.Engine.id)
            )
        )
