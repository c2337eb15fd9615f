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

"""Requests made to do harm: each gets an answer that says what is wrong."""

import json
from typing import Any

from heat_spreader.tests.unit.api import test_app

MEBIBYTE = 1024 * 1024
TEMPLATE = "heat_template_version: rocky\nparameters: {count: {type: number}}\n"
LAUGHS = "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9) if before else 'ha'}]\n"
    for before, name in zip(" abcdefgh", "abcdefghi", strict=True)
    for before in [before.strip()]
)


def stack(**more: Any) -> bytes:
    return json.dumps({"name": "web", "count": 1, **more}).encode()


def raw(text: str) -> bytes:
    return f'{{"name": "web", {text}}}'.encode()


# What it is, the body, and the status.
BODIES: list[tuple[str, bytes, int]] = [
    ("ten thousand members", stack(members=[{"cloud": f"c{n}"} for n in range(10_000)]), 400),
    ("a template that Heat would not take", stack(template=TEMPLATE + "#" * 600_000), 400),
    ("a body without an end in sight", b" " * (3 * MEBIBYTE), 413),
    ("a billion laughs", stack(template=TEMPLATE + LAUGHS), 202),
    ("laughs in an environment", stack(template=TEMPLATE, environment=LAUGHS), 202),
    (
        "parameters that laugh",
        stack(template=f"heat_template_version: rocky\n{LAUGHS}parameters: *i\n"),
        400,
    ),
    ("an alias of itself", stack(template=TEMPLATE + "a: &a [*a]\n"), 202),
    (
        "a mapping merged into itself",
        stack(template="heat_template_version: rocky\nparameters: &p {count: {}, <<: *p}\n"),
        202,
    ),
    ("a template nested deeply", stack(template=TEMPLATE + "a: " + "[" * 300_000), 400),
    ("an environment nested deeply", stack(template=TEMPLATE, environment="{a: " * 100_000), 400),
    ("a template of anchors", stack(template=TEMPLATE + "".join(f"a{n}: &a{n} x\n" for n in range(5_000))), 202),
    ("a tag that would run something", stack(template=TEMPLATE + "a: !!python/object/apply:os.abort []\n"), 202),
    ("a body nested deeply", b'{"parameters": ' * 50_000, 400),
    ("a number of a thousand digits", raw('"count": ' + "9" * 1000), 400),
    ("a number of a million digits", raw('"count": ' + "9" * 1_000_000), 400),
    ("a huge exponent", raw('"count": 1e999999999'), 400),
    ("a huge exponent where a weight is", stack(members=[]).replace(b"[]", b'[{"cloud": "a", "weight": 1e-999999999}]'), 400),
    ("not a number", raw('"count": NaN'), 400),
    ("infinity", raw('"count": -Infinity'), 400),
    ("a count that is hardly one", raw('"count": 1.0000000000000000000000000000001'), 400),
    ("a name that reads backwards", json.dumps({"name": "a\u202eb", "count": 1}).encode(), 400),
    ("a name with a null", b'{"name": "a\\u0000", "count": 1}', 400),
    ("half a character", b'{"name": "web", "count": 1, "description": "\\ud800"}', 400),
    ("a description of control characters", b'{"name": "web", "count": 1, "description": "\\u001b[2J"}', 400),
    ("a key twice", b'{"name": "web", "name": "x", "count": 1}', 400),
    ("a key twice among very many", b"{" + b"".join(b'"%d":0,' % n for n in range(90_000)) + b'"89999":0}', 400),
    ("very many tags that cannot be put in order", stack(tags=["a", *range(120_000)]), 400),
    ("thousands of keys", stack(parameters={f"p{n}": 1 for n in range(5_000)}), 400),
    ("thousands of tags", stack(tags=[f"t{n}" for n in range(5_000)]), 400),
    ("files at odd places", stack(template=TEMPLATE, files={"../../etc/passwd": "x", "/x": "", "file:///x": "", "a\\b": ""}), 202),
    ("a file without a name", stack(template=TEMPLATE, files={"": "x"}), 400),
    ("a list where an object is", b"[]", 400),
    ("nothing", b"", 400),
    ("null", b"null", 400),
]  # fmt: skip


class TestBodies(test_app.APITest):
    def test_each_is_answered_in_our_form(self):
        for what, body, status in BODIES:
            response = self.http.request(
                "/v1/stacks",
                method="POST",
                body=body,
                headers={"Content-Type": "application/json"},
                expect_errors=True,
            )
            self.assertEqual(status, response.status_int, (what, response.text[:500]))
            if status >= 400:
                self.assertLess(len(self.error(response)["detail"]), 1500, what)
                self.assertNotIn("Traceback", response.text)
            else:
                self.forget()

    def forget(self) -> None:
        from heat_spreader.db import api as db_api

        with db_api.engine().begin() as connection:
            connection.exec_driver_sql("DELETE FROM stacks")


class TestTheRest(test_app.APITest):
    """What is not in a body."""

    def test_each_is_a_mistake_of_the_client(self):
        long = "x" * 100_000
        for what, method, url, headers, status in (
            ("a key twice", "GET", "/v1/stacks?limit=1&limit=2", {}, 400),
            ("a long query", "GET", f"/v1/stacks?name={long}", {}, 400),
            ("many queries", "GET", "/v1/stacks?" + "&".join(f"a{n}=1" for n in range(5000)), {}, 400),
            ("an unknown query", "GET", "/v1/stacks?_method=DELETE", {}, 400),
            ("a large limit", "GET", f"/v1/stacks?limit={'9' * 5000}", {}, 400),
            ("a marker that is none", "GET", "/v1/events?marker=-1", {}, 400),
            ("a date that is none", "GET", f"/v1/events?since={long}", {}, 400),
            ("a long name", "GET", f"/v1/stacks/{long}", {}, 404),
            ("a deep path", "GET", "/v1/stacks/" + "a/" * 5000, {}, 404),
            ("a path that climbs", "GET", "/v1/stacks/../../etc/passwd", {}, 404),
            ("a null in a path", "GET", "/v1/stacks/a%00b", {}, 404),
            ("a method of its own", "TRACE", "/v1/stacks", {}, 405),
            ("a long method", "X" * 5000, "/v1/stacks", {}, 405),
            ("a long version", "GET", "/v1/stacks", {"OpenStack-API-Version": long}, 200),
            ("versions", "GET", "/v1/stacks", {"OpenStack-API-Version": "multi-region-orchestration " + "9" * 5000}, 400),
            ("a long tag", "DELETE", "/v1/stacks/web", {"If-Match": f'"{long}"'}, 412),
            ("no tag", "DELETE", "/v1/stacks/web", {"If-Match": " " * 50_000 + "x"}, 400),
            ("many tags", "DELETE", "/v1/stacks/web", {"If-Match": '"0", ' * 20_000 + '"0"'}, 412),
            ("another type", "POST", "/v1/stacks", {"Content-Type": "text/yaml"}, 415),
            ("a type of parts", "POST", "/v1/stacks", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
            ("two types", "POST", "/v1/stacks", {"Content-Type": "application/json, text/plain"}, 415),
        ):  # fmt: skip
            self.http.post_json("/v1/stacks", {"name": "web", "count": 1}, expect_errors=True)
            response = self.http.request(
                url, method=method, headers=headers, body=b"", expect_errors=True
            )
            self.assertEqual(status, response.status_int, (what, response.text[:300]))
            if status >= 400:
                self.assertLess(len(self.error(response)["detail"]), 1500, what)
