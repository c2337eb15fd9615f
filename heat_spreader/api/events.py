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

"""Events: what was asked, decided and done, with its cause. They are only ever read."""

from collections.abc import Mapping
import datetime
from typing import Any

from oslo_config import cfg

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.api import expose
from heat_spreader.api import lookup
from heat_spreader.api import paging
from heat_spreader.api import schemas
from heat_spreader.db import events as db_events
from heat_spreader.db import models


def _view(event: models.Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "stack_id": event.stack_id,
        "stack_name": event.stack_name,
        "cloud": event.cloud_name,
        "cloud_id": event.cloud_id,
        "type": event.type,
        "message": event.message,
        "before": event.before,
        "after": event.after,
        "evidence": event.evidence,
        "actor": event.actor,
        "roles": event.roles,
        "request_id": event.request_id,
        "global_request_id": event.global_request_id,
        "created_at": event.created_at,
    }


def _since(query: Mapping[str, str]) -> datetime.datetime | None:
    """The time in naive UTC, as the database has it."""
    return expose.moment(query["since"], "since") if "since" in query else None


def _list(
    ctx: context.RequestContext,
    query: Mapping[str, str],
    maximum: int,
    project_id: str | None,
    stack_id: str | None,
) -> dict[str, Any]:
    limit = paging.limit(query, maximum)
    cloud_id = query.get("cloud")
    if cloud_id is not None:
        try:
            cloud_id = lookup.cloud(ctx, cloud_id).id
        except exception.CloudNotFound:
            pass  # events outlive clouds: it may be the id of one that is gone
    rows = db_events.list_events(
        ctx,
        project_id,
        stack_id=stack_id,
        cloud_id=cloud_id,
        type=query.get("type"),
        since=_since(query),
        limit=limit + 1,
        marker=int(query["marker"]) if "marker" in query else None,
    )
    return paging.page("events", rows, query, limit, _view)


class Events(expose.Controller):
    """/v1/events"""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self.conf = conf

    @expose.expose("spreader:event:list", query=schemas.EVENT_LIST)
    def get_all(self, ctx: context.RequestContext, query: dict[str, str]) -> dict[str, Any]:
        return _list(ctx, query, self.conf.api.max_limit, lookup.project(ctx, query), None)


class StackEvents(expose.Controller):
    """/v1/stacks/{stack}/events"""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self.conf = conf

    @expose.expose("spreader:event:list", query=schemas.STACK_EVENT_LIST)
    def get_all(
        self, ctx: context.RequestContext, stack: str, query: dict[str, str]
    ) -> dict[str, Any]:
        row = lookup.stack(ctx, stack)
        return _list(ctx, query, self.conf.api.max_limit, row.project_id, row.id)
