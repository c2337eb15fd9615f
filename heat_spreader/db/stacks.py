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

"""Stacks with their members, as users see and change them."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import itertools
import json
import types
from typing import Any

from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import utils as db_utils
from oslo_utils import uuidutils
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import quotas as db_quotas


@db_api.retry
def create_stack(
    ctx: context.RequestContext,
    values: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    *,
    limits: Mapping[str, int] | None = None,
) -> models.Stack:
    """Store a new stack with its members; due at once.

    :param limits: the default quota; None: as much as one likes
    :raises QuotaExceeded: the project may not have so much
    :raises StackExists: the project has a stack of that name
    :raises Conflict: a cloud of a member is gone
    """
    with (
        _clouds_stay(),
        db_api.duplicate(exception.StackExists(name=values["name"])),
        db_api.writer(ctx) as session,
    ):
        if limits is not None:
            db_quotas.lock(session, values["project_id"])
        moment = db_api.now(session)
        stack_id = uuidutils.generate_uuid()
        session.execute(
            _CREATE,
            {
                "id": stack_id,
                "created_at": moment,
                "updated_at": moment,
                "due_at": moment,
                "request_id": ctx.request_id,
                "status": "PENDING",
                "status_reason": "Waiting for an engine.",
                **values,
            },
        )
        owned = values.get("template") is not None
        for position, columns in enumerate(members):
            session.execute(_JOIN, _member(stack_id, position, owned, columns))
        stack = _load(session, stack_id)
        if limits is not None:
            db_quotas.check(session, stack.project_id, limits, "stacks", "members", "units")
        db_events.add_event(
            session,
            ctx,
            "stack.create",
            f"Stack created with count {stack.count} over {len(members)} cloud(s).",
            stack=stack,
            after=_wanted(stack),
        )
        return stack


@db_api.retry
def get_stack(
    ctx: context.RequestContext, stack: str, project_id: str | None, *, shown: bool = False
) -> models.Stack:
    """One stack by id or name, with members and their clouds.

    :param project_id: only in this project; None looks in all (administrators, engines)
    :param shown: without what only the engine knows
    :raises StackNotFound: nothing there, or it belongs to somebody else
    :raises AmbiguousName: over all projects, several carry the name
    """
    columns = _SHOWN if shown else _WHOLE
    with db_api.connection(ctx) as connection:
        # All ids are UUIDs, and few names look like one.
        for column in ("id", "name") if uuidutils.is_uuid_like(stack) else ("name",):
            query = _one_stack(columns, column, project_id is not None)
            found = _read(connection, query, columns, {"stack": stack, "project_id": project_id})
            if len(found) > 1:
                raise exception.AmbiguousName(name=stack)
            if found:
                return found[0]
        raise exception.StackNotFound(stack=stack)


@db_api.retry
def list_stacks(
    ctx: context.RequestContext,
    project_id: str | None,
    *,
    filters: Mapping[str, Any] | None = None,
    limit: int,
    marker: str | None = None,
    sort_key: str = "created_at",
    sort_dir: str = "desc",
) -> list[models.Stack]:
    """Stacks in a stable order; filters are exact: name, status, tag, cloud_id.

    :raises StackNotFound: the marker is no stack that the caller can see
    """
    filters = dict(filters or {})
    with db_api.connection(ctx) as connection:
        query = sa.select(*_LISTED.stack.values())
        if project_id is not None:
            query = query.where(models.Stack.project_id == project_id)
        if "cloud_id" in filters:
            query = query.where(
                models.Stack.members.any(models.Member.cloud_id == filters.pop("cloud_id"))
            )
        if "tag" in filters:
            # Tags are a small JSON list of plain words; the schema keeps quotes out of them. No LIKE:
            # that of SQLite takes "A" for "a".
            tags = sa.type_coerce(models.Stack.tags, sa.Text)
            query = query.where(sa.func.replace(tags, json.dumps(filters.pop("tag")), "") != tags)
        for column, value in filters.items():
            query = query.where(getattr(models.Stack, column) == value)
        after = None
        if marker is not None:
            place = sa.select(_STACK.id, _STACK.project_id, _STACK[sort_key])
            found = connection.execute(place.where(_STACK.id == marker)).mappings().one_or_none()
            if found is None or project_id not in (None, found["project_id"]):
                raise exception.StackNotFound(stack=marker)
            after = types.SimpleNamespace(**found)  # a row's own "count" is the method of tuples
        query = db_utils.paginate_query(
            query,
            models.Stack,
            limit,
            [sort_key, "id"],
            marker=after,
            sort_dirs=[sort_dir, sort_dir],
        )
        return _read(connection, query, _LISTED)


_STACKS: Any = models.Stack.__table__
_MEMBERS: Any = models.Member.__table__
_CLOUDS: Any = models.Cloud.__table__
_STACK, _MEMBER, _CLOUD = _STACKS.c, _MEMBERS.c, _CLOUDS.c


class _Columns:
    """What is read of stacks, their members and the clouds of these: names and columns."""

    def __init__(self, stack: Iterable[Any], member: Iterable[Any], cloud: Iterable[Any]) -> None:
        self.stack, self.member, self.cloud = (
            {column.key: column for column in columns} for columns in (stack, member, cloud)
        )
        self.members_of = (
            sa.select(*self.member.values(), *self.cloud.values())
            .join_from(_MEMBERS, _CLOUDS)
            .where(_MEMBER.stack_id.in_(sa.bindparam("stack_ids", expanding=True)))
            .order_by(_MEMBER.position)
        )


_WHOLE = _Columns(_STACK, _MEMBER, _CLOUD)
# A driver written in Python takes longer for a value than the database.
_NOT_SHOWN = frozenset(
    """due_at claimed_by claimed_until claim_epoch request_id release forget forced_at position
    heat_status_reason heat_updated_time written_at creating out_since floor failures retry_at fulls
    drifts drifted_at problem recalled coming_back""".split()
)
_SHOWN = _Columns(
    [column for column in _STACK if column.key not in _NOT_SHOWN],
    [column for column in _MEMBER if column.key not in {*_NOT_SHOWN, "id", "deleting"}],
    [
        _CLOUD[name]
        for name in """id name verdict verdict_since verdict_reason kind project_id
        credential_id""".split()
    ],
)
# A page of a thousand templates would fill the memory.
_LONG = frozenset({"template", "environment", "files"})
_LISTED = _Columns(
    [column for column in _SHOWN.stack.values() if column.key not in _LONG],
    _SHOWN.member.values(),
    [_CLOUD[name] for name in ("id", "name", "verdict", "verdict_since", "verdict_reason")],
)
# What may be large is needed by whoever shows the stack or creates a Heat stack from it only.
_RECONCILED = _Columns(
    [
        *(column for column in _STACK if column.key not in _LONG),
        _STACK.template.is_not(None).label("templated"),
    ],
    _MEMBER,
    _CLOUD,
)
_TO_RECONCILE = sa.select(*_RECONCILED.stack.values()).where(
    _STACK.id.in_(sa.bindparam("stack_ids", expanding=True))
)


# To put a statement together takes about as long as to run it, and an entity takes longer than that.
_THIS_STACK = _STACK.id == sa.bindparam("stack")
_CREATE = sa.insert(_STACKS)
_WRITE = sa.update(_STACKS).where(_THIS_STACK)
_JOIN = sa.insert(_MEMBERS)
_WRITE_MEMBER = sa.update(_MEMBERS).where(_MEMBER.id == sa.bindparam("member"))
_WRITE_MEMBERS = sa.update(_MEMBERS).where(_MEMBER.stack_id == sa.bindparam("stack"))
# Where nothing was made there is nothing to compare.
_CHECK_MEMBERS = _WRITE_MEMBERS.values(check_asked=_MEMBER.heat_stack_id.is_not(None))


@functools.cache
def _raise_generation(deletion: bool, conditional: bool) -> sa.Update:
    query = _WRITE.values(generation=_STACK.generation + 1)
    if not deletion:
        query = query.where(_STACK.deleting.is_(False))
    if conditional:
        query = query.where(_STACK.generation == sa.bindparam("expected"))
    return query


@functools.cache
def _one_stack(columns: _Columns, column: str, of_project: bool) -> sa.Select[Any]:
    query = sa.select(*columns.stack.values()).where(_STACK[column] == sa.bindparam("stack"))
    if of_project:
        query = query.where(_STACK.project_id == sa.bindparam("project_id"))
    return query


def _read(
    connection: sa.Connection,
    query: sa.Select[Any],
    columns: _Columns,
    parameters: Mapping[str, Any] | None = None,
) -> list[Any]:
    """The stacks that a query finds, with their members and the clouds of these.

    Plain objects with the attributes of the models. SQLAlchemy takes as long again to make entities,
    and who only reads has no use for what these can do.
    """
    stacks = [
        types.SimpleNamespace(**dict(zip(columns.stack, row, strict=True)), members=[])
        for row in connection.execute(query, parameters).all()
    ]
    by_id = {stack.id: stack for stack in stacks}
    clouds: dict[str, Any] = {}
    for row in connection.execute(columns.members_of, {"stack_ids": [*by_id]}).all():
        member = types.SimpleNamespace(**dict(zip(columns.member, row, strict=False)))
        if member.cloud_id not in clouds:
            cloud = dict(zip(columns.cloud, row[len(columns.member) :], strict=True))
            clouds[member.cloud_id] = types.SimpleNamespace(**cloud)
        member.cloud = clouds[member.cloud_id]
        by_id[member.stack_id].members.append(member)
    return stacks


@db_api.retry
def update_stack(
    ctx: context.RequestContext,
    stack_id: str,
    *,
    values: Mapping[str, Any] | None = None,
    members: Mapping[str, Mapping[str, Any]] | None = None,
    generation: int | None = None,
    event: str = "stack.update",
    limits: tuple[str, Mapping[str, int]] | None = None,
) -> models.Stack:
    """Apply one change of a user: stack columns, members, or both; raises the generation.

    :param members: cloud id to columns; a cloud without a member gets one
    :param generation: apply only if the stack is still at this generation
    :param limits: the stack's project and the default quota; None: as much as one likes
    :raises ConcurrentUpdate: it is not
    :raises QuotaExceeded: the project may not have so much
    :raises StackDeleting: the stack takes no changes any more, but for how it is deleted
    """
    values = dict(values or {})
    deletion = bool(values.get("deleting"))
    with _clouds_stay(), db_api.writer(ctx) as session:
        # First of all: from here on until the end the row is ours, and all that is read is current.
        raised = session.execute(
            _raise_generation(deletion, generation is not None),
            {"stack": stack_id} | ({} if generation is None else {"expected": generation}),
        )
        if limits is not None and ("count" in values or members):
            db_quotas.lock(session, limits[0])
        stack = _load(session, stack_id)
        if raised.rowcount != 1:
            if stack.deleting and not deletion:
                raise exception.StackDeleting(stack=stack.name)
            raise exception.ConcurrentUpdate(
                stack=stack.name, current=stack.generation, wanted=generation
            )
        wanted_before = _wanted(stack)
        moment = db_api.now(session)
        values |= {
            "updated_at": moment,
            "due_at": moment,
            "request_id": ctx.request_id,
            "status": "DELETING" if deletion else "CONVERGING",
            "status_reason": "Waiting for an engine.",
        }
        session.execute(_WRITE, {**values, "stack": stack_id})
        # What failed before may go well now, and who fought before may have come to terms.
        anew = dict(ANEW)
        if members or "failover_rule" in values or "min_clouds" in values:
            # What a user changed about the distribution ends the floors of a failover.
            anew["floor"] = None
        session.execute(_WRITE_MEMBERS, {**anew, "stack": stack_id})
        owned = stack.template is not None
        existing = {member.cloud_id: member.id for member in stack.members}
        position = max((member.position for member in stack.members), default=-1) + 1
        for cloud_id, columns in (members or {}).items():
            if cloud_id in existing:
                if columns:
                    session.execute(_WRITE_MEMBER, {**columns, "member": existing[cloud_id]})
            else:
                joins = {**columns, "cloud_id": cloud_id}
                session.execute(_JOIN, _member(stack_id, position, owned, joins))
                position += 1
        count, places = stack.count, len(stack.members)
        stack = _load(session, stack_id)
        if limits is not None:
            # Whoever has too much already may have less, and change the rest.
            grown = ["units"] * (stack.count > count) + ["members"] * (len(stack.members) > places)
            if grown:
                db_quotas.check(session, stack.project_id, limits[1], *grown)
        db_events.add_event(
            session,
            ctx,
            event,
            _difference(wanted_before, _wanted(stack)),
            stack=stack,
            before=wanted_before,
            after=_wanted(stack),
        )
        return stack


@db_api.retry
def check_stack(ctx: context.RequestContext, stack_id: str) -> models.Stack:
    """Have each Heat asked to compare its records with what exists; due at once.

    :raises StackDeleting: the stack is on its way out
    """
    with db_api.writer(ctx) as session:
        stack = _ask(session, stack_id, {})
        session.execute(_CHECK_MEMBERS, {"stack": stack_id})
        db_events.add_event(session, ctx, "stack.check", "Check asked for.", stack=stack)
        return _load(session, stack_id)


@db_api.retry
def retry_stack(ctx: context.RequestContext, stack_id: str) -> models.Stack:
    """Forget what failed, did not fit, was fought over or is missing; due at once.

    :raises StackDeleting: the stack is on its way out
    """
    with db_api.writer(ctx) as session:
        # Who waits must not take the trouble of before for the outcome.
        values = {
            "request_id": ctx.request_id,
            "status": "CONVERGING",
            "status_reason": "Waiting for an engine.",
        }
        stack = _ask(session, stack_id, values)
        over = list(itertools.chain.from_iterable(map(_trouble, stack.members)))
        session.execute(_WRITE_MEMBERS, {**RETRIED, "stack": stack_id})
        db_events.add_event(
            session,
            ctx,
            "stack.retry",
            f"Retry asked for{': ' if over else ''}{'; '.join(over)[:2000]}.",
            stack=stack,
        )
        return _load(session, stack_id)


@db_api.retry
def force_failover(ctx: context.RequestContext, stack_id: str) -> models.Stack:
    """Have it fail over from what is unreachable now, whatever the brake says; due at once.

    :raises StackDeleting: the stack is on its way out
    """
    with db_api.writer(ctx) as session:
        stack = _ask(session, stack_id, {"forced_at": db_api.now(session)})
        away = [m.cloud.name for m in stack.members if m.cloud.verdict == "unreachable"]
        db_events.add_event(
            session,
            ctx,
            "stack.force-failover",
            f"Failover forced: {', '.join(away) or 'no cloud'} unreachable at this time.",
            stack=stack,
            after=away,
        )
        return stack


@db_api.retry
def failback(ctx: context.RequestContext, stack_id: str) -> models.Stack:
    """Have units go back to clouds that are healthy again, without any more waiting; due at once.

    :raises StackDeleting: the stack is on its way out
    """
    with db_api.writer(ctx) as session:
        stack = _ask(session, stack_id, {})
        back = [m for m in stack.members if m.out_since and m.cloud.verdict == "healthy"]
        for member in back:
            session.execute(_WRITE_MEMBER, {"recalled": True, "member": member.id})
        names = ", ".join(m.cloud.name for m in back) or "no cloud"
        db_events.add_event(
            session,
            ctx,
            "stack.recall",
            f"Failback asked for: {names} healthy again at this time.",
            stack=stack,
            after=[m.cloud.name for m in back],
        )
        return _load(session, stack_id)


def _ask(session: orm.Session, stack_id: str, values: Mapping[str, Any]) -> models.Stack:
    """The stack, locked and due, with these columns; what is wanted of it stays as it is."""
    due = {"due_at": db_api.now(session)}
    session.execute(_WRITE, {**due, **values, "stack": stack_id})
    stack = _load(session, stack_id)
    if stack.deleting:
        raise exception.StackDeleting(stack=stack.name)
    return stack


def _trouble(member: models.Member) -> Iterator[str]:
    """What a retry ends, in words."""
    cloud = member.cloud.name
    if member.capacity is not None:
        yield f"{cloud} is no longer taken for full at {member.capacity}"
    if member.conflict:
        yield f"{cloud} is no longer left to others"
    if member.missing_since is not None:
        yield f"the Heat stack in {cloud} may be created again"


# What a member has learned of refusals and of changes by others, before it has learned anything.
ANEW: Mapping[str, Any] = {
    "failures": 0,
    "retry_at": None,
    "capacity": None,
    "full_until": None,
    "fulls": 0,
    "drifts": 0,
    "drifted_at": None,
    "conflict": False,
}
# The same after a retry, which also has a Heat stack made anew that somebody deleted.
RETRIED: Mapping[str, Any] = {**ANEW, "problem": "", "missing_since": None}


def _member(
    stack_id: str, position: int, owned: bool, columns: Mapping[str, Any]
) -> dict[str, Any]:
    """A new member; with a template its Heat stack is ours, without one it is taken over."""
    place = {"id": uuidutils.generate_uuid(), "stack_id": stack_id, "position": position}
    return {**place, "owned": owned, **columns}


def _load(session: orm.Session, stack_id: str) -> Any:
    """One stack with all that belongs to it, as it is now."""
    query = _one_stack(_WHOLE, "id", of_project=False)
    for stack in _read(session.connection(), query, _WHOLE, {"stack": stack_id}):
        return stack
    raise exception.StackNotFound(stack=stack_id)


def load_to_reconcile(session: orm.Session, stack_ids: Sequence[str]) -> list[Any]:
    """Stacks as a round needs them, in any order: all but template, environment and files."""
    return _read(session.connection(), _TO_RECONCILE, _RECONCILED, {"stack_ids": stack_ids})


def _wanted(stack: models.Stack) -> dict[str, Any]:
    """The part of a stack that users argue about, small enough to keep with every event."""
    members: dict[str, Any] = {}
    for member in stack.members:
        # A project's own cloud and a shared one may have the same name.
        label = member.cloud_id if member.cloud.name in members else member.cloud.name
        members[label] = {
            "weight": member.weight,
            "minimum": member.minimum,
            "maximum": member.maximum,
            "leaving": member.leaving,
        }
    return {
        "count": stack.count,
        "count_parameter": stack.count_parameter,
        "failover": {"rule": stack.failover_rule, "toleration": stack.failover_toleration},
        "failback": {
            "mode": stack.failback_mode,
            "stable": stack.failback_stable,
            "batch": stack.failback_batch,
        },
        "rebalance": {"mode": stack.rebalance_mode, "step": stack.rebalance_step},
        "repair": {
            "drift": stack.on_drift,
            "missing": stack.on_missing,
            "stuck": stack.on_stuck,
        },
        "deleting": stack.deleting,
        "release": stack.release,
        "forget": stack.forget,
        "members": members,
    }


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What a user changed, in words: "Changed: count from 10 to 12; weight of east from 0.6 to 0.5"."""
    if after["deleting"]:
        how = [
            words
            for flag, words in (
                ("release", "all Heat stacks are left as they are"),
                ("forget", "clouds out of sight are not waited for"),
            )
            if after[flag] and not before[flag]
        ]
        again = " again" if before["deleting"] else ""
        return f"Deletion asked for{again}{': ' if how else ''}{'; '.join(how)}."
    changes = [
        f"{key.replace('_', ' ')} from {before[key]} to {after[key]}"
        for key in ("count", "count_parameter")
        if before[key] != after[key]
    ]
    changes += [group for group in ("failover", "failback") if before[group] != after[group]]
    for group, words in (("rebalance", "rebalance"), ("repair", "repair of")):
        changes += [
            f"{words} {key} from {before[group][key]} to {value}"
            for key, value in after[group].items()
            if before[group][key] != value
        ]
    for cloud, wanted in after["members"].items():
        was = before["members"].get(cloud)
        if was is None:
            changes.append(f"{cloud} joins with weight {wanted['weight']}")
        elif wanted["leaving"] and not was["leaving"]:
            changes.append(f"{cloud} is to leave")
        else:
            changes += [
                f"{key} of {cloud} from {was[key]} to {wanted[key]}"
                for key in ("weight", "minimum", "maximum")
                if was[key] != wanted[key]
            ]
    return f"Changed: {'; '.join(changes)[:2000]}." if changes else "Other settings changed."


@contextlib.contextmanager
def _clouds_stay() -> Iterator[None]:
    """A member can come in between the look at its cloud and that cloud's removal."""
    try:
        yield
    except db_exc.DBReferenceError:
        raise exception.Conflict(
            reason="a cloud was removed in the meantime; list the clouds and try again"
        ) from None
