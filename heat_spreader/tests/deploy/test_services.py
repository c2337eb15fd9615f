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

"""What etc/ installs, run: several API workers, two engines, and the servers that a production site has.

Each class has another WSGI server and another database. A test is long, for what it is about is restarts in
the middle of work.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error

from oslotest import base

from heat_spreader.tests.deploy import installed

TOP = installed.TOP
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import configfiles  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402
from heat_sandbox import site  # noqa: E402
from heat_sandbox import spreader  # noqa: E402

TEMPLATE = (TOP / "sandbox" / "web.yaml").read_text()
# Offsets in the sandbox's range of ports, above those that it and a site take.
API, MEMCACHED = 60, 61


class Services:
    """Mixed into one class for each pair of a WSGI server and a database."""

    database: str
    base_port: int
    # Which line of the unit starts it.
    command = "ExecStart"
    # Whether its workers tell what they are at.
    tells = True

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="spreader-deploy.", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)  # type: ignore[attr-defined]
        self.box = sandbox.Sandbox(TOP / f".sandbox-test-deploy-{self.base_port}")
        self.addCleanup(self._remove)  # type: ignore[attr-defined]
        self._remove()
        self.port = self.base_port + API
        self.url = f"http://127.0.0.1:{self.port}"
        settings = sandbox.Settings(
            clouds=2, convergence="off", base_port=self.base_port, spreader_port=self.port
        )
        self.box.up(settings)
        servers = site.Site(
            self.box, installed.BIN, apis=0, engines=0, database_kind=self.database
        )
        self.addCleanup(servers.down)  # type: ignore[attr-defined]
        servers.make_servers()
        self.database_url = servers.database_url
        self._start_memcached()
        self.place = self._install(servers)
        self.units: dict[str, installed.Unit] = {}
        self.addCleanup(self._kill)  # type: ignore[attr-defined]

    def _remove(self) -> None:
        if self.box.exists():
            self.box.down(delete=True)

    def _kill(self) -> None:
        for unit in self.units.values():
            unit.kill()

    def _start_memcached(self) -> None:
        command = ["memcached", "-l", "127.0.0.1", "-p", str(self.base_port + MEMCACHED)]
        if not os.geteuid():
            command += ["-u", "nobody"]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.addCleanup(running.wait, 10)  # type: ignore[attr-defined]
        self.addCleanup(running.terminate)  # type: ignore[attr-defined]

    def _install(self, servers: site.Site) -> installed.Place:
        account = self.box.account("spreader")
        database = "mysql+pymysql://heat_spreader:DATABASE_PASSWORD@CONTROLLER/heat_spreader\n# PostgreSQL"
        quick = {name: options for name, options in spreader.QUICK.items() if name != "spread"}
        quick["engine"] = {**quick["engine"], "claim_lease": 6}
        self.reports = self.work / "reports"
        self.reports.mkdir()
        (self.work / "ask").touch()
        quick["oslo_reports"] = {"log_dir": self.reports, "file_event_handler": self.work / "ask"}
        place = installed.Place(
            self.work,
            {
                "rabbit://heat_spreader:RABBIT_PASSWORD@CONTROLLER:5672/": servers.transport_url,
                database: f"{servers.database_url}\n# PostgreSQL",
                "http://CONTROLLER:5000/v3": account["auth_url"],
                "SERVICE_PASSWORD": account["password"],
                "CONTROLLER:11211": f"127.0.0.1:{self.base_port + MEMCACHED}",
                "[clouds]\n": "[clouds]\ntimeout = 3\n",
            },
            configfiles.ini(quick),
        )
        shutil.copy(self.box.clouds_yaml, place.etc / "clouds.yaml")
        return place

    # Steps

    def start_all(self) -> None:
        done = self.place.run("heat-spreader-manage", "db", "sync")
        assert done.returncode == 0, done.stdout
        listener = self.place.listen(self.port)
        self.addCleanup(listener.close)  # type: ignore[attr-defined]
        self.units["api"] = installed.Unit(
            self.place, installed.SERVICE, command=self.command, listener=listener
        )
        for number in (1, 2):
            own = self.place.etc / f"engine-{number}.conf"
            own.write_text(
                f"[DEFAULT]\nhost = engine-{number}\n"
                f"[oslo_messaging_rabbit]\nprocessname = engine-{number}\n"
            )
            self.units[f"engine-{number}"] = installed.Unit(
                self.place, installed.ENGINE, more=["--config-file", str(own)]
            )
        for unit in self.units.values():
            unit.start()
        self.until_healthy()

    def until_healthy(self) -> None:
        try:
            installed.until(lambda: installed.healthy(self.url), "the API is healthy")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.units['api'].said()}") from None

    def counts(self, name: str) -> dict[str, int | None]:
        return {cloud.name: self.caller.in_heat(cloud, name) for cloud in self.box.clouds()}

    def check_upgrade(self) -> dict[str, int]:
        done = self.place.run("heat-spreader-status", "upgrade", "check", "--json")
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return {each["check"]: each["result"] for each in json.loads(line)["checks"]}

    # The test

    def test_restarts_under_load_lose_neither_a_request_nor_work(self) -> None:
        self.start_all()
        admin = spreader.Caller(self.box, "admin", self.url)
        self.caller = spreader.Caller(self.box, "cloud1", self.url)
        for name in ("cloud1", "cloud2"):
            admin.call("POST", "/v1/clouds", {"name": name, "shared": True})
        self.caller.call(
            "POST",
            "/v1/stacks",
            {
                "name": "web",
                "count": 10,
                "template": TEMPLATE,
                "members": [
                    {"cloud": "cloud1", "weight": ".6"},
                    {"cloud": "cloud2", "weight": ".4"},
                ],
            },
        )
        self.until_counts(6, 4)

        load = Load(self.caller)
        self.addCleanup(load.stop)  # type: ignore[attr-defined]
        engines = [self.units["engine-1"], self.units["engine-2"]]
        assert self.units["api"].reload(), "it was to be reloaded"
        # In the middle of it: the one process has loaded the application anew, the other has not.
        time.sleep(4)
        code = self.units["api"].stop()
        assert code == 0, (code, self.units["api"].said())
        self.units["api"].start()
        for engine in engines:
            code = engine.stop()
            assert code == 0, (code, engine.said())
            engine.start()
        assert engines[0].reload(), "it was to be reloaded"
        time.sleep(4)
        wanted = load.stop()
        assert load.answered > 100, f"only {load.answered} requests: {load.failed[:3]}"
        assert not load.failed, (len(load.failed), load.answered, load.failed[:5])
        self.until_counts(*wanted)

        # A killed cloud: the main job, after all of this.
        self.caller.call("PATCH", "/v1/stacks/web", {"count": 10, "failover": {"toleration": 1}})
        self.until_counts(6, 4)
        self.box.kill(self.box.cloud("cloud2").servers("heat"))
        installed.until(
            lambda: self.caller.in_heat(self.box.cloud("cloud1"), "web") == 10,
            "the units of the dead cloud are in the other",
            90,
        )
        self._check_around()
        self._check_reports()
        self._check_reload()

    def until_counts(self, first: int, second: int) -> None:
        wanted = {"cloud1": first, "cloud2": second}

        def reached() -> bool:
            stack = self.caller.stack("web")
            return bool(stack and stack["status"] == "ACTIVE" and self.counts("web") == wanted)

        try:
            installed.until(reached, f"the Heats show {wanted}", 90)
        except AssertionError as error:
            stack = json.dumps(self.caller.stack("web"), indent=1)
            said = self.units["engine-1"].said() + self.units["engine-2"].said()
            raise AssertionError(f"{error}\n{stack}\n{said}") from None

    def _check_around(self) -> None:
        """The broker has the queue that was asked for, and the tokens are in memcached."""
        assert set(self.check_upgrade().values()) == {0}, self.check_upgrade()
        with socket.create_connection(("127.0.0.1", self.base_port + MEMCACHED), 5) as asking:
            asking.sendall(b"stats\r\nquit\r\n")
            stats = asking.makefile().read()
        found = re.search(r"STAT get_hits (\d+)", stats)
        assert found and int(found[1]) > 0, stats

    def _reports(self, name: str) -> list[pathlib.Path]:
        """Ask all processes what they are at; what those of this name have told until now."""
        (self.work / "ask").touch()
        time.sleep(1)
        return list(self.reports.glob(f"heat-spreader-{name}-[0-9]*_gurumeditation_*"))

    def _workers(self) -> set[str]:
        """Workers of the API that have told what they are at, and so have read the configuration."""
        return {each.name.split("_")[0] for each in self._reports("api")}

    def _check_reports(self) -> None:
        """Each process tells what it is at when the file is touched, as also a WSGI server allows."""
        wanted = {"engine": "free places for rounds"}
        if self.tells:
            wanted["api"] = "transport_url = ***"
            installed.until(lambda: len(self._workers()) >= 2, "two workers of the API have told")
        # One that is just being written is looked at again.
        for name, told in wanted.items():
            installed.until(
                lambda name=name, told=told: any(
                    told in each.read_text() for each in self._reports(name)
                ),
                f"a report of {name} shows {told}",
            )
        for each in self.reports.iterdir():
            for secret in (self.box.account("spreader")["password"], self.database_url):
                assert secret not in each.read_text(), f"a secret is in {each.name}"

    def _check_reload(self) -> None:
        """What is written is in force after a reload; a mistake is refused, and changes nothing."""
        text = self.place.conf.read_text()
        self.place.conf.write_text(text.replace("[clouds]\n", "[api]\nmax_limit = 1\n[clouds]\n"))
        before = self._workers()
        assert self.units["api"].reload(), "it was to be reloaded"

        def limited() -> bool:
            return all(
                len(self.caller.call("GET", "/v1/clouds?limit=2")["clouds"]) == 1 for _ in range(8)
            )

        # Not only those that answer: one that meets the mistake while it begins would end the service.
        if self.tells:
            installed.until(
                lambda: len(self._workers() - before) >= 2, "two workers have begun anew"
            )
        installed.until(limited, "every worker has read the new limit", 60)
        self.place.conf.write_text(
            text.replace("[clouds]\n", "[api]\nmax_limit = many\n[clouds]\n")
        )
        assert not self.units["api"].reload(), "a mistake was to be noticed"
        assert limited(), "it was to go on as it was"


class Load:
    """Clients who read and write all the time, and what became of their requests."""

    def __init__(self, caller: spreader.Caller) -> None:
        self.failed: list[str] = []
        self.answered = 0
        self._caller = caller
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._wanted = 10
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._write, self._read, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> tuple[int, int]:
        """End; give the shares of what was wanted last."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return self._wanted * 6 // 10, self._wanted * 4 // 10

    def _write(self) -> None:
        tens = 0
        while not self._over.wait(0.2):
            tens = tens % 3 + 1
            if self._ask("PATCH", "/v1/stacks/web", {"count": 10 * tens}):
                self._wanted = 10 * tens

    def _read(self) -> None:
        while not self._over.wait(0.05):
            self._ask("GET", "/v1/stacks", None)

    def _ask(self, method: str, path: str, body: object) -> bool:
        began = time.monotonic()
        try:
            self._caller.call(method, path, body, timeout=60)
        except (OSError, ValueError, urllib.error.HTTPError) as error:
            with self._lock:
                self.failed.append(f"{method} after {time.monotonic() - began:.2f} s: {error!r}")
            return False
        with self._lock:
            self.answered += 1
        return True


class TestUwsgiOnMariaDB(Services, base.BaseTestCase):
    database = "mariadb"
    base_port = 23300
    tells = False


class TestGunicornOnPostgreSQL(Services, base.BaseTestCase):
    database = "postgresql"
    base_port = 23400
    command = "#ExecStart"
