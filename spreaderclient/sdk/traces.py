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

import copy
import logging
from typing import Any
from typing import TypeVar

from keystoneauth1 import adapter

LOG = logging.getLogger(__name__)

Client = TypeVar("Client", bound=adapter.Adapter)


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

    quiet = copy.copy(client)
    vars(quiet)["request"] = request
    return quiet
