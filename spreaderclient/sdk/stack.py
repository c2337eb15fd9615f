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

"""A multi-cloud stack: a count of units, its members, and how far the service is with it."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import time
from typing import Any
from typing import Self

from keystoneauth1 import adapter
from openstack import exceptions
from openstack import resource

from spreaderclient.sdk import errors
from spreaderclient.sdk import traces

# The types of event that change what should run where.
DECISIONS = frozenset(
    (
        "stack.create",
        "stack.update",
        "stack.delete",
        "stack.retry",
        "stack.failover",
        "stack.force-failover",
        "stack.recall",
        "stack.failback",
        "weight.update",
        "member.update",
        "member.delete",
        "member.full",
    )
)


class Stack(resource.Resource):
    resources_key = "stacks"
    base_path = "/stacks"

    allow_create = True
    allow_fetch = True
    allow_commit = True
    allow_delete = True
    allow_list = True
    commit_method = "PATCH"

    _max_microversion = "1.0"
    _query_mapping = resource.QueryParameters(
        "all_projects", "cloud", "name", "sort", "status", "tag"
    )

    # What the user wants.
    description = resource.Body("description")
    count = resource.Body("count", type=int)
    #: The parameter of the template that carries a member's share.
    count_parameter = resource.Body("count_parameter")
    min_clouds = resource.Body("min_clouds", type=int)
    #: "exact", or "ceil": every cloud gets at least its part.
    rounding = resource.Body("rounding")
    #: Template, environment and files are in a fetched stack and not in a listed one.
    template = resource.Body("template")
    environment = resource.Body("environment")
    files = resource.Body("files", type=dict)
    parameters = resource.Body("parameters", type=dict)
    tags = resource.Body("tags", type=list)
    timeout_mins = resource.Body("timeout_mins", type=int)
    #: ``{"rule": even|proportional|ordered|hold, "toleration": seconds}``
    failover = resource.Body("failover", type=dict)
    #: ``{"mode": auto|manual, "stable": seconds, "batch": number or None}``
    failback = resource.Body("failback", type=dict)
    #: How many units a failover may add elsewhere; None: all that are out of sight.
    surge = resource.Body("surge")
    #: ``{"mode": immediate|gradual|on-demand, "step": units}``
    rebalance = resource.Body("rebalance", type=dict)
    #: ``{"drift": heal|report|ignore, "missing": recreate|hold|move, "stuck": report|retry}``
    repair = resource.Body("repair", type=dict)
    #: One dictionary per cloud, with the fields of :class:`spreaderclient.sdk.member.Member`.
    members = resource.Body("members", type=list)

    # What the service says.
    project_id = resource.Body("project_id")
    user_id = resource.Body("user_id")
    status = resource.Body("status")
    status_reason = resource.Body("status_reason")
    generation = resource.Body("generation", type=int)
    observed_generation = resource.Body("observed_generation", type=int)
    #: ``{desired, assigned, unassigned, shortfall, excess, confirmed, in_doubt, bound, distance}``
    ledger = resource.Body("ledger", type=dict)
    created_at = resource.Body("created_at")
    updated_at = resource.Body("updated_at")

    #: Set to a quoted generation, it makes the next commit fail when somebody else was faster.
    if_match = resource.Header("If-Match")

    def create(self, session: adapter.Adapter, *args: Any, **kwargs: Any) -> Self:
        """Make it; no trace of the request shows parameters, which may be hidden ones."""
        return super().create(traces.without_bodies(session), *args, **kwargs)

    def commit(self, session: adapter.Adapter, *args: Any, **kwargs: Any) -> Self:
        """Change it; no trace of the request shows parameters, which may be hidden ones."""
        secret = ("environment", "files", "parameters")
        return super().commit(traces.quiet(session, self._body.dirty, *secret), *args, **kwargs)

    def set_weights(
        self,
        session: adapter.Adapter,
        weights: Mapping[str, str],
        *,
        generation: int | None = None,
    ) -> Self:
        """Replace the weights of all members at once; a member that is not named gets 0.

        :param weights: cloud name to weight. Decimals as strings: a binary float cannot hold 0.1
        :param generation: change nothing unless the stack is still at this generation
        """
        response = session.put(
            f"{self.base_path}/{self.id}/weights",
            json={"weights": dict(weights)},
            headers={} if generation is None else {"If-Match": f'"{generation}"'},
            microversion=self._get_microversion(session),
        )
        self._translate_response(response)
        return self

    def check(self, session: adapter.Adapter) -> Self:
        """Have each Heat compare its records with what exists; :meth:`wait` waits for it, too."""
        return self._act(session, "check")

    def retry(self, session: adapter.Adapter) -> Self:
        """Have tried again at once what failed, did not fit, was fought over or is missing."""
        return self._act(session, "retry")

    def failback_now(self, session: adapter.Adapter) -> Self:
        """Have units go back to clouds that are healthy again, without any more waiting."""
        return self._act(session, "failback")

    def force_failover(self, session: adapter.Adapter) -> Self:
        """Have it fail over from what is unreachable now, brake or not; for administrators."""
        return self._act(session, "force-failover")

    def _act(self, session: adapter.Adapter, action: str) -> Self:
        response = session.post(
            f"{self.base_path}/{self.id}/actions",
            json={action: None},
            microversion=self._get_microversion(session),
        )
        self._translate_response(response)
        return self

    def wait(
        self,
        session: adapter.Adapter,
        *,
        timeout: float | None = 600,
        seen: Callable[["Stack"], None] = lambda stack: None,
    ) -> Self:
        """Until the service has done what was last asked of it, or as much as it can.

        :param timeout: seconds; None waits for ever
        :param seen: called with the stack after every look at it
        :returns: the stack, ACTIVE or DEGRADED (``status_reason`` says what is amiss)
        :raises openstack.exceptions.ResourceFailure: the stack is in ERROR: a person must act
        :raises openstack.exceptions.ResourceTimeout: the time is over; the service goes on
        """
        for _ in self._looks(session, timeout, seen):
            if self._is_checking:
                continue
            if self.status == "DEGRADED":
                break
            if self.status == "ACTIVE" and self.observed_generation >= self.generation:
                break
        return self

    def wait_gone(
        self,
        session: adapter.Adapter,
        *,
        timeout: float | None = 600,
        seen: Callable[["Stack"], None] = lambda stack: None,
    ) -> None:
        """Until nothing is left of a deleted stack; arguments and errors as in :meth:`wait`."""
        try:
            for _ in self._looks(session, timeout, seen):
                pass
        except exceptions.NotFoundException:
            return

    def _looks(
        self, session: adapter.Adapter, timeout: float | None, seen: Callable[["Stack"], None]
    ) -> Iterator[None]:
        end = float("inf") if timeout is None else time.monotonic() + timeout
        pause = 0.2
        while True:
            trouble = None
            try:
                self.fetch(session, skip_cache=True)
            except (errors.Unreachable, errors.Refused) as error:
                # The API may be restarted while we wait. Anything else ends the wait.
                if getattr(error, "status_code", 503) not in (502, 503, 504):
                    raise
                trouble = error
            else:
                seen(self)
                if self.status == "ERROR" and not self._is_checking:
                    raise exceptions.ResourceFailure(
                        f"Stack {self.name} is in ERROR: {self.status_reason}"
                    )
                yield
            left = end - time.monotonic()
            if left <= 0:
                raise exceptions.ResourceTimeout(
                    f"Stack {self.name} is still {self.status} after {timeout:g} s, and the service "
                    f"goes on with it: {trouble or self.status_reason}"
                )
            time.sleep(min(pause, left))
            # A small stack is done in a second; a large one need not be asked for so often.
            pause = min(pause * 1.5, 2.0)

    @property
    def _is_checking(self) -> bool:
        """A check that was asked for is not over yet; clouds out of sight are not waited for."""
        return any(
            (member["check_asked"] or member["heat_status"] == "CHECK_IN_PROGRESS")
            and member["heat_stack_id"]
            and member["verdict"] == "healthy"
            for member in self.members
        )

    def last_decision(self, session: adapter.Adapter) -> dict[str, Any] | None:
        """The youngest event that changed what should run where, as the API gives it.

        Other events say how that was carried out, or what was found.
        """
        response = session.get(
            f"{self.base_path}/{self.id}/events",
            params={"limit": 100},
            microversion=self._get_microversion(session),
        )
        events: list[dict[str, Any]] = response.json()["events"]
        return next((event for event in events if event["type"] in DECISIONS), None)
