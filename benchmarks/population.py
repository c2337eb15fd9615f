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


"""A database full of stacks that have been quiet for long, and the Heat stacks to go with them.

Written in bulk: to create ten thousand stacks through the API would take longer than any benchmark.
"""

import datetime
import pathlib
import typing
import uuid

import sqlalchemy as sa

from heat_spreader.db import models
from heat_spreader.engine.core import allocation

COUNT = 10
WEIGHTS = ("0.6", "0.2", "0.2")
SHARES = (6, 2, 2)
# With one cloud away.
SHARES_WITHOUT_LAST = (7, 3)

TEMPLATE = (pathlib.Path(__file__).resolve().parents[1] / "sandbox" / "web.yaml").read_text()

HeatStacks = dict[str, list[dict[str, typing.Any]]]


def fill(database: str, clouds: list[str], stacks: int, *, toleration: int = 60) -> HeatStacks:
    """Write the rows. Returns, by cloud, the Heat stacks that they speak of.

    :param clouds: entries of clouds.yaml, as many as there are weights; those registered already are
        taken as they are
    """
    engine = sa.create_engine(database)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    heat_stacks: HeatStacks = {cloud: [] for cloud in clouds}
    stack_rows, member_rows = [], []
    with engine.begin() as connection:
        ids = dict(connection.execute(sa.select(models.Cloud.name, models.Cloud.id)).all())
        for cloud in clouds:
            if cloud not in ids:
                ids[cloud] = str(uuid.uuid4())
                connection.execute(sa.insert(models.Cloud).values(_cloud(cloud, ids[cloud], now)))
        for number in range(stacks):
            stack_id, name = str(uuid.uuid4()), f"web-{number}"
            stack_rows.append(_stack(stack_id, name, now, toleration))
            for position, cloud in enumerate(clouds):
                member_id, heat_stack_id = str(uuid.uuid4()), str(uuid.uuid4())
                member_rows.append(
                    _member(member_id, stack_id, ids[cloud], position, heat_stack_id, now)
                )
                heat_stacks[cloud].append(
                    {
                        "id": heat_stack_id,
                        "name": name,
                        "count": SHARES[position],
                        "tags": [
                            f"heat-spreader-stack-{stack_id}",
                            f"heat-spreader-member-{member_id}",
                        ],
                    }
                )
        for table, rows in ((models.Stack, stack_rows), (models.Member, member_rows)):
            for start in range(0, len(rows), 1000):
                connection.execute(sa.insert(table), rows[start : start + 1000])
    engine.dispose()
    return heat_stacks


def _cloud(name: str, cloud_id: str, now: datetime.datetime) -> dict[str, typing.Any]:
    return {
        "id": cloud_id,
        "project_id": "local",
        "name": name,
        "kind": "config",
        "config_cloud": name,
        "shared": True,
        "created_at": now,
        "updated_at": now,
        "verdict": "healthy",
        "verdict_since": now - datetime.timedelta(days=1),
        "verdict_reason": "it answers",
    }


def _stack(
    stack_id: str, name: str, now: datetime.datetime, toleration: int
) -> dict[str, typing.Any]:
    return {
        "id": stack_id,
        "project_id": "local",
        "user_id": "local",
        "name": name,
        "count": COUNT,
        "template": TEMPLATE,
        "hidden": [],
        "failover_toleration": toleration,
        "failback_stable": 300,
        "created_at": now,
        "updated_at": now,
        "status": "ACTIVE",
        "status_reason": "All units run.",
        "observed_generation": 1,
        "ledger": {
            "desired": COUNT,
            "assigned": COUNT,
            "unassigned": 0,
            "shortfall": 0,
            "excess": 0,
            "confirmed": COUNT,
            "in_doubt": 0,
            "bound": COUNT,
        },
        "due_at": now + datetime.timedelta(hours=1),
    }


def _member(
    member_id: str,
    stack_id: str,
    cloud_id: str,
    position: int,
    heat_stack_id: str,
    now: datetime.datetime,
) -> dict[str, typing.Any]:
    share = SHARES[position]
    weight = allocation.format_weight(allocation.parse_weight(WEIGHTS[position]))
    return {
        "id": member_id,
        "stack_id": stack_id,
        "cloud_id": cloud_id,
        "position": position,
        "weight": weight,
        "share": share,
        "held": share,
        "observed_count": share,
        "confirmed": share,
        "heat_stack_id": heat_stack_id,
        "owned": True,
        "heat_status": "CREATE_COMPLETE",
        "observed_at": now,
        "status": "ACTIVE",
    }
