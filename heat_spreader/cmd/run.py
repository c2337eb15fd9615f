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
"""``heat-spreader run``: API and engine in one process, for a laptop or a small site.

Without any configuration: SQLite in the user's data directory, no broker, no Keystone, listening on
loopback, with the clouds that clouds.yaml names.
"""

import os
import pathlib
import socket
import sys
import time
from typing import Any

from cheroot import server
from cheroot import wsgi
from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_log import log
from oslo_service import service

from heat_spreader import conf as spreader_conf
from heat_spreader import context
from heat_spreader import exception
from heat_spreader import report
from heat_spreader import secret_store
from heat_spreader.api import app
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import migration
from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine import service as engine_service

LOG = log.getLogger(__name__)

# Owner of the clouds that this command registers by itself; they are shared, so it shows nowhere.
LOCAL_PROJECT = "local"


# A thread waits most of the time, for the database or for a client that is slow.
THREADS = 32
# Seconds in which a request has to be here, and then those in which its answer has to be taken.
PATIENCE = 10.0


class _Patient:
    """A connected socket over which slow clients get so far and no further.

    The timeout of a socket is for one piece: who sends a byte now and then keeps a thread for ever.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        self.begin()

    def begin(self) -> None:
        """The next request may take its time."""
        self._until: dict[str, float] = {}

    def _wait(self, what: str) -> None:
        left = self._until.setdefault(what, time.monotonic() + PATIENCE) - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connected.settimeout(left)

    def recv_into(self, *args: Any) -> int:
        self._wait("request")
        return self._connected.recv_into(*args)

    def send(self, *args: Any) -> int:
        self._wait("answer")
        return self._connected.send(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)


class _Connection(server.HTTPConnection):
    """A client's connection."""

    def __init__(self, http: Any, connected: socket.socket, *args: Any) -> None:
        super().__init__(http, _Patient(connected), *args)

    def communicate(self) -> bool:
        self.socket.begin()
        return bool(super().communicate())


class AllInOne(engine_service.Engine):
    """An engine with the API beside it in the same process, which nudges it without a message bus."""

    def _listen(self) -> None:
        conf = self._conf
        self._http = wsgi.Server(
            (conf.api.host, conf.api.port),
            app.build_app(conf, self._endpoint),
            numthreads=THREADS,
            shutdown_timeout=5,
        )
        self._http.ConnectionClass = _Connection
        self._http.prepare()
        self.tg.add_thread(self._http.serve)
        LOG.info("The API listens on http://%s:%s", conf.api.host, conf.api.port)

    def _bus_out_of_reach(self) -> str:
        return ""  # there is none

    def _listen_no_more(self) -> None:
        self._http.stop()


def _data_directory() -> pathlib.Path:
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return pathlib.Path(home).expanduser() / "heat-spreader"


def _prepare_database(conf: cfg.ConfigOpts) -> None:
    """Ours is made and migrated without asking; one that the operator names is only checked."""
    own = not conf.database.connection
    if own:
        directory = _data_directory()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        conf.set_override(
            "connection", f"sqlite:///{directory / 'heat-spreader.sqlite'}", group="database"
        )
    db_api.configure(conf)
    if own:
        migration.sync()
    migration.check()


def _register_clouds(conf: cfg.ConfigOpts) -> None:
    """Register the entries of clouds.yaml, so that the first command can name them.

    :raises StartupError: there is no usable clouds.yaml, or it lacks a cloud that was asked for
    """
    paths = [conf.clouds.config_file] if conf.clouds.config_file else []
    try:
        names = clouds.Clouds(paths).names()
    except heat.HeatError as error:
        raise exception.StartupError(reason=error.detail) from error
    unknown = set(conf.cloud) - set(names)
    if unknown:
        raise exception.StartupError(
            reason=f"clouds.yaml has no entry {', '.join(sorted(unknown))}; it has: "
            f"{', '.join(names) or 'none'}"
        )
    ctx = context.engine_context()
    known = {cloud.name for cloud in db_clouds.list_clouds(ctx, None)}
    for name in conf.cloud or names:
        if name not in known:
            values = {
                "name": name,
                "project_id": LOCAL_PROJECT,
                "kind": "config",
                "config_cloud": name,
                "shared": True,
            }
            db_clouds.create_cloud(ctx, values)


def _check_port(host: str, port: int) -> None:
    """:raises StartupError: somebody else listens there"""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise exception.StartupError(
                reason=f"cannot listen on {host} port {port} ({error.strerror}); "
                "choose another with [api] port"
            ) from error


def main() -> int:
    """Run until a signal ends it; exit code 1 when it cannot start."""
    conf = cfg.CONF
    arguments = sys.argv[1:]
    if arguments[:1] != ["run"]:
        print("usage: heat-spreader run [--config-file FILE] [--cloud NAME …]", file=sys.stderr)
        return 2
    conf.register_cli_opt(
        cfg.MultiStrOpt(
            "cloud",
            default=[],
            help="Use only this entry of clouds.yaml; may be given several times.",
        )
    )
    try:
        spreader_conf.setup(conf, arguments[1:], defaults={("auth_strategy", "api"): "none"})
        app.check_auth_strategy(conf)
        _check_port(conf.api.host, conf.api.port)
        _prepare_database(conf)
        spreader_conf.check(conf)
        secret_store.open_store(conf)
        if conf.api.auth_strategy != "keystone":
            _register_clouds(conf)
        db_api.dispose()
        report.setup(conf, conf.prog)
    except (exception.StartupError, exception.Unavailable) as error:
        print(error, file=sys.stderr)
        return 1
    except db_exc.DBError as error:
        print(f"The database cannot be used: {error}", file=sys.stderr)
        return 1
    launcher = service.launch(conf, AllInOne(conf), workers=1, restart_method="reload")
    launcher.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
