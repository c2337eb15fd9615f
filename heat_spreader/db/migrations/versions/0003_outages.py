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

"""What outages are judged by, and the brake on what is done about them.

Migrations only expand: engines of the version before must go on working. What is no longer used is
dropped one release later.
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    op.add_column("clouds", sa.Column("verdict_rule", sa.String(length=16), nullable=True))
    for column in (
        sa.Column("zone", sa.String(length=255), nullable=True),
        sa.Column("seen_at", TIME, nullable=True),
        sa.Column("counted_at", TIME, nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("abstains", LONG_TEXT, nullable=True),
    ):
        op.add_column("observations", column)
    for column in (
        sa.Column("cordoned_until", TIME, nullable=True),
        sa.Column("draining_until", TIME, nullable=True),
        sa.Column("lost", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("missed_since", TIME, nullable=True),
        sa.Column("returned_at", TIME, nullable=True),
        sa.Column("relapses", sa.Integer(), nullable=False, server_default=sa.text("0")),
    ):
        op.add_column("clouds", column)
    for column in (
        sa.Column("forced_at", TIME, nullable=True),
        sa.Column("failback_mode", sa.String(length=16), nullable=False, server_default="auto"),
        sa.Column("failback_batch", sa.Integer(), nullable=True),
    ):
        op.add_column("stacks", column)
    for name in ("recalled", "coming_back"):
        op.add_column(
            "members", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.create_table(
        "brakes",
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("clouds", LONG_TEXT, nullable=False),
        sa.Column("engaged_at", TIME, nullable=True),
        sa.Column("reason", LONG_TEXT, nullable=False),
        sa.Column("hold_until", TIME, nullable=True),
        sa.Column("released_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_brakes")),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
    )
    # Whoever looked at a cloud that was known to work has seen it, so far as anybody can tell now.
    op.execute(
        "UPDATE observations SET seen_at = observed_at WHERE goods > 0 OR cloud_id IN "
        "(SELECT id FROM clouds WHERE verdict <> 'unknown')"
    )
