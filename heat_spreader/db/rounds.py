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

"""The engine's side of stacks: which are due, who works on them, and what came of it.

Every write of a round is conditional on the epoch of its claim.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import stacks as db_stacks

# Without the ORM, and put together once: half of a round's time was spent on that.
_STACKS: Any = models.Stack.__table__
_MEMBERS: Any = models.Member.__table__
_THIS_STACK = _STACKS.c.id == sa.bindparam("stack")
_THESE_STACKS = _STACKS.c.id.in_(sa.bindparam("stack_ids", expanding=True))
_FREE = sa.or_(_STACKS.c.claimed_until.is_(None), _STACKS.c.claimed_until < sa.bindparam("moment"))
_DUE = (
    sa.select(_STACKS.c.id, _STACKS.c.claimed_until)
    .where(_STACKS.c.due_at <= sa.bindparam("moment"), _FREE)
    .order_by(_STACKS.c.due_at)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_DUE_LOCKED = _DUE.with_for_update(skip_locked=True)
_OTHERS_DUE_LOCKED = _DUE.where(
    _STACKS.c.project_id.not_in(sa.bindparam("projects", expanding=True))
).with_for_update(skip_locked=True)
_FREE_LOCKED = (
    sa.select(_STACKS.c.id, _STACKS.c.claimed_until)
    .where(_THIS_STACK, _FREE)
    .with_for_update(skip_locked=True)
)
_CLAIM = (
    sa.update(_STACKS)
    .where(_THESE_STACKS)
    .values(
        claimed_by=sa.bindparam("owner"),
        claimed_until=sa.bindparam("until"),
        claim_epoch=_STACKS.c.claim_epoch + 1,
    )
)
_HELD = sa.and_(_THIS_STACK, _STACKS.c.claim_epoch == sa.bindparam("epoch"))
_HOLD = sa.select(_STACKS.c.claim_epoch).where(_HELD).with_for_update()
_RENEW = (
    sa.update(_STACKS)
    .where(_HELD, _STACKS.c.claimed_until >= sa.bindparam("moment"))
    .values(claimed_until=sa.bindparam("until"))
)
_RELEASE = (
    sa.update(_STACKS)
    .where(_HELD)
    .values(
        claim_epoch=_STACKS.c.claim_epoch + 1,
        claimed_until=sa.bindparam("until"),
        due_at=sa.bindparam("moment"),
    )
)
_WRITE = sa.update(_STACKS).where(_THIS_STACK)
_WRITE_UNTOUCHED = sa.update(_STACKS).where(
    _HELD,
    _STACKS.c.generation == sa.bindparam("wanted"),
    _STACKS.c.request_id == sa.bindparam("request"),
    _STACKS.c.due_at == sa.bindparam("due"),
)
_WRITE_MEMBER = sa.update(_MEMBERS).where(_MEMBERS.c.id == sa.bindparam("member"))
_FORGET = sa.delete(_STACKS).where(_THIS_STACK)
_FORGET_MEMBERS = sa.delete(_MEMBERS).where(_MEMBERS.c.stack_id == sa.bindparam("stack"))
_FORGET_MEMBER = sa.delete(_MEMBERS).where(_MEMBERS.c.id == sa.bindparam("member"))
_BURY = sa.insert(models.Tombstone)
_NUDGE = sa.update(_STACKS).where(_THESE_STACKS).values(due_at=sa.bindparam("moment"))
_WANTED_NOW = sa.select(_STACKS.c.generation, _STACKS.c.request_id, _STACKS.c.due_at).where(
    _THIS_STACK
)
_DROP_FLOORS = (
    sa.update(_MEMBERS)
    .where(_MEMBERS.c.stack_id.in_(sa.bindparam("stack_ids", expanding=True)))
    .values(floor=None)
)
_BRAKE: Any = models.Brake.__table__
_BRAKES = sa.select(_BRAKE).where(_BRAKE.c.scope.in_(sa.bindparam("scopes", expanding=True)))
_STACKS_IN = sa.select(_MEMBERS.c.stack_id).where(_MEMBERS.c.cloud_id == sa.bindparam("cloud"))
_OWNERS = sa.select(
    _MEMBERS.c.stack_id,
    _MEMBERS.c.heat_stack_id,
    _MEMBERS.c.heat_status,
    _MEMBERS.c.heat_updated_time,
).where(
    _MEMBERS.c.cloud_id == sa.bindparam("cloud"),
    _MEMBERS.c.heat_stack_id.in_(sa.bindparam("heat_stack_ids", expanding=True)),
)


@db_api.retry
def due_stacks(ctx: context.RequestContext, limit: int) -> list[str]:
    """Ids of stacks whose time has come and that no engine holds, the longest waiting first."""
    with db_api.reader(ctx) as session:
        due = {"moment": db_api.now(session), "limit": limit}
        return [row.id for row in session.connection().execute(_DUE, due)]


@dataclasses.dataclass(frozen=True)
class Claim:
    """The right to run rounds of one stack.

    :ivar stack: the stack as claimed, with its new ``claim_epoch``; without template, environment and
        files
    :ivar moment: the database's time of the claim
    :ivar interrupted: the last holder never gave its claim back, so it may have died in mid-write
    :ivar brakes: those that are for the stack's project: its own, that of the shared clouds, or none
    """

    stack: models.Stack
    moment: datetime.datetime
    interrupted: bool
    brakes: Sequence[Any] = ()


@db_api.retry
def claim_due(
    ctx: context.RequestContext,
    owner: str,
    lease: float,
    limit: int,
    but: Sequence[str] = (),
) -> list[Claim]:
    """Take the right to run rounds of up to ``limit`` stacks that are due, the longest waiting first.

    Engines that ask at the same moment get different stacks, and none waits for another.

    :param but: none of these projects
    """
    with db_api.writer(ctx) as session:
        if but:
            which = {"limit": limit, "projects": list(but)}
            return _claim(session, _OTHERS_DUE_LOCKED, which, owner, lease)
        return _claim(session, _DUE_LOCKED, {"limit": limit}, owner, lease)


@db_api.retry
def claim_stack(
    ctx: context.RequestContext, stack_id: str, owner: str, lease: float
) -> Claim | None:
    """Take the right to run rounds of this stack for ``lease`` seconds; None if another holds it.

    It is also None while somebody writes to the stack: whoever does that makes it due.
    """
    with db_api.writer(ctx) as session:
        claims = _claim(session, _FREE_LOCKED, {"stack": stack_id}, owner, lease)
        return claims[0] if claims else None


def _claim(
    session: orm.Session,
    wanted: sa.Select[Any],
    which: Mapping[str, Any],
    owner: str,
    lease: float,
) -> list[Claim]:
    connection = session.connection()
    moment = db_api.now(session)
    # Locked before anything else is read, so that all that is read is current; SQLite has no locks
    # for rows and needs none: the transaction has the database for itself.
    expired = {
        row.id: row.claimed_until
        for row in connection.execute(wanted, {"moment": moment, **which})
    }
    if not expired:
        return []
    until = moment + datetime.timedelta(seconds=lease)
    connection.execute(_CLAIM, {"stack_ids": [*expired], "owner": owner, "until": until})
    stacks = {stack.id: stack for stack in db_stacks.load_to_reconcile(session, [*expired])}
    scopes = {"", *(stack.project_id for stack in stacks.values())}
    brakes = connection.execute(_BRAKES, {"scopes": [*scopes]}).all()
    return [
        Claim(
            stacks[stack_id],
            moment,
            interrupted=lease_end is not None,
            brakes=[b for b in brakes if b.scope in ("", stacks[stack_id].project_id)],
        )
        for stack_id, lease_end in expired.items()
    ]


@db_api.retry
def release_claims(
    ctx: context.RequestContext, claims: Iterable[models.Stack], *, interrupted: bool
) -> None:
    """Give back what was claimed and will not be worked on, so that nobody waits for the lease.

    :param interrupted: a round had begun and may have written to a cloud: whoever comes next has to
        look, and what the round still has to say is no longer heard
    """
    with db_api.writer(ctx) as session:
        moment = db_api.now(session)
        # SQLite's clock counts milliseconds, and whoever comes next may come within this one.
        past = moment - datetime.timedelta(milliseconds=1)
        for stack in claims:
            session.connection().execute(
                _RELEASE,
                {
                    "stack": stack.id,
                    "epoch": stack.claim_epoch,
                    "until": past if interrupted else None,
                    "moment": moment,
                },
            )


@db_api.retry
def renew_claim(ctx: context.RequestContext, stack: models.Stack, lease: float) -> bool:
    """Hold the claim for another ``lease`` seconds; False when it is lost."""
    with db_api.writer(ctx) as session:
        moment = db_api.now(session)
        renewed = session.connection().execute(
            _RENEW,
            {
                "stack": stack.id,
                "epoch": stack.claim_epoch,
                "moment": moment,
                "until": moment + datetime.timedelta(seconds=lease),
            },
        )
        return renewed.rowcount == 1


@db_api.retry
def save_members(
    ctx: context.RequestContext,
    stack: models.Stack,
    members: Mapping[str, Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]] = (),
) -> bool:
    """Store what was seen of or done to members in mid-round; False when the claim is lost."""
    with db_api.writer(ctx) as session:
        if not _holds_claim(session, stack):
            return False
        _write_members(session, members)
        db_events.add_events(session, ctx, stack, events)
        return True


@db_api.retry
def save_round(
    ctx: context.RequestContext,
    stack: models.Stack,
    *,
    values: Mapping[str, Any],
    members: Mapping[str, Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    due_in: float | None,
) -> bool:
    """Store a round and give the claim back, in one transaction; False when the claim is lost.

    A change or a retry that a user asked for during the round keeps its status and makes the stack
    due at once.

    :param stack: the stack as claimed: its epoch, generation and request are checked
    :param members: member id to columns
    :param due_in: seconds until the next round
    """
    values = {"claimed_by": None, "claimed_until": None, **values}
    with db_api.writer(ctx) as session:
        moment = db_api.now(session)
        next_round = None if due_in is None else moment + datetime.timedelta(seconds=due_in)
        # Mostly nobody has touched the row since it was claimed, which one UPDATE finds out.
        if not _update_stack(session, stack, values | {"due_at": next_round}, untouched=True):
            if not _holds_claim(session, stack):
                return False
            current = session.connection().execute(_WANTED_NOW, {"stack": stack.id}).one()
            changed = current.generation != stack.generation
            if changed or current.request_id != stack.request_id:
                values["due_at"] = moment
                values.pop("status", None)
                values.pop("status_reason", None)
                # It has also ended all waiting after what failed before it.
                ended = db_stacks.ANEW if changed else db_stacks.RETRIED
                members = {
                    member_id: {
                        column: value for column, value in columns.items() if column not in ended
                    }
                    for member_id, columns in members.items()
                }
            elif current.due_at == stack.due_at:
                values["due_at"] = next_round
            # Otherwise a nudge came during the round: the stack stays due.
            _update_stack(session, stack, values)
        _write_members(session, members)
        db_events.add_events(session, ctx, stack, events, moment)
        return True


def _update_stack(
    session: orm.Session,
    stack: models.Stack,
    values: Mapping[str, Any],
    *,
    untouched: bool = False,
) -> bool:
    """Write to a stack that this engine holds.

    :param untouched: only if nobody else has written to it since it was claimed
    """
    query = _WRITE
    asked: dict[str, Any] = {"stack": stack.id}
    if untouched:
        query = _WRITE_UNTOUCHED
        asked |= {
            "epoch": stack.claim_epoch,
            "wanted": stack.generation,
            "request": stack.request_id,
            "due": stack.due_at,
        }
    return session.connection().execute(query, {**values, **asked}).rowcount == 1


@db_api.retry
def finish_delete(
    ctx: context.RequestContext,
    stack: models.Stack,
    message: str,
    events: Sequence[Mapping[str, Any]] = (),
) -> bool:
    """Forget a stack of which nothing is left in any cloud; False when the claim is lost."""
    with db_api.writer(ctx) as session:
        if not _holds_claim(session, stack):
            return False
        db_events.add_events(session, ctx, stack, events)
        db_events.add_event(session, ctx, "stack.delete.end", message, stack=stack)
        session.connection().execute(_FORGET_MEMBERS, {"stack": stack.id})
        session.connection().execute(_FORGET, {"stack": stack.id})
        return True


@db_api.retry
def forget_member(ctx: context.RequestContext, stack: models.Stack, member: models.Member) -> bool:
    """Remove a member that has left; False when the claim is lost.

    Where a create that was sent for it may be carried out yet, a tombstone stays.

    :raises ConcurrentUpdate: a user has changed the stack since it was claimed, perhaps to make the
        member stay; the next round decides
    """
    with db_api.writer(ctx) as session:
        if not _holds_claim(session, stack):
            return False
        current = session.connection().execute(_WANTED_NOW, {"stack": stack.id}).one().generation
        if current != stack.generation:
            raise exception.ConcurrentUpdate(
                stack=stack.name, current=current, wanted=stack.generation
            )
        forgotten = session.connection().execute(_FORGET_MEMBER, {"member": member.id})
        # When this is tried again, for want of an answer, it may have been done.
        if forgotten.rowcount and member.creating and not stack.release:
            session.connection().execute(
                _BURY,
                {
                    "member_id": member.id,
                    "cloud_id": member.cloud_id,
                    "project_id": stack.project_id,
                    "stack_id": stack.id,
                    "stack_name": stack.name,
                    "created_at": db_api.now(session),
                },
            )
        return True


@db_api.retry
def record_burial(
    ctx: context.RequestContext, cloud: models.Cloud, grave: models.Tombstone, heat_stack_id: str
) -> None:
    """Put on record that a Heat stack is deleted which Heat made when its member was gone."""
    with db_api.writer(ctx) as session:
        db_events.add_event(
            session,
            ctx,
            "member.late",
            f"{cloud.name}: Heat created the Heat stack after the stack had left the cloud; it is deleted.",
            stack=models.Stack(
                id=grave.stack_id, name=grave.stack_name, project_id=grave.project_id
            ),
            cloud=cloud,
            evidence={"heat_stack_id": heat_stack_id},
        )


@db_api.retry
def forget_tombstones(ctx: context.RequestContext, older_than: float) -> None:
    """Drop those that have stood for so many seconds."""
    with db_api.writer(ctx) as session:
        session.execute(
            sa.delete(models.Tombstone).where(
                models.Tombstone.created_at
                < db_api.now(session) - datetime.timedelta(seconds=older_than)
            )
        )


def _holds_claim(session: orm.Session, stack: models.Stack) -> bool:
    """Whether the claim still stands; locks the row, so it stands until the transaction ends."""
    asked = {"stack": stack.id, "epoch": stack.claim_epoch}
    return session.connection().scalar(_HOLD, asked) is not None


def _write_members(session: orm.Session, members: Mapping[str, Mapping[str, Any]]) -> None:
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for member_id, columns in members.items():
        if columns:
            row = {**columns, "member": member_id}
            alike.setdefault(tuple(sorted(columns)), []).append(row)
    for rows in alike.values():
        session.connection().execute(_WRITE_MEMBER, rows)


@db_api.retry
def nudge_stacks(ctx: context.RequestContext, stack_ids: Iterable[str]) -> None:
    """Make these stacks due now."""
    with db_api.writer(ctx) as session:
        nudged = {"stack_ids": list(stack_ids), "moment": db_api.now(session)}
        session.connection().execute(_NUDGE, nudged)


def nudge_cloud(session: orm.Session, cloud_id: str, moment: datetime.datetime) -> None:
    """Make the stacks with a member in this cloud due."""
    # Not with a subquery: for an UPDATE, MariaDB before 11.1 would read, and lock, all the stacks there
    # are. Who joins the cloud in between is due by that.
    connection = session.connection()
    ids = connection.scalars(_STACKS_IN, {"cloud": cloud_id}).all()
    for start in range(0, len(ids), 500):  # keep the IN list within every backend
        connection.execute(_NUDGE, {"stack_ids": ids[start : start + 500], "moment": moment})


def drop_floors(session: orm.Session, cloud_id: str) -> None:
    """End the floors of the stacks with a member in this cloud."""
    connection = session.connection()
    ids = connection.scalars(_STACKS_IN, {"cloud": cloud_id}).all()
    for start in range(0, len(ids), 500):
        connection.execute(_DROP_FLOORS, {"stack_ids": ids[start : start + 500]})


@db_api.retry
def members_of_heat_stacks(
    ctx: context.RequestContext, cloud_id: str, heat_stack_ids: Sequence[str]
) -> list[sa.Row[Any]]:
    """What is stored of the members that own these Heat stacks of one cloud, as far as listings tell."""
    with db_api.reader(ctx) as session:
        found: list[sa.Row[Any]] = []
        for start in range(0, len(heat_stack_ids), 500):  # keep the IN list within every backend
            asked = {"cloud": cloud_id, "heat_stack_ids": heat_stack_ids[start : start + 500]}
            found += session.connection().execute(_OWNERS, asked)
        return found
