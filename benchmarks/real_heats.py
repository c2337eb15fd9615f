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


"""What can be said beside real Heats only: how long a change of count takes, and how much memory.

Three Heats of a sandbox, with convergence as real clouds run it; each with a worker process of its
own if RabbitMQ is installed. A stack is changed from 10 to 20 units through Heat Spreader, by three
PATCHes in parallel, and through a parent stack of three OS::Heat::Stack children.
"""

from concurrent import futures
import sys
import time
import typing

import figures
import population
import servers

sys.path.insert(0, str(servers.TOP / "sandbox"))

from heat_sandbox import sandbox

from heat_spreader.engine import clouds

COUNT, MORE = 10, 20
# Heat itself takes a second more or less from one time to the next.
TIMES = 2
STACKS = 1000
POLL = 0.1

Wanted = dict[str, int]


class Heats:
    """The Heats of a sandbox, asked directly."""

    def __init__(self, box: sandbox.Sandbox) -> None:
        self._connections = clouds.Clouds([str(box.clouds_yaml)], timeout=60)
        self.names = [cloud.name for cloud in box.clouds()]
        self._pool = futures.ThreadPoolExecutor(len(self.names))

    def ask(self, cloud: str, method: str, path: str, body: object = None) -> typing.Any:
        answer = self._connections.connect(cloud).request(path, method, json=body)
        return answer.json() if "json" in answer.headers.get("Content-Type", "") else None

    def stack(self, cloud: str, name: str) -> dict[str, typing.Any] | None:
        """By its name; the redirect to its id is followed."""
        found = self.ask(cloud, "GET", f"/stacks?name={name}")["stacks"]
        if not found:
            return None
        path = f"/stacks/{name}/{found[0]['id']}?resolve_outputs=False"
        shown: dict[str, typing.Any] = self.ask(cloud, "GET", path)["stack"]
        return shown

    def is_at(self, cloud: str, name: str, action: str, parameters: dict[str, int]) -> bool:
        stack = self.stack(cloud, name)
        if stack is None:
            return False
        if stack["stack_status"].endswith("FAILED"):
            raise RuntimeError(f"{cloud}: {name}: {stack['stack_status_reason']}")
        return stack["stack_status"] == f"{action}_COMPLETE" and all(
            stack["parameters"].get(key) == str(value) for key, value in parameters.items()
        )

    def await_all(self, name: str, action: str, wanted: Wanted) -> None:
        """Return when every Heat has carried it out."""

        def one(cloud: str, count: int) -> None:
            while not self.is_at(cloud, name, action, {"count": count}):
                time.sleep(POLL)

        for waiting in [self._pool.submit(one, *each) for each in wanted.items()]:
            waiting.result()

    def patch_all(self, name: str, wanted: Wanted) -> None:
        def one(cloud: str, count: int) -> None:
            stack = self.stack(cloud, name) or {}
            path = f"/stacks/{name}/{stack['id']}"
            self.ask(cloud, "PATCH", path, {"parameters": {"count": count}})

        for sent in [self._pool.submit(one, *each) for each in wanted.items()]:
            sent.result()

    def create(self, cloud: str, name: str, template: object, parameters: Wanted) -> None:
        body = {"stack_name": name, "template": template, "parameters": parameters}
        self.ask(cloud, "POST", "/stacks", body)


def shares(heats: Heats, count: int) -> Wanted:
    """6/2/2 and 12/4/4: whole numbers, whatever rounds them."""
    return {
        cloud: round(count * float(weight))
        for cloud, weight in zip(heats.names, population.WEIGHTS, strict=True)
    }


def parent_template(box: sandbox.Sandbox) -> dict[str, typing.Any]:
    """A Heat stack whose resources are Heat stacks in three regions, each with its own count."""
    return {
        "heat_template_version": "2021-04-16",
        "parameters": {cloud.name: {"type": "number"} for cloud in box.clouds()},
        "resources": {
            f"in_{cloud.name}": {
                "type": "OS::Heat::Stack",
                "properties": {
                    "context": {"region_name": cloud.region},
                    "template": population.TEMPLATE,
                    "parameters": {"count": {"get_param": cloud.name}},
                },
            }
            for cloud in box.clouds()
        },
    }


class Changes:
    """The same change in three ways."""

    def __init__(self, box: sandbox.Sandbox, heats: Heats, url: str) -> None:
        self.box = box
        self.heats = heats
        self.url = url
        self.before, self.after = shares(heats, COUNT), shares(heats, MORE)

    def create(self, number: int) -> None:
        members = [
            {"cloud": cloud, "weight": weight}
            for cloud, weight in zip(self.heats.names, population.WEIGHTS, strict=True)
        ]
        body = {
            "name": f"ours-{number}",
            "count": COUNT,
            "template": population.TEMPLATE,
            "members": members,
        }
        servers.call("POST", f"{self.url}/v1/stacks", body)
        for cloud, count in self.before.items():
            self.heats.create(cloud, f"hand-{number}", population.TEMPLATE, {"count": count})
        template = parent_template(self.box)
        self.heats.create(self.heats.names[0], f"parent-{number}", template, self.before)

    def await_created(self, number: int) -> None:
        servers.await_(180, lambda: self._is_active(f"ours-{number}", COUNT))
        self.heats.await_all(f"hand-{number}", "CREATE", self.before)
        first = self.heats.names[0]
        servers.await_(
            180, lambda: self.heats.is_at(first, f"parent-{number}", "CREATE", self.before)
        )

    def _is_active(self, name: str, count: int) -> bool:
        stack = servers.call("GET", f"{self.url}/v1/stacks/{name}")
        if stack["status"] == "ERROR":
            raise RuntimeError(f"{name}: {stack['status_reason']}")
        return bool(
            stack["status"] == "ACTIVE"
            and stack["observed_generation"] == stack["generation"]
            and stack["ledger"]["confirmed"] == count
        )

    def through_us(self, number: int) -> tuple[float, float]:
        """Seconds until the Heats are done, and until we say so."""
        name = f"ours-{number}"
        began = time.monotonic()
        servers.call("PATCH", f"{self.url}/v1/stacks/{name}", {"count": MORE})
        self.heats.await_all(name, "UPDATE", self.after)
        done = time.monotonic() - began
        servers.await_(60, lambda: self._is_active(name, MORE))
        return done, time.monotonic() - began

    def by_hand(self, number: int) -> float:
        began = time.monotonic()
        self.heats.patch_all(f"hand-{number}", self.after)
        self.heats.await_all(f"hand-{number}", "UPDATE", self.after)
        return time.monotonic() - began

    def through_parent(self, number: int) -> float:
        first, name = self.heats.names[0], f"parent-{number}"
        began = time.monotonic()
        stack = self.heats.stack(first, name) or {}
        self.heats.ask(first, "PATCH", f"/stacks/{name}/{stack['id']}", {"parameters": self.after})
        while not self.heats.is_at(first, name, "UPDATE", self.after):
            time.sleep(POLL)
        return time.monotonic() - began


def change(site: servers.Site, box: sandbox.Sandbox) -> None:
    heats = Heats(box)
    port = servers.free_port()
    conf = site.configure(
        "change",
        f"sqlite:///{site.directory}/change.sqlite",
        {"api": {"port": port}, "clouds": {"config_file": box.clouds_yaml}},
    )
    named = [part for cloud in heats.names for part in ("--cloud", cloud)]
    process = site.python(
        "change", "-m", "heat_spreader.cmd.run", "run", "--config-file", conf, *named
    )
    url = f"http://127.0.0.1:{port}"
    servers.await_(60, lambda: servers.answers(f"{url}/v1/"), process)
    changes = Changes(box, heats, url)
    figures.progress("creating stacks")
    for number in range(TIMES):
        changes.create(number)
    for number in range(TIMES):
        changes.await_created(number)
    figures.progress("changing them")
    ours, told, hand, parent = 0.0, 0.0, 0.0, 0.0
    for number in range(TIMES):
        done, said = changes.through_us(number)
        ours, told = ours + done / TIMES, told + said / TIMES
        hand += changes.by_hand(number) / TIMES
        parent += changes.through_parent(number) / TIMES
    what = f"change of {COUNT} to {MORE} units in three real Heats, mean of {TIMES}"
    figures.show(what, ours, "s", reference=hand, against="three PATCHes in parallel", most=1.1)
    figures.show(what, ours, "s", reference=parent, against="a parent stack", most=1)
    figures.note(f"until the last Heat says COMPLETE; our API said so after {told:.1f} s")
    process.end()


def memory(site: servers.Site, box: sandbox.Sandbox) -> None:
    heats = site.fake_heats(3)
    database = f"sqlite:///{site.directory}/memory.sqlite"
    port = servers.free_port()
    conf = site.configure("memory", database, {"api": {"port": port}})
    for cloud, stacks in population.fill(database, [*heats], STACKS).items():
        heats[cloud].load(stacks)
    process = site.python("memory", "-m", "heat_spreader.cmd.run", "run", "--config-file", conf)
    url = f"http://127.0.0.1:{port}"
    servers.await_(60, lambda: servers.answers(f"{url}/v1/"), process)
    # The largest answer there is, and some work.
    for _ in range(3):
        servers.call("GET", f"{url}/v1/stacks")
    for number in range(50):
        servers.call("PATCH", f"{url}/v1/stacks/web-{number}", {"count": MORE})
    time.sleep(5)
    ours = [servers.memory(pid) for pid in process.family()]
    process.end()
    engine = box.cloud("1").engine or box.cloud("1").heat
    (report,) = [each for each in box.status() if each.name == engine.name]
    theirs = [servers.memory(pid) for pid in servers.family(report.pid or 0)]
    figures.show(
        f"memory of heat-spreader run with {STACKS} stacks, the worker",
        max(rss for rss, _ in ours),
        "MiB",
        reference=max(rss for rss, _ in theirs),
        against=f"worker of {engine.name}",
        most=1,
    )
    for who, found in (("heat-spreader run", ours), (engine.name, theirs)):
        figures.note(
            f"{who}, {len(found)} processes: {sum(pss for _, pss in found):.0f} MiB together, what "
            "they share counted once"
        )


def main() -> None:
    with servers.Site() as site:
        box = sandbox.Sandbox(site.directory / "sandbox")
        rabbit = (servers.RABBITMQ / "rabbitmq-server").exists()
        settings = sandbox.Settings(
            clouds=3,
            convergence="on",
            messaging="rabbit" if rabbit else "fake",
            base_port=servers.free_port(following=sandbox.PORTS - 1),
        )
        figures.note(f"convergence on, messaging {settings.messaging}")
        site.at_end(lambda: box.exists() and box.down())
        figures.progress("starting the sandbox")
        box.up(settings)
        change(site, box)
        memory(site, box)


if __name__ == "__main__":
    figures.tell(main)
