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

"""``heat_spreader.wsgi.api:application``, for uWSGI, mod_wsgi, gunicorn and the like.

The configuration is where oslo.config looks for ``heat-spreader.conf``, or in the files that
``OS_HEAT_SPREADER_CONFIG_FILES`` names, separated by semicolons. The command line is the server's and
is not read.
"""

import os
import sys
from typing import Any

from oslo_config import cfg

from heat_spreader import conf
from heat_spreader import report
from heat_spreader.api import app


def _load() -> Any:
    files = os.environ.get("OS_HEAT_SPREADER_CONFIG_FILES", "")
    chosen = [name.strip() for name in files.split(";") if name.strip()]
    cfg.CONF.reset()  # mod_wsgi imports this again, in the same process, after it has failed
    conf.setup(cfg.CONF, [], config_files=chosen or None)
    conf.check(cfg.CONF)
    # A worker of uWSGI that is to end would wait for the thread which watches the file, until its
    # worker-reload-mercy is over.
    if "uwsgi" not in sys.modules:
        report.setup(cfg.CONF, "heat-spreader-api", signals=False)
    return app.load_app(cfg.CONF)


application = _load()
