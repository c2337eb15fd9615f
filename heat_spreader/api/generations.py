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

"""The guard against lost updates: ETag, If-Match, and changes that are checked before the write.

A stack's generation grows with every change that a user makes to it, to its members or to its
weights; it is the entity tag of all three.
"""

from collections.abc import Callable
from collections.abc import Mapping
import re
from typing import Any

import pecan

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.api import credentials
from heat_spreader.api import lookup
from heat_spreader.db import models
from heat_spreader.db import stacks as db_stacks

# Each attempt fails only because another one succeeded.
_ATTEMPTS = 20
_TAG = r'(?:W/)?"[^"]*"'
_TAGS = re.compile(rf"\s*{_TAG}(\s*,\s*{_TAG})*\s*")

Change = tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]


def tag(stack: models.Stack) -> None:
    """Put the generation into the answer."""
    pecan.response.etag = str(stack.generation)


def accepted(stack: models.Stack) -> None:
    """Tell in the answer to a write where to watch what becomes of it."""
    tag(stack)
    pecan.response.location = f"{pecan.request.application_url}/v1/stacks/{stack.id}"


def change(
    ctx: context.RequestContext,
    name: str,
    decide: Callable[[models.Stack], Change],
    event: str = "stack.update",
    *,
    keeper: credentials.Keeper,
    deleting: bool = False,
) -> models.Stack:
    """Apply a change that depends on what the stack is now, and tag the answer.

    :param decide: from the stack as it is, the columns to set and the members to set by cloud id;
        raises Invalid when they would not fit. Called again when somebody else was faster.
    :param keeper: renews the trusts that the stack needs, by the token of whoever changes it
    :param deleting: the change is a deletion, which a stack that is being deleted takes, too
    :raises ConcurrentUpdate: the request has an If-Match that does not match
    """
    for _ in range(_ATTEMPTS):
        stack = lookup.stack(ctx, name)
        if stack.deleting and not deleting:
            raise exception.StackDeleting(stack=stack.name)
        demanded = _is_demanded(stack)
        values, members = decide(stack)
        keeper.renew(ctx, (member.cloud for member in stack.members))
        try:
            changed = db_stacks.update_stack(
                ctx,
                stack.id,
                values=values,
                members=members,
                generation=stack.generation,
                event=event,
                limits=(stack.project_id, keeper.limits),
            )
        except exception.ConcurrentUpdate:
            if demanded:
                raise
            continue
        accepted(changed)
        return changed
    raise exception.Conflict(reason="others keep changing this stack; try again")


def _is_demanded(stack: models.Stack) -> bool:
    """Whether the request insists on this generation.

    :raises ConcurrentUpdate: it insists on another one
    """
    header = pecan.request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return False
    if not _TAGS.fullmatch(header):
        raise exception.Invalid(
            reason=f'If-Match must be a generation in double quotes, like "{stack.generation}"'
        )
    # A weak tag never matches here (RFC 9110, 13.1.1).
    tags = re.findall(_TAG, header)
    if f'"{stack.generation}"' not in tags:
        raise exception.ConcurrentUpdate(
            stack=stack.name,
            current=stack.generation,
            wanted=" or ".join(tag.strip('"') for tag in tags)[:100],
        )
    return True
