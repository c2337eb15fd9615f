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

"""Nonsense of every kind is answered with an error that says so, never with a 500."""

import json

import hypothesis
from hypothesis import strategies as st
from oslotest import base
import sqlalchemy as sa
import webtest

from heat_spreader.api import schemas
from heat_spreader.db import api as db_api
from heat_spreader.db import models
from heat_spreader.tests import fixtures

SETTINGS = hypothesis.settings(
    max_examples=12,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)

text = st.text(max_size=12) | st.sampled_from(
    [
        "web",
        "east",
        "0.5",
        "",
        "\x00",
        "\ud800",
        "a" * 300,
        "heat_template_version: rocky",
        "[",
        "{",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=0, max_value=20)
    | st.floats()
    | text
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


TEMPLATE = """\
heat_template_version: rocky
parameters:
  count: {type: number}
  image: {type: string, default: x}
"""
STACK = {"name": "new", "count": 3, "members": [{"cloud": "east", "weight": "0.5"}]}


def shaped(schema):
    """Mostly what the schema asks for, at the right places: that is what reaches the handlers."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | documents
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([*(_of_type(kind, schema) for kind in types * 3), documents])


def _of_type(kind, schema):
    if kind == "integer":
        return st.integers(schema["minimum"] - 1, schema["maximum"] + 1) | st.integers(0, 3)
    if kind == "object":
        known = {name: shaped(inner) for name, inner in schema.get("properties", {}).items()}
        fixed = st.fixed_dictionaries({}, optional=known)
        return fixed if known else st.dictionaries(text, documents, max_size=3)
    if kind == "array":
        return st.lists(shaped(schema["items"]), max_size=3)
    return {
        "string": text,
        "null": st.none(),
        "boolean": st.booleans(),
        "number": st.decimals(0, 1, places=2).map(float) | st.floats(),
    }[kind]


@st.composite
def spoiled(draw, valid, schema):
    """A valid body in which up to three fields are other than they were, or missing, or unknown."""
    body = dict(valid)
    for name in draw(st.lists(st.sampled_from(sorted(schema["properties"])), max_size=3)):
        body[name] = draw(shaped(schema["properties"][name]))
    if draw(st.integers(0, 9)) == 0:
        body[draw(text)] = draw(documents)
    if body and draw(st.integers(0, 9)) == 0:
        del body[draw(st.sampled_from(sorted(body)))]
    return body


class TestFuzz(base.BaseTestCase):
    def setUp(self):
        super().setUp()
        api = self.useFixture(fixtures.API())
        self.http = webtest.TestApp(api.app, extra_environ={"REMOTE_ADDR": "127.0.0.1"})
        for name in ("east", "west"):
            self.http.post_json("/v1/clouds", {"name": name})
        self.http.post_json(
            "/v1/stacks",
            {
                "name": "web",
                "count": 1,
                "template": TEMPLATE,
                "members": [{"cloud": "east", "weight": "0.5"}],
            },
        )

    def answers(self, method, url, body):
        response = self.http.request(
            url,
            method=method,
            body=body if isinstance(body, bytes) else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            expect_errors=True,
        )
        hypothesis.event(f"{method} {response.status_int}")
        self.assertLess(response.status_int, 500, response.text)
        if response.status_int >= 400:
            self.assertLess(len(response.json["errors"][0]["detail"]), 1500)
        return response.status_int

    @SETTINGS
    @hypothesis.given(spoiled(STACK, schemas.STACK_CREATE))
    def test_create_a_stack(self, body):
        if self.answers("POST", "/v1/stacks", body) == 202:
            self.forget_stacks()

    @SETTINGS
    @hypothesis.given(spoiled({**STACK, "template": TEMPLATE}, schemas.STACK_CREATE))
    def test_create_a_stack_from_a_template(self, body):
        if self.answers("POST", "/v1/stacks", body) == 202:
            self.forget_stacks()

    def forget_stacks(self):
        # The name is taken otherwise, and only an engine ends a deletion.
        with db_api.engine().begin() as connection:
            for table in (models.Member, models.Stack):
                connection.execute(sa.delete(table))

    @SETTINGS
    @hypothesis.given(spoiled({"count": 2}, schemas.STACK_UPDATE))
    def test_change_a_stack(self, body):
        self.answers("PATCH", "/v1/stacks/web", body)

    @SETTINGS
    @hypothesis.given(spoiled({}, schemas.MEMBER_PUT), st.sampled_from(["east", "west"]))
    def test_change_a_member(self, body, cloud):
        self.answers("PUT", f"/v1/stacks/web/members/{cloud}", body)

    @SETTINGS
    @hypothesis.given(spoiled({"name": "new"}, schemas.CLOUD_CREATE))
    def test_register_a_cloud(self, body):
        if self.answers("POST", "/v1/clouds", body) == 201:
            self.answers("DELETE", f"/v1/clouds/{body['name']}", {})

    @SETTINGS
    @hypothesis.given(st.binary(max_size=60))
    def test_bytes(self, body):
        self.answers("POST", "/v1/stacks", body)

    @SETTINGS
    @hypothesis.given(
        st.dictionaries(
            st.sampled_from(
                ["limit", "marker", "name", "sort", "tag", "cloud", "since", "type", "release"]
            ),
            text.filter(lambda value: value.isprintable()) | st.integers().map(str),
            max_size=3,
        ),
        st.sampled_from(["/v1/stacks", "/v1/clouds", "/v1/events", "/v1/stacks/web/events"]),
    )
    def test_queries(self, query, url):
        response = self.http.get(url, params=query, expect_errors=True)
        self.assertLess(response.status_int, 500, response.text)
