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

"""What an operator's signals do to a running engine process, and what is left of its work."""

from collections.abc import Callable
import contextlib
import os
import signal
import subprocess
import time

import sqlalchemy as sa

from heat_spreader import context
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import migration
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests import fake_heat
from heat_spreader.tests import fixtures as spreader_fixtures
from heat_spreader.tests.functional import test_commands
from heat_spreader.tests.unit.engine import world


class SignalTest(test_commands.CommandTest):
    """An engine as a process of its own, on fake Heats with sockets and a database in a file."""

    def setUp(self) -> None:
        super().setUp()
        self.config = self.useFixture(spreader_fixtures.Database()).config
        migration.stamp()
        self.site = self.useFixture(fake_heat.FakeSite("east", "west"))
        self.ctx = context.RequestContext(user_id="alice", project_id="p", overwrite=False)
        self.clouds = [
            db_clouds.create_cloud(
                self.ctx,
                {"name": name, "project_id": "p", "kind": "config", "config_cloud": name},
            )
            for name in self.site.heats
        ]

    def configure(self, zone: str, **clouds: object) -> str:
        settings = {"config_file": self.site.clouds_yaml, "timeout": 60.0} | clouds
        return str(
            self.write(
                "engine.conf",
                "[DEFAULT]\ntransport_url = fake://\nhost = here\ngraceful_shutdown_timeout = 6\n"
                f"[database]\nconnection = {self.config.conf.database.connection}\n"
                f"[engine]\nzone = {zone}\nsweep_interval = 0.1\nprogress_interval = 0.1\n"
                "claim_lease = 600\n[health]\nprobe_interval = 0.2\nprobe_timeout = 2\n[clouds]\n"
                + "".join(f"{name} = {value}\n" for name, value in settings.items()),
            )
        )

    def start(self, conf: str) -> subprocess.Popen[bytes]:
        running = subprocess.Popen(
            self.command("engine", "--config-file", conf),
            cwd=self.home,
            env=self.environment,
            start_new_session=True,
        )

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()

        self.addCleanup(kill)
        return running

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), deadline, "it did not come so")
            time.sleep(0.05)

    def stack(self) -> models.Stack:
        made = db_stacks.create_stack(
            self.ctx,
            {
                "name": "web",
                "project_id": "p",
                "user_id": "alice",
                "count": 10,
                "template": world.TEMPLATE,
                "failover_toleration": 60,
                "failback_stable": 60,
            },
            [{"cloud_id": cloud.id, "weight": "0.5"} for cloud in self.clouds],
        )
        self.until(lambda: self.row(made).status == "ACTIVE")
        return made

    def row(self, stack: models.Stack) -> models.Stack:
        return db_stacks.get_stack(self.ctx, stack.id, None)

    def engines(self) -> list[tuple[str, str | None]]:
        with db_api.reader(context.engine_context()) as session:
            return [
                (engine_id, zone)
                for engine_id, zone in session.execute(
                    sa.select(models.Engine.id, models.Engine.zone)
                )
            ]


class TestTerm(SignalTest):
    def test_nobody_waits_for_the_lease(self) -> None:
        running = self.start(self.configure("north"))
        stack = self.stack()
        running.terminate()
        self.assertEqual(0, running.wait(20))
        claim = db_rounds.claim_stack(context.engine_context(), stack.id, "other", 60)
        self.assertIsNotNone(claim)
        self.assertFalse(claim is None or claim.interrupted)

    def test_nor_while_a_cloud_hangs(self) -> None:
        """What waits for it is handed back within graceful_shutdown_timeout, not after the answer."""
        running = self.start(self.configure("north"))
        stack = self.stack()
        east = self.site.heats["east"]
        east.fault("hang", method="PATCH")
        db_stacks.update_stack(self.ctx, stack.id, values={"count": 20})
        self.until(lambda: east.asked("PATCH"))
        began = time.monotonic()
        running.terminate()
        running.wait(30)
        self.assertLess(time.monotonic() - began, 20, "it waited for the cloud")
        claim = db_rounds.claim_stack(context.engine_context(), stack.id, "other", 60)
        # Whoever comes next looks into both clouds before anything else.
        self.assertTrue(claim is not None and claim.interrupted)


class TestHup(SignalTest):
    def test_the_configuration_is_read_again(self) -> None:
        """By all of it, in a process that takes the place of the old one; nothing is left behind."""
        conf = self.configure("north")
        running = self.start(conf)
        stack = self.stack()
        self.until(lambda: [zone for _, zone in self.engines()] == ["north"])
        self.configure("south")
        os.kill(running.pid, signal.SIGHUP)
        self.until(lambda: "south" in [zone for _, zone in self.engines()])
        self.assertEqual(2, len({engine_id for engine_id, _ in self.engines()}))
        db_stacks.update_stack(self.ctx, stack.id, values={"count": 20})
        self.until(lambda: self.row(stack).observed_generation == 2)
        self.assertIsNone(running.poll())
        running.terminate()
        self.assertEqual(0, running.wait(20))
