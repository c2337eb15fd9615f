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

"""``openstack spreader stack``: the stacks that are spread over clouds."""

import argparse
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import itertools
from typing import Any

from osc_lib import exceptions
from osc_lib import utils
from osc_lib.command import command

from spreaderclient import sdk
from spreaderclient.osc import arguments
from spreaderclient.osc import batch
from spreaderclient.osc import columns
from spreaderclient.osc import plugin
from spreaderclient.osc import progress
from spreaderclient.osc import template
from spreaderclient.osc import weight
from spreaderclient.sdk import stack as sdk_stack

# What a person looks for first comes first.
FIELDS = (
    "name",
    "id",
    "description",
    "status",
    "status_reason",
    "count",
    "ledger",
    "members",
    "last_decision",
    "generation",
    "observed_generation",
    "count_parameter",
    "min_clouds",
    "rounding",
    "failover",
    "failback",
    "surge",
    "rebalance",
    "repair",
    "parameters",
    "tags",
    "timeout_mins",
    "template",
    "environment",
    "files",
    "project_id",
    "user_id",
    "created_at",
    "updated_at",
)
FORMATS = {
    "status_reason": columns.Sentence,
    "ledger": columns.Ledger,
    "members": columns.Members,
    "last_decision": columns.Decision,
    "failover": columns.Json,
    "failback": columns.Json,
    "surge": columns.Surge,
    "rebalance": columns.Json,
    "repair": columns.Json,
    "parameters": columns.Json,
    "tags": columns.Json,
    "template": columns.Text,
    "environment": columns.Text,
    "files": columns.Text,
    "spread": columns.Spread,
}


def _cells(stack: sdk_stack.Stack, fields: Sequence[str], **more: Any) -> Sequence[Any]:
    values = {**stack.to_dict(), "spread": stack.members, **more}
    return utils.get_dict_properties(values, fields, formatters=FORMATS)


def _show(client: sdk.Proxy, stack: sdk_stack.Stack) -> tuple[Sequence[str], Sequence[Any]]:
    return FIELDS, _cells(stack, FIELDS, last_decision=stack.last_decision(client))


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """What can be given at creation and changed afterwards, alike."""
    parser.add_argument("--description", metavar="TEXT", help="A note for people.")
    parser.add_argument(
        "--count-parameter",
        "--parameter",
        metavar="NAME",
        type=arguments.template_parameter,
        help="The parameter of the Heat template that carries a cloud's share of the count (default: "
        "count). A template without it is refused.",
    )
    parser.add_argument(
        "--param",
        metavar="KEY=VALUE",
        type=arguments.key_value,
        action="append",
        help="A parameter of the template, the same in every cloud. Repeat the option for more "
        "parameters.",
    )
    parser.add_argument(
        "-e",
        "--environment",
        metavar="FILE",
        help="A Heat environment for every cloud, a local file.",
    )
    parser.add_argument(
        "--min-clouds",
        metavar="N",
        type=arguments.number,
        help="Keep at least one unit in each of this many clouds, as far as the count goes.",
    )
    parser.add_argument(
        "--rounding",
        choices=("exact", "ceil"),
        help="How shares become whole numbers. exact: they add up to the count (default). ceil: every "
        "cloud gets at least its part, so there may be more units than the count.",
    )
    parser.add_argument(
        "--failover-rule",
        choices=("even", "proportional", "ordered", "hold"),
        help="Who takes over the units of a cloud that fails. even: all other clouds in equal parts "
        "(default); proportional: by their weights; ordered: by their priority; hold: nobody.",
    )
    parser.add_argument(
        "--toleration",
        metavar="SECONDS",
        type=arguments.number,
        help="How long a cloud may be unreachable before its units are replaced elsewhere (default: "
        "60). Longer rides out short breaks; 0 replaces at once.",
    )
    parser.add_argument(
        "--stable",
        metavar="SECONDS",
        type=arguments.number,
        help="How long a cloud that came back must stay healthy before it gets its units back "
        "(default: 300); doubled each time that it goes away again soon after.",
    )
    parser.add_argument(
        "--failback",
        choices=("auto", "manual"),
        help="Whether units go back to a cloud that came back. auto: by themselves (default); manual: "
        "when 'openstack spreader stack failback' says so.",
    )
    parser.add_argument(
        "--failback-batch",
        metavar="N",
        type=arguments.number,
        help="How many units at a time go back to a cloud that came back (default: a tenth of the "
        "count, and no less than 10).",
    )
    parser.add_argument(
        "--surge",
        metavar="N",
        type=arguments.number_or_all,
        # None is a value here: all.
        default=argparse.SUPPRESS,
        help="How many units a failover may add while the lost ones may still be running somewhere "
        "out of sight: a number, or all (default).",
    )
    parser.add_argument(
        "--rebalance",
        metavar="MODE",
        choices=("immediate", "gradual", "on-demand"),
        help="How units move after a change of weights, to a cloud that is new, or to one that is back. "
        "immediate: at once (default); gradual: with at most --rebalance-step units under way at a "
        "time; on-demand: only when the count changes anyway. Failover never waits for it.",
    )
    parser.add_argument(
        "--rebalance-step",
        metavar="N",
        type=arguments.number,
        help="With --rebalance gradual, how many units may be under way at a time (default: 1).",
    )
    parser.add_argument(
        "--on-drift",
        choices=("heal", "report", "ignore"),
        help="What happens when somebody else changed the count in a cloud, or a check found units "
        "gone. heal: it is set back, once (default); report: it is left and shown; ignore: it is left.",
    )
    parser.add_argument(
        "--on-missing",
        choices=("recreate", "hold", "move"),
        help="What happens when somebody else deleted a Heat stack. recreate: it is created again "
        "(default); hold: nothing, until 'openstack spreader stack retry'; move: its units go to the "
        "other clouds until then.",
    )
    parser.add_argument(
        "--on-stuck",
        choices=("report", "retry"),
        help="What happens when an update does not end in its time. report: the stack says so "
        "(default); retry: the update is also sent again.",
    )
    parser.add_argument(
        "--timeout",
        dest="timeout_mins",
        metavar="MINUTES",
        type=arguments.number,
        help="How long Heat may take for one change in one cloud.",
    )


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The simple settings that were given; for those that are nested see :func:`_groups`."""
    simple = (
        "count",
        "count_parameter",
        "description",
        "min_clouds",
        "rounding",
        "surge",
        "timeout_mins",
    )
    # Only --surge can be there and None.
    return {
        name: value
        for name in simple
        if (value := getattr(args, name, None)) is not None or (name == "surge" and name in args)
    }


def _groups(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The nested settings, with no more in them than was given."""
    groups = {
        "failover": {"rule": args.failover_rule, "toleration": args.toleration},
        "failback": {
            "mode": args.failback,
            "stable": args.stable,
            "batch": args.failback_batch,
        },
        "rebalance": {"mode": args.rebalance, "step": args.rebalance_step},
        "repair": {
            "drift": args.on_drift,
            "missing": args.on_missing,
            "stuck": args.on_stuck,
        },
    }
    given = {
        group: {name: value for name, value in settings.items() if value is not None}
        for group, settings in groups.items()
    }
    return {group: settings for group, settings in given.items() if settings}


class CreateStack(command.ShowOne):
    """Create a stack: a count of units, spread over clouds by weight and kept that way.

    With a template (-t) a Heat stack is created in every cloud. Without one, the Heat stack of the
    same name that each cloud has already is taken over: the service changes its count and nothing
    else. Clouds can be given here, or later with 'openstack spreader weight set'.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "name", metavar="<name>", help="Name of the stack and of its Heat stacks."
        )
        parser.add_argument(
            "--count",
            metavar="N",
            type=arguments.number,
            required=True,
            help="How many units there shall be in all clouds together.",
        )
        parser.add_argument(
            "--weight",
            metavar="CLOUD=WEIGHT",
            type=arguments.cloud_weight,
            action="append",
            default=[],
            help="A cloud and the fraction of the count that it gets, for example cloud1=0.6. Repeat "
            "the option for more clouds. Weights add up to at most 1.",
        )
        parser.add_argument(
            "--cloud",
            metavar="CLOUD",
            action="append",
            default=[],
            help="A cloud that is a member, too: with --even one of those with equal weights, "
            "otherwise a standby, which gets units only when another cloud fails.",
        )
        parser.add_argument(
            "--even",
            action="store_true",
            help="Give every --cloud the same weight, 1/n rounded down to 9 decimals.",
        )
        parser.add_argument(
            "--min",
            dest="minimum",
            metavar="CLOUD=N",
            type=arguments.cloud_number,
            action="append",
            default=[],
            help="A cloud has at least this many units, whatever its weight.",
        )
        parser.add_argument(
            "--max",
            dest="maximum",
            metavar="CLOUD=N",
            type=arguments.cloud_number,
            action="append",
            default=[],
            help="A cloud has at most this many units, in failover, too.",
        )
        parser.add_argument(
            "--priority",
            metavar="CLOUD=N",
            type=arguments.cloud_number,
            action="append",
            default=[],
            help="With --failover-rule ordered, clouds with a lower number take over first.",
        )
        parser.add_argument(
            "-t",
            "--template",
            metavar="FILE",
            help="The Heat template, a local file. Local files that it names (get_file, and types "
            "that end in .yaml or .template) are sent along.",
        )
        parser.add_argument(
            "--cloud-param",
            metavar="CLOUD:KEY=VALUE",
            type=arguments.cloud_key_value,
            action="append",
            default=[],
            help="A parameter of the template with its own value in one cloud, for example "
            "cloud1:flavor=m1.small. Repeat the option for more.",
        )
        _add_settings(parser)
        parser.add_argument(
            "--tag",
            dest="tags",
            metavar="TAG",
            action="append",
            help="A tag to find the stack by. Repeat the option for more tags.",
        )
        progress.add_arguments(parser, "all units run")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        wanted = {"name": parsed_args.name, **_settings(parsed_args)}
        wanted["members"] = self._members(parsed_args)
        files: dict[str, str] = {}
        if parsed_args.template:
            wanted["template"] = template.read_template(parsed_args.template, files)
        if parsed_args.environment:
            wanted["environment"] = template.read_environment(parsed_args.environment, files)
        if files:
            wanted["files"] = files
        if parsed_args.param:
            wanted["parameters"] = dict(parsed_args.param)
        if parsed_args.tags:
            wanted["tags"] = parsed_args.tags
        wanted.update(_groups(parsed_args))
        client = plugin.client(self.app)
        stack = sdk_stack.Stack.new(**wanted).create(client)
        if parsed_args.wait:
            progress.wait(client, stack, parsed_args)
        return _show(client, stack)

    @staticmethod
    def _members(args: argparse.Namespace) -> list[dict[str, Any]]:
        """A body for each cloud, in the order in which they were named."""
        weights = arguments.once("--weight", args.weight)
        if args.even:
            if weights:
                raise exceptions.CommandError("Give --weight for each cloud, or --even, not both.")
            weights = weight.even(args.cloud)
        members: dict[str, dict[str, Any]] = {
            cloud: {"cloud": cloud, "weight": weights.get(cloud, "0")}
            for cloud in (*weights, *args.cloud)
        }
        for option, field, pairs in (
            ("--min", "minimum", args.minimum),
            ("--max", "maximum", args.maximum),
            ("--priority", "priority", args.priority),
        ):
            for cloud, value in arguments.once(option, pairs).items():
                _member(members, option, cloud)[field] = value
        for cloud, (key, value) in args.cloud_param:
            _member(members, "--cloud-param", cloud).setdefault("parameters", {})[key] = value
        return list(members.values())


def _member(members: dict[str, dict[str, Any]], option: str, cloud: str) -> dict[str, Any]:
    if cloud not in members:
        raise exceptions.CommandError(
            f"{option} names {cloud}, which no --weight and no --cloud makes a member."
        )
    return members[cloud]


class ListStack(command.Lister):
    """List stacks: what is wanted, what runs for sure, and how it is spread.

    "Confirmed" counts the units that reachable clouds report; "In Doubt" those that were last seen
    in a cloud that is out of sight. The spread has, for each cloud, what runs of what it should have.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--name", metavar="NAME", help="Only the stack of this name.")
        parser.add_argument(
            "--status",
            metavar="STATUS",
            type=str.upper,
            help="Only stacks in this status: PENDING, CONVERGING, ACTIVE, DEGRADED, ERROR, DELETING.",
        )
        parser.add_argument("--tag", metavar="TAG", help="Only stacks with this tag.")
        parser.add_argument(
            "--cloud",
            metavar="CLOUD",
            help="Only stacks with a member in this cloud (name or id).",
        )
        parser.add_argument(
            "--all-projects",
            action="store_true",
            help="List the stacks of all projects (administrators only).",
        )
        parser.add_argument(
            "--limit",
            metavar="N",
            type=arguments.number,
            help="Show at most this many stacks (default: all).",
        )
        parser.add_argument(
            "--marker",
            metavar="ID",
            help="Begin after the stack with this id, to go on with a list.",
        )
        parser.add_argument(
            "--long",
            action="store_true",
            help="Also show why the status is what it is, tags, project and times.",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        titles = ["ID", "Name", "Status", "Count", "Confirmed", "In Doubt", "Spread"]
        fields = ["id", "name", "status", "count", "confirmed", "in_doubt", "spread"]
        if parsed_args.long:
            titles += ["Status Reason", "Tags", "Project ID", "Created At", "Updated At"]
            fields += ["status_reason", "tags", "project_id", "created_at", "updated_at"]
        query = {
            key: getattr(parsed_args, key)
            for key in ("name", "status", "tag", "cloud", "marker")
            if getattr(parsed_args, key) is not None
        }
        if parsed_args.all_projects:
            query["all_projects"] = True
        if parsed_args.limit:
            # The size of a page; the service may have a smaller one.
            query["limit"] = parsed_args.limit
        stacks = sdk_stack.Stack.list(plugin.client(self.app), **query)
        return titles, (
            _cells(
                stack,
                fields,
                confirmed=stack.ledger.get("confirmed"),
                in_doubt=stack.ledger.get("in_doubt"),
            )
            for stack in itertools.islice(stacks, parsed_args.limit)
        )


class ShowStack(command.ShowOne):
    """Show one stack, and why each number in it is what it is, now.

    For every member: weight, bounds, share, what Heat reports, the verdict on the cloud with its
    age, and the reason for the share. The ledger tells what runs for sure and what may be running
    in a cloud that is out of sight. The last decision is shown with its cause.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        client = plugin.client(self.app)
        return _show(client, sdk_stack.Stack.existing(id=parsed_args.stack).fetch(client))


class SetStack(command.ShowOne):
    """Change what is wanted of a stack; what no option names stays as it is.

    Weights and bounds of single clouds are changed with 'openstack spreader weight set' and
    'openstack spreader member set'.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "stack", metavar="<stack>", type=arguments.identity, help="Name or id of the stack."
        )
        parser.add_argument(
            "--count",
            metavar="N",
            type=arguments.number,
            help="How many units there shall be in all clouds together.",
        )
        _add_settings(parser)
        parser.add_argument(
            "--tag",
            dest="tags",
            metavar="TAG",
            action="append",
            help="Add a tag. Repeat the option for more tags.",
        )
        parser.add_argument(
            "--no-tag",
            action="store_true",
            help="Take all tags away. With --tag, the tags given there replace them.",
        )
        parser.add_argument(
            "--generation",
            metavar="N",
            type=arguments.number,
            help="Change the stack only if it is still at this generation, which 'openstack spreader "
            "stack show' tells: fail when somebody else changed it in the meantime.",
        )
        progress.add_arguments(parser, "the change has been carried out in every cloud")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        client = plugin.client(self.app)
        stack = sdk_stack.Stack.existing(id=parsed_args.stack).fetch(client)
        changes = _settings(parsed_args)
        merged = self._merged(stack, parsed_args)
        if not changes and not merged:
            raise exceptions.CommandError("Nothing to change: no option says what.")
        for field, value in {**changes, **merged}.items():
            setattr(stack, field, value)
        if stack.requires_commit:
            # What is merged with what was read must not undo what somebody writes in between.
            expected = parsed_args.generation or (stack.generation if merged else None)
            if expected:
                stack.if_match = f'"{expected}"'
            stack.commit(client)
        if parsed_args.wait:
            progress.wait(client, stack, parsed_args)
        return _show(client, stack)

    @staticmethod
    def _merged(stack: sdk_stack.Stack, args: argparse.Namespace) -> dict[str, Any]:
        """The fields that are replaced whole by the service and in part by this command."""
        merged: dict[str, Any] = {}
        if args.param:
            merged["parameters"] = {**stack.parameters, **dict(args.param)}
        if args.tags or args.no_tag:
            kept = [] if args.no_tag else stack.tags
            merged["tags"] = list(dict.fromkeys([*kept, *(args.tags or [])]))
        for group, given in _groups(args).items():
            merged[group] = {**stack[group], **given}
        if args.environment:
            files: dict[str, str] = {}
            merged["environment"] = template.read_environment(args.environment, files)
            if files:
                merged["files"] = {**(stack.files or {}), **files}
        return merged


def _add_stacks(parser: argparse.ArgumentParser, what_for: str) -> None:
    parser.add_argument(
        "stacks",
        metavar="<stack>",
        type=arguments.identity,
        nargs="+",
        help=f"Names or ids of the stacks {what_for}.",
    )


def _act(
    this: command.Command,
    args: argparse.Namespace,
    action: Callable[[sdk_stack.Stack, sdk.Proxy], sdk_stack.Stack],
) -> None:
    """Ask it of all stacks first, and wait for them afterwards."""
    client = plugin.client(this.app)
    asked: dict[str, sdk_stack.Stack] = {}
    with batch.Batch(this.log, args.stacks) as each:
        for name in args.stacks:
            with each.tried(name):
                asked[name] = action(sdk_stack.Stack.existing(id=name), client)
        if args.wait:
            for name, stack in asked.items():
                with each.tried(name):
                    progress.wait(client, stack, args)


class CheckStack(command.Command):
    """Have each Heat compare its records of stacks with what exists.

    Heat does not notice by itself when a unit dies; what it finds missing is dealt with as --on-drift
    of the stack says. 'openstack spreader stack show' tells what came of it, and 'openstack spreader
    event list' has it all.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_stacks(parser, "to check")
        progress.add_arguments(
            parser, "the clouds in sight were checked and what was found is done"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _act(self, parsed_args, sdk_stack.Stack.check)


class RetryStack(command.Command):
    """Try again at once what failed in stacks, did not fit, was fought over or is missing.

    Clouds that were full are offered units again, a count that somebody else keeps changing is set
    once more, and a Heat stack that somebody deleted is created again, whatever --on-missing says.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_stacks(parser, "to try again")
        progress.add_arguments(parser, "the service has done what it can in every cloud")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _act(self, parsed_args, sdk_stack.Stack.retry)


class FailbackStack(command.Command):
    """Have units of stacks go back to the clouds that are healthy again, without any more waiting.

    By itself the service waits until such a cloud has been healthy for the stable time of the stack; with
    --failback manual it waits for this command. Clouds that are still away, or in doubt, are not meant.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_stacks(parser, "to fail back")
        progress.add_arguments(parser, "the units are back")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _act(self, parsed_args, sdk_stack.Stack.failback_now)


class FailoverStack(command.Command):
    """Have stacks fail over from the clouds that are unreachable now (administrators only).

    The service does so by itself, but not while the brake is on: when at least three clouds, and more
    than half of all, went away at once, that may be a mistake of those who look. This command says that
    it is none. It also cuts short the time that a stack tolerates an outage. Clouds that become
    unreachable later are not meant. Their units may still be running where nobody can see them.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_stacks(parser, "to fail over")
        progress.add_arguments(parser, "the other clouds run what they can")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        _act(self, parsed_args, sdk_stack.Stack.force_failover)


class DeleteStack(command.Command):
    """Delete stacks with all their units.

    Heat stacks that the service created are deleted; those that it took over are left running and
    given back. A cloud that is out of sight is waited for: nothing is forgotten that may still run.
    The command may be repeated, to add --forget or --release to a deletion that is under way.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_stacks(parser, "to delete")
        parser.add_argument(
            "--release",
            action="store_true",
            help="Leave every Heat stack running as it is, and only forget about it.",
        )
        parser.add_argument(
            "--forget",
            action="store_true",
            help="Do not wait for clouds that are out of sight: what may still be there is left, and "
            "an event names it.",
        )
        progress.add_arguments(parser, "nothing is left of the stacks")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        client = plugin.client(self.app)
        params = {name: "true" for name in ("release", "forget") if getattr(parsed_args, name)}
        deleted: dict[str, sdk_stack.Stack] = {}
        with batch.Batch(self.log, parsed_args.stacks) as each:
            for name in parsed_args.stacks:
                with each.tried(name):
                    stack = sdk_stack.Stack.existing(id=name)
                    if parsed_args.wait:
                        # Its id, so that a new stack of this name is not taken for the old one.
                        stack.fetch(client)
                    stack.delete(client, params=params)
                    deleted[name] = stack
            if parsed_args.wait:
                for name, stack in deleted.items():
                    with each.tried(name):
                        progress.wait_gone(client, stack, parsed_args)
