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
"""The engine process: workers for rounds, nudges that start them, timers; nothing is decided here.

The sweep takes from the database what is due, as much as there are workers free. A nudge only makes
it sooner. So nothing queues here that another engine could do.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import contextlib
import functools
import os
import threading
import time
from typing import Any

from oslo_config import cfg
from oslo_log import log
from oslo_service import service
from oslo_utils import uuidutils

from heat_spreader import addresses
from heat_spreader import conf as spreader_conf
from heat_spreader import context
from heat_spreader import exception
from heat_spreader import report
from heat_spreader import rpc
from heat_spreader import secret_store
from heat_spreader import trusts
from heat_spreader.db import credentials as db_credentials
from heat_spreader.db import engines as db_engines
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.engine import clouds
from heat_spreader.engine import metrics
from heat_spreader.engine import notifications
from heat_spreader.engine import observe
from heat_spreader.engine import reconcile
from heat_spreader.engine import references
from heat_spreader.engine import tenants

LOG = log.getLogger(__name__)

HEARTBEAT_INTERVAL = 10
REFRESH_INTERVAL = 2
FORGET_AFTER = 24 * 3600
# So long may a Heat be away and then still carry out a create that waits in its queue.
FORGET_TOMBSTONES_AFTER = 90 * 24 * 3600
TRIAL_INTERVAL = 1
# Seconds between two looks for stacks of other projects than the busiest.
FAIR_INTERVAL = 0.25
REVOKE_INTERVAL = 15
NOTIFY_INTERVAL = 1
# Threads for rounds that wait for clouds which hang, beside [engine] threads for those that do not.
# Lanes bound how many wait; no site has so many clouds that hang at once.
SPARE_THREADS = 1024
# Of the time that a stopping engine has, what it keeps for giving back the claims that are left.
HAND_BACK = 3.0
# While more is due than there are places for, the sweep lets some come free: to claim four stacks takes
# hardly longer than to claim one.
GATHER = 0.02


class Endpoint:
    """What others may ask of this engine, over the bus or in its own process."""

    def __init__(self, begin: Callable[[context.RequestContext, str], None]) -> None:
        self._begin = begin

    def reconcile(self, ctx: context.RequestContext, stack_id: str) -> None:
        """See to it that this stack gets a round soon; returns at once."""
        self._begin(ctx, stack_id)


class Engine(service.Service):
    """One engine process. The database is configured before; all else is made in ``start``.

    What is opened in the parent would be shared with every worker that is forked from it.
    """

    _looked_for_others = 0.0

    def __init__(self, conf: cfg.ConfigOpts, transport_url: str | None = None) -> None:
        """:param transport_url: instead of the one in the configuration"""
        super().__init__(threads=16)
        self._conf = conf
        self._transport_url = transport_url
        self._forget()

    def _forget(self) -> None:
        """Be as an engine that has not begun."""
        self._halt = threading.Event()
        # Set when there may be something for the sweep to do.
        self._wake = threading.Event()
        # All below is guarded by the lock: free places for rounds, the stacks that have one, the claims
        # in hand, and whether the database was last seen to be away.
        self._lock = threading.Lock()
        self._free = 0
        self._running: set[str] = set()
        self._claimed: dict[str, models.Stack] = {}
        self._away = False
        # More was due than there were places for, when the sweep looked last.
        self._behind = False

    def start(self) -> None:
        super().start()
        conf = self._conf
        self._free = (
            conf.engine.threads
        )  # not before: a process that is told SIGHUP starts us anew
        self._id = f"{conf.host}:{os.getpid()}:{uuidutils.generate_uuid(dashed=False)[:8]}"
        paths = [conf.clouds.config_file] if conf.clouds.config_file else []
        self._agent = tenants.Agent(
            secret_store.open_store(conf),
            trusts.Trusts(conf),
            addresses.Guard(conf.tenants.denied_networks, conf.tenants.allowed_networks),
        )
        connections = self._connections = clouds.Clouds(
            paths,
            timeout=conf.clouds.timeout,
            pool_size=conf.clouds.concurrency,
            reach=self._agent.reach,
        )
        self._observer = observe.Observer(
            observe.Settings(
                observer=conf.host,
                zone=conf.engine.zone,
                probe_interval=conf.health.probe_interval,
                probe_timeout=conf.health.probe_timeout,
                progress_interval=conf.engine.progress_interval,
                misses=conf.health.misses,
                goods=conf.health.goods,
                brake_window=conf.health.brake_window,
                relapse_memory=conf.spread.stable_ceiling,
            ),
            clouds.Clouds(
                paths,
                timeout=conf.health.probe_timeout,
                pool_size=1,
                reach=self._agent.reach,
            ),
            self._begin,
            functools.partial(reconcile.bury, connections),
            self._wake.set,
            references.References(
                conf.health.references,
                self._bus_out_of_reach,
                timeout=conf.health.probe_timeout,
                every=conf.health.probe_interval / 2,
            ).doubt,
        )
        self._reconciler = reconcile.Reconciler(
            reconcile.Settings(
                owner=self._id,
                claim_lease=conf.engine.claim_lease,
                retry_interval=conf.engine.retry_interval,
                resync_interval=conf.engine.resync_interval,
                timeout=conf.clouds.timeout,
                concurrency=conf.clouds.concurrency,
                max_in_progress=conf.clouds.max_in_progress,
                full_for=conf.engine.full_for,
                update_deadline=conf.engine.update_deadline,
                stable_ceiling=conf.spread.stable_ceiling,
            ),
            connections,
            self._observer,
            lent=self._lent,
        )
        self._rounds = futures.ThreadPoolExecutor(
            conf.engine.threads + SPARE_THREADS, thread_name_prefix="round"
        )
        self._trials = futures.ThreadPoolExecutor(tenants.AT_ONCE, thread_name_prefix="trial")
        self._trying: set[futures.Future[None]] = set()
        self._metrics = None
        if conf.engine.metrics_port:
            self._metrics = metrics.Server(
                self._observer.metrics,
                conf.engine.metrics_host,
                conf.engine.metrics_port,
                conf.engine.workers,
            )
        self._endpoint = Endpoint(self._begin)
        self._listen()
        self.tg.add_timer(HEARTBEAT_INTERVAL, self._guarded, None, self._heartbeat)
        self.tg.add_timer(REFRESH_INTERVAL, self._guarded, None, self._refresh)
        self.tg.add_timer(TRIAL_INTERVAL, self._guarded, None, self._try_clouds)
        self.tg.add_timer(REVOKE_INTERVAL, self._guarded, None, self._agent.revoke_retired)
        if conf.notifications.enabled:
            tell = functools.partial(notifications.tell_events, rpc.Notifier(conf))
            self.tg.add_timer(NOTIFY_INTERVAL, self._guarded, None, tell)
        self.tg.add_thread(self._sweep)
        report.setup(conf, conf.prog, signals=False)  # the command that forked us has seen to them
        report.add_section("Engine", self.report)
        LOG.info("Engine %s started", self._id)

    def stop(self, graceful: bool = True) -> None:
        """Finish the rounds in hand, begin no more; hand back those that a cloud holds up.

        Native threads cannot be killed: what is on the wire to a cloud that hangs ends with its
        timeout, or with the process.
        """
        deadline = time.monotonic() + max(
            0.0, (getattr(self._conf, "graceful_shutdown_timeout", None) or 60) - HAND_BACK
        )
        self._halt.set()
        self._wake.set()
        self._listen_no_more()
        self._reconciler.stop()
        while self._at_work() and time.monotonic() < deadline:
            time.sleep(0.01)
        if left := self._in_hand():
            LOG.warning("Stopped in the middle of %d round(s); they are handed back", len(left))
            self._guarded(lambda: self._hand_back(left, interrupted=True))
        # Last: it may have to wait for a probe, and nobody waits for what it sees.
        self._observer.stop()
        if self._metrics is not None:
            self._metrics.stop()
        self._rounds.shutdown(wait=not left)
        self._trials.shutdown(wait=False, cancel_futures=True)
        super().stop(graceful=graceful)
        LOG.info("Engine %s stopped", self._id)

    def report(self) -> dict[str, Any]:
        """What this engine is at, for a Guru Meditation Report. Takes no lock."""
        return {
            "id": self._id,
            "stopping": self._halt.is_set(),
            "database": "away" if self._away else "answers",
            "free places for rounds": self._free,
            "rounds": {
                stack_id: f"of project {stack.project_id}, claim {stack.claim_epoch}"
                for stack_id, stack in list(self._claimed.items())
            },
            "observations": self._observer.report(),
            "requests of rounds": self._reconciler.report(),
        }

    def _listen(self) -> None:
        self._server = rpc.get_server(
            rpc.get_transport(self._conf, self._transport_url), self._conf.host, self._endpoint
        )
        self._server.start()

    def _bus_out_of_reach(self) -> str:
        return rpc.out_of_reach(
            self._conf, self._transport_url, timeout=self._conf.health.probe_timeout
        )

    def _listen_no_more(self) -> None:
        self._server.stop()
        self._server.wait()

    def _guarded(self, task: Any) -> None:
        """A timer outlives whatever its task meets, a database that is away above all."""
        try:
            task()
        except exception.Unavailable as error:
            self._database(error)
        except Exception:
            LOG.exception("A periodic task of the engine failed")
        else:
            self._database(None)

    def _database(self, error: exception.Unavailable | None) -> None:
        """Tell once that the database went away, and once that it is back."""
        with self._lock:
            if (error is not None) == self._away:
                return
            self._away = error is not None
        if error is not None:
            LOG.error(
                "The database does not answer, so no stack is worked on: %s",
                error.__cause__ or error,
            )
        else:
            LOG.info("The database answers again")

    def _refresh(self) -> None:
        """Observe what was registered, and keep nothing of clouds that were removed."""
        cloud_ids = self._observer.refresh()
        self._connections.keep(cloud_ids)
        self._reconciler.keep(cloud_ids)

    def _heartbeat(self) -> None:
        ctx = context.engine_context()
        db_engines.heartbeat(
            ctx,
            self._id,
            host=self._conf.host,
            zone=self._conf.engine.zone,
            version=spreader_conf.VERSION,
        )
        db_engines.forget_engines(ctx, FORGET_AFTER)
        db_rounds.forget_tombstones(ctx, FORGET_TOMBSTONES_AFTER)

    def _try_clouds(self) -> None:
        """Try what new credentials are good for; a cloud that hangs takes one place of a few."""
        self._trying = {trial for trial in self._trying if not trial.done()}
        places = tenants.AT_ONCE - len(self._trying)
        if places <= 0 or self._halt.is_set():
            return
        for cloud in db_credentials.claim_trials(context.engine_context(), tenants.LEASE, places):
            self._trying.add(
                self._trials.submit(
                    self._guarded, functools.partial(tenants.try_out, self._connections, cloud)
                )
            )

    # --- rounds -----------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Start rounds for stacks that are due, again and again."""
        while not self._halt.is_set():
            self._wake.clear()
            self._guarded(self._start_due)
            if self._wake.wait(self._conf.engine.sweep_interval) and self._behind:
                self._halt.wait(GATHER)

    def _start_due(self) -> None:
        """Take as many stacks as there are free places; those that come free wake the sweep."""
        while places := self._take(self._conf.engine.threads):
            claims: list[db_rounds.Claim] = []
            try:
                asked_at = time.monotonic()
                claims = self._claim(places)
                with self._lock:
                    for claim in claims:
                        self._running.add(claim.stack.id)
                        self._claimed[claim.stack.id] = claim.stack
            finally:
                self._give(places - len(claims))
            for claim in claims:
                self._rounds.submit(self._round, claim.stack.id, claim, asked_at)
            self._behind = len(claims) == places
            if not self._behind:
                return

    def _claim(self, places: int) -> list[db_rounds.Claim]:
        """Claim what is due; now and then that of others first, where one project has most places.

        A project with ten thousand stacks due has the longest waiting ones for a long time. What it
        has is not bounded, for nobody else may want the places; but the next ones go to others. To look
        for them takes longest when there are none, so not each time.
        """
        ctx = context.engine_context()
        claims: list[db_rounds.Claim] = []
        busiest = self._busiest()
        if busiest and time.monotonic() - self._looked_for_others >= FAIR_INTERVAL:
            self._looked_for_others = time.monotonic()
            claims = self._reconciler.claim_due(ctx, places, busiest)
        if len(claims) < places:
            claims += self._reconciler.claim_due(ctx, places - len(claims))
        return claims

    def _busiest(self) -> list[str]:
        """The projects that have half of the places or more."""
        with self._lock:
            count = collections.Counter(stack.project_id for stack in self._claimed.values())
        half = max(1, self._conf.engine.threads // 2)
        return [project_id for project_id, places in count.items() if places >= half]

    def _begin(self, ctx: context.RequestContext, stack_id: str) -> None:
        """Have a round run, unless this process is at that stack or has no free place.

        In both cases the sweep comes to it: it is woken at the end of each round.
        """
        # The last places are for the sweep, which looks at whose turn it is.
        kept = self._conf.engine.threads // 4
        with self._lock:
            if stack_id in self._running or self._free <= kept or self._halt.is_set():
                self._wake.set()
                return
            self._free -= 1
            self._running.add(stack_id)
        self._rounds.submit(self._round, stack_id)

    def _round(
        self, stack_id: str, claim: db_rounds.Claim | None = None, asked_at: float = 0.0
    ) -> None:
        ctx = context.engine_context()
        try:
            if claim is None and not self._halt.is_set():
                asked_at = time.monotonic()
                claim = self._reconciler.claim(ctx, stack_id)
            if claim is None:
                return
            with self._lock:
                self._claimed[stack_id] = claim.stack
            if self._halt.is_set():
                self._hand_back([claim.stack], interrupted=claim.interrupted)
            else:
                self._reconciler.run(ctx, claim, asked_at)
        except exception.Unavailable as error:
            self._database(error)  # when the claim has expired the stack is taken up again
        except Exception:
            LOG.exception("Stack %s: no round was possible", stack_id)
        finally:
            with self._lock:
                self._running.discard(stack_id)
                self._claimed.pop(stack_id, None)
            self._give(1)
            self._wake.set()

    def _take(self, places: int) -> int:
        with self._lock:
            taken = 0 if self._halt.is_set() else max(0, min(places, self._free))
            self._free -= taken
        return taken

    def _give(self, places: int) -> None:
        with self._lock:
            self._free += places

    @contextlib.contextmanager
    def _lent(self) -> Iterator[None]:
        """While a round only waits for a cloud, its place is for another.

        It takes its place back without asking: it has a claim that must not expire meanwhile.
        """
        self._give(1)
        self._wake.set()
        try:
            yield
        finally:
            self._give(-1)

    def _at_work(self) -> bool:
        """Whether a round is under way, or on its way: a sweep may just be taking what is due."""
        with self._lock:
            return bool(self._claimed) or self._free < self._conf.engine.threads

    def _in_hand(self) -> list[models.Stack]:
        with self._lock:
            return list(self._claimed.values())

    def _hand_back(self, stacks: list[models.Stack], *, interrupted: bool) -> None:
        db_rounds.release_claims(context.engine_context(), stacks, interrupted=interrupted)
