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

"""Runs the stories in ``gabbits``, one file per noun, against the whole WSGI application.

A story sets itself up through the API. Its callers are the tokens below, which stand for a Keystone;
everything behind the token is the real thing.
"""

import hashlib
import pathlib
import sys
from typing import Any
import unittest

from gabbi import driver
from gabbi import fixture

from heat_spreader.tests import fixtures

# token: project and roles, as Keystone would tell them (a member is always a reader, too)
TOKENS = {
    "admin": ("operators", ["admin", "manager", "member", "reader"]),
    "green-member": ("green", ["member", "reader"]),
    "green-reader": ("green", ["reader"]),
    "green-nobody": ("green", ["auditor"]),
    "blue-member": ("blue", ["member", "reader"]),
    "service": ("service", ["service"]),
    "unscoped": (None, ["member", "reader"]),
}

SESAME = hashlib.sha256(b"sesame").hexdigest()

_app: list[Any] = []


class API(fixture.GabbiFixture):
    """The API on an empty database, for the length of one file."""

    max_limit = 1000

    def start_fixture(self) -> None:
        self._api = fixtures.API("keystone")
        self._api.setUp()
        self._api.config.set("api", max_limit=self.max_limit)
        # The SHA-256 of "sesame".
        self._api.config.set("health", watchdogs={"prometheus": SESAME}, watchdog_zones={})
        for token, (project, roles) in TOKENS.items():
            self._api.add_token(token, user=token, project=project, roles=roles)
        _app.append(self._api.app)

    def stop_fixture(self) -> None:
        _app.pop()
        self._api.cleanUp()


class SmallPages(API):
    """The same, with at most three records to a page."""

    max_limit = 3


def _serve(environ: Any, start_response: Any) -> Any:
    # gabbi asks for the application when it reads the files, before any fixture is set up.
    return _app[-1](environ, start_response)


def load_tests(loader: unittest.TestLoader, tests: Any, pattern: Any) -> unittest.TestSuite:
    return driver.build_tests(
        str(pathlib.Path(__file__).parent / "gabbits"),
        loader,
        intercept=lambda: _serve,
        fixture_module=sys.modules[__name__],
        test_loader_name=__name__,
    )
