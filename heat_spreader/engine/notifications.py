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

"""Events as oslo notifications, for others to listen to; off unless the operator wants them.

What is told is what is on record: nothing is told that was not committed. One engine tells each event,
and if it dies in the middle of that, some are not told: the events themselves are the record.
"""

from typing import Any

from oslo_log import log

from heat_spreader import context
from heat_spreader import rpc
from heat_spreader.db import events as db_events
from heat_spreader.db import models

LOG = log.getLogger(__name__)

# Of the payload; fields are only added within 1.
VERSION = "1.0"
BATCH = 100
# What a user asked for, and an engine begins now.
BEGUN = frozenset({"stack.create", "stack.update", "stack.delete"})


def tell_events(notifier: rpc.Notifier) -> None:
    """Tell all events that have not been told."""
    ctx = context.engine_context()
    while events := db_events.take_untold(ctx, BATCH):
        for event in events:
            notifier.tell(ctx, event_type(event), payload(event))
        if len(events) < BATCH:
            return


def event_type(event: models.Event) -> str:
    return f"spreader.{event.type}" + (".start" if event.type in BEGUN else "")


def payload(event: models.Event) -> dict[str, Any]:
    """Documented in the operator's guide; whoever changes it raises the version."""
    return {
        "version": VERSION,
        "event_id": event.id,
        "project_id": event.project_id,
        "stack_id": event.stack_id,
        "stack_name": event.stack_name,
        "cloud_id": event.cloud_id,
        "cloud_name": event.cloud_name,
        "message": event.message,
        "before": event.before,
        "after": event.after,
        "evidence": event.evidence,
        "actor": event.actor,
        "roles": event.roles,
        "request_id": event.request_id,
        "global_request_id": event.global_request_id,
        "created_at": event.created_at.isoformat() + "Z",
    }
