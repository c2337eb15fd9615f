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

"""Heat Spreader beside the clouds of a sandbox as an operator runs it: every part its own process.

Some APIs behind a WSGI server and some engines share a database server and a RabbitMQ, all of them
the site's own. Each can be killed, hung and started by its name. The clouds are the sandbox's.
"""

import collections.abc
import dataclasses
import pathlib
import secrets
import signal
import time

from heat_sandbox import database
from heat_sandbox import identity
from heat_sandbox import process
from heat_sandbox import progress
from heat_sandbox import rabbit
from heat_sandbox import sandbox
from heat_sandbox import spreader

# Of the sandbox's ports: its own servers are below, its own broker is at 90 to 92.
API, BROKER, DATABASE = 70, 93, 96
VHOST = "spreader"

# A short lease, so that a killed engine's stacks are taken over soon; queues that survive a broker.
SETTINGS: spreader.Sections = {
    **spreader.QUICK,
    "engine": {**spreader.QUICK["engine"], "claim_lease": 6},
    "clouds": {"timeout": 3},
    "oslo_messaging_rabbit": {
        "rabbit_quorum_queue": True,
        "rabbit_transient_quorum_queue": True,
        "use_queue_manager": True,
        "rabbit_interval_max": 3,
    },
    # An engine that starts while the database is away goes on trying.
    "database": {"max_retries": -1, "retry_interval": 1},
}


@dataclasses.dataclass(frozen=True)
class Program:
    """One process of a site, and how to see that it works."""

    name: str
    command: collections.abc.Sequence[object]
    environment: collections.abc.Mapping[str, str]
    answers: collections.abc.Callable[[], bool]


class Site:
    """The site of a sandbox; its files lie in ``site/`` of the sandbox's directory."""

    def __init__(
        self,
        box: sandbox.Sandbox,
        bin_directory: pathlib.Path | None = None,
        *,
        apis: int = 2,
        engines: int = 3,
        database_kind: str = "mariadb",
        regions: bool = False,
    ) -> None:
        """
        :param bin_directory: where Heat Spreader is installed; with the clouds otherwise
        :param regions: whether each number is a region, with a message bus of its own
        """
        self.box = box
        self.directory = box.directory / "site"
        self.apis = [f"api-{number}" for number in range(1, apis + 1)]
        self.engines = [f"engine-{number}" for number in range(1, engines + 1)]
        self._kind = database_kind
        numbers = range(1, max(apis, engines) + 1)
        self._vhosts = {str(n): f"{VHOST}-{n}" if regions else VHOST for n in numbers}
        self._spreader = spreader.Spreader(box, bin_directory)
        self._passwords = {name: secrets.token_hex(16) for name in ("broker", "database")}
        self._programs: dict[str, Program] = {}
        # Once it is made.
        self.database_url = ""

    def url(self, api: str) -> str:
        port = self.box.settings().base_port + API + self.apis.index(api) + 1
        return f"http://127.0.0.1:{port}"

    def log(self, name: str) -> pathlib.Path:
        return self.directory / "log" / f"{name}.log"

    # Made and ended

    def make(self, more: spreader.Sections | None = None) -> None:
        """Make all of it anew and start it; returns when each part works.

        :param more: configuration besides SETTINGS
        """
        self.make_servers()
        with progress.stage(f"Starting {', '.join(self.apis + self.engines)}"):
            self._services(more or {})
            for name in self.apis + self.engines:
                self.start(name, wait=False)
            for name in self.apis:
                self.start(name)

    def make_servers(self) -> None:
        """Make the database server and the broker anew and start them, and nothing else."""
        self.down()
        for part in ("etc", "log", "rabbit", "lock"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        with progress.stage(f"Starting {self._kind} and RabbitMQ"):
            self._database()
            self._broker()
            for name in ("database", "broker"):
                self.start(name)

    @property
    def transport_url(self) -> str:
        """Where its message bus is."""
        return self._bus(VHOST)

    def _bus(self, vhost: str) -> str:
        port = self.box.settings().base_port + BROKER
        return f"rabbit://{rabbit.USER}:{self._passwords['broker']}@127.0.0.1:{port}/{vhost}"

    def down(self) -> None:
        """End all its processes, those that depend on others first."""
        for names in (self.apis + self.engines, ["broker", "database"]):
            process.end([each for name in names for each in self._processes(name)], patience=20)

    def _database(self) -> None:
        base_port = self.box.settings().base_port
        root = database.find(self._kind, self.box.installation.path)
        server = database.KINDS[self._kind](
            root, self.directory / self._kind, base_port + DATABASE, self._passwords["database"]
        )
        server.prepare()
        self.database_url = server.url
        self._add("database", server.command(), server.environment(), server.answers)

    def _broker(self) -> None:
        port = self.box.settings().base_port + BROKER
        files = self.box.rabbit()
        etc = self.directory / "etc"
        written = rabbit.configuration(
            port,
            self._passwords["broker"],
            sorted({VHOST, *self._vhosts.values()}),
            etc / "definitions.json",
        )
        for name, text in written.items():
            (etc / name).write_text(text)
        environment = rabbit.environment(
            etc, self.directory / "rabbit", self.log("broker"), files.erlang, port
        )
        self._add("broker", [files.script], environment, lambda: rabbit.answers(port))

    def _services(self, more: spreader.Sections) -> None:
        etc = self.directory / "etc"
        shared = etc / "heat-spreader.conf"
        spreader.write(
            shared,
            spreader.surroundings(self.box),
            SETTINGS,
            {
                "database": {"connection": self.database_url},
                "oslo_concurrency": {"lock_path": self.directory / "lock"},
            },
            more,
        )
        self._spreader.command("heat-spreader-manage", "--config-file", shared, "db", "sync")
        for name in self.apis + self.engines:
            own = etc / f"{name}.conf"
            number = name.rpartition("-")[2]
            # Several on one host: the queue manager tells them apart by this name.
            spreader.write(
                own,
                {
                    "DEFAULT": {
                        "host": name,
                        "log_file": self.log(name),
                        "transport_url": self._bus(self._vhosts[number]),
                    },
                    "engine": {"zone": f"zone-{number}"},
                    "oslo_messaging_rabbit": {"hostname": "sandbox", "processname": name},
                },
            )
            if name in self.engines:
                engine = self._spreader.bin / "heat-spreader-engine"
                command = [engine, "--config-file", shared, "--config-file", own]
                self._add(name, command, {}, lambda: True)
            else:
                url = self.url(name)
                command = [
                    self._spreader.bin / "python", "-m", "cheroot",
                    "heat_spreader.wsgi.api:application",
                    "--bind", url.removeprefix("http://"), "--threads", "16",
                ]  # fmt: skip
                files = {"OS_HEAT_SPREADER_CONFIG_FILES": f"{shared};{own}"}
                self._add(name, command, files, _healthy(url))

    def _add(
        self,
        name: str,
        command: collections.abc.Sequence[object],
        environment: collections.abc.Mapping[str, str],
        answers: collections.abc.Callable[[], bool],
    ) -> None:
        self._programs[name] = Program(name, command, environment, answers)

    # One of them

    def start(self, name: str, wait: bool = True) -> None:
        """Start it if it is dead, wake it if it hangs, and wait until it works."""
        program = self._programs[name]
        there = self._processes(name)
        if not there:
            process.start(
                self._mark(name),
                [str(part) for part in program.command],
                self.log(name).with_suffix(".out"),
                dict(program.environment),
            )
        process.send(there, signal.SIGCONT)
        deadline = time.monotonic() + sandbox.PATIENCE
        while wait and not program.answers():
            if time.monotonic() > deadline or not self._processes(name):
                said = self.log(name).with_suffix(".out").read_text(errors="replace")[-2000:]
                raise sandbox.SandboxError(f"{name} does not work: {said}")
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """End it as a crash does, with its workers."""
        # Again, for a worker may have been born while we looked.
        while found := self._processes(name):
            process.send(found, signal.SIGKILL)
            time.sleep(0.02)

    def hang(self, name: str) -> None:
        """Stop it: it goes on when it is started, with what it had in mind."""
        process.send(self._processes(name), signal.SIGSTOP)

    def _mark(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _processes(self, name: str) -> list[process.Started]:
        return process.marked(self._mark(name))


def _healthy(url: str) -> collections.abc.Callable[[], bool]:
    def answers() -> bool:
        try:
            identity.call("GET", f"{url}/healthcheck", timeout=2)
        except OSError:
            return False
        return True

    return answers
