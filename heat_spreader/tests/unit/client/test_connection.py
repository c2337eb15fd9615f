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

"""How the client finds the service, and what it says when it does not."""

import re
import socket
from typing import Any

from heat_spreader.tests.unit.client import fake_api

KEYSTONE = "http://keystone.test/v3"
BASIC = "Basic YWxpY2U6c2VjcmV0"


class TestStandalone(fake_api.ApiTest):
    """Without Keystone: an address is all there is."""

    def setUp(self):
        super().setUp()
        self.http.get(self.url("/stacks"), json={"stacks": []})

    def listed(self, *argv):
        run = self.run_openstack(*argv, "spreader", "stack", "list")
        self.assertEqual(0, run.code, run.err)
        self.assertEqual("GET /stacks", self.wire[-1])
        return self.http.last_request.headers

    def test_address_with_and_without_version(self):
        for end in ("", "/", "/v1", "/v1/"):
            headers = self.listed("--os-auth-type", "none", "--os-endpoint", fake_api.API + end)
            self.assertEqual(
                "multi-region-orchestration 1.0", headers["OpenStack-API-Version"], end
            )

    def test_http_basic_with_and_without_version(self):
        for end in ("", "/", "/v1", "/v1/"):
            headers = self.listed(
                *("--os-auth-type", "http_basic", "--os-username", "alice"),
                *("--os-password", "secret", "--os-endpoint", fake_api.API + end),
            )
            self.assertEqual(BASIC, headers["Authorization"], end)

    def test_a_microversion_of_one_s_own(self):
        self.http.get(
            self.url("/stacks"),
            **fake_api.error(406, "unsupported_version", "1.9 is not supported."),
        )
        run = self.run_openstack(
            *("--os-auth-type", "none", "--os-endpoint", fake_api.API),
            *("--os-spreader-api-version", "1.9", "spreader", "stack", "list"),
        )
        self.assertEqual((1, "1.9 is not supported. (HTTP 406, req-42)\n"), (run.code, run.err))
        sent = self.http.last_request.headers["OpenStack-API-Version"]
        self.assertEqual("multi-region-orchestration 1.9", sent)

    def test_a_version_that_does_not_exist(self):
        run = self.run_openstack(
            *("--os-auth-type", "none", "--os-endpoint", fake_api.API),
            *("--os-spreader-api-version", "2", "spreader", "stack", "list"),
        )
        self.assertEqual(1, run.code)
        self.assertIn("There is no version 2 of the Heat Spreader API", run.err)

    def test_the_address_of_something_else(self):
        self.http.get("http://other.test/", status_code=404, text="Apache")
        run = self.run_openstack(
            *("--os-auth-type", "none", "--os-endpoint", "http://other.test/"),
            *("spreader", "stack", "list"),
        )
        self.assertEqual(1, run.code)
        self.assertIn("http://other.test/ is not the address of a Heat Spreader API", run.err)

    def test_an_error_that_is_not_the_service_s(self):
        self.http.get(self.url("/stacks"), status_code=502, reason="Bad Gateway", text="<html>")
        run = self.spreader("stack", "list")
        self.assertEqual(
            (1, f"{fake_api.API}/v1/stacks answered 502 Bad Gateway. (HTTP 502)\n"),
            (run.code, run.err),
        )

    def test_several_errors_become_one_line(self):
        errors = [{"detail": "One.", "request_id": "req-1"}, {"detail": "Two\nlines."}]
        self.http.get(self.url("/stacks"), status_code=400, json={"errors": errors})
        run = self.spreader("stack", "list")
        self.assertEqual((1, "One. Two lines. (HTTP 400, req-1)\n"), (run.code, run.err))


class TestNobodyThere(fake_api.ShellTest):
    """On a real socket: what the operating system says comes from it."""

    def test_a_port_where_nobody_listens(self):
        # Bound and not listening: refused, and nobody else can get the port meanwhile.
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{bound.getsockname()[1]}"
            run = self.run_openstack(
                *("--os-auth-type", "none", "--os-endpoint", address),
                *("spreader", "stack", "list"),
            )
        self.assertEqual(1, run.code)
        self.assertEqual(
            f"Cannot reach the Heat Spreader API at {address}: Connection refused. Check that the "
            "service runs there and that the address is right.\n",
            run.err,
        )


class TestKeystone(fake_api.ApiTest):
    def with_catalog(self, *endpoints: dict[str, Any]) -> None:
        version = {
            "id": "v3.14",
            "status": "stable",
            "links": [{"rel": "self", "href": f"{KEYSTONE}/"}],
        }
        self.http.get(KEYSTONE, json={"version": version})
        entry = {"type": "multi-region-orchestration", "name": "heat-spreader", "id": "s"}
        project = {"id": "p", "name": "demo", "domain": {"id": "default", "name": "Default"}}
        self.http.post(
            f"{KEYSTONE}/auth/tokens",
            status_code=201,
            headers={"X-Subject-Token": "token-of-alice"},
            json={
                "token": {
                    "methods": ["password"],
                    "user": {"id": "u", "name": "alice", "domain": project["domain"]},
                    "project": project,
                    "roles": [{"id": "r", "name": "member"}],
                    "issued_at": "2026-01-01T00:00:00.000000Z",
                    "expires_at": "2999-01-01T00:00:00.000000Z",
                    "catalog": [{**entry, "endpoints": list(endpoints)}] if endpoints else [],
                }
            },
        )

    def endpoint(self, region, url):
        return {
            "id": region,
            "interface": "public",
            "region": region,
            "region_id": region,
            "url": url,
        }

    def list_stacks(self):
        return self.run_openstack(
            *("--os-auth-url", KEYSTONE, "--os-username", "alice", "--os-password", "secret"),
            *("--os-user-domain-id", "default", "--os-project-domain-id", "default"),
            *("--os-project-name", "demo", "--os-region-name", "RegionOne"),
            *("spreader", "stack", "list"),
        )

    def test_the_endpoint_of_the_region_with_a_token(self):
        self.http.get(self.url("/stacks"), json={"stacks": []})
        for end in ("", "/v1"):
            self.with_catalog(
                self.endpoint("RegionTwo", "http://two.test/"),
                self.endpoint("RegionOne", fake_api.API + end),
            )
            run = self.list_stacks()
            self.assertEqual(0, run.code, run.err)
            sent = self.http.last_request
            self.assertEqual(f"{fake_api.API}/v1/stacks", sent.url)
            self.assertEqual("token-of-alice", sent.headers["X-Auth-Token"])
            self.assertEqual(
                "multi-region-orchestration 1.0", sent.headers["OpenStack-API-Version"]
            )

    def test_no_endpoint_in_the_region(self):
        for endpoints in ([self.endpoint("RegionTwo", "http://two.test/")], []):
            self.with_catalog(*endpoints)
            run = self.list_stacks()
            self.assertEqual(1, run.code)
            self.assertEqual(1, len(run.err.splitlines()), run.err)
            self.assertIn(
                "no public endpoint of type multi-region-orchestration in region RegionOne",
                run.err,
            )
            self.assertIn("openstack endpoint create", run.err)

    def test_an_endpoint_where_nobody_listens(self):
        for path in ("", "/v1"):
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                address = f"http://127.0.0.1:{bound.getsockname()[1]}"
                self.with_catalog(self.endpoint("RegionOne", address + path))
                self.http.get(re.compile(re.escape(address)), real_http=True)
                run = self.list_stacks()
            self.assertEqual(1, run.code)
            self.assertIn(f"Cannot reach the Heat Spreader API at {address}", run.err)
            self.assertIn("Connection refused", run.err)
