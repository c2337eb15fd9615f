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

"""The middleware chain: what happens to a request before and after the handlers."""

import io
import json
import sqlite3
from typing import Any

import fixtures as fixtures_lib
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from oslo_config import cfg
from oslotest import base
import sqlalchemy as sa
import webtest

from heat_spreader import context
from heat_spreader import exception
from heat_spreader import rpc
from heat_spreader.api import app
from heat_spreader.db import api as db_api
from heat_spreader.db import rounds as db_rounds
from heat_spreader.tests import fixtures

HERE = {"REMOTE_ADDR": "127.0.0.1"}


class APITest(base.BaseTestCase):
    auth_strategy = "none"

    def setUp(self) -> None:
        super().setUp()
        self.api = self.useFixture(fixtures.API(self.auth_strategy))
        self.http = webtest.TestApp(self.api.app, extra_environ=HERE)

    def error(self, response: Any) -> dict[str, Any]:
        """The one error in an answer, whose form is checked."""
        self.assertEqual("application/json", response.headers["Content-Type"])
        self.assertEqual(["errors"], list(response.json))
        (error,) = response.json["errors"]
        self.assertEqual({"status", "title", "detail", "code", "request_id"}, set(error))
        self.assertEqual(response.status_int, error["status"])
        self.assertEqual(response.headers["X-OpenStack-Request-Id"], error["request_id"])
        self.assertIn("multi-region-orchestration 1.0", response.headers["OpenStack-API-Version"])
        self.assertIn("OpenStack-API-Version", response.headers["Vary"])
        return error


class TestErrors(APITest):
    def test_every_status_has_the_same_form(self):
        for status, method, url, code in (
            (400, "GET", "/v1/stacks?x=1", "spreader.invalid"),
            (404, "GET", "/nothing", "spreader.not_found"),
            (404, "GET", "/v1/stacks/web", "spreader.stack_not_found"),
            (405, "PUT", "/v1/stacks", "spreader.method_not_allowed"),
            (415, "POST", "/v1/stacks", "spreader.unsupported_media_type"),
        ):
            response = self.http.request(url, method=method, expect_errors=True)
            self.assertEqual((status, code), (response.status_int, self.error(response)["code"]))

    def test_a_path_that_is_no_utf8_is_a_mistake_of_the_client(self):
        response = self.http.request("/v1/stacks/%ff%fe", expect_errors=True)
        self.assertEqual(400, response.status_int)
        self.assertIn("the URL is not UTF-8", self.error(response)["detail"])

    def test_a_query_that_is_no_utf8_is_a_mistake_of_the_client(self):
        response = self.http.request("/v1/stacks?name=%ff%fe", expect_errors=True)
        self.assertEqual(400, response.status_int)
        self.assertIn("the URL is not UTF-8", self.error(response)["detail"])

    def test_an_unexpected_error_tells_nothing_but_the_request_id(self):
        # Nothing but a broken database comes to mind that a handler cannot foresee.
        with db_api.engine().begin() as connection:
            connection.exec_driver_sql("DROP TABLE events")
        log = self.useFixture(fixtures_lib.FakeLogger("heat_spreader"))
        response = self.http.post_json(
            "/v1/clouds", {"name": "secret", "description": "secret"}, expect_errors=True
        )
        self.assertEqual(500, response.status_int)
        error = self.error(response)
        self.assertEqual("spreader.internal", error["code"])
        for word in ("Traceback", "sqlite", "events", "secret"):
            self.assertNotIn(word, response.text)
        # The operator finds the statement that failed, but not what it was to write.
        self.assertIn("INSERT INTO events", log.output)
        self.assertNotIn("secret", log.output)

    def test_an_error_in_middleware_has_the_same_form(self):
        def broken(environ: Any, start_response: Any) -> Any:
            raise RuntimeError("secret")

        self.useFixture(fixtures_lib.MonkeyPatch("pecan.make_app", lambda *args, **kw: broken))
        broken_app = app.build_app(self.api.config.conf, None)
        response = webtest.TestApp(broken_app, extra_environ=HERE).get("/v1", expect_errors=True)
        self.assertEqual(500, response.status_int)
        self.assertEqual("spreader.internal", self.error(response)["code"])
        self.assertNotIn("secret", response.text)

    def test_a_long_value_is_not_repeated_in_full(self):
        response = self.http.post_json(
            "/v1/stacks", {"name": "x" * 100_000, "count": 1}, expect_errors=True
        )
        self.assertEqual(400, response.status_int)
        self.assertLess(len(self.error(response)["detail"]), 500)


class TestBodies(APITest):
    def setUp(self) -> None:
        super().setUp()
        self.api.config.set("oslo_middleware", max_request_body_size=2048)

    def post(self, body: bytes, **environ: Any) -> Any:
        return self.http.request(
            "/v1/stacks",
            method="POST",
            body=body,
            headers={"Content-Type": "application/json"},
            environ=environ,
            expect_errors=True,
        )

    def test_too_large_by_its_length(self):
        response = self.post(b" " * 2049)
        self.assertEqual(413, response.status_int)
        self.assertEqual("spreader.body_too_large", self.error(response)["code"])
        self.assertIn("larger than", self.error(response)["detail"])
        self.assertNotIn("%", response.text)

    def test_too_large_without_a_length(self):
        environ = {
            **HERE,
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/v1/stacks",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json",
            "HTTP_TRANSFER_ENCODING": "chunked",
            "wsgi.input_terminated": True,
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
        }
        for size, status in ((2049, "413 "), (100, "400 ")):
            answered: list[str] = []
            self.api.app(
                {**environ, "wsgi.input": io.BytesIO(b" " * size)},
                lambda status, headers, answered=answered: answered.append(status),
            )
            self.assertTrue(answered[0].startswith(status), answered)

    def test_as_large_as_allowed(self):
        body = b'{"name": "web", "count": 1}'
        self.assertEqual(202, self.post(body + b" " * (2048 - len(body))).status_int)

    def test_nested_too_deeply(self):
        self.api.config.set("oslo_middleware", max_request_body_size=1024 * 1024)
        for body in (
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"parameters":' * 70 + b"1" + b"}" * 70,
        ):
            response = self.post(body)
            self.assertEqual(400, response.status_int)
            self.assertRegex(self.error(response)["detail"], "nested|not JSON")

    def test_not_utf8(self):
        response = self.post(b'{"name": "\xff"}')
        self.assertEqual(400, response.status_int)
        self.assertIn("not UTF-8", self.error(response)["detail"])

    def test_a_byte_order_mark_is_not_json(self):
        self.assertEqual(400, self.post(b'\xef\xbb\xbf{"name": "web", "count": 1}').status_int)

    def test_a_charset_is_no_other_media_type(self):
        response = self.http.request(
            "/v1/stacks",
            method="POST",
            body=b'{"name": "web", "count": 1}',
            headers={"Content-Type": "application/json; charset=UTF-8"},
        )
        self.assertEqual(202, response.status_int)


class TestHead(APITest):
    def test_head_is_get_without_the_body(self):
        self.http.post_json("/v1/stacks", {"name": "web", "count": 1})
        for url in ("/", "/v1", "/v1/stacks", "/v1/stacks/web", "/v1/events"):
            get = self.http.get(url)
            head = self.http.head(url)
            self.assertEqual(b"", head.body)
            for name in ("Content-Type", "Content-Length", "OpenStack-API-Version"):
                self.assertEqual(get.headers[name], head.headers[name], (url, name))
            self.assertEqual(get.headers.get("ETag"), head.headers.get("ETag"))

    def test_head_of_what_is_not(self):
        response = self.http.head("/v1/stacks/web", expect_errors=True)
        self.assertEqual((404, b""), (response.status_int, response.body))


class TestLinks(APITest):
    """URLs in answers lead back through whatever lies between the client and us."""

    def setUp(self) -> None:
        super().setUp()
        for name in ("a", "b"):
            self.http.post_json("/v1/stacks", {"name": name, "count": 1})

    def hrefs(self, http: Any, **headers: str) -> set[str]:
        created = http.post_json(
            "/v1/clouds", {"name": f"c{len(headers)}{headers.get('Host', '')}"}, headers=headers
        )
        listed = http.get("/v1/stacks?limit=1", headers=headers).json
        return {
            http.get("/", headers=headers).json["versions"][0]["links"][0]["href"],
            created.headers["Location"].rpartition("/")[0] + "/",
            listed["stacks_links"][0]["href"].partition("stacks?")[0],
        }

    def test_under_a_prefix_that_ends_in_a_slash(self):
        """As Apache's mod_proxy_uwsgi says it of the prefix itself."""
        http = webtest.TestApp(self.api.app, extra_environ={**HERE, "SCRIPT_NAME": "/spread/"})
        (version,) = http.get("/").json["versions"]
        self.assertEqual("http://localhost/spread/v1/", version["links"][0]["href"])

    def test_under_a_prefix_of_the_server(self):
        http = webtest.TestApp(self.api.app, extra_environ={**HERE, "SCRIPT_NAME": "/spread"})
        self.assertEqual(
            {"http://localhost/spread/v1/", "http://localhost/spread/v1/clouds/"}, self.hrefs(http)
        )


class TestProxy(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.api = self.useFixture(fixtures.API("keystone"))
        self.api.add_token("t", user="u", project="green", roles=["admin", "member", "reader"])

    def get(self) -> str:
        http = webtest.TestApp(self.api.app)
        headers = {
            "X-Auth-Token": "t",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "cloud.example",
            "X-Forwarded-Prefix": "/spread",
        }
        for name in ("a", "b"):
            http.post_json("/v1/stacks", {"name": name, "count": 1}, headers=headers)
        links = http.get("/v1/stacks?limit=1", headers=headers).json["stacks_links"]
        return links[0]["href"].partition("?")[0]

    def test_a_proxy_that_the_operator_trusts(self):
        self.api.config.set("oslo_middleware", enable_proxy_headers_parsing=True)
        self.assertEqual("https://cloud.example/spread/v1/stacks", self.get())

    def test_any_other_is_not_believed(self):
        self.assertEqual("http://localhost/v1/stacks", self.get())


class TestKeystone(APITest):
    auth_strategy = "keystone"

    def setUp(self) -> None:
        super().setUp()
        self.api.add_token("member", user="u", project="green", roles=["member", "reader"])

    def test_version_documents_and_health_need_no_token(self):
        for url in ("/", "/v1", "/v1/", "/healthcheck"):
            self.assertEqual(200, self.http.get(url).status_int)

    def test_nothing_else_does_without(self):
        for url in ("/v1/stacks", "/v1/stacks/", "/v1//", "/nothing", "/v1/clouds/east"):
            response = self.http.get(url, expect_errors=True)
            self.assertEqual(401, response.status_int, url)
            error = self.error(response)
            self.assertEqual("spreader.unauthorized", error["code"])
            self.assertIn("keystone.invalid", response.headers["WWW-Authenticate"])

    def test_identity_headers_are_not_believed(self):
        headers = {
            "X-Auth-Token": "member",
            "X-Roles": "admin",
            "X-Project-Id": "blue",
            "X-User-Id": "someone",
            "OpenStack-System-Scope": "all",
        }
        stack = self.http.post_json("/v1/stacks", {"name": "web", "count": 1}, headers=headers)
        self.assertEqual(("green", "u"), (stack.json["project_id"], stack.json["user_id"]))
        self.http.post_json("/v1/clouds", {"name": "east"}, headers=headers, status=403)

    def test_the_request_id_of_a_caller_goes_into_the_context_only(self):
        theirs = "req-00000000-0000-4000-8000-000000000000"
        response = self.http.get(
            "/v1/stacks", headers={"X-Auth-Token": "member", "X-OpenStack-Request-Id": theirs}
        )
        self.assertNotEqual(theirs, response.headers["X-OpenStack-Request-Id"])

    def test_any_address_may_call(self):
        http = webtest.TestApp(self.api.app, extra_environ={"REMOTE_ADDR": "192.0.2.1"})
        http.get("/v1/stacks", headers={"X-Auth-Token": "member"}, status=200)

    def test_a_browser_asks_beforehand_without_a_token(self):
        self.api.config.set("cors", allowed_origin=["https://dashboard.example"])
        http = webtest.TestApp(app.build_app(self.api.config.conf, None))
        response = http.options(
            "/v1/stacks",
            headers={
                "Origin": "https://dashboard.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "X-Auth-Token,If-Match",
            },
        )
        self.assertEqual(200, response.status_int)
        self.assertEqual(
            "https://dashboard.example", response.headers["Access-Control-Allow-Origin"]
        )


class TestKeystoneAway(base.BaseTestCase):
    def test_it_is_not_the_fault_of_the_token(self):
        options = loading.get_auth_plugin_conf_options("password")
        # Some are required; the configuration of other tests does not have them.
        self.addCleanup(cfg.CONF.unregister_opts, options, "keystone_authtoken")
        config = self.useFixture(fixtures.Database()).config
        conf = config.conf
        auth_token.AuthProtocol(None, {"oslo_config_config": conf})  # registers its options
        conf.register_opts(options, "keystone_authtoken")
        url = "http://127.0.0.1:1/"
        config.set("keystone_authtoken", www_authenticate_uri=url, auth_url=url)
        config.set("keystone_authtoken", auth_type="password", username="u", password="p")
        http = webtest.TestApp(app.build_app(conf, None))
        response = http.get("/v1/stacks", headers={"X-Auth-Token": "t"}, expect_errors=True)
        self.assertEqual(503, response.status_int)
        self.assertEqual("spreader.unavailable", response.json["errors"][0]["code"])


class TestLoopback(APITest):
    """Without authentication, only this machine is answered."""

    def refused(self, environ: dict[str, str], **headers: str) -> bool:
        response = self.http.get(
            "/v1/stacks", extra_environ=environ, headers=headers, expect_errors=True
        )
        if response.status_int == 403:
            self.assertEqual("spreader.forbidden", self.error(response)["code"])
        return response.status_int == 403

    def test_this_machine(self):
        for address in ("127.0.0.1", "127.8.9.10", "::1"):
            self.assertFalse(self.refused({"REMOTE_ADDR": address}), address)

    def test_everybody_else(self):
        for address in ("192.0.2.1", "10.0.0.1", "2001:db8::1", "", "unix:"):
            self.assertTrue(self.refused({"REMOTE_ADDR": address}), address)

    def test_version_documents_and_health_not_either(self):
        for url in ("/", "/v1", "/healthcheck"):
            self.http.get(url, extra_environ={"REMOTE_ADDR": "192.0.2.1"}, status=[200, 403])
        self.http.get("/v1", extra_environ={"REMOTE_ADDR": "192.0.2.1"}, status=403)

    def test_others_behind_a_proxy_on_this_machine(self):
        self.assertTrue(self.refused(HERE, **{"X-Forwarded-For": "127.0.0.1"}))
        self.assertTrue(self.refused(HERE, Forwarded="for=127.0.0.1"))

    def test_a_proxy_cannot_claim_that_a_stranger_is_here(self):
        self.api.config.set("oslo_middleware", enable_proxy_headers_parsing=True)
        self.assertTrue(
            self.refused({"REMOTE_ADDR": "192.0.2.1"}, **{"X-Forwarded-For": "127.0.0.1"})
        )

    def test_a_web_page_that_rebinds_its_name_to_this_machine(self):
        self.assertTrue(self.refused(HERE, Host="evil.example:8797"))
        for host in ("localhost:8797", "127.0.0.1:8797", "[::1]:8797"):
            self.assertFalse(self.refused(HERE, Host=host), host)

    def test_identity_headers_are_not_believed(self):
        headers = {"X-Project-Id": "blue", "X-User-Id": "x", "OpenStack-System-Scope": "all"}
        stack = self.http.post_json("/v1/stacks", {"name": "web", "count": 1}, headers=headers)
        self.assertEqual(("local", "local"), (stack.json["project_id"], stack.json["user_id"]))

    def test_listening_elsewhere_is_refused_at_once(self):
        for host in ("0.0.0.0", "192.0.2.1", "::", "spreader.example"):
            self.api.config.set("api", host=host)
            error = self.assertRaises(
                exception.StartupError, app.build_app, self.api.config.conf, None
            )
            self.assertIn(host, str(error))

    def test_listening_here_is_fine(self):
        for host in ("127.0.0.1", "::1", "localhost"):
            self.api.config.set("api", host=host)
            app.check_auth_strategy(self.api.config.conf)


class TestDatabaseAway(APITest):
    def test_every_request_is_told_to_come_again(self):
        self.patch(db_api, "PATIENCE", 0.1)
        log = self.useFixture(fixtures_lib.FakeLogger("heat_spreader"))
        self.api.config.set("database", max_retries=0)  # or oslo.db waits before it begins
        for scheme in ("mysql+pymysql", "postgresql+psycopg2"):
            # A port on which nobody listens.
            url = f"{scheme}://someone:s3same@127.0.0.1:1/spreader"
            self.api.config.set("database", connection=url)
            db_api.configure(self.api.config.conf)
            for method, path, body in (
                ("GET", "/v1/stacks", b""),
                ("POST", "/v1/stacks", b'{"name": "web", "count": 1, "description": "hidden"}'),
                ("DELETE", "/v1/clouds/east", b""),
            ):
                response = self.http.request(
                    path, method=method, body=body, content_type="application/json", status=503
                )
                error = self.error(response)
                self.assertEqual("spreader.unavailable", error["code"])
                self.assertIn("The database does not answer. Try again", error["detail"])
                self.assertIn(f"No answer to {method} {path}: the database", log.output)
                for text in (response.text, log.output):
                    for word in ("Traceback", "s3same", "hidden", "SELECT"):
                        self.assertNotIn(word, text)
                self.assertNotIn("127.0.0.1", response.text)

    def test_who_waits_too_long_for_others_is_told_the_same(self):
        self.patch(db_api, "PATIENCE", 0)
        engine = db_api.engine()

        def locked(cursor: Any, statement: str, *_: Any) -> None:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error

        sa.event.listen(engine, "do_execute", locked)
        response = self.http.post_json("/v1/stacks", {"name": "web", "count": 1}, status=503)
        self.assertEqual("spreader.unavailable", self.error(response)["code"])
        sa.event.remove(engine, "do_execute", locked)
        self.http.post_json("/v1/stacks", {"name": "web", "count": 1}, status=202)


class TestHealth(APITest):
    def test_a_database_that_is_away(self):
        self.api.config.set("database", connection="sqlite:////nowhere/at/all.sqlite")
        self.api.config.set("database", max_retries=0, retry_interval=0)
        db_api.configure(self.api.config.conf)
        response = self.http.get("/healthcheck", expect_errors=True)
        self.assertEqual(503, response.status_int)
        self.assertIn("The database does not answer.", response.text)
        self.assertNotIn("nowhere", response.text)

    def test_only_whom_the_operator_allows(self):
        self.api.config.set("healthcheck", allowed_source_ranges=["192.0.2.0/24"])
        http = webtest.TestApp(app.build_app(self.api.config.conf, None), extra_environ=HERE)
        self.assertEqual(404, http.get("/healthcheck", expect_errors=True).status_int)


class Listener:
    """An engine's endpoint that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def reconcile(self, ctx: context.RequestContext, stack_id: str) -> None:
        self.heard.append(f"{ctx.user_id} {stack_id}")


class TestNudges(APITest):
    def test_each_write_is_heard_by_an_engine_and_no_read_is(self):
        listener = Listener()
        http = webtest.TestApp(app.build_app(self.api.config.conf, listener), extra_environ=HERE)
        http.post_json("/v1/clouds", {"name": "east"})
        stack = http.post_json("/v1/stacks", {"name": "web", "count": 1}).json
        for write in (
            lambda: http.patch_json("/v1/stacks/web", {"count": 2}),
            lambda: http.put_json("/v1/stacks/web/members/east", {"weight": 1}),
            lambda: http.patch_json("/v1/stacks/web/members/east", {"minimum": 1}),
            lambda: http.put_json("/v1/stacks/web/weights", {"weights": {"east": "0.5"}}),
            lambda: http.delete("/v1/stacks/web/members/east"),
            lambda: http.delete("/v1/stacks/web"),
        ):
            self.assertEqual(202, write().status_int)
        for url in ("/v1/stacks", "/v1/stacks/web", "/v1/stacks/web/members", "/v1/events"):
            http.get(url)
        http.patch_json("/v1/stacks/web", {"count": 3}, status=409)
        self.assertEqual([f"local {stack['id']}"] * 7, listener.heard)

    def test_without_a_broker_everything_is_stored(self):
        transport = rpc.get_transport(self.api.config.conf, "rabbit://a:b@127.0.0.1:1/")
        self.addCleanup(transport.cleanup)
        http = webtest.TestApp(
            app.build_app(self.api.config.conf, rpc.EngineClient(transport)), extra_environ=HERE
        )
        http.post_json("/v1/stacks", {"name": "web", "count": 1}, status=202)
        http.patch_json("/v1/stacks/web", {"count": 2}, status=202)
        self.assertEqual(2, http.get("/v1/stacks/web").json["count"])
        self.assertEqual(1, len(db_rounds.due_stacks(context.engine_context(), 10)))


class TestNumbers(APITest):
    def test_what_is_written_as_a_decimal_is_read_back_as_the_same(self):
        self.http.post_json("/v1/clouds", {"name": "east"})
        self.http.post_json("/v1/stacks", {"name": "web", "count": 1})
        for written, stored in (
            ("0.1", "0.1"),
            ("0.10", "0.1"),
            ('"0.123456789"', "0.123456789"),
            ("1e-3", "0.001"),
            ("1E-9", "0.000000001"),
            ("1", "1"),
            ("1.0", "1"),
            ("0", "0"),
            ("-0.0", "0"),
            ("0.30000000000000000", "0.3"),
        ):
            response = self.http.request(
                "/v1/stacks/web/members/east",
                method="PUT",
                body=b'{"weight": %s}' % written.encode(),
                headers={"Content-Type": "application/json"},
            )
            self.assertEqual(stored, response.json["weight"], written)

    def test_what_is_too_fine_too_small_or_too_large_is_refused(self):
        self.http.post_json("/v1/clouds", {"name": "east"})
        self.http.post_json("/v1/stacks", {"name": "web", "count": 1})
        for written in (
            "0.0000000001",
            "0.30000000000000001",
            "1.000000001",
            "-0.1",
            "1e-999999999",
            "1e999999999",
            '"NaN"',
            '"inf"',
            '""',
            '"1/3"',
        ):
            response = self.http.request(
                "/v1/stacks/web/members/east",
                method="PUT",
                body=b'{"weight": %s}' % written.encode(),
                headers={"Content-Type": "application/json"},
                expect_errors=True,
            )
            self.assertEqual(400, response.status_int, written)
            self.assertIn("weight", self.error(response)["detail"])

    def test_numbers_in_parameters_stay_numbers(self):
        template = {
            "heat_template_version": "2018-08-31",
            "parameters": {"count": {}, "a": {}, "b": {}},
        }
        body = {"name": "web", "count": 1, "template": template, "parameters": {}}
        text = json.dumps(body).replace(
            '"parameters": {}}', '"parameters": {"a": 0.1, "b": [1e2, 12345678901234567890]}}'
        )
        response = self.http.request(
            "/v1/stacks",
            method="POST",
            body=text.encode(),
            headers={"Content-Type": "application/json"},
        )
        self.assertEqual(
            {"a": 0.1, "b": [100.0, 12345678901234567890]}, response.json["parameters"]
        )

    def test_a_number_that_no_float_holds_is_refused(self):
        response = self.http.request(
            "/v1/stacks",
            method="POST",
            body=b'{"name": "web", "count": 1, "parameters": {"a": 1e400}}',
            headers={"Content-Type": "application/json"},
            expect_errors=True,
        )
        self.assertEqual(400, response.status_int)
        self.assertIn("too large a number", self.error(response)["detail"])
