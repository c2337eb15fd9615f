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


"""What a benchmark needs around it: processes, databases, a RabbitMQ, fake Heats, Heat Spreader.

Everything listens on free loopback ports, has its files in one temporary directory, and is ended and
deleted when the ``with`` block ends. Databases and brokers are those that are installed; nothing that
runs on the machine already is touched.
"""

from collections import abc
import configparser
import contextlib
import http.client
import importlib.util
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
import typing
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent
RABBITMQ = pathlib.Path("/usr/lib/rabbitmq/bin")

Sections = abc.Mapping[str, abc.Mapping[str, object]]


class Missing(Exception):
    """A benchmark cannot be run on this machine; the text says what it lacks."""


class Process:
    """A process in a group of its own."""

    def __init__(self, child: "subprocess.Popen[bytes]", log: pathlib.Path) -> None:
        self.child = child
        self.pid = child.pid
        self.log = log

    def alive(self) -> bool:
        return self.child.poll() is None

    def kill(self) -> None:
        """End it as a crash does."""
        self._signal(signal.SIGKILL)
        self.child.wait()

    def end(self, patience: float = 15.0) -> None:
        """Let it finish; kill what is left of its group."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(patience)
        self._signal(signal.SIGKILL)
        self.child.wait()

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signum)

    def family(self) -> list[int]:
        return family(self.pid)


def family(pid: int) -> list[int]:
    """A process and those that descend from it."""
    parents = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def processor_seconds(pids: abc.Iterable[int]) -> float:
    """What these processes have used of the processors so far, all threads together."""
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> tuple[float, float]:
    """MiB of a process: resident, and with what it shares with others divided among them."""
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name] = int(rest.split()[0]) / 1024
    return found["Rss"], found["Pss"]


class FakeHeat:
    """A running ``heat_server.py``."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def load(self, stacks: list[dict[str, typing.Any]]) -> None:
        """Begin anew with these Heat stacks."""
        call("POST", f"{self.url}/control", stacks)

    def told(self) -> dict[str, typing.Any]:
        """What came since it was loaded."""
        found: dict[str, typing.Any] = call("GET", f"{self.url}/control")
        return found


class Site:
    """A directory and what was started in it."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Site":
        name = tempfile.mkdtemp(prefix="heat-spreader-benchmark.")
        self.directory = pathlib.Path(name)
        self._stack.callback(shutil.rmtree, name, ignore_errors=True)
        self.directory.chmod(0o755)
        (self.directory / "log").mkdir()
        # Whoever stops us wants our processes gone as well.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, (SystemExit, KeyboardInterrupt, Missing)):
            for log in sorted((self.directory / "log").iterdir()):
                tail = log.read_text(errors="replace")[-3000:]
                if tail:
                    print(f"---- the end of {log.name}\n{tail}", file=sys.stderr)
        self._stack.close()

    def at_end(self, work: abc.Callable[[], object]) -> None:
        self._stack.callback(work)

    def start(
        self, name: str, command: abc.Sequence[object], environment: abc.Mapping[str, str] = {}
    ) -> Process:
        log = self.directory / "log" / f"{name}.log"
        with open(log, "ab") as output:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
                env=_environment() | environment,
            )
        process = Process(child, log)
        self._stack.callback(process.end)
        return process

    def python(
        self, name: str, *command: object, environment: abc.Mapping[str, str] = {}
    ) -> Process:
        """Start Python on this tree."""
        return self.start(name, [sys.executable, *command], environment)

    # --- servers of others ------------------------------------------------------------------------

    def mariadb(self) -> str:
        """Start a MariaDB. Returns the URL of its databases, to which a name is to be appended.

        :raises Missing: it is not installed
        """
        server = _program("mariadbd", "mariadb-server")
        install = _program("mariadb-install-db", "mariadb-server")
        client = _program("mariadb", "mariadb-server")
        home = self._home("mariadb", "mysql")
        port = free_port()
        user = _as("mysql")
        _done(
            [
                *user,
                install,
                "--no-defaults",
                f"--datadir={home}/data",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ]
        )
        process = self.start(
            "mariadb",
            [
                *user,
                server,
                "--no-defaults",
                f"--datadir={home}/data",
                f"--socket={home}/socket",
                f"--pid-file={home}/pid",
                "--bind-address=127.0.0.1",
                f"--port={port}",
                # As on a Galera node, where the other nodes are the durability.
                "--innodb-flush-log-at-trx-commit=0",
            ],
        )
        sql = [client, "--no-defaults", f"--socket={home}/socket", "--user=root", "-e"]
        await_(60, lambda: _succeeds([*sql, "SELECT 1"]), process)
        _done(
            [
                *sql,
                "CREATE USER 'b'@'127.0.0.1' IDENTIFIED BY 'b'; GRANT ALL ON *.* TO 'b'@'127.0.0.1'",
            ]
        )
        self._sql = sql
        self.database = process
        return f"mysql+pymysql://b:b@127.0.0.1:{port}/"

    def postgresql(self) -> str:
        """Start a PostgreSQL. Returns the URL of its databases, to which a name is to be appended.

        :raises Missing: it is not installed
        """
        server = _program("postgres", "postgresql")
        # Debian has the others in no directory where commands are looked for.
        beside = pathlib.Path(server).resolve().parent
        home = self._home("postgresql", "postgres")
        port = free_port()
        user = _as("postgres")
        _done(
            [
                *user,
                beside / "initdb",
                "-D",
                f"{home}/data",
                "-U",
                "b",
                "-E",
                "UTF8",
                "-A",
                "trust",
            ]
        )
        process = self.start(
            "postgresql",
            [
                *user,
                server,
                *("-D", f"{home}/data", "-h", "127.0.0.1", "-p", port, "-k", home),
                # The same promise as that of the MariaDB.
                *("-c", "synchronous_commit=off"),
            ],
        )
        sql = [beside / "psql", "-h", "127.0.0.1", "-p", port, "-U", "b", "-d", "postgres", "-c"]
        await_(60, lambda: _succeeds([*sql, "SELECT 1"]), process)
        self._sql = sql
        self.database = process
        return f"postgresql+psycopg2://b@127.0.0.1:{port}/"

    def create_database(self, name: str) -> None:
        """In the database server that was started last."""
        _done([*self._sql, f"CREATE DATABASE {name}"])

    def rabbitmq(self) -> str:
        """Start a RabbitMQ. Returns its URL as a transport URL. :raises Missing: no such server"""
        if not (RABBITMQ / "rabbitmq-server").exists():
            raise Missing("RabbitMQ is not installed (rabbitmq-server)")
        home = self._home("rabbitmq", "rabbitmq")
        port, names = free_port(), free_port()
        environment = {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"benchmark-{secrets.token_hex(4)}@localhost",
            "RABBITMQ_USE_LONGNAME": "false",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
            "RABBITMQ_CONFIG_FILE": str(home / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        }
        user = _as("rabbitmq")
        # Erlang's name server by hand: left to itself it would outlive the broker.
        epmd = [*user, _program("epmd", "rabbitmq-server"), "-port", names]
        self.start("epmd", [*epmd, "-address", "127.0.0.1"], environment)
        await_(20, lambda: _succeeds([*epmd, "-names"]))
        process = self.start("rabbitmq", [*user, RABBITMQ / "rabbitmq-server"], environment)
        control = [*user, RABBITMQ / "rabbitmqctl", "await_startup", "--timeout", "5"]
        await_(90, lambda: _succeeds(control, environment), process)
        return f"rabbit://guest:guest@127.0.0.1:{port}/"

    def _home(self, name: str, user: str) -> pathlib.Path:
        home = self.directory / name
        home.mkdir()
        if os.geteuid() == 0:
            shutil.chown(home, user, user)
        return home

    # --- clouds -----------------------------------------------------------------------------------

    def fake_heats(self, number: int, **options: float) -> dict[str, FakeHeat]:
        """Start that many clouds, and write the clouds.yaml that names them."""
        heats = {}
        for i in range(1, number + 1):
            port = free_port()
            given = [
                part
                for name, value in options.items()
                for part in (f"--{name.replace('_', '-')}", value)
            ]
            process = self.python(f"cloud{i}", HERE / "heat_server.py", port, *given)
            await_(10, lambda port=port: _listens(port), process)
            heats[f"cloud{i}"] = FakeHeat(process, port)
        entries = {
            name: {
                "auth": {
                    "auth_url": f"{heat.url}/v3",
                    "username": "demo",
                    "password": "demo",
                    "project_name": "demo",
                    "user_domain_name": "Default",
                    "project_domain_name": "Default",
                },
                "region_name": "RegionOne",
            }
            for name, heat in heats.items()
        }
        # JSON is YAML.
        (self.directory / "clouds.yaml").write_text(json.dumps({"clouds": entries}))
        return heats

    # --- ours -------------------------------------------------------------------------------------

    def configure(self, name: str, database: str, *more: Sections) -> pathlib.Path:
        """Write a configuration, and make the tables of its database."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_dict(
            {
                "database": {"connection": database},
                "clouds": {"config_file": str(self.directory / "clouds.yaml")},
            }
        )
        for sections in more:
            for section, options in sections.items():
                if section != "DEFAULT" and not parser.has_section(section):
                    parser.add_section(section)
                for option, value in options.items():
                    parser.set(section, option, str(value))
        file = self.directory / f"{name}.conf"
        with open(file, "w") as stream:
            parser.write(stream)
        self.run("-m", "heat_spreader.cmd.manage", "--config-file", file, "db", "sync")
        return file

    def gunicorn(
        self,
        conf: pathlib.Path,
        application: str = "heat_spreader.wsgi.api:application",
        environment: abc.Mapping[str, str] = {},
    ) -> tuple[str, Process]:
        """Start a WSGI application in one worker process of gunicorn.

        :raises Missing: it is not installed
        """
        if importlib.util.find_spec("gunicorn") is None:
            raise Missing("gunicorn is not installed (benchmarks/requirements.txt)")
        port = free_port()
        process = self.python(
            f"gunicorn-{port}",
            *("-m", "gunicorn", "--workers", 1, "--threads", 4, "--worker-class", "gthread"),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "warning", application),
            environment={
                "OS_HEAT_SPREADER_CONFIG_FILES": str(conf),
                "PYTHONPATH": os.pathsep.join([str(HERE), _environment()["PYTHONPATH"]]),
                **environment,
            },
        )
        await_(30, lambda: _listens(port), process)
        return f"http://127.0.0.1:{port}", process

    def run(self, *command: object, environment: abc.Mapping[str, str] = {}) -> str:
        """Run Python on this tree to its end. Returns what it printed."""
        return _done([sys.executable, *command], environment, cwd=self.directory)


def _environment() -> dict[str, str]:
    """Ours, without what would point a child at another cloud, through a proxy, at other code."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OS_") and not name.lower().endswith("_proxy")
    }
    path = [str(TOP), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def _as(user: str) -> list[str]:
    """Database servers refuse to be run by root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]


def _program(name: str, package: str) -> str:
    places = "/usr/sbin:/usr/local/sbin"
    packaged = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    places = os.pathsep.join([places, *map(str, packaged[-1:])])
    found = shutil.which(name) or shutil.which(name, path=places)
    if found is None:
        raise Missing(f"{name} is not installed ({package})")
    return found


def _done(
    command: abc.Sequence[object],
    environment: abc.Mapping[str, str] = {},
    cwd: pathlib.Path | None = None,
) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=_environment() | environment,
        cwd=cwd,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{said}")
    return done.stdout


def _succeeds(command: abc.Sequence[object], environment: abc.Mapping[str, str] = {}) -> bool:
    try:
        _done(command, environment)
    except RuntimeError:
        return False
    return True


def free_port(*, following: int = 0) -> int:
    """A free loopback port, below those that the kernel hands out to outgoing connections.

    :param following: that many after it are free as well
    """
    while True:
        first = random.randint(20000, 32000 - following)
        if all(_is_free(port) for port in range(first, first + following + 1)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def await_(
    seconds: float, condition: abc.Callable[[], object], process: Process | None = None
) -> None:
    """:param process: without it there is nothing to wait for"""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and not process.alive():
            raise RuntimeError(f"{process.log.stem} ended with {process.child.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"gave up waiting after {seconds} s")
        time.sleep(0.02)


def call(
    method: str, url: str, body: object = None, headers: abc.Mapping[str, str] = {}
) -> typing.Any:
    """Ask for JSON. :raises urllib.error.HTTPError: it was refused"""
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or b"null")


def answers(url: str) -> bool:
    try:
        call("GET", url)
    except (OSError, http.client.HTTPException):
        return False
    return True
