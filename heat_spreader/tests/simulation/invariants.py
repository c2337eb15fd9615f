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

"""What must be so after each step, and in the end.

Each check says in a comment which promise it holds the product to, and what it lets pass. To add
one: call ``fail`` from the hook that sees what it is about.
"""

import dataclasses
from typing import Any

from heat_spreader.tests.simulation import harness
from heat_spreader.tests.simulation import heats


@dataclasses.dataclass
class Known:
    """What is known of one stack from outside.

    :ivar target: units that may be asked for at least, whatever round is under way
    :ivar coming: the target once a round has been saved that began after the user's latest change
    :ivar guarded: units that run for sure and must go on running
    :ivar changed: when a user last changed the stack, its clouds, or was done to by a third party
    """

    id: str
    name: str
    target: int = 0
    coming: int = 0
    guarded: int = 0
    changed: float = 0.0
    deleting: bool = False
    # When a third party last changed one of its Heat stacks, until all is well again.
    by_hand: float | None = None
    last: harness.StackRow | None = None
    # The generation that the last round decided by.
    decided: int = 0
    floors: dict[str, int] = dataclasses.field(default_factory=dict)
    out: frozenset[str] = frozenset()
    out_since: float = 0.0
    was_out: frozenset[str] = frozenset()


class Watch:
    """Looks at everything that happens in a world."""

    def __init__(self, world: harness.World) -> None:
        self.world = world
        self.stacks: dict[str, Known] = {}
        self.by_name: dict[str, Known] = {}
        # Stacks that were let go: their Heat stacks are nobody's.
        self.released: set[str] = set()
        # All that ever fails is what one host sees, of several.
        self.witnesses = False
        self.rounds = 0
        self.writes = 0
        # The greatest age of what an engine knows when it decides.
        settings = world.settings
        self._stale = 2 * (settings.probe_interval + settings.probe_timeout)
        for heat in world.heats.values():
            heat.changed = self.changed

    def fail(self, invariant: str, *what: Any) -> None:
        """End the scenario: this invariant does not hold."""
        schedule = self.world.schedule
        if schedule.trouble is None:
            text = " ".join(str(part) for part in what)
            self.world.tell("invariant", f"VIOLATED: {invariant}", text)
            schedule.trouble = harness.Violation(f"{invariant}: {text}")

    # --- what users do ------------------------------------------------------------------------------

    def wanted(self, stack_id: str, name: str, *, deleting: bool = False) -> None:
        """A user has made or changed this stack."""
        known = self.stacks.get(stack_id)
        if known is None:
            known = self.stacks[stack_id] = self.by_name[name] = Known(stack_id, name)
        row = self.world.stack(stack_id)
        known.changed = self.world.schedule.now
        known.deleting = known.deleting or deleting
        fresh = 0
        if row is not None and not known.deleting:
            held = {member.cloud: member.held for member in row.members}
            # Units over the count, as minimums and clouds in doubt may make them, are nobody's wish.
            fresh = min(row.count, sum(self.world.allocate(row, held).shares.values()))
        known.coming = fresh
        known.target = min(known.target, fresh)
        known.guarded = min(known.guarded, known.target)

    def cloud_changed(self) -> None:
        for known in list(self.stacks.values()):
            if self.world.stack(known.id) is not None:
                self.wanted(known.id, known.name)

    # --- the database -------------------------------------------------------------------------------

    def wrote(
        self, query: str, task: harness.Task, before: list[tuple[Any, ...]], result: Any
    ) -> None:
        """An engine has written for a claim."""
        # "A stalled engine that wakes after its lease can write [not] the database": nothing of it is
        # stored once another engine has claimed the stack.
        if not before:
            self.fail("superseded", query, "wrote for a stack that is gone")
        elif before[0][0] != task.epoch:
            self.fail(
                "superseded", f"{query} with epoch {task.epoch}, which by then was {before[0][0]}"
            )
        if query == "save_round":
            row = self.world.stack(task.stack)
            if row is not None:
                self._saved(row, task)

    def _saved(self, row: harness.StackRow, task: harness.Task) -> None:
        known = self.stacks.get(row.id)
        if known is None:
            return
        self.rounds += 1
        world = self.world
        world.tell(
            world.who(),
            "saved",
            row.name,
            row.status,
            *(
                f"{m.cloud}={m.share}/{m.held}/{m.confirmed}{'*' if m.out else ''} {m.status}"
                for m in row.members
            ),
            row.ledger,
            row.reason,
        )
        if row.generation == task.generation and not row.deleting:
            self._ledger(row)
        if task.moment > known.changed:
            known.target = known.coming
        if known.by_hand is not None and task.moment > known.by_hand + self._stale:
            if row.status in ("ACTIVE", "DEGRADED") and not any(
                m.status == "OUT_OF_SIGHT" for m in row.members
            ):
                known.by_hand, known.guarded = None, 0
        self._guard(known, self.sure(known.name))
        self._failover(known, row, task)
        self._braked(known, row, task)
        known.last, known.decided = row, task.generation

    def _ledger(self, row: harness.StackRow) -> None:
        # shares + shortfall + unassigned - excess = count, in every round that is saved; with CEIL the
        # clouds together may get more than the count.
        ledger = row.ledger
        if not ledger:
            return
        shares = sum(member.share or 0 for member in row.members)
        total = ledger["assigned"] + ledger["shortfall"] + ledger["unassigned"] - ledger["excess"]
        if shares != ledger["assigned"]:
            self.fail("ledger", row.name, f"shares add up to {shares}", ledger)
        if ledger["desired"] != row.count:
            self.fail("ledger", row.name, f"of a count of {row.count}", ledger)
        if total != row.count and (row.rounding != "ceil" or total < row.count):
            self.fail("ledger", row.name, f"adds up to {total}, not {row.count}", ledger)
        # "bound never exceeds count + surge, except by what was already there": what those in sight are
        # to hold, and what may run on clouds out of sight.
        if row.surge is not None:
            out = sum(m.held for m in row.members if m.out)
            now = sum(m.share or 0 for m in row.members if not m.out)
            held = sum(m.held for m in row.members if not m.out)
            most = max(held, max(row.count, total) + row.surge - out)
            if out and now > most:
                self.fail("surge", row.name, f"{now} for those in sight, at most {most}", ledger)
        # Bounds: nothing is raised beyond its maximum.
        for m in row.members:
            if m.maximum is not None and (m.share or 0) > max(m.maximum, m.held):
                self.fail("bounds", row.name, f"{m.cloud} gets {m.share} of at most {m.maximum}")

    def _braked(self, known: Known, row: harness.StackRow, task: harness.Task) -> None:
        # "Three of five clouds vanish: nothing is created anywhere": nobody goes out while the brake was
        # on before the stack was claimed, unless an administrator has ever forced this stack.
        out = frozenset(m.cloud for m in row.members if m.out)
        came = out - known.was_out
        if came and task.braked and not row.forced and not row.deleting:
            self.fail("brake", row.name, f"{sorted(came)} out although {task.braked} hold it on")
        # "Cut one of three observers off: no move": where only one host ever fails to see, nobody does.
        if came and self.witnesses:
            self.fail("witnesses", row.name, f"{sorted(came)} out because of one host")
        known.was_out = out

    def _failover(self, known: Known, row: harness.StackRow, task: harness.Task) -> None:
        # "No healthy cloud loses a unit because another one failed", at fixed count, weights and
        # bounds; from when clouds went out until one of them returns.
        out = frozenset(m.cloud for m in row.members if m.out)
        last = known.last
        if (
            not out
            or row.deleting
            or known.by_hand is not None
            or last is None
            or task.moment < known.changed
            or row.generation != known.decided
            or row.generation != task.generation
            or not out >= known.out
        ):
            known.floors, known.out = {}, out if last is not None else frozenset()
            if out:
                known.out_since = self.world.schedule.now
            return
        if known.changed > known.out_since:
            known.floors = {}
        if out > known.out and known.changed < task.moment:
            there = [m for m in last.members if m.cloud not in out and not m.leaving]
            # Let pass: a minimum goes before a floor, and one that was not served is served first when its
            # cloud can be raised again in the moment in which others go out; and what is held above the
            # target, by the brake or in the middle of a movement, is to be taken away from somebody.
            above = sum(m.held for m in there) > row.count or last.ledger.get("excess")
            if not (above or any(m.minimum > m.held for m in there)):
                for m in there:
                    runs = min(m.confirmed, m.share or 0, self._sure_in(m.cloud, row.name))
                    known.floors[m.cloud] = max(known.floors.get(m.cloud, 0), runs)
            known.out, known.out_since = out, self.world.schedule.now
        before = {m.cloud: m for m in last.members}
        if any(
            # A minimum goes before them, too, when its cloud is in sight again.
            (before[m.cloud].share or 0) < min(m.minimum, m.share or 0)
            # And units that were found make their cloud one of those that give and take.
            or m.held > max(before[m.cloud].held, m.share or 0)
            for m in row.members
            if m.cloud in before
        ):
            known.floors = {}
        clouds = self.world.clouds()
        for m in row.members:
            floor = known.floors.get(m.cloud, 0)
            if m.maximum is not None:
                floor = min(floor, m.maximum)
            if m.cloud in out or m.leaving or clouds[m.cloud].draining:
                continue
            if m.reason.startswith("keeps"):
                continue
            if (m.share or 0) < floor:
                self.fail(
                    "failover",
                    row.name,
                    f"{m.cloud} goes to {m.share} from {floor} while {sorted(out)} are out",
                )

    # --- the wire -----------------------------------------------------------------------------------

    def sends(
        self,
        heat: heats.Heat,
        method: str,
        path: str,
        body: Any,
        task: harness.Task | None,
        kind: str,
    ) -> None:
        """A request that writes leaves an engine."""
        world = self.world
        self.writes += 1
        units = _units(body)
        world.tell(
            world.who(), "sends", heat.name, method, path, "" if units is None else units, kind
        )
        if path.endswith("/validate"):
            return
        if task is None and method == "DELETE" and self._nobodys(heat, path):
            return  # made late for a member that is gone, and deleted by whoever sees it
        if task is None:
            self.fail("claim", f"{method} {path} to {heat.name} without a claim")
            return
        # No write by a superseded engine, but for what is on the wire: it may leave only within the
        # lease.
        claim = world.epoch(task.stack)
        if claim is None or claim[0] != task.epoch:
            self.fail(
                "superseded", f"{method} {path} to {heat.name} with epoch {task.epoch} of {claim}"
            )
        elif claim[1] is None or claim[1] < world.schedule.now:
            self.fail(
                "lease", f"{method} {path} to {heat.name} after the lease ended at {claim[1]}"
            )
        # No write to an unreachable cloud. What counts is the verdict that was stored when the stack
        # was claimed: nobody else can give this stack's units away before the claim ends, so a
        # verdict that comes meanwhile does no harm.
        if task.verdicts.get(heat.name) == "unreachable":
            self.fail("unreachable", f"{method} {path} to {heat.name}")
        row = world.stack(task.stack)
        if units is None or row is None or row.generation != task.generation:
            return
        there = heat.named(row.name)
        for m in row.members:
            if m.cloud == heat.name and m.maximum is not None:
                # To take away what is above the maximum may take several steps.
                if units > max(m.maximum, m.held, there.count if there else 0):
                    self.fail("bounds", f"{heat.name} is to get {units} of {m.maximum}")

    def _nobodys(self, heat: heats.Heat, path: str) -> bool:
        stack = heat.stacks.get(path.split("/")[3])
        members = {m.id for row in self.world.stacks() for m in row.members}
        return stack is not None and not any(
            tag.removeprefix(harness.MEMBER_TAG) in members for tag in stack.tags
        )

    def arrives(
        self, heat: heats.Heat, method: str, path: str, body: Any, task: harness.Task | None
    ) -> None:
        """A request that writes is about to be carried out."""
        world = self.world
        units = _units(body)
        world.tell(heat.name, "does", method, path, "" if units is None else units)
        if method != "PATCH" or task is None or task.late:
            return
        # No PATCH while that Heat stack is at work, and none that changes nothing. Let pass: what
        # somebody else did there after this engine can last have looked.
        parts = path.split("/")
        if len(parts) < 4:
            self.fail("trespass", f"PATCH {path} without an id")
            return
        stack = heat.stacks.get(parts[3])
        if stack is None:
            return
        for moment, who in reversed(stack.touches):
            if _foreign(who) and moment > task.moment - self._stale:
                return
            if isinstance(who, harness.Task) and who.epoch != task.epoch and moment > task.moment:
                return  # it was on the wire when its claim ended
            if moment < task.moment - self._stale:
                break
        if stack.busy:
            if world.schedule.now - stack.since >= world.settings.update_deadline - self._stale:
                return  # it is stuck, and the users of its stack want it to be sent again
            self.fail("trespass", f"PATCH {path} to {units} during {stack.action}_{stack.status}")
        elif stack.status == "COMPLETE" and stack.count == units:
            self.fail("trespass", f"PATCH {path} to {units}, which it is already")

    # --- the Heats ----------------------------------------------------------------------------------

    def sure(self, name: str) -> int:
        return sum(self._sure_in(cloud, name) for cloud in self.world.heats)

    def _sure_in(self, cloud: str, name: str) -> int:
        """What runs there of this stack; not of one that had its name before, and is late."""
        known = self.by_name.get(name)
        tag = f"heat-spreader-stack-{known.id}" if known else None
        return sum(
            s.sure
            for s in self.world.heats[cloud].live()
            if s.name == name and (tag in s.tags or harness.TAG not in s.tags)
        )

    def changed(self, heat: heats.Heat, stack: heats.HeatStack, who: Any, how: str) -> None:
        """Something has become of a Heat stack."""
        world = self.world
        world.tell(
            heat.name,
            how,
            stack.name,
            f"{stack.action}_{stack.status}",
            f"count {stack.count} sure {stack.sure}",
            "" if isinstance(who, harness.Task) or who is None else who,
        )
        # One Heat stack for a member, in each cloud.
        if stack.action == "CREATE" and how == "begins":
            for tag in stack.tags:
                if tag.startswith(harness.MEMBER_TAG):
                    twins = [s for s in heat.live() if tag in s.tags and s.action != "DELETE"]
                    if len(twins) > 1:
                        self.fail("duplicate", f"{heat.name} has {len(twins)} of {tag}")
        known = self.by_name.get(stack.name)
        if known is None:
            return
        sure = self.sure(stack.name)
        if _foreign(who):
            known.changed = known.by_hand = world.schedule.now
            known.floors = {}
        elif known.by_hand is None and sure < known.guarded and sure < self._fits(known, who):
            # "Confirmed units never below count during failback or movement when nothing failed": what
            # runs for sure, complete or the lesser count of a change under way, does not fall below
            # what the user wants; nor, on the way there, below what it had come to.
            self.fail("confirmed", f"{stack.name}: {sure} run for sure, of {known.guarded}")
        self._guard(known, sure)

    def _fits(self, known: Known, who: Any) -> int:
        """What has to run of what is guarded.

        Units that a user sends away from a cloud, and that fit nowhere while others are out of sight,
        are given up. A round may have been unable to look into any one of them.
        """
        row = self.world.stack(known.id)
        if row is None:
            return known.guarded
        verdicts = {cloud.name: cloud.verdict for cloud in self.world.clouds().values()}
        if isinstance(who, harness.Task):
            verdicts |= who.verdicts
        held = {member.cloud: member.held for member in row.members}
        # A cordoned cloud may have less than the row says: by a raise that failed, or an engine that died.
        found = {cloud: self._sure_in(cloud, row.name) for cloud in held}
        out = {m.cloud: "down" for m in row.members if m.out}
        dim = {name for name, verdict in verdicts.items() if verdict != "healthy"}
        views = [dict.fromkeys(dim, how) | out for how in ("down", "frozen")]
        views += [views[1] | {m.cloud: "frozen"} | out for m in row.members]
        return min(
            known.guarded,
            *(
                sum(self.world.allocate(row, units, view).shares.values())
                for view in views
                for units in (held, found)
            ),
        )

    def _guard(self, known: Known, sure: int) -> None:
        if sure < known.guarded:
            # It was given up, or somebody else took it; what is asked for next may be as little.
            known.target = min(known.target, sure)
        known.guarded = min(known.target, max(known.guarded, sure))

    # --- the end ------------------------------------------------------------------------------------

    def settled(self) -> str:
        """Empty when everything is as it should be when nothing fails any more; else what is not."""
        world = self.world
        for heat in world.heats.values():
            for stack in heat.live():
                if stack.busy:
                    return f"{heat.name} is at work on {stack.name}"
        unsettled = world.unsettled()
        if unsettled:
            return f"not done with {unsettled[0][0]}"
        owned = set()
        clouds = world.clouds()
        for name, cloud in clouds.items():
            if cloud.verdict != "healthy":
                return f"{name} is {cloud.verdict}"
        for row in world.stacks():
            if row.deleting:
                return f"{row.name} is being deleted"
            held = {}
            for m in row.members:
                if m.out:
                    return f"{row.name} has {m.cloud} out of its allocation"
                found = world.heats[m.cloud].named(row.name)
                if found is not None:
                    if found.id != m.heat_stack_id:
                        return f"{row.name}: {m.cloud} has another Heat stack"
                    if found.status != "COMPLETE":
                        return f"{row.name}: {m.cloud} is {found.action}_{found.status}"
                    owned.add(found.id)
                    held[m.cloud] = found.count
            allocated = world.allocate(row, held)
            # Where nobody can take over what a member holds, it cannot leave.
            stays = any(m.leaving and allocated.shares[m.cloud] for m in row.members)
            for m in row.members:
                if m.leaving and not stays:
                    return f"{row.name} has not left {m.cloud}"
                if held.get(m.cloud, 0) != allocated.shares[m.cloud]:
                    return f"{row.name}: {m.cloud} has {held.get(m.cloud, 0)}, not {allocated.shares[m.cloud]}"
                if (m.share, m.confirmed) != (held.get(m.cloud, 0),) * 2:
                    return f"{row.name}: {m.cloud} shows share {m.share}, confirmed {m.confirmed}"
                if m.status != ("LEAVING" if m.leaving else "ACTIVE"):
                    return f"{row.name}: {m.cloud} is {m.status}: {m.reason}"
            right = "DEGRADED" if allocated.shortfall or allocated.reasons else "ACTIVE"
            if row.count and allocated.shortfall and not any(held.values()):
                right = "ERROR"  # nothing at all can run
            if stays:
                right = "CONVERGING"
            if row.status != right:
                return f"{row.name} is {row.status}, not {right}: {row.reason}"
            ledger = row.ledger
            running = sum(held.values())
            if (ledger["confirmed"], ledger["bound"], ledger["in_doubt"]) != (running, running, 0):
                return f"{row.name}: {running} run, and the ledger says {ledger}"
        for name, heat in world.heats.items():
            for stack in heat.live():
                if stack.name in self.released:
                    continue
                if harness.TAG in stack.tags and stack.id not in owned:
                    return f"orphan {stack.name} in {name}: {stack.tags}"
        return ""


def _foreign(who: Any) -> bool:
    """It was not an engine, or a request of one that was carried out when nobody expected it any more."""
    return who == "hand" or (isinstance(who, harness.Task) and who.late)


def _units(body: Any) -> int | None:
    if isinstance(body, dict) and "count" in body.get("parameters", ()):
        return int(body["parameters"]["count"])
    return None
