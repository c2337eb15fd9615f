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

"""The SDK part: what a program does with the resources, without a command line."""

import openstack
from openstack import exceptions

from heat_spreader.tests.unit.client import fake_api
from spreaderclient import sdk
from spreaderclient.sdk import cloud as sdk_cloud
from spreaderclient.sdk import errors
from spreaderclient.sdk import event as sdk_event
from spreaderclient.sdk import member as sdk_member
from spreaderclient.sdk import stack as sdk_stack


class TestConnection(fake_api.ApiTest):
    def test_as_a_vendor_hook(self):
        conn = openstack.connect(
            auth_type="none",
            endpoint=fake_api.API,
            vendor_hook="spreaderclient.sdk:register",
        )
        self.http.get(self.url("/clouds"), json={"clouds": []})
        self.assertEqual([], list(sdk_cloud.Cloud.list(conn.spreader)))

    def test_connecting_twice(self):
        conn = openstack.connect(auth_type="none", endpoint=fake_api.API)
        self.assertIs(sdk.connect(conn), sdk.connect(conn))

    def test_a_service_that_hangs_is_not_waited_for_for_ever(self):
        self.http.get(self.url("/clouds"), json={"clouds": []})
        for configured, expected in ((None, 60), (7, 7.0)):
            conn = openstack.connect(
                auth_type="none", endpoint=fake_api.API, api_timeout=configured
            )
            list(sdk_cloud.Cloud.list(sdk.connect(conn)))
            self.assertEqual(expected, self.http.last_request.timeout)


class TestResources(fake_api.ApiTest):
    def setUp(self):
        super().setUp()
        self.proxy = sdk.connect(openstack.connect(auth_type="none", endpoint=fake_api.API))

    def test_a_stack_is_found_by_what_the_service_takes_for_its_name(self):
        self.has_stack()
        web = sdk_stack.Stack.find(self.proxy, "web", ignore_missing=False)
        self.assertEqual((fake_api.STACK_ID, 10), (web.id, web.count))
        self.assertEqual(["GET /stacks/web"], self.wire)

    def test_a_stack_is_found_in_the_list(self):
        self.http.get(
            self.url("/stacks/web"), **fake_api.error(404, "stack_not_found", "No stack.")
        )
        self.http.get(self.url("/stacks?name=web"), json={"stacks": [fake_api.stack()]})
        web = sdk_stack.Stack.find(self.proxy, "web", ignore_missing=False)
        self.assertEqual(fake_api.STACK_ID, web.id)

    def test_commit_sends_what_was_assigned_and_reads_the_answer(self):
        self.has_stack()
        self.http.patch(
            self.url(f"/stacks/{fake_api.STACK_ID}"),
            status_code=202,
            json=fake_api.stack(count=12, generation=4, status="CONVERGING"),
        )
        web = sdk_stack.Stack.existing(id="web").fetch(self.proxy)
        web.count = 12
        web.rounding = "exact"
        web.commit(self.proxy)
        self.assertEqual([(f"PATCH /stacks/{fake_api.STACK_ID}", {"count": 12})], self.writes)
        self.assertEqual((4, "CONVERGING"), (web.generation, web.status))

    def test_weights_are_guarded_by_a_generation(self):
        path = f"/stacks/{fake_api.STACK_ID}/weights"
        self.http.put(self.url(path), status_code=202, json=fake_api.stack(generation=4))
        web = sdk_stack.Stack.existing(id=fake_api.STACK_ID)
        web.set_weights(self.proxy, {"cloud1": "0.1"}, generation=3)
        self.assertEqual([(f"PUT {path}", {"weights": {"cloud1": "0.1"}})], self.writes)
        self.assertEqual('"3"', self.http.last_request.headers["If-Match"])
        self.assertEqual(4, web.generation)

    def test_actions_take_the_answer_for_the_stack(self):
        self.http.post(
            self.url("/stacks/web/actions"),
            status_code=202,
            json=fake_api.stack(status="CONVERGING"),
        )
        for action, method in (
            ("check", "check"),
            ("retry", "retry"),
            ("failback", "failback_now"),
            ("force-failover", "force_failover"),
        ):
            web = sdk_stack.Stack.existing(id="web")
            self.assertIs(web, getattr(web, method)(self.proxy))
            self.assertEqual(("CONVERGING", fake_api.STACK_ID), (web.status, web.id))
            self.assertEqual(("POST /stacks/web/actions", {action: None}), self.writes[-1])

    def test_members_are_below_their_stack(self):
        cloud1 = fake_api.member("cloud1", "0.6", 6, 6)
        self.http.get(self.url("/stacks/web/members"), json={"members": [cloud1]})
        self.http.patch(self.url("/stacks/web/members/cloud1"), status_code=202, json=cloud1)
        self.http.put(self.url("/stacks/web/members/cloud1"), status_code=202, json=cloud1)
        self.http.delete(self.url("/stacks/web/members/cloud1"), status_code=202, json=cloud1)
        [member] = sdk_member.Member.list(self.proxy, stack_id="web")
        member.weight = "0.5"
        member.commit(self.proxy)
        member.delete(self.proxy)
        sdk_member.Member.new(stack_id="web", cloud="cloud1", weight="1").put(self.proxy)
        self.assertEqual(
            [
                ("PATCH /stacks/web/members/cloud1", {"weight": "0.5"}),
                ("DELETE /stacks/web/members/cloud1", None),
                ("PUT /stacks/web/members/cloud1", {"weight": "1"}),
            ],
            self.writes,
        )

    def test_events_of_one_stack(self):
        self.http.get(
            self.url("/stacks/web/events?cloud=cloud1"), json={"events": [fake_api.event(1)]}
        )
        [event] = sdk_event.Event.list(self.proxy, base_path="/stacks/web/events", cloud="cloud1")
        self.assertEqual((1, "stack.update", {"count": 10}), (event.id, event.type, event.after))

    def test_errors_are_openstacksdk_s_with_the_service_s_code(self):
        for status, kind, ours in (
            (400, exceptions.BadRequestException, errors.BadRequest),
            (403, exceptions.ForbiddenException, errors.Forbidden),
            (404, exceptions.NotFoundException, errors.NotFound),
            (409, exceptions.ConflictException, errors.Conflict),
            (412, exceptions.PreconditionFailedException, errors.PreconditionFailed),
            (500, exceptions.HttpException, errors.Refused),
        ):
            self.http.get(self.url("/stacks/web"), **fake_api.error(status, "some_code", "No."))
            error = self.assertRaises(kind, sdk_stack.Stack.existing(id="web").fetch, self.proxy)
            self.assertIsInstance(error, ours)
            self.assertEqual(
                (status, "spreader.some_code", f"No. (HTTP {status}, req-42)"),
                (error.status_code, error.code, str(error)),
            )

    def test_waiting_has_a_limit(self):
        self.has_stack(fake_api.stack(status="CONVERGING", status_reason="cloud1 is busy"))
        web = sdk_stack.Stack.existing(id="web").fetch(self.proxy)
        error = self.assertRaises(exceptions.ResourceTimeout, web.wait, self.proxy, timeout=0.05)
        self.assertIn("cloud1 is busy", str(error))

    def test_waiting_for_the_end_of_a_stack_that_cannot_be_deleted(self):
        self.has_stack(fake_api.stack(status="ERROR", status_reason="cloud1 refuses"))
        web = sdk_stack.Stack.existing(id="web").fetch(self.proxy)
        error = self.assertRaises(exceptions.ResourceFailure, web.wait_gone, self.proxy)
        self.assertIn("cloud1 refuses", str(error))
