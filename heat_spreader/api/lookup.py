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

"""Finding the stack or the cloud that a URL names, among those that the caller may know of.

What belongs to others is not found at all; "forbidden" would tell that it exists.
"""

from collections.abc import Mapping

from oslo_utils import strutils

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import policies
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models
from heat_spreader.db import stacks as db_stacks


def stack(ctx: context.RequestContext, name: str) -> models.Stack:
    """A stack by id or name, of the caller's project or, for administrators, of any.

    :raises StackNotFound: there is none
    :raises AmbiguousName: not in the own project, but in several others
    """
    try:
        return db_stacks.get_stack(ctx, name, ctx.project_id, shown=True)
    except exception.StackNotFound:
        if not policies.sees_all_projects(ctx):
            raise
        return db_stacks.get_stack(ctx, name, None, shown=True)


def cloud(ctx: context.RequestContext, name: str) -> models.Cloud:
    """A cloud by id or name: the project's own, a shared one or, for administrators, any.

    :raises CloudNotFound: there is none
    :raises AmbiguousName: several shared ones, or several in other projects, have the name
    """
    try:
        return db_clouds.get_cloud(ctx, name, ctx.project_id)
    except exception.CloudNotFound:
        if not policies.sees_all_projects(ctx):
            raise
        return db_clouds.get_cloud(ctx, name, None)


def project(ctx: context.RequestContext, query: Mapping[str, str]) -> str | None:
    """The project to list: the caller's own; None, for all, if ``all_projects`` is asked for.

    :raises Forbidden: it is asked for and the caller may not
    """
    if not strutils.bool_from_string(query.get("all_projects", "false")):
        return ctx.project_id
    policies.authorize(ctx, "spreader:all_projects")
    return None
