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
"""What each way to fail of a real Heat and a real Keystone means to the service.

Heat's API and its engine are processes of their own here, with a RabbitMQ between them, so that each can
die alone. What a wrong password, project or region means is in ``heat_contract``.
"""

import pathlib
import sys
import time
import uuid

import fixtures
from oslotest import base
import yaml

from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine.core import values

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import identity  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402

Outcome = values.Outcome
# Seconds that Heat's API waits for its engine.
RPC_TIMEOUT = 4


class OutcomeTest(base.BaseTestCase):
    box: sandbox.Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.box = sandbox.Sandbox(TOP / ".sandbox-test-outcomes")
        cls.addClassCleanup(cls._remove)
        cls._remove()
        cls.box.up(
            sandbox.Settings(
                clouds=1,
                messaging="rabbit",
                rpc_timeout=RPC_TIMEOUT,
                resource_limits={"1": 3},
                base_port=22800,
            )
        )

    @classmethod
    def _remove(cls) -> None:
        if cls.box.exists():
            cls.box.down(delete=True)

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.box.up, self.box.settings())
        self.cloud = self.box.cloud("cloud1")
        self.account = self.box.account("cloud1")

    def connect(self, timeout: float = 15, **changes: object) -> object:
        """A new connection, with a token of its own that no Heat has seen."""
        entry = yaml.safe_load(self.box.clouds_yaml.read_text())["clouds"]["cloud1"] | changes
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / "clouds.yaml"
        path.write_text(yaml.safe_dump({"clouds": {"cloud1": entry}}))
        return clouds.Clouds([str(path)], timeout=timeout).connect("cloud1")

    def listing(self, connection: object) -> str:
        """What a listing comes to, in words."""
        try:
            heat.list_stacks(connection, "heat-spreader")  # type: ignore[arg-type]
        except heat.HeatError as error:
            return f"{error.outcome}: {error.detail}"
        return "ok"

    def refused(self, **changes: object) -> heat.HeatError:
        try:
            self.connect(**changes)  # type: ignore[arg-type]
        except heat.HeatError as error:
            return error
        raise AssertionError("the connection was made")

    def test_a_dead_api(self) -> None:
        connection = self.connect()
        self.assertEqual("ok", self.listing(connection))
        self.box.kill([self.cloud.heat])
        said = self.listing(connection)
        self.assertTrue(said.startswith("unreachable: Heat cannot be reached"), said)

    def test_a_hung_api(self) -> None:
        connection = self.connect(timeout=2)
        self.assertEqual("ok", self.listing(connection))
        self.box.hang([self.cloud.heat])
        self.addCleanup(self.box.resume, [self.cloud.heat])
        said = self.listing(connection)
        self.assertTrue(said.startswith("unreachable: Heat did not answer in time"), said)

    def test_a_dead_engine_behind_a_live_api(self) -> None:
        """It is sick, and not away: nothing is moved because of it."""
        connection = self.connect()
        self.assertEqual("ok", self.listing(connection))
        engine = self.cloud.engine
        assert engine is not None
        self.box.kill([engine])
        began = time.monotonic()
        said = self.listing(connection)
        self.assertTrue(said.startswith("sick: Heat fails inside (HTTP 500)"), said)
        self.assertGreaterEqual(time.monotonic() - began, RPC_TIMEOUT - 0.5)

    def test_a_dead_keystone_and_a_token_that_heat_knows(self) -> None:
        connection = self.connect()
        self.assertEqual("ok", self.listing(connection))
        self.box.kill([self.cloud.keystone])
        self.assertEqual("ok", self.listing(connection))

    def test_a_dead_keystone_and_a_token_that_is_new_to_heat(self) -> None:
        connection = self.connect()
        self.box.kill([self.cloud.keystone])
        said = self.listing(connection)
        self.assertTrue(said.startswith("unreachable: Heat is down behind its address"), said)

    def test_a_dead_keystone_and_no_token(self) -> None:
        self.box.kill([self.cloud.keystone])
        error = self.refused()
        self.assertEqual(Outcome.UNREACHABLE, error.outcome)
        self.assertIn("Keystone cannot be reached", error.detail)

    def test_a_revoked_credential(self) -> None:
        """A user who is disabled: whoever has a new token to get is refused, and nothing is moved."""
        admin = self.box.account("admin")
        keystone = identity.Keystone(
            admin["auth_url"], admin["username"], admin["password"], admin["project"]
        )
        found, _ = identity.call(
            "GET", f"{admin['auth_url']}/users?name={self.account['username']}", keystone.token
        )
        user = f"{admin['auth_url']}/users/{found['users'][0]['id']}"

        def enable(enabled: bool) -> None:
            identity.call("PATCH", user, keystone.token, {"user": {"enabled": enabled}})

        self.addCleanup(enable, True)
        enable(False)
        error = self.refused()
        self.assertEqual((Outcome.REFUSING, 401), (error.outcome, error.status))
        self.assertIn("Keystone does not accept the credentials", error.detail)

    def test_a_region_that_there_is_not(self) -> None:
        error = self.refused(region_name="Nowhere")
        self.assertEqual(Outcome.REFUSING, error.outcome)
        self.assertIn("no orchestration endpoint for this region", error.detail)

    def test_tls_that_cannot_be_trusted(self) -> None:
        """Here there is none at all, which is the same to a client."""
        endpoint = f"https://127.0.0.1:{self.cloud.heat.port}/v1/{uuid.uuid4().hex}"
        connection = self.connect(orchestration_endpoint_override=endpoint)
        said = self.listing(connection)
        self.assertTrue(said.startswith("unreachable: Heat cannot be trusted over TLS"), said)

    def test_a_quota(self) -> None:
        """More than Heat lets a project have: the cloud is full, and neither away nor refusing."""
        resources = {f"r{number}": {"type": "OS::Heat::None"} for number in range(5)}
        template = {"heat_template_version": "2021-04-16", "resources": resources}
        with self.assertRaises(heat.HeatError) as raised:
            heat.create_stack(
                self.connect(),  # type: ignore[arg-type]
                f"quota-{uuid.uuid4().hex}",
                yaml.safe_dump(template),
                None,
                None,
                {},
                ["heat-spreader"],
            )
        self.assertTrue(raised.exception.quota, raised.exception.detail)
        self.assertIn("Maximum resources per stack exceeded", raised.exception.detail)
