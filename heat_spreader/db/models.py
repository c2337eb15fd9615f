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

"""The tables: what is wanted (stacks, members), where (clouds), and what was seen and done.

Columns that a user sets come first, columns that only the engine writes come after them. Times are
naive UTC, taken from the database's own clock (see ``heat_spreader.db.api.now``).
"""

import datetime
import json
from typing import Any
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql

# Constraint names are part of the schema: without a convention every backend makes up its own and
# migrations could not name what they change.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

# Microseconds matter: a plain MariaDB DATETIME rounds to seconds, and claims are shorter than that.
Time = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
EventId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Json(sa.types.TypeDecorator[Any]):
    """A JSON document in a text column, the same on every backend."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else json.dumps(value, sort_keys=True)

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        return None if value is None else json.loads(value)


class Base(orm.DeclarativeBase):
    metadata = sa.MetaData(naming_convention=NAMING)
    # Binary collation: names differ by case on every backend alike.
    __table_args__: Any = {
        "mysql_engine": "InnoDB",
        "mysql_charset": "utf8mb4",
        "mysql_collate": "utf8mb4_bin",
    }


class Cloud(Base):
    """A named place with a Heat: the unit of placement and of failure."""

    __tablename__ = "clouds"
    __table_args__: Any = (sa.UniqueConstraint("project_id", "name"), Base.__table_args__)

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    description: orm.Mapped[str] = orm.mapped_column(sa.Text, default="")
    kind: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    config_cloud: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    region: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    shared: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)
    cordoned: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)
    draining: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)
    # When these end by themselves.
    cordoned_until: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    draining_until: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # Declared so by an administrator: whatever it had does not run any more.
    lost: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    # With what it is reached, unless that is an entry of clouds.yaml. Another id is another session.
    credential_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(36))
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)
    updated_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)

    verdict: orm.Mapped[str] = orm.mapped_column(sa.String(16), default="unknown")
    verdict_since: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    verdict_reason: orm.Mapped[str] = orm.mapped_column(LongText, default="")
    # Since when it was missed when it was last judged unreachable.
    missed_since: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # When it last was no longer unreachable, and how many times in a row it then went away again soon.
    returned_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    relapses: orm.Mapped[int] = orm.mapped_column(
        sa.Integer, default=0, server_default=sa.text("0")
    )
    # The rule of the judgement; none before the first one.
    verdict_rule: orm.Mapped[str | None] = orm.mapped_column(sa.String(16))


class CloudProject(Base):
    """A project that may use a cloud although it is neither its own nor shared with all."""

    __tablename__ = "cloud_projects"

    cloud_id: orm.Mapped[str] = orm.mapped_column(
        sa.String(36), sa.ForeignKey("clouds.id", ondelete="CASCADE"), primary_key=True
    )
    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)


class Credential(Base):
    """How one cloud is reached on behalf of a project; never changed, only replaced by a new one.

    It outlives its cloud until what it stands for elsewhere is revoked.
    """

    __tablename__ = "credentials"
    __table_args__: Any = (
        sa.Index("ix_credentials_cloud_id", "cloud_id"),
        sa.Index("ix_credentials_key_id_id", "key_id", "id"),
        Base.__table_args__,
    )

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    cloud_id: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    user_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    kind: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    # All that is no secret: addresses, names, the private CA.
    settings: orm.Mapped[dict[str, Any]] = orm.mapped_column(Json, default=dict)
    sealed: orm.Mapped[str | None] = orm.mapped_column(LongText)
    key_id: orm.Mapped[str] = orm.mapped_column(sa.String(64), default="")
    # No longer used, and to be revoked.
    retired: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)


class Quota(Base):
    """What a project may have that differs from the defaults; its row is the lock for asking for more."""

    __tablename__ = "quotas"

    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    stacks: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    members: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    units: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    clouds: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)


class Trial(Base):
    """What the credentials of a cloud turned out to be good for when they were last tried."""

    __tablename__ = "trials"
    __table_args__: Any = (
        sa.Index("ix_trials_due_at", "due_at"),
        Base.__table_args__,
    )

    cloud_id: orm.Mapped[str] = orm.mapped_column(
        sa.String(36), sa.ForeignKey("clouds.id", ondelete="CASCADE"), primary_key=True
    )
    due_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    tried_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    answers: orm.Mapped[dict[str, Any]] = orm.mapped_column(Json, default=dict)
    expires_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)


class Observation(Base):
    """The latest reading of one cloud by one observer, with its running counts."""

    __tablename__ = "observations"

    cloud_id: orm.Mapped[str] = orm.mapped_column(
        sa.String(36), sa.ForeignKey("clouds.id", ondelete="CASCADE"), primary_key=True
    )
    observer: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    outcome: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    detail: orm.Mapped[str] = orm.mapped_column(LongText)
    latency_ms: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    misses: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    goods: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    since: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)
    observed_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)
    zone: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    # The latest good answer that this observer has had of the cloud, and the latest look that counted
    # in a row of misses or good answers.
    seen_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    counted_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # Of a watchdog: until then its word stands.
    expires_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # Why the observer does not trust what it sees; none: it does.
    abstains: orm.Mapped[str | None] = orm.mapped_column(LongText)


class Brake(Base):
    """Whether too many clouds have gone away at once, as one scope sees it.

    The scope is a project, with its own clouds and the shared ones; the empty one is that of the
    shared clouds alone.
    """

    __tablename__ = "brakes"

    scope: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    # The clouds that hold it on, and since when; none: it is off.
    clouds: orm.Mapped[list[str]] = orm.mapped_column(Json, default=list)
    engaged_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    reason: orm.Mapped[str] = orm.mapped_column(LongText, default="")
    # It may be about to be put on: until then nobody reacts.
    hold_until: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    released_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)


class Stack(Base):
    """A multi-cloud stack: what is wanted in all, and how the engine stands with it."""

    __tablename__ = "stacks"
    __table_args__: Any = (
        sa.UniqueConstraint("project_id", "name"),
        sa.Index("ix_stacks_due_at", "due_at"),
        Base.__table_args__,
    )

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    user_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    description: orm.Mapped[str] = orm.mapped_column(sa.Text, default="")
    count: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    count_parameter: orm.Mapped[str] = orm.mapped_column(sa.String(255), default="count")
    min_clouds: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    rounding: orm.Mapped[str] = orm.mapped_column(sa.String(16), default="exact")
    template: orm.Mapped[str | None] = orm.mapped_column(LongText)
    environment: orm.Mapped[str | None] = orm.mapped_column(LongText)
    files: orm.Mapped[dict[str, str]] = orm.mapped_column(Json, default=dict)
    parameters: orm.Mapped[dict[str, Any]] = orm.mapped_column(Json, default=dict)
    # Names of parameters that the template hides; NULL in stacks from before this was known.
    hidden: orm.Mapped[list[str] | None] = orm.mapped_column(Json)
    tags: orm.Mapped[list[str]] = orm.mapped_column(Json, default=list)
    timeout_mins: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    failover_rule: orm.Mapped[str] = orm.mapped_column(sa.String(16), default="even")
    failover_toleration: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    failback_stable: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    failback_mode: orm.Mapped[str] = orm.mapped_column(
        sa.String(16), default="auto", server_default="auto"
    )
    failback_batch: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    surge: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    rebalance_mode: orm.Mapped[str] = orm.mapped_column(
        sa.String(16), default="immediate", server_default="immediate"
    )
    rebalance_step: orm.Mapped[int] = orm.mapped_column(
        sa.Integer, default=1, server_default=sa.text("1")
    )
    on_drift: orm.Mapped[str] = orm.mapped_column(
        sa.String(16), default="heal", server_default="heal"
    )
    on_missing: orm.Mapped[str] = orm.mapped_column(
        sa.String(16), default="recreate", server_default="recreate"
    )
    on_stuck: orm.Mapped[str] = orm.mapped_column(
        sa.String(16), default="report", server_default="report"
    )
    # When an administrator had it fail over from what was unreachable then, brake or not.
    forced_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    generation: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=1)
    deleting: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)
    release: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)
    # Deletion does not wait for clouds out of sight.
    forget: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    # The request behind the present generation, or a retry after it, so that what the engine does can
    # be traced to it.
    request_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)
    updated_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)

    status: orm.Mapped[str] = orm.mapped_column(sa.String(16), default="PENDING")
    status_reason: orm.Mapped[str] = orm.mapped_column(LongText, default="")
    observed_generation: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    ledger: orm.Mapped[dict[str, int]] = orm.mapped_column(Json, default=dict)
    due_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    claimed_by: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    claimed_until: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    claim_epoch: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)

    members: orm.Mapped[list["Member"]] = orm.relationship(
        order_by="Member.position", cascade="all, delete-orphan", passive_deletes=True
    )
    if TYPE_CHECKING:
        templated: bool


# Known without the template itself, which most of those who ask do not load.
sa.inspect(Stack).add_property("templated", orm.column_property(Stack.template.is_not(None)))


class Member(Base):
    """The part of a stack that lives in one cloud; owns one Heat stack there."""

    __tablename__ = "members"
    __table_args__: Any = (
        sa.UniqueConstraint("stack_id", "cloud_id"),
        sa.Index("ix_members_cloud_id", "cloud_id"),
        sa.Index("ix_members_heat_stack_id", "heat_stack_id"),
        Base.__table_args__,
    )

    id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    stack_id: orm.Mapped[str] = orm.mapped_column(
        sa.String(36), sa.ForeignKey("stacks.id", ondelete="CASCADE")
    )
    cloud_id: orm.Mapped[str] = orm.mapped_column(sa.String(36), sa.ForeignKey("clouds.id"))
    position: orm.Mapped[int] = orm.mapped_column(sa.Integer)
    # An exact decimal as text: no backend may round it on the way.
    weight: orm.Mapped[str] = orm.mapped_column(sa.String(16), default="0")
    minimum: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    maximum: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    priority: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    parameters: orm.Mapped[dict[str, Any]] = orm.mapped_column(Json, default=dict)
    leaving: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)

    share: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    held: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    observed_count: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    # While the Heat stack is being updated: what ran before, so that growing units count only once
    # they run and shrinking ones no longer count at once.
    confirmed: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    heat_stack_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    owned: orm.Mapped[bool] = orm.mapped_column(sa.Boolean, default=False)
    heat_status: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    heat_status_reason: orm.Mapped[str] = orm.mapped_column(LongText, default="")
    heat_updated_time: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    observed_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    written_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # A create was sent and not answered: Heat may carry it out yet, even after a later one that was.
    creating: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    # We asked Heat to delete the Heat stack, so that its end surprises nobody.
    deleting: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    # Since when Heat has been at work on the Heat stack.
    busy_since: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # A user wants Heat to compare its records with what exists.
    check_asked: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    # Failover: since when the cloud is out of the allocation; the floor while others are.
    out_since: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    floor: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    # Failback: a user wants it without any more waiting; units are on their way.
    recalled: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    coming_back: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    # Back-off after a write that failed.
    failures: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    retry_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # What the cloud can hold, as learned from a raise that failed; until when that is believed, and
    # how many times in a row it was learned.
    capacity: orm.Mapped[int | None] = orm.mapped_column(sa.Integer)
    full_until: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    fulls: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0, server_default=sa.text("0"))
    # Changes by somebody else: how many of late, the latest, and whether we gave in.
    drifts: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0, server_default=sa.text("0"))
    drifted_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    conflict: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    # Since when a Heat stack that was there has been gone.
    missing_since: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Time)
    # What a person may have to put right: the words of the last refusal.
    problem: orm.Mapped[str] = orm.mapped_column(LongText, default="")
    status: orm.Mapped[str] = orm.mapped_column(sa.String(16), default="PENDING")
    status_reason: orm.Mapped[str] = orm.mapped_column(LongText, default="")

    cloud: orm.Mapped[Cloud] = orm.relationship()


class Tombstone(Base):
    """A member that is gone although Heat may yet carry out the create that was sent for it."""

    __tablename__ = "tombstones"
    __table_args__: Any = (
        sa.Index("ix_tombstones_cloud_id", "cloud_id"),
        Base.__table_args__,
    )

    member_id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    cloud_id: orm.Mapped[str] = orm.mapped_column(
        sa.String(36), sa.ForeignKey("clouds.id", ondelete="CASCADE")
    )
    project_id: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    stack_id: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    stack_name: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)


class Event(Base):
    """Append-only record of what was asked, decided and done; outlives the stack it speaks of."""

    __tablename__ = "events"
    __table_args__: Any = (
        sa.Index("ix_events_project_id_id", "project_id", "id"),
        sa.Index("ix_events_stack_id_id", "stack_id", "id"),
        Base.__table_args__,
    )

    id: orm.Mapped[int] = orm.mapped_column(EventId, primary_key=True, autoincrement=True)
    # No project: the event is about a shared cloud and every project that sees the cloud sees it.
    project_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    stack_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(36))
    stack_name: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    cloud_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(36))
    cloud_name: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    type: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    message: orm.Mapped[str] = orm.mapped_column(LongText)
    before: orm.Mapped[Any] = orm.mapped_column(Json, nullable=True)
    after: orm.Mapped[Any] = orm.mapped_column(Json, nullable=True)
    evidence: orm.Mapped[Any] = orm.mapped_column(Json, nullable=True)
    actor: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    # Of whoever asked; the engine has none.
    roles: orm.Mapped[list[str] | None] = orm.mapped_column(Json)
    request_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    # The request of another service, in the course of which ours was made.
    global_request_id: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)


class Cursor(Base):
    """How far something has read the events; its row is the lock for reading on."""

    __tablename__ = "cursors"

    name: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    event_id: orm.Mapped[int] = orm.mapped_column(EventId)


class Engine(Base):
    """A running engine process, known by its heartbeat."""

    __tablename__ = "engines"

    id: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    host: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    zone: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    version: orm.Mapped[str] = orm.mapped_column(sa.String(64))
    started_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)
    last_seen_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Time)
