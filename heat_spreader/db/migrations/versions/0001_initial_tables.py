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

"""The first tables: stacks, members, clouds, observations, events, engines.

Migrations only expand: engines of the version before must go on working. What is no longer used is
dropped one release later.
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MYSQL = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}


def upgrade() -> None:
    op.create_table(
        "clouds",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("config_cloud", sa.String(length=255), nullable=True),
        sa.Column("region", sa.String(length=255), nullable=True),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("cordoned", sa.Boolean(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("verdict_since", TIME, nullable=True),
        sa.Column("verdict_reason", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clouds")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_clouds_project_id_name")),
        **MYSQL,
    )
    op.create_table(
        "engines",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engines")),
        **MYSQL,
    )
    op.create_table(
        "events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("project_id", sa.String(length=64), nullable=True),
        sa.Column("stack_id", sa.String(length=36), nullable=True),
        sa.Column("stack_name", sa.String(length=255), nullable=True),
        sa.Column("cloud_id", sa.String(length=36), nullable=True),
        sa.Column("cloud_name", sa.String(length=255), nullable=True),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("message", LONG_TEXT, nullable=False),
        sa.Column("before", LONG_TEXT, nullable=True),
        sa.Column("after", LONG_TEXT, nullable=True),
        sa.Column("evidence", LONG_TEXT, nullable=True),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        **MYSQL,
    )
    op.create_index(op.f("ix_events_project_id_id"), "events", ["project_id", "id"])
    op.create_index(op.f("ix_events_stack_id_id"), "events", ["stack_id", "id"])
    op.create_table(
        "stacks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("count_parameter", sa.String(length=255), nullable=False),
        sa.Column("min_clouds", sa.Integer(), nullable=False),
        sa.Column("rounding", sa.String(length=16), nullable=False),
        sa.Column("template", LONG_TEXT, nullable=True),
        sa.Column("environment", LONG_TEXT, nullable=True),
        sa.Column("files", LONG_TEXT, nullable=False),
        sa.Column("parameters", LONG_TEXT, nullable=False),
        sa.Column("tags", LONG_TEXT, nullable=False),
        sa.Column("timeout_mins", sa.Integer(), nullable=True),
        sa.Column("failover_rule", sa.String(length=16), nullable=False),
        sa.Column("failover_toleration", sa.Integer(), nullable=False),
        sa.Column("failback_stable", sa.Integer(), nullable=False),
        sa.Column("surge", sa.Integer(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("release", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_reason", LONG_TEXT, nullable=False),
        sa.Column("observed_generation", sa.Integer(), nullable=False),
        sa.Column("ledger", LONG_TEXT, nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("claimed_by", sa.String(length=255), nullable=True),
        sa.Column("claimed_until", TIME, nullable=True),
        sa.Column("claim_epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stacks")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_stacks_project_id_name")),
        **MYSQL,
    )
    op.create_index(op.f("ix_stacks_due_at"), "stacks", ["due_at"])
    op.create_table(
        "members",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("stack_id", sa.String(length=36), nullable=False),
        sa.Column("cloud_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("weight", sa.String(length=16), nullable=False),
        sa.Column("minimum", sa.Integer(), nullable=False),
        sa.Column("maximum", sa.Integer(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("parameters", LONG_TEXT, nullable=False),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=True),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("observed_count", sa.Integer(), nullable=True),
        sa.Column("confirmed", sa.Integer(), nullable=False),
        sa.Column("heat_stack_id", sa.String(length=64), nullable=True),
        sa.Column("owned", sa.Boolean(), nullable=False),
        sa.Column("heat_status", sa.String(length=64), nullable=True),
        sa.Column("heat_status_reason", LONG_TEXT, nullable=False),
        sa.Column("heat_updated_time", sa.String(length=64), nullable=True),
        sa.Column("observed_at", TIME, nullable=True),
        sa.Column("written_at", TIME, nullable=True),
        sa.Column("out_since", TIME, nullable=True),
        sa.Column("floor", sa.Integer(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retry_at", TIME, nullable=True),
        sa.Column("problem", LONG_TEXT, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_reason", LONG_TEXT, nullable=False),
        sa.ForeignKeyConstraint(["cloud_id"], ["clouds.id"], name=op.f("fk_members_cloud_id")),
        sa.ForeignKeyConstraint(
            ["stack_id"], ["stacks.id"], name=op.f("fk_members_stack_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("stack_id", "cloud_id", name=op.f("uq_members_stack_id_cloud_id")),
        **MYSQL,
    )
    op.create_index(op.f("ix_members_cloud_id"), "members", ["cloud_id"])
    op.create_index(op.f("ix_members_heat_stack_id"), "members", ["heat_stack_id"])
    op.create_table(
        "observations",
        sa.Column("cloud_id", sa.String(length=36), nullable=False),
        sa.Column("observer", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("detail", LONG_TEXT, nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("goods", sa.Integer(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("observed_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["cloud_id"], ["clouds.id"], name=op.f("fk_observations_cloud_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("cloud_id", "observer", name=op.f("pk_observations")),
        **MYSQL,
    )
