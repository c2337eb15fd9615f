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

"""A Barbican, to keep secrets in: the real one, of an environment of its own, on loopback.

It asks a Keystone that is there, keeps its secrets in SQLite, and encrypts them with simple_crypto.
"""

import base64
import contextlib
import os
import pathlib
import signal
import sqlite3
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import identity  # noqa: E402
from heat_sandbox import install  # noqa: E402
from heat_sandbox import process  # noqa: E402

REQUIREMENTS = ("barbican==23.0.0", "cheroot")
# Its own file, without CORS and audits, and told where its configuration is.
PASTE = """
[composite:main]
use = egg:Paste#urlmap
/: version
/v1: api
[app:version]
paste.app_factory = barbican.api.app:create_version_app
[pipeline:api]
pipeline = request_id authtoken context microversion apiapp
[app:apiapp]
paste.app_factory = barbican.api.app:create_main_app
[filter:request_id]
paste.filter_factory = oslo_middleware.request_id:RequestId.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
oslo_config_project = barbican
[filter:context]
paste.filter_factory = barbican.api.middleware.context:ContextMiddleware.factory
[filter:microversion]
paste.filter_factory = barbican.api.middleware.microversion:MicroversionMiddleware.factory
"""


class Barbican:
    """Runs in ``directory``; ``account`` is a user of Keystone's who may validate tokens."""

    def __init__(
        self, top: pathlib.Path, directory: pathlib.Path, port: int, account: dict[str, str]
    ) -> None:
        self._top = top
        self._directory = directory
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self._installation = install.Installation(
            top / ".sandbox-venv-barbican", REQUIREMENTS, "Barbican"
        )
        self._installation.ensure(top / "tools" / "venv")
        (directory / ".barbican").mkdir(parents=True)
        (directory / "paste.ini").write_text(PASTE)
        self._database = directory / "barbican.sqlite"
        kek = base64.urlsafe_b64encode(os.urandom(32)).decode()
        (directory / ".barbican" / "barbican.conf").write_text(
            f"[DEFAULT]\nhost_href = {self.url}\ndb_auto_create = true\n"
            f"log_file = {directory / 'barbican.log'}\n"
            f"[database]\nconnection = sqlite:///{self._database}\n"
            f"[simple_crypto_plugin]\nkek = {kek}\n"
            f"[keystone_authtoken]\nauth_type = password\nauth_url = {account['auth_url']}\n"
            f"www_authenticate_uri = {account['auth_url']}\n"
            f"username = {account['username']}\npassword = {account['password']}\n"
            f"user_domain_id = default\nproject_domain_id = default\n"
            f"project_name = {account['project']}\n"
        )

    def start(self) -> None:
        process.start(
            f"{self._directory}",
            [
                self._installation.python,
                self._top / "sandbox" / "serve.py",
                "--config",
                self._directory / "paste.ini",
                "--port",
                str(self._port),
                "barbican",
            ],
            self._directory / "barbican.out",
            {"HOME": str(self._directory)},
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > deadline:
                raise AssertionError((self._directory / "barbican.out").read_text()[-3000:])
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            identity.call("GET", f"{self.url}/v1/secrets", timeout=5)
        except OSError as error:
            return getattr(error, "code", None) == 401
        return True

    def send(self, signum: signal.Signals) -> None:
        process.send(process.marked(f"{self._directory}"), signum)

    def stop(self) -> None:
        process.end(process.marked(f"{self._directory}"), patience=10)

    def kept(self) -> set[str]:
        """The ids of the secrets that it has."""
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            return {row[0] for row in database.execute("SELECT id FROM secrets WHERE deleted = 0")}
