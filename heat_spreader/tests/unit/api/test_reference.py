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

"""The API reference says what the API does: its fields are those of the schemas, its examples real.

After a change of an answer, write the examples anew with
``SPREADER_WRITE_SAMPLES=1 stestr run test_reference`` and look at the difference.
"""

import json
import os
import re

from oslo_utils import uuidutils
import sqlalchemy as sa
import yaml

from heat_spreader.db import api as db_api
from heat_spreader.db import models
from heat_spreader.tests.unit.api import test_app
from heat_spreader.tests.unit.api import test_routes

SOURCE = test_routes.REFERENCE
SAMPLES = SOURCE / "samples"

TEMPLATE = """\
heat_template_version: 2018-08-31
parameters:
  size: {type: number}
  image: {type: string}
resources:
  servers:
    type: OS::Heat::ResourceGroup
    properties:
      count: {get_param: size}
      resource_def: {type: OS::Nova::Server, properties: {image: {get_param: image}}}
"""

STACK = {
    "name": "web",
    "description": "The shop's front end",
    "count": 10,
    "count_parameter": "size",
    "template": TEMPLATE,
    "parameters": {"image": "debian-12"},
    "tags": ["shop"],
    "failover": {"rule": "even", "toleration": 60},
    "members": [
        {"cloud": "east", "weight": "0.6", "maximum": 8},
        {"cloud": "north", "weight": "0.2"},
        {"cloud": "west", "weight": "0.2", "parameters": {"image": "debian-12-arm"}},
    ],
}

# name of the sample, method, URL, body
OWN_CLOUD = {
    "name": "mine",
    "kind": "application_credential",
    "region": "RegionOne",
    "credentials": {
        "auth_url": "https://keystone.elsewhere.example:5000/v3",
        "application_credential_id": "21f3a5c0d6b84e0e8f5e8a1b1b9a7f60",
        "application_credential_secret": "told-once-and-never-shown-again",
        "timeout": 15,
    },
}

STORY = [
    ("version-list", "GET", "/", None),
    ("version-show", "GET", "/v1/", None),
    ("cloud-create", "POST", "/v1/clouds", {"name": "east", "shared": True}),
    ("", "POST", "/v1/clouds", {"name": "north", "shared": True}),
    ("", "POST", "/v1/clouds", {"name": "west", "shared": True}),
    ("", "POST", "/v1/stacks", {"name": "old", "count": 1}),
    ("stack-create", "POST", "/v1/stacks", STACK),
    ("an engine", "", "", None),
    ("cloud-list", "GET", "/v1/clouds?limit=1", None),
    ("cloud-show", "GET", "/v1/clouds/east", None),
    ("observation-list", "GET", "/v1/clouds/east/observations", None),
    (
        "observation-create",
        "POST",
        "/v1/clouds/west/observations",
        {"observer": "probe-1", "zone": "south", "outcome": "ok", "expires_in": 300},
    ),
    (
        "alert-create",
        "POST",
        "/v1/alerts",
        {
            "status": "firing",
            "alerts": [
                {
                    "status": "firing",
                    "labels": {"alertname": "HeatDown", "cloud": "west"},
                    "annotations": {"summary": "Heat of west does not answer"},
                }
            ],
        },
    ),
    ("stack-list", "GET", "/v1/stacks?limit=1", None),
    ("stack-show", "GET", "/v1/stacks/web", None),
    ("member-list", "GET", "/v1/stacks/web/members", None),
    ("member-show", "GET", "/v1/stacks/web/members/east", None),
    ("weight-list", "GET", "/v1/stacks/web/weights", None),
    ("stack-update", "PATCH", "/v1/stacks/web", {"count": 12}),
    (
        "member-replace",
        "PUT",
        "/v1/stacks/web/members/east",
        {"weight": "0.6", "minimum": 1, "maximum": 9},
    ),
    ("member-update", "PATCH", "/v1/stacks/web/members/east", {"maximum": 10}),
    (
        "weight-replace",
        "PUT",
        "/v1/stacks/web/weights",
        {"weights": {"east": "0.5", "north": "0.3", "west": "0.2"}},
    ),
    ("event-list", "GET", "/v1/stacks/web/events?limit=2", None),
    ("stack-action", "POST", "/v1/stacks/web/actions", {"retry": None}),
    ("member-delete", "DELETE", "/v1/stacks/web/members/west", None),
    ("quota-show", "GET", "/v1/quotas", None),
    ("quota-update", "PATCH", "/v1/quotas/local", {"stacks": 20, "units": -1, "clouds": None}),
    ("cloud-create-own", "POST", "/v1/clouds", OWN_CLOUD),
    ("cloud-action", "POST", "/v1/clouds/mine/actions", {"check": None}),
    ("cloud-update", "PATCH", "/v1/clouds/west", {"cordoned": True}),
    ("stack-delete", "DELETE", "/v1/stacks/web", None),
    ("error", "GET", "/v1/stacks/shop", None),
]


def run_an_engine() -> None:
    """Leave in the database what a round leaves there once all is well."""
    with db_api.engine().begin() as connection:
        now = connection.scalar(sa.select(sa.func.max(models.Stack.created_at)))
        connection.execute(
            sa.update(models.Cloud).values(
                verdict="healthy",
                verdict_since=now,
                verdict_reason="it answers",
                verdict_rule="answers",
            )
        )
        for cloud_id in connection.scalars(sa.select(models.Cloud.id)).all():
            connection.execute(
                sa.insert(models.Observation).values(
                    cloud_id=cloud_id,
                    observer="engine-1",
                    outcome="ok",
                    detail="",
                    latency_ms=12,
                    misses=0,
                    goods=1,
                    since=now,
                    observed_at=now,
                    zone="north",
                    seen_at=now,
                )
            )
        for position, share in enumerate((6, 2, 2)):
            connection.execute(
                sa.update(models.Member)
                .where(models.Member.position == position)
                .values(
                    share=share,
                    held=share,
                    observed_count=share,
                    confirmed=share,
                    heat_stack_id=uuidutils.generate_uuid(),
                    owned=True,
                    heat_status="CREATE_COMPLETE",
                    observed_at=now,
                    status="ACTIVE",
                    status_reason=f"Weight 0.{share} of 10 is {share}.",
                )
            )
        ledger = {"desired": 10, "assigned": 10, "confirmed": 10, "bound": 10}
        ledger |= dict.fromkeys(("unassigned", "shortfall", "excess", "in_doubt"), 0)
        connection.execute(
            sa.update(models.Stack)
            .where(models.Stack.name == "web")
            .values(
                status="ACTIVE",
                status_reason="All 10 units run.",
                observed_generation=1,
                ledger=ledger,
            )
        )


class TestExamples(test_app.APITest):
    def test_each_is_what_the_api_answers(self):
        texts: dict[str, str] = {}
        for name, method, url, body in STORY:
            if not method:
                run_an_engine()
                continue
            response = self.http.request(
                url,
                method=method,
                body=b"" if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "Host": "127.0.0.1:8797"},
                expect_errors=name == "error",
            )
            if name and body is not None:
                texts[f"{name}-request.json"] = json.dumps(body, indent=2) + "\n"
            if name:
                texts[f"{name}-response.json"] = json.dumps(response.json, indent=2) + "\n"
        samples = self.with_lasting_values(texts)
        if os.environ.get("SPREADER_WRITE_SAMPLES"):
            SAMPLES.mkdir(exist_ok=True)
            for name, text in samples.items():
                (SAMPLES / name).write_text(text)
        self.assertEqual(set(samples), {path.name for path in SAMPLES.iterdir()})
        for name, text in samples.items():
            self.assertEqual((SAMPLES / name).read_text(), text, name)

    def with_lasting_values(self, texts: dict[str, str]) -> dict[str, str]:
        """Ids and times would differ at each run."""
        ids: dict[str, str] = {}

        def lasting(found: re.Match[str]) -> str:
            number = len(ids) + 1
            return ids.setdefault(found[0], f"{number:08x}-5a1e-4c0d-9e2f-7b61d3a4f8c5")

        lasting_texts = {}
        for name, text in texts.items():
            text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", lasting, text)
            text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-31T12:00:00Z", text)
            document = json.loads(text)
            for event in document.get("events", ()):
                for wanted in (event["before"], event["after"]):
                    # By cloud id, in the order of ids that are gone.
                    wanted["members"] = dict(sorted(wanted["members"].items()))
            lasting_texts[name] = json.dumps(document, indent=2) + "\n"
        return lasting_texts

    def test_each_is_shown(self):
        text = "".join(path.read_text() for path in SOURCE.glob("*.inc"))
        for path in SAMPLES.iterdir():
            self.assertIn(f".. literalinclude:: samples/{path.name}\n   :language: json", text)


def sections() -> dict[tuple[str, str], str]:
    """Method and URL of each route: the text about it."""
    found = {}
    for path in SOURCE.glob("*.inc"):
        parts = re.split(r"^\.\. rest_method:: (\S+) (\S+)$", path.read_text(), flags=re.M)
        for verb, url, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            found[verb, url] = text
    return found


def names(text: str, part: str) -> set[str]:
    """The fields listed under "Request" or "Response" of a section."""
    paragraphs = re.split(r"^(Request|Response)$", text, flags=re.M)
    listed = dict(zip(paragraphs[1::2], paragraphs[2::2], strict=True)).get(part, "")
    return set(re.findall(r"^   - (\S+): \S+$", listed, re.M))


class TestFields(test_app.base.BaseTestCase):
    def test_each_request_tells_all_that_the_schemas_take(self):
        texts = sections()
        for (verb, url), route in test_routes.ROUTES.items():
            taken = set(re.findall(r"{(\w+)}", url))
            taken |= set(route.query["properties"])
            taken |= set(route.body["properties"]) if route.body else set()
            if "{stack}" in url and verb in ("PUT", "PATCH", "DELETE"):
                taken.add("If-Match")
            self.assertEqual(taken, names(texts[verb, url], "Request"), (verb, url))

    def test_each_kind_of_record_is_told_in_full(self):
        texts = sections()
        for (verb, url), sample in {
            ("GET", "/v1/stacks/{stack}"): "stack-show",
            ("GET", "/v1/stacks/{stack}/members/{cloud}"): "member-show",
            ("GET", "/v1/stacks/{stack}/weights"): "weight-list",
            ("GET", "/v1/clouds/{cloud}"): "cloud-show",
            ("GET", "/v1/quotas/{project}"): "quota-show",
        }.items():
            answer = json.loads((SAMPLES / f"{sample}-response.json").read_text())
            self.assertEqual(set(answer), names(texts[verb, url], "Response"), url)
        seen = json.loads((SAMPLES / "observation-list-response.json").read_text())
        self.assertEqual(
            set(seen) | set(seen["observations"][0]),
            names(texts["GET", "/v1/clouds/{cloud}/observations"], "Response"),
        )
        events = json.loads((SAMPLES / "event-list-response.json").read_text())
        self.assertEqual(
            set(events) | set(events["events"][0]),
            names(texts["GET", "/v1/stacks/{stack}/events"], "Response"),
        )

    def test_each_field_is_described(self):
        described = set(yaml.safe_load((SOURCE / "parameters.yaml").read_text()))
        used = set()
        for text in sections().values():
            used |= set(re.findall(r"^   - \S+: (\S+)$", text, re.M))
        self.assertEqual(described, used)

    def test_each_route_tells_its_success_and_the_errors_that_it_has(self):
        texts = sections()
        for (verb, url), route in test_routes.ROUTES.items():
            codes = set(map(int, re.findall(r"^   - (\d{3})$", texts[verb, url], re.M)))
            expected = {route.status}
            if route.rule:
                expected |= {401, 403}
            if "{" in url:
                expected.add(404)
            if route.body:
                expected |= {400, 413, 415}
            if "{stack}" in url and verb in ("PUT", "PATCH", "DELETE"):
                expected |= {409, 412}
            self.assertEqual(set(), expected - codes, (verb, url))
