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
"""``heat-spreader-engine``: an engine beside others, on a shared database and message bus."""

import sys

from oslo_config import cfg
from oslo_log import log
from oslo_service import service

from heat_spreader import conf as spreader_conf
from heat_spreader import exception
from heat_spreader import report
from heat_spreader import secret_store
from heat_spreader.db import api as db_api
from heat_spreader.db import migration
from heat_spreader.engine import service as engine_service

LOG = log.getLogger(__name__)


def main() -> int:
    """Run until a signal ends it; exit code 1 when it cannot start."""
    conf = cfg.CONF
    try:
        spreader_conf.setup(conf, sys.argv[1:])
        spreader_conf.check(conf)
        secret_store.open_store(conf)
        # In the parent, so that a wrong setting ends the command and not one worker after another.
        db_api.configure(conf)
        migration.check()
        db_api.dispose()
        report.setup(conf, conf.prog)
    except exception.StartupError as error:
        print(error, file=sys.stderr)
        return 1
    launcher = service.launch(
        conf,
        engine_service.Engine(conf),
        workers=conf.engine.workers,
        restart_method="reload",
    )
    launcher.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
