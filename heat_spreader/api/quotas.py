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

"""Quotas: how much a project may have of everything, and how much it has."""

from typing import Any

from oslo_config import cfg

from heat_spreader import context
from heat_spreader import policies
from heat_spreader.api import expose
from heat_spreader.api import schemas
from heat_spreader.db import quotas as db_quotas


def defaults(conf: cfg.ConfigOpts) -> dict[str, int]:
    """The limits of projects that have none of their own."""
    return {resource: conf.quota[resource] for resource in db_quotas.RESOURCES}


class Quotas(expose.Controller):
    """/v1/quotas"""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self.conf = conf

    def _view(self, ctx: context.RequestContext, project_id: str) -> dict[str, Any]:
        found = db_quotas.show(ctx, project_id, defaults(self.conf))
        return {"project_id": project_id, **found}

    @expose.expose("spreader:quota:show")
    def get_all(self, ctx: context.RequestContext) -> dict[str, Any]:
        """Of the caller's own project."""
        return self._view(ctx, str(ctx.project_id))

    @expose.expose("spreader:quota:show")
    def get_one(self, ctx: context.RequestContext, project: str) -> dict[str, Any]:
        policies.authorize(ctx, "spreader:quota:show", {"project_id": project})
        return self._view(ctx, project)

    @expose.expose("spreader:quota:update", body=schemas.QUOTA_UPDATE)
    def patch(
        self, ctx: context.RequestContext, project: str, body: dict[str, int | None]
    ) -> dict[str, Any]:
        db_quotas.change(ctx, expose.project_id(project), body)
        return self._view(ctx, project)
