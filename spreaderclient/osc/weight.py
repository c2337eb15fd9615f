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

"""``openstack spreader weight``: which fraction of the count each cloud gets."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import decimal
from typing import Any

from osc_lib import exceptions
from osc_lib.command import command

from spreaderclient import sdk
from spreaderclient.osc import arguments
from spreaderclient.osc import columns
from spreaderclient.osc import plugin
from spreaderclient.osc import progress
from spreaderclient.sdk import member as sdk_member
from spreaderclient.sdk import stack as sdk_stack


def even(clouds: Sequence[str]) -> dict[str, str]:
    """One part in n for each, rounded down to the 9 decimals of a weight: the sum is at most 1."""
    if not clouds:
        raise exceptions.CommandError("--even needs clouds to spread the units over.")
    if len(clouds) == 1:
        return {clouds[0]: "1"}
    part = f"0.{10**9 // len(clouds):09d}".rstrip("0")
    return arguments.once("--even", ((cloud, part) for cloud in clouds))


def _names(stack: sdk_stack.Stack) -> dict[str, str]:
    """What to call the cloud of each id: its name, unless a cloud of another project shares it."""
    names = [member["cloud"] for member in stack.members]
    return {
        member["cloud_id"]: member["cloud"]
        if names.count(member["cloud"]) == 1
        else member["cloud_id"]
        for member in stack.members
    }


def _present(stack: sdk_stack.Stack) -> dict[str, str]:
    names = _names(stack)
    return {
        names[member["cloud_id"]]: member["weight"]
        for member in stack.members
        if member["status"] != "LEAVING"
    }


def _set(
    client: sdk.Proxy, stack: sdk_stack.Stack, given: Mapping[str, str], replace: bool
) -> None:
    """Make members of the clouds that are none, then change all weights at once."""
    names = _names(stack)
    given = {names.get(cloud, cloud): weight for cloud, weight in given.items()}
    present = _present(stack)
    wanted = dict(given) if replace else {**present, **given}
    # The service checks this, too; here it is checked before the first of several requests.
    total = sum(map(decimal.Decimal, wanted.values()))
    if total > 1:
        each = ", ".join(f"{cloud}={weight}" for cloud, weight in wanted.items())
        raise exceptions.CommandError(
            f"The weights of stack {stack.name} would add up to {total}, and they may add up to at "
            f"most 1: {each}. Name all that change in one command."
        )
    missing = [cloud for cloud in given if cloud not in present]
    if missing:
        for cloud in missing:
            sdk_member.Member.new(stack_id=stack.id, cloud=cloud, weight="0").put(client)
        stack.fetch(client)
        wanted = dict(given) if replace else {**_present(stack), **given}
    # Somebody who changes a weight at the same time must not be undone by the ones we keep.
    stack.set_weights(client, wanted, generation=None if replace else stack.generation)


def _rows(stack: sdk_stack.Stack) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    return ("Cloud", "Weight", "Share"), [
        (member["cloud"], member["weight"], columns.Plain(member["share"]))
        for member in stack.members
    ]


class SetWeight(command.Lister):
    """Set weights of clouds in a stack; the others keep theirs, and all change at once.

    A weight is the fraction of the count that a cloud gets. Weights add up to at most 1; what no
    weight claims stays unassigned. A cloud that is not a member of the stack yet becomes one.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        parser.add_argument(
            "weights",
            metavar="CLOUD=WEIGHT",
            nargs="+",
            help="A cloud and its weight, for example cloud1=0.6; with --even the clouds alone.",
        )
        parser.add_argument(
            "--replace",
            action="store_true",
            help="Give the weight 0 to every cloud that is not named, which makes it a standby.",
        )
        parser.add_argument(
            "--even",
            action="store_true",
            help="Give the named clouds equal weights, 1/n rounded down to 9 decimals; implies "
            "--replace.",
        )
        progress.add_arguments(parser, "every cloud has its new share")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        if parsed_args.even:
            weights = even(parsed_args.weights)
        else:
            try:
                pairs = [arguments.cloud_weight(text) for text in parsed_args.weights]
            except argparse.ArgumentTypeError as error:
                raise exceptions.CommandError(str(error)) from None
            weights = arguments.once("The command", pairs)
        client = plugin.client(self.app)
        stack = sdk_stack.Stack.existing(id=parsed_args.stack).fetch(client)
        _set(client, stack, weights, replace=parsed_args.replace or parsed_args.even)
        if parsed_args.wait:
            progress.wait(client, stack, parsed_args)
        return _rows(stack)


class UnsetWeight(command.Lister):
    """Set the weight of clouds in a stack to 0; the others keep theirs.

    The units of these clouds are taken away and become unassigned: weights are fractions of the
    count, and none grows by itself. The clouds stay members as standbys, which get units when
    another cloud fails; 'openstack spreader member unset' takes them out altogether.
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
            help="Names or ids of the clouds.",
        )
        progress.add_arguments(parser, "every cloud has its new share")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        client = plugin.client(self.app)
        stack = sdk_stack.Stack.existing(id=parsed_args.stack).fetch(client)
        for cloud in parsed_args.clouds:
            if not any(cloud in (member["cloud"], member["cloud_id"]) for member in stack.members):
                raise exceptions.CommandError(f"Stack {stack.name} has no member in {cloud}.")
        _set(client, stack, dict.fromkeys(parsed_args.clouds, "0"), replace=False)
        if parsed_args.wait:
            progress.wait(client, stack, parsed_args)
        return _rows(stack)


class ListWeight(command.Lister):
    """List the weights of a stack, with the share that each cloud gets by them now."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        client = plugin.client(self.app)
        return _rows(sdk_stack.Stack.existing(id=parsed_args.stack).fetch(client))
