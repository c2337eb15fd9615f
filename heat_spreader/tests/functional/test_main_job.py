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
"""The main job on real clouds: Keystone, three Heats, and the service in front of them.

The same tests run in both convergence modes of Heat. What they look at is what the Heats themselves
say; the service's own word is only waited for.
"""

import collections.abc
from concurrent import futures
import contextlib
import http.client
import json
import pathlib
import sys
import threading
import time
import typing
import urllib.error

from oslotest import base

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import identity  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402
from heat_sandbox import spreader  # noqa: E402

TEMPLATE = (TOP / "sandbox" / "web.yaml").read_text()
WEIGHTS = {"cloud1": "0.6", "cloud2": "0.2", "cloud3": "0.2"}
# Units that Heat can find dead without a server behind them: each is a Heat stack of its own.
NESTED = """
heat_template_version: 2021-04-16
parameters:
  count: {type: number, default: 0}
resources:
  units:
    type: OS::Heat::ResourceGroup
    properties:
      count: {get_param: count}
      resource_def:
        type: OS::Heat::Stack
        properties:
          template: >
            {"heat_template_version": "2021-04-16",
             "resources": {"unit": {"type": "OS::Heat::RandomString"}}}
"""
# A short lease, so that a killed engine's stacks are taken over soon.
SETTINGS = {
    **spreader.QUICK,
    "engine": {**spreader.QUICK["engine"], "claim_lease": 6},
    "clouds": {"timeout": 3},
}


class Heat:
    """One Heat, asked directly with the sandbox's own REST client."""

    def __init__(self, box: sandbox.Sandbox, cloud: sandbox.Cloud) -> None:
        account = box.account(cloud.name)
        self._keystone = identity.Keystone(
            account["auth_url"], account["username"], account["password"], account["project"]
        )
        self.url = f"{cloud.heat.url}/v1/{self._keystone.project_id}/stacks"
        self._ids: dict[str, str] = {}

    def call(self, method: str, path: str = "", body: object = None) -> dict[str, typing.Any]:
        return identity.call(method, self.url + path, self._keystone.token, body)[0]

    def stacks(self, name: str) -> list[dict[str, typing.Any]]:
        listed = self.call("GET", f"?name={name}")["stacks"]
        return [stack for stack in listed if stack["stack_status"] != "DELETE_COMPLETE"]

    def count(self, name: str) -> int | None:
        """The count of a Heat stack that is complete; None for any other."""
        for stack in self.stacks(name):
            found = self.call("GET", f"/{name}/{stack['id']}?resolve_outputs=False")["stack"]
            if found["stack_status"].endswith("_COMPLETE"):
                return int(found["parameters"]["count"])
        return None

    def running(self, name: str) -> int:
        """The units that run for sure: neither those being made nor those being taken away."""
        stacks = [self._ids[name]] if name in self._ids else [s["id"] for s in self.stacks(name)]
        if not stacks:
            return 0
        self._ids[name] = stacks[0]
        try:
            found = self.call("GET", f"/{name}/{stacks[0]}/resources?nested_depth=2")["resources"]
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.NOT_FOUND:
                raise
            del self._ids[name]
            return 0
        return sum(
            unit["resource_type"] != "OS::Heat::ResourceGroup"
            and not unit["resource_status"].startswith(
                ("INIT_", "CREATE_IN_PROGRESS", "CREATE_FAILED", "DELETE_")
            )
            for unit in found
        )

    def children(self, name: str) -> dict[str, str]:
        """The units of a stack made from NESTED that are alive: their names and ids."""
        listed = self.call("GET", "?show_nested=true")["stacks"]
        return {
            each["stack_name"]: each["id"]
            for each in listed
            if each["stack_name"].startswith(f"{name}-units-") and each["parent"] is None
        }

    def resize(self, path: str, count: int) -> None:
        # Its answer is a page for a browser.
        with contextlib.suppress(ValueError):
            self.call("PATCH", path, {"parameters": {"count": count}})

    def create(self, name: str, count: int, template: str = TEMPLATE) -> None:
        body = {"stack_name": name, "template": template, "parameters": {"count": count}}
        self.call("POST", body=body)


class MainJob:
    """Mixed into one class for each convergence mode."""

    convergence: str
    base_port: int
    spreader_port: int

    box: sandbox.Sandbox
    service: spreader.Spreader

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()  # type: ignore[misc]
        cls.box = sandbox.Sandbox(TOP / f".sandbox-test-convergence-{cls.convergence}")
        cls.addClassCleanup(cls._remove)  # type: ignore[attr-defined]
        cls._remove()
        cls.box.up(
            sandbox.Settings(
                convergence=cls.convergence,
                # No other test asks for more of one cloud, not even when it is the only one in sight.
                resource_limits={"3": 15},
                base_port=cls.base_port,
                spreader_port=cls.spreader_port,
            )
        )
        cls.service = spreader.Spreader(cls.box, pathlib.Path(sys.executable).parent)
        cls.service.configure(SETTINGS)
        cls.service.start()
        admin = spreader.Caller(cls.box, "admin")
        for name in WEIGHTS:
            admin.call("POST", "/v1/clouds", {"name": name, "shared": True})

    @classmethod
    def _remove(cls) -> None:
        if cls.box.exists():
            cls.box.down(delete=True)

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        # What a test before this one killed.
        self.box.up(self.box.settings())
        self.service.start()
        self.caller = spreader.Caller(self.box)
        self.heats = {cloud.name: Heat(self.box, cloud) for cloud in self.box.clouds()}
        self.name = "s" + self.id().rpartition(".")[2].replace("_", "-")  # type: ignore[attr-defined]
        self.addCleanup(self._delete)  # type: ignore[attr-defined]

    def _delete(self) -> None:
        self.box.up(self.box.settings())
        self.service.start()
        if self.caller.stack(self.name):
            self.caller.call("DELETE", f"/v1/stacks/{self.name}")
            self.until(lambda: self.caller.stack(self.name) is None, "the stack is deleted")

    # Steps

    def create(self, count: int = 10, template: str | None = TEMPLATE, **more: object) -> None:
        body = {
            "name": self.name,
            "count": count,
            "members": [{"cloud": c, "weight": w} for c, w in WEIGHTS.items()],
            **({"template": template} if template else {}),
            **more,
        }
        self.caller.call("POST", "/v1/stacks", body)

    def until(
        self, true: collections.abc.Callable[[], object], what: str, seconds: float = 90
    ) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                try:
                    now = json.dumps(self.caller.stack(self.name), indent=1)
                except (OSError, http.client.HTTPException) as error:
                    now = repr(error)
                raise AssertionError(f"after {seconds} s not yet: {what}; the stack is\n{now}")
            # A look is six requests, and Heat takes long for each.
            time.sleep(0.5)

    def until_status(self, status: str, seconds: float = 90) -> dict[str, typing.Any]:
        def reached() -> bool:
            stack = self.caller.stack(self.name)
            return bool(stack and stack["status"] == status)

        self.until(reached, f"status {status}", seconds)
        stack = self.caller.stack(self.name)
        assert stack is not None
        return stack

    def until_counts(self, seconds: float = 90, **wanted: int) -> None:
        """Wait until these Heats themselves show these counts, complete."""
        self.until(
            lambda: {name: self.heats[name].count(self.name) for name in wanted} == wanted,
            f"the Heats show {wanted}",
            seconds,
        )

    def member(self, cloud: str) -> dict[str, typing.Any]:
        stack = self.caller.stack(self.name)
        assert stack is not None
        (member,) = [each for each in stack["members"] if each["cloud"] == cloud]
        return member  # type: ignore[no-any-return]

    def cloud(self, name: str) -> list[sandbox.Server]:
        return self.box.cloud(name).servers("heat")

    def assert_one_heat_stack_each(self) -> None:
        found = {name: len(heat.stacks(self.name)) for name, heat in self.heats.items()}
        assert found == dict.fromkeys(WEIGHTS, 1), found

    # Tests

    def test_a_killed_cloud_gives_its_units_away_and_gets_them_back(self) -> None:
        self.create()
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")

        self.box.kill(self.cloud("cloud3"))
        self.until_counts(cloud1=7, cloud2=3)
        stack = self.until_status("DEGRADED")
        assert stack["ledger"]["in_doubt"] == 2, stack["ledger"]

        fewest = Fewest(self)
        self.box.start(self.cloud("cloud3"))
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        seen = fewest.stop()
        assert seen >= 10, f"only {seen} units ran at one moment of the return"
        self.assert_one_heat_stack_each()

    def test_the_largest_cloud_vanishes_and_then_one_more(self) -> None:
        """Two of three are not many, and one is not, however much it carries: they are replaced."""
        self.create()
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        self.box.kill(self.cloud("cloud1"))
        self.until_counts(cloud2=5, cloud3=5)
        self.box.kill(self.cloud("cloud2"))
        self.until_counts(cloud3=10)
        self.box.up(self.box.settings())
        self.until_counts(cloud1=6, cloud2=2, cloud3=2, seconds=150)
        self.until_status("ACTIVE")
        self.assert_one_heat_stack_each()

    def test_a_hung_cloud_delays_no_other(self) -> None:
        self.create()
        self.until_status("ACTIVE")
        elsewhere = self.name + "-elsewhere"
        self.caller.call(
            "POST",
            "/v1/stacks",
            {
                "name": elsewhere,
                "count": 1,
                "template": TEMPLATE,
                "members": [{"cloud": "cloud1", "weight": 1}],
            },
        )
        self.until(lambda: self.heats["cloud1"].count(elsewhere) == 1, f"{elsewhere} is there")

        self.box.hang(self.cloud("cloud3"))
        self.caller.call("PATCH", f"/v1/stacks/{elsewhere}", {"count": 2})
        self.until(lambda: self.heats["cloud1"].count(elsewhere) == 2, "no delay elsewhere", 15)
        self.until_counts(cloud1=7, cloud2=3)
        self.box.resume(self.cloud("cloud3"))
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)

        self.caller.call("DELETE", f"/v1/stacks/{elsewhere}")
        self.until(lambda: not self.heats["cloud1"].stacks(elsewhere), f"{elsewhere} is gone")

    def test_heat_stacks_that_exist_are_taken_over_and_released(self) -> None:
        for heat in self.heats.values():
            heat.create(self.name, 1)
        self.until_counts(cloud1=1, cloud2=1, cloud3=1)
        before = {name: heat.stacks(self.name)[0]["id"] for name, heat in self.heats.items()}
        self.create(template=None)
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        self.caller.call("DELETE", f"/v1/stacks/{self.name}")
        self.until(lambda: self.caller.stack(self.name) is None, "the stack is released")
        after = {name: heat.stacks(self.name)[0]["id"] for name, heat in self.heats.items()}
        assert before == after, "a Heat stack that was taken over must be left running"
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        for heat in self.heats.values():
            heat.call("DELETE", f"/{self.name}/{heat.stacks(self.name)[0]['id']}")

    def test_a_cloud_without_the_named_heat_stack_is_told(self) -> None:
        for name in ("cloud1", "cloud2"):
            self.heats[name].create(self.name, 1)
        self.until_counts(cloud1=1, cloud2=1)
        self.create(template=None)
        stack = self.until_status("ERROR")
        (member,) = [m for m in stack["members"] if m["cloud"] == "cloud3"]
        assert f"no Heat stack named '{self.name}'" in member["status_reason"], member
        self.until_counts(cloud1=6, cloud2=2)
        # Whoever makes the missing one needs to tell nobody.
        self.heats["cloud3"].create(self.name, 1)
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        self.caller.call("DELETE", f"/v1/stacks/{self.name}")
        self.until(lambda: self.caller.stack(self.name) is None, "the stack is released")
        for heat in self.heats.values():
            heat.call("DELETE", f"/{self.name}/{heat.stacks(self.name)[0]['id']}")

    def test_a_heat_stack_of_somebody_else_is_not_touched(self) -> None:
        self.heats["cloud2"].create(self.name, 3)
        self.until_counts(cloud2=3)
        self.create()
        stack = self.until_status("ERROR")
        (member,) = [m for m in stack["members"] if m["cloud"] == "cloud2"]
        assert "taken" in member["status_reason"], member
        self.until_counts(cloud1=6, cloud2=3, cloud3=2)
        self.caller.call("DELETE", f"/v1/stacks/{self.name}")
        self.until(lambda: self.caller.stack(self.name) is None, "the stack is deleted")
        assert self.heats["cloud2"].count(self.name) == 3, "not ours to delete"
        heat = self.heats["cloud2"]
        heat.call("DELETE", f"/{self.name}/{heat.stacks(self.name)[0]['id']}")

    def test_a_template_that_heat_refuses_is_told_in_its_words(self) -> None:
        self.create(template=TEMPLATE.replace("OS::Heat::ResourceGroup", "OS::No::SuchThing"))
        stack = self.until_status("ERROR")
        assert "OS::No::SuchThing" in stack["status_reason"], stack["status_reason"]
        assert not any(heat.stacks(self.name) for heat in self.heats.values())

    def test_a_missing_parameter_is_refused_when_it_is_submitted(self) -> None:
        template = TEMPLATE.replace("resources:", "  flavor: {type: string}\nresources:", 1)
        with self.assertRaises(urllib.error.HTTPError) as refused:  # type: ignore[attr-defined]
            self.create(template=template)
        said = json.loads(refused.exception.read())["errors"][0]
        assert refused.exception.code == 400 and "flavor" in said["detail"], said
        self.create(template=template, parameters={"flavor": "small"})
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)

    def test_an_engine_killed_in_the_middle_of_any_step_doubles_and_loses_nothing(self) -> None:
        """Killed at ever later moments of creating, raising, lowering and deleting."""
        moments = (0.1, 0.4, 0.9)
        self.create()
        for moment in moments:
            self._crash_after(moment)
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        self.assert_one_heat_stack_each()

        for count, shares in ((15, (9, 3, 3)), (5, (3, 1, 1))):
            self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": count})
            for moment in moments:
                self._crash_after(moment)
            self.until_counts(**dict(zip(WEIGHTS, shares, strict=True)))
            self.until_status("ACTIVE")
            self.assert_one_heat_stack_each()

        self.caller.call("DELETE", f"/v1/stacks/{self.name}")
        for moment in moments:
            self._crash_after(moment)
        self.until(lambda: self.caller.stack(self.name) is None, "the stack is deleted")
        assert not any(heat.stacks(self.name) for heat in self.heats.values())

    def _crash_after(self, seconds: float) -> None:
        time.sleep(seconds)
        self.service.kill()
        self.service.start()

    def test_of_200_changes_in_ten_seconds_the_last_one_stands(self) -> None:
        self.create()
        self.until_status("ACTIVE")
        changers = [Changer(self, number) for number in range(4)]
        for changer in changers:
            changer.start()
        for changer in changers:
            changer.join()
        self.assertEqual(200, sum(changer.accepted for changer in changers))  # type: ignore[attr-defined]
        stack = self.caller.stack(self.name)
        assert stack is not None
        fifth = stack["count"] // 5
        self.until_counts(cloud1=3 * fifth, cloud2=fifth, cloud3=fifth, seconds=150)
        self.until_status("ACTIVE")
        self.assert_one_heat_stack_each()

    def test_a_raise_that_a_cloud_has_no_room_for_goes_elsewhere(self) -> None:
        """Cloud 3 takes no more than fifteen resources in a stack; Heat says so when it is too late."""
        self.create(count=20)
        self.until_counts(cloud1=12, cloud2=4, cloud3=4)
        self.until_status("ACTIVE")
        fewest = Fewest(self)
        weights = {"cloud1": "0.1", "cloud2": "0.1", "cloud3": "0.8"}
        self.caller.call("PUT", f"/v1/stacks/{self.name}/weights", {"weights": weights})
        # Sixteen are its share; the sixteen that do not run there are for the others, half and half.
        self.until_counts(cloud1=8, cloud2=8, cloud3=4)
        seen = fewest.stop()
        assert seen >= 20, f"only {seen} units ran at one moment"
        member = self.member("cloud3")
        assert "Maximum resources per stack exceeded" in member["status_reason"], member
        self.assert_one_heat_stack_each()

    def test_a_heat_stack_deleted_by_hand_is_missed_as_the_policy_says(self) -> None:
        self.create(repair={"missing": "hold"})
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        self._delete_by_hand("cloud3")
        self.until(lambda: self.member("cloud3")["status"] == "MISSING", "it is missed")
        self.until_counts(cloud1=6, cloud2=2)
        assert not self.heats["cloud3"].stacks(self.name), "it was to be held"

        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"repair": {"missing": "move"}})
        self.until_counts(cloud1=8, cloud2=2)
        assert not self.heats["cloud3"].stacks(self.name), "its units were to be moved"

        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"repair": {"missing": "recreate"}})
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")

    def test_a_heat_stack_deleted_by_hand_is_made_anew(self) -> None:
        self.create()
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        before = self._delete_by_hand("cloud2")
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        assert before != self.heats["cloud2"].stacks(self.name)[0]["id"]
        self.assert_one_heat_stack_each()

    def _delete_by_hand(self, cloud: str) -> str:
        heat = self.heats[cloud]
        heat_stack_id = str(heat.stacks(self.name)[0]["id"])
        heat.call("DELETE", f"/{self.name}/{heat_stack_id}")
        self.until(
            lambda: heat_stack_id not in [each["id"] for each in heat.stacks(self.name)],
            f"{cloud} has deleted it",
        )
        return heat_stack_id

    def test_a_count_changed_by_hand_is_set_back_once(self) -> None:
        self.create()
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")
        self._change_by_hand("cloud2", 4)
        # The change itself may be set back before anybody looks; what was done about it stays on record.
        self.until(lambda: self._events("member.drift"), "the change was noticed")
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")

        self._change_by_hand("cloud2", 3)
        self.until(lambda: self.member("cloud2")["status"] == "ERROR", "it is a conflict")
        assert "user 'demo'" in self.member("cloud2")["status_reason"], self.member("cloud2")
        assert self.heats["cloud2"].count(self.name) == 3, "not to be fought twice"

        self.caller.call("POST", f"/v1/stacks/{self.name}/actions", {"retry": None})
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")

    def _change_by_hand(self, cloud: str, count: int) -> None:
        heat = self.heats[cloud]
        heat.resize(f"/{self.name}/{heat.stacks(self.name)[0]['id']}", count)

    def _events(self, kind: str) -> list[dict[str, typing.Any]]:
        listed = self.caller.call("GET", f"/v1/stacks/{self.name}/events?type={kind}")
        return listed["events"]  # type: ignore[no-any-return]

    def test_a_check_finds_dead_units_and_they_are_made_anew(self) -> None:
        self.create(count=5, template=NESTED)
        self.until_counts(cloud1=3, cloud2=1, cloud3=1)
        self.until_status("ACTIVE")
        heat = self.heats["cloud1"]
        before = heat.children(self.name)
        assert len(before) == 3, before
        dead = sorted(before)[0]
        heat.call("DELETE", f"/{dead}/{before[dead]}")
        self.until(lambda: dead not in heat.children(self.name), f"{dead} is dead")
        self.caller.call("POST", f"/v1/stacks/{self.name}/actions", {"check": None})
        self.until(lambda: len(heat.children(self.name)) == 3, "there are three units again")
        after = heat.children(self.name)
        assert len(before.items() & after.items()) == 2, (before, after)
        self.until_counts(cloud1=3, cloud2=1, cloud3=1)
        self.until_status("ACTIVE")


class Changer(threading.Thread):
    """One of four clients who change the count of a stack, 50 times each in ten seconds."""

    def __init__(self, test: MainJob, number: int) -> None:
        super().__init__(daemon=True)
        self._caller = test.caller
        self._path = f"/v1/stacks/{test.name}"
        self._number = number
        self.accepted = 0

    def run(self) -> None:
        began = time.monotonic()
        for turn in range(50):
            time.sleep(max(0.0, began + turn * 0.2 - time.monotonic()))
            self._caller.call("PATCH", self._path, {"count": 5 * ((turn + self._number) % 4)})
            self.accepted += 1


class Fewest(threading.Thread):
    """Watches how many units the Heats run, all together.

    No two Heats are looked at in one moment: what the one has just got and another has given away for
    it would both be missed. So each counts with the better of two looks in a row. With units that are
    slow to start, what was taken away too soon is away for longer than that.
    """

    def __init__(self, test: MainJob) -> None:
        super().__init__(daemon=True)
        self._test = test
        self._halt = threading.Event()
        self._fewest: int | None = None
        # A cloud that is out of sight counts with what was seen there last.
        self._seen = dict.fromkeys(test.heats, 0)
        self._workers = futures.ThreadPoolExecutor(len(test.heats))
        self._look()
        self.start()

    def _look(self) -> dict[str, int]:
        before = dict(self._seen)
        list(self._workers.map(self._look_at, self._test.heats))
        return {name: max(units, before[name]) for name, units in self._seen.items()}

    def _look_at(self, name: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._seen[name] = self._test.heats[name].running(self._test.name)

    def run(self) -> None:
        while not self._halt.wait(0.2):
            running = sum(self._look().values())
            self._fewest = running if self._fewest is None else min(self._fewest, running)

    def stop(self) -> int:
        self._halt.set()
        self.join()
        self._workers.shutdown()
        assert self._fewest is not None, "nothing was seen"
        return self._fewest


class ConvergenceOnTest(MainJob, base.BaseTestCase):
    convergence = "on"
    base_port = 22000
    spreader_port = 22097


class ConvergenceOffTest(MainJob, base.BaseTestCase):
    convergence = "off"
    base_port = 22100
    spreader_port = 22197
