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

"""Keystone trusts: with them this service acts for a user in the regions of its own Keystone.

The user's token makes one and is forgotten; the user ``[trustee]``, whom we are, uses it. Everything
here is about the site's own Keystone; clouds elsewhere are reached in ``engine/clouds.py``.
"""

import threading
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystoneauth1 import session as ksa_session
from oslo_config import cfg
from oslo_log import log

from heat_spreader import context
from heat_spreader import exception

LOG = log.getLogger(__name__)
GROUP = "trustee"
# How often a trust may be handed on: to Heat, and by Heat to what a template makes.
REDELEGATIONS = 2


def list_opts() -> list[tuple[str | None, list[cfg.Opt]]]:
    """For oslo-config-generator."""
    options = [
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options("password"),
        *loading.get_session_conf_options(),
    ]
    return [(GROUP, list({option.dest: option for option in options}.values()))]


def register(conf: cfg.ConfigOpts) -> None:
    loading.register_auth_conf_options(conf, GROUP)
    loading.register_session_conf_options(conf, GROUP)


class Trusts:
    """All that is done about trusts; safe to share between threads."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._lock = threading.Lock()
        self._trustee: str | None = None

    @property
    def configured(self) -> bool:
        return bool(self._conf[GROUP].auth_type)

    def plugin(self, trust_id: str | None = None) -> Any:
        """What authenticates us, as the user who made the trust when there is one.

        :raises NoTrusts: the operator has not said who we are
        """
        if not self.configured:
            raise exception.NoTrusts(
                reason="the operator has configured no user for them, see [trustee]"
            )
        try:
            more = {"trust_id": trust_id} if trust_id else {}
            return loading.load_auth_from_conf_options(self._conf, GROUP, **more)
        except Exception as error:
            # An option that is missing or wrong raises what the plugin likes.
            raise exception.NoTrusts(
                reason=f"the section [trustee] is not complete ({type(error).__name__})"
            ) from None

    def create(self, ctx: context.RequestContext) -> str:
        """Make a trust from the caller's token, and give its id.

        It delegates all roles of the token: Heat makes one of its own from it when it creates, with
        the roles that the token has, and is refused if one of them was not delegated. Impersonation,
        for the Heat stacks are to be the user's.

        :raises NoTrusts: this token cannot make one, or Keystone does not answer
        """
        plugin = self.plugin()
        try:
            # The token as it is, not one made from it.
            answer = self._session(None).post(
                f"{self._endpoint()}/OS-TRUST/trusts",
                headers={"X-Auth-Token": ctx.auth_token or ""},
                authenticated=False,
                json={
                    "trust": {
                        "trustor_user_id": ctx.user_id,
                        "trustee_user_id": self._whoami(plugin),
                        "project_id": ctx.project_id,
                        "impersonation": True,
                        "allow_redelegation": True,
                        "redelegation_count": REDELEGATIONS,
                        "roles": [{"name": role} for role in sorted(ctx.roles)],
                    }
                },
                log=False,  # it would show the request's headers
            )
            return str(answer.json()["trust"]["id"])
        except ksa_exceptions.HttpError as error:
            if error.http_status in (401, 403):
                raise exception.TrustRefused(reason=_said(error)) from None
            raise exception.NoTrusts(reason=f"Keystone says: {_said(error)}") from None
        except (ksa_exceptions.ClientException, KeyError, ValueError, TypeError) as error:
            raise exception.NoTrusts(
                reason=f"Keystone does not answer as it should ({type(error).__name__})"
            ) from None

    def revoke(self, trust_id: str) -> bool:
        """End a trust, and all that were made from it; False when Keystone has to be asked again.

        The trust itself is what allows it: its token counts as its maker's.
        """
        try:
            session = self._session(self.plugin(trust_id))
            session.delete(
                f"{self._endpoint()}/OS-TRUST/trusts/{trust_id}",
                log=False,
            )
        except (ksa_exceptions.HttpError, ksa_exceptions.AuthorizationFailure) as error:
            # It is gone, or its maker is, or has lost the roles in it: it opens nothing any more.
            status = getattr(error, "http_status", 401)
            return bool(status in (401, 403, 404))
        except (ksa_exceptions.ClientException, exception.NoTrusts) as error:
            LOG.warning("Trust %s is to be revoked: %s", trust_id, type(error).__name__)
            return False
        return True

    def _session(self, plugin: Any) -> ksa_session.Session:
        session = loading.load_session_from_conf_options(self._conf, GROUP, auth=plugin)
        session.timeout = session.timeout or 10
        session.redirect = False
        session.session.trust_env = False
        return session

    def _endpoint(self) -> str:
        url = str(self._conf[GROUP].auth_url).rstrip("/")
        return url if url.endswith("/v3") else f"{url}/v3"

    def _whoami(self, plugin: Any) -> str:
        with self._lock:
            if self._trustee is None:
                self._trustee = self._session(plugin).get_user_id()
            return str(self._trustee)


def _said(error: ksa_exceptions.HttpError) -> str:
    return " ".join(str(error.message or type(error).__name__).split())[:300]
