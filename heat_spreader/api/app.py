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

"""The WSGI application: pecan in the middle, middleware around it, no paste file.

Reads the configuration once, when it is built.
"""

import ipaddress
from typing import Any

from keystonemiddleware import auth_token
from oslo_config import cfg
from oslo_middleware import catch_errors
from oslo_middleware import cors
from oslo_middleware import healthcheck
from oslo_middleware import http_proxy_to_wsgi
from oslo_middleware import request_id
from oslo_middleware import sizelimit
from oslo_middleware.healthcheck import opts as healthcheck_opts
from oslo_middleware.healthcheck import pluginbase
import pecan
import webob
import webob.dec

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import policies
from heat_spreader import rpc
from heat_spreader.api import credentials
from heat_spreader.api import expose
from heat_spreader.api import hooks
from heat_spreader.api import passwords
from heat_spreader.api import root
from heat_spreader.api import versions
from heat_spreader.api import watchdogs
from heat_spreader.db import api as db_api
from heat_spreader.db import migration


def load_app(conf: cfg.ConfigOpts) -> Any:
    """The API with its database and its message bus, as a WSGI server loads it.

    :raises StartupError: with what to change
    """
    db_api.configure(conf)
    migration.check()
    return build_app(conf, rpc.EngineClient(rpc.get_transport(conf)))


def build_app(conf: cfg.ConfigOpts, engine: rpc.Engines) -> Any:
    """Everything between the server and the handlers. What comes last sees a request first.

    :raises StartupError: the settings contradict each other
    """
    check_auth_strategy(conf)
    policies.setup(conf)

    api = pecan.make_app(
        root.tree(conf, engine, credentials.Keeper(conf)),
        hooks=[hooks.ContextHook(), hooks.ErrorHook()],
        request_cls=expose.Request,
        debug=False,
        force_canonical=False,  # or pecan redirects /v1 to /v1/
        guess_content_type_from_ext=False,  # or the stack "web.json" is not found
    )
    app: Any = Authentication(api, conf)
    conf.register_opts(sizelimit.OPTS, group="oslo_middleware")
    # A template with its files must fit; the library's own 112 KiB are less than Heat takes.
    conf.set_default("max_request_body_size", 1024 * 1024, group="oslo_middleware")
    app = sizelimit.RequestBodySizeLimiter(app, conf)
    app = catch_errors.CatchErrors(app, conf)
    # Outside of all that may answer with an error of its own form.
    app = hooks.JsonErrors(app)
    # Outside of all that looks at URLs or addresses.
    app = http_proxy_to_wsgi.HTTPProxyToWSGI(app, conf)
    if conf.api.auth_strategy == "none":
        # Outside of the former: it must see the address of the peer, not what a header says.
        app = LoopbackOnly(app)
    app = HealthPath(app, conf)
    app = versions.Negotiation(app)
    app = MountPoint(app)
    # Outside of authentication: a browser sends its preflight request without a token.
    app = cors.CORS(app, conf)
    return request_id.RequestId(app, conf)


def check_auth_strategy(conf: cfg.ConfigOpts) -> None:
    """:raises StartupError: everybody on the network would be the administrator"""
    if conf.api.auth_strategy == "none" and not _is_loopback(conf.api.host):
        raise exception.StartupError(
            reason=f"[api] auth_strategy is none and [api] host is {conf.api.host}: everybody who "
            "reaches that address would be the administrator. Listen on 127.0.0.1, or set "
            "auth_strategy to keystone"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Authentication:
    """Puts the caller's identity into the environment, in the headers that Keystone defines."""

    def __init__(self, app: Any, conf: cfg.ConfigOpts) -> None:
        self.public = app
        self.private: Any
        if conf.api.auth_strategy == "keystone":
            self.private = auth_token.AuthProtocol(
                app,
                # Our type, by which Keystone's access rules of application credentials know us.
                {"oslo_config_config": conf, "service_type": versions.SERVICE_TYPE},
            )
        elif conf.api.auth_strategy == "http_basic":
            self.private = passwords.HttpBasic(app, conf.api.http_basic_auth_user_file)
        else:
            self.private = LocalUser(app)
        self.private = watchdogs.BySecret(app, self.private, conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        # Clients read these to learn where and how to get in.
        public = environ.get("PATH_INFO", "") in versions.UNVERSIONED
        return (self.public if public else self.private)(environ, start_response)


class LocalUser:
    """For ``auth_strategy = none``: every caller is the administrator of the project "local"."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        passwords.forget_claims(environ)
        environ.update(passwords.identity("local"))
        return self.app(environ, start_response)


class LoopbackOnly:
    """For ``auth_strategy = none``: refuses what does not come from this machine.

    Under a WSGI server we do not choose the address to listen on. A proxy on this machine forwards
    requests of others, so what a proxy sends is refused as well; and so is a foreign Host, with which a
    web page could make its visitor's browser speak to us.
    """

    FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST")

    def __init__(self, app: Any) -> None:
        self.app = app

    @webob.dec.wsgify
    def __call__(self, request: webob.Request) -> Any:
        if (
            _is_loopback(request.environ.get("REMOTE_ADDR", ""))
            and _is_loopback(request.domain)
            and not any(name in request.environ for name in self.FORWARDED)
        ):
            return self.app
        return hooks.error_response(
            request.environ,
            403,
            "With [api] auth_strategy none this service answers only clients on its own machine, "
            "without a proxy in between.",
        )


class MountPoint:
    """Takes the slash off the end of the prefix under which we are mounted.

    Apache's mod_proxy_uwsgi puts it there for the prefix itself, and links to our versions would have two.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "").rstrip("/")
        return self.app(environ, start_response)


class HealthPath:
    """Serves /healthcheck; oslo.middleware's own would answer every path."""

    def __init__(self, app: Any, conf: cfg.ConfigOpts) -> None:
        conf.register_opts(healthcheck_opts.HEALTHCHECK_OPTS, group="healthcheck")
        conf.set_default("backends", ["spreader_database"], group="healthcheck")
        self.app = app
        # It passes on what it may not answer, by the addresses that the operator allows.
        self.healthcheck = healthcheck.Healthcheck(app, conf)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        health = environ.get("PATH_INFO") == "/healthcheck"
        return (self.healthcheck if health else self.app)(environ, start_response)


class DatabaseHealthcheck(pluginbase.HealthcheckBaseExtension):
    """The backend "spreader_database" of the health check."""

    def healthcheck(self, server_port: int) -> pluginbase.HealthcheckResult:
        try:
            db_api.ping(context.engine_context())
        except Exception as error:
            return pluginbase.HealthcheckResult(
                available=False,
                reason="The database does not answer.",
                details=str(error),
            )
        return pluginbase.HealthcheckResult(available=True, reason="The database answers.")
