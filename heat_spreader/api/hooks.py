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

"""What happens around every handler: the context before it, and errors after it.

Every error leaves this service as the same body, a list under ``errors``; it is written here.
"""

import http
import json
from typing import Any

from oslo_log import log
from pecan import hooks
import webob
import webob.dec
import webob.exc

from heat_spreader import context
from heat_spreader import exception

LOG = log.getLogger(__name__)

# Errors that come from the framework or from middleware carry no code of ours. Stable: programs
# look at them.
CODES = {
    400: exception.Invalid.error,
    401: "spreader.unauthorized",
    403: exception.Forbidden.error,
    404: exception.NotFound.error,
    405: "spreader.method_not_allowed",
    406: "spreader.not_acceptable",
    409: exception.Conflict.error,
    412: exception.ConcurrentUpdate.error,
    413: exception.BodyTooLarge.error,
    415: "spreader.unsupported_media_type",
    503: exception.Unavailable.error,
}

# What middleware has to say, in words that help.
DETAILS = {
    401: "A valid token is needed, in the header X-Auth-Token.",
    413: "The request body is larger than this service takes ([oslo_middleware] max_request_body_size).",
    500: exception.SpreaderException.message,
    503: "A service that this one depends on does not answer; try again later.",
}


def error_response(
    environ: dict[str, Any], status: int, detail: str, code: str | None = None
) -> webob.Response:
    """An answer with the errors list as its body."""
    error = {
        "status": status,
        "title": http.HTTPStatus(status).phrase,
        "detail": detail,
        "code": code or CODES.get(status, exception.SpreaderException.error),
        "request_id": environ.get("openstack.request_id"),
    }
    return webob.Response(
        status=status,
        content_type="application/json",
        body=json.dumps({"errors": [error]}).encode(),
    )


class ContextHook(hooks.PecanHook):
    """Gives each request its context, from what the authentication put into the environment."""

    def on_route(self, state: Any) -> None:
        request = state.request
        request.context["ctx"] = context.RequestContext.from_environ(request.environ)
        # There is one kind of answer; without this pecan refuses to give it to clients whose
        # Accept header does not name it.
        request.pecan["content_type"] = "application/json"


class ErrorHook(hooks.PecanHook):
    """Turns exceptions into answers: ours by what they know, pecan's by their status."""

    def on_error(self, state: Any, error: Exception) -> webob.Response | None:
        environ = state.request.environ
        if isinstance(error, exception.Unavailable):
            # Expected, so no trace; the cause is the last that the driver said.
            LOG.error(
                "No answer to %s %s: the database does not answer (%s)",
                environ.get("REQUEST_METHOD"),
                environ.get("PATH_INFO"),
                _first_line(error.__cause__),
            )
        if isinstance(error, exception.SpreaderException) and error.code != 500:
            return error_response(environ, error.code, str(error), error.error)
        if isinstance(error, webob.exc.HTTPException):
            if error.status_int < 400:
                # webob's own would carry a page of text, even with a 204.
                return webob.Response(status=error.status_int, headers=_kept(error))
            detail = error.detail or DETAILS.get(error.status_int) or error.explanation
            response = error_response(environ, error.status_int, detail)
            response.headers.update(_kept(error))
            return response
        # Logged here and not by the middleware: that would log the whole request, and a template's
        # parameters may be secret.
        LOG.error(
            "Unexpected error while answering %s %s",
            environ.get("REQUEST_METHOD"),
            environ.get("PATH_INFO"),
            exc_info=error,
        )
        return error_response(environ, 500, exception.SpreaderException.message)


def _first_line(error: BaseException | None) -> str:
    """Without the statement and its parameters, which come after it and may be secret."""
    return str(error).partition("\n")[0]


def _kept(response: webob.Response) -> dict[str, str]:
    """The headers that mean something without the body they came with."""
    names = ("Allow", "Location", "Retry-After", "WWW-Authenticate")
    return {name: response.headers[name] for name in names if name in response.headers}


class JsonErrors:
    """Middleware: gives the errors of other middleware the body that ours have."""

    def __init__(self, app: object) -> None:
        self.app = app

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> webob.Response:
        response = request.get_response(self.app)
        if response.status_int < 400 or response.body.startswith(b'{"errors"'):
            return response
        rewritten = error_response(
            request.environ, response.status_int, DETAILS.get(response.status_int, response.status)
        )
        rewritten.headers.update(_kept(response))
        return rewritten
