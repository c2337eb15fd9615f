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


"""How long a quiet stack's change of count takes from the request to our API until Heat is asked.

Once with everything in one process, and with an API under gunicorn and an engine, on RabbitMQ and
MariaDB or PostgreSQL. The fake Heats answer at once; the clock stops when the PATCH arrives at one of them.
"""

import http.client
import json
import statistics
import time
import urllib.parse

import figures
import population
import servers

STACKS = 25


def change_all(
    url: str, heat_stacks: population.HeatStacks, heats: dict[str, servers.FakeHeat]
) -> tuple[list[float], list[float]]:
    """Milliseconds from asking until the Heat is asked, and until our answer, for each stack."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    asked: dict[str, float] = {}
    answered = []
    for number in range(STACKS):
        name = f"web-{number}"
        began = asked[name] = time.time()
        connection.request(
            "PATCH",
            f"/v1/stacks/{name}",
            json.dumps({"count": population.COUNT + 1}),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        response.read()
        answered.append(1000 * (time.time() - began))
        if response.status != 202:
            raise RuntimeError(f"PATCH was answered with {response.status}")
        servers.await_(30, lambda name=name: _is_quiet(f"{url}/v1/stacks/{name}"))
    names = {stack["id"]: stack["name"] for each in heat_stacks.values() for stack in each}
    arrived: dict[str, float] = {}
    for heat in heats.values():
        for at, heat_stack_id in heat.told()["changed"]:
            name = names[heat_stack_id]
            arrived[name] = min(at, arrived.get(name, at))
    return [1000 * (arrived[name] - at) for name, at in asked.items()], answered


def _is_quiet(url: str) -> bool:
    stack = servers.call("GET", url)
    return bool(
        stack["status"] == "ACTIVE" and stack["observed_generation"] == stack["generation"]
    )


def prepare(
    site: servers.Site, heats: dict[str, servers.FakeHeat], database: str
) -> population.HeatStacks:
    heat_stacks = population.fill(database, [*heats], STACKS)
    for cloud, each in heat_stacks.items():
        heats[cloud].load(each)
    return heat_stacks


def measure(
    what: str,
    url: str,
    process: servers.Process,
    heat_stacks: population.HeatStacks,
    heats: dict[str, servers.FakeHeat],
    most: float,
) -> None:
    servers.await_(60, lambda: servers.answers(f"{url}/v1/"), process)
    # Until every cloud has been looked at, nothing is written there.
    servers.await_(60, lambda: all(h.told()["asked"].get("GET") for h in heats.values()))
    time.sleep(2)
    reached, answered = change_all(url, heat_stacks, heats)
    figures.show(
        f"from API PATCH to Heat PATCH, {what}, median of {STACKS}",
        statistics.median(reached),
        "ms",
        most=most,
    )
    figures.note(
        f"fastest {min(reached):.0f} ms, slowest {max(reached):.0f} ms; our API had answered after "
        f"{statistics.median(answered):.0f} ms"
    )


def in_process(site: servers.Site) -> None:
    heats = site.fake_heats(3)
    database = f"sqlite:///{site.directory}/spreader.sqlite"
    port = servers.free_port()
    conf = site.configure("run", database, {"api": {"port": port}})
    heat_stacks = prepare(site, heats, database)
    process = site.python("run", "-m", "heat_spreader.cmd.run", "run", "--config-file", conf)
    url = f"http://127.0.0.1:{port}"
    measure("one process", url, process, heat_stacks, heats, 60)
    process.end()


def over_rabbitmq(site: servers.Site, kind: str, server: str, bus: str) -> None:
    heats = site.fake_heats(3)
    database = server + "latency"
    site.create_database("latency")
    conf = site.configure(
        f"latency-{kind}",
        database,
        # A host of its own, or the message would go to the engine of another measurement.
        {"DEFAULT": {"transport_url": bus, "host": kind}, "api": {"auth_strategy": "none"}},
    )
    heat_stacks = prepare(site, heats, database)
    engine = site.python(f"engine-{kind}", "-m", "heat_spreader.cmd.engine", "--config-file", conf)
    url, process = site.gunicorn(conf)
    measure(f"over RabbitMQ, on {kind}", url, process, heat_stacks, heats, 30)
    process.end()
    engine.end()


def main() -> None:
    with servers.Site() as site:
        in_process(site)
        bus = site.rabbitmq()
        over_rabbitmq(site, "MariaDB", site.mariadb(), bus)
        over_rabbitmq(site, "PostgreSQL", site.postgresql(), bus)


if __name__ == "__main__":
    figures.tell(main)
