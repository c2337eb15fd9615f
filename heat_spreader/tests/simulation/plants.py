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

"""Bugs that are planted on purpose, to show that the simulator finds them. Nothing else reaches them.

Each is a context manager that spoils the product while one scenario runs.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import math
from typing import Any
from unittest import mock

from heat_spreader.db import rounds as db_rounds
from heat_spreader.engine import heat
from heat_spreader.engine.core import health
from heat_spreader.engine.core import plan
from heat_spreader.engine.core import values
from heat_spreader.tests.simulation import harness


@contextlib.contextmanager
def no_epoch_check() -> Iterator[None]:
    """A round is stored whoever holds the stack by then."""
    with (
        mock.patch.object(db_rounds, "_holds_claim", lambda session, stack: True),
        mock.patch.object(db_rounds, "renew_claim", lambda ctx, stack, lease: True),
    ):
        yield


@contextlib.contextmanager
def lower_before_raise() -> Iterator[None]:
    """Units are taken away before those that replace them run."""
    real = plan._next

    def spoiled(stack: Any, m: Any, share: int, why: str, spare: int, now: Any) -> Any:
        return real(stack, m, share, why, 10**6, now)

    with mock.patch.object(plan, "_next", spoiled):
        yield


@contextlib.contextmanager
def replayed_write() -> Iterator[None]:
    """An update that a cloud did not take is kept, and sent when the cloud may be back."""
    real = heat.resize

    def spoiled(cloud: Any, *args: Any, **kwargs: Any) -> None:
        try:
            real(cloud, *args, **kwargs)
        except heat.HeatError as error:
            if error.outcome in (values.Outcome.UNREACHABLE, values.Outcome.SICK):
                kept = kwargs | {"not_after": math.inf}
                harness.later(12.0, functools.partial(_quietly, real, cloud, *args, **kept))
            raise

    with mock.patch.object(heat, "resize", spoiled):
        yield


def _quietly(work: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    try:
        work(*args, **kwargs)
    except heat.HeatError:
        pass


@contextlib.contextmanager
def missing_floor() -> Iterator[None]:
    """A failover may take units from clouds that work."""
    with mock.patch.object(
        plan, "_floors", lambda members, bids, out: dict.fromkeys(m.id for m in members)
    ):
        yield


@contextlib.contextmanager
def claim_not_renewed() -> Iterator[None]:
    """The lease goes on to run while a round reads, and the round does not notice its end."""
    real = db_rounds.renew_claim

    def spoiled(ctx: Any, stack: Any, lease: float) -> bool:
        return True

    functools.update_wrapper(spoiled, real)
    with mock.patch.object(db_rounds, "renew_claim", spoiled):
        yield


@contextlib.contextmanager
def one_vote() -> Iterator[None]:
    """Whoever looks first decides for all."""
    with mock.patch.object(health, "_zones", lambda readings: [[r] for r in readings[:1]]):
        yield


@contextlib.contextmanager
def no_brake() -> Iterator[None]:
    """It is put on, and stacks fail over all the same."""

    def left(stack: Any, member: Any, now: Any) -> float:
        return float(stack.toleration - (now - member.verdict_since).total_seconds())

    with mock.patch.object(plan, "_fails_over_in", left):
        yield


PLANTS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "no-epoch-check": no_epoch_check,
    "lower-before-raise": lower_before_raise,
    "replayed-write": replayed_write,
    "missing-floor": missing_floor,
    "claim-not-renewed": claim_not_renewed,
    "one-vote": one_vote,
    "no-brake": no_brake,
}
