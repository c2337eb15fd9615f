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

"""Clouds, and what engines have seen of them: observations and verdicts."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import types
from typing import Any
from typing import NamedTuple

from oslo_db import exception as db_exc
from oslo_utils import uuidutils
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import brakes as db_brakes
from heat_spreader.db import credentials as db_credentials
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import quotas as db_quotas
from heat_spreader.db import rounds as db_rounds


@db_api.retry
def create_cloud(
    ctx: context.RequestContext,
    values: Mapping[str, Any],
    *,
    credential: Mapping[str, Any] | None = None,
    projects: Iterable[str] = (),
    limits: Mapping[str, int] | None = None,
) -> models.Cloud:
    """Store a new cloud.

    :param credential: columns of the credential it is reached with, which an engine tries at once
    :param projects: that may use it besides its own
    :param limits: the default quota; None: as much as one likes
    :raises QuotaExceeded: the project may have no more clouds
    :raises CloudExists: the project has a cloud of that name
    """
    with (
        db_api.duplicate(exception.CloudExists(name=values["name"])),
        db_api.writer(ctx) as session,
    ):
        if limits is not None:
            db_quotas.lock(session, values["project_id"])
        moment = db_api.now(session)
        cloud_id = uuidutils.generate_uuid()
        times = {"created_at": moment, "updated_at": moment}
        if credential is not None:
            values = {**values, "credential_id": credential["id"]}
        session.execute(_CREATE, {"id": cloud_id, **values, **times})
        cloud = session.execute(_THE_CLOUD, {"cloud": cloud_id}).one()
        if credential is not None:
            db_credentials.add(session, ctx, cloud, credential, moment)
            db_credentials.ask_trial(session, cloud_id, moment)
        _let_use(session, cloud_id, projects)
        if limits is not None:
            db_quotas.check(session, cloud.project_id, limits, "clouds")
        db_events.add_event(
            session, ctx, "cloud.create", f"Cloud '{cloud.name}' registered.", cloud=cloud
        )
        return cloud


# These are asked all the time, by every observer some of them, so they are put together once; and they
# give plain rows, as entities take longer to make than the rows to find.
_CLOUDS: Any = models.Cloud.__table__
_CREATE = sa.insert(_CLOUDS)
_UPDATE = sa.update(_CLOUDS).where(_CLOUDS.c.id == sa.bindparam("cloud"))
_THE_CLOUD = sa.select(_CLOUDS).where(_CLOUDS.c.id == sa.bindparam("cloud")).with_for_update()
# A project sees its own clouds, those it was given and the shared ones; None sees all.
_GIVEN: Any = models.CloudProject.__table__
_VISIBLE = sa.or_(
    _CLOUDS.c.project_id == sa.bindparam("project"),
    _CLOUDS.c.shared.is_(True),
    _CLOUDS.c.id.in_(
        sa.select(_GIVEN.c.cloud_id).where(_GIVEN.c.project_id == sa.bindparam("project"))
    ),
)
_ALL = sa.select(_CLOUDS).order_by(_CLOUDS.c.name, _CLOUDS.c.id)
_NAMED = sa.select(_CLOUDS).where(
    sa.or_(_CLOUDS.c.id == sa.bindparam("cloud"), _CLOUDS.c.name == sa.bindparam("cloud"))
)
_NAMED_AND_VISIBLE = _NAMED.where(_VISIBLE)


def _let_use(session: orm.Session, cloud_id: str, projects: Iterable[str]) -> None:
    """Let these projects use a cloud, and no others besides its own."""
    session.execute(sa.delete(_GIVEN).where(_GIVEN.c.cloud_id == cloud_id))
    rows = [{"cloud_id": cloud_id, "project_id": each} for each in sorted(set(projects))]
    if rows:
        session.execute(sa.insert(_GIVEN), rows)


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What an event tells of how a cloud is reached: not the handle of a trust, nor pages of text."""
    return {
        name: value if name != "cacert" else "given"
        for name, value in settings.items()
        if name != "trust_id"
    }


@db_api.retry
def list_cloud_projects(
    ctx: context.RequestContext, cloud_ids: Iterable[str]
) -> dict[str, list[str]]:
    """The projects that were given each of these clouds, without its own."""
    found: dict[str, list[str]] = {cloud_id: [] for cloud_id in cloud_ids}
    with db_api.reader(ctx) as session:
        query = sa.select(_GIVEN).where(_GIVEN.c.cloud_id.in_(list(found)))
        for row in session.execute(query.order_by(_GIVEN.c.project_id)):
            found[row.cloud_id].append(row.project_id)
    return found


@db_api.retry
def get_cloud(ctx: context.RequestContext, cloud: str, project_id: str | None) -> models.Cloud:
    """One cloud by id or name; a project's own cloud hides a shared one of the same name.

    :raises CloudNotFound: nothing there that the project can see
    :raises AmbiguousName: several carry the name
    """
    with db_api.reader(ctx) as session:
        query = _NAMED if project_id is None else _NAMED_AND_VISIBLE
        found = session.execute(query, {"cloud": cloud, "project": project_id}).all()
        for preferred in (
            [row for row in found if row.id == cloud],
            [row for row in found if row.project_id == project_id],
            found,
        ):
            if len(preferred) > 1:
                raise exception.AmbiguousName(name=cloud)
            if preferred:
                return preferred[0]
        raise exception.CloudNotFound(cloud=cloud)


@db_api.retry
def list_clouds(
    ctx: context.RequestContext,
    project_id: str | None,
    *,
    name: str | None = None,
    verdict: str | None = None,
    limit: int | None = None,
    marker: str | None = None,
) -> list[models.Cloud]:
    """Clouds by name. :raises CloudNotFound: the marker is no cloud that the project can see"""
    with db_api.reader(ctx) as session:
        visible = {"project": project_id}
        query = _ALL if project_id is None else _ALL.where(_VISIBLE)
        after = None
        if marker is not None:
            after = session.execute(query.where(_CLOUDS.c.id == marker), visible).one_or_none()
            if after is None:
                raise exception.CloudNotFound(cloud=marker)
        if name is not None:
            query = query.where(_CLOUDS.c.name == name)
        if verdict is not None:
            query = query.where(_CLOUDS.c.verdict == verdict)
        if after is not None:
            later = sa.and_(_CLOUDS.c.name == after.name, _CLOUDS.c.id > after.id)
            query = query.where(sa.or_(_CLOUDS.c.name > after.name, later))
        if limit is not None:
            query = query.limit(limit)
        return list(session.execute(query, visible).all())


@db_api.retry
def update_cloud(
    ctx: context.RequestContext,
    cloud_id: str,
    values: Mapping[str, Any],
    *,
    credential: Mapping[str, Any] | None = None,
    projects: Iterable[str] | None = None,
    event: str = "cloud.update",
) -> models.Cloud:
    """Change a cloud and wake the stacks in it.

    :param credential: columns of another credential, with which it is reached from now on
    :param projects: that may use it from now on besides its own
    :raises CloudNotFound: it is gone
    :raises CloudExists: the new name is taken
    """
    with (
        db_api.duplicate(exception.CloudExists(name=values.get("name", ""))),
        db_api.writer(ctx) as session,
    ):
        asked = {"cloud": cloud_id}
        cloud = session.execute(_THE_CLOUD, asked).one_or_none()
        if cloud is None:
            raise exception.CloudNotFound(cloud=cloud_id)
        before = {column: _plain(getattr(cloud, column)) for column in values}
        after = {column: _plain(value) for column, value in values.items()}
        moment = db_api.now(session)
        if credential is not None:
            # That they changed is on record, and what can be shown of them; never what they are.
            old = session.get(models.Credential, cloud.credential_id or "")
            before["credentials"] = _shown(old.settings) if old else None
            after["credentials"] = _shown(credential["settings"])
            db_credentials.add(session, ctx, cloud, credential, moment)
            db_credentials.ask_trial(session, cloud_id, moment)
            values = {**values, "credential_id": credential["id"]}
        if projects is not None:
            given = sa.select(_GIVEN.c.project_id).where(_GIVEN.c.cloud_id == cloud_id)
            before["projects"] = sorted(session.scalars(given))
            after["projects"] = sorted(set(projects))
            _let_use(session, cloud_id, projects)
        session.execute(_UPDATE, {**values, "updated_at": moment, **asked})
        cloud = session.execute(_THE_CLOUD, asked).one()
        if values.get("lost") and not before["lost"]:
            db_rounds.drop_floors(session, cloud_id)
        db_rounds.nudge_cloud(session, cloud_id, cloud.updated_at)
        db_events.add_event(
            session,
            ctx,
            event,
            f"Changed: {', '.join(sorted(after))}.",
            cloud=cloud,
            before=before,
            after=after,
        )
        return cloud


def _plain(value: Any) -> Any:
    """As an event keeps it."""
    return value.isoformat() if isinstance(value, datetime.datetime) else value


@db_api.retry
def end_planned(ctx: context.RequestContext) -> list[str]:
    """Lift the cordons and end the drains whose time is over; says which, in words."""
    ended = []
    with db_api.reader(ctx) as session:
        moment = db_api.now(session)
        over = session.execute(_OVER, {"moment": moment}).all()
    for row in over:
        for flag, said in (("cordoned", "The cordon"), ("draining", "The drain")):
            until = getattr(row, f"{flag}_until")
            if not getattr(row, flag) or until is None or until > moment:
                continue
            with db_api.writer(ctx) as session:
                # Unless somebody has just decided otherwise, or another engine was first.
                changed = session.execute(
                    sa.update(_CLOUDS)
                    .where(_CLOUDS.c.id == row.id, _CLOUDS.c[f"{flag}_until"] == until)
                    .values({flag: False, f"{flag}_until": None, "updated_at": moment})
                )
                if changed.rowcount != 1:
                    continue
                message = f"{said} of cloud '{row.name}' is over, as was asked for."
                db_events.add_event(session, ctx, f"cloud.{flag}.end", message, cloud=row)
                db_rounds.nudge_cloud(session, row.id, moment)
                ended.append(message)
    return ended


@db_api.retry
def delete_cloud(ctx: context.RequestContext, cloud_id: str) -> None:
    """:raises CloudInUse: members live in it; :raises CloudNotFound: it is gone"""
    with db_api.writer(ctx) as session:
        cloud = session.execute(_THE_CLOUD, {"cloud": cloud_id}).one_or_none()
        if cloud is None:
            raise exception.CloudNotFound(cloud=cloud_id)
        used = session.scalar(
            sa.select(sa.func.count(models.Member.id)).where(models.Member.cloud_id == cloud_id)
        )
        if used:
            raise exception.CloudInUse(cloud=cloud.name, stacks=used)
        db_events.add_event(
            session, ctx, "cloud.delete", f"Cloud '{cloud.name}' removed.", cloud=cloud
        )
        db_credentials.retire(session, cloud_id)
        try:
            session.execute(sa.delete(models.Cloud).where(models.Cloud.id == cloud_id))
        except db_exc.DBReferenceError:
            # A member came in between the count and the delete; the foreign key settles the race.
            raise exception.CloudInUse(cloud=cloud.name, stacks=1) from None


@db_api.retry
def try_cloud(ctx: context.RequestContext, cloud_id: str) -> models.Cloud:
    """Have an engine try again what the credentials are good for. :raises CloudNotFound: it is gone"""
    with db_api.writer(ctx) as session:
        cloud = session.execute(_THE_CLOUD, {"cloud": cloud_id}).one_or_none()
        if cloud is None:
            raise exception.CloudNotFound(cloud=cloud_id)
        db_credentials.ask_trial(session, cloud_id, db_api.now(session))
        db_events.add_event(session, ctx, "cloud.check", "Check asked for.", cloud=cloud)
        return cloud


class Use(NamedTuple):
    """How many members live in a cloud, and how many units they hold there."""

    members: int = 0
    units: int = 0


@db_api.retry
def count_use(
    ctx: context.RequestContext, cloud_ids: Iterable[str], project_id: str | None = None
) -> dict[str, Use]:
    """What of this project, of all for None, is in each of these clouds; nothing for those without."""
    query = (
        sa.select(
            models.Member.cloud_id,
            sa.func.count(models.Member.id),
            sa.func.sum(models.Member.held),
        )
        .where(models.Member.cloud_id.in_(list(cloud_ids)))
        .group_by(models.Member.cloud_id)
    )
    if project_id is not None:
        query = query.join_from(models.Member, models.Stack).where(
            models.Stack.project_id == project_id
        )
    with db_api.reader(ctx) as session:
        return {
            cloud_id: Use(members, int(units))
            for cloud_id, members, units in session.execute(query)
        }


# --- observations and verdicts --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Look:
    """A cloud and all that is known of it, as of the moment an observation was stored.

    :ivar moment: the database's time
    :ivar observations: of all observers, the new one among them
    :ivar adopted: it carries Heat stacks that we took over, which bear no tag of ours
    :ivar graves: its tombstones, by the id of the member
    """

    moment: datetime.datetime
    cloud: models.Cloud
    observations: Sequence[Any]
    adopted: bool
    graves: Mapping[str, models.Tombstone]


_SEEN: Any = models.Observation.__table__
_MEMBERS: Any = models.Member.__table__
_TOMBSTONES: Any = models.Tombstone.__table__
_ADOPTED = sa.exists().where(
    _MEMBERS.c.cloud_id == sa.bindparam("cloud"), _MEMBERS.c.owned.is_(False)
)
_BURIED = sa.exists().where(_TOMBSTONES.c.cloud_id == sa.bindparam("cloud"))
_BESIDE = sa.select(_ADOPTED.label("adopted"), _BURIED.label("buried"))
_OBSERVATIONS = sa.select(_SEEN, _ADOPTED.label("adopted"), _BURIED.label("buried")).where(
    _SEEN.c.cloud_id == sa.bindparam("cloud")
)
_SEE_FIRST = sa.insert(_SEEN)
_SEE_AGAIN = sa.update(_SEEN).where(
    _SEEN.c.cloud_id == sa.bindparam("cloud"), _SEEN.c.observer == sa.bindparam("by")
)
_SEEN_OF = sa.select(_SEEN).where(_SEEN.c.cloud_id.in_(sa.bindparam("cloud_ids", expanding=True)))
_HAS_ADOPTED = sa.select(_ADOPTED.label("adopted"))
_GRAVES = sa.select(_TOMBSTONES).where(_TOMBSTONES.c.cloud_id == sa.bindparam("cloud"))
_OVER = sa.select(_CLOUDS).where(
    sa.or_(
        _CLOUDS.c.cordoned_until <= sa.bindparam("moment"),
        _CLOUDS.c.draining_until <= sa.bindparam("moment"),
    )
)
_VERDICT = sa.update(_CLOUDS).where(
    _CLOUDS.c.id == sa.bindparam("cloud"), _CLOUDS.c.verdict == sa.bindparam("before")
)


@db_api.retry
def record_observation(
    ctx: context.RequestContext,
    cloud_id: str,
    observer: str,
    *,
    outcome: str,
    detail: str,
    latency_ms: int | None,
    miss: bool,
    good: bool,
    fresh_for: float,
    spacing: float = 0.0,
    zone: str | None = None,
    abstains: str = "",
    expires_in: float | None = None,
    age: Callable[[], float] = lambda: 0.0,
) -> Look | None:
    """Store what one observer saw; runs of misses and goods go on counting.

    A run that was interrupted for longer than ``fresh_for`` seconds starts anew: an engine that was
    away must not add a miss to those of yesterday. Looks that come closer together than ``spacing``
    seconds, because of work under way or of several processes on one host, count once. Who abstains
    counts nothing.

    :param expires_in: of a watchdog: seconds for which its word stands
    :param age: tells how many seconds ago it was seen, when it is about to be stored. What is older
        than what is known of the same observer comes too late and is not stored
    :returns: all that is needed to judge the cloud; None when it is no longer registered
    """
    asked = {"cloud": cloud_id}
    with db_api.writer(ctx) as session:
        # The cloud's row is the lock: a cloud that is locked does not go, and of several processes
        # that observe under one name none loses the count of another.
        cloud = session.execute(_THE_CLOUD, asked).one_or_none()
        if cloud is None:
            return None
        moment = db_api.now(session)
        rows = session.execute(_OBSERVATIONS, asked).all()
        seen_at = moment - datetime.timedelta(seconds=age())
        before = next((row for row in rows if row.observer == observer), None)
        columns = {
            "outcome": outcome,
            "detail": detail,
            "latency_ms": latency_ms,
            "since": before.since if before and before.outcome == outcome else seen_at,
            "observed_at": seen_at,
            "zone": zone,
            "seen_at": seen_at if good else before and before.seen_at,
            "expires_at": None
            if expires_in is None
            else seen_at + datetime.timedelta(seconds=expires_in),
            "abstains": abstains or None,
            **_runs(before, seen_at, fresh_for, spacing, (miss, good), not abstains),
        }
        if before is None:
            session.execute(_SEE_FIRST, {"cloud_id": cloud_id, "observer": observer, **columns})
        elif before.observed_at <= seen_at:
            session.execute(_SEE_AGAIN, {"cloud": cloud_id, "by": observer, **columns})
        else:
            columns = {column: getattr(before, column) for column in columns}
        beside = rows[0] if rows else session.execute(_BESIDE, asked).one()
        graves = session.execute(_GRAVES, asked) if beside.buried else ()
        return Look(
            moment,
            cloud,
            [
                *(row for row in rows if row.observer != observer),
                types.SimpleNamespace(cloud_id=cloud_id, observer=observer, **columns),
            ],
            bool(beside.adopted),
            {grave.member_id: grave for grave in graves},
        )


def _runs(
    before: Any,
    seen_at: datetime.datetime,
    fresh_for: float,
    spacing: float,
    found: tuple[bool, bool],
    counts: bool,
) -> dict[str, Any]:
    """The rows of misses and good answers after one more look."""
    runs: dict[str, Any] = {"counted_at": None}
    for name, this in zip(("misses", "goods"), found, strict=True):
        runs[name] = 0
        if not (this and counts):
            continue
        run = getattr(before, name) if before is not None else 0
        if run and before.observed_at < seen_at - datetime.timedelta(seconds=fresh_for):
            run = 0
        counted_at = before.counted_at if run else None
        if counted_at is None or (seen_at - counted_at).total_seconds() >= spacing:
            run, counted_at = run + 1, seen_at
        runs |= {name: run, "counted_at": counted_at}
    return runs


@db_api.retry
def has_adopted_members(ctx: context.RequestContext, cloud_id: str) -> bool:
    """Whether the cloud carries Heat stacks that we took over, which bear no tag of ours."""
    with db_api.reader(ctx) as session:
        return bool(session.scalar(_HAS_ADOPTED, {"cloud": cloud_id}))


@db_api.retry
def list_observations(
    ctx: context.RequestContext, cloud_ids: Iterable[str]
) -> tuple[datetime.datetime, dict[str, list[models.Observation]]]:
    """The present time and all observations of these clouds, by cloud id."""
    with db_api.reader(ctx) as session:
        found: dict[str, list[Any]] = {cloud_id: [] for cloud_id in cloud_ids}
        for row in session.execute(_SEEN_OF, {"cloud_ids": [*found]}):
            found[row.cloud_id].append(row)
        return db_api.now(session), found


@db_api.retry
def set_verdict(
    ctx: context.RequestContext,
    cloud: models.Cloud,
    verdict: str,
    reason: str,
    evidence: Any,
    rule: str | None = None,
    decide: db_brakes.Decide | None = None,
    more: Mapping[str, Any] | None = None,
) -> bool:
    """Replace the verdict that ``cloud`` carried; False when another engine did so first.

    A new verdict starts a new ``verdict_since``, is an event, and wakes every stack in the cloud. The
    same verdict with another reason only stores the reason.

    :param more: columns that change together with the verdict
    :param decide: whether the brake is put on or taken off by it, before anybody acts on the verdict
    """
    with db_api.writer(ctx) as session:
        if verdict != cloud.verdict:
            # First of all, so that of two clouds that go away at once the second sees the first.
            db_brakes.lock(session)
        moment = db_api.now(session)
        values: dict[str, Any] = {"verdict_reason": reason, "verdict_rule": rule}
        if verdict != cloud.verdict:
            values |= {"verdict": verdict, "verdict_since": moment, **(more or {})}
        changed = session.execute(_VERDICT, {"cloud": cloud.id, "before": cloud.verdict, **values})
        if changed.rowcount != 1:
            return False
        if verdict != cloud.verdict:
            db_rounds.nudge_cloud(session, cloud.id, moment)
            db_events.add_event(
                session,
                ctx,
                "cloud.verdict",
                f"Cloud '{cloud.name}' is {verdict} (was {cloud.verdict}): {reason}",
                cloud=cloud,
                before=cloud.verdict,
                after=verdict,
                evidence=evidence,
            )
            if decide is not None:
                db_brakes.settle(session, ctx, decide)
        return True
