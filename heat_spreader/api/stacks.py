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

"""Stacks: what is wanted in all clouds together.

A handler checks what is asked, stores it, and nudges an engine; nothing here waits for a cloud.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg
from oslo_utils import strutils

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import rpc
from heat_spreader.api import credentials
from heat_spreader.api import expose
from heat_spreader.api import generations
from heat_spreader.api import lookup
from heat_spreader.api import members
from heat_spreader.api import paging
from heat_spreader.api import schemas
from heat_spreader.api import templates
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models
from heat_spreader.db import stacks as db_stacks

# Until an engine has had a first look.
_NOTHING_YET = dict.fromkeys(
    "assigned unassigned shortfall excess confirmed in_doubt bound distance".split(), 0
)


def summary(stack: models.Stack) -> dict[str, Any]:
    """The stack as lists show it: without what is long."""
    return _summary(stack, stack.hidden)


def _summary(stack: models.Stack, hidden: Sequence[str] | None) -> dict[str, Any]:
    return {
        "id": stack.id,
        "name": stack.name,
        "description": stack.description,
        "project_id": stack.project_id,
        "user_id": stack.user_id,
        "count": stack.count,
        "count_parameter": stack.count_parameter,
        "min_clouds": stack.min_clouds,
        "rounding": stack.rounding,
        "parameters": members.shown(stack.parameters, hidden),
        "tags": stack.tags,
        "timeout_mins": stack.timeout_mins,
        "failover": {"rule": stack.failover_rule, "toleration": stack.failover_toleration},
        "failback": {
            "mode": stack.failback_mode,
            "stable": stack.failback_stable,
            "batch": stack.failback_batch,
        },
        "surge": stack.surge,
        "rebalance": {"mode": stack.rebalance_mode, "step": stack.rebalance_step},
        "repair": {
            "drift": stack.on_drift,
            "missing": stack.on_missing,
            "stuck": stack.on_stuck,
        },
        "status": stack.status,
        "status_reason": stack.status_reason,
        "generation": stack.generation,
        "observed_generation": stack.observed_generation,
        "ledger": {"desired": stack.count, **_NOTHING_YET, **stack.ledger},
        "members": [members.view(member, hidden) for member in stack.members],
        "created_at": stack.created_at,
        "updated_at": stack.updated_at,
    }


def view(stack: models.Stack) -> dict[str, Any]:
    """The whole stack."""
    hidden = stack.hidden
    if hidden is None:  # from before it was stored
        hidden = templates.hidden(stack.template)
    secret = hidden and templates.sets(stack.environment, hidden)
    return {
        **_summary(stack, hidden),
        "template": stack.template,
        "environment": members.HIDDEN if secret else stack.environment,
        "files": stack.files,
    }


def _columns(body: Mapping[str, Any]) -> dict[str, Any]:
    """The database columns for what a user wrote, the members left out."""
    values = {name: value for name, value in body.items() if name in _PLAIN_COLUMNS}
    for group, columns in _GROUPED_COLUMNS.items():
        given = body.get(group, {})
        values |= {columns[name]: value for name, value in given.items()}
    for name in ("template", "environment"):
        if name in body:
            values[name] = templates.as_text(body[name], name)
    if "parameters" in body:
        values["parameters"] = expose.plain(body["parameters"], "parameters")
    return values


_PLAIN_COLUMNS = frozenset(
    """name description count count_parameter min_clouds rounding files tags timeout_mins
    surge""".split()
)
_GROUPED_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "failover": {"rule": "failover_rule", "toleration": "failover_toleration"},
    "failback": {
        "mode": "failback_mode",
        "stable": "failback_stable",
        "batch": "failback_batch",
    },
    "rebalance": {"mode": "rebalance_mode", "step": "rebalance_step"},
    "repair": {"drift": "on_drift", "missing": "on_missing", "stuck": "on_stuck"},
}


def _new_members(
    ctx: context.RequestContext, bodies: list[dict[str, Any]]
) -> list[tuple[models.Cloud, dict[str, Any]]]:
    """The cloud and the columns of each member of a new stack.

    :raises Invalid: a cloud that the project does not see, or one that is named twice
    """
    new: list[tuple[models.Cloud, dict[str, Any]]] = []
    for position, body in enumerate(bodies):
        where = f"members[{position}]"
        try:
            cloud = db_clouds.get_cloud(ctx, body["cloud"], ctx.project_id)
        except exception.CloudNotFound as error:
            raise exception.Invalid(reason=f"{where}: {error}") from None
        if cloud.id in {other.id for other, _ in new}:
            raise exception.Invalid(reason=f"{where}: cloud '{cloud.name}' is named twice")
        new.append((cloud, {**members.DEFAULTS, **members.columns(body, where)}))
    return new


class Stacks(expose.Controller):
    """/v1/stacks"""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        engine: rpc.Engines,
        keeper: credentials.Keeper,
        nested: Mapping[str, expose.Controller],
    ) -> None:
        super().__init__(nested=nested)
        self.conf = conf
        self.engine = engine
        self.keeper = keeper

    @expose.expose("spreader:stack:list", query=schemas.STACK_LIST)
    def get_all(self, ctx: context.RequestContext, query: dict[str, str]) -> dict[str, Any]:
        project_id = lookup.project(ctx, query)
        limit = paging.limit(query, self.conf.api.max_limit)
        filters: dict[str, str] = {
            name: query[name] for name in ("name", "status", "tag") if name in query
        }
        if "cloud" in query:
            try:
                filters["cloud_id"] = lookup.cloud(ctx, query["cloud"]).id
            except exception.CloudNotFound:
                return {"stacks": []}
        sort_key, _, sort_dir = query.get("sort", "created_at:desc").partition(":")
        rows = db_stacks.list_stacks(
            ctx,
            project_id,
            filters=filters,
            limit=limit + 1,
            marker=query.get("marker"),
            sort_key=sort_key,
            sort_dir=sort_dir or "asc",
        )
        return paging.page("stacks", rows, query, limit, summary)

    @expose.expose("spreader:stack:create", body=schemas.STACK_CREATE, status=202)
    def post(self, ctx: context.RequestContext, body: dict[str, Any]) -> dict[str, Any]:
        values = {
            "count_parameter": "count",
            "parameters": {},
            "files": {},
            "tags": [],
            "template": None,
            "environment": None,
            "failover_toleration": self.conf.spread.toleration,
            "failback_stable": self.conf.spread.stable,
            **_columns(body),
        }
        values["hidden"] = templates.hidden(values["template"])
        new = _new_members(ctx, body.get("members", []))
        wanted = members.by_cloud((cloud, columns) for cloud, columns in new)
        members.check(wanted)
        templates.check(
            values["template"],
            environment=values["environment"],
            files=values["files"],
            count_parameter=values["count_parameter"],
            parameters=values["parameters"],
            members={cloud: member["parameters"] for cloud, member in wanted.items()},
        )
        self.keeper.renew(ctx, (cloud for cloud, _ in new))
        stack = db_stacks.create_stack(
            ctx,
            {**values, "project_id": ctx.project_id, "user_id": ctx.user_id},
            [{**columns, "cloud_id": cloud.id} for cloud, columns in new],
            limits=self.keeper.limits,
        )
        self.engine.reconcile(ctx, stack.id)
        generations.accepted(stack)
        return view(stack)

    @expose.expose("spreader:stack:show")
    def get_one(self, ctx: context.RequestContext, stack: str) -> dict[str, Any]:
        row = lookup.stack(ctx, stack)
        generations.tag(row)
        return view(row)

    @expose.expose("spreader:stack:update", body=schemas.STACK_UPDATE, status=202)
    def patch(
        self, ctx: context.RequestContext, stack: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        values = _columns(body)

        def decide(row: models.Stack) -> generations.Change:
            fixed = {
                column
                for column in ("count_parameter", "parameters", "environment", "files")
                if column in values and values[column] != getattr(row, column)
            }
            if fixed:
                members.check_unused(row.members, ", ".join(sorted(fixed)))
                members.check_template(row, values, members.wanted(row))
            return values, {}

        changed = generations.change(ctx, stack, decide, keeper=self.keeper)
        self.engine.reconcile(ctx, changed.id)
        return view(changed)

    @expose.expose("spreader:stack:delete", query=schemas.STACK_DELETE, status=202)
    def delete(
        self, ctx: context.RequestContext, stack: str, query: dict[str, str]
    ) -> dict[str, Any]:
        """Remove the Heat stacks that we made, leave those we took over; release leaves them all.

        With forget, clouds out of sight are not waited for. Either may be added in the course of it.
        """
        flags = [
            name for name in ("release", "forget") if strutils.bool_from_string(query.get(name))
        ]

        def decide(row: models.Stack) -> generations.Change:
            # What was asked for once is not taken back: some of it may be done.
            return {"deleting": True, **dict.fromkeys(flags, True)}, {}

        changed = generations.change(
            ctx, stack, decide, "stack.delete", keeper=self.keeper, deleting=True
        )
        self.engine.reconcile(ctx, changed.id)
        return view(changed)


_ACTIONS = {
    "check": db_stacks.check_stack,
    "retry": db_stacks.retry_stack,
    "failback": db_stacks.failback,
    "force-failover": db_stacks.force_failover,
}


class Actions(expose.Controller):
    """/v1/stacks/{stack}/actions"""

    def __init__(self, engine: rpc.Engines, keeper: credentials.Keeper) -> None:
        super().__init__()
        self.engine = engine
        self.keeper = keeper

    @expose.expose(
        {action: f"spreader:stack:{action}" for action in _ACTIONS},
        body=schemas.STACK_ACTION,
        status=202,
    )
    def post(
        self, ctx: context.RequestContext, stack: str, body: dict[str, None]
    ) -> dict[str, Any]:
        """What is wanted stays as it is, and so does the generation."""
        row = lookup.stack(ctx, stack)
        self.keeper.renew(ctx, (member.cloud for member in row.members))
        (action,) = body
        asked = _ACTIONS[action](ctx, row.id)
        self.engine.reconcile(ctx, asked.id)
        generations.accepted(asked)
        return view(asked)


def _bad_weight(reason: str) -> exception.Invalid:
    return exception.Invalid(reason=f"weights: {reason}")


class Weights(expose.Controller):
    """/v1/stacks/{stack}/weights"""

    def __init__(self, engine: rpc.Engines, keeper: credentials.Keeper) -> None:
        super().__init__()
        self.engine = engine
        self.keeper = keeper

    @expose.expose("spreader:weight:list")
    def get_all(self, ctx: context.RequestContext, stack: str) -> dict[str, Any]:
        row = lookup.stack(ctx, stack)
        generations.tag(row)
        return {
            "weights": {cloud: member["weight"] for cloud, member in members.wanted(row).items()}
        }

    @expose.expose("spreader:weight:update", body=schemas.WEIGHTS, status=202)
    def put_all(
        self, ctx: context.RequestContext, stack: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Replace all weights at once; members that are not named become standbys."""
        given = {
            cloud: members.columns({"weight": weight}, f"weights: '{cloud}'")
            for cloud, weight in body["weights"].items()
        }

        def decide(row: models.Stack) -> generations.Change:
            changes = {m.cloud_id: {"weight": "0"} for m in row.members if not m.leaving}
            named: set[str] = set()
            for cloud, values in given.items():
                member = members.find(row, cloud)
                if member is None:
                    raise _bad_weight(f"the stack has no member in a cloud '{cloud}'")
                if member.leaving:
                    raise _bad_weight(f"member '{cloud}' is leaving; PUT it to make it stay")
                if member.cloud_id in named:
                    raise _bad_weight(f"'{cloud}' is given twice, by its name and by its id")
                named.add(member.cloud_id)
                changes[member.cloud_id] = values
            members.check(members.wanted(row, changes))
            return {}, changes

        changed = generations.change(ctx, stack, decide, "weight.update", keeper=self.keeper)
        self.engine.reconcile(ctx, changed.id)
        return view(changed)
