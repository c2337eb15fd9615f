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

"""How clouds that projects bring are reached: taken in, checked, sealed, and never given out again.

No cloud is asked anything here; an engine tries what was handed over and stores what it found. Only
the site's own Keystone is asked for a trust, for which the caller's token is needed.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import ssl
from typing import Any
import urllib.parse

from oslo_config import cfg
from oslo_utils import uuidutils

from heat_spreader import addresses
from heat_spreader import context
from heat_spreader import exception
from heat_spreader import secret_store
from heat_spreader import trusts as spreader_trusts
from heat_spreader.api import quotas
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import credentials as db_credentials
from heat_spreader.db import models

# kind: the name of its secret, what else it has to have, and what it may have
KINDS: Mapping[str, tuple[str, frozenset[str], frozenset[str]]] = {
    "application_credential": (
        "application_credential_secret",
        frozenset({"auth_url", "application_credential_id"}),
        frozenset(),
    ),
    "password": (
        "password",
        frozenset({"auth_url", "username", "project_name"}),
        frozenset({"user_domain_name", "project_domain_name"}),
    ),
}
# For whatever kind.
COMMON = frozenset({"cacert", "insecure", "timeout"})
SECRETS = frozenset(secret for secret, _, _ in KINDS.values())


class Keeper:
    """Makes credentials of what callers hand over, and knows what a project may have.

    :ivar limits: the default quota

    :raises StartupError: the keys, or the lists of networks, cannot be used
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self.limits = quotas.defaults(conf)
        self._store = secret_store.open_store(conf)
        self._trusts = spreader_trusts.Trusts(conf)
        self._guard = addresses.Guard(conf.tenants.denied_networks, conf.tenants.allowed_networks)

    def new(
        self, ctx: context.RequestContext, kind: str, given: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """The columns of the credential for a new cloud; None for one of the operator's.

        :raises Invalid: something is missing, or is not for this kind
        """
        if kind in ("config", "region"):
            if given is not None:
                raise exception.Invalid(
                    reason=f"credentials: a cloud of the kind '{kind}' has none"
                )
            return self._trust(ctx) if kind == "region" else None
        return self._sealed(kind, {}, given or {}, None)

    def changed(
        self, ctx: context.RequestContext, cloud: models.Cloud, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The columns of the credential that takes the place of a cloud's present one.

        :raises Invalid: the secret is not given and would go elsewhere than it was given for
        """
        if cloud.kind not in KINDS:
            raise exception.Invalid(
                reason=f"credentials: a cloud of the kind '{cloud.kind}' has none"
            )
        present = db_credentials.get_credential(ctx, cloud.credential_id or "")
        return self._sealed(cloud.kind, present.settings, given, present)

    def renew(self, ctx: context.RequestContext, clouds: Iterable[models.Cloud]) -> None:
        """Make a new trust for each region of the caller's project in which the old one is refused."""
        for cloud in clouds:
            if (
                cloud.kind == "region"
                and cloud.project_id == ctx.project_id
                and (cloud.credential_id is None or cloud.verdict == "refusing")
            ):
                db_clouds.update_cloud(
                    ctx, cloud.id, {}, credential=self._trust(ctx), event="cloud.trust"
                )

    def _trust(self, ctx: context.RequestContext) -> dict[str, Any]:
        if self._conf.api.auth_strategy != "keystone":
            raise exception.NoTrusts(reason="it has no Keystone")
        return _columns("region", {"trust_id": self._trusts.create(ctx)}, None, "")

    def _sealed(
        self,
        kind: str,
        before: Mapping[str, Any],
        given: Mapping[str, Any],
        present: models.Credential | None,
    ) -> dict[str, Any]:
        secret_name, required, optional = KINDS[kind]
        known = {secret_name} | required | optional | COMMON
        for name in given:
            if name not in known:
                raise exception.Invalid(
                    reason=f"credentials: '{name}' is not for a cloud of the kind '{kind}', but "
                    f"{', '.join(sorted(known))} are"
                )
        settings = {**before, **{name: given[name] for name in given if name != secret_name}}
        settings = {name: value for name, value in settings.items() if value not in (None, False)}
        if kind == "password":
            settings.setdefault("user_domain_name", "Default")
            settings.setdefault("project_domain_name", settings["user_domain_name"])
        for name in sorted(required - settings.keys()):
            raise exception.Invalid(reason=f"credentials: '{name}' is missing")
        self._check(settings)
        secret = given.get(secret_name)
        if secret is None:
            if present is None:
                raise exception.Invalid(reason=f"credentials: '{secret_name}' is missing")
            # Whoever may change a cloud need not know its secret, and must not get at it by having it
            # sent somewhere else.
            elsewhere = ({*settings} | {*before}) - {"timeout"}
            if any(settings.get(name) != before.get(name) for name in elsewhere):
                raise exception.Invalid(
                    reason=f"credentials: '{secret_name}' is missing; it has to be given again with "
                    "every change of where it is sent and of who is meant"
                )
            secret = self._store.unseal(present.id, present.sealed or "")
        columns = _columns(kind, settings, None, self._store.key_id)
        return {**columns, "sealed": self._store.seal(columns["id"], secret)}

    def _check(self, settings: Mapping[str, Any]) -> None:
        url = settings["auth_url"]
        try:
            parts = urllib.parse.urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
            raise exception.Invalid(
                reason="credentials.auth_url: this is no address of a Keystone, like "
                "https://keystone.example:5000/v3"
            )
        if parts.query or parts.fragment:
            raise exception.Invalid(
                reason="credentials.auth_url: it can have neither a query nor a fragment"
            )
        self._guard.check_host(host)
        if settings.get("insecure") and not self._conf.tenants.allow_insecure:
            raise exception.Invalid(
                reason="credentials.insecure: this service checks the certificate of every cloud; hand "
                "over that of its authority as 'cacert' ([tenants] allow_insecure)"
            )
        if settings.get("timeout", 0) > self._conf.tenants.max_timeout:
            raise exception.Invalid(
                reason=f"credentials.timeout: at most {self._conf.tenants.max_timeout} seconds"
            )
        if "cacert" in settings and not _is_pem(settings["cacert"]):
            raise exception.Invalid(
                reason="credentials.cacert: this is no certificate in PEM form, which begins with "
                "'-----BEGIN CERTIFICATE-----'"
            )


def _is_pem(text: str) -> bool:
    """Whether an engine can trust this authority; else it would only notice when it connects."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _columns(
    kind: str, settings: Mapping[str, Any], sealed: str | None, key_id: str
) -> dict[str, Any]:
    return {
        "id": uuidutils.generate_uuid(),
        "kind": kind,
        "settings": dict(settings),
        "sealed": sealed,
        "key_id": key_id,
    }
