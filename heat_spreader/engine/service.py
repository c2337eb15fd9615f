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
"""The engine process: an RPC server, the observers' lanes and two timers; nothing is decided here."""

from concurrent import futures
import functools
import os
import threading
from typing import Any

from oslo_config import cfg
from oslo_log import log
from oslo_service import service
from oslo_utils import uuidutils

from heat_spreader import conf as spreader_conf
from heat_spreader import context
from heat_spreader import rpc
from heat_spreader.db import engines as db_engines
from heat_spreader.db import rounds as db_rounds
from heat_spreader.engine import clouds
from heat_spreader.engine import observe
from heat_spreader.engine import reconcile

LOG = log.getLogger(__name__)

HEARTBEAT_INTERVAL = 10
REFRESH_INTERVAL = 2
FORGET_AFTER = 24 * 3600


class Engine(service.Service):
    """One engine process. The database is configured before; all else is made in ``start``.

    What is opened in the parent would be shared with every worker that is forked from it.
    """

    def __init__(self, conf: cfg.ConfigOpts, transport_url: str | None = None) -> None:
        """:param transport_url: instead of the one in the configuration"""
        super().__init__(threads=16)
        self._conf = conf
        self._transport_url = transport_url
        self._halt = threading.Event()
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        super().start()
        conf = self._conf
        self._id = f"{conf.host}:{os.getpid()}:{uuidutils.generate_uuid(dashed=False)[:8]}"
        paths = [conf.clouds.config_file] if conf.clouds.config_file else []
        self._transport = rpc.get_transport(conf, self._transport_url)
        connections = clouds.Clouds(
            paths, timeout=conf.clouds.timeout, pool_size=conf.clouds.concurrency
        )
        self._observer = observe.Observer(
            observe.Settings(
                observer=conf.host,
                probe_interval=conf.health.probe_interval,
                probe_timeout=conf.health.probe_timeout,
                progress_interval=conf.engine.progress_interval,
                misses=conf.health.misses,
                goods=conf.health.goods,
            ),
            clouds.Clouds(paths, timeout=conf.health.probe_timeout, pool_size=1),
            self._begin,
            functools.partial(reconcile.bury, connections),
        )
        self._reconciler = reconcile.Reconciler(
            reconcile.Settings(
                owner=self._id,
                claim_lease=conf.engine.claim_lease,
                retry_interval=conf.engine.retry_interval,
                resync_interval=conf.engine.resync_interval,
                timeout=conf.clouds.timeout,
                concurrency=conf.clouds.concurrency,
                full_for=conf.engine.full_for,
                update_deadline=conf.engine.update_deadline,
            ),
            connections,
            self._observer,
        )
        self._rounds = futures.ThreadPoolExecutor(conf.engine.threads, thread_name_prefix="round")
        self._server = rpc.get_server(self._transport, conf.host, self._reconciler)
        self._server.start()
        self.tg.add_timer(HEARTBEAT_INTERVAL, self._guarded, None, self._heartbeat)
        self.tg.add_timer(REFRESH_INTERVAL, self._guarded, None, self._observer.refresh)
        self.tg.add_thread(self._sweep)
        LOG.info("Engine %s started", self._id)

    def stop(self, graceful: bool = True) -> None:
        """Finish the rounds in hand, begin no more. Native threads cannot be killed."""
        self._halt.set()
        self._server.stop()
        self._server.wait()
        self._observer.stop()
        self._rounds.shutdown(cancel_futures=True)
        self._reconciler.stop()
        super().stop(graceful=graceful)
        LOG.info("Engine %s stopped", self._id)

    def _guarded(self, task: Any) -> None:
        """A timer outlives whatever its task meets, a database that is away above all."""
        try:
            task()
        except Exception:
            LOG.exception("A periodic task of the engine failed")

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

    def _sweep(self) -> None:
        """Start rounds for stacks that are due, again and again."""
        while not self._halt.wait(self._conf.engine.sweep_interval):
            self._guarded(self._start_due)

    def _start_due(self) -> None:
        ctx = context.engine_context()
        for stack_id in db_rounds.due_stacks(ctx, limit=2 * self._conf.engine.threads):
            self._begin(ctx, stack_id)

    def _begin(self, ctx: context.RequestContext, stack_id: str) -> None:
        """Run a round in the pool, unless this process is at that stack already."""
        with self._lock:
            if stack_id in self._running or self._halt.is_set():
                return
            self._running.add(stack_id)
        self._rounds.submit(self._round, stack_id)

    def _round(self, stack_id: str) -> None:
        try:
            self._reconciler.reconcile(context.engine_context(), stack_id)
        except Exception:
            LOG.exception("Stack %s: no round was possible", stack_id)
        finally:
            with self._lock:
                self._running.discard(stack_id)
