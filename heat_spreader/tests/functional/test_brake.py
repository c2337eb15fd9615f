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
"""Five real Heats: most of them vanish at once, two of them do, and one is drained under load.

What is looked at is what the Heats themselves say, and the events that tell why.
"""

import pathlib
import sys
import threading
import time
import typing

from oslotest import base

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import sandbox  # noqa: E402
from heat_sandbox import spreader  # noqa: E402

from heat_spreader.tests.functional import test_main_job  # noqa: E402

# Units that take a while before they run. In between it shows if others were taken away too soon.
SLOW = """
heat_template_version: 2021-04-16
parameters:
  count: {type: number, default: 0}
resources:
  units:
    type: OS::Heat::ResourceGroup
    properties:
      count: {get_param: count}
      resource_def:
        type: OS::Heat::TestResource
        properties:
          action_wait_secs: {create: 4}
"""
CLOUDS = [f"cloud{number}" for number in range(1, 6)]


class BrakeTest(base.BaseTestCase):
    box: sandbox.Sandbox
    service: spreader.Spreader

    until = test_main_job.MainJob.until
    until_status = test_main_job.MainJob.until_status
    until_counts = test_main_job.MainJob.until_counts

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.box = sandbox.Sandbox(TOP / ".sandbox-test-brake")
        cls.addClassCleanup(cls._remove)
        cls._remove()
        cls.box.up(sandbox.Settings(clouds=5, base_port=22900, spreader_port=22997))
        cls.service = spreader.Spreader(cls.box, pathlib.Path(sys.executable).parent)
        cls.service.configure(test_main_job.SETTINGS)
        cls.service.start()
        cls.admin = spreader.Caller(cls.box, "admin")
        for name in CLOUDS:
            cls.admin.call("POST", "/v1/clouds", {"name": name, "shared": True})

    @classmethod
    def _remove(cls) -> None:
        if cls.box.exists():
            cls.box.down(delete=True)

    def setUp(self) -> None:
        super().setUp()
        self.caller = spreader.Caller(self.box)
        self.heats = {
            cloud.name: test_main_job.Heat(self.box, cloud) for cloud in self.box.clouds()
        }
        self.name = "s" + self.id().rpartition(".")[2].replace("_", "-")
        self.addCleanup(self._delete)
        self.until(self.all_healthy, "all clouds are healthy")
        members = [{"cloud": name, "weight": "0.2"} for name in CLOUDS]
        body = {"name": self.name, "count": 10, "members": members}
        self.caller.call("POST", "/v1/stacks", body | {"template": SLOW})
        self.until_counts(**dict.fromkeys(CLOUDS, 2))
        self.until_status("ACTIVE")

    def _delete(self) -> None:
        self.box.up(self.box.settings())
        if self.caller.stack(self.name):
            self.caller.call("DELETE", f"/v1/stacks/{self.name}")
            self.until(lambda: self.caller.stack(self.name) is None, "the stack is deleted")

    def all_healthy(self) -> bool:
        clouds = self.caller.call("GET", "/v1/clouds")["clouds"]
        return [cloud["verdict"] for cloud in clouds] == ["healthy"] * 5

    def kill(self, *clouds: str) -> None:
        self.box.kill(
            [server for name in clouds for server in self.box.cloud(name).servers("heat")]
        )

    def units(self, *clouds: str) -> list[int | None]:
        return [self.heats[name].count(self.name) for name in clouds]

    def brakes(self) -> list[dict[str, typing.Any]]:
        found: list[dict[str, typing.Any]] = self.admin.call(
            "GET", "/v1/events?type=brake.engaged&limit=1000"
        )["events"]
        return found

    def moves(self) -> int:
        path = f"/v1/stacks/{self.name}/events?limit=1000&type=member.resize"
        return len(self.caller.call("GET", path)["events"])

    def test_three_of_five_vanish_at_once(self) -> None:
        brakes, moves = len(self.brakes()), self.moves()
        self.kill("cloud3", "cloud4", "cloud5")
        self.until(lambda: len(self.brakes()) > brakes, "the brake is on")
        # Longer than the stack tolerates an outage, and than anybody needs to judge one.
        time.sleep(20)
        self.assertEqual([2, 2], self.units("cloud1", "cloud2"))
        self.assertEqual((1, moves), (len(self.brakes()) - brakes, self.moves()))

        self.admin.call(
            "POST",
            f"/v1/stacks/{self.caller.stack(self.name)['id']}/actions",
            {"force-failover": None},
        )
        self.until_counts(cloud1=5, cloud2=5)
        self.box.up(self.box.settings())
        self.until_counts(**dict.fromkeys(CLOUDS, 2), seconds=150)
        self.until_status("ACTIVE")

    def test_two_of_five_vanish_and_the_engine_is_killed(self) -> None:
        """It is cold when it comes back: the clouds that are away it has never seen."""
        brakes = len(self.brakes())
        self.kill("cloud4", "cloud5")
        left = ("cloud1", "cloud2", "cloud3")
        self.until(
            lambda: sorted(units or 0 for units in self.units(*left)) == [3, 3, 4],
            "three clouds run what five did",
        )
        self.assertEqual(brakes, len(self.brakes()))
        units, moves = self.units(*left), self.moves()
        self.service.kill()
        self.service.start()
        time.sleep(20)
        self.assertEqual((units, moves), (self.units(*left), self.moves()))
        self.assertEqual(brakes, len(self.brakes()))
        self.box.up(self.box.settings())
        self.until_counts(**dict.fromkeys(CLOUDS, 2), seconds=150)

    def test_drained_and_used_again_under_load(self) -> None:
        fewest = test_main_job.Fewest(self)  # type: ignore[arg-type]
        halt = threading.Event()

        def change() -> None:
            count = 10
            while not halt.wait(3):
                count = 15 if count == 10 else 10
                self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": count})

        load = threading.Thread(target=change)
        load.start()
        try:
            self.admin.call("PATCH", "/v1/clouds/cloud5", {"draining": True})
            self.until(lambda: self.units("cloud5") == [0], "cloud5 is empty")
            self.admin.call("PATCH", "/v1/clouds/cloud5", {"draining": False})
            self.until(lambda: (self.units("cloud5")[0] or 0) >= 2, "cloud5 is used again")
        finally:
            halt.set()
            load.join()
        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 10})
        self.until_counts(**dict.fromkeys(CLOUDS, 2))
        self.until_status("ACTIVE")
        seen = fewest.stop()
        self.assertGreaterEqual(seen, 10, "fewer units than wanted ran at one moment")
