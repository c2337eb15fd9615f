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
"""Watchdogs: what others than engines see of clouds, in our form or in that of Alertmanager.

A report is a reading like any other, of an observer whose name begins with "watchdog/", and stands until
it expires. It is judged when an engine next looks at the cloud.
"""

from collections.abc import Mapping
import hashlib
import hmac
import re
from typing import Any

from oslo_config import cfg

from heat_spreader import context
from heat_spreader import exception
from heat_spreader.api import expose
from heat_spreader.api import passwords
from heat_spreader.api import schemas
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models

PREFIX = "watchdog/"
# The only things that a watchdog with a secret may do.
_OPEN_TO_WATCHDOGS = re.compile(r"/v1/(alerts|clouds/[^/]+/observations)")


class BySecret:
    """Lets watchdogs in by their secrets; all others go the usual way."""

    def __init__(self, app: Any, others: Any, conf: cfg.ConfigOpts) -> None:
        self.app = app
        self.others = others
        self.conf = conf

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        kind, _, secret = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if (
            kind.lower() == "bearer"
            and environ.get("REQUEST_METHOD") == "POST"
            and _OPEN_TO_WATCHDOGS.fullmatch(environ.get("PATH_INFO", ""))
            and (name := self._whose(secret.strip()))
        ):
            passwords.forget_claims(environ)
            environ.update(
                {
                    "HTTP_X_IDENTITY_STATUS": "Confirmed",
                    "HTTP_X_USER_ID": PREFIX + name,
                    "HTTP_X_PROJECT_ID": "watchdogs",
                    "HTTP_X_ROLES": "service",
                }
            )
            return self.app(environ, start_response)
        return self.others(environ, start_response)

    def _whose(self, secret: str) -> str | None:
        digest = hashlib.sha256(secret.encode()).hexdigest()
        found = None
        # All of them, however early one fits.
        for name, known in self.conf.health.watchdogs.items():
            if hmac.compare_digest(digest, known.strip().lower()):
                found = name
        return found


def _observer(ctx: context.RequestContext, name: str | None) -> str:
    """A watchdog with a secret is who it is; one with a token may be several."""
    if (ctx.user_id or "").startswith(PREFIX):
        return str(ctx.user_id)
    return PREFIX + (name or ctx.user_id or "unknown")


def _zone(conf: cfg.ConfigOpts, observer: str, zone: str | None) -> str | None:
    return conf.health.watchdog_zones.get(observer.removeprefix(PREFIX), zone)


def report(
    conf: cfg.ConfigOpts, ctx: context.RequestContext, cloud: str, body: Mapping[str, Any]
) -> models.Cloud:
    """Store what a watchdog reports of a cloud, and return the cloud.

    :raises CloudNotFound: there is none of that name in any project
    """
    row = db_clouds.get_cloud(ctx, cloud, None)
    observer = _observer(ctx, body.get("observer"))
    outcome = body["outcome"]
    stored = db_clouds.record_observation(
        ctx,
        row.id,
        observer,
        outcome=outcome,
        detail=body.get("detail") or "it says so",
        latency_ms=body.get("latency_ms"),
        miss=outcome == "unreachable",
        good=outcome == "ok",
        fresh_for=body["expires_in"],
        zone=_zone(conf, observer, body.get("zone")),
        expires_in=body["expires_in"],
    )
    if stored is None:
        raise exception.CloudNotFound(cloud=cloud)
    return row


def by_cloud(body: Mapping[str, Any], label: str) -> tuple[dict[str, list[str]], int]:
    """What fires for each cloud, nothing when all is resolved; and how many alerts name no cloud."""
    clouds: dict[str, list[str]] = {}
    ignored = 0
    for alert in body["alerts"]:
        labels = alert.get("labels", {})
        cloud = labels.get(label)
        if not cloud:
            ignored += 1
            continue
        firing = clouds.setdefault(cloud, [])
        if alert["status"] == "firing":
            words = alert.get("annotations", {})
            firing.append(words.get("summary") or labels.get("alertname") or "an alert fires")
    return clouds, ignored


class Alerts(expose.Controller):
    """/v1/alerts"""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__()
        self.conf = conf

    @expose.expose("spreader:alert:create", body=schemas.ALERTS)
    def post(self, ctx: context.RequestContext, body: dict[str, Any]) -> dict[str, Any]:
        """What Alertmanager's webhook sends. A cloud is missed while any of its alerts fires."""
        clouds, ignored = by_cloud(body, self.conf.health.alert_label)
        reported, unknown = [], []
        for cloud, firing in clouds.items():
            seen: dict[str, Any] = {
                "outcome": "unreachable",
                "detail": "; ".join(firing)[:1000],
                "expires_in": self.conf.health.alert_expiry,
            }
            if not firing:
                # It says that it was away and is back; that it is well later on, nobody says.
                seen = {"outcome": "ok", "detail": "resolved", "expires_in": 60}
            try:
                reported.append(report(self.conf, ctx, cloud, seen).name)
            except (exception.CloudNotFound, exception.AmbiguousName):
                unknown.append(cloud)
        return {"reported": reported, "unknown": unknown, "ignored": ignored}
