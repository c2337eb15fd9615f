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

"""A world for engines: a database, fake clouds, and a clock that moves when a test says so.

Engines in it are the real ones, without their timers: they look at clouds and do rounds when they
are told to. Only the clock and the network are not real; a test may stop anybody at any request.
"""

from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import contextlib
import dataclasses
import datetime
import functools
import inspect
import logging
import threading
import time
from typing import Any

import fixtures
from oslotest import base
import requests.adapters

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import engines as db_engines
from heat_spreader.db import events as db_events
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine import observe
from heat_spreader.engine import reconcile
from heat_spreader.tests import fake_heat
from heat_spreader.tests import fixtures as spreader_fixtures

TEMPLATE = """
heat_template_version: 2021-04-16
parameters:
  count: {type: number, default: 1}
  flavor: {type: string, default: small}
resources:
  group:
    type: OS::Heat::ResourceGroup
    properties:
      count: {get_param: count}
      resource_def: {type: OS::Heat::TestResource}
"""
# What a stack may be left with for good; before that something is still to be done.
AT_REST = ("ACTIVE", "DEGRADED", "ERROR")


class Clock:
    """The time of the database, the engines and the Heats.

    A look at it takes a millisecond, so no two things happen at the same moment.
    """

    def __init__(self) -> None:
        # keystoneauth compares with the real time when it looks at the end of a token's life.
        self._seconds = float(int(time.time()))
        self._lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._seconds += seconds

    def time(self) -> float:
        self.advance(0.001)
        return self._seconds

    monotonic = time

    def now(self, session: Any = None) -> datetime.datetime:
        """Naive UTC, as the database's."""
        return datetime.datetime.fromtimestamp(self.time(), datetime.UTC).replace(tzinfo=None)


class Killed(BaseException):
    """The process of an engine ends here: nobody handles it, nothing more is done."""


class _Inline(futures.Executor):
    """Does everything at once, in the thread that asks: the order of requests is always the same."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(
        self, work: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class _Wire(requests.adapters.BaseAdapter):
    """The network of an engine, with somebody who watches what passes."""

    def __init__(
        self, network: requests.adapters.BaseAdapter, passes: Callable[[str, str], None]
    ) -> None:
        super().__init__()
        self._network = network
        self._passes = passes

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        what = f"{request.method} {request.url}"
        self._passes("before", what)
        answer = self._network.send(request, *args, **kwargs)
        self._passes("after", what)
        return answer

    def close(self) -> None:
        pass


class Engine:
    """One engine that does what it is told, and nothing between.

    :ivar nudged: the stacks that its observer asked a round for
    """

    def __init__(
        self,
        world: "World",
        name: str,
        *,
        threads: bool = False,
        connections: clouds.Clouds | None = None,
        host: str | None = None,
        zone: str | None = None,
        doubt: Callable[[], str] = str,
    ) -> None:
        """
        :param host: the name that it observes under; all that have none are on one host
        :param zone: and ``doubt``: see ``observe.Observer``
        :param threads: with lanes that work side by side
        :param connections: its own; else all engines share some, which takes less time
        """
        self.name = name
        self.nudged: list[str] = []
        connections = connections or world.connections
        self.observer = observe.Observer(
            dataclasses.replace(world.probing, observer=host or world.probing.observer, zone=zone),
            connections,
            lambda ctx, stack_id: self.nudged.append(stack_id),
            functools.partial(reconcile.bury, connections),
            doubt=doubt,
        )
        # A lane of a stopped observer has no thread of its own; look() does what it would do.
        self.observer.stop()
        self.observer.refresh()
        self.reconciler = reconcile.Reconciler(
            reconcile.Settings(
                owner=name,
                claim_lease=world.lease,
                retry_interval=world.retry_interval,
                resync_interval=world.resync_interval,
                timeout=world.timeout,
                concurrency=4,
                max_in_progress=world.max_in_progress,
                full_for=world.full_for,
                update_deadline=world.update_deadline,
            ),
            connections,
            self.observer,
            executor=futures.ThreadPoolExecutor if threads else _Inline,
        )

    def look(self, *names: str) -> None:
        """Take a listing of these clouds, of all when none is named."""
        for cloud in db_clouds.list_clouds(context.engine_context(), None):
            if not names or cloud.name in names:
                self.observer.observe(cloud, self.observer._lanes[cloud.id])

    def reconcile(self, stack_id: str) -> None:
        self.reconciler.reconcile(context.engine_context(), stack_id)

    def sweep(self) -> None:
        """A round for each stack that is due."""
        for stack_id in db_rounds.due_stacks(context.engine_context(), 100):
            self.reconcile(stack_id)

    def work(self) -> None:
        self.look()
        self.sweep()


class World(fixtures.Fixture):
    """Clouds that are registered, and nothing in them.

    :param seconds: how long each action of a Heat takes
    :ivar heats: the Heats by name of cloud
    :ivar trespasses: PATCHes that should not have been sent
    """

    lease, timeout = 60.0, 10.0
    max_in_progress = 100
    retry_interval, resync_interval = 2.0, 300.0
    full_for, update_deadline = 60.0, 3660.0
    probing = observe.Settings(
        observer="host",
        probe_interval=1.0,
        probe_timeout=1.0,
        progress_interval=1.0,
        misses=3,
        goods=3,
    )

    def __init__(
        self,
        *names: str,
        convergence: bool = True,
        seconds: float = 0.5,
    ) -> None:
        super().__init__()
        self.clock = Clock()
        self._site = fake_heat.FakeSite(
            *names,
            sockets=False,
            clock=self.clock.time,
            convergence=convergence,
            seconds=seconds,
        )
        self.keystone, self.heats = self._site.keystone, self._site.heats
        self.ctx = context.RequestContext(user_id="alice", project_id="p", overwrite=False)
        self.trespasses: list[str] = []
        self._watcher: Callable[[str, str], None] | None = None

    def _setUp(self) -> None:
        self.useFixture(spreader_fixtures.Database())
        for noun in (db_clouds, db_engines, db_events, db_rounds, db_stacks):
            for name, function in inspect.getmembers(noun, inspect.isfunction):
                if next(iter(inspect.signature(function).parameters), None) == "ctx":
                    self._patch(f"{noun.__name__}.{name}", self._watched(name, function))
        self._patch("heat_spreader.db.api.now", self.clock.now)
        self._patch("heat_spreader.engine.heat.time", self.clock)
        self._patch("heat_spreader.engine.reconcile.time", self.clock)
        self._patch("heat_spreader.engine.observe.time", self.clock)
        self.useFixture(self._site)
        for name in ("keystoneauth", "stevedore"):
            self._patch_level(name)
        self.connections = self.connect()
        for name, cloud_heat in self.heats.items():
            self._guard(cloud_heat)
            self.register(name)

    def connect(self) -> clouds.Clouds:
        return clouds.Clouds(
            [self._site.clouds_yaml],
            transport=lambda: _Wire(self._site.transport(), self._passes),
        )

    def _patch(self, name: str, value: Any) -> None:
        self.useFixture(fixtures.MonkeyPatch(name, value))

    def _patch_level(self, name: str) -> None:
        """Each connection of the libraries writes pages of debug output."""
        logger = logging.getLogger(name)
        self.addCleanup(logger.setLevel, logger.level)
        logger.setLevel(logging.WARNING)

    def register(self, name: str) -> None:
        db_clouds.create_cloud(
            self.ctx,
            {
                "name": name,
                "project_id": "p",
                "kind": "config",
                "config_cloud": name,
                "shared": True,
            },
        )

    def engine(self, name: str = "engine1", **options: Any) -> Engine:
        return Engine(self, name, **options)

    # --- who watches -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self, watcher: Callable[[str, str], None]) -> Iterator[None]:
        """Call ``watcher("before" or "after", what)`` at each request and each use of the database.

        What it raises, the engine gets. It is not called for what happens within itself.
        """
        self._watcher = watcher
        try:
            yield
        finally:
            self._watcher = None

    def _passes(self, when: str, what: str) -> None:
        watcher = self._watcher
        if watcher is not None:
            self._watcher = None
            try:
                watcher(when, what)
            finally:
                self._watcher = watcher

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._passes("before", name)
            result = function(*args, **kwargs)
            self._passes("after", name)
            return result

        return watched

    def _guard(self, cloud_heat: fake_heat.FakeHeat) -> None:
        """Note every PATCH that must never be sent.

        One that comes while the Heat stack is at work is refused, or spoils what is under way; one
        that changes nothing is a whole update all the same.
        """
        answer = cloud_heat.answer

        def guarded(request: Any, path: str, body: Any) -> Any:
            if request.method == "PATCH":
                for found in cloud_heat.live():
                    if path.endswith(found.id):
                        wanted = {k: str(v) for k, v in body["parameters"].items()}
                        same = wanted.items() <= found.parameters.items()
                        if found.status == "IN_PROGRESS" or (found.status == "COMPLETE" and same):
                            self.trespasses.append(
                                f"{cloud_heat.name}: {found.name} {found.action}_{found.status} "
                                f"{found.parameters}: PATCH {wanted}"
                            )
            return answer(request, path, body)

        cloud_heat.answer = guarded  # type: ignore[method-assign]

    # --- what is wanted ----------------------------------------------------------------------------

    def cloud(self, name: str) -> models.Cloud:
        return db_clouds.get_cloud(self.ctx, name, None)

    def create_stack(
        self,
        weights: str = ".6 .2 .2",
        count: int = 10,
        *,
        name: str = "web",
        template: str | None = TEMPLATE,
        toleration: int = 3,
        stable: int = 4,
        **columns: Any,
    ) -> str:
        """A stack over the first clouds, one for each weight; its id."""
        stack = db_stacks.create_stack(
            self.ctx,
            {
                "name": name,
                "project_id": "p",
                "user_id": "alice",
                "count": count,
                "template": template,
                "failover_toleration": toleration,
                "failback_stable": stable,
                **columns,
            },
            [
                {"cloud_id": self.cloud(cloud).id, "weight": weight}
                for cloud, weight in zip(self.heats, weights.split(), strict=False)
            ],
        )
        return stack.id

    def change(
        self,
        stack_id: str,
        *,
        members: dict[str, dict[str, Any]] | None = None,
        weights: str = "",
        **values: Any,
    ) -> None:
        """What a user asks for: columns of the stack, columns of members by name of cloud."""
        members = dict(members or {})
        for name, weight in zip(self.heats, weights.split(), strict=False):
            members.setdefault(name, {})["weight"] = weight
        db_stacks.update_stack(
            self.ctx,
            stack_id,
            values=values,
            members={self.cloud(name).id: columns for name, columns in members.items()},
        )

    def leave(self, stack_id: str, *names: str) -> None:
        self.change(stack_id, members={n: {"leaving": True, "weight": "0"} for n in names})

    def ask_for_a_check(self, stack_id: str) -> None:
        members = {member.id: {"check_asked": True} for member in self.row(stack_id).members}
        claim = db_rounds.claim_stack(self.ctx, stack_id, "a user", 60)
        assert claim is not None
        db_rounds.save_round(
            self.ctx, claim.stack, values={}, members=members, events=(), due_in=0
        )

    # --- what is -----------------------------------------------------------------------------------

    def stack(self, stack_id: str) -> models.Stack | None:
        """The row; None when the stack is gone."""
        try:
            return db_stacks.get_stack(self.ctx, stack_id, None)
        except exception.StackNotFound:
            return None

    def row(self, stack_id: str) -> models.Stack:
        """The row of a stack that must be there."""
        found = self.stack(stack_id)
        if found is None:
            raise AssertionError(f"stack {stack_id} is gone")
        return found

    def members(self, stack_id: str) -> dict[str, models.Member]:
        stack = self.stack(stack_id)
        return {member.cloud.name: member for member in stack.members} if stack else {}

    def shares(self, stack_id: str) -> tuple[int | None, ...]:
        return tuple(member.share for member in self.members(stack_id).values())

    def units(self, name: str = "web") -> tuple[int | None, ...]:
        """The count parameter of this Heat stack in each cloud; None where there is none."""
        found = [cloud_heat.stack(name) for cloud_heat in self.heats.values()]
        return tuple(
            int(heat_stack.parameters["count"]) if heat_stack else None for heat_stack in found
        )

    def live(self) -> int:
        """How many Heat stacks there are in all the clouds."""
        return sum(len(cloud_heat.live()) for cloud_heat in self.heats.values())

    def events(self, stack_id: str, type: str = "") -> list[models.Event]:
        """Oldest first."""
        found = db_events.list_events(self.ctx, None, stack_id=stack_id, limit=1000)
        return [event for event in reversed(found) if event.type.startswith(type)]

    def asked(self, *methods: str, path: str = "") -> list[str]:
        """The requests with these methods that have reached any Heat, those for listings left out."""
        return [
            f"{seen.method} {name}{seen.path}"
            for name, cloud_heat in self.heats.items()
            for method in methods
            for seen in cloud_heat.asked(method, path)
            if (seen.method, seen.path) != ("GET", "/stacks")
        ]

    def by_hand(self, cloud: str) -> "ByHand":
        return ByHand(self, cloud)

    # --- time --------------------------------------------------------------------------------------

    def run(self, *engines: Engine, seconds: float, step: float = 1.0) -> None:
        """Let the engines work for so long, one after another at each step."""
        for _ in range(round(seconds / step)):
            for engine in engines:
                engine.work()
            self.clock.advance(step)

    def until(
        self,
        condition: Callable[[], bool],
        *engines: Engine,
        limit: float = 120,
        step: float = 1.0,
    ) -> float:
        """Let the engines work until something is so; returns the seconds that it took."""
        for passed in range(int(limit / step)):
            for engine in engines:
                engine.work()
            if condition():
                return passed * step
            self.clock.advance(step)
        told = [
            f"{row.name} {row.status} {row.status_reason} "
            f"{[(m.cloud.name, m.heat_status, m.share, m.status_reason) for m in row.members]}"
            for row in db_stacks.list_stacks(self.ctx, None, limit=100)
        ]
        raise AssertionError(f"it did not come so within {limit} s: {told}")

    def at_rest(self, stack_id: str) -> bool:
        """Everything asked for has been applied, and no Heat is at work."""
        if any(found.status == "IN_PROGRESS" for h in self.heats.values() for found in h.live()):
            return False
        stack = self.stack(stack_id)
        return stack is None or (
            stack.status in AT_REST and stack.observed_generation == stack.generation
        )

    def settle(self, stack_id: str, *engines: Engine, limit: float = 120) -> float:
        return self.until(lambda: self.at_rest(stack_id), *engines, limit=limit)


class ByHand:
    """Somebody else who has access to a cloud."""

    def __init__(self, world: World, cloud: str) -> None:
        self._adapter = world.connections.connect(cloud)
        self._heat = world.heats[cloud]

    def create(
        self,
        count: int = 1,
        name: str = "web",
        template: str = TEMPLATE,
        parameter: str = "count",
    ) -> str:
        return heat.create_stack(
            self._adapter, name, template, None, None, {parameter: count}, tags=[]
        )

    def resize(self, count: int, name: str = "web") -> None:
        heat.resize(self._adapter, name, self._id(name), "count", count)

    def delete(self, name: str = "web") -> None:
        heat.delete_stack(self._adapter, name, self._id(name))

    def _id(self, name: str) -> str:
        found = self._heat.stack(name)
        if found is None:
            raise AssertionError(f"there is no Heat stack {name} to act on")
        return found.id


class WorldTest(base.BaseTestCase):
    """A test in a world of three clouds with one engine."""

    clouds = ("cloud1", "cloud2", "cloud3")
    convergence = True
    # Less than a step of time: what was begun is done at the next look.
    seconds = 0.5
    # A test that makes two updates meet on purpose says so.
    may_trespass = False

    def setUp(self) -> None:
        super().setUp()
        self.world = self.useFixture(
            World(*self.clouds, convergence=self.convergence, seconds=self.seconds)
        )
        self.clock, self.heats = self.world.clock, self.world.heats
        self.engine = self.world.engine()

    def tearDown(self) -> None:
        if not self.may_trespass:
            self.assertEqual([], self.world.trespasses)
        super().tearDown()
