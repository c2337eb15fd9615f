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

"""Many clients at once: no change is lost, and no two together do what neither may."""

import concurrent.futures
import fractions

from heat_spreader.tests.unit.api import test_app


class TestConcurrency(test_app.APITest):
    def setUp(self) -> None:
        super().setUp()
        for name in ("east", "west"):
            self.http.post_json("/v1/clouds", {"name": name})
        members = [{"cloud": name, "weight": "0"} for name in ("east", "west")]
        self.http.post_json("/v1/stacks", {"name": "web", "count": 0, "members": members})

    def at_once(self, *requests):
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            return [f.result().status_int for f in [pool.submit(r) for r in requests]]

    def test_every_unconditional_change_is_made(self):
        def change(count):
            return lambda: self.http.patch_json("/v1/stacks/web", {"count": count})

        statuses = self.at_once(*(change(count) for count in range(8)))
        self.assertEqual([202] * 8, statuses)
        self.assertEqual(9, self.http.get("/v1/stacks/web").json["generation"])

    def test_one_of_those_who_saw_the_same_wins(self):
        def change(count):
            return lambda: self.http.patch_json(
                "/v1/stacks/web", {"count": count}, headers={"If-Match": '"1"'}, expect_errors=True
            )

        statuses = self.at_once(*(change(count) for count in range(1, 7)))
        self.assertEqual([202] + [412] * 5, sorted(statuses))
        self.assertEqual(2, self.http.get("/v1/stacks/web").json["generation"])

    def test_weights_that_fit_alone_but_not_together(self):
        def change(cloud, weight):
            return lambda: self.http.patch_json(
                f"/v1/stacks/web/members/{cloud}", {"weight": weight}, expect_errors=True
            )

        for _ in range(4):
            self.http.put_json("/v1/stacks/web/weights", {"weights": {}})
            statuses = self.at_once(change("east", "0.6"), change("west", "0.5"))
            self.assertEqual([202, 400], sorted(statuses))
            weights = self.http.get("/v1/stacks/web/weights").json["weights"]
            self.assertLessEqual(sum(map(fractions.Fraction, weights.values())), 1)

    def test_one_of_those_who_create_the_same_wins(self):
        def create():
            return self.http.post_json(
                "/v1/stacks", {"name": "new", "count": 1}, expect_errors=True
            )

        self.assertEqual([202] + [409] * 4, sorted(self.at_once(*[create] * 5)))
