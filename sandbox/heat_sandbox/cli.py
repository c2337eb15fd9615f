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

"""The sandbox's commands: sandbox/up, down, status, cloud and logs.

They read the command line and print; what they do is in `sandbox`.
"""

import argparse
import collections.abc
import dataclasses
import functools
import json
import os
import pathlib
import shlex
import sys
import time

from heat_sandbox import debian
from heat_sandbox import identity
from heat_sandbox import install
from heat_sandbox import sandbox


def command(function: collections.abc.Callable[[], int]) -> collections.abc.Callable[[], int]:
    """Turn the errors that a person can do something about into one line and exit code 1."""

    @functools.wraps(function)
    def run() -> int:
        try:
            return function()
        except (
            sandbox.SandboxError,
            install.InstallError,
            identity.IdentityError,
            debian.DebianError,
        ) as error:
            print(f"sandbox/{function.__name__}: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted; sandbox/up goes on from here.", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # Whoever read our output has left. Python would complain again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1

    return run


def parser(name: str, about: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"sandbox/{name}", description=about)
    made.add_argument(
        "--dir",
        type=pathlib.Path,
        default=sandbox.TOP / ".sandbox",
        metavar="D",
        help="directory of the sandbox (default: .sandbox at the top of the repository)",
    )
    made.add_argument(
        "--venv",
        type=pathlib.Path,
        metavar="D",
        help="virtual environment with Keystone and Heat, which sandboxes may share "
        "(default: .sandbox-venv at the top of the repository)",
    )
    return made


@command
def up() -> int:
    options = parser(
        "up",
        "Start real OpenStack clouds on this machine: Keystone and some Heats, as processes of "
        "yours. Installs them first if need be. Called again it repairs what is dead and "
        "touches nothing else.",
    )
    default = sandbox.Settings()
    add = functools.partial(options.add_argument, default=argparse.SUPPRESS)
    add("--clouds", type=int, metavar="N", help=f"how many (default: {default.clouds})")
    add(
        "--topology",
        choices=["regions", "separate"],
        help="regions: one Keystone, a region for each Heat; separate: a Keystone for each Heat "
        f"(default: {default.topology})",
    )
    add(
        "--convergence",
        choices=["on", "off"],
        help="Heat's engine: on as in real clouds, off for the older and quicker one "
        f"(default: {default.convergence})",
    )
    add(
        "--messaging",
        choices=["fake", "rabbit"],
        help="fake: API and engine of a Heat in one process; rabbit: two processes and a "
        f"RabbitMQ (default: {default.messaging})",
    )
    add(
        "--base-port",
        type=int,
        metavar="P",
        help=f"first of the {sandbox.PORTS} ports it may use (default: {default.base_port})",
    )
    add(
        "--spreader-port",
        type=int,
        metavar="P",
        help="where the service catalogue says that Heat Spreader is "
        f"(default: {default.spreader_port})",
    )
    add(
        "--rpc-timeout",
        type=int,
        metavar="S",
        help="seconds that a Heat API waits for its engine, then it answers 500 "
        f"(default: {default.rpc_timeout})",
    )
    add(
        "--fast",
        action="store_true",
        help="take the pause of a second after each resource out of convergence; this is NOT "
        "the timing of a real Heat",
    )
    add(
        "--resource-limit",
        action="append",
        dest="resource_limits",
        metavar="CLOUD=N",
        help="a stack in this cloud may have N resources at most, as if its quota were full then; "
        "may be repeated",
    )
    given = vars(options.parse_args())
    if "resource_limits" in given:
        given["resource_limits"] = _limits(options, given["resource_limits"])
    box = sandbox.Sandbox(given.pop("dir"), given.pop("venv"))
    # What is not said stays as it is.
    settings = dataclasses.replace(box.settings() if box.exists() else default, **given)

    began = time.monotonic()
    keystones = settings.clouds if settings.topology == "separate" else 1
    print(
        f"Sandbox in {box.directory}: {count(settings.clouds, 'Heat')}, "
        f"{count(keystones, 'Keystone')}, convergence {settings.convergence}, "
        f"messaging {settings.messaging}",
        flush=True,
    )
    if settings.fast:
        print(
            "NOTE: --fast takes out a pause of Heat's; what this sandbox does in time says "
            "nothing about a real Heat."
        )
    box.up(settings)
    print(f"Ready after {time.monotonic() - began:.1f} seconds.\n")
    option = dir_option(box)
    last = settings.clouds
    print("What to type next:")
    for line, why in (
        (f". {shlex.quote(relative(box.openrc))}", "point OpenStack clients at cloud1"),
        (f"openstack --os-cloud cloud{last} stack list", "a real Heat; each cloud is an entry"),
        (f"sandbox/status{option}", "who is alive"),
        (f"sandbox/cloud{option} hang {last}", "it accepts and never answers; or resume"),
        (f"sandbox/cloud{option} stop {last}", "it crashed; or start"),
        (f"sandbox/logs{option} heat-1 -f", "what a Heat says"),
        (f"sandbox/down{option}", "end it; --delete removes its files too"),
    ):
        print(f"    {line:<46} # {why}")
    return 0


def _limits(options: argparse.ArgumentParser, given: list[str]) -> dict[str, int]:
    limits = {}
    for each in given:
        cloud, _, limit = each.partition("=")
        if not (cloud.isdigit() and limit.isdigit()):
            options.error(f"--resource-limit is given as CLOUD=N, like 3=12, not as {each}")
        limits[cloud] = int(limit)
    return limits


@command
def down() -> int:
    options = parser("down", "End all processes of the sandbox.")
    options.add_argument(
        "--delete", action="store_true", help="delete its files too, with all its stacks"
    )
    args = options.parse_args()
    box = sandbox.Sandbox(args.dir, args.venv)
    if not box.exists():
        print(f"There is no sandbox in {box.directory}.")
        return 0
    ended = box.down(args.delete)
    print(f"Ended {count(ended, 'process', 'processes')} of the sandbox in {box.directory}.")
    print("Its files are gone." if args.delete else "Its files are kept: sandbox/up continues.")
    return 0


@command
def status() -> int:
    options = parser(
        "status", "Show the processes of the sandbox; the exit code is 0 when all are live."
    )
    options.add_argument("--json", action="store_true", help="for programs")
    args = options.parse_args()
    box = sandbox.Sandbox(args.dir, args.venv)
    reports = box.status()
    well = all(report.state == "live" for report in reports)
    if args.json:
        by_name = {report.name: report for report in reports}
        document = {
            "directory": str(box.directory),
            "clouds_yaml": str(box.clouds_yaml),
            "live": well,
            "settings": dataclasses.asdict(box.settings()),
            "processes": [dataclasses.asdict(report) for report in reports],
            "clouds": [
                {
                    "name": cloud.name,
                    "region": cloud.region,
                    "auth_url": f"{cloud.keystone.url}/v3",
                    "url": cloud.heat.url,
                    "states": {
                        server.name: by_name[server.name].state for server in cloud.servers("heat")
                    },
                }
                for cloud in box.clouds()
            ],
        }
        print(json.dumps(document, indent=2))
        return 0 if well else 1
    print(f"{'PROCESS':<16}{'STATE':<8}{'PID':>8}{'UP':>9}{'MIB':>6}  {'URL':<24}REGION")
    for report in reports:
        print(
            f"{report.name:<16}{report.state:<8}{report.pid or '-':>8}"
            f"{duration(report.age):>9}{(report.memory or 0) >> 20 or '-':>6}  "
            f"{report.url or '-':<24}{report.region or '-'}"
        )
    if not well:
        print(f"\nNot all are live; sandbox/up{dir_option(box)} repairs that.")
    return 0 if well else 1


@command
def cloud() -> int:
    options = parser("cloud", "Make a cloud of the sandbox fail, and heal it.")
    options.add_argument(
        "action",
        choices=["stop", "start", "hang", "resume"],
        help="stop: kill it; start: start what is dead; hang: it accepts connections and never "
        "answers; resume: it goes on",
    )
    options.add_argument("cloud", nargs="+", help="its number or its name")
    options.add_argument(
        "--what",
        choices=["heat", "api", "engine", "keystone"],
        default="heat",
        help="which of its processes: heat means API and engine (default); api and engine alone "
        "differ with --messaging rabbit only",
    )
    args = options.parse_args()
    box = sandbox.Sandbox(args.dir, args.venv)
    act = {"stop": box.kill, "start": box.start, "hang": box.hang, "resume": box.resume}
    done = {"stop": "killed", "start": "live", "hang": "hung", "resume": "resumed"}
    for name in args.cloud:
        servers = box.cloud(name).servers(args.what)
        if not servers:
            raise sandbox.SandboxError(
                f"the {args.what} of cloud {name} is no process of its own here; a sandbox made "
                "with --messaging rabbit has one"
            )
        act[args.action](servers)
        print(f"{' and '.join(server.name for server in servers)}: {done[args.action]}")
    return 0


@command
def logs() -> int:
    options = parser("logs", "Show the end of the sandbox's logs.")
    options.add_argument("name", nargs="?", help="of this process only, as in sandbox/status")
    options.add_argument("-f", "--follow", action="store_true", help="and go on showing")
    options.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="how many")
    args = options.parse_args()
    files = sandbox.Sandbox(args.dir, args.venv).logs(args.name)
    if not files:
        raise sandbox.SandboxError("there are no logs yet")
    follow = ["-F"] if args.follow else []
    os.execvp("tail", ["tail", "-n", str(args.lines), *follow, *map(str, files)])


def count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def relative(path: pathlib.Path) -> str:
    """Give a path as one would type it from here."""
    here = pathlib.Path.cwd()
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path)


def dir_option(box: sandbox.Sandbox) -> str:
    if box.directory == sandbox.TOP / ".sandbox":
        return ""
    return f" --dir {shlex.quote(relative(box.directory))}"
