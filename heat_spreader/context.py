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

"""The context of one request or one round: who asks, with which request id, in which project.

It is also what oslo.db keeps the open transaction on, so one context serves one thread.
"""

from oslo_context import context
from oslo_db.sqlalchemy import enginefacade


@enginefacade.transaction_context_provider
class RequestContext(context.RequestContext):
    """An oslo.context request context that carries database transactions."""


def engine_context(request_id: str | None = None) -> RequestContext:
    """A context for work that no user asked for directly: a sweep, a probe, a start-up."""
    return RequestContext(user_id="engine", request_id=request_id, overwrite=False)
