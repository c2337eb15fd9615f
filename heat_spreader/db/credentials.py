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

"""With what clouds are reached: sealed credentials, and trials of what they are good for.

A credential is never changed, so that its id tells whether a connection is still of today. What is
in ``sealed`` only a secret store can read.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import models


def add(
    session: orm.Session,
    ctx: context.RequestContext,
    cloud: models.Cloud,
    values: Mapping[str, Any],
    moment: datetime.datetime,
) -> None:
    """Store new credentials of a cloud within the transaction; those from before are retired.

    The cloud is to name them; whoever calls writes its row.
    """
    retire(session, cloud.id)
    session.add(
        models.Credential(
            cloud_id=cloud.id,
            project_id=cloud.project_id,
            user_id=ctx.user_id or "",
            created_at=moment,
            **values,
        )
    )


def retire(session: orm.Session, cloud_id: str) -> None:
    """Mark what a cloud is reached with, for it to be revoked and forgotten."""
    session.execute(
        sa.update(models.Credential)
        .where(models.Credential.cloud_id == cloud_id)
        .values(retired=True)
        .execution_options(synchronize_session=False)
    )


@db_api.retry
def get_credential(ctx: context.RequestContext, credential_id: str) -> models.Credential:
    """:raises CloudNotFound: it was replaced, or its cloud is gone"""
    with db_api.reader(ctx) as session:
        found = session.get(models.Credential, credential_id)
        if found is None or found.retired:
            raise exception.CloudNotFound(cloud=credential_id)
        return found


@db_api.retry
def list_settings(
    ctx: context.RequestContext, credential_ids: Iterable[str | None]
) -> dict[str, Mapping[str, Any]]:
    """What is no secret of each of these credentials."""
    wanted = [credential_id for credential_id in credential_ids if credential_id]
    if not wanted:
        return {}
    with db_api.reader(ctx) as session:
        rows = session.execute(
            sa.select(models.Credential.id, models.Credential.settings).where(
                models.Credential.id.in_(wanted)
            )
        )
        return {credential_id: settings for credential_id, settings in rows}


@db_api.retry
def list_retired(ctx: context.RequestContext, limit: int) -> Sequence[models.Credential]:
    with db_api.reader(ctx) as session:
        query = sa.select(models.Credential).where(models.Credential.retired.is_(True))
        return session.scalars(query.order_by(models.Credential.created_at).limit(limit)).all()


@db_api.retry
def forget_retired(ctx: context.RequestContext, credential_id: str) -> None:
    with db_api.writer(ctx) as session:
        session.execute(
            sa.delete(models.Credential).where(
                models.Credential.id == credential_id, models.Credential.retired.is_(True)
            )
        )


# --- keys -----------------------------------------------------------------------------------------


@db_api.retry
def count_under_other_keys(ctx: context.RequestContext, key_id: str) -> int:
    """How many secrets are not sealed with this key."""
    with db_api.reader(ctx) as session:
        return session.scalar(_under_other_keys(sa.select(sa.func.count()), key_id)) or 0


@db_api.retry
def list_under_other_keys(
    ctx: context.RequestContext, key_id: str, after: str, limit: int
) -> list[tuple[str, str]]:
    """Id and sealed secret of credentials that are not sealed with this key, by id."""
    query = _under_other_keys(sa.select(models.Credential.id, models.Credential.sealed), key_id)
    query = query.where(models.Credential.id > after).order_by(models.Credential.id).limit(limit)
    with db_api.reader(ctx) as session:
        return [(credential_id, sealed) for credential_id, sealed in session.execute(query)]


def _under_other_keys(query: Any, key_id: str) -> Any:
    return query.where(models.Credential.sealed.is_not(None), models.Credential.key_id != key_id)


@db_api.retry
def reseal(
    ctx: context.RequestContext, credential_id: str, before: str, after: str, key_id: str
) -> bool:
    """Replace a sealed secret by itself under another key; False when it changed meanwhile."""
    with db_api.writer(ctx) as session:
        changed = session.execute(
            sa.update(models.Credential)
            .where(models.Credential.id == credential_id, models.Credential.sealed == before)
            .values(sealed=after, key_id=key_id)
            .execution_options(synchronize_session=False)
        )
        return bool(changed.rowcount == 1)


# --- trials ---------------------------------------------------------------------------------------


def ask_trial(session: orm.Session, cloud_id: str, moment: datetime.datetime) -> None:
    """Have an engine try within the transaction's cloud, whose row is locked, what it can do there."""
    trial = session.get(models.Trial, cloud_id)
    if trial is None:
        session.add(models.Trial(cloud_id=cloud_id, due_at=moment, answers={}))
    else:
        trial.due_at = moment


@db_api.retry
def claim_trials(ctx: context.RequestContext, lease: float, limit: int) -> list[models.Cloud]:
    """Take the clouds whose credentials are to be tried; again after ``lease`` seconds if we die."""
    with db_api.writer(ctx) as session:
        moment = db_api.now(session)
        due = session.scalars(
            sa.select(models.Trial.cloud_id).where(models.Trial.due_at <= moment).limit(limit)
        ).all()
        mine = []
        for cloud_id in due:
            taken = session.execute(
                sa.update(models.Trial)
                .where(models.Trial.cloud_id == cloud_id, models.Trial.due_at <= moment)
                .values(due_at=moment + datetime.timedelta(seconds=lease))
                .execution_options(synchronize_session=False)
            )
            if taken.rowcount == 1:
                mine.append(cloud_id)
        return list(session.scalars(sa.select(models.Cloud).where(models.Cloud.id.in_(mine))))


@db_api.retry
def save_trial(
    ctx: context.RequestContext,
    cloud: models.Cloud,
    answers: Mapping[str, Any],
    expires_at: datetime.datetime | None,
) -> None:
    """Store what a trial showed, unless the credentials have been replaced since."""
    with db_api.writer(ctx) as session:
        now = session.get(models.Cloud, cloud.id, with_for_update=True)
        if now is None or now.credential_id != cloud.credential_id:
            return
        session.execute(
            sa.update(models.Trial)
            .where(models.Trial.cloud_id == cloud.id)
            .values(
                answers=dict(answers),
                expires_at=expires_at,
                tried_at=db_api.now(session),
                due_at=None,
            )
            .execution_options(synchronize_session=False)
        )


@db_api.retry
def list_trials(ctx: context.RequestContext, cloud_ids: Iterable[str]) -> dict[str, models.Trial]:
    with db_api.reader(ctx) as session:
        query = sa.select(models.Trial).where(models.Trial.cloud_id.in_(list(cloud_ids)))
        return {trial.cloud_id: trial for trial in session.scalars(query)}
