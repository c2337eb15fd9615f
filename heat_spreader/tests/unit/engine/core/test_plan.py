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

"""Facts about plan(): a table for each rule, and a small world in which anything may happen.

The world applies the steps of a plan the way Heat and the shell do: they take time, they fail, and
clouds come and go meanwhile. It is pure; thousands of rounds take seconds.
"""

import dataclasses
import datetime
import fractions

import hypothesis
from hypothesis import strategies as st
from oslotest import base

from heat_spreader.engine.core import plan
from heat_spreader.engine.core import values

Action = plan.Action
MemberStatus = plan.MemberStatus
Phase = values.Phase
StackStatus = plan.StackStatus
Verdict = values.Verdict

NOW = datetime.datetime(2026, 1, 1, 12, 0, 0)
TOLERATION, STABLE = 60, 300

STACK = values.Stack(
    id="3f1c",
    name="web",
    count=10,
    count_parameter="count",
    rule="even",
    rounding="exact",
    min_clouds=0,
    surge=None,
    toleration=TOLERATION,
    stable=STABLE,
    templated=True,
    deleting=False,
    release=False,
)


def ago(seconds):
    return NOW - datetime.timedelta(seconds=seconds)


def make_member(name, weight, units=None, **changes):
    """A member whose Heat stack runs these units and rests; without units it has none yet."""
    absent = units is None
    fields = {
        "id": name,
        "cloud": f"id of {name}",
        "name": name,
        "weight": fractions.Fraction(weight),
        "minimum": 0,
        "maximum": None,
        "priority": 0,
        "leaving": False,
        "owned": True,
        "verdict": Verdict.HEALTHY,
        "verdict_since": ago(3600),
        "verdict_reason": "it answers",
        "seen": True,
        "cordoned": False,
        "draining": False,
        "phase": Phase.ABSENT if absent else Phase.IDLE,
        "heat_status": "" if absent else "UPDATE_COMPLETE",
        "heat_status_reason": "",
        "held": units or 0,
        "observed": units,
        "confirmed": units or 0,
        "out": False,
        "floor": None,
        "problem": "",
        "retry_at": None,
    }
    return values.Member(**fields | changes)


# Ways to be for a member, to be given as changes.
def busy(before, after):
    """Its Heat stack is on the way from so many units to so many."""
    return {
        "phase": Phase.BUSY,
        "heat_status": "UPDATE_IN_PROGRESS",
        "held": after,
        "observed": after,
        "confirmed": min(before, after),
    }


def failed(before, after):
    return busy(before, after) | {
        "phase": Phase.FAILED,
        "heat_status": "UPDATE_FAILED",
        "heat_status_reason": "no room",
    }


def unreachable(seconds):
    return {
        "verdict": Verdict.UNREACHABLE,
        "verdict_since": ago(seconds),
        "verdict_reason": "3 or more misses in a row",
        "seen": False,
    }


def back(seconds):
    return {"out": True, "verdict_since": ago(seconds)}


def backing_off(seconds=5, problem=""):
    return {"retry_at": NOW + datetime.timedelta(seconds=seconds), "problem": problem}


def full(capacity, seconds=60):
    return {"capacity": capacity, "full_until": NOW + datetime.timedelta(seconds=seconds)}


def since(seconds):
    """Heat has been at work for so long."""
    return {"busy_since": ago(seconds)}


DELETING = {"phase": Phase.DELETING, "heat_status": "DELETE_IN_PROGRESS"}
CREATING = {
    "phase": Phase.BUSY,
    "heat_status": "CREATE_IN_PROGRESS",
    "held": 6,
    "observed": 6,
    "confirmed": 0,
    **since(3700),
}
CHECK_FAILED = {"phase": Phase.FAILED, "heat_status": "CHECK_FAILED"}
SUSPECT = {"verdict": Verdict.SUSPECT, "verdict_since": ago(5), "verdict_reason": "missed 1 of 3"}
REFUSING = {"verdict": Verdict.REFUSING, "verdict_since": ago(3600), "verdict_reason": "401"}
NEVER_SEEN = {
    "verdict": Verdict.UNKNOWN,
    "verdict_since": None,
    "verdict_reason": "",
    "seen": False,
}
DOWN = unreachable(3600) | {"out": True}


def seed(one=None, two=None, three=None, units=(6, 2, 2), weights=".6 .2 .2"):
    """Three members named a, b, c with changes to each."""
    return [
        make_member(name, weight, held, **(changes or {}))
        for name, weight, held, changes in zip(
            "abc", weights.split(), units, (one, two, three), strict=True
        )
    ]


def stack(**changes):
    return dataclasses.replace(STACK, **changes)


def told(steps):
    """Steps as a person writes them: "a 6→7", "create b 2", "delete c", "forget c"."""
    return [
        f"{step.member} {step.before}→{step.units}"
        if step.action is Action.RESIZE
        else f"create {step.member} {step.units}"
        if step.action is Action.CREATE
        else f"{step.action} {step.member}"
        for step in steps
    ]


TEMPLATED, TAKEN_OVER = stack(), stack(templated=False)
ABSENT = (None, None, None)
OURS, THEIRS = {"leaving": True}, {"leaving": True, "owned": False}

# name: (stack, members, steps)
CASES = {
    # creating and resizing
    "create where there is nothing": (
        TEMPLATED,
        seed(units=ABSENT),
        ["create a 6", "create b 2", "create c 2"],
    ),
    "create none with no units": (TEMPLATED, seed(units=ABSENT, weights="1 0 0"), ["create a 10"]),
    "create what somebody deleted": (TEMPLATED, seed(units=(6, None, 2)), ["create b 2"]),
    "take over: set what is there": (
        TAKEN_OVER,
        seed(units=(1, 1, 1)),
        ["a 1→6", "b 1→2", "c 1→2"],
    ),
    "take over: never create": (TAKEN_OVER, seed(units=(6, None, 2)), []),
    "all is well": (TEMPLATED, seed(), []),
    "a larger count": (stack(count=20), seed(), ["a 6→12", "b 2→4", "c 2→4"]),
    "a smaller count": (stack(count=5), seed(), ["a 6→3", "b 2→1", "c 2→1"]),
    "count 0 keeps the Heat stacks": (stack(count=0), seed(), ["a 6→0", "b 2→0", "c 2→0"]),
    "somebody raised one": (TEMPLATED, seed(units=(9, 2, 2)), ["a 9→6"]),
    "somebody lowered one": (TEMPLATED, seed(units=(1, 2, 2)), ["a 1→6"]),
    # raise before lower
    "new weights: raise first": (TEMPLATED, seed(units=(2, 2, 6)), ["a 2→6"]),
    "new weights: the raise is under way": (TEMPLATED, seed(busy(2, 6), units=(6, 2, 6)), []),
    "new weights: then lower": (TEMPLATED, seed(units=(6, 2, 6)), ["c 6→2"]),
    "back from 7/3/0: raise": (TEMPLATED, seed(units=(7, 3, 0)), ["c 0→2"]),
    "back from 7/3/0: the raise is not confirmed": (
        TEMPLATED,
        seed(None, None, busy(0, 2), units=(7, 3, 2)),
        [],
    ),
    "back from 7/3/0: the raise failed": (
        TEMPLATED,
        seed(None, None, failed(0, 2) | backing_off(), units=(7, 3, 2)),
        [],
    ),
    "back from 7/3/0: the raise failed and is tried again": (
        TEMPLATED,
        seed(None, None, failed(0, 2), units=(7, 3, 2)),
        ["c 2→2"],
    ),
    "back from 7/3/0: one unit came": (TEMPLATED, seed(units=(7, 3, 1)), ["a 7→6", "c 1→2"]),
    "back from 7/3/0: all units came": (TEMPLATED, seed(units=(7, 3, 2)), ["a 7→6", "b 3→2"]),
    "lower by what is confirmed, here one of four": (
        TEMPLATED,
        seed(busy(3, 6), units=(6, 6, 2)),
        ["b 6→5"],
    ),
    "lower one when the other is being lowered already": (
        TEMPLATED,
        seed(busy(8, 6), units=(6, 3, 2)),
        ["b 3→2"],
    ),
    # failing Heats
    "a failed update is sent again": (TEMPLATED, seed(failed(4, 6)), ["a 6→6"]),
    "a failed update with another count": (
        stack(count=20),
        seed(failed(4, 6), units=(6, 4, 4)),
        ["a 6→12"],
    ),
    "a failed raise that is not wanted any more": (
        TEMPLATED,
        seed(failed(6, 9), units=(9, 2, 2)),
        ["a 9→6"],
    ),
    "a failed raise never becomes another raise": (
        # 4 run, 10 were asked for, 3 are wanted, and one unit of the others is there already.
        TEMPLATED,
        seed(failed(4, 10), units=(10, 5, 2), weights=".3 .5 .2"),
        ["a 10→3"],
    ),
    "a failed raise keeps what runs until the others have taken over": (
        TEMPLATED,
        seed(failed(6, 9), units=(9, 2, 2), weights=".2 .6 .2"),
        ["b 2→6"],
    ),
    "a failed lowering": (TEMPLATED, seed(failed(7, 6)), ["a 6→6"]),
    "a failed creation": (TEMPLATED, seed(failed(0, 6)), ["a 6→6"]),
    # who is left alone
    "busy": (stack(count=20), seed(busy(6, 7)), ["b 2→4", "c 2→4"]),
    "being deleted by somebody": (
        TEMPLATED,
        seed({"phase": Phase.DELETING, "heat_status": "DELETE_IN_PROGRESS", "confirmed": 0}),
        [],
    ),
    "backing off": (stack(count=20), seed(backing_off()), ["b 2→4", "c 2→4"]),
    "backing off, absent": (
        TEMPLATED,
        seed(backing_off(), units=ABSENT),
        ["create b 2", "create c 2"],
    ),
    "backing off is over": (stack(count=20), seed(backing_off(0)), ["a 6→12", "b 2→4", "c 2→4"]),
    "suspect: frozen, the others take the rest": (
        stack(count=13),
        seed(None, SUSPECT),
        ["a 6→8", "c 2→3"],
    ),
    "suspect: the others are lowered all the same": (
        TEMPLATED,
        seed(None, SUSPECT, units=(8, 2, 2)),
        ["a 8→6"],
    ),
    "refusing: frozen": (stack(count=18), seed(None, None, REFUSING), ["a 6→12", "b 2→4"]),
    "suspect: what was to leave it stays promised to the others": (
        TEMPLATED,
        seed({"share": 6}, {"share": 4}, SUSPECT | {"share": 0}, weights=".6 .4 0"),
        ["b 2→4"],
    ),
    "suspect: what turns up there takes nothing from the others": (
        TEMPLATED,
        seed({"share": 7}, {"share": 3}, SUSPECT | {"share": 0}, units=(7, 3, 8)),
        [],
    ),
    "suspect and leaving: the others take over what it has": (
        TEMPLATED,
        seed({"share": 6}, {"share": 2}, SUSPECT | OURS | {"share": 2}),
        ["a 6→8"],
    ),
    "out, by the rule hold: what has not come to run there is not counted on": (
        stack(rule="hold"),
        seed(
            {"share": 6},
            {"share": 2},
            DOWN | {"share": 2, "confirmed": 1},
            units=(6, 3, 2),
        ),
        [],
    ),
    "out, by the rule hold: what turns up there takes nothing from the others": (
        stack(rule="hold"),
        seed({"share": 7}, {"share": 3}, back(STABLE - 1) | {"share": 0}, units=(7, 3, 8)),
        [],
    ),
    "suspect and absent: not created": (
        TEMPLATED,
        seed(None, SUSPECT, units=(6, None, 2)),
        ["a 6→8"],
    ),
    "cordoned: not raised": (stack(count=20), seed({"cordoned": True}), ["b 2→7", "c 2→7"]),
    "draining: the others are raised first": (
        TEMPLATED,
        seed(None, None, {"draining": True}),
        ["a 6→7", "b 2→3"],
    ),
    "draining: then it is emptied": (
        TEMPLATED,
        seed(None, None, {"draining": True}, units=(7, 3, 2)),
        ["c 2→0"],
    ),
    # failover and failback
    "unreachable, tolerated": (TEMPLATED, seed(None, None, unreachable(TOLERATION - 1)), []),
    "unreachable past the toleration": (
        TEMPLATED,
        seed(None, None, unreachable(TOLERATION)),
        ["a 6→7", "b 2→3"],
    ),
    "toleration 0": (stack(toleration=0), seed(None, None, unreachable(0)), ["a 6→7", "b 2→3"]),
    "failed over": (TEMPLATED, seed(None, None, DOWN, units=(7, 3, 2)), []),
    "count raised in an outage": (
        stack(count=20),
        seed({"floor": 6}, {"floor": 2}, DOWN, units=(7, 3, 2)),
        ["a 7→14", "b 3→6"],
    ),
    "count lowered in an outage": (
        stack(count=6),
        seed({"floor": 6}, {"floor": 2}, DOWN),
        ["a 6→4"],
    ),
    "out, and only suspect by now: still out": (
        TEMPLATED,
        seed(None, None, SUSPECT | {"out": True}, units=(7, 3, 2)),
        [],
    ),
    "back, not stable yet": (TEMPLATED, seed(None, None, back(STABLE - 1), units=(7, 3, 2)), []),
    "back and stable, with what it had": (
        TEMPLATED,
        seed(None, None, back(STABLE), units=(7, 3, 2)),
        ["a 7→6", "b 3→2"],
    ),
    "back and stable, with nothing": (
        TEMPLATED,
        seed(None, None, back(STABLE), units=(7, 3, None)),
        ["create c 2"],
    ),
    "back and stable, but this engine has not looked": (
        TEMPLATED,
        seed(None, None, back(STABLE) | {"seen": False}, units=(7, 3, 2)),
        [],
    ),
    "all down": (TEMPLATED, seed(DOWN, DOWN, DOWN), []),
    "all but one refusing": (TEMPLATED, seed(None, REFUSING, REFUSING), []),
    "hold": (stack(rule="hold"), seed(None, None, DOWN), []),
    "surge 1": (stack(surge=1), seed(None, None, DOWN), ["b 2→3"]),
    # first look
    "first look: nobody may write before all have been looked at": (
        stack(count=20),
        seed(None, None, NEVER_SEEN),
        [],
    ),
    "first look: it was listed, and the verdict is yet to come": (
        TEMPLATED,
        seed(NEVER_SEEN | {"seen": True}, None, NEVER_SEEN | {"seen": True}, units=ABSENT),
        [],
    ),
    "first look of a new engine": (stack(count=20), seed(None, None, {"seen": False}), []),
    "a cloud that never answered holds nobody up": (
        TEMPLATED,
        seed(
            None,
            None,
            NEVER_SEEN | {"verdict_reason": "never seen yet; unreachable"},
            units=ABSENT,
        ),
        ["create a 8", "create b 2"],
    ),
    # leaving
    "ours leaves with nothing": (
        TEMPLATED,
        seed(None, None, OURS, units=(8, 2, None), weights=".8 .2 0"),
        ["forget c"],
    ),
    "ours leaves without a unit": (
        TEMPLATED,
        seed(None, None, OURS, units=(8, 2, 0), weights=".8 .2 0"),
        ["delete c"],
    ),
    "ours leaves: the others are raised first": (
        TEMPLATED,
        seed(None, None, OURS, weights=".8 .2 0"),
        ["a 6→8"],
    ),
    "ours leaves: the raise is under way": (
        TEMPLATED,
        seed(busy(6, 8), None, OURS, units=(8, 2, 2), weights=".8 .2 0"),
        [],
    ),
    "ours leaves: then it is deleted": (
        TEMPLATED,
        seed(None, None, OURS, units=(8, 2, 2), weights=".8 .2 0"),
        ["delete c"],
    ),
    "ours leaves: nobody has to take over": (
        TEMPLATED,
        seed(None, None, OURS, weights=".6 .2 0"),
        ["delete c"],
    ),
    "ours leaves: it is lowered as far as the others came": (
        TEMPLATED,
        seed(None, None, OURS, units=(7, 2, 2), weights=".8 .2 0"),
        ["a 7→8", "c 2→1"],
    ),
    "ours leaves: it is being deleted": (
        TEMPLATED,
        seed(
            None,
            None,
            OURS | {"phase": Phase.DELETING, "heat_status": "DELETE_IN_PROGRESS", "confirmed": 0},
            units=(8, 2, 2),
            weights=".8 .2 0",
        ),
        [],
    ),
    "ours leaves: out of sight": (
        TEMPLATED,
        seed(None, None, OURS | DOWN, units=(8, 2, 2), weights=".8 .2 0"),
        [],
    ),
    "theirs leaves: it is lowered": (
        TAKEN_OVER,
        seed(None, None, THEIRS, units=(8, 2, 2), weights=".8 .2 0"),
        ["c 2→0"],
    ),
    "theirs leaves: it is empty": (
        TAKEN_OVER,
        seed(None, None, THEIRS, units=(8, 2, 0), weights=".8 .2 0"),
        ["forget c"],
    ),
    "theirs leaves: it is still being lowered": (
        TAKEN_OVER,
        seed(None, None, THEIRS | busy(2, 0), units=(8, 2, 0), weights=".8 .2 0"),
        [],
    ),
    # deleting
    "delete ours, forget theirs": (
        stack(deleting=True),
        seed(None, {"owned": False}),
        ["delete a", "forget b", "delete c"],
    ),
    "delete: all are on the way": (
        stack(deleting=True),
        seed(*[DELETING | since(3600)] * 3),
        [],
    ),
    "delete: one has lost its Heat": (
        stack(deleting=True),
        seed(None, None, DELETING | since(3700)),
        ["delete a", "delete b", "delete c"],
    ),
    "delete: gone": (
        stack(deleting=True),
        seed(units=ABSENT),
        ["forget a", "forget b", "forget c"],
    ),
    "delete does not wait for an update": (
        stack(deleting=True),
        seed(busy(1, 6)),
        ["delete a", "delete b", "delete c"],
    ),
    "delete a failed one": (
        stack(deleting=True),
        seed(failed(1, 6)),
        ["delete a", "delete b", "delete c"],
    ),
    "delete: what is out of sight waits alone": (
        stack(deleting=True),
        seed(None, DOWN, SUSPECT),
        ["delete a"],
    ),
    "delete: what was never looked at waits alone": (
        stack(deleting=True),
        seed(None, None, NEVER_SEEN),
        ["delete a", "delete b"],
    ),
    "delete: refused, tried later": (
        stack(deleting=True),
        seed(backing_off(problem="It said no.")),
        ["delete b", "delete c"],
    ),
    "delete theirs although out of sight": (
        stack(deleting=True),
        seed(None, None, DOWN | {"owned": False}),
        ["delete a", "delete b", "forget c"],
    ),
    "delete: what is out of sight is forgotten on demand": (
        stack(deleting=True, forget=True),
        seed(None, DOWN, NEVER_SEEN),
        ["delete a", "forget b", "forget c"],
    ),
    "nothing is lowered for what was on its way when its cloud fell in doubt": (
        stack(count=9),
        seed(None, None, SUSPECT | busy(0, 6), units=(1, 8, 6), weights=".1 .1 .8"),
        [],
    ),
    # full
    "full: the others are raised instead": (
        stack(count=20),
        seed(None, full(2)),
        ["a 6→14", "c 2→4"],
    ),
    "full: no longer believed": (
        stack(count=20),
        seed(None, full(2, seconds=-1)),
        ["a 6→12", "b 2→4", "c 2→4"],
    ),
    "full: a raise that failed is taken back": (
        stack(count=20),
        seed(None, failed(2, 4) | {"held": 2} | full(2), units=(12, 4, 4)),
        ["a 12→14", "b 4→2"],
    ),
    "full: nothing fits there at all": (
        STACK,
        seed(None, full(0) | {"phase": Phase.ABSENT}, units=(6, None, 2)),
        ["a 6→8"],
    ),
    "a creation that failed is deleted, to be made anew": (
        STACK,
        seed(None, failed(0, 2) | {"heat_status": "CREATE_FAILED"}),
        ["delete b"],
    ),
    "a creation that failed and is not ours": (
        TAKEN_OVER,
        seed(None, failed(0, 2) | {"heat_status": "CREATE_FAILED", "owned": False}),
        ["b 2→2"],
    ),
    "a deletion that failed is asked for again": (
        STACK,
        seed(None, failed(2, 0) | {"heat_status": "DELETE_FAILED"}),
        ["delete b"],
    ),
    "a deletion by others that failed is theirs": (
        TAKEN_OVER,
        seed(None, failed(2, 0) | {"heat_status": "DELETE_FAILED", "owned": False}),
        [],
    ),
    "full: nothing is lowered that has no room elsewhere": (
        stack(count=13),
        seed({"maximum": 9}, full(2), {"draining": True}, units=(9, 2, 2), weights=".8 .1 .1"),
        [],
    ),
    "one is back, with little room: what replaced another stays where it is": (
        stack(rule="proportional"),
        seed(DOWN, {"maximum": 3}, None, units=(0, 0, 10), weights=".6 .4 0"),
        ["b 0→3"],
    ),
    "one is back, with little room, and is filled": (
        stack(rule="proportional"),
        seed(DOWN, {"maximum": 3}, None, units=(0, 3, 10), weights=".6 .4 0"),
        ["c 10→7"],
    ),
    "one is back, with little room, and another one is lost": (
        stack(rule="proportional"),
        seed(DOWN | {"lost": True}, {"maximum": 3}, None, units=(0, 3, 10), weights=".6 .4 0"),
        ["c 10→0"],
    ),
    "one is drained, and has no room elsewhere as long as another is out": (
        STACK,
        seed(DOWN, {"maximum": 7}, {"draining": True}, units=(0, 2, 8), weights="0 .3 .7"),
        ["b 2→7"],
    ),
    "ceil: one is back, and has no room": (
        stack(rule="proportional", rounding="ceil"),
        seed(DOWN, {"maximum": 0}, None, units=(0, 0, 10), weights=".6 .4 0"),
        ["c 10→6"],
    ),
    "ceil: nothing is lowered for a new cloud in doubt": (
        stack(rounding="ceil"),
        seed(None, None, SUSPECT, units=(6, 4, 0), weights=".4 .2 .4"),
        [],
    ),
    "hold in the middle of an outage lowers nobody": (
        stack(rule="hold"),
        seed(DOWN, None, None, units=(0, 10, 0), weights="1 0 0"),
        [],
    ),
    # changed or deleted by somebody else
    "drift is left as it is": (
        stack(drift=values.Drift.REPORT),
        seed({"observed": 9, "confirmed": 9}),
        [],
    ),
    "drift that was left is overruled by a new share": (
        stack(drift=values.Drift.REPORT, count=20),
        seed({"observed": 9, "confirmed": 9}),
        ["a 9→12", "b 2→4", "c 2→4"],
    ),
    "drift in conflict": (
        STACK,
        seed({"observed": 9, "confirmed": 9, "conflict": True, "problem": "They did it again."}),
        [],
    ),
    "missing: made anew": (
        STACK,
        seed(None, {"missing": True}, units=(6, None, 2)),
        ["create b 2"],
    ),
    "missing: held": (
        stack(lost=values.Missing.HOLD),
        seed(None, {"missing": True}, units=(6, None, 2)),
        [],
    ),
    "missing: moved": (
        stack(lost=values.Missing.MOVE),
        seed(None, {"missing": True}, units=(6, None, 2)),
        ["a 6→8"],
    ),
    "missing: in conflict": (
        STACK,
        seed(
            None,
            {"missing": True, "conflict": True, "problem": "Gone again."},
            units=(6, None, 2),
        ),
        [],
    ),
    "check: at rest": (STACK, seed({"check_asked": True}), ["check a"]),
    "check: not before what is to be changed": (
        stack(count=20),
        seed({"check_asked": True}),
        ["a 6→12", "b 2→4", "c 2→4"],
    ),
    "check: found something": (STACK, seed(CHECK_FAILED), ["a 6→6"]),
    "check: found something that is left": (
        stack(drift=values.Drift.REPORT),
        seed(CHECK_FAILED),
        [],
    ),
    "check: of what a check found and was left": (
        stack(drift=values.Drift.REPORT),
        seed(CHECK_FAILED | {"check_asked": True}),
        ["check a"],
    ),
    "check: of what others changed and was left": (
        stack(drift=values.Drift.REPORT),
        seed({"observed": 9, "confirmed": 9, "check_asked": True}),
        ["check a"],
    ),
    # stuck
    "stuck: not yet": (stack(retry_stuck=True), seed(busy(1, 6) | since(3600)), []),
    "stuck: told only": (STACK, seed(busy(1, 6) | since(3700)), []),
    "stuck: sent again": (stack(retry_stuck=True), seed(busy(1, 6) | since(3700)), ["a 6→6"]),
    "stuck: a creation is made anew": (stack(retry_stuck=True), seed(CREATING), ["delete a"]),
    "stuck: a creation by somebody else is told only": (
        stack(retry_stuck=True),
        seed(CREATING | {"owned": False}),
        [],
    ),
    "stuck: what leaves is deleted": (
        STACK,
        seed(None, None, CREATING | OURS),
        ["a 6→7", "b 2→3", "delete c"],
    ),
    # movement
    "gradual: one raise at a time": (
        stack(rebalance=values.Rebalance.GRADUAL, step=1),
        seed(units=(6, 2, 2), weights=".2 .2 .6"),
        ["c 2→3"],
    ),
    "gradual: then one reduction, and no raise before it": (
        stack(rebalance=values.Rebalance.GRADUAL, step=1),
        seed(units=(6, 2, 3), weights=".2 .2 .6"),
        ["a 6→5"],
    ),
    "gradual: growth is not slowed down": (
        stack(rebalance=values.Rebalance.GRADUAL, step=1, count=20),
        seed(),
        ["a 6→12", "b 2→4", "c 2→4"],
    ),
    "on demand: nothing moves": (
        stack(rebalance=values.Rebalance.ON_DEMAND),
        seed(weights=".2 .2 .6"),
        [],
    ),
    "on demand: failover": (
        stack(rebalance=values.Rebalance.ON_DEMAND),
        seed(None, None, DOWN),
        ["a 6→7", "b 2→3"],
    ),
    "release: forget all at once, wherever they are": (
        stack(deleting=True, release=True),
        seed(None, DOWN, NEVER_SEEN),
        ["forget a", "forget b", "forget c"],
    ),
}


class TestSteps(base.BaseTestCase):
    """One test for each row of CASES; its name is the row's."""


def _add_rows():
    def check(self, wanted, members, steps):
        self.assertEqual(steps, told(plan.plan(wanted, members, NOW).steps))

    for title, row in CASES.items():
        words = "".join(c if c.isalnum() else " " for c in title).split()
        name = "_".join(["test", *words])
        if hasattr(TestSteps, name):
            raise ValueError(f"two rows are called {title!r}")
        setattr(TestSteps, name, lambda self, row=row: check(self, *row))


_add_rows()


class TestStanding(base.BaseTestCase):
    """What allocation may do with a member, the first rule that fits."""

    TABLE = (
        ("well", {}, "raisable"),
        ("never looked at by this engine", {"seen": False}, "frozen"),
        ("suspect", SUSPECT, "frozen"),
        ("refusing", REFUSING, "frozen"),
        ("unknown", NEVER_SEEN, "frozen"),
        ("unreachable, tolerated", unreachable(TOLERATION - 1), "frozen"),
        ("unreachable", unreachable(TOLERATION), "down"),
        ("out and suspect", SUSPECT | {"out": True}, "down"),
        ("out and refusing", REFUSING | {"out": True}, "down"),
        ("out and unknown", NEVER_SEEN | {"out": True}, "down"),
        ("back, not stable", back(STABLE - 1), "down"),
        ("back and stable", back(STABLE), "raisable"),
        ("back and stable, not looked at", back(STABLE) | {"seen": False}, "down"),
        ("back, nobody knows since when", {"out": True, "verdict_since": None}, "down"),
        ("cordoned", {"cordoned": True}, "cordoned"),
        ("draining", {"draining": True}, "draining"),
        ("cordoned and draining", {"cordoned": True, "draining": True}, "draining"),
        ("leaving", {"leaving": True}, "draining"),
        ("leaving, and suspect", SUSPECT | {"leaving": True}, "frozen"),
        ("draining, and unreachable", unreachable(3600) | {"draining": True}, "down"),
    )

    def test_table(self):
        found = [
            (name, changes, plan.standing(STACK, make_member("a", 1, 5, **changes), NOW))
            for name, changes, _ in self.TABLE
        ]
        self.assertEqual(list(self.TABLE), found)


class TestReturn(base.BaseTestCase):
    """When a cloud that came back is let back in, and how its units get there."""

    def out(self, seconds, stack_=None, **changes):
        decided = plan.plan(stack_ or STACK, seed(three=back(seconds) | changes), NOW)
        return decided

    def test_the_window_is_doubled_at_each_relapse(self):
        for relapses, window in ((0, 300), (1, 600), (2, 1200), (3, 2400), (4, 3600), (99, 3600)):
            before = self.out(window - 1, relapses=relapses)
            self.assertEqual((frozenset("c"), 1), (before.out, before.wake_in), relapses)
            self.assertEqual(frozenset(), self.out(window, relapses=relapses).out, relapses)
        view = self.out(0, relapses=2).views["c"]
        self.assertIn("must stay healthy for 1200 s more", view.reason)
        self.assertIn("went away again 2 time(s)", view.reason)

    def test_the_ceiling_is_no_less_than_the_window(self):
        wanted = stack(stable=7200)
        self.assertEqual(frozenset("c"), self.out(7199, wanted, relapses=5).out)
        self.assertEqual(frozenset(), self.out(7200, wanted, relapses=5).out)
        self.assertEqual(frozenset(), self.out(0, stack(stable=0), relapses=5).out)

    def test_by_hand(self):
        wanted = stack(failback=values.Failback.MANUAL)
        decided = self.out(10**6, wanted)
        self.assertEqual((frozenset("c"), None), (decided.out, decided.wake_in))
        self.assertIn("when you say failback", decided.views["c"].reason)
        self.assertEqual(frozenset(), self.out(0, wanted, recalled=True).out)

    def test_a_user_need_not_wait(self):
        self.assertEqual(frozenset(), self.out(0, recalled=True, relapses=9).out)
        for doubt in (SUSPECT, REFUSING, {"seen": False}):
            decided = self.out(0, recalled=True, **doubt)
            self.assertEqual(frozenset("c"), decided.out, doubt)

    def returned(self, one, two, three, batch=2, **changes):
        """They stood in for it; its units are to go back."""
        members = [
            make_member("a", ".6", one),
            make_member("b", ".2", two),
            make_member("c", ".2", three, **back(STABLE) | changes),
        ]
        return plan.plan(stack(count=20, batch=batch), members, NOW)

    def test_in_batches(self):
        decided = self.returned(14, 6, 0)
        self.assertEqual(["c 0→2"], told(decided.steps))
        self.assertEqual(frozenset("c"), decided.returning)
        again = {"out": False, "returning": True}
        self.assertEqual([], told(self.returned(14, 6, 2, **again | busy(0, 2)).steps))
        decided = self.returned(14, 6, 2, **again)
        self.assertEqual(["b 6→4"], told(decided.steps))
        decided = self.returned(14, 4, 2, **again)
        self.assertEqual(["c 2→4"], told(decided.steps))
        decided = self.returned(14, 4, 4, **again)
        self.assertEqual(["a 14→12"], told(decided.steps))
        decided = self.returned(12, 4, 4, **again)
        self.assertEqual(([], frozenset()), (told(decided.steps), decided.returning))

    def test_a_batch_is_a_tenth_of_the_count_where_nothing_is_said(self):
        for count, batch in ((20, 4), (100, 10), (300, 30)):
            members = [
                make_member("a", ".8", count),
                make_member("b", ".2", 0, **back(STABLE)),
            ]
            decided = plan.plan(stack(count=count), members, NOW)
            self.assertEqual([f"b 0→{batch}"], told(decided.steps))

    def test_what_ran_on_there_is_counted_and_not_moved(self):
        decided = plan.plan(stack(batch=1), seed(three=back(STABLE), units=(7, 3, 2)), NOW)
        self.assertEqual(["a 7→6", "b 3→2"], told(decided.steps))

    def test_away_again(self):
        """It is out once more, and no longer on its way back."""
        decided = self.returned(14, 6, 2, out=False, returning=True, **unreachable(TOLERATION))
        self.assertEqual((frozenset("c"), frozenset()), (decided.out, decided.returning))
        self.assertEqual([], told(decided.steps))


BRAKE = {"brake": "The brake is on.", "braked_at": ago(30)}
LOST = {"lost": True, "verdict": Verdict.UNREACHABLE, "seen": False}


class TestLost(base.BaseTestCase):
    """An administrator has said that nothing runs there any more."""

    def test_at_once_and_whatever_else_is_said(self):
        for name, changes in {
            "the toleration": {},
            "the brake": BRAKE,
            "a surge of none": {"surge": 0},
            "the rule hold": {"rule": "hold"},
        }.items():
            decided = plan.plan(stack(**changes), seed(three=LOST), NOW)
            self.assertEqual(10, decided.shares["a"] + decided.shares["b"], name)
            self.assertEqual(0, decided.ledger.in_doubt, name)

    def test_whatever_the_verdict(self):
        for verdict in Verdict:
            members = seed(three=LOST | {"verdict": verdict, "seen": verdict is Verdict.HEALTHY})
            decided = plan.plan(STACK, members, NOW)
            self.assertEqual(["a 6→7", "b 2→3"], told(decided.steps), verdict)
            self.assertEqual(frozenset("c"), decided.out)
            self.assertIsNone(decided.wake_in)
            self.assertIn("declared lost", decided.views["c"].reason)

    def test_what_is_to_go_is_not_waited_for(self):
        decided = plan.plan(STACK, seed(three=LOST | {"leaving": True}), NOW)
        self.assertIn("forget c", told(decided.steps))
        decided = plan.plan(stack(deleting=True), seed(three=LOST), NOW)
        self.assertEqual(["delete a", "delete b", "forget c"], told(decided.steps))

    def test_found_again(self):
        """It is let back like any other, with what runs there."""
        decided = plan.plan(STACK, seed(three=back(STABLE), units=(7, 3, 2)), NOW)
        self.assertEqual(["a 7→6", "b 3→2"], told(decided.steps))


class TestBrake(base.BaseTestCase):
    """While it is on nothing moves by itself; what a user wants is raised, and nobody is lowered."""

    def decided(self, members, **changes):
        return plan.plan(stack(**BRAKE | changes), members, NOW)

    def test_no_failover(self):
        decided = self.decided(seed(three=unreachable(3600)))
        self.assertEqual([], told(decided.steps))
        self.assertEqual((frozenset(), {"a": 6, "b": 2, "c": 2}), (decided.out, decided.shares))
        self.assertIs(StackStatus.DEGRADED, decided.status)
        self.assertIn("tolerated until the brake is off", decided.reason)
        self.assertIn("The brake is on.", decided.reason)
        self.assertIsNone(decided.wake_in)

    def test_who_is_out_stays_out(self):
        """Nobody comes back either, however long it has been well."""
        members = seed(three=back(9000), units=(7, 3, 2))
        floors = (6, 2, None)
        members = [dataclasses.replace(m, floor=f) for m, f in zip(members, floors, strict=True)]
        decided = self.decided(members)
        self.assertEqual([], told(decided.steps))
        self.assertEqual(frozenset("c"), decided.out)
        self.assertIsNone(decided.wake_in)

    def test_no_drain(self):
        decided = self.decided(seed(three={"draining": True}))
        self.assertEqual([], told(decided.steps))
        self.assertEqual({"a": 6, "b": 2, "c": 2}, decided.shares)

    def test_no_rebalance(self):
        for mode in values.Rebalance:
            decided = self.decided(seed(weights=".2 .2 .6"), rebalance=mode)
            self.assertEqual([], told(decided.steps), mode)

    def test_more_is_raised(self):
        decided = self.decided(seed(three=unreachable(3600)), count=13)
        self.assertEqual(["a 6→8", "b 2→3"], told(decided.steps))

    def test_a_new_stack_is_made_where_it_can_be(self):
        decided = self.decided(seed(three=unreachable(3600), units=(None, None, None)))
        self.assertEqual(["create a 8", "create b 2"], told(decided.steps))

    def test_fewer_are_left_as_they_are(self):
        decided = self.decided(seed(), count=4)
        self.assertEqual([], told(decided.steps))
        ledger = decided.ledger
        self.assertEqual((10, 6), (ledger.assigned, ledger.excess))
        self.assertIn("the brake keeps 6 units where they are", decided.reason)

    def test_who_leaves_is_replaced_and_not_lowered(self):
        decided = self.decided(seed(three={"leaving": True}, weights=".7 .3 0"))
        self.assertEqual(["a 6→7", "b 2→3"], told(decided.steps))
        self.assertEqual(2, decided.shares["c"])

    def test_what_somebody_else_raised_is_not_set_back(self):
        decided = self.decided(seed(one={"observed": 9, "confirmed": 9}))
        self.assertEqual([], told(decided.steps))

    def test_deletion_is_what_a_user_wants(self):
        decided = self.decided(seed(), deleting=True)
        self.assertEqual(["delete a", "delete b", "delete c"], told(decided.steps))

    def test_forced(self):
        decided = self.decided(seed(three=unreachable(5)), forced_at=NOW)
        self.assertEqual(["a 6→7", "b 2→3"], told(decided.steps))
        self.assertEqual(frozenset("c"), decided.out)

    def test_forced_for_what_was_away_then(self):
        """What goes away later is a new question."""
        members = seed(two=unreachable(5), three=unreachable(60))
        decided = self.decided(members, forced_at=ago(20))
        self.assertEqual(frozenset("c"), decided.out)
        self.assertEqual(["a 6→8"], told(decided.steps))

    def test_forced_before_it_was_on(self):
        decided = self.decided(seed(two=unreachable(3600), three=DOWN), forced_at=ago(1800))
        self.assertEqual(frozenset("bc"), decided.out)
        decided = self.decided(seed(three=unreachable(1000)), forced_at=ago(1800))
        self.assertEqual((frozenset(), []), (decided.out, told(decided.steps)))

    def test_forced_without_a_brake(self):
        """It cuts the toleration short."""
        decided = plan.plan(stack(forced_at=NOW), seed(three=unreachable(5)), NOW)
        self.assertEqual(["a 6→7", "b 2→3"], told(decided.steps))

    def test_forced_is_no_word_on_what_is_only_suspect(self):
        decided = self.decided(seed(three=SUSPECT), forced_at=NOW)
        self.assertEqual((frozenset(), []), (decided.out, told(decided.steps)))

    def test_toleration_begins_anew_when_it_is_off(self):
        for calm, left in ((10, 50), (60, None)):
            decided = plan.plan(stack(calm_since=ago(calm)), seed(three=unreachable(3600)), NOW)
            self.assertEqual(left is None, bool(decided.steps))
            if left:
                self.assertEqual(left, decided.wake_in)

    def test_it_is_waited_for_when_it_may_come(self):
        wait = stack(toleration=0, hold_until=NOW + datetime.timedelta(seconds=7))
        decided = plan.plan(wait, seed(three=unreachable(1)), NOW)
        self.assertEqual(([], 7), (told(decided.steps), decided.wake_in))
        decided = plan.plan(wait, seed(three=unreachable(1)), wait.hold_until)
        self.assertEqual(["a 6→7", "b 2→3"], told(decided.steps))


class TestFloors(base.BaseTestCase):
    def floors(self, members, **changes):
        return plan.plan(stack(**changes), members, NOW).floors

    def test_taken_when_a_cloud_goes_out(self):
        self.assertEqual(
            {"a": 6, "b": 2, "c": None}, self.floors(seed(None, None, unreachable(TOLERATION)))
        )

    def test_not_above_the_maximum(self):
        members = seed({"maximum": 4}, None, unreachable(TOLERATION))
        self.assertEqual({"a": 4, "b": 2, "c": None}, self.floors(members))

    def test_stand_while_the_same_clouds_are_out(self):
        members = seed({"floor": 6}, {"floor": 2}, DOWN, units=(7, 3, 2))
        self.assertEqual({"a": 6, "b": 2, "c": None}, self.floors(members))

    def test_taken_anew_when_another_goes_out(self):
        members = seed({"floor": 6}, unreachable(TOLERATION), DOWN, units=(7, 3, 2))
        self.assertEqual({"a": 7, "b": None, "c": None}, self.floors(members))

    def test_dropped_when_one_returns(self):
        members = seed({"floor": 6}, {"floor": 2}, back(STABLE), units=(7, 3, 2))
        self.assertEqual({"a": None, "b": None, "c": None}, self.floors(members))

    def test_a_member_in_doubt_gets_one_too(self):
        """Otherwise a healthy cloud loses a unit when the doubt about it has gone."""
        weights = ".65 .2 .15"
        members = seed(SUSPECT, None, unreachable(TOLERATION), units=(2, 0, 0), weights=weights)
        self.assertEqual({"a": 2, "b": 0, "c": None}, self.floors(members, count=2))
        healthy_again = seed({"floor": 2}, {"floor": 0}, DOWN, units=(2, 0, 0), weights=weights)
        self.assertEqual((), plan.plan(stack(count=2), healthy_again, NOW).steps)


class TestOut(base.BaseTestCase):
    def out(self, *changes, now=NOW):
        return plan.plan(TEMPLATED, seed(*changes), now).out

    def test_out_after_the_toleration_only(self):
        self.assertEqual(frozenset(), self.out(None, None, unreachable(TOLERATION - 1)))
        self.assertEqual({"c"}, self.out(None, None, unreachable(TOLERATION)))

    def test_out_until_stable(self):
        self.assertEqual({"c"}, self.out(None, None, back(STABLE - 1)))
        self.assertEqual(frozenset(), self.out(None, None, back(STABLE)))

    def test_a_relapse_starts_the_window_anew(self):
        self.assertEqual({"c"}, self.out(None, None, SUSPECT | {"out": True}))
        self.assertEqual({"c"}, self.out(None, None, back(5)))

    def test_what_only_refuses_is_not_out(self):
        self.assertEqual(frozenset(), self.out(None, None, REFUSING))


def decide(members, **changes):
    return plan.plan(stack(**changes), members, NOW)


class TestStatus(base.BaseTestCase):
    """What a person is told: of each member, and of the stack."""

    def check(self, members, statuses, status, applied, **changes):
        """:param statuses: one word per member"""
        decided = decide(members, **changes)
        self.assertEqual(statuses.split(), [decided.views[m.id].status for m in members])
        self.assertEqual(status, decided.status)
        self.assertEqual(applied, decided.applied)
        return decided

    def test_all_is_well(self):
        decided = self.check(seed(), "ACTIVE ACTIVE ACTIVE", "ACTIVE", True)
        self.assertEqual("Everything asked for runs: a 6, b 2, c 2.", decided.reason)
        self.assertEqual("weight 0.6 of 10", decided.views["a"].reason)

    def test_being_created(self):
        self.check(seed(units=ABSENT), "PENDING PENDING PENDING", "CONVERGING", False)

    def test_a_standby_without_a_heat_stack(self):
        members = seed(units=(5, 5, None), weights=".5 .5 0")
        decided = self.check(members, "ACTIVE ACTIVE ACTIVE", "ACTIVE", True)
        self.assertIn("standby", decided.views["c"].reason)

    def test_heat_is_at_work(self):
        decided = self.check(seed(busy(2, 6)), "CONVERGING ACTIVE ACTIVE", "CONVERGING", False)
        self.assertIn("2 → 6", decided.views["a"].reason)

    def test_waiting_for_the_others(self):
        members = seed(busy(2, 6), units=(6, 2, 6))
        decided = self.check(members, "CONVERGING ACTIVE WAITING", "CONVERGING", False)
        self.assertIn("4 more until", decided.views["c"].reason)

    def test_told_to_come_again(self):
        decided = self.check(seed(backing_off()), "WAITING ACTIVE ACTIVE", "CONVERGING", False)
        self.assertIn("busy", decided.views["a"].reason)

    def test_refused(self):
        members = seed(backing_off(problem="Cloud 'a' did not resize: no."))
        decided = self.check(members, "ERROR ACTIVE ACTIVE", "ERROR", False)
        self.assertIn("Cloud 'a' did not resize: no.", decided.reason)

    def test_refused_while_others_go_on(self):
        members = seed(backing_off(problem="No."), units=(6, 1, 2))
        self.check(members, "ERROR CONVERGING ACTIVE", "CONVERGING", False)

    def test_heat_failed(self):
        decided = self.check(seed(failed(4, 6)), "CONVERGING ACTIVE ACTIVE", "CONVERGING", False)
        self.assertIn("no room", decided.views["a"].reason)

    def test_nothing_to_take_over(self):
        members = seed(units=(6, None, 2))
        decided = self.check(members, "ACTIVE ERROR ACTIVE", "ERROR", False, templated=False)
        self.assertIn("'b' has no Heat stack named 'web'", decided.reason)

    def test_suspect(self):
        decided = self.check(seed(SUSPECT), "OUT_OF_SIGHT ACTIVE ACTIVE", "DEGRADED", True)
        self.assertIn("missed 1 of 3", decided.reason)

    def test_unreachable_and_tolerated(self):
        members = seed(None, None, unreachable(TOLERATION - 20))
        decided = self.check(members, "ACTIVE ACTIVE OUT_OF_SIGHT", "DEGRADED", True)
        self.assertIn("tolerated for 20 s more", decided.views["c"].reason)

    def test_failing_over(self):
        members = seed(None, None, unreachable(TOLERATION))
        decided = self.check(members, "CONVERGING CONVERGING OUT_OF_SIGHT", "CONVERGING", False)
        self.assertIn("0.1 of it from clouds out of sight", decided.views["a"].reason)

    def test_failed_over(self):
        members = seed({"floor": 6}, {"floor": 2}, DOWN, units=(7, 3, 2))
        self.check(members, "ACTIVE ACTIVE OUT_OF_SIGHT", "DEGRADED", True)

    def test_back_but_not_stable(self):
        members = seed(None, None, back(STABLE - 20), units=(7, 3, 2))
        decided = self.check(members, "ACTIVE ACTIVE OUT_OF_SIGHT", "DEGRADED", True)
        self.assertIn("healthy for 20 s more", decided.views["c"].reason)

    def test_first_look(self):
        members = seed(None, None, NEVER_SEEN, units=ABSENT)
        decided = self.check(members, "PENDING PENDING PENDING", "CONVERGING", False)
        self.assertIn("first look at cloud 'c'", decided.reason)

    def test_full(self):
        members = seed(None, full(2) | {"problem": "It said no room."}, units=(8, 2, 2))
        decided = self.check(members, "ACTIVE FULL ACTIVE", "DEGRADED", True, count=12)
        self.assertIn("b: It said no room. More is tried again later.", decided.reason)

    def test_nothing_came_to_run(self):
        gone = full(0) | {"problem": "Heat says CREATE_FAILED: no such image."}
        members = seed(gone, gone, gone, units=ABSENT)
        decided = self.check(members, "FULL FULL FULL", "ERROR", False)
        self.assertIn("no such image", decided.reason)

    def test_stuck(self):
        members = seed(busy(1, 6) | since(3700))
        decided = self.check(members, "ERROR ACTIVE ACTIVE", "ERROR", False)
        self.assertIn("for more than 61 minutes", decided.reason)

    def test_drifted(self):
        members = seed({"observed": 9, "confirmed": 9})
        reported = {"drift": values.Drift.REPORT}
        decided = self.check(members, "DRIFTED ACTIVE ACTIVE", "DEGRADED", True, **reported)
        self.assertIn("somebody else changed count from 6 to 9", decided.reason)
        ignored = {"drift": values.Drift.IGNORE}
        self.check(members, "ACTIVE ACTIVE ACTIVE", "ACTIVE", True, **ignored)

    def test_missing(self):
        for lost, units in (
            (values.Missing.HOLD, (6, None, 2)),
            (values.Missing.MOVE, (8, None, 2)),
        ):
            members = seed(None, {"missing": True}, units=units)
            decided = self.check(members, "ACTIVE MISSING ACTIVE", "DEGRADED", True, lost=lost)
            self.assertIn("until you say retry", decided.reason)

    def test_shortfall(self):
        members = seed(*[{"maximum": 2}] * 3, units=(2, 2, 2))
        decided = self.check(members, "ACTIVE ACTIVE ACTIVE", "DEGRADED", True)
        self.assertIn("4 unit(s) fit nowhere", decided.reason)
        self.assertIn("a held at its maximum 2", decided.reason)

    def test_all_out_of_sight(self):
        members = seed(DOWN, DOWN, DOWN)
        decided = self.check(members, "OUT_OF_SIGHT OUT_OF_SIGHT OUT_OF_SIGHT", "DEGRADED", True)
        self.assertIn("all members out of sight", decided.reason)

    def test_leaving(self):
        members = seed(None, None, OURS, units=(6, 2, 2), weights=".6 .4 0")
        self.check(members, "ACTIVE CONVERGING LEAVING", "CONVERGING", False)
        members = seed(None, None, OURS, units=(6, 4, 2), weights=".6 .4 0")
        self.check(members, "ACTIVE ACTIVE LEAVING", "CONVERGING", False)

    def test_deleting(self):
        decided = self.check(
            seed(None, DOWN), "LEAVING LEAVING LEAVING", "DELETING", False, deleting=True
        )
        self.assertIn("deletion waits for it", decided.views["b"].reason)
        decided = decide([], deleting=True)
        self.assertEqual(
            (StackStatus.DELETING, "Nothing is left."), (decided.status, decided.reason)
        )

    def test_every_row_says_why(self):
        for title, (wanted, members, _steps) in CASES.items():
            decided = plan.plan(wanted, members, NOW)
            reasons = [decided.reason, *(view.reason for view in decided.views.values())]
            for reason in reasons:
                self.assertEqual(reason.strip(), reason, title)
                self.assertGreater(len(reason), 5, title)
            self.assertEqual({m.id for m in members}, set(decided.views), title)


class TestLedger(base.BaseTestCase):
    def check(self, members, ledger, **changes):
        self.assertEqual(plan.Ledger(**ledger), decide(members, **changes).ledger)

    def test_at_rest(self):
        self.check(seed(), {"desired": 10, "assigned": 10, "confirmed": 10, "bound": 10})

    def test_nothing_yet(self):
        self.check(
            seed(units=ABSENT), {"desired": 10, "assigned": 10, "confirmed": 0, "bound": 10}
        )

    def test_in_flight(self):
        members = seed(busy(2, 6))
        self.check(members, {"desired": 10, "assigned": 10, "confirmed": 6, "bound": 10})

    def test_asked_for_just_now(self):
        expected = {"desired": 12, "assigned": 12, "confirmed": 10, "bound": 12}
        self.check(seed(), expected, count=12)

    def test_failed_over(self):
        members = seed({"floor": 6}, {"floor": 2}, DOWN, units=(7, 3, 2))
        self.check(
            members,
            {"desired": 10, "assigned": 10, "confirmed": 10, "in_doubt": 2, "bound": 12},
        )

    def test_suspect(self):
        members = seed(None, SUSPECT)
        self.check(
            members, {"desired": 10, "assigned": 10, "confirmed": 8, "in_doubt": 2, "bound": 10}
        )

    def test_unassigned(self):
        members = seed(units=(5, 2, 2), weights=".5 .2 .2")
        self.check(
            members,
            {"desired": 10, "assigned": 9, "unassigned": 1, "confirmed": 9, "bound": 9},
        )

    def test_shortfall(self):
        members = seed({"maximum": 4}, {"maximum": 2}, {"maximum": 2}, units=(4, 2, 2))
        self.check(
            members,
            {"desired": 10, "assigned": 8, "shortfall": 2, "confirmed": 8, "bound": 8},
        )

    def test_excess(self):
        expected = {"desired": 4, "assigned": 6, "excess": 2, "confirmed": 4, "in_doubt": 6}
        self.check(seed(SUSPECT), expected | {"bound": 10}, count=4)

    def test_moving_needs_both_for_a_while(self):
        members = seed(None, None, busy(0, 2), units=(7, 3, 2))
        self.check(members, {"desired": 10, "assigned": 10, "confirmed": 10, "bound": 12})


class TestWakeIn(base.BaseTestCase):
    """Time alone changes the decision at these moments, so the engine must look again then."""

    def test_nothing_is_due(self):
        self.assertIsNone(decide(seed()).wake_in)
        self.assertIsNone(decide(seed(SUSPECT)).wake_in)
        self.assertIsNone(decide(seed(None, None, DOWN)).wake_in)

    def test_the_toleration_ends(self):
        self.assertEqual(20, decide(seed(None, None, unreachable(TOLERATION - 20))).wake_in)

    def test_the_stable_window_ends(self):
        self.assertEqual(20, decide(seed(None, None, back(STABLE - 20))).wake_in)

    def test_a_back_off_ends(self):
        self.assertEqual(5, decide(seed(backing_off(5))).wake_in)
        self.assertIsNone(decide(seed(backing_off(-5))).wake_in)

    def test_the_first_of_several(self):
        members = seed(backing_off(5), unreachable(TOLERATION - 3), back(STABLE - 20))
        self.assertEqual(3, decide(members).wake_in)

    def test_the_first_look(self):
        self.assertEqual(1, decide(seed(None, None, NEVER_SEEN)).wake_in)

    def test_deleting(self):
        self.assertEqual(5, decide(seed(backing_off(5)), deleting=True).wake_in)


@dataclasses.dataclass
class Heat:
    """One member's Heat stack and its cloud, with what the shell remembers of them.

    :ivar running: units that run for sure, taken at the worst: what is being removed runs no more
    :ivar broken: whatever it is asked to do fails
    """

    member: values.Member
    running: int = 0
    broken: bool = False

    def note(self, **changes):
        self.member = dataclasses.replace(self.member, **changes)

    @property
    def at_work(self):
        return self.member.phase in (Phase.BUSY, Phase.DELETING)

    def accept(self, step):
        """What the shell stores when Heat has accepted a step."""
        if step.action is Action.DELETE:
            self.running = 0
            self.note(phase=Phase.DELETING, heat_status="DELETE_IN_PROGRESS", confirmed=0)
            return
        self.running = min(self.running, step.units)
        self.note(
            phase=Phase.BUSY,
            heat_status=f"{'CREATE' if step.action is Action.CREATE else 'UPDATE'}_IN_PROGRESS",
            held=step.units,
            observed=step.units,
            confirmed=min(self.member.confirmed, step.units),
        )

    def finish(self, now, spoiled=False):
        """What the shell reads when Heat has come to an end."""
        if not self.at_work:
            return
        if self.member.phase is Phase.DELETING:
            self.gone()
        elif self.broken or spoiled:
            self.note(
                phase=Phase.FAILED,
                heat_status="UPDATE_FAILED",
                heat_status_reason="it is broken",
                problem="Heat says UPDATE_FAILED: it is broken.",
                retry_at=now + datetime.timedelta(seconds=15),
            )
        else:
            self.running = self.member.observed
            self.note(
                phase=Phase.IDLE,
                heat_status="UPDATE_COMPLETE",
                confirmed=self.running,
                problem="",
                retry_at=None,
            )

    def gone(self):
        self.running = 0
        self.note(phase=Phase.ABSENT, heat_status="", held=0, observed=None, confirmed=0)

    def judge(self, verdict, now):
        self.note(
            verdict=verdict,
            verdict_since=now,
            verdict_reason=f"it is {verdict}",
            seen=verdict is Verdict.HEALTHY,
        )


class World:
    """A stack in some clouds; rounds of it keep the promises of planning, or the test fails."""

    def __init__(self, weights, count, bounds=None):
        self.now = NOW
        self.stack = stack(count=count, toleration=30, stable=30)
        names = "abcdefgh"[: len(weights)]
        self.heats = {
            name: Heat(make_member(name, weight, **bound))
            for name, weight, bound in zip(
                names, weights, bounds or [{}] * len(names), strict=True
            )
        }

    @property
    def members(self):
        return [heat.member for heat in self.heats.values()]

    def pass_time(self, seconds):
        self.now += datetime.timedelta(seconds=seconds)

    def round(self):
        """Decide, check the promises, and have the steps accepted."""
        before = {m.id: m for m in self.members}
        decided = plan.plan(self.stack, self.members, self.now)
        stands = {m.id: plan.standing(self.stack, m, self.now) for m in self.members}
        visible = [m for m in self.members if stands[m.id] in plan._VISIBLE]
        steps = {step.member: step for step in decided.steps}

        assert len(steps) == len(decided.steps), "more than one step for a member"
        for step in decided.steps:
            member, share = before[step.member], decided.shares[step.member]
            assert step.before == (member.observed or 0)
            assert member.seen and member.verdict is Verdict.HEALTHY, "a step out of sight"
            assert step.member not in decided.out, "a step for a cloud that is out"
            assert not self.heats[step.member].at_work, "a step for a Heat that is at work"
            assert member.retry_at is None or member.retry_at <= self.now, "a step in a back-off"
            if step.action in (Action.DELETE, Action.FORGET):
                assert member.leaving
            elif step.units > member.confirmed:
                # Never more than the share: so no more can run than count asks for, and what is
                # yet to be lowered, and what may run on clouds that are out of sight.
                assert step.units == share, "raised, but not to its share"
            else:
                assert step.units >= share, "lowered below its share"

        required = sum(decided.shares[m.id] for m in visible)
        sure = sum(m.confirmed for m in visible)
        left = sum(
            min(m.confirmed, steps[m.id].units) if m.id in steps else m.confirmed for m in visible
        )
        assert left >= min(required, sure), "units are taken away before others replace them"

        surplus = sum(max(0, (m.observed or 0) - decided.shares[m.id]) for m in visible)
        in_doubt = sum(m.held for m in self.members if m not in visible)
        ledger = decided.ledger
        assert ledger.bound <= required + surplus + in_doubt, "more may run than has a reason"
        assert (
            ledger.assigned + ledger.shortfall - ledger.excess + ledger.unassigned
            == ledger.desired
        )
        assert set(decided.views) == set(before)
        assert all(view.reason.strip() for view in decided.views.values()) and decided.reason

        for member_id, heat in list(self.heats.items()):
            heat.note(out=member_id in decided.out, floor=decided.floors[member_id])
            if member_id in steps:
                if steps[member_id].action is Action.FORGET:
                    del self.heats[member_id]
                else:
                    heat.accept(steps[member_id])
        return decided

    def running(self):
        return sum(heat.running for heat in self.heats.values())

    def finish_all(self):
        for heat in self.heats.values():
            heat.finish(self.now)

    def come_to_rest(self):
        """All faults end; within a few rounds everything is as it should be, and stays so."""
        for heat in self.heats.values():
            heat.broken = False
            if heat.member.verdict is not Verdict.HEALTHY:
                heat.judge(Verdict.HEALTHY, self.now)
            heat.note(seen=True)
        for _ in range(4 * len(self.heats) + 8):
            self.pass_time(60)
            self.finish_all()
            decided = self.round()
            if not decided.steps and not any(heat.at_work for heat in self.heats.values()):
                break
        else:
            raise AssertionError(f"no rest: {told(decided.steps)}, {decided.reason}")
        assert not self.round().steps
        assert not decided.out
        assert decided.status in (StackStatus.ACTIVE, StackStatus.DEGRADED), decided.reason
        assert (decided.status is StackStatus.ACTIVE) == (not decided.ledger.shortfall)
        assert decided.applied
        for m in self.members:
            assert (m.observed or 0) == m.confirmed == decided.shares[m.id], told(decided.steps)
        exact = [self.stack.count * m.weight for m in self.members]
        if all(part.denominator == 1 for part in exact) and not any(
            m.minimum or m.maximum is not None for m in self.members
        ):
            assert exact == [decided.shares[m.id] for m in self.members]
        return decided


@st.composite
def tenths(draw, clouds):
    """Weights of whole tenths that add up to 1."""
    cuts = sorted(draw(st.lists(st.integers(0, 10), min_size=clouds - 1, max_size=clouds - 1)))
    return [
        fractions.Fraction(high - low, 10)
        for low, high in zip([0, *cuts], [*cuts, 10], strict=True)
    ]


WHICH = st.integers(0, 7)
HAPPENINGS = st.one_of(
    st.tuples(st.just("round")),
    st.tuples(st.just("finish"), WHICH),
    st.tuples(st.just("pass"), st.sampled_from([1, 10, 30, 100])),
    st.tuples(st.just("break"), WHICH),
    st.tuples(st.just("mend"), WHICH),
    st.tuples(st.just("verdict"), WHICH, st.sampled_from(Verdict)),
    st.tuples(st.just("unseen"), WHICH),
    st.tuples(st.just("seen"), WHICH),
    st.tuples(st.just("count"), st.integers(0, 30)),
    st.tuples(st.just("weights"), tenths(8)),
    st.tuples(st.just("drift"), WHICH, st.integers(0, 12)),
    st.tuples(st.just("removed"), WHICH),
    st.tuples(st.just("leave"), WHICH),
    st.tuples(st.just("cordon"), WHICH),
    st.tuples(st.just("drain"), WHICH),
)
CALM = st.one_of(
    st.tuples(st.just("round")),
    st.tuples(st.just("finish"), WHICH),
    st.tuples(st.just("pass"), st.sampled_from([1, 10])),
    st.tuples(st.just("weights"), tenths(8)),
    st.tuples(st.just("spoil"), WHICH),
)
ROUNDS = hypothesis.settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)


def happen(world, what, *how):
    """One thing that happens to the world. What makes no sense at the moment does not happen."""
    heats = list(world.heats.values())
    if what == "round":
        world.round()
    elif what == "pass":
        world.pass_time(how[0])
    elif what == "count":
        world.stack = dataclasses.replace(world.stack, count=how[0])
    elif what == "weights":
        staying = [heat for heat in heats if not heat.member.leaving]
        weights = how[0][: len(staying)]
        for heat, weight in zip(staying, weights, strict=True):
            # The rest of the tenths goes to the first, so that they still add up to 1.
            rest = 1 - sum(weights) if heat is staying[0] else 0
            heat.note(weight=weight + rest)
        for heat in heats:
            heat.note(floor=None)
    else:
        heat = heats[how[0] % len(heats)]
        member = heat.member
        if what == "finish":
            heat.finish(world.now)
        elif what == "spoil":
            heat.finish(world.now, spoiled=True)
        elif what in ("break", "mend"):
            heat.broken = what == "break"
        elif what == "verdict":
            if member.verdict is not how[1]:
                heat.judge(how[1], world.now)
        elif what in ("unseen", "seen"):
            heat.note(seen=what == "seen" and member.verdict is Verdict.HEALTHY)
        elif what in ("cordon", "drain"):
            name = "cordoned" if what == "cordon" else "draining"
            heat.note(**{name: not getattr(member, name)})
        elif what == "drift" and member.phase is Phase.IDLE:
            heat.running = how[1]
            heat.note(observed=how[1], held=how[1], confirmed=how[1])
        elif what == "removed" and not heat.at_work:
            heat.gone()
        elif what == "leave" and sum(not other.member.leaving for other in heats) > 1:
            heir = next(o for o in heats if o is not heat and not o.member.leaving)
            heir.note(weight=heir.member.weight + member.weight)
            heat.note(leaving=True, weight=fractions.Fraction(0), maximum=None, minimum=0)


class TestWorld(base.BaseTestCase):
    """Whole lives of a stack. What each round has to keep is asserted in World.round."""

    @ROUNDS
    @hypothesis.given(
        st.integers(2, 4).flatmap(tenths), st.integers(0, 20), st.lists(HAPPENINGS, max_size=60)
    )
    def test_whatever_happens_it_comes_to_the_allocation(self, weights, count, happenings):
        world = World(weights, count)
        world.come_to_rest()
        for happening in happenings:
            happen(world, *happening)
        for heat in world.heats.values():
            heat.note(cordoned=False, draining=False)
        world.come_to_rest()

    @ROUNDS
    @hypothesis.given(
        st.integers(2, 4).flatmap(tenths), st.integers(0, 20), st.lists(CALM, max_size=40)
    )
    def test_moving_never_costs_a_unit(self, weights, count, happenings):
        """New weights as often as one likes, updates that fail included, at a fixed count.

        The units that run for sure never become fewer than the count, at no moment.
        """
        world = World(weights, count)
        world.come_to_rest()
        self.assertEqual(count, world.running())
        for happening in happenings:
            happen(world, *happening)
            self.assertGreaterEqual(world.running(), count)

    @ROUNDS
    @hypothesis.given(
        st.integers(2, 5).flatmap(tenths),
        st.integers(0, 20),
        st.lists(st.tuples(WHICH, st.booleans(), st.integers(1, 3)), max_size=8),
    )
    def test_failures_and_returns(self, weights, count, changes):
        """Clouds go out and come back; what runs on those in sight is all that counts.

        No cloud in sight loses a unit when another goes out, nothing in sight is ever above the
        count, and it is the count again as long as any cloud is in sight.
        """
        world = World(weights, count)
        world.come_to_rest()
        for which, lost, rounds in changes:
            heat = list(world.heats.values())[which % len(world.heats)]
            in_sight = [
                h
                for h in world.heats.values()
                if h.member.verdict is Verdict.HEALTHY and h is not heat
            ]
            if not in_sight:
                continue
            before = {h.member.id: h.running for h in in_sight}
            if lost == (heat.member.verdict is Verdict.HEALTHY):
                heat.judge(Verdict.UNREACHABLE if lost else Verdict.HEALTHY, world.now)
            world.pass_time(60)
            for _ in range(rounds):
                world.round()
                world.finish_all()
                if lost:
                    for h in in_sight:
                        self.assertGreaterEqual(h.running, before[h.member.id])
            for _ in range(2 * len(world.heats)):
                world.round()
                world.finish_all()
            self.assertEqual(
                count,
                sum(
                    h.running for h in world.heats.values() if h.member.verdict is Verdict.HEALTHY
                ),
            )
        world.come_to_rest()
