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
"""One round for one stack: claim, observe, decide, apply, save.

This is the shell around the pure core: the only place that turns rows into the core's values, and
the only one that changes Heat stacks. A round that is cut off anywhere is repaired by the next one,
which observes and plans again; nothing is journalled.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import contextlib
import dataclasses
import datetime
import functools
import random
import time
from typing import Any

from oslo_log import log

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine import lanes
from heat_spreader.engine import observe
from heat_spreader.engine.core import allocation
from heat_spreader.engine.core import plan
from heat_spreader.engine.core import values

LOG = log.getLogger(__name__)

Columns = dict[str, Any]

# In the place of a Heat stack's time of update, where they equal nothing that a listing shows, so
# that the Heat stack is read again: what became of a write of ours is not known, so that its count
# blames nobody; the same, and perhaps it has taken units away, so that none of them are counted on; and:
# it could not be read.
_UNSURE, _UNCOUNTED, _UNREAD = "unsure", "uncounted", "unread"
_UNCERTAIN = (_UNSURE, _UNCOUNTED)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Seconds and counts from the configuration; see the options of the same names."""

    owner: str
    claim_lease: float
    retry_interval: float
    resync_interval: float
    timeout: float
    concurrency: int
    max_in_progress: int
    full_for: float
    update_deadline: float
    stable_ceiling: int = 3600


class ClaimLost(Exception):
    """Another engine works on the stack by now; this round must not write any more."""


class Reconciler:
    """What all rounds of one engine share, and the one place that ends them, whatever they meet."""

    def __init__(
        self,
        settings: Settings,
        connections: clouds.Clouds,
        observer: observe.Observer,
        *,
        lent: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
        executor: Callable[..., futures.Executor] = futures.ThreadPoolExecutor,
    ) -> None:
        """:param lent: and ``executor``: see ``lanes.Lanes``"""
        self._settings = settings
        self._connections = connections
        self._observer = observer
        self._lanes = lanes.Lanes(
            settings.concurrency,
            settings.max_in_progress,
            observer.snapshot,
            lent=lent,
            executor=executor,
        )

    def claim_due(
        self, ctx: context.RequestContext, limit: int, but: Sequence[str] = ()
    ) -> list[db_rounds.Claim]:
        """Take up to so many stacks that are due; each of them has to be run or released.

        :param but: none of these projects
        """
        settings = self._settings
        return db_rounds.claim_due(ctx, settings.owner, settings.claim_lease, limit, but)

    def claim(self, ctx: context.RequestContext, stack_id: str) -> db_rounds.Claim | None:
        """Take one stack, due or not; None when another engine is at it."""
        return db_rounds.claim_stack(
            ctx, stack_id, self._settings.owner, self._settings.claim_lease
        )

    def reconcile(self, ctx: context.RequestContext, stack_id: str) -> None:
        """Run a round of this stack, unless another engine is at it."""
        asked_at = time.monotonic()
        claim = self.claim(ctx, stack_id)
        if claim is not None:
            self.run(ctx, claim, asked_at)

    def run(self, ctx: context.RequestContext, claim: db_rounds.Claim, asked_at: float) -> None:
        """Run a round of a stack that was claimed.

        :param asked_at: our own clock before the claim was asked for: its lease lasts from then on
        :raises Unavailable: the database went away; whoever claims the stack next looks at it anew
        """
        try:
            Round(self, ctx, claim, asked_at).run()
        except ClaimLost:
            LOG.warning(
                "Stack %s: the claim was lost in mid-round; the new holder goes on", claim.stack.id
            )
        except exception.Unavailable:
            raise  # nothing can be stored of it, and nothing is wrong with it
        except Exception:
            LOG.exception("Stack %s: the round failed", claim.stack.id)
            db_rounds.save_round(
                ctx,
                claim.stack,
                values={
                    "status": plan.StackStatus.ERROR,
                    "status_reason": "The engine met an unexpected error; the operator finds it in "
                    f"its log by the stack's id. It is tried again in {self._settings.retry_interval}"
                    " s.",
                },
                # What was done before it is not in the rows, so each of them has to be read anew.
                members={m.id: {"heat_updated_time": _UNCOUNTED} for m in claim.stack.members},
                events=(),
                due_in=self._settings.retry_interval,
            )

    def keep(self, cloud_ids: Collection[str]) -> None:
        """Keep nothing for clouds that are registered no more."""
        self._lanes.keep(cloud_ids)

    def report(self) -> dict[str, str]:
        """For each cloud what rounds wait for there. Takes no lock."""
        return self._lanes.report()

    def stop(self) -> None:
        """Send nothing more to any cloud: rounds in hand end with what they have."""
        self._lanes.stop()


def bury(
    connections: clouds.Clouds,
    cloud: models.Cloud,
    found: heat.HeatStack,
    grave: models.Tombstone,
) -> None:
    """Have a Heat stack deleted that Heat made late, when its member was gone already."""
    try:
        connection = connections.reach(cloud)
        heat.delete_stack(connection, found.name, found.id)
    except heat.HeatError as error:
        LOG.warning("Heat stack %s in cloud %s is to go: %s", found.id, cloud.name, error.detail)
        return  # the next listing shows it again
    LOG.info(
        "Heat stack %s in cloud %s was made after its member had left stack %s; it is deleted",
        found.id,
        cloud.name,
        grave.stack_id,
    )
    db_rounds.record_burial(context.engine_context(), cloud, grave, found.id)


class Round:
    """One pass over one claimed stack. Lives for that pass only."""

    def __init__(
        self,
        reconciler: Reconciler,
        ctx: context.RequestContext,
        claim: db_rounds.Claim,
        asked_at: float,
    ) -> None:
        self._settings = reconciler._settings
        self._connections = reconciler._connections
        self._observer = reconciler._observer
        self._lanes = reconciler._lanes
        self._ctx = ctx
        self._stack = claim.stack
        self._wanted = _wanted(claim.stack, claim.brakes, self._settings)
        self._interrupted = claim.interrupted
        self._moment = claim.moment
        self._began = time.monotonic()
        self._renewed = asked_at
        self._events: list[Columns] = []
        # Why each member is to get what it is to get.
        self._views: Mapping[str, plan.View] = {}
        # What this round has read of members.
        self._seen: Mapping[str, Columns] = {}
        self._forgotten: set[str] = set()
        self._at_once = False
        # With template, environment and files, once a Heat stack is to be created.
        self._content: models.Stack | None = None
        # What this round has stored of members already.
        self._stored: Mapping[str, Columns] = {}
        # Members that could not be read in this round, and those whose step was put off; and why.
        self._unreadable: dict[str, str] = {}
        self._put_off: dict[str, str] = {}
        # One view of each cloud for the whole round.
        self._snapshots = {
            member.cloud_id: self._observer.snapshot(member.cloud_id)
            for member in claim.stack.members
        }

    def run(self) -> None:
        stack = self._stack
        seen = self._in_parallel(
            [m for m in stack.members if self._to_be_read(m)], self._read, self._unreadable
        )
        if self._interrupted:
            # Whoever was cut off may have lowered any of them, and those that cannot be read now are
            # counted on by nobody before they have been.
            for m in stack.members:
                if not self._in_sight(m):
                    seen[m.id] = seen.get(m.id, {}) | {"heat_updated_time": _UNCOUNTED}
        self._seen = seen
        members = [self._value(m, seen) for m in stack.members]
        decided = plan.plan(self._wanted, members, self._moment)
        written = {member_id: dict(columns) for member_id, columns in seen.items()}
        self._record_failover(decided)
        self._views = decided.views

        by_id = {m.id: m for m in stack.members}
        steps = {step.member: step for step in decided.steps}
        if any(step.action is not plan.Action.FORGET for step in decided.steps):
            self._renew(seen, decided)
            done = self._in_parallel(
                [
                    by_id[step.member]
                    for step in decided.steps
                    if step.action is not plan.Action.FORGET
                ],
                lambda member: self._apply(member, steps[member.id]),
                self._put_off,
                begin=self._now,
            )
            for member_id, columns in done.items():
                written.setdefault(member_id, {}).update(columns)
            decided = self._told_afterwards(decided, written)
            if any(step.units > step.before for step in decided.steps):
                self._tell_of_failover(decided, written)
            if any(columns.get("fulls") for columns in done.values()):
                self._at_once = True  # the others are to take over what one of them refused
        for step in decided.steps:
            if step.action is plan.Action.FORGET:
                self._forget(by_id[step.member])

        self._save(decided, members, written)

    # --- observe ----------------------------------------------------------------------------------

    def _in_sight(self, member: models.Member) -> bool:
        """This engine itself has a good listing of the cloud, so it may read and write there."""
        return self._snapshots[member.cloud_id] is not None and member.id not in self._unreadable

    def _value(self, member: models.Member, seen: Mapping[str, Columns]) -> values.Member:
        value = _value(member, seen.get(member.id, {}), self._in_sight(member))
        if member.id in self._put_off:
            value = dataclasses.replace(value, put_off=self._put_off[member.id])
        if member.id in self._unreadable and value.verdict is values.Verdict.HEALTHY:
            # For this stack and this round: the others go on without it.
            return dataclasses.replace(
                value,
                verdict=values.Verdict.SUSPECT,
                verdict_reason=self._unreadable[member.id],
            )
        return value

    def _to_be_read(self, member: models.Member) -> bool:
        """Whether the listing does not tell all there is to know of the member's Heat stack."""
        snapshot = self._snapshots[member.cloud_id]
        if snapshot is None:
            return False
        if member.heat_stack_id is None:
            # Unless nothing was ever asked for there.
            return not self._stack.templated or member.written_at is not None
        if self._interrupted:
            return True
        if member.busy_since is not None and self._wanted.retry_stuck:
            # Before it is sent again: an engine that stood still has not seen that it was done long ago.
            if (self._moment - member.busy_since).total_seconds() >= self._wanted.deadline:
                return True
        row = snapshot.heat_stacks.get(member.heat_stack_id)
        if row is not None and observe.is_known(row, member):
            return False
        # What we began after that listing, the next one will tell.
        unseen_write = member.written_at is not None and member.written_at >= snapshot.at
        return not (unseen_write and (member.heat_status or "").endswith("_IN_PROGRESS"))

    def _read(self, member: models.Member) -> Columns:
        """What is new about a member's Heat stack."""
        try:
            return self._reading(member, self._find(member))
        except heat.HeatError as error:
            if error.outcome is values.Outcome.REJECTED:
                columns = self._failed(member, error, "read")
            else:
                # How it stands is not known now, so it is left alone in this round.
                self._unreadable[member.id] = error.detail
                columns = self._soon(member, error) or self._back_off(member, member.problem)
            if member.heat_updated_time not in _UNCERTAIN:
                columns["heat_updated_time"] = _UNREAD
            return columns

    def _find(self, member: models.Member) -> heat.HeatStack | None:
        """The member's Heat stack as it is now, by id, by our tag, or by name."""
        connection = self._connection(member)
        if member.heat_stack_id is not None:
            return heat.get_stack(connection, self._stack.name, member.heat_stack_id)
        if not self._stack.templated:
            return heat.get_stack(connection, self._stack.name)
        return heat.find_stack(connection, observe.member_tag(member.id))

    def _reading(self, member: models.Member, found: heat.HeatStack | None) -> Columns:
        """What a Heat stack that was just read, or its absence, says of the member."""
        now = self._now()
        if found is None:
            gone: Columns = {
                "heat_stack_id": None,
                "heat_status": None,
                "heat_status_reason": "",
                "heat_updated_time": None,
                "observed_count": None,
                "observed_at": now,
                "held": 0,
                "confirmed": 0,
                "busy_since": None,
                "deleting": False,
            }
            if member.heat_stack_id is None or member.leaving or self._stack.deleting:
                return gone
            return gone if member.deleting else gone | self._missing(member)
        columns: Columns = {
            "heat_stack_id": found.id,
            "heat_status": found.status,
            "heat_status_reason": found.status_reason,
            "heat_updated_time": found.updated_time,
            "observed_at": now,
            "busy_since": (member.busy_since or now) if found.in_progress else None,
            "missing_since": None,
        }
        failed_now = found.failed and found.status != member.heat_status
        if found.deleting:
            columns["confirmed"] = 0
            return columns | (self._heat_failed(member, found, 0) if failed_now else {})
        count = found.count(self._stack.count_parameter)
        unsure = self._interrupted or member.heat_updated_time in _UNCERTAIN
        if found.in_progress:
            # Without convergence Heat shows the old parameters until the update is complete, so it may be
            # on the way to fewer.
            if unsure:
                columns["heat_updated_time"] = _UNCOUNTED
            return columns | {"confirmed": min(member.confirmed, count)}
        columns |= {"observed_count": count, "held": count}
        if found.complete:
            columns["confirmed"] = count
            if member.heat_updated_time not in _UNCERTAIN or (found.status, count) != (
                member.heat_status,
                member.observed_count,
            ):
                columns |= {"failures": 0, "retry_at": None}
                if member.capacity is None or count > member.capacity:
                    columns |= {"problem": "", "capacity": None, "full_until": None, "fulls": 0}
            # Else a write of ours was refused, and nothing has moved since: it has to wait.
            if member.observed_count is not None and count != member.held and not unsure:
                columns |= self._drift(member, found, count)
            return columns
        columns["confirmed"] = min(member.confirmed, count)
        if failed_now:
            return columns | self._heat_failed(member, found, count)
        # What was learned when it failed stands: a raise is to be taken back.
        return columns | {"held": member.held}

    def _missing(self, member: models.Member) -> Columns:
        """The Heat stack that was there is gone, and we have not deleted it."""
        name = member.cloud.name
        self._event(
            member,
            "member.missing",
            f"The Heat stack in cloud '{name}' is gone.",
            before=member.observed_count,
        )
        columns: Columns = {"missing_since": self._now(), **self._fought(member)}
        if self._wanted.lost is values.Missing.RECREATE and columns["drifts"] > 1:
            columns |= {
                "conflict": True,
                "problem": f"Somebody deleted the Heat stack in cloud '{name}' again after it was made "
                "anew: ask who else works in that project.",
            }
        return columns

    def _drift(self, member: models.Member, found: heat.HeatStack, count: int) -> Columns:
        """Somebody else has changed the count parameter: take it back, or leave it, once."""
        left_alone = member.conflict or self._wanted.drift is not values.Drift.HEAL
        columns: Columns = {"held": member.held} if left_alone else {}
        if count == member.observed_count:
            return columns  # seen before
        name, parameter = member.cloud.name, self._stack.count_parameter
        if self._wanted.drift is not values.Drift.IGNORE:
            self._event(
                member,
                "member.drift",
                f"Somebody else changed {parameter} in cloud '{name}' from {member.held} to {count}.",
                before=member.held,
                after=count,
            )
        if left_alone:
            return columns
        columns |= self._fought(member)
        if columns["drifts"] > 1:
            whom = (
                f"Its owner in that cloud is user '{found.owner}'; ask" if found.owner else "Ask"
            )
            columns |= {
                "held": member.held,
                "conflict": True,
                "problem": f"Somebody changed {parameter} in cloud '{name}' to {count} again, after it "
                f"was set back to {member.held}. {whom} who else changes Heat stack "
                f"'{found.name}', then say retry, or change the stack.",
            }
            self._event(member, "member.conflict", columns["problem"], member.held, count)
        return columns

    def _fought(self, member: models.Member) -> Columns:
        """Count a change by somebody else, together with those of the last hour."""
        now = self._now()
        recent = member.drifted_at is not None and (now - member.drifted_at) < datetime.timedelta(
            hours=1
        )
        return {"drifts": member.drifts + 1 if recent else 1, "drifted_at": now}

    def _heat_failed(self, member: models.Member, found: heat.HeatStack, count: int) -> Columns:
        """Heat took a change and could not carry it out."""
        name = member.cloud.name
        self._event(
            member,
            "member.failed",
            f"Heat failed in cloud '{name}': {found.status_reason}",
            after=found.status,
        )
        problem = f"Heat says {found.status}: {found.status_reason}".rstrip(".") + "."
        if found.status == "CHECK_FAILED":
            return {"problem": problem}
        raised = count > member.confirmed and found.status in ("CREATE_FAILED", "UPDATE_FAILED")
        if raised and not found.interrupted:
            # A raise that the row does not know of came after what it does know was accepted, and may
            # run although nobody was left to say so.
            room = member.confirmed if member.held >= count else max(member.confirmed, member.held)
            return {"held": room} | self._full(member, room, problem)
        return self._back_off(member, problem)

    # --- apply ------------------------------------------------------------------------------------

    def _renew(self, seen: Mapping[str, Columns], decided: plan.Plan) -> None:
        """Make sure of the claim before the first write, and store what a crash must not lose.

        A create leaves its time in the row before it is sent: whoever comes next looks for the tag
        first, and so never creates twice. Units that this round has found are stored before their Heat
        stack is changed: after a change that failed nobody could tell any more that they run.
        """
        intents = {
            step.member: {"written_at": self._now(), "creating": True}
            for step in decided.steps
            if step.action is plan.Action.CREATE
        }
        rows = {
            member_id: {**seen.get(member_id, {}), **intents.get(member_id, {})}
            for member_id in seen.keys() | intents.keys()
        }
        known = {member.id: member.confirmed for member in self._stack.members}
        found = any(
            seen.get(step.member, {}).get("confirmed", 0) > known[step.member]
            for step in decided.steps
        )
        now = time.monotonic()
        # Until then our own clock answers for the claim, before each write and at the end.
        stale = now - self._renewed > self._settings.claim_lease / 3
        if not (stale or intents or found):
            return
        if stale:
            if not db_rounds.renew_claim(self._ctx, self._stack, self._settings.claim_lease):
                raise ClaimLost
            # From before it was asked for: a process that is stopped in between must not believe that
            # it has just been renewed.
            self._renewed = now
        if not db_rounds.save_members(self._ctx, self._stack, rows, self._events):
            raise ClaimLost
        if intents:
            try:
                self._content = db_stacks.get_stack(self._ctx, self._stack.id, None)
            except exception.StackNotFound:
                raise ClaimLost from None
        self._stored = rows
        self._events = []

    def _apply(self, member: models.Member, step: plan.Step) -> Columns:
        """Carry out one step in one cloud; a refusal is data, not an exception."""
        try:
            columns = self._write(self._connection(member), member, step)
        except heat.TooLate:
            raise ClaimLost from None
        except heat.HeatError as error:
            return self._failed(member, error, step.action, step)
        self._observer.hurry(member.cloud_id)
        self._event(
            member,
            f"member.{step.action}",
            _SAID[step.action]
            % {"cloud": member.cloud.name, "before": step.before, "units": step.units},
            before=step.before,
            after=step.units,
            evidence=self._evidence(self._views[member.id].reason),
        )
        now = self._now()
        return columns | {"written_at": now, "busy_since": now, "heat_updated_time": None}

    def _write(self, connection: Any, member: models.Member, step: plan.Step) -> Columns:
        stack = self._stack
        heat_stack_id = self._after_reading(member, "heat_stack_id") or ""
        # A process that stood still, or waited for a token, must not write after its lease.
        not_after = self._renewed + self._settings.claim_lease - self._settings.timeout
        if step.action is plan.Action.CREATE:
            content = self._content
            assert content is not None  # noqa: S101 - read before the first write
            heat_id = heat.create_stack(
                connection,
                name=stack.name,
                template=content.template or "",
                environment=content.environment,
                files=content.files,
                parameters=stack.parameters
                | member.parameters
                | {stack.count_parameter: step.units},
                tags=[
                    observe.TAG,
                    f"heat-spreader-stack-{stack.id}",
                    observe.member_tag(member.id),
                ],
                timeout_mins=stack.timeout_mins,
                not_after=not_after,
            )
            return {
                "heat_stack_id": heat_id,
                "heat_status": "CREATE_IN_PROGRESS",
                "observed_count": step.units,
                "held": step.units,
                "confirmed": 0,
                # An earlier one that was not answered may be carried out yet, once this one is deleted.
                "creating": member.creating,
                "missing_since": None,
            }
        if step.action is plan.Action.DELETE:
            heat.delete_stack(connection, stack.name, heat_stack_id, not_after)
            return {"heat_status": "DELETE_IN_PROGRESS", "confirmed": 0, "deleting": True}
        if step.action is plan.Action.CHECK:
            heat.check_stack(connection, stack.name, heat_stack_id, not_after)
            return {"heat_status": "CHECK_IN_PROGRESS", "check_asked": False}
        heat.resize(
            connection,
            stack.name,
            heat_stack_id,
            stack.count_parameter,
            step.units,
            timeout_mins=stack.timeout_mins,
            with_template=self._after_reading(member, "heat_status")
            in ("CREATE_FAILED", "CHECK_FAILED"),
            not_after=not_after,
        )
        columns: Columns = {
            "heat_status": "UPDATE_IN_PROGRESS",
            "observed_count": step.units,
            "held": step.units,
        }
        # Not simply the new number: of what Heat failed at, fewer may run than it was asked for.
        columns["confirmed"] = min(self._after_reading(member, "confirmed"), step.units)
        return columns

    def _told_afterwards(self, decided: plan.Plan, written: Mapping[str, Columns]) -> plan.Plan:
        """The same decision, told of the members as its steps have left them."""
        members = [
            dataclasses.replace(
                self._value(m, written),
                out=m.id in decided.out,
                floor=decided.floors[m.id],
                returning=m.id in decided.returning,
            )
            for m in self._stack.members
        ]
        told = plan.plan(self._wanted, members, self._moment)
        return dataclasses.replace(told, steps=decided.steps)

    def _failed(
        self,
        member: models.Member,
        error: heat.HeatError,
        doing: str,
        step: plan.Step | None = None,
    ) -> Columns:
        """What a cloud's refusal means for the member."""
        # After an answer that was lost the listing before no longer tells how the Heat stack stands.
        columns: Columns = {"heat_updated_time": _UNSURE, "written_at": self._now()}
        if step and step.action is plan.Action.CREATE and not error.maybe_done:
            # True where an earlier create may be carried out yet.
            columns["creating"] = member.creating
        if step and error.maybe_done and step.units < step.before:
            # Perhaps it does not run any more, so nobody is lowered in return for it.
            columns["confirmed"] = min(self._after_reading(member, "confirmed"), step.units)
        problem = f"Cloud '{member.cloud.name}' did not {doing}: {error.detail}"
        failures = member.failures + 1
        if (
            step
            and step.action in (plan.Action.CREATE, plan.Action.RESIZE)
            and step.units > step.before
            and not error.maybe_done
            and plan.is_full(step.action, error.outcome, quota=error.quota, failures=failures)
        ):
            return columns | self._full(member, self._after_reading(member, "held"), problem)
        if soon := self._soon(member, error):
            return columns | soon
        if problem != member.problem:
            self._event(member, "member.refused", problem, evidence={"outcome": error.outcome})
        return columns | self._back_off(member, problem)

    def _full(self, member: models.Member, capacity: int, problem: str) -> Columns:
        """The cloud takes no more than this for a while: its further units are for the others."""
        until = self._now() + datetime.timedelta(
            seconds=self._settings.full_for * min(2**member.fulls, 16)
        )
        self._event(
            member,
            "member.full",
            f"Cloud '{member.cloud.name}' is held for full at {capacity} unit(s) until {until:%H:%M:%S} "
            f"UTC: {problem}",
            member.held,
            capacity,
        )
        return {
            "capacity": capacity,
            "full_until": until,
            "fulls": member.fulls + 1,
            "failures": 0,
            "retry_at": None,
            "problem": problem,
        }

    def _soon(self, member: models.Member, error: heat.HeatError) -> Columns:
        """When to try again what nobody has to put right; empty where somebody has to."""
        if error.outcome is values.Outcome.UNREACHABLE:
            # The verdict is the observer's; until it has looked again nothing more is sent there.
            self._observer.hurry(member.cloud_id, doubt=True)
        elif error.outcome is not values.Outcome.BUSY or error.quota:
            return {}
        return {
            "failures": member.failures + (error.outcome is values.Outcome.BUSY),
            "retry_at": self._shortly(member.failures),
        }

    def _back_off(self, member: models.Member, problem: str) -> Columns:
        delay = min(2**member.failures, 20) * self._settings.retry_interval
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, keeps no secret
        return {
            "failures": member.failures + 1,
            "retry_at": self._now() + datetime.timedelta(seconds=delay),
            "problem": problem,
        }

    def _forget(self, member: models.Member) -> None:
        """Drop a member of which nothing of ours is left in its cloud."""
        try:
            if not db_rounds.forget_member(self._ctx, self._stack, member):
                raise ClaimLost
        except exception.ConcurrentUpdate:
            return  # a user may have taken it back: the next round knows
        self._forgotten.add(member.id)
        if not self._stack.deleting:
            self._event(
                member,
                "member.left",
                f"Cloud '{member.cloud.name}' is no longer part of the stack.",
            )
        elif member.owned and (
            member.cloud.lost or (self._stack.forget and not self._in_sight(member))
        ):
            self._event(
                member,
                "member.forgotten",
                f"Cloud '{member.cloud.name}' is out of sight, and what may be left there of the stack "
                f"is forgotten: Heat stack {member.heat_stack_id or 'without a known id'}.",
                before=member.held,
            )

    # --- save -------------------------------------------------------------------------------------

    def _save(
        self,
        decided: plan.Plan,
        members: list[values.Member],
        written: dict[str, Columns],
    ) -> None:
        stack = self._stack
        if stack.deleting and self._forgotten == {m.id for m in stack.members}:
            message = "Released." if stack.release else "Deleted."
            if not db_rounds.finish_delete(self._ctx, stack, message, self._events):
                raise ClaimLost
            LOG.info("Stack %s: %s", stack.id, message)
            return
        now = self._now()
        # An engine that has just begun, or that is cut off from a cloud which others see, is no news
        # of a stack that was well.
        waits = decided.waits and stack.status in ("ACTIVE", "DEGRADED", "ERROR")
        rows: dict[str, Columns] = {}
        for row, member in zip(stack.members, members, strict=True):
            if row.id in self._forgotten:
                continue
            view = decided.views[row.id]
            out = row.id in decided.out
            columns = {
                "share": decided.shares[row.id],
                "floor": decided.floors[row.id],
                "coming_back": row.id in decided.returning,
                # What was said of a cloud that was back is not said of it when it is back again.
                "recalled": out and row.recalled and member.verdict is values.Verdict.HEALTHY,
                "out_since": (row.out_since or now) if out else None,
                "status": view.status,
                "status_reason": view.reason,
            } | written.get(row.id, {})
            if view.status is plan.MemberStatus.ACTIVE:
                columns |= {"problem": "", "failures": 0, "retry_at": None}
                if member.observed == columns["share"]:
                    # Nobody has anything to fight about any more.
                    columns |= {"held": member.observed, "conflict": False}
            if waits:
                del columns["status"], columns["status_reason"], columns["share"]
            rows[row.id] = _changes(row, self._stored.get(row.id, {}), columns)
        values_: Columns = {
            "status": decided.status,
            "status_reason": decided.reason,
            "ledger": dataclasses.asdict(decided.ledger),
        }
        if waits:
            values_ = {}
        if decided.applied:
            values_["observed_generation"] = stack.generation
        if decided.status != stack.status and not waits:
            LOG.info(
                "Stack %(stack)s: %(before)s → %(after)s: %(reason)s",
                {
                    "stack": stack.id,
                    "before": stack.status,
                    "after": decided.status,
                    "reason": decided.reason,
                },
            )
            self._event(
                None, "stack.status", decided.reason, before=stack.status, after=decided.status
            )
        if not db_rounds.save_round(
            self._ctx,
            stack,
            values=values_,
            members=rows,
            events=self._events,
            due_in=self._due_in(decided),
        ):
            raise ClaimLost

    def _due_in(self, decided: plan.Plan) -> float:
        """When to look again although the observers see nothing move."""
        due = self._settings.resync_interval * random.uniform(0.8, 1.0)  # noqa: S311
        if not decided.applied:
            due = min(due, self._settings.retry_interval)
        if decided.wake_in is not None:
            due = min(due, decided.wake_in + 0.05)
        if self._at_once or any(step.action is plan.Action.FORGET for step in decided.steps):
            due = 0.0
        if any(step.action is plan.Action.CREATE for step in decided.steps):
            # A listing that showed the Heat stack before its id was stored could not tell whose it
            # was, and no later one sees it move.
            due = min(due, 1.0)
        return due

    def _record_failover(self, decided: plan.Plan) -> None:
        """One event for each cloud that goes out of the allocation or comes back into it."""
        for member in self._stack.members:
            was, is_ = member.out_since is not None, member.id in decided.out
            if was == is_ or self._stack.deleting:
                continue
            cloud = member.cloud
            said = (
                f"Cloud '{cloud.name}' is out of sight: its {member.held} unit(s) go to the others."
                if is_
                else f"Cloud '{cloud.name}' is back: it takes part again."
            )
            LOG.warning("Stack %s: %s", self._stack.id, said)
            self._observer.metrics.moved("failover" if is_ else "failback", cloud)
            self._event(
                member,
                "stack.failover" if is_ else "stack.failback",
                said,
                before={m.cloud.name: m.share for m in self._stack.members},
                after={m.cloud.name: decided.shares[m.id] for m in self._stack.members},
                evidence={
                    "verdict": cloud.verdict,
                    "rule": cloud.verdict_rule,
                    "missed_since": cloud.missed_since.isoformat() if cloud.missed_since else None,
                    "since": cloud.verdict_since.isoformat() if cloud.verdict_since else None,
                    "reason": cloud.verdict_reason,
                },
            )

    def _evidence(self, why: str) -> dict[str, Any]:
        """What a move rests on: the reason, and the verdicts on those clouds that are not well."""
        return {
            "reason": why,
            "clouds": {
                m.cloud.name: {
                    "verdict": m.cloud.verdict,
                    "rule": m.cloud.verdict_rule,
                    "since": m.cloud.verdict_since.isoformat() if m.cloud.verdict_since else None,
                    "lost": m.cloud.lost,
                }
                for m in self._stack.members
                if m.cloud.verdict != values.Verdict.HEALTHY or m.cloud.lost
            },
        }

    def _tell_of_failover(self, decided: plan.Plan, written: Mapping[str, Columns]) -> None:
        """If the last of the raises that were to replace what went away has just been accepted."""
        stack = self._stack
        out = [m.cloud for m in stack.members if m.id in decided.out]
        missed = [cloud.missed_since for cloud in out if cloud.missed_since is not None]
        if not missed or stack.generation != stack.observed_generation:
            return
        for m in stack.members:
            held = written.get(m.id, {}).get("held", m.held)
            if m.id not in decided.out and held < decided.shares[m.id]:
                return
        self._observer.metrics.failed_over((self._now() - max(missed)).total_seconds())

    def _after_reading(self, member: models.Member, column: str) -> Any:
        """A column of the member as this round has read it, of the row where it read nothing."""
        return self._seen.get(member.id, {}).get(column, getattr(member, column))

    # --- small things -----------------------------------------------------------------------------

    def _in_parallel(
        self,
        members: Sequence[models.Member],
        work: Callable[[models.Member], Columns],
        put_off: dict[str, str],
        begin: Callable[[], datetime.datetime] | None = None,
    ) -> dict[str, Columns]:
        """Do ``work`` for each member in its cloud's lane; wait for all.

        :param put_off: gets the members whose cloud takes no request now; they are tried again soon
        :param begin: see ``lanes.Lanes.run``
        """
        done = self._lanes.run(
            {m.id: (m.cloud_id, functools.partial(work, m)) for m in members}, begin
        )
        for member in members:
            result = done[member.id]
            if isinstance(result, lanes.PutOff):
                put_off[member.id] = f"cloud '{member.cloud.name}' {result.reason}"
                # A tenth of a second for each of those before it.
                behind = min(0.1 * result.before, self._settings.retry_interval)
                done[member.id] = {
                    "retry_at": self._shortly() + datetime.timedelta(seconds=behind)
                }
        return done

    def _shortly(self, failures: int = 0) -> datetime.datetime:
        """When to try again what nobody has to put right: soon, and not all at the same moment.

        :param failures: how many times in a row it was tried; after some it is hardly so soon
        """
        delay = self._settings.retry_interval * random.uniform(0.1, 0.3)  # noqa: S311
        delay *= min(2 ** (failures // 3), 100)
        return self._now() + datetime.timedelta(seconds=delay)

    def _connection(self, member: models.Member) -> Any:
        return self._connections.reach(member.cloud)

    def _now(self) -> datetime.datetime:
        """The database's time, carried on by our own clock since the claim."""
        return self._moment + datetime.timedelta(seconds=time.monotonic() - self._began)

    def _event(
        self,
        member: models.Member | None,
        type: str,
        message: str,
        before: Any = None,
        after: Any = None,
        evidence: Any = None,
    ) -> None:
        self._events.append(
            {
                "type": type,
                "message": message,
                "cloud": member.cloud if member else None,
                "before": before,
                "after": after,
                "evidence": evidence,
            }
        )


_SAID = {
    plan.Action.CREATE: "Heat stack with %(units)s unit(s) created in cloud '%(cloud)s'.",
    plan.Action.RESIZE: "Cloud '%(cloud)s': %(before)s → %(units)s unit(s).",
    plan.Action.CHECK: "Heat in cloud '%(cloud)s' was asked to check its %(units)s unit(s).",
    plan.Action.DELETE: "Heat stack with %(before)s unit(s) deleted in cloud '%(cloud)s'.",
}


def _changes(row: models.Member, stored: Columns, columns: Columns) -> Columns:
    """Only what differs from the row as it is stored, so that a quiet round writes no member."""
    return {
        key: value for key, value in columns.items() if stored.get(key, getattr(row, key)) != value
    }


def _wanted(stack: models.Stack, brakes: Sequence[Any], settings: Settings) -> values.Stack:
    def latest(column: str) -> datetime.datetime | None:
        return max((at for brake in brakes if (at := getattr(brake, column))), default=None)

    return values.Stack(
        id=stack.id,
        name=stack.name,
        count=stack.count,
        count_parameter=stack.count_parameter,
        rule=stack.failover_rule,
        rounding=stack.rounding,
        min_clouds=stack.min_clouds,
        surge=stack.surge,
        toleration=stack.failover_toleration,
        stable=stack.failback_stable,
        templated=stack.templated,
        deleting=stack.deleting,
        release=stack.release,
        forget=stack.forget,
        rebalance=values.Rebalance(stack.rebalance_mode),
        step=stack.rebalance_step,
        drift=values.Drift(stack.on_drift),
        lost=values.Missing(stack.on_missing),
        retry_stuck=stack.on_stuck == "retry",
        # Heat gives up by itself after its time; a minute later it should have said so.
        deadline=settings.update_deadline
        if stack.timeout_mins is None
        else stack.timeout_mins * 60 + 60,
        ceiling=settings.stable_ceiling,
        failback=values.Failback(stack.failback_mode),
        batch=stack.failback_batch,
        brake=" ".join(brake.reason for brake in brakes if brake.engaged_at),
        braked_at=latest("engaged_at"),
        hold_until=latest("hold_until"),
        calm_since=latest("released_at"),
        forced_at=stack.forced_at,
    )


def _value(member: models.Member, seen: Columns, in_sight: bool) -> values.Member:
    """The row as it stands after what was just read."""

    def get(column: str) -> Any:
        return seen.get(column, getattr(member, column))

    cloud = member.cloud
    return values.Member(
        id=member.id,
        cloud=member.cloud_id,
        name=cloud.name,
        weight=allocation.parse_weight(member.weight),
        minimum=member.minimum,
        maximum=member.maximum,
        priority=member.priority,
        leaving=member.leaving,
        owned=member.owned,
        verdict=values.Verdict(cloud.verdict),
        verdict_since=cloud.verdict_since,
        verdict_reason=cloud.verdict_reason,
        seen=in_sight,
        cordoned=cloud.cordoned,
        draining=cloud.draining,
        phase=_phase(get("heat_stack_id"), get("heat_status")),
        heat_status=get("heat_status") or "",
        heat_status_reason=get("heat_status_reason") or "",
        held=get("held"),
        observed=get("observed_count"),
        confirmed=0 if get("heat_updated_time") == _UNCOUNTED else get("confirmed"),
        out=member.out_since is not None,
        floor=member.floor,
        lost=cloud.lost,
        returning=member.coming_back,
        recalled=member.recalled,
        relapses=cloud.relapses,
        problem=get("problem"),
        retry_at=get("retry_at"),
        capacity=get("capacity"),
        full_until=get("full_until"),
        busy_since=get("busy_since"),
        conflict=get("conflict"),
        missing=get("missing_since") is not None,
        check_asked=get("check_asked"),
        share=member.share,
    )


def _phase(heat_stack_id: str | None, heat_status: str | None) -> values.Phase:
    if heat_stack_id is None or heat_status is None:
        return values.Phase.ABSENT
    if heat_status == "DELETE_IN_PROGRESS":
        return values.Phase.DELETING
    if heat_status.endswith("_IN_PROGRESS"):
        return values.Phase.BUSY
    return values.Phase.FAILED if heat_status.endswith("_FAILED") else values.Phase.IDLE
