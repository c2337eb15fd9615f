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

"""``openstack spreader cloud``."""

import logging
import pathlib

import fixtures

from heat_spreader.tests.unit.client import fake_api

CLOUD = {
    "id": "id-of-cloud1",
    "name": "cloud1",
    "description": "",
    "kind": "config",
    "config_cloud": "cloud1",
    "region": None,
    "shared": True,
    "project_id": "project",
    "cordoned": False,
    "cordoned_until": None,
    "draining": False,
    "draining_until": None,
    "lost": False,
    "credentials": None,
    "insecure": False,
    "access": None,
    "access_checked_at": None,
    "expires_at": None,
    "warnings": [],
    "projects": [],
    "verdict": "healthy",
    "verdict_since": "2026-01-01T00:00:00Z",
    "verdict_reason": "answers",
    "verdict_rule": "answers",
    "next_change": "A miss makes it suspect.",
    "relapses": 0,
    "last_probe_at": "2026-01-01T00:00:00Z",
    "latency_ms": 12,
    "stacks": 1,
    "units": 6,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}

SEEN = {
    "observer": "host1",
    "zone": "north",
    "outcome": "ok",
    "detail": "it answers",
    "latency_ms": 12,
    "misses": 0,
    "goods": 12,
    "since": "2026-01-01T00:00:00Z",
    "observed_at": "2026-01-01T00:00:00Z",
    "seen_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
    "abstains": None,
    "counts": True,
}


class TestCloud(fake_api.ApiTest):
    def test_create_sends_what_is_given(self):
        self.http.post(self.url("/clouds"), status_code=201, json=CLOUD)
        shown = self.works("cloud", "create", "cloud1", "-f", "json").json
        self.assertEqual([("POST /clouds", {"name": "cloud1"})], self.writes)
        self.assertEqual(CLOUD, shown)

    def test_create_with_everything(self):
        self.http.post(self.url("/clouds"), status_code=201, json=CLOUD)
        self.works(
            *("cloud", "create", "cloud1", "--config-cloud", "acme", "--region", "east"),
            *("--description", "The east", "--shared"),
        )
        self.assertEqual(
            {
                "name": "cloud1",
                "config_cloud": "acme",
                "region": "east",
                "description": "The east",
                "shared": True,
            },
            self.writes[0][1],
        )

    def test_list(self):
        self.http.get(self.url("/clouds"), json={"clouds": [CLOUD]})
        run = self.works("cloud", "list", "-f", "value", "-c", "name", "-c", "verdict")
        self.assertEqual("cloud1 healthy\n", run.out)
        [row] = self.works("cloud", "list", "--long", "-f", "json").json
        self.assertEqual("2026-01-01T00:00:00Z", row["Since"])
        self.assertEqual("answers", row["Verdict Reason"])
        self.assertRegex(
            self.works("cloud", "list").out, r"\| healthy \| \d+ d +\| 12 +\| +\| +1 \| +6 \|"
        )

    def test_what_is_planned_shows_in_the_list(self):
        for word in ("cordoned", "draining", "lost"):
            self.http.get(self.url("/clouds"), json={"clouds": [CLOUD | {word: True}]})
            run = self.works("cloud", "list", "-f", "value", "-c", "Planned", "-c", "Units")
            self.assertEqual(f"{word} 6\n", run.out)

    def test_lost_and_not_lost(self):
        self.http.patch(self.url("/clouds/cloud1"), json=CLOUD)
        self.works("cloud", "set", "cloud1", "--lost")
        self.works("cloud", "set", "cloud1", "--not-lost")
        self.assertEqual([{"lost": True}, {"lost": False}], [body for _, body in self.writes])

    def test_planned_work(self):
        for name in ("a", "b"):
            self.http.patch(self.url(f"/clouds/{name}"), json=CLOUD)
        for verb, body in (
            ("cordon", {"cordoned": True}),
            ("uncordon", {"cordoned": False}),
            ("drain", {"draining": True}),
            ("undrain", {"draining": False}),
        ):
            self.works("cloud", verb, "a", "b")
            self.assertEqual(
                [("PATCH /clouds/a", body), ("PATCH /clouds/b", body)], self.writes[-2:]
            )

    def test_planned_work_with_an_end(self):
        self.http.patch(self.url("/clouds/a"), json=CLOUD)
        self.works("cloud", "cordon", "a", "--until", "2030-01-01T00:00:00Z")
        self.assertEqual(
            {"cordoned": True, "cordoned_until": "2030-01-01T00:00:00Z"}, self.writes[-1][1]
        )
        self.works("cloud", "drain", "a", "--for", "600")
        self.assertRegex(self.writes[-1][1]["draining_until"], r"^\d{4}-\d\d-\d\dT[\d:]+\+00:00$")

    def test_waiting_for_a_drain(self):
        self.http.patch(self.url("/clouds/a"), json=CLOUD)
        self.http.get(
            self.url("/clouds/a"), [{"json": CLOUD | {"units": units}} for units in (6, 6, 2, 0)]
        )
        run = self.works("cloud", "drain", "a", "--wait")
        self.assertEqual(
            [f"cloud1: {units} unit(s) left (healthy)" for units in (6, 2, 0)],
            run.err.splitlines(),
        )
        self.http.get(self.url("/clouds/a"), json=CLOUD)
        run = self.spreader("cloud", "drain", "a", "--wait", "--wait-timeout", "0")
        self.assertEqual(1, run.code)
        self.assertIn("still units left after 0 s", run.err)

    def test_show(self):
        self.http.get(self.url("/clouds/cloud1"), json=CLOUD)
        self.http.get(self.url("/clouds/id-of-cloud1/observations"), json={"observations": [SEEN]})
        shown = self.works("cloud", "show", "cloud1", "-f", "json").json
        self.assertEqual(CLOUD | {"votes": [SEEN]}, shown)
        table = self.works("cloud", "show", "cloud1").out
        self.assertRegex(table, r"host1 \(north\)  ok  12 good  \d+ d ago  counts")

    def test_report(self):
        self.http.post(self.url("/clouds/a/observations"), json={"observations": []})
        run = self.works("cloud", "report", "a", "--ok")
        self.assertEqual(("", ""), (run.out, run.err))
        self.works(
            *("cloud", "report", "a", "--unreachable", "--expires", "60", "--observer", "probe-1"),
            *("--zone", "north", "--detail", "no ping"),
        )
        self.assertEqual(
            [
                {"outcome": "ok", "expires_in": 300},
                {
                    "outcome": "unreachable",
                    "expires_in": 60,
                    "observer": "probe-1",
                    "zone": "north",
                    "detail": "no ping",
                },
            ],
            [body for _, body in self.writes],
        )
        self.assertEqual(2, self.spreader("cloud", "report", "a").code)
        self.http.post(
            self.url("/clouds/a/observations"),
            **fake_api.error(403, "forbidden", "The rule does not let you."),
        )
        run = self.spreader("cloud", "report", "a", "--ok")
        self.assertEqual(1, run.code)
        self.assertIn("The rule does not let you.", run.err)

    def test_what_a_vote_looks_like(self):
        self.http.get(self.url("/clouds/cloud1"), json=CLOUD)
        url = self.url("/clouds/id-of-cloud1/observations")
        for more, line in (
            ({"outcome": "unreachable", "misses": 2, "goods": 0}, "unreachable  2 missed"),
            ({"counts": False}, "does not count"),
            ({"counts": False, "abstains": "no route"}, "abstains: no route"),
        ):
            self.http.get(url, json={"observations": [SEEN | more]})
            self.assertIn(line, self.works("cloud", "show", "cloud1").out)
        self.http.get(url, json={"observations": []})
        self.assertRegex(self.works("cloud", "show", "cloud1").out, r"\| votes +\| - ")

    def test_set(self):
        self.http.patch(self.url("/clouds/cloud1"), json=CLOUD)
        self.works("cloud", "set", "cloud1", "--region", "west", "--private", "--name", "west")
        self.assertEqual(
            [("PATCH /clouds/cloud1", {"region": "west", "shared": False, "name": "west"})],
            self.writes,
        )

    def test_set_nothing(self):
        run = self.spreader("cloud", "set", "cloud1")
        self.assertEqual((1, "Nothing to change: no option says what.\n"), (run.code, run.err))

    def test_delete(self):
        self.http.delete(self.url("/clouds/a"), status_code=204)
        self.http.delete(
            self.url("/clouds/b"), **fake_api.error(409, "cloud_in_use", "Cloud 'b' is in use.")
        )
        run = self.spreader("cloud", "delete", "b", "a")
        self.assertEqual(1, run.code)
        self.assertEqual(
            ["b: Cloud 'b' is in use. (HTTP 409, req-42)", "1 of 2 failed: b."],
            run.err.splitlines(),
        )
        self.assertEqual(["DELETE /clouds/b", "DELETE /clouds/a"], self.wire)


ANSWERS = {
    "authenticate": {"ok": True, "detail": "Keystone gives a token."},
    "create": {"ok": False, "detail": "Keystone lets no application credential manage trusts"},
    "list": {"ok": None, "detail": "not tried"},
}
OWN = {
    **CLOUD,
    "kind": "application_credential",
    "config_cloud": None,
    "credentials": {"auth_url": "https://k.example/v3", "application_credential_id": "1234"},
    "access": ANSWERS,
    "access_checked_at": "2026-01-01T00:00:00Z",
    "warnings": ["create: Keystone lets no application credential manage trusts"],
}


class TestOwnCloud(fake_api.ApiTest):
    def setUp(self) -> None:
        super().setUp()
        self.file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / "secret"
        self.file.write_text("hush-hush\nnot this line\n")
        self.own = (
            *("--auth-url", "https://k.example/v3", "--application-credential-id", "1234"),
            *("--secret-file", str(self.file)),
        )
        self.sent = {
            "auth_url": "https://k.example/v3",
            "application_credential_id": "1234",
            "application_credential_secret": "hush-hush",
        }

    def test_create_waits_for_what_it_is_good_for(self):
        new = {**OWN, "access": None, "access_checked_at": None, "warnings": []}
        self.http.post(self.url("/clouds"), status_code=201, json=new)
        self.http.get(self.url("/clouds/id-of-cloud1"), [{"json": new}, {"json": OWN}])
        self.useFixture(fixtures.MonkeyPatch("time.sleep", lambda seconds: None))
        run = self.works("cloud", "create", "cloud1", "--region", "R", *self.own)
        self.assertEqual(
            {
                "name": "cloud1",
                "kind": "application_credential",
                "region": "R",
                "credentials": self.sent,
            },
            self.writes[0][1],
        )
        self.assertIn("authenticate: works", run.out)
        self.assertIn("create: does not work (Keystone lets no application", run.out)
        self.assertIn("Warning: create: Keystone lets no application", run.err)

    def test_a_user_with_a_private_authority(self):
        self.http.post(self.url("/clouds"), status_code=201, json=OWN)
        cacert = self.file.with_name("ca.pem")
        cacert.write_text("-----BEGIN CERTIFICATE-----")
        self.works(
            *(
                "cloud",
                "create",
                "cloud1",
                "--auth-url",
                "https://k.example/v3",
                "--username",
                "u",
            ),
            *("--project-name", "p", "--user-domain", "d", "--secret-file", str(self.file)),
            *("--cacert", str(cacert), "--timeout", "7.5", "--no-wait"),
        )
        self.assertEqual(
            {
                "name": "cloud1",
                "kind": "password",
                "credentials": {
                    "auth_url": "https://k.example/v3",
                    "username": "u",
                    "password": "hush-hush",
                    "user_domain_name": "d",
                    "project_name": "p",
                    "cacert": "-----BEGIN CERTIFICATE-----",
                    "timeout": 7.5,
                },
            },
            self.writes[0][1],
        )

    def test_a_region(self):
        self.http.post(self.url("/clouds"), status_code=201, json={**OWN, "kind": "region"})
        self.works("cloud", "create", "cloud1", "--trust", "--region", "R")
        self.assertEqual({"name": "cloud1", "kind": "region", "region": "R"}, self.writes[0][1])

    def test_rotation(self):
        self.http.patch(self.url("/clouds/cloud1"), json=OWN)
        self.works(
            *("cloud", "set", "cloud1", "--application-credential-id", "5678"),
            *("--secret-file", str(self.file)),
        )
        sent = {"application_credential_id": "5678", "application_credential_secret": "hush-hush"}
        self.assertEqual([("PATCH /clouds/cloud1", {"credentials": sent})], self.writes)

    def test_a_timeout_needs_no_secret(self):
        self.http.patch(self.url("/clouds/cloud1"), json=OWN)
        self.works("cloud", "set", "cloud1", "--timeout", "9")
        self.assertEqual(
            [("PATCH /clouds/cloud1", {"credentials": {"timeout": 9.0}})], self.writes
        )

    def test_without_a_terminal_the_secret_is_not_asked_for(self):
        run = self.spreader("cloud", "create", "cloud1", *self.own[:-2])
        self.assertEqual(1, run.code)
        self.assertIn("--secret-file", run.err)

    def test_no_trace_shows_the_secret(self):
        log = self.useFixture(fixtures.FakeLogger(level=logging.DEBUG))
        self.http.post(self.url("/clouds"), status_code=201, json=OWN)
        self.http.patch(self.url("/clouds/cloud1"), json=OWN)
        for command in (("create", "cloud1", "--no-wait"), ("set", "cloud1")):
            run = self.run_openstack(
                "--debug", "--os-auth-type", "none", "--os-endpoint", fake_api.API,
                "spreader", "cloud", *command, *self.own,
            )  # fmt: skip
            self.assertEqual(0, run.code, run.err)
            for text in (run.out, run.err, log.output):
                self.assertNotIn("hush", text)

    def test_check(self):
        self.http.post(self.url("/clouds/cloud1/actions"), status_code=202, json=OWN)
        later = {**OWN, "access_checked_at": "2026-01-01T00:01:00Z"}
        self.http.get(self.url("/clouds/id-of-cloud1"), json=later)
        self.useFixture(fixtures.MonkeyPatch("time.sleep", lambda seconds: None))
        shown = self.works("cloud", "check", "cloud1", "-f", "json").json
        self.assertEqual(ANSWERS, shown["access"])
        self.assertEqual("2026-01-01T00:01:00Z", shown["access_checked_at"])
        self.assertEqual([("POST /clouds/cloud1/actions", {"check": None})], self.writes)
