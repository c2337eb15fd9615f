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
import getpass
import sys
import time
from typing import Any

from cliff.columns import FormattableColumn
from osc_lib import exceptions
from osc_lib import utils
from osc_lib.command import command

from spreaderclient.osc import arguments
from spreaderclient.osc import batch
from spreaderclient.osc import columns
from spreaderclient.osc import plugin
from spreaderclient.sdk import cloud as sdk_cloud


class Access(FormattableColumn[Any]):
    """One line for each step: what works, and what not and why."""

    def human_readable(self) -> str:
        words = {True: "works", False: "does not work", None: "not tried"}
        return "\n".join(
            f"{step}: {words[answer['ok']]}" + ("" if answer["ok"] else f" ({answer['detail']})")
            for step, answer in (self._value or {}).items()
        )


class Settings(FormattableColumn[Any]):
    """Name and value, one pair a line; certificates are not read by people."""

    def human_readable(self) -> str:
        return "\n".join(
            f"{name}: {'given' if name == 'cacert' else value}"
            for name, value in sorted((self._value or {}).items())
        )


class Lines(FormattableColumn[Any]):
    """Sentences, one below the other."""

    def human_readable(self) -> str:
        return "\n".join(self._value or ())


FIELDS = (
    "name",
    "id",
    "description",
    "kind",
    "config_cloud",
    "region",
    "shared",
    "credentials",
    "insecure",
    "access",
    "access_checked_at",
    "expires_at",
    "warnings",
    "projects",
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
    "config_cloud": columns.Plain,
    "credentials": Settings,
    "access": Access,
    "access_checked_at": columns.Plain,
    "expires_at": columns.Plain,
    "warnings": Lines,
    "projects": Lines,
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


OPTIONS = ("name", "kind", "config_cloud", "region", "description", "shared", "projects")
SECRET_OF = {
    "application_credential": "application_credential_secret",
    "password": "password",
}


def _add_credentials(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a cloud of your own",
        "The secret is asked for on the terminal, or read from --secret-file: what stands on a command "
        "line can be read by everybody on the machine.",
    )
    group.add_argument("--auth-url", metavar="URL", help="The address of its Keystone.")
    group.add_argument(
        "--application-credential-id",
        metavar="ID",
        help="An application credential of yours there. Most clouds let none create Heat stacks, and "
        "the answer says so; it can resize those that exist.",
    )
    group.add_argument("--username", metavar="USER", help="Or: a user there.")
    group.add_argument("--user-domain", metavar="DOMAIN", help="Its domain (default: Default).")
    group.add_argument("--project-name", metavar="PROJECT", help="The project there.")
    group.add_argument(
        "--project-domain", metavar="DOMAIN", help="Its domain (default: that of the user)."
    )
    group.add_argument(
        "--secret-file",
        metavar="FILE",
        type=argparse.FileType("r"),
        help="Where the secret is: its first line; '-' is standard input.",
    )
    group.add_argument(
        "--cacert",
        metavar="FILE",
        type=argparse.FileType("r"),
        help="Its private authority, in PEM.",
    )
    group.add_argument(
        "--timeout", metavar="SECONDS", type=float, help="How long its answers may take."
    )
    secure = group.add_mutually_exclusive_group()
    secure.add_argument(
        "--insecure-cloud",
        action="store_true",
        default=None,
        dest="insecure_cloud",
        help="Do not check its certificates (administrators only, and only where it is allowed).",
    )
    secure.add_argument(
        "--secure-cloud", action="store_false", dest="insecure_cloud", help="Check them again."
    )
    group.add_argument(
        "--project",
        action="append",
        dest="projects",
        metavar="ID",
        help="Let this project use the cloud, too; may be repeated (administrators only).",
    )


def _credentials(args: argparse.Namespace) -> dict[str, Any]:
    """What is handed over; the secret is asked for when it is clear that one is needed."""
    given: dict[str, Any] = {
        "auth_url": args.auth_url,
        "application_credential_id": args.application_credential_id,
        "username": args.username,
        "user_domain_name": args.user_domain,
        "project_name": args.project_name,
        "project_domain_name": args.project_domain,
        "cacert": args.cacert.read() if args.cacert else None,
        "timeout": args.timeout,
        "insecure": args.insecure_cloud,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if args.secret_file or set(given) - {"timeout"}:
        kind = "application_credential" if args.application_credential_id else "password"
        given[SECRET_OF[kind]] = _secret(args)
    return given


def _secret(args: argparse.Namespace) -> str:
    if args.secret_file:
        return str(args.secret_file.readline().rstrip("\r\n"))
    if not sys.stdin.isatty():
        raise exceptions.CommandError(
            "There is no terminal to ask for the secret; give it with --secret-file."
        )
    return getpass.getpass("Secret (application credential secret, or password): ")


def _tell(cloud: sdk_cloud.Cloud) -> None:
    for warning in cloud.warnings or ():
        print(f"Warning: {warning}", file=sys.stderr)


class CreateCloud(command.ShowOne):
    """Register a cloud, so that stacks can have members in it.

    A cloud of your own is reached with an application credential, or with a user and a password; and
    another region of this Keystone with a trust that is made from your token. An operator's cloud is
    reached with an entry of the service's own clouds.yaml. What these are good for is tried at once:
    the command waits for the answers. A Heat stack without resources is created and deleted for that.
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
            help="The region to use, where a Keystone serves several (default for an operator's cloud: "
            "the entry's own).",
        )
        parser.add_argument(
            "--trust",
            action="store_const",
            const="region",
            dest="kind",
            help="It is another region of this Keystone; a trust lets the service act for you there.",
        )
        parser.add_argument("--description", metavar="TEXT", help="A note for people.")
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help="Do not wait for what the credentials are good for.",
        )
        _add_sharing(parser)
        _add_credentials(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        client = plugin.client(self.app)
        wanted = {
            field: getattr(parsed_args, field)
            for field in OPTIONS
            if getattr(parsed_args, field) is not None
        }
        if given := _credentials(parsed_args):
            own = "application_credential" if parsed_args.application_credential_id else "password"
            wanted |= {"kind": own, "credentials": given}
        cloud = sdk_cloud.Cloud.new(**wanted).create(client)
        if cloud.kind != "config" and not parsed_args.no_wait:
            cloud.wait_checked(client, before=None)
        _tell(cloud)
        return _show(cloud)


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
        titles = ["Name", "Kind", "Verdict", "Since", "Latency ms", "Planned", "Stacks", "Units"]
        titles += ["Shared", "Warnings"]
        fields = [
            *("name", "kind", "verdict", "verdict_since", "latency_ms", "planned", "stacks"),
            *("units", "shared", "warnings"),
        ]
        if parsed_args.long:
            titles += ["Verdict Reason", "Config Cloud", "Region", "Expires", "Description", "ID"]
            fields += [
                "verdict_reason",
                "config_cloud",
                "region",
                "expires_at",
                "description",
                "id",
            ]
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
    """Change how a cloud is called, reached, described or shared.

    Other credentials take the place of the present ones without an interruption: hand over the new
    application credential first, and revoke the old one some seconds later.
    """

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
        _add_credentials(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        changes = {
            field: getattr(parsed_args, field)
            for field in (*OPTIONS, "lost")
            if getattr(parsed_args, field, None) is not None
        }
        if given := _credentials(parsed_args):
            changes["credentials"] = given
        if not changes:
            raise exceptions.CommandError("Nothing to change: no option says what.")
        cloud = sdk_cloud.Cloud.existing(id=parsed_args.cloud)
        for field, value in changes.items():
            setattr(cloud, field, value)
        cloud = cloud.commit(plugin.client(self.app))
        _tell(cloud)
        return _show(cloud)


class CheckCloud(command.ShowOne):
    """Try again what the credentials of a cloud are good for, and show the answers.

    The service gets a token, lists Heat stacks, and creates and deletes one without resources.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "cloud", metavar="<cloud>", type=arguments.identity, help="Name or id of the cloud."
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        client = plugin.client(self.app)
        cloud = sdk_cloud.Cloud.existing(id=parsed_args.cloud).check(client)
        cloud.wait_checked(client, before=cloud.access_checked_at)
        _tell(cloud)
        return _show(cloud)


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
