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

"""The sandbox as a person uses it: its commands, run as commands.

These sandboxes are made for the tests and deleted after them; one that is there for other reasons
is not touched. The packages are shared with it.
"""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing

from oslotest import base

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import process  # noqa: E402


class SandboxTest(base.BaseTestCase):
    """Two sandboxes side by side, with ports that no other test uses."""

    one = TOP / ".sandbox-test-1"
    two = TOP / ".sandbox-test-2"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # What an interrupted run left.
        cls.remove()
        cls.addClassCleanup(cls.remove)
        cls.run_command("up", cls.one, "--clouds=2", "--base-port=21000")
        cls.run_command(
            "up", cls.two, "--clouds=1", "--base-port=21100", "--topology=separate", "--fast"
        )

    @classmethod
    def remove(cls) -> None:
        for directory in (cls.one, cls.two):
            cls.run_command("down", directory, "--delete")

    @staticmethod
    def run_command(
        name: str, directory: pathlib.Path, *arguments: str, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [TOP / "sandbox" / name, "--dir", directory, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != code:
            raise AssertionError(f"{name}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def status(self, directory: pathlib.Path, code: int = 0) -> dict[str, dict[str, typing.Any]]:
        done = self.run_command("status", directory, "--json", code=code)
        return {each["name"]: each for each in json.loads(done.stdout)["processes"]}

    def pids(self, directory: pathlib.Path) -> dict[str, int]:
        return {name: each["pid"] for name, each in self.status(directory).items()}

    def test_up_again_changes_nothing(self) -> None:
        before = self.pids(self.one)
        files = {
            path: path.read_bytes() for path in self.one.iterdir() if path.is_file()
        }  # clouds.yaml, secrets and state
        self.run_command("up", self.one)
        self.assertEqual(before, self.pids(self.one))
        self.assertEqual(files, {path: path.read_bytes() for path in files})

    def test_two_stand_side_by_side(self) -> None:
        self.assertEqual({"keystone", "heat-1", "heat-2"}, set(self.status(self.one)))
        self.assertEqual({"keystone-1", "heat-1"}, set(self.status(self.two)))

    def test_an_existing_sandbox_keeps_its_settings(self) -> None:
        done = self.run_command("up", self.one, "--clouds=3", code=1)
        self.assertIn("clouds=2", done.stderr)

    def test_a_directory_with_something_else_in_it_is_refused(self) -> None:
        done = self.run_command("up", TOP / "sandbox", code=1)
        self.assertIn("not empty", done.stderr)

    def test_secrets_are_for_their_owner_only(self) -> None:
        for name in ("secrets.json", "clouds.yaml", "etc/heat-1.conf", "etc/keystone.conf"):
            self.assertEqual(0o600, (self.one / name).stat().st_mode & 0o777, name)

    def test_a_killed_cloud_is_reported_and_repaired(self) -> None:
        before = self.pids(self.one)
        self.run_command("cloud", self.one, "stop", "2")
        states = {name: each["state"] for name, each in self.status(self.one, code=1).items()}
        self.assertEqual({"keystone": "live", "heat-1": "live", "heat-2": "dead"}, states)

        self.run_command("up", self.one)
        after = self.pids(self.one)
        self.assertNotEqual(before.pop("heat-2"), after.pop("heat-2"))
        self.assertEqual(before, after)

    def test_a_killed_keystone_is_repaired(self) -> None:
        pid = self.pids(self.one)["keystone"]
        os.kill(pid, signal.SIGKILL)
        self.run_command("up", self.one)
        self.assertNotEqual(pid, self.pids(self.one)["keystone"])

    def test_a_hung_cloud_accepts_and_never_answers(self) -> None:
        before = self.pids(self.one)
        self.run_command("cloud", self.one, "hang", "cloud1")
        self.assertEqual("hung", self.status(self.one, code=1)["heat-1"]["state"])
        connection = http.client.HTTPConnection("127.0.0.1", 21001, timeout=2)
        self.addCleanup(connection.close)
        connection.request("GET", "/")
        self.assertRaises(TimeoutError, connection.getresponse)

        self.run_command("cloud", self.one, "resume", "cloud1")
        self.assertEqual(before, self.pids(self.one))

    def test_down_ends_all_of_its_processes_and_no_other(self) -> None:
        one = self.pids(self.one)
        self.run_command("down", self.two)
        self.assertEqual([], process.marked(str(self.two)))
        self.assertEqual(one, self.pids(self.one))
        self.run_command("up", self.two)
        self.assertEqual(2, len(self.pids(self.two)))


class StrangerTest(base.BaseTestCase):
    """A pid is not enough to be taken for a process of the sandbox."""

    def setUp(self) -> None:
        super().setUp()
        self.stranger = subprocess.Popen(["sleep", "60"])
        self.addCleanup(self.stranger.wait)
        self.addCleanup(self.stranger.kill)

    def test_a_pid_that_somebody_else_got_is_left_alone(self) -> None:
        stat = process.read_stat(self.stranger.pid)
        assert stat is not None
        gone = process.Started(self.stranger.pid, stat.started_at - 1)
        self.assertEqual("dead", process.state(gone))
        process.end([gone], patience=0)
        self.assertIsNone(self.stranger.poll())

    def test_the_very_process_is_ended(self) -> None:
        stat = process.read_stat(self.stranger.pid)
        assert stat is not None
        process.end([process.Started(self.stranger.pid, stat.started_at)], patience=5)
        self.assertEqual(-signal.SIGTERM, self.stranger.wait(timeout=5))
