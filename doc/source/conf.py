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

"""Sphinx's settings for the documentation.

Reads the options, rules and commands from the installed package, so it chooses oslo.service's
threading backend before anything else can be imported that would choose eventlet.
"""

import os
import pathlib
import subprocess
import sys

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)

extensions = [
    "cliff.sphinxext",
    "openstackdocstheme",
    "oslo_config.sphinxconfiggen",
    "oslo_config.sphinxext",
    "oslo_policy.sphinxext",
    "oslo_policy.sphinxpolicygen",
]

project = "Heat Spreader"
master_doc = "index"
exclude_patterns = []
pygments_style = "native"

html_theme = "openstackdocs"
openstackdocs_auto_name = False
openstackdocs_auto_version = False
openstackdocs_use_storyboard = False
html_last_updated_fmt = None

autoprogram_cliff_application = "openstack"

# Paths relative to this file; the samples are written here and shown in the configuration guide.
config_generator_config_file = [
    ("../../etc/heat-spreader/heat-spreader-config-generator.conf", "_static/heat-spreader"),
]
policy_generator_config_file = [
    ("../../etc/heat-spreader/heat-spreader-policy-generator.conf", "_static/heat-spreader"),
]

# What these commands say of themselves, by the name of the file that shows it.
HELP = {
    "manage": ("heat-spreader-manage", "manage", "db --help"),
    "manage-sync": ("heat-spreader-manage", "manage", "db sync --help"),
    "manage-stamp": ("heat-spreader-manage", "manage", "db stamp --help"),
    "manage-purge": ("heat-spreader-manage", "manage", "db purge --help"),
    "status": ("heat-spreader-status", "status", "upgrade --help"),
    "engine": ("heat-spreader-engine", "engine", "--help"),
    "run": ("heat-spreader", "run", "run --help"),
}


def write_help(app):
    """Ask each command for its help, and leave it where the pages take it from."""
    target = pathlib.Path(app.srcdir) / "_static" / "help"
    target.mkdir(parents=True, exist_ok=True)
    for name, (program, module, arguments) in HELP.items():
        code = (
            f"import sys; sys.argv = {[program, *arguments.split()]!r}; "
            f"from heat_spreader.cmd import {module}; sys.exit({module}.main())"
        )
        said = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code],
            env={**os.environ, "COLUMNS": "100", "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        (target / f"{name}.txt").write_text(said)


def setup(app):
    app.connect("builder-inited", write_help)
