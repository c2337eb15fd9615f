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


"""How fast a thousand stacks leave a cloud that died, beside the same PATCHes sent raw.

A real engine process, MariaDB and then PostgreSQL, three fake Heats that need 20 ms for each answer. One
is killed; the time is from the verdict to the last raise that the other two accept. Two engine processes
do the same once more.
"""

import datetime
import json
import time
import typing

import sqlalchemy as sa

import figures
import population
import servers

STACKS = 1000
LATENCY = 0.02
# A Heat works for some seconds on each change. Not shorter, or the ends of the first updates would
# be looked at while the last stacks are still waiting.
WORK = 30.0
# [clouds] concurrency, [engine] threads. The last are the defaults.
SETTINGS = ((2, 4), (4, 8), (16, 32))


class Measured(typing.NamedTuple):
    seconds: float
    engine: float  # seconds of processor
    database: float


def failover(
    site: servers.Site, url: str, concurrency: int, threads: int, workers: int
) -> Measured:
    name = f"failover_{concurrency}_{workers}"
    site.create_database(name)
    heats = site.fake_heats(3, latency=LATENCY, work=WORK)
    conf = site.configure(
        name,
        url + name,
        {
            # The bound on what a Heat is at is there to slow us down; here it would hide our own speed.
            "clouds": {"concurrency": concurrency, "max_in_progress": 10 * STACKS},
            "engine": {"threads": threads, "workers": workers},
            # One miss is enough, so that nobody waits for the verdict.
            "health": {"misses": 1, "probe_interval": 3},
        },
    )
    for cloud, stacks in population.fill(url + name, [*heats], STACKS, toleration=0).items():
        heats[cloud].load(stacks)
    engine = site.python(name, "-m", "heat_spreader.cmd.engine", "--config-file", conf)
    database = sa.create_engine(url + name)
    listing = STACKS // 500 + 1
    servers.await_(
        60,
        lambda: all(
            heat.told()["asked"].get("GET", 0) >= listing * workers for heat in heats.values()
        ),
        engine,
    )
    time.sleep(2)
    processes = engine.family()
    engine_before = servers.processor_seconds(processes)
    database_before = servers.processor_seconds(site.database.family())
    *living, dead = heats.values()
    dead.process.kill()
    verdict = "SELECT verdict_since FROM clouds WHERE verdict = 'unreachable'"

    def query(text: str) -> typing.Any:
        with database.connect() as connection:
            return connection.scalar(sa.text(text))

    servers.await_(60, lambda: query(verdict), engine)
    wanted = STACKS * len(living)

    def accepted() -> list[float]:
        return [at for heat in living for at in heat.told()["accepted"]]

    while len(accepted()) < wanted:
        time.sleep(0.5)
    if len(accepted()) > wanted:
        raise RuntimeError(f"{len(accepted())} PATCHes instead of {wanted}")
    began = query(verdict).replace(tzinfo=datetime.UTC).timestamp()
    measured = Measured(
        max(accepted()) - began,
        servers.processor_seconds(processes) - engine_before,
        servers.processor_seconds(site.database.family()) - database_before,
    )
    engine.end()
    for heat in heats.values():
        heat.process.end()
    database.dispose()
    return measured


def raw(site: servers.Site, concurrency: int) -> float:
    """Seconds that the same changes take without us."""
    heats = site.fake_heats(2, latency=LATENCY, work=WORK)
    changes = {}
    for (cloud, heat), count in zip(heats.items(), population.SHARES_WITHOUT_LAST, strict=True):
        stacks = [
            {"id": f"{cloud}-{i}", "name": f"web-{i}", "count": count - 1, "tags": []}
            for i in range(STACKS)
        ]
        heat.load(stacks)
        changes[cloud] = [[stack["name"], stack["id"], count] for stack in stacks]
    file = site.directory / "changes.json"
    file.write_text(json.dumps(changes))
    clouds_yaml = site.directory / "clouds.yaml"
    seconds: float = json.loads(
        site.run(servers.HERE / "raw.py", clouds_yaml, file, "--threads", concurrency)
    )
    for heat in heats.values():
        heat.process.end()
    return seconds


def capacity(site: servers.Site) -> float:
    """PATCHes a second that one fake Heat can take."""
    heat = site.fake_heats(1, work=WORK)["cloud1"]
    heat.load([{"id": "a", "name": "web", "count": 1, "tags": []}])
    found = site.run(
        servers.HERE / "load.py",
        f"{heat.url}/v1/p/stacks/web/a",
        "--method",
        "PATCH",
        "--body",
        '{"parameters": {"count": 2}}',
        "--connections",
        16,
        "--seconds",
        1,
    )
    heat.process.end()
    return float(json.loads(found)["rate"])


def compare(site: servers.Site, kind: str, url: str, concurrency: int, threads: int) -> None:
    setting = f"[clouds] concurrency {concurrency}, [engine] threads {threads}"
    figures.progress(f"failover on {kind} with {setting}")
    patches = 2 * STACKS
    one = failover(site, url, concurrency, threads, 1)
    reference = raw(site, concurrency)
    figures.show(
        f"failover on {kind}, {setting}",
        patches / one.seconds,
        "raises/s",
        reference=patches / reference,
        against=f"raw from {2 * concurrency} threads",
        least=0.7,
    )
    figures.note(
        f"in {one.seconds:.1f} s; processor: engine {one.engine:.1f} s, "
        f"database {one.database:.1f} s"
    )
    two = failover(site, url, concurrency, threads, 2)
    figures.show(
        f"failover on {kind}, {setting}, two engine processes",
        patches / two.seconds,
        "raises/s",
        reference=patches / one.seconds,
        against="one",
        least=1.7,
    )
    figures.note(
        f"in {two.seconds:.1f} s; processor: engines {two.engine:.1f} s, "
        f"database {two.database:.1f} s"
    )


def main() -> None:
    with servers.Site() as site:
        figures.note(
            f"{STACKS} stacks, two PATCHes each, {LATENCY * 1000:.0f} ms latency; one fake "
            f"Heat can take {capacity(site):.0f} PATCHes/s without it"
        )
        url = site.mariadb()
        for concurrency, threads in SETTINGS:
            compare(site, "MariaDB", url, concurrency, threads)
        site.database.end()
        compare(site, "PostgreSQL", site.postgresql(), *SETTINGS[1])


if __name__ == "__main__":
    figures.tell(main)
