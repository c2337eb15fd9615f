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


"""The reference for the API: bare pecan routes behind the same middleware.

``/rendered/X`` answers with a document that pecan makes JSON of each time, ``/fixed/X`` with the same
as bytes that are ready. No hooks, no rules, no schemas, no database.
"""

import json
import os
import pathlib

from oslo_service import backend

# Before anything imports oslo.messaging, which would choose another one.
backend.init_backend(backend.BackendType.THREADING)

from oslo_config import cfg
import pecan

from heat_spreader import conf as spreader_conf
from heat_spreader import rpc
from heat_spreader.api import app

DOCUMENTS = json.loads(pathlib.Path(os.environ["BENCHMARK_DOCUMENTS"]).read_text())
BODIES = {name: json.dumps(document).encode() for name, document in DOCUMENTS.items()}


class Root:
    """/"""

    @pecan.expose("json")
    def rendered(self, name):
        return DOCUMENTS[name]

    @pecan.expose(content_type="application/json")
    def fixed(self, name):
        return BODIES[name]


class BarePecan:
    """Stands in for pecan where the application is built, so that the rest of it stays as it is."""

    @staticmethod
    def make_app(root, **options):
        return pecan.make_app(Root(), debug=False)


def load():
    spreader_conf.setup(cfg.CONF, [], config_files=[os.environ["OS_HEAT_SPREADER_CONFIG_FILES"]])
    app.pecan = BarePecan
    return app.build_app(cfg.CONF, rpc.EngineClient(rpc.get_transport(cfg.CONF, "fake://")))


application = load()
