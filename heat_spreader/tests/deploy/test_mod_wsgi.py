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

"""The virtual host of etc/apache2, in an Apache with mod_wsgi. The database is a file, and nobody else is there."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from oslotest import base

from heat_spreader.tests.deploy import installed

PORT = 23500
MODULES = pathlib.Path("/usr/lib/apache2/modules")
APACHE = """
ServerRoot {work}
ServerName 127.0.0.1
PidFile {work}/apache2.pid
ErrorLog {work}/apache2.log
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule reqtimeout_module {modules}/mod_reqtimeout.so
LoadModule wsgi_module {modules}/mod_wsgi.so
WSGISocketPrefix {work}/wsgi
LogFormat "%h %s %r" combined
Include {work}/heat-spreader-api.conf
"""


class TestModWsgi(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        # In a short path, for the sockets of mod_wsgi.
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="spreader-wsgi.", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.url = f"http://127.0.0.1:{PORT}"
        shutil.copy(installed.TOP / "etc/heat-spreader/heat-spreader-api.wsgi", self.work)
        host = (installed.TOP / "etc" / "apache2" / "heat-spreader-api.conf").read_text()
        for words, own in (
            ("Listen 8797", f"Listen 127.0.0.1:{PORT}"),
            ("*:8797", f"127.0.0.1:{PORT}"),
            # It is this user's Apache.
            (" user=heat-spreader group=heat-spreader", ""),
            ("processes=4", "processes=2"),
            ("/opt/heat-spreader", str(self._environment())),
            ("/etc/heat-spreader", str(self.work)),
            ("/var/log/apache2", str(self.work)),
        ):
            self.assertIn(words, host)
            host = host.replace(words, own)
        (self.work / "heat-spreader-api.conf").write_text(host)
        (self.work / "apache2.conf").write_text(APACHE.format(work=self.work, modules=MODULES))
        self.conf = self.work / "heat-spreader.conf"
        self.configure()
        command = [
            installed.BIN / "heat-spreader-manage",
            "--config-file",
            self.conf,
            "db",
            "sync",
        ]
        subprocess.run(command, check=True)
        self._start()

    def _environment(self) -> pathlib.Path:
        """Of the Python that mod_wsgi was built for, which is the system's, with the packages of the tests."""
        made = self.work / "venv"
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", made], check=True)
        (packages,) = made.glob("lib/python3*/site-packages")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.assertEqual(
            version, packages.parent.name, "mod_wsgi is of another Python than the tests"
        )
        theirs = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "tests.pth").write_text("\n".join([str(installed.TOP), *theirs]) + "\n")
        return made

    def configure(self, more: str = "") -> None:
        self.conf.write_text(
            "[DEFAULT]\ntransport_url = fake://\n"
            f"[database]\nconnection = sqlite:///{self.work}/spreader.sqlite\n"
            f"[api]\nauth_strategy = none\n{more}"
        )

    def _start(self) -> None:
        command = ["/usr/sbin/apache2", "-f", str(self.work / "apache2.conf"), "-DFOREGROUND"]
        if not os.geteuid():
            # As root it wants to become somebody else, who cannot read what is root's: let it believe that it
            # has.
            command = ["unshare", "--user", "--map-user=65534", "--map-group=65534", *command]
        self.apache = subprocess.Popen(
            command,
            env={
                "PATH": os.environ["PATH"],
                "LANG": "C.UTF-8",
                "PYTHONWARNINGS": "ignore",
                "OS_HEAT_SPREADER_CONFIG_FILES": str(self.conf),
            },
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.addCleanup(self.apache.wait, 30)
        self.addCleanup(os.killpg, self.apache.pid, signal.SIGKILL)
        try:
            installed.until(lambda: installed.healthy(self.url), "Apache answers")
        except AssertionError as error:
            logs = "".join(file.read_text()[-3000:] for file in self.work.glob("*.log"))
            raise AssertionError(f"{error}\n{logs}") from None

    def ask(self, path: str, body: object = None) -> dict[str, list[dict[str, object]]]:
        request = urllib.request.Request(self.url + path)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)  # type: ignore[no-any-return]

    def test_it_serves_and_reads_its_configuration_again(self) -> None:
        for name in ("a", "b"):
            self.ask("/v1/stacks", {"name": name, "count": 1, "description": "x"})
        self.assertEqual(2, len(self.ask("/v1/stacks?limit=2")["stacks"]))
        (version,) = self.ask("/")["versions"]
        self.assertEqual(f"{self.url}/v1/", version["links"][0]["href"])  # type: ignore[index]

        self.configure("max_limit = 1\n")
        # apachectl graceful
        self.apache.send_signal(signal.SIGUSR1)
        installed.until(self._limited, "every process has read the new limit")

    def _limited(self) -> bool:
        try:
            return all(len(self.ask("/v1/stacks")["stacks"]) == 1 for _ in range(8))
        except urllib.error.HTTPError as error:
            # Between two generations of its processes Apache may have none to ask.
            self.assertEqual(503, error.code)
            return False
