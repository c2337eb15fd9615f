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

"""Errors of the service, each as one line that a person can act on.

They are openstacksdk's own exceptions, so code that catches those of any other service catches
these. Nothing here decides what to do about an error.
"""

from typing import Any

from openstack import exceptions


class Refused(exceptions.HttpException):
    """The service answered with an error.

    :ivar code: the service's stable name for it, such as ``spreader.stack_not_found``; None when
        the answer did not come from the service itself
    """

    def __init__(self, response: Any, text: str, code: str | None) -> None:
        super().__init__(message=text, response=response, details=text)
        self.code = code

    def __str__(self) -> str:
        # openstacksdk would add the URL, which tells a person nothing that the text does not.
        return str(self.message)


class BadRequest(Refused, exceptions.BadRequestException):
    pass


class Forbidden(Refused, exceptions.ForbiddenException):
    pass


class NotFound(Refused, exceptions.NotFoundException):
    pass


class Conflict(Refused, exceptions.ConflictException):
    pass


class PreconditionFailed(Refused, exceptions.PreconditionFailedException):
    pass


class Unreachable(exceptions.SDKException):
    """No answer came at all."""

    def __init__(self, url: str | None, error: BaseException) -> None:
        super().__init__(
            f"Cannot reach the Heat Spreader API at {url}: {_root(error)}. "
            "Check that the service runs there and that the address is right."
        )


class NotTheService(exceptions.SDKException):
    """Something answers, but it is not this service."""

    def __init__(self, url: str | None, status: int) -> None:
        super().__init__(
            f"{url} is not the address of a Heat Spreader API of version 1: it answers {status} "
            "where the list of versions should be. The address ends with the port, or with /v1."
        )


class NoEndpoint(exceptions.SDKException):
    """Keystone does not know where the service is."""

    def __init__(self, service_type: str, interface: object, region: str | None) -> None:
        super().__init__(
            f"The catalog has no {interface or 'public'} endpoint of type {service_type} in "
            f"region {region or '(any)'}. Choose another one with --os-region-name or "
            "--os-interface, have an administrator register the service with 'openstack endpoint "
            "create', or, for a service without Keystone, give --os-auth-type none --os-endpoint URL."
        )


def check(response: Any) -> None:
    """Raise what an answer of 400 and above says.

    :param response: a requests.Response; which HTTP library is used is openstacksdk's affair
    """
    if response.status_code < 400:
        return
    code = None
    request_id = response.headers.get("x-openstack-request-id")
    try:
        listed = response.json()["errors"]
        text = " ".join(" ".join(error["detail"] for error in listed).split())
        code = listed[0].get("code")
        request_id = listed[0].get("request_id") or request_id
    except (AttributeError, LookupError, TypeError, ValueError):
        # A load balancer speaks here, or another service.
        text = f"{response.url} answered {response.status_code} {response.reason}."
    trace = ", ".join(filter(None, [f"HTTP {response.status_code}", request_id]))
    kind = {
        400: BadRequest,
        403: Forbidden,
        404: NotFound,
        409: Conflict,
        412: PreconditionFailed,
    }.get(response.status_code, Refused)
    raise kind(response, f"{text} ({trace})", code)


def _root(error: BaseException) -> str:
    """What the operating system said, out of the exceptions that libraries wrapped around it."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error)
