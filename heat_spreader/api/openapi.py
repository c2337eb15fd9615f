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

"""The API described by itself: an OpenAPI 3.1 document, made from what the handlers check with.

Nothing is written down here a second time. Paths, methods, rules and success come from the routes,
bodies and queries from their schemas; the words are for people to read in the reference.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import copy
import functools
import http
from typing import Any

from heat_spreader import context
from heat_spreader.api import expose
from heat_spreader.api import schemas
from heat_spreader.api import versions

_ERROR = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["status", "title", "detail", "code", "request_id"],
                "properties": {
                    "status": {"type": "integer"},
                    "title": {"type": "string"},
                    "detail": {"type": "string"},
                    "code": {"type": "string", "pattern": "^spreader\\."},
                    "request_id": {"type": ["string", "null"]},
                },
            },
        }
    },
}


def routes(
    controller: expose.Controller, url: str = ""
) -> Iterator[tuple[str, str, expose.Route]]:
    """Method, URL with its variables, and route of everything below a controller."""
    for verb, handler in controller.methods(controller.COLLECTION).items():
        yield verb, url or "/", handler.route  # type: ignore[attr-defined]
    items = controller.methods(controller.ITEM)
    for handler in items.values():
        item = f"{url}/{{{handler.route.path[-1]}}}"  # type: ignore[attr-defined]
    for verb, handler in items.items():
        yield verb, item, handler.route  # type: ignore[attr-defined]
    for name, child in controller.children.items():
        yield from routes(child, f"{url}/{name}")
    for name, child in controller.nested.items():
        yield from routes(child, f"{item}/{name}")


def document(root: expose.Controller) -> dict[str, Any]:
    """The document about everything below ``root``."""
    paths: dict[str, Any] = {}
    for verb, url, route in routes(root):
        paths.setdefault(url, {})[verb.lower()] = _operation(verb, url, route)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Heat Spreader",
            "version": versions.MAXIMUM,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Errors": _ERROR},
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
            },
        },
    }


def _operation(verb: str, url: str, route: expose.Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema()}
        for name in route.path
    ]
    parameters += [
        {"name": name, "in": "query", "schema": _readable(schema)}
        for name, schema in route.query["properties"].items()
    ]
    parameters.append(
        {
            "name": versions.HEADER,
            "in": "header",
            "schema": {"type": "string", "examples": [f"{versions.SERVICE_TYPE} latest"]},
        }
    )
    if _is_guarded(verb, route):
        parameters.append({"name": "If-Match", "in": "header", "schema": {"type": "string"}})
    operation: dict[str, Any] = {
        "operationId": f"{verb.lower()}{url.replace('/', '_').replace('{', '').replace('}', '')}",
        "parameters": parameters,
        "responses": _responses(verb, route),
        "security": [{"token": []}] if route.rule else [],
    }
    if route.rules:
        operation["x-openstack-rules"] = list(route.rules)
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _readable(route.body)}},
        }
    return operation


def _is_guarded(verb: str, route: expose.Route) -> bool:
    """Whether a write may insist on a generation."""
    return bool(route.path) and route.path[0] == "stack" and verb in ("PUT", "PATCH", "DELETE")


def _responses(verb: str, route: expose.Route) -> dict[str, Any]:
    # A header or a query that makes no sense, a version that is not there, a database that is away.
    errors = {400, 406, 503}
    if route.rule:
        errors |= {401, 403}
    if route.path or "marker" in route.query["properties"]:
        errors.add(404)
    if route.path or verb != "GET":
        errors.add(409)
    if route.body is not None:
        errors |= {409, 413, 415}
    if _is_guarded(verb, route):
        errors.add(412)
    answers: dict[str, Any] = {
        str(route.status): {
            "description": http.HTTPStatus(route.status).phrase,
            **(
                {}
                if route.status == http.HTTPStatus.NO_CONTENT
                else {"content": {"application/json": {"schema": {"type": "object"}}}}
            ),
        }
    }
    for code in sorted(errors):
        answers[str(code)] = {
            "description": http.HTTPStatus(code).phrase,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}},
        }
    return answers


def _path_schema() -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": 255}


def _readable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with patterns as ECMAScript has them, which knows no end of text but ``$``."""
    found = copy.deepcopy(dict(schema))
    waiting: list[Any] = [found]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            pattern = part.get("pattern")
            if isinstance(pattern, str):
                part["pattern"] = pattern.removesuffix("\\Z") + (
                    "$" if pattern.endswith("\\Z") else ""
                )
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return found


class OpenAPI(expose.Controller):
    """/v1/openapi.json"""

    def __init__(self) -> None:
        super().__init__()
        self.root: expose.Controller | None = None

    @functools.cached_property
    def _document(self) -> dict[str, Any]:
        assert self.root is not None  # noqa: S101 - set when the tree is complete
        return document(self.root)

    @expose.expose(None, query=schemas.NOTHING)
    def get_all(self, ctx: context.RequestContext, query: dict[str, str]) -> dict[str, Any]:
        return self._document
