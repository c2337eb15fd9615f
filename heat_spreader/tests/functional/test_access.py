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
"""Who gets what from each route, as a real Keystone knows them: two projects, two domains, all roles."""

import json
import pathlib
import subprocess
import sys
import typing

import fixtures as fixtures_lib
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from oslo_config import cfg
from oslotest import base
import webtest

from heat_spreader import policies
from heat_spreader import rpc
from heat_spreader import secret_store
from heat_spreader.api import app
from heat_spreader.tests import fixtures
from heat_spreader.tests.unit.api import test_routes

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import identity  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402
from heat_sandbox import spreader  # noqa: E402

# Run with the packages of the sandbox: Keystone gives no token that has expired already.
EXPIRED = """
import sys
from keystone import conf
from keystone.token import token_formatters
conf.configure()
conf.CONF(["--config-file", sys.argv[1]], project="keystone")
print(token_formatters.TokenFormatter().create_token(
    sys.argv[2], "2020-01-01T00:00:00.000000Z", ["A" * 22], token_formatters.ProjectScopedPayload,
    methods=["password"], project_id=sys.argv[3]))
"""
SPOOFED = {
    "X-Identity-Status": "Confirmed",
    "X-Service-Identity-Status": "Confirmed",
    "X-User-Id": "somebody",
    "X-Roles": "admin,member,reader,service",
    "X-Is-Admin-Project": "True",
    "OpenStack-System-Scope": "all",
}
# A body for each route that takes one. What it names is there before each request.
BODIES: dict[tuple[str, str], typing.Any] = {
    ("POST", "/v1/clouds"): {
        "name": "new",
        "kind": "password",
        "credentials": {
            "auth_url": "https://keystone.example/v3",
            "username": "u",
            "password": "p",
            "project_name": "p",
        },
    },
    ("PATCH", "/v1/clouds/{cloud}"): {"description": "x"},
    ("POST", "/v1/clouds/{cloud}/actions"): {"check": None},
    ("POST", "/v1/clouds/{cloud}/observations"): {"outcome": "ok", "expires_in": 60},
    ("POST", "/v1/alerts"): {"alerts": []},
    ("PATCH", "/v1/quotas/{project}"): {"clouds": None},
    ("POST", "/v1/stacks"): {"name": "new", "count": 1},
    ("PATCH", "/v1/stacks/{stack}"): {"count": 2},
    ("POST", "/v1/stacks/{stack}/actions"): {"retry": None},
    ("PUT", "/v1/stacks/{stack}/members/{cloud}"): {"weight": "0.5"},
    ("PATCH", "/v1/stacks/{stack}/members/{cloud}"): {"weight": "0.5"},
    ("PUT", "/v1/stacks/{stack}/weights"): {"weights": {}},
}
RULES = {rule.name: rule.check_str for rule in policies.RULES if rule.name.startswith("spreader:")}


class TestAccess(base.BaseTestCase):
    box: sandbox.Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.box = sandbox.Sandbox(TOP / ".sandbox-test-access")
        cls.addClassCleanup(cls._remove)
        cls._remove()
        cls.box.up(sandbox.Settings(clouds=1, base_port=22300, spreader_port=22390))

    @classmethod
    def _remove(cls) -> None:
        if cls.box.exists():
            cls.box.down(delete=True)

    def setUp(self) -> None:
        super().setUp()
        self.people = {name: self.login(name) for name in self.accounts}
        self.tokens = {name: person.token for name, person in self.people.items()}
        demo = self.people["cloud1"]
        self.tokens["expired"] = subprocess.run(
            [
                self.box.installation.python,
                *("-W", "ignore", "-c", EXPIRED, self.box.directory / "etc" / "keystone.conf"),
                *(demo.user_id, demo.project_id),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.split()[-1]
        given_back = self.login("admin")
        self.tokens["revoked"] = given_back.token
        request = {"X-Subject-Token": given_back.token, "X-Auth-Token": given_back.token}
        self.delete_token(request)
        self.http = webtest.TestApp(self.api())

    accounts = ("cloud1", "reader", "demo2", "demo3", "admin", "spreader")

    def login(self, entry: str) -> identity.Keystone:
        account = self.box.account(entry)
        return identity.Keystone(
            account["auth_url"],
            account["username"],
            account["password"],
            account["project"],
            account["domain"],
        )

    def delete_token(self, headers: dict[str, str]) -> None:
        import urllib.request

        url = f"{self.box.account('admin')['auth_url']}/auth/tokens"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, headers=headers, method="DELETE")):
            pass

    def api(self) -> typing.Any:
        """The API in this process, asking the sandbox's Keystone about tokens."""
        options = loading.get_auth_plugin_conf_options("password")
        # First, so that it comes last; some are required, and other tests do not have them.
        self.addCleanup(cfg.CONF.unregister_opts, options, "keystone_authtoken")
        config = self.useFixture(fixtures.Database()).config
        auth_token.AuthProtocol(None, {"oslo_config_config": config.conf})  # registers its own
        config.conf.register_opts(options, "keystone_authtoken")
        told = dict(spreader.surroundings(self.box)["keystone_authtoken"])
        config.set("keystone_authtoken", **told)
        config.set("api", auth_strategy="keystone")
        keys = pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "keys"
        secret_store.add_key(str(keys))
        config.set("secrets", key_file=str(keys))
        transport = rpc.get_transport(config.conf, "fake://")
        self.addCleanup(transport.cleanup)
        return app.build_app(config.conf, rpc.EngineClient(transport))

    def call(
        self, who: str | None, verb: str, url: str, body: object = None, **headers: str
    ) -> typing.Any:
        sent = {"Content-Type": "application/json", **headers}
        if who is not None:
            sent["X-Auth-Token"] = self.tokens[who]
        data = b"" if body is None else json.dumps(body).encode()
        return self.http.request(url, method=verb, body=data, headers=sent, expect_errors=True)

    def furnish(self) -> dict[str, str]:
        """What the routes name: a stack of project demo over a cloud that everybody sees, and its own."""
        self.call("admin", "POST", "/v1/clouds", {"name": "east", "shared": True})
        own = {**BODIES["POST", "/v1/clouds"], "name": "mine"}
        self.call("cloud1", "POST", "/v1/clouds", own)
        mine = self.call("cloud1", "GET", "/v1/clouds/mine").json["id"]
        stack = {"name": "web", "count": 1, "members": [{"cloud": "east", "weight": 1}]}
        self.call("cloud1", "POST", "/v1/stacks", stack)
        found = self.call("cloud1", "GET", "/v1/stacks/web").json
        if found["status"] == "DELETING":
            # Only an engine ends a deletion, and there is none here.
            from heat_spreader.db import api as db_api

            with db_api.engine().begin() as connection:
                connection.exec_driver_sql("DELETE FROM stacks")
            return self.furnish()
        put = self.call("cloud1", "PUT", "/v1/stacks/web/members/east", {"weight": 1})
        assert put.status_int == 202, put.text
        project = self.people["cloud1"].project_id
        return {"stack": found["id"], "cloud": "east", "mine": mine, "project": project}

    def requests(self) -> typing.Iterator[tuple[str, str, str, object, str | None]]:
        """Method, URL, URL as it is asked, body, and the rule of each route."""
        for (verb, url), route in test_routes.ROUTES.items():
            names = self.furnish()
            body = BODIES.get((verb, url))
            rule = route.rule
            if not isinstance(rule, str) and rule is not None:
                rule = rule[next(iter(typing.cast(dict[str, None], body)))]
            if url.startswith("/v1/clouds/{cloud}"):
                names["cloud"] = names["mine"]
            yield verb, url, url.format(**names), body, rule

    def test_every_body_is_of_a_route(self) -> None:
        taking = {url for url, route in test_routes.ROUTES.items() if route.body is not None}
        self.assertEqual(taking, set(BODIES))

    def test_without_a_token_that_holds_nobody_gets_in(self) -> None:
        for verb, _, url, body, rule in self.requests():
            wanted = 401 if rule else 200
            project = self.people["cloud1"].project_id
            for who, headers in (
                (None, {}),
                (None, {**SPOOFED, "X-Project-Id": project}),
                ("expired", {}),
                ("expired", {**SPOOFED, "X-Project-Id": project}),
                ("revoked", {}),
            ):
                answer = self.call(who, verb, url, body, **headers)
                self.assertEqual(wanted, answer.status_int, (who, verb, url, headers))

    def test_the_roles_of_a_project(self) -> None:
        for who in ("reader", "cloud1", "admin", "spreader"):
            for verb, pattern, url, body, rule in self.requests():
                allowed = rule is None or self.allows(who, RULES[rule])
                answer = self.call(who, verb, url, body)
                what = (who, verb, pattern, answer.text)
                if allowed:
                    self.assertLess(answer.status_int, 300, what)
                else:
                    self.assertEqual(403, answer.status_int, what)
                    self.assertIn(f"rule {rule} ", answer.json["errors"][0]["detail"])
                if (
                    verb == "POST"
                    and pattern in ("/v1/clouds", "/v1/stacks")
                    and answer.status_int < 300
                ):
                    self.call("admin", "DELETE", f"{pattern}/{answer.json['id']}")

    def allows(self, who: str, check: str) -> bool:
        readers = {"reader", "cloud1", "admin"}
        return (
            who
            in {
                policies.READER: readers,
                policies.MEMBER: readers - {"reader"},
                policies.ADMIN: {"admin"},
                "role:service or rule:admin": {"spreader", "admin"},
            }[check]
        )

    def test_what_is_the_operators_is_for_administrators(self) -> None:
        self.furnish()
        for who, wanted in (("reader", 403), ("cloud1", 403), ("spreader", 403), ("admin", 201)):
            answer = self.call(who, "POST", "/v1/clouds", {"name": "of-operator"})
            self.assertEqual(wanted, answer.status_int, who)
        for verb, url, body in (
            ("PATCH", "/v1/clouds/east", {"cordoned": True}),
            ("PATCH", "/v1/clouds/mine", {"shared": True}),
            ("PATCH", "/v1/clouds/mine", {"projects": ["x"]}),
            ("POST", "/v1/clouds/east/actions", {"check": None}),
            ("DELETE", "/v1/clouds/east", None),
        ):
            answer = self.call("cloud1", verb, url, body)
            self.assertEqual(403, answer.status_int, (verb, url))
            self.assertIn("spreader:cloud:", answer.text)

    def test_spoofed_headers_change_nothing(self) -> None:
        project = self.people["cloud1"].project_id
        for verb, pattern, url, body, rule in self.requests():
            if rule is not None and RULES[rule] != policies.READER:
                answer = self.call(
                    "reader", verb, url, body, **SPOOFED, **{"X-Project-Id": project}
                )
                self.assertEqual(403, answer.status_int, (verb, pattern))

    def test_what_another_project_has_is_not_there(self) -> None:
        """The same answer as for what never was, by id and by name, in whichever domain one is."""
        for who in ("demo2", "demo3"):
            for verb, pattern, url, body, rule in self.requests():
                if "{" not in pattern:
                    continue
                for_members = rule and RULES[rule] in (policies.READER, policies.MEMBER)
                # The id of a project is no secret, and a rule that lets no member pass tells nothing.
                if "{project}" in pattern or not for_members:
                    answer = self.call(who, verb, url, body)
                    self.assertEqual(403, answer.status_int, (who, verb, pattern))
                    continue
                answer = self.call(who, verb, url, body)
                self.assertEqual(404, answer.status_int, (who, verb, pattern, answer.text))
                stack = "{stack}" in pattern
                ours = {"stack": "web", "cloud": "east"} if stack else {"cloud": "mine"}
                by_name = self.call(who, verb, pattern.format(**ours), body)
                nobodys = {"stack": "nope", "cloud": "east"} if stack else {"cloud": "nope"}
                never = self.call(who, verb, pattern.format(**nobodys), body)
                for other in (by_name, never):
                    self.assertEqual(answer.status_int, other.status_int)
                self.assertEqual(
                    never.json["errors"][0]["detail"].replace("nope", "web" if stack else "mine"),
                    by_name.json["errors"][0]["detail"],
                )

    def test_nor_in_lists_counts_and_events(self) -> None:
        self.furnish()
        secret = {"name": "of-demo", "count": 3, "tags": ["ours"]}
        mine = self.call("cloud1", "POST", "/v1/stacks", secret).json["id"]
        for who in ("demo2", "demo3"):
            for url in (
                "/v1/stacks",
                "/v1/stacks?name=of-demo",
                "/v1/stacks?tag=ours",
                "/v1/stacks?cloud=east",
                "/v1/events",
                "/v1/events?cloud=east",
                "/v1/clouds",
                "/v1/clouds/east",
            ):
                answer = self.call(who, "GET", url)
                self.assertEqual(200, answer.status_int, url)
                self.assertNotIn("of-demo", answer.text, url)
                self.assertNotIn(mine, answer.text, url)
                self.assertNotIn('"mine"', answer.text, url)
            marked = self.call(who, "GET", f"/v1/stacks?marker={mine}")
            self.assertEqual(404, marked.status_int)
            self.assertEqual(403, self.call(who, "GET", "/v1/stacks?all_projects=true").status_int)
            self.assertEqual(0, self.call(who, "GET", "/v1/clouds/east").json["stacks"])
        everything = self.call("admin", "GET", "/v1/stacks?all_projects=true").json["stacks"]
        self.assertIn(mine, [stack["id"] for stack in everything])

    def test_a_project_has_no_say_in_the_names_of_another(self) -> None:
        for who in ("cloud1", "demo2", "demo3"):
            made = self.call(who, "POST", "/v1/stacks", {"name": "same", "count": 1})
            self.assertEqual(202, made.status_int)
            found = self.call(who, "GET", "/v1/stacks/same").json
            self.assertEqual(self.people[who].project_id, found["project_id"])
