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

"""The part of a stack that lives in one cloud."""

from typing import Any
from typing import Self

from keystoneauth1 import adapter
from openstack import resource

from spreaderclient.sdk import traces


class Member(resource.Resource):
    """A sub-resource: ``stack_id`` (a name will do) says of which stack, ``cloud`` is its identity."""

    resources_key = "members"
    base_path = "/stacks/%(stack_id)s/members"

    allow_fetch = True
    allow_commit = True
    allow_delete = True
    allow_list = True
    commit_method = "PATCH"

    _max_microversion = "1.0"

    stack_id = resource.URI("stack_id")

    # What the user wants.
    cloud = resource.Body("cloud", alternate_id=True)
    #: A decimal from 0 to 1 as a string; 0 makes a standby.
    weight = resource.Body("weight")
    minimum = resource.Body("minimum", type=int)
    maximum = resource.Body("maximum")
    priority = resource.Body("priority", type=int)
    #: Template parameters for this cloud only.
    parameters = resource.Body("parameters", type=dict)

    # What the service says.
    cloud_id = resource.Body("cloud_id")
    #: What allocation gives.
    share = resource.Body("share")
    #: The last share that Heat accepted.
    held = resource.Body("held", type=int)
    #: What Heat reports.
    observed_count = resource.Body("observed_count")
    #: Units that run for sure, while Heat is at work too.
    confirmed = resource.Body("confirmed", type=int)
    observed_at = resource.Body("observed_at")
    heat_stack_id = resource.Body("heat_stack_id")
    heat_status = resource.Body("heat_status")
    #: The service created the Heat stack, and will delete it.
    owned = resource.Body("owned", type=bool)
    verdict = resource.Body("verdict")
    verdict_since = resource.Body("verdict_since")
    verdict_reason = resource.Body("verdict_reason")
    status = resource.Body("status")
    status_reason = resource.Body("status_reason")
    #: The most that the cloud could take when it refused more; believed until ``full_until``.
    capacity = resource.Body("capacity")
    full_until = resource.Body("full_until")
    #: Somebody else keeps changing the count, and the service has given in.
    conflict = resource.Body("conflict", type=bool)
    missing_since = resource.Body("missing_since")
    busy_since = resource.Body("busy_since")
    #: A check was asked for, and Heat has not been told yet.
    check_asked = resource.Body("check_asked", type=bool)

    def commit(self, session: adapter.Adapter, *args: Any, **kwargs: Any) -> Self:
        """Change it; no trace of the request shows parameters, which may be hidden ones."""
        return super().commit(
            traces.quiet(session, self._body.dirty, "parameters"), *args, **kwargs
        )

    def put(self, session: adapter.Adapter) -> Self:
        """Make the member, or replace the one in this cloud: what is not set gets its default."""
        body = {field: value for field, value in self._body.dirty.items() if field != "cloud"}
        response = traces.quiet(session, self._body.dirty, "parameters").put(
            self._prepare_request(requires_id=True).url,
            json=body,
            microversion=self._get_microversion(session),
        )
        self._translate_response(response)
        return self
