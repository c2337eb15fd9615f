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

"""Real Heats show every fact that heat.py relies on, with and without convergence.

Each class makes a sandbox of its own. ``SPREADER_TEST_HEAT_OFF`` and ``SPREADER_TEST_HEAT_ON``
(``/path/to/clouds.yaml:entry``) name a Heat that runs already, in any cloud, to be used instead.
"""

import os
import pathlib
import sys
import time

from heat_spreader.engine import heat
from heat_spreader.tests import heat_contract

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import sandbox  # noqa: E402


class OnARealHeat:
    """Mixed into one class for each convergence mode."""

    convergence: bool
    base_port: int
    _standing: heat.HeatStack | None = None

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()  # type: ignore[misc]
        mode = "on" if cls.convergence else "off"
        given = os.environ.get(f"SPREADER_TEST_HEAT_{mode.upper()}")
        if given:
            cls.clouds_yaml, _, cls.entry = given.rpartition(":")
            return
        cls.box = sandbox.Sandbox(TOP / f".sandbox-test-heat-{mode}")
        cls.addClassCleanup(cls._remove)  # type: ignore[attr-defined]
        cls._remove()
        settings = sandbox.Settings(clouds=1, convergence=mode, base_port=cls.base_port)
        cls.box.up(settings)
        cls.clouds_yaml, cls.entry = str(cls.box.clouds_yaml), "cloud1"

    @classmethod
    def _remove(cls) -> None:
        if cls.box.exists():
            cls.box.down(delete=True)

    def find_heat(self) -> None:
        pass

    def standing(self) -> heat.HeatStack:
        if type(self)._standing is None:
            made = heat.create_stack(
                self.cloud,
                self.name,
                heat_contract.TEMPLATE,
                None,
                None,
                {"count": 2},
                [self.tag],
            )
            type(self)._standing = self.settled(made)
            self.addClassCleanup(heat.delete_stack, self.cloud, self.name, made)
        return type(self)._standing

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class TestHeat(OnARealHeat, heat_contract.HeatContract):
    convergence = False
    base_port = 23000


class TestHeatWithConvergence(OnARealHeat, heat_contract.HeatContract):
    convergence = True
    base_port = 23100
