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

"""The command line as a whole: what is installed is what there is, and all of it is explained."""

import argparse
from importlib import metadata
import inspect

from osc_lib.command import command
from oslotest import base

from spreaderclient.osc import cloud
from spreaderclient.osc import event
from spreaderclient.osc import member
from spreaderclient.osc import plugin
from spreaderclient.osc import quota
from spreaderclient.osc import stack
from spreaderclient.osc import weight

COMMANDS = {
    entry.name: entry.load() for entry in metadata.entry_points(group="openstack.spreader.v1")
}


class TestCommands(base.BaseTestCase):
    def test_every_command_is_installed(self):
        written = {
            value
            for module in (cloud, event, member, quota, stack, weight)
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, command.Command)
        }
        self.assertEqual(written, set(COMMANDS.values()))

    def test_the_name_of_a_command_is_that_of_its_class(self):
        for name, each in COMMANDS.items():
            noun, verb = name.removeprefix("spreader_").split("_")
            self.assertEqual(verb.capitalize() + noun.capitalize(), each.__name__)

    def test_help_is_in_sentences(self):
        for name, each in COMMANDS.items():
            parser = each(None, None).get_parser(name)
            self.assertRegex(parser.description, r"\A[A-Z](.|\n)+\.\Z", name)
            for action in parser._actions:
                if action.dest in self.cliffs(each):
                    continue
                self.assertNotIn(action.help, (None, argparse.SUPPRESS), f"{name} {action.dest}")
                self.assertRegex(action.help, r"\A(With|[A-Z0-9])(.|\n)+[.)]\Z", action.dest)

    def cliffs(self, each):
        """The options that every command of this kind has, which are not ours to word."""
        kind = next(kind for kind in each.__mro__ if kind.__module__ == command.__name__)
        empty = type("Empty", (kind,), {"take_action": None, "__module__": __name__})
        return {action.dest for action in empty(None, None).get_parser("empty")._actions}

    def test_what_the_shell_reads_of_a_plugin(self):
        self.assertEqual(("spreader", "1"), (plugin.API_NAME, plugin.DEFAULT_API_VERSION))
        self.assertTrue(plugin.check_api_version("1"))
        self.assertTrue(plugin.check_api_version("1.12"))
