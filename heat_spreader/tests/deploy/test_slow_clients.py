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
"""Clients that send or read slowly, before the WSGI servers as etc/ has them.

The server has one thread, so that one such client would hold all of it.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.request

import bcrypt
from oslotest import base as oslotest_base

from heat_spreader.tests import tls
from heat_spreader.tests.deploy import installed

TOP = installed.TOP
NGINX = """
daemon off;
master_process off;
pid {work}/nginx.pid;
error_log {work}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    include {work}/heat-spreader-api.conf;
}}
"""
WHO = f"Basic {base64.b64encode(b'ann:secret').decode()}"
# Of each kind.
CLIENTS = 20


class SlowClients:
    """Mixed into one class for each WSGI server."""

    base_port: int
    command: tuple[str, ...]

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="spreader-slow.", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)  # type: ignore[attr-defined]
        self.front, self.behind = self.base_port, self.base_port + 1
        self.conf = self.work / "heat-spreader.conf"
        self.conf.write_text(
            "[DEFAULT]\ntransport_url = fake://\n"
            f"[database]\nconnection = sqlite:///{self.work}/spreader.sqlite\n"
            f"[api]\nauth_strategy = http_basic\nhttp_basic_auth_user_file = {self.work}/htpasswd\n"
            "[oslo_middleware]\nenable_proxy_headers_parsing = true\n"
        )
        hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        (self.work / "htpasswd").touch(0o600)
        (self.work / "htpasswd").write_text(f"ann:{hashed}\n")
        sync = ("heat-spreader-manage", "--config-file", self.conf, "db", "sync")
        self.run_here(*sync).wait(60)
        self.run_here(*self.command, f"127.0.0.1:{self.behind}")
        self._start_nginx()
        self.trust = ssl.create_default_context(cadata=self.authority.pem)
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.trust)
        )
        installed.until(self._answers, "the API answers through nginx", 30)

    def _start_nginx(self) -> None:
        self.authority = tls.Authority("ours")
        certificate = self.authority.issue(self.work / "server.pem")
        text = (TOP / "etc" / "nginx" / "heat-spreader-api.conf").read_text()
        for words, own in (
            ("CONTROLLER:8797", f"127.0.0.1:{self.front}"),
            ("127.0.0.1:8797", f"127.0.0.1:{self.behind}"),
            ("/etc/ssl/heat-spreader.pem", str(certificate)),
        ):
            assert words in text, words
            text = text.replace(words, own)
        (self.work / "heat-spreader-api.conf").write_text(text)
        (self.work / "nginx.conf").write_text(NGINX.format(work=self.work))
        self.run_here("/usr/sbin/nginx", "-p", self.work, "-c", self.work / "nginx.conf")

    def run_here(self, command: str, *arguments: object) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": f"{installed.BIN}:{os.environ['PATH']}",
            "HOME": str(self.work),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TOP),
            "PYTHONWARNINGS": "ignore",
            "OS_HEAT_SPREADER_CONFIG_FILES": str(self.conf),
        }
        running = subprocess.Popen(
            [command if "/" in command else str(installed.BIN / command), *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            cwd=self.work,
            start_new_session=True,
        )

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait(30)

        self.addCleanup(end)  # type: ignore[attr-defined]
        return running

    def _answers(self) -> bool:
        try:
            self.ask("/healthcheck")
        except OSError:
            return False
        return True

    def ask(self, path: str) -> bytes:
        request = urllib.request.Request(f"https://127.0.0.1:{self.front}{path}")
        request.add_header("Authorization", WHO)
        with self.opener.open(request, timeout=20) as answer:
            return bytes(answer.read())

    def connect(self, *, tiny: bool = False) -> ssl.SSLSocket:
        plain = socket.socket()
        if tiny:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(20)
        plain.connect(("127.0.0.1", self.front))
        connection = self.trust.wrap_socket(plain, server_hostname="127.0.0.1")
        self.addCleanup(connection.close)  # type: ignore[attr-defined]
        return connection

    def test_they_hold_up_nobody(self) -> None:
        heads = [self.connect() for _ in range(CLIENTS)]
        bodies = [self.connect() for _ in range(CLIENTS)]
        for each in heads:
            each.sendall(b"GET /v1/stacks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        for each in bodies:
            each.sendall(
                b"POST /v1/stacks HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Authorization: " + WHO.encode() + b"\r\n"
                b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"
            )
        for _ in range(CLIENTS):
            reader = self.connect(tiny=True)
            reader.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        over = threading.Event()

        def drip() -> None:
            while not over.wait(0.1):
                for each in (*heads, *bodies):
                    with contextlib.suppress(OSError):
                        each.sendall(b" ")

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        self.addCleanup(dripping.join)  # type: ignore[attr-defined]
        self.addCleanup(over.set)  # type: ignore[attr-defined]
        for _ in range(20):
            assert json.loads(self.ask("/v1/stacks")) == {"stacks": []}, "it was to be empty"
        (version,) = json.loads(self.ask("/"))["versions"]
        assert version["links"][0]["href"] == f"https://127.0.0.1:{self.front}/v1/", version


class TestGunicorn(SlowClients, oslotest_base.BaseTestCase):
    base_port = 23600
    command = (
        "gunicorn",
        "-c",
        str(TOP / "etc" / "heat-spreader" / "heat-spreader-api-gunicorn.conf.py"),
        "--workers=1",
        "--threads=1",
        "heat_spreader.wsgi.api:application",
        "--bind",
    )


class TestUwsgi(SlowClients, oslotest_base.BaseTestCase):
    base_port = 23610
    command = (
        "uwsgi",
        "--ini",
        str(TOP / "etc" / "heat-spreader" / "heat-spreader-api-uwsgi.ini"),
        "--processes=1",
        "--threads=1",
        "--http-socket",
    )
