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

"""The values that the pure core works on: outcomes, verdicts, readings and members.

Frozen dataclasses and enums only. Times are timezone-aware UTC datetimes handed in by the shell;
nothing in this package reads a clock, a file, the network or the configuration.
"""

import dataclasses
import datetime
import enum
import fractions


class Outcome(enum.StrEnum):
    """What one answer of a cloud, or the lack of one, means.

    ``OK``: a good answer. ``UNREACHABLE``: nobody answers there. ``REFUSING``: it answers, but not
    to these credentials. ``BUSY``: it asks us to come again later. ``SICK``: it fails inside.
    ``MISSING``: the Heat stack does not exist. ``REJECTED``: it understood the request and will
    never accept it.
    """

    OK = "ok"
    UNREACHABLE = "unreachable"
    REFUSING = "refusing"
    BUSY = "busy"
    SICK = "sick"
    MISSING = "missing"
    REJECTED = "rejected"


class Verdict(enum.StrEnum):
    """What is held to be true of a cloud, from all that its observers saw."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    UNREACHABLE = "unreachable"
    REFUSING = "refusing"
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Reading:
    """The latest observation of one cloud by one observer.

    :ivar misses: answers in a row that were evidence of *unreachable*, the latest included
    :ivar goods: good answers in a row, the latest included
    :ivar since: when the row of equal outcomes began
    :ivar zone: failure zone of the observer; all of one zone together have one vote
    :ivar seen: this observer has had a good answer of the cloud at some time
    :ivar abstains: why it does not trust what it sees; empty: it does
    :ivar expires_at: of a watchdog: until then its word stands as it is, without any row
    """

    observer: str
    outcome: Outcome
    detail: str
    misses: int
    goods: int
    since: datetime.datetime
    observed_at: datetime.datetime
    zone: str | None = None
    seen: bool = True
    abstains: str = ""
    expires_at: datetime.datetime | None = None


class Rule(enum.StrEnum):
    """The rules of a judgement, in their order; the first one that fits decides.

    ``STALE``: nobody who may vote has looked lately. ``STRANGERS``: only observers that have never
    seen the cloud look at it, and it does not answer them. ``MISSED``: a majority missed it often
    enough. ``NEVER_SEEN``: the same, but nobody has ever seen it. ``REFUSED``: a majority is refused.
    ``RETURNED``, ``RETURNING``: it was unreachable, and a majority has had enough good answers, or not
    yet. ``ANSWERS``: a majority gets good answers. ``DOUBTED``: some missed it. ``SICK``: it answers,
    but does not serve.
    """

    STALE = "stale"
    STRANGERS = "strangers"
    MISSED = "missed"
    NEVER_SEEN = "never-seen"
    REFUSED = "refused"
    RETURNED = "returned"
    RETURNING = "returning"
    ANSWERS = "answers"
    DOUBTED = "doubted"
    SICK = "sick"


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A verdict with the rule that fired and what it rests on, in one sentence.

    The reason is empty only while a cloud is still to be seen for the first time.
    """

    verdict: Verdict
    rule: Rule
    reason: str


@dataclasses.dataclass(frozen=True)
class CloudState:
    """How one cloud stands, when it is asked whether too many fail at once."""

    cloud: str
    verdict: Verdict
    since: datetime.datetime | None
    rule: str | None = None


@dataclasses.dataclass(frozen=True)
class Brake:
    """Whether everything is to stay where it is because too much fails at once.

    :ivar clouds: that went away together; empty: the brake is off
    :ivar known: of how many
    :ivar hold_until: some may be about to join them; until then nobody reacts to the others
    """

    clouds: frozenset[str] = frozenset()
    known: int = 0
    hold_until: datetime.datetime | None = None


class Phase(enum.StrEnum):
    """How a member's Heat stack stands, as far as planning cares."""

    ABSENT = "absent"
    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"
    DELETING = "deleting"


class Rebalance(enum.StrEnum):
    """How units move after a change of weights, a new cloud or a return, at a count that stays.

    ``GRADUAL``: so many at a time. ``ON_DEMAND``: only growth and shrinking move them.
    """

    IMMEDIATE = "immediate"
    GRADUAL = "gradual"
    ON_DEMAND = "on-demand"


class Failback(enum.StrEnum):
    """Whether units go back to a cloud that has come back by themselves, or when a user says so."""

    AUTO = "auto"
    MANUAL = "manual"


class Drift(enum.StrEnum):
    """What becomes of a change by somebody else: set back, shown, or left without a word."""

    HEAL = "heal"
    REPORT = "report"
    IGNORE = "ignore"


class Missing(enum.StrEnum):
    """What becomes of the units of a Heat stack that somebody else deleted.

    ``HOLD``: they are missing until a user says retry. ``MOVE``: the other clouds run them until then.
    """

    RECREATE = "recreate"
    HOLD = "hold"
    MOVE = "move"


@dataclasses.dataclass(frozen=True)
class Member:
    """What a round knows of one member when it decides.

    :ivar name: the cloud's name, for sentences
    :ivar seen: the deciding engine itself has listed this cloud, so it may write there
    :ivar out: the member was taken out of the allocation by a failover and has not been let back
    :ivar lost: an administrator has declared the cloud lost: nothing runs there any more
    :ivar returning: it has been let back, and its units are still on their way
    :ivar recalled: a user wants its units back without any more waiting
    :ivar relapses: how many times in a row the cloud went away again soon after it had come back
    :ivar observed: the count parameter as read back; None when there is no Heat stack
    :ivar confirmed: units that run for sure: those of the smaller of two counts while it changes
    :ivar held: the last share that Heat accepted
    :ivar share: the one of the last round; None before the first
    :ivar capacity: the most that the cloud can hold, learned from a raise that failed; believed until
        ``full_until``
    :ivar busy_since: since when Heat has been at work there
    :ivar conflict: somebody else changed it again after it was set back; a person has to decide
    :ivar missing: the Heat stack was there and is gone, and not because we had it deleted
    :ivar check_asked: a user wants Heat to compare its records with what exists
    :ivar problem: words of the last refusal, empty when there was none
    :ivar retry_at: no write before this time
    :ivar put_off: why a step that was due was not even sent, in this round
    """

    id: str
    cloud: str
    name: str
    weight: fractions.Fraction
    minimum: int
    maximum: int | None
    priority: int
    leaving: bool
    owned: bool
    verdict: Verdict
    verdict_since: datetime.datetime | None
    verdict_reason: str
    seen: bool
    cordoned: bool
    draining: bool
    phase: Phase
    heat_status: str
    heat_status_reason: str
    held: int
    observed: int | None
    confirmed: int
    out: bool
    floor: int | None
    problem: str
    retry_at: datetime.datetime | None
    capacity: int | None = None
    full_until: datetime.datetime | None = None
    busy_since: datetime.datetime | None = None
    conflict: bool = False
    missing: bool = False
    check_asked: bool = False
    put_off: str = ""
    share: int | None = None
    lost: bool = False
    returning: bool = False
    recalled: bool = False
    relapses: int = 0


@dataclasses.dataclass(frozen=True)
class Stack:
    """What is wanted of one stack.

    :ivar toleration: seconds that an unreachable cloud is waited for
    :ivar stable: seconds that a returned cloud must be healthy before units go back
    :ivar ceiling: the longest that this time grows to with relapses
    :ivar failback: whether units go back by themselves
    :ivar batch: of those that go back, units under way at the same time; None: a tenth of the count
    :ivar templated: its Heat stacks are created from a template, not taken over
    :ivar rebalance: how units move between clouds at a count that stays
    :ivar step: with gradual movement, units under way at the same time
    :ivar drift: what becomes of a change by somebody else
    :ivar lost: what becomes of the units of a Heat stack that somebody else deleted
    :ivar retry_stuck: an update that does not end by its deadline is sent again
    :ivar deadline: seconds that Heat may be at work on one change
    :ivar forget: deletion does not wait for clouds out of sight
    :ivar brake: why nothing is to move by itself; empty: the brake is off
    :ivar braked_at: since when it is on
    :ivar hold_until: no failover before, as the brake may be about to be put on
    :ivar calm_since: when it was last taken off; toleration begins anew
    :ivar forced_at: when an administrator had it fail over from what was unreachable, brake or not
    """

    id: str
    name: str
    count: int
    count_parameter: str
    rule: str
    rounding: str
    min_clouds: int
    surge: int | None
    toleration: int
    stable: int
    templated: bool
    deleting: bool
    release: bool
    forget: bool = False
    rebalance: Rebalance = Rebalance.IMMEDIATE
    step: int = 1
    drift: Drift = Drift.HEAL
    lost: Missing = Missing.RECREATE
    retry_stuck: bool = False
    deadline: float = 3660.0
    ceiling: int = 3600
    failback: Failback = Failback.AUTO
    batch: int | None = None
    brake: str = ""
    braked_at: datetime.datetime | None = None
    hold_until: datetime.datetime | None = None
    calm_since: datetime.datetime | None = None
    forced_at: datetime.datetime | None = None
