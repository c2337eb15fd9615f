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
"""Random sequences of failures and returns through the pure core alone: judge, brake, allocate, plan.

Heats do at once what they are told, so what is looked at are the places at which everything has come
to rest between two events. A sequence takes milliseconds; run as a module it plays any number of them::

    python -m heat_spreader.tests.simulation.sequences --sequences 100000
"""

import argparse
import dataclasses
import datetime
import fractions
import random
import sys
import time

from heat_spreader.engine.core import allocation
from heat_spreader.engine.core import health
from heat_spreader.engine.core import plan
from heat_spreader.engine.core import values

Outcome = values.Outcome
Verdict = values.Verdict

MISSES, GOODS, INTERVAL, FRESH_FOR = 3, 3, 10.0, 45.0
WINDOW, PATIENCE = 300.0, 60.0
BEGINNING = datetime.datetime(2100, 1, 1)


class Violation(Exception):
    """A promise of the core is broken; the words say which and where."""


@dataclasses.dataclass
class Cloud:
    """What is true of a cloud, what observers have seen of it, and what is held to be true.

    :ivar cut: observers that cannot reach it although it works
    """

    name: str
    works: bool = True
    cut: set[str] = dataclasses.field(default_factory=set)
    answer: Outcome = Outcome.OK
    verdict: Verdict = Verdict.UNKNOWN
    since: datetime.datetime = BEGINNING
    rule: str = ""
    relapses: int = 0
    returned_at: datetime.datetime | None = None
    readings: dict[str, values.Reading] = dataclasses.field(default_factory=dict)


class World:
    """One stack over some clouds, and those who look at them."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        self.now = BEGINNING
        names = [f"cloud{i}" for i in range(rng.randint(2, 6))]
        self.clouds = {name: Cloud(name) for name in names}
        self.observers = {
            f"host{i}": rng.choice((None, "north", "south", "west"))
            for i in range(rng.choice((1, 2, 3, 3, 5)))
        }
        self.held: frozenset[str] = frozenset()
        self.calm_since: datetime.datetime | None = None
        count = rng.choice((0, 1, 2, 3, 5, 7, 10, 10, 24, 100))
        self.stack = values.Stack(
            id=f"{seed:08x}",
            name="web",
            count=count,
            count_parameter="count",
            rule=rng.choice(tuple(allocation.Rule)),
            rounding="exact",
            min_clouds=rng.choice((0, 0, 0, 1, 2, 3)),
            surge=rng.choice((None, None, None, 0, 1, 3)),
            toleration=rng.choice((0, 30, 60)),
            stable=rng.choice((0, 60, 300)),
            templated=True,
            deleting=False,
            release=False,
            rebalance=rng.choice((*values.Rebalance, values.Rebalance.IMMEDIATE)),
            step=rng.choice((1, 2)),
            batch=rng.choice((None, 1, 2, 5)),
        )
        left = 100
        self.members: dict[str, values.Member] = {}
        for i, name in enumerate(names):
            weight = rng.randint(0, left)
            if i == len(names) - 1 and rng.random() < 0.7:
                weight = left
            left -= weight
            low = rng.choice((0, 0, 0, 0, 1, 2))
            self.members[name] = values.Member(
                id=name,
                cloud=f"id-{name}",
                name=name,
                weight=fractions.Fraction(weight, 100),
                minimum=low,
                maximum=None if rng.random() < 0.75 else low + rng.randint(0, 12),
                priority=rng.randint(0, 2),
                leaving=False,
                owned=True,
                verdict=Verdict.UNKNOWN,
                verdict_since=None,
                verdict_reason="",
                seen=False,
                cordoned=False,
                draining=False,
                phase=values.Phase.ABSENT,
                heat_status="",
                heat_status_reason="",
                held=0,
                observed=None,
                confirmed=0,
                out=False,
                floor=None,
                problem="",
                retry_at=None,
            )

    # --- who looks ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Each observer looks at each cloud once, and the clouds are judged."""
        self.now += datetime.timedelta(seconds=INTERVAL)
        for cloud in self.clouds.values():
            for observer, zone in self.observers.items():
                before = cloud.readings.get(observer)
                reached = cloud.works and observer not in cloud.cut
                outcome = cloud.answer if reached else Outcome.UNREACHABLE
                good, miss = outcome is Outcome.OK, outcome is Outcome.UNREACHABLE
                cloud.readings[observer] = values.Reading(
                    observer=observer,
                    outcome=outcome,
                    detail="",
                    misses=(before.misses if before else 0) + 1 if miss else 0,
                    goods=(before.goods if before else 0) + 1 if good else 0,
                    since=self.now,
                    observed_at=self.now,
                    zone=zone,
                    seen=good or bool(before and before.seen),
                )
            self._judge(cloud)
        decided = health.brake(
            [values.CloudState(c.name, c.verdict, c.since, c.rule) for c in self.clouds.values()],
            self.now,
            self.held,
            window=WINDOW,
            patience=PATIENCE,
        )
        if self.held and not decided.clouds:
            self.calm_since = self.now
        braked_at = self.stack.braked_at if self.held else self.now
        self.held = decided.clouds
        self.stack = dataclasses.replace(
            self.stack,
            brake="The brake is on." if self.held else "",
            braked_at=braked_at if self.held else None,
            hold_until=decided.hold_until,
            calm_since=self.calm_since,
        )

    def _judge(self, cloud: Cloud) -> None:
        judged = health.judge(
            cloud.verdict,
            list(cloud.readings.values()),
            self.now,
            misses=MISSES,
            goods=GOODS,
            fresh_for=FRESH_FOR,
        )
        cloud.rule = judged.rule
        if judged.verdict is cloud.verdict:
            return
        if judged.verdict is Verdict.UNREACHABLE:
            cloud.relapses = health.relapses(
                cloud.relapses, cloud.returned_at, self.now, self.stack.ceiling
            )
        elif cloud.verdict is Verdict.UNREACHABLE:
            cloud.returned_at = self.now
        cloud.verdict, cloud.since = judged.verdict, self.now

    # --- what is done -------------------------------------------------------------------------------

    def round(self) -> bool:
        """Plan, and do what was planned; whether anything was to be done."""
        members = [
            dataclasses.replace(
                m,
                verdict=(cloud := self.clouds[m.name]).verdict,
                verdict_since=cloud.since,
                verdict_reason="so it is",
                relapses=cloud.relapses,
                seen=cloud.works and cloud.verdict is Verdict.HEALTHY,
            )
            for m in self.members.values()
        ]
        decided = plan.plan(self.stack, members, self.now)
        self._check(members, decided)
        steps = {step.member: step for step in decided.steps}
        for m in members:
            step = steps.get(m.id)
            if step is not None:
                if m.verdict is not Verdict.HEALTHY:
                    raise Violation(f"a write to {m.name}, which is {m.verdict}")
                m = dataclasses.replace(
                    m,
                    phase=values.Phase.IDLE,
                    heat_status="UPDATE_COMPLETE",
                    held=step.units,
                    observed=step.units,
                    confirmed=step.units,
                )
            self.members[m.name] = dataclasses.replace(
                m,
                out=m.id in decided.out,
                floor=decided.floors[m.id],
                returning=m.id in decided.returning,
                share=decided.shares[m.id],
            )
        return bool(steps)

    def _check(self, members: list[values.Member], decided: plan.Plan) -> None:
        ledger, stack = decided.ledger, self.stack
        total = ledger.assigned + ledger.shortfall + ledger.unassigned - ledger.excess
        if total != stack.count:
            raise Violation(f"the ledger adds up to {total}, not {stack.count}: {ledger}")
        if self.held:
            for step in decided.steps:
                if step.units < step.before:
                    raise Violation(f"{step.member} is lowered although the brake is on")
            if decided.out - {m.id for m in members if m.out}:
                raise Violation(f"{set(decided.out)} go out although the brake is on")

    def rest(self) -> None:
        """Look and work until nothing more happens, and no time would change that."""
        quiet, waited = 0, False
        before: object = None
        for _ in range(500):
            self.look()
            seen = self.held, [cloud.verdict for cloud in self.clouds.values()]
            if seen == before and not (waited and quiet == 0):
                quiet += 1
                if quiet > MISSES and waited:
                    return
                if quiet > MISSES:
                    self.pass_by(self.stack.toleration)
                    quiet, waited = 0, True
                continue
            moved = False
            while self.round():
                moved = True
            waited = waited and not moved and seen == before
            quiet, before = 1, seen
        raise Violation("it does not come to rest")

    def pass_by(self, seconds: float) -> None:
        """Time in which everybody sees what he sees now."""
        self.now += datetime.timedelta(seconds=seconds)
        for each in self.clouds.values():
            each.readings = {
                observer: dataclasses.replace(seen, observed_at=self.now)
                for observer, seen in each.readings.items()
            }

    # --- what befalls it ----------------------------------------------------------------------------

    def play(self, events: int) -> None:
        self.rest()
        for _ in range(events):
            what = self.rng.choice(("fail", "fail", "return", "cut", "sick", "wait"))
            cloud = self.rng.choice(tuple(self.clouds.values()))
            getattr(self, f"_{what}")(cloud)

    def _fail(self, cloud: Cloud) -> None:
        """No cloud that stays in sight loses a unit because this one goes away."""
        others = self.rng.sample(
            tuple(self.clouds.values()), self.rng.choice((0, 0, 0, 1, 2)) % len(self.clouds)
        )
        for each in (cloud, *others):
            each.works = False
        before = {name: m.held for name, m in self.members.items()}
        out = {name for name, m in self.members.items() if m.out}
        settled = (
            not any(m.returning for m in self.members.values())
            and sum(before.values()) <= self.stack.count
        )
        self.rest()
        now_out = {name for name, m in self.members.items() if m.out}
        if not settled or not now_out >= out:
            return  # a return came in between
        for name, m in self.members.items():
            if (
                self.clouds[name].verdict is Verdict.HEALTHY
                and not m.out
                and m.held < before[name]
            ):
                raise Violation(
                    f"{name} went from {before[name]} to {m.held} when {sorted(now_out - out)} failed"
                )

    def _return(self, cloud: Cloud) -> None:
        cloud.works, cloud.answer, cloud.cut = True, Outcome.OK, set()
        self.rest()

    def _cut(self, cloud: Cloud) -> None:
        """As long as most of those who vote see a cloud, nothing moves because others do not."""
        if len({zone or host for host, zone in self.observers.items()}) < 3 or not cloud.works:
            return
        before = {name: m.held for name, m in self.members.items()}
        busy = any(m.returning or m.out for m in self.members.values())
        alone = self.rng.choice([*self.observers])
        for each in self.rng.choice(([cloud], [*self.clouds.values()])):
            each.cut.add(alone)
        self.rest()
        after = {name: m.held for name, m in self.members.items()}
        if not busy and before != after:
            raise Violation(f"{before} became {after} because {alone} was cut off")
        for each in self.clouds.values():
            each.cut.discard(alone)
        self.rest()

    def _sick(self, cloud: Cloud) -> None:
        """What answers, however badly, is not left."""
        before = {name: m.held for name, m in self.members.items()}
        if not cloud.works or any(m.returning or m.out for m in self.members.values()):
            return
        cloud.answer = self.rng.choice((Outcome.SICK, Outcome.BUSY, Outcome.REFUSING))
        self.rest()
        after = {name: m.held for name, m in self.members.items()}
        if before != after:
            raise Violation(f"{before} became {after} because {cloud.name} was {cloud.answer}")
        cloud.answer = Outcome.OK
        self.rest()

    def _wait(self, cloud: Cloud) -> None:
        self.pass_by(self.rng.choice((400, 4000)))
        self.rest()


def play(seed: int, events: int = 6) -> str:
    """What was violated, or nothing."""
    try:
        World(seed).play(events)
    except Violation as violation:
        return str(violation)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="heat_spreader.tests.simulation.sequences")
    parser.add_argument("--sequences", type=int, default=1000, help="How many of them.")
    parser.add_argument("--first", type=int, default=0, help="The seed of the first one.")
    args = parser.parse_args()
    began, wrong = time.monotonic(), 0
    for seed in range(args.first, args.first + args.sequences):
        if said := play(seed):
            wrong += 1
            print(f"seed {seed}: {said}")
            if wrong == 5:
                break
    print(f"{args.sequences} sequences, {wrong} wrong, in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
