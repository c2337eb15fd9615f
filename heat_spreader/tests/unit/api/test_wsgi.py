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

"""The entry point for WSGI servers, in a process of its own as they run it."""

import os
import pathlib
import subprocess
import sys

import fixtures as fixtures_lib
from oslotest import base

# What a server does: it imports the module, after a failure again, and calls the application.
SERVER = """
import webtest
from heat_spreader import exception
try:
    from heat_spreader.wsgi import api
except exception.StartupError as error:
    print("refused:", error)
from heat_spreader.db import migration
migration.sync()
from heat_spreader.wsgi import api
http = webtest.TestApp(api.application, extra_environ={"REMOTE_ADDR": "127.0.0.1"})
print("answered:", http.get("/v1/stacks").json)
"""


class TestWsgi(base.BaseTestCase):
    def test_with_a_database_that_is_empty_and_one_that_is_ready(self):
        directory = pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path)
        config = directory / "spreader.conf"
        config.write_text(
            "[DEFAULT]\ntransport_url = fake://\n[api]\nauth_strategy = none\n"
            f"[database]\nconnection = sqlite:///{directory / 'spreader.sqlite'}\n"
        )
        done = subprocess.run(
            # The command line belongs to the server and is not read.
            [sys.executable, "-W", "ignore", "-c", SERVER, "--config-file", "/nonexistent"],
            env={
                **os.environ,
                "HOME": str(directory),
                "OS_HEAT_SPREADER_CONFIG_FILES": f"{config};",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertRegex(done.stdout, "refused: .*run 'heat-spreader-manage db sync'")
        self.assertIn("answered: {'stacks': []}", done.stdout)
