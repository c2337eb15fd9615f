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

"""``openstack spreader quota``."""

from heat_spreader.tests.unit.client import fake_api

QUOTA = {
    "project_id": "p",
    "stacks": {"limit": 10, "used": 3},
    "members": {"limit": -1, "used": 9},
    "units": {"limit": 100, "used": 40},
    "clouds": {"limit": 5, "used": 0},
}


class TestQuota(fake_api.ApiTest):
    def test_show_the_own(self):
        self.http.get(self.url("/quotas"), json=QUOTA)
        run = self.works("quota", "show", "-f", "value")
        self.assertEqual("stacks 3 10\nmembers 9 -1\nunits 40 100\nclouds 0 5\n", run.out)

    def test_show_that_of_another(self):
        self.http.get(self.url("/quotas/p"), json=QUOTA)
        self.assertEqual(4, len(self.works("quota", "show", "p", "-f", "json").json))

    def test_set(self):
        self.http.patch(self.url("/quotas/p"), json=QUOTA)
        self.works(
            *("quota", "set", "p", "--stacks", "10", "--members", "unlimited"),
            *("--clouds", "default"),
        )
        sent = {"stacks": 10, "members": -1, "clouds": None}
        self.assertEqual([("PATCH /quotas/p", sent)], self.writes)

    def test_set_nothing(self):
        run = self.spreader("quota", "set", "p")
        self.assertEqual((1, "Nothing to change: no option says what.\n"), (run.code, run.err))
