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

"""``openstack spreader member``: the parts of a stack, one in each of its clouds."""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from osc_lib import exceptions
from osc_lib import utils
from osc_lib.command import command

from spreaderclient.osc import arguments
from spreaderclient.osc import batch
from spreaderclient.osc import columns
from spreaderclient.osc import plugin
from spreaderclient.osc import progress
from spreaderclient.sdk import errors
from spreaderclient.sdk import member as sdk_member
from spreaderclient.sdk import stack as sdk_stack

FIELDS = (
    "cloud",
    "weight",
    "minimum",
    "maximum",
    "priority",
    "parameters",
    "share",
    "held",
    "observed_count",
    "confirmed",
    "observed_at",
    "status",
    "status_reason",
    "capacity",
    "full_until",
    "conflict",
    "missing_since",
    "busy_since",
    "check_asked",
    "verdict",
    "verdict_since",
    "verdict_reason",
    "heat_stack_id",
    "heat_status",
    "owned",
    "cloud_id",
)
FORMATS = {
    "maximum": columns.Plain,
    "parameters": columns.Json,
    "share": columns.Plain,
    "observed_count": columns.Plain,
    "observed_at": columns.Plain,
    "status_reason": columns.Sentence,
    "capacity": columns.Plain,
    "full_until": columns.Plain,
    "missing_since": columns.Plain,
    "busy_since": columns.Plain,
    "verdict_since": columns.Plain,
    "verdict_reason": columns.Sentence,
    "heat_stack_id": columns.Plain,
    "heat_status": columns.Plain,
}


def _show(member: sdk_member.Member) -> tuple[Sequence[str], Sequence[Any]]:
    return FIELDS, utils.get_item_properties(member, FIELDS, formatters=FORMATS)


class ListMember(command.Lister):
    """List the members of a stack: per cloud its weight and bounds, its share, and what runs.

    "Share" is what the cloud should have by weight, bounds and failover; "Running" is how
    many run for sure, by what Heat reported when it was last asked.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        parser.add_argument(
            "--long",
            action="store_true",
            help="Also show why each number is what it is, the parameters of each cloud, what it "
            "could take when it was full, and the Heat stacks.",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        titles = ["Cloud", "Weight", "Minimum", "Maximum", "Share", "Running", "Status", "Verdict"]
        fields = [
            "cloud",
            "weight",
            "minimum",
            "maximum",
            "share",
            "confirmed",
            "status",
            "verdict",
        ]
        if parsed_args.long:
            titles += ["Reason", "Verdict Reason", "Priority", "Parameters"]
            fields += ["status_reason", "verdict_reason", "priority", "parameters"]
            titles += ["Capacity", "Full Until", "Conflict", "Missing Since", "Busy Since"]
            fields += ["capacity", "full_until", "conflict", "missing_since", "busy_since"]
            titles += ["Heat Status", "Heat Stack ID", "Owned"]
            fields += ["heat_status", "heat_stack_id", "owned"]
        members = sdk_member.Member.list(plugin.client(self.app), stack_id=parsed_args.stack)
        return titles, (
            utils.get_item_properties(member, fields, formatters=FORMATS) for member in members
        )


class ShowMember(command.ShowOne):
    """Show the member of a stack in one cloud, and why its number is what it is."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        parser.add_argument(
            "cloud", metavar="<cloud>", type=arguments.identity, help="Name or id of the cloud."
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        member = sdk_member.Member.existing(stack_id=parsed_args.stack, cloud=parsed_args.cloud)
        return _show(member.fetch(plugin.client(self.app)))


class SetMember(command.ShowOne):
    """Change the member of a stack in one cloud, or make the stack spread over one more cloud.

    A cloud that is not a member yet becomes one: without --weight as a standby, which gets units
    only when another cloud fails.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        parser.add_argument(
            "cloud", metavar="<cloud>", type=arguments.identity, help="Name or id of the cloud."
        )
        parser.add_argument(
            "--weight",
            metavar="WEIGHT",
            type=arguments.weight,
            help="The fraction of the count that this cloud gets, from 0 to 1. To change several "
            "weights at once use 'openstack spreader weight set'.",
        )
        parser.add_argument(
            "--min",
            dest="minimum",
            metavar="N",
            type=arguments.number,
            help="The cloud has at least this many units, whatever its weight.",
        )
        maximum = parser.add_mutually_exclusive_group()
        maximum.add_argument(
            "--max",
            dest="maximum",
            metavar="N",
            type=arguments.number,
            help="The cloud has at most this many units, in failover, too. What does not fit goes to "
            "the other clouds.",
        )
        maximum.add_argument(
            "--no-max", action="store_true", help="Take the upper bound of this cloud away."
        )
        parser.add_argument(
            "--priority",
            metavar="N",
            type=arguments.number,
            help="With the failover rule 'ordered', clouds with a lower number take over first.",
        )
        parser.add_argument(
            "--param",
            metavar="KEY=VALUE",
            type=arguments.key_value,
            action="append",
            help="Give a template parameter its own value in this cloud; other parameters keep "
            "theirs. Repeat the option for more parameters.",
        )
        progress.add_arguments(parser, "the change has been carried out in every cloud")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        client = plugin.client(self.app)
        changes = {
            field: getattr(parsed_args, field)
            for field in ("weight", "minimum", "maximum", "priority")
            if getattr(parsed_args, field) is not None
        }
        if parsed_args.no_max:
            changes["maximum"] = None
        member = sdk_member.Member.existing(stack_id=parsed_args.stack, cloud=parsed_args.cloud)
        try:
            member.fetch(client)
        except errors.NotFound as error:
            if error.code != "spreader.member_not_found":
                raise
            member = sdk_member.Member.new(
                stack_id=parsed_args.stack,
                cloud=parsed_args.cloud,
                parameters=dict(parsed_args.param or {}),
                **changes,
            ).put(client)
        else:
            if parsed_args.param:
                changes["parameters"] = {**member.parameters, **dict(parsed_args.param)}
            if not changes:
                raise exceptions.CommandError("Nothing to change: no option says what.")
            for field, value in changes.items():
                setattr(member, field, value)
            member.commit(client)
        if parsed_args.wait:
            stack = sdk_stack.Stack.existing(id=parsed_args.stack).fetch(client)
            progress.wait(client, stack, parsed_args)
            member.fetch(client)
        return _show(member)


class UnsetMember(command.Command):
    """Take clouds out of a stack: their units move to the other clouds, then they are forgotten.

    The other clouds grow first. A Heat stack that the service created is deleted when it is empty;
    one that it took over is left running as it is.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        parser.add_argument(
            "clouds",
            metavar="<cloud>",
            type=arguments.identity,
            nargs="+",
            help="Names or ids of the clouds to take out.",
        )
        progress.add_arguments(parser, "the change has been carried out in every cloud")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        client = plugin.client(self.app)
        stack_id = parsed_args.stack
        with batch.Batch(self.log, parsed_args.clouds) as each:
            for cloud in parsed_args.clouds:
                with each.tried(cloud):
                    sdk_member.Member.existing(stack_id=stack_id, cloud=cloud).delete(client)
        if parsed_args.wait:
            stack = sdk_stack.Stack.existing(id=parsed_args.stack).fetch(client)
            progress.wait(client, stack, parsed_args)
