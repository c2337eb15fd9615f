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
"""The brake: what is stored of clouds that go away together. Who decides is handed in."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import types
from typing import Any
from typing import Protocol

from oslo_db import exception as db_exc
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds


class Decision(Protocol):
    """The clouds that hold the brake on, of how many; or until when it may be about to be put on."""

    @property
    def clouds(self) -> frozenset[str]: ...
    @property
    def known(self) -> int: ...
    @property
    def hold_until(self) -> datetime.datetime | None: ...


# Decides by rows of clouds, the time, and the clouds that hold the brake on already.
Decide = Callable[[Sequence[Any], datetime.datetime, frozenset[str]], Decision]


@dataclasses.dataclass(frozen=True)
class Change:
    """The brake of one scope was put on or taken off."""

    scope: str
    engaged: bool
    reason: str


_CLOUDS: Any = models.Cloud.__table__
_GIVEN = sa.select(models.CloudProject.project_id, models.CloudProject.cloud_id)
_LOOKED_AT = sa.select(
    _CLOUDS.c.id,
    _CLOUDS.c.name,
    _CLOUDS.c.project_id,
    _CLOUDS.c.shared,
    _CLOUDS.c.verdict,
    _CLOUDS.c.verdict_since,
    _CLOUDS.c.verdict_rule,
    _CLOUDS.c.lost,
)
_BRAKES: Any = models.Brake.__table__
_LOCK = sa.select(_BRAKES.c.scope).where(_BRAKES.c.scope == "").with_for_update()
_CREATE = sa.insert(_BRAKES)
_WRITE = sa.update(_BRAKES).where(_BRAKES.c.scope == sa.bindparam("which"))
_STORED = sa.select(_BRAKES)


def lock(session: orm.Session) -> None:
    """From here until the end of the transaction nobody else changes verdicts or brakes."""
    if session.scalar(_LOCK) is not None:
        return
    try:
        session.execute(_CREATE, {"scope": ""})
    except db_exc.DBDuplicateEntry as error:
        # Somebody else was first: begin again.
        raise db_exc.DBDeadlock(error) from None


def settle(session: orm.Session, ctx: context.RequestContext, decide: Decide) -> list[Change]:
    """Put brakes on and take them off as the clouds are now; needs the lock.

    A project whose own clouds, or those that it was given, fail together with shared ones has a brake
    of its own, so that nobody can put on that of others by registering clouds.
    """
    moment = db_api.now(session)
    rows = session.execute(_LOOKED_AT).all()
    stored = {row.scope: row for row in session.execute(_STORED)}
    shared = [row for row in rows if row.shared]
    # The other clouds that each project may use.
    others: dict[str, set[str]] = {scope: set() for scope in stored if scope}
    for row in rows:
        if not row.shared:
            others.setdefault(row.project_id, set()).add(row.id)
    for given in session.execute(_GIVEN):
        others.setdefault(given.project_id, set()).add(given.cloud_id)
    changes = list(_settle(session, ctx, "", shared, stored, decide, moment))
    everybodys = changes[0].engaged if changes else stored[""].engaged_at is not None
    for project in sorted(others):
        if not (everybodys and project not in stored):
            seen = shared + [r for r in rows if not r.shared and r.id in others[project]]
            changes += _settle(session, ctx, project, seen, stored, decide, moment)
    return changes


def _settle(
    session: orm.Session,
    ctx: context.RequestContext,
    scope: str,
    clouds: Sequence[Any],
    stored: Mapping[str, Any],
    decide: Decide,
    moment: datetime.datetime,
) -> Iterable[Change]:
    row = stored.get(scope)
    was = frozenset(row.clouds) if row is not None and row.engaged_at else frozenset()
    decided = decide(clouds, moment, was)
    if (decided.clouds, decided.hold_until) == (was, row.hold_until if row else None):
        return
    values: dict[str, Any] = {
        "clouds": sorted(decided.clouds),
        "hold_until": decided.hold_until,
    }
    names = ", ".join(f"'{c.name}'" for c in clouds if c.id in decided.clouds or c.id in was)
    said = ""
    if decided.clouds and not was:
        said = (
            f"The brake is on: {len(decided.clouds)} of {decided.known} clouds went away at once "
            f"({names}), which may be a mistake. Nothing moves by itself until they are back or an "
            "administrator forces it."
        )
        values |= {"engaged_at": moment, "reason": said}
    elif was and not decided.clouds:
        values |= {"engaged_at": None, "released_at": moment, "reason": ""}
        said = f"The brake is off: of the clouds that went away at once ({names}) enough are back."
    if row is None:
        session.execute(_CREATE, {"scope": scope, **values})
    else:
        session.execute(_WRITE, {**values, "which": scope})
    if not said:
        return
    # It is told to the project, whosever the clouds are.
    own = next(
        (
            types.SimpleNamespace(id=c.id, name=c.name, shared=False, project_id=scope)
            for c in clouds
            if scope and not c.shared
        ),
        None,
    )
    db_events.add_event(
        session,
        ctx,
        "brake.engaged" if decided.clouds else "brake.released",
        said,
        cloud=own,  # type: ignore[arg-type]
        before=sorted(c.name for c in clouds if c.id in was),
        after=sorted(c.name for c in clouds if c.id in decided.clouds),
        evidence={
            c.name: {
                "verdict": c.verdict,
                "since": c.verdict_since.isoformat() if c.verdict_since else None,
                "rule": c.verdict_rule,
            }
            for c in clouds
        },
    )
    for cloud in clouds:
        db_rounds.nudge_cloud(session, cloud.id, moment)
    yield Change(scope, bool(decided.clouds), said)


@db_api.retry
def settle_brakes(ctx: context.RequestContext, decide: Decide) -> list[Change]:
    """The same in a transaction of its own, for what changed otherwise than by a verdict."""
    with db_api.writer(ctx) as session:
        lock(session)
        return settle(session, ctx, decide)


@db_api.retry
def list_brakes(ctx: context.RequestContext) -> Mapping[str, models.Brake]:
    """All brakes that were ever put on, by their scopes."""
    with db_api.reader(ctx) as session:
        return {row.scope: row for row in session.execute(_STORED)}
