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

"""Chaos: everything that a site runs on is killed and hung while users change what they want.

Then it is quiet, and the Heats themselves have to show what was wanted last. `Clients` asks and keeps
note of each answer; `Outages` follows a schedule that a seed makes; `Play` puts them together and
judges. What cannot be told for sure, such as a request that was never answered, is said to be so.
"""

import argparse
import collections
import collections.abc
import dataclasses
import http.client
import itertools
import json
import pathlib
import random
import threading
import time
import typing
import urllib.error

from heat_sandbox import cli
from heat_sandbox import database
from heat_sandbox import identity
from heat_sandbox import sandbox
from heat_sandbox import site
from heat_sandbox import spreader

CLOUDS = ("cloud1", "cloud2", "cloud3")
# With these weights a count that is a multiple of five is split without a rest, so what each cloud
# has to run is known without asking anybody.
WEIGHTS = (("0.6", "0.2", "0.2"), ("0.2", "0.4", "0.4"), ("0.4", "0.4", "0.2"))
COUNTS = (0, 5, 10, 15)
TEMPLATE = (sandbox.TOP / "sandbox" / "web.yaml").read_text()
UNIT = "OS::Heat::RandomString"

# Nobody waits longer for an answer: it counts as none.
PATIENCE = 10.0
# What the service promises: an answer in this time with the broker away, and with the database away.
WITHOUT_BROKER = 1.0
WITHOUT_DATABASE = 2.0
# A server that is back is found by all who lost it within this time.
RETURN = 3.0
# More than an update lasts; one that lasts longer has lost its Heat and is sent again.
UPDATE = 40.0
# All is right, and this much later still is.
STABLE = 5.0


@dataclasses.dataclass(frozen=True)
class Outage:
    """Something goes away `at` seconds after the beginning, for some seconds.

    :ivar how: "killed", or "hung": it neither ends nor answers
    """

    at: float
    name: str
    how: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Lane:
    """Outages that follow one another: who, how often, and for how long."""

    names: tuple[str, ...]
    pause: tuple[float, float]
    seconds: tuple[float, float]
    hung: float


# The lanes are independent, so outages of different kinds meet. An engine that hangs for longer than
# its lease wakes up as one whose stacks others have taken.
LANES = {
    "engines": Lane(("engine-1", "engine-2", "engine-3"), (1, 8), (0, 9), 0.3),
    "broker": Lane(("broker",), (10, 35), (0, 8), 0.0),
    "database": Lane(("database",), (15, 45), (0, 6), 0.0),
    "heats": Lane(CLOUDS, (3, 15), (2, 15), 0.5),
}


def schedule(seed: int, length: float) -> dict[str, list[Outage]]:
    """What goes wrong within so many seconds, by lane: the same for the same seed."""
    planned = {}
    for name, lane in LANES.items():
        dice = random.Random(f"{seed} {name}")
        outages = []
        now = dice.uniform(*lane.pause)
        while now < length:
            how = "hung" if dice.random() < lane.hung else "killed"
            outages.append(Outage(now, dice.choice(lane.names), how, dice.uniform(*lane.seconds)))
            now += outages[-1].seconds + dice.uniform(*lane.pause)
        planned[name] = outages
    return planned


Say = collections.abc.Callable[[str], None]


class Log:
    """Says what happens, with the time since the beginning, from many threads."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        with self._lock:
            print(f"{time.monotonic() - self.began:7.1f}  {text}", flush=True)


class Outages:
    """Carries a schedule out, one thread for each lane, and remembers when what was away."""

    def __init__(
        self, box: sandbox.Sandbox, deployed: site.Site, seed: int, length: float, log: Say
    ) -> None:
        self._box = box
        self._site = deployed
        self._log = log
        self._length = length
        self._away: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
        self.numbers: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._halt = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(outages,), name=lane)
            for lane, outages in schedule(seed, length).items()
        ]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Return when the last one is over, and all that was away is started again."""
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Begin nothing more and start nothing again; returns when nothing is on its way."""
        self._halt.set()
        for thread in self._threads:
            if thread.ident:
                thread.join()

    def met(self, name: str, began: float, ended: float) -> bool:
        """Tell whether it was away, or had just come back, at a moment of that time."""
        return any(
            away <= ended and began <= back + RETURN for away, back in list(self._away[name])
        )

    def away(self, name: str, began: float, ended: float) -> int:
        """Take note of an outage; its place among those of that name."""
        self._away[name].append((began, ended))
        return len(self._away[name]) - 1

    def _run(self, outages: list[Outage]) -> None:
        for outage in outages:
            # A start that took long moves what follows it.
            self._halt.wait(max(0.0, self._began + outage.at - time.monotonic()))
            if self._halt.is_set() or time.monotonic() > self._began + self._length:
                return
            try:
                self._carry_out(outage)
            except (sandbox.SandboxError, OSError) as error:
                self.failures.append(f"{outage.name} does not start again: {error}")
                self._log(self.failures[-1])
                return

    def _carry_out(self, outage: Outage) -> None:
        name = outage.name
        kind = name.rstrip("-123")
        self._log(f"{name} {outage.how}, for {outage.seconds:.1f} s")
        self.numbers[f"{kind} {outage.how}"] += 1
        began = time.monotonic()
        at = self.away(name, began, float("inf"))
        servers = self._box.cloud(name).servers("heat") if name in CLOUDS else []
        if outage.how == "hung":
            self._box.hang(servers) if servers else self._site.hang(name)
        else:
            self._box.kill(servers) if servers else self._site.kill(name)
        if self._halt.wait(outage.seconds):
            return
        self._box.start(servers) if servers else self._site.start(name)
        self._away[name][at] = (began, time.monotonic())
        self._log(f"{name} is back")


@dataclasses.dataclass
class Wish:
    """What a user wants of a stack: what was accepted last, and what may have been since then.

    A change whose request was not answered, or with an error, may have been stored all the same.
    """

    count: int
    weights: tuple[str, ...]
    doubtful_counts: list[int] = dataclasses.field(default_factory=list)
    doubtful_weights: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    @property
    def counts(self) -> list[int]:
        return [self.count, *self.doubtful_counts]

    @property
    def all_weights(self) -> list[tuple[str, ...]]:
        return [self.weights, *self.doubtful_weights]

    def asked_count(self, count: int, *, accepted: bool) -> None:
        if accepted:
            self.count, self.doubtful_counts = count, []
        else:
            self.doubtful_counts.append(count)

    def asked_weights(self, weights: tuple[str, ...], *, accepted: bool) -> None:
        if accepted:
            self.weights, self.doubtful_weights = weights, []
        else:
            self.doubtful_weights.append(weights)


def shares(count: int, weights: tuple[str, ...]) -> dict[str, int]:
    """Split the count; it and the weights are such that there is no rest."""
    tenths = [int(float(weight) * 10 + 0.5) * count for weight in weights]
    assert not any(each % 10 for each in tenths), (count, weights)
    return {cloud: each // 10 for cloud, each in zip(CLOUDS, tenths, strict=True)}


class Answers:
    """All that the service answered: numbers, and those answers that must not be."""

    def __init__(self, outages: Outages, log: Say) -> None:
        self._outages = outages
        self._log = log
        self._lock = threading.Lock()
        self.numbers: collections.Counter[str] = collections.Counter()
        self.worst: dict[str, float] = {}
        self.slow: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def judge(
        self, what: str, began: float, seconds: float, status: int | None, said: str
    ) -> None:
        """:param status: None when there was no answer at all"""
        no_database = self._outages.met("database", began, began + seconds)
        no_broker = self._outages.met("broker", began, began + seconds)
        condition = "database away" if no_database else "broker away" if no_broker else "otherwise"
        bound = WITHOUT_DATABASE if no_database else WITHOUT_BROKER
        well = status is not None and (status < 300 or (status == 503 and no_database))
        with self._lock:
            self.numbers["none" if status is None else str(status)] += 1
            self.worst[condition] = max(self.worst.get(condition, 0.0), seconds)
            self.slow[condition] += seconds > bound
            if not well:
                self.wrong.append(
                    f"{what}: {status or 'no answer'} after {seconds:.2f} s, {condition}: {said[:300]}"
                )
        if not well:
            self._log(f"NOT AS PROMISED  {self.wrong[-1]}")
        elif status == 503 or seconds > bound:
            self._log(f"{what}: {status} after {seconds:.2f} s, {condition}")


class Client(threading.Thread):
    """One user with stacks of his own, who asks either API for changes until told to stop."""

    def __init__(
        self,
        name: str,
        callers: list[spreader.Caller],
        stacks: list[str],
        seed: int,
        answers: Answers,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._callers = callers
        self._dice = random.Random(f"{seed} {name}")
        self._answers = answers
        self._halt = threading.Event()
        self._visitors = (f"{name}-visitor-{number}" for number in itertools.count(1))
        self._visitor: tuple[str, float] | None = None
        self.wishes = {stack: Wish(5, WEIGHTS[0]) for stack in stacks}
        # Stacks that came and went; what may be left of those is removed at the end.
        self.visited: list[str] = []
        self.changes = 0

    def call(
        self, method: str, path: str, body: object = None, also: tuple[int, ...] = ()
    ) -> int | None:
        """Ask one of the APIs and have the answer judged; its status, None when there is none.

        :param also: statuses that are as good as an acceptance
        """
        caller = self._dice.choice(self._callers)
        began = time.monotonic()
        status: int | None
        said = ""
        try:
            caller.call(method, path, body, timeout=PATIENCE)
            status = 200
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            status = 200 if error.code in also else error.code
        except (OSError, http.client.HTTPException) as error:
            status, said = None, repr(error)
        self._answers.judge(f"{method} {path}", began, time.monotonic() - began, status, said)
        return status

    def create(self, stack: str, wish: Wish, also: tuple[int, ...] = ()) -> int | None:
        body = {
            "name": stack,
            "template": TEMPLATE,
            "count": wish.count,
            # With convergence nobody but a user sets a Heat stack going again whose Heat was killed.
            "repair": {"stuck": "retry"},
            "members": [
                {"cloud": cloud, "weight": weight}
                for cloud, weight in zip(CLOUDS, wish.weights, strict=True)
            ],
        }
        return self.call("POST", "/v1/stacks", body, also)

    def run(self) -> None:
        while not self._halt.wait(self._dice.uniform(0.05, 0.8)):
            chance = self._dice.random()
            stack = self._dice.choice(list(self.wishes))
            if chance < 0.2:
                self.call("GET", self._dice.choice([f"/v1/stacks/{stack}", "/v1/stacks"]))
            elif chance < 0.25:
                self._change_weights(stack)
            elif chance < 0.30:
                self._visit()
            else:
                self._change_count(stack)

    def stop(self) -> None:
        self._halt.set()
        self.join()

    def _change_count(self, stack: str) -> None:
        count = self._dice.choice(COUNTS)
        self.changes += 1
        status = self.call("PATCH", f"/v1/stacks/{stack}", {"count": count})
        self.wishes[stack].asked_count(count, accepted=status == 200)

    def _change_weights(self, stack: str) -> None:
        weights = self._dice.choice(WEIGHTS)
        self.changes += 1
        body = {"weights": dict(zip(CLOUDS, weights, strict=True))}
        status = self.call("PUT", f"/v1/stacks/{stack}/weights", body)
        self.wishes[stack].asked_weights(weights, accepted=status == 200)

    def _visit(self) -> None:
        """Create a stack that is deleted soon, often before it is there; or delete that one."""
        if self._visitor is None:
            name = next(self._visitors)
            self.visited.append(name)
            self.create(name, Wish(5, self._dice.choice(WEIGHTS)))
            self._visitor = name, time.monotonic() + self._dice.uniform(0, 15)
        elif time.monotonic() > self._visitor[1]:
            name, _ = self._visitor
            if self.call("DELETE", f"/v1/stacks/{name}", also=(404,)) == 200:
                self._visitor = None


class Heats:
    """What the Heats say, each asked directly."""

    def __init__(self, box: sandbox.Sandbox) -> None:
        self._box = box
        account = box.account("cloud1")
        self._keystone = identity.Keystone(
            account["auth_url"], account["username"], account["password"], account["project"]
        )

    def get(self, cloud: str, path: str) -> dict[str, typing.Any]:
        heat = self._box.cloud(cloud).heat.url
        url = f"{heat}/v1/{self._keystone.project_id}/stacks{path}"
        return identity.call("GET", url, self._keystone.token, timeout=60)[0]

    def stacks(self, cloud: str) -> list[dict[str, typing.Any]]:
        return [
            stack
            for stack in self.get(cloud, "")["stacks"]
            if stack["stack_status"] != "DELETE_COMPLETE"
        ]

    def units(self, cloud: str, stack: dict[str, typing.Any]) -> int:
        """How many units there are, by the records of each and not by a parameter."""
        path = f"/{stack['stack_name']}/{stack['id']}/resources?nested_depth=1"
        return sum(
            each["resource_type"] == UNIT and each["resource_status"].endswith("_COMPLETE")
            for each in self.get(cloud, path)["resources"]
        )

    def count(self, cloud: str, stack: dict[str, typing.Any]) -> int:
        path = f"/{stack['stack_name']}/{stack['id']}?resolve_outputs=False"
        return int(self.get(cloud, path)["stack"]["parameters"]["count"])


class Play:
    """One run of chaos, from an empty site to the verdict."""

    def __init__(
        self,
        box: sandbox.Sandbox,
        deployed: site.Site,
        *,
        seed: int,
        minutes: float,
        stacks: int,
        settle: float,
    ) -> None:
        self._box = box
        self._site = deployed
        self._settle = settle
        self._log = Log()
        self._seed = seed
        self._length = minutes * 60
        self._names = [f"stack-{number}" for number in range(1, stacks + 1)]
        self.outages = Outages(box, deployed, seed, self._length, self._log)

    def run(self) -> bool:
        """Do it all and print it; tell whether everything was as promised."""
        log = self._log
        admin = spreader.Caller(self._box, "admin", self._site.url("api-1"))
        for cloud in CLOUDS:
            admin.call("POST", "/v1/clouds", {"name": cloud, "shared": True})
        self._callers = [
            spreader.Caller(self._box, url=self._site.url(api)) for api in self._site.apis
        ]
        self._heats = Heats(self._box)
        self._answers = Answers(self.outages, log)
        self._clients = [
            Client(name, self._callers, self._names[number::2], self._seed, self._answers)
            for number, name in enumerate(("anna", "boris"))
        ]
        for client in self._clients:
            for stack, wish in client.wishes.items():
                client.create(stack, wish)
        self._until_right("All stacks are there")

        log.began = time.monotonic()
        log(f"Chaos for {self._length:.0f} s with seed {self._seed}")
        self.outages.start()
        for client in self._clients:
            client.start()
        while time.monotonic() < log.began + self._length:
            time.sleep(min(15.0, max(0.1, log.began + self._length - time.monotonic())))
            log(f"so far {self._said()}")
        for client in self._clients:
            client.stop()
        self.outages.wait()

        log("Quiet; everything runs")
        began = time.monotonic()
        for client in self._clients:
            for visitor in client.visited:
                client.call("DELETE", f"/v1/stacks/{visitor}", also=(404,))
        late = self._until_right("All stacks are as they were wanted last")
        took = time.monotonic() - began
        if not late:
            time.sleep(STABLE)
            late = self._faults()
        return self._verdict(late, took)

    def _said(self) -> str:
        changes = sum(client.changes for client in self._clients)
        answers = ", ".join(f"{n} x {s}" for s, n in sorted(self._answers.numbers.items()))
        return f"{changes} changes; answers: {answers or 'none'}"

    def _until_right(self, what: str) -> dict[str, str]:
        """Wait until there is no fault; what is wrong still when the time is over."""
        began = time.monotonic()
        faults = self._faults()
        before: set[str] = set(faults)
        while faults and time.monotonic() < began + self._settle:
            time.sleep(1)
            faults = self._faults()
            for name in sorted(before - set(faults)):
                self._log(f"{name} is right after {time.monotonic() - began:.1f} s")
            before = set(faults)
        if not faults:
            self._log(f"{what} after {time.monotonic() - began:.1f} s")
        return faults

    def _faults(self) -> dict[str, str]:
        """What is not as it should be, by stack: by what the service says, and by the Heats."""
        faults = {}
        listed: dict[str, list[dict[str, typing.Any]]] = {}
        for cloud in CLOUDS:
            try:
                listed[cloud] = self._heats.stacks(cloud)
            except (OSError, http.client.HTTPException) as error:
                return dict.fromkeys(
                    self._names, f"{cloud} does not list its Heat stacks: {error}"
                )
        for client in self._clients:
            for name, wish in client.wishes.items():
                try:
                    fault = self._fault(name, wish, listed)
                except (OSError, http.client.HTTPException) as error:
                    fault = f"cannot be looked at: {error!r}"
                if fault:
                    faults[name] = fault
        for cloud, heat_stacks in listed.items():
            for heat_stack in heat_stacks:
                name = heat_stack["stack_name"]
                if name not in self._names:
                    status = heat_stack["stack_status"]
                    faults[name] = f"{cloud} has an orphan of that name, {status}"
        return faults

    def _fault(
        self, name: str, wish: Wish, listed: dict[str, list[dict[str, typing.Any]]]
    ) -> str | None:
        for caller in self._callers:
            stack = caller.stack(name)
            if stack is None:
                return "lost by the service"
            if stack["count"] not in wish.counts:
                return f"count {stack['count']}, but {wish.counts} was wanted last"
            weights = tuple(
                next(m["weight"] for m in stack["members"] if m["cloud"] == cloud)
                for cloud in CLOUDS
            )
            if weights not in wish.all_weights:
                return f"weights {weights}, but {wish.all_weights} were wanted last"
            if stack["status"] != "ACTIVE":
                return f"{stack['status']}: {stack['status_reason']}"
            if stack["observed_generation"] != stack["generation"]:
                return f"generation {stack['generation']}, observed {stack['observed_generation']}"
        for cloud, share in shares(stack["count"], weights).items():
            found = [each for each in listed[cloud] if each["stack_name"] == name]
            if len(found) != 1:
                return f"{cloud} has {len(found)} Heat stacks of this name"
            if not found[0]["stack_status"].endswith("_COMPLETE"):
                return f"{cloud}: {found[0]['stack_status']} {found[0]['stack_status_reason']}"
            count = self._heats.count(cloud, found[0])
            if count != share:
                return f"{cloud} has count {count} and not {share}"
            units = self._heats.units(cloud, found[0])
            if units != share:
                return f"{cloud} has count {count}, but {units} units"
        return None

    def _verdict(self, late: dict[str, str], took: float) -> bool:
        numbers = self.outages.numbers
        answers = self._answers
        print()
        print("Outages:  " + ", ".join(f"{n} x {what}" for what, n in sorted(numbers.items())))
        print(f"Changes:  {self._said()}")
        for condition, worst in sorted(answers.worst.items()):
            bound = WITHOUT_DATABASE if condition == "database away" else WITHOUT_BROKER
            print(
                f"Slowest:  {worst:.2f} s, {condition}; "
                f"{answers.slow[condition]} took longer than {bound:.0f} s"
            )
        for name in (*self._site.apis, *self._site.engines):
            traces = self._site.log(name).read_text(errors="replace").count("Traceback (most")
            if traces:
                print(f"Log:      {traces} traces in that of {name}")
        wrong = [*self.outages.failures, *answers.wrong]
        wrong += [f"{name}: {fault}" for name, fault in late.items()]
        for each in wrong[:40]:
            print(f"WRONG:    {each}")
        for name in late:
            print(f"{name} is\n{json.dumps(self._show(name), indent=1)}")
        visits = sum(len(client.visited) for client in self._clients)
        print(
            f"\nchaos: seed {self._seed}, {self._length / 60:g} minutes, {sum(numbers.values())} "
            f"outages, {sum(client.changes for client in self._clients)} changes, {visits} stacks "
            f"created and deleted, slowest answer {max(answers.worst.values()):.2f} s, "
            + (f"right after {took:.1f} s" if not late else f"NOT right after {took:.0f} s")
            + (f"; {len(wrong)} WRONG" if wrong else "; clean")
        )
        return not wrong

    def _show(self, name: str) -> object:
        try:
            return self._callers[0].stack(name)
        except (OSError, http.client.HTTPException) as error:
            return repr(error)


@cli.command
def chaos() -> int:
    options = cli.parser(
        "chaos",
        "Kill and hang engines, broker, database and Heats under a Heat Spreader of several "
        "processes, while clients change what they want; then look whether the Heats stand at what "
        "was wanted last. In a sandbox of its own, which is deleted if all went well. The exit "
        "code is 0 only then.",
    )
    options.set_defaults(dir=sandbox.TOP / ".sandbox-chaos")
    add_arguments(options)
    args = options.parse_args()
    box = sandbox.Sandbox(args.dir, args.venv)
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1_000_000)
    if box.exists():
        box.down(delete=True)
    well = False
    try:
        box.up(
            sandbox.Settings(
                convergence=args.convergence,
                fast=args.fast,
                base_port=args.base_port,
                spreader_port=args.base_port + site.API + 1,
            )
        )
        if args.bin is None:
            spreader.Spreader(box).install()
        deployed = site.Site(box, args.bin, database_kind=args.database)
        deployed.make({"engine": {"update_deadline": UPDATE}})
        play = Play(
            box,
            deployed,
            seed=seed,
            minutes=args.minutes,
            stacks=args.stacks,
            settle=args.settle,
        )
        try:
            well = play.run()
        finally:
            play.outages.stop()
    finally:
        if box.exists():
            box.down(delete=well and not args.keep)
    if not well:
        print(f"All processes are ended; their logs are in {box.directory}.")
    return 0 if well else 1


def add_arguments(options: argparse.ArgumentParser) -> None:
    options.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    options.add_argument("--seed", type=int, help="repeats a schedule (default: a random one)")
    options.add_argument("--database", choices=sorted(database.KINDS), default="mariadb")
    options.add_argument("--convergence", choices=["on", "off"], default="on")
    options.add_argument(
        "--fast", action="store_true", help="take the pause after each resource out of convergence"
    )
    options.add_argument(
        "--stacks", type=int, default=6, metavar="N", help="how many are changed (default: 6)"
    )
    options.add_argument(
        "--settle",
        type=float,
        default=300,
        metavar="S",
        help="seconds of quiet after which all must be right (default: 300)",
    )
    options.add_argument("--base-port", type=int, default=20000, metavar="P")
    options.add_argument(
        "--bin",
        type=pathlib.Path,
        metavar="D",
        help="where Heat Spreader is installed already (default: it is installed with the clouds)",
    )
    options.add_argument("--keep", action="store_true", help="keep the files in any case")
