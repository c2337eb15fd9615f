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

"""A cloud: a named place with a Heat, the unit of placement and of failure."""

import time
from typing import Any
from typing import Self

from keystoneauth1 import adapter
from openstack import exceptions
from openstack import resource

from spreaderclient.sdk import traces


class Cloud(resource.Resource):
    resources_key = "clouds"
    base_path = "/clouds"

    allow_create = True
    allow_fetch = True
    allow_commit = True
    allow_delete = True
    allow_list = True
    commit_method = "PATCH"

    _max_microversion = "1.0"
    _query_mapping = resource.QueryParameters("name", "verdict")

    description = resource.Body("description")
    #: Where the credentials come from. "config": an entry of the operator's clouds.yaml; "region": a
    #: trust in another region of the same Keystone; "application_credential" and "password": what the
    #: project has in another cloud.
    kind = resource.Body("kind")
    #: How it is reached. Secrets go in and never come out.
    credentials = resource.Body("credentials")
    #: TLS certificates of the cloud are not checked.
    insecure = resource.Body("insecure", type=bool)
    #: What the credentials are good for: step to ``{"ok": …, "detail": …}``; None: not tried yet.
    access = resource.Body("access")
    access_checked_at = resource.Body("access_checked_at")
    #: When the application credential expires.
    expires_at = resource.Body("expires_at")
    #: What should be done before it is too late, in sentences.
    warnings = resource.Body("warnings", type=list)
    #: Projects that may use it besides its own.
    projects = resource.Body("projects", type=list)
    config_cloud = resource.Body("config_cloud")
    #: None: the region that the entry itself names.
    region = resource.Body("region")
    #: Visible to every project.
    shared = resource.Body("shared", type=bool)
    project_id = resource.Body("project_id")
    cordoned = resource.Body("cordoned", type=bool)
    #: When it ends by itself; None: never.
    cordoned_until = resource.Body("cordoned_until")
    draining = resource.Body("draining", type=bool)
    draining_until = resource.Body("draining_until")
    #: An administrator has declared it so: whatever it had does not run any more.
    lost = resource.Body("lost", type=bool)
    verdict = resource.Body("verdict")
    verdict_since = resource.Body("verdict_since")
    verdict_reason = resource.Body("verdict_reason")
    #: The rule that the verdict rests on, and what would change it next.
    verdict_rule = resource.Body("verdict_rule")
    next_change = resource.Body("next_change")
    #: How many times in a row it went away again soon after it had come back.
    relapses = resource.Body("relapses", type=int)
    last_probe_at = resource.Body("last_probe_at")
    latency_ms = resource.Body("latency_ms")
    #: How many stacks have a member here.
    stacks = resource.Body("stacks", type=int)
    #: How many units these hold here.
    units = resource.Body("units", type=int)
    created_at = resource.Body("created_at")
    updated_at = resource.Body("updated_at")

    def report(self, session: adapter.Adapter, outcome: str, **more: Any) -> None:
        """Say what a watchdog sees of it: "ok" or "unreachable"; for the role service.

        :param more: ``expires_in`` seconds, and ``observer``, ``zone``, ``detail``, ``latency_ms``
        """
        response = session.post(
            f"{self.base_path}/{self.id}/observations",
            json={"outcome": outcome, **more},
            microversion=self._get_microversion(session),
        )
        exceptions.raise_from_response(response)

    def observations(self, session: adapter.Adapter) -> list[dict[str, Any]]:
        """Who saw what of it, and whether that counts now; the latest first, as the API gives it."""
        response = session.get(
            f"{self.base_path}/{self.id}/observations",
            microversion=self._get_microversion(session),
        )
        found: list[dict[str, Any]] = response.json()["observations"]
        return found

    def create(self, session: adapter.Adapter, *args: Any, **kwargs: Any) -> Self:
        """Register it; no trace of the request shows what is secret."""
        return super().create(
            traces.quiet(session, self._body.dirty, "credentials"), *args, **kwargs
        )

    def commit(self, session: adapter.Adapter, *args: Any, **kwargs: Any) -> Self:
        """Change it; no trace of the request shows what is secret."""
        return super().commit(
            traces.quiet(session, self._body.dirty, "credentials"), *args, **kwargs
        )

    def check(self, session: adapter.Adapter) -> Self:
        """Have the service try again what the credentials are good for; see :meth:`wait_checked`."""
        response = session.post(
            f"{self.base_path}/{self.id}/actions",
            json={"check": None},
            microversion=self._get_microversion(session),
        )
        self._translate_response(response)
        return self

    def wait_checked(
        self, session: adapter.Adapter, *, before: str | None, timeout: float = 60
    ) -> Self:
        """Until the credentials were tried.

        :param before: when they were tried before that, as ``access_checked_at`` had it
        :raises openstack.exceptions.ResourceTimeout: no engine has come to it yet
        """
        deadline = time.monotonic() + timeout
        while self.access_checked_at in (None, before):
            if time.monotonic() > deadline:
                raise exceptions.ResourceTimeout(
                    f"Cloud {self.name} has not been tried for {timeout} seconds; 'openstack spreader "
                    "cloud show' tells when it was."
                )
            time.sleep(1)
            self.fetch(session)
        return self
