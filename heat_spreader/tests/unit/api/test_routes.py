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

"""Every route has an access rule, schemas and a place in the reference; and there are no others."""

from collections.abc import Mapping
import json
import pathlib
import re

import fixtures as fixtures_lib
from oslotest import base
import webtest

from heat_spreader import policies
from heat_spreader.api import openapi
from heat_spreader.api import root
from heat_spreader.tests import fixtures

REFERENCE = pathlib.Path(__file__).resolve().parents[4] / "api-ref" / "source"

ROUTES = {(verb, url): route for verb, url, route in openapi.routes(root.tree(None, None, None))}
# Asked besides the rules of requests.
BESIDE = {"spreader:all_projects", "spreader:cloud:operate"}
PUBLIC = {("GET", "/"), ("GET", "/v1"), ("GET", "/v1/openapi.json")}


class TestRoutes(base.BaseTestCase):
    def test_these_are_all(self):
        # Whoever adds a route adds it here, knowingly.
        self.assertEqual(
            sorted(
                """GET /
                GET /v1
                GET /v1/clouds
                POST /v1/clouds
                GET /v1/clouds/{cloud}
                PATCH /v1/clouds/{cloud}
                DELETE /v1/clouds/{cloud}
                GET /v1/clouds/{cloud}/observations
                POST /v1/clouds/{cloud}/observations
                POST /v1/alerts
                POST /v1/clouds/{cloud}/actions
                GET /v1/events
                GET /v1/openapi.json
                GET /v1/quotas
                GET /v1/quotas/{project}
                PATCH /v1/quotas/{project}
                GET /v1/stacks
                POST /v1/stacks
                GET /v1/stacks/{stack}
                PATCH /v1/stacks/{stack}
                DELETE /v1/stacks/{stack}
                POST /v1/stacks/{stack}/actions
                GET /v1/stacks/{stack}/events
                GET /v1/stacks/{stack}/members
                GET /v1/stacks/{stack}/members/{cloud}
                PUT /v1/stacks/{stack}/members/{cloud}
                PATCH /v1/stacks/{stack}/members/{cloud}
                DELETE /v1/stacks/{stack}/members/{cloud}
                GET /v1/stacks/{stack}/weights
                PUT /v1/stacks/{stack}/weights""".split("\n                ")
            ),
            sorted(f"{verb} {url}" for verb, url in ROUTES),
        )

    def test_each_has_a_rule_that_names_it(self):
        named = sorted(
            (operation["method"], operation["path"], rule.name)
            for rule in policies.RULES
            if rule.name not in BESIDE
            for operation in getattr(rule, "operations", ())
        )
        asked = sorted((*url, rule) for url, route in ROUTES.items() for rule in route.rules)
        self.assertEqual(named, asked)
        self.assertEqual(PUBLIC, {url for url, route in ROUTES.items() if not route.rules})

    def test_each_action_has_its_rule(self):
        for url, route in ROUTES.items():
            if isinstance(route.rule, Mapping):
                self.assertEqual(set(route.body["properties"]), set(route.rule), url)
                self.assertEqual(1, route.body["minProperties"], url)
                self.assertEqual(1, route.body["maxProperties"], url)

    def test_all_projects_are_listed_where_it_says(self):
        (rule,) = (rule for rule in policies.RULES if rule.name == "spreader:all_projects")
        self.assertEqual(
            {(operation["method"], operation["path"]) for operation in rule.operations},
            {url for url, route in ROUTES.items() if "all_projects" in route.query["properties"]},
        )

    def test_only_what_describes_the_api_is_for_everybody(self):
        self.assertEqual(PUBLIC, {url for url, route in ROUTES.items() if route.rule is None})

    def test_each_write_has_a_schema_and_nothing_passes_it_unseen(self):
        for (verb, url), route in ROUTES.items():
            if verb in ("POST", "PUT", "PATCH"):
                self.assertIsNotNone(route.body, (verb, url))
                self.assertIs(False, route.body["additionalProperties"], (verb, url))
            else:
                self.assertIsNone(route.body, (verb, url))
            self.assertIs(False, route.query["additionalProperties"], (verb, url))

    def test_each_is_in_the_reference_and_nothing_else_is(self):
        documented = set()
        for path in REFERENCE.glob("*.inc"):
            documented |= set(
                re.findall(r"^\.\. rest_method:: (\S+) (\S+)$", path.read_text(), re.M)
            )
        # The health check is middleware, no route of ours.
        documented.discard(("GET", "/healthcheck"))
        self.assertEqual(sorted(ROUTES), sorted(documented))


class TestRulesAreAsked(base.BaseTestCase):
    def test_a_route_that_its_rule_forbids_is_forbidden_even_to_administrators(self):
        path = pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "policy.yaml"
        path.write_text("".join(f'"{r.name}": "!"\n' for r in policies.RULES))
        api = self.useFixture(fixtures.API())
        api.config.set("oslo_policy", policy_file=str(path))
        policies.setup(api.config.conf)
        http = webtest.TestApp(api.app, extra_environ={"REMOTE_ADDR": "127.0.0.1"})
        for (verb, url), route in ROUTES.items():
            for body, rule in self.asked(route):
                response = http.request(
                    url.format(stack="web", cloud="east", project="local"),
                    method=verb,
                    body=body,
                    headers={"Content-Type": "application/json"},
                    expect_errors=True,
                )
                if rule is None:
                    self.assertEqual(200, response.status_int, (verb, url))
                else:
                    self.assertEqual(403, response.status_int, (verb, url))
                    self.assertIn(f"rule {rule} ", response.json["errors"][0]["detail"])

    def asked(self, route):
        """Each body that leads to a rule, and that rule."""
        if isinstance(route.rule, Mapping):
            return [(json.dumps({a: None}).encode(), rule) for a, rule in route.rule.items()]
        return [(b"", route.rule)]
