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

"""What makes ``openstack spreader`` a part of python-openstackclient."""

import argparse
import re

from openstack import exceptions as sdk_exceptions
from osc_lib import clientmanager
from osc_lib import exceptions
from osc_lib import shell
from osc_lib import utils

from spreaderclient import sdk

# The names of these four are python-openstackclient's.
API_NAME = "spreader"
API_VERSION_OPTION = "os_spreader_api_version"
DEFAULT_API_VERSION = "1"
API_VERSIONS = ("1",)


def build_option_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--os-spreader-api-version",
        metavar="<spreader-api-version>",
        default=utils.env("OS_SPREADER_API_VERSION"),
        help="Version of the Heat Spreader API: 1 for the newest microversion that client and "
        "service share (default), or one microversion such as 1.0. (Env: OS_SPREADER_API_VERSION)",
    )
    return parser


def check_api_version(version: str) -> bool:
    if not re.fullmatch(r"1(\.\d+)?", version):
        raise exceptions.CommandError(
            f"There is no version {version} of the Heat Spreader API; "
            "--os-spreader-api-version takes 1, or a microversion such as 1.0."
        )
    return True


def make_client(instance: clientmanager.ClientManager) -> sdk.Proxy:
    try:
        proxy = sdk.connect(instance.sdk_connection)
    except sdk_exceptions.SDKException as error:
        # An AttributeError from here would be swallowed by the caller, and so is the traceback.
        raise exceptions.CommandError(str(error)) from error
    version = instance._api_version[API_NAME]
    if "." in version:
        proxy.default_microversion = version
    return proxy


def client(app: shell.OpenStackShell) -> sdk.Proxy:
    """The proxy that the commands of this run share; made by :func:`make_client` at first use."""
    found: sdk.Proxy = app.client_manager.spreader  # type: ignore[attr-defined]
    return found
