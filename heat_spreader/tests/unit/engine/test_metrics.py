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
"""What Prometheus is told: whole rounds, and one real scrape."""

import re
import urllib.request

from oslotest import base
import prometheus_client

from heat_spreader.db import clouds as db_clouds
from heat_spreader.engine import metrics
from heat_spreader.tests.unit.engine import world


class TestNumbers(world.WorldTest):
    def setUp(self):
        super().setUp()
        self.web = self.world.create_stack()
        self.world.settle(self.web, self.engine)

    def number(self, name, **labels):
        registry = self.engine.observer.metrics.registry
        return registry.get_sample_value(f"spreader_{name}", labels)

    def cloud(self, name, cloud="cloud3", **labels):
        return self.number(name, project="", cloud=cloud, **labels)

    def test_an_outage(self):
        self.assertEqual(1, self.cloud("cloud_verdict", verdict="healthy"))
        self.assertEqual(1, self.cloud("cloud_votes", outcome="ok", counts="true"))
        self.assertGreater(self.cloud("probe_seconds_count", outcome="ok"), 0)
        self.assertIsNone(self.cloud("failovers_total"))
        self.heats["cloud3"].fault("refuse")
        self.world.until(lambda: self.world.units()[:2] == (7, 3), self.engine)
        self.assertEqual(0, self.cloud("cloud_verdict", verdict="healthy"))
        self.assertEqual(1, self.cloud("cloud_verdict", verdict="unreachable"))
        self.assertEqual(1, self.cloud("cloud_votes", outcome="unreachable", counts="true"))
        self.assertEqual(0, self.cloud("cloud_votes", outcome="ok", counts="true"))
        self.assertEqual(1, self.cloud("failovers_total"))
        self.assertEqual(1, self.number("failover_seconds_count"))
        # Three probes a second apart, and three seconds that are tolerated.
        self.assertTrue(4 <= self.number("failover_seconds_sum") <= 8)
        self.heats["cloud3"].heal()
        self.world.until(lambda: self.world.units() == (6, 2, 2), self.engine)
        self.assertEqual(1, self.cloud("failbacks_total"))
        self.assertEqual(1, self.number("failover_seconds_count"))

    def test_the_brake(self):
        self.engine.observer.refresh()
        self.assertEqual(0, self.number("brake", scope="shared"))
        for heat in self.heats.values():
            heat.fault("refuse")
        self.world.run(self.engine, seconds=5)
        self.engine.observer.refresh()
        self.assertEqual(1, self.number("brake", scope="shared"))
        for heat in self.heats.values():
            heat.heal()
        self.world.run(self.engine, seconds=5)
        self.engine.observer.refresh()
        self.assertEqual(0, self.number("brake", scope="shared"))

    def test_a_cloud_that_is_gone(self):
        self.world.leave(self.web, "cloud3")
        self.world.settle(self.web, self.engine)
        db_clouds.delete_cloud(self.world.ctx, self.world.cloud("cloud3").id)
        self.engine.observer.refresh()
        self.assertIsNone(self.cloud("cloud_verdict", verdict="healthy"))
        self.assertEqual(1, self.cloud("cloud_verdict", "cloud1", verdict="healthy"))


class TestServer(base.BaseTestCase):
    def test_a_scrape(self):
        told = metrics.Metrics()
        told.brakes([""])
        server = metrics.Server(told, "127.0.0.1", 0, 1)
        self.addCleanup(server.stop)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            text = answer.read().decode()
        self.assertIn('spreader_brake{scope="shared"} 1.0', text)
        for help_ in re.findall(r"^# HELP \S+ (.*)$", text, re.M):
            self.assertRegex(help_, r"^[A-Z0-9].*\.$")

    def test_each_process_takes_the_next_port_that_is_free(self):
        first = metrics.Server(metrics.Metrics(), "127.0.0.1", 0, 1)
        self.addCleanup(first.stop)
        second = metrics.Server(metrics.Metrics(), "127.0.0.1", first.port, 20)
        self.addCleanup(second.stop)
        self.assertGreater(second.port, first.port)
        third = metrics.Server(metrics.Metrics(), "127.0.0.1", first.port, 1)
        third.stop()
        self.assertIsNone(third.port)

    def test_nothing_is_registered_for_everybody(self):
        """Two engines in one process have numbers of their own."""
        names = {metric.name for metric in prometheus_client.REGISTRY.collect()}
        metrics.Metrics()
        metrics.Metrics()
        self.assertEqual(names, {m.name for m in prometheus_client.REGISTRY.collect()})
