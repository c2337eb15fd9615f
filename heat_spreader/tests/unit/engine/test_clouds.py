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

"""Connections: what is in clouds.yaml, and clouds and Keystones that do their worst."""

import datetime
import gzip
import logging
import os
import threading
import time
import tracemalloc

import fixtures
from keystoneauth1 import exceptions as ksa_exceptions
import testtools
import webob

from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine.core import values
from heat_spreader.tests import fake_heat

Outcome = values.Outcome


def in_threads(count, call):
    """Call it in that many threads at once; their errors, None for those without."""
    errors = [None] * count

    def run(n):
        try:
            call()
        except heat.HeatError as exc:
            errors[n] = exc

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


class CloudsTest(testtools.TestCase):
    """Two clouds within the process."""

    def setUp(self):
        super().setUp()
        self.site = self.useFixture(fake_heat.FakeSite("one", "two", sockets=False))
        self.clouds = self.make([self.site.clouds_yaml])

    def make(self, paths, **kwargs):
        return clouds.Clouds(paths, transport=self.site.transport, **kwargs)

    def refused(self, call, *args, **kwargs):
        return self.assertRaises(heat.HeatError, call, *args, **kwargs)

    def write(self, text):
        with open(self.site.clouds_yaml, "w") as file:
            file.write(text)

    def heats_asked(self):
        return {name: len(a_heat.requests) for name, a_heat in self.site.heats.items()}


class TestFile(CloudsTest):
    def test_names(self):
        self.assertEqual(["one", "two"], sorted(self.clouds.names()))

    def test_each_name_leads_to_its_heat(self):
        heat.list_stacks(self.clouds.connect("one"), None)
        self.assertEqual({"one": 1, "two": 0}, self.heats_asked())
        heat.list_stacks(self.clouds.connect("two"), None)
        self.assertEqual({"one": 1, "two": 1}, self.heats_asked())

    def test_an_entry_that_does_not_exist(self):
        error = self.refused(self.clouds.connect, "three")
        self.assertEqual(Outcome.REFUSING, error.outcome)
        self.assertEqual(
            f"clouds.yaml at {self.site.clouds_yaml} has no entry 'three'; it has: one, two",
            error.detail,
        )

    def test_no_file(self):
        for call in (lambda c: c.names(), lambda c: c.connect("one")):
            error = self.refused(call, self.make(["/nowhere/clouds.yaml", "/nor/here.yaml"]))
            self.assertEqual(Outcome.REFUSING, error.outcome)
            self.assertIn("/nowhere/clouds.yaml, /nor/here.yaml", error.detail)

    def test_the_first_file_that_exists(self):
        made = self.make(["/nowhere/clouds.yaml", self.site.clouds_yaml])
        self.assertEqual({"one", "two"}, set(made.names()))

    def test_files_that_cannot_be_read(self):
        for text in ("clouds: [", "", "- one", "clouds:", "clouds: [one]", "other: {}", "\x00"):
            self.write(text)
            error = self.refused(self.make([self.site.clouds_yaml]).names)
            self.assertEqual(Outcome.REFUSING, error.outcome)
            self.assertIn(f"clouds.yaml at {self.site.clouds_yaml} cannot be read", error.detail)
            self.assertNotIn("\n", error.detail)
        for text in ("clouds: {}", "clouds: {1: {}}"):
            self.write(text)
            self.assertEqual([], self.make([self.site.clouds_yaml]).names())

    def test_entries_that_cannot_be_used(self):
        good = self.site.entries["one"]
        for entry in (
            None,
            7,
            {},
            {"auth": None},
            {"auth": {"auth_url": "http://keystone.test/v3"}},
            {"auth": {}, "auth_type": "no-such-kind"},
            {"auth_type": "v3password", "auth": {"username": "demo"}},
            good | {"api_timeout": "soon"},
            good | {"profile": "https://192.0.2.1/"},
        ):
            self.site.entries["one"] = entry
            self.site.write()
            error = self.refused(self.clouds.connect, "one")
            self.assertEqual(Outcome.REFUSING, error.outcome, entry)
            self.assertTrue(error.detail.isprintable())
            # One bad entry spoils no other.
            self.clouds.connect("two")

    def test_no_password_is_ever_told(self):
        self.site.entries["one"]["auth"]["password"] = "tell-nobody"
        self.site.entries["one"]["auth"]["user_id"] = "x"
        self.site.entries["one"]["auth"]["project-name"] = "twice"
        self.site.write()
        self.assertNotIn("tell-nobody", self.refused(self.clouds.connect, "one").detail)

    def test_it_is_read_again_when_it_changes(self):
        connected = self.clouds.connect("one")
        self.site.entries["three"] = self.site.entries["two"]
        self.site.write()
        self.clouds.connect("three")
        # What did not change stays connected.
        self.assertIs(connected, self.clouds.connect("one"))
        self.site.entries["one"]["region_name"] = "region-two"
        self.site.write()
        self.assertIsNot(connected, self.clouds.connect("one"))
        heat.list_stacks(self.clouds.connect("one"), None)
        self.assertEqual({"one": 0, "two": 1}, self.heats_asked())
        del self.site.entries["one"]
        self.site.write()
        self.refused(self.clouds.connect, "one")

    def test_while_it_is_broken_what_it_said_stays_in_force(self):
        logged = self.useFixture(fixtures.FakeLogger("heat_spreader", level=logging.ERROR))
        self.clouds.connect("one")
        for text in ("clouds: [", None):
            if text is None:
                os.remove(self.site.clouds_yaml)
            else:
                self.write(text)
            for _ in range(3):
                self.clouds.connect("one")
                self.clouds.connect("two")
        # Once for each fault, not once for each look.
        self.assertEqual(2, logged.output.count("stays in force"))
        del self.site.entries["two"]
        self.site.write()
        self.refused(self.clouds.connect, "two")

    def test_secrets_from_the_file_beside_it(self):
        del self.site.entries["one"]["auth"]["password"]
        self.site.write()
        self.refused(self.clouds.connect, "one")
        secure = os.path.join(os.path.dirname(self.site.clouds_yaml), "secure.yaml")
        with open(secure, "w") as file:
            file.write("clouds: {one: {auth: {password: demo-password}}}")
        self.clouds.connect("one")

    def test_nothing_comes_from_the_environment(self):
        for name, value in (
            ("OS_CLOUD", "two"),
            ("OS_PASSWORD", "wrong"),
            ("OS_USERNAME", "somebody"),
            ("OS_CLIENT_CONFIG_FILE", "/nowhere/clouds.yaml"),
            ("OS_REGION_NAME", "region-two"),
            ("http_proxy", "http://192.0.2.1:3128"),
        ):
            self.useFixture(fixtures.EnvironmentVariable(name, value))
        made = self.make([self.site.clouds_yaml])
        self.assertEqual({"one", "two"}, set(made.names()))
        heat.list_stacks(made.connect("one"), None)
        self.assertEqual({"one": 1, "two": 0}, self.heats_asked())


class TestRegion(CloudsTest):
    def test_another_than_the_entrys(self):
        heat.list_stacks(self.clouds.connect("one", "region-two"), None)
        self.assertEqual({"one": 0, "two": 1}, self.heats_asked())
        heat.list_stacks(self.clouds.connect("one"), None)
        self.assertEqual({"one": 1, "two": 1}, self.heats_asked())

    def test_one_that_the_entry_lists_has_settings_of_its_own(self):
        entry = self.site.entries["one"]
        del entry["region_name"]
        entry["regions"] = [
            {"name": "region-one", "values": {}},
            {"name": "region-two", "values": {"api_timeout": 3}},
        ]
        self.site.write()
        self.assertEqual(3.0, self.clouds.connect("one", "region-two").session.timeout)
        heat.list_stacks(self.clouds.connect("one"), None)
        self.assertEqual({"one": 1, "two": 0}, self.heats_asked())

    def test_one_that_is_not_in_the_catalog(self):
        error = self.refused(self.clouds.connect, "one", "atlantis")
        self.assertEqual(Outcome.REFUSING, error.outcome)
        self.assertIn("no orchestration endpoint", error.detail)
        self.assertIn("atlantis", error.detail)

    def test_an_endpoint_that_moves_is_found_with_the_next_token(self):
        connected = self.clouds.connect("one")
        catalog = self.site.keystone.catalog
        catalog[:] = [("region-one", catalog[1][1])]
        self.site.keystone.revoke()
        heat.list_stacks(connected, None)  # told 401 at the old address, and got a new token
        heat.list_stacks(connected, None)
        self.assertEqual(1, self.heats_asked()["two"])


class TestConnection(CloudsTest):
    def test_it_is_kept(self):
        connected = self.clouds.connect("one")
        self.assertIs(connected, self.clouds.connect("one"))
        self.assertIsNot(connected, self.clouds.connect("one", "region-one"))
        self.assertEqual(2, len(self.site.keystone.asked("POST", "/auth/tokens")))

    def test_it_is_forgotten(self):
        one, two = self.clouds.connect("one"), self.clouds.connect("two")
        self.clouds.forget("one")
        self.assertIsNot(one, self.clouds.connect("one"))
        self.assertIs(two, self.clouds.connect("two"))
        self.clouds.forget()
        self.assertIsNot(two, self.clouds.connect("two"))

    def test_many_threads_make_one(self):
        self.assertEqual([None] * 20, in_threads(20, lambda: self.clouds.connect("one")))
        self.assertEqual(1, len(self.site.keystone.asked("POST", "/auth/tokens")))

    def test_timeouts(self):
        self.assertEqual(10.0, self.clouds.connect("one").session.timeout)
        self.site.entries["one"]["api_timeout"] = 33
        self.site.write()
        self.assertEqual(33.0, self.clouds.connect("one").session.timeout)
        made = self.make([self.site.clouds_yaml], timeout=0.7)
        self.assertEqual(0.7, made.connect("two").session.timeout)

    def test_a_token_is_renewed_before_it_ends(self):
        connected = self.clouds.connect("one")
        heat.list_stacks(connected, None)
        connected.session.auth.auth_ref._data["token"]["expires_at"] = (
            datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
        ).isoformat()
        heat.list_stacks(connected, None)
        self.assertEqual(2, len(self.site.keystone.asked("POST", "/auth/tokens")))

    def test_a_keystone_that_is_away_is_no_matter_while_the_token_is_good(self):
        self.clouds.connect("one")
        self.site.keystone.fault("refuse")
        self.assertEqual([], heat.list_stacks(self.clouds.connect("one"), None))


class TestKeystone(CloudsTest):
    """A Keystone that does this to every request."""

    def refused_by(self, fault, **kwargs):
        self.clouds.forget()
        self.site.keystone.heal()
        self.site.keystone.fault(fault, **kwargs)
        error = self.refused(self.clouds.connect, "one")
        self.assertFalse(error.maybe_done)
        self.assertTrue(error.detail.isprintable())
        return error

    def test_what_it_means(self):
        seen = {}
        for fault in ("refuse", *fake_heat.FAULTS):
            error = self.refused_by(fault)
            self.assertIn("Keystone", error.detail)
            seen[fault] = error.outcome
            # And the same when it does so only once the version document is through.
            if fault != "refuse":
                seen[fault, "later"] = self.refused_by(fault, method="POST").outcome
        self.assertEqual([], self.site.heats["one"].requests)
        unreachable = ("refuse", "hang", "lose", "unavailable", "trickle")
        sick = ("error", "error_after", "garbage")
        for key, outcome in seen.items():
            fault = key if isinstance(key, str) else key[0]
            expected = (
                Outcome.UNREACHABLE
                if fault in unreachable
                else Outcome.SICK
                if fault in sick
                else Outcome.REFUSING
            )
            self.assertEqual(expected, outcome, key)

    def test_the_same_behind_an_address_without_a_version(self):
        for name in self.site.entries:
            self.site.entries[name]["auth"]["auth_url"] = "http://keystone.test"
        self.site.write()
        self.clouds.connect("one")
        for fault, outcome in (
            ("refuse", Outcome.UNREACHABLE),
            ("hang", Outcome.UNREACHABLE),
            ("unavailable", Outcome.UNREACHABLE),
            ("error", Outcome.SICK),
            ("garbage", Outcome.REFUSING),
            ("not_found", Outcome.REFUSING),
        ):
            self.assertEqual(outcome, self.refused_by(fault).outcome, fault)

    def test_a_wrong_password(self):
        self.site.keystone.password = "another"
        error = self.refused(self.clouds.connect, "one")
        self.assertEqual((Outcome.REFUSING, 401), (error.outcome, error.status))
        self.assertIn("does not accept the credentials in clouds.yaml", error.detail)

    def test_a_version_document_that_wants_a_token(self):
        # keystoneauth would wait for itself, for ever.
        error = self.refused_by("unauthorized", method="GET")
        self.assertEqual(Outcome.REFUSING, error.outcome)
        self.site.keystone.heal()
        self.clouds.connect("one")

    def test_a_redirect_is_not_followed(self):
        error = self.refused_by("elsewhere", method="POST")
        self.assertEqual((Outcome.REFUSING, 302), (error.outcome, error.status))
        self.assertIn("http://192.0.2.1/v1/stolen", error.detail)

    def test_tokens_of_any_shape(self):
        token = {
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2020-01-01T00:00:00.000000Z",
            "methods": ["password"],
            "catalog": [],
        }
        for body, header in (
            ({}, "t"),
            ([], "t"),
            ({"token": None}, "t"),
            ({"token": []}, "t"),
            ({"token": {}}, "t"),
            ({"token": token}, None),
            ({"token": token | {"expires_at": "tomorrow"}}, "t"),
            ({"token": token | {"catalog": {"a": 1}}}, "t"),
            ({"token": token | {"catalog": [{"type": "orchestration", "endpoints": 3}]}}, "t"),
            ({"token": token}, "t"),
            ({"token": {k: v for k, v in token.items() if k != "catalog"}}, "t"),
        ):

            def answer(request, proceed, body=body, header=header):
                response = webob.Response(json=body, status=201)
                if header:
                    response.headers["X-Subject-Token"] = header
                return response

            error = self.refused_by(answer, method="POST")
            self.assertIn(error.outcome, (Outcome.SICK, Outcome.REFUSING), body)

    def test_an_endpoint_of_any_shape(self):
        for url in ("", "nonsense", "http://", "http://[::1", "ftp://one.test/v1/x", "http://*/"):
            self.site.keystone.catalog[:] = [("region-one", url)]
            self.clouds.forget()
            error = self.refused(lambda: heat.list_stacks(self.clouds.connect("one"), None))
            self.assertIn(
                error.outcome, (Outcome.SICK, Outcome.REFUSING, Outcome.UNREACHABLE), url
            )
            self.assertTrue(error.detail.isprintable())

    def test_tls_that_cannot_be_trusted(self):
        error = heat.classify(ksa_exceptions.SSLError("certificate verify failed"), keystone=True)
        self.assertEqual(Outcome.UNREACHABLE, error.outcome)
        self.assertIn("Keystone cannot be trusted over TLS", error.detail)
        self.assertIn("certificate verify failed", error.detail)


class TestSockets(testtools.TestCase):
    """What only shows on a real connection. What hangs is given up after a few tenths of a second."""

    short = 0.3

    def setUp(self):
        super().setUp()
        self.site = self.useFixture(fake_heat.FakeSite("one"))
        self.heat = self.site.heats["one"]
        self.clouds = clouds.Clouds([self.site.clouds_yaml], pool_size=4)
        self.cloud = self.clouds.connect("one")

    def timed(self, call, *args, **kwargs):
        began = time.monotonic()
        error = self.assertRaises(heat.HeatError, call, *args, **kwargs)
        return error, time.monotonic() - began

    def test_a_heat_that_hangs(self):
        self.heat.fault("hang")
        self.cloud.session.timeout = self.short
        error, took = self.timed(heat.list_stacks, self.cloud, None)
        self.assertEqual(Outcome.UNREACHABLE, error.outcome)
        self.assertIn(f"127.0.0.1:{self.heat.server.port}", error.detail)
        self.assertLess(took, 5)

    def test_a_listing_has_a_timeout_of_its_own(self):
        self.heat.fault("hang")
        _, took = self.timed(heat.list_stacks, self.cloud, None, timeout=self.short)
        self.assertLess(took, 5)

    def test_a_heat_that_never_ends_its_answer(self):
        # Each byte comes well within the timeout.
        self.heat.fault("trickle")
        error, took = self.timed(heat.list_stacks, self.cloud, None, timeout=self.short)
        self.assertEqual(Outcome.UNREACHABLE, error.outcome)
        self.assertLess(took, 5)

    def test_a_heat_that_never_ends_the_head_of_its_answer(self):
        def header_by_header():
            yield b"HTTP/1.1 200 OK\r\n"
            while True:
                time.sleep(0.02)
                yield b"X"

        def over_and_over():
            while True:
                time.sleep(0.02)
                yield b"HTTP/1.1 100 Continue\r\n\r\n"

        for pieces in (header_by_header, over_and_over):

            def drip(request, proceed, pieces=pieces):
                raise fake_heat.Bytes(pieces())

            self.heat.heal()
            self.heat.fault(drip)
            error, took = self.timed(heat.list_stacks, self.cloud, None, timeout=self.short)
            self.assertEqual(Outcome.UNREACHABLE, error.outcome)
            self.assertIn("did not answer in time", error.detail)
            self.assertLess(took, 5)

    def test_a_heat_that_sends_without_end(self):
        self.useFixture(fixtures.MonkeyPatch("heat_spreader.engine.clouds.LARGEST_ANSWER", 10**6))

        def flood(request, proceed):
            pieces = (b" " * 65536 for _ in range(10_000))
            response = webob.Response(content_type="application/json", app_iter=pieces)
            response.content_length = 65536 * 10_000
            return response

        self.heat.fault(flood)
        error, took = self.timed(heat.list_stacks, self.cloud, None)
        self.assertEqual(Outcome.SICK, error.outcome)
        self.assertIn("larger than 1000000 bytes", error.detail)
        self.assertLess(took, 5)

    def test_a_small_answer_that_unpacks_to_a_large_one(self):
        self.useFixture(fixtures.MonkeyPatch("heat_spreader.engine.clouds.LARGEST_ANSWER", 10**6))
        bomb = gzip.compress(b" " * 200 * 10**6)
        self.assertLess(len(bomb), 10**6)

        def explode(request, proceed):
            return webob.Response(
                body=bomb, content_type="application/json", headers={"Content-Encoding": "gzip"}
            )

        self.heat.fault(explode)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        error = self.assertRaises(heat.HeatError, heat.list_stacks, self.cloud, None)
        _, peak = tracemalloc.get_traced_memory()
        self.assertEqual(Outcome.SICK, error.outcome)
        self.assertIn("larger than 1000000 bytes", error.detail)
        self.assertLess(peak, 20 * 10**6)

    def test_an_answer_of_very_many_values(self):
        """Each takes a hundred bytes when it is read."""

        def crowd(request, proceed):
            body = b'{"stacks": [' + b"{}," * 10**6 + b"{}]}"
            return webob.Response(body=body, content_type="application/json")

        self.heat.fault(crowd)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        error = self.assertRaises(heat.HeatError, heat.list_stacks, self.cloud, None)
        _, peak = tracemalloc.get_traced_memory()
        self.assertEqual(Outcome.SICK, error.outcome)
        self.assertIn("holds more than 100000 values", error.detail)
        self.assertLess(peak, 20 * 10**6)

    def test_large_answers_of_one_cloud_at_once(self):
        self.useFixture(fixtures.MonkeyPatch("heat_spreader.engine.clouds.MOST_AT_ONCE", 10**6))
        half = threading.Event()
        self.addCleanup(half.set)

        def large(request, proceed):
            def pieces():
                yield b" " * 600_000
                half.wait(10)
                yield b" " * 10

            response = webob.Response(content_type="application/json", app_iter=pieces())
            response.content_length = 600_010
            return response

        self.heat.fault(large)
        errors = []

        def ask():
            error = self.assertRaises(heat.HeatError, heat.list_stacks, self.cloud, None)
            errors.append(error.detail)
            half.set()  # the first that is refused lets the other go on

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(1, sum("larger than" in error for error in errors), errors)

    def test_an_answer_that_breaks_off(self):
        def half(request, proceed):
            response = webob.Response(content_type="application/json", app_iter=iter([b"{"]))
            response.content_length = 1000
            return response

        def half_and_gone(request, proceed):
            def pieces():
                yield b"{"
                raise fake_heat.HangUp

            response = webob.Response(content_type="application/json", app_iter=pieces())
            response.content_length = 1000
            return response

        for fault in (half, half_and_gone):
            self.heat.heal()
            self.heat.fault(fault)
            error, took = self.timed(heat.list_stacks, self.cloud, None, timeout=self.short)
            self.assertEqual(Outcome.UNREACHABLE, error.outcome)
            self.assertLess(took, 5)
        # Nothing of it is taken for the next answer.
        self.heat.heal()
        self.assertEqual([], heat.list_stacks(self.cloud, None))

    def test_something_else_on_the_port(self):
        def babble(request, proceed):
            raise fake_heat.HangUp(b"220 mail.example.org ESMTP\r\n")

        self.heat.fault(babble)
        error, _ = self.timed(heat.list_stacks, self.cloud, None)
        self.assertIn(error.outcome, (Outcome.UNREACHABLE, Outcome.SICK))

    def test_a_slow_heat_is_no_dead_one(self):
        self.heat.delay = 0.1
        self.assertEqual([], heat.list_stacks(self.cloud, None))

    def test_connections_are_kept_and_survive_a_restart(self):
        for _ in range(5):
            heat.list_stacks(self.cloud, None)
        self.assertEqual(1, self.heat.server.accepted)
        self.heat.fault("refuse")
        error, _ = self.timed(heat.list_stacks, self.cloud, None)
        self.assertEqual(Outcome.UNREACHABLE, error.outcome)
        self.heat.heal()
        self.assertEqual([], heat.list_stacks(self.cloud, None))

    def test_the_pool_is_as_large_as_was_asked_for(self):
        self.heat.delay = 0.02
        for _ in range(4):
            self.assertEqual([None] * 4, in_threads(4, lambda: heat.list_stacks(self.cloud, None)))
        self.assertLessEqual(self.heat.server.accepted, 4)

    def test_threads_that_wait_for_a_hung_keystone_wait_together(self):
        self.cloud.invalidate()
        self.cloud.session.timeout = self.short
        self.site.keystone.fault("hang")
        began = time.monotonic()
        errors = in_threads(30, lambda: heat.list_stacks(self.cloud, None))
        took = time.monotonic() - began
        self.assertEqual({Outcome.UNREACHABLE}, {error.outcome for error in errors})
        # One after the other they would take nine seconds.
        self.assertLess(took, 30 * self.short / 2)
        # And nothing of it stays.
        self.site.keystone.heal()
        self.cloud.session.timeout = 10
        self.assertEqual([], heat.list_stacks(self.cloud, None))

    def test_a_hung_cloud_holds_up_no_other_connection(self):
        made = clouds.Clouds([self.site.clouds_yaml], timeout=1)
        self.site.keystone.fault("hang")
        waiting = threading.Thread(target=in_threads, args=(1, lambda: made.connect("one")))
        waiting.start()
        made.names()
        self.assertTrue(waiting.is_alive())
        self.site.keystone.heal()
        self.site.keystone.server.refuse()  # lets go of it
        waiting.join()
