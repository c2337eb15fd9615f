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

"""Clouds: where stacks can be. Credentials are never in them, only the name of the operator's entry."""

from collections.abc import Iterable
from collections.abc import Mapping
import datetime
from typing import Any

from oslo_config import cfg
import pecan

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import policies
from heat_spreader.api import expose
from heat_spreader.api import lookup
from heat_spreader.api import paging
from heat_spreader.api import schemas
from heat_spreader.api import watchdogs
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models
from heat_spreader.engine.core import health
from heat_spreader.engine.core import values


def _fresh_for(conf: cfg.ConfigOpts) -> float:
    """As the engines have it, whose configuration has to be the same."""
    return 3 * (conf.health.probe_interval + conf.health.probe_timeout)


def _observations(
    conf: cfg.ConfigOpts, moment: datetime.datetime, rows: Iterable[Any]
) -> list[dict[str, Any]]:
    """Who saw what, and whether it counts now; the latest first."""
    rows = sorted(rows, key=lambda row: row.observed_at, reverse=True)
    counts = health.votes([health.reading(row) for row in rows], moment, _fresh_for(conf))
    return [
        {
            "observer": row.observer,
            "zone": row.zone,
            "outcome": row.outcome,
            "detail": row.detail,
            "latency_ms": row.latency_ms,
            "misses": row.misses,
            "goods": row.goods,
            "since": row.since,
            "observed_at": row.observed_at,
            "seen_at": row.seen_at,
            "expires_at": row.expires_at,
            "abstains": row.abstains,
            "counts": counts[row.observer],
        }
        for row in rows
    ]


def _views(
    conf: cfg.ConfigOpts, ctx: context.RequestContext, clouds: Iterable[models.Cloud]
) -> dict[str, dict[str, Any]]:
    """Clouds as the API shows them, by id, with their latest probe and how many stacks are there."""
    rows = {cloud.id: cloud for cloud in clouds}
    # How busy a shared cloud is with the stacks of others is no business of a project's.
    whose = None if policies.sees_all_projects(ctx) else ctx.project_id
    used = db_clouds.count_members(ctx, rows, whose)
    units = db_clouds.count_units(ctx, rows, whose)
    moment, observations = db_clouds.list_observations(ctx, rows)
    views = {}
    for cloud in rows.values():
        readings = [health.reading(seen) for seen in observations[cloud.id]]
        latest = max(observations[cloud.id], key=lambda seen: seen.observed_at, default=None)
        views[cloud.id] = {
            "id": cloud.id,
            "name": cloud.name,
            "description": cloud.description,
            "kind": cloud.kind,
            "config_cloud": cloud.config_cloud,
            "region": cloud.region,
            "shared": cloud.shared,
            "project_id": cloud.project_id,
            "cordoned": cloud.cordoned,
            "cordoned_until": cloud.cordoned_until,
            "draining": cloud.draining,
            "draining_until": cloud.draining_until,
            "lost": cloud.lost,
            "verdict": cloud.verdict,
            "verdict_since": cloud.verdict_since,
            "verdict_reason": cloud.verdict_reason,
            "verdict_rule": cloud.verdict_rule,
            "next_change": health.next_change(
                values.Verdict(cloud.verdict),
                readings,
                moment,
                misses=conf.health.misses,
                goods=conf.health.goods,
                fresh_for=_fresh_for(conf),
            ),
            "relapses": cloud.relapses,
            "last_probe_at": latest.observed_at if latest else None,
            "latency_ms": latest.latency_ms if latest else None,
            "stacks": used.get(cloud.id, 0),
            "units": units.get(cloud.id, 0),
            "created_at": cloud.created_at,
            "updated_at": cloud.updated_at,
        }
    return views


def _view(
    conf: cfg.ConfigOpts, ctx: context.RequestContext, cloud: models.Cloud
) -> dict[str, Any]:
    return _views(conf, ctx, [cloud])[cloud.id]


def _columns(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a user wants of a cloud, with the ends of what is planned as times.

    :raises Invalid: an end without that which ends
    """
    columns = dict(body)
    for flag in ("cordoned", "draining"):
        until = f"{flag}_until"
        if body.get(until) is not None:
            if not body.get(flag):
                raise exception.Invalid(reason=f"{until}: give it together with {flag}: true")
            columns[until] = expose.moment(body[until], until)
        elif flag in body:
            columns[until] = None
    return columns


def _target(cloud: models.Cloud) -> Mapping[str, Any]:
    """A shared cloud is seen by projects that do not own it, so its own project is asked for."""
    return {"project_id": cloud.project_id}


class Clouds(expose.Controller):
    """/v1/clouds"""

    def __init__(self, conf: cfg.ConfigOpts, nested: Mapping[str, expose.Controller]) -> None:
        super().__init__(nested=nested)
        self.conf = conf

    @expose.expose("spreader:cloud:list", query=schemas.CLOUD_LIST)
    def get_all(self, ctx: context.RequestContext, query: dict[str, str]) -> dict[str, Any]:
        limit = paging.limit(query, self.conf.api.max_limit)
        rows = db_clouds.list_clouds(
            ctx,
            lookup.project(ctx, query),
            name=query.get("name"),
            verdict=query.get("verdict"),
            limit=limit + 1,
            marker=query.get("marker"),
        )
        views = _views(self.conf, ctx, rows[:limit])
        return paging.page("clouds", rows, query, limit, lambda cloud: views[cloud.id])

    @expose.expose("spreader:cloud:create", body=schemas.CLOUD_CREATE, status=201)
    def post(self, ctx: context.RequestContext, body: dict[str, Any]) -> dict[str, Any]:
        wanted = {"kind": "config", "config_cloud": body["name"], **body}
        cloud = db_clouds.create_cloud(ctx, {**wanted, "project_id": ctx.project_id})
        pecan.response.location = f"{pecan.request.application_url}/v1/clouds/{cloud.id}"
        return _view(self.conf, ctx, cloud)

    @expose.expose("spreader:cloud:show")
    def get_one(self, ctx: context.RequestContext, cloud: str) -> dict[str, Any]:
        return _view(self.conf, ctx, lookup.cloud(ctx, cloud))

    @expose.expose("spreader:cloud:update", body=schemas.CLOUD_UPDATE)
    def patch(
        self, ctx: context.RequestContext, cloud: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        row = lookup.cloud(ctx, cloud)
        policies.authorize(ctx, "spreader:cloud:update", _target(row))
        return _view(self.conf, ctx, db_clouds.update_cloud(ctx, row.id, _columns(body)))

    @expose.expose("spreader:cloud:delete", status=204)
    def delete(self, ctx: context.RequestContext, cloud: str) -> None:
        row = lookup.cloud(ctx, cloud)
        policies.authorize(ctx, "spreader:cloud:delete", _target(row))
        db_clouds.delete_cloud(ctx, row.id)


class Observations(expose.Controller):
    """/v1/clouds/{cloud}/observations"""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self.conf = conf

    @expose.expose("spreader:cloud:observation:list")
    def get_all(self, ctx: context.RequestContext, cloud: str) -> dict[str, Any]:
        """Who saw what of the cloud, and whether it counts now; what its verdict is made of."""
        row = lookup.cloud(ctx, cloud)
        moment, found = db_clouds.list_observations(ctx, [row.id])
        return {"observations": _observations(self.conf, moment, found[row.id])}

    @expose.expose("spreader:cloud:observation:create", body=schemas.OBSERVATION)
    def post(
        self, ctx: context.RequestContext, cloud: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """What a watchdog sees; it is judged when an engine next looks at the cloud."""
        row = watchdogs.report(self.conf, ctx, cloud, body)
        moment, found = db_clouds.list_observations(ctx, [row.id])
        return {"observations": _observations(self.conf, moment, found[row.id])}
