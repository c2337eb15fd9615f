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

"""Clouds that projects bring: their credentials, who may use a cloud, and what a trial of it showed.

Migrations only expand: engines of the version before must go on working. What is no longer used is
dropped one release later.
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = "0004"
down_revision = "0003"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
MYSQL = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}


def _of_cloud(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["cloud_id"], ["clouds.id"], name=op.f(f"fk_{table}_cloud_id"), ondelete="CASCADE"
    )


def upgrade() -> None:
    op.add_column("clouds", sa.Column("credential_id", sa.String(length=36), nullable=True))
    op.create_table(
        "cloud_projects",
        sa.Column("cloud_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        _of_cloud("cloud_projects"),
        sa.PrimaryKeyConstraint("cloud_id", "project_id", name=op.f("pk_cloud_projects")),
        **MYSQL,
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("cloud_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("settings", TEXT, nullable=False),
        sa.Column("sealed", TEXT, nullable=True),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        **MYSQL,
    )
    op.create_index("ix_credentials_cloud_id", "credentials", ["cloud_id"])
    op.create_index("ix_credentials_key_id_id", "credentials", ["key_id", "id"])
    op.create_table(
        "trials",
        sa.Column("cloud_id", sa.String(length=36), nullable=False),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("tried_at", TIME, nullable=True),
        sa.Column("answers", TEXT, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        _of_cloud("trials"),
        sa.PrimaryKeyConstraint("cloud_id", name=op.f("pk_trials")),
        **MYSQL,
    )
    op.create_index("ix_trials_due_at", "trials", ["due_at"])
