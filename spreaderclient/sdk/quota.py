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

"""The quota of a project: how much it may have, and how much it has."""

from typing import Self

from keystoneauth1 import adapter
from openstack import resource

RESOURCES = ("stacks", "members", "units", "clouds")


class Quota(resource.Resource):
    base_path = "/quotas"

    allow_fetch = True
    allow_commit = True
    commit_method = "PATCH"

    _max_microversion = "1.0"

    #: Each is ``{"limit": …, "used": …}``; a limit of -1 is none.
    stacks = resource.Body("stacks")
    members = resource.Body("members")
    units = resource.Body("units")
    clouds = resource.Body("clouds")
    project_id = resource.Body("project_id")

    @classmethod
    def of(cls, session: adapter.Adapter, project_id: str | None = None) -> Self:
        """That of a project; of the caller's own for None."""
        url = cls.base_path if project_id is None else f"{cls.base_path}/{project_id}"
        quota = cls.new()
        quota._translate_response(session.get(url, microversion=quota._get_microversion(session)))
        return quota

    @classmethod
    def change(
        cls, session: adapter.Adapter, project_id: str, limits: dict[str, int | None]
    ) -> Self:
        """Set limits; -1 for any number, None for the default."""
        quota = cls.new()
        response = session.patch(
            f"{cls.base_path}/{project_id}",
            json=limits,
            microversion=quota._get_microversion(session),
        )
        quota._translate_response(response)
        return quota
