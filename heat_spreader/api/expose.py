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

"""What makes a method a route: its rule, the JSON and the schema it takes, the JSON it answers.

A handler behind ``@expose`` gets a context that its rule has allowed, and data that its schemas have
accepted; it returns plain data or None. A ``Controller`` says which method serves which URL.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import datetime
import decimal
import functools
import inspect
import json
import re
from typing import Any

import jsonschema
import pecan
import webob
import webob.exc
import webob.multidict

from heat_spreader import exception
from heat_spreader import policies
from heat_spreader.api import schemas

# What no text may contain: control characters but tab and line ends, and halves of surrogate pairs.
# Databases differ in which of these they refuse, and in how.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MAX_DEPTH = 64
_NO_PATH = ("self", "ctx", "body", "query")


@dataclasses.dataclass(frozen=True)
class Route:
    """What ``@expose`` was told about a method.

    :ivar path: the variables of the URL
    :ivar rule: None: everybody may. A URL that takes one of several actions has a rule for each, by
        the name that is the only one in the body.
    """

    rule: str | Mapping[str, str] | None
    body: Mapping[str, Any] | None
    query: Mapping[str, Any]
    status: int
    path: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """All rules that can be asked."""
        if isinstance(self.rule, str):
            return (self.rule,)
        return tuple(self.rule.values()) if self.rule else ()


def expose(
    rule: str | Mapping[str, str] | None,
    *,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    status: int = 200,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a method a route.

    The method is called with the context, the variable parts of the URL, and, where there is a schema
    for it, ``body=`` and ``query=``. A query without a schema must be empty.

    :param rule: the access rule; None for what everybody may read; see ``Route``
    """
    route = Route(rule, body, query or schemas.NOTHING, status)
    check_body = validator(body) if body is not None else None
    check_query = validator(route.query)

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        names = [name for name in inspect.signature(handler).parameters if name not in _NO_PATH]

        @functools.wraps(handler)
        def answer(self: Any, *path: str) -> Any:
            request, response = pecan.request, pecan.response
            ctx = request.context["ctx"]
            if isinstance(rule, str):
                policies.authorize(ctx, rule)
            given: dict[str, Any] = {}
            parsed = _read_query(request)
            # No name is ever required, and to find nothing wrong with nothing takes its time.
            if parsed:
                check_query(parsed, "query")
            if query is not None:
                given["query"] = parsed
            if check_body is not None:
                given["body"] = _read_body(request)
                check_body(given["body"], "body")
                if isinstance(rule, Mapping):
                    (action,) = given["body"]
                    policies.authorize(ctx, rule[action])
            result = handler(self, ctx, *path, **given)
            response.status = status
            if result is not None:
                response.headers["Content-Type"] = "application/json"
                response.body = _JSON.encode(result).encode()
            return response

        # pecan must see the signature with *path; it would not find its arguments in the other.
        del answer.__wrapped__
        answer.route = dataclasses.replace(route, path=tuple(names))  # type: ignore[attr-defined]
        return pecan.expose("json")(answer)

    return decorate


def moment(text: str, name: str) -> datetime.datetime:
    """A time that a client wrote, in naive UTC, as the database has it.

    :raises Invalid: it is none
    """
    try:
        # The "+" of an offset arrives as a blank if the client did not escape it.
        date, _, clock = text.partition("T")
        found = datetime.datetime.fromisoformat(
            f"{date}T{clock.replace(' ', '+')}" if clock else date
        )
        if found.tzinfo is not None:
            found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise exception.Invalid(
            reason=f"{name}: '{text[:60]}' is not a time like 2026-01-31T23:59:59Z"
        ) from None
    return found


# --- in -------------------------------------------------------------------------------------------


class Request(pecan.Request):
    """A request whose parameters pecan leaves alone.

    pecan would parse a JSON body by itself, spread it over the arguments, and obey ``?_method=``.
    """

    params = webob.multidict.MultiDict()
    json: Mapping[str, Any] = {}

    def __getattribute__(self, name: str) -> Any:
        try:
            return webob.Request.__getattribute__(self, name)
        except UnicodeDecodeError:
            # pecan's own would log a traceback for what is a mistake of the client.
            raise exception.Invalid(reason="the URL is not UTF-8") from None


def _read_query(request: webob.Request) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in request.GET.items():
        if name in query:
            raise exception.Invalid(reason=f"query: '{_short(name)}' is given more than once")
        query[name] = value
    check_text(query, "query")
    return query


def _read_body(request: webob.Request) -> Any:
    if request.content_type != "application/json":
        raise webob.exc.HTTPUnsupportedMediaType(
            detail="The body must be JSON, sent with Content-Type: application/json."
        )
    body = parse_json(request.body, "the body")
    check_text(body, "body")
    return body


def parse_json(text: str | bytes, what: str) -> Any:
    """Strict JSON with exact numbers: a number with a point or an exponent becomes a ``Decimal``.

    :raises Invalid: not JSON; or JSON that means different things to different readers
    """
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode(),
            parse_float=decimal.Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_refuse_duplicates,
        )
    except RecursionError:
        raise exception.Invalid(reason=f"{what} is nested too deeply") from None
    except (ValueError, decimal.InvalidOperation) as error:
        # UnicodeDecodeError is a ValueError and shows bytes; InvalidOperation shows its own class.
        why = (
            str(error) if type(error) in (ValueError, json.JSONDecodeError) else "see its numbers"
        )
        if isinstance(error, UnicodeDecodeError):
            why = "it is not UTF-8"
        raise exception.Invalid(reason=f"{what} is not JSON: {_short(why, 200)}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Not by counting each: among a hundred thousand names that takes minutes.
        names = collections.Counter(name for name, _ in pairs)
        twice = next(name for name, times in names.items() if times > 1)
        raise ValueError(f"'{_short(twice)}' appears twice in one object")
    return found


def check_text(document: Any, where: str) -> None:
    """:raises Invalid: a text in the document cannot be stored, or the nesting is too deep"""
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise exception.Invalid(reason=f"{where}: nested more than {_MAX_DEPTH} levels deep")
        below: list[Any] = []
        for value in level:
            if isinstance(value, str) and _UNPRINTABLE.search(value):
                raise exception.Invalid(
                    reason=f"{where}: {_short(ascii(value))} contains a control character"
                )
            if isinstance(value, dict):
                below.extend(value.keys())
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        level = below


def plain(value: Any, where: str) -> Any:
    """A document as it is stored: what ``parse_json`` kept exact becomes an ordinary number."""
    if isinstance(value, dict):
        return {key: plain(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item, where) for item in value]
    if isinstance(value, decimal.Decimal):
        number = float(value)
        if number in (float("inf"), float("-inf")):
            raise exception.Invalid(reason=f"{where}: {_short(str(value))} is too large a number")
        return number
    return value


# --- schema ---------------------------------------------------------------------------------------


def _when_bounded(keyword: str, size: str) -> Callable[..., Any]:
    """The check of a keyword, for what is not too long already; that is found by the keyword ``size``.

    To compare each of a hundred thousand items with each other takes an hour.
    """
    check = jsonschema.Draft202012Validator.VALIDATORS[keyword]

    def bounded(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Any:
        if isinstance(instance, (list, dict)) and len(instance) > schema.get(size, len(instance)):
            return ()
        return check(validator, value, instance, schema)

    return bounded


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    {
        "items": _when_bounded("items", "maxItems"),
        "uniqueItems": _when_bounded("uniqueItems", "maxItems"),
        "additionalProperties": _when_bounded("additionalProperties", "maxProperties"),
    },
)


def validator(schema: Mapping[str, Any]) -> Callable[[Any, str], None]:
    """A check that raises Invalid with a sentence a person understands.

    Building a validator takes far longer than using it: once per route.
    """
    jsonschema.Draft202012Validator.check_schema(schema)
    known = _Validator(schema)

    def check(document: Any, where: str) -> None:
        error = jsonschema.exceptions.best_match(known.iter_errors(document))
        if error is not None:
            raise exception.Invalid(reason=_sentence(error, where))

    return check


def _sentence(error: Any, where: str) -> str:
    path = ""
    for part in error.absolute_path:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    place = _short(path.lstrip("."), 200) or where
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", ()))
        unknown = ", ".join(_short(repr(name)) for name in error.instance if name not in known)
        allowed = f"known are {', '.join(known)}" if known else "none is known here"
        return f"{place}: unknown name {_short(unknown, 200)}; {allowed}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{place}: '{missing}' is missing"
    if error.validator == "minProperties":
        return f"{place}: there is nothing in it"
    if error.validator == "uniqueItems":
        return f"{place}: something is in the list twice"
    wanted = error.schema.get("description")
    if wanted is None:
        return f"{place}: {_short(error.message, 200)}"
    shown = _short(_encode_short(error.instance))
    return f"{place}: {shown} is not {wanted}"


def _encode_short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return repr(value) if isinstance(value, str) else str(value)


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


# --- out ------------------------------------------------------------------------------------------


def _encode(value: Any) -> str:
    """Times in the database are naive UTC."""
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="seconds") + "Z"
    raise TypeError(f"{type(value).__name__} has no form in JSON")


# What views make is a tree; to look for circles in it is a third of the work.
_JSON = json.JSONEncoder(default=_encode, check_circular=False)


# --- which method for which URL -------------------------------------------------------------------


class Controller:
    """The methods of one noun, and where in the URL they are.

    pecan's own RestController looks the parts of a URL up among the attributes of Python objects
    (``/v1/__class__``), takes names of stacks for names of methods, and answers 405 with an Allow that
    mixes collection and item. This one knows nothing but what is written in it.
    """

    #: HTTP method: our method, at /nouns
    COLLECTION = {"GET": "get_all", "POST": "post", "PUT": "put_all"}
    #: HTTP method: our method, at /nouns/{noun}
    ITEM = {"GET": "get_one", "PUT": "put", "PATCH": "patch", "DELETE": "delete"}

    def __init__(
        self,
        *,
        children: Mapping[str, "Controller"] | None = None,
        nested: Mapping[str, "Controller"] | None = None,
    ) -> None:
        """:param children: at /nouns/child; :param nested: at /nouns/{noun}/child"""
        self.children = children or {}
        self.nested = nested or {}

    def methods(self, names: Mapping[str, str]) -> dict[str, Callable[..., Any]]:
        """HTTP method: bound handler, for COLLECTION or for ITEM."""
        return {verb: getattr(self, name) for verb, name in names.items() if hasattr(self, name)}

    def resolve(self, parts: list[str]) -> tuple[dict[str, Callable[..., Any]], list[str]]:
        """What serves the rest of a URL, and the variable parts in it; nothing if nobody does."""
        if not parts:
            return self.methods(self.COLLECTION), []
        first, *rest = parts
        if first in self.children:
            return self.children[first].resolve(rest)
        if not rest:
            return self.methods(self.ITEM), [first]
        if rest[0] in self.nested:
            methods, path = self.nested[rest[0]].resolve(rest[1:])
            return methods, [first, *path]
        return {}, []

    @pecan.expose()
    def _route(self, args: list[str], request: Any) -> tuple[Callable[..., Any], list[str]]:
        """Asked by pecan, of the root only."""
        parts = list(args)
        if parts and not parts[-1]:
            parts.pop()  # with and without a slash at the end are the same
        methods, path = self.resolve(parts)
        if not methods or not all(_is_name(part) for part in path):
            raise exception.NotFound()
        verb = "GET" if request.method == "HEAD" else request.method
        if verb not in methods:
            allowed = ", ".join(_allowed(methods))
            if verb == "OPTIONS":
                raise webob.exc.HTTPNoContent(headers={"Allow": allowed})
            raise webob.exc.HTTPMethodNotAllowed(
                detail=f"{_short(verb)} is not possible here; this URL takes {allowed}.",
                headers={"Allow": allowed},
            )
        return methods[verb], path


def _allowed(methods: Iterable[str]) -> list[str]:
    return sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])})


def project_id(part: str) -> str:
    """The id of a project, from a URL. :raises NotFound: no project has such an id"""
    if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", part):
        raise exception.NotFound()
    return part


def _is_name(part: str) -> bool:
    # No name is longer; and an error would repeat it.
    return 0 < len(part) <= 255 and not _UNPRINTABLE.search(part)
