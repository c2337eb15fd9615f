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
"""The commands as an operator meets them: started as processes, with what may be wrong around them."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from oslotest import base

from heat_spreader import secret_store

CLOUDS = """
clouds:
  east:
    auth: {auth_url: "http://127.0.0.1:9/v3", username: u, password: p, project_name: p}
  west:
    auth: {auth_url: "http://127.0.0.1:9/v3", username: u, password: p, project_name: p}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class CommandTest(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.home = pathlib.Path(made.name)
        self.port = free_port()
        # Nothing of the person who runs the tests: neither configuration nor clouds.yaml.
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }

    def write(self, name: str, text: str) -> pathlib.Path:
        path = self.home / name
        path.write_text(text)
        return path

    def command(self, module: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", f"heat_spreader.cmd.{module}", *map(str, arguments)]

    def fail(self, module: str, *arguments: object, code: int = 1) -> str:  # type: ignore[override]
        """Run a command that must not start; give what it told the operator."""
        done = subprocess.run(
            self.command(module, *arguments),
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(code, done.returncode, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def conf(self, text: str = "") -> pathlib.Path:
        return self.write("spreader.conf", f"[api]\nport = {self.port}\n{text}")


class RunTest(CommandTest):
    def test_without_a_clouds_yaml(self) -> None:
        said = self.fail("run", "run", "--config-file", self.conf())
        self.assertIn("clouds.yaml", said)

    def test_with_a_cloud_that_clouds_yaml_lacks(self) -> None:
        self.write("clouds.yaml", CLOUDS)
        said = self.fail("run", "run", "--config-file", self.conf(), "--cloud", "north")
        self.assertIn("north", said)
        self.assertIn("east, west", said)

    def test_on_a_port_in_use(self) -> None:
        self.write("clouds.yaml", CLOUDS)
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.port))
            other.listen()
            said = self.fail("run", "run", "--config-file", self.conf())
        self.assertIn(f"port {self.port}", said)
        self.assertIn("[api] port", said)

    def test_on_a_database_that_is_not_at_the_head_revision(self) -> None:
        self.write("clouds.yaml", CLOUDS)
        conf = self.conf(f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n")
        said = self.fail("run", "run", "--config-file", conf)
        self.assertIn("heat-spreader-manage db sync", said)

    def test_with_a_configuration_file_that_is_not_there(self) -> None:
        said = self.fail("run", "run", "--config-file", self.home / "nowhere.conf")
        self.assertIn("nowhere.conf", said)

    def test_open_to_the_network_without_authentication(self) -> None:
        self.write("clouds.yaml", CLOUDS)
        conf = self.write("open.conf", f"[api]\nhost = 0.0.0.0\nport = {self.port}\n")
        self.assertIn("auth_strategy", self.fail("run", "run", "--config-file", conf))

    def test_without_a_word(self) -> None:
        self.assertIn("usage", self.fail("run", code=2))

    def test_it_serves_the_clouds_of_clouds_yaml_and_ends_on_sigterm(self) -> None:
        self.write("clouds.yaml", CLOUDS)
        with subprocess.Popen(
            self.command("run", "run", "--config-file", self.conf()),
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as running:
            try:
                clouds = self.get(running, "/v1/clouds")["clouds"]
                self.assertEqual(["east", "west"], [cloud["name"] for cloud in clouds])
                running.terminate()
                self.assertEqual(0, running.wait(20))
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)
        self.assertTrue((self.home / ".local/share/heat-spreader/heat-spreader.sqlite").exists())

    def test_slow_clients_hold_it_up_for_seconds_at_most(self) -> None:
        self.write("clouds.yaml", CLOUDS)
        with subprocess.Popen(
            self.command("run", "run", "--config-file", self.conf()),
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as running:
            over = threading.Event()
            try:
                self.get(running, "/")
                # More than it has threads, for its whole life.
                slow = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(50)]
                for number, each in enumerate(slow):
                    self.addCleanup(each.close)
                    each.sendall(b"POST /v1/stacks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: x")
                    if number % 2:
                        each.sendall(b"\r\nContent-Length: 9999\r\n\r\n{")

                def drip() -> None:
                    while not over.wait(0.2):
                        for each in slow:
                            with contextlib.suppress(OSError):
                                each.sendall(b" ")

                threading.Thread(target=drip, daemon=True).start()
                self.get(running, "/v1/clouds")
                # And it is rid of them.
                slow[0].settimeout(30)
                self.assertIn(b"408", slow[0].recv(1000))
            finally:
                over.set()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGKILL)

    def get(self, running: subprocess.Popen[str], path: str) -> dict[str, list[dict[str, str]]]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + 30
        while True:
            try:
                with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                    return json.load(answer)  # type: ignore[no-any-return]
            except OSError:
                if running.poll() is not None or time.monotonic() > deadline:
                    running.kill()
                    raise AssertionError(running.stdout and running.stdout.read()) from None
                time.sleep(0.1)


class EngineTest(CommandTest):
    def test_without_a_database(self) -> None:
        said = self.fail("engine", "--config-file", self.conf())
        self.assertIn("[database] connection", said)

    def test_on_a_database_that_is_not_at_the_head_revision(self) -> None:
        conf = self.conf(f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n")
        self.assertIn("heat-spreader-manage db sync", self.fail("engine", "--config-file", conf))

    def test_with_a_value_that_is_none(self) -> None:
        conf = self.conf("max_limit = many\n")
        self.assertIn("max_limit", self.fail("engine", "--config-file", conf))

    def test_with_a_lease_that_is_too_short(self) -> None:
        conf = self.conf(
            f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n"
            "[engine]\nclaim_lease = 5\n[clouds]\ntimeout = 10\n"
        )
        self.assertIn("claim_lease", self.fail("engine", "--config-file", conf))


class ManageTest(CommandTest):
    def manage(self, *arguments: str) -> str:
        conf = self.conf(f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n")
        return subprocess.run(
            self.command("manage", "--config-file", conf, "db", *arguments),
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def test_a_new_database_is_brought_to_the_head_revision(self) -> None:
        self.assertEqual("none\n", self.manage("version"))
        self.manage("sync")
        revision = self.manage("version").strip()
        self.assertIn(revision, self.manage("check"))
        self.assertIn(revision, self.manage("sync"), "a second time changes nothing")

    def test_check_of_a_database_that_is_behind(self) -> None:
        conf = self.conf(f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n")
        said = self.fail("manage", "--config-file", conf, "db", "check")
        self.assertIn("db sync", said)

    def test_a_database_that_does_not_answer(self) -> None:
        conf = self.conf(
            "[database]\nconnection = mysql+pymysql://u:secret@127.0.0.1:9/x\n"
            "max_retries = 1\nretry_interval = 0\n"
        )
        said = self.fail("manage", "--config-file", conf, "db", "version")
        self.assertIn("cannot be used", said)
        self.assertNotIn("secret", said)

    def test_a_revision_that_does_not_exist(self) -> None:
        conf = self.conf(f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n")
        said = self.fail("manage", "--config-file", conf, "db", "sync", "9999")
        self.assertIn("9999", said)

    def test_a_revision_is_said_and_not_made(self) -> None:
        said = self.manage("stamp", "head")
        self.assertIn(self.manage("version").strip(), said)
        conf = self.conf(f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n")
        self.assertIn("cannot be used", self.fail("manage", "--config-file", conf, "db", "purge"))

    def test_old_events_are_deleted(self) -> None:
        self.manage("sync")
        self.assertEqual("0 events older than 90 days are deleted.\n", self.manage("purge"))
        with contextlib.closing(sqlite3.connect(self.home / "mine.sqlite")) as database, database:
            for days in (1, 40, 50):
                database.execute(
                    "INSERT INTO events (type, message, actor, created_at) "
                    "VALUES ('t', 'm', 'a', datetime('now', ?) || '.000000')",
                    (f"-{days} days",),
                )
        self.assertIn("2 events older than 30 days", self.manage("purge", "--days", "30"))
        conf = self.conf(f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n")
        said = self.fail("manage", "--config-file", conf, "db", "purge", "--days", "0", code=2)
        self.assertIn("--days", said)


class StatusTest(CommandTest):
    """What upgrade tools run, and go by the exit code of."""

    def configured(self, more: str = "") -> pathlib.Path:
        connection = f"connection = sqlite:///{self.home}/mine.sqlite"
        return self.write(
            "status.conf", f"[DEFAULT]\ntransport_url = fake://\n[database]\n{connection}\n{more}"
        )

    def synced(self) -> None:
        conf = self.configured()
        command = self.command("manage", "--config-file", conf, "db", "sync")
        subprocess.run(command, cwd=self.home, env=self.environment, check=True, timeout=60)

    def check(self, more: str = "") -> tuple[int, dict[str, tuple[int, str | None]]]:
        """The exit code, and of each check its own code and its words."""
        done = subprocess.run(
            self.command(
                "status", "--config-file", self.configured(more), "upgrade", "check", "--json"
            ),
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        checks = json.loads(done.stdout)["checks"]
        return done.returncode, {
            each["check"]: (each["result"], each["details"]) for each in checks
        }

    def test_all_is_well(self) -> None:
        self.synced()
        code, checks = self.check()
        self.assertEqual({(0, None)}, set(checks.values()))
        self.assertEqual(0, code)

    def test_a_person_reads_a_table(self) -> None:
        self.synced()
        done = subprocess.run(
            self.command("status", "--config-file", self.configured(), "upgrade", "check"),
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
        self.assertIn("| Check: Database schema", done.stdout)

    def test_a_database_that_is_behind(self) -> None:
        code, checks = self.check()
        self.assertEqual(2, code)
        failed, said = checks["Database schema"]
        self.assertEqual(2, failed)
        self.assertIn("heat-spreader-manage db sync", said or "")
        self.assertEqual(2, checks["Engine versions"][0])

    def test_settings_that_engines_refuse(self) -> None:
        self.synced()
        code, checks = self.check("[engine]\nclaim_lease = 5\n[clouds]\ntimeout = 10\n")
        self.assertEqual((2, 2), (code, checks["Configuration"][0]))
        self.assertIn("claim_lease", checks["Configuration"][1] or "")

    def test_a_policy_file_with_a_mistake(self) -> None:
        self.synced()
        policy = self.write(
            "policy.yaml",
            '"operators": "role:operator"\n'
            '"spreader:cloud:create": "rule:operators"\n'
            '"spreader:stack:created": "role:member"\n',
        )
        setting = f"[oslo_policy]\npolicy_file = {policy}\n"
        code, checks = self.check(setting)
        self.assertEqual((1, 1), (code, checks["Policy file rules"][0]))
        said = checks["Policy file rules"][1] or ""
        self.assertIn("spreader:stack:created", said)
        self.assertNotIn("operators", said, "another rule of the file refers to it")
        policy.write_text('"spreader:cloud:create": [')
        code, checks = self.check(setting)
        self.assertEqual((2, 2), (code, checks["Policy file rules"][0]))

    def test_a_policy_file_of_the_old_form(self) -> None:
        self.synced()
        policy = self.write("policy.json", '{"spreader:cloud:create": "role:operator"}')
        code, checks = self.check(f"[oslo_policy]\npolicy_file = {policy}\n")
        self.assertEqual((2, 2), (code, checks["Policy file format"][0]))

    def test_engines_of_two_versions(self) -> None:
        self.synced()
        with contextlib.closing(sqlite3.connect(self.home / "mine.sqlite")) as database, database:
            for host, version, age in (("a", "1.0.0", 0), ("b", "2.0.0", 5), ("c", "0.9", 90)):
                database.execute(
                    "INSERT INTO engines (id, host, version, started_at, last_seen_at) "
                    "VALUES (?, ?, ?, datetime('now'), datetime('now', ?) || '.000000')",
                    (host, host, version, f"-{age} seconds"),
                )
        code, checks = self.check()
        self.assertEqual((1, 1), (code, checks["Engine versions"][0]))
        said = checks["Engine versions"][1] or ""
        self.assertIn("1.0.0 on a; 2.0.0 on b", said)
        self.assertNotIn("0.9", said, "that one is not running any more")

    def test_it_could_not_tell(self) -> None:
        conf = self.write("status.conf", "")
        said = self.fail("status", "--config-file", conf, "upgrade", "check", code=255)
        self.assertIn("[database] connection", said)


class CredentialTest(CommandTest):
    """Keys of the secrets of projects: made, put in front of others, and told of."""

    def setUp(self) -> None:
        super().setUp()
        self.keys = self.home / "secrets.keys"
        self.conf_file = self.conf(
            f"[DEFAULT]\ntransport_url = fake://\n"
            f"[database]\nconnection = sqlite:///{self.home}/mine.sqlite\n"
            f"[secrets]\nkey_file = {self.keys}\n"
        )

    def run_command(self, module: str, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            self.command(module, "--config-file", self.conf_file, *arguments),
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(code, done.returncode, done.stdout)
        self.assertNotIn("Traceback", done.stdout)
        return done.stdout

    def seal(self, credential_id: str) -> None:
        """Put a secret into the database, as the API does."""
        store = secret_store.Local(str(self.keys))
        with contextlib.closing(sqlite3.connect(self.home / "mine.sqlite")) as database:
            database.execute(
                "INSERT INTO credentials (id, cloud_id, project_id, user_id, kind, settings, sealed, "
                "key_id, retired, created_at) VALUES (?, 'c', 'p', 'u', 'password', '{}', ?, ?, 0, "
                "'2026-01-01 00:00:00')",
                (credential_id, store.seal(credential_id, "s3cret"), store.key_id),
            )
            database.commit()

    def sealed(self) -> dict[str, str]:
        with contextlib.closing(sqlite3.connect(self.home / "mine.sqlite")) as database:
            return dict(database.execute("SELECT id, sealed FROM credentials").fetchall())

    def test_a_key_is_rotated_and_the_old_one_can_go(self) -> None:
        self.run_command("manage", "db", "sync")
        self.run_command("manage", "credential", "rotate", code=1)
        first = self.run_command("manage", "credential", "key").split()[1]
        for number in range(5):
            self.seal(f"row-{number}")
        self.run_command("status", "upgrade", "check")
        second = self.run_command("manage", "credential", "key").split()[1]
        said = self.run_command("status", "upgrade", "check", code=1)
        self.assertIn("5 secret(s) are sealed with another key", said)
        said = self.run_command("manage", "credential", "rotate", "--batch", "2")
        self.assertIn("2 sealed", said)
        self.assertIn("5 sealed", said)
        self.run_command("status", "upgrade", "check")
        # Without the old key.
        self.keys.write_text(self.keys.read_text().splitlines()[0] + "\n")
        store = secret_store.Local(str(self.keys))
        for credential_id, sealed in self.sealed().items():
            self.assertIn(second, sealed)
            self.assertNotIn(first, sealed)
            self.assertEqual("s3cret", store.unseal(credential_id, sealed))

    def test_a_secret_of_a_key_that_is_gone_is_named(self) -> None:
        self.run_command("manage", "db", "sync")
        self.run_command("manage", "credential", "key")
        self.seal("row-lost")
        self.keys.unlink()
        self.assertIn("there is no", self.run_command("status", "upgrade", "check", code=2))
        self.run_command("manage", "credential", "key")
        said = self.run_command("manage", "credential", "rotate", code=1)
        self.assertIn("row-lost", said)
        self.assertNotIn("s3cret", said)

    def test_keys_that_everybody_may_read(self) -> None:
        self.run_command("manage", "db", "sync")
        self.run_command("manage", "credential", "key")
        self.keys.chmod(0o644)
        self.assertIn("0644", self.run_command("manage", "credential", "rotate", code=1))
        self.assertIn("0644", self.run_command("status", "upgrade", "check", code=2))
