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
"""The demonstration: ten units over three real Heats, one of which dies and comes back.

Everything it does to the service, it does with the commands that it prints. It believes no table of
the service's own: what it checks at the end of each act are the numbers in the Heats themselves.
"""

import dataclasses
import os
import shlex
import subprocess
import sys
import time
import typing

from heat_sandbox import cli
from heat_sandbox import process
from heat_sandbox import sandbox
from heat_sandbox import spreader

STACK = "web"
COUNT = 10
WEIGHTS = {"cloud1": ".6", "cloud2": ".2", "cloud3": ".2"}
TEMPLATE = sandbox.TOP / "sandbox" / "web.yaml"


class Unexpected(Exception):
    """A number that was announced did not come."""


@cli.command
def demo() -> int:
    options = cli.parser(
        "demo",
        "Show Heat Spreader at work on real clouds: 10 units spread 6/2/2, 7/3/0 when a cloud dies, "
        "6/2/2 when it is back. Installs what it needs on first use. Leaves all running.",
    )
    options.add_argument(
        "--once",
        action="store_true",
        help="end everything afterwards; exit code 1 if one of the numbers did not come",
    )
    options.add_argument(
        "--convergence",
        choices=["on", "off"],
        help="Heat's engine: on as in real clouds, off for the older one (default: on)",
    )
    options.add_argument(
        "--base-port", type=int, metavar="P", help="first port of the clouds (default: 15000)"
    )
    options.add_argument(
        "--spreader-port", type=int, metavar="P", help="port of Heat Spreader (default: 8797)"
    )
    given = vars(options.parse_args())
    once = given.pop("once")
    box = sandbox.Sandbox(given.pop("dir"), given.pop("venv"))
    settings = dataclasses.replace(
        box.settings() if box.exists() else sandbox.Settings(),
        **{name: value for name, value in given.items() if value is not None},
    )
    if settings.clouds < 3:
        raise sandbox.SandboxError(
            f"the sandbox in {box.directory} has too few clouds: three are needed; delete it "
            "(sandbox/down --delete) or choose another directory (--dir)"
        )
    service = spreader.Spreader(box)
    began = time.monotonic()
    try:
        Play(box, service, settings, began).run()
    except Unexpected as error:
        print(
            f"\nNOT AS ANNOUNCED: {error}\nThe log: {cli.relative(service.log)}", file=sys.stderr
        )
        if not once:
            print("Everything is left running, to be looked at; sandbox/down ends it.")
        return 1
    finally:
        if once:
            service.stop()
            box.down()
    print(f"\nAs announced, in {time.monotonic() - began:.0f} seconds.")
    if not once:
        _what_next(box)
    return 0


class Play:
    """The acts, one after the other."""

    def __init__(
        self,
        box: sandbox.Sandbox,
        service: spreader.Spreader,
        settings: sandbox.Settings,
        began: float,
    ) -> None:
        self.box = box
        self.service = service
        self.settings = settings
        self.screen = Screen(began)

    def run(self) -> None:
        title(f"Act 1. Three clouds, each a real Heat (convergence {self.settings.convergence})")
        self.box.up(self.settings)
        self.service.install()
        self.service.configure()
        self.service.start()
        self.clouds = self.box.clouds()[:3]
        self.caller = spreader.Caller(self.box)
        told(f"Heat Spreader listens on {self.service.url}, behind Keystone. Its operator names")
        told("the clouds, which are entries of the operator's clouds.yaml:")
        known = {c["name"] for c in self.caller.call("GET", "/v1/clouds")["clouds"]}
        for cloud in self.clouds:
            if cloud.name not in known:
                self.command(f"cloud create {cloud.name} --shared", entry="admin", columns="name")
        if self.caller.stack(STACK):
            told("A stack is left from last time; away with it:")
            self.command(f"stack delete {STACK} --wait")

        title(f"Act 2. A user asks for {COUNT} units: .6 of them in cloud1, .2 in each other")
        weights = " ".join(f"--weight {cloud}={weight}" for cloud, weight in WEIGHTS.items())
        template = cli.relative(TEMPLATE)
        self.command(
            f"stack create {STACK} --count {COUNT} -t {template} {weights}", columns="name"
        )
        self.watch("ACTIVE", {"cloud1": 6, "cloud2": 2, "cloud3": 2}, within=150)

        title("Act 3. cloud3 dies: its Heat is killed")
        told(
            "It becomes suspect at the first miss and unreachable at the third. For 5 seconds more"
        )
        told("that is tolerated. Then its weight goes to the other two: .7 and .3 of 10.")
        self.box.kill(self.clouds[2].servers("heat"))
        self.watch("DEGRADED", {"cloud1": 7, "cloud2": 3}, within=120, verdict="unreachable")

        title("Act 4. cloud3 is back, with the 2 units that nobody took from it")
        told(
            "After 3 good answers and 8 quiet seconds it takes part again. Now 12 units run, so the"
        )
        told("two others give back one each. At no moment were there fewer than 10.")
        self.box.start(self.clouds[2].servers("heat"))
        self.watch("ACTIVE", {"cloud1": 6, "cloud2": 2, "cloud3": 2}, within=150)

        title("Why these numbers?")
        self.command(f"stack show {STACK}")
        told("And what happened:")
        self.command(f"event list --stack {STACK} --limit 12", columns="created_at,cloud,message")

    def command(self, line: str, entry: str = "cloud1", columns: str = "") -> None:
        """Run one command of the client, as printed."""
        shown = f"openstack --os-cloud {entry} spreader {line}"
        print(f"\n$ {shown}", flush=True)
        arguments = shlex.split(shown)
        for column in columns.split(",") if columns else ():
            arguments += ["-c", column]
        done = subprocess.run(
            [self.service.bin / arguments[0], *arguments[1:]],
            cwd=os.getcwd(),
            env=process.environment(
                OS_CLIENT_CONFIG_FILE=str(self.box.clouds_yaml), CLIFF_MAX_TERM_WIDTH="110"
            ),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        for complaint in done.stderr.splitlines():
            # A client that Heat brings along has a command which its own library lacks.
            if "blazarclient" not in complaint:
                print(complaint, file=sys.stderr, flush=True)
        if done.returncode:
            raise Unexpected(f"the command ended with exit code {done.returncode}")

    def watch(
        self, status: str, wanted: dict[str, int], within: float, verdict: str | None = None
    ) -> None:
        """Show the stack until it has this status and the Heats themselves these counts."""
        print()
        deadline = time.monotonic() + within
        seen: set[str] = set()
        while True:
            stack = self.caller.stack(STACK)
            if stack is None:
                raise Unexpected(f"the stack {STACK} is gone")
            self.screen.show(stack)
            seen |= {m["verdict"] for m in stack["members"]}
            settled = stack["status"] == status and (
                verdict is None or any(m["verdict"] == verdict for m in stack["members"])
            )
            if (
                settled
                and {m["cloud"]: m["share"] for m in stack["members"] if m["share"]} == wanted
            ):
                break
            if time.monotonic() > deadline:
                raise Unexpected(
                    f"{status} with {wanted} did not come within {within:.0f} seconds; the stack is "
                    f"{stack['status']}: {stack['status_reason']}"
                )
            time.sleep(0.25)
        self.screen.done()
        in_heat = {
            cloud.name: self.caller.in_heat(cloud, STACK)
            for cloud in self.clouds
            if cloud.name in wanted
        }
        if in_heat != wanted:
            raise Unexpected(f"the Heats themselves say {in_heat}, not {wanted}")
        if verdict and not {"suspect", verdict} <= seen:
            raise Unexpected(f"the verdicts were {sorted(seen)}, without suspect or {verdict}")
        counts = ", ".join(f"{cloud} {count}" for cloud, count in in_heat.items())
        told(f"The Heats themselves say: {counts}.")


class Screen:
    """A live table on a terminal; elsewhere a line for each change."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._tty = sys.stdout.isatty()
        self._height = 0
        self._last = ""

    def show(self, stack: dict[str, typing.Any]) -> None:
        at = f"{time.monotonic() - self._began:6.1f} s"
        if not self._tty:
            members = "  ".join(
                f"{m['cloud']} {_running(m)}/{m['share']} ({m['verdict']})"
                for m in stack["members"]
            )
            text = f"{stack['status']:<10}  running/share: {members}"
            if text != self._last:
                print(f"{at}  {text}", flush=True)
                self._last = text
            return
        lines = [
            f"{at}  {stack['name']}: {stack['count']} wanted, {stack['status']}",
            f"  {'cloud':<8}{'weight':>7}{'share':>7}{'runs':>6}  {'its Heat says':<20}cloud is",
        ]
        lines += [
            f"  {m['cloud']:<8}{m['weight']:>7}{_dash(m['share']):>7}{_running(m):>6}  "
            f"{m['heat_status'] or '-':<20}{m['verdict']}"
            for m in stack["members"]
        ]
        ledger = stack["ledger"] or {}
        lines.append(
            f"  confirmed {ledger.get('confirmed', 0)}, in doubt {ledger.get('in_doubt', 0)}, "
            f"at most {ledger.get('bound', 0)} running"
        )
        up = f"\x1b[{self._height}A" if self._height else ""
        print(up + "".join(f"\x1b[2K{line}\n" for line in lines), end="", flush=True)
        self._height = len(lines)

    def done(self) -> None:
        """What comes next goes below."""
        self._height = 0
        self._last = ""


def _dash(value: object) -> str:
    return "-" if value is None else str(value)


def _running(member: dict[str, typing.Any]) -> str:
    """What runs there for all we know; a question mark while the cloud is out of sight."""
    if member["verdict"] != "healthy":
        return "?"
    return str(member["confirmed"])


def title(text: str) -> None:
    print(f"\n{text}\n{'=' * len(text)}", flush=True)


def told(text: str) -> None:
    print(text, flush=True)


def _what_next(box: sandbox.Sandbox) -> None:
    option = cli.dir_option(box)
    print("Everything goes on running. Play on:\n")
    for line, why in (
        (f". {shlex.quote(cli.relative(box.openrc))}", "point the client at it"),
        (f"openstack spreader stack set {STACK} --count 25 --wait", "more units"),
        (f"openstack spreader weight set {STACK} cloud1=.2 cloud2=.6", "elsewhere"),
        (f"sandbox/cloud{option} hang 2", "a cloud that accepts and never answers; or resume"),
        (f"openstack spreader stack show {STACK}", "why these numbers"),
        (f"sandbox/down{option}", "end it all"),
    ):
        print(f"    {line:<58} # {why}")
