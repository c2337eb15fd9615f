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

"""The service for programs that use openstacksdk.

Resources are used directly; there are no methods on the proxy that would only pass on::

    conn = openstack.connect(cloud="mine")
    spreader = spreaderclient.sdk.connect(conn)
    for each in stack.Stack.list(spreader):
        print(each.name, each.status)
    web = stack.Stack.find(spreader, "web", ignore_missing=False)
    web.count = 12
    web.commit(spreader)  # sends the count and nothing else
    web.wait(spreader)

With ``vendor_hook: spreaderclient.sdk:register`` in clouds.yaml every connection to that cloud has
the same proxy as ``conn.spreader``.
"""

from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from openstack import connection
from openstack import exceptions
from openstack import proxy
from openstack import service_description

from spreaderclient.sdk import errors

SERVICE_TYPE = "multi-region-orchestration"


class Proxy(proxy.Proxy):
    """Version 1 of the REST API. An error becomes one line, the same for every resource."""

    api_version = "1"

    # The longest that one request may take when the user's configuration has no api_timeout:
    # openstacksdk would wait for ever for a service that hangs.
    patience = 60

    def request(self, url: str, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.session.timeout is None:
            kwargs.setdefault("timeout", self.patience)
        try:
            response = super().request(url, method, *args, **kwargs)
        except ksa_exceptions.ConnectionError as error:
            raise errors.Unreachable(self.get_endpoint(), error) from error
        errors.check(response)
        return response


class SpreaderService(service_description.ServiceDescription[Proxy]):
    """Where openstacksdk finds the service, and under which names it offers it."""

    supported_versions = {"1": Proxy}


def register(conn: connection.Connection) -> None:
    """Give ``conn`` the attribute ``spreader``. Made to be a ``vendor_hook`` of clouds.yaml, too."""
    conn.add_service(SpreaderService(SERVICE_TYPE, aliases=["spreader"]))


def connect(conn: connection.Connection) -> Proxy:
    """The service as ``conn`` sees it; when there is none, an error that says where to look."""
    register(conn)
    try:
        found = conn.spreader  # type: ignore[attr-defined]
    except (ksa_exceptions.DiscoveryFailure, exceptions.NotSupported) as error:
        raise _explain(conn) from error
    except ksa_exceptions.EndpointNotFound:
        found = None
    if not isinstance(found, Proxy):
        raise errors.NoEndpoint(
            SERVICE_TYPE, conn.config.get_interface(), conn.config.get_region_name(SERVICE_TYPE)
        )
    data = found.get_endpoint_data()
    if data and data.url and data.url != found.get_endpoint():
        # The plugin http_basic takes its endpoint as the place of every resource, with or without
        # the version; discovery knows better.
        found.endpoint_override = data.url
    return found


def _explain(conn: connection.Connection) -> exceptions.SDKException:
    """Why there are no version documents: openstacksdk swallows it, so look once more."""
    url = str(conn.config.get_session_client(SERVICE_TYPE).get_endpoint(skip_discovery=True))
    try:
        response = conn.session.get(url, authenticated=False, raise_exc=False)
    except ksa_exceptions.ConnectionError as error:
        return errors.Unreachable(url, error)
    return errors.NotTheService(url, response.status_code)
