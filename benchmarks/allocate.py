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

"""How long allocation takes, beside the plain form that gives out one seat after the other.

Both forms run in the same process and have to agree before anything is said; the time is processor
time, the best of several.
"""

from collections import abc
import fractions
import hashlib
import math
import sys
import time

import figures
from heat_spreader.engine.core import allocation

# Units, clouds, and the microseconds that are wanted.
CASES = ((1_000, 3, 100), (10_000, 100, 10_000))
STACK = "benchmark"


def make_bids(clouds: int) -> list[allocation.Bid]:
    parts = [3 + i % 7 + 5 * (i % 3) for i in range(clouds)]
    return [
        allocation.Bid(
            cloud=f"cloud-{i}",
            weight=fractions.Fraction(part, sum(parts)),
            standing=allocation.Standing.RAISABLE,
        )
        for i, part in enumerate(parts)
    ]


def seat_by_seat(count: int, bids: list[allocation.Bid]) -> list[int]:
    """Webster's method as a textbook has it: each seat to the greatest w / (2a + 1)."""
    shares = [0] * len(bids)
    lots = [hashlib.sha256(f"{STACK}/{bid.cloud}".encode()).hexdigest() for bid in bids]
    for _ in range(math.ceil(count * sum(bid.weight for bid in bids))):
        winner = max(
            range(len(bids)),
            key=lambda i: (bids[i].weight / (2 * shares[i] + 1), bids[i].weight, lots[i]),
        )
        shares[winner] += 1
    return shares


def microseconds(work: abc.Callable[[], object], times: int) -> float:
    best = math.inf
    for _ in range(times):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best * 1e6


def main() -> None:
    for count, clouds, most in CASES:
        bids = make_bids(clouds)
        ours = [share.units for share in allocation.allocate(STACK, count, bids).shares]
        if ours != seat_by_seat(count, bids):
            sys.exit(f"{count} units over {clouds} clouds: the two forms disagree")
        fast = microseconds(lambda: allocation.allocate(STACK, count, bids), 300)  # noqa: B023
        plain = microseconds(lambda: seat_by_seat(count, bids), 1)  # noqa: B023
        what = f"allocate {count} units over {clouds} clouds"
        figures.show(what, fast, "us", reference=plain, against="seat by seat", ratio=plain / fast)
        figures.show(what, fast, "us", most=most)


if __name__ == "__main__":
    main()
