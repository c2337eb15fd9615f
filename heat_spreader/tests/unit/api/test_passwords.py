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

"""HTTP Basic: who gets in, as whom, and what a caller's own headers are worth."""

import base64
import os
import pathlib

import bcrypt
import fixtures as fixtures_lib
from oslotest import base
import webtest

from heat_spreader import exception
from heat_spreader.api import app
from heat_spreader.tests import fixtures


def line(user: str, password: str) -> str:
    # As few rounds as bcrypt knows, for the sake of those who wait for the tests.
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class TestHttpBasic(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "htpasswd"
        self.file.touch(0o600)
        self.file.write_text("# our people\n\n" + line("ann", "right") + line("bob", "w:rong"))
        self.api = self.useFixture(
            fixtures.API("http_basic", http_basic_auth_user_file=str(self.file))
        )
        self.http = webtest.TestApp(self.api.app)

    def status(self, headers: dict[str, str]) -> int:
        return self.http.get("/v1/stacks", headers=headers, expect_errors=True).status_int

    def test_who_knows_the_password_gets_in(self):
        for _ in range(2):  # the second time from memory
            self.assertEqual(200, self.status(basic("ann", "right")))
            self.assertEqual(200, self.status(basic("bob", "w:rong")))
            self.assertEqual(401, self.status(basic("bob", "right")))

    def test_nobody_else_does(self):
        for headers in (
            {},
            basic("ann", "wrong"),
            basic("ann", ""),
            basic("", "right"),
            basic("eve", "right"),
            basic("ann", "right" + "x" * 100),
            basic("ann", "right\x00"),
            {"Authorization": "Basic"},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic " + base64.b64encode(b"ann").decode()},
            {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
            {"Authorization": "Bearer right"},
        ):
            self.assertEqual(401, self.status(headers), headers)

    def test_the_refusal_has_our_form_and_says_how(self):
        response = self.http.get("/v1/stacks", expect_errors=True)
        self.assertEqual("spreader.unauthorized", response.json["errors"][0]["code"])
        self.assertIn('Basic realm="Heat Spreader"', response.headers["WWW-Authenticate"])

    def test_identity_headers_are_not_believed(self):
        spoofed = {
            "X-Identity-Status": "Confirmed",
            "X-User-Id": "root",
            "X-Project-Id": "blue",
            "X-Roles": "admin",
            "X-Auth-Token": "anything",
            "OpenStack-System-Scope": "all",
        }
        self.assertEqual(401, self.status(spoofed))
        stack = self.http.post_json(
            "/v1/stacks", {"name": "web", "count": 1}, headers=spoofed | basic("ann", "right")
        )
        self.assertEqual(("local", "ann"), (stack.json["project_id"], stack.json["user_id"]))

    def test_version_documents_need_no_password(self):
        for url in ("/", "/v1", "/healthcheck"):
            self.http.get(url, status=200)

    def test_the_file_is_read_again(self):
        self.assertEqual(200, self.status(basic("ann", "right")))
        self.file.write_text(line("ann", "changed") + line("eve", "right"))
        self.assertEqual(401, self.status(basic("ann", "right")))
        self.assertEqual(200, self.status(basic("ann", "changed")))
        self.assertEqual(200, self.status(basic("eve", "right")))
        self.assertEqual(401, self.status(basic("bob", "w:rong")))

    def test_hashes_of_another_kind_open_nothing(self):
        log = self.useFixture(fixtures_lib.FakeLogger("heat_spreader"))
        self.file.write_text("ann:right\nbob:$apr1$x$y\neve:$2y$broken\n")
        for user in ("ann", "bob", "eve"):
            self.assertEqual(401, self.status(basic(user, "right")))
        self.assertIn("line 2: not a user and a bcrypt hash", log.output)
        self.assertNotIn("$apr1$x$y", log.output)

    def test_a_file_that_goes_away_leaves_what_it_said(self):
        self.file.unlink()
        self.assertEqual(200, self.status(basic("ann", "right")))

    def test_it_does_not_start_without_the_file_or_with_one_that_all_may_read(self):
        os.chmod(self.file, 0o644)
        error = self.assertRaises(
            exception.StartupError, app.build_app, self.api.config.conf, None
        )
        self.assertIn("chmod 640", str(error))
        self.file.unlink()
        error = self.assertRaises(
            exception.StartupError, app.build_app, self.api.config.conf, None
        )
        self.assertIn("htpasswd -B", str(error))
