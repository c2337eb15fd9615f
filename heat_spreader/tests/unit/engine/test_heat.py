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

"""What each answer of a cloud means, hostile and broken ones included.

The facts about well-behaved Heats are in heat_contract.py. Everything here is within the process.
"""

import json

import fixtures
import testtools
import webob

from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine.core import values
from heat_spreader.tests import fake_heat

Outcome = values.Outcome

TEMPLATE = {
    "heat_template_version": "2021-04-16",
    "parameters": {"count": {"type": "number", "default": 1}},
}


def reading(cloud):
    heat.list_stacks(cloud, "a-tag")


def looking(cloud):
    heat.get_stack(cloud, "web", "id-of-web")


def looking_up(cloud):
    heat.get_stack(cloud, "web")


def validating(cloud):
    heat.validate_template(cloud, TEMPLATE)


def creating(cloud):
    heat.create_stack(cloud, "web", TEMPLATE, None, None, {"count": 2}, ["a-tag"])


def resizing(cloud):
    heat.resize(cloud, "web", "id-of-web", "count", 2)


def deleting(cloud):
    heat.delete_stack(cloud, "web", "id-of-web")


def checking(cloud):
    heat.check_stack(cloud, "web", "id-of-web")


READS = (reading, looking, looking_up)
WRITES = (creating, resizing, deleting, checking, validating)


def error(status, kind=None, message=None):
    """An error as Heat words it."""
    body = {"code": status, "title": "x", "error": {"type": kind, "traceback": None}}
    if message:
        body["error"]["message"] = message
    return lambda request, proceed: webob.Response(json=body, status=status)


def answer(body, status=200, content_type="application/json", **headers):
    def fault(request, proceed):
        response = webob.Response(
            body=body.encode(), status=status, content_type=content_type, charset="UTF-8"
        )
        response.headers.update(headers)
        return response

    return fault


class HeatTest(testtools.TestCase):
    def setUp(self):
        super().setUp()
        self.site = self.useFixture(fake_heat.FakeSite("cloud1", sockets=False))
        self.heat = self.site.heats["cloud1"]
        self.clouds = clouds.Clouds([self.site.clouds_yaml], transport=self.site.transport)
        self.cloud = self.clouds.connect("cloud1")
        self.heat.requests.clear()

    def refused(self, call):
        error = self.assertRaises(heat.HeatError, call, self.cloud)
        # Fit for an event and a log line, whatever was answered.
        self.assertTrue(error.detail.isprintable(), error.detail)
        self.assertLess(len(error.detail), 600)
        return error


# (what Heat answers to everything, what that is evidence of, words of the sentence, who was told)
ANSWERS = {
    "away": ("refuse", Outcome.UNREACHABLE, "cannot be reached", READS + WRITES),
    "hung": ("hang", Outcome.UNREACHABLE, "did not answer in time", READS + WRITES),
    "broken off": ("lose", Outcome.UNREACHABLE, "without an answer", (reading,)),
    "502": (answer("<html>", 502, "text/html"), Outcome.UNREACHABLE, "502", READS + WRITES),
    "503": ("unavailable", Outcome.UNREACHABLE, "503", READS + WRITES),
    "504": (answer("<html>", 504, "text/html"), Outcome.UNREACHABLE, "504", READS + WRITES),
    "401": ("unauthorized", Outcome.REFUSING, "our token", READS + WRITES),
    "403": ("forbidden", Outcome.REFUSING, "not authorized to use", READS + WRITES),
    "403 page": (answer("", 403, "text/html"), Outcome.REFUSING, "Forbidden", WRITES),
    "409": ("conflict", Outcome.BUSY, "already has an action", READS + WRITES),
    "429": (answer("", 429, "text/plain"), Outcome.BUSY, "later", READS + WRITES),
    "408": (answer("", 408, "text/plain"), Outcome.BUSY, "later", READS + WRITES),
    "500": ("error", Outcome.SICK, "DBConnectionError", READS + WRITES),
    "501": (answer("", 501, "text/plain"), Outcome.SICK, "fails inside", WRITES),
    "599": (answer("", 599, "text/plain"), Outcome.SICK, "fails inside", WRITES),
    "404 while changing": ("not_found", Outcome.BUSY, "was changing", READS + WRITES),
    "404 of a proxy": (
        answer("default backend - 404", 404, "text/plain"),
        Outcome.SICK,
        "does not lead to a Heat",
        READS + WRITES,
    ),
    "404 in another shape": (
        answer('{"error": "Not Found"}', 404),
        Outcome.SICK,
        "does not lead to a Heat",
        READS + WRITES,
    ),
    "404 of a template": (
        error(404, "EntityNotFound", "The Image (cirros) could not be found."),
        Outcome.REJECTED,
        "The Image (cirros) could not be found.",
        (creating, validating),
    ),
    "400": (error(400, "Invalid", "no"), Outcome.REJECTED, "Heat rejects", READS + WRITES),
    "405": (answer("", 405, "text/html"), Outcome.REJECTED, "405", WRITES),
    "413": (answer("", 413, "text/html"), Outcome.REJECTED, "413", WRITES),
    "302": ("elsewhere", Outcome.SICK, "not followed", (*WRITES, reading, looking)),
    "a page": (answer("<p>login", 200, "text/html"), Outcome.SICK, "", READS + WRITES),
    "half a document": ("garbage", Outcome.SICK, "", READS + WRITES),
}


class TestMeaning(HeatTest):
    def test_each_answer(self):
        seen = {}
        for name, (fault, _outcome, says, calls) in ANSWERS.items():
            self.heat.heal()
            self.heat.fault(fault)
            errors = [self.refused(call) for call in calls]
            seen[name] = {error.outcome for error in errors}
            for error in errors:
                self.assertIn(says, error.detail)
                self.assertFalse(error.quota)
        self.assertEqual({name: {row[1]} for name, row in ANSWERS.items()}, seen)


class TestStatus(HeatTest):
    def test_a_missing_heat_stack(self):
        self.heat.fault(error(404, "EntityNotFound", "The Stack (web) could not be found."))
        self.assertIsNone(heat.get_stack(self.cloud, "web"))
        self.assertIsNone(heat.get_stack(self.cloud, "web", "id"))
        heat.delete_stack(self.cloud, "web", "id")
        for call in (resizing, checking):
            refused = self.refused(call)
            self.assertEqual((Outcome.MISSING, 404), (refused.outcome, refused.status))
            self.assertEqual("EntityNotFound", refused.error_type)

    def test_a_full_cloud(self):
        for status, message in (
            (400, "Request limit exceeded: You have reached the maximum stacks per tenant, 512."),
            (403, "You have reached the maximum stacks per tenant, 512. Please delete some"),
            (400, "Request limit exceeded: Maximum resources per stack exceeded."),
            (413, "Quota exceeded for resources: ['security_group']"),
        ):
            self.heat.heal()
            self.heat.fault(error(status, "RequestLimitExceeded", message))
            refused = self.refused(creating)
            self.assertEqual((Outcome.BUSY, True), (refused.outcome, refused.quota))
            self.assertIn(message, refused.detail)

    def test_a_template_that_is_too_large_is_no_full_cloud(self):
        message = "Request limit exceeded: Template size (9 bytes) exceeds maximum allowed size"
        self.heat.fault(error(400, "RequestLimitExceeded", message))
        refused = self.refused(creating)
        self.assertEqual((Outcome.REJECTED, False), (refused.outcome, refused.quota))

    def test_a_taken_name_is_no_waiting_matter(self):
        heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, ["somebody-else"])
        refused = self.refused(creating)
        self.assertEqual((Outcome.REJECTED, 409), (refused.outcome, refused.status))

    def test_a_name_that_was_taken_a_moment_ago(self):
        self.heat.fault(
            error(409, "StackExists", "The Stack (web) already exists."), method="POST"
        )
        self.assertEqual(Outcome.BUSY, self.refused(creating).outcome)

    def test_details_do_not_differ_from_one_time_to_the_next(self):
        # Events tell them when they change, so nothing may change in them that means nothing.
        def numbered(request, proceed):
            body = {"error": {"type": "Invalid", "message": "no"}}
            response = webob.Response(json=body, status=400)
            response.headers["X-Openstack-Request-Id"] = f"req-{len(self.heat.requests)}"
            return response

        self.heat.fault(numbered)
        self.assertEqual(self.refused(resizing).detail, self.refused(resizing).detail)


class TestMaybeDone(HeatTest):
    """Whether a write that failed may have been carried out."""

    def maybe_done(self, fault, call):
        self.heat.heal()
        self.heat.fault(fault)
        return self.refused(call).maybe_done

    def test_a_write_that_got_no_answer_or_a_bad_one(self):
        for fault in ("hang", "error", "unavailable", "garbage", answer("<p>login")):
            for call in WRITES:
                self.assertTrue(self.maybe_done(fault, call), (fault, call))

    def test_a_write_that_was_refused(self):
        for fault in ("refuse", "unauthorized", "forbidden", "conflict", "quota", "elsewhere"):
            for call in WRITES:
                self.assertFalse(self.maybe_done(fault, call), (fault, call))

    def test_a_read(self):
        for fault in ("hang", "error", "unavailable", "garbage"):
            for call in READS:
                self.assertFalse(self.maybe_done(fault, call), (fault, call))

    def test_a_write_that_never_left(self):
        # The token ran out, and there is nobody to give a new one.
        self.cloud.invalidate()
        self.site.keystone.fault("hang")
        for call in WRITES:
            refused = self.refused(call)
            self.assertEqual((Outcome.UNREACHABLE, False), (refused.outcome, refused.maybe_done))
            self.assertIn("Keystone did not answer", refused.detail)
        self.assertEqual([], self.heat.requests)

    def test_a_write_whose_token_was_revoked_and_keystone_is_away(self):
        self.site.keystone.revoke()
        self.site.keystone.fault("refuse")
        refused = self.refused(resizing)
        self.assertEqual(Outcome.UNREACHABLE, refused.outcome)
        self.assertEqual(1, len(self.heat.requests))


class TestOnce(HeatTest):
    """Nothing is sent a second time by itself."""

    def test_no_write_is_repeated(self):
        for call in WRITES:
            for fault in ("hang", "lose", "error", "error_after", "unavailable", "conflict"):
                self.heat.requests.clear()
                self.heat.heal()
                self.heat.fault(fault)
                try:
                    call(self.cloud)
                except heat.HeatError:
                    pass
                writes = [seen.method for seen in self.heat.requests if seen.method != "GET"]
                self.assertEqual(1, len(writes), (call, fault))

    def test_only_for_a_new_token(self):
        made = heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, [])
        self.heat.requests.clear()
        self.site.keystone.revoke()
        heat.resize(self.cloud, "web", made, "count", 5)
        self.assertEqual(["PATCH", "PATCH"], [seen.method for seen in self.heat.requests])
        self.assertEqual("5", self.heat.stack("web").parameters["count"])

    def test_what_a_resize_sends(self):
        made = heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, [])
        heat.resize(self.cloud, "web", made, "count", 5)
        heat.resize(self.cloud, "web", made, "count", 6, timeout_mins=9)
        self.assertEqual(
            [{"parameters": {"count": 5}}, {"parameters": {"count": 6}, "timeout_mins": 9}],
            [seen.body for seen in self.heat.asked("PATCH")],
        )

    def test_what_a_listing_asks(self):
        heat.list_stacks(self.cloud, "a-tag")
        heat.list_stacks(self.cloud, None)
        self.assertEqual(
            [{"limit": "500", "tags": "a-tag"}, {"limit": "500"}],
            [seen.query for seen in self.heat.requests],
        )

    def test_outputs_are_never_asked_for(self):
        made = heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, ["a-tag"])
        self.heat.requests.clear()
        heat.get_stack(self.cloud, "web")
        heat.get_stack(self.cloud, made)
        heat.get_stack(self.cloud, "web", made)
        heat.find_stack(self.cloud, "a-tag")
        shown = self.heat.asked("GET", "^/stacks/[^/]+/[^/]+$")
        self.assertEqual(4, len(shown))
        self.assertEqual({"False"}, {seen.query["resolve_outputs"] for seen in shown})

    def test_a_known_name_and_id_is_one_request(self):
        made = heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, [])
        self.heat.requests.clear()
        heat.get_stack(self.cloud, "web", made)
        self.assertEqual(1, len(self.heat.requests))

    def test_names_cannot_leave_their_place_in_the_path(self):
        for name in ("../../v3", "a/b", "a?b=c", "a#b", "a%2Fb"):
            self.assertRaises(heat.HeatError, heat.get_stack, self.cloud, name, "b/c")
        self.assertEqual(5, len(self.heat.asked("GET", "^/stacks/.*/b/c$")))
        for name in (".", ".."):
            error = self.assertRaises(heat.HeatError, heat.get_stack, self.cloud, name, "b")
            self.assertEqual(Outcome.REJECTED, error.outcome)
        self.assertEqual(5, len(self.heat.requests))


class TestHostile(HeatTest):
    """A Heat that answers anything at all."""

    def test_shapes(self):
        stack = {"id": "1", "stack_name": "web", "stack_status": "CREATE_COMPLETE"}
        for call, body in (
            (reading, []),
            (reading, None),
            (reading, {}),
            (reading, {"stacks": None}),
            (reading, {"stacks": {"id": 1}}),
            (reading, {"stacks": [None]}),
            (reading, {"stacks": [{}]}),
            (reading, {"stacks": [stack | {"id": 7}]}),
            (reading, {"stacks": [stack | {"stack_status": None}]}),
            (reading, {"stacks": [stack | {"updated_time": 12.5}]}),
            (reading, {"stacks": [stack | {"tags": [{"a": 1}]}]}),
            (reading, {"stacks": [stack | {"tags": 5}]}),
            (looking, {"stack": stack}),
            (looking, {"stack": stack | {"parameters": []}}),
            (looking, {"stack": [stack]}),
            (looking, {"stack": None}),
            (validating, []),
            (validating, {"Parameters": 3}),
        ):
            self.heat.heal()
            self.heat.fault(answer(json.dumps(body)))
            self.assertEqual(Outcome.SICK, self.refused(call).outcome, body)
        for body in ({}, [], {"stack": {}}, {"stack": {"id": None}}, "x", None):
            self.heat.heal()
            self.heat.fault(answer(json.dumps(body), 201))
            refused = self.refused(creating)
            self.assertEqual((Outcome.SICK, True), (refused.outcome, refused.maybe_done), body)

    def test_documents_that_break_parsers(self):
        for text in ("[" * 100_000, '{"stacks": ' + "9" * 10_000 + "}", "\ufffe", "", "NaN"):
            for status in (200, 400):
                self.heat.heal()
                self.heat.fault(answer(text, status))
                outcome = self.refused(reading).outcome
                self.assertIn(outcome, (Outcome.SICK, Outcome.REJECTED))
                if status == 200:
                    self.assertEqual(Outcome.SICK, outcome)

    def test_errors_of_any_shape(self):
        for body in ([], None, {"error": []}, {"error": {"type": {}, "message": ["x"]}}, "x"):
            self.heat.heal()
            self.heat.fault(answer(json.dumps(body), 400))
            self.assertEqual(Outcome.REJECTED, self.refused(resizing).outcome, body)

    def test_words_for_a_terminal(self):
        message = "\x1b[2Jgone\r\n\tis all\u202e" + "x" * 10_000
        self.heat.fault(error(400, "Invalid\n\x07", message))
        refused = self.refused(resizing)
        self.assertIn("[2Jgone is all", refused.detail)
        self.assertEqual("Invalid", refused.error_type)

    def test_words_of_a_status(self):
        made = heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, [])
        self.heat.stack("web").reason = "line one\nline \x1b[1mtwo " + "y" * 10_000
        found = heat.get_stack(self.cloud, "web", made)
        self.assertTrue(found.status_reason.startswith("line one line [1mtwo yyy"))
        self.assertLess(len(found.status_reason), 600)

    def test_a_count_of_any_kind(self):
        heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, [])
        for value, count in (("7", 7), ("7.0", 7), ("0", 0), ("007", 7)):
            self.heat.stack("web").given = {"count": value}
            self.assertEqual(count, heat.get_stack(self.cloud, "web").count("count"))
        for value in (
            "",
            "-1",
            "1.5",
            "1e3",
            "1e999999999",
            "\uff19",
            "1_000",
            "9" * 5000,
            "******",
        ):
            self.heat.stack("web").given = {"count": value}
            found = heat.get_stack(self.cloud, "web")
            refused = self.assertRaises(heat.HeatError, found.count, "count")
            self.assertEqual(Outcome.REJECTED, refused.outcome)
            self.assertIn("not a whole number", refused.detail)

    def test_a_listing_that_repeats_itself(self):
        self.useFixture(fixtures.MonkeyPatch("heat_spreader.engine.heat.PAGE", 2))
        for n in range(2):
            heat.create_stack(self.cloud, f"web{n}", TEMPLATE, None, None, {}, [])

        def without_marker(request, proceed):
            request.GET.pop("marker", None)
            return proceed()

        self.heat.requests.clear()
        self.heat.fault(without_marker)
        self.assertEqual(2, len(heat.list_stacks(self.cloud, None)))
        self.assertEqual(2, len(self.heat.requests))

    def test_a_listing_without_end(self):
        self.useFixture(fixtures.MonkeyPatch("heat_spreader.engine.heat.PAGE", 1))
        numbers = iter(range(10_000))

        def another(request, proceed):
            stack = {"stack_name": "web", "stack_status": "CREATE_COMPLETE"}
            return webob.Response(json={"stacks": [{**stack, "id": str(next(numbers))}]})

        self.heat.fault(another)
        refused = self.refused(reading)
        self.assertEqual(Outcome.SICK, refused.outcome)
        self.assertIn("does not end", refused.detail)

    def test_a_redirect_leads_nowhere_but_to_the_same_heat(self):
        made = heat.create_stack(self.cloud, "web", TEMPLATE, None, None, {}, [])

        def elsewhere(request, proceed):
            location = f"https://192.0.2.1/v1/stolen/stacks/web/{made}"
            return fake_heat.page(302, "Found", Location=location)

        self.heat.fault(elsewhere, path="^/stacks/web$")
        self.assertEqual(made, heat.get_stack(self.cloud, "web").id)

    def test_a_redirect_that_tells_no_stack(self):
        for location in ("", "https://192.0.2.1/", "http://[", "/stacks/web"):
            self.heat.heal()
            self.heat.fault(lambda r, p, to=location: fake_heat.page(302, "Found", Location=to))
            self.assertEqual(Outcome.SICK, self.refused(looking_up).outcome)


class TestHeatStack(testtools.TestCase):
    def heat_stack(self, status, reason="", **kwargs):
        return heat.HeatStack("1", "web", status, reason, None, (), **kwargs)

    def test_status(self):
        for status, in_progress, complete, failed, deleting in (
            ("CREATE_IN_PROGRESS", True, False, False, False),
            ("UPDATE_COMPLETE", False, True, False, False),
            ("ADOPT_COMPLETE", False, True, False, False),
            ("CHECK_FAILED", False, False, True, False),
            ("DELETE_IN_PROGRESS", True, False, False, True),
            ("DELETE_FAILED", False, False, True, True),
            ("ROLLBACK_IN_PROGRESS", True, False, False, False),
        ):
            found = self.heat_stack(status)
            self.assertEqual(
                (in_progress, complete, failed, deleting),
                (found.in_progress, found.complete, found.failed, found.deleting),
            )

    def test_interrupted(self):
        reason = "Resource UPDATE failed: resources.group: Stack UPDATE cancelled"
        self.assertTrue(self.heat_stack("UPDATE_FAILED", reason).interrupted)
        self.assertFalse(self.heat_stack("UPDATE_COMPLETE", reason).interrupted)
        self.assertFalse(self.heat_stack("UPDATE_FAILED", "ValueError").interrupted)

    def test_a_listed_one_has_no_count(self):
        self.assertRaises(ValueError, self.heat_stack("CREATE_COMPLETE").count, "count")
