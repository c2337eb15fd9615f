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

"""Simulated Heats, and the wire between them and the engines.

They do what ``fake_heat.FakeHeat`` does, told in plain values: a scenario may cost milliseconds, and
JSON and WSGI would take most of them. A wire is what ``clouds.Clouds.connect`` returns; it raises what
keystoneauth raises, so that the product's classification is at work. Nothing of the product is
imported here.
"""

from collections.abc import Callable
import dataclasses
import http.client
import json as jsonlib
import math
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
import requests
import urllib3.exceptions

from heat_spreader.tests.simulation import schedule

# An update that pre-empts one that has run for so long makes the whole thing fail; see FakeHeat.
CANCELS_AFTER = 1.0
# With convergence a deleted stack is listed for so long.
LINGERS = 1.0


class Answer:
    """As much of ``requests.Response`` as a client looks at."""

    def __init__(
        self,
        status: int,
        body: Any = None,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        url: str = "http://heat.test/",
    ) -> None:
        self.status_code = status
        self.reason = http.client.responses[status]
        self.headers = headers or {"Content-Type": "application/json"}
        self.body = body
        self.url = url
        self.request = self
        self.method = method
        self.history: list[Any] = []

    @property
    def content(self) -> bytes:
        return self.text.encode()

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else jsonlib.dumps(self.body)

    def json(self) -> Any:
        if isinstance(self.body, str):
            raise requests.exceptions.JSONDecodeError("Expecting value", self.body, 0)
        return self.body


def page(status: int) -> Answer:
    """An answer in HTML, as webob and proxies give it."""
    return Answer(
        status, "<html><body></body></html>", headers={"Content-Type": "text/html; charset=UTF-8"}
    )


def refusal(status: int, error_type: str, message: str = "") -> Answer:
    """An error as Heat words it."""
    title = http.client.responses[status]
    error = {"type": error_type, "traceback": None, "message": message}
    return Answer(status, {"code": status, "title": title, "explanation": title, "error": error})


def timestamp(seconds: int) -> str:
    """As Heat writes it, to the second."""
    return f"2100-01-01T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}Z"


@dataclasses.dataclass(eq=False)
class HeatStack:
    """A Heat stack as a Heat keeps it.

    :ivar sure: units that run, whatever comes of the work that is under way
    :ivar since: when the work began
    :ivar end: how the work will end
    :ivar busy_until: workers of a cancelled update still run
    :ivar before: the count that is shown until the update has ended
    :ivar touches: who changed it, the latest last: the time and whatever stands for who
    """

    id: str
    name: str
    number: int
    tags: tuple[str, ...]
    count: int
    created: float
    sure: int = 0
    updated: int | None = None
    deleted: float | None = None
    action: str = "CREATE"
    status: str = "IN_PROGRESS"
    reason: str = ""
    since: float = 0.0
    end: tuple[str, str] = ("COMPLETE", "")
    work: int = 0
    busy_until: float = 0.0
    before: int | None = None
    touches: list[tuple[float, Any]] = dataclasses.field(default_factory=list)

    @property
    def busy(self) -> bool:
        return self.status == "IN_PROGRESS"

    @property
    def live(self) -> bool:
        return self.deleted is None


@dataclasses.dataclass(eq=False)
class Trouble:
    """A fault of one cloud.

    :ivar kind: a key of ``WIRE``, or what a Heat does by itself
    :ivar until: when it ends by itself
    :ivar left: for how many requests it is good
    :ivar methods: requests with these methods only
    :ivar seconds: for those that have a length of their own
    """

    kind: str
    until: float = math.inf
    left: int = 10**9
    methods: tuple[str, ...] = ("GET", "POST", "PATCH", "DELETE")
    seconds: float = 0.0
    every: float = 0.0
    begun: float = 0.0


class Heat:
    """One cloud's Heat.

    :ivar spoiled: reasons for which the next creates and updates end as FAILED
    :ivar duration: seconds that work takes: the least and the most
    :ivar capacity: units of one Heat stack that fit here; more of them end as FAILED
    :ivar changed: called with the Heat stack, and with who did it, whenever something has changed
    """

    def __init__(
        self, name: str, clock: schedule.Schedule, *, convergence: bool, new_id: Callable[[], str]
    ) -> None:
        self.name = name
        self.schedule = clock
        self.random = clock.random
        self.convergence = convergence
        self.new_id = new_id
        self.duration = (0.3, 3.0)
        self.capacity: int | None = None
        self.stacks: dict[str, HeatStack] = {}
        self.troubles: list[Trouble] = []
        self.spoiled: list[str] = []
        self.changed: Callable[[Heat, HeatStack, Any, str], None] = lambda *_: None
        self.suffered: Callable[[str], None] = lambda kind: None

    def live(self) -> list[HeatStack]:
        return [stack for stack in self.stacks.values() if stack.deleted is None]

    def named(self, name: str) -> HeatStack | None:
        for stack in self.stacks.values():
            if stack.name == name and stack.deleted is None:
                return stack
        return None

    # --- what is asked ------------------------------------------------------------------------------

    def answer(self, method: str, path: str, params: Any, body: Any, who: Any) -> Answer:
        """Do what a request asks for."""
        parts = path.split("/")
        if len(parts) == 2:
            if path == "/validate":
                return Answer(200, {"Parameters": {"count": {}}}, method=method)
            return self._list(params or {}) if method == "GET" else self._create(body, who)
        if len(parts) == 3:
            stack = self.stacks.get(parts[2]) or self.named(parts[2])
            if stack is None:
                return self._absent(parts[2])
            found = page(302)
            found.headers["Location"] = (
                f"http://{self.name}.test/v1/p/stacks/{stack.name}/{stack.id}"
            )
            return found
        stack = self.stacks.get(parts[3])
        if (
            stack is None
            or stack.name != parts[2]
            or (stack.deleted is not None and method != "GET")
        ):
            return self._absent(parts[2])
        if method == "GET":
            return Answer(200, {"resources": {}}) if parts[4:] else self._show(stack)
        if len(parts) == 5:
            self._begin(stack, "CHECK", who)
            return Answer(200, None, method=method)
        if method == "PATCH":
            count = int(body["parameters"]["count"])
            return self._update(stack, count, who, template=bool(body.get("template")))
        if stack.action != "DELETE" or not stack.busy:
            stack.sure = 0
            self._begin(stack, "DELETE", who)
        return Answer(204, "", method=method)

    def _absent(self, name: str) -> Answer:
        return refusal(404, "EntityNotFound", f"The Stack ({name}) could not be found.")

    def _list(self, params: Any) -> Answer:
        wanted = params.get("tags")
        now = self.schedule.now
        rows = []
        for stack in reversed(self.stacks.values()):
            if stack.deleted is not None and not (
                self.convergence and now - stack.deleted < LINGERS
            ):
                continue
            if wanted is None or wanted in stack.tags:
                rows.append(self._row(stack))
        return Answer(200, {"stacks": rows})

    def _row(self, stack: HeatStack) -> dict[str, Any]:
        return {
            "id": stack.id,
            "stack_name": stack.name,
            "stack_status": f"{stack.action}_{stack.status}",
            "stack_status_reason": stack.reason,
            "updated_time": None if stack.updated is None else timestamp(stack.updated),
            "tags": stack.tags,
        }

    def _show(self, stack: HeatStack) -> Answer:
        shown = stack.count if stack.before is None else stack.before
        row = self._row(stack)
        row["parameters"] = {"count": str(shown), "OS::stack_id": stack.id}
        return Answer(200, {"stack": row})

    def _create(self, body: Any, who: Any) -> Answer:
        name = body["stack_name"]
        if self.named(name):
            return refusal(409, "StackExists", f"The Stack ({name}) already exists.")
        stack = HeatStack(
            id=self.new_id(),
            name=name,
            number=len(self.stacks),
            tags=tuple((body.get("tags") or "").split(",")),
            count=int(body["parameters"].get("count", 0)),
            created=self.schedule.now,
        )
        self.stacks[stack.id] = stack
        self._begin(stack, "CREATE", who)
        return Answer(201, {"stack": {"id": stack.id, "links": []}}, method="POST")

    def _update(self, stack: HeatStack, count: int, who: Any, template: bool = False) -> Answer:
        if stack.action == "DELETE":
            return refusal(
                400, "NotSupported", "Updating a stack when it is deleting is not supported."
            )
        now = self.schedule.now
        if (
            # Until its first update Heat keeps no template to fall back on.
            stack.updated is None
            and stack.status != "COMPLETE"
            and not self.convergence
            and not template
        ):
            return refusal(
                400, "NotSupported", "PATCH update to non-COMPLETE stack is not supported."
            )
        if stack.busy and not self.convergence:
            return refusal(
                409,
                "ActionInProgress",
                f"Stack {stack.name} already has an action ({stack.action}) in progress.",
            )
        running = stack.busy and now - stack.since >= CANCELS_AFTER
        cancelled = running or now < stack.busy_until
        if running:
            stack.busy_until = now + self.duration[1]
        if not self.convergence:
            stack.before = stack.count
        stack.count = count
        stack.sure = min(stack.sure, count)
        stack.updated = int(now)
        self._begin(stack, "UPDATE", who)
        if cancelled:
            stack.end = ("FAILED", "resources.group: Stack UPDATE cancelled")
            self.suffered("cancelled")
        return page(202)

    # --- what is done -------------------------------------------------------------------------------

    def _begin(self, stack: HeatStack, action: str, who: Any) -> None:
        stack.action, stack.status = action, "IN_PROGRESS"
        stack.reason = f"Stack {action} started"
        stack.since = self.schedule.now
        stack.touches.append((stack.since, who))
        stack.end = ("COMPLETE", f"Stack {action} completed successfully")
        if action in ("CREATE", "UPDATE"):
            if (
                self.capacity is not None
                and stack.count > max(self.capacity, stack.sure)
                and (action, who) != ("CREATE", "hand")
            ):
                stack.end = ("FAILED", "Resource failed: quota of instances exceeded")
                self.suffered("full")
            elif self.spoiled and who != "hand":
                stack.end = ("FAILED", self.spoiled.pop(0))
                self.suffered("failed")
        stack.work += 1
        work = stack.work
        self.changed(self, stack, who, "begins")
        least, most = self.duration
        self.schedule.at(
            self.schedule.now + self.random.uniform(least, most),
            lambda: self._end(stack, work),
        )

    def _end(self, stack: HeatStack, work: int) -> None:
        if stack.work != work or not stack.busy:
            return
        stack.status, stack.reason = stack.end
        stack.before = None
        if stack.status == "COMPLETE":
            if stack.action == "DELETE":
                stack.deleted = self.schedule.now
            else:
                stack.sure = stack.count
        self.changed(self, stack, None, "ends")

    def restart(self) -> None:
        """The engine of this Heat dies and comes back: what was under way fails, or never ends."""
        for stack in self.live():
            if stack.busy:
                if self.convergence and stack.action != "DELETE":
                    # Nobody goes on with it. Here somebody who has access sends it again, later.
                    stack.work += 1
                    work = stack.work
                    self.suffered("stuck")
                    self.schedule.at(
                        self.schedule.now + self.random.uniform(5, 60),
                        lambda stack=stack, work=work: self._end(stack, work),
                    )
                else:
                    self.suffered("restarted")
                    stack.end = ("FAILED", f"Engine went down during stack {stack.action}")
                    self._end(stack, stack.work)

    def by_hand(self, stack: HeatStack, count: int | None) -> None:
        """Somebody else changes the count; None: deletes the Heat stack."""
        if count is not None:
            self._update(stack, count, "hand")
        elif stack.action != "DELETE":
            stack.sure = 0
            self._begin(stack, "DELETE", "hand")


# --- the wire -------------------------------------------------------------------------------------


def _refuse(wire: "Wire") -> Exception:
    refused = urllib3.exceptions.NewConnectionError(None, "[Errno 111] Connection refused")  # type: ignore[arg-type]
    error = ksa_exceptions.ConnectFailure(f"Unable to establish connection: {refused}")
    error.__cause__ = requests.exceptions.ConnectionError(refused)
    return error


def _broken() -> Exception:
    aborted = http.client.RemoteDisconnected("Remote end closed connection without response")
    error = ksa_exceptions.ConnectFailure(f"Unable to establish connection: {aborted}")
    error.__cause__ = requests.exceptions.ConnectionError(aborted)
    return error


def _timed_out() -> Exception:
    error = ksa_exceptions.ConnectTimeout("Request timed out")
    error.__cause__ = requests.exceptions.ReadTimeout()
    return error


def _unauthorized(url: str = "http://heat.test/") -> Answer:
    message = "The request you have made requires authentication."
    return Answer(
        401, {"error": {"message": message, "code": 401, "title": "Unauthorized"}}, url=url
    )


# Answers that come in the place of the Heat's; nothing is done.
INSTEAD: dict[str, Callable[[], Answer]] = {
    "unauthorized": _unauthorized,
    "forbidden": lambda: refusal(403, "Forbidden", "You are not authorized."),
    "conflict": lambda: refusal(
        409, "ActionInProgress", "Stack already has an action (UPDATE) in progress."
    ),
    "busy": lambda: page(429),
    "error": lambda: refusal(500, "DBConnectionError"),
    "unavailable": lambda: page(503),
    "quota": lambda: refusal(
        403, "Forbidden", "Request limit exceeded: Maximum resources per stack exceeded."
    ),
    "garbage": lambda: page(200),
}
# Carried out seconds after the answer that there was, or without one.
LATE = ("late", "late_hang")
# Those that every cloud may have. What is done with the others is in Wire.request.
WIRE = (
    *INSTEAD,
    "refuse",
    "hang",
    "lose",
    "slow",
    "error_after",
    "late",
    "late_hang",
    "flap",
    "keystone",
    "keystone_slow",
)
# Met by whoever asks for a token, before the request itself.
KEYSTONE = ("keystone", "keystone_slow")


class Wire:
    """The connection of one engine to one cloud: an adapter as far as anybody can tell.

    :ivar sends: called when a request that writes leaves the process
    """

    def __init__(
        self,
        heat: Heat,
        timeout: float,
        sends: Callable[[Heat, str, str, Any, Any], Any],
        arrives: Callable[[Heat, str, str, Any, Any], None],
        cut: Callable[[], bool] = lambda: False,
    ) -> None:
        """:param cut: whether there is no way from here to there now"""
        self._cut = cut
        self.heat = heat
        self._timeout = timeout
        self._sends = sends
        self._arrives = arrives

    def get_endpoint(self, **_: Any) -> str:
        trouble = self._trouble("KEYSTONE")
        if trouble is not None and trouble.kind == "keystone_slow":
            self.heat.schedule.sleep(min(trouble.seconds, self._timeout))
            if trouble.seconds > self._timeout:
                raise _timed_out()
        elif trouble is not None:
            answer = _unauthorized("http://keystone.test/v3/auth/tokens")
            raise ksa_exceptions.from_response(answer, "POST", answer.url)
        return "http://heat.test/v1/p"

    def _trouble(self, method: str) -> Trouble | None:
        """The fault that meets a request, if one does."""
        heat = self.heat
        if self._cut() and method != "KEYSTONE":
            heat.suffered("cut")
            return Trouble("refuse")
        now = heat.schedule.now
        for trouble in heat.troubles:
            if (trouble.kind in KEYSTONE) != (method == "KEYSTONE"):
                continue
            if method != "KEYSTONE" and method not in trouble.methods:
                continue
            if trouble.until <= now or trouble.left <= 0:
                heat.troubles.remove(trouble)
                return self._trouble(method)
            if trouble.kind == "flap" and int((now - trouble.begun) / trouble.every) % 2:
                continue
            trouble.left -= 1
            heat.suffered(trouble.kind)
            return trouble
        return None

    def request(
        self,
        path: str,
        method: str,
        *,
        params: Any = None,
        json: Any = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Answer:
        heat = self.heat
        clock = heat.schedule
        trouble = self._trouble(method)
        kind = trouble.kind if trouble is not None else ""
        seconds = trouble.seconds if trouble is not None else 0.0
        timeout = timeout or self._timeout
        # On the wire from here on: nothing that becomes of the sender holds it back.
        who = self._sends(heat, method, path, json, kind) if method != "GET" else None
        if kind in ("refuse", "flap"):
            clock.sleep(clock.random.uniform(0.001, 0.02))
            raise _refuse(self)
        actor = clock.current
        if actor is None:
            raise RuntimeError("only actors ask Heats")
        ticket = actor.ticket

        def arrive() -> None:
            if kind in INSTEAD:
                answer = INSTEAD[kind]()
            else:
                if method != "GET":
                    self._arrives(heat, method, path, json, who)
                answer = heat.answer(method, path, params, json, who)
                if kind in LATE:
                    return
                if kind == "error_after":
                    answer = refusal(500, "MessagingTimeout")
            answer.method = method
            clock.wake(
                actor,
                ticket,
                "broken" if kind == "lose" else answer,
                clock.random.uniform(0.002, 0.03) + (seconds if kind == "slow" else 0.0),
            )

        came = clock.random.uniform(0.002, 0.03)
        if kind != "hang":
            clock.at(clock.now + came + (seconds if kind in LATE else 0.0), arrive)
        if kind == "late":
            # As when Heat's engine is down behind its API: the request waits in a queue.
            clock.sleep(min(timeout * 0.9, seconds * 0.5))
            answer: Any = refusal(500, "MessagingTimeout")
            answer.method = method
        else:
            answer = clock.wait(timeout)
        if answer is None:
            raise _timed_out()
        if answer == "broken":
            raise _broken()
        if answer.status_code >= 400:
            raise ksa_exceptions.from_response(answer, method, answer.url)
        return answer
