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


"""What the API answers per second and core, beside bare pecan routes behind the same middleware.

One worker of gunicorn each. Requests are counted by the processor time that the worker spent on them,
so the figures do not depend on what else the machine does. The reference answers with the same
document: rendered each time as ours is, and as bytes that are ready.
"""

import json
import typing

import figures
import population
import servers

STACKS = 100
SECONDS = 3


class Load(typing.NamedTuple):
    rate: float  # per second of the wall clock
    per_core: float  # per second of the processor
    length: int


def load(site: servers.Site, process: servers.Process, url: str) -> Load:
    def once(seconds: float) -> dict[str, float]:
        found: dict[str, float] = json.loads(
            site.run(servers.HERE / "load.py", url, "--connections", 4, "--seconds", seconds)
        )
        return found

    once(1)  # connections to the database, compiled statements
    before = servers.processor_seconds(process.family())
    found = once(SECONDS)
    spent = servers.processor_seconds(process.family()) - before
    return Load(found["rate"], found["requests"] / spent, int(found["length"]))


def measure(site: servers.Site, name: str, database: str) -> None:
    conf = site.configure(
        name,
        database,
        {"api": {"auth_strategy": "none"}, "DEFAULT": {"transport_url": "fake://"}},
    )
    population.fill(database, ["cloud1", "cloud2", "cloud3"], STACKS)
    url, ours = site.gunicorn(conf)
    one = servers.call("GET", f"{url}/v1/stacks?limit=1")["stacks"][0]
    paths = {
        "show": f"/v1/stacks/{one['id']}",
        "show by name": f"/v1/stacks/{one['name']}",
        f"list of {STACKS}": "/v1/stacks",
    }
    documents = site.directory / f"{name}.json"
    documents.write_text(
        json.dumps(
            {str(i): servers.call("GET", url + path) for i, path in enumerate(paths.values())}
        )
    )
    bare_url, bare = site.gunicorn(
        conf, "bare:application", {"BENCHMARK_DOCUMENTS": str(documents)}
    )
    for i, (what, path) in enumerate(paths.items()):
        mine = load(site, ours, url + path)
        rendered = load(site, bare, f"{bare_url}/rendered/{i}")
        fixed = load(site, bare, f"{bare_url}/fixed/{i}")
        what = f"{what} stacks on {name}" if what.startswith("list") else f"{what} on {name}"
        figures.show(
            what,
            mine.per_core,
            "requests/s per core",
            reference=rendered.per_core,
            against="bare pecan, same document",
            least=0.5,
        )
        figures.show(
            f"{what}, beside bytes that are ready",
            mine.per_core,
            "requests/s per core",
            reference=fixed.per_core,
            against="bare pecan, same bytes",
        )
        figures.note(f"{mine.length} bytes; {mine.rate:.0f} requests/s by the clock")
        if what.startswith("show on"):
            figures.show(what, mine.per_core, "requests/s per core", least=400)
    ours.end()
    bare.end()


def main() -> None:
    with servers.Site() as site:
        figures.note("gunicorn, one worker, auth_strategy none; four clients at a time")
        measure(site, "SQLite", f"sqlite:///{site.directory}/spreader.sqlite")
        for name, start in (("MariaDB", site.mariadb), ("PostgreSQL", site.postgresql)):
            url = start()
            site.create_database("api")
            measure(site, name, f"{url}api")


if __name__ == "__main__":
    figures.tell(main)
