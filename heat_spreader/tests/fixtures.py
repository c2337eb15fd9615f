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

"""What tests need around them: configuration, a database, the API in this process.

Each is taken back when its test ends. Nothing here stands in for code of ours.
"""

import functools
import pathlib
import tempfile
from typing import Any

import fixtures
from keystonemiddleware import fixture as auth_token_fixture
from oslo_config import cfg
from oslo_config import fixture as config_fixture
from oslo_log import log
import sqlalchemy as sa

from heat_spreader import conf as spreader_conf
from heat_spreader import rpc
from heat_spreader import secret_store
from heat_spreader.api import app
from heat_spreader.db import api as db_api
from heat_spreader.db import models


class Config(fixtures.Fixture):
    """The global configuration with all options, read from no file. There is only one at a time.

    :ivar conf: the configuration
    """

    def _setUp(self) -> None:
        self.conf = cfg.CONF
        self.conf.reset()  # a command that was tested in this process may have parsed it
        self._fixture = self.useFixture(config_fixture.Config(self.conf))
        spreader_conf.register(self.conf)
        log.register_options(self.conf)
        self.conf([], project="heat-spreader", default_config_files=[], default_config_dirs=[])

    def set(self, group: str | None = None, **values: Any) -> None:
        """Override options of one group until the test ends."""
        self._fixture.config(group=group, **values)


class Database(fixtures.Fixture):
    """An empty database in a file of its own, with the tables of the models.

    :ivar config: the ``Config`` that names it
    """

    def _setUp(self) -> None:
        self.config = self.useFixture(Config())
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / "spreader.sqlite"
        file.write_bytes(_empty_file())
        self.config.set("database", connection=f"sqlite:///{file}")
        db_api.configure(self.config.conf)
        self.addCleanup(db_api.dispose)


@functools.cache
def _empty_file() -> bytes:
    """An SQLite file with all tables: made once, as making them takes longer than many a test."""
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "empty.sqlite"
        engine = sa.create_engine(f"sqlite:///{file}")
        models.Base.metadata.create_all(engine)
        engine.dispose()
        return file.read_bytes()


class API(fixtures.Fixture):
    """The WSGI application of the API on an empty database, and a bus on which nobody listens.

    :ivar app: the application
    :ivar config: its ``Config``
    """

    def __init__(self, auth_strategy: str = "none", **options: Any) -> None:
        """:param options: more of the group ``api``"""
        super().__init__()
        self._auth_strategy = auth_strategy
        self._options = options

    def _setUp(self) -> None:
        config = self.config = self.useFixture(Database()).config
        config.set("api", auth_strategy=self._auth_strategy, **self._options)
        keys = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / "secrets.keys"
        secret_store.add_key(str(keys))
        config.set("secrets", key_file=str(keys))
        if self._auth_strategy == "keystone":
            config.set("keystone_authtoken", www_authenticate_uri="http://keystone.invalid")
            self._keystone = self.useFixture(auth_token_fixture.AuthTokenFixture())
        transport = rpc.get_transport(config.conf, "fake://")
        self.addCleanup(transport.cleanup)
        self.app = app.build_app(config.conf, rpc.EngineClient(transport))

    def add_token(self, token: str, *, user: str, project: str | None, roles: list[str]) -> None:
        """Make the Keystone that the API asks know this token; without a project it is unscoped."""
        self._keystone.add_token_data(
            token_id=token, user_id=user, project_id=project, role_list=roles
        )
