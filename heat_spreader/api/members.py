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

"""Members of a stack, one per cloud: how much of the stack is to be there.

What is stored here is only what is wanted; shares are for the engine to allocate.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import fractions
from typing import Any

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import rpc
from heat_spreader.api import credentials
from heat_spreader.api import expose
from heat_spreader.api import generations
from heat_spreader.api import lookup
from heat_spreader.api import schemas
from heat_spreader.api import templates
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models
from heat_spreader.engine.core import allocation

DEFAULTS: Mapping[str, Any] = {
    "weight": "0",
    "minimum": 0,
    "maximum": None,
    "priority": 0,
    "parameters": {},
    "leaving": False,
}


# In the place of what a template hides, as Heat does it.
HIDDEN = "******"


def shown(parameters: Mapping[str, Any], hidden: Sequence[str] | None) -> dict[str, Any]:
    """Parameters without the values of those that the template hides; None: nobody knows which."""
    return {
        name: HIDDEN if hidden is None or name in hidden else value
        for name, value in parameters.items()
    }


def view(member: models.Member, hidden: Sequence[str] | None) -> dict[str, Any]:
    """The member as the API shows it.

    :param hidden: parameters that the template hides, see ``shown``
    """
    return {
        "cloud": member.cloud.name,
        "cloud_id": member.cloud_id,
        "weight": member.weight,
        "minimum": member.minimum,
        "maximum": member.maximum,
        "priority": member.priority,
        "parameters": shown(member.parameters, hidden),
        "share": member.share,
        "held": member.held,
        "observed_count": member.observed_count,
        "confirmed": member.confirmed,
        "heat_stack_id": member.heat_stack_id,
        "heat_status": member.heat_status,
        "owned": member.owned,
        "verdict": member.cloud.verdict,
        "verdict_since": member.cloud.verdict_since,
        "verdict_reason": member.cloud.verdict_reason,
        "status": "LEAVING" if member.leaving else member.status,
        "status_reason": member.status_reason,
        "observed_at": member.observed_at,
        "capacity": member.capacity,
        "full_until": member.full_until,
        "conflict": member.conflict,
        "missing_since": member.missing_since,
        "busy_since": member.busy_since,
        "check_asked": member.check_asked,
    }


def columns(body: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The database columns for a member as a user writes it."""
    values = {name: body[name] for name in DEFAULTS if name in body}
    if "weight" in values:
        try:
            weight = allocation.parse_weight(values["weight"])
        except ValueError as error:
            raise exception.Invalid(reason=f"{where}: {error}") from None
        values["weight"] = allocation.format_weight(weight)
    if "parameters" in values:
        values["parameters"] = expose.plain(values["parameters"], f"{where}: parameters")
    return values


def by_cloud(
    members: Iterable[tuple[models.Cloud, Mapping[str, Any]]],
) -> dict[str, Mapping[str, Any]]:
    """Columns by the name of the cloud; by its id where a project's own and a shared one share it."""
    named: dict[str, Mapping[str, Any]] = {}
    for cloud, values in members:
        named[cloud.id if cloud.name in named else cloud.name] = values
    return named


def wanted(
    stack: models.Stack,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    added: models.Cloud | None = None,
) -> dict[str, Mapping[str, Any]]:
    """The columns of all members that stay after these changes, as from ``by_cloud``.

    :param changes: columns by cloud id
    :param added: a cloud that may be without a member yet
    """
    clouds = {member.cloud_id: member.cloud for member in stack.members}
    now = {
        member.cloud_id: {name: getattr(member, name) for name in DEFAULTS}
        for member in stack.members
    }
    if added is not None:
        clouds.setdefault(added.id, added)
    after = [
        (cloud, {**DEFAULTS, **now.get(cloud_id, {}), **(changes or {}).get(cloud_id, {})})
        for cloud_id, cloud in clouds.items()
    ]
    return by_cloud((cloud, values) for cloud, values in after if not values["leaving"])


def check(members: Mapping[str, Mapping[str, Any]]) -> None:
    """:param members: as from ``wanted``; :raises Invalid: bounds or weights cannot be"""
    for cloud, member in members.items():
        if member["maximum"] is not None and member["minimum"] > member["maximum"]:
            raise exception.Invalid(
                reason=f"member '{cloud}': minimum {member['minimum']} is greater than maximum "
                f"{member['maximum']}; lower the one or raise the other"
            )
    weights = [allocation.parse_weight(member["weight"]) for member in members.values()]
    total = sum(weights, start=fractions.Fraction(0))
    if total > 1:
        each = ", ".join(f"{cloud} {m['weight']}" for cloud, m in members.items())
        raise exception.Invalid(
            reason=f"the weights add up to {allocation.format_weight(total)}, which is more than 1 "
            f"({each if len(each) < 500 else each[:500] + '...'}); lower some of them, or replace "
            "all at once with PUT /v1/stacks/{stack}/weights"
        )


def check_template(
    stack: models.Stack, values: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]
) -> None:
    """:param values: columns of the stack that change; :raises Invalid: see ``templates.check``"""

    def after(column: str) -> Any:
        return values[column] if column in values else getattr(stack, column)

    templates.check(
        stack.template,
        environment=after("environment"),
        files=after("files"),
        count_parameter=after("count_parameter"),
        parameters=after("parameters"),
        members={cloud: member["parameters"] for cloud, member in members.items()},
    )


def check_unused(members: Iterable[models.Member], what: str) -> None:
    """:raises HeatStackExists: Heat stacks were made with ``what``, which nothing would change"""
    made = [member.cloud.name for member in members if member.heat_stack_id]
    if made:
        raise exception.HeatStackExists(what=what, clouds=", ".join(made))


def find(stack: models.Stack, cloud: str) -> models.Member | None:
    """The member in a cloud, by the cloud's id or name. :raises AmbiguousName: two have the name"""
    by_id = [member for member in stack.members if member.cloud_id == cloud]
    found = by_id or [member for member in stack.members if member.cloud.name == cloud]
    if len(found) > 1:
        raise exception.AmbiguousName(name=cloud)
    return found[0] if found else None


def get(stack: models.Stack, cloud: str) -> models.Member:
    member = find(stack, cloud)
    if member is None:
        raise exception.MemberNotFound(stack=stack.name, cloud=cloud)
    return member


class Members(expose.Controller):
    """/v1/stacks/{stack}/members"""

    def __init__(self, engine: rpc.Engines, keeper: credentials.Keeper) -> None:
        super().__init__()
        self.engine = engine
        self.keeper = keeper

    @expose.expose("spreader:member:list")
    def get_all(self, ctx: context.RequestContext, stack: str) -> dict[str, Any]:
        row = lookup.stack(ctx, stack)
        generations.tag(row)
        return {"members": [view(member, row.hidden) for member in row.members]}

    @expose.expose("spreader:member:show")
    def get_one(self, ctx: context.RequestContext, stack: str, cloud: str) -> dict[str, Any]:
        row = lookup.stack(ctx, stack)
        generations.tag(row)
        return view(get(row, cloud), row.hidden)

    @expose.expose("spreader:member:update", body=schemas.MEMBER_PUT, status=202)
    def put(
        self, ctx: context.RequestContext, stack: str, cloud: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Create a member or replace it; one that is leaving stays."""
        values = {**DEFAULTS, **columns(body, f"member '{cloud}'")}

        def decide(row: models.Stack) -> generations.Change:
            member = find(row, cloud)
            place = member.cloud if member else db_clouds.get_cloud(ctx, cloud, row.project_id)
            if member and values["parameters"] != member.parameters:
                check_unused([member], "parameters")
            members = wanted(row, {place.id: values}, added=place)
            check(members)
            check_template(row, {}, members)
            return {}, {place.id: values}

        changed = generations.change(ctx, stack, decide, "member.update", keeper=self.keeper)
        self.engine.reconcile(ctx, changed.id)
        return view(get(changed, cloud), changed.hidden)

    @expose.expose("spreader:member:update", body=schemas.MEMBER_UPDATE, status=202)
    def patch(
        self, ctx: context.RequestContext, stack: str, cloud: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        values = columns(body, f"member '{cloud}'")

        def decide(row: models.Stack) -> generations.Change:
            member = get(row, cloud)
            if member.leaving:
                raise exception.Conflict(
                    reason=f"member '{cloud}' is leaving; PUT it to make it stay"
                )
            members = wanted(row, {member.cloud_id: values})
            check(members)
            if values.get("parameters", member.parameters) != member.parameters:
                check_unused([member], "parameters")
                check_template(row, {}, members)
            return {}, {member.cloud_id: values}

        changed = generations.change(ctx, stack, decide, "member.update", keeper=self.keeper)
        self.engine.reconcile(ctx, changed.id)
        return view(get(changed, cloud), changed.hidden)

    @expose.expose("spreader:member:delete", status=202)
    def delete(self, ctx: context.RequestContext, stack: str, cloud: str) -> dict[str, Any]:
        """Let a member leave: its units move to the others first."""

        def decide(row: models.Stack) -> generations.Change:
            return {}, {get(row, cloud).cloud_id: {"leaving": True, "weight": "0"}}

        changed = generations.change(ctx, stack, decide, "member.delete", keeper=self.keeper)
        self.engine.reconcile(ctx, changed.id)
        return view(get(changed, cloud), changed.hidden)
