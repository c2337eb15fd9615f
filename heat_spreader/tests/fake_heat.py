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

"""Heats and a Keystone that behave like real ones, for tests and simulations.

A FakeSite is a Keystone with several Heats and the clouds.yaml to reach them, over real sockets or
within the process. What these Heats do was seen on real ones; the tests in heat_contract.py run on
both, so that it stays true. Clock, duration of work and faults are set from Python while they run.
Nothing of the product is imported here.
"""

import contextlib
import dataclasses
import datetime
import http.client
import http.server
import io
import json
import os
import re
import secrets
import socket
import threading
import time
import typing
import urllib.parse
import uuid

import fixtures
import requests
import requests.adapters
import urllib3.exceptions
import webob
import yaml

JSON = dict[str, typing.Any]


class HangUp(Exception):
    """The connection is closed without an answer, after these bytes if there are any."""


class Bytes(Exception):
    """These pieces go over the wire as they come, whatever HTTP would have; then it is closed."""

    def __init__(self, pieces: typing.Iterable[bytes]) -> None:
        super().__init__()
        self.pieces = pieces


class Silence(Exception):
    """The connection stays open and nothing is ever said."""


class HeatFault(Exception):
    """An error as Heat words it: a status, the name of an exception and, mostly, its message."""

    def __init__(self, status: int, error_type: str, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message

    def response(self) -> webob.Response:
        error = {"type": self.error_type, "traceback": None}
        if self.message:
            error["message"] = self.message
        title = http.client.responses[self.status]
        return webob.Response(
            json={"code": self.status, "title": title, "explanation": title, "error": error},
            status=self.status,
        )


def page(status: int, title: str, **headers: str) -> webob.Response:
    """An answer in HTML, as webob and proxies give it."""
    text = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    response = webob.Response(text=text, status=status, content_type="text/html")
    response.headers.update(headers)
    return response


def timestamp(seconds: float) -> str:
    at = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclasses.dataclass(frozen=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str  # after the endpoint: "/stacks/web"
    query: dict[str, str]
    body: typing.Any
    at: float


# A fault answers instead of the service, or goes on and spoils the answer afterwards.
Fault = typing.Callable[[webob.Request, typing.Callable[[], webob.Response]], webob.Response]


def _hang(request, proceed):
    raise Silence


def _lose(request, proceed):
    proceed()
    raise HangUp


def _error(request, proceed):
    raise HeatFault(500, "DBConnectionError")


def _error_after(request, proceed):
    proceed()
    raise HeatFault(500, "MessagingTimeout")


def _unauthorized(request, proceed):
    message = "The request you have made requires authentication."
    error = {"error": {"message": message, "code": 401, "title": "Unauthorized"}}
    response = webob.Response(json=error, status=401)
    response.headers["WWW-Authenticate"] = 'Keystone uri="http://keystone/v3"'
    return response


def _unavailable(request, proceed):
    return page(503, "Service Unavailable")


def _conflict(request, proceed):
    message = "Stack web already has an action (UPDATE) in progress."
    raise HeatFault(409, "ActionInProgress", message)


def _quota(request, proceed):
    message = "You have reached the maximum stacks per tenant, 100. Please delete some stacks."
    raise HeatFault(400, "RequestLimitExceeded", f"Request limit exceeded: {message}")


def _forbidden(request, proceed):
    raise HeatFault(403, "Forbidden", "You are not authorized to use stacks:update_patch.")


def _not_found(request, proceed):
    raise HeatFault(404, "NotFound", "ResourcePropertiesData with id 17 not found")


def _elsewhere(request, proceed):
    return page(302, "Found", Location="http://192.0.2.1/v1/stolen")


def _garbage(request, proceed):
    return webob.Response(text='{"stacks": [', content_type="application/json")


def _trickle(request, proceed):
    def drops():
        yield b"{"
        while True:
            time.sleep(0.02)
            yield b" "

    response = webob.Response(content_type="application/json", app_iter=drops())
    response.content_length = 1_000_000
    return response


FAULTS: dict[str, Fault] = {
    "hang": _hang,  # takes the request and never answers
    "lose": _lose,  # does it, and the connection breaks before the answer
    "error": _error,  # 500, nothing done
    "error_after": _error_after,  # 500, done all the same
    "unauthorized": _unauthorized,  # 401
    "unavailable": _unavailable,  # 503
    "conflict": _conflict,  # 409
    "quota": _quota,  # 400 "maximum stacks per tenant"
    "forbidden": _forbidden,  # 403
    "not_found": _not_found,  # 404 that does not mean "this Heat stack does not exist"
    "elsewhere": _elsewhere,  # a redirect to another host
    "garbage": _garbage,  # half a JSON document
    "trickle": _trickle,  # an answer without end, byte by byte
}


class Service:
    """A WSGI application that records what it is asked and can be made to fail."""

    def __init__(self, clock: typing.Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.requests: list[Seen] = []
        self.server: Server | None = None
        self.refusing = False
        self.delay = 0.0
        self._faults: list[tuple[Fault, str | None, str, list[int]]] = []
        self._lock = threading.RLock()

    def fault(
        self,
        kind: str | Fault,
        *,
        method: str | None = None,
        path: str = "",
        times: int | None = None,
    ) -> None:
        """Fail from now on: "refuse", one of FAULTS, or a function of your own.

        :param method: requests with this method only
        :param path: requests whose path holds this regular expression only
        :param times: that many requests only
        """
        if kind == "refuse":
            self.refusing = True
            if self.server:
                self.server.refuse()
            return
        fault = FAULTS[kind] if isinstance(kind, str) else kind
        self._faults.append((fault, method, path, [-1 if times is None else times]))

    def heal(self) -> None:
        """End all faults and delays."""
        self._faults.clear()
        self.delay = 0.0
        self.refusing = False
        if self.server:
            self.server.listen()

    def asked(self, method: str, path: str = "") -> list[Seen]:
        """The requests with this method whose path holds this regular expression."""
        return [s for s in list(self.requests) if s.method == method and re.search(path, s.path)]

    def __call__(self, environ, start_response):
        request = webob.Request(environ)
        if self.delay:
            time.sleep(self.delay)
        try:
            response = self._spoil(request)
        except HeatFault as fault:
            response = fault.response()
        return response(environ, start_response)

    def _spoil(self, request: webob.Request) -> webob.Response:
        path = self.local_path(request)
        with self._lock:
            try:
                body = json.loads(request.body or b"null")
            except ValueError:
                body = None
            self.requests.append(Seen(request.method, path, dict(request.GET), body, self.clock()))
            chosen = None
            for fault, method, pattern, left in self._faults:
                if left[0] and method in (None, request.method) and re.search(pattern, path):
                    left[0] -= 1
                    chosen = fault
                    break

        def proceed() -> webob.Response:
            with self._lock:
                return self.answer(request, path, body)

        return chosen(request, proceed) if chosen else proceed()

    def local_path(self, request: webob.Request) -> str:
        return request.path_info

    def answer(self, request: webob.Request, path: str, body: typing.Any) -> webob.Response:
        raise NotImplementedError


# -- Keystone --------------------------------------------------------------------------------------


class FakeKeystone(Service):
    """Tokens and the catalog, as much of version 3 as a client needs."""

    def __init__(self, clock: typing.Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.user, self.password = "demo", "demo-password"
        self.project, self.project_id = "demo", uuid.uuid4().hex
        self.lifetime = 3600.0
        self.tokens: dict[str, float] = {}  # token: when it expires
        self.catalog: list[tuple[str, str]] = []  # region, URL of its Heat

    def revoke(self) -> None:
        """Every token handed out so far becomes invalid."""
        self.tokens.clear()

    def accepts(self, token: str) -> bool:
        return self.tokens.get(token, 0.0) > self.clock()

    def answer(self, request, path, body):
        version = {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": f"{request.host_url}/v3/"}],
            "media-types": [],
        }
        if path in ("", "/"):
            return webob.Response(json={"versions": {"values": [version]}}, status=300)
        if path.rstrip("/") == "/v3":
            return webob.Response(json={"version": version})
        if path == "/v3/auth/tokens" and request.method == "POST":
            return self._token(request, body["auth"])
        return self._no(404, f"The resource at {path} could not be found.")

    def _no(self, status: int, message: str) -> webob.Response:
        error = {"code": status, "message": message, "title": http.client.responses[status]}
        return webob.Response(json={"error": error}, status=status)

    def _token(self, request: webob.Request, auth: JSON) -> webob.Response:
        user = (auth["identity"].get("password") or {}).get("user") or {}
        scope = auth.get("scope")
        project = scope.get("project") or {} if isinstance(scope, dict) else {}
        if (
            user.get("name") != self.user
            or user.get("password") != self.password
            or self.project not in (project.get("name"), project.get("id"))
        ):
            return self._no(401, "The request you have made requires authentication.")
        token = secrets.token_hex(16)
        now = self.clock()
        self.tokens[token] = now + self.lifetime
        services: list[tuple[str, str, list[tuple[str, str]]]] = [
            ("identity", "keystone", [("RegionOne", f"{request.host_url}/v3")]),
            ("orchestration", "heat", self.catalog),
        ]
        expiry = datetime.datetime.fromtimestamp(self.tokens[token], datetime.UTC)
        issued = datetime.datetime.fromtimestamp(now, datetime.UTC)
        body = {
            "methods": ["password"],
            "user": {"id": uuid.uuid5(uuid.NAMESPACE_DNS, self.user).hex, "name": self.user},
            "project": {
                "id": self.project_id,
                "name": self.project,
                "domain": {"id": "default", "name": "Default"},
            },
            "roles": [{"id": "9fe2", "name": "member"}],
            "issued_at": issued.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "expires_at": expiry.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "catalog": [
                {
                    "id": uuid.uuid4().hex,
                    "type": kind,
                    "name": name,
                    "endpoints": [
                        {
                            "id": uuid.uuid4().hex,
                            "interface": "public",
                            "region": region,
                            "region_id": region,
                            "url": url,
                        }
                        for region, url in endpoints
                    ],
                }
                for kind, name, endpoints in services
            ],
        }
        response = webob.Response(json={"token": body}, status=201)
        response.headers["X-Subject-Token"] = token
        return response


# -- Heat ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class FakeStack:
    """A Heat stack as the fake keeps it."""

    id: str
    name: str
    number: int  # in order of creation
    template: JSON
    files: JSON
    given: JSON  # parameters as given, without defaults
    tags: list[str] | None
    timeout_mins: int | None
    created: float
    updated: float | None = None
    deleted: float | None = None
    action: str = "CREATE"
    status: str = "IN_PROGRESS"
    reason: str = ""
    since: float = 0.0  # when the work began
    until: float = 0.0  # when it ends
    end: tuple[str, str] = ("COMPLETE", "")  # and how
    busy_until: float = 0.0  # workers of a cancelled update still run
    before: dict[str, str] | None = None  # parameters shown until the update has ended

    @property
    def parameters(self) -> dict[str, str]:
        """What was asked for last, defaults included."""
        return {name: str(value) for name, value in _values(self.template, self.given).items()}


_KNOWN_TYPES = {
    f"OS::Heat::{name}"
    for name in ("None", "RandomString", "ResourceGroup", "TestResource", "Value", "Delay")
}


def _parse(template: typing.Any) -> JSON:
    if template is None:
        raise HeatFault(400, "HTTPBadRequest", "No template specified")
    malformed = "Template not in valid format: "
    if isinstance(template, str):
        try:
            template = yaml.safe_load(template)
        except yaml.YAMLError as exc:
            message = f"{malformed}Error parsing template [root stack] {exc}"
            raise HeatFault(400, "HTTPBadRequest", message) from exc
    if not isinstance(template, dict):
        message = f"{malformed}The template is not a JSON object or YAML mapping."
        raise HeatFault(400, "HTTPBadRequest", message)
    version = str(template.get("heat_template_version", ""))
    if not re.fullmatch(r"20[12]\d-\d\d-\d\d|[a-z]+", version):
        wrong = (
            f'"heat_template_version: {version}".'
            if version
            else "Template version was not provided"
        )
        message = f"The template version is invalid: {wrong}"
        raise HeatFault(400, "InvalidTemplateVersion", message)
    return template


def _check_types(template: JSON, error_type: str) -> None:
    for resource in (template.get("resources") or {}).values():
        if resource.get("type") not in _KNOWN_TYPES:
            message = f"The Resource Type ({resource.get('type')}) could not be found."
            raise HeatFault(400, error_type, message)


def _schema(template: JSON) -> JSON:
    return template.get("parameters") or {}


def _values(template: JSON, given: JSON) -> JSON:
    return {
        name: given.get(name, declared.get("default", ""))
        for name, declared in _schema(template).items()
    }


def _check_values(template: JSON, given: JSON) -> None:
    for name, declared in _schema(template).items():
        if name not in given and "default" not in declared:
            message = f"The Parameter ({name}) was not provided."
            raise HeatFault(400, "UserParameterMissing", message)
        if declared.get("type") != "number":
            continue
        value = given.get(name, declared.get("default"))
        wrong = f"Parameter '{name}' is invalid: "
        try:
            number = float(value)
        except (TypeError, ValueError):
            message = f"{wrong}could not convert string to float: '{value}'"
            raise HeatFault(400, "StackValidationFailed", message) from None
        for constraint in declared.get("constraints") or ():
            low, high = (constraint.get("range", {}).get(key) for key in ("min", "max"))
            if (low is not None and number < low) or (high is not None and number > high):
                message = f"{wrong}{value} is out of range (min: {low}, max: {high})"
                raise HeatFault(400, "StackValidationFailed", message)


def _evaluate(value: typing.Any, values: JSON) -> typing.Any:
    return (
        values[value["get_param"]] if isinstance(value, dict) and "get_param" in value else value
    )


def _work(template: JSON, given: JSON, most: int) -> tuple[str, str]:
    """How creating or updating this ends: a group may be too large, or its members made to fail."""
    values = _values(template, given)
    total = len(template.get("resources") or {})
    for name, resource in (template.get("resources") or {}).items():
        if resource.get("type") != "OS::Heat::ResourceGroup":
            continue
        properties = resource.get("properties") or {}
        count = int(float(_evaluate(properties.get("count", 1), values)))
        total += count
        if total > most:
            return (
                "FAILED",
                f"RequestLimitExceeded: resources.{name}: Request limit exceeded: "
                "Maximum resources per stack exceeded.",
            )
        member = (properties.get("resource_def") or {}).get("properties") or {}
        if count and str(_evaluate(member.get("fail", False), values)).lower() == "true":
            reason = f"ValueError: resources.{name}.resources[0]: Test Resource failed 0"
            return "FAILED", reason
    return "COMPLETE", ""


class FakeHeat(Service):
    """One cloud's Heat.

    :ivar convergence: how concurrent updates are treated: with it they pre-empt each other, without
        it the second one gets 409
    :ivar seconds: how long every create, update, delete or check takes, by the clock
    :ivar stacks: what exists, by id; deleted ones included
    """

    def __init__(
        self,
        name: str,
        keystone: FakeKeystone,
        clock: typing.Callable[[], float] = time.time,
        *,
        convergence: bool = True,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(clock)
        self.name = name
        self.keystone = keystone
        self.convergence = convergence
        self.seconds = seconds
        self.max_stacks = 512
        self.max_resources = 1000
        # An update that pre-empts one which began this long ago makes the whole thing fail. A real
        # Heat does so at times only; here nobody may rely on luck.
        self.cancels_after = 1.0
        self.stacks: dict[str, FakeStack] = {}
        self._failures: list[tuple[str, str, list[int]]] = []

    def fail(self, action: str, reason: str, times: int | None = None) -> None:
        """Let CREATE, UPDATE, DELETE or CHECK end as FAILED for this reason; ends with recover()."""
        self._failures.append((action, reason, [-1 if times is None else times]))

    def recover(self) -> None:
        self._failures.clear()

    def live(self) -> list[FakeStack]:
        """The Heat stacks that exist now, newest first."""
        with self._lock:
            self._settle()
            alive = [stack for stack in self.stacks.values() if stack.deleted is None]
        return sorted(alive, key=lambda stack: -stack.number)

    def stack(self, name: str) -> FakeStack | None:
        return next((stack for stack in self.live() if stack.name == name), None)

    # What is asked

    def local_path(self, request):
        return re.sub(r"^/v1/[^/]+", "", request.path_info)

    def answer(self, request, path, body):
        if request.path_info in ("", "/"):
            return webob.Response(json={"versions": [{"id": "v1.0", "status": "CURRENT"}]})
        if not self.keystone.accepts(request.headers.get("X-Auth-Token", "")):
            return _unauthorized(request, None)
        if not request.path_info.startswith(f"/v1/{self.keystone.project_id}/"):
            return page(403, "Forbidden")
        self._settle()
        parts = [urllib.parse.unquote(part) for part in path.split("/")[1:]]
        match request.method, parts:
            case "GET", ["stacks"]:
                return self._list(request)
            case "POST", ["stacks"]:
                return self._create(request, body)
            case "POST", ["validate"]:
                return self._validate(body)
            case _, ["stacks", _]:
                return self._redirect(request, parts[1])
            case "GET", ["stacks", name, stack_id]:
                return self._show(request, self._get(name, stack_id, deleted=True))
            case "PATCH", ["stacks", name, stack_id]:
                return self._update(self._get(name, stack_id), body, existing=True)
            case "PUT", ["stacks", name, stack_id]:
                return self._update(self._get(name, stack_id), body, existing=False)
            case "DELETE", ["stacks", name, stack_id]:
                return self._delete(self._get(name, stack_id))
            case "GET", ["stacks", name, stack_id, "template"]:
                # A version without quotes is a date to YAML.
                template = json.dumps(self._get(name, stack_id).template, default=str)
                return webob.Response(json=json.loads(template))
            case "POST", ["stacks", name, stack_id, "actions"]:
                return self._act(self._get(name, stack_id), body)
        return page(404, "Not Found")

    def _get(self, name: str, stack_id: str, deleted: bool = False) -> FakeStack:
        stack = self.stacks.get(stack_id)
        if stack is None or stack.name != name or (stack.deleted is not None and not deleted):
            message = f"The Stack ({name}) could not be found."
            raise HeatFault(404, "EntityNotFound", message)
        return stack

    def _redirect(self, request, name_or_id):
        stack = self.stacks.get(name_or_id) or self.stack(name_or_id)
        if stack is None:
            message = f"The Stack ({name_or_id}) could not be found."
            raise HeatFault(404, "EntityNotFound", message)
        query = f"?{request.query_string}" if request.query_string else ""
        return page(302, "Found", Location=self._href(request, stack) + query)

    def _href(self, request, stack):
        project = self.keystone.project_id
        return f"{request.host_url}/v1/{project}/stacks/{stack.name}/{stack.id}"

    def _list(self, request):
        query = request.GET
        if "tags" in query and {"name", "status", "stack_name", "stack_status"} & set(query):
            # The filter lands on the table of tags.
            raise HeatFault(500, "InvalidRequestError")
        stacks = self.live()
        if self.convergence:
            # Listed for a moment longer.
            gone = [s for s in self.stacks.values() if self.clock() - (s.deleted or 0) < 1]
            stacks = sorted(stacks + gone, key=lambda stack: -stack.number)
        if "tags" in query:
            wanted = set(query["tags"].split(","))
            stacks = [stack for stack in stacks if wanted <= set(stack.tags or ())]
        if "name" in query:
            stacks = [stack for stack in stacks if stack.name == query["name"]]
        if "marker" in query and query["marker"] in self.stacks:
            number = self.stacks[query["marker"]].number
            stacks = [stack for stack in stacks if stack.number < number]
        body: JSON = {}
        if "limit" in query:
            limit = int(query["limit"])
            stacks = stacks[:limit]
            if stacks and len(stacks) == limit:
                following = urllib.parse.urlencode(dict(query) | {"marker": stacks[-1].id})
                body["links"] = [{"rel": "next", "href": f"{request.path_url}?{following}"}]
        body["stacks"] = [self._summary(request, stack) for stack in stacks]
        return webob.Response(json=body)

    def _summary(self, request, stack) -> JSON:
        return {
            "id": stack.id,
            "links": [{"href": self._href(request, stack), "rel": "self"}],
            "stack_name": stack.name,
            "description": "",
            "stack_status": f"{stack.action}_{stack.status}",
            "stack_status_reason": stack.reason,
            "creation_time": timestamp(stack.created),
            "updated_time": None if stack.updated is None else timestamp(stack.updated),
            "deletion_time": None if stack.deleted is None else timestamp(stack.deleted),
            "stack_owner": self.keystone.user,
            "parent": None,
            "stack_user_project_id": uuid.uuid5(uuid.NAMESPACE_DNS, stack.id).hex,
            "tags": stack.tags or [],
        }

    def _show(self, request, stack):
        outputs = request.GET.get("resolve_outputs", "True").lower() == "true"
        if outputs and stack.status == "IN_PROGRESS" and stack.action == "UPDATE":
            # A real Heat answers so now and then only; here nobody may rely on luck.
            message = "ResourcePropertiesData with id 42 not found"
            raise HeatFault(404, "NotFound", message)
        shown = stack.parameters if stack.before is None else stack.before
        body = self._summary(request, stack) | {
            "description": stack.template.get("description", "No description"),
            "capabilities": [],
            "disable_rollback": True,
            "notification_topics": [],
            "template_description": stack.template.get("description", "No description"),
            "timeout_mins": stack.timeout_mins,
            "parameters": shown
            | {
                "OS::project_id": self.keystone.project_id,
                "OS::stack_id": stack.id,
                "OS::stack_name": stack.name,
            },
        }
        if outputs:
            body["outputs"] = []
        return webob.Response(json={"stack": body})

    # What is done

    def _validate(self, body):
        template = _parse((body or {}).get("template"))
        _check_types(template, "HTTPBadRequest")
        parameters = {
            name: {
                "Type": declared.get("type", "string").capitalize(),
                "NoEcho": "false",
                "Description": declared.get("description", ""),
                "Label": name,
            }
            | ({"Default": declared["default"]} if "default" in declared else {})
            for name, declared in _schema(template).items()
        }
        description = template.get("description", "No description")
        return webob.Response(
            json={"Description": description, "Parameters": parameters, "Environment": {}}
        )

    def _tags(self, body: JSON) -> list[str] | None:
        tags = body.get("tags")
        if tags is None:
            return None
        if not isinstance(tags, str):
            raise HeatFault(400, "AttributeError")
        for tag in tags.split(","):
            if len(tag) > 80:
                message = f'Invalid tag, "{tag}" is longer than 80 characters'
                raise HeatFault(400, "HTTPBadRequest", message)
        return tags.split(",")

    def _given(self, body: JSON) -> JSON:
        environment = body.get("environment") or {}
        if isinstance(environment, str):
            environment = yaml.safe_load(environment) or {}
        return dict(environment.get("parameters") or {}) | dict(body.get("parameters") or {})

    def _create(self, request, body):
        name = body["stack_name"]
        template, given, tags = _parse(body.get("template")), self._given(body), self._tags(body)
        if not re.fullmatch(r"[a-zA-Z][\w.-]{0,254}", name):
            message = f"Invalid stack name {name} must contain only alphanumeric or "
            message += (
                '"_-." characters, must start with alpha and must be 255 characters or less.'
            )
            raise HeatFault(400, "StackValidationFailed", message)
        if self.stack(name):
            raise HeatFault(409, "StackExists", f"The Stack ({name}) already exists.")
        if len(self.live()) >= self.max_stacks:
            message = f"You have reached the maximum stacks per tenant, {self.max_stacks}. "
            message = f"Request limit exceeded: {message}Please delete some stacks."
            raise HeatFault(400, "RequestLimitExceeded", message)
        for parameter in given:
            if parameter not in _schema(template):
                message = f"The Parameter ({parameter}) was not defined in template."
                raise HeatFault(400, "UnknownUserParameter", message)
        _check_values(template, given)
        _check_types(template, "StackValidationFailed")
        stack = FakeStack(
            id=str(uuid.uuid4()),
            name=name,
            number=len(self.stacks),
            template=template,
            files=dict(body.get("files") or {}),
            given=given,
            tags=tags,
            timeout_mins=body.get("timeout_mins"),
            created=self.clock(),
        )
        self.stacks[stack.id] = stack
        self._begin(stack, "CREATE")
        link = {"href": self._href(request, stack), "rel": "self"}
        return webob.Response(json={"stack": {"id": stack.id, "links": [link]}}, status=201)

    def _update(self, stack, body, *, existing):
        body = body or {}
        if stack.action == "DELETE":
            message = "Updating a stack when it is deleting is not supported."
            raise HeatFault(400, "NotSupported", message)
        if (
            # Until its first update Heat keeps no template to fall back on.
            stack.updated is None
            and stack.status != "COMPLETE"
            and not self.convergence
            and not (body.get("template") and existing)
        ):
            message = "PATCH update to non-COMPLETE stack is not supported."
            raise HeatFault(400, "NotSupported", message)
        given = self._given(body)
        if existing:
            template = _parse(body["template"]) if body.get("template") else stack.template
            cleared = set(body.get("clear_parameters") or ())
            kept = {name: value for name, value in stack.given.items() if name not in cleared}
            given = kept | given
            # Unknown names are dropped without a word.
            given = {name: value for name, value in given.items() if name in _schema(template)}
            tags = self._tags(body) if "tags" in body else stack.tags
        else:
            template = _parse(body.get("template"))
            tags = self._tags(body)
        _check_values(template, given)
        _check_types(template, "StackValidationFailed")
        if stack.status == "IN_PROGRESS" and not self.convergence:
            message = f"Stack {stack.name} already has an action ({stack.action}) in progress."
            raise HeatFault(409, "ActionInProgress", message)
        now = self.clock()
        running = stack.status == "IN_PROGRESS" and now - stack.since >= self.cancels_after
        cancelled = running or now < stack.busy_until
        if running:
            stack.busy_until = stack.until
        # Without convergence Heat shows the new values when the update is over.
        before = None if self.convergence else stack.parameters
        stack.template, stack.given, stack.tags = template, given, tags
        stack.files |= body.get("files") or {}
        stack.timeout_mins = body.get("timeout_mins", stack.timeout_mins)
        stack.updated = now
        self._begin(stack, "UPDATE", before)
        if cancelled:
            stack.end = ("FAILED", "resources.group: Stack UPDATE cancelled")
        return page(202, "Accepted")

    def _delete(self, stack):
        if stack.action != "DELETE" or stack.status != "IN_PROGRESS":
            self._begin(stack, "DELETE")
        return webob.Response(status=204)

    def _act(self, stack, body):
        if set(body or ()) != {"check"}:
            raise HeatFault(400, "HTTPBadRequest", "Only the action check is known here")
        self._begin(stack, "CHECK")
        return webob.Response(json=None)

    def _begin(self, stack: FakeStack, action: str, before: dict[str, str] | None = None) -> None:
        now = self.clock()
        stack.action, stack.status = action, "IN_PROGRESS"
        stack.reason = f"Stack {action} started"
        stack.before = before
        stack.since, stack.until = now, now + self.seconds
        stack.end = ("COMPLETE", f"Stack {action} completed successfully")
        if action in ("CREATE", "UPDATE"):
            status, reason = _work(stack.template, stack.given, self.max_resources)
            if status == "FAILED":
                stack.end = (status, f"Resource {action} failed: {reason}")
        for failing, reason, left in self._failures:
            if failing == action and left[0]:
                left[0] -= 1
                stack.end = ("FAILED", reason)
                break
        self._settle()

    def _settle(self) -> None:
        """Let everything happen whose time has come."""
        now = self.clock()
        for stack in self.stacks.values():
            if stack.status == "IN_PROGRESS" and now >= stack.until:
                stack.status, stack.reason = stack.end
                stack.before = None
                if (stack.action, stack.status) == ("DELETE", "COMPLETE"):
                    stack.deleted = stack.until


class Relay(Service):
    """Stands before another service, a real Heat for instance, to count and to spoil its answers."""

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._upstream = upstream.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def local_path(self, request):
        return re.sub(r"^/v1/[^/]+", "", request.path_info)

    def answer(self, request, path, body):
        headers = {k: v for k, v in request.headers.items() if k not in ("Host", "Content-Length")}
        answer = self._session.request(
            request.method,
            self._upstream + request.path_qs,
            headers=headers,
            data=request.body,
            allow_redirects=False,
            timeout=60,
        )
        response = webob.Response(body=answer.content, status=answer.status_code)
        for name in ("Content-Type", "Location", "WWW-Authenticate"):
            response.headers.pop(name, None)
            if name in answer.headers:
                response.headers[name] = answer.headers[name]
        return response


# -- Ways to reach them ----------------------------------------------------------------------------


class Server:
    """Serves one application on a loopback port, HTTP/1.1 with kept connections.

    Stops at once, and while it refuses connections it still holds its port.

    :ivar accepted: connections so far
    """

    def __init__(self, app: Service) -> None:
        self.app = app
        self._connections: set[socket.socket] = set()
        self.accepted = 0
        self._listening = False
        self._halt = threading.Event()
        self._socket = self._bind(0)
        self.port = self._socket.getsockname()[1]
        self.listen()

    @staticmethod
    def _bind(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    def listen(self) -> None:
        if not self._listening:
            self._listening = True
            self._halt = threading.Event()
            self._socket.listen(64)
            threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def refuse(self) -> None:
        """What a killed process looks like: connections break, new ones are refused."""
        self.stop()
        self._socket = self._bind(self.port)

    def stop(self) -> None:
        self._listening = False
        self._halt.set()
        for closing in [self._socket, *self._connections]:
            try:
                closing.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was not connected any more
        self._socket.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, address = listening.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: typing.Any) -> None:
        self._connections.add(connection)
        try:
            _Handler(connection, address, self)  # type: ignore[arg-type]
        except HangUp as exc:
            connection.sendall(b"".join(exc.args))
        except Bytes as exc:
            with contextlib.suppress(OSError):
                for piece in exc.pieces:
                    connection.sendall(piece)
        except OSError:
            pass
        except Silence:
            self._halt.wait()
        finally:
            self._connections.discard(connection)
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_expect_100(self):
        return True

    def log_message(self, format, *args):
        pass

    def run(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        server: Server = self.server  # type: ignore[assignment]
        request = webob.Request.blank(
            self.path,
            base_url=f"http://127.0.0.1:{server.port}",
            method=self.command,
            headers=dict(self.headers.items()),
            body=self.rfile.read(length),
        )
        response = request.get_response(server.app)
        head = [f"HTTP/1.1 {response.status}", *(f"{k}: {v}" for k, v in response.headerlist)]
        if response.content_length is None and response.status_int != 204:
            head.append(f"Content-Length: {len(response.body)}")
        pieces = iter(response.app_iter)
        first = "\r\n".join([*head, "", ""]).encode("latin-1") + next(pieces, b"")
        self.wfile.write(first)
        for piece in pieces:
            self.wfile.write(piece)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = run


class InProcess(requests.adapters.BaseAdapter):
    """Reaches applications without sockets: a transport for requests.

    A connection that hangs fails at once, as if the timeout had passed.

    :param apps: application for each host name
    """

    def __init__(self, apps: typing.Mapping[str, Service]) -> None:
        super().__init__()
        self._apps = apps

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
        app = self._apps.get(urllib.parse.urlsplit(request.url).hostname)
        if app is None or app.refusing:
            refused = urllib3.exceptions.NewConnectionError(None, "[Errno 111] Connection refused")
            raise requests.exceptions.ConnectionError(refused, request=request)
        asked = webob.Request.blank(
            request.url,
            method=request.method,
            headers=dict(request.headers),
            body=request.body.encode() if isinstance(request.body, str) else request.body or b"",
        )
        try:
            answer = asked.get_response(app)
        except HangUp:
            aborted = http.client.RemoteDisconnected(
                "Remote end closed connection without response"
            )
            raise requests.exceptions.ConnectionError(aborted, request=request) from None
        except Silence:
            raise requests.exceptions.ReadTimeout(request=request) from None
        if not isinstance(answer.app_iter, list):  # one that does not end
            raise requests.exceptions.ReadTimeout(request=request)
        response = requests.Response()
        response.status_code = answer.status_int
        response.reason = answer.status.partition(" ")[2]
        response.headers = requests.structures.CaseInsensitiveDict(answer.headerlist)
        response.url = request.url
        response.request = request
        response.encoding = "utf-8"
        response.raw = io.BytesIO(b"")
        response._content = answer.body
        return response

    def close(self):
        pass


class FakeSite(fixtures.Fixture):
    """One Keystone, a Heat for each name, and a clouds.yaml with an entry of each name.

    :param sockets: serve them on loopback ports; else pass ``transport`` to whoever connects
    :ivar heats: the Heats by name
    :ivar clouds_yaml: path of the file
    """

    def __init__(
        self,
        *names: str,
        sockets: bool = True,
        clock: typing.Callable[[], float] = time.time,
        convergence: bool = True,
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self._sockets = sockets
        self.keystone = FakeKeystone(clock)
        self.heats = {
            name: FakeHeat(name, self.keystone, clock, convergence=convergence, seconds=seconds)
            for name in names
        }

    def _setUp(self) -> None:
        address = {"keystone": self._address("keystone.test", self.keystone)}
        for name, heat in self.heats.items():
            address[name] = self._address(f"{name}.test", heat)
            endpoint = f"{address[name]}/v1/{self.keystone.project_id}"
            self.keystone.catalog.append((f"region-{name}", endpoint))
        self.auth_url = f"{address['keystone']}/v3"
        self.entries: JSON = {name: self.entry(name) for name in self.heats}
        directory = self.useFixture(fixtures.TempDir()).path
        self.clouds_yaml = os.path.join(directory, "clouds.yaml")
        self.write()

    def _address(self, host: str, app: Service) -> str:
        if not self._sockets:
            return f"http://{host}"
        app.server = Server(app)
        self.addCleanup(app.server.stop)
        return f"http://127.0.0.1:{app.server.port}"

    def entry(self, name: str) -> JSON:
        """The entry of clouds.yaml for one of the Heats."""
        keystone = self.keystone
        return {
            "auth": {
                "auth_url": self.auth_url,
                "username": keystone.user,
                "password": keystone.password,
                "project_name": keystone.project,
                "user_domain_id": "default",
                "project_domain_id": "default",
            },
            "region_name": f"region-{name}",
        }

    def write(self) -> None:
        """Write ``entries`` to clouds.yaml."""
        temporary = f"{self.clouds_yaml}.new"
        with open(temporary, "w") as file:
            yaml.safe_dump({"clouds": self.entries}, file)
        os.replace(temporary, self.clouds_yaml)

    def transport(self) -> InProcess:
        apps: dict[str, Service] = {"keystone.test": self.keystone}
        return InProcess(apps | {f"{name}.test": heat for name, heat in self.heats.items()})
