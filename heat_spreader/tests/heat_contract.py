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

"""What heat.py relies on, told as facts about a Heat.

The same tests run on the fake Heat (unit/engine/test_fake_heat.py) and on real ones
(functional/test_heat.py), with and without convergence. A fact that a real Heat does not show is
wrong here; a fact that the fake does not show makes the fake wrong.
"""

import copy
import os
import threading
import uuid

import fixtures
import testtools
import yaml

from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine.core import values
from heat_spreader.tests import fake_heat

Outcome = values.Outcome

# Members that do nothing, made within `pause` seconds and deleted within `linger`; with `broken`
# they cannot be made.
TEMPLATE = """
heat_template_version: 2021-04-16
description: what the tests of Heat use
parameters:
  count:
    type: number
    default: 0
    constraints:
    - range: {min: 0, max: 5000}
  pause:
    type: number
    default: 0
  linger:
    type: number
    default: 0
  broken:
    type: boolean
    default: false
resources:
  group:
    type: OS::Heat::ResourceGroup
    properties:
      count: {get_param: count}
      resource_def:
        type: OS::Heat::TestResource
        properties:
          action_wait_secs: {create: {get_param: pause}, delete: {get_param: linger}}
          fail: {get_param: broken}
outputs:
  members:
    value: {get_attr: [group, refs]}
"""


class HeatContract(testtools.TestCase):
    """To be given a Heat: ``clouds_yaml``, ``entry`` and ``convergence`` set before setUp ends."""

    clouds_yaml: str
    entry: str
    convergence: bool

    # How long the updates last that have to be caught in the act, and the time between two looks.
    pause = 4
    step = 0.1

    def setUp(self):
        super().setUp()
        self.find_heat()
        self.connections = clouds.Clouds([self.clouds_yaml], timeout=30)
        self.cloud = self.connections.connect(self.entry)
        # Upper and lower case, digit, dot, dash: all that Heat allows in a name.
        self.name = f"Contract-1.{uuid.uuid4().hex[:12]}"
        self.tag = f"member-{uuid.uuid4().hex}"

    def find_heat(self):
        raise NotImplementedError

    def sleep(self, seconds):
        raise NotImplementedError

    # What the tests are written with

    def create(
        self, *, name=None, tags=(), template=TEMPLATE, cloud=None, wait=True, **parameters
    ):
        name = name or self.name
        cloud = cloud or self.cloud
        tags = [self.tag, *tags]
        made = heat.create_stack(cloud, name, template, None, None, parameters, tags, 5)
        self.addCleanup(self.delete, name, made)
        return self.settled(made, name) if wait else heat.get_stack(cloud, name, made)

    def standing(self):
        """A Heat stack with two members, for tests that do not change it."""
        return self.create(count=2)

    def delete(self, name, heat_stack_id):
        heat.delete_stack(self.cloud, name, heat_stack_id)

    def settled(self, heat_stack_id, name=None):
        """The Heat stack when nothing is in progress any more."""
        for _ in range(600):
            found = heat.get_stack(self.cloud, name or self.name, heat_stack_id)
            if found is None or not found.in_progress:
                return found
            self.sleep(self.step)
        raise AssertionError(f"still {found.status}, although nothing takes so long")

    def resize(self, made, count, parameter="count", **kwargs):
        heat.resize(self.cloud, made.name, made.id, parameter, count, **kwargs)

    def raw(self, method, path, **kwargs):
        return self.cloud.request(path, method, raise_exc=False, redirect=False, **kwargs)

    def refused(self, call, *args, **kwargs):
        return self.assertRaises(heat.HeatError, call, *args, **kwargs)

    def connected_with(self, **changes):
        """Connect with an entry of clouds.yaml that differs in this."""
        with open(self.clouds_yaml) as file:
            entry = copy.deepcopy(yaml.safe_load(file)["clouds"][self.entry])
        entry["auth"].update(changes.pop("auth", {}))
        entry.update(changes)
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, "clouds.yaml")
        with open(path, "w") as file:
            yaml.safe_dump({"clouds": {"changed": entry}}, file)
        return clouds.Clouds([path], timeout=30).connect("changed")

    def relayed(self):
        """The same Heat behind a relay that counts, and can be made to fail."""
        scheme, _, host, project = self.cloud.get_endpoint().split("/", 3)
        relay = fake_heat.Relay(f"{scheme}//{host}")
        relay.server = fake_heat.Server(relay)
        self.addCleanup(relay.server.stop)
        endpoint = f"http://127.0.0.1:{relay.server.port}/{project}"
        return relay, self.connected_with(orchestration_endpoint_override=endpoint)

    # A life from beginning to end

    def test_a_life(self):
        made = self.create(count=2)
        self.assertEqual("CREATE_COMPLETE", made.status)
        self.assertTrue(made.complete)
        self.assertEqual(2, made.count("count"))
        self.assertEqual((self.tag,), made.tags)
        self.assertIsNone(made.updated_time)

        self.resize(made, 3)
        resized = self.settled(made.id)
        self.assertEqual("UPDATE_COMPLETE", resized.status)
        self.assertEqual(3, resized.count("count"))
        self.assertEqual((self.tag,), resized.tags)

        heat.delete_stack(self.cloud, made.name, made.id)
        self.assertIsNone(self.settled(made.id))
        self.assertIsNone(heat.get_stack(self.cloud, made.name))
        self.assertIsNone(heat.get_stack(self.cloud, made.id))
        self.assertEqual([], heat.list_stacks(self.cloud, self.tag))
        # Once more is fine.
        heat.delete_stack(self.cloud, made.name, made.id)

    # Reading

    def test_parameters_are_text(self):
        made = self.standing()
        self.assertEqual("2", made.parameters["count"])
        # Given nowhere: the default.
        self.assertEqual("False", made.parameters["broken"])
        self.assertEqual({str}, {type(value) for value in made.parameters.values()})

    def test_a_whole_number_may_have_a_point(self):
        self.assertEqual(2, self.create(count="2.0").count("count"))

    def test_a_count_parameter_that_is_not_declared(self):
        error = self.refused(self.standing().count, "size")
        self.assertEqual(Outcome.REJECTED, error.outcome)
        self.assertIn("declares no parameter 'size'", error.detail)
        self.assertIn("broken, count, linger, pause", error.detail)

    def test_a_count_parameter_that_is_no_number(self):
        error = self.refused(self.standing().count, "broken")
        self.assertEqual(Outcome.REJECTED, error.outcome)
        self.assertIn("'False'", error.detail)

    def test_found_by_name_and_by_id(self):
        made = self.standing()
        by_name = heat.get_stack(self.cloud, made.name)
        self.assertEqual(made, by_name)
        self.assertEqual(made, heat.get_stack(self.cloud, made.id))

    def test_none_where_there_is_none(self):
        self.assertIsNone(heat.get_stack(self.cloud, "there-is-no-such-stack"))
        self.assertIsNone(heat.get_stack(self.cloud, str(uuid.uuid4())))
        self.assertIsNone(heat.get_stack(self.cloud, "nor-this", str(uuid.uuid4())))

    def test_an_id_with_another_name_is_not_found(self):
        made = self.standing()
        self.assertIsNone(heat.get_stack(self.cloud, "another-name", made.id))

    def test_the_listing_is_by_tag_and_has_no_parameters(self):
        made = self.create(count=1, tags=["also-this"])
        other = self.create(name=f"{self.name}-other", count=1)
        # Newest first, and none of the Heat stacks nested in them.
        listed = heat.list_stacks(self.cloud, self.tag)
        self.assertEqual([other.id, made.id], [found.id for found in listed])
        self.assertEqual(("CREATE_COMPLETE", None), (listed[0].status, listed[0].parameters))
        self.assertEqual({self.tag, "also-this"}, set(listed[1].tags))
        # A tag that both have together with one that one of them has.
        both = heat.list_stacks(self.cloud, f"{self.tag},also-this")
        self.assertEqual([made.id], [found.id for found in both])
        everything = {found.id for found in heat.list_stacks(self.cloud, None)}
        self.assertLessEqual({made.id, other.id}, everything)

    def test_the_listing_comes_in_pages(self):
        made = [self.create(name=f"{self.name}-{n}", wait=False).id for n in range(5)]
        for page in (1, 2, 5, 6):
            self.useFixture(fixtures.MonkeyPatch("heat_spreader.engine.heat.PAGE", page))
            listed = [found.id for found in heat.list_stacks(self.cloud, self.tag)]
            self.assertEqual(made[::-1], listed)

    def test_another_filter_beside_the_tag_is_an_error(self):
        # Why list_stacks never sends one.
        response = self.raw("GET", "/stacks", params={"tags": self.tag, "name": "web"})
        self.assertEqual(500, response.status_code)

    def test_found_by_tag(self):
        made = self.standing()
        self.assertEqual(made, heat.find_stack(self.cloud, made.tags[0]))
        self.assertIsNone(heat.find_stack(self.cloud, f"{self.tag}-not"))

    # Creating

    def test_a_taken_name(self):
        made = self.standing()
        error = self.refused(
            heat.create_stack, self.cloud, made.name, TEMPLATE, None, None, {}, ["another-tag"]
        )
        self.assertEqual(
            (Outcome.REJECTED, 409, "StackExists"),
            (error.outcome, error.status, error.error_type),
        )
        self.assertIn("already exists", error.detail)

    def test_created_twice_is_created_once(self):
        made = self.standing()
        again = heat.create_stack(
            self.cloud, made.name, TEMPLATE, None, None, {"count": 4}, made.tags
        )
        self.assertEqual(made.id, again)

    def test_a_name_that_is_being_deleted(self):
        made = self.create(count=1, linger=self.pause)
        heat.delete_stack(self.cloud, made.name, made.id)
        error = self.refused(
            heat.create_stack, self.cloud, made.name, TEMPLATE, None, None, {}, [self.tag]
        )
        self.assertEqual((Outcome.BUSY, "StackExists"), (error.outcome, error.error_type))
        self.assertIsNone(self.settled(made.id))

    def test_a_500_on_create_may_have_created_it(self):
        relay, cloud = self.relayed()
        relay.fault("error_after", method="POST")
        error = self.refused(self.create, cloud=cloud, count=1)
        self.assertEqual(
            (Outcome.SICK, 500, True), (error.outcome, error.status, error.maybe_done)
        )
        relay.heal()
        found = heat.find_stack(cloud, self.tag)
        self.addCleanup(self.delete, self.name, found.id)
        # Whether it is looked for or not, a second create makes no second Heat stack.
        self.assertEqual(found.id, self.create(cloud=cloud, count=1).id)
        self.assertEqual(1, len(heat.list_stacks(cloud, self.tag)))

    def test_a_create_whose_answer_was_lost(self):
        relay, cloud = self.relayed()
        relay.fault("lose", method="POST")
        error = self.refused(self.create, cloud=cloud, count=1)
        self.assertEqual((Outcome.UNREACHABLE, True), (error.outcome, error.maybe_done))
        self.assertEqual(1, len(relay.asked("POST", "^/stacks$")))
        relay.heal()
        found = heat.find_stack(cloud, self.tag)
        self.addCleanup(self.delete, self.name, found.id)

    def test_what_create_rejects(self):
        text = TEMPLATE.replace("OS::Heat::TestResource", "OS::Heat::NoSuchThing")
        required = TEMPLATE.replace("default: 0", "description: must be given")
        for template, parameters, said in (
            ("resources: [", {}, "Error parsing template"),
            ("just a text", {}, "not a JSON object or YAML mapping"),
            ({"resources": {}}, {}, "Template version was not provided"),
            (text.replace("ResourceGroup", "NoSuchGroup"), {}, "could not be found"),
            (TEMPLATE, {"size": 3}, "The Parameter (size) was not defined in template"),
            (TEMPLATE, {"count": "abc"}, "could not convert string to float: 'abc'"),
            (TEMPLATE, {"count": -1}, "-1 is out of range"),
            (required, {"count": 1}, "The Parameter (pause) was not provided"),
        ):
            error = self.refused(self.create, template=template, **parameters)
            self.assertEqual((Outcome.REJECTED, 400), (error.outcome, error.status))
            self.assertIn(said, error.detail)
            self.assertNotIn("\n", error.detail)
            self.assertFalse(error.maybe_done)
        self.assertEqual([], heat.list_stacks(self.cloud, self.tag))

    def test_tags_that_heat_cannot_store(self):
        for tag in ("", "two,tags"):
            error = self.refused(self.create, tags=[tag])
            self.assertEqual((Outcome.REJECTED, None), (error.outcome, error.status))
        error = self.refused(self.create, tags=["x" * 81])
        self.assertEqual((Outcome.REJECTED, 400), (error.outcome, error.status))

    def test_without_tags(self):
        made = heat.create_stack(self.cloud, self.name, TEMPLATE, None, None, {}, [])
        self.addCleanup(self.delete, self.name, made)
        self.assertEqual((), self.settled(made).tags)

    def test_a_template_as_an_object_with_an_environment(self):
        template = yaml.safe_load(TEMPLATE)
        template["heat_template_version"] = "2021-04-16"
        made = heat.create_stack(
            self.cloud,
            self.name,
            template,
            "parameters: {pause: 0, count: 7}",
            {"unused.yaml": "x: y"},
            {"count": 1},
            [self.tag],
        )
        self.addCleanup(self.delete, self.name, made)
        self.assertEqual(1, self.settled(made).count("count"))

    def test_validation_tells_the_declared_parameters(self):
        names = heat.validate_template(self.cloud, TEMPLATE)
        self.assertEqual({"count", "pause", "linger", "broken"}, names)
        bare = {"heat_template_version": "2021-04-16"}
        self.assertEqual(set(), heat.validate_template(self.cloud, bare))

    def test_validation_rejects(self):
        for template, said in (
            ("resources: [", "Error parsing template"),
            ({"resources": {}}, "Template version was not provided"),
            (TEMPLATE.replace("ResourceGroup", "NoSuchGroup"), "could not be found"),
        ):
            error = self.refused(heat.validate_template, self.cloud, template)
            self.assertEqual((Outcome.REJECTED, 400), (error.outcome, error.status))
            self.assertIn(said, error.detail)

    def test_more_resources_than_heat_allows_fail_afterwards(self):
        made = self.create(count=1001)
        self.assertTrue(made.failed)
        self.assertIn("Maximum resources per stack exceeded", made.status_reason)

    # Resizing

    def test_a_resize_is_answered_with_html(self):
        made = self.create(count=1)
        path = f"/stacks/{made.name}/{made.id}"
        response = self.raw("PATCH", path, json={"parameters": {"count": 2}})
        self.assertEqual(202, response.status_code)
        self.assertIn("text/html", response.headers["Content-Type"])
        self.settled(made.id)
        # And ours does not stumble over it.
        self.resize(made, 3)
        self.assertEqual(3, self.settled(made.id).count("count"))

    def test_a_resize_changes_nothing_else(self):
        made = self.create(count=1, pause="0.5", tags=["another"])
        self.resize(made, 2)
        resized = self.settled(made.id)
        self.assertEqual(set(made.tags), set(resized.tags))
        self.assertEqual(
            {**made.parameters, "count": "2"},
            dict(resized.parameters),
        )

    def test_put_wipes_tags(self):
        # Why resize is a PATCH, although the SDK knows PUT only.
        made = self.create(count=1, pause="0.5")
        path = f"/stacks/{made.name}/{made.id}"
        self.assertEqual(400, self.raw("PUT", path, json={"parameters": {}}).status_code)
        response = self.raw("PUT", path, json={"template": TEMPLATE})
        self.assertEqual(202, response.status_code)
        replaced = self.settled(made.id)
        self.assertEqual((), replaced.tags)
        self.assertEqual("0", replaced.parameters["pause"])

    def test_an_unknown_parameter_is_ignored_by_an_update(self):
        # Why HeatStack.count has to be asked first.
        made = self.create(count=1)
        self.resize(made, 5, parameter="size")
        after = self.settled(made.id)
        self.assertEqual("UPDATE_COMPLETE", after.status)
        self.assertEqual(1, after.count("count"))
        self.assertNotIn("size", after.parameters)

    def test_the_same_value_is_a_full_update(self):
        # Why none is ever sent.
        made = self.create(count=1)
        self.resize(made, 1)
        after = self.settled(made.id)
        self.assertEqual("UPDATE_COMPLETE", after.status)
        self.assertIsNotNone(after.updated_time)

    def test_updated_time_is_when_the_update_began(self):
        made = self.create(count=0, pause=self.pause)
        self.resize(made, 1)
        during = heat.get_stack(self.cloud, made.name, made.id)
        self.assertEqual("UPDATE_IN_PROGRESS", during.status)
        self.assertRegex(during.updated_time, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(during.updated_time, self.settled(made.id).updated_time)

    def test_what_a_resize_is_rejected_for(self):
        made = self.standing()
        for count, said in (
            ("abc", "could not convert string to float"),
            (-1, "-1 is out of range"),
        ):
            error = self.refused(self.resize, made, count)
            self.assertEqual((Outcome.REJECTED, 400), (error.outcome, error.status))
            self.assertIn(said, error.detail)
        self.assertEqual(made, heat.get_stack(self.cloud, made.name, made.id))

    def test_a_resize_of_what_does_not_exist(self):
        error = self.refused(heat.resize, self.cloud, "gone", str(uuid.uuid4()), "count", 1)
        self.assertEqual((Outcome.MISSING, 404), (error.outcome, error.status))

    def test_a_resize_of_what_is_being_deleted(self):
        made = self.create(count=1, linger=self.pause)
        heat.delete_stack(self.cloud, made.name, made.id)
        error = self.refused(self.resize, made, 3)
        self.assertEqual((Outcome.BUSY, "NotSupported"), (error.outcome, error.error_type))

    def test_a_deletion_of_what_is_being_created(self):
        made = self.create(count=1, pause=self.pause, wait=False)
        self.assertEqual("CREATE_IN_PROGRESS", made.status)
        heat.delete_stack(self.cloud, made.name, made.id)
        # Without convergence it is CREATE_FAILED for a moment, since its creation is cancelled first.
        for _ in range(600):
            if heat.get_stack(self.cloud, made.name, made.id) is None:
                return
            self.sleep(self.step)
        self.fail("it is still there")

    def test_a_resize_has_its_own_time_limit(self):
        made = self.create(count=1)
        self.resize(made, 2, timeout_mins=3)
        self.settled(made.id)
        body = self.raw("GET", f"/stacks/{made.name}/{made.id}").json()
        self.assertEqual(3, body["stack"]["timeout_mins"])

    def test_a_404_during_an_update_is_not_a_missing_stack(self):
        # Whoever asks for outputs gets it now and then. We do not ask; on a real Heat with
        # convergence that would be worse than a 404, for it locks the update out of its resources.
        made = self.create(count=3)
        for count in (6, 2):
            self.resize(made, count)
            looks = 0
            while True:
                found = heat.get_stack(self.cloud, made.name, made.id)
                self.assertIsNotNone(found)
                self.assertIsNotNone(heat.get_stack(self.cloud, made.name))
                looks += 1
                if not found.in_progress:
                    break
                self.sleep(self.step / 2)
            self.assertGreater(looks, 1)
            self.assertEqual(count, found.count("count"))

    def test_the_count_during_an_update(self):
        # Without convergence it may be the old one: no evidence of anything.
        made = self.create(count=0, pause=self.pause)
        self.resize(made, 1)
        during = heat.get_stack(self.cloud, made.name, made.id)
        self.assertTrue(during.in_progress)
        self.assertEqual(1 if self.convergence else 0, during.count("count"))
        self.assertEqual(1, self.settled(made.id).count("count"))

    def test_a_second_update(self):
        made = self.create(count=0, pause=self.pause)
        self.resize(made, 1)
        self.sleep(self.pause / 2)
        if self.convergence:
            # It is accepted. Whether it cancels the first one only, or itself with it, is a matter
            # of luck.
            self.resize(made, 2)
            ended = self.settled(made.id)
            self.assertEqual(2, ended.count("count"))
            if ended.failed:
                self.assertTrue(ended.interrupted, ended.status_reason)
            # Once the workers of the first are through, it can be had in any case.
            for _ in range(3):
                if ended.complete:
                    break
                self.sleep(self.pause)
                self.resize(made, 2)
                ended = self.settled(made.id)
        else:
            error = self.refused(self.resize, made, 2)
            self.assertEqual(
                (Outcome.BUSY, 409, "ActionInProgress"),
                (error.outcome, error.status, error.error_type),
            )
            self.assertFalse(error.maybe_done)
            ended = self.settled(made.id)
            self.assertEqual(1, ended.count("count"))
            self.resize(made, 2)
            ended = self.settled(made.id)
        self.assertEqual(("UPDATE_COMPLETE", 2), (ended.status, ended.count("count")))

    def test_an_update_that_fails_and_the_next_one(self):
        made = self.create(count=0, broken=True)
        self.resize(made, 1)
        ended = self.settled(made.id)
        self.assertEqual("UPDATE_FAILED", ended.status)
        self.assertTrue(ended.failed)
        self.assertFalse(ended.interrupted)
        self.assertIn("Test Resource failed", ended.status_reason)
        self.assertEqual(1, ended.count("count"))
        self.resize(made, 0)
        ended = self.settled(made.id)
        self.assertEqual(("UPDATE_COMPLETE", 0), (ended.status, ended.count("count")))

    def test_a_resize_of_what_is_being_created(self):
        made = self.create(count=1, pause=self.pause, wait=False)
        if self.convergence:
            self.resize(made, 2)
            self.assertEqual(2, self.settled(made.id).count("count"))
        else:
            error = self.refused(self.resize, made, 2)
            self.assertEqual((Outcome.BUSY, "NotSupported"), (error.outcome, error.error_type))

    def test_a_creation_that_fails(self):
        """Without convergence it is updated only with a template, though it has one."""
        made = self.create(count=1, broken=True)
        self.assertEqual(("CREATE_FAILED", 1), (made.status, made.count("count")))
        if self.convergence:
            self.resize(made, 0)
            self.assertEqual("UPDATE_COMPLETE", self.settled(made.id).status)
        else:
            error = self.refused(self.resize, made, 0)
            self.assertEqual((Outcome.BUSY, "NotSupported"), (error.outcome, error.error_type))
            self.resize(made, 0, with_template=True)
            after = self.settled(made.id)
            self.assertEqual(("UPDATE_COMPLETE", 0), (after.status, after.count("count")))
            self.assertEqual((made.tags, "True"), (after.tags, after.parameters["broken"]))
        heat.delete_stack(self.cloud, made.name, made.id)
        self.assertIsNone(self.settled(made.id))

    # Outages

    def test_a_hung_heat_times_out_and_is_asked_once(self):
        made = self.create(count=1)
        relay, cloud = self.relayed()
        # With a token at hand nothing but the request itself can be what takes too long.
        heat.get_stack(cloud, made.name, made.id)
        cloud.session.timeout = 0.5
        answers = []

        def done_and_silent(request, proceed):
            answers.append(proceed())
            raise fake_heat.Silence

        relay.fault(done_and_silent, method="PATCH")
        error = self.refused(heat.resize, cloud, made.name, made.id, "count", 2)
        self.assertEqual((Outcome.UNREACHABLE, None), (error.outcome, error.status))
        self.assertTrue(error.maybe_done)
        # It arrives all the same; a second one would be a second update.
        while not answers:
            self.sleep(self.step)
        self.assertEqual(202, answers[0].status_code)
        while self.settled(made.id).count("count") != 2:
            self.sleep(self.step)
        self.assertEqual(1, len(relay.asked("PATCH")))

    def test_a_heat_that_is_away(self):
        relay, cloud = self.relayed()
        self.assertEqual([], heat.list_stacks(cloud, self.tag))
        relay.fault("refuse")
        for call in (
            lambda: heat.list_stacks(cloud, self.tag),
            lambda: heat.get_stack(cloud, self.name),
            lambda: heat.resize(cloud, self.name, str(uuid.uuid4()), "count", 1),
            lambda: heat.delete_stack(cloud, self.name, str(uuid.uuid4())),
        ):
            error = self.refused(call)
            self.assertEqual((Outcome.UNREACHABLE, False), (error.outcome, error.maybe_done))
            self.assertIn("Connection refused", error.detail)
        relay.heal()
        self.assertEqual([], heat.list_stacks(cloud, self.tag))

    def test_many_threads_with_one_connection(self):
        made = self.standing()
        cloud = self.connected_with()
        seen, failed = [], []

        def read():
            try:
                seen.append(heat.get_stack(cloud, made.name, made.id))
            except heat.HeatError as exc:
                failed.append(exc.detail)

        threads = [threading.Thread(target=read) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(([], [made] * 20), (failed, seen))

    # Credentials

    def test_a_wrong_password(self):
        error = self.refused(self.connected_with, auth={"password": "wrong"})
        self.assertEqual((Outcome.REFUSING, 401), (error.outcome, error.status))
        self.assertIn("Keystone does not accept the credentials", error.detail)

    def test_a_wrong_project(self):
        error = self.refused(self.connected_with, auth={"project_name": "no-such-project"})
        self.assertEqual((Outcome.REFUSING, 401), (error.outcome, error.status))

    def test_a_region_that_is_not_in_the_catalog(self):
        error = self.refused(self.connected_with, region_name="Nowhere")
        self.assertEqual((Outcome.REFUSING, None), (error.outcome, error.status))
        self.assertIn("Nowhere", error.detail)

    def test_an_auth_url_that_is_no_keystone(self):
        url = self.cloud.get_endpoint().rpartition("/v1/")[0]
        error = self.refused(self.connected_with, auth={"auth_url": f"{url}/v3"})
        self.assertEqual(Outcome.REFUSING, error.outcome)

    def test_a_token_that_heat_does_not_know(self):
        # It was revoked, say. A new one is fetched, and nobody notices.
        made = self.create(count=1)
        cloud = self.connected_with()
        for call in (
            lambda: heat.get_stack(cloud, made.name, made.id),
            lambda: heat.resize(cloud, made.name, made.id, "count", 2),
        ):
            cloud.session.auth.auth_ref._auth_token = "0" * 32
            call()
        self.assertEqual(2, self.settled(made.id).count("count"))
