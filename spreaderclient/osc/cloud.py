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

"""``openstack spreader cloud``: the places that stacks can be spread over."""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
import datetime
import sys
import time
from typing import Any

from osc_lib import exceptions
from osc_lib import utils
from osc_lib.command import command

from spreaderclient.osc import arguments
from spreaderclient.osc import batch
from spreaderclient.osc import columns
from spreaderclient.osc import plugin
from spreaderclient.sdk import cloud as sdk_cloud

FIELDS = (
    "name",
    "id",
    "description",
    "kind",
    "config_cloud",
    "region",
    "shared",
    "verdict",
    "verdict_since",
    "verdict_reason",
    "verdict_rule",
    "next_change",
    "relapses",
    "last_probe_at",
    "latency_ms",
    "cordoned",
    "cordoned_until",
    "draining",
    "draining_until",
    "lost",
    "stacks",
    "units",
    "project_id",
    "created_at",
    "updated_at",
)
FORMATS = {
    "region": columns.Plain,
    "verdict_since": columns.Plain,
    "verdict_reason": columns.Sentence,
    "verdict_rule": columns.Plain,
    "next_change": columns.Sentence,
    "votes": columns.Votes,
    "last_probe_at": columns.Plain,
    "latency_ms": columns.Plain,
    "cordoned_until": columns.Plain,
    "draining_until": columns.Plain,
}


def _show(cloud: sdk_cloud.Cloud) -> tuple[Sequence[str], Sequence[Any]]:
    return FIELDS, utils.get_item_properties(cloud, FIELDS, formatters=FORMATS)


def _add_sharing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--shared",
        action="store_true",
        default=None,
        help="Let every project spread stacks over this cloud (administrators only).",
    )
    group.add_argument(
        "--private",
        action="store_false",
        dest="shared",
        help="Let only the project that registered this cloud use it.",
    )


class CreateCloud(command.ShowOne):
    """Register a cloud, so that stacks can have members in it.

    The service reaches the cloud with an entry of its own clouds.yaml; nothing is written to the
    cloud by registering it. Its verdict is "unknown" until the first probe, a few seconds later.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="<name>", help="The name that stacks will use for it.")
        parser.add_argument(
            "--config-cloud",
            metavar="ENTRY",
            help="The entry in the service's clouds.yaml that has address and credentials (default: "
            "the entry with the name of the cloud).",
        )
        parser.add_argument(
            "--region",
            metavar="REGION",
            help="The region to use, for an entry whose Keystone serves several (default: the "
            "entry's own).",
        )
        parser.add_argument("--description", metavar="TEXT", help="A note for people.")
        _add_sharing(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        wanted = {
            field: getattr(parsed_args, field)
            for field in ("name", "config_cloud", "region", "description", "shared")
            if getattr(parsed_args, field) is not None
        }
        return _show(sdk_cloud.Cloud.new(**wanted).create(plugin.client(self.app)))


class ListCloud(command.Lister):
    """List the clouds that this project can use, with what the service holds to be true of each.

    "healthy" answers; "suspect" missed a probe; "unreachable" missed so many that stacks fail over;
    "refusing" answers, but not to the service's credentials; "unknown" was not probed yet.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--long",
            action="store_true",
            help="Also show why the verdict is what it is, where the credentials come from, and "
            "the id.",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        titles = ["Name", "Verdict", "Since", "Latency ms", "Planned", "Stacks", "Units", "Shared"]
        fields = [
            *("name", "verdict", "verdict_since", "latency_ms", "planned", "stacks", "units"),
            "shared",
        ]
        if parsed_args.long:
            titles += ["Verdict Reason", "Config Cloud", "Region", "Description", "ID"]
            fields += ["verdict_reason", "config_cloud", "region", "description", "id"]
        formats = {**FORMATS, "verdict_since": columns.Age}
        clouds = sdk_cloud.Cloud.list(plugin.client(self.app))
        return titles, (
            utils.get_dict_properties(
                {**cloud.to_dict(), "planned": _planned(cloud)}, fields, formatters=formats
            )
            for cloud in clouds
        )


def _planned(cloud: sdk_cloud.Cloud) -> str:
    """What an operator has said of a cloud, in a word."""
    for word in ("lost", "draining", "cordoned"):
        if getattr(cloud, word):
            return word
    return ""


class ShowCloud(command.ShowOne):
    """Show one cloud: its verdict, since when and why, who voted what, and what would change it next."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "cloud", metavar="<cloud>", type=arguments.identity, help="Name or id of the cloud."
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        client = plugin.client(self.app)
        cloud = sdk_cloud.Cloud.existing(id=parsed_args.cloud).fetch(client)
        votes = cloud.observations(client)
        fields = (*FIELDS, "votes")
        return fields, utils.get_dict_properties(
            {**cloud.to_dict(), "votes": votes}, fields, formatters=FORMATS
        )


class SetCloud(command.ShowOne):
    """Change how a cloud is called, reached, described or shared."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "cloud", metavar="<cloud>", type=arguments.identity, help="Name or id of the cloud."
        )
        parser.add_argument("--name", metavar="NAME", help="A new name for the cloud.")
        parser.add_argument(
            "--config-cloud",
            metavar="ENTRY",
            help="The entry in the service's clouds.yaml that has address and credentials.",
        )
        parser.add_argument("--region", metavar="REGION", help="The region to use.")
        parser.add_argument("--description", metavar="TEXT", help="A note for people.")
        _add_sharing(parser)
        group = parser.add_mutually_exclusive_group()
        group.add_argument(
            "--lost",
            action="store_true",
            default=None,
            help="Declare that nothing runs there any more and nothing will (administrators only): what "
            "stacks had there is replaced at once, whatever the brake and their surge say, and what is to be "
            "deleted there is not waited for.",
        )
        group.add_argument(
            "--not-lost",
            action="store_false",
            dest="lost",
            help="Take that back. What is found there is counted as it is.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        changes = {
            field: getattr(parsed_args, field)
            for field in ("name", "config_cloud", "region", "description", "shared", "lost")
            if getattr(parsed_args, field) is not None
        }
        if not changes:
            raise exceptions.CommandError("Nothing to change: no option says what.")
        cloud = sdk_cloud.Cloud.existing(id=parsed_args.cloud)
        for field, value in changes.items():
            setattr(cloud, field, value)
        return _show(cloud.commit(plugin.client(self.app)))


class DeleteCloud(command.Command):
    """Forget clouds. Nothing in the clouds themselves is touched.

    A cloud that still carries members of stacks is refused: take the members out first, with
    'openstack spreader member unset'.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "clouds",
            metavar="<cloud>",
            type=arguments.identity,
            nargs="+",
            help="Names or ids of the clouds to forget.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        client = plugin.client(self.app)
        with batch.Batch(self.log, parsed_args.clouds) as each:
            for name in parsed_args.clouds:
                with each.tried(name):
                    sdk_cloud.Cloud.existing(id=name).delete(client)


def _add_clouds(parser: argparse.ArgumentParser, what_for: str) -> None:
    parser.add_argument(
        "clouds",
        metavar="<cloud>",
        type=arguments.identity,
        nargs="+",
        help=f"Names or ids of the clouds {what_for}.",
    )


def _add_end(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--until",
        metavar="TIME",
        help="When it ends by itself, like 2026-01-31T23:59:59Z (default: never).",
    )
    group.add_argument(
        "--for",
        dest="seconds",
        metavar="SECONDS",
        type=arguments.number,
        help="After how many seconds it ends by itself.",
    )


def _plan(this: command.Command, args: argparse.Namespace, **changes: Any) -> None:
    """Ask the same of each cloud."""
    if getattr(args, "seconds", None) is not None:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=args.seconds)
        args.until = end.isoformat(timespec="seconds")
    if getattr(args, "until", None) is not None:
        (flag,) = changes
        changes[f"{flag}_until"] = args.until
    client = plugin.client(this.app)
    with batch.Batch(this.log, args.clouds) as each:
        for name in args.clouds:
            with each.tried(name):
                cloud = sdk_cloud.Cloud.existing(id=name)
                for field, value in changes.items():
                    setattr(cloud, field, value)
                cloud.commit(client)


class CordonCloud(command.Command):
    """Give clouds no new units; what runs there stays."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_clouds(parser, "that get nothing new")
        _add_end(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _plan(self, parsed_args, cordoned=True)


class UncordonCloud(command.Command):
    """Give clouds units again."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_clouds(parser, "that get units again")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _plan(self, parsed_args, cordoned=False)


class DrainCloud(command.Command):
    """Move all units of clouds to other ones, for example before work on them.

    The weight that each stack has there goes to its other clouds by its failover rule. These are raised
    first, so no stack ever has fewer units. 'openstack spreader cloud show' tells how many units are left.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_clouds(parser, "to drain")
        _add_end(parser)
        parser.add_argument(
            "--wait",
            action="store_true",
            help="Wait until no units are left there, and tell how many are whenever that changes. Ctrl-C "
            "ends the waiting only; the service goes on with the work.",
        )
        parser.add_argument(
            "--wait-timeout",
            metavar="SECONDS",
            type=arguments.number,
            default=3600,
            help="With --wait, give up after this many seconds (default: 3600) with exit code 1; the "
            "service goes on with the work.",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _plan(self, parsed_args, draining=True)
        if parsed_args.wait:
            self._wait(parsed_args)

    def _wait(self, args: argparse.Namespace) -> None:
        client = plugin.client(self.app)
        end = time.monotonic() + args.wait_timeout
        left: dict[str, int | None] = dict.fromkeys(args.clouds)
        pause = 0.2
        while any(units != 0 for units in left.values()):
            for name, before in left.items():
                cloud = sdk_cloud.Cloud.existing(id=name).fetch(client, skip_cache=True)
                left[name] = cloud.units
                if cloud.units != before:
                    print(
                        f"{cloud.name}: {cloud.units} unit(s) left ({cloud.verdict})",
                        file=sys.stderr,
                    )
            if time.monotonic() > end:
                raise exceptions.CommandError(
                    f"There are still units left after {args.wait_timeout} s; the service goes on with it."
                )
            time.sleep(pause)
            pause = min(1.5 * pause, 2.0)


class UndrainCloud(command.Command):
    """Let units come back to clouds that were drained."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_clouds(parser, "that get their units back")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _plan(self, parsed_args, draining=False)


class ReportCloud(command.Command):
    """Report what a watchdog sees of a cloud (role service, and administrators).

    It has a vote on the verdict like any observer, until it expires. The service goes on looking itself.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "cloud", metavar="<cloud>", type=arguments.identity, help="Name or id of the cloud."
        )
        group = parser.add_mutually_exclusive_group(required=True)
        group.add_argument(
            "--ok",
            action="store_const",
            const="ok",
            dest="outcome",
            help="It answers as it should.",
        )
        group.add_argument(
            "--unreachable",
            action="store_const",
            const="unreachable",
            dest="outcome",
            help="Nobody answers there.",
        )
        parser.add_argument(
            "--expires",
            metavar="SECONDS",
            type=arguments.number,
            default=300,
            help="For how many seconds this stands, from 10 to 86400 (default: 300).",
        )
        parser.add_argument(
            "--observer",
            metavar="NAME",
            type=arguments.identity,
            help="Name of the watchdog (default: the id of the user).",
        )
        parser.add_argument(
            "--zone",
            metavar="ZONE",
            help="Where it looks from. All observers of one zone have one vote together.",
        )
        parser.add_argument("--detail", metavar="TEXT", help="What it saw, for people.")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        more = {
            field: getattr(parsed_args, field)
            for field in ("observer", "zone", "detail")
            if getattr(parsed_args, field) is not None
        }
        sdk_cloud.Cloud.existing(id=parsed_args.cloud).report(
            plugin.client(self.app), parsed_args.outcome, expires_in=parsed_args.expires, **more
        )
