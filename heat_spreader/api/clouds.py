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

"""Clouds: where stacks can be. Credentials go in here and never come out."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import datetime
from typing import Any

from oslo_config import cfg
from oslo_utils import timeutils
import pecan

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import policies
from heat_spreader.api import credentials
from heat_spreader.api import expose
from heat_spreader.api import lookup
from heat_spreader.api import paging
from heat_spreader.api import quotas
from heat_spreader.api import schemas
from heat_spreader.api import watchdogs
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import credentials as db_credentials
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
    everywhere = policies.sees_all_projects(ctx)
    # How busy a shared cloud is with the stacks of others is no business of a project's.
    whose = None if everywhere else ctx.project_id
    used = db_clouds.count_use(ctx, rows, whose)
    moment, observations = db_clouds.list_observations(ctx, rows)
    settings = db_credentials.list_settings(ctx, (cloud.credential_id for cloud in rows.values()))
    trials = db_credentials.list_trials(ctx, rows)
    given = db_clouds.list_cloud_projects(ctx, rows)
    views = {}
    for cloud in rows.values():
        readings = [health.reading(seen) for seen in observations[cloud.id]]
        latest = max(observations[cloud.id], key=lambda seen: seen.observed_at, default=None)
        reach = settings.get(cloud.credential_id or "", {})
        trial = trials.get(cloud.id)
        own = everywhere or cloud.project_id == ctx.project_id
        shown = {name: value for name, value in reach.items() if name != "trust_id"}
        insecure = bool(reach.get("insecure"))
        use = used.get(cloud.id, db_clouds.Use())
        views[cloud.id] = {
            "id": cloud.id,
            "name": cloud.name,
            "description": cloud.description,
            "kind": cloud.kind,
            "config_cloud": cloud.config_cloud,
            "region": cloud.region,
            "shared": cloud.shared,
            "project_id": cloud.project_id,
            # Who else uses it, and how it is reached, is for those who own it.
            "projects": given[cloud.id] if own else [],
            "credentials": shown if own and cloud.kind in credentials.KINDS else None,
            "insecure": insecure,
            "access": (trial.answers if trial and trial.tried_at and own else None) or None,
            "access_checked_at": trial.tried_at if trial and own else None,
            "expires_at": trial.expires_at if trial and own else None,
            "warnings": list(_warnings(conf, insecure, trial if own else None)),
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
            "stacks": use.members,
            "units": use.units,
            "created_at": cloud.created_at,
            "updated_at": cloud.updated_at,
        }
    return views


def _view(
    conf: cfg.ConfigOpts, ctx: context.RequestContext, cloud: models.Cloud
) -> dict[str, Any]:
    return _views(conf, ctx, [cloud])[cloud.id]


def _warnings(conf: cfg.ConfigOpts, insecure: bool, trial: models.Trial | None) -> Iterator[str]:
    """What somebody should do something about before it is too late."""
    if insecure:
        yield "The TLS certificates of this cloud are not checked."
    if trial is None:
        return
    if trial.expires_at is not None:
        left = trial.expires_at - timeutils.utcnow()
        if left.total_seconds() <= 0:
            yield "The application credential has expired; hand over another one."
        elif left.days < conf.tenants.expiry_warning:
            yield (
                f"The application credential expires in {left.days} day(s), at "
                f"{trial.expires_at:%Y-%m-%d %H:%M} UTC; hand over another one before."
            )
    for step, answer in trial.answers.items():
        if answer["ok"] is False:
            yield f"{step}: {answer['detail']}"


def _columns(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a user wants of a cloud, with the ends of what is planned as times.

    :raises Invalid: an end without that which ends
    """
    columns = {
        name: value
        for name, value in body.items()
        if name not in ("kind", "credentials", "projects")
    }
    for flag in ("cordoned", "draining"):
        until = f"{flag}_until"
        if body.get(until) is not None:
            if not body.get(flag):
                raise exception.Invalid(reason=f"{until}: give it together with {flag}: true")
            columns[until] = expose.moment(body[until], until)
        elif flag in body:
            columns[until] = None
    return columns


def _authorize(ctx: context.RequestContext, rule: str, cloud: models.Cloud) -> None:
    """A cloud is seen by projects that do not own it, so its own project is asked for."""
    policies.authorize(ctx, rule, {"project_id": cloud.project_id})
    if cloud.kind == "config" or cloud.shared:
        policies.authorize(ctx, OPERATE)


def _check(kind: str, body: Mapping[str, Any]) -> None:
    """Refuse what does not go together. :raises Invalid: with what to change"""
    if kind != "config" and "config_cloud" in body:
        raise exception.Invalid(
            reason=f"config_cloud: a cloud of the kind '{kind}' is in no clouds.yaml"
        )
    if kind == "region":
        if not body.get("region", "given before"):
            raise exception.Invalid(reason="region: which one? The kind 'region' needs its name")
        if body.get("shared") or body.get("projects"):
            raise exception.Invalid(
                reason="shared: a region is used with a trust of the project that registered it; other "
                "projects register it for themselves"
            )


def _operates(kind: str, body: Mapping[str, Any]) -> bool:
    """Whether what is asked is for the operator alone."""
    return (
        kind == "config"
        or bool(body.get("shared"))
        or "projects" in body
        or "lost" in body
        or bool(body.get("credentials", {}).get("insecure"))
    )


OPERATE = "spreader:cloud:operate"


class Clouds(expose.Controller):
    """/v1/clouds"""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        keeper: credentials.Keeper,
        nested: Mapping[str, expose.Controller],
    ) -> None:
        super().__init__(nested=nested)
        self.conf = conf
        self.keeper = keeper

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
        kind = body.get("kind", "config")
        if _operates(kind, body):
            policies.authorize(ctx, OPERATE)
        _check(kind, {"region": None, **body} if kind == "region" else body)
        credential = self.keeper.new(
            ctx, kind, expose.plain(body.get("credentials"), "credentials")
        )
        wanted = {"kind": kind, **_columns(body), "project_id": ctx.project_id}
        if kind == "config":
            wanted.setdefault("config_cloud", body["name"])
        cloud = db_clouds.create_cloud(
            ctx,
            wanted,
            credential=credential,
            projects=body.get("projects", ()),
            limits=quotas.defaults(self.conf),
        )
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
        _authorize(ctx, "spreader:cloud:update", row)
        if _operates(row.kind, body):
            policies.authorize(ctx, OPERATE)
        _check(row.kind, body)
        credential = None
        if "credentials" in body:
            given = expose.plain(body["credentials"], "credentials")
            credential = self.keeper.changed(ctx, row, given)
        else:
            self.keeper.renew(ctx, [row])
        changed = db_clouds.update_cloud(
            ctx, row.id, _columns(body), credential=credential, projects=body.get("projects")
        )
        return _view(self.conf, ctx, changed)

    @expose.expose("spreader:cloud:delete", status=204)
    def delete(self, ctx: context.RequestContext, cloud: str) -> None:
        row = lookup.cloud(ctx, cloud)
        _authorize(ctx, "spreader:cloud:delete", row)
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


class Actions(expose.Controller):
    """/v1/clouds/{cloud}/actions"""

    def __init__(self, conf: cfg.ConfigOpts, keeper: credentials.Keeper) -> None:
        super().__init__()
        self.conf = conf
        self.keeper = keeper

    @expose.expose({"check": "spreader:cloud:check"}, body=schemas.CLOUD_ACTION, status=202)
    def post(
        self, ctx: context.RequestContext, cloud: str, body: dict[str, None]
    ) -> dict[str, Any]:
        row = lookup.cloud(ctx, cloud)
        _authorize(ctx, "spreader:cloud:check", row)
        self.keeper.renew(ctx, [row])
        return _view(self.conf, ctx, db_clouds.try_cloud(ctx, row.id))
