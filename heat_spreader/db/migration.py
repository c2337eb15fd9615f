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

"""The schema's versions: bring a database to the newest, ask where it stands.

Thin over alembic; the connection is ours, so that the URL never passes through an ini file.
"""

import pathlib
from typing import Any

from alembic import command
from alembic import config as alembic_config
from alembic import script
from alembic import util
from alembic.runtime import migration
from oslo_log import log
import sqlalchemy as sa

from heat_spreader import exception
from heat_spreader.db import api

LOG = log.getLogger(__name__)


def _config() -> alembic_config.Config:
    return alembic_config.Config(str(pathlib.Path(__file__).parent / "alembic.ini"))


def head() -> str | None:
    """The newest revision that this version of the code knows."""
    return script.ScriptDirectory.from_config(_config()).get_current_head()


def version(engine: sa.Engine | None = None) -> str | None:
    """The revision of the database; None when it was never migrated."""
    with (engine or api.engine()).connect() as connection:
        return migration.MigrationContext.configure(connection).get_current_revision()


def sync(revision: str = "head", engine: sa.Engine | None = None) -> None:
    """Migrate the database up to ``revision``.

    :raises StartupError: there is no such revision, or the database is newer than this code
    """
    _run(command.upgrade, revision, engine)


def stamp(revision: str = "head", engine: sa.Engine | None = None) -> None:
    """Write down that the database is at ``revision``, without changing it."""
    _run(command.stamp, revision, engine)


def _run(operation: Any, revision: str, engine: sa.Engine | None) -> None:
    with (engine or api.engine()).begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        try:
            operation(config, revision)
        except util.CommandError as error:
            raise exception.StartupError(reason=str(error)) from error


def check() -> None:
    """A database of a newer version is good enough: its migrations have only added to ours.

    :raises StartupError: the database is older than this code, or was never migrated
    """
    found, wanted = version(), head()
    if found == wanted:
        return
    directory = script.ScriptDirectory.from_config(_config())
    if found is not None and found not in {known.revision for known in directory.walk_revisions()}:
        LOG.warning(
            "The database is at revision %s, which is newer than this version (%s). That is fine in the "
            "middle of an upgrade by one version; finish it.",
            found,
            wanted,
        )
        return
    raise exception.StartupError(
        reason=f"the database is at revision {found or 'none'}, this version needs {wanted}; "
        "run 'heat-spreader-manage db sync'"
    )
