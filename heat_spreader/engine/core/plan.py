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
"""From what is wanted and what is seen to the next steps for one stack. Pure.

One function serves creation, resizing, failover, failback and deletion: each is what allocation gives
for the verdicts of the moment. Units are raised first; reductions wait until the units that replace
them are confirmed, so a move never costs a unit.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import datetime
import enum
import math

from heat_spreader.engine.core import allocation
from heat_spreader.engine.core import values

Phase = values.Phase
Standing = allocation.Standing
Verdict = values.Verdict

_VISIBLE = (Standing.RAISABLE, Standing.CORDONED, Standing.DRAINING)


class Action(enum.StrEnum):
    CREATE = "create"
    RESIZE = "resize"
    CHECK = "check"
    DELETE = "delete"
    FORGET = "forget"


class MemberStatus(enum.StrEnum):
    PENDING = "PENDING"
    CONVERGING = "CONVERGING"
    ACTIVE = "ACTIVE"
    WAITING = "WAITING"
    FULL = "FULL"
    DRIFTED = "DRIFTED"
    MISSING = "MISSING"
    OUT_OF_SIGHT = "OUT_OF_SIGHT"
    ERROR = "ERROR"
    LEAVING = "LEAVING"


class StackStatus(enum.StrEnum):
    CONVERGING = "CONVERGING"
    ACTIVE = "ACTIVE"
    DEGRADED = "DEGRADED"
    ERROR = "ERROR"
    DELETING = "DELETING"


@dataclasses.dataclass(frozen=True)
class Step:
    """One change to one member. ``before`` and ``units`` are counts; FORGET touches no cloud."""

    action: Action
    member: str
    units: int = 0
    before: int = 0


@dataclasses.dataclass(frozen=True)
class View:
    """What a person is told of a member."""

    status: MemberStatus
    reason: str


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What runs for sure, what may be running, and what was asked for; all in units.

    :ivar confirmed: on clouds in sight, in Heat stacks that are complete
    :ivar in_doubt: last held on clouds out of sight
    :ivar bound: the most that can be running: confirmed, in doubt and in flight
    :ivar distance: on clouds in sight, held elsewhere than where the weights want them
    """

    desired: int = 0
    assigned: int = 0
    unassigned: int = 0
    shortfall: int = 0
    excess: int = 0
    confirmed: int = 0
    in_doubt: int = 0
    bound: int = 0
    distance: int = 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The outcome of one decision.

    :ivar shares: member id to units; for members that are left alone, what they hold
    :ivar out: members whose clouds are out of the allocation from now on
    :ivar floors: member id to the floor that holds while ``out`` stays as it is
    :ivar returning: members to which units go back in batches
    :ivar waits: this engine has yet to see a cloud, and knows nothing new of the stack
    :ivar applied: what the user asked for has been done as far as it can be
    :ivar wake_in: seconds until something is due although nothing was seen to move; None: nothing
    """

    steps: tuple[Step, ...]
    shares: dict[str, int]
    out: frozenset[str]
    floors: dict[str, int | None]
    views: dict[str, View]
    ledger: Ledger
    status: StackStatus
    reason: str
    applied: bool
    wake_in: float | None
    returning: frozenset[str] = frozenset()
    waits: bool = False


# Without a size of its own a batch of units that go back is a tenth of the count, and no smaller.
_BATCH = 10


def standing(
    stack: values.Stack, member: values.Member, now: datetime.datetime
) -> allocation.Standing:
    """What allocation may do with a member; the first rule that fits wins.

    A brake leaves each of them as it is: nobody goes out or comes back, and nobody is drained.
    """
    if member.lost:
        return Standing.DOWN
    if member.out and (braked(stack) or not _returned(stack, member, now)):
        return Standing.DOWN
    if member.verdict is Verdict.UNREACHABLE and _fails_over_in(stack, member, now) <= 0:
        return Standing.DOWN
    if member.verdict is not Verdict.HEALTHY or not member.seen:
        return Standing.FROZEN
    if member.leaving or (member.draining and not braked(stack)):
        return Standing.DRAINING
    if member.cordoned or member.draining:
        return Standing.CORDONED
    return Standing.RAISABLE


def _returned(stack: values.Stack, member: values.Member, now: datetime.datetime) -> bool:
    if member.verdict is not Verdict.HEALTHY or not member.seen:
        return False
    if member.recalled:
        return True
    by_itself = stack.failback is values.Failback.AUTO
    return by_itself and _age(member, now) >= stable(stack, member)


def stable(stack: values.Stack, member: values.Member) -> int:
    """Seconds that this cloud must be healthy before it is let back: doubled at each relapse."""
    doubled = stack.stable << min(member.relapses, 30)
    return min(doubled, max(stack.stable, stack.ceiling))


def braked(stack: values.Stack) -> bool:
    """Nothing of this stack is to move by itself, unless an administrator has said so since."""
    return stack.braked_at is not None and (
        stack.forced_at is None or stack.forced_at < stack.braked_at
    )


def _fails_over_in(stack: values.Stack, member: values.Member, now: datetime.datetime) -> float:
    """Seconds until an unreachable cloud is given up; for ever while the brake is on."""
    since = member.verdict_since or now
    if stack.forced_at is not None and since <= stack.forced_at:
        return 0.0
    if stack.braked_at is not None:
        return math.inf
    # After a brake, which may have been on for hours, it is waited for once more.
    if stack.calm_since is not None:
        since = max(since, stack.calm_since)
    left = stack.toleration - (now - since).total_seconds()
    if stack.hold_until is not None:
        left = max(left, (stack.hold_until - now).total_seconds())
    return left


def _age(member: values.Member, now: datetime.datetime) -> float:
    """Seconds for which the verdict has stood."""
    return 0.0 if member.verdict_since is None else (now - member.verdict_since).total_seconds()


# Refusals in a row before a cloud that does not refuse for want of room is held for full all the same.
# Busy is asked again much sooner than the others.
_PATIENCE = {values.Outcome.BUSY: 10, values.Outcome.SICK: 3, values.Outcome.REFUSING: 3}


def is_full(action: Action, outcome: values.Outcome, *, quota: bool, failures: int) -> bool:
    """Whether a raise that was refused means that its units had better run elsewhere.

    Not so for a create that Heat rejects: something is wrong with the template or the name, and a
    person has to mend it.

    :param failures: how many times in a row it has been refused, this one included
    """
    if quota:
        return True
    if outcome is values.Outcome.REJECTED:
        return action is Action.RESIZE
    return outcome in _PATIENCE and failures >= _PATIENCE[outcome]


def plan(stack: values.Stack, members: Sequence[values.Member], now: datetime.datetime) -> Plan:
    """Decide the next steps of a stack."""
    if stack.deleting:
        return _plan_delete(stack, members, now)
    standings = {m.id: standing(stack, m, now) for m in members}
    out = frozenset(m.id for m in members if standings[m.id] is Standing.DOWN)
    bids = [_bid(stack, m, standings[m.id], now) for m in members]
    floors = _floors(members, bids, out)
    bids = [
        dataclasses.replace(bid, floor=floors[m.id]) for m, bid in zip(members, bids, strict=True)
    ]
    returning = frozenset(
        m.id
        for m in members
        if (m.out or m.returning) and standings[m.id] not in (Standing.DOWN, Standing.FROZEN)
    )
    target, allocated = _allocate(stack, bids, batch=bool(returning))
    if braked(stack):
        allocated = allocation.keeping(allocated, bids)
    shares = {m.id: share for m, share in zip(members, allocated.shares, strict=True)}
    visible = [m for m in members if standings[m.id] in _VISIBLE]
    required = sum(shares[m.id].units for m in visible)
    # Counted on where nobody can look now, and not seen to run before that.
    hoped_for = sum(
        max(0, shares[m.id].units - m.confirmed) for m in members if _kept(stack, standings[m.id])
    )
    # What has no room only because a raise failed, or because clouds are out of sight, stays where it is.
    crowded = (
        _crowded(stack, members, bids, batch=bool(returning)) if allocated.shortfall or out else 0
    )
    # Units beyond what is required, all confirmed: only these may be taken away now.
    spare = max(0, sum(m.confirmed for m in visible) - required - hoped_for - crowded)
    if braked(stack):
        spare = 0

    # Before the first look at every cloud the frozen ones among them would seem to hold nothing, and
    # their units would be given away only to be fetched back a moment later.
    first_look = any(_unseen(m) for m in members)
    steps: list[Step] = []
    views: dict[str, View] = {}
    for m in members:
        share = shares[m.id]
        if first_look:
            views[m.id] = View(
                MemberStatus.LEAVING if m.leaving else MemberStatus.PENDING,
                f"Waits for the first look at {_names(m for m in members if _unseen(m))}.",
            )
            continue
        if m.lost and m.leaving:
            steps.append(Step(Action.FORGET, m.id, 0, m.held))
            views[m.id] = View(MemberStatus.LEAVING, f"Cloud '{m.name}' is lost; it is forgotten.")
            continue
        if standings[m.id] not in _VISIBLE:
            views[m.id] = _out_of_sight(stack, m, standings[m.id], share.reason, now)
            continue
        step, view = _next(stack, m, share.units, share.reason, spare, now)
        views[m.id] = view
        if step is not None:
            steps.append(step)
            if step.action in (Action.RESIZE, Action.DELETE):
                spare -= max(0, m.confirmed - step.units)

    ledger = _ledger(stack, members, standings, allocated, target, steps)
    status, reason = _status(members, standings, views, allocated, ledger, steps)
    if braked(stack) and status in (StackStatus.CONVERGING, StackStatus.DEGRADED):
        reason = f"{reason} {stack.brake}".strip()
    return Plan(
        steps=tuple(steps),
        shares={member_id: share.units for member_id, share in shares.items()},
        out=out,
        floors=floors,
        views=views,
        ledger=ledger,
        status=status,
        reason=reason,
        applied=status in (StackStatus.ACTIVE, StackStatus.DEGRADED),
        wake_in=_wake_in(stack, members, standings, now),
        returning=returning if ledger.distance else frozenset(),
        waits=first_look,
    )


def _allocate(
    stack: values.Stack, bids: Sequence[allocation.Bid], *, batch: bool
) -> tuple[allocation.Allocation, allocation.Allocation]:
    """Where the weights want the units, and where they may be for now.

    :param batch: units are going back to a cloud that has returned
    """

    def allocate(on_demand: bool) -> allocation.Allocation:
        return allocation.allocate(
            stack.id,
            stack.count,
            bids,
            rule=allocation.Rule(stack.rule),
            min_clouds=stack.min_clouds,
            surge=stack.surge,
            rounding=allocation.Rounding(stack.rounding),
            on_demand=on_demand,
        )

    target = allocate(False)
    gradual = stack.rebalance is values.Rebalance.GRADUAL
    most = [stack.step] if gradual else []
    if batch:
        most.append(stack.batch or max(_BATCH, -(-stack.count // 10)))
    if stack.rebalance is values.Rebalance.IMMEDIATE and not (most or braked(stack)):
        return target, target
    base = allocate(True)
    if stack.rebalance is values.Rebalance.ON_DEMAND or braked(stack):
        return target, base
    # Held beyond what is needed: units that were raised, and whose reductions elsewhere are to come.
    moving = sum(
        max(0, bid.held - share.units)
        for bid, share in zip(bids, base.shares, strict=True)
        if bid.standing in _VISIBLE
    )
    return target, allocation.towards(base, target, max(0, min(most) - moving))


def _crowded(
    stack: values.Stack,
    members: Sequence[values.Member],
    bids: Sequence[allocation.Bid],
    *,
    batch: bool,
) -> int:
    """How many units more would have a place if every cloud were in sight, and none had been full.

    What the surge holds back is not among them, nor what was in a cloud that is lost.
    """
    unbounded = dataclasses.replace(stack, surge=None)
    roomy = [
        dataclasses.replace(
            bid,
            capacity=None,
            standing=Standing.RAISABLE
            if bid.standing in (Standing.DOWN, Standing.FROZEN) and not m.lost
            else bid.standing,
        )
        for m, bid in zip(members, bids, strict=True)
    ]
    with_all, now = (
        sum(share.units for share in _allocate(unbounded, given, batch=batch)[1].shares)
        for given in (roomy, bids)
    )
    return max(0, with_all - now)


def _kept(stack: values.Stack, stands: allocation.Standing) -> bool:
    """Allocation leaves the member what it holds, for want of knowing better."""
    held = stands is Standing.DOWN and stack.rule == allocation.Rule.HOLD
    return held or stands is Standing.FROZEN


def _full(m: values.Member, now: datetime.datetime) -> bool:
    """A raise failed there, and the time for which that is believed has not passed."""
    return m.capacity is not None and m.full_until is not None and m.full_until > now


def _bid(
    stack: values.Stack, m: values.Member, stands: allocation.Standing, now: datetime.datetime
) -> allocation.Bid:
    capacity = m.capacity if _full(m, now) else None
    if m.missing and m.phase is Phase.ABSENT and stack.lost is values.Missing.MOVE:
        capacity = 0
    return allocation.Bid(
        cloud=m.cloud,
        name=m.name,
        weight=m.weight,
        standing=stands,
        # What is known to be gone is neither in doubt nor counted against the surge.
        held=0 if m.lost else m.held,
        # What is to leave, or is found there only now, does not displace units that run elsewhere.
        counted=(0 if m.leaving else m.share) if _kept(stack, stands) else None,
        minimum=0 if m.leaving else m.minimum,
        maximum=m.maximum,
        capacity=capacity,
        priority=m.priority,
    )


def _floors(
    members: Sequence[values.Member], bids: Sequence[allocation.Bid], out: frozenset[str]
) -> dict[str, int | None]:
    """Floors are taken when a cloud goes out, stand while the set stays, fall when one returns."""
    if any(m.id in out and not m.out for m in members):
        taken = allocation.floors(bids)
        return {m.id: taken.get(m.cloud) for m in members}
    if any(m.out and m.id not in out for m in members):
        return {m.id: None for m in members}
    return {m.id: m.floor for m in members}


def _next(
    stack: values.Stack,
    m: values.Member,
    share: int,
    why: str,
    spare: int,
    now: datetime.datetime,
) -> tuple[Step | None, View]:
    """The next step of a member in sight, and what to say of it."""
    if m.phase in (Phase.BUSY, Phase.DELETING):
        return _under_way(stack, m, share, why, now)
    backing_off = m.retry_at is not None and m.retry_at > now
    if backing_off:
        if m.problem:
            return None, View(MemberStatus.ERROR, f"{m.problem} It is tried again ({why})")
        return None, View(MemberStatus.WAITING, f"{m.put_off or 'the cloud is busy'}; {why}")
    if m.phase is Phase.ABSENT:
        return _absent(stack, m, share, why, now)

    current = m.observed or 0
    if m.leaving:
        if m.owned and spare >= m.confirmed:
            return (
                Step(Action.DELETE, m.id, 0, current),
                View(MemberStatus.LEAVING, "Its Heat stack is deleted."),
            )
        if not m.owned and current == 0:
            return Step(Action.FORGET, m.id), View(MemberStatus.LEAVING, "It is released.")
    elif left_alone := _left_alone(stack, m, share, why):
        # A check may find that its owner has put it right.
        return _check(m, current, why) if m.check_asked else (None, left_alone)
    elif m.heat_status in ("CREATE_FAILED", "DELETE_FAILED") and not m.confirmed:
        # Heat takes no update of what it could not delete and, without convergence, of what it could
        # not create. Nothing is lost.
        if m.owned:
            return (
                Step(Action.DELETE, m.id, 0, current),
                View(
                    MemberStatus.CONVERGING,
                    f"Heat failed ({m.heat_status_reason}); made anew; {why}",
                ),
            )
        if m.heat_status == "DELETE_FAILED":
            return None, View(
                MemberStatus.ERROR,
                f"Somebody had the Heat stack in cloud '{m.name}' deleted, and Heat failed "
                f"({m.heat_status_reason}): delete it there, or remove the member ({why})",
            )
    settled = MemberStatus.LEAVING if m.leaving else MemberStatus.CONVERGING
    if m.phase is Phase.FAILED and share >= m.confirmed:
        return (
            Step(Action.RESIZE, m.id, share, current),
            View(settled, f"Heat failed ({m.heat_status_reason}); trying again; {why}"),
        )
    if share > current:
        return (
            Step(Action.RESIZE, m.id, share, current),
            View(settled, f"{current} → {share}; {why}"),
        )
    if share < current:
        surplus = current - share
        if spare == 0:
            return None, View(
                MemberStatus.LEAVING if m.leaving else MemberStatus.WAITING,
                f"keeps {surplus} more until their replacement runs elsewhere; {why}",
            )
        # After a raise that failed fewer run than were asked for, and only what runs can be lowered.
        return (
            Step(Action.RESIZE, m.id, max(share, m.confirmed - spare), current),
            View(settled, why),
        )
    if m.check_asked:
        return _check(m, current, why)
    if m.leaving:
        return None, View(MemberStatus.LEAVING, why)
    if _full(m, now) and m.capacity == share:
        return None, View(MemberStatus.FULL, f"{m.problem or why} More is tried again later.")
    return None, View(MemberStatus.ACTIVE, why)


def _check(m: values.Member, current: int, why: str) -> tuple[Step, View]:
    return (
        Step(Action.CHECK, m.id, current, current),
        View(
            MemberStatus.LEAVING if m.leaving else MemberStatus.CONVERGING,
            f"Heat compares its records with what exists; {why}",
        ),
    )


def _overdue(stack: values.Stack, m: values.Member, now: datetime.datetime) -> bool:
    """Heat has been at it for longer than it gives itself: whoever was at it may have died."""
    return m.busy_since is not None and (now - m.busy_since).total_seconds() >= stack.deadline


def _under_way(
    stack: values.Stack, m: values.Member, share: int, why: str, now: datetime.datetime
) -> tuple[Step | None, View]:
    """A member at which Heat is at work: it is waited for, but not for ever."""
    if _overdue(stack, m, now):
        said = (
            f"Heat has been at {m.heat_status} in cloud '{m.name}' for more than "
            f"{stack.deadline / 60:.0f} minutes"
        )
        backing_off = m.retry_at is not None and m.retry_at > now
        # Without convergence Heat takes no update of what it has not created, but a deletion at any time.
        creation = m.heat_status == "CREATE_IN_PROGRESS"
        gone = creation or m.phase is Phase.DELETING
        if not (stack.retry_stuck or (m.leaving and gone)) or (creation and not m.owned):
            return None, View(
                MemberStatus.ERROR,
                f"{said}. If the Heat engine that was at it has died, send Heat stack '{stack.name}' an "
                f"update by hand, or have this stack retry what is stuck ({why})",
            )
        if not backing_off:
            return (
                Step(
                    Action.DELETE if gone else Action.RESIZE,
                    m.id,
                    0 if gone else share,
                    m.observed or 0,
                ),
                View(
                    MemberStatus.LEAVING if m.leaving else MemberStatus.CONVERGING,
                    f"{said}; it is {'deleted' if gone else 'sent again'}; {why}",
                ),
            )
    return None, View(
        MemberStatus.LEAVING if m.leaving else MemberStatus.CONVERGING,
        f"{m.confirmed} → {m.held} under way ({m.heat_status}); {why}",
    )


def _absent(
    stack: values.Stack, m: values.Member, share: int, why: str, now: datetime.datetime
) -> tuple[Step | None, View]:
    """A member in sight that has no Heat stack."""
    if m.leaving:
        return Step(Action.FORGET, m.id), View(MemberStatus.LEAVING, "Nothing is left there.")
    if m.missing and m.conflict:
        return None, View(
            MemberStatus.ERROR,
            f"{m.problem} It is made again when you say retry, or change the stack ({why})",
        )
    if m.missing and stack.lost is not values.Missing.RECREATE:
        moved = stack.lost is values.Missing.MOVE
        return None, View(
            MemberStatus.MISSING,
            f"Somebody deleted the Heat stack in cloud '{m.name}'; "
            f"{'its units run elsewhere' if moved else 'its units are missing'} until you say retry",
        )
    if not stack.templated:
        return None, View(
            MemberStatus.ERROR,
            f"Cloud '{m.name}' has no Heat stack named '{stack.name}' to take over: create it "
            f"there, remove the member, or create the stack with a template ({why})",
        )
    if share == 0:
        if m.problem and _full(m, now):
            return None, View(MemberStatus.FULL, f"{m.problem} More is tried again later.")
        return None, View(MemberStatus.ACTIVE, why)
    return (
        Step(Action.CREATE, m.id, share, 0),
        View(MemberStatus.PENDING, f"created with {share} unit(s); {why}"),
    )


def _left_alone(stack: values.Stack, m: values.Member, share: int, why: str) -> View | None:
    """What to say of a member that somebody else changed and that is to stay so; None: it is not."""
    unhealthy = m.heat_status == "CHECK_FAILED"
    changed = m.phase is Phase.IDLE and m.observed != m.held
    if share != m.held or not (unhealthy or changed):
        return None
    if m.conflict:
        return View(MemberStatus.ERROR, f"{m.problem} ({why})")
    found = (
        f"a check found units that are not as they should be ({m.heat_status_reason})"
        if unhealthy
        else f"somebody else changed {stack.count_parameter} from {m.held} to {m.observed}"
    )
    if stack.drift is values.Drift.REPORT:
        return View(MemberStatus.DRIFTED, f"{found}, and it is left so by choice; {why}")
    if stack.drift is values.Drift.IGNORE:
        return View(MemberStatus.ACTIVE, why)
    return None


def _out_of_sight(
    stack: values.Stack,
    m: values.Member,
    stands: allocation.Standing,
    why: str,
    now: datetime.datetime,
) -> View:
    if m.lost:
        return View(
            MemberStatus.OUT_OF_SIGHT, f"{why} (the cloud was declared lost; it is {m.verdict})"
        )
    if stands is Standing.DOWN and m.verdict is Verdict.HEALTHY:
        left = max(0, stable(stack, m) - int(_age(m, now)))
        until = f"must stay healthy for {left} s more"
        if m.relapses:
            until += f", as it went away again {m.relapses} time(s) soon after it had come back"
        if stack.failback is values.Failback.MANUAL:
            until = "gets its units back when you say failback"
        return View(MemberStatus.OUT_OF_SIGHT, f"{why} (it is back and {until})")
    if stands is Standing.FROZEN and m.verdict is Verdict.UNREACHABLE:
        time = _fails_over_in(stack, m, now)
        until = "until the brake is off" if time == math.inf else f"for {max(0, int(time))} s more"
        return View(
            MemberStatus.OUT_OF_SIGHT,
            f"{why} (it is unreachable, which is tolerated {until})",
        )
    return View(MemberStatus.OUT_OF_SIGHT, f"{why} ({m.verdict}: {m.verdict_reason})")


def _names(members: Iterable[values.Member]) -> str:
    return ", ".join(f"cloud '{m.name}'" for m in members)


def _unseen(m: values.Member) -> bool:
    """Nothing is wrong with the cloud: the first look at it, or the verdict on it, is to come."""
    if m.lost:
        return False
    if m.verdict is Verdict.UNKNOWN:
        return not m.verdict_reason
    return not m.seen and m.verdict is Verdict.HEALTHY


def _ledger(
    stack: values.Stack,
    members: Sequence[values.Member],
    standings: dict[str, allocation.Standing],
    allocated: allocation.Allocation,
    target: allocation.Allocation,
    steps: Sequence[Step],
) -> Ledger:
    visible = [m for m in members if standings[m.id] in _VISIBLE]
    confirmed = sum(m.confirmed for m in visible)
    in_doubt = sum(m.held for m in members if standings[m.id] not in _VISIBLE and not m.lost)
    asked = {step.member: step.units for step in steps}
    in_flight = sum(max(0, max(m.held, asked.get(m.id, 0)) - m.confirmed) for m in visible)
    apart = [
        m.held - share.units
        for m, share in zip(members, target.shares, strict=True)
        if standings[m.id] in _VISIBLE
    ]
    return Ledger(
        desired=stack.count,
        assigned=sum(share.units for share in allocated.shares),
        unassigned=allocated.unassigned,
        shortfall=allocated.shortfall,
        excess=allocated.excess,
        confirmed=confirmed,
        in_doubt=in_doubt,
        bound=confirmed + in_doubt + in_flight,
        # What has to be both taken and given: growing and shrinking alone move nothing.
        distance=min(sum(n for n in apart if n > 0), -sum(n for n in apart if n < 0)),
    )


def _status(
    members: Sequence[values.Member],
    standings: dict[str, allocation.Standing],
    views: dict[str, View],
    allocated: allocation.Allocation,
    ledger: Ledger,
    steps: Sequence[Step],
) -> tuple[StackStatus, str]:
    def told(*statuses: MemberStatus) -> list[str]:
        return [
            f"{m.name}: {views[m.id].reason.rstrip('.')}."
            for m in members
            if views[m.id].status in statuses
        ]

    errors = told(MemberStatus.ERROR)
    if errors and not steps:
        return StackStatus.ERROR, " ".join(errors)
    moving = told(
        MemberStatus.CONVERGING, MemberStatus.PENDING, MemberStatus.WAITING, MemberStatus.LEAVING
    )
    if moving or steps:
        return StackStatus.CONVERGING, " ".join(moving)
    wanting = told(
        MemberStatus.OUT_OF_SIGHT, MemberStatus.FULL, MemberStatus.DRIFTED, MemberStatus.MISSING
    )
    if allocated.shortfall:
        wanting.append(
            f"{allocated.shortfall} unit(s) fit nowhere: {'; '.join(allocated.reasons)}"
        )
    elif allocated.reasons:
        wanting += allocated.reasons
    if wanting:
        # Where nothing at all came to run, it is not the room that is missing.
        nothing = ledger.desired and allocated.shortfall and not ledger.bound
        return StackStatus.ERROR if nothing else StackStatus.DEGRADED, " ".join(wanting)
    running = ", ".join(f"{m.name} {m.observed or 0}" for m in members)
    return StackStatus.ACTIVE, f"Everything asked for runs: {running}."


def _wake_in(
    stack: values.Stack,
    members: Sequence[values.Member],
    standings: dict[str, allocation.Standing],
    now: datetime.datetime,
) -> float | None:
    """Seconds until the next moment at which time alone changes the decision."""
    moments: list[float] = []
    for m in members:
        if standings[m.id] is Standing.FROZEN and m.verdict is Verdict.UNREACHABLE:
            left = _fails_over_in(stack, m, now)
            moments += [left] if left < math.inf else []
        waits = standings[m.id] is Standing.DOWN and m.verdict is Verdict.HEALTHY
        if waits and not (m.lost or braked(stack)):
            if not m.seen:
                moments.append(1.0)
            elif stack.failback is values.Failback.AUTO:
                moments.append(stable(stack, m) - _age(m, now))
        if _unseen(m):
            moments.append(1.0)
        moments += [
            (at - now).total_seconds() for at in (m.retry_at, m.full_until) if at and at > now
        ]
        if m.busy_since is not None:
            end = stack.deadline - (now - m.busy_since).total_seconds()
            moments += [end] if end > 0 else []
    return max(0.0, min(moments)) if moments else None


def _plan_delete(
    stack: values.Stack, members: Sequence[values.Member], now: datetime.datetime
) -> Plan:
    """Delete what we created, let go of what we took over, wait for what is out of sight."""
    steps: list[Step] = []
    views: dict[str, View] = {}
    for m in members:
        backing_off = m.retry_at is not None and m.retry_at > now
        reason = "Its Heat stack is deleted."
        if stack.release or not m.owned:
            steps.append(Step(Action.FORGET, m.id))
            reason = "Its Heat stack is left as it is."
        elif m.lost or ((not m.seen or m.verdict is not Verdict.HEALTHY) and stack.forget):
            steps.append(Step(Action.FORGET, m.id, 0, m.held))
            how = "lost" if m.lost else m.verdict
            reason = f"Cloud '{m.name}' is {how}; what may be left there is forgotten."
        elif not m.seen or m.verdict is not Verdict.HEALTHY:
            reason = f"Cloud '{m.name}' is {m.verdict}: {m.verdict_reason}; deletion waits for it."
        elif m.phase is Phase.ABSENT:
            steps.append(Step(Action.FORGET, m.id))
            reason = "Nothing is left there."
        elif m.phase is Phase.DELETING and not _overdue(stack, m, now):
            reason = "Heat is deleting it."
        elif backing_off:
            reason = f"{m.problem} It is tried again."
        else:
            steps.append(Step(Action.DELETE, m.id, 0, m.observed or 0))
        views[m.id] = View(MemberStatus.LEAVING, reason)
    standings = {m.id: Standing.DRAINING for m in members}
    return Plan(
        steps=tuple(steps),
        shares={m.id: 0 for m in members},
        out=frozenset(m.id for m in members if m.out),
        floors={m.id: None for m in members},
        views=views,
        ledger=Ledger(
            confirmed=sum(m.confirmed for m in members if m.seen),
            in_doubt=sum(m.held for m in members if not m.seen),
            bound=sum(max(m.held, m.confirmed) for m in members),
        ),
        status=StackStatus.DELETING,
        reason=" ".join(f"{m.name}: {views[m.id].reason}" for m in members) or "Nothing is left.",
        applied=False,
        wake_in=_wake_in(stack, members, standings, now),
    )
