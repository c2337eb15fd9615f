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
"""The eyes of one engine: a lane for each cloud that lists its Heat stacks again and again.

One listing is at once the health probe, the drift detector and the progress report. This module
writes observations and verdicts and wakes stacks; it never touches a Heat stack or a member.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import random
import threading
import time
from typing import Any

from oslo_log import log

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import brakes as db_brakes
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine import metrics
from heat_spreader.engine.core import health
from heat_spreader.engine.core import values

LOG = log.getLogger(__name__)

# Every Heat stack that we create carries this tag, so that one listing shows ours and no other.
TAG = "heat-spreader"


def member_tag(member_id: str) -> str:
    """The tag by which the Heat stack of one member is found again."""
    return f"heat-spreader-member-{member_id}"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One complete listing of a cloud.

    :ivar at: the database's time when the listing was asked for: what changed later is not in it
    :ivar asked_at: the same moment by our own clock
    """

    at: datetime.datetime
    asked_at: float
    heat_stacks: Mapping[str, heat.HeatStack]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Seconds and counts from the configuration; see the options of the same names."""

    observer: str
    probe_interval: float
    probe_timeout: float
    progress_interval: float
    misses: int
    goods: int
    zone: str | None = None
    brake_window: float = 300.0
    relapse_memory: float = 3600.0

    @property
    def patience(self) -> float:
        """Within which a cloud that was missed once is either judged unreachable or answers."""
        return (self.misses + 1) * (1.1 * self.probe_interval + self.probe_timeout)

    @property
    def fresh_for(self) -> float:
        """Age at which a reading no longer speaks for its observer."""
        return 3 * (self.probe_interval + self.probe_timeout)

    @property
    def trusted_for(self) -> float:
        """Age at which a listing is no longer planned by; a lane that works renews it long before.

        A process that stood still wakes with the listings from before.
        """
        return 2 * (self.probe_interval + self.probe_timeout)

    @property
    def spacing(self) -> float:
        """Looks that follow each other faster, for work that is under way, count once.

        A little less than the interval that jitter may leave, or a row would never grow.
        """
        return 0.8 * self.probe_interval


def is_known(row: heat.HeatStack, member: models.Member) -> bool:
    """A listing shows the member's Heat stack as it is stored, or at the work that we gave it.

    Of that work we do not know the time that Heat put down for it, but that is all that is new.
    """
    if row.status != member.heat_status:
        return False
    return row.updated_time == member.heat_updated_time or (
        row.in_progress and member.heat_updated_time is None
    )


class Observer:
    """Looks at every registered cloud, each in a thread of its own, so that none delays another."""

    def __init__(
        self,
        settings: Settings,
        connections: clouds.Clouds,
        nudge: Callable[[context.RequestContext, str], None],
        bury: Callable[[models.Cloud, heat.HeatStack, models.Tombstone], None],
        sweep: Callable[[], None] = lambda: None,
        doubt: Callable[[], str] = str,
        told: metrics.Metrics | None = None,
    ) -> None:
        """
        :param connections: its own, with the probe's timeout, so that work never delays a probe
        :param nudge: called with the id of each stack of which something was seen to move
        :param bury: called with each Heat stack that was made for a member that is gone
        :param sweep: called when a new verdict has made all the stacks of a cloud due
        :param doubt: asked when more than half of the clouds are missed at once: why that says nothing
            of them, or nothing
        :param told: where numbers go
        """
        self._settings = settings
        self._connections = connections
        self._nudge = nudge
        self._bury = bury
        self._sweep = sweep
        self._doubt = doubt
        self.metrics = told or metrics.Metrics()
        self._lanes: dict[str, _Lane] = {}
        # Those that were on at the latest look, with the reason.
        self._brakes: dict[str, str] = {}
        self._halt = threading.Event()

    def snapshot(self, cloud_id: str) -> Snapshot | None:
        """The latest good listing; None while this engine has none that it may rely on."""
        lane = self._lanes.get(cloud_id)
        snapshot = lane.snapshot if lane else None
        if snapshot and time.monotonic() - snapshot.asked_at > self._settings.trusted_for:
            return None
        return snapshot

    def hurry(self, cloud_id: str, *, doubt: bool = False) -> None:
        """Look at this cloud again soon: something was begun there.

        :param doubt: work just failed there; rely on nothing seen before until it answers again
        """
        lane = self._lanes.get(cloud_id)
        if lane:
            if doubt:
                lane.snapshot = None
            lane.busy = True
            lane.wake.set()

    def refresh(self) -> set[str]:
        """Start lanes for clouds that were registered, end those of clouds that are gone; the ids of all."""
        ctx = context.engine_context()
        self._look_at_brakes(ctx)
        if ended := db_clouds.end_planned(ctx):
            LOG.info("Planned work is over: %s", "; ".join(ended))
            self._sweep()
        registered = {cloud.id: cloud for cloud in db_clouds.list_clouds(ctx, None)}
        for cloud_id, cloud in registered.items():
            lane = self._lanes.get(cloud_id)
            if lane is None or not lane.thread.is_alive():
                self._lanes[cloud_id] = _Lane(self, cloud_id)
            elif lane.cloud is not None and lane.cloud.updated_at != cloud.updated_at:
                lane.changed = True
                lane.wake.set()
        self.metrics.keep(registered.keys())
        for cloud_id in set(self._lanes) - set(registered):
            self._lanes.pop(cloud_id).stop()
        self._connections.keep(registered)
        return set(registered)

    def _look_at_brakes(self, ctx: context.RequestContext) -> None:
        """Tell the operator when one is put on or taken off, whoever did it.

        Verdicts put them on and take them off; while one is on, clouds that are removed may, too.
        """
        on = {b.scope: b.reason for b in db_brakes.list_brakes(ctx).values() if b.engaged_at}
        self.metrics.brakes(on)
        if on:
            db_brakes.settle_brakes(ctx, self._brake)
        for scope, reason in on.items():
            if scope not in self._brakes:
                LOG.error("%s%s", reason, f" (project {scope})" if scope else "")
        for scope in self._brakes.keys() - on.keys():
            LOG.warning("The brake is off%s", f" (project {scope})" if scope else "")
        self._brakes = on

    def report(self) -> dict[str, str]:
        """For each cloud how old the listing is that rounds rely on. Takes no lock."""
        shown = {}
        for cloud_id, lane in list(self._lanes.items()):
            snapshot = lane.snapshot
            name = f"{lane.cloud.name} ({cloud_id})" if lane.cloud else cloud_id
            shown[name] = (
                f"a listing {time.monotonic() - snapshot.asked_at:.1f} s old"
                if snapshot
                else "in doubt"
            )
        return shown

    def stop(self) -> None:
        """End all lanes; returns when none runs any more or a probe's time has passed."""
        self._halt.set()
        lanes = list(self._lanes.values())  # a refresh may be under way
        for lane in lanes:
            lane.wake.set()
        for lane in lanes:
            lane.thread.join(self._settings.probe_timeout)

    def observe(self, cloud: models.Cloud, lane: "_Lane") -> None:
        """Take one listing of a cloud, store what it says of the cloud, wake the stacks it moved."""
        ctx = context.engine_context()
        started = time.monotonic()
        found: list[heat.HeatStack] | None = None
        outcome, detail = values.Outcome.OK, "it answers"
        try:
            connection = self._connections.reach(cloud)
            if lane.adopted is None:
                lane.adopted = db_clouds.has_adopted_members(ctx, cloud.id)
            # Heat stacks that were taken over carry no tag of ours.
            found = heat.list_stacks(connection, None if lane.adopted else TAG)
        except heat.HeatError as error:
            outcome, detail = error.outcome, error.detail
        answered = time.monotonic()
        lane.missed = outcome is values.Outcome.UNREACHABLE
        look = db_clouds.record_observation(
            ctx,
            cloud.id,
            self._settings.observer,
            outcome=outcome,
            detail=detail,
            latency_ms=round((answered - started) * 1000),
            miss=lane.missed,
            good=outcome is values.Outcome.OK,
            fresh_for=self._settings.fresh_for,
            spacing=self._settings.spacing,
            zone=self._settings.zone,
            abstains=self._doubts_itself() if lane.missed else "",
            # A process that stood still in between, or a database that was away, makes no old news new.
            age=lambda: time.monotonic() - answered,
        )
        if look is None:
            lane.cloud = None
            return
        lane.cloud, lane.adopted = look.cloud, look.adopted
        if found is None:
            lane.snapshot = None
        else:
            at = look.moment - datetime.timedelta(seconds=time.monotonic() - started)
            self._compare(ctx, cloud, lane, found, at, started)
            self._bury_late_ones(cloud, found, look.graves)
        self._tell(look, outcome, answered - started)
        self._judge(ctx, look)

    def _tell(self, look: db_clouds.Look, outcome: values.Outcome, seconds: float) -> None:
        readings = [health.reading(row) for row in look.observations]
        counts = health.votes(readings, look.moment, self._settings.fresh_for)
        self.metrics.looked(
            look.cloud,
            seconds,
            outcome,
            {r.observer: (r.outcome, counts[r.observer]) for r in readings},
        )

    def _doubts_itself(self) -> str:
        """Why a miss should not be counted, which may be this host's own fault; empty: it should."""
        lanes = list(self._lanes.values())
        if not health.doubts_itself(sum(lane.missed for lane in lanes), len(lanes)):
            return ""
        return self._doubt()

    def _compare(
        self,
        ctx: context.RequestContext,
        cloud: models.Cloud,
        lane: "_Lane",
        found: list[heat.HeatStack],
        at: datetime.datetime,
        asked_at: float,
    ) -> None:
        """Keep the listing; nudge the stacks whose members it shows otherwise than they are stored.

        Only what differs from the listing before is looked up, so a quiet cloud costs no query.
        """
        listed = {row.id: row for row in found}
        before = lane.listed
        moved = [
            heat_id
            for heat_id in before.keys() | listed.keys()
            if (row := listed.get(heat_id)) is None or row != before.get(heat_id)
        ]
        lane.snapshot = Snapshot(at, asked_at, listed)
        lane.busy = any(row.in_progress for row in found)
        stacks = set()
        for member in db_rounds.members_of_heat_stacks(ctx, cloud.id, moved) if moved else ():
            row = listed.get(member.heat_stack_id)
            if row is None or not is_known(row, member):
                stacks.add(member.stack_id)
        if stacks:
            db_rounds.nudge_stacks(ctx, stacks)
            for stack_id in stacks:
                self._nudge(ctx, stack_id)
        # Last, so that what a database that is away could not be told is found again.
        lane.listed = listed

    def _bury_late_ones(
        self,
        cloud: models.Cloud,
        found: list[heat.HeatStack],
        graves: Mapping[str, models.Tombstone],
    ) -> None:
        """Heat has carried out a create whose member was gone by then."""
        by_tag = {member_tag(member_id): grave for member_id, grave in graves.items()}
        for heat_stack in found:
            for tag in by_tag.keys() & set(heat_stack.tags):
                if not heat_stack.deleting:
                    self._bury(cloud, heat_stack, by_tag[tag])

    def _judge(self, ctx: context.RequestContext, look: db_clouds.Look) -> None:
        cloud = look.cloud
        readings = [health.reading(row) for row in look.observations]
        judgement = health.judge(
            values.Verdict(cloud.verdict),
            readings,
            look.moment,
            misses=self._settings.misses,
            goods=self._settings.goods,
            fresh_for=self._settings.fresh_for,
        )
        self.metrics.judged(cloud, judgement.verdict)
        if (judgement.verdict, judgement.reason) == (cloud.verdict, cloud.verdict_reason):
            return
        votes = {
            r.observer: {
                "outcome": r.outcome,
                "detail": r.detail,
                "misses": r.misses,
                "goods": r.goods,
                "zone": r.zone,
                "abstains": r.abstains,
                "observed_at": r.observed_at.isoformat(),
            }
            for r in readings
        }
        stored = db_clouds.set_verdict(
            ctx,
            cloud,
            judgement.verdict,
            judgement.reason,
            {"rule": judgement.rule, "votes": votes},
            judgement.rule,
            self._brake,
            self._coming_and_going(look, judgement.verdict),
        )
        if stored and judgement.verdict != cloud.verdict:
            LOG.warning(
                "Cloud %(cloud)s: %(before)s → %(after)s: %(reason)s",
                {
                    "cloud": cloud.name,
                    "before": cloud.verdict,
                    "after": judgement.verdict,
                    "reason": judgement.reason,
                },
            )
            self._sweep()

    def _coming_and_going(
        self, look: db_clouds.Look, verdict: values.Verdict
    ) -> Mapping[str, Any]:
        """What is to be remembered of a cloud that goes away or comes back."""
        cloud = look.cloud
        if verdict is values.Verdict.UNREACHABLE:
            memory = self._settings.relapse_memory
            missed = [row.since for row in look.observations if row.misses]
            return {
                "missed_since": min(missed, default=look.moment),
                "relapses": health.relapses(
                    cloud.relapses, cloud.returned_at, look.moment, memory
                ),
            }
        if cloud.verdict == values.Verdict.UNREACHABLE:
            return {"returned_at": look.moment}
        return {}

    def _brake(
        self, clouds: Sequence[Any], now: datetime.datetime, held: frozenset[str]
    ) -> values.Brake:
        """Decide by rows of clouds; see ``health.brake``."""
        return health.brake(
            [
                values.CloudState(
                    row.id, values.Verdict(row.verdict), row.verdict_since, row.verdict_rule
                )
                for row in clouds
                if not row.lost  # somebody knows what became of it
            ],
            now,
            held,
            window=self._settings.brake_window,
            patience=self._settings.patience,
        )

    def _look_again(self, cloud_id: str, lane: "_Lane") -> None:
        while not (self._halt.is_set() or lane.ended):
            lane.looked_at = time.monotonic()
            try:
                cloud = lane.cloud
                if cloud is None or lane.changed:
                    lane.changed = False
                    cloud = db_clouds.get_cloud(context.engine_context(), cloud_id, None)
                self.observe(cloud, lane)
            except exception.Unavailable:
                # It is the database that is away. The sweep says so, and this lane waits for it.
                LOG.debug("Cloud %s: what was seen could not be stored", cloud_id)
            except Exception:
                LOG.exception("Cloud %s could not be observed", cloud_id)
            interval = self._settings.probe_interval
            if lane.busy:
                interval = min(interval, self._settings.progress_interval)
            # Engines that were started together must not probe together.
            lane.wake.wait(interval * random.uniform(0.9, 1.1))  # noqa: S311
            lane.wake.clear()
            # However many rounds hurry it, a lane asks no faster than this.
            self._halt.wait(lane.looked_at + self._settings.progress_interval - time.monotonic())


class _Lane:
    """One cloud's thread, and what it saw last."""

    def __init__(self, observer: Observer, cloud_id: str) -> None:
        self.snapshot: Snapshot | None = None
        self.listed: Mapping[str, heat.HeatStack] = {}
        # As of the latest look, so that a quiet one costs a single transaction.
        self.cloud: models.Cloud | None = None
        self.adopted: bool | None = None
        # Its settings are others by now.
        self.changed = False
        self.looked_at = 0.0
        self.missed = False
        self.busy = False
        self.ended = False
        self.wake = threading.Event()
        self.thread = threading.Thread(
            target=observer._look_again,
            args=(cloud_id, self),
            name=f"observe-{cloud_id}",
            daemon=True,
        )
        self.thread.start()

    def stop(self) -> None:
        self.ended = True
        self.wake.set()
