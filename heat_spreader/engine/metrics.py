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
"""What an engine tells Prometheus of what it sees and does. It decides nothing and is never waited for.

Each engine process has its own numbers; what is held to be true of a cloud is the same in all of them.
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import threading
from typing import Any

from oslo_log import log
import prometheus_client

from heat_spreader.engine.core import values

LOG = log.getLogger(__name__)

_CLOUD = ("project", "cloud")
# A failover takes what detection, toleration and a Heat take: from seconds to an hour.
_FAILOVER = (5, 10, 20, 30, 45, 60, 75, 90, 120, 150, 180, 240, 300, 600, 1800, 3600)


class Metrics:
    """The numbers of one engine process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = prometheus_client.CollectorRegistry()
        self._verdict = prometheus_client.Gauge(
            "spreader_cloud_verdict",
            "1 for the verdict that is held on a cloud, 0 for the others.",
            (*_CLOUD, "verdict"),
            registry=registry,
        )
        self._probe = prometheus_client.Histogram(
            "spreader_probe_seconds",
            "How long clouds took to answer the probes of this process.",
            (*_CLOUD, "outcome"),
            registry=registry,
        )
        self._votes = prometheus_client.Gauge(
            "spreader_cloud_votes",
            "Observers of a cloud by what they saw last, and by whether that counts.",
            (*_CLOUD, "outcome", "counts"),
            registry=registry,
        )
        self._brake = prometheus_client.Gauge(
            "spreader_brake",
            "1 while the brake is on: of the shared clouds, or of a project.",
            ("scope",),
            registry=registry,
        )
        self._moves = {
            name: prometheus_client.Counter(
                f"spreader_{name}s",
                f"Clouds that went through a {name} of a stack, in rounds of this process.",
                _CLOUD,
                registry=registry,
            )
            for name in ("failover", "failback")
        }
        self._failover = prometheus_client.Histogram(
            "spreader_failover_seconds",
            "From the first miss of a cloud to the last raise that was accepted to replace its units.",
            buckets=_FAILOVER,
            registry=registry,
        )
        self._known: dict[str, tuple[str, str]] = {}

    def looked(
        self, cloud: Any, seconds: float, outcome: str, readings: Mapping[str, tuple[str, bool]]
    ) -> None:
        """A probe was answered, or given up.

        :param readings: for each observer what it saw last, and whether that counts
        """
        name = self._name(cloud)
        self._probe.labels(*name, outcome).observe(seconds)
        for kind in values.Outcome:
            for counts in (True, False):
                number = sum(reading == (kind, counts) for reading in readings.values())
                self._votes.labels(*name, kind, str(counts).lower()).set(number)

    def judged(self, cloud: Any, verdict: str) -> None:
        name = self._name(cloud)
        for each in values.Verdict:
            self._verdict.labels(*name, each).set(each == verdict)

    def brakes(self, scopes: Iterable[str]) -> None:
        """Those that are on."""
        on = {scope or "shared" for scope in scopes}
        for scope in on | {"shared", *(labels[0] for labels in self._brake._metrics)}:
            self._brake.labels(scope).set(scope in on)

    def moved(self, kind: str, cloud: Any) -> None:
        """A stack has done a ``failover`` from a cloud, or a ``failback`` to it."""
        self._moves[kind].labels(*self._name(cloud)).inc()

    def failed_over(self, seconds: float) -> None:
        """All that was to be raised for a cloud that went away has been accepted."""
        self._failover.observe(seconds)

    def keep(self, cloud_ids: Collection[str]) -> None:
        """Forget the clouds that are registered no more."""
        for cloud_id in self._known.keys() - set(cloud_ids):
            name = self._known.pop(cloud_id)
            for metric in (self._verdict, self._probe, self._votes, *self._moves.values()):
                for labels in [*metric._metrics]:
                    if labels[:2] == name:
                        metric.remove(*labels)

    def _name(self, cloud: Any) -> tuple[str, str]:
        name = ("" if cloud.shared else cloud.project_id, cloud.name)
        self._known[cloud.id] = name
        return name


class Server:
    """Serves the metrics over HTTP, on the first port of some that is free.

    :param ports: how many to try: as many as there are processes on this host
    """

    def __init__(self, metrics: Metrics, host: str, port: int, ports: int) -> None:
        self._server: Any = None
        self._thread: threading.Thread | None = None
        for each in range(port, port + ports):
            try:
                self._server, self._thread = prometheus_client.start_http_server(
                    each, host, registry=metrics.registry
                )
            except OSError as error:
                LOG.debug("Port %s is not for the metrics of this process: %s", each, error)
            else:
                LOG.info("Metrics are served on http://%s:%s/metrics", host, each)
                return
        LOG.error(
            "Metrics are not served: no port from %s to %s is free on %s",
            port,
            port + ports - 1,
            host,
        )

    @property
    def port(self) -> int | None:
        """Where it listens; None: nowhere."""
        return self._server.server_port if self._server is not None else None

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
