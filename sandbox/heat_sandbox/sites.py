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

"""Two sites over one database, and one of them switched off in the middle of a change.

Each site has an API, an engine and a message bus of its own; none is the first. What is looked at is what the Heats
themselves say.
"""

import collections.abc
import sys
import time

from heat_sandbox import cli
from heat_sandbox import sandbox
from heat_sandbox import site
from heat_sandbox import spreader

STACK = "web"
TEMPLATE = sandbox.TOP / "sandbox" / "web.yaml"
# What an engine may still have had in mind, beside its lease: a look at the clouds, the change itself, and a
# sweep of the other one. It is generous, as a busy machine is slow.
BESIDE = 45


class Unexpected(Exception):
    """What was announced did not come."""


@cli.command
def sites() -> int:
    options = cli.parser(
        "sites",
        "Two sites of Heat Spreader, each with an API, an engine and a message bus, over one database, "
        "beside a sandbox of its own. The first is switched off while its engine works on a change; the "
        "other has to finish it.",
    )
    options.add_argument(
        "--database",
        choices=["mariadb", "postgresql"],
        default="mariadb",
        help="(default: mariadb)",
    )
    options.add_argument(
        "--base-port", type=int, default=24500, metavar="P", help="first of its 100 ports (24500)"
    )
    given = options.parse_args()
    box = sandbox.Sandbox(
        given.dir if given.dir != sandbox.TOP / ".sandbox" else sandbox.TOP / ".sandbox-sites",
        given.venv,
    )
    if box.exists():
        box.down(delete=True)
    service = spreader.Spreader(box)
    deployed = None
    try:
        box.up(
            sandbox.Settings(
                convergence="off",
                base_port=given.base_port,
                spreader_port=given.base_port + site.API + 1,
            )
        )
        service.install()
        deployed = site.Site(box, apis=2, engines=2, database_kind=given.database, regions=True)
        deployed.make()
        seconds = show(box, deployed)
    except Unexpected as error:
        print(
            f"NOT AS ANNOUNCED: {error}; the logs are in {cli.relative(box.directory)}",
            file=sys.stderr,
        )
        return 1
    finally:
        if deployed is not None:
            deployed.down()
        box.down()
    lease = site.SETTINGS["engine"]["claim_lease"]
    print(
        f"The other site finished the change {seconds:.1f} s after the first was switched off; "
        f"a lease is {lease} s."
    )
    box.down(delete=True)
    return 0


def show(box: sandbox.Sandbox, deployed: site.Site) -> float:
    """:returns: seconds from the switch to the Heats' showing what was wanted"""
    first = spreader.Caller(box, "cloud1", deployed.url("api-1"))
    second = spreader.Caller(box, "cloud1", deployed.url("api-2"))
    admin = spreader.Caller(box, "admin", deployed.url("api-1"))
    clouds = box.clouds()
    for cloud in clouds:
        admin.call("POST", "/v1/clouds", {"name": cloud.name, "shared": True})
    weights = dict(zip([cloud.name for cloud in clouds], ("0.6", "0.2", "0.2"), strict=True))
    first.call(
        "POST",
        "/v1/stacks",
        {
            "name": STACK,
            "count": 10,
            "template": TEMPLATE.read_text(),
            "members": [{"cloud": name, "weight": weight} for name, weight in weights.items()],
        },
    )

    def counts() -> list[int | None]:
        return [second.in_heat(cloud, STACK) for cloud in clouds]

    def status() -> object:
        stack = second.stack(STACK)
        return stack and (stack["status"], stack["observed_generation"])

    until(lambda: status() == ("ACTIVE", 1) and counts() == [6, 2, 2], "6, 2 and 2", 90)
    print(
        "Site one was asked for 10 units, and the Heats show 6, 2 and 2. Site two says the same."
    )

    # So that it is the first site's engine that begins. What is lowered is so only when what was raised runs, so
    # the change has two steps.
    deployed.hang("engine-2")
    swapped = dict(zip(weights, ("0.2", "0.6", "0.2"), strict=True))
    first.call("PUT", f"/v1/stacks/{STACK}/weights", {"weights": swapped})
    until(lambda: counts() == [6, 6, 2], "cloud2 is raised", 30)
    for name in ("api-1", "engine-1"):
        deployed.kill(name)
    switched = time.monotonic()
    deployed.start("engine-2")
    print("Site one was asked to move 4 units, has raised cloud2 for them, and is switched off.")
    within = site.SETTINGS["engine"]["claim_lease"] + BESIDE  # type: ignore[operator]
    until(lambda: counts() == [2, 6, 2], "2, 6 and 2", within)
    took = time.monotonic() - switched
    until(lambda: status() == ("ACTIVE", 2), "ACTIVE", 30)
    second.call("PATCH", f"/v1/stacks/{STACK}", {"count": 5})
    until(lambda: counts() == [1, 3, 1], "1, 3 and 1", 60)
    second.call("DELETE", f"/v1/stacks/{STACK}")
    until(lambda: second.stack(STACK) is None, "the stack is gone", 60)
    return took


def until(true: collections.abc.Callable[[], object], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise Unexpected(f"{what}, after {seconds} s")
        time.sleep(0.2)
