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

"""Every command that "Get started" and "Install" show, executed as it stands there, on a machine of its own.

The machine is this one in other namespaces: /etc, /opt and /var/lib are copies, and nobody but the test is on its
network, so all servers have their usual ports. That takes root.
"""

import collections.abc
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from oslotest import base
import yaml

from heat_spreader.tests.deploy import installed

TOP = installed.TOP
SYSTEMCTL = pathlib.Path(__file__).resolve().parent / "devstack" / "systemctl"
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import database  # noqa: E402
from heat_sandbox import process  # noqa: E402
from heat_sandbox import rabbit  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402

# Its first port is Keystone's, which usually is this one.
BASE_PORT = 5000
# A stage of .ci/run, for it makes a sandbox of its own; what it prints is checked there.
BY_CI = {"sandbox/demo": "stage check demo sandbox/demo --once"}
# Reaches for the package index, so it cannot be alone on its network.
ONLINE = re.compile(r"tools/venv|\bpip install")
TEMPLATE = (TOP / "sandbox" / "web.yaml").read_text()


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a document, with the line after which it stands."""

    page: str
    heading: str
    text: str


def commands(page: str) -> collections.abc.Iterator[Command]:
    """What stands after a prompt in the console blocks of a page; continued lines with it."""
    heading, lines = "", (TOP / "doc" / "source" / page).read_text().splitlines()
    inside, text = False, ""
    for number, line in enumerate([*lines, "."]):
        if inside and line and not line.startswith("   "):
            inside = False
        if text and (not inside or re.match(r"   [$#] ", line) or not line):
            yield Command(page, heading, text)
            text = ""
        if re.fullmatch(r"(=|-)+", line) and number:
            heading = lines[number - 1]
        elif line == ".. code-block:: console":
            inside = True
        elif inside and re.match(r"   [$#] ", line):
            text = line[5:]
        elif inside and line:
            text += "\n" + line[3:]


class Machine:
    """This machine, with copies of what an installation writes to, and a network of its own."""

    def __init__(self, work: pathlib.Path) -> None:
        self.work = work
        for name in ("bin", "home", "systemd"):
            (work / name).mkdir()
        shutil.copy(SYSTEMCTL, work / "bin" / "systemctl")
        self._holder = subprocess.Popen(["unshare", "--mount", "--net", "sleep", "infinity"])
        own = os.stat("/proc/self/ns/net").st_ino
        installed.until(
            lambda: os.stat(f"/proc/{self._holder.pid}/ns/net").st_ino != own,
            "namespaces",
            10,
            0.05,
        )
        copies = ""
        for directory in ("etc", "opt", "var/lib"):
            name = directory.replace("/", "-")
            for part in ("upper", "scratch"):
                (work / part / name).mkdir(parents=True)
            copies += (
                f"mount -t overlay overlay -o lowerdir=/{directory},upperdir={work}/upper/{name},"
                f"workdir={work}/scratch/{name} /{directory}\n"
            )
        self.run(
            f"""set -eu
mount --make-rprivate /
{copies}
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/mysqld
mount --bind {work}/bin/systemctl /usr/bin/systemctl
echo 127.0.0.1 controller >>/etc/hosts
ip link set lo up
""",
            {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    def inside(self, online: bool = False) -> list[str]:
        """What to put before a command, to run it there."""
        network = [] if online else ["--net"]
        return ["nsenter", "--mount", *network, "--target", str(self._holder.pid), "--"]

    def run(self, script: str, environment: dict[str, str], online: bool = False) -> str:
        done = subprocess.run(
            [*self.inside(online), "bash", "-c", script],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"exit code {done.returncode}: {script}\n{done.stdout[-4000:]}")
        return done.stdout

    def end(self) -> None:
        self._holder.kill()
        self._holder.wait()


class Session:
    """Somebody at a terminal of the machine: the environment and the directory stay between commands."""

    def __init__(
        self, machine: Machine, directory: pathlib.Path, environment: dict[str, str]
    ) -> None:
        self.machine = machine
        self.directory = str(directory)
        self.environment = environment
        self.took: list[tuple[float, str]] = []

    def type(self, command: str) -> str:
        began = time.monotonic()
        state = self.machine.work / "state"
        script = (
            f"set -eu -o pipefail\ncd {self.directory}\nset +u\n{command}\n"
            f"pwd >{state}.pwd\nenv -0 >{state}.env"
        )
        said = self.machine.run(script, self.environment, bool(ONLINE.search(command)))
        self.directory = pathlib.Path(f"{state}.pwd").read_text().strip()
        pairs = pathlib.Path(f"{state}.env").read_text().rstrip("\0").split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs)
        self.took.append((time.monotonic() - began, command))
        return said

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """A command that does not end."""
        with open(self.machine.work / "background.log", "ab") as log:
            return subprocess.Popen(
                [*self.machine.inside(), "bash", "-c", f"cd {self.directory}; exec {command}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


class TestDocumentation(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        if os.geteuid():
            self.fail("this test needs root: it makes a mount and a network namespace")
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="spreader-machine.", dir="/tmp"))
        self.work.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.machine = Machine(self.work)
        self.addCleanup(self.machine.end)
        self.environment = {
            "PATH": f"{self.work / 'bin'}:{installed.BIN}:/usr/local/sbin:/usr/local/bin"
            ":/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.work / "home"),
            "LANG": "C.UTF-8",
            # An interpreter that somebody else may run, as the service is somebody else.
            "PYTHON": "/usr/bin/python3",
            "PYTHONWARNINGS": "ignore",
            "SPREADER_TEST_WORK": str(self.work),
            "SPREADER_TEST_UNITS": "/etc/systemd/system",
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        }
        self._clone()
        self._start_servers()
        self._start_sandbox()
        self.addCleanup(self._kill_units)

    def _clone(self) -> None:
        """A clone of the repository, with what is not committed yet."""
        self.clone = self.work / "heat-spreader"
        git = ["git", "-c", "safe.directory=*", "-C", str(TOP)]
        subprocess.run([*git, "clone", "-q", str(TOP), str(self.clone)], check=True)
        listed = subprocess.run(
            [*git, "ls-files", "-z", "-co", "--exclude-standard"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in listed.rstrip("\0").split("\0"):
            source, target = TOP / name, self.clone / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def _start_servers(self) -> None:
        """MariaDB, RabbitMQ and memcached, at the ports and sockets that they have when installed."""
        root = database.find("mariadb", self.work / "unpacked")
        server = database.MariaDB(root, self.work / "mariadb", 3306, "unused")
        server.prepare()
        command = [*map(str, server.command()), "--socket=/run/mysqld/mysqld.sock"]
        self._start(command, {})

        etc = self.work / "rabbit"
        (etc / "data").mkdir(parents=True)
        files = rabbit.find(self.work / "unpacked")
        assert files is not None, "rabbitmq-server is not installed"
        written = rabbit.configuration(5672, "unused", ["/"], etc / "definitions.json")
        for name, text in written.items():
            (etc / name).write_text(text)
        environment = rabbit.environment(etc, etc / "data", etc / "rabbit.log", files.erlang, 5672)
        self._start([str(files.script)], environment)
        settings = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
        control = self.work / "bin" / "rabbitmqctl"
        control.write_text(
            f'#!/bin/sh\n{settings}exec {pathlib.Path(files.script).parent}/rabbitmqctl "$@"\n'
        )
        control.chmod(0o755)
        self._start(["memcached", "-l", "127.0.0.1", "-u", "nobody"], {})
        waiting = "until mysql -e 'SELECT 1' && rabbitmqctl await_startup; do sleep 1; done"
        self.machine.run(f'timeout 90 bash -c "{waiting}"', self.environment)

    def _start(self, command: list[str], more: dict[str, str]) -> None:
        with open(self.work / "servers.log", "ab") as log:
            running = subprocess.Popen(
                [*self.machine.inside(), *command],
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.addCleanup(lambda: process.end(_family(running.pid), patience=10))

    def _start_sandbox(self) -> None:
        self.box = sandbox.Sandbox(TOP / ".sandbox-test-documentation")
        self.addCleanup(self._remove_sandbox)
        self._remove_sandbox()
        # What has to be fetched is, while there is a network.
        self.box.installation.ensure(TOP / "tools" / "venv")
        up = (
            f"{TOP}/sandbox/up --dir {self.box.directory} --clouds 2 --convergence off "
            f"--base-port {BASE_PORT}"
        )
        self.machine.run(up, self.environment)
        # It is the reader's to tell Keystone of the service.
        self.admin = {
            **self.environment,
            "OS_CLIENT_CONFIG_FILE": str(self.box.clouds_yaml),
            "OS_CLOUD": "admin",
        }
        forget = "openstack service delete heat-spreader && openstack user delete heat_spreader"
        self.machine.run(forget, self.admin)

    def _remove_sandbox(self) -> None:
        if self.box.exists():
            self.box.down(delete=True)

    def _kill_units(self) -> None:
        for file in (self.work / "systemd").glob("*.pid"):
            subprocess.run(["kill", "-KILL", "--", f"-{file.read_text()}"], check=False)

    # The tests

    def test_what_it_shows_works_as_it_stands_there(self) -> None:
        """One after the other, for the machine takes long to make."""
        self._get_started()
        self._install_by_hand()

    def _get_started(self) -> None:
        """With two Heats as the reader's clouds, named as on the page."""
        home = self.work / "home"
        entries = yaml.safe_load(self.box.clouds_yaml.read_text())["clouds"]
        mine = {"east": entries["cloud1"], "west": entries["cloud2"]}
        (home / ".config" / "openstack").mkdir(parents=True)
        file = home / ".config" / "openstack" / "clouds.yaml"
        file.write_text(yaml.safe_dump({"clouds": mine}))
        template = TEMPLATE.replace("\n  count:\n", "\n  size:\n").replace(
            "{get_param: count}", "{get_param: size}"
        )
        (self.clone / "web.yaml").write_text(template)
        reader = Session(self.machine, self.clone, dict(self.environment))
        self.addCleanup(self._tell, reader)
        other = None
        served = None
        for command in commands("get-started.rst"):
            if command.text in BY_CI:
                self.assertIn(BY_CI[command.text], (TOP / ".ci" / "run").read_text())
                continue
            if command.text == "heat-spreader run":
                served = reader.start(command.text)
                self.addCleanup(lambda one=served: process.end(_family(one.pid), patience=10))
                reader.type(
                    "curl -s --retry 30 --retry-delay 1 --retry-all-errors http://127.0.0.1:8797/healthcheck"
                )
                other = reader
                continue
            if "stack create web" in command.text and other is not None:
                if "-t web.yaml" in command.text:
                    # The page says "either … or". What was taken over is released, and stays.
                    other.type("openstack spreader stack delete web --wait")
                    self._in_heat(
                        other, "s = c.find_stack('web'); c.delete_stack(s); c.wait_for_delete(s)"
                    )
                else:
                    self._in_heat(
                        other,
                        "c.create_stack(name='web', parameters={'size': 1}, "
                        "template=open('web.yaml').read())",
                    )
            reader.type(command.text)
            if "-t web.yaml" not in command.text and "stack create web" in command.text:
                said = reader.type("openstack spreader stack show web -f json")
                self.assertEqual(10, json.loads(said)["ledger"]["confirmed"], said)
        assert served is not None, "the page does not start the service"
        said = reader.type("openstack spreader stack show web -f json")
        self.assertEqual(
            ("ACTIVE", 12), (json.loads(said)["status"], json.loads(said)["ledger"]["confirmed"])
        )
        reader.type("openstack spreader stack delete web --wait")
        process.end(_family(served.pid), patience=20)

    def _in_heat(self, who: Session, what: str) -> None:
        """Do something in each Heat beside the service, as its user may."""
        for cloud in ("east", "west"):
            code = (
                f"import openstack; c = openstack.connect(cloud='{cloud}').orchestration; {what}"
            )
            who.type(f'env -u OS_AUTH_TYPE -u OS_ENDPOINT {sys.executable} -c "{code}"')

    def _install_by_hand(self) -> None:
        password = json.loads((self.box.directory / "secrets.json").read_text())["demo"]
        operator = Session(self.machine, self.clone, dict(self.admin))
        self.addCleanup(self._tell, operator)
        for command in commands("install/by-hand.rst"):
            if "-t web.yaml" in command.text:
                (self.work / "web.yaml").write_text(TEMPLATE)
                operator.type(f"cp {self.work}/web.yaml .")
            said = operator.type(command.text.replace("…", password))
            if "upgrade check" in command.text:
                self.assertNotIn("Warning", said)
        said = operator.type("openstack spreader stack show web -f json")
        shown = json.loads(said)
        self.assertEqual(("ACTIVE", 20), (shown["status"], shown["ledger"]["confirmed"]), said)
        self.assertEqual({"RegionOne": 12, "RegionTwo": 8}, self._in_the_heats())
        who = operator.type(
            "ps -o user:20= -p $(cat $SPREADER_TEST_WORK/systemd/heat-spreader-engine.pid)"
        )
        self.assertEqual("heat-spreader", who.strip(), "who the engine is")

    def _in_the_heats(self) -> dict[str, int]:
        """What the Heats themselves say, each asked by the demo user."""
        code = (
            "import json, openstack\n"
            "found = {}\n"
            "for name in ('cloud1', 'cloud2'):\n"
            "    cloud = openstack.connect(cloud=name)\n"
            "    stack = cloud.orchestration.get('/stacks/web?resolve_outputs=False').json()['stack']\n"
            "    found[cloud.config.region_name] = int(stack['parameters']['count'])\n"
            "print(json.dumps(found))\n"
        )
        said = self.machine.run(f'{sys.executable} -c "{code}"', self.admin)
        return json.loads(said.splitlines()[-1])  # type: ignore[no-any-return]

    def _tell(self, who: Session) -> None:
        """How long each command took goes where SPREADER_TEST_TIMES says."""
        name = os.environ.get("SPREADER_TEST_TIMES")
        if name:
            with open(name, "a") as file:
                for seconds, command in who.took:
                    file.write(f"{seconds:7.1f}  {command.splitlines()[0]}\n")
                file.write(f"{sum(seconds for seconds, _ in who.took):7.1f}  in all\n")


def _family(pid: int) -> list[process.Started]:
    """A process with all that it has started; nsenter and a shell stand before most."""
    found, wanted = [], [pid]
    while wanted:
        pid = wanted.pop()
        stat = process.read_stat(pid)
        if stat is None:
            continue
        found.append(process.Started(pid, stat.started_at))
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            wanted += [int(child) for child in task.read_text().split()]
    return found
