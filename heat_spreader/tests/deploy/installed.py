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

"""The service as the files in etc/ install it, with directories of the test's own in place of the system's.

Under systemd's rules, without systemd: it starts what a unit says, hands over the socket, and reloads.
"""

import collections.abc
import configparser
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(sys.executable).parent
SOCKET, SERVICE = "heat-spreader-api.socket", "heat-spreader-api.service"
ENGINE = "heat-spreader-engine.service"

# As systemd does: the socket becomes the third descriptor of the process that execs.
_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Unit:
    """One service, started from its unit file.

    :ivar process: the latest process
    """

    def __init__(
        self,
        place: "Place",
        unit: str,
        *,
        command: str = "ExecStart",
        more: collections.abc.Sequence[str] = (),
        listener: socket.socket | None = None,
    ) -> None:
        """:param command: which of the unit's lines starts it, where one that is commented out will do"""
        self._place = place
        self._listener = listener
        self._more = more
        text = (TOP / "etc" / "systemd" / unit).read_text()
        lines = [place.here(line) for line in text.splitlines()]
        (self._command,) = [
            shlex.split(line.partition("=")[2]) for line in lines if line.startswith(f"{command}=")
        ]
        self._reload = [line.partition("=")[2] for line in lines if line.startswith("ExecReload=")]
        self._stop = [
            line.partition("=")[2]
            for line in lines
            if line.startswith("ExecStop=") and command == "ExecStart"
        ]
        self._log = place.work / f"{unit}.{'.'.join(more).rpartition('/')[2]}log"

    def start(self) -> None:
        command = [*self._command, *self._more]
        descriptors: tuple[int, ...] = ()
        if self._listener is not None:
            descriptors = (self._listener.fileno(),)
            command = [sys.executable, "-c", _HAND_OVER, str(descriptors[0]), *command]
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._place.environment,
                cwd="/",
                pass_fds=descriptors,
                start_new_session=True,
            )

    def stop(self) -> int:
        """End it as systemd would, and give its exit code."""
        # Our child has to be waited for, or it is there for ever, to whoever looks.
        waiting = threading.Thread(target=self.process.wait)
        waiting.start()
        for line in self._stop:
            self._run(line, 90)
        if waiting.is_alive():
            self.process.send_signal(signal.SIGTERM)
        waiting.join(90)
        if self.process.returncode is None:
            raise AssertionError(f"it does not end: {self.said()}")
        return self.process.returncode

    def reload(self) -> bool:
        """Run its lines one after another, until one fails; tells whether none did."""
        return all(self._run(line, 60) == 0 for line in self._reload)

    def _run(self, line: str, seconds: float) -> int:
        words = [word.replace("$MAINPID", str(self.process.pid)) for word in shlex.split(line)]
        done = subprocess.run(
            words,
            env=self._place.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        return done.returncode

    def kill(self) -> None:
        """Whatever became of it, nothing is left."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (AttributeError, ProcessLookupError):
            return
        self.process.wait()

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""


class Place:
    """The directories and the configuration of an installation."""

    def __init__(
        self, work: pathlib.Path, values: collections.abc.Mapping[str, str], more: str
    ) -> None:
        """
        :param values: what takes the place of which words in heat-spreader.conf.example
        :param more: settings that the example does not have
        """
        self.work = work
        self.etc = work / "etc"
        self.etc.mkdir()
        (work / "lib").mkdir()
        for file in (TOP / "etc" / "heat-spreader").glob("*.*"):
            (self.etc / file.name).write_text(self.here(file.read_text()))
        for name in ("heat-spreader-api-uwsgi.ini", "heat-spreader-api-gunicorn.conf.py"):
            # Several, and as few as that: two cores have to run it all.
            text = (self.etc / name).read_text()
            for four, two in (("processes = 4", "processes = 2"), ("workers = 4", "workers = 2")):
                text = text.replace(four, two)
            (self.etc / name).write_text(text)
        example = self.here(
            (TOP / "etc" / "heat-spreader" / "heat-spreader.conf.example").read_text()
        )
        for words, value in values.items():
            if words not in example:
                raise AssertionError(f"heat-spreader.conf.example does not have {words}")
            example = example.replace(words, value)
        if "CONTROLLER" in example.replace("heat_spreader:DATABASE_PASSWORD@CONTROLLER", ""):
            raise AssertionError(f"something is not replaced in {example}")
        self.conf = self.etc / "heat-spreader.conf"
        self.conf.write_text(example + more)
        self.environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(work),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TOP),
            "PYTHONWARNINGS": "ignore",
            # In a real installation the file is where it is looked for.
            "OS_HEAT_SPREADER_CONFIG_FILES": str(self.conf),
        }

    def here(self, text: str) -> str:
        for system, own in (
            ("/opt/heat-spreader/bin", BIN),
            ("/opt/heat-spreader", BIN.parent),
            ("/etc/heat-spreader", self.etc),
            ("/var/lib/heat-spreader", self.work / "lib"),
            ("/var/log/apache2", self.work),
        ):
            text = text.replace(system, str(own))
        return text

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One of our commands, on this configuration."""
        command, *arguments = words
        return subprocess.run(
            [BIN / command, "--config-file", self.conf, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def listen(self, port: int) -> socket.socket:
        """The socket of heat-spreader-api.socket."""
        parser = configparser.RawConfigParser(strict=False)
        parser.read(TOP / "etc" / "systemd" / SOCKET)
        return socket.create_server(("127.0.0.1", port), backlog=int(parser["Socket"]["Backlog"]))


def until(
    true: collections.abc.Callable[[], object], what: str, seconds: float = 60, pause: float = 0.3
) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s not yet: {what}")
        time.sleep(pause)


def healthy(url: str) -> bool:
    try:
        with _opener.open(f"{url}/healthcheck", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
