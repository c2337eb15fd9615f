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

"""The OpenAPI document says what the routes do, in the terms of its standard."""

import json
import re

import jsonschema

from heat_spreader.tests.unit.api import test_app
from heat_spreader.tests.unit.api import test_routes


class TestDocument(test_app.APITest):
    def setUp(self) -> None:
        super().setUp()
        self.response = self.http.get("/v1/openapi.json")
        self.document = self.response.json

    def operations(self):
        for url, methods in self.document["paths"].items():
            for verb, operation in methods.items():
                yield verb.upper(), url, operation

    def test_it_has_every_route_and_no_other(self):
        self.assertEqual("3.1.0", self.document["openapi"])
        self.assertEqual(
            set(test_routes.ROUTES), {(verb, url) for verb, url, _ in self.operations()}
        )

    def test_each_operation_has_a_name_of_its_own(self):
        names = [operation["operationId"] for _, _, operation in self.operations()]
        self.assertEqual(len(names), len(set(names)))

    def test_what_is_asked_for_is_what_is_checked(self):
        for verb, url, operation in self.operations():
            route = test_routes.ROUTES[verb, url]
            listed: dict[str, set[str]] = {}
            for parameter in operation["parameters"]:
                listed.setdefault(parameter["in"], set()).add(parameter["name"])
            self.assertEqual(set(route.query["properties"]), listed.get("query", set()))
            self.assertEqual(set(re.findall(r"{(\w+)}", url)), listed.get("path", set()))
            self.assertEqual(route.body is not None, "requestBody" in operation, (verb, url))
            self.assertEqual(list(route.rules), operation.get("x-openstack-rules", []))
            self.assertIn(str(route.status), operation["responses"])

    def test_schemas_are_schemas_and_every_reference_leads_somewhere(self):
        text = json.dumps(self.document)
        for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
            found = self.document
            for part in reference.split("/"):
                found = found[part]
        for _, _, operation in self.operations():
            for parameter in operation["parameters"]:
                jsonschema.Draft202012Validator.check_schema(parameter["schema"])
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                jsonschema.Draft202012Validator.check_schema(schema)
        # An end of text that ECMAScript does not know.
        self.assertNotIn("\\\\Z", text)

    def test_errors_have_the_form_that_it_tells(self):
        validator = jsonschema.Draft202012Validator(
            self.document["components"]["schemas"]["Errors"]
        )
        for url in ("/v1/stacks?x=1", "/v1/stacks/nope", "/nothing"):
            validator.validate(self.http.get(url, expect_errors=True).json)

    def test_it_needs_no_token(self):
        self.assertEqual([], self.document["paths"]["/v1/openapi.json"]["get"]["security"])
        self.assertEqual([{"token": []}], self.document["paths"]["/v1/stacks"]["get"]["security"])
