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

"""Whether the databases that the tests of this package are for can be reached."""

from oslo_db import exception as db_exc
from oslotest import base

from heat_spreader.tests.unit.db import backends


class TestServers(base.BaseTestCase):
    """One test a server: the place where a run says that it was not complete."""

    def test_mariadb(self):
        self.reach("mysql")

    def test_postgresql(self):
        self.reach("postgresql")

    def reach(self, server: str) -> None:
        try:
            backends.admin(server)
        except db_exc.BackendNotAvailable as error:
            if backends.REQUIRED:
                raise
            self.skipTest(f"no test of this package ran on {server}: {error}")
