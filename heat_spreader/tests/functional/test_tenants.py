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
"""Clouds that projects bring, on a real Keystone and real Heats, in both convergence modes.

What is looked at is what Keystone and the Heats themselves say.
"""

import base64
import collections.abc
import contextlib
import datetime
import json
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request

import fixtures
from oslotest import base as oslotest_base

from heat_spreader.tests import tls
from heat_spreader.tests.functional import key_manager

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import identity  # noqa: E402
from heat_sandbox import process  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402
from heat_sandbox import spreader  # noqa: E402

TEMPLATE = (TOP / "sandbox" / "web.yaml").read_text()
# With all that a debug log tells: not even that may be a secret.
SETTINGS = {**spreader.QUICK, "clouds": {"timeout": 5}, "DEFAULT": {"debug": True}}
HIDING = """
heat_template_version: 2021-04-16
parameters:
  count: {type: number, default: 0}
  pin: {type: string, hidden: true}
resources:
  unit:
    type: OS::Heat::ResourceGroup
    properties: {count: {get_param: count}, resource_def: {type: OS::Heat::RandomString}}
"""


def written(secret: str) -> list[str]:
    """The secret as it is, and what of it is the same wherever in a text that is base64 it stands."""
    raw = secret.encode()
    forms = [secret]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        # Without the characters that have bits of what is before it, or of what follows.
        forms.append(encoded[(0, 2, 3)[before] : -1])
    return forms


EVERYTHING = dict.fromkeys(("authenticate", "endpoint", "list", "resize", "create"), True)


class Tenants:
    """Mixed into one class for each convergence mode."""

    convergence: str
    base_port: int

    box: sandbox.Sandbox
    service: spreader.Spreader

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()  # type: ignore[misc]
        cls.box = sandbox.Sandbox(TOP / f".sandbox-test-tenants-{cls.convergence}")
        cls.addClassCleanup(cls._remove)  # type: ignore[attr-defined]
        cls._remove()
        cls.box.up(
            sandbox.Settings(
                clouds=2,
                convergence=cls.convergence,
                base_port=cls.base_port,
                spreader_port=cls.base_port + 90,
                fast=True,
            )
        )
        cls.service = spreader.Spreader(cls.box, pathlib.Path(sys.executable).parent)
        cls.configure()
        cls.service.start()

    @classmethod
    def configure(cls, more: spreader.Sections | None = None) -> None:
        cls.service.configure(
            {
                **SETTINGS,
                "engine": {
                    **spreader.QUICK["engine"],
                    "metrics_host": "127.0.0.1",
                    "metrics_port": cls.base_port + 95,
                },
                # What is told to others is in the log then, among all that is searched for secrets.
                "notifications": {"enabled": True},
                "oslo_messaging_notifications": {"driver": "log"},
                **(more or {}),
            }
        )

    @classmethod
    def _remove(cls) -> None:
        if cls.box.exists():
            cls.box.down(delete=True)

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.caller = spreader.Caller(self.box)
        self.keystone = self.login("cloud1")
        self.name = "s" + self.id().rpartition(".")[2].replace("_", "-")  # type: ignore[attr-defined]

    # Steps

    def login(self, entry: str) -> identity.Keystone:
        account = self.box.account(entry)
        return identity.Keystone(
            account["auth_url"],
            account["username"],
            account["password"],
            account["project"],
            account["domain"],
        )

    def until(
        self,
        look: collections.abc.Callable[[], typing.Any],
        true: collections.abc.Callable[[typing.Any], object],
        seconds: float = 60,
    ) -> typing.Any:
        """Look again and again until it is as wanted, and give what was seen."""
        deadline = time.monotonic() + seconds
        while not true(seen := look()):
            if time.monotonic() > deadline:
                raise AssertionError(f"after {seconds} s still: {seen}")
            time.sleep(0.3)
        return seen

    def register(
        self, kind: str, caller: spreader.Caller | None = None, **more: object
    ) -> dict[str, typing.Any]:
        """Register a cloud of a kind, named after the test, and wait until it was tried."""
        caller = caller or self.caller
        body = {"name": self.name, "kind": kind, "region": "RegionTwo", **more}
        caller.call("POST", "/v1/clouds", body)
        self.addCleanup(self._unregister, caller)  # type: ignore[attr-defined]
        return self.tried(caller)

    def _unregister(self, caller: spreader.Caller) -> None:
        try:
            caller.call("DELETE", f"/v1/clouds/{self.name}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def cloud(self, caller: spreader.Caller | None = None) -> dict[str, typing.Any]:
        return (caller or self.caller).call("GET", f"/v1/clouds/{self.name}")

    def tried(
        self, caller: spreader.Caller | None = None, after: str | None = None
    ) -> dict[str, typing.Any]:
        return self.until(
            lambda: self.cloud(caller),
            lambda cloud: cloud["access"] and cloud["access_checked_at"] != after,
        )

    def verdict(self, wanted: str, caller: spreader.Caller | None = None) -> str:
        seen = self.until(lambda: self.cloud(caller), lambda cloud: cloud["verdict"] == wanted)
        return str(seen["verdict_reason"])

    def works(self, cloud: dict[str, typing.Any]) -> dict[str, bool | None]:
        return {step: answer["ok"] for step, answer in cloud["access"].items()}

    def create(self, count: int, template: str | None = TEMPLATE) -> None:
        body: dict[str, object] = {
            "name": self.name,
            "count": count,
            "members": [{"cloud": self.name, "weight": 1}],
        }
        if template:
            body["template"] = template
        self.caller.call("POST", "/v1/stacks", body)
        self.addCleanup(self.delete)  # type: ignore[attr-defined]

    def delete(self) -> None:
        if self.caller.stack(self.name):
            self.caller.call("DELETE", f"/v1/stacks/{self.name}")
            self.until(lambda: self.caller.stack(self.name), lambda stack: stack is None)

    def count(self, wanted: int) -> dict[str, typing.Any]:
        """Wait until the Heat itself shows this count, complete; give its record."""

        def look() -> dict[str, typing.Any] | None:
            try:
                return self.heat("GET", f"/{self.name}?resolve_outputs=False")["stack"]
            except urllib.error.HTTPError:
                return None

        def reached(stack: dict[str, typing.Any] | None) -> bool:
            return (
                stack is not None
                and stack["parameters"]["count"] == str(wanted)
                and stack["stack_status"].endswith("_COMPLETE")
            )

        return self.until(look, reached)

    def heat(self, method: str, path: str = "", body: object = None) -> dict[str, typing.Any]:
        url = f"{self.box.cloud('2').heat.url}/v1/{self.keystone.project_id}/stacks{path}"
        return identity.call(method, url, self.login("cloud1").token, body)[0]

    def trusts(self) -> set[str]:
        """Those that the user of the tests has given to the service."""
        query = f"?trustor_user_id={self.keystone.user_id}"
        listed = self.keystone.call("GET", f"/OS-TRUST/trusts{query}")["trusts"]
        service = self.login("spreader").user_id
        return {trust["id"] for trust in listed if trust["trustee_user_id"] == service}

    def application_credential(self, **more: object) -> dict[str, object]:
        """Make one, as its user does; give what is handed over."""
        made = self.keystone.call(
            "POST",
            f"/users/{self.keystone.user_id}/application_credentials",
            {"application_credential": {"name": f"{self.name}-{time.monotonic_ns()}", **more}},
        )["application_credential"]
        return {
            "auth_url": self.keystone.url,
            "application_credential_id": made["id"],
            "application_credential_secret": made["secret"],
        }

    def revoke(self, credentials: dict[str, object]) -> None:
        own = credentials["application_credential_id"]
        self.keystone.call(
            "DELETE", f"/users/{self.keystone.user_id}/application_credentials/{own}"
        )

    # Facts

    def test_a_region_by_a_trust(self) -> None:
        before = self.trusts()
        cloud = self.register("region")
        self.assertEqual(EVERYTHING, self.works(cloud), cloud["access"])  # type: ignore[attr-defined]
        self.assertEqual([], cloud["warnings"])  # type: ignore[attr-defined]
        (trust,) = self.trusts() - before
        self.create(3)
        made = self.count(3)
        # The Heat stack is the user's own.
        self.assertEqual("demo", made["stack_owner"])  # type: ignore[attr-defined]
        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 5})
        self.count(5)
        # Nothing is made anew while the old one holds.
        self.assertEqual(before | {trust}, self.trusts())  # type: ignore[attr-defined]
        self.delete()
        self.caller.call("DELETE", f"/v1/clouds/{self.name}")
        self.until(self.trusts, lambda trusts: trusts == before)

    def test_a_trust_that_is_revoked_and_renewed(self) -> None:
        before = self.trusts()
        self.register("region")
        other = spreader.Caller(self.box, "demo2")
        self.register("region", other)
        self.create(3)
        self.count(3)
        self.verdict("healthy")
        self.verdict("healthy", other)
        (trust,) = self.trusts() - before
        self.keystone.call("DELETE", f"/OS-TRUST/trusts/{trust}")
        said = self.verdict("refusing")
        self.assertIn("The next change by a member of the project", said)  # type: ignore[attr-defined]
        # For this project alone.
        self.assertEqual("healthy", self.cloud(other)["verdict"])  # type: ignore[attr-defined]
        member = self.caller.call("GET", f"/v1/stacks/{self.name}/members/{self.name}")
        self.assertEqual(3, member["share"])  # type: ignore[attr-defined]
        # An administrator's change is no word of the owner's.
        admin = spreader.Caller(self.box, "admin")
        admin.call("PATCH", f"/v1/stacks/{self.caller.stack(self.name)['id']}", {"count": 4})  # type: ignore[index]
        self.assertEqual(before, self.trusts())  # type: ignore[attr-defined]
        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 5})
        self.verdict("healthy")
        self.count(5)
        self.assertEqual(1, len(self.trusts() - before))  # type: ignore[attr-defined]

    def test_an_application_credential_cannot_create_and_says_so_at_once(self) -> None:
        cloud = self.register("application_credential", credentials=self.application_credential())
        self.assertEqual(EVERYTHING | {"create": False}, self.works(cloud), cloud["access"])  # type: ignore[attr-defined]
        said = cloud["access"]["create"]["detail"]
        self.assertIn("no application credential manage trusts", said)  # type: ignore[attr-defined]
        self.assertIn(f"create: {said}", cloud["warnings"])  # type: ignore[attr-defined]
        # What exists is taken over and resized.
        body = {"stack_name": self.name, "template": TEMPLATE, "parameters": {"count": 1}}
        self.heat("POST", body=body)
        self.count(1)
        self.create(2, template=None)
        self.count(2)
        self.delete()
        self.count(2)

    def test_rotation_and_revocation_of_application_credentials(self) -> None:
        first, second = self.application_credential(), self.application_credential()
        self.register("application_credential", credentials=first)
        self.verdict("healthy")
        checked = self.cloud()["access_checked_at"]
        del second["auth_url"]
        self.caller.call("PATCH", f"/v1/clouds/{self.name}", {"credentials": second})
        self.tried(after=checked)
        # Whoever still looks with the old one does so for a moment only.
        time.sleep(5)
        self.revoke(first)
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            self.assertEqual("healthy", self.cloud()["verdict"])  # type: ignore[attr-defined]
            time.sleep(0.5)
        self.revoke(second)
        said = self.verdict("refusing")
        self.assertIn("cloud set --application-credential-id", said)  # type: ignore[attr-defined]
        third = self.application_credential()
        self.caller.call("PATCH", f"/v1/clouds/{self.name}", {"credentials": third})
        self.verdict("healthy")

    def test_an_application_credential_that_is_about_to_expire(self) -> None:
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=5, hours=1)
        given = self.application_credential(expires_at=soon.strftime("%Y-%m-%dT%H:%M:%S.000000"))
        cloud = self.register("application_credential", credentials=given)
        self.assertEqual(soon.strftime("%Y-%m-%dT%H:%M:%SZ"), cloud["expires_at"])  # type: ignore[attr-defined]
        self.assertIn("expires in 5 day(s)", cloud["warnings"][0])  # type: ignore[attr-defined]

    def password(self, **more: str) -> dict[str, str]:
        account = self.box.account("cloud2")
        return {
            "auth_url": account["auth_url"],
            "username": account["username"],
            "password": account["password"],
            "project_name": account["project"],
            **more,
        }

    def test_a_user_and_a_password(self) -> None:
        cloud = self.register("password", credentials=self.password())
        self.assertEqual(EVERYTHING, self.works(cloud), cloud["access"])  # type: ignore[attr-defined]
        self.create(2)
        self.count(2)
        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 4})
        self.count(4)

    def test_what_is_wrong_is_said_at_once(self) -> None:
        cloud = self.register("password", credentials=self.password(password="wrong"))
        self.assertEqual(  # type: ignore[attr-defined]
            dict.fromkeys(EVERYTHING, None) | {"authenticate": False}, self.works(cloud)
        )
        said = cloud["access"]["authenticate"]["detail"]
        self.assertIn("does not accept the credentials registered for this cloud", said)  # type: ignore[attr-defined]
        self.assertIn("cloud set --username", self.verdict("refusing"))  # type: ignore[attr-defined]
        checked = cloud["access_checked_at"]
        change = {"region": "Nowhere", "credentials": self.password()}
        self.caller.call("PATCH", f"/v1/clouds/{self.name}", change)
        cloud = self.tried(after=checked)
        self.assertIs(True, cloud["access"]["authenticate"]["ok"])  # type: ignore[attr-defined]
        self.assertIs(False, cloud["access"]["endpoint"]["ok"])  # type: ignore[attr-defined]
        self.assertIn("no orchestration endpoint", cloud["access"]["endpoint"]["detail"])  # type: ignore[attr-defined]

    def test_a_token_that_is_delegated_makes_no_trust(self) -> None:
        given = self.application_credential()
        body = {
            "auth": {
                "identity": {
                    "methods": ["application_credential"],
                    "application_credential": {
                        "id": given["application_credential_id"],
                        "secret": given["application_credential_secret"],
                    },
                }
            }
        }
        _, headers = identity.call("POST", f"{self.keystone.url}/auth/tokens", body=body)
        error = self.assertRaises(  # type: ignore[attr-defined]
            urllib.error.HTTPError,
            identity.call,
            "POST",
            f"{self.service.url}/v1/clouds",
            headers["X-Subject-Token"],
            {"name": self.name, "kind": "region", "region": "RegionTwo"},
        )
        self.assertEqual(409, error.code)  # type: ignore[attr-defined]
        said = error.read().decode()
        self.assertIn("spreader.trust_refused", said)  # type: ignore[attr-defined]
        self.assertIn("a token that you got with a password", said)  # type: ignore[attr-defined]

    def told_by_the_client(self, cloud: str, password: str, pin: str) -> str:
        """All that `openstack --debug` writes: to change a cloud's secret, to make a stack, to get a token."""
        directory = pathlib.Path(self.useFixture(fixtures.TempDir()).path)  # type: ignore[attr-defined]
        (directory / "hiding.yaml").write_text(HIDING)
        (directory / "env.yaml").write_text(f"parameters: {{pin: {pin}}}")
        user = self.password()["username"]
        said = ""
        for line, given in (
            (f"cloud set {cloud} --username {user} --secret-file -", password),
            (f"stack create more --count 1 --cloud {cloud} --even -t hiding.yaml -e env.yaml", ""),
            ("stack show more", ""),
            ("stack delete more --wait", ""),
        ):
            done = subprocess.run(
                [
                    self.service.bin / "openstack",
                    "--debug",
                    "--os-cloud",
                    "cloud1",
                    "spreader",
                    *line.split(),
                ],
                env=process.environment(OS_CLIENT_CONFIG_FILE=str(self.box.clouds_yaml)),
                cwd=directory,
                input=given + "\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            self.assertEqual(0, done.returncode, done.stdout[-1000:])  # type: ignore[attr-defined]
            self.assertIn("RESP BODY", done.stdout)  # type: ignore[attr-defined]
            said += done.stdout
        # How each of Keystone's tokens begins; the client got some of its own.
        found = "gAAAAA" in said  # not assertNotIn, which would show it
        self.assertFalse(found, "a token is in what the client tells")  # type: ignore[attr-defined]
        return said

    def test_no_secret_is_in_any_log_event_answer_or_in_the_database(self) -> None:
        account = self.box.account("cloud2")
        given = self.application_credential()
        pin, wrong = "1234-hidden-5678", "wrong-but-secret"
        secrets = {
            "a password": account["password"],
            "the service's password": self.box.account("spreader")["password"],
            "the secret of an application credential": given["application_credential_secret"],
            "a password that is refused": wrong,
            "a token": self.keystone.token,
            "a hidden parameter": pin,
        }
        keys = (self.service.directory / "secrets.keys").read_text().split()
        secrets |= {f"key {number}": key for number, key in enumerate(keys)}
        answers: list[str] = []

        def ask(method: str, path: str, body: object = None) -> None:
            url = f"{self.service.url}{path}"
            try:
                answers.append(
                    json.dumps(identity.call(method, url, self.keystone.token, body)[0])
                )
            except urllib.error.HTTPError as error:
                answers.append(error.read().decode())

        kinds: list[tuple[str, dict[str, object] | None]] = [
            ("password", dict(self.password())),
            ("password", dict(self.password(password=wrong))),
            ("application_credential", given),
            ("region", None),
        ]
        names = [f"{self.name}-{number}" for number in range(len(kinds))]
        for name, (kind, credentials) in zip(names, kinds, strict=True):
            body: dict[str, object] = {"name": name, "kind": kind, "region": "RegionTwo"}
            ask("POST", "/v1/clouds", body | ({"credentials": credentials} if credentials else {}))
            # What is wrong with a request is told, what is in it is not.
            ask("POST", "/v1/clouds", body | {"credentials": credentials or {}, "shared": "x"})
        members = [{"cloud": names[0], "weight": 1}]
        stack = {"name": self.name, "count": 4, "template": HIDING, "parameters": {"pin": pin}}
        ask("POST", "/v1/stacks", {**stack, "members": members})
        ask("POST", "/v1/stacks", {**stack, "name": "x", "parameters": {"pin": pin, "other": pin}})
        for name in names:
            self.until(
                lambda name=name: self.caller.call("GET", f"/v1/clouds/{name}"),
                lambda cloud: cloud["access"] and cloud["verdict"] != "unknown",
            )
        said = self.told_by_the_client(names[0], account["password"], pin)
        time.sleep(3)
        for path in (
            "/v1/stacks",
            f"/v1/stacks/{self.name}",
            "/v1/clouds",
            "/v1/events?limit=500",
        ):
            ask("GET", path)
        with contextlib.closing(
            sqlite3.connect(self.service.directory / "heat-spreader.sqlite")
        ) as database:
            dump = "\n".join(database.iterdump())
        self.assertIn("auth_url", dump)  # type: ignore[attr-defined]
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.base_port + 95}/metrics", timeout=10
        ) as response:
            metrics = response.read().decode()
        self.assertIn("spreader_cloud_verdict", metrics)  # type: ignore[attr-defined]
        out = self.service.directory / "heat-spreader.out"
        process.send(process.marked(f"{self.box.directory}/spreader"), signal.SIGUSR2)
        # Of the process in front and of the one that works.
        self.until(out.read_text, lambda text: text.count("Guru Meditation") >= 2)
        self.delete()
        for name in names:
            ask("DELETE", f"/v1/clouds/{name}")
        self.assertIn("******", "".join(answers))  # type: ignore[attr-defined]

        texts = {
            "an answer": "\n".join(answers),
            "the database": dump,
            "the metrics": metrics,
            "what the client tells": said,
        }
        for file in self.service.directory.glob("*.log"):
            texts[file.name] = file.read_text(errors="replace")
        for file in self.service.directory.glob("*.out"):
            texts[file.name] = file.read_text(errors="replace")
        self.assertIn("DEBUG", texts["heat-spreader.log"])  # type: ignore[attr-defined]
        # In the reports: the configuration, and what the engine is at.
        for told in ("secrets:", "free places for rounds = "):
            self.assertIn(told, texts["heat-spreader.out"])  # type: ignore[attr-defined]
        # These are the notifications.
        for told in ("spreader.stack.create.start", "spreader.cloud.create"):
            self.assertIn(  # type: ignore[attr-defined]
                f'"event_type": "{told}"', texts["heat-spreader.log"]
            )
        for what, secret in secrets.items():
            for where, text in texts.items():
                if (what, where) == ("a hidden parameter", "the database"):
                    continue  # it opens no cloud, and Heat keeps it as it is, too
                for form in written(str(secret)):
                    # Not assertNotIn, which would show the secret and all of the text.
                    found = form in text
                    self.assertFalse(found, f"{what} is in {where}")  # type: ignore[attr-defined]


class ConvergenceOn(Tenants, oslotest_base.BaseTestCase):
    convergence = "on"
    base_port = 22400

    # TLS, which is the same to both kinds of Heat

    def serve_over_tls(self) -> None:
        """Keystone and the second Heat with certificates of a private authority, as a region."""
        self.authority = tls.Authority("ours")
        self.files = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.good = self.authority.issue(self.files / "good.pem")
        fronts = []
        for port, behind in ((80, self.box.cloud("2").keystone), (81, self.box.cloud("2").heat)):
            front = tls.Front(self.base_port + port, behind.port, self.good)
            self.addCleanup(front.stop)
            fronts.append(front)
        self.keystone_front, self.heat_front = fronts
        operator = self.login("admin")
        if "RegionTLS" not in [each["id"] for each in operator.call("GET", "/regions")["regions"]]:
            operator.call("POST", "/regions", {"region": {"id": "RegionTLS"}})
        operator.ensure(
            "endpoint",
            {
                "service_id": operator.ensure(
                    "service", {"type": "orchestration", "name": "heat"}
                ),
                "region_id": "RegionTLS",
                "interface": "public",
            },
            url=f"{self.heat_front.url}/v1/%(tenant_id)s",
        )

    def over_tls(self, **more: object) -> dict[str, typing.Any]:
        """What is handed over for a cloud behind TLS."""
        address = {"auth_url": f"{self.keystone_front.url}/v3"}
        return {"region": "RegionTLS", "credentials": {**self.password(), **address, **more}}

    def change(self, **credentials: object) -> dict[str, typing.Any]:
        """Hand over other credentials, and wait until they were tried."""
        checked = self.cloud()["access_checked_at"]
        self.caller.call("PATCH", f"/v1/clouds/{self.name}", self.over_tls(**credentials))
        return self.tried(after=checked)

    def test_a_private_authority(self) -> None:
        self.serve_over_tls()
        said = "Keystone cannot be trusted over TLS: "
        todo = "by an authority that is public or given as 'cacert' registered for this cloud"
        nothing = dict.fromkeys(EVERYTHING, None) | {"authenticate": False}
        cloud = self.register("password", **self.over_tls())
        for wrong in ("untold", "another"):
            if wrong == "another":
                cloud = self.change(cacert=tls.Authority("theirs").pem)
            self.assertEqual(nothing, self.works(cloud))
            detail = cloud["access"]["authenticate"]["detail"]
            self.assertTrue(detail.startswith(said), detail)
            self.assertIn("certificate verify failed", detail)
            self.assertTrue(detail.endswith(todo), detail)
            self.assertEqual([f"authenticate: {detail}"], cloud["warnings"])
        cloud = self.change(cacert=self.authority.pem)
        self.assertEqual(EVERYTHING, self.works(cloud), cloud["access"])
        self.assertEqual([], cloud["warnings"])
        self.assertIs(False, cloud["insecure"])
        self.create(2)
        self.count(2)
        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 4})
        self.count(4)

    def test_a_certificate_that_turns_wrong_is_an_outage(self) -> None:
        self.serve_over_tls()
        self.register("password", **self.over_tls(cacert=self.authority.pem))
        other = {"name": f"{self.name}-other", "kind": "password", "region": "RegionOne"}
        self.caller.call("POST", "/v1/clouds", {**other, "credentials": self.password()})
        self.addCleanup(self.caller.call, "DELETE", f"/v1/clouds/{other['name']}")
        members = [{"cloud": name, "weight": ".5"} for name in (self.name, other["name"])]
        stack = {"name": self.name, "count": 4, "template": TEMPLATE, "members": members}
        self.caller.call("POST", "/v1/stacks", {**stack, "failover": {"toleration": 0}})
        self.addCleanup(self.delete)
        self.count(2)
        self.addCleanup(self.heat_front.show, self.good)
        self.heat_front.show(self.authority.issue(self.files / "old.pem", days=0))
        self.assertIn("Heat cannot be trusted over TLS", self.verdict("unreachable"))
        survivor = self.box.cloud("1")
        self.until(lambda: self.caller.in_heat(survivor, self.name), lambda units: units == 4)
        self.heat_front.show(self.good)
        self.verdict("healthy")

    def test_each_cloud_has_its_own_patience(self) -> None:
        self.serve_over_tls()
        self.heat_front.delay = 1.2
        mine = {"cacert": self.authority.pem, "timeout": 0.5}
        cloud = self.register("password", **self.over_tls(**mine))
        self.assertIs(True, cloud["access"]["endpoint"]["ok"])
        for step in ("list", "resize", "create"):
            self.assertIn("did not answer in time", cloud["access"][step]["detail"])
        cloud = self.change(cacert=self.authority.pem, timeout=30)
        self.assertEqual(EVERYTHING, self.works(cloud), cloud["access"])

    def test_an_authority_is_not_asked_for_only_where_the_operator_allows_it(self) -> None:
        self.serve_over_tls()
        unchecked = {"name": self.name, "kind": "password", **self.over_tls(insecure=True)}
        admin = spreader.Caller(self.box, "admin")

        def refused(caller: spreader.Caller) -> tuple[int, str]:
            try:
                caller.call("POST", "/v1/clouds", unchecked)
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            raise AssertionError("the cloud was registered")

        code, said = refused(self.caller)
        self.assertEqual(403, code, said)
        code, said = refused(admin)
        self.assertEqual(400, code, said)
        self.assertIn("hand over that of its authority as 'cacert'", said)

        def restart(*, allowed: bool) -> None:
            self.service.stop()
            allow = {"tenants": {"allowed_networks": "127.0.0.1/32", "allow_insecure": allowed}}
            self.configure(allow)
            self.service.start()

        self.addCleanup(restart, allowed=False)
        restart(allowed=True)
        self.assertEqual(403, refused(self.caller)[0])
        cloud = self.register("password", admin, **self.over_tls(insecure=True))
        self.assertEqual(EVERYTHING, self.works(cloud), cloud["access"])
        # For everybody who sees it, wherever.
        admin.call("PATCH", f"/v1/clouds/{self.name}", {"shared": True})
        for caller in (admin, self.caller):
            listed = caller.call("GET", "/v1/clouds")["clouds"]
            for seen in (*listed, self.cloud(caller)):
                if seen["name"] == self.name:
                    self.assertIs(True, seen["insecure"])
                    warning = "The TLS certificates of this cloud are not checked."
                    self.assertIn(warning, seen["warnings"])
            self.assertIn(self.name, [seen["name"] for seen in listed])

    # A key manager, which is the same to both kinds of Heat, too

    def keep_in_barbican(self) -> key_manager.Barbican:
        """Start a Barbican, and the service again so that it keeps the secrets of clouds there."""
        account = self.box.account("spreader")
        operator, mine = self.login("admin"), self.login("spreader")
        role = operator.ensure("role", {"name": "member"})
        operator.grant(f"projects/{mine.project_id}", mine.user_id, role)
        port = self.base_port + 85
        service = operator.ensure("service", {"type": "key-manager"}, name="barbican")
        operator.ensure(
            "endpoint",
            {"service_id": service, "region_id": "RegionOne", "interface": "public"},
            url=f"http://127.0.0.1:{port}",
        )
        barbican = key_manager.Barbican(TOP, self.box.directory / "barbican", port, account)
        self.addCleanup(barbican.stop)
        barbican.start()

        def restart(more: spreader.Sections | None) -> None:
            self.service.stop()
            self.configure(more)
            self.service.start()

        self.addCleanup(restart, None)
        restart(
            {
                "secrets": {"store": "castellan"},
                "key_manager": {
                    "backend": "barbican",
                    "auth_type": "keystone_password",
                    "auth_url": account["auth_url"],
                    "username": account["username"],
                    "password": account["password"],
                    "user_domain_id": "default",
                    "project_name": account["project"],
                    "project_domain_id": "default",
                },
                "barbican": {"barbican_region_name": "RegionOne", "timeout": 3},
            }
        )
        return barbican

    def references(self) -> list[str]:
        """What the database has of the secret of the cloud of this test."""
        with contextlib.closing(
            sqlite3.connect(self.service.directory / "heat-spreader.sqlite")
        ) as database:
            dump = "\n".join(database.iterdump())
        return re.findall(r"castellan:[^'\"]+", dump)

    def test_secrets_in_a_barbican(self) -> None:
        barbican = self.keep_in_barbican()
        first, second = self.application_credential(), self.application_credential()
        cloud = self.register("application_credential", credentials=first)
        self.assertEqual(EVERYTHING | {"create": False}, self.works(cloud), cloud["access"])
        (reference,) = self.references()
        (kept,) = barbican.kept()
        self.assertEqual(f"castellan:{kept}", reference)

        # Another secret: the old one is gone from there, too.
        checked = self.cloud()["access_checked_at"]
        self.caller.call("PATCH", f"/v1/clouds/{self.name}", {"credentials": second})
        self.tried(after=checked)
        self.verdict("healthy")
        self.until(lambda: barbican.kept() - {kept}, lambda others: len(others) == 1)
        self.until(barbican.kept, lambda now: kept not in now)
        self.caller.call("DELETE", f"/v1/clouds/{self.name}")
        self.until(barbican.kept, lambda now: not now)

        # The main job, and then it is away: what runs goes on, what is new is refused in words.
        self.register("password", credentials=self.password())
        self.verdict("healthy")
        self.create(2)
        self.count(2)
        # One that hangs has its time, and one that is gone takes none.
        for away in (lambda: barbican.send(signal.SIGSTOP), barbican.stop):
            away()
            body = {"name": "x", "kind": "password", "region": "RegionTwo"}
            error = self.assertRaises(
                urllib.error.HTTPError,
                self.caller.call,
                "POST",
                "/v1/clouds",
                body | {"credentials": self.password()},
            )
            said = error.read().decode()
            self.assertEqual(503, error.code, said)
            self.assertIn("key manager", said)
            self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 3})
            self.count(3)
        # An engine that begins meanwhile knows no way into the cloud, and finds one later.
        self.service.stop()
        self.service.start()
        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 4})
        time.sleep(3)
        self.count(3)
        barbican.start()
        self.count(4)
        self.delete()


class ConvergenceOff(Tenants, oslotest_base.BaseTestCase):
    convergence = "off"
    base_port = 22500
