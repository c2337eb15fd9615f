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


"""What it costs to see that nothing moved, beside asking for one Heat stack after the other.

The engine's own observers on a database of ten thousand stacks, each in three clouds. The reference,
one GET for each member as the original tool sends them, is measured on a sample and scaled.
"""

from collections import abc
import threading
import time
import typing

from oslo_config import cfg

import figures
from heat_spreader import conf as spreader_conf
from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.engine import clouds
from heat_spreader.engine import observe
import population
import servers

LATENCY = 0.02
SAMPLE = 200
# Of a real Heat, with RabbitMQ and MariaDB, in a sandbox.
ROW, SINGLE = 0.0023, 0.008


class Observer(observe.Observer):
    """The engine's, telling when it has looked."""

    def __init__(self, *args: typing.Any) -> None:
        super().__init__(*args)
        self.looked = threading.Semaphore(0)

    def observe(self, *args: typing.Any) -> None:
        super().observe(*args)
        self.looked.release()

    def wait(self, clouds: int) -> None:
        for _ in range(clouds):
            if not self.looked.acquire(timeout=300):
                raise RuntimeError("an observer did not come to an end")


def look(
    site: servers.Site, heats: abc.Mapping[str, servers.FakeHeat], database: str, stacks: int
) -> tuple[float, int]:
    """Seconds and requests of a sweep that finds nothing new."""
    conf = cfg.CONF
    conf.reset()
    file = site.configure("sweep", database)
    for cloud, heat_stacks in population.fill(database, [*heats], stacks).items():
        heats[cloud].load(heat_stacks)
    spreader_conf.setup(conf, ["--config-file", str(file), "--log-file", f"{file}.log"])
    db_api.configure(conf)
    nudged: list[str] = []
    observer = Observer(
        observe.Settings(
            observer="benchmark",
            probe_interval=3600.0,
            probe_timeout=60.0,
            progress_interval=0.0,
            misses=3,
            goods=3,
        ),
        clouds.Clouds([str(site.directory / "clouds.yaml")], timeout=60.0, pool_size=1),
        lambda ctx, stack_id: nudged.append(stack_id),
        lambda *orphan: nudged.append(str(orphan)),
    )
    observer.refresh()
    observer.wait(len(heats))  # the first look compares everything with the database
    before = {name: heat.told()["asked"]["GET"] for name, heat in heats.items()}
    cloud_ids = [cloud.id for cloud in db_clouds.list_clouds(context.engine_context(), None)]
    began = time.monotonic()
    for cloud_id in cloud_ids:
        observer.hurry(cloud_id)
    observer.wait(len(heats))
    seconds = time.monotonic() - began
    requests = sum(heat.told()["asked"]["GET"] - before[name] for name, heat in heats.items())
    observer.stop()
    db_api.dispose()
    if nudged:
        raise RuntimeError(f"{len(nudged)} stacks moved although nothing did")
    return seconds, requests


def one_by_one(
    site: servers.Site, heats: abc.Mapping[str, servers.FakeHeat], stacks: int
) -> float:
    """Seconds to read every member, one after the other."""
    connections = clouds.Clouds([str(site.directory / "clouds.yaml")])
    began = time.monotonic()
    for cloud, heat in heats.items():
        heat.load(
            [{"id": f"i{i}", "name": f"web-{i}", "count": 1, "tags": []} for i in range(SAMPLE)]
        )
        connection = connections.connect(cloud)
        for i in range(SAMPLE):
            connection.get(f"/stacks/web-{i}/i{i}?resolve_outputs=False").json()
    return (time.monotonic() - began) / SAMPLE * stacks


def main() -> None:
    with servers.Site() as site:
        figures.note(
            f"SQLite; {LATENCY * 1000:.0f} ms latency for each request, whatever it asks; the reference "
            f"is scaled from {3 * SAMPLE} requests"
        )
        stacks = 10_000
        figures.progress(f"{stacks} stacks")
        heats = site.fake_heats(3, latency=LATENCY)
        database = f"sqlite:///{site.directory}/large.sqlite"
        seconds, requests = look(site, heats, database, stacks)
        reference = one_by_one(site, heats, stacks)
        what = f"quiet sweep of {stacks} stacks in 3 clouds"
        figures.show(
            f"{what}, requests",
            requests,
            "requests",
            reference=3 * stacks,
            against="one GET per member",
            ratio=3 * stacks / requests,
            least=100,
        )
        figures.show(
            f"{what}, time",
            seconds,
            "s",
            reference=reference,
            against="one after another",
            ratio=reference / seconds,
            least=50,
        )
        stacks = 1000
        heats = site.fake_heats(3, latency=SINGLE, row_latency=ROW)
        database = f"sqlite:///{site.directory}/small.sqlite"
        seconds, _ = look(site, heats, database, stacks)
        reference = one_by_one(site, heats, stacks)
        figures.show(
            f"the same of {stacks} stacks on Heats that take {ROW * 1000:.1f} ms for each row of a "
            f"listing and {SINGLE * 1000:.0f} ms for each request",
            seconds,
            "s",
            reference=reference,
            against="one after another",
            ratio=reference / seconds,
        )


if __name__ == "__main__":
    figures.tell(main)
