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

"""Facts about allocation: the worked cases, the properties, and the theorem about failures.

The worked cases are a table. The properties run on random stacks. The theorem is driven as a
small machine that stores floors and the set of failed clouds the way the engine does.
"""

import dataclasses
import decimal
import fractions
import hashlib
import json
import math
import random as rng

import hypothesis
from hypothesis import strategies as st
from oslotest import base

from heat_spreader.engine.core import allocation

Fraction = fractions.Fraction
Rule = allocation.Rule
Rounding = allocation.Rounding
Standing = allocation.Standing

STACK = "3f1c"
STANDINGS = {
    "R": Standing.RAISABLE,
    "C": Standing.CORDONED,
    "D": Standing.DRAINING,
    "F": Standing.FROZEN,
    "X": Standing.DOWN,
}
THIRD = "0.333333333"


def make_bids(weights, standing="", **columns):
    """Bids of clouds a, b, c…: one weight and one letter of STANDINGS each, other fields by column."""
    weights = weights.split()
    standing = standing or "R" * len(weights)
    return [
        allocation.Bid(
            cloud="abcdefgh"[i],
            weight=Fraction(weight),
            standing=STANDINGS[letter],
            **{name: values[i] for name, values in columns.items() if values[i] is not None},
        )
        for i, (weight, letter) in enumerate(zip(weights, standing, strict=True))
    ]


def units(result):
    return tuple(share.units for share in result.shares)


def lot(stack_id, cloud):
    return hashlib.sha256(f"{stack_id}/{cloud}".encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table. With ``by_lot`` the shares are given heaviest first, equal ones by lot."""

    name: str
    count: int
    bids: list[allocation.Bid]
    shares: tuple[int, ...]
    unassigned: int = 0
    shortfall: int = 0
    excess: int = 0
    reasons: tuple[str, ...] = ()
    by_lot: bool = False
    options: dict = dataclasses.field(default_factory=dict)


SEED = ".6 .2 .2"
WORKED_CASES = [
    Case("seed", 10, make_bids(SEED), (6, 2, 2)),
    Case(
        "seed failover",
        10,
        make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None)),
        (7, 3, 0),
    ),
    Case(
        "proportional",
        10,
        make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None)),
        (8, 2, 0),
        options={"rule": Rule.PROPORTIONAL},
    ),
    Case(
        "two of four down",
        10,
        make_bids(".4 .3 .2 .1", "RRXX", held=(4, 3, 2, 1), floor=(4, 3, None, None)),
        (6, 4, 0, 0),
    ),
    Case(
        "same, already 5/5",
        10,
        make_bids(".4 .3 .2 .1", "RRXX", held=(5, 5, 2, 1), floor=(5, 5, None, None)),
        (5, 5, 0, 0),
    ),
    Case(
        "then the third returns, confirmed",
        10,
        make_bids(".4 .3 .2 .1", "RRRX", held=(5, 5, 2, 1)),
        (5, 3, 2, 0),
    ),
    Case("weights below 1", 5, make_bids("0 .2 .3"), (0, 1, 2), unassigned=2),
    Case("quarter", 4, make_bids(".25 .75"), (1, 3)),
    Case("thirds", 10, make_bids(f"{THIRD} {THIRD} {THIRD}"), (4, 3, 3), by_lot=True),
    Case("cap", 10, make_bids(SEED, maximum=(4, None, None)), (4, 3, 3)),
    Case(
        "cap in failover",
        10,
        make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None), maximum=(6, None, None)),
        (6, 4, 0),
    ),
    Case(
        "nothing fits",
        10,
        make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None), maximum=(6, 3, None)),
        (6, 3, 0),
        shortfall=1,
        reasons=("no room for 1 unit: a held at its maximum 6, b held at its maximum 3",),
    ),
    Case("minimum", 10, make_bids(".8 .15 .05", minimum=(0, 0, 1)), (8, 1, 1)),
    Case("minimum: without it", 10, make_bids(".8 .15 .05"), (8, 2, 0)),
    *(
        Case(
            f"min_clouds 3: count {count}",
            count,
            make_bids(".8 .1 .1"),
            shares,
            by_lot=True,
            options={"min_clouds": 3},
        )
        for count, shares in ((1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)))
    ),
    *(
        Case(f"growth: count {count}", count, make_bids("170/340 110/340 60/340"), shares)
        for count, shares in ((5, (2, 2, 1)), (6, (3, 2, 1)), (7, (4, 2, 1)))
    ),
    Case("floors: before", 2, make_bids(".65 .20 .15"), (2, 0, 0)),
    Case(
        "floors: the third, holding nothing, fails",
        2,
        make_bids(".65 .20 .15", "RRX", held=(2, 0, 0), floor=(2, 0, None)),
        (2, 0, 0),
    ),
    Case(
        "seven equal",
        10,
        make_bids(" ".join(["1/7"] * 7)),
        (2, 2, 2, 1, 1, 1, 1),
        by_lot=True,
    ),
    Case("float traps: .07/.93", 100, make_bids(".07 .93"), (7, 93)),
    Case("float traps: .28/.55/.17", 100, make_bids(".28 .55 .17"), (28, 55, 17)),
    Case("float traps: .33/.56/.11 is 1", 100, make_bids(".33 .56 .11"), (33, 56, 11)),
    Case(
        "fewer in an outage",
        6,
        make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None)),
        (4, 2, 0),
    ),
    Case(
        "fewer in an outage: two clouds holding 5/5 where w' is .7/.3",
        9,
        make_bids(SEED, "RRX", held=(5, 5, 2), floor=(5, 5, None)),
        (5, 4, 0),
    ),
    Case("frozen", 13, make_bids(SEED, "RFR", held=(6, 2, 2)), (8, 2, 3)),
    *(
        Case(
            f"surge {surge}",
            10,
            make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None)),
            shares,
            shortfall=2 - surge,
            reasons=reasons,
            options={"surge": surge},
        )
        for surge, shares, reasons in (
            (2, (7, 3, 0), ()),
            (1, (6, 3, 0), ("surge 1: 1 unit of clouds in doubt not replaced",)),
            (0, (6, 2, 0), ("surge 0: 2 units of clouds in doubt not replaced",)),
        )
    ),
    Case(
        "all down",
        10,
        make_bids(SEED, "XXX", held=(6, 2, 2)),
        (6, 2, 2),
        reasons=("all members out of sight",),
    ),
    Case(
        "standby covers failures, not limits",
        10,
        make_bids("1 0", maximum=(5, None)),
        (5, 0),
        shortfall=5,
        reasons=("no room for 5 units: a held at its maximum 5",),
    ),
    Case(
        "standby in failover", 10, make_bids("1 0", "XR", held=(10, 0), floor=(None, 0)), (0, 10)
    ),
]

MORE_CASES = [
    Case("nothing", 0, [], ()),
    Case("no members", 3, [], (), unassigned=3),
    Case("count 0", 0, make_bids(SEED, held=(6, 2, 2)), (0, 0, 0)),
    Case("no weights", 4, make_bids("0 0"), (0, 0), unassigned=4),
    Case(
        "proportional with nothing left is even over the standbys",
        10,
        make_bids("1 0 0", "XRR", held=(10, 0, 0), floor=(None, 0, 0)),
        (0, 5, 5),
        options={"rule": Rule.PROPORTIONAL},
    ),
    Case(
        "ordered: by priority, each up to its maximum",
        10,
        make_bids(
            ".4 .2 .4 0",
            "RRXR",
            held=(4, 2, 4, 0),
            floor=(4, 2, None, 0),
            priority=(3, 2, 0, 1),
            maximum=(None, 3, None, 2),
        ),
        (5, 3, 0, 2),
        options={"rule": Rule.ORDERED},
    ),
    Case(
        "ordered: what one in doubt has got by priority is not placed again",
        100,
        make_bids(".4 .3 .1 .2", "FRRX", held=(60, 30, 10, 20), priority=(0, 1, 2, 3)),
        (60, 30, 10, 0),
        options={"rule": Rule.ORDERED},
    ),
    Case(
        "ordered: one in doubt that holds more than its weight and all that leave",
        10,
        make_bids(".3 .3 .3 .1", "FRRX", held=(9, 1, 0, 0)),
        (9, 1, 0, 0),
        options={"rule": Rule.ORDERED},
    ),
    Case(
        # The lot gives the last of four to b, whatever a holds; c's unit comes to b too.
        "ordered: what came by priority wins no tie",
        4,
        make_bids("1/3 1/3 1/3", "RRX", held=(2, 1, 1), priority=(1, 0, 1)),
        (1, 3, 0),
        options={"rule": Rule.ORDERED},
    ),
    Case(
        "ordered: the units that leave are those of the weight, whatever fits there now",
        10,
        make_bids(".4 .2 .4", "RRD", capacity=(None, None, 0), priority=(1, 0, 0)),
        (4, 6, 0),
        options={"rule": Rule.ORDERED},
    ),
    Case(
        "hold: kept in place of replaced",
        10,
        make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None)),
        (6, 2, 2),
        options={"rule": Rule.HOLD},
    ),
    Case(
        "hold: a drained cloud hands its weight on evenly",
        10,
        make_bids(SEED, "RRD", held=(6, 2, 2)),
        (7, 3, 0),
        options={"rule": Rule.HOLD},
    ),
    Case("drain", 10, make_bids(SEED, "RRD", held=(6, 2, 2)), (7, 3, 0)),
    Case(
        "drain with nowhere to go",
        10,
        make_bids(SEED, "CXD", held=(6, 2, 2)),
        (6, 2, 2),
        reasons=("no member can be raised: each is out of sight, cordoned or being drained",),
    ),
    Case("cordon: not raised", 20, make_bids(SEED, "CRR", held=(6, 2, 2)), (6, 7, 7)),
    Case("cordon: lowered", 5, make_bids(SEED, "CRR", held=(6, 2, 2)), (3, 1, 1)),
    Case(
        "frozen alone above the target",
        5,
        make_bids(SEED, "FRR", held=(6, 2, 2)),
        (6, 0, 0),
        excess=1,
        reasons=("clouds in doubt hold 1 unit more than the target 5",),
    ),
    Case(
        "frozen outside its bounds",
        10,
        make_bids(SEED, "FRR", held=(6, 2, 2), maximum=(5, None, None)),
        (6, 2, 2),
        reasons=("a keeps 6, above its maximum 5",),
    ),
    Case(
        "a doubt moves nothing, in the middle of a failover neither",
        100,
        make_bids(".5 .1 .1 .3", "RRFX", held=(60, 20, 20, 30)),
        (60, 20, 20, 0),
    ),
    Case(
        "capacity is no less than what is held",
        20,
        make_bids(SEED, held=(6, 2, 2), capacity=(4, None, None)),
        (6, 7, 7),
    ),
    Case(
        "capacity below the minimum",
        10,
        make_bids(SEED, capacity=(None, None, 3), minimum=(0, 0, 5)),
        (5, 2, 3),
        reasons=("c does not get its minimum 5",),
    ),
    Case(
        "minimums above what is left: the heaviest first",
        6,
        make_bids(".2 .7 .1", minimum=(3, 4, 2)),
        (2, 4, 0),
        reasons=("a does not get its minimum 3", "c does not get its minimum 2"),
    ),
    Case(
        "minimums above what is left, in an outage: first what of them is under a floor",
        1,
        make_bids(".2 .7 .1", "RRX", held=(1, 0, 0), floor=(1, 0, None), minimum=(2, 2, 0)),
        (1, 0, 0),
        reasons=("a does not get its minimum 2", "b does not get its minimum 2"),
    ),
    Case(
        "frozen: what is to leave takes the place of nobody",
        10,
        make_bids(SEED, "RRF", held=(6, 2, 5), counted=(None, None, 1)),
        (7, 2, 1),
    ),
    Case(
        "frozen: what is to leave counts against the surge",
        10,
        make_bids(SEED, "RRF", held=(6, 2, 5), counted=(None, None, 1)),
        (6, 2, 1),
        shortfall=1,
        reasons=("surge 0: 1 unit of clouds in doubt not replaced",),
        options={"surge": 0},
    ),
    Case(
        "a minimum comes before a floor",
        10,
        make_bids(SEED, "RRX", held=(8, 2, 0), floor=(8, 2, None), minimum=(0, 4, 0)),
        (6, 4, 0),
    ),
    Case(
        "a minimum in D counts as 0",
        10,
        make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None), minimum=(0, 0, 2)),
        (7, 3, 0),
        reasons=("c does not get its minimum 2",),
    ),
    Case(
        "min_clouds: a minimum and a floor come first",
        3,
        make_bids(".7 .2 .1", minimum=(0, 0, 3)),
        (0, 0, 3),
        reasons=("units on 1 of at least 2 clouds",),
        options={"min_clouds": 2},
    ),
    Case(
        "min_clouds: of equal ones, the one that holds a unit",
        3,
        make_bids(".6 .2 .2", held=(0, 0, 1)),
        (2, 0, 1),
        options={"min_clouds": 2},
    ),
    Case(
        "min_clouds: of equal ones, the one that has a minimum before one that holds a unit",
        3,
        make_bids(".9 .05 .05", held=(0, 1, 0), minimum=(0, 0, 1)),
        (2, 0, 1),
        options={"min_clouds": 2},
    ),
    Case(
        "min_clouds: a cloud in doubt that holds a unit is one of them",
        3,
        make_bids(".8 .1 .1", "RFR", held=(2, 1, 0)),
        (2, 1, 0),
        options={"min_clouds": 2},
    ),
    Case(
        "on demand: new weights move nothing",
        10,
        make_bids(SEED, held=(2, 2, 6)),
        (2, 2, 6),
        options={"on_demand": True},
    ),
    Case(
        "on demand: growth goes towards the weights",
        12,
        make_bids(SEED, held=(2, 2, 6)),
        (4, 2, 6),
        options={"on_demand": True},
    ),
    Case(
        "on demand: so does shrinking",
        8,
        make_bids(SEED, held=(2, 2, 6)),
        (2, 2, 4),
        options={"on_demand": True},
    ),
    Case(
        "on demand: a standby is not emptied for one unit less",
        9,
        make_bids("1 0", held=(7, 3)),
        (7, 2),
        options={"on_demand": True},
    ),
    Case(
        "ceil",
        10,
        make_bids(f"{THIRD} {THIRD} {THIRD}"),
        (4, 4, 4),
        options={"rounding": Rounding.CEIL},
    ),
    Case(
        "ceil: clamped",
        10,
        make_bids(".34 .33 .33", maximum=(3, None, None), minimum=(0, 5, 0)),
        (3, 5, 4),
        options={"rounding": Rounding.CEIL},
    ),
    Case(
        "ceil: what one in doubt lacks is not placed elsewhere",
        10,
        make_bids(".5 .5", "FR", held=(2, 0)),
        (2, 5),
        shortfall=3,
        reasons=("no room for 3 units: a kept at 2: the cloud is in doubt",),
        options={"rounding": Rounding.CEIL},
    ),
    Case(
        "ceil: what one in doubt holds above its part is not made up for",
        4,
        make_bids("1 0", "RF", held=(2, 2)),
        (2, 2),
        options={"rounding": Rounding.CEIL},
    ),
    Case(
        "ceil: nobody loses a unit because there are fewer parts to round up",
        1,
        make_bids(".6 .25 .15", "RRX", held=(2, 1, 0), floor=(2, 1, None)),
        (2, 1, 0),
        options={"rounding": Rounding.CEIL},
    ),
    Case(
        "ceil: fewer in an outage",
        2,
        make_bids(".6 .25 .15", "RRX", held=(5, 3, 2), floor=(5, 3, None)),
        (3, 1, 0),
        options={"rounding": Rounding.CEIL},
    ),
    Case(
        "ceil: failover",
        10,
        make_bids(".35 .35 .3", "RRX", held=(4, 4, 3), floor=(4, 4, None)),
        (5, 5, 0),
        options={"rounding": Rounding.CEIL},
    ),
]


class TestCases(base.BaseTestCase):
    """One test for each row; its name is the row's."""

    def check(self, case):
        result = allocation.allocate(STACK, case.count, case.bids, **case.options)
        shares = case.shares
        if case.by_lot:
            order = sorted(
                case.bids, key=lambda bid: (bid.weight, lot(STACK, bid.cloud)), reverse=True
            )
            given = {bid.cloud: share for bid, share in zip(order, shares, strict=True)}
            shares = tuple(given[bid.cloud] for bid in case.bids)
        self.assertEqual(shares, units(result))
        self.assertEqual(case.unassigned, result.unassigned)
        self.assertEqual(case.shortfall, result.shortfall)
        self.assertEqual(case.excess, result.excess)
        self.assertEqual(case.reasons, result.reasons)


def _add_rows():
    for kind, rows in (("worked", WORKED_CASES), ("more", MORE_CASES)):
        for case in rows:
            words = "".join(c if c.isalnum() else " " for c in case.name).split()
            name = "_".join(["test", kind, *words])
            if hasattr(TestCases, name):
                raise ValueError(f"two rows are called {case.name!r}")
            setattr(TestCases, name, lambda self, case=case: self.check(case))


_add_rows()


class TestReasons(base.BaseTestCase):
    """What a tenant reads beside each number."""

    def reasons(self, count, bids, **options):
        result = allocation.allocate(STACK, count, bids, **options)
        return [share.reason for share in result.shares]

    def test_weight(self):
        self.assertEqual(
            ["weight 0.6 of 10", "weight 0.2 of 10", "weight 0.2 of 10"],
            self.reasons(10, make_bids(SEED)),
        )

    def test_failover(self):
        bids = make_bids(SEED, "RRX", held=(6, 2, 2), floor=(6, 2, None))
        self.assertEqual(
            [
                "weight 0.7 of 10, 0.1 of it from clouds out of sight",
                "weight 0.3 of 10, 0.1 of it from clouds out of sight",
                "0: the cloud is out of sight, its weight went to the others",
            ],
            self.reasons(10, bids),
        )

    def test_ordered(self):
        bids = make_bids(".6 .2 .2", "RRX", priority=(1, 2, 0))
        self.assertEqual(
            "weight 0.6 of 10, and 2 units of clouds out of sight by priority",
            self.reasons(10, bids, rule=Rule.ORDERED)[0],
        )

    def test_drain(self):
        self.assertEqual(
            [
                "weight 0.8 of 10, 0.2 of it from clouds being drained",
                "0: the cloud is being drained, its weight went to the others",
            ],
            self.reasons(10, make_bids(".6 .2", "RD")),
        )

    def test_floor(self):
        bids = make_bids(".65 .20 .15", "RRX", held=(2, 0, 0), floor=(2, 0, None))
        self.assertEqual(
            "floor 2: no healthy cloud loses a unit to another's failure",
            self.reasons(2, bids)[0],
        )

    def test_bounds(self):
        bids = make_bids(
            ".4 .3 .2 .1",
            "RRCR",
            held=(0, 5, 1, 0),
            maximum=(3, None, None, None),
            capacity=(None, 4, None, None),
            minimum=(0, 0, 0, 11),
        )
        self.assertEqual(
            [
                "held at its maximum 3",
                "held at 5: the cloud has room for no more",
                "held at 1: the cloud is cordoned",
                "its minimum 11: its weight alone would give less",
            ],
            self.reasons(20, bids),
        )

    def test_minimum_above_what_is_left(self):
        bids = make_bids(".8 .2", minimum=(3, 2))
        self.assertEqual(
            "1 of its minimum 2: no more units are left for it", self.reasons(4, bids)[1]
        )

    def test_a_bound_that_takes_nothing_away_is_not_the_reason(self):
        bids = make_bids(SEED, maximum=(6, None, None), minimum=(0, 2, 0))
        self.assertEqual(["weight 0.6 of 10", "weight 0.2 of 10"], self.reasons(10, bids)[:2])

    def test_kept(self):
        self.assertEqual(
            [
                "kept at 6: no cloud can be raised to take over",
                "kept at 2: the cloud is in doubt",
                "kept at 2: no cloud can be raised to take over",
            ],
            self.reasons(10, make_bids(SEED, "CFX", held=(6, 2, 2))),
        )

    def test_hold(self):
        self.assertEqual(
            "kept at 2: the cloud is out of sight and the failover rule is hold",
            self.reasons(10, make_bids(SEED, "RRX", held=(6, 2, 2)), rule=Rule.HOLD)[2],
        )

    def test_standby(self):
        self.assertEqual(
            "0: a standby gets units only when another cloud fails",
            self.reasons(10, make_bids("1 0"))[1],
        )

    def test_ceilings(self):
        bids = make_bids(SEED, "RRX", held=(5, 5, 2), floor=(5, 5, None))
        self.assertEqual(
            "held at 5: with fewer to share nobody is raised", self.reasons(9, bids)[0]
        )

    def test_the_name_of_the_cloud_is_used_where_it_is_known(self):
        bids = [dataclasses.replace(make_bids("1", maximum=(2,))[0], name="north")]
        result = allocation.allocate(STACK, 3, bids)
        self.assertEqual(("no room for 1 unit: north held at its maximum 2",), result.reasons)

    def test_weights_in_force(self):
        bids = make_bids(".4 .3 .2 .1", "RRRX")
        result = allocation.allocate(STACK, 10, bids)
        self.assertEqual(
            [Fraction(13, 30), Fraction(10, 30), Fraction(7, 30), 0],
            [share.weight for share in result.shares],
        )


class TestRefusals(base.BaseTestCase):
    def refusal(self, count, bids):
        return str(self.assertRaises(ValueError, allocation.allocate, STACK, count, bids))

    def test_weights_above_1(self):
        self.assertEqual(
            "the weights add up to 1.000000001: lower them, their sum is at most 1",
            self.refusal(10, make_bids(".5 .500000001")),
        )

    def test_minimum_above_maximum(self):
        self.assertEqual(
            "a: the minimum 3 is above the maximum 2: lower the one or raise the other",
            self.refusal(10, make_bids("1", minimum=(3,), maximum=(2,))),
        )

    def test_negative_numbers(self):
        self.assertIn("below 0", self.refusal(-1, make_bids("1")))
        self.assertIn("below 0", self.refusal(1, make_bids("-1")))
        self.assertIn("below 0", self.refusal(1, make_bids("1", held=(-1,))))
        self.assertIn("below 0", self.refusal(1, make_bids("1", minimum=(-1,))))

    def test_the_same_cloud_twice(self):
        self.assertIn("more than once", self.refusal(1, make_bids(".5") + make_bids(".5")))


class TestWeights(base.BaseTestCase):
    def test_parse(self):
        for text, weight in (
            ("0", Fraction(0)),
            ("1", Fraction(1)),
            ("1.000", Fraction(1)),
            (" .6 ", Fraction(6, 10)),
            ("0.1", Fraction(1, 10)),
            ("0.333333333", Fraction(333333333, 10**9)),
            ("0.5000000000000000000000000000000000000000000", Fraction(1, 2)),
            ("6e-1", Fraction(6, 10)),
            ("0e-99", Fraction(0)),
            (0, Fraction(0)),
            (1, Fraction(1)),
            (decimal.Decimal("0.07"), Fraction(7, 100)),
        ):
            self.assertEqual(weight, allocation.parse_weight(text), repr(text))

    def test_parse_json(self):
        body = json.loads('{"weight": 0.1}', parse_float=decimal.Decimal)
        self.assertEqual(Fraction(1, 10), allocation.parse_weight(body["weight"]))

    def test_refuse(self):
        for value, words in (
            ("", "like 0.25"),
            (".", "like 0.25"),
            ("a", "like 0.25"),
            ("0,5", "like 0.25"),
            ("1/2", "like 0.25"),
            ("0_1", "like 0.25"),
            ("0x1", "like 0.25"),
            ("\u0661", "like 0.25"),
            ("nan", "like 0.25"),
            ("inf", "like 0.25"),
            (0.5, "as text, like 0.25"),
            (True, "as text, like 0.25"),
            (None, "as text, like 0.25"),
            (decimal.Decimal("NaN"), "from 0 to 1"),
            (decimal.Decimal("sNaN"), "from 0 to 1"),
            (decimal.Decimal("Infinity"), "from 0 to 1"),
            ("-0.1", "from 0 to 1"),
            ("1.000000001", "from 0 to 1"),
            ("50", "from 0 to 1"),
            (2, "from 0 to 1"),
            ("1e400", "from 0 to 1"),
            ("0.1234567891", "at most 9 decimals"),
            ("1e-10", "at most 9 decimals"),
            ("1e-999999999", "at most 9 decimals"),
            ("1e-99999999999999999999999", "out of range"),
            ("1e99999999999999999999999", "out of range"),
        ):
            error = self.assertRaises(ValueError, allocation.parse_weight, value)
            self.assertIn(words, str(error), repr(value))

    def test_parse_whatever_the_decimal_context(self):
        with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact])):
            self.assertEqual(Fraction(123456789, 10**9), allocation.parse_weight("0.123456789"))

    def test_format(self):
        for weight, text in (
            (Fraction(0), "0"),
            (Fraction(1), "1"),
            (Fraction(6, 10), "0.6"),
            (Fraction(1, 10**9), "0.000000001"),
            (Fraction(13, 30), "0.433333333"),
            (Fraction(2, 3), "0.666666667"),
            (Fraction(10**10 - 1, 10**10), "1"),
        ):
            self.assertEqual(text, allocation.format_weight(weight))

    @hypothesis.given(st.integers(0, 10**9))
    def test_what_is_formatted_is_parsed_again(self, billionths):
        weight = Fraction(billionths, 10**9)
        self.assertEqual(weight, allocation.parse_weight(allocation.format_weight(weight)))

    def test_even_weights_never_pass_1(self):
        for clouds in range(1, 200):
            weight = allocation.even_weight(clouds)
            self.assertLessEqual(clouds * weight, 1)
            self.assertGreater(clouds * (weight + Fraction(1, 10**9)), 1)

    def test_floors(self):
        bids = make_bids("0 0 0 0 0 0", "RCFXDR", held=(6, 5, 4, 3, 2, 1), maximum=[4] * 6)
        self.assertEqual({"a": 4, "b": 4, "c": 4, "f": 1}, allocation.floors(bids))


PROPERTY = hypothesis.settings(max_examples=150, deadline=None, database=None)


def random_weights(random, clouds):
    """Equal ones, small ratios with many ties, or any decimals; the sum may stay below 1."""
    kind = random.choice(["equal", "ratios", "ratios", "decimals"])
    if kind == "decimals":
        return [Fraction(random.randint(0, 10**9 // clouds), 10**9) for _ in range(clouds)]
    parts = [1 if kind == "equal" else random.choice([0, 1, 2, 3, 5, 30]) for _ in range(clouds)]
    total = max(1, sum(parts)) + random.choice([0, 0, 1, 5])
    return [Fraction(part, total) for part in parts]


@st.composite
def stacks(draw, standings="RRRRRCDFXX", floors=True, counts=(0, 60)):
    """(stack id, count, bids, options) of any stack that is not refused.

    Built from a seed in place of many small draws: ten times as many examples in the same time.
    """
    clouds = draw(st.integers(1, 6))
    count = draw(st.integers(*counts))
    random = draw(st.integers(0, 2**32).map(rng.Random))
    floors = floors and random.random() < 0.5
    bids = []
    for cloud, weight in zip("abcdef", random_weights(random, clouds), strict=False):
        minimum = random.choice([0, 0, 0, 0, 1, 2, random.randint(0, count)])
        bids.append(
            allocation.Bid(
                cloud=cloud,
                weight=weight,
                standing=STANDINGS[random.choice(standings)],
                held=random.choice([0, 1, 2, random.randint(0, count)]),
                minimum=minimum,
                maximum=random.choice([None, None, minimum + random.randint(0, count)]),
                capacity=random.choice([None, None, random.randint(0, count)]),
                floor=random.choice([0, random.randint(0, count)]) if floors else None,
                priority=random.randint(0, 2),
            )
        )
    stack_id = str(random.randint(0, 999))
    if random.random() < 0.5:  # one that has been in order before
        well = [dataclasses.replace(bid, standing=Standing.RAISABLE) for bid in bids]
        shares = units(allocation.allocate(stack_id, count, well))
        bids = [
            dataclasses.replace(bid, held=held) for bid, held in zip(bids, shares, strict=True)
        ]
    options = {
        "rule": random.choice(list(Rule)),
        "min_clouds": random.choice([0, 0, 1, 2, 3]),
        "surge": random.choice([None, None, 0, 1, random.randint(0, count)]),
        "rounding": random.choice([Rounding.EXACT, Rounding.EXACT, Rounding.CEIL]),
        "on_demand": random.random() < 0.2,
    }
    return stack_id, count, bids, options


def obeyed(bids, result):
    """The bids after Heat has accepted all shares; nothing is written to a cloud that is down."""
    return [
        bid if bid.standing is Standing.DOWN else dataclasses.replace(bid, held=share.units)
        for bid, share in zip(bids, result.shares, strict=True)
    ]


def most(bid):
    """The most that a member may get which is not frozen."""
    if bid.standing in (Standing.DOWN, Standing.DRAINING):
        return 0
    limits = [10**9 if bid.maximum is None else bid.maximum]
    if bid.capacity is not None:
        limits.append(max(bid.capacity, bid.held))
    if bid.standing is Standing.CORDONED:
        limits.append(bid.held)
    return min(limits)


def keeps(bid, bids, rule):
    """Whether a member has to keep what it holds."""
    if bid.standing is Standing.FROZEN or (bid.standing is Standing.DOWN and rule is Rule.HOLD):
        return True
    leaving = [
        other
        for other in bids
        if other.standing is Standing.DRAINING
        or (other.standing is Standing.DOWN and rule is not Rule.HOLD)
    ]
    return bool(leaving) and all(other.standing is not Standing.RAISABLE for other in bids)


class TestProperties(base.BaseTestCase):
    @PROPERTY
    @hypothesis.given(stacks())
    def test_sums(self, stack):
        stack_id, count, bids, options = stack
        result = allocation.allocate(stack_id, count, bids, **options)
        self.assertEqual(result.target, sum(units(result)) + result.shortfall - result.excess)
        self.assertTrue(min(result.shortfall, result.excess) == 0 <= result.unassigned)
        self.assertGreaterEqual(result.shortfall + result.excess, 0)
        if options["rounding"] is Rounding.EXACT:
            self.assertEqual(count, result.target + result.unassigned)
            self.assertEqual(math.ceil(count * sum(bid.weight for bid in bids)), result.target)

    @PROPERTY
    @hypothesis.given(stacks())
    def test_bounds(self, stack):
        stack_id, count, bids, options = stack
        result = allocation.allocate(stack_id, count, bids, **options)
        for bid, share in zip(bids, result.shares, strict=True):
            if keeps(bid, bids, options["rule"]):
                self.assertEqual(bid.held, share.units)
                continue
            self.assertTrue(0 <= share.units <= most(bid), (bid, share))
            if share.units < min(bid.minimum, most(bid)) and options["surge"] is None:
                self.assertEqual(0, result.shortfall, "a minimum is not served, units are left")

    @PROPERTY
    @hypothesis.given(stacks())
    def test_a_shortfall_means_that_nobody_has_room(self, stack):
        stack_id, count, bids, options = stack
        hypothesis.assume(options["surge"] is None)
        result = allocation.allocate(stack_id, count, bids, **options)
        for bid, share in zip(bids, result.shares, strict=True):
            if result.shortfall and share.weight > 0 and not keeps(bid, bids, options["rule"]):
                part = math.ceil(count * share.weight)
                enough = part if options["rounding"] is Rounding.CEIL else most(bid)
                self.assertGreaterEqual(share.units, min(most(bid), enough))

    @PROPERTY
    @hypothesis.given(stacks(), st.randoms())
    def test_the_order_of_the_bids_does_not_matter(self, stack, random):
        stack_id, count, bids, options = stack
        shuffled = random.sample(bids, len(bids))
        one = allocation.allocate(stack_id, count, bids, **options)
        other = allocation.allocate(stack_id, count, shuffled, **options)
        self.assertEqual(
            {share.cloud: share for share in one.shares},
            {share.cloud: share for share in other.shares},
        )
        self.assertEqual(one, allocation.allocate(stack_id, count, bids, **options))

    @PROPERTY
    @hypothesis.given(stacks())
    def test_idempotent(self, stack):
        stack_id, count, bids, options = stack
        result = allocation.allocate(stack_id, count, bids, **options)
        again = allocation.allocate(stack_id, count, obeyed(bids, result), **options)
        self.assertEqual(units(result), units(again))

    @PROPERTY
    @hypothesis.given(stacks(), st.booleans())
    def test_one_more_never_lowers_a_share(self, stack, settled):
        stack_id, count, bids, options = stack
        result = allocation.allocate(stack_id, count, bids, **options)
        if settled:
            bids = obeyed(bids, result)
        more = allocation.allocate(stack_id, count + 1, bids, **options)
        for before, after in zip(result.shares, more.shares, strict=True):
            self.assertLessEqual(before.units, after.units)

    @PROPERTY
    @hypothesis.given(stacks(), st.data())
    def test_a_weight_that_grows_loses_no_seat_to_another(self, stack, data):
        stack_id, count, bids, options = stack
        spare = 1 - sum(bid.weight for bid in bids)
        grown = data.draw(st.integers(0, len(bids) - 1))
        heavier = list(bids)
        heavier[grown] = dataclasses.replace(
            bids[grown],
            weight=bids[grown].weight + spare * data.draw(st.fractions(Fraction(1, 9), 1)),
        )
        hypothesis.assume(spare > 0)
        before = units(allocation.allocate(stack_id, count, bids, **options))
        after = units(allocation.allocate(stack_id, count, heavier, **options))
        if after[grown] < before[grown]:
            self.assertFalse(
                [pair for pair in zip(before, after, strict=True) if pair[0] < pair[1]]
            )

    @PROPERTY
    @hypothesis.given(stacks("R", floors=False), st.integers(0, 2**32))
    def test_new_weights_move_no_seat_against_them(self, stack, seed):
        stack_id, count, bids, options = stack
        options |= {"min_clouds": 0, "on_demand": False}
        weights = random_weights(rng.Random(seed), len(bids))
        changed = [
            dataclasses.replace(bid, weight=weight, minimum=0)
            for bid, weight in zip(bids, weights, strict=True)
        ]
        bids = [dataclasses.replace(bid, minimum=0) for bid in bids]
        before = units(allocation.allocate(stack_id, count, bids, **options))
        after = units(allocation.allocate(stack_id, count, changed, **options))
        for i, (old, new) in enumerate(zip(bids, changed, strict=True)):
            for j, (other_old, other_new) in enumerate(zip(bids, changed, strict=True)):
                if new.weight * other_old.weight > old.weight * other_new.weight:
                    self.assertFalse(after[i] < before[i] and after[j] > before[j])

    @PROPERTY
    @hypothesis.given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 5))
    def test_whole_numbers_are_met_exactly(self, parts, whole):
        total = max(1, sum(parts))
        bids = make_bids(" ".join(f"{part}/{total}" for part in parts))
        result = allocation.allocate(STACK, whole * total, bids)
        if sum(parts):
            self.assertEqual(tuple(whole * part for part in parts), units(result))

    @PROPERTY
    @hypothesis.given(stacks(), st.integers(0, 20))
    def test_moving_little_by_little(self, stack, most_moved):
        """No more than so many units at a time, none of them lost, and in the end all are there."""
        stack_id, count, bids, options = stack
        options |= {"rounding": Rounding.EXACT, "on_demand": False}
        target = allocation.allocate(stack_id, count, bids, **options)
        base = allocation.allocate(stack_id, count, bids, **options | {"on_demand": True})
        moved = allocation.towards(base, target, most_moved)
        self.assertEqual(sum(units(base)), sum(units(moved)))
        risen = sum(max(0, m - b) for m, b in zip(units(moved), units(base), strict=True))
        self.assertLessEqual(risen, most_moved)
        for before, after, wanted in zip(units(base), units(moved), units(target), strict=True):
            self.assertLessEqual(min(before, wanted), after)
            self.assertLessEqual(after, max(before, wanted))
        if sum(units(base)) == sum(units(target)) and risen < most_moved:
            self.assertEqual(units(target), units(moved))

    @PROPERTY
    @hypothesis.given(stacks("R", floors=False))
    def test_ceil_is_each_part_rounded_up(self, stack):
        stack_id, count, bids, _ = stack
        result = allocation.allocate(stack_id, count, bids, rounding=Rounding.CEIL)
        for bid, share in zip(bids, result.shares, strict=True):
            part = max(math.ceil(count * bid.weight), bid.minimum)
            self.assertEqual(min(part, most(bid)), share.units)

    @PROPERTY
    @hypothesis.given(stacks("RRRX", floors=False), st.booleans())
    def test_failover_is_a_spread_by_the_weights_in_force(self, stack, proportional):
        """Always computed from the configured weights: whatever happened before is forgotten."""
        stack_id, count, bids, _ = stack
        rule = Rule.PROPORTIONAL if proportional else Rule.EVEN
        alive = [bid for bid in bids if bid.standing is Standing.RAISABLE]
        hypothesis.assume(0 < len(alive) < len(bids))
        whole = sum(bid.weight for bid in bids)
        left = sum(bid.weight for bid in alive)
        if proportional and left:
            weights = [bid.weight * whole / left for bid in alive]
        else:
            weights = [bid.weight + (whole - left) / len(alive) for bid in alive]
        stand_ins = [
            dataclasses.replace(bid, weight=weight)
            for bid, weight in zip(alive, weights, strict=True)
        ]
        result = allocation.allocate(stack_id, count, bids, rule=rule)
        expected = {
            share.cloud: (share.units, share.weight)
            for share in allocation.allocate(stack_id, count, stand_ins).shares
        }
        self.assertEqual(
            {bid.cloud: expected.get(bid.cloud, (0, 0)) for bid in bids},
            {share.cloud: (share.units, share.weight) for share in result.shares},
        )


def seat_by_seat(stack_id, count, bids):
    """The plain form of steps 1, 3, 4 and 5: one seat after the other, in fractions."""
    shares = {bid.cloud: min(bid.minimum, most(bid)) for bid in bids}
    seats = math.ceil(count * sum(bid.weight for bid in bids)) - sum(shares.values())
    for _ in range(seats):
        eager = [bid for bid in bids if bid.weight > 0 and shares[bid.cloud] < most(bid)]
        if not eager:
            break
        best = max(
            eager,
            key=lambda bid: (
                bid.weight / (2 * shares[bid.cloud] + 1),
                bid.held > shares[bid.cloud],
                bid.weight,
                lot(stack_id, bid.cloud),
            ),
        )
        shares[best.cloud] += 1
    return tuple(shares[bid.cloud] for bid in bids)


class TestOracle(base.BaseTestCase):
    def check(self, stack):
        stack_id, count, bids, _ = stack
        target = math.ceil(count * sum(bid.weight for bid in bids))
        hypothesis.assume(sum(min(bid.minimum, most(bid)) for bid in bids) <= target)
        result = allocation.allocate(stack_id, count, bids)
        self.assertEqual(seat_by_seat(stack_id, count, bids), units(result))

    @PROPERTY
    @hypothesis.given(stacks("RRRC", floors=False))
    def test_same_as_seat_by_seat(self, stack):
        self.check(stack)

    @hypothesis.settings(PROPERTY, max_examples=15)
    @hypothesis.given(stacks("R", floors=False, counts=(300, 900)))
    def test_same_as_seat_by_seat_with_many_units(self, stack):
        self.check(stack)

    def test_same_as_seat_by_seat_with_many_clouds(self):
        bids = [
            allocation.Bid(f"cloud-{i}", Fraction(i % 7 + 1, 400), Standing.RAISABLE)
            for i in range(100)
        ]
        result = allocation.allocate(STACK, 678, bids)
        self.assertEqual(seat_by_seat(STACK, 678, bids), units(result))

    def test_a_million_units_beside_bounds(self):
        """Bounds keep the multiplier far from the number of units."""
        bids = make_bids("0.000000001 0.999999999 0", maximum=(None, 10, None), minimum=(0, 0, 5))
        self.assertEqual((999985, 10, 5), units(allocation.allocate(STACK, 10**6, bids)))


class Outage:
    """A stack whose clouds fail and return, at fixed count, weights and bounds.

    It stores the floors and the set of failed clouds as the engine does: floors are taken when
    the set grows and dropped when it shrinks.
    """

    def __init__(self, stack):
        self.stack_id, self.count, self.bids, self.options = stack
        self.when_healthy = {bid.cloud: bid.standing for bid in self.bids}
        self.floors = {}
        for _ in range(2):  # the second time with what there is to hold for a cordoned cloud
            self.bids = obeyed(self.bids, self.allocate())

    def allocate(self):
        return allocation.allocate(self.stack_id, self.count, self.bids, **self.options)

    def happen(self, event, clouds, late):
        """Allocate after an event, and obey but for the raises of the late clouds.

        Returned are the healthy members as (bid, share), the bid with what it held.
        """
        standings, becomes = {
            "doubt": ((Standing.RAISABLE, Standing.CORDONED), Standing.FROZEN),
            "failure": (
                (Standing.RAISABLE, Standing.CORDONED, Standing.FROZEN),
                Standing.DOWN,
            ),
            "return": ((Standing.FROZEN, Standing.DOWN), None),
        }[event]
        down = {bid.cloud for bid in self.bids if bid.standing is Standing.DOWN}
        self.bids = [
            dataclasses.replace(bid, standing=becomes or self.when_healthy[bid.cloud])
            if bid.cloud in clouds and bid.standing in standings
            else bid
            for bid in self.bids
        ]
        still_down = {bid.cloud for bid in self.bids if bid.standing is Standing.DOWN}
        if still_down - down:
            self.floors = allocation.floors(self.bids)
        elif down - still_down:
            self.floors = {}
        self.bids = [
            dataclasses.replace(bid, floor=self.floors.get(bid.cloud)) for bid in self.bids
        ]
        result = self.allocate()
        pairs = list(zip(self.bids, result.shares, strict=True))
        self.bids = [
            before if share.cloud in late and share.units > before.held else after
            for (before, share), after in zip(pairs, obeyed(self.bids, result), strict=True)
        ]
        return [
            (bid, share)
            for bid, share in pairs
            if bid.standing in (Standing.RAISABLE, Standing.CORDONED)
        ]


class TestFailover(base.BaseTestCase):
    @hypothesis.settings(PROPERTY, max_examples=300)
    @hypothesis.given(stacks("RRRRRRC", floors=False), st.integers(0, 2**32).map(rng.Random))
    def test_no_healthy_cloud_loses_a_unit_to_a_failure(self, stack, random):
        """In any sequence of doubts, failures and returns. What a return moves is failback."""
        if stack[3]["rounding"] is Rounding.CEIL:
            stack[3]["on_demand"] = False
        outage = Outage(stack)
        events = random.choices(["doubt", "failure", "return"], [2, 2, 1], k=random.randint(2, 8))
        for event in events:
            clouds = random.sample("abcdef", random.randint(1, 3))
            late = random.sample("abcdef", random.randint(0, 3)) if event != "return" else ()
            healthy = outage.happen(event, clouds, late)
            if event != "return":
                losers = [(bid, share) for bid, share in healthy if share.units < bid.held]
                self.assertEqual([], losers)

    @PROPERTY
    @hypothesis.given(stacks("RRRRRRC", floors=False), st.integers(0, 2**32).map(rng.Random))
    def test_a_doubt_moves_nothing(self, stack, random):
        """Neither up nor down, whatever has failed and returned before."""
        stack[3]["rounding"] = Rounding.EXACT
        outage = Outage(stack)
        for event in random.choices(["doubt", "failure", "return"], [3, 1, 1], k=6):
            healthy = outage.happen(event, random.sample("abcdef", 2), ())
            if event == "doubt":
                moved = [(bid, share) for bid, share in healthy if share.units != bid.held]
                self.assertEqual([], moved)

    def test_two_failures_in_either_order_give_the_same_weights_and_sum(self):
        ends = []
        for order in ("cd", "dc"):
            outage = Outage((STACK, 10, make_bids(".4 .3 .2 .1"), {}))
            for cloud in order:
                outage.happen("failure", cloud, ())
            result = outage.allocate()
            ends.append(([share.weight for share in result.shares], sum(units(result))))
        self.assertEqual(ends[0], ends[1])
        self.assertEqual(([Fraction(11, 20), Fraction(9, 20), 0, 0], 10), ends[0])

    def test_out_and_back(self):
        outage = Outage((STACK, 10, make_bids(SEED), {}))
        held = []
        for event in ("doubt", "failure", "return"):
            outage.happen(event, "c", ())
            held.append(tuple(bid.held for bid in outage.bids))
        # What is on a cloud out of sight stays there until it is back.
        self.assertEqual([(6, 2, 2), (7, 3, 2), (6, 2, 2)], held)
