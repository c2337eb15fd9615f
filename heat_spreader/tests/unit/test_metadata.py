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

"""What setup.cfg, the requirements and the generator configurations say agrees with the code.

Each of these files is read by tools that say nothing when a name in it is wrong: the command is
missing, the option is not in the sample, the import fails on somebody else's machine.
"""

import configparser
import importlib.metadata
import pathlib
import re
import sys

import fixtures
from oslo_config import cfg
from oslo_config import generator as config_generator
from oslo_policy import generator as policy_generator
from oslotest import base

from heat_spreader import conf
from heat_spreader import policies
from heat_spreader.tests.unit import test_layering

TOP = pathlib.Path(__file__).resolve().parents[3]
ETC = TOP / "etc" / "heat-spreader"

# Needed, and never imported: it brings the `openstack` command, whose plugin the client is.
COMMANDS = {"python-openstackclient"}
# Imported only where it is wanted, so it is an extra.
EXTRAS = {"castellan"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class TestSecurity(base.BaseTestCase):
    def test_each_test_that_is_named_exists(self):
        text = (TOP / "SECURITY.rst").read_text()
        named = set(re.findall(r"``([a-z_/]+\.(?:py|yaml))``", text))
        self.assertGreater(len(named), 15)
        tests = TOP / "heat_spreader" / "tests"
        for name in named:
            places = (tests / name, tests / "unit" / name, tests / "unit" / "api" / name)
            self.assertTrue(any(place.exists() for place in places), name)


class TestEntryPoints(base.BaseTestCase):
    def test_each_names_something_that_exists(self):
        config = configparser.ConfigParser(delimiters=["="], interpolation=None)
        config.optionxform = str
        config.read(TOP / "setup.cfg")
        count = 0
        for group, lines in config["entry_points"].items():
            for line in lines.strip().splitlines():
                name, _, value = (part.strip() for part in line.partition("="))
                importlib.metadata.EntryPoint(name, value, group).load()
                count += 1
        self.assertGreater(count, 20)


class TestRequirements(base.BaseTestCase):
    def test_they_are_what_is_imported(self):
        """Nothing missing, and nothing left over from code that is gone."""
        providers = importlib.metadata.packages_distributions()
        tree = test_layering.read_tree()
        imported = set()
        for module, source in tree.items():
            for line, name in test_layering.imports(module, source, set(tree)):
                top = name.partition(".")[0]
                if top in sys.stdlib_module_names or top in ("heat_spreader", "spreaderclient"):
                    continue
                self.assertIn(top, providers, f"{module}:{line}")
                imported.update(canonical(provider) for provider in providers[top])
        required = {
            canonical(re.match(r"[A-Za-z0-9._-]+", line)[0])
            for line in (TOP / "requirements.txt").read_text().splitlines()
            if line and not line.startswith("#")
        }
        self.assertEqual(imported - EXTRAS, required - COMMANDS)
        extras = (TOP / "setup.cfg").read_text().partition("[extras]")[2].partition("\n[")[0]
        for name in EXTRAS:
            self.assertIn(f"\n    {name}>=", extras)


class TestSamples(base.BaseTestCase):
    def test_the_configuration_sample_has_every_option(self):
        sample = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / "sample"
        config_generator.main(
            [
                *("--config-file", str(ETC / "heat-spreader-config-generator.conf")),
                *("--output-file", str(sample)),
            ]
        )
        written = sample.read_text()
        for group, options in conf.list_opts():
            self.assertIn(f"[{group or 'DEFAULT'}]", written)
            for option in options:
                self.assertIn(f"#{option.dest} =", written)
        for group in ("database", "keystone_authtoken", "oslo_messaging_rabbit", "oslo_policy"):
            self.assertEqual(1, written.count(f"\n[{group}]\n"), group)

    def test_the_sample_of_rules_has_every_rule(self):
        sample = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / "sample"
        policy_generator.generate_sample(
            [
                *("--config-file", str(ETC / "heat-spreader-policy-generator.conf")),
                *("--output-file", str(sample)),
            ],
            conf=cfg.ConfigOpts(),
        )
        written = sample.read_text()
        for rule in policies.list_rules():
            self.assertIn(f'#"{rule.name}": ', written)
