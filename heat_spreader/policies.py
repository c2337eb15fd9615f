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

"""The access rules (RBAC) of every route, in code; operators override them in ``policy.yaml``.

A rule is asked with the caller's own project as its target: what lies in other projects is not
found at all, so it never comes to a rule. It knows nothing of HTTP beyond naming the routes.
"""

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg
from oslo_policy import policy

from heat_spreader import context
from heat_spreader import exception

READER = "rule:project_reader or rule:admin"
MEMBER = "rule:project_member or rule:admin"
ADMIN = "rule:admin"
WATCHDOG = "role:service or rule:admin"


def _rule(
    name: str, check: str, description: str, *operations: str
) -> policy.DocumentedRuleDefault:
    """:param operations: each "METHOD /path"; a test compares them with the routes that exist"""
    return policy.DocumentedRuleDefault(
        name=name,
        check_str=check,
        description=description,
        operations=[
            {"method": method, "path": path}
            for method, path in (operation.split(" ") for operation in operations)
        ],
        scope_types=["project"],
    )


RULES: list[policy.RuleDefault] = [
    policy.RuleDefault("admin", "role:admin", "The administrator of the whole service."),
    policy.RuleDefault(
        "project_reader",
        "role:reader and project_id:%(project_id)s",
        "Who may look at what the project has.",
    ),
    policy.RuleDefault(
        "project_member",
        "role:member and project_id:%(project_id)s",
        "Who may change what the project has.",
    ),
    _rule(
        "spreader:all_projects",
        ADMIN,
        "Find the objects of all projects: list them with all_projects=true, and reach each of them "
        "by its id. What may be done with them is for the other rules to say.",
        "GET /v1/stacks",
        "GET /v1/clouds",
        "GET /v1/events",
    ),
    _rule("spreader:stack:list", READER, "List stacks.", "GET /v1/stacks"),
    _rule("spreader:stack:create", MEMBER, "Create a stack.", "POST /v1/stacks"),
    _rule("spreader:stack:show", READER, "Show a stack.", "GET /v1/stacks/{stack}"),
    _rule("spreader:stack:update", MEMBER, "Change a stack.", "PATCH /v1/stacks/{stack}"),
    _rule("spreader:stack:delete", MEMBER, "Delete a stack.", "DELETE /v1/stacks/{stack}"),
    _rule(
        "spreader:stack:check",
        MEMBER,
        "Have each Heat compare its records of a stack with what exists.",
        "POST /v1/stacks/{stack}/actions",
    ),
    _rule(
        "spreader:stack:retry",
        MEMBER,
        "Have the service try again what failed, did not fit, was fought over or is missing.",
        "POST /v1/stacks/{stack}/actions",
    ),
    _rule(
        "spreader:stack:failback",
        MEMBER,
        "Have units go back to clouds that are healthy again, without any more waiting.",
        "POST /v1/stacks/{stack}/actions",
    ),
    _rule(
        "spreader:stack:force-failover",
        ADMIN,
        "Have a stack fail over from what is unreachable now, although the brake is on or the time that "
        "it tolerates is not over.",
        "POST /v1/stacks/{stack}/actions",
    ),
    _rule(
        "spreader:member:list",
        READER,
        "List the members of a stack.",
        "GET /v1/stacks/{stack}/members",
    ),
    _rule(
        "spreader:member:show",
        READER,
        "Show a member of a stack.",
        "GET /v1/stacks/{stack}/members/{cloud}",
    ),
    _rule(
        "spreader:member:update",
        MEMBER,
        "Add a cloud to a stack, or change what the stack wants there.",
        "PUT /v1/stacks/{stack}/members/{cloud}",
        "PATCH /v1/stacks/{stack}/members/{cloud}",
    ),
    _rule(
        "spreader:member:delete",
        MEMBER,
        "Take a stack out of a cloud.",
        "DELETE /v1/stacks/{stack}/members/{cloud}",
    ),
    _rule(
        "spreader:weight:list",
        READER,
        "Show the weights of a stack.",
        "GET /v1/stacks/{stack}/weights",
    ),
    _rule(
        "spreader:weight:update",
        MEMBER,
        "Replace the weights of a stack.",
        "PUT /v1/stacks/{stack}/weights",
    ),
    _rule(
        "spreader:event:list",
        READER,
        "List events.",
        "GET /v1/events",
        "GET /v1/stacks/{stack}/events",
    ),
    _rule(
        "spreader:cloud:list",
        READER,
        "List the project's own clouds and the shared ones.",
        "GET /v1/clouds",
    ),
    _rule("spreader:cloud:show", READER, "Show a cloud.", "GET /v1/clouds/{cloud}"),
    _rule(
        "spreader:cloud:observation:list",
        READER,
        "Show who saw what of a cloud, which its verdict is made of.",
        "GET /v1/clouds/{cloud}/observations",
    ),
    _rule(
        "spreader:cloud:observation:create",
        WATCHDOG,
        "Report what a watchdog sees of a cloud, of any project. It has a vote on its verdict.",
        "POST /v1/clouds/{cloud}/observations",
    ),
    _rule(
        "spreader:alert:create",
        WATCHDOG,
        "The same in the form of Alertmanager's webhook.",
        "POST /v1/alerts",
    ),
    _rule(
        "spreader:cloud:create",
        MEMBER,
        "Register a cloud that the project brings with credentials of its own, or a region.",
        "POST /v1/clouds",
    ),
    _rule(
        "spreader:cloud:update",
        MEMBER,
        "Change a cloud of the project, cordon or drain it, or give it other credentials.",
        "PATCH /v1/clouds/{cloud}",
    ),
    _rule(
        "spreader:cloud:delete",
        MEMBER,
        "Remove a cloud of the project.",
        "DELETE /v1/clouds/{cloud}",
    ),
    _rule(
        "spreader:cloud:check",
        MEMBER,
        "Have an engine try what the credentials of a cloud are good for.",
        "POST /v1/clouds/{cloud}/actions",
    ),
    _rule(
        "spreader:cloud:operate",
        ADMIN,
        "Register, change, check or remove a cloud that is reached with the operator's own credentials "
        "(kind 'config') or is for more than one project; let other projects use a cloud; have its TLS "
        "certificates not checked. It is asked besides the rule of the request.",
        "POST /v1/clouds",
        "PATCH /v1/clouds/{cloud}",
        "DELETE /v1/clouds/{cloud}",
        "POST /v1/clouds/{cloud}/actions",
    ),
    _rule(
        "spreader:quota:show",
        READER,
        "Show the quota of a project and what it has.",
        "GET /v1/quotas",
        "GET /v1/quotas/{project}",
    ),
    _rule(
        "spreader:quota:update",
        ADMIN,
        "Change the quota of a project.",
        "PATCH /v1/quotas/{project}",
    ),
]

_enforcer: policy.Enforcer | None = None


def list_rules() -> list[policy.RuleDefault]:
    """For oslopolicy-sample-generator and the documentation."""
    return RULES


def get_enforcer() -> policy.Enforcer:
    """For the oslo.policy tools; some of them have read the configuration, others leave it to us."""
    if "config_file" not in cfg.CONF:
        cfg.CONF([], project="heat-spreader")
    return setup(cfg.CONF)


def setup(conf: cfg.ConfigOpts) -> policy.Enforcer:
    """Make the rules, and what ``policy.yaml`` changes in them, the ones in force."""
    global _enforcer
    _enforcer = policy.Enforcer(conf)
    _enforcer.register_defaults(RULES)
    return _enforcer


def unknown_rules(conf: cfg.ConfigOpts) -> list[str]:
    """The names in ``policy.yaml`` that no rule has, and no other rule of the file refers to.

    :raises StartupError: the file cannot be read
    """
    enforcer = policy.Enforcer(conf)
    enforcer.register_defaults(RULES)
    try:
        enforcer.load_rules()
    except (OSError, ValueError, TypeError, AttributeError, policy.InvalidRuleDefault) as error:
        raise exception.StartupError(
            reason=f"the policy file {conf.oslo_policy.policy_file} cannot be read: {error}"
        ) from error
    checks = " ".join(str(rule.check_str) for rule in enforcer.file_rules.values())
    return sorted(
        name
        for name in enforcer.file_rules
        if name not in enforcer.registered_rules and f"rule:{name}" not in checks
    )


def authorize(
    ctx: context.RequestContext, rule: str, target: Mapping[str, Any] | None = None
) -> None:
    """:raises Forbidden: the rule does not let this caller do it

    :param target: ``project_id`` and the like of the object; by default the caller's own project
    """
    if not _allows(ctx, rule, target):
        raise exception.Forbidden(rule=rule)


def sees_all_projects(ctx: context.RequestContext) -> bool:
    """Whether the caller finds objects of other projects, too."""
    return _allows(ctx, "spreader:all_projects", None)


def _allows(ctx: context.RequestContext, rule: str, target: Mapping[str, Any] | None) -> bool:
    if not ctx.project_id:
        # oslo.policy takes a token without any scope for a project's, and "no project" equals
        # "no project".
        return False
    if target is None:
        target = {"project_id": ctx.project_id, "user_id": ctx.user_id}
    assert _enforcer is not None, "policies.setup() comes first"  # noqa: S101
    return bool(_enforcer.authorize(rule, dict(target), ctx))
