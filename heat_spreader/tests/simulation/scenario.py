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

"""One scenario: what a seed decides of clouds, stacks, engines, users and faults, and its course."""

from collections import Counter
import contextlib
import dataclasses
import hashlib
import random
from typing import Any

from heat_spreader.tests.simulation import harness
from heat_spreader.tests.simulation import heats
from heat_spreader.tests.simulation import invariants

TEMPLATE = "heat_template_version: 2021-04-16"
# Faults and changes come within this many seconds; none lasts longer than that much more.
UNTIL, LONGEST = 30.0, 20.0
# From then on nothing fails, and everything has to come to rest within so many seconds.
BOUND = 400.0

# What befalls a cloud for a while: requests that go wrong.
CLOUD_FAULTS = (
    *("refuse", "hang", "lose", "slow", "unauthorized", "forbidden", "conflict", "busy", "error"),
    *("error_after", "unavailable", "quota", "garbage", "late", "late_hang", "flap", "keystone"),
    "keystone_slow",
)
AWAY = ("refuse", "hang", "unavailable")
SLOW = ("slow", "slow", "lose", "hang", "late_hang")
# With these a round may last longer than the shortest lease there may be.
CRAWLING = ("slow", "keystone_slow")
# What happens inside a cloud, or is done there by somebody else.
HEAT_FAULTS = ("restart", "failed", "full", "drift", "delete_by_hand")
ENGINE_FAULTS = ("crash", "stall")
# Between one host and one cloud, or all of them.
CUTS = ("cut", "cut_off")
DATABASE_FAULTS = ("deadlock", "away", "lost")
CHANGES = ("count", "weights", "bounds", "leave", "join", "cordon", "drain", "delete", "settings")
ASKED = ("retry", "check")
BACK_AND_FORTH = ("failback", "force_failover")


@dataclasses.dataclass
class Result:
    """How a scenario ended.

    :ivar violation: empty when nothing was wrong
    :ivar counts: how often what happened
    """

    seed: int
    violation: str
    trace: list[tuple[Any, ...]]
    counts: Counter[str]
    took: float

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.trace).encode()).hexdigest()[:16]


def play(seed: int, plant: Any = None) -> Result:
    """Let a scenario happen; the same seed gives the same course."""
    return _Scenario(seed).play(plant)


class _Scenario:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        rng = self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._created = 0
        # The cloud that is hit by failures, if one is chosen, and the host that sees less.
        self._weak = self._cut_host = ""
        # Most anything goes; but a rare thing comes more often where little else happens.
        self.style = rng.choice(("wild", "wild", "wild", "failover", "engines", "crawling"))
        # Lots of its own, so that what is decided here leaves all the rest as it is.
        own = self.own = random.Random(seed + 2)
        if own.random() < 0.12:
            self.style = "witnesses"
        failover = self.style == "failover"
        # Where clouds go away, it should not take all the time there is to be sure of it.
        probe = 6.0 if failover else rng.choice((6.0, 9.0, 9.0, 12.0))
        timeout = rng.choice((2.0, 3.0, 4.0))
        settings = harness.Settings(
            lease=timeout * (2 if self.style == "crawling" else rng.choice((2, 3, 4, 5))),
            timeout=timeout,
            retry_interval=rng.choice((3.0, 5.0)),
            resync_interval=rng.choice((30.0, 60.0)),
            sweep_interval=1.0,
            probe_interval=probe,
            probe_timeout=3.0,
            progress_interval=3.0,
            max_in_progress=rng.choice((100, 100, 100, 1, 2)),
            full_for=rng.choice((3.0, 10.0)),
            update_deadline=rng.choice((20.0, 40.0)),
            misses=rng.choice((1, 1, 2) if failover else (1, 1, 2, 2, 3)),
            goods=rng.choice((1, 1, 2)),
            brake_window=own.choice((5.0, 60.0)),
            stable_ceiling=own.choice((0, 10, 40)),
        )
        number = rng.choice((3, 3, 3, 4, 5) if failover else (2, 2, 2, 3, 3, 3, 4, 5))
        names = [f"cloud{i + 1}" for i in range(number)]
        self.names = names
        self.world = harness.World(seed, settings, names, rng.random() < 0.5)
        self.watch = invariants.Watch(self.world)
        self.world.watch = self.watch
        self.world.suffered = self._suffered
        for heat in self.world.heats.values():
            heat.duration = rng.choice(((0.2, 1.0), (0.5, 3.0), (1.0, 8.0)))
            heat.suffered = self._suffered

    def _suffered(self, kind: str) -> None:
        self.counts[f"met {kind}"] += 1

    # --- course -------------------------------------------------------------------------------------

    def play(self, plant: Any = None) -> Result:
        world, rng = self.world, self.rng
        violation = ""
        with world, plant if plant is not None else contextlib.nullcontext():
            self._found()
            failover, engines = self.style == "failover", self.style == "engines"
            many = self.style in ("engines", "crawling")
            witnesses = self.style == "witnesses"
            self.watch.witnesses = witnesses
            hosts = rng.choice((2, 2, 3) if many else (1, 1, 1, 2, 2, 3))
            if witnesses:
                hosts = self.own.choice((3, 3, 4, 5))
            elif self.own.random() < 0.3:
                world.zones = {
                    f"host{n + 1}": self.own.choice(("north", "south", "west"))
                    for n in range(hosts)
                }
            for host in range(hosts):
                world.schedule.at(
                    rng.uniform(0.0, 2.0), lambda host=host: self._begin(f"host{host + 1}", 1)
                )
            for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
                early = failover or rng.random() < 0.7
                self._change_at(rng.uniform(0.0, 3.0) if early else self._moment(), "create")
            if failover and rng.random() < 0.5:
                # What would be there runs elsewhere by weight; when it goes out, only the floors
                # keep it where it is.
                self._weak = rng.choice(self.names)
                world.schedule.start(None, "user", lambda: self._mark("cordon", self._weak))
            for _ in range(0 if failover else rng.randrange(5)):
                self._change_at(self._moment(), rng.choice(CHANGES + ASKED))
            kinds: tuple[tuple[str, ...], ...] = (
                CLOUD_FAULTS,
                CLOUD_FAULTS,
                HEAT_FAULTS,
                ENGINE_FAULTS,
            )
            if failover:
                kinds = (AWAY, AWAY, AWAY, ENGINE_FAULTS)
            elif engines:
                kinds = (ENGINE_FAULTS, ENGINE_FAULTS, SLOW)
            elif self.style == "crawling":
                kinds = (CRAWLING, CRAWLING, CRAWLING, HEAT_FAULTS, ENGINE_FAULTS)
            if self.own.random() < 0.2:
                at = self.own.uniform(10.0, UNTIL)
                self._change_at(at, self.own.choice(BACK_AND_FORTH))
            if not witnesses and len(self.names) >= 3 and self.own.random() < 0.1:
                self._vanish()
            if witnesses:
                # One host sees nothing, or not everything; the others see that all is well.
                self._cut_host = f"host{self.own.randint(1, hosts)}"
                kinds = (CUTS,)
            elif hosts > 1 and self.own.random() < 0.3:
                for _ in range(self.own.randrange(1, 4)):
                    self._fault(CUTS)
            for _ in range(rng.randrange(1, 4) if failover else rng.randrange(11)):
                self._fault(rng.choice(kinds))
            self._sicken()
            try:
                self._run()
            except harness.Violation as error:
                violation = str(error)
            took = world.schedule.now
        self.counts["events"] += world.schedule.events
        self.counts["rounds"] += self.watch.rounds
        self.counts["writes to Heats"] += self.watch.writes
        return Result(self.seed, violation, world.trace, self.counts, took)

    def _run(self) -> None:
        world = self.world
        world.schedule.run(UNTIL)
        # Whatever lasts, ends now.
        for heat in world.heats.values():
            heat.troubles.clear()
            heat.spoiled.clear()
            heat.capacity = None
        world.illnesses.clear()
        for engine in world.engines:
            engine.process.trap = None
        world.cuts.clear()
        world.tell("-", "nothing fails any more")
        if not any(engine.process.alive for engine in world.engines):
            self._begin("host1", 99)
        quiet = world.schedule.now
        why = ""
        while world.schedule.now < quiet + BOUND:
            self._repair()
            world.schedule.run(world.schedule.now + 2.0)
            self._settle_conflicts()
            why = self.watch.settled()
            if not why:
                break
        else:
            self.watch.fail("convergence", f"after {BOUND:.0f} s without faults: {why}")
            raise harness.Violation(str(world.schedule.trouble))
        self.counts["seconds to rest"] += int(world.schedule.now - quiet)
        world.tell("-", "at rest")
        if self.rng.random() < 0.1:
            # At rest it stays, once what was late on the wire has arrived and was set right.
            world.schedule.run(quiet + LONGEST)
            for _ in range(30):
                if not self.watch.settled():
                    break
                world.schedule.run(world.schedule.now + 2.0)
            writes = self.watch.writes
            world.schedule.run(world.schedule.now + 2 * world.settings.resync_interval)
            for _ in range(5):  # a round that only looks may just be under way
                if not (why := self.watch.settled()):
                    break
                world.schedule.run(world.schedule.now + 2.0)
            if self.watch.writes != writes or why:
                self.watch.fail("rest", f"it does not stay at rest: {why}")
                raise harness.Violation(str(world.schedule.trouble))

    def _repair(self) -> None:
        """What users chose to have left alone, they now have repaired; in stacks made late, too."""
        world = self.world
        for row in world.stacks():
            chosen = (row.on_drift, row.on_missing, row.failback)
            if not row.deleting and chosen != ("heal", "recreate", "auto"):
                world.tell("user", "repair", row.name)
                world.update_stack(
                    row.id,
                    {"on_drift": "heal", "on_missing": "recreate", "failback_mode": "auto"},
                )
                world.retry_stack(row.id)

    def _settle_conflicts(self) -> None:
        """What others did twice is left to people; here they see to it."""
        world = self.world
        for row in world.stacks():
            if any(m.conflict for m in row.members) and not row.deleting:
                world.tell("user", "retry", row.name)
                world.retry_stack(row.id)

    def _moment(self) -> float:
        return self.rng.uniform(0.0, UNTIL)

    def _begin(self, host: str, number: int) -> None:
        self.world.tell(f"{host}.{number}", "starts")
        harness.Engine(self.world, host, number)

    # --- faults -------------------------------------------------------------------------------------

    def _fault(self, kinds: tuple[str, ...]) -> None:
        rng, world = self.rng, self.world
        if kinds is CUTS:
            self._cut()
            return
        kind = rng.choice(kinds)
        self.counts[kind] += 1
        at = self._moment()
        if kind in ENGINE_FAULTS:
            world.schedule.at(at, lambda: self._trap(kind))
            return
        heat = world.heats[self._weak or rng.choice(self.names)]
        lasts = rng.choice((rng.uniform(0.5, 3.0), rng.uniform(2.0, LONGEST)))
        if self.style == "failover":
            at, lasts = rng.uniform(5.0, UNTIL - 12.0), rng.uniform(10.0, LONGEST)
        if kind in HEAT_FAULTS:
            world.schedule.at(at, lambda: self._inside(heat, kind, lasts))
            return
        timeout = world.settings.timeout
        methods: tuple[str, ...] = ("GET", "POST", "PATCH", "DELETE")
        if rng.random() < 0.4 or kind == "quota":
            methods = ("POST", "PATCH", "DELETE")
        if kind in ("refuse", "flap"):
            methods = ("GET", "POST", "PATCH", "DELETE")
        # Slow, but mostly not too slow to be waited for.
        seconds = rng.choice((rng.uniform(0.5, 12.0), rng.uniform(0.5, 0.95) * timeout))
        if self.style == "crawling":
            lasts, seconds = rng.uniform(8.0, LONGEST), rng.uniform(0.6, 0.95) * timeout
        trouble = heats.Trouble(
            kind,
            until=at + lasts,
            left=rng.choice((1, 2, 10**9)) if methods[0] == "POST" else 10**9,
            methods=methods,
            seconds=seconds,
            every=rng.uniform(1.0, 6.0),
            begun=at,
        )

        def begin() -> None:
            world.tell(heat.name, "suffers", kind, round(lasts, 1), " ".join(methods))
            heat.troubles.append(trouble)

        world.schedule.at(at, begin)

    def _cut(self) -> None:
        """A host loses its way to a cloud, or to all of them."""
        own, world = self.own, self.world
        kind = own.choice(CUTS)
        self.counts[kind] += 1
        host = self._cut_host or f"host{own.randint(1, 3)}"
        names = [*self.names] if kind == "cut_off" else [own.choice(self.names)]
        # Not before everybody has seen everything once.
        at = own.uniform(15.0 if self.style == "witnesses" else 0.0, UNTIL)
        until = at + own.uniform(2.0, LONGEST)

        def begin() -> None:
            world.tell(host, "is cut off from", ", ".join(names), "until", round(until, 1))
            for name in names:
                world.cuts[host, name] = max(until, world.cuts.get((host, name), 0.0))

        world.schedule.at(at, begin)

    def _vanish(self) -> None:
        """Most clouds go away within a second or two, and come back one by one."""
        own, world = self.own, self.world
        at = own.uniform(10.0, UNTIL - 10.0)
        for name in own.sample(self.names, own.randint(3, len(self.names))):
            self.counts["vanish"] += 1
            begins, heat = at + own.uniform(0.0, 2.0), world.heats[name]
            until = begins + own.uniform(12.0, 2 * LONGEST)

            def begin(heat: heats.Heat = heat, until: float = until) -> None:
                world.tell(heat.name, "vanishes until", round(until, 1))
                heat.troubles.append(heats.Trouble("refuse", until=until))

            world.schedule.at(begins, begin)

    def _sicken(self) -> None:
        """In some scenarios the database fails too; others are as they would be without."""
        lots = random.Random(self.seed + 3)
        if lots.random() > 0.2:
            return
        for _ in range(lots.randint(1, 4)):
            kind = lots.choice(DATABASE_FAULTS)
            self.counts[f"database: {kind}"] += 1
            begun = lots.uniform(0.0, UNTIL)
            lasts = lots.choice((lots.uniform(0.3, 2.0), lots.uniform(1.0, 10.0)))
            often = 1.0 if kind == "away" else lots.choice((0.2, 0.7))
            self.world.illnesses.append(harness.Illness(kind, begun, begun + lasts, often))

    def _inside(self, heat: heats.Heat, kind: str, lasts: float) -> None:
        rng, world = self.rng, self.world
        world.tell(heat.name, "suffers", kind)
        if kind == "restart":
            heat.restart()
            heat.troubles.append(
                heats.Trouble("refuse", until=world.schedule.now + min(lasts, 4.0))
            )
        elif kind == "failed":
            heat.spoiled += ["Resource failed: ValueError: no host"] * rng.choice((1, 1, 2, 4))
        elif kind == "full":
            heat.capacity = rng.randrange(1, 6)
        elif heat.live():
            stack = rng.choice(heat.live())
            if stack.action == "DELETE":
                return
            if kind == "drift":
                heat.by_hand(stack, max(0, stack.count + rng.choice((-2, -1, 1, 2))))
            elif harness.TAG in stack.tags:
                heat.by_hand(stack, None)

    def _trap(self, kind: str) -> None:
        """An engine is killed, or stands still, at one of its next pauses."""
        rng = self.rng
        living = [engine for engine in self.world.engines if engine.process.alive]
        if not living:
            return
        engine = rng.choice(living)
        process = engine.process
        process.trap_in = rng.randrange(1, 40)
        process.trap_busy = rng.random() < 0.8
        away = rng.uniform(0.5, 2.5 * self.world.settings.lease)

        def crash() -> None:
            engine.kill()
            self._suffered("crash")
            host, number = engine.name.split(".")
            self.world.schedule.at(
                self.world.schedule.now + away / 2, lambda: self._begin(host, int(number) + 1)
            )

        def stall() -> None:
            engine.stop_for(away)
            self._suffered("stall")

        process.trap = crash if kind == "crash" else stall

    # --- users --------------------------------------------------------------------------------------

    def _change_at(self, at: float, kind: str) -> None:
        self.counts[kind] += 1
        self.world.schedule.start(None, "user", lambda: self._change(kind), delay=at)

    def _found(self) -> None:
        """Heat stacks that were there before, to be taken over."""
        self._adoptable: list[str] = []
        if self.rng.random() < 0.2:
            name = "adopted"
            for heat in self.world.heats.values():
                heat.answer(
                    "POST",
                    "/stacks",
                    None,
                    {"stack_name": name, "parameters": {"count": self.rng.randrange(6)}},
                    "hand",
                )
            self._adoptable.append(name)

    def _weights(self, number: int) -> list[str]:
        """In tenths; together at most 1."""
        rng = self.rng
        left, weights = 10, []
        for i in range(number):
            last = i == number - 1
            part = left if last and rng.random() < 0.8 else rng.randint(0, left)
            weights.append(f"{part / 10:.1f}")
            left -= part
        rng.shuffle(weights)
        return weights

    def _bounds(self) -> dict[str, Any]:
        rng = self.rng
        minimum = rng.choice((0, 0, 0, 0, 1, 2))
        return {
            "minimum": minimum,
            "maximum": None if rng.random() < 0.7 else minimum + rng.randrange(8),
        }

    def _policies(self) -> dict[str, Any]:
        rng = self.rng
        return {
            "rebalance_mode": rng.choice(("immediate", "immediate", "gradual", "on-demand")),
            "rebalance_step": rng.choice((1, 2, 3)),
            "on_drift": rng.choice(("heal", "heal", "report", "ignore")),
            "on_missing": rng.choice(("recreate", "recreate", "hold", "move")),
            "on_stuck": rng.choice(("report", "retry")),
            "failback_mode": self.own.choice(("auto", "auto", "manual")),
            "failback_batch": self.own.choice((None, 1, 2)),
        }

    def _change(self, kind: str) -> None:
        rng, world = self.rng, self.world
        if kind == "create":
            self._created += 1
            self._create(f"web{self._created}")
            return
        rows = [row for row in world.stacks() if not row.deleting]
        if kind in ("cordon", "drain"):
            self._mark(kind, rng.choice(self.names))
            return
        if not rows:
            return
        row = rng.choice(rows)
        if kind in (*ASKED, *BACK_AND_FORTH):
            world.tell("user", kind, row.name)
            {
                "retry": world.retry_stack,
                "check": world.check_stack,
                "failback": world.failback,
                "force_failover": world.force_failover,
            }[kind](row.id)
            self._nudge(row.id)
            return
        members = [m for m in row.members if not m.leaving]
        values: dict[str, Any] = {}
        columns: dict[str, dict[str, Any]] = {}
        if kind == "count":
            values["count"] = rng.randrange(15)
        elif kind == "settings":
            values["failover_rule"] = rng.choice(("even", "proportional", "ordered", "hold"))
            values["surge"] = rng.choice((None, 0, 1, 2))
            values |= self._policies()
        elif kind == "weights":
            weights = self._weights(len(members))
            columns = {m.cloud: {"weight": w} for m, w in zip(members, weights, strict=True)}
        elif kind == "bounds":
            columns = {rng.choice(members).cloud: self._bounds()} if members else {}
        elif kind == "leave":
            if len(members) < 2:
                return
            columns = {rng.choice(members).cloud: {"leaving": True, "weight": "0"}}
        elif kind == "join":
            others = [name for name in self.names if name not in [m.cloud for m in members]]
            if not others or row.name == "adopted":
                return
            clouds = [m.cloud for m in members] + [rng.choice(others)]
            weights = self._weights(len(clouds))
            columns = {c: {"weight": w} for c, w in zip(clouds, weights, strict=True)}
            columns[clouds[-1]] |= {"leaving": False, "minimum": 0, "maximum": None}
        elif kind == "delete":
            values = {"deleting": True, "release": rng.random() < 0.1}
        world.tell("user", kind, row.name, str(values or ""), str(columns or ""))
        if not world.update_stack(row.id, values, columns, row.generation):
            return
        self._nudge(row.id)
        if kind != "delete":
            return
        if values["release"]:
            self.watch.released.add(row.name)
        elif rng.random() < 0.5 and row.name != "adopted":
            while any(other.name == row.name for other in world.stacks()):
                if world.schedule.now > UNTIL:
                    return
                world.schedule.sleep(1.0)
            self._create(row.name)

    def _create(self, name: str) -> None:
        rng, world = self.rng, self.world
        adopted = bool(self._adoptable)
        if adopted:
            name = self._adoptable.pop()
        least = 1 if rng.random() < 0.2 else 2
        if self.style == "failover":
            least = 3  # or nobody could lose what another one gets
        clouds = rng.sample(self.names, rng.randint(least, len(self.names)))
        weights = self._weights(len(clouds))
        values = {
            "name": name,
            "count": rng.choice((rng.randrange(13), rng.randrange(1, 6))),
            "template": None if adopted else TEMPLATE,
            "failover_rule": rng.choice(
                ("even", "even", "even", "proportional", "ordered", "hold")
            ),
            "rounding": rng.choice(("exact", "exact", "exact", "ceil")),
            "min_clouds": rng.choice((0, 0, 0, 1, 2)),
            "surge": rng.choice((None, None, None, 0, 1, 2)),
            "failover_toleration": rng.choice(
                (0, 0, 3) if self.style == "failover" else (0, 0, 3, 10)
            ),
            "failback_stable": rng.choice((0, 2, 8)),
            **self._policies(),
        }
        members = {
            cloud: {"weight": weight, "priority": rng.randrange(3)} | self._bounds()
            for cloud, weight in zip(clouds, weights, strict=True)
        }
        if values["min_clouds"] > len(clouds):
            values["min_clouds"] = len(clouds)
        world.tell("user", "create", name, str(values), str(members))
        stack_id = world.create_stack(values, members)
        self._nudge(stack_id)

    def _nudge(self, stack_id: str) -> None:
        if self.rng.random() < 0.8:
            self.world.nudge(stack_id)

    def _mark(self, kind: str, name: str) -> None:
        world = self.world
        cloud = world.clouds()[name]
        value = not (cloud.cordoned if kind == "cordon" else cloud.draining)
        world.tell("user", kind, name, value)
        world.update_cloud(name, **{"cordoned" if kind == "cordon" else "draining": value})
