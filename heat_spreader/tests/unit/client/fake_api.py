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

"""``openstack …`` in this process, against an API that is faked at the HTTP edge.

The commands, python-openstackclient's shell around them and openstacksdk under them are the real
ones. What is asserted is what a person sees and what goes over the wire. Nothing of the service is
imported here.
"""

import contextlib
import dataclasses
import io
import json
import logging
from typing import Any

import fixtures
from openstackclient import shell
from osc_lib import clientmanager
from oslotest import base
from requests_mock.contrib import fixture as requests_mock_fixture

from spreaderclient.osc import plugin

API = "http://spreader.test:8797"
STACK_ID = "11111111-1111-4111-8111-111111111111"
VERSION = {
    "id": "v1.0",
    "status": "CURRENT",
    "min_version": "1.0",
    "version": "1.0",
    "links": [{"rel": "self", "href": f"{API}/v1/"}],
}


def member(cloud: str, weight: str, share: int | None, running: int | None, **more: Any) -> dict:
    return {
        "cloud": cloud,
        "cloud_id": f"id-of-{cloud}",
        "weight": weight,
        "minimum": 0,
        "maximum": None,
        "priority": 0,
        "parameters": {},
        "share": share,
        "held": running or 0,
        "observed_count": running,
        "confirmed": running or 0,
        "heat_stack_id": f"heat-in-{cloud}",
        "heat_status": "CREATE_COMPLETE",
        "owned": True,
        "verdict": "healthy",
        "verdict_since": "2026-01-01T00:00:00Z",
        "verdict_reason": "",
        "status": "ACTIVE" if running == share else "CONVERGING",
        "status_reason": f"weight {weight} of 10 is {share}",
        "observed_at": "2026-01-01T00:00:00Z",
        "capacity": None,
        "full_until": None,
        "conflict": False,
        "missing_since": None,
        "busy_since": None,
        "check_asked": False,
        **more,
    }


def stack(*members: dict, **more: Any) -> dict:
    members = members or (
        member("cloud1", "0.6", 6, 6),
        member("cloud2", "0.2", 2, 2),
        member("cloud3", "0.2", 2, 2),
    )
    running = sum(each["observed_count"] or 0 for each in members)
    return {
        "id": STACK_ID,
        "name": "web",
        "description": "",
        "project_id": "project",
        "user_id": "user",
        "count": 10,
        "count_parameter": "count",
        "min_clouds": 0,
        "rounding": "exact",
        "template": "heat_template_version: wallaby\nresources: {}\n",
        "environment": None,
        "files": {},
        "parameters": {},
        "tags": [],
        "timeout_mins": 60,
        "failover": {"rule": "even", "toleration": 60},
        "failback": {"mode": "auto", "stable": 300, "batch": None},
        "surge": None,
        "rebalance": {"mode": "immediate", "step": 1},
        "repair": {"drift": "heal", "missing": "recreate", "stuck": "report"},
        "status": "ACTIVE",
        "status_reason": "",
        "generation": 3,
        "observed_generation": 3,
        "ledger": {
            "desired": 10,
            "assigned": 10,
            "unassigned": 0,
            "shortfall": 0,
            "excess": 0,
            "confirmed": running,
            "in_doubt": 0,
            "bound": running,
            "distance": 0,
        },
        "members": list(members),
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        **more,
    }


def event(number: int, **more: Any) -> dict:
    return {
        "id": number,
        "stack_id": STACK_ID,
        "stack_name": "web",
        "cloud": None,
        "cloud_id": None,
        "type": "stack.update",
        "message": "count 8 -> 10",
        "before": {"count": 8},
        "after": {"count": 10},
        "evidence": None,
        "actor": "alice",
        "roles": ["member", "reader"],
        "request_id": "req-7",
        "global_request_id": None,
        "created_at": "2026-01-01T00:00:00Z",
        **more,
    }


def error(status: int, code: str, detail: str) -> dict:
    return {
        "status_code": status,
        "json": {
            "errors": [
                {
                    "status": status,
                    "title": "Title",
                    "detail": detail,
                    "code": f"spreader.{code}",
                    "request_id": "req-42",
                }
            ]
        },
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclasses.dataclass
class Run:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class ShellTest(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        # No cloud of the person who runs the tests, and no long lines that wrap differently there.
        home = self.useFixture(fixtures.TempHomeDir()).path
        self.useFixture(fixtures.EnvironmentVariable("XDG_CONFIG_HOME", home))
        self.useFixture(fixtures.EnvironmentVariable("OS_CLIENT_CONFIG_FILE", f"{home}/none"))
        for name in ("OS_CLOUD", "OS_AUTH_TYPE", "OS_AUTH_URL", "OS_SPREADER_API_VERSION"):
            self.useFixture(fixtures.EnvironmentVariable(name))
        # Every shell adds its handlers to the root logger.
        root = logging.getLogger()
        self.addCleanup(setattr, root, "handlers", list(root.handlers))

    def run_openstack(self, *argv: str, terminal: bool = False) -> Run:
        # python-openstackclient keeps its clients for the life of the process, which is one command.
        manager = clientmanager.ClientManager
        manager.spreader = clientmanager.ClientCache(plugin.make_client)
        out, err = io.StringIO(), Terminal() if terminal else io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = shell.main(list(argv))
            except SystemExit as leave:
                code = int(leave.code or 0)
        return Run(code, out.getvalue(), err.getvalue())


class ApiTest(ShellTest):
    """With an API at ``API`` that has its version documents, and what each test adds."""

    def setUp(self) -> None:
        super().setUp()
        self.http = self.useFixture(requests_mock_fixture.Fixture())
        self.http.get(f"{API}/", json={"versions": [VERSION]})
        self.http.get(f"{API}/v1", json={"version": VERSION})
        self.http.get(f"{API}/v1/", json={"version": VERSION})

    def spreader(self, *argv: str, **keywords: Any) -> Run:
        return self.run_openstack(
            "--os-auth-type", "none", "--os-endpoint", API, "spreader", *argv, **keywords
        )

    def works(self, *argv: str, **keywords: Any) -> Run:
        run = self.spreader(*argv, **keywords)
        self.assertEqual(0, run.code, run.err)
        return run

    def url(self, path: str) -> str:
        return f"{API}/v1{path}"

    @property
    def wire(self) -> list[str]:
        """What was asked of the API, version documents left out: "GET /stacks?limit=1"."""
        return [
            f"{request.method} {request.url.removeprefix(API + '/v1')}"
            for request in self.http.request_history
            if request.url.rstrip("/") not in (API, f"{API}/v1")
        ]

    @property
    def writes(self) -> list[tuple[str, Any]]:
        return [
            (f"{request.method} {request.url.removeprefix(API + '/v1')}", _body(request))
            for request in self.http.request_history
            if request.method != "GET"
        ]

    def has_stack(self, *answers: dict) -> None:
        """The stack "web", by name and by id, with one answer after the other; no events."""
        answers = answers or (stack(),)
        for name in ("web", STACK_ID):
            self.http.get(self.url(f"/stacks/{name}"), [{"json": answer} for answer in answers])
        self.http.get(self.url(f"/stacks/{STACK_ID}/events"), json={"events": []})


def _body(request: Any) -> Any:
    return request.json() if request.body else None
