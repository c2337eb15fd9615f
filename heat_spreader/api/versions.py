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

"""The microversions of the API, and which of them a request asks for.

A new version is one more line in ``VERSIONS``, with the reason, and a paragraph in the reference.
"""

import re

import microversion_parse
import webob
import webob.dec

from heat_spreader import exception
from heat_spreader.api import hooks

SERVICE_TYPE = "multi-region-orchestration"
HEADER = "OpenStack-API-Version"

VERSIONS = {
    "1.0": "Stacks, members, weights, clouds and events.",
}
MINIMUM, *_, MAXIMUM = [*VERSIONS, *VERSIONS]

# Version documents, the description of the API and the health check tell what there is: they answer whatever version is asked.
UNVERSIONED = frozenset({"", "/", "/v1", "/v1/", "/v1/openapi.json", "/healthcheck"})

_FORM = re.compile(r"[1-9][0-9]{0,3}\.(0|[1-9][0-9]{0,3})")


def negotiate(header: str | None) -> str:
    """The version to answer with.

    :raises Invalid: the header makes no sense
    :raises UnsupportedVersion: this service does not have that version
    """
    asked = microversion_parse.get_version({HEADER: header} if header else {}, SERVICE_TYPE)
    if asked is None:
        return MINIMUM
    if asked.lower() == "latest":
        return MAXIMUM
    if not _FORM.fullmatch(asked):
        raise exception.Invalid(
            reason=f"the header {HEADER} must be like '{SERVICE_TYPE} {MAXIMUM}' or "
            f"'{SERVICE_TYPE} latest'"
        )
    if asked not in VERSIONS:
        raise exception.UnsupportedVersion(version=asked, minimum=MINIMUM, maximum=MAXIMUM)
    return asked


class Negotiation:
    """Middleware: refuses unknown versions, and every answer says in which version it is."""

    def __init__(self, app: object) -> None:
        self.app = app

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        version = MINIMUM
        try:
            version = negotiate(request.headers.get(HEADER))
        except exception.Invalid as error:
            if request.environ.get("PATH_INFO") not in UNVERSIONED:
                response = hooks.error_response(
                    request.environ, error.code, str(error), error.error
                )
                return self._marked(response, version)
        request.environ["spreader.version"] = version
        return self._marked(request.get_response(self.app), version)

    def _marked(self, response: webob.Response, version: str) -> webob.Response:
        response.headers[HEADER] = f"{SERVICE_TYPE} {version}"
        response.vary = [*(response.vary or ()), HEADER]
        return response
