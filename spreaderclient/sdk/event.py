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

"""An event: what was asked, decided or done, with its cause. Events are never changed."""

from openstack import resource


class Event(resource.Resource):
    """Listed newest first; ``base_path="/stacks/<id>/events"`` lists those of one stack."""

    resources_key = "events"
    base_path = "/events"

    allow_list = True

    _max_microversion = "1.0"
    _query_mapping = resource.QueryParameters("cloud", "since", "type")

    #: A number; greater is younger.
    id = resource.Body("id")
    stack_id = resource.Body("stack_id")
    stack_name = resource.Body("stack_name")
    #: The name that the cloud had; it may be gone by now.
    cloud = resource.Body("cloud")
    cloud_id = resource.Body("cloud_id")
    type = resource.Body("type")
    message = resource.Body("message")
    before = resource.Body("before")
    after = resource.Body("after")
    evidence = resource.Body("evidence")
    #: Who: a user, or an engine.
    actor = resource.Body("actor")
    #: With which it was done; None for what an engine did by itself.
    roles = resource.Body("roles")
    request_id = resource.Body("request_id")
    #: The request of another service in the course of which it was made.
    global_request_id = resource.Body("global_request_id")
    created_at = resource.Body("created_at")
