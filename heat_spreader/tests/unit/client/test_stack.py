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

"""``openstack spreader stack``."""

import datetime
import logging
import pathlib
import textwrap

import fixtures

from heat_spreader.tests.unit.client import fake_api


class TestTraces(fake_api.ApiTest):
    def test_no_trace_shows_a_body_with_parameters(self):
        """They may be hidden ones. What the caller typed as an argument is in the trace."""
        self.has_stack()
        cloud9 = fake_api.member("cloud9", "0", 0, None)
        self.http.post(self.url("/stacks"), status_code=202, json=fake_api.stack())
        self.http.patch(
            self.url(f"/stacks/{fake_api.stack()['id']}"), status_code=202, json=fake_api.stack()
        )
        self.http.patch(self.url("/stacks/web/members/cloud1"), status_code=202, json=cloud9)
        self.http.get(
            self.url("/stacks/web/members/cloud1"), json=fake_api.member("cloud1", "0", 0, None)
        )
        none = fake_api.error(404, "member_not_found", "Stack 'web' has no member in 'cloud9'.")
        self.http.get(self.url("/stacks/web/members/cloud9"), **none)
        self.http.put(self.url("/stacks/web/members/cloud9"), status_code=202, json=cloud9)
        for command in (
            ("stack", "create", "web", "--count", "1", "--param", "pin=hush"),
            ("stack", "set", "web", "--param", "pin=hush"),
            ("member", "set", "web", "cloud1", "--param", "pin=hush"),
            ("member", "set", "web", "cloud9", "--param", "pin=hush"),
        ):
            with fixtures.FakeLogger(level=logging.DEBUG) as log:
                run = self.run_openstack(
                    "--debug", "--os-auth-type", "none", "--os-endpoint", fake_api.API,
                    "spreader", *command,
                )  # fmt: skip
            self.assertEqual(0, run.code, run.err)
            self.assertIn("'hush'", str(self.writes[-1]))
            for text in (run.out, run.err, log.output):
                self.assertNotIn('"hush"', text)
            self.assertIn("a body that may hold secrets: 202", run.err + log.output)


class TestCreate(fake_api.ApiTest):
    def setUp(self):
        super().setUp()
        self.has_stack()
        self.http.post(self.url("/stacks"), status_code=202, json=fake_api.stack(status="PENDING"))

    def created(self, *argv):
        """The body that these arguments send."""
        self.works("stack", "create", "web", "--count", "10", *argv)
        what, body = self.writes[-1]
        self.assertEqual("POST /stacks", what)
        return body

    def refused(self, *argv):
        run = self.spreader("stack", "create", "web", "--count", "10", *argv)
        self.assertNotEqual(0, run.code)
        self.assertEqual([], self.wire)
        return " ".join(run.err.split())

    def test_only_what_is_given_is_sent(self):
        self.assertEqual({"name": "web", "count": 10, "members": []}, self.created())

    def test_weights_go_over_the_wire_as_they_were_typed(self):
        body = self.created(
            "--weight", "cloud1=0.60", "--weight", "cloud2=.2", "--weight", "cloud3=0.200000001"
        )
        self.assertEqual(
            [
                {"cloud": "cloud1", "weight": "0.60"},
                {"cloud": "cloud2", "weight": ".2"},
                {"cloud": "cloud3", "weight": "0.200000001"},
            ],
            body["members"],
        )

    def test_everything(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        folder.joinpath("web.yaml").write_text("heat_template_version: wallaby\n")
        folder.joinpath("env.yaml").write_text("parameters: {image: cirros}\n")
        body = self.created(
            *("--weight", "cloud1=1", "--cloud", "cloud2", "--min", "cloud1=1"),
            *("--max", "cloud1=8", "--max", "cloud2=3", "--priority", "cloud2=1"),
            *("-t", str(folder / "web.yaml"), "-e", str(folder / "env.yaml")),
            *("--parameter", "size", "--param", "flavor=m1.tiny", "--param", "key=a=b"),
            *("--cloud-param", "cloud2:flavor=small:1", "--cloud-param", "cloud2:net=n"),
            *("--tag", "shop", "--tag", "blue", "--description", "The shop"),
            *("--failover-rule", "ordered", "--toleration", "0", "--stable", "30"),
            *("--timeout", "20", "--min-clouds", "2", "--rounding", "ceil", "--surge", "0"),
            *("--rebalance", "gradual", "--rebalance-step", "3", "--on-drift", "report"),
            *("--on-missing", "move", "--on-stuck", "retry"),
            *("--failback", "manual", "--failback-batch", "4"),
        )
        self.assertEqual(
            {
                "name": "web",
                "description": "The shop",
                "count": 10,
                "count_parameter": "size",
                "min_clouds": 2,
                "rounding": "ceil",
                "surge": 0,
                "timeout_mins": 20,
                "template": "heat_template_version: wallaby\n",
                "environment": "parameters: {image: cirros}\n",
                "parameters": {"flavor": "m1.tiny", "key": "a=b"},
                "tags": ["shop", "blue"],
                "failover": {"rule": "ordered", "toleration": 0},
                "failback": {"mode": "manual", "stable": 30, "batch": 4},
                "rebalance": {"mode": "gradual", "step": 3},
                "repair": {"drift": "report", "missing": "move", "stuck": "retry"},
                "members": [
                    {"cloud": "cloud1", "weight": "1", "minimum": 1, "maximum": 8},
                    {
                        "cloud": "cloud2",
                        "weight": "0",
                        "maximum": 3,
                        "priority": 1,
                        "parameters": {"flavor": "small:1", "net": "n"},
                    },
                ],
            },
            body,
        )

    def test_a_part_of_a_nested_setting_is_sent_alone(self):
        body = self.created("--on-missing", "hold", "--rebalance-step", "2")
        self.assertEqual(({"missing": "hold"}, {"step": 2}), (body["repair"], body["rebalance"]))

    def test_surge_all_is_null_on_the_wire(self):
        body = self.created("--surge", "all")
        self.assertIn("surge", body)
        self.assertIsNone(body["surge"])

    def test_even_rounds_down_so_that_the_sum_stays_within_one(self):
        body = self.created("--even", "--cloud", "a", "--cloud", "b", "--cloud", "c")
        self.assertEqual(["0.333333333"] * 3, [each["weight"] for each in body["members"]])

    def test_even_over_one_two_and_four(self):
        for clouds, weight in (("a", "1"), ("ab", "0.5"), ("abcd", "0.25")):
            body = self.created("--even", *(f"--cloud={cloud}" for cloud in clouds))
            self.assertEqual({weight}, {each["weight"] for each in body["members"]})

    def test_a_percentage_is_no_weight(self):
        self.assertIn("decimal from 0 to 1", self.refused("--weight", "cloud1=60"))

    def test_other_things_that_are_no_weight(self):
        for text in ("", "x", "1.1", "-0.1", "1e-1", "0.1234567891", "0,5", "½", "nan"):
            self.assertIn("is not a weight", self.refused("--weight", f"cloud1={text}"), text)

    def test_a_weight_without_a_cloud(self):
        self.assertIn("CLOUD=WEIGHT, for example cloud1=0.6", self.refused("--weight", "0.6"))

    def test_a_cloud_that_is_weighed_twice(self):
        message = self.refused("--weight", "a=0.5", "--weight", "a=0.4")
        self.assertIn("--weight names a twice", message)

    def test_even_and_weights_contradict_each_other(self):
        self.assertIn("not both", self.refused("--even", "--weight", "a=0.5", "--cloud", "b"))

    def test_even_without_clouds(self):
        self.assertIn("--even needs clouds", self.refused("--even"))

    def test_a_bound_for_a_cloud_that_is_no_member(self):
        for option, value in (("--min", "b=1"), ("--max", "b=1"), ("--cloud-param", "b:k=v")):
            self.assertIn(f"{option} names b", self.refused("--weight", "a=1", option, value))

    def test_the_option_of_openstack_stack_create_is_explained(self):
        self.assertIn("use --param KEY=VALUE", self.refused("--parameter", "flavor=m1.tiny"))

    def test_malformed_pairs(self):
        for option, value, form in (
            ("--param", "flavor", "KEY=VALUE"),
            ("--param", "=x", "KEY=VALUE"),
            ("--cloud-param", "cloud1", "CLOUD:KEY=VALUE"),
            ("--cloud-param", "flavor=small:1", "CLOUD:KEY=VALUE"),
            ("--min", "cloud1", "CLOUD=N"),
            ("--min", "cloud1=-1", "whole number"),
        ):
            self.assertIn(form, self.refused(option, value))

    def test_the_service_s_refusal_is_one_line_with_the_request_id(self):
        self.http.post(
            self.url("/stacks"),
            **fake_api.error(409, "stack_exists", "A stack named 'web' exists\n already."),
        )
        run = self.spreader("stack", "create", "web", "--count", "10")
        self.assertEqual(1, run.code)
        self.assertEqual("A stack named 'web' exists already. (HTTP 409, req-42)\n", run.err)


class TestTemplate(fake_api.ApiTest):
    def setUp(self):
        super().setUp()
        self.has_stack()
        self.http.post(self.url("/stacks"), status_code=202, json=fake_api.stack())
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return str(path)

    def create(self, template, *more):
        return self.spreader("stack", "create", "web", "--count", "1", "-t", template, *more)

    def files(self, template, *more):
        run = self.create(template, *more)
        self.assertEqual(0, run.code, run.err)
        return self.writes[0][1].get("files")

    def test_local_files_are_sent_under_the_names_that_the_template_uses(self):
        self.write("boot.sh", "#!/bin/sh\n")
        self.write("nested/unit.yaml", "resources: {r: {properties: {a: {get_file: deep.txt}}}}\n")
        self.write("nested/deep.txt", "deep")
        text = """\
            heat_template_version: wallaby
            resources:
              group:
                type: OS::Heat::ResourceGroup
                properties:
                  resource_def: {type: nested/unit.yaml}
              one:
                type: OS::Heat::Value
                properties: {value: [{get_file: boot.sh}]}
            """
        template = self.write("web.yaml", text)
        self.assertEqual(
            {
                "boot.sh": "#!/bin/sh\n",
                "nested/unit.yaml": "resources: {r: {properties: {a: {get_file: deep.txt}}}}\n",
                "deep.txt": "deep",
            },
            self.files(template),
        )
        self.assertEqual(textwrap.dedent(text), self.writes[0][1]["template"])

    def test_a_template_without_references_has_no_files(self):
        template = self.write("web.yaml", "resources: {r: {type: OS::Heat::None}}\n")
        self.assertIsNone(self.files(template))

    def test_templates_that_an_environment_maps_to(self):
        template = self.write("web.yaml", "resources: {r: {type: 'My::Unit'}}\n")
        self.write("unit.yaml", "resources: {}\n")
        environment = self.write("env.yaml", "resource_registry: {'My::Unit': unit.yaml}\n")
        self.assertEqual({"unit.yaml": "resources: {}\n"}, self.files(template, "-e", environment))

    def test_templates_that_contain_each_other_end(self):
        template = self.write("web.yaml", "resources: {r: {type: a.yaml}}\n")
        self.write("a.yaml", "resources: {r: {type: b.yaml}}\n")
        self.write("b.yaml", "resources: {r: {type: a.yaml}}\n")
        self.assertEqual({"a.yaml", "b.yaml"}, set(self.files(template)))

    def test_a_nested_template_at_a_url_is_heat_s_affair(self):
        template = self.write("web.yaml", "resources: {r: {type: 'http://x.test/a.yaml'}}\n")
        self.assertIsNone(self.files(template))

    def failure(self, template, *more):
        run = self.create(template, *more)
        self.assertEqual(1, run.code)
        self.assertEqual([], self.wire)
        return run.err

    def test_a_template_that_is_not_there(self):
        message = self.failure(str(self.folder / "no.yaml"))
        self.assertIn("no.yaml cannot be read: No such file or directory", message)

    def test_a_file_that_is_not_there_is_named_with_its_referrer(self):
        message = self.failure(self.write("web.yaml", "a: {get_file: gone.sh}\n"))
        self.assertIn("web.yaml refers to 'gone.sh'", message)
        self.assertIn("No such file or directory", message)

    def test_get_file_of_a_url(self):
        message = self.failure(self.write("web.yaml", "a: {get_file: 'http://x.test/a'}\n"))
        self.assertIn("only local files are read", message)

    def test_two_files_of_one_name(self):
        self.write("a.txt", "one")
        self.write("nested/a.txt", "two")
        self.write("nested/unit.yaml", "a: {get_file: a.txt}\n")
        template = self.write("web.yaml", "a: {get_file: a.txt}\nb: {type: nested/unit.yaml}\n")
        self.assertIn("Two different files are called 'a.txt'", self.failure(template))

    def test_text_that_is_no_yaml(self):
        self.assertIn("neither YAML nor JSON", self.failure(self.write("web.yaml", "a: [\n")))

    def test_a_file_that_is_no_text(self):
        (self.folder / "web.yaml").write_bytes(b"\xff\xfe\x00")
        self.assertIn("not text in UTF-8", self.failure(str(self.folder / "web.yaml")))


class TestList(fake_api.ApiTest):
    def test_the_table_tells_what_runs_of_what_should(self):
        lost = fake_api.member("cloud3", "0.2", 0, 2, verdict="unreachable")
        ledger = {"confirmed": 8, "in_doubt": 2}
        self.http.get(
            self.url("/stacks"),
            json={"stacks": [fake_api.stack(lost, status="DEGRADED", ledger=ledger)]},
        )
        run = self.works("stack", "list")
        self.assertIn("| web  | DEGRADED |    10 |         8 |        2 |", run.out)
        self.assertIn("cloud3 2/0 unreachable", run.out)

    def test_trouble_is_seen_at_a_glance(self):
        troubled = [
            fake_api.member("a", "0.4", 3, 3, status="FULL"),
            fake_api.member("b", "0.4", 4, 5, status="DRIFTED"),
            fake_api.member("c", "0.1", 0, 0, status="MISSING"),
            fake_api.member("d", "0.1", 1, 1, heat_status="CHECK_IN_PROGRESS"),
        ]
        self.http.get(self.url("/stacks"), json={"stacks": [fake_api.stack(*troubled)]})
        run = self.works("stack", "list", "-c", "Spread")
        self.assertIn("a 3/3 full, b 5/4 drifted, c 0/0 missing, d 1/1 checking", run.out)

    def test_raw_in_json(self):
        self.http.get(self.url("/stacks"), json={"stacks": [fake_api.stack(tags=["a"])]})
        [row] = self.works("stack", "list", "--long", "-f", "json").json
        self.assertEqual(fake_api.stack()["members"], row["Spread"])
        self.assertEqual(["a"], row["Tags"])
        self.assertEqual(10, row["Confirmed"])

    def test_filters_are_the_service_s(self):
        self.http.get(self.url("/stacks"), json={"stacks": []})
        self.works(
            *("stack", "list", "--name", "web", "--status", "active", "--tag", "a"),
            *("--cloud", "cloud1", "--all-projects", "--limit", "5", "--marker", "x"),
        )
        [request] = [r for r in self.http.request_history if r.path == "/v1/stacks"]
        self.assertEqual(
            {
                "name": ["web"],
                "status": ["active"],
                "tag": ["a"],
                "cloud": ["cloud1"],
                "all_projects": ["true"],
                "limit": ["5"],
                "marker": ["x"],
            },
            request.qs,
        )
        self.assertIn("status=ACTIVE", request.url)

    def test_all_pages_are_read(self):
        first, second = fake_api.stack(name="a"), fake_api.stack(name="b", id="2")
        following = [{"rel": "next", "href": self.url("/stacks?marker=1")}]
        self.http.get(self.url("/stacks"), json={"stacks": [first], "stacks_links": following})
        self.http.get(self.url("/stacks?marker=1"), json={"stacks": [second]})
        run = self.works("stack", "list", "-f", "value", "-c", "name")
        self.assertEqual("a\nb\n", run.out)

    def test_a_limit_ends_the_list_there(self):
        following = [{"rel": "next", "href": self.url("/stacks?marker=1")}]
        self.http.get(
            self.url("/stacks?limit=1"),
            json={"stacks": [fake_api.stack()], "stacks_links": following},
        )
        self.works("stack", "list", "--limit", "1")
        self.assertEqual(["GET /stacks?limit=1"], self.wire)

    def test_sorting_by_a_column(self):
        stacks = [fake_api.stack(name=name, count=count) for name, count in (("b", 9), ("a", 10))]
        self.http.get(self.url("/stacks"), json={"stacks": stacks})
        names = ("-f", "value", "-c", "Name")
        self.assertEqual(
            "a\nb\n", self.works("stack", "list", "--sort-column", "Name", *names).out
        )
        run = self.works("stack", "list", "--sort-column", "Count", "-c", "Count", *names)
        self.assertEqual("b 9\na 10\n", run.out)


class TestShow(fake_api.ApiTest):
    LOST = fake_api.member(
        "cloud3",
        "0.2",
        0,
        2,
        maximum=4,
        minimum=1,
        verdict="unreachable",
        verdict_reason="3 misses in a row; the last: connection refused",
        status="OUT_OF_SIGHT",
        status_reason="cloud out of sight: its weight went to the others",
    )
    DEGRADED = fake_api.stack(
        fake_api.member("cloud1", "0.6", 7, 7, status_reason="weight 0.7 of 10 is 7"),
        LOST,
        status="DEGRADED",
        status_reason="cloud3 is out of sight",
        ledger={
            "desired": 10,
            "assigned": 10,
            "unassigned": 0,
            "shortfall": 0,
            "excess": 0,
            "confirmed": 7,
            "in_doubt": 2,
            "bound": 9,
            "distance": 1,
        },
    )

    def setUp(self):
        super().setUp()
        self.has_stack(self.DEGRADED)
        decision = fake_api.event(
            9,
            type="stack.failover",
            cloud="cloud3",
            message="Cloud 'cloud3' is out",
            before={"cloud1": 6, "cloud3": 2},
            after={"cloud1": 7, "cloud3": 0},
            evidence={"reason": "3 misses", "verdict": "unreachable"},
            actor="engine-1",
        )
        later = [fake_api.event(11, type="stack.status"), fake_api.event(10, type="member.resize")]
        self.has_events(*later, decision, fake_api.event(8))

    def has_events(self, *events):
        self.http.get(
            self.url(f"/stacks/{fake_api.STACK_ID}/events"), json={"events": list(events)}
        )

    def test_why_each_number_is_what_it_is(self):
        out = self.works("stack", "show", "web").out
        for text in (
            "cloud1  0.6     0..     7      7 ",
            "  weight 0.7 of 10 is 7",
            "cloud3  0.2     1..4    0      2 (",
            "unreachable ",
            "OUT_OF_SIGHT",
            "  cloud out of sight: its weight went to the others",
            "  unreachable: 3 misses in a row; the last: connection refused",
            "desired 10, assigned 10, unassigned 0, shortfall 0, excess 0",
            "confirmed 7, in doubt 2, bound 9, distance 1",
            "2026-01-01T00:00:00Z stack.failover: Cloud 'cloud3' is out",
            "  cloud1 6 -> 7, cloud3 2 -> 0",
            "  because: 3 misses",
            "  by engine-1, req-7",
            "| surge               | all ",
            "| rebalance           | mode=immediate, step=1 ",
            "| repair              | drift=heal, missing=recreate, stuck=report ",
            "2 lines (shown whole by -f json)",
        ):
            self.assertIn(text, out)

    def test_what_the_service_remembers_of_a_member(self):
        now = datetime.datetime.now(datetime.UTC)
        later, before = (now + datetime.timedelta(seconds=s) for s in (330, -330))
        full = {"status": "FULL", "capacity": 4, "full_until": later.isoformat()}
        self.has_stack(
            fake_api.stack(
                fake_api.member("a", "0.6", 4, 4, **full),
                fake_api.member("b", "0.2", 2, 5, status="ERROR", conflict=True),
                fake_api.member("c", "0.2", 0, 0, missing_since=before.isoformat()),
                fake_api.member("d", "0", 1, 0, busy_since=before.isoformat(), check_asked=True),
            )
        )
        out = self.works("stack", "show", "web", "-c", "members").out
        for text in (
            "  full at 4; more is offered to it again in 5 min",
            "  conflict: left as others set it, until you change the stack or 'stack retry' it",
            "  its Heat stack has been missing for 5 min",
            "  Heat has been at work on it for 5 min",
            "  Heat is still to be asked for a check",
        ):
            self.assertIn(text, out)
            self.assertEqual(1, out.count(text))

    def test_a_cloud_that_was_full_once_is_no_news(self):
        once = {"capacity": 4, "full_until": "2026-01-01T00:00:00Z"}
        self.has_stack(fake_api.stack(fake_api.member("a", "1", 4, 4, **once)))
        self.assertNotIn("full at", self.works("stack", "show", "web").out)

    def test_what_changes_where_units_run_is_a_decision(self):
        for kind in ("stack.retry", "member.full"):
            self.has_events(fake_api.event(2, type=kind, before=6, after=4), fake_api.event(1))
            out = self.works("stack", "show", "web", "-c", "last_decision").out
            self.assertIn(f"Z {kind}: ", out)

    def test_a_verdict_is_explained_once(self):
        both = {**self.LOST, "status_reason": f"unreachable: {self.LOST['verdict_reason']}"}
        self.has_stack(fake_api.stack(both))
        out = self.works("stack", "show", "web", "-c", "members").out
        self.assertEqual(1, out.count("3 misses in a row"))

    def test_a_long_reason_is_wrapped(self):
        self.has_stack(fake_api.stack(status_reason="again and " * 40))
        out = self.works("stack", "show", "web", "-c", "status_reason").out
        self.assertLess(max(map(len, out.splitlines())), 130)

    def test_a_decision_about_settings_has_no_shares(self):
        change = fake_api.event(1, before={"members": {}}, after={"members": {"a": {}}})
        self.has_events(change)
        out = self.works("stack", "show", "web", "-c", "last_decision").out
        self.assertIn("stack.update: count 8 -> 10", out)
        self.assertIn("  by alice, req-7", out)

    def test_json_is_what_the_api_says(self):
        shown = self.works("stack", "show", "web", "-f", "json").json
        self.assertEqual("stack.failover", shown.pop("last_decision")["type"])
        self.assertEqual(self.DEGRADED, shown)

    def test_one_value_for_a_script(self):
        run = self.works("stack", "show", "web", "-f", "value", "-c", "status")
        self.assertEqual("DEGRADED\n", run.out)

    def test_a_stack_that_nobody_has_seen_yet(self):
        fresh = fake_api.member(
            "cloud1",
            "1",
            None,
            None,
            heat_stack_id=None,
            heat_status=None,
            verdict="unknown",
            verdict_since=None,
            observed_at=None,
            status="PENDING",
            status_reason="",
        )
        self.has_stack(fake_api.stack(fresh, status="PENDING", ledger={}))
        out = self.works("stack", "show", "web").out
        self.assertIn("cloud1  1       0..     -      0        -            unknown  PENDING", out)

    def test_what_can_be_no_name(self):
        for name in ("a/b", "a?b=c", "a#b", "a b", "..", "", "a%2fb"):
            run = self.spreader("stack", "show", name)
            self.assertEqual(2, run.code)
            self.assertIn("neither a name nor an id", run.err)
        self.assertEqual([], self.wire)

    def test_a_stack_that_is_not_there(self):
        self.http.get(
            self.url("/stacks/nix"), **fake_api.error(404, "stack_not_found", "No stack 'nix'.")
        )
        run = self.spreader("stack", "show", "nix")
        self.assertEqual((1, "No stack 'nix'. (HTTP 404, req-42)\n"), (run.code, run.err))


class TestSet(fake_api.ApiTest):
    def setUp(self):
        super().setUp()
        self.has_stack(
            fake_api.stack(parameters={"flavor": "a", "image": "b"}, tags=["old"], generation=3)
        )
        self.http.patch(
            self.url(f"/stacks/{fake_api.STACK_ID}"),
            status_code=202,
            json=fake_api.stack(count=12, generation=4),
        )

    def test_only_what_changes_is_sent(self):
        run = self.works("stack", "set", "web", "--count", "12", "-f", "value", "-c", "count")
        self.assertEqual([(f"PATCH /stacks/{fake_api.STACK_ID}", {"count": 12})], self.writes)
        self.assertEqual("12\n", run.out)
        self.assertNotIn("If-Match", self.patch.headers)

    @property
    def patch(self):
        [request] = [r for r in self.http.request_history if r.method == "PATCH"]
        return request

    def test_what_is_so_already_is_not_sent(self):
        self.works("stack", "set", "web", "--count", "10")
        self.assertEqual([], self.writes)

    def test_the_rest_of_a_nested_field_stays_and_is_guarded(self):
        self.works(
            *("stack", "set", "web", "--param", "flavor=c", "--tag", "new", "--tag", "old"),
            *("--toleration", "5", "--stable", "6", "--rebalance", "on-demand"),
            *("--on-drift", "ignore"),
        )
        self.assertEqual(
            {
                "parameters": {"flavor": "c", "image": "b"},
                "tags": ["old", "new"],
                "failover": {"rule": "even", "toleration": 5},
                "failback": {"mode": "auto", "stable": 6, "batch": None},
                "rebalance": {"mode": "on-demand", "step": 1},
                "repair": {"drift": "ignore", "missing": "recreate", "stuck": "report"},
            },
            self.patch.json(),
        )
        self.assertEqual('"3"', self.patch.headers["If-Match"])

    def test_tags_are_replaced(self):
        self.works("stack", "set", "web", "--no-tag", "--tag", "new")
        self.assertEqual({"tags": ["new"]}, self.patch.json())

    def test_tags_are_taken_away(self):
        self.works("stack", "set", "web", "--no-tag")
        self.assertEqual({"tags": []}, self.patch.json())

    def test_a_bound_is_lifted(self):
        self.has_stack(fake_api.stack(surge=2))
        self.works("stack", "set", "web", "--surge", "all")
        self.assertEqual({"surge": None}, self.patch.json())

    def test_a_generation_is_insisted_on(self):
        self.http.patch(
            self.url(f"/stacks/{fake_api.STACK_ID}"),
            **fake_api.error(412, "concurrent_update", "Stack 'web' is at generation 3, not 2."),
        )
        run = self.spreader("stack", "set", "web", "--count", "12", "--generation", "2")
        self.assertEqual(1, run.code)
        self.assertEqual('"2"', self.patch.headers["If-Match"])
        self.assertEqual("Stack 'web' is at generation 3, not 2. (HTTP 412, req-42)\n", run.err)

    def test_nothing_to_change(self):
        run = self.spreader("stack", "set", "web")
        self.assertEqual((1, "Nothing to change: no option says what.\n"), (run.code, run.err))


class TestDelete(fake_api.ApiTest):
    def test_several_of_which_one_fails(self):
        self.http.delete(self.url("/stacks/a"), status_code=202, json=fake_api.stack())
        self.http.delete(
            self.url("/stacks/b"), **fake_api.error(404, "stack_not_found", "No stack 'b'.")
        )
        self.http.delete(self.url("/stacks/c"), status_code=202, json=fake_api.stack())
        run = self.spreader("stack", "delete", "a", "b", "c")
        self.assertEqual(1, run.code)
        self.assertEqual(
            ["b: No stack 'b'. (HTTP 404, req-42)", "1 of 3 failed: b."], run.err.splitlines()
        )
        self.assertEqual(["DELETE /stacks/a", "DELETE /stacks/b", "DELETE /stacks/c"], self.wire)

    def test_release(self):
        self.http.delete(self.url("/stacks/a"), status_code=202, json=fake_api.stack())
        self.works("stack", "delete", "a", "--release")
        self.assertEqual(["DELETE /stacks/a?release=true"], self.wire)

    def test_forget(self):
        self.http.delete(self.url("/stacks/a"), status_code=202, json=fake_api.stack())
        self.works("stack", "delete", "a", "--forget")
        self.works("stack", "delete", "a", "--forget", "--release")
        self.assertEqual(
            ["DELETE /stacks/a?forget=true", "DELETE /stacks/a?release=true&forget=true"],
            self.wire,
        )

    def test_waiting_until_nothing_is_left(self):
        there = {"json": fake_api.stack(status="DELETING")}
        gone = fake_api.error(404, "stack_not_found", "No stack.")
        path = f"/stacks/{fake_api.STACK_ID}"
        self.http.get(self.url("/stacks/web"), json=fake_api.stack())
        self.http.get(self.url(path), [there, gone])
        self.http.delete(self.url(path), status_code=202, json=fake_api.stack())
        run = self.works("stack", "delete", "web", "--wait")
        self.assertEqual(
            ["GET /stacks/web", f"DELETE {path}", f"GET {path}", f"GET {path}"], self.wire
        )
        self.assertIn("web DELETING", run.err)


class TestActions(fake_api.ApiTest):
    def has_actions(self, name, **more):
        self.http.post(
            self.url(f"/stacks/{name}/actions"), status_code=202, json=fake_api.stack(**more)
        )

    def test_check_and_retry(self):
        self.has_actions("a")
        self.has_actions("b")
        for verb in ("check", "retry", "failback", "failover"):
            run = self.works("stack", verb, "a", "b")
            self.assertEqual(("", ""), (run.out, run.err))
        self.assertEqual(
            [
                ("POST /stacks/a/actions", {"check": None}),
                ("POST /stacks/b/actions", {"check": None}),
                ("POST /stacks/a/actions", {"retry": None}),
                ("POST /stacks/b/actions", {"retry": None}),
                ("POST /stacks/a/actions", {"failback": None}),
                ("POST /stacks/b/actions", {"failback": None}),
                ("POST /stacks/a/actions", {"force-failover": None}),
                ("POST /stacks/b/actions", {"force-failover": None}),
            ],
            self.writes,
        )

    def test_each_is_tried(self):
        self.http.post(
            self.url("/stacks/a/actions"),
            **fake_api.error(409, "stack_deleting", "Stack 'a' is being deleted."),
        )
        self.has_actions("b")
        for verb in ("check", "retry"):
            run = self.spreader("stack", verb, "a", "b")
            self.assertEqual(1, run.code)
            self.assertIn("a: Stack 'a' is being deleted. (HTTP 409, req-42)", run.err)
            self.assertIn("1 of 2 failed: a.", run.err)
        self.assertEqual(2, self.wire.count("POST /stacks/b/actions"))

    def test_waiting_for_a_retry(self):
        self.has_actions("web", status="CONVERGING")
        self.has_stack(fake_api.stack(status="CONVERGING"), fake_api.stack(status="ACTIVE"))
        run = self.works("stack", "retry", "web", "--wait")
        self.assertIn("web CONVERGING: 3/3 members done", run.err)
        self.assertIn("web ACTIVE: 3/3 members done", run.err)

    def test_waiting_for_a_check(self):
        def look(status, **cloud1):
            away = {"check_asked": True, "verdict": "unreachable"}
            return fake_api.stack(
                fake_api.member("cloud1", "0.6", 6, 6, **cloud1),
                fake_api.member("cloud2", "0.4", 4, 4, **away),
                status=status,
            )

        self.http.post(
            self.url("/stacks/web/actions"),
            status_code=202,
            json=look("DEGRADED", check_asked=True),
        )
        self.has_stack(
            look("DEGRADED", check_asked=True),
            look("ERROR", check_asked=True),
            look("DEGRADED", heat_status="CHECK_IN_PROGRESS"),
            look("DEGRADED", heat_status="CHECK_COMPLETE"),
        )
        run = self.works("stack", "check", "web", "--wait")
        *lines, warning = run.err.splitlines()
        self.assertEqual(
            ["DEGRADED", "ERROR", "DEGRADED", "DEGRADED"],
            [line.split()[1].rstrip(":") for line in lines],
        )
        self.assertIn("is DEGRADED", warning)

    def test_waiting_for_a_retry_that_does_not_help(self):
        self.has_actions("web", status="CONVERGING")
        self.has_stack(fake_api.stack(status="ERROR", status_reason="cloud1: no quota."))
        run = self.spreader("stack", "retry", "web", "--wait")
        self.assertEqual(1, run.code)
        self.assertIn("Stack web is in ERROR: cloud1: no quota.", run.err)


class TestWait(fake_api.ApiTest):
    """``--wait``, as every command has it."""

    def setUp(self):
        super().setUp()
        self.http.patch(
            self.url(f"/stacks/{fake_api.STACK_ID}"),
            status_code=202,
            json=fake_api.stack(status="CONVERGING", generation=4, count=12),
        )

    def wait(self, *looks, timeout="600", **keywords):
        self.has_stack(*looks)
        self.http.get(self.url("/stacks/web"), json=fake_api.stack())
        return self.spreader(
            *("stack", "set", "web", "--count", "12", "--wait", "--wait-timeout", timeout),
            *("-f", "value", "-c", "status"),
            **keywords,
        )

    CONVERGING = fake_api.stack(
        fake_api.member("cloud1", "0.6", 6, 6),
        fake_api.member("cloud2", "0.4", 4, None, heat_status="CREATE_IN_PROGRESS"),
        status="CONVERGING",
        generation=4,
    )
    DONE = fake_api.stack(
        fake_api.member("cloud1", "0.6", 6, 6),
        fake_api.member("cloud2", "0.4", 4, 4),
        generation=4,
        observed_generation=4,
    )

    def test_a_line_per_change_where_nobody_watches(self):
        run = self.wait(self.CONVERGING, self.CONVERGING, self.DONE)
        self.assertEqual((0, "ACTIVE\n"), (run.code, run.out))
        self.assertEqual(
            [
                "web CONVERGING: 1/2 members done, 6/10 units confirmed: cloud1 6/6, cloud2 0/4 "
                "creating",
                "web ACTIVE: 2/2 members done, 10/10 units confirmed: cloud1 6/6, cloud2 4/4",
            ],
            run.err.splitlines(),
        )

    def test_one_line_on_a_terminal(self):
        self.useFixture(fixtures.EnvironmentVariable("COLUMNS", "40"))
        run = self.wait(self.CONVERGING, self.DONE, terminal=True)
        # Cut to the width: a line that wraps could not be written over.
        self.assertEqual(
            "\r\x1b[2Kweb CONVERGING: 1/2 members done, 6/10 "
            "\r\x1b[2Kweb ACTIVE: 2/2 members done, 10/10 uni\n",
            run.err,
        )

    def test_what_no_weight_claims_is_told(self):
        ledger = {"confirmed": 6, "unassigned": 4}
        member = fake_api.member("cloud1", "0.6", 6, 6)
        run = self.wait({**self.DONE, "members": [member], "ledger": ledger})
        self.assertEqual(
            "web ACTIVE: 1/1 members done, 6/10 units confirmed, 4 unassigned: cloud1 6/6\n",
            run.err,
        )

    def test_active_before_the_change_was_seen_is_not_the_end(self):
        early = fake_api.stack(status="ACTIVE", generation=4, observed_generation=3)
        run = self.wait(early, self.DONE)
        self.assertEqual(0, run.code)
        self.assertEqual(2, self.wire.count(f"GET /stacks/{fake_api.STACK_ID}"))

    def test_degraded_ends_with_a_warning(self):
        run = self.wait(fake_api.stack(status="DEGRADED", status_reason="cloud3 is out of sight"))
        self.assertEqual((0, "DEGRADED\n"), (run.code, run.out))
        self.assertIn("Stack web is DEGRADED: cloud3 is out of sight", run.err)

    def test_error_fails_with_the_reason(self):
        run = self.wait(fake_api.stack(status="ERROR", status_reason="no such flavor"))
        self.assertEqual((1, ""), (run.code, run.out))
        self.assertIn("Stack web is in ERROR: no such flavor", run.err)

    def test_the_time_is_over(self):
        reason = "cloud2 is busy"
        run = self.wait({**self.CONVERGING, "status_reason": reason}, timeout="1")
        self.assertEqual(1, run.code)
        self.assertIn(
            "Stack web is still CONVERGING after 1 s, and the service goes on with it: " + reason,
            run.err,
        )

    def test_a_restart_of_the_api_is_sat_out(self):
        self.has_stack()
        self.http.get(
            self.url(f"/stacks/{fake_api.STACK_ID}"),
            [{"status_code": 503, "text": "no server"}, {"json": self.DONE}],
        )
        run = self.spreader("stack", "set", "web", "--count", "12", "--wait")
        self.assertEqual(0, run.code, run.err)

    def test_a_refusal_ends_it(self):
        self.has_stack()
        self.http.get(
            self.url(f"/stacks/{fake_api.STACK_ID}"),
            **fake_api.error(403, "forbidden", "Not allowed."),
        )
        run = self.spreader("stack", "set", "web", "--count", "12", "--wait")
        self.assertEqual((1, "Not allowed. (HTTP 403, req-42)\n"), (run.code, run.err))

    def test_ctrl_c_leaves_the_service_at_work(self):
        def interrupt(request, context):
            raise KeyboardInterrupt

        self.has_stack()
        self.http.get(
            self.url(f"/stacks/{fake_api.STACK_ID}"),
            [{"json": self.CONVERGING}, {"json": interrupt}],
        )
        run = self.spreader("stack", "set", "web", "--count", "12", "--wait")
        self.assertEqual(130, run.code)
        self.assertIn("The service goes on with the work", run.err)
        self.assertNotIn("Traceback", run.err)

    def test_create_waits_too(self):
        self.http.post(self.url("/stacks"), status_code=202, json=self.CONVERGING)
        self.has_stack(self.DONE)
        run = self.works("stack", "create", "web", "--count", "10", "--wait")
        self.assertIn("web ACTIVE: 2/2 members done", run.err)
        self.assertIn("| status              | ACTIVE", run.out)
