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

"""The tree of URLs on one screen, and the version documents at its top."""

from typing import Any

from oslo_config import cfg
import pecan

from heat_spreader import context
from heat_spreader import rpc
from heat_spreader.api import clouds
from heat_spreader.api import credentials
from heat_spreader.api import events
from heat_spreader.api import expose
from heat_spreader.api import members
from heat_spreader.api import openapi
from heat_spreader.api import quotas
from heat_spreader.api import stacks
from heat_spreader.api import versions
from heat_spreader.api import watchdogs


def tree(conf: cfg.ConfigOpts, engine: rpc.Engines, keeper: credentials.Keeper) -> "Root":
    """Every URL of the API; the methods are in the class of each noun."""
    described = openapi.OpenAPI()
    v1 = V1(
        children={
            "stacks": stacks.Stacks(
                conf,
                engine,
                keeper,
                nested={
                    "members": members.Members(engine, keeper),
                    "weights": stacks.Weights(engine, keeper),
                    "actions": stacks.Actions(engine, keeper),
                    "events": events.StackEvents(conf),
                },
            ),
            "clouds": clouds.Clouds(
                conf,
                keeper,
                nested={
                    "observations": clouds.Observations(conf),
                    "actions": clouds.Actions(conf, keeper),
                },
            ),
            "events": events.Events(conf),
            "alerts": watchdogs.Alerts(conf),
            "quotas": quotas.Quotas(conf),
            "openapi.json": described,
        }
    )
    root = Root(children={"v1": v1})
    described.root = root
    return root


def _version() -> dict[str, Any]:
    return {
        "id": "v1.0",
        "status": "CURRENT",
        "min_version": versions.MINIMUM,
        "version": versions.MAXIMUM,
        "links": [{"rel": "self", "href": f"{pecan.request.application_url}/v1/"}],
    }


class Root(expose.Controller):
    """/"""

    @expose.expose(None)
    def get_all(self, ctx: context.RequestContext) -> dict[str, Any]:
        return {"versions": [_version()]}


class V1(expose.Controller):
    """/v1"""

    @expose.expose(None)
    def get_all(self, ctx: context.RequestContext) -> dict[str, Any]:
        return {"version": _version()}
