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
