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

"""Every HTTP call to Heat, and what each of its answers means.

One function per call. Whatever a cloud answers, or does not answer, comes out as a value or as a
HeatError; never as an exception of a library. Nothing here is retried, decided or remembered: the
next round of the engine is the retry. Connections are made in clouds.py.
"""

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json as jsonlib
import math
import re
import time
import types
import typing
import urllib.parse

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa_exceptions
from oslo_log import log
import requests

from heat_spreader.engine.core import values

LOG = log.getLogger(__name__)

Outcome = values.Outcome

# Rows of one listing page. Heat spends 2 to 3 ms on a row, so a page stays well within a timeout.
PAGE = 500
# A hundred thousand of them in one project: no Heat has so many, but one gone wild may say so.
MOST_PAGES = 200

# Limits of a project in Heat. Both come as a 400 of a kind that is also used for templates that are
# too large, so that only the words tell them apart (in English: we send no Accept-Language).
_QUOTA = re.compile(r"maximum stacks per tenant|maximum resources per stack|quota", re.IGNORECASE)

# How Heat words the end of an update that could not be finished.
_INTERRUPTED = re.compile(r"cancelled|Engine went down", re.IGNORECASE)

# What Heat accepts as a number is wider; what a count can be is this. Bounded, since the text comes
# from outside.
_WHOLE_NUMBER = re.compile(r"([0-9]{1,18})(\.0{1,18})?")


class HeatError(Exception):
    """A cloud did not do what it was asked.

    :ivar outcome: the kind of failure, which decides what the engine does about it
    :ivar detail: one sentence for a person, with what the cloud itself said
    :ivar status: the HTTP status, None when there was no answer
    :ivar error_type: Heat's own name of the error ("ActionInProgress"), when it gave one
    :ivar quota: the cloud is full for this project; asking for less may succeed
    :ivar maybe_done: the request was a write and may have been carried out all the same
    """

    def __init__(
        self,
        outcome: Outcome,
        detail: str,
        *,
        status: int | None = None,
        error_type: str | None = None,
        quota: bool = False,
        maybe_done: bool = False,
    ) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail
        self.status = status
        self.error_type = error_type
        self.quota = quota
        self.maybe_done = maybe_done


class TooLate(Exception):
    """Nothing was sent: once a token was there, the caller's right to write might have ended."""


@dataclasses.dataclass(frozen=True)
class HeatStack:
    """One Heat stack as Heat shows it.

    :ivar status: Heat's action and status in one word, "UPDATE_COMPLETE"
    :ivar updated_time: when the latest update *began*, to the second; None before the first one
    :ivar parameters: all declared parameters, every value a string; None in a listing. During an
        update they are the new ones with convergence, and the old ones for most of it without
    :ivar owner: name of the user who made it
    """

    id: str
    name: str
    status: str
    status_reason: str
    updated_time: str | None
    tags: tuple[str, ...]
    parameters: Mapping[str, str] | None = None
    owner: str = ""

    @property
    def in_progress(self) -> bool:
        return self.status.endswith("_IN_PROGRESS")

    @property
    def complete(self) -> bool:
        return self.status.endswith("_COMPLETE")

    @property
    def failed(self) -> bool:
        return self.status.endswith("_FAILED")

    @property
    def deleting(self) -> bool:
        return self.status.startswith("DELETE_")

    @property
    def interrupted(self) -> bool:
        """It failed because Heat was kept from finishing, not for anything in the cloud.

        A later update cancelled it, or the Heat engine that was at it died: try again when idle.
        """
        return self.failed and bool(_INTERRUPTED.search(self.status_reason))

    def count(self, parameter: str) -> int:
        """The value of the count parameter; during an update it may still be the old one.

        :raises HeatError: REJECTED, when the template does not declare it (Heat would accept and
            ignore an update of it) or when it does not hold a whole number
        """
        if self.parameters is None:
            raise ValueError("a Heat stack from a listing has no parameters")
        if parameter not in self.parameters:
            declared = ", ".join(sorted(p for p in self.parameters if not p.startswith("OS::")))
            raise HeatError(
                Outcome.REJECTED,
                f"The template of Heat stack {self.name} declares no parameter '{parameter}'; "
                f"it declares: {declared or 'none'}",
            )
        value = self.parameters[parameter]
        match = _WHOLE_NUMBER.fullmatch(value)
        if not match:
            raise HeatError(
                Outcome.REJECTED,
                f"Parameter '{parameter}' of Heat stack {self.name} is "
                f"'{one_line(value, 40)}', which is not a whole number",
            )
        return int(match[1])


# -- What each answer means ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Answer:
    """An exception taken apart: what the rows of the table look at."""

    exc: BaseException
    who: str  # was asked: "Heat" or "Keystone"
    status: int | None  # None: no answer came
    error_type: str  # Heat's name of the error, or ""
    said: str  # the words of whoever answered, in one line
    names_a_stack: bool  # the request was about one existing Heat stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    """A kind of answer, and what it means. What is None or empty matches everything."""

    exc: tuple[type[BaseException], ...] = ()
    who: str | None = None
    status: Container[int | None] | None = None
    error_type: str | None = None
    words: re.Pattern[str] | None = None
    names_a_stack: bool | None = None

    outcome: Outcome
    why: str  # the sentence a person reads
    advice: str = ""  # and what that person can do, after what was said
    quota: bool = False

    def matches(self, answer: _Answer) -> bool:
        return (
            (not self.exc or isinstance(answer.exc, self.exc))
            and self.who in (None, answer.who)
            and (self.status is None or answer.status in self.status)
            and self.error_type in (None, answer.error_type)
            and (self.words is None or self.words.search(answer.said) is not None)
            and self.names_a_stack in (None, answer.names_a_stack)
        )


# The first row that matches decides.
_TABLE = (
    # No answer: nobody can tell whether the cloud works, so it counts as evidence that it is away.
    _Row(
        exc=(ksa_exceptions.SSLError,),
        outcome=Outcome.UNREACHABLE,
        why="{who} cannot be trusted over TLS",
        advice="Its certificate has to be for this host name, of today, and by an authority that is "
        "public or given as 'cacert' {where}",
    ),
    _Row(
        # keystoneauth gives this for a read timeout too: the request may well have arrived.
        exc=(ksa_exceptions.ConnectTimeout,),
        outcome=Outcome.UNREACHABLE,
        why="{who} did not answer in time",
    ),
    _Row(
        exc=(ksa_exceptions.ConnectFailure,),
        outcome=Outcome.UNREACHABLE,
        why="{who} cannot be reached",
    ),
    # A proxy found nobody behind it; Heat also says 503 when its own Keystone is away.
    _Row(
        status=(502, 503, 504),
        outcome=Outcome.UNREACHABLE,
        why="{who} is down behind its address",
    ),
    # The cloud asks for patience, whoever in it says so.
    _Row(
        status=(408, 425, 429),
        outcome=Outcome.BUSY,
        why="{who} asks to come again later",
    ),
    # Credentials and addresses that clouds.yaml has wrong: an operator's fault, not the cloud's, so
    # nothing may be moved away because of it. These stand before the rows on Heat's 4xx, since a 404
    # of Keystone's is a wrong auth_url.
    _Row(
        exc=(ksa_exceptions.EndpointNotFound,),
        outcome=Outcome.REFUSING,
        why="Keystone's catalog has no orchestration endpoint for this region",
    ),
    _Row(
        exc=(
            ksa_exceptions.AuthorizationFailure,
            ksa_exceptions.AuthPluginException,
            ksa_exceptions.MissingAuthMethods,
        ),
        outcome=Outcome.REFUSING,
        why="The credentials {where} are not complete",
    ),
    _Row(
        exc=(ksa_exceptions.DiscoveryFailure,),
        outcome=Outcome.REFUSING,
        why="The auth_url {where} does not lead to a Keystone",
    ),
    _Row(
        who="Keystone",
        status=range(300, 400),
        outcome=Outcome.REFUSING,
        why="Keystone's auth_url {where} redirects to another address, which is not followed",
    ),
    _Row(
        who="Keystone",
        status=range(400, 500),
        outcome=Outcome.REFUSING,
        why="Keystone does not accept the credentials {where}",
    ),
    _Row(
        status=(401,),
        outcome=Outcome.REFUSING,
        why="Heat does not accept our token",
    ),
    # A full project; before 403 and 400, which are what it looks like.
    _Row(
        status=(400, 403, 413),
        words=_QUOTA,
        outcome=Outcome.BUSY,
        why="The cloud is full for this project",
        quota=True,
    ),
    _Row(
        status=(403,),
        outcome=Outcome.REFUSING,
        why="Heat does not allow this to our credentials",
    ),
    # Never a "later": the name stays taken until somebody acts. create_stack looks whose it is.
    _Row(
        status=(409,),
        error_type="StackExists",
        outcome=Outcome.REJECTED,
        why="The name is taken in this cloud",
    ),
    _Row(
        status=(409,),
        outcome=Outcome.BUSY,
        why="Heat is at work on this Heat stack",
    ),
    # The same of one that is being deleted and, without convergence, of one that is being created.
    _Row(
        status=(400,),
        error_type="NotSupported",
        words=re.compile("non-COMPLETE stack|when it is deleting"),
        outcome=Outcome.BUSY,
        why="Heat is at work on this Heat stack",
    ),
    # The only 404 that means "this Heat stack does not exist".
    _Row(
        status=(404,),
        error_type="EntityNotFound",
        names_a_stack=True,
        outcome=Outcome.MISSING,
        why="The Heat stack does not exist",
    ),
    _Row(
        status=(404,),
        error_type="EntityNotFound",
        outcome=Outcome.REJECTED,
        why="The template refers to something that this cloud does not have",
    ),
    # During an update Heat replaces rows that it is reading for us.
    _Row(
        status=(404,),
        error_type="NotFound",
        outcome=Outcome.BUSY,
        why="Heat was changing what it was asked for",
    ),
    # A 404 without Heat's signature is a proxy's or another program's. The stack may be fine.
    _Row(
        status=(404,),
        outcome=Outcome.SICK,
        why="The orchestration endpoint does not lead to a Heat",
    ),
    _Row(
        status=range(300, 400),
        outcome=Outcome.SICK,
        why="The orchestration endpoint redirects to another address, which is not followed",
    ),
    _Row(
        status=range(400, 500),
        outcome=Outcome.REJECTED,
        why="Heat rejects the request",
    ),
    # Includes an engine that is down behind a running API: 500 after rpc_response_timeout.
    _Row(
        status=range(500, 600),
        outcome=Outcome.SICK,
        why="{who} fails inside",
    ),
    # Garbage: not HTTP, not JSON, JSON of another shape, an endless body.
    _Row(
        outcome=Outcome.SICK,
        why="The answer of {who} cannot be understood",
    ),
)


def classify(
    exc: BaseException,
    *,
    keystone: bool = False,
    names_a_stack: bool = True,
    where: str = "in clouds.yaml",
) -> HeatError:
    """Tell what an exception from a request means.

    :param keystone: it came while authenticating, before Heat was asked
    :param names_a_stack: the request was about one existing Heat stack
    :param where: the credentials are to be found
    """
    if isinstance(exc, HeatError):
        return exc
    answer = _take_apart(exc, keystone, names_a_stack)
    row = next(row for row in _TABLE if row.matches(answer))
    detail = row.why.format(who=answer.who, where=where)
    if answer.status is not None:
        detail += f" (HTTP {answer.status})"
    if answer.said:
        detail += f": {answer.said}"
    if row.advice:
        detail += f". {row.advice.format(where=where)}"
    return HeatError(
        row.outcome,
        detail,
        status=answer.status,
        error_type=answer.error_type or None,
        quota=row.quota,
    )


def _take_apart(exc: BaseException, keystone: bool, names_a_stack: bool) -> _Answer:
    if isinstance(exc, ksa_exceptions.DiscoveryFailure):
        # keystoneauth hides why it found no Keystone. A dead one is not a wrong address; a 404 is.
        hidden = exc.__context__
        if isinstance(hidden, ksa_exceptions.ConnectionError) or (
            isinstance(hidden, ksa_exceptions.HttpError) and hidden.http_status != 404
        ):
            exc = hidden
    elif keystone and type(exc) is Exception:
        # How it says that there is no password.
        exc = ksa_exceptions.AuthorizationFailure(str(exc))
    response = getattr(exc, "response", None)
    if response is not None and response.url and "/auth/tokens" in response.url:
        keystone = True  # a token ran out and keystoneauth went for a new one by itself
    error_type = ""
    if isinstance(exc, ksa_exceptions.HttpError):
        error_type, said = _said(response)
    elif isinstance(exc, ksa_exceptions.UnknownConnectionError):
        said = one_line(exc.original)
    elif isinstance(exc, ksa_exceptions.ConnectionError):
        said = _cause_of(exc)
    elif response is not None and 300 <= response.status_code < 400:
        said = one_line(response.headers.get("Location", ""))
    elif isinstance(exc, (ksa_exceptions.ClientException, _Unexpected)):
        said = one_line(exc)
    else:
        said = one_line(f"{type(exc).__name__}: {exc}")
    return _Answer(
        exc=exc,
        who="Keystone" if keystone else "Heat",
        status=None if response is None else response.status_code,
        error_type=error_type,
        said=said,
        names_a_stack=names_a_stack,
    )


def _said(response: requests.Response | None) -> tuple[str, str]:
    """Heat's name of an error and its words; Keystone words its errors alike, without the name."""
    try:
        error = jsonlib.loads(response.content)["error"]  # type: ignore[union-attr]
        error_type = one_line(error.get("type") or "", 60)
        # Heat keeps to itself what went wrong inside, and tells the name alone.
        return error_type, one_line(error.get("message") or error_type)
    except Exception:  # any body at all may come here: HTML, nothing, another JSON
        return "", "" if response is None else one_line(response.reason or "", 60)


def one_line(text: object, limit: int = 400) -> str:
    """Text from outside, fit for a log and a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception and all that it came from; requests and urllib3 nest by three different ways."""
    seen: list[BaseException] = []
    waiting: list[object] = [exc]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, BaseException) and not any(item is other for other in seen):
            seen.append(item)
            yield item
            waiting += [item.__cause__, item.__context__, getattr(item, "reason", None)]
            waiting += item.args


def _cause_of(exc: BaseException) -> str:
    """Address and innermost cause: "127.0.0.1:8004: Connection refused"."""
    address = cause = ""
    for link in _chain(exc):
        request = getattr(link, "request", None)
        if not address and request is not None:
            address = urllib.parse.urlsplit(request.url or "").netloc.rpartition("@")[2]
        if isinstance(link, OSError) and link.strerror:
            cause = link.strerror
        elif type(link).__name__ == "NameResolutionError":
            cause = "the host name cannot be resolved"
        elif type(link).__name__ == "RemoteDisconnected":
            cause = "the connection was closed without an answer"
    return one_line(": ".join(part for part in (address, cause) if part) or exc)


# urllib3 raises these before it has sent anything.
_NEVER_SENT = frozenset({"NewConnectionError", "NameResolutionError", "ConnectTimeoutError"})


def _sent(exc: BaseException) -> bool:
    return not any(type(link).__name__ in _NEVER_SENT for link in _chain(exc))


# -- One request -----------------------------------------------------------------------------------


def authenticate(cloud: adapter.Adapter) -> None:
    """Make sure that there is a valid token, and an address for Heat; asks Keystone if need be."""
    try:
        if not cloud.get_endpoint():
            raise ksa_exceptions.EndpointNotFound
    except Exception as exc:  # as broad as in _call, and for the same reason
        raise _advised(cloud, classify(exc, keystone=True, where=_where(cloud))) from exc


def log_in(cloud: adapter.Adapter) -> None:
    """Make sure that there is a valid token, whatever Keystone's catalog has."""
    try:
        cloud.get_token()
    except Exception as exc:  # as broad as in _call, and for the same reason
        raise _advised(cloud, classify(exc, keystone=True, where=_where(cloud))) from exc


def _where(cloud: adapter.Adapter) -> str:
    return str(getattr(cloud, "where", "in clouds.yaml"))


def _advised(cloud: adapter.Adapter, error: HeatError) -> HeatError:
    """Add what the owner of a cloud can do about a refusal."""
    advice = getattr(cloud, "advice", "")
    if advice and error.outcome is Outcome.REFUSING and advice not in error.detail:
        error.detail = f"{error.detail}. {advice}"
        error.args = (error.detail,)
    return error


def _call(
    cloud: adapter.Adapter,
    method: str,
    path: str,
    *,
    params: Mapping[str, str | int] | None = None,
    json: object = None,
    expect: int = 200,
    names_a_stack: bool = True,
    timeout: float | None = None,
    not_after: float = math.inf,
) -> requests.Response:
    """Ask Heat once.

    Never again by itself: a repeated PATCH is a second update, which cancels the first one, and a
    repeated POST a second Heat stack. No redirect is followed: our token is for this host only.

    :param not_after: on the clock ``time.monotonic``; see ``TooLate``
    """
    started = time.monotonic()
    authenticate(cloud)  # on its own, so that its failure is never taken for a lost write
    if time.monotonic() > not_after:
        raise TooLate
    try:
        response = cloud.request(
            path,
            method,
            params=params,
            json=json,
            redirect=False,
            connect_retries=0,
            status_code_retries=0,
            **({} if timeout is None else {"timeout": timeout}),
            log=False,  # keystoneauth would log bodies, and these hold passwords of users
        )
        # Exactly what Heat gives: a login page answers 200 to everything, and has resized nothing.
        if response.status_code != expect:
            raise _Unexpected(response)
    except Exception as exc:
        # Broad on purpose: a hostile or broken server can raise anything inside the libraries.
        error = _advised(cloud, classify(exc, names_a_stack=names_a_stack, where=_where(cloud)))
        error.maybe_done = (
            method != "GET"
            and _sent(exc)
            and (error.status is None or error.status < 300 or error.status >= 500)
        )
        LOG.debug(
            "%s %s failed after %.3f s: %s: %s",
            method,
            path,
            time.monotonic() - started,
            error.outcome,
            error.detail,
        )
        raise error from exc
    LOG.debug(
        "%s %s: %d in %.3f s", method, path, response.status_code, time.monotonic() - started
    )
    return response


class _Unexpected(Exception):
    """An answer that is no error and yet not the one that Heat gives; shaped for classify()."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"{response.reason}, with {response.headers.get('Content-Type')}")
        self.response = response


_T = typing.TypeVar("_T")


def _read(response: requests.Response, shape: Callable[[typing.Any], _T]) -> _T:
    """The JSON of an answer in our shape. Anything that does not fit is Heat's fault: SICK."""
    try:
        return shape(response.json())
    except Exception as exc:
        error = classify(exc)
        error.status = response.status_code
        error.maybe_done = response.request.method != "GET"
        raise error from exc


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text was expected")
    return value


def _heat_stack(body: Mapping[str, typing.Any]) -> HeatStack:
    parameters = body.get("parameters")
    return HeatStack(
        id=_text(body["id"]),
        name=_text(body["stack_name"]),
        status=_text(body["stack_status"]),
        status_reason=one_line(body.get("stack_status_reason") or ""),
        updated_time=None if body.get("updated_time") is None else _text(body["updated_time"]),
        tags=tuple(_text(tag) for tag in body.get("tags") or ()),
        parameters=None
        if parameters is None
        # Always text already, in every Heat we met; a parameter without a value is null.
        else types.MappingProxyType(
            {key: "" if value is None else str(value) for key, value in parameters.items()}
        ),
        owner=one_line(body.get("stack_owner") or "", 80),
    )


def _path(name: str, heat_stack_id: str | None = None, action: str = "") -> str:
    parts = ["stacks", name] + [part for part in (heat_stack_id, action) if part]
    if "." in parts or ".." in parts:  # the one thing that quoting does not keep in its place
        raise HeatError(Outcome.REJECTED, f"No Heat stack can be called '{name}'")
    return "/" + "/".join(urllib.parse.quote(part, safe="") for part in parts)


def _joined(tags: Iterable[str]) -> str | None:
    """Heat takes tags as one string with commas, and stores an empty string as a tag."""
    tags = list(tags)
    for tag in tags:
        if not tag or "," in tag:
            raise HeatError(Outcome.REJECTED, f"Heat cannot store the tag '{one_line(tag, 80)}'")
    return ",".join(tags) or None


# -- Reading ---------------------------------------------------------------------------------------


def list_stacks(
    cloud: adapter.Adapter, tag: str | None, *, timeout: float | None = None
) -> list[HeatStack]:
    """All Heat stacks of the project that carry the tag (None: all of them), newest first.

    Nested stacks are left out, and parameters are not part of a listing.

    :param timeout: seconds for each page; None: as for every other request to this cloud
    """
    found: dict[str, HeatStack] = {}
    # No other filter beside tags: Heat then looks for it in the tag table and answers 500.
    params: dict[str, str | int] = {"limit": PAGE} | ({"tags": tag} if tag is not None else {})
    for _ in range(MOST_PAGES):
        response = _call(
            cloud, "GET", "/stacks", params=params, names_a_stack=False, timeout=timeout
        )
        page = _read(response, lambda answer: [_heat_stack(item) for item in answer["stacks"]])
        new = [heat_stack for heat_stack in page if heat_stack.id not in found]
        found.update((heat_stack.id, heat_stack) for heat_stack in new)
        # Nothing new on a full page: the marker has been purged meanwhile, and Heat starts over.
        if len(page) < PAGE or not new:
            # With convergence Heat goes on listing a deleted stack for a moment.
            return [hs for hs in found.values() if hs.status != "DELETE_COMPLETE"]
        params["marker"] = page[-1].id
    raise HeatError(Outcome.SICK, f"Heat's listing does not end: {len(found)} Heat stacks so far")


def get_stack(
    cloud: adapter.Adapter, name_or_id: str, heat_stack_id: str | None = None
) -> HeatStack | None:
    """One Heat stack with its parameters; None if there is none, or if it has been deleted.

    With a name *and* an id it costs one request, else two.
    """
    name = name_or_id
    # Without outputs, which make Heat answer 404 now and then during an update. With convergence
    # it is worse: reading them writes to the resource, the worker that updates it finds it changed
    # under its hands, and the update never ends.
    params = {"resolve_outputs": "False"}
    try:
        if heat_stack_id is None:
            name, heat_stack_id = _look_up(cloud, name_or_id)
        response = _call(cloud, "GET", _path(name, heat_stack_id), params=params)
    except HeatError as exc:
        if exc.outcome is Outcome.MISSING:
            return None
        raise
    heat_stack = _read(response, lambda answer: _heat_stack(answer["stack"]))
    if heat_stack.parameters is None:
        raise HeatError(Outcome.SICK, f"Heat shows no parameters of Heat stack {heat_stack.name}")
    # Heat shows a deleted stack to those who know its id, until it is purged.
    return None if heat_stack.status == "DELETE_COMPLETE" else heat_stack


def _look_up(cloud: adapter.Adapter, name_or_id: str) -> tuple[str, str]:
    """Name and id. Heat answers with a redirect; we take its path and stay on our own address."""
    response = _call(cloud, "GET", _path(name_or_id), expect=302)
    location = response.headers.get("Location", "")
    match = re.search(r"/stacks/([^/?#]+)/([^/?#]+)(?:[?#]|$)", location)
    if not match:
        raise classify(_Unexpected(response))
    return urllib.parse.unquote(match[1]), urllib.parse.unquote(match[2])


def find_stack(cloud: adapter.Adapter, tag: str) -> HeatStack | None:
    """The Heat stack that carries the tag, with its parameters; to be asked before a second create.

    Should several carry it, one that lives is meant rather than one that is being deleted, and then
    the oldest.
    """
    carriers = list_stacks(cloud, tag)
    carriers = [heat_stack for heat_stack in carriers if not heat_stack.deleting] or carriers
    return get_stack(cloud, carriers[-1].name, carriers[-1].id) if carriers else None


def validate_template(
    cloud: adapter.Adapter,
    template: str | Mapping[str, typing.Any],
    environment: str | Mapping[str, typing.Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> set[str]:
    """The names of the parameters that the template declares.

    :raises HeatError: REJECTED with Heat's words, when Heat does not accept the template
    """
    body = {"template": template} | _optional(environment=environment, files=files)
    response = _call(cloud, "POST", "/validate", json=body, names_a_stack=False)
    return _read(response, lambda answer: {_text(p) for p in answer.get("Parameters") or ()})


def _optional(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value}


# -- Writing ---------------------------------------------------------------------------------------


def create_stack(
    cloud: adapter.Adapter,
    name: str,
    template: str | Mapping[str, typing.Any],
    environment: str | Mapping[str, typing.Any] | None,
    files: Mapping[str, str] | None,
    parameters: Mapping[str, typing.Any],
    tags: Sequence[str],
    timeout_mins: int | None = None,
    not_after: float = math.inf,
) -> str:
    """Create a Heat stack and return its id.

    When a Heat stack of this name with all of these tags is there already, it is an earlier request
    of ours that we took for lost: its id is returned.

    :raises TooLate: nothing was sent
    """
    body: dict[str, object] = {
        "stack_name": name,
        "template": template,
        "parameters": dict(parameters),
        "disable_rollback": True,  # a rollback would bring back a count that nobody wants now
    }
    body |= _optional(
        environment=environment, files=files, tags=_joined(tags), timeout_mins=timeout_mins
    )
    try:
        response = _call(
            cloud,
            "POST",
            "/stacks",
            json=body,
            expect=201,
            names_a_stack=False,
            not_after=not_after,
        )
    except HeatError as exc:
        if exc.error_type != "StackExists" or not tags:
            raise
        existing = get_stack(cloud, name)
        if existing is None or existing.deleting:
            raise HeatError(
                Outcome.BUSY,
                f"An earlier Heat stack {name} is being deleted",
                status=exc.status,
                error_type=exc.error_type,
            ) from exc
        if not set(tags) <= set(existing.tags):
            raise
        return existing.id
    return _read(response, lambda answer: _text(answer["stack"]["id"]))


def resize(
    cloud: adapter.Adapter,
    name: str,
    heat_stack_id: str,
    count_parameter: str,
    count: int,
    timeout_mins: int | None = None,
    *,
    with_template: bool = False,
    not_after: float = math.inf,
) -> None:
    """Set the count parameter and nothing else; Heat keeps template, parameters and tags.

    Heat carries it out later, and answers 202 with a page of HTML. Before calling this, see with
    ``HeatStack.count`` that the template declares the parameter (Heat accepts and ignores unknown
    ones) and that the value differs (the same value is a full update all the same), and that no
    update is in progress (a second one is refused, or cancels the first).

    :param with_template: send Heat the template it has. Without convergence it takes no update of
        one that failed before its first update, in its creation or in a check, unless it is given one
    :raises TooLate: nothing was sent
    """
    body: dict[str, typing.Any] = {"parameters": {count_parameter: count}}
    body |= _optional(timeout_mins=timeout_mins)
    if with_template:
        response = _call(cloud, "GET", _path(name, heat_stack_id, "template"))
        body["template"] = _read(response, dict)
    path = _path(name, heat_stack_id)
    _call(cloud, "PATCH", path, json=body, expect=202, not_after=not_after)


def delete_stack(
    cloud: adapter.Adapter, name: str, heat_stack_id: str, not_after: float = math.inf
) -> None:
    """Have the Heat stack deleted; one that is gone already is fine.

    :raises TooLate: nothing was sent
    """
    path = _path(name, heat_stack_id)
    try:
        _call(cloud, "DELETE", path, expect=204, not_after=not_after)
    except HeatError as exc:
        if exc.outcome is not Outcome.MISSING:
            raise


def check_stack(
    cloud: adapter.Adapter, name: str, heat_stack_id: str, not_after: float = math.inf
) -> None:
    """Have Heat compare its records with what exists; the result shows in the stack's status.

    :raises TooLate: nothing was sent
    """
    path = _path(name, heat_stack_id, "actions")
    response = _call(cloud, "POST", path, json={"check": None}, not_after=not_after)
    _read(response, lambda answer: None)  # it is "null"; a login page is not even that
