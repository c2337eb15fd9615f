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

"""Acting for projects: how their clouds are reached, what that is good for, and its end.

Three things happen here, each in small steps that can be repeated: a stored credential becomes a way
into a cloud; a new one is tried, step by step, so that what will not work is said at once; and one
that is no longer used is revoked.
"""

from collections.abc import Callable
from collections.abc import Mapping
import datetime
from typing import Any

from oslo_log import log
from oslo_utils import uuidutils

from heat_spreader import addresses
from heat_spreader import context
from heat_spreader import exception
from heat_spreader import secret_store
from heat_spreader import trusts as spreader_trusts
from heat_spreader.db import credentials as db_credentials
from heat_spreader.db import models
from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine.core import values

LOG = log.getLogger(__name__)

# Seconds for one trial: five requests to a cloud that may be slow.
LEASE = 120.0
AT_ONCE = 4

ADVICE = {
    "region": "The next change by a member of the project makes a new trust, with which this goes on; "
    "'openstack spreader stack retry' is one.",
    "application_credential": "Make another application credential and hand it over with "
    "'openstack spreader cloud set --application-credential-id'.",
    "password": "Hand over a password that holds with 'openstack spreader cloud set --username'.",
}


class Agent:
    """What one engine does in the name of projects."""

    def __init__(
        self,
        store: secret_store.SecretStore,
        trusts: spreader_trusts.Trusts,
        guard: addresses.Guard,
    ) -> None:
        self._store = store
        self._trusts = trusts
        self._guard = guard

    def reach(self, cloud: models.Cloud) -> clouds.Reach:
        """How a registered cloud is reached; for ``clouds.Clouds``.

        :raises heat.HeatError: REFUSING, with what has to be done about it
        """
        advice = ADVICE.get(cloud.kind, "")
        if cloud.credential_id is None:
            raise heat.HeatError(
                values.Outcome.REFUSING, f"There are no credentials for this cloud. {advice}"
            )
        try:
            found = db_credentials.get_credential(context.engine_context(), cloud.credential_id)
        except exception.CloudNotFound:
            raise heat.HeatError(
                values.Outcome.BUSY, "The credentials of this cloud are just being replaced"
            ) from None
        try:
            return self._reach(found, advice)
        except exception.SpreaderException as error:
            raise heat.HeatError(values.Outcome.REFUSING, str(error)) from None

    def _reach(self, found: models.Credential, advice: str) -> clouds.Reach:
        settings = dict(found.settings)
        if found.kind == "region":
            return clouds.Reach(self._trusts.plugin(settings["trust_id"]), advice=advice)
        secret = self._store.unseal(found.id, found.sealed or "")
        make: Callable[[Mapping[str, Any], str], Any] = (
            clouds.password_plugin
            if found.kind == "password"
            else clouds.application_credential_plugin
        )
        return clouds.Reach(
            cacert=settings.pop("cacert", None),
            insecure=settings.pop("insecure", False),
            timeout=settings.pop("timeout", None),
            plugin=make(settings, secret),
            permits=self._guard.permits,
            advice=advice,
        )

    # --- the end --------------------------------------------------------------------------------------

    def revoke_retired(self) -> None:
        """End what is no longer used, where it can be ended; what cannot now is tried again."""
        ctx = context.engine_context()
        for credential in db_credentials.list_retired(ctx, 100):
            try:
                if credential.kind == "region":
                    if not self._trusts.revoke(credential.settings["trust_id"]):
                        continue
                elif credential.sealed:
                    self._store.discard(credential.sealed)
            except exception.SpreaderException as error:
                LOG.warning("Credential %s cannot be given up yet: %s", credential.id, error)
                continue
            db_credentials.forget_retired(ctx, credential.id)


# --- trials ---------------------------------------------------------------------------------------

STEPS = ("authenticate", "endpoint", "list", "resize", "create")
TEMPLATE = {
    "heat_template_version": "2013-05-23",
    "description": "Made for a moment by Heat Spreader, to see whether it can.",
    "parameters": {"count": {"type": "number", "default": 0}},
}


def try_out(connections: clouds.Clouds, cloud: models.Cloud) -> None:
    """Try what the credentials of a cloud are good for, and store each answer."""
    answers: dict[str, dict[str, Any]] = {}
    for step in STEPS:
        detail, works = _try(connections, cloud, step)
        answers[step] = {"ok": works, "detail": detail}
        if not works and step in ("authenticate", "endpoint"):
            break
    expires_at: datetime.datetime | None = None
    if cloud.kind == "application_credential" and answers["authenticate"]["ok"]:
        try:
            expires_at = connections.expiry(cloud)
        except heat.HeatError:
            pass
    for step in STEPS:
        answers.setdefault(step, {"ok": None, "detail": "not tried, because of what is above"})
    db_credentials.save_trial(context.engine_context(), cloud, answers, expires_at)
    failed = [step for step in STEPS if answers[step]["ok"] is False]
    LOG.info(
        "Cloud %s: tried; %s", cloud.name, f"cannot {', '.join(failed)}" if failed else "all works"
    )


def _try(connections: clouds.Clouds, cloud: models.Cloud, step: str) -> tuple[str, bool]:
    try:
        if step == "authenticate":
            connections.log_in(cloud)
            return "Keystone gives a token.", True
        connection = connections.reach(cloud)
        if step == "endpoint":
            return "Keystone's catalog has an orchestration endpoint.", True
        if step == "list":
            heat.list_stacks(connection, "heat-spreader")
            return "Heat lists its stacks.", True
        if step == "resize":
            return _try_resize(connection)
        return _try_create(connection)
    except heat.HeatError as error:
        return _hint(cloud, step, error), False


def _try_resize(connection: Any) -> tuple[str, bool]:
    # Of nothing: Heat looks at who asks before it looks for what is meant.
    name, heat_id = (
        f"heat-spreader-check-{uuidutils.generate_uuid()[:8]}",
        uuidutils.generate_uuid(),
    )
    try:
        heat.resize(connection, name, heat_id, "count", 0)
    except heat.HeatError as error:
        if error.outcome is not values.Outcome.MISSING:
            raise
    return "Heat takes changes.", True


def _try_create(connection: Any) -> tuple[str, bool]:
    """With a Heat stack of nothing: whether Heat can make its own trust shows in no other way."""
    name = f"heat-spreader-check-{uuidutils.generate_uuid()[:8]}"
    heat_id = heat.create_stack(
        connection,
        name=name,
        template=TEMPLATE,
        environment=None,
        files=None,
        parameters={},
        tags=["heat-spreader-check"],
    )
    try:
        heat.delete_stack(connection, name, heat_id)
    except heat.HeatError as error:
        return (
            f"Heat creates; but {name} is left there and cannot be deleted: {error.detail}",
            True,
        )
    return "Heat creates.", True


def _hint(cloud: models.Cloud, step: str, error: heat.HeatError) -> str:
    if step == "create" and error.status == 403 and cloud.kind == "application_credential":
        return (
            "This Keystone lets no application credential manage trusts, and Heat needs one to create. "
            "Heat stacks that exist can be taken over and resized; to have them created, register the "
            f"cloud with a user and a password. Heat said: {error.detail}"
        )
    return error.detail
