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
"""What a Heat stack was made with can be changed only until it is made."""

import sqlalchemy as sa

from heat_spreader.db import api as db_api
from heat_spreader.db import models
from heat_spreader.tests.unit.api import test_app

TEMPLATE = """
heat_template_version: 2021-04-16
parameters: {count: {type: number}, image: {type: string, default: old}}
"""


class TestMadeWith(test_app.APITest):
    def setUp(self) -> None:
        super().setUp()
        self.http.post_json("/v1/clouds", {"name": "east"})
        self.http.post_json(
            "/v1/stacks",
            {
                "name": "web",
                "count": 1,
                "template": TEMPLATE,
                "members": [{"cloud": "east", "weight": "1"}],
            },
        )

    def make_heat_stack(self) -> None:
        with db_api.engine().begin() as connection:
            connection.execute(sa.update(models.Member).values(heat_stack_id="made"))

    def patch(self, path: str, body: dict, status: int) -> dict:
        return self.http.patch_json(path, body, status=status).json

    def test_before_it_is_made_a_mistake_can_be_put_right(self) -> None:
        stack = self.patch("/v1/stacks/web", {"parameters": {"image": "new"}}, 202)
        self.assertEqual({"image": "new"}, stack["parameters"])
        self.patch("/v1/stacks/web/members/east", {"parameters": {"image": "east"}}, 202)

    def test_afterwards_it_is_refused_and_said_where(self) -> None:
        self.make_heat_stack()
        (error,) = self.patch("/v1/stacks/web", {"parameters": {"image": "new"}}, 409)["errors"]
        self.assertEqual("spreader.heat_stack_exists", error["code"])
        self.assertIn("east", error["detail"])
        self.patch("/v1/stacks/web/members/east", {"parameters": {"image": "east"}}, 409)
        self.http.put_json(
            "/v1/stacks/web/members/east",
            {"weight": "1", "parameters": {"image": "x"}},
            status=409,
        )

    def test_afterwards_all_else_still_changes(self) -> None:
        self.make_heat_stack()
        self.patch("/v1/stacks/web", {"count": 2, "parameters": {}}, 202)
        self.patch("/v1/stacks/web/members/east", {"weight": "0.5", "parameters": {}}, 202)
