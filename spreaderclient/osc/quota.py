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

"""``openstack spreader quota``: how much a project may have, and how much it has."""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from osc_lib import exceptions
from osc_lib.command import command

from spreaderclient.osc import arguments
from spreaderclient.osc import plugin
from spreaderclient.sdk import quota as sdk_quota

TITLES = ("Resource", "Used", "Limit")


def _rows(quota: sdk_quota.Quota) -> Iterable[Sequence[Any]]:
    for resource in sdk_quota.RESOURCES:
        found = getattr(quota, resource)
        yield resource, found["used"], found["limit"]


def _limit(text: str) -> int | None:
    if text == "default":
        return None
    return -1 if text in ("unlimited", "-1") else arguments.number(text)


class ShowQuota(command.Lister):
    """Show what a project has and may have; a limit of -1 is none."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "project",
            metavar="<project-id>",
            type=arguments.identity,
            nargs="?",
            help="Id of another project than your own (administrators only).",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        return TITLES, _rows(sdk_quota.Quota.of(plugin.client(self.app), parsed_args.project))


class SetQuota(command.Lister):
    """Change what a project may have (administrators only). What it has already, it keeps."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "project", metavar="<project-id>", type=arguments.identity, help="Id of the project."
        )
        for resource, what in (
            ("stacks", "stacks"),
            ("members", "members of its stacks, all together"),
            ("units", "units of its stacks, all together"),
            ("clouds", "clouds of its own"),
        ):
            parser.add_argument(
                f"--{resource}",
                metavar="N",
                type=_limit,
                default=argparse.SUPPRESS,
                help=f"How many {what}; 'unlimited', or 'default' for the service's own limit.",
            )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        limits = {
            resource: getattr(parsed_args, resource)
            for resource in sdk_quota.RESOURCES
            if hasattr(parsed_args, resource)
        }
        if not limits:
            raise exceptions.CommandError("Nothing to change: no option says what.")
        client = plugin.client(self.app)
        return TITLES, _rows(sdk_quota.Quota.change(client, parsed_args.project, limits))
