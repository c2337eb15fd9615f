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

"""A sandbox: one directory, one or more Keystones and N Heats that run from it.

Sandbox.up() brings it to the state that its settings describe, whatever state it is in, and
touches nothing that is well. This module does not print; progress goes through `progress`.
"""

import collections.abc
import contextlib
import dataclasses
import fcntl
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import time
import typing
import urllib.error

from heat_sandbox import configfiles
from heat_sandbox import identity
from heat_sandbox import install
from heat_sandbox import process
from heat_sandbox import progress
from heat_sandbox import rabbit

TOP = pathlib.Path(__file__).resolve().parents[2]
SERVE = TOP / "sandbox" / "serve.py"
VENV = TOP / ".sandbox-venv"

REGIONS = (
    "RegionOne", "RegionTwo", "RegionThree", "RegionFour", "RegionFive", "RegionSix",
    "RegionSeven", "RegionEight", "RegionNine", "RegionTen", "RegionEleven", "RegionTwelve",
)  # fmt: skip

# A start takes 2 to 10 seconds; this is for a machine that does much else.
PATIENCE = 120.0
# The kernel hands out ports from here on to outgoing connections, so they may be taken.
EPHEMERAL = 32768
PORTS = 100


class SandboxError(Exception):
    """The sandbox cannot do what it was asked; the text tells the person why."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a sandbox is made of; fixed when it is made."""

    clouds: int = 3
    topology: str = "regions"
    convergence: str = "on"
    messaging: str = "fake"
    base_port: int = 15000
    spreader_port: int = 8797
    rpc_timeout: int = 60
    fast: bool = False
    # The most resources in a stack, by the number of the cloud; Heat's own default otherwise.
    resource_limits: dict[str, int] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        if not 1 <= self.clouds <= len(REGIONS):
            raise SandboxError(f"a sandbox has 1 to {len(REGIONS)} clouds, not {self.clouds}")
        if not 1024 <= self.base_port <= EPHEMERAL - PORTS:
            raise SandboxError(
                f"the base port must be in 1024..{EPHEMERAL - PORTS}, not {self.base_port}: a "
                f"sandbox takes up to {PORTS} ports, and from {EPHEMERAL} on the kernel hands "
                "them to outgoing connections"
            )
        for cloud in self.resource_limits:
            if cloud not in [str(number) for number in range(1, self.clouds + 1)]:
                raise SandboxError(f"a limit is given for cloud {cloud}, which there is not")


@dataclasses.dataclass(frozen=True)
class Server:
    """One process of a sandbox; one that nobody connects to has port 0 and an empty URL."""

    name: str
    what: str
    port: int
    region: str | None = None

    @property
    def url(self) -> str:
        scheme = "amqp" if self.what == "rabbit" else "http"
        return f"{scheme}://127.0.0.1:{self.port}" if self.port else ""

    def answers(self) -> bool:
        """Tell whether it answers; one without a port is believed to."""
        if not self.port:
            return True
        if self.what == "rabbit":
            return rabbit.answers(self.port)
        try:
            identity.call("GET", f"http://127.0.0.1:{self.port}", timeout=2)
        except urllib.error.HTTPError as error:
            # 300: the version document of both Keystone and Heat.
            return error.code == 300
        except (OSError, http.client.HTTPException):
            return False
        return True


@dataclasses.dataclass(frozen=True)
class Cloud:
    """A cloud of the sandbox: one Heat, in a region of a Keystone."""

    number: int
    name: str
    region: str
    keystone: Server
    heat: Server
    engine: Server | None

    def servers(self, what: str) -> list[Server]:
        """Give its processes that a word of the command line means."""
        words: dict[str, list[Server | None]] = {
            "heat": [self.heat, self.engine],
            "api": [self.heat],
            "engine": [self.engine],
            "keystone": [self.keystone],
        }
        return [server for server in words[what] if server]


@dataclasses.dataclass(frozen=True)
class Report:
    """How one process of the sandbox is.

    state is "live"; "dead"; "hung": stopped by a signal; or "silent": it runs, but does not
    answer. age is in seconds, memory in bytes, with that of its children.
    """

    name: str
    state: str
    url: str | None
    region: str | None
    pid: int | None = None
    age: float | None = None
    memory: int | None = None


class Sandbox:
    """The sandbox in a directory, whether or not it has been made yet.

    `venv` is where its packages are, or will be; a sandbox that is there remembers it.
    """

    def __init__(self, directory: pathlib.Path, venv: pathlib.Path | None = None) -> None:
        self.directory = directory.resolve()
        self.clouds_yaml = self.directory / "clouds.yaml"
        self.openrc = self.directory / "openrc"
        self._state_file = self.directory / "state.json"
        if venv is None and self.exists():
            venv = pathlib.Path(self._state().get("venv", VENV))
        self.installation = install.Installation((venv or VENV).absolute())

    # What it is made of

    def exists(self) -> bool:
        return self._state_file.exists()

    def _made(self) -> bool:
        """Tell whether its files are all there: before that its settings may still change."""
        return self.exists() and bool(self._state().get("prepared"))

    def _state(self) -> dict[str, typing.Any]:
        try:
            state: dict[str, typing.Any] = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            raise SandboxError(f"there is no sandbox in {self.directory}") from None
        return state

    def _save(self, state: dict[str, typing.Any]) -> None:
        draft = self._state_file.with_suffix(".draft")
        draft.write_text(json.dumps(state, indent=2) + "\n")
        draft.rename(self._state_file)

    def settings(self) -> Settings:
        """Give the settings it was made with."""
        return Settings(**self._state()["settings"])

    def clouds(self) -> list[Cloud]:
        settings = self.settings()
        base = settings.base_port
        separate = settings.topology == "separate"
        clouds = []
        for number in range(1, settings.clouds + 1):
            region = REGIONS[0 if separate else number - 1]
            if separate:
                keystone = Server(f"keystone-{number}", "keystone", base + 50 + number)
            else:
                keystone = Server("keystone", "keystone", base)
            name = f"heat-{number}"
            if settings.messaging == "fake":
                heat, engine = Server(name, "heat", base + number, region), None
            else:
                heat = Server(name, "heat-api", base + number, region)
                engine = Server(f"{name}-engine", "heat-engine", 0, region)
            clouds.append(Cloud(number, f"cloud{number}", region, keystone, heat, engine))
        return clouds

    def cloud(self, name: str) -> Cloud:
        """Find a cloud by its number or its name."""
        for cloud in self.clouds():
            if name in (str(cloud.number), cloud.name):
                return cloud
        raise SandboxError(f"this sandbox has no cloud {name}, only 1 to {len(self.clouds())}")

    def servers(self) -> list[Server]:
        """List its processes in the order in which they start."""
        clouds = self.clouds()
        by_name = {cloud.keystone.name: cloud.keystone for cloud in clouds}
        if self.settings().messaging == "rabbit":
            by_name["rabbit"] = self._broker()
        for cloud in clouds:
            by_name |= {server.name: server for server in cloud.servers("heat")}
        return list(by_name.values())

    def _broker(self) -> Server:
        return Server("rabbit", "rabbit", self.settings().base_port + 90)

    def logs(self, name: str | None = None) -> list[pathlib.Path]:
        """List the log files of one process, or all of them."""
        names = [server.name for server in self.servers()]
        if name is not None and name not in names:
            raise SandboxError(f"no process {name} in this sandbox, only {', '.join(names)}")
        files = [
            self.directory / "log" / f"{each}.{kind}"
            for each in names
            if name in (None, each)
            for kind in ("log", "out")
        ]
        return [file for file in files if file.exists()]

    def _passwords(self) -> dict[str, str]:
        passwords: dict[str, str] = json.loads((self.directory / "secrets.json").read_text())
        return passwords

    # Up

    def up(self, settings: Settings) -> None:
        """Make the sandbox if it is not there, and start those of its processes that are dead."""
        settings.check()
        if self._made() and self.settings() != settings:
            have, want = dataclasses.asdict(self.settings()), dataclasses.asdict(settings)
            differs = ", ".join(f"{k}={have[k]}" for k in have if have[k] != want[k])
            raise SandboxError(
                f"the sandbox in {self.directory} was made with {differs}, and that cannot be "
                "changed: delete it (sandbox/down --delete) or choose another directory (--dir)"
            )
        if not self.exists() and self.directory.exists() and any(self.directory.iterdir()):
            # Some day "down --delete" would delete what is in there.
            raise SandboxError(f"{self.directory} is not empty and is not a sandbox")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        with self._locked():
            self.installation.ensure(TOP / "tools" / "venv")
            if settings.messaging == "rabbit":
                self.rabbit()
            if not self._made():
                self._save(
                    {
                        "settings": dataclasses.asdict(settings),
                        "venv": str(self.installation.path),
                        "processes": {},
                    }
                )
                with progress.stage("Preparing databases and configuration"):
                    self._prepare()
                self._save(self._state() | {"prepared": True})
            ill = [report.name for report in self.status() if report.state != "live"]
            populated = self._state().get("populated")
            if populated and not ill:
                return
            title = f"Starting {', '.join(ill)}" if ill else "Finishing what was interrupted"
            with progress.stage(title) as stage:
                self._repair(self.servers())
                for keystone in self._keystones():
                    stage.detail = keystone.name
                    self._wait(keystone)
                    if not populated:
                        self._populate(keystone)
                self._save(self._state() | {"populated": True})
                for cloud in self.clouds():
                    stage.detail = cloud.heat.name
                    self._await_cloud(cloud)

    def start(self, servers: collections.abc.Sequence[Server]) -> None:
        """Start those of the processes that are dead, wake those that hang, and wait for them."""
        with self._locked():
            self._repair(servers)
            for server in servers:
                self._wait(server)
            for cloud in self.clouds():
                needs = [cloud.keystone, *cloud.servers("heat")]
                if all(self._report(server).state == "live" for server in needs):
                    self._await_cloud(cloud)

    def _keystones(self) -> list[Server]:
        return [server for server in self.servers() if server.what == "keystone"]

    def _prepare(self) -> None:
        for server in self.servers():
            if server.port and not _free(server.port):
                raise SandboxError(
                    f"port {server.port}, meant for {server.name}, is in use: choose another "
                    "range with --base-port"
                )
        for name in ("etc", "db", "log", "keys", "rabbit"):
            (self.directory / name).mkdir(exist_ok=True)
        names = [account.user for account in identity.ACCOUNTS]
        names += ["admin", identity.HEAT_DOMAIN_ADMIN, "rabbit", "encryption_key"]
        passwords = {name: secrets.token_hex(16) for name in names}
        self._write("secrets.json", json.dumps(passwords, indent=2) + "\n")

        keystone_database, heat_database = self.installation.empty_databases()
        settings = self.settings()
        for keystone in self._keystones():
            database = self.directory / "db" / f"{keystone.name}.db"
            shutil.copyfile(keystone_database, database)
            keys = self.directory / "keys" / keystone.name
            log = self.directory / "log" / f"{keystone.name}.log"
            self._write(self._config(keystone), configfiles.keystone_conf(log, database, keys))
        for cloud in self.clouds():
            name = cloud.heat.name
            database = self.directory / "db" / f"{name}.db"
            shutil.copyfile(heat_database, database)
            paste = self.directory / "etc" / f"{name}-paste.ini"
            shutil.copyfile(self.installation.path / "etc" / "heat" / "api-paste.ini", paste)
            text = configfiles.heat_conf(
                name=name,
                region=cloud.region,
                keystone_port=cloud.keystone.port,
                database=database,
                paste=paste,
                venv=self.installation.path,
                bus=self._bus(cloud, passwords),
                convergence=settings.convergence == "on",
                rpc_timeout=settings.rpc_timeout,
                resource_limit=settings.resource_limits.get(str(cloud.number)),
                heat_password=passwords["heat"],
                domain_admin_password=passwords[identity.HEAT_DOMAIN_ADMIN],
                encryption_key=passwords["encryption_key"],
            )
            for server in cloud.servers("heat"):
                self._write(self._config(server), text)
        if settings.messaging == "rabbit":
            vhosts = [cloud.name for cloud in self.clouds()]
            files = rabbit.configuration(
                self._broker().port,
                passwords["rabbit"],
                vhosts,
                self.directory / "etc" / "definitions.json",
            )
            for name, text in files.items():
                self._write(f"etc/{name}", text)
        self._write("clouds.yaml", configfiles.clouds_yaml(self._entries(passwords)))
        self._write("openrc", configfiles.openrc(self.clouds_yaml, self.installation.path))

    def _entries(self, passwords: dict[str, str]) -> dict[str, dict[str, str]]:
        clouds = self.clouds()

        def entry(
            cloud: Cloud, user: str, project: str, domain: str = "Default"
        ) -> dict[str, str]:
            return {
                "auth_url": f"{cloud.keystone.url}/v3",
                "username": user,
                "password": passwords[user],
                "project": project,
                "domain": domain,
                "region": cloud.region,
            }

        first = clouds[0]
        return {
            **{cloud.name: entry(cloud, "demo", "demo") for cloud in clouds},
            **{f"{cloud.name}-admin": entry(cloud, "admin", "admin") for cloud in clouds},
            "admin": entry(first, "admin", "admin"),
            "demo2": entry(first, "demo2", "demo2"),
            "demo3": entry(first, "demo3", "demo", identity.ELSEWHERE),
            "reader": entry(first, "reader", "demo"),
            "spreader": entry(first, "heat_spreader", "service"),
        }

    def account(self, entry: str) -> dict[str, str]:
        """Give what an entry of clouds.yaml says: auth_url, username, password, project, domain, region."""
        return self._entries(self._passwords())[entry]

    def _bus(self, cloud: Cloud, passwords: dict[str, str]) -> str:
        """Give the address of a cloud's message bus, which it shares with no other cloud."""
        if self.settings().messaging == "fake":
            return "fake:/"
        broker = f"{rabbit.USER}:{passwords['rabbit']}@127.0.0.1:{self._broker().port}"
        return f"rabbit://{broker}/{cloud.name}"

    def _config(self, server: Server) -> pathlib.Path:
        return self.directory / "etc" / f"{server.name}.conf"

    def _write(self, name: str | pathlib.Path, text: str) -> None:
        path = self.directory / name
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)

    def _populate(self, keystone: Server) -> None:
        passwords = self._passwords()
        client = identity.Keystone(f"{keystone.url}/v3", "admin", passwords["admin"], "admin")
        identity.populate(
            client,
            passwords,
            [(c.region, c.heat.url) for c in self.clouds() if c.keystone == keystone],
            f"http://127.0.0.1:{self.settings().spreader_port}",
        )

    # Processes

    def _started(self) -> dict[str, process.Started]:
        return {
            name: process.Started(**fields) for name, fields in self._state()["processes"].items()
        }

    def _start_of(self, server: Server) -> process.Started | None:
        return self._started().get(server.name)

    def _mark(self, server: Server) -> str:
        return f"{self.directory}/{server.name}"

    def _repair(self, servers: collections.abc.Sequence[Server]) -> None:
        """Start the dead ones and wake the stopped ones; does not wait for them."""
        for server in servers:
            state = process.state(self._start_of(server))
            if state == "stopped":
                process.send(process.marked(self._mark(server)), signal.SIGCONT)
            elif state == "dead":
                self._launch(server)

    def rabbit(self) -> rabbit.Rabbit:
        """Find RabbitMQ's files, or fetch them to beside the other packages."""
        unpacked = self.installation.path / "rabbitmq"
        found = rabbit.find(unpacked)
        if found:
            return found
        with progress.stage("Fetching RabbitMQ"):
            return rabbit.fetch(unpacked)

    def _launch(self, server: Server) -> None:
        # Workers may outlive a killed parent.
        process.end(process.marked(self._mark(server)), patience=0)
        if server.port and not _free(server.port):
            raise SandboxError(
                f"port {server.port} is in use by somebody else, so {server.name} cannot start"
            )
        log = self.directory / "log" / server.name
        if server.what == "rabbit":
            files = self.rabbit()
            command: list[str | pathlib.Path] = [files.script]
            extra = rabbit.environment(
                self.directory / "etc",
                self.directory / "rabbit",
                pathlib.Path(f"{log}.log"),
                files.erlang,
                server.port,
            )
        else:
            command = [
                self.installation.python, SERVE, server.what,
                "--config", self._config(server), "--log", f"{log}.log",
            ]  # fmt: skip
            if server.port:
                command += ["--port", str(server.port)]
            if self.settings().fast:
                command.append("--fast")
            extra = {}
        state = self._state()
        if server.what == "keystone" and not state.get("populated"):
            extra["OS_BOOTSTRAP_PASSWORD"] = self._passwords()["admin"]
        started = process.start(self._mark(server), command, pathlib.Path(f"{log}.out"), extra)
        state["processes"][server.name] = dataclasses.asdict(started)
        self._save(state)

    def _wait(self, server: Server) -> None:
        """Wait until the process answers."""
        started = self._start_of(server)
        deadline = time.monotonic() + PATIENCE
        while True:
            if process.state(started) == "dead":
                raise SandboxError(f"{server.name} died while starting:\n{self._tail(server)}")
            if server.answers():
                return
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{server.name} runs but does not answer at {server.url}; sandbox/down and "
                    f"sandbox/up start it anew:\n{self._tail(server)}"
                )
            time.sleep(0.2)

    def _tail(self, server: Server) -> str:
        lines: list[str] = []
        for file in self.logs(server.name):
            lines += file.read_text(errors="replace").splitlines()[-12:]
        return "\n".join(f"    {line}" for line in lines)

    def _await_cloud(self, cloud: Cloud) -> None:
        """Wait until a cloud gives the demo user the list of its stacks."""
        for server in cloud.servers("heat"):
            self._wait(server)
        deadline = time.monotonic() + PATIENCE
        keystone = identity.Keystone(
            f"{cloud.keystone.url}/v3", "demo", self._passwords()["demo"], "demo"
        )
        url = f"{cloud.heat.url}/v1/{keystone.project_id}/stacks"
        while True:
            try:
                identity.call("GET", url, keystone.token, timeout=3)
                return
            except (OSError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise SandboxError(f"{cloud.name} does not list stacks: {error}") from error
                time.sleep(0.5)

    # Other commands

    def down(self, delete: bool = False) -> int:
        """End all its processes, and delete its files if asked to; give how many there were."""
        with self._locked():
            found = {process.Started(**p) for p in self._state()["processes"].values()}
            running = [each for each in found if process.state(each) != "dead"]
            running += [p for p in process.marked(str(self.directory)) if p not in running]
            process.end(running, patience=5)
            self._save(self._state() | {"processes": {}})
            if delete:
                shutil.rmtree(self.directory)
            return len(running)

    def kill(self, servers: collections.abc.Sequence[Server]) -> None:
        """Kill processes as a crash would."""
        self._signal(servers, signal.SIGKILL)

    def hang(self, servers: collections.abc.Sequence[Server]) -> None:
        """Stop processes so that their sockets still accept and nothing ever answers."""
        self._signal(servers, signal.SIGSTOP)

    def resume(self, servers: collections.abc.Sequence[Server]) -> None:
        """Let processes that hang go on."""
        self._signal(servers, signal.SIGCONT)

    def _signal(self, servers: collections.abc.Sequence[Server], signum: signal.Signals) -> None:
        with self._locked():
            for server in servers:
                if process.state(self._start_of(server)) == "dead" and signum != signal.SIGKILL:
                    raise SandboxError(f"{server.name} is dead; sandbox/cloud start starts it")
                found = process.marked(self._mark(server))
                process.send(found, signum)
                while signum == signal.SIGKILL and process.alive(found):
                    time.sleep(0.02)

    def status(self) -> list[Report]:
        """Look at every process."""
        return [self._report(server) for server in self.servers()]

    def _report(self, server: Server) -> Report:
        started = self._start_of(server)
        state = process.state(started)
        if state == "running":
            state = "live" if server.answers() else "silent"
        elif state == "stopped":
            state = "hung"
        report = Report(server.name, state, server.url or None, server.region)
        if started is None or state == "dead":
            return report
        family = process.marked(self._mark(server))
        return dataclasses.replace(
            report,
            pid=started.pid,
            age=process.age(started),
            memory=sum(process.memory(each) for each in family),
        )

    @contextlib.contextmanager
    def _locked(self) -> collections.abc.Iterator[None]:
        """Let commands on one sandbox wait for each other."""
        try:
            lock = os.open(self.directory, os.O_RDONLY)
        except FileNotFoundError:
            raise SandboxError(f"there is no sandbox in {self.directory}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: a connection of a predecessor in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
