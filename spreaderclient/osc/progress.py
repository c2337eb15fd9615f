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

"""``--wait``: a live line on a terminal, a line per change elsewhere, and an end in any case."""

import argparse
import shutil
import sys
from typing import TextIO

from spreaderclient import sdk
from spreaderclient.osc import arguments
from spreaderclient.osc import columns
from spreaderclient.sdk import stack as sdk_stack


def add_arguments(parser: argparse.ArgumentParser, until: str) -> None:
    parser.add_argument(
        "--wait",
        action="store_true",
        help=f"Wait until {until}, and show the progress on standard error: the live line has, for "
        "each cloud, the units that run of those it should have. Ctrl-C ends the waiting only; the "
        "service goes on with the work.",
    )
    parser.add_argument(
        "--wait-timeout",
        metavar="SECONDS",
        type=arguments.number,
        default=600,
        help="With --wait, give up after this many seconds (default: 600) with exit code 1; the "
        "service goes on with the work. 0 waits without an end.",
    )


def wait(client: sdk.Proxy, stack: sdk_stack.Stack, args: argparse.Namespace) -> None:
    """Until the stack is settled; a stack that is degraded is settled, with a warning."""
    with _Line(sys.stderr, stack.name) as line:
        stack.wait(client, timeout=args.wait_timeout or None, seen=line.show)
    if stack.status == "DEGRADED":
        print(f"Stack {stack.name} is DEGRADED: {stack.status_reason}", file=sys.stderr)


def wait_gone(client: sdk.Proxy, stack: sdk_stack.Stack, args: argparse.Namespace) -> None:
    with _Line(sys.stderr, stack.name) as line:
        stack.wait_gone(client, timeout=args.wait_timeout or None, seen=line.show)


class _Line:
    """One line that is written over again, or, where that is not possible, a line per change."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._name = name
        self._last = ""

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._live and self._last:
            self._stream.write("\n")
        if kind is KeyboardInterrupt:
            self._stream.write(
                "Not waiting any longer. The service goes on with the work; "
                f"'openstack spreader stack show {self._name}' tells how far it is.\n"
            )
            # The exit code of a program that was interrupted.
            sys.exit(130)

    def show(self, stack: sdk_stack.Stack) -> None:
        line = self._text(stack)
        if line == self._last:
            return
        self._last = line
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[2K{line[:width]}")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    @staticmethod
    def _text(stack: sdk_stack.Stack) -> str:
        done = sum(member["status"] == "ACTIVE" for member in stack.members)
        unassigned = stack.ledger.get("unassigned")
        clouds = ", ".join(map(columns.spread, stack.members))
        return (
            f"{stack.name} {stack.status}: {done}/{len(stack.members)} members done, "
            f"{stack.ledger.get('confirmed', 0)}/{stack.count} units confirmed"
            + (f", {unassigned} unassigned" if unassigned else "")
            + (f": {clouds}" if clouds else "")
        )
