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
"""Outages on real Heats, seen by three engines in three zones of which each can be cut off.

Between each engine and each Heat is a small TCP proxy of its own. What is looked at is what the Heats
themselves say, and the events that tell why.
"""

import contextlib
import datetime
import json
import pathlib
import socket
import sys
import threading
import time
import typing

from oslotest import base

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import process  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402
from heat_sandbox import spreader  # noqa: E402

from heat_spreader.tests.functional import test_main_job  # noqa: E402

HOSTS = ("host1", "host2", "host3")
PROBE, TOLERATION, STABLE = 2.0, 5, 8
SETTINGS = {
    "health": {"probe_interval": PROBE, "probe_timeout": 2},
    "engine": {
        **test_main_job.SETTINGS["engine"],
        "retry_interval": 2,
    },
    "clouds": {"timeout": 3},
    "spread": {"toleration": TOLERATION, "stable": STABLE, "stable_ceiling": 30},
    "DEFAULT": {"transport_url": "fake://"},
}


class Proxy:
    """A way to one port of this machine that can be cut: refused from then on, and what is open is lost."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        if self._listener is not None:
            # A blocked accept keeps the port until it is woken.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(one)
        one.close()


class Host:
    """An engine on a host of its own, which reaches each Heat by a proxy of its own."""

    def __init__(
        self, number: int, service: spreader.Spreader, clouds: list[sandbox.Cloud]
    ) -> None:
        self.name, self.zone = HOSTS[number], f"zone{number + 1}"
        self._service = service
        first = service.box.settings().spreader_port + 10 * (number + 1)
        self.proxies = {
            cloud.name: Proxy(first + cloud.number, cloud.heat.port) for cloud in clouds
        }
        self.directory = service.directory / self.name
        self.directory.mkdir(exist_ok=True)
        entries = {}
        for cloud in clouds:
            account = service.box.account(cloud.name)
            caller = spreader.Caller(service.box, cloud.name)
            port = self.proxies[cloud.name].port
            entries[cloud.name] = {
                "auth_type": "password",
                "auth": {
                    "auth_url": account["auth_url"],
                    "username": account["username"],
                    "password": account["password"],
                    "project_name": account["project"],
                    "user_domain_name": account["domain"],
                    "project_domain_name": account["domain"],
                },
                "region_name": account["region"],
                "orchestration_endpoint_override": f"http://127.0.0.1:{port}/v1/{caller.project_id}",
            }
        # JSON is YAML.
        self.clouds_yaml = self.directory / "clouds.yaml"
        self.clouds_yaml.write_text(json.dumps({"clouds": entries}))
        self.clouds_yaml.chmod(0o600)

    def settings(self) -> dict[str, dict[str, object]]:
        """What is its own."""
        return {
            "DEFAULT": {"host": self.name, "log_file": self.directory / "engine.log"},
            "engine": {"zone": self.zone},
            "clouds": {"config_file": self.clouds_yaml},
        }

    def start(self) -> None:
        conf = self.directory / "engine.conf"
        database = self._service.directory / "heat-spreader.sqlite"
        spreader.write(
            conf,
            spreader.surroundings(self._service.box),
            {"database": {"connection": f"sqlite:///{database}"}},
            SETTINGS,
            {**self.settings(), "engine": {**SETTINGS["engine"], "zone": self.zone}},
        )
        process.start(
            f"{self._service.box.directory}/spreader",
            [self._service.bin / "heat-spreader-engine", "--config-file", conf],
            self.directory / "engine.out",
        )

    def cut(self, *clouds: str) -> None:
        for name in clouds or self.proxies:
            self.proxies[name].cut()

    def mend(self) -> None:
        for proxy in self.proxies.values():
            proxy.mend()


class OutageTest(base.BaseTestCase):
    base_port, spreader_port = 22600, 22700

    box: sandbox.Sandbox
    service: spreader.Spreader
    hosts: typing.ClassVar[list[Host]]

    until = test_main_job.MainJob.until
    until_counts = test_main_job.MainJob.until_counts
    until_status = test_main_job.MainJob.until_status
    create = test_main_job.MainJob.create

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.box = sandbox.Sandbox(TOP / ".sandbox-test-outages")
        cls.addClassCleanup(cls._remove)
        cls._remove()
        cls.box.up(sandbox.Settings(base_port=cls.base_port, spreader_port=cls.spreader_port))
        cls.service = spreader.Spreader(cls.box, pathlib.Path(sys.executable).parent)
        cls.service.directory.mkdir(exist_ok=True, mode=0o700)
        clouds = cls.box.clouds()
        cls.hosts = [Host(number, cls.service, clouds) for number in range(3)]
        # The first one has the API beside its engine.
        first = cls.hosts[0].settings()
        first["DEFAULT"].pop("log_file")
        merged = {
            section: {**SETTINGS.get(section, {}), **first.get(section, {})}
            for section in SETTINGS.keys() | first.keys()
        }
        cls.service.configure(merged)
        cls.service.start()
        for host in cls.hosts[1:]:
            host.start()
        admin = spreader.Caller(cls.box, "admin")
        for cloud in clouds:
            admin.call("POST", "/v1/clouds", {"name": cloud.name, "shared": True})

    @classmethod
    def _remove(cls) -> None:
        if cls.box.exists():
            process.end(process.marked(f"{cls.box.directory}/spreader"), patience=20)
            cls.box.down(delete=True)

    def setUp(self) -> None:
        super().setUp()
        self.caller = spreader.Caller(self.box)
        self.heats = {c.name: test_main_job.Heat(self.box, c) for c in self.box.clouds()}
        self.name = "s" + self.id().rpartition(".")[2].replace("_", "-")
        self.addCleanup(self._delete)
        self.until(
            lambda: all(len(self.votes(name)) == 3 for name in self.heats),
            "each cloud is seen by three hosts",
        )
        self.create()
        self.until_counts(cloud1=6, cloud2=2, cloud3=2)
        self.until_status("ACTIVE")

    def _delete(self) -> None:
        for host in self.hosts:
            host.mend()
        self.box.up(self.box.settings())
        if self.caller.stack(self.name):
            self.caller.call("DELETE", f"/v1/stacks/{self.name}")
            self.until(lambda: self.caller.stack(self.name) is None, "the stack is deleted")

    def votes(self, cloud: str) -> dict[str, dict[str, typing.Any]]:
        found = self.caller.call("GET", f"/v1/clouds/{cloud}/observations")["observations"]
        return {seen["observer"]: seen for seen in found if seen["counts"]}

    def verdict(self, cloud: str) -> str:
        return str(self.caller.call("GET", f"/v1/clouds/{cloud}")["verdict"])

    def events(self, type: str) -> list[dict[str, typing.Any]]:
        """Oldest first."""
        path = f"/v1/stacks/{self.name}/events?limit=1000&type={type}"
        return list(reversed(self.caller.call("GET", path)["events"]))

    def moves(self) -> int:
        return len(self.events("member.resize")) + len(self.events("stack.failover"))

    def counts(self) -> dict[str, int | None]:
        return {name: heat.count(self.name) for name, heat in self.heats.items()}

    def still(self, seconds: float) -> None:
        """Nothing is asked of any Heat for so long."""
        before, moves = self.counts(), self.moves()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
        assert self.counts() == before, (before, self.counts())
        assert self.moves() == moves, self.events("member.resize")

    # Tests

    def test_one_of_three_hosts_is_cut_off(self) -> None:
        host = self.hosts[1]
        host.cut()
        self.until(lambda: self.votes("cloud3")[host.name]["misses"] >= 3, "it misses the clouds")
        self.still(3 * TOLERATION)
        assert [self.verdict(name) for name in self.heats] == ["healthy"] * 3
        # It may be at work on the stack when a user wants something.
        self.caller.call("PATCH", f"/v1/stacks/{self.name}", {"count": 20})
        self.until_counts(cloud1=12, cloud2=4, cloud3=4)

    def test_a_killed_cloud_is_replaced_in_time(self) -> None:
        self.box.kill(self.box.cloud("cloud3").servers("heat"))
        killed = datetime.datetime.now(datetime.UTC)
        self.until_counts(cloud1=7, cloud2=3)
        [failover] = self.events("stack.failover")
        raised = datetime.datetime.fromisoformat(self.events("member.resize")[-1]["created_at"])
        took = (raised - killed).total_seconds()
        print(f"from the kill to the last raise that was accepted: {took:.1f} s", file=sys.stderr)
        # Toleration and four probes, and what a loaded machine adds.
        assert took <= TOLERATION + 4 * PROBE + 10, took
        assert failover["evidence"]["rule"] == "missed", failover["evidence"]
        evidence = self.events("member.resize")[-1]["evidence"]
        assert evidence["clouds"]["cloud3"]["verdict"] == "unreachable", evidence

    def test_a_cloud_that_comes_and_goes(self) -> None:
        """Failed over from once, let back when it stays, and never fewer units than wanted."""
        proxies = [host.proxies["cloud3"] for host in self.hosts]
        for _ in range(3):
            for proxy in proxies:
                proxy.cut()
            time.sleep(3 * PROBE + TOLERATION + 4)
            for proxy in proxies:
                proxy.mend()
            # Long enough to be healthy again, and too short to be stable.
            time.sleep(4 * PROBE)
        self.until_counts(cloud1=7, cloud2=3)
        assert len(self.events("stack.failover")) == 1, self.events("stack.failover")
        assert not self.events("stack.failback"), self.events("stack.failback")
        fewest = test_main_job.Fewest(self)
        self.until_counts(cloud1=6, cloud2=2, cloud3=2, seconds=120)
        self.until_status("ACTIVE")
        seen = fewest.stop()
        assert seen >= 10, f"only {seen} units ran at one moment of the return"
        cloud = self.caller.call("GET", "/v1/clouds/cloud3")
        assert cloud["relapses"] >= 1, cloud
