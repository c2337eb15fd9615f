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

"""``openstack spreader member``."""

from heat_spreader.tests.unit.client import fake_api


class TestMember(fake_api.ApiTest):
    CLOUD1 = fake_api.member("cloud1", "0.6", 6, 6, maximum=8, parameters={"flavor": "a"})

    def setUp(self):
        super().setUp()
        self.http.get(self.url("/stacks/web/members/cloud1"), json=self.CLOUD1)
        self.http.get(
            self.url("/stacks/web/members/cloud9"),
            **fake_api.error(404, "member_not_found", "Stack 'web' has no member in 'cloud9'."),
        )

    def test_list(self):
        away = fake_api.member("cloud2", "0.4", None, None, verdict="unknown")
        self.http.get(self.url("/stacks/web/members"), json={"members": [self.CLOUD1, away]})
        out = self.works("member", "list", "web").out
        self.assertIn("| cloud1 | 0.6    |       0 | 8       | 6     |       6 | ACTIVE", out)
        rows = self.works("member", "list", "web", "--long", "-f", "json").json
        self.assertEqual({"flavor": "a"}, rows[0]["Parameters"])
        self.assertEqual("weight 0.6 of 10 is 6", rows[0]["Reason"])
        self.assertIsNone(rows[1]["Share"])

    def test_list_tells_what_the_service_remembers(self):
        moment = "2026-01-01T00:00:00Z"
        full = fake_api.member("a", "1", 4, 4, status="FULL", capacity=4, full_until=moment)
        lost = fake_api.member("b", "0", 0, 0, conflict=True, missing_since=moment)
        self.http.get(self.url("/stacks/web/members"), json={"members": [full, lost]})
        self.assertIn("| FULL ", self.works("member", "list", "web").out)
        a, b = self.works("member", "list", "web", "--long", "-f", "json").json
        self.assertEqual((4, moment, False), (a["Capacity"], a["Full Until"], a["Conflict"]))
        self.assertEqual(
            (True, moment, None), (b["Conflict"], b["Missing Since"], b["Busy Since"])
        )

    def test_show(self):
        shown = self.works("member", "show", "web", "cloud1", "-f", "json").json
        self.assertEqual(self.CLOUD1, shown)

    def test_set_sends_what_changes(self):
        self.http.patch(self.url("/stacks/web/members/cloud1"), status_code=202, json=self.CLOUD1)
        self.works(
            *("member", "set", "web", "cloud1", "--weight", "0.50", "--min", "0", "--no-max"),
            *("--priority", "2", "--param", "net=n"),
        )
        self.assertEqual(
            [
                (
                    "PATCH /stacks/web/members/cloud1",
                    {
                        "weight": "0.50",
                        "maximum": None,
                        "priority": 2,
                        "parameters": {"flavor": "a", "net": "n"},
                    },
                )
            ],
            self.writes,
        )

    def test_set_makes_a_member_of_a_cloud_that_is_none(self):
        self.http.put(
            self.url("/stacks/web/members/cloud9"),
            status_code=202,
            json=fake_api.member("cloud9", "0", 0, None),
        )
        run = self.works(
            "member", "set", "web", "cloud9", "--max", "3", "-f", "value", "-c", "cloud"
        )
        self.assertEqual(
            [("PUT /stacks/web/members/cloud9", {"maximum": 3, "parameters": {}})], self.writes
        )
        self.assertEqual("cloud9\n", run.out)

    def test_set_in_a_stack_that_is_not_there(self):
        self.http.get(
            self.url("/stacks/nix/members/cloud1"),
            **fake_api.error(404, "stack_not_found", "No stack 'nix'."),
        )
        run = self.spreader("member", "set", "nix", "cloud1", "--max", "3")
        self.assertEqual((1, "No stack 'nix'. (HTTP 404, req-42)\n"), (run.code, run.err))
        self.assertEqual([], self.writes)

    def test_set_nothing(self):
        run = self.spreader("member", "set", "web", "cloud1")
        self.assertEqual((1, "Nothing to change: no option says what.\n"), (run.code, run.err))

    def test_set_and_wait(self):
        self.has_stack()
        self.http.patch(self.url("/stacks/web/members/cloud1"), status_code=202, json=self.CLOUD1)
        run = self.works("member", "set", "web", "cloud1", "--weight", "0.5", "--wait")
        self.assertIn("web ACTIVE: 3/3 members done", run.err)

    def test_unset_takes_clouds_out(self):
        self.http.delete(self.url("/stacks/web/members/cloud1"), status_code=202, json=self.CLOUD1)
        self.http.delete(
            self.url("/stacks/web/members/cloud9"),
            **fake_api.error(404, "member_not_found", "No member in 'cloud9'."),
        )
        run = self.spreader("member", "unset", "web", "cloud9", "cloud1")
        self.assertEqual(1, run.code)
        self.assertIn("1 of 2 failed: cloud9.", run.err)
        self.assertEqual(
            ["DELETE /stacks/web/members/cloud9", "DELETE /stacks/web/members/cloud1"], self.wire
        )
