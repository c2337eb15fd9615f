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

"""Thousands of requests, made from the OpenAPI document of the API, by those who obey it and who do not.

usage: python -m heat_spreader.tests.conformance [--requests N] [--seed N]

Every answer has to be one that the document tells, and none may be a 5xx. schemathesis makes the
requests; ``tox -e conformance`` has it. The last line has the numbers, and the exit code is 0 only if
nothing was found.
"""

import argparse
import collections
import json
import logging
import random
import sys
import time
from typing import Any

import hypothesis
import schemathesis
from schemathesis import checks
import werkzeug.test

from heat_spreader.tests import fixtures

ENVIRON = {"REMOTE_ADDR": "127.0.0.1"}
TEMPLATE = "heat_template_version: rocky\nparameters: {count: {type: number}}\n"
# What requests can name: paths are filled in with one of these more often than with anything else.
FURNITURE = (
    ("POST", "/v1/clouds", {"name": "east", "shared": True}),
    ("POST", "/v1/clouds", {"name": "west", "shared": True}),
    (
        "POST",
        "/v1/stacks",
        {"name": "web", "count": 3, "template": TEMPLATE, "members": [{"cloud": "east"}]},
    ),
    ("POST", "/v1/stacks", {"name": "old", "count": 3, "members": [{"cloud": "west"}]}),
)
KNOWN = {"stack": ["web", "old"], "cloud": ["east", "west"], "project": ["local"]}
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


def _app(environ: dict[str, Any], start_response: Any, app: Any) -> Any:
    return app({**environ, **ENVIRON, "HTTP_HOST": "127.0.0.1:8797"}, start_response)


class Run:
    """One run against one API."""

    def __init__(self, app: Any, requests: int, seed: int) -> None:
        self.app = lambda environ, start: _app(environ, start, app)
        self.requests = requests
        self.random = random.Random(seed)
        self.statuses: collections.Counter[int] = collections.Counter()
        self.findings: dict[str, str] = {}

    def furnish(self) -> None:
        client = werkzeug.test.Client(self.app)
        for method, path, body in FURNITURE:
            client.open(
                path,
                method=method,
                data=json.dumps(body),
                headers={"Content-Type": "application/json"},
            )

    def run(self) -> None:
        schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", self.app)
        operations = [result.ok() for result in schema.get_all_operations()]
        left = [(operation, mode) for operation in operations for mode in MODES]
        while left:
            operation, mode = left.pop(0)
            # What one of them did not need, as there are not so many ways to ask for it, others get.
            share = (self.requests - self.statuses.total()) // (len(left) + 1)
            self.furnish()
            self._operation(operation, mode, max(1, share))

    def _operation(self, operation: Any, mode: Any, count: int) -> None:
        strategy = operation.as_strategy(generation_mode=mode)

        @hypothesis.seed(self.random.randrange(2**32))
        @hypothesis.settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def ask(case: Any) -> None:
            for name in case.path_parameters or {}:
                if name in KNOWN and self.random.random() < 0.7:
                    case.path_parameters[name] = self.random.choice(KNOWN[name])
            response = case.call()
            self.statuses[response.status_code] += 1
            try:
                case.validate_response(response, checks=CHECKS)
            except checks.FailureGroup as group:
                for failure in group.exceptions:
                    self._found(case, response, failure.title)

        try:
            ask()
        except hypothesis.errors.Unsatisfiable:
            pass  # there is no wrong way to ask for this

    def _found(self, case: Any, response: Any, what: str) -> None:
        key = f"{case.method} {case.operation.path}: {response.status_code}: {what}"
        if key not in self.findings:
            self.findings[key] = f"{case.as_curl_command()}\n{response.text[:500]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"seed {args.seed}")
    started = time.monotonic()
    with fixtures.API() as api:
        run = Run(api.app, args.requests, args.seed)
        run.run()
    for key, example in run.findings.items():
        print(f"\n{key}\n{example}")
    print(", ".join(f"{count} times {status}" for status, count in sorted(run.statuses.items())))
    print(
        f"{run.statuses.total()} requests, {len(run.findings)} findings in "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if run.findings or not run.statuses else 0


if __name__ == "__main__":
    sys.exit(main())
