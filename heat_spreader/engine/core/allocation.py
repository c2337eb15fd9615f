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

"""Allocation: how many units of a stack each of its clouds gets, and why.

``allocate`` spreads a count over bids by exact arithmetic: bounded Webster (Sainte-Laguë) with
sticky ties, four failover rules and floors that keep a failure from costing a healthy cloud a
unit. It decides only: no clock, no randomness, no logging, no I/O, and no float touches a weight.
"""

from collections import abc
import dataclasses
import decimal
import enum
import fractions
import functools
import hashlib
import math
import re

WEIGHT_DECIMALS = 9
_WEIGHT_UNIT = 10**WEIGHT_DECIMALS
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_UNLIMITED = 10**18


class Rule(enum.StrEnum):
    """Failover rule: where the weight of clouds that are out of sight goes."""

    EVEN = "even"
    PROPORTIONAL = "proportional"
    ORDERED = "ordered"
    HOLD = "hold"


class Rounding(enum.StrEnum):
    """``EXACT``: shares add up to the target. ``CEIL``: every cloud gets at least its part."""

    EXACT = "exact"
    CEIL = "ceil"


class Standing(enum.StrEnum):
    """What allocation may do with a member.

    ``RAISABLE``: anything. ``CORDONED``: lower it, never raise it. ``DRAINING``: move its units
    away. ``FROZEN``: nothing, it is in doubt and keeps what it holds. ``DOWN``: it is one of D,
    the members out of sight past the stack's toleration: its share is 0 and others stand in.
    """

    RAISABLE = "raisable"
    CORDONED = "cordoned"
    DRAINING = "draining"
    FROZEN = "frozen"
    DOWN = "down"


@dataclasses.dataclass(frozen=True)
class Bid:
    """What one member offers to allocation.

    :ivar cloud: id of the cloud; decides ties together with the stack's id
    :ivar held: the last share that the member's Heat accepted
    :ivar counted: of a member that keeps what it holds because it is in doubt, the most of it that
        takes the place of units elsewhere; None: all
    :ivar capacity: the most the cloud can hold in total, where that is known
    :ivar floor: from ``floors`` when D last grew; None counts as 0
    :ivar name: what a tenant calls the cloud, for sentences; the id where it is empty
    """

    cloud: str
    weight: fractions.Fraction
    standing: Standing
    held: int = 0
    minimum: int = 0
    maximum: int | None = None
    capacity: int | None = None
    floor: int | None = None
    priority: int = 0
    name: str = ""
    counted: int | None = None


@dataclasses.dataclass(frozen=True)
class Share:
    """Units given to one member, the weight w' in force, and a sentence why."""

    cloud: str
    units: int
    weight: fractions.Fraction
    reason: str


@dataclasses.dataclass(frozen=True)
class Allocation:
    """All shares of a stack, in the order of the bids, with what did not fit.

    Always: sum of shares + shortfall - excess = target, and target + unassigned = count (with
    ``Rounding.CEIL`` the target may pass the count; unassigned is then 0).
    """

    shares: tuple[Share, ...]
    target: int
    unassigned: int
    shortfall: int
    excess: int
    reasons: tuple[str, ...]


def parse_weight(value: str | int | decimal.Decimal) -> fractions.Fraction:
    """The exact weight that a user wrote; ValueError tells what to write instead.

    A float is refused: 0.1 is no longer one tenth in it. Read JSON with ``parse_float=Decimal``.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | decimal.Decimal):
        raise ValueError(f"weight {value!r} is not a decimal number: write it as text, like 0.25")
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        raise ValueError(f"weight {value!r} is not a decimal number: write it like 0.25")
    try:
        number = decimal.Decimal(value.strip() if isinstance(value, str) else value)
    except decimal.InvalidOperation:
        raise ValueError(f"weight {value!r} is out of range: write it like 0.25") from None
    if not number.is_finite() or not 0 <= number <= 1:
        raise ValueError(
            f"weight {value} is out of range: a weight is a fraction of the count, from 0 to 1"
        )
    # Rounded first: making a Fraction of 1e-999999 would fill the memory.
    rounded = number.quantize(decimal.Decimal(1).scaleb(-WEIGHT_DECIMALS), context=_PARSING)
    if rounded != number:
        raise ValueError(f"weight {value} is too fine: use at most {WEIGHT_DECIMALS} decimals")
    return fractions.Fraction(rounded)


# Own context: the caller's may be set to trap inexact results.
_PARSING = decimal.Context(prec=28, traps=[decimal.InvalidOperation])


def format_weight(weight: fractions.Fraction) -> str:
    """The weight as a plain decimal, ``0.6``; rounded to 9 decimals where it has no end."""
    # The half added rounds; Fraction's own round() takes four times as long.
    billionths = (2 * weight.numerator * _WEIGHT_UNIT // weight.denominator + 1) // 2
    whole, part = divmod(billionths, _WEIGHT_UNIT)
    return f"{whole}.{part:0{WEIGHT_DECIMALS}d}".rstrip("0").rstrip(".")


def even_weight(clouds: int) -> fractions.Fraction:
    """The weight of each of so many equal clouds: 1/n, rounded down to what can be written."""
    return fractions.Fraction(_WEIGHT_UNIT // clouds, _WEIGHT_UNIT)


def floors(bids: abc.Iterable[Bid]) -> dict[str, int]:
    """Floors by cloud id, to be stored with the stack when D grows.

    They stand while D stays as it is, and are dropped when D shrinks or when the user changes
    weights, bounds, rule or members. A member in doubt gets one too: it is in force from the
    moment the doubt turns out to be groundless.
    """
    return {
        bid.cloud: bid.held if bid.maximum is None else min(bid.held, bid.maximum)
        for bid in bids
        if bid.standing in (Standing.RAISABLE, Standing.CORDONED, Standing.FROZEN)
    }


@dataclasses.dataclass(slots=True, eq=False)
class _Member:
    """A bid on its way to a share. Weights are integers over a denominator common to all.

    :ivar standing: the bid's, but FROZEN for whoever has to keep what it holds for any cause
    :ivar own: the configured weight
    :ivar lot: the larger one wins when all else is equal
    :ivar hi: the most it may get; ``at_hi`` in words
    :ivar lo: the least it gets, as far as there are seats; ``at_lo`` in words
    :ivar sticky: how many seats count as held when a tie is broken
    :ivar weight: w', the weight in force
    :ivar part: its part of the count rounded up, within minimum and maximum; for CEIL only
    :ivar seats: what it has been given so far; its share in the end
    :ivar extra: how many of the seats came by priority
    :ivar reason: why it gets what it gets; empty while that depends on the spread
    """

    bid: Bid
    standing: Standing
    own: int
    lot: int
    hi: int
    at_hi: str
    sticky: int
    lo: int = 0
    at_lo: str = ""
    weight: int = 0
    part: int = 0
    seats: int = 0
    extra: int = 0
    reason: str = ""


_SHARING = (Standing.RAISABLE, Standing.CORDONED)
_LEAVING = (Standing.DOWN, Standing.DRAINING)
_IN_DOUBT = (Standing.DOWN, Standing.FROZEN)


def allocate(
    stack_id: str,
    count: int,
    bids: abc.Sequence[Bid],
    *,
    rule: Rule = Rule.EVEN,
    min_clouds: int = 0,
    surge: int | None = None,
    rounding: Rounding = Rounding.EXACT,
    on_demand: bool = False,
) -> Allocation:
    """Spread a count over the bids of a stack.

    The result depends on the arguments alone, and not on the order of the bids. Run again with
    its own result as ``held`` it changes nothing; a larger count never lowers a share; with
    ``floors``, no failure of a cloud lowers the share of a healthy one.

    :param min_clouds: how many clouds are to have a unit, the heaviest first
    :param surge: how many units of clouds in doubt may be replaced before these are known to be
        gone; None replaces all of them
    :param on_demand: new weights and returned clouds move nothing by themselves: growth is added
        to what is held, shrinking is taken from it
    :raises ValueError: the bids contradict themselves; the message says what to change
    """
    rule, rounding = Rule(rule), Rounding(rounding)
    unit = math.lcm(*(bid.weight.denominator for bid in bids))
    members = [_enter(stack_id, bid, unit) for bid in bids]
    whole = sum(member.own for member in members)
    _check(count, bids, whole, unit)

    # Frozen members keep what they hold, leaving ones hand their weight on, the rest share.
    _freeze(members, rule)
    frozen = [member for member in members if member.standing is Standing.FROZEN]
    leaving = [member for member in members if member.standing in _LEAVING]
    sharing = [member for member in members if member.standing in _SHARING]
    by_priority = bool(leaving) and rule is Rule.ORDERED
    factor = _hand_on(rule, whole, leaving, frozen + sharing)

    # Steps 1, 2 and 7: the target, and the seats that it leaves to those who share.
    if rounding is Rounding.EXACT:
        divisor, target = 1, _ceil(count * whole, unit)
    else:
        for member in members:
            # Of one that leaves, what its configured weight comes to.
            member.part = _part(member, member.weight or member.own, count, unit * factor)
        min_clouds = 0  # every cloud with a weight has a unit, if there are any at all
        wanting = frozen + sharing + (leaving if by_priority else [])
        divisor, target = 0, sum(member.part for member in wanting)
        if leaving:
            # Fewer parts are fewer to round up; that is no reason to take from those that have a floor.
            floored = sum(max(m.part, min(m.bid.floor or 0, m.hi)) for m in frozen + sharing)
            target = max(target, min(floored, sum(_part(m, m.own, count, unit) for m in members)))
    keeping = sum(_kept(member.bid) for member in frozen)
    seats = wanted = max(0, target - keeping)
    if surge is not None:
        seats = min(wanted, _allowed(max(count, target), surge, bids))

    # Steps 3 to 6: bounds first, then the spread between them.
    ceilings = _bound(sharing, frozen, seats, min_clouds, on_demand)
    if rounding is Rounding.CEIL and not (ceilings or by_priority):
        for member in sharing:
            if max(member.part, member.lo) < member.hi:
                member.hi, member.at_hi = max(member.part, member.lo), ""
    if sum(member.lo for member in sharing) > seats:
        _serve_minimums(sharing, seats, on_demand)
    elif by_priority:
        _spread_as_if_nobody_left(sharing, leaving, frozen, seats, divisor)
    else:
        _spread(sharing, seats, divisor)
    if by_priority or ceilings:
        _hand_out(sharing, seats)

    placed = sum(member.seats for member in sharing)
    excess = max(0, keeping - target)
    return Allocation(
        shares=tuple(
            _share(member, count, target, whole * factor, unit * factor, leaving)
            for member in members
        ),
        target=target,
        unassigned=max(0, count - target),
        shortfall=wanted - placed,
        excess=excess,
        reasons=tuple(
            _reasons(members, target, excess, wanted - seats, seats - placed, surge, min_clouds)
        ),
    )


def towards(base: Allocation, target: Allocation, most: int) -> Allocation:
    """The base with at most so many units moved to where the target wants them.

    The one that is furthest above its target gives first, and the one furthest below gets first.

    :param base: as from ``allocate`` on demand, for the same bids as the target
    """
    givers = _apart(base, target)
    takers = _apart(target, base)
    moved = min(most, sum(givers.values()), sum(takers.values()))
    units = {share.cloud: share.units for share in base.shares}
    for apart, sign in ((givers, -1), (takers, 1)):
        left = moved
        for cloud, most_of_it in apart.items():
            units[cloud] += sign * min(left, most_of_it)
            left -= min(left, most_of_it)
    return dataclasses.replace(
        base,
        shares=tuple(
            share
            if units[share.cloud] == share.units
            else dataclasses.replace(
                share,
                units=units[share.cloud],
                reason=f"{units[share.cloud]}, on the way to {share.units}: "
                "units move little by little",
            )
            for share in target.shares
        ),
    )


def keeping(base: Allocation, bids: abc.Sequence[Bid]) -> Allocation:
    """The base without any reduction: who would be lowered keeps what it holds, as excess."""
    shares = tuple(
        dataclasses.replace(
            share,
            units=bid.held,
            reason=f"kept at {bid.held}: the brake is on, nothing is lowered",
        )
        if share.units < bid.held and bid.standing is not Standing.DOWN
        else share
        for share, bid in zip(base.shares, bids, strict=True)
    )
    kept = sum(share.units for share in shares) - sum(share.units for share in base.shares)
    reasons = (f"the brake keeps {_units(kept)} where they are",) if kept else ()
    return dataclasses.replace(
        base, shares=shares, excess=base.excess + kept, reasons=base.reasons + reasons
    )


def _apart(one: Allocation, other: Allocation) -> dict[str, int]:
    """By how much members have more in the one than in the other, the furthest apart first."""
    apart = [
        (share.units - against.units, share.cloud)
        for share, against in zip(one.shares, other.shares, strict=True)
        if share.units > against.units
    ]
    return {cloud: units for units, cloud in sorted(apart, key=lambda each: (-each[0], each[1]))}


def _check(count: int, bids: abc.Sequence[Bid], whole: int, unit: int) -> None:
    if count < 0:
        raise ValueError(f"the count {count} is below 0: give 0 or more")
    if len({bid.cloud for bid in bids}) < len(bids):
        raise ValueError("a cloud is given more than once: give one member per cloud")
    for bid in bids:
        if bid.weight.numerator < 0 or bid.held < 0 or bid.minimum < 0:
            raise ValueError(f"{_name(bid)}: weight, held and minimum must not be below 0")
        if bid.maximum is not None and bid.minimum > bid.maximum:
            raise ValueError(
                f"{_name(bid)}: the minimum {bid.minimum} is above the maximum {bid.maximum}: "
                "lower the one or raise the other"
            )
    if whole > unit:
        total = format_weight(fractions.Fraction(whole, unit))
        raise ValueError(f"the weights add up to {total}: lower them, their sum is at most 1")


def _enter(stack_id: str, bid: Bid, unit: int) -> _Member:
    """Step 3, the upper bound. A capacity is never less than what the cloud has already."""
    hi, at_hi = _UNLIMITED, ""
    if bid.maximum is not None:
        hi, at_hi = bid.maximum, f"held at its maximum {bid.maximum}"
    if bid.capacity is not None and max(bid.capacity, bid.held) < hi:
        hi = max(bid.capacity, bid.held)
        at_hi = f"held at {hi}: the cloud has room for no more"
    if bid.standing is Standing.CORDONED and bid.held < hi:
        hi, at_hi = bid.held, f"held at {bid.held}: the cloud is cordoned"
    return _Member(
        bid=bid,
        standing=bid.standing,
        own=bid.weight.numerator * (unit // bid.weight.denominator),
        lot=int.from_bytes(hashlib.sha256(f"{stack_id}/{bid.cloud}".encode()).digest(), "big"),
        hi=hi,
        at_hi=at_hi,
        sticky=bid.held,
    )


def _freeze(members: list[_Member], rule: Rule) -> None:
    """Steps 2 and 6: those that keep what they hold.

    That is everybody where units are to be moved and no member can be raised to take them.
    """
    for member in members:
        if member.standing is Standing.FROZEN:
            member.reason = "the cloud is in doubt"
        elif member.standing is Standing.DOWN and rule is Rule.HOLD:
            member.reason = "the cloud is out of sight and the failover rule is hold"
    standings = {member.standing for member in members if not member.reason}
    if Standing.RAISABLE not in standings and not standings.isdisjoint(_LEAVING):
        for member in members:
            member.reason = member.reason or "no cloud can be raised to take over"
    for member in members:
        if member.reason:
            member.standing = Standing.FROZEN
            member.seats = member.hi = _kept(member.bid)
            member.reason = f"kept at {member.seats}: {member.reason}"


def _kept(bid: Bid) -> int:
    return bid.held if bid.counted is None else min(bid.held, bid.counted)


def _hand_on(rule: Rule, whole: int, leaving: list[_Member], heirs: list[_Member]) -> int:
    """Step 6: set the weights in force and return by what number they have been multiplied.

    Always from the configured weights and from all that leave. The heirs are all the others, the
    cordoned and frozen ones too, although these are not raised: if a doubt about one cloud
    changed the number of heirs, it would change every weight and move units between the others.
    """
    given = sum(member.own for member in leaving)
    times, factor, extra = 1, 1, 0
    if leaving and rule is Rule.ORDERED:
        # Units that come by priority must not win ties in the next run, against members that
        # have theirs by weight. So these ties go by weight and lot.
        for member in leaving + heirs:
            member.sticky = 0
    elif leaving and rule is Rule.PROPORTIONAL and given < whole:
        times, factor = whole, whole - given
    elif leaving:
        times, factor, extra = len(heirs), len(heirs), given
    for member in heirs:
        member.weight = times * member.own + extra
    for member in leaving:
        drained = member.standing is Standing.DRAINING
        member.reason = f"0: the cloud is {'being drained' if drained else 'out of sight'}"
        if member.own:
            member.reason += ", its weight went to the others"
    return factor


def _allowed(count: int, surge: int, bids: abc.Sequence[Bid]) -> int:
    """Step 7: the most that healthy members may hold together while others are in doubt."""
    in_doubt = sum(bid.held for bid in bids if bid.standing in _IN_DOUBT)
    healthy = sum(bid.held for bid in bids if bid.standing not in _IN_DOUBT)
    return max(healthy, count + surge - in_doubt)


def _bound(
    sharing: list[_Member],
    frozen: list[_Member],
    seats: int,
    min_clouds: int,
    on_demand: bool,
) -> bool:
    """Steps 3 and 6, the lower bounds; True where floors have turned into ceilings.

    On demand means no more than a floor at what is held: growth adds to it, and where the floors
    exceed what is left, being ceilings they let units be taken away only.
    """
    staying = sharing + frozen
    able = [member for member in staying if member.own > 0 and member.hi > 0]
    for member in staying:
        floor = _floor(member.bid, on_demand)
        member.lo = min(max(member.bid.minimum, floor), member.hi)
        if member.bid.minimum > member.hi:
            member.at_lo = member.at_hi
        elif member.bid.minimum >= floor:
            member.at_lo = f"its minimum {member.lo}: its weight alone would give less"
        elif on_demand and floor == member.bid.held:
            member.at_lo = f"kept at {member.lo}: units move on demand only"
        else:
            member.at_lo = f"floor {member.lo}: no healthy cloud loses a unit to another's failure"
    left = seats - sum(member.lo for member in sharing)
    ceilings = left < 0
    if ceilings:
        for member in staying:
            if member.lo < member.hi:
                member.hi = member.lo
                member.at_hi = f"held at {member.hi}: with fewer to share nobody is raised"
            if member.bid.minimum < member.lo:
                member.lo, member.at_lo = member.bid.minimum, f"its minimum {member.bid.minimum}: "
                member.at_lo += "its weight alone would give less"
        left = seats - sum(member.lo for member in sharing)

    # min_clouds comes after all minimums and floors. A cordoned or frozen member that holds units
    # counts as one of the clouds: otherwise a mere doubt would take a unit from a healthy cloud
    # to place it on another. One that has a unit anyway comes before an equal one without.
    able.sort(
        key=lambda member: (
            -member.own,
            not (member.bid.minimum or member.bid.floor),
            not member.sticky,
            -member.lot,
        )
    )
    for member in able[:min_clouds]:
        if member.lo == 0 and member.hi > 0 and left > 0:
            member.lo, member.at_lo = 1, f"1: units on at least {min_clouds} clouds"
            if member.standing is not Standing.FROZEN:
                left -= 1
    return ceilings


def _floor(bid: Bid, on_demand: bool) -> int:
    """What a member is not to go below for anything but a wish of the user."""
    return max(bid.floor or 0, bid.held if on_demand else 0)


def _serve_minimums(sharing: list[_Member], seats: int, on_demand: bool) -> None:
    """Step 3, minimums above what is left: each in full as far as it goes, the heaviest first.

    Before that, what of them is under a floor: the heaviest would take a unit, for a minimum that
    it was without before, from one that has no other way to lose it than another cloud's failure.
    """
    ranked = sorted(sharing, key=lambda member: (-member.own, -member.lot))
    for floors_only in (True, False):
        for member in ranked:
            most = min(member.lo, _floor(member.bid, on_demand)) if floors_only else member.lo
            given = min(max(0, most - member.seats), seats)
            member.seats += given
            seats -= given


def _spread(members: list[_Member], seats: int, divisor: int) -> None:
    """Step 4: bounded Webster. Everybody starts at lo, the rest goes out seat by seat.

    Each seat goes to the member below hi with the greatest w' / (2a + divisor), a being the seats
    it has. The divisor 1 is Webster's; 0 is Adams', which gives everybody its part rounded up.

    How many seats rank above 1 / 2x is easy to tell for any x. So the largest whole x is looked
    up that does not give out too many, in units of the sum of the weights. From there to x + 1
    nobody gets more than one seat more, and these last few are sorted.
    """
    for member in members:
        member.seats = member.lo
    takers = [member for member in members if member.weight > 0 and member.lo < member.hi]
    seats -= sum(member.lo for member in members) - sum(member.lo for member in takers)
    if sum(member.hi for member in takers) <= seats:
        for member in takers:
            member.seats = member.hi
        return
    total = sum(member.weight for member in takers)

    def given(member: _Member, x: int) -> int:
        ranking = _ceil(2 * x * member.weight - divisor * total, 2 * total)
        return min(max(ranking, member.lo), member.hi)

    def fits(x: int) -> bool:
        return sum([given(member, x) for member in takers]) <= seats

    # Where no bound is in the way, x is not farther from the seats than there are members.
    low, high = max(0, seats - len(takers)), seats + len(takers)
    if not fits(low):
        low = 0
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    for member in takers:
        member.seats = given(member, low)
        seats -= member.seats
    contenders = [member for member in takers if given(member, high) > member.seats]
    contenders.sort(key=functools.cmp_to_key(functools.partial(_precedes, divisor)))
    for member in contenders[:seats]:
        member.seats += 1


def _precedes(divisor: int, one: _Member, other: _Member) -> int:
    """Steps 4 and 5: negative where the next seat goes to the one rather than to the other."""
    return (
        other.weight * (2 * one.seats + divisor) - one.weight * (2 * other.seats + divisor)
        or (other.sticky > other.seats) - (one.sticky > one.seats)
        or other.weight - one.weight
        or other.lot - one.lot
    )


def _spread_as_if_nobody_left(
    sharing: list[_Member],
    leaving: list[_Member],
    frozen: list[_Member],
    seats: int,
    divisor: int,
) -> None:
    """Step 6, ordered: by configured weight among all members, those included that leave.

    Frozen members take part with at most what they hold: what one of them has above its weight
    are units of D that it got before it fell in doubt, and are not placed a second time.
    """
    for member in leaving:
        member.weight = member.own
        member.hi = _UNLIMITED if member.bid.maximum is None else member.bid.maximum
    kept = sum(_kept(member.bid) for member in frozen)
    _spread(sharing + leaving + frozen, seats + kept, divisor)
    for member in leaving:  # what they would have had is handed out
        member.weight = member.seats = 0
    for member in frozen:
        member.seats = _kept(member.bid)
    if sum(member.seats for member in sharing) > seats:
        _spread(sharing, seats, divisor)


def _hand_out(sharing: list[_Member], seats: int) -> None:
    """Step 6, ordered: the seats left over, by ascending priority, each member up to hi.

    Under ceilings everybody with a weight is at its ceiling by now; this keeps for the others,
    such as a standby that stood in, what need not be taken away.
    """
    seats -= sum(member.seats for member in sharing)
    for member in sorted(
        sharing, key=lambda member: (member.bid.priority, -member.own, -member.lot)
    ):
        member.extra = min(seats, member.hi - member.seats)
        member.seats += member.extra
        seats -= member.extra


def _part(member: _Member, weight: int, count: int, scale: int) -> int:
    """What a weight makes a member's part of the count, rounded up and within its bounds."""
    bid = member.bid
    part = _ceil(count * weight, scale)
    return min(max(part, bid.minimum), _UNLIMITED if bid.maximum is None else bid.maximum)


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _name(bid: Bid) -> str:
    return bid.name or bid.cloud


def _units(number: int) -> str:
    return "1 unit" if number == 1 else f"{number} units"


def _share(
    member: _Member, count: int, target: int, total: int, scale: int, leaving: list[_Member]
) -> Share:
    """What a member gets, with the reason in one sentence for a tenant."""
    bid, seats = member.bid, member.seats
    weight = fractions.Fraction(member.weight, scale)
    by_weight = member.weight * target
    if member.reason:
        reason = member.reason
    elif seats < member.lo:
        reason = f"{seats} of its minimum {bid.minimum}: no more units are left for it"
    # A bound is the reason only where the weight alone would have led beyond it.
    elif seats == member.lo and by_weight < seats * total:
        reason = member.at_lo
    elif seats == member.hi and by_weight > seats * total and member.at_hi:
        reason = member.at_hi
    elif member.weight == 0 and seats == 0:
        reason = "0: a standby gets units only when another cloud fails"
    else:
        reason = f"weight {format_weight(weight)} of {count}"
        if leaving:
            drained = all(other.standing is Standing.DRAINING for other in leaving)
            others = "clouds being drained" if drained else "clouds out of sight"
            if weight > bid.weight:
                reason += f", {format_weight(weight - bid.weight)} of it from {others}"
            if member.extra:
                reason += f", and {_units(member.extra)} of {others} by priority"
    return Share(cloud=bid.cloud, units=seats, weight=weight, reason=reason)


def _reasons(
    members: list[_Member],
    target: int,
    excess: int,
    unreplaced: int,
    homeless: int,
    surge: int | None,
    min_clouds: int,
) -> abc.Iterator[str]:
    """What keeps the allocation from being what was asked for."""
    if members and all(member.standing is Standing.FROZEN for member in members):
        if all(member.bid.standing in _IN_DOUBT for member in members):
            yield "all members out of sight"
        else:
            yield "no member can be raised: each is out of sight, cordoned or being drained"
    if excess:
        yield f"clouds in doubt hold {_units(excess)} more than the target {target}"
    if unreplaced:
        yield f"surge {surge}: {_units(unreplaced)} of clouds in doubt not replaced"
    if homeless:
        limits = [
            f"{_name(member.bid)} {member.at_hi}"
            for member in members
            if member.standing in _SHARING and member.at_hi and member.seats == member.hi
        ] + [
            f"{_name(member.bid)} {member.reason}"
            for member in members
            if member.standing is Standing.FROZEN and member.seats < member.part
        ]
        why = ", ".join(limits) or "no cloud with a weight can be raised"
        yield f"no room for {_units(homeless)}: {why}"
    for member in members:
        bid, seats = member.bid, member.seats
        if member.standing is Standing.FROZEN:
            if bid.maximum is not None and seats > bid.maximum:
                yield f"{_name(bid)} keeps {seats}, above its maximum {bid.maximum}"
            elif seats < bid.minimum:
                yield f"{_name(bid)} keeps {seats}, below its minimum {bid.minimum}"
        elif seats < bid.minimum:
            yield f"{_name(bid)} does not get its minimum {bid.minimum}"
    used = sum(member.seats > 0 for member in members)
    if used < min(min_clouds, target):
        yield f"units on {used} of at least {min_clouds} clouds"
