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

"""The only part of the simulator that knows how the product is put together.

It gives the product a database, a clock and threads that are simulated, builds engines out of its
parts, and tells the rest of the simulator in plain values what stands in the rows.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import datetime
import functools
import inspect
import json
import logging
import random
import traceback
import types
from typing import Any
import uuid

import oslo_context.context
from oslo_db import exception as db_exc
from oslo_utils import uuidutils

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import api as db_api
from heat_spreader.db import brakes as db_brakes
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import engines as db_engines
from heat_spreader.db import events as db_events
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.engine import heat as spreader_heat
from heat_spreader.engine import lanes
from heat_spreader.engine import observe
from heat_spreader.engine import reconcile
from heat_spreader.engine import service
from heat_spreader.engine.core import allocation
from heat_spreader.tests.simulation import database as simulated_database
from heat_spreader.tests.simulation import heats
from heat_spreader.tests.simulation import schedule

NOUNS = (db_brakes, db_clouds, db_engines, db_events, db_rounds, db_stacks)
# Modules that wait, measure time or draw lots.
TIMED = (db_api, spreader_heat, lanes, observe, reconcile, service)
# Long after now, so that no time of this machine can be taken for one of the simulation.
BEGINNING = datetime.datetime(2100, 1, 1)
TAG, MEMBER_TAG = observe.TAG, "heat-spreader-member-"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What an operator would set: seconds and counts."""

    lease: float
    timeout: float
    retry_interval: float
    resync_interval: float
    sweep_interval: float
    probe_interval: float
    probe_timeout: float
    progress_interval: float
    max_in_progress: int
    full_for: float
    update_deadline: float
    misses: int
    goods: int
    brake_window: float = 300.0
    stable_ceiling: int = 3600


@dataclasses.dataclass(frozen=True)
class Task:
    """A claim that an engine holds, or believes to hold.

    :ivar braked: the scopes of the brakes that were on when the stack was claimed
    :ivar late: of a request: a Heat carries it out when nobody waits for it any more
    """

    stack: str
    epoch: int
    engine: str
    moment: float
    until: float
    generation: int
    verdicts: dict[str, str]
    late: bool = False
    braked: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"round {self.epoch}"


_database: simulated_database.Database | None = None


def database() -> simulated_database.Database:
    global _database
    if _database is None:
        logging.disable(logging.CRITICAL)
        _database = simulated_database.Database()
        for noun in NOUNS:
            for name, function in inspect.getmembers(noun, inspect.isfunction):
                if (
                    function.__module__ == noun.__name__
                    and next(iter(inspect.signature(function).parameters), None) == "ctx"
                ):
                    setattr(noun, name, _watched(name, function))
    return _database


# The world that is simulated in this process.
_world: "World | None" = None


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A query, and the moments before and after it in which somebody else may come first."""

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        world = _world
        if world is None or world.schedule.current is None:
            return function(*args, **kwargs)
        if name == "claim_due" and not world.anything_due():
            # A question that would find nothing has no effect, and there are many of them.
            return []
        world.schedule.pause()
        result = world.query(name, function, args, kwargs)
        world.schedule.pause()
        return result

    return watched


@dataclasses.dataclass(eq=False)
class Query:
    """A function of the database at work: one transaction, or more of them when it has to retry.

    :ivar before: epoch and lease of the stack as the transaction that wrote had found them
    :ivar wrote: something was committed
    """

    name: str
    task: Task | None
    before: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    wrote: bool = False
    # Of the transaction under way.
    found: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)
    changes: int = 0
    writes: bool = False


@dataclasses.dataclass(frozen=True)
class Illness:
    """For a while the database does not do as it is told.

    :ivar kind: "deadlock": another transaction has its way; "away": it does not answer; "lost": it
        commits and does not say so
    """

    kind: str
    begun: float
    until: float
    often: float


@dataclasses.dataclass(frozen=True)
class MemberRow:
    id: str
    cloud: str
    heat_stack_id: str | None
    weight: str
    minimum: int
    maximum: int | None
    priority: int
    leaving: bool
    owned: bool
    share: int | None
    held: int
    confirmed: int
    floor: int | None
    out: bool
    status: str
    reason: str
    heat_status: str | None
    conflict: bool


@dataclasses.dataclass(frozen=True)
class StackRow:
    id: str
    name: str
    count: int
    generation: int
    observed_generation: int
    status: str
    reason: str
    ledger: dict[str, int]
    deleting: bool
    release: bool
    rule: str
    rounding: str
    min_clouds: int
    surge: int | None
    epoch: int
    claimed_until: float | None
    due: float | None
    rebalance: str
    step: int
    on_drift: str
    on_missing: str
    on_stuck: str
    failback: str
    forced: bool
    members: tuple[MemberRow, ...]


@dataclasses.dataclass(frozen=True)
class CloudRow:
    id: str
    name: str
    verdict: str
    cordoned: bool
    draining: bool


_STACK = """SELECT id, name, count, generation, observed_generation, status, status_reason, ledger,
    deleting, release, failover_rule, rounding, min_clouds, surge, claim_epoch, claimed_until, due_at,
    rebalance_mode, rebalance_step, on_drift, on_missing, on_stuck, failback_mode,
    forced_at IS NOT NULL FROM stacks"""
_MEMBER = """SELECT m.id, c.name, heat_stack_id, weight, minimum, maximum, priority, leaving, owned,
    share, held, confirmed, floor, out_since IS NOT NULL, status, status_reason, heat_status, conflict
    FROM members m JOIN clouds c ON c.id = m.cloud_id WHERE stack_id = ? ORDER BY position"""


def seconds(moment: str | datetime.datetime | None) -> float | None:
    """A time of the database on the simulation's clock."""
    if moment is None:
        return None
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    return (moment - BEGINNING).total_seconds()


class Violation(Exception):
    """Something that must never be."""


class _Log:
    """In the place of a module's logger: what an operator would be woken up for is a violation."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def debug(self, *_: Any) -> None:
        pass

    info = warning = error = debug

    def exception(self, message: str, *args: Any) -> None:
        world = self._world
        said = f"{message % args}: {traceback.format_exc()}"
        world.tell(world.who(), "VIOLATED: unexpected error", said)
        world.schedule.trouble = Violation(said)


class World:
    """Heats, a database and engines under one clock.

    :ivar watch: what looks at everything that happens; see ``invariants``
    """

    def __init__(self, seed: int, settings: Settings, names: list[str], convergence: bool) -> None:
        self.database = database()
        self.random = random.Random(seed)
        self._ids = random.Random(seed + 1)
        self.settings = settings
        self.schedule = schedule.Schedule(self.random)
        self.trace: list[tuple[Any, ...]] = []
        self.engines: list[Engine] = []
        self.heats = {
            name: heats.Heat(name, self.schedule, convergence=convergence, new_id=self.new_id)
            for name in names
        }
        self.cloud_ids: dict[str, str] = {}
        # Hosts that cannot reach a cloud although it works, and the zones that hosts are in.
        self.cuts: dict[tuple[str, str], float] = {}
        self.zones: dict[str, str] = {}
        self.watch: Any = None
        self.illnesses: list[Illness] = []
        self.suffered: Callable[[str], None] = lambda kind: None
        self.user = context.RequestContext(
            user_id="user", project_id="p", request_id="req-user", overwrite=False
        )
        self._number = 0

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))

    def __enter__(self) -> "World":
        global _world
        self.database.empty()
        self.database.passed = self._passed
        _world = self
        time, threading = schedule.Time(self.schedule), schedule.Threading(self.schedule)
        futures = schedule.Futures(self.schedule)
        replaced: list[tuple[Any, str, Any]] = [
            (db_api, "now", self._now),
            (uuidutils, "generate_uuid", lambda dashed=True: self.new_id()),
            (oslo_context.context, "generate_request_id", lambda: "req-engine"),
        ]
        for module in TIMED:
            for name, value in (
                ("time", time),
                ("threading", threading),
                ("futures", futures),
                ("random", self.random),
                ("LOG", _Log(self)),
            ):
                if hasattr(module, name):
                    replaced.append((module, name, value))
        self._before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
        for module, name, value in replaced:
            setattr(module, name, value)
        for name in self.heats:
            self.cloud_ids[name] = db_clouds.create_cloud(
                self.user,
                {
                    "name": name,
                    "project_id": "p",
                    "kind": "config",
                    "config_cloud": name,
                    "shared": True,
                },
            ).id
        return self

    def __exit__(self, *_: object) -> None:
        global _world
        self.schedule.close()
        self.database.passed = lambda stage: None
        _world = None
        for module, name, value in self._before:
            setattr(module, name, value)

    def _now(self, session: Any = None) -> datetime.datetime:
        # No two moments are the same.
        self.schedule.now += 0.000001
        return BEGINNING + datetime.timedelta(seconds=self.schedule.now)

    # --- what is said of what happens ---------------------------------------------------------------

    def tell(self, who: str, what: str, *more: Any) -> None:
        self.trace.append((self.schedule.now, who, what, *more))

    def who(self) -> str:
        actor = self.schedule.current
        if actor is None:
            return "-"
        return f"{actor.process.name} {actor.name}" if actor.process else actor.name

    # --- the database -------------------------------------------------------------------------------

    def query(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Run one function of the database for the actor of the moment, and look at what it did."""
        actor = self.schedule.current
        assert actor is not None  # others are not watched
        task = actor.task
        query = actor.query = Query(name, task if isinstance(task, Task) else None)
        error: Exception | None = None
        result = None
        try:
            result = function(*args, **kwargs)
        except exception.SpreaderException as exc:
            error = exc
        wrote = query.wrote
        if wrote or error is not None:
            self.tell(
                self.who(),
                name,
                str(task) if task else "",
                type(error).__name__ if error else result if isinstance(result, bool) else "",
            )
        if wrote and error is None and name in ("create_stack", "update_stack"):
            self.watch.wanted(result.id, result.name, deleting=result.deleting)
        elif wrote and name == "update_cloud":
            self.watch.cloud_changed()
        elif wrote:
            if isinstance(task, Task):
                self.watch.wrote(name, task, query.before, result)
                if name == "renew_claim" and result:
                    actor.task = dataclasses.replace(
                        task, until=self.schedule.now + self.settings.lease
                    )
            elif name == "set_verdict":
                cloud, verdict = args[1], args[2]
                if cloud.verdict != verdict:
                    self.tell(self.who(), "verdict", cloud.name, cloud.verdict, "→", str(verdict))
        if error is not None:
            raise error
        return result

    def _passed(self, stage: str) -> None:
        """A transaction of the actor of the moment has come so far."""
        actor = self.schedule.current
        query = actor.query if actor is not None else None
        if actor is None or query is None:
            return
        if stage == "begin":
            query.changes = self.database.connection.total_changes
            query.writes = False
            if query.task is not None:
                query.found = self.database.rows(
                    "SELECT claim_epoch, claimed_until FROM stacks WHERE id = ?", query.task.stack
                )
        elif stage == "commit":
            query.writes = self.database.connection.total_changes != query.changes
        elif query.writes:
            query.wrote, query.before = True, query.found
        if self.illnesses and actor.process is not None:
            self._suffer(stage, query)

    def _suffer(self, stage: str, query: Query) -> None:
        for ill in self.illnesses:
            if not ill.begun <= self.schedule.now < ill.until or self.random.random() > ill.often:
                continue
            if ill.kind == "away" and stage == "begin":
                self.suffered("database away")
                raise db_exc.DBConnectionError()
            if ill.kind == "deadlock" and stage == "commit" and query.writes:
                self.suffered("deadlock")
                raise db_exc.DBDeadlock()
            if ill.kind == "lost" and stage == "committed" and query.writes:
                self.suffered("commit unanswered")
                self.tell(self.who(), query.name, "is not told of its commit")
                if query.task is not None:
                    self.watch.wrote(query.name, query.task, query.before, None)
                query.wrote = False
                raise db_exc.DBConnectionError()

    def work_on(self, claim: Any) -> None:
        """The actor of the moment begins a round for this claim."""
        actor = self.schedule.current
        if actor is None:
            return
        actor.task = task = self._task(claim, actor)
        self.tell(self.who(), "begins", claim.stack.name, str(task), bool(claim.interrupted))

    def _task(self, claim: Any, actor: schedule.Actor) -> Task:
        stack = claim.stack
        moment = seconds(claim.moment) or 0.0
        return Task(
            stack=stack.id,
            epoch=stack.claim_epoch,
            engine=actor.process.name if actor.process else "",
            moment=moment,
            until=moment + self.settings.lease,
            generation=stack.generation,
            verdicts={m.cloud.name: m.cloud.verdict for m in stack.members},
            braked=tuple(
                row.scope or "shared" for row in claim.brakes if row.engaged_at is not None
            ),
        )

    def stack(self, stack_id: str) -> StackRow | None:
        found = self.database.rows(_STACK + " WHERE id = ?", stack_id)
        return self._stack(found[0]) if found else None

    def stacks(self) -> Iterator[StackRow]:
        for row in self.database.rows(_STACK + " ORDER BY name"):
            yield self._stack(row)

    def _stack(self, row: tuple[Any, ...]) -> StackRow:
        values = list(row)
        values[7] = json.loads(row[7] or "{}")
        values[8], values[9] = bool(row[8]), bool(row[9])
        values[15], values[16] = seconds(row[15]), seconds(row[16])
        members = tuple(
            MemberRow(
                *m[:7], bool(m[7]), bool(m[8]), *m[9:13], bool(m[13]), *m[14:17], bool(m[17])
            )
            for m in self.database.rows(_MEMBER, row[0])
        )
        return StackRow(*values, members)

    def epoch(self, stack_id: str) -> tuple[int, float | None] | None:
        found = self.database.rows(
            "SELECT claim_epoch, claimed_until FROM stacks WHERE id = ?", stack_id
        )
        return (found[0][0], seconds(found[0][1])) if found else None

    def clouds(self) -> dict[str, CloudRow]:
        return {
            row[1]: CloudRow(*row[:3], bool(row[3]), bool(row[4]))
            for row in self.database.rows(
                "SELECT id, name, verdict, cordoned, draining FROM clouds ORDER BY name"
            )
        }

    def anything_due(self) -> bool:
        now = str(BEGINNING + datetime.timedelta(seconds=self.schedule.now))
        return bool(
            self.database.rows(
                """SELECT 1 FROM stacks WHERE due_at <= ?
                AND (claimed_until IS NULL OR claimed_until < ?) LIMIT 1""",
                now,
                now,
            )
        )

    def unsettled(self) -> list[tuple[Any, ...]]:
        """Stacks with which the engines are not done, by what their rows say."""
        return self.database.rows(
            """SELECT name, status FROM stacks WHERE claimed_until IS NOT NULL
            OR (observed_generation != generation AND status IN ('ACTIVE', 'DEGRADED'))"""
        )

    # --- what users do; the answers of the API --------------------------------------------------------

    def create_stack(self, values: dict[str, Any], members: dict[str, dict[str, Any]]) -> str:
        stack = db_stacks.create_stack(
            self.user,
            {"project_id": "p", "user_id": "user", **values},
            [{"cloud_id": self.cloud_ids[name], **columns} for name, columns in members.items()],
        )
        return stack.id

    def update_stack(
        self,
        stack_id: str,
        values: dict[str, Any] | None = None,
        members: dict[str, dict[str, Any]] | None = None,
        generation: int | None = None,
    ) -> bool:
        """False: the stack is gone, takes no changes any more, or somebody was faster."""
        try:
            db_stacks.update_stack(
                self.user,
                stack_id,
                values=values,
                members={
                    self.cloud_ids[name]: columns for name, columns in (members or {}).items()
                },
                generation=generation,
            )
        except (exception.StackNotFound, exception.StackDeleting, exception.ConcurrentUpdate):
            return False
        return True

    def retry_stack(self, stack_id: str) -> None:
        try:
            db_stacks.retry_stack(self.user, stack_id)
        except (exception.StackNotFound, exception.StackDeleting):
            pass

    def failback(self, stack_id: str) -> None:
        try:
            db_stacks.failback(self.user, stack_id)
        except (exception.StackNotFound, exception.StackDeleting):
            pass

    def force_failover(self, stack_id: str) -> None:
        try:
            db_stacks.force_failover(self.user, stack_id)
        except (exception.StackNotFound, exception.StackDeleting):
            pass

    def brakes(self) -> dict[str, list[str]]:
        """The clouds that hold each brake on which is on."""
        names = {cloud_id: name for name, cloud_id in self.cloud_ids.items()}
        return {
            row[0]: [names[cloud_id] for cloud_id in json.loads(row[1])]
            for row in self.database.rows(
                "SELECT scope, clouds FROM brakes WHERE engaged_at IS NOT NULL"
            )
        }

    def check_stack(self, stack_id: str) -> None:
        try:
            db_stacks.check_stack(self.user, stack_id)
        except (exception.StackNotFound, exception.StackDeleting):
            pass

    def update_cloud(self, name: str, **values: Any) -> None:
        db_clouds.update_cloud(self.user, self.cloud_ids[name], values)

    def nudge(self, stack_id: str) -> None:
        """The cast that the API sends: to any engine that lives."""
        living = [engine for engine in self.engines if engine.process.alive]
        if living:
            engine = self.random.choice(living)
            self.schedule.start(engine.process, "rpc", lambda: engine.nudge(stack_id), delay=0.005)

    # --- what the arithmetic gives ------------------------------------------------------------------

    def allocate(
        self, stack: StackRow, held: dict[str, int], dim: dict[str, str] | None = None
    ) -> Any:
        """The allocation over clouds that are all in sight.

        :param dim: those that are not: "down" or "frozen"
        """
        clouds = self.clouds()
        bids = []
        for member in stack.members:
            cloud = clouds[member.cloud]
            standing = allocation.Standing.RAISABLE
            if member.leaving or cloud.draining:
                standing = allocation.Standing.DRAINING
            elif cloud.cordoned:
                standing = allocation.Standing.CORDONED
            if dim and member.cloud in dim:
                standing = allocation.Standing(dim[member.cloud])
            bids.append(
                allocation.Bid(
                    cloud=cloud.id,
                    weight=allocation.parse_weight(member.weight),
                    standing=standing,
                    held=held.get(member.cloud, 0),
                    minimum=0 if member.leaving else member.minimum,
                    maximum=member.maximum,
                    floor=member.floor if dim else None,
                    priority=member.priority,
                )
            )

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

        allocated = allocate(stack.rebalance == "on-demand")
        if stack.rebalance == "gradual":
            allocated = allocation.towards(allocate(True), allocated, stack.step)
        shares = {
            member.cloud: share.units
            for member, share in zip(stack.members, allocated.shares, strict=True)
        }
        return types.SimpleNamespace(
            shares=shares, shortfall=allocated.shortfall, reasons=allocated.reasons
        )


class Connections:
    """In the place of ``clouds.Clouds``."""

    def __init__(self, world: World, timeout: float, host: str) -> None:
        self._world = world
        self._wires = {
            name: heats.Wire(
                heat,
                timeout,
                self._sends,
                self._arrives,
                lambda name=name: world.cuts.get((host, name), 0.0) > world.schedule.now,
            )
            for name, heat in world.heats.items()
        }

    def _sends(self, heat: heats.Heat, method: str, path: str, body: Any, kind: str) -> Any:
        actor = self._world.schedule.current
        task = actor.task if actor is not None else None
        self._world.watch.sends(heat, method, path, body, task, kind)
        if isinstance(task, Task) and kind in heats.LATE:
            return dataclasses.replace(task, late=True)
        return task

    def _arrives(self, heat: heats.Heat, method: str, path: str, body: Any, who: Any) -> None:
        self._world.watch.arrives(heat, method, path, body, who)

    def reach(self, cloud: Any) -> heats.Wire:
        wire = self._wires[cloud.config_cloud or cloud.name]
        spreader_heat.authenticate(wire)  # type: ignore[arg-type]
        return wire

    def keep(self, cloud_ids: Any) -> None:
        pass  # no cloud is ever removed


class _Service(service.Engine):
    """The real engine, but for what makes its parts, its timers and its place on the bus."""

    def __init__(self, world: World, name: str, host: str) -> None:
        settings = world.settings
        pool = schedule.Futures(world.schedule).ThreadPoolExecutor
        self._id = name
        self._conf: Any = types.SimpleNamespace(
            engine=types.SimpleNamespace(threads=8, sweep_interval=settings.sweep_interval),
            graceful_shutdown_timeout=5,
        )
        # As in the original, whose parent would open thread pools of its own.
        self._forget()
        self._free = self._conf.engine.threads
        connections: Any = Connections(world, settings.timeout, host)
        probing: Any = Connections(world, settings.probe_timeout, host)
        self._observer = observe.Observer(
            observe.Settings(
                observer=host,
                probe_interval=settings.probe_interval,
                probe_timeout=settings.probe_timeout,
                progress_interval=settings.progress_interval,
                misses=settings.misses,
                goods=settings.goods,
                zone=world.zones.get(host),
                brake_window=settings.brake_window,
                relapse_memory=settings.stable_ceiling,
            ),
            probing,
            self._begin,
            functools.partial(reconcile.bury, connections),
        )
        self._reconciler = reconcile.Reconciler(
            reconcile.Settings(
                owner=name,
                claim_lease=settings.lease,
                retry_interval=settings.retry_interval,
                resync_interval=settings.resync_interval,
                timeout=settings.timeout,
                concurrency=4,
                max_in_progress=settings.max_in_progress,
                full_for=settings.full_for,
                update_deadline=settings.update_deadline,
                stable_ceiling=settings.stable_ceiling,
            ),
            connections,
            self._observer,
            lent=self._lent,
            executor=pool,  # type: ignore[arg-type]
        )
        run = self._reconciler.run

        def noted(ctx: Any, claim: Any, asked_at: float) -> None:
            world.work_on(claim)
            run(ctx, claim, asked_at)

        self._reconciler.run = noted  # type: ignore[method-assign]
        self._rounds: Any = pool(64, thread_name_prefix="round")


class Engine:
    """One engine process."""

    def __init__(self, world: World, host: str, number: int) -> None:
        self.world = world
        self.host = host
        self.name = f"{host}.{number}"
        self.process = schedule.Process(self.name)
        self._service: _Service | None = None
        world.engines.append(self)
        world.schedule.start(self.process, "main", self._start)

    def _start(self) -> None:
        self._service = _Service(self.world, self.name, self.host)
        # The timer of an engine does it again and again.
        while True:
            try:
                self._service._observer.refresh()
            except exception.Unavailable:
                self.world.schedule.sleep(2.0)
            else:
                break
        self._service._sweep()

    def nudge(self, stack_id: str) -> None:
        """What a cast of the API does."""
        if self._service is not None:
            self._service._begin(context.engine_context("req-engine"), stack_id)

    # --- what befalls it ----------------------------------------------------------------------------

    def kill(self) -> None:
        self.world.tell(self.name, "is killed")
        self.process.alive = False

    def stop_for(self, seconds_: float) -> None:
        self.world.tell(self.name, "stands still for", round(seconds_, 1))
        self.process.stopped_until = self.world.schedule.now + seconds_


def later(delay: float, work: Callable[[], Any]) -> None:
    """Have a thread of the process of the moment do something later; see ``plants``."""
    world = _world
    if world is not None and world.schedule.current is not None:
        world.schedule.start(world.schedule.current.process, "later", work, delay)
