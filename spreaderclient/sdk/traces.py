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

"""Requests that may carry secrets, of which ``openstack --debug`` must not show the body."""

from collections.abc import Container
import copy
import logging
from typing import Any
from typing import TypeVar

from keystoneauth1 import adapter

LOG = logging.getLogger(__name__)

Client = TypeVar("Client", bound=adapter.Adapter)


def quiet(client: Client, sent: Container[str], *secret: str) -> Client:
    """The client as it is, or one :func:`without_bodies` if one of these fields is sent."""
    return without_bodies(client) if any(field in sent for field in secret) else client


def without_bodies(client: Client) -> Client:
    """The same client, but of what it sends and gets a trace shows only that it was sent."""

    def request(url: str, method: str, **more: Any) -> Any:
        response = client.request(url, method, **{**more, "log": False})
        LOG.debug(
            "%s %s, with a body that may hold secrets: %s, request id %s",
            method,
            url,
            response.status_code,
            response.headers.get("X-OpenStack-Request-ID"),
        )
        return response

    without = copy.copy(client)
    vars(without)["request"] = request
    return without
