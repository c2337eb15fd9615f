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

"""``openstack spreader event``: what was asked, decided and done, with causes."""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
import datetime
import itertools
import re
from typing import Any

from osc_lib import utils
from osc_lib.command import command

from spreaderclient.osc import arguments
from spreaderclient.osc import columns
from spreaderclient.osc import plugin
from spreaderclient.sdk import event as sdk_event

# What the service gives in one page.
PAGE = 1000

FORMATS = {
    "stack_name": columns.Plain,
    "cloud": columns.Plain,
    "before": columns.Json,
    "after": columns.Json,
    "evidence": columns.Json,
}


def since(text: str) -> str:
    """An ISO 8601 time as it is, or 90s, 15m, 2h, 1d ago as one."""
    ago = re.fullmatch(r"([0-9]+)([smhd])", text)
    if ago:
        units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        delta = datetime.timedelta(**{units[ago[2]]: int(ago[1])})
        return f"{datetime.datetime.now(datetime.UTC) - delta:%Y-%m-%dT%H:%M:%SZ}"
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a time such as 2026-01-31T12:00:00Z nor an age such as 15m "
            "(s, m, h, d)."
        ) from None
    return text


class ListEvent(command.Lister):
    """List what happened to stacks and clouds, newest first.

    Every change of a share has its event with the cause: a user's request, or what was seen of a
    cloud. With --long the evidence is shown, too.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--stack",
            metavar="STACK",
            type=arguments.identity,
            help="Only events of this stack (name or id).",
        )
        parser.add_argument(
            "--cloud", metavar="CLOUD", help="Only events about this cloud (name or id)."
        )
        parser.add_argument(
            "--type", metavar="TYPE", help="Only events of this type, for example stack.update."
        )
        parser.add_argument(
            "--since",
            metavar="TIME",
            type=since,
            help="Only events from this time on: 2026-01-31T12:00:00Z, or an age: 90s, 15m, 2h, 1d.",
        )
        parser.add_argument(
            "--limit",
            metavar="N",
            type=arguments.number,
            default=50,
            help="Show at most this many events (default: 50); 0 shows all.",
        )
        parser.add_argument(
            "--long",
            action="store_true",
            help="Also show who did it, by which request, what was before and after, and the "
            "evidence.",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        titles = ["ID", "Time", "Stack", "Cloud", "Type", "Message"]
        fields = ["id", "created_at", "stack_name", "cloud", "type", "message"]
        if parsed_args.long:
            titles += ["Actor", "Roles", "Request ID", "Global Request ID"]
            fields += ["actor", "roles", "request_id", "global_request_id"]
            titles += ["Before", "After", "Evidence"]
            fields += ["before", "after", "evidence"]
        query = {
            key: getattr(parsed_args, key)
            for key in ("cloud", "type", "since")
            if getattr(parsed_args, key) is not None
        }
        events = sdk_event.Event.list(
            plugin.client(self.app),
            base_path=f"/stacks/{parsed_args.stack}/events" if parsed_args.stack else None,
            limit=min(parsed_args.limit or PAGE, PAGE),
            **query,
        )
        return titles, (
            utils.get_item_properties(event, fields, formatters=FORMATS)
            for event in itertools.islice(events, parsed_args.limit or None)
        )
