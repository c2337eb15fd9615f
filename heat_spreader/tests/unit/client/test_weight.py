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

"""``openstack spreader weight``."""

from heat_spreader.tests.unit.client import fake_api

WEIGHTS = f"/stacks/{fake_api.STACK_ID}/weights"


class TestWeight(fake_api.ApiTest):
    def setUp(self):
        super().setUp()
        self.has_stack()
        self.http.put(self.url(WEIGHTS), status_code=202, json=fake_api.stack(generation=4))

    def set(self, *argv):
        self.works("weight", "set", "web", *argv)
        return self.writes

    @property
    def guard(self):
        return self.http.last_request.headers.get("If-Match")

    def test_list(self):
        run = self.works("weight", "list", "web", "-f", "value")
        self.assertEqual("cloud1 0.6 6\ncloud2 0.2 2\ncloud3 0.2 2\n", run.out)

    def test_the_others_keep_theirs_and_are_guarded(self):
        self.assertEqual(
            [(f"PUT {WEIGHTS}", {"weights": {"cloud1": ".50", "cloud2": "0.2", "cloud3": "0.2"}})],
            self.set("cloud1=.50"),
        )
        self.assertEqual('"3"', self.guard)

    def test_replace_names_all(self):
        self.assertEqual(
            [(f"PUT {WEIGHTS}", {"weights": {"cloud1": "0.7", "cloud2": "0.3"}})],
            self.set("cloud1=0.7", "cloud2=0.3", "--replace"),
        )
        self.assertIsNone(self.guard)

    def test_even(self):
        self.assertEqual(
            [(f"PUT {WEIGHTS}", {"weights": {"cloud1": "0.5", "cloud2": "0.5"}})],
            self.set("cloud1", "cloud2", "--even"),
        )

    def test_a_member_may_be_called_by_the_id_of_its_cloud(self):
        [(_, body)] = self.set("id-of-cloud3=0.1")
        self.assertEqual({"cloud1": "0.6", "cloud2": "0.2", "cloud3": "0.1"}, body["weights"])

    def test_two_clouds_of_one_name_are_told_apart(self):
        ours, shared = (fake_api.member("a", "0.5", 5, 5, cloud_id=i) for i in ("id1", "id2"))
        self.has_stack(fake_api.stack(ours, shared))
        [(_, body)] = self.set("id2=0.4")
        self.assertEqual({"id1": "0.5", "id2": "0.4"}, body["weights"])

    def test_a_new_cloud_becomes_a_member_first(self):
        cloud4 = fake_api.member("cloud4", "0", 0, None)
        before, after = (
            fake_api.stack(),
            fake_api.stack(*fake_api.stack()["members"], cloud4, generation=4),
        )
        self.has_stack(before)
        self.http.get(self.url(f"/stacks/{fake_api.STACK_ID}"), json=after)
        member = f"/stacks/{fake_api.STACK_ID}/members/cloud4"
        self.http.put(self.url(member), status_code=202, json=cloud4)
        self.assertEqual(
            [
                (f"PUT {member}", {"weight": "0"}),
                (
                    f"PUT {WEIGHTS}",
                    {
                        "weights": {
                            "cloud1": "0.5",
                            "cloud2": "0.2",
                            "cloud3": "0.2",
                            "cloud4": "0.1",
                        }
                    },
                ),
            ],
            self.set("cloud4=0.1", "cloud1=0.5"),
        )
        self.assertEqual('"4"', self.guard)

    def test_more_than_all_is_refused_before_anything_is_written(self):
        run = self.spreader("weight", "set", "web", "cloud4=0.1")
        self.assertEqual(1, run.code)
        self.assertIn("would add up to 1.1", run.err)
        self.assertIn("cloud1=0.6, cloud2=0.2, cloud3=0.2, cloud4=0.1", run.err)
        self.assertEqual([], self.writes)

    def test_a_member_that_leaves_does_not_count(self):
        leaving = fake_api.member("cloud2", "0.4", 0, 4, status="LEAVING")
        self.has_stack(fake_api.stack(fake_api.member("cloud1", "0.6", 6, 6), leaving))
        self.assertEqual(
            [(f"PUT {WEIGHTS}", {"weights": {"cloud1": "1"}})],
            self.set("cloud1=1"),
        )

    def test_unset_makes_a_standby(self):
        self.works("weight", "unset", "web", "cloud1", "id-of-cloud2")
        self.assertEqual(
            [(f"PUT {WEIGHTS}", {"weights": {"cloud1": "0", "cloud2": "0", "cloud3": "0.2"}})],
            self.writes,
        )

    def test_unset_of_a_cloud_that_is_no_member(self):
        run = self.spreader("weight", "unset", "web", "cloud9")
        self.assertEqual((1, "Stack web has no member in cloud9.\n"), (run.code, run.err))
        self.assertEqual([], self.writes)

    def test_somebody_was_faster(self):
        self.http.put(
            self.url(WEIGHTS),
            **fake_api.error(412, "concurrent_update", "Stack 'web' is at generation 4, not 3."),
        )
        run = self.spreader("weight", "set", "web", "cloud1=0.5")
        self.assertEqual(1, run.code)
        self.assertIn("is at generation 4, not 3.", run.err)

    def test_the_form_is_checked(self):
        for text in ("cloud1", "cloud1=60", "=0.5"):
            run = self.spreader("weight", "set", "web", text)
            self.assertEqual(1, run.code)
            self.assertIn("for example", run.err)
        self.assertEqual([], self.wire)

    def test_waiting_for_the_shares(self):
        run = self.works("weight", "set", "web", "cloud1=0.5", "--wait")
        self.assertIn("web ACTIVE: 3/3 members done", run.err)
