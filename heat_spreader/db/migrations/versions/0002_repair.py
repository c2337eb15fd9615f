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

"""What is done about full clouds, foreign changes, lost Heat stacks and updates that never end.

Migrations only expand: engines of the version before must go on working. What is no longer used is
dropped one release later.
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
MYSQL = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}


def _choice(name: str, default: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=16), nullable=False, server_default=default)


def _number(name: str, default: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text(default))


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def upgrade() -> None:
    for column in (
        _choice("rebalance_mode", "immediate"),
        _number("rebalance_step", "1"),
        _choice("on_drift", "heal"),
        _choice("on_missing", "recreate"),
        _choice("on_stuck", "report"),
        _flag("forget"),
    ):
        op.add_column("stacks", column)
    for column in (
        _flag("creating"),
        _flag("deleting"),
        sa.Column("busy_since", TIME, nullable=True),
        _flag("check_asked"),
        sa.Column("capacity", sa.Integer(), nullable=True),
        sa.Column("full_until", TIME, nullable=True),
        _number("fulls", "0"),
        _number("drifts", "0"),
        sa.Column("drifted_at", TIME, nullable=True),
        _flag("conflict"),
        sa.Column("missing_since", TIME, nullable=True),
    ):
        op.add_column("members", column)
    op.create_table(
        "tombstones",
        sa.Column("member_id", sa.String(length=36), nullable=False),
        sa.Column("cloud_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("stack_id", sa.String(length=36), nullable=False),
        sa.Column("stack_name", sa.String(length=255), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["cloud_id"],
            ["clouds.id"],
            name=op.f("fk_tombstones_cloud_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("member_id", name=op.f("pk_tombstones")),
        **MYSQL,
    )
    op.create_index("ix_tombstones_cloud_id", "tombstones", ["cloud_id"])
