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

"""The rules: who passes, what a policy file changes, what oslo.policy's tools find."""

import pathlib

import fixtures as fixtures_lib
from oslo_policy import generator
from oslotest import base
import yaml

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import policies
from heat_spreader.tests import fixtures

RULES = [rule.name for rule in policies.RULES if rule.name.startswith("spreader:")]
READ = [name for name in RULES if name.rpartition(":")[2] in ("list", "show")]
ADMIN = [
    "spreader:all_projects",
    "spreader:stack:force-failover",
    "spreader:cloud:observation:create",
    "spreader:alert:create",
    "spreader:cloud:operate",
    "spreader:quota:update",
]


def caller(*roles, project="green", **kwargs):
    return context.RequestContext(
        user_id="user", project_id=project, roles=list(roles), overwrite=False, **kwargs
    )


class TestRules(base.BaseTestCase):
    def setUp(self):
        super().setUp()
        self.config = self.useFixture(fixtures.Config())
        policies.setup(self.config.conf)

    def allowed(self, ctx, target=None):
        found = []
        for rule in RULES:
            try:
                policies.authorize(ctx, rule, target)
            except exception.Forbidden as error:
                self.assertIn(rule, str(error))
            else:
                found.append(rule)
        return found

    def test_a_reader_reads(self):
        self.assertEqual(READ, self.allowed(caller("reader")))

    def test_a_member_writes_all_but_what_is_the_operators(self):
        self.assertEqual(
            [name for name in RULES if name not in ADMIN], self.allowed(caller("member", "reader"))
        )

    def test_an_administrator_does_everything(self):
        self.assertEqual(RULES, self.allowed(caller("admin"), {"project_id": "blue"}))

    def test_a_watchdog_reports_and_does_nothing_else(self):
        self.assertEqual(
            ["spreader:cloud:observation:create", "spreader:alert:create"],
            self.allowed(caller("service", project="service")),
        )

    def test_others_do_nothing(self):
        self.assertEqual([], self.allowed(caller()))
        self.assertEqual([], self.allowed(caller("auditor", "observer")))

    def test_nothing_in_another_project(self):
        self.assertEqual([], self.allowed(caller("member", "reader"), {"project_id": "blue"}))

    def test_nothing_without_a_project(self):
        for scope in ({}, {"system_scope": "all"}, {"domain_id": "d"}):
            self.assertEqual(
                [], self.allowed(caller("admin", "member", "reader", project=None, **scope))
            )

    def test_a_policy_file_changes_a_rule(self):
        path = pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "policy.yaml"
        path.write_text('"spreader:stack:create": "role:gardener"\n')
        self.config.set("oslo_policy", policy_file=str(path))
        policies.setup(self.config.conf)
        policies.authorize(caller("gardener"), "spreader:stack:create")
        self.assertRaises(
            exception.Forbidden, policies.authorize, caller("member"), "spreader:stack:create"
        )
        policies.authorize(caller("member"), "spreader:stack:update")


class TestTools(base.BaseTestCase):
    def test_the_sample_names_every_rule_and_is_all_comments(self):
        path = pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "sample.yaml"
        generator.generate_sample(
            ["--namespace", "heat_spreader", "--output-file", str(path)], conf=_fresh()
        )
        text = path.read_text()
        self.assertIsNone(yaml.safe_load(text))
        for rule in policies.RULES:
            self.assertIn(f'"{rule.name}":', text)


def _fresh():
    from oslo_config import cfg

    return cfg.ConfigOpts()
