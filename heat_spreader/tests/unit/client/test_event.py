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

"""``openstack spreader event``."""

import datetime

from heat_spreader.tests.unit.client import fake_api


class TestEvent(fake_api.ApiTest):
    def has_events(self, path="/events", *numbers, **more):
        self.http.get(
            self.url(path), json={"events": [fake_api.event(n) for n in numbers], **more}
        )
        # openstacksdk asks for more after the last event.
        after = f"{path.partition('?')[0]}?marker={min(numbers, default=0)}"
        self.http.get(self.url(after), json={"events": []})

    @property
    def query(self):
        return self.http.last_request.qs

    def test_newest_first_as_the_service_gives_them(self):
        self.has_events("/events", 9, 8)
        run = self.works("event", "list", "-f", "value", "-c", "id", "-c", "message")
        self.assertEqual("9 count 8 -> 10\n8 count 8 -> 10\n", run.out)

    def test_of_one_stack(self):
        self.has_events("/stacks/web/events", 9)
        self.works("event", "list", "--stack", "web")
        self.assertEqual("/v1/stacks/web/events", self.http.last_request.path)

    def test_filters(self):
        self.has_events()
        self.works(
            *("event", "list", "--cloud", "cloud1", "--type", "stack.update"),
            *("--since", "2026-01-01T00:00:00Z"),
        )
        self.assertEqual(
            {
                "cloud": ["cloud1"],
                "type": ["stack.update"],
                "since": ["2026-01-01t00:00:00z"],
                "limit": ["50"],
            },
            self.query,
        )

    def test_since_an_age(self):
        self.has_events()
        self.works("event", "list", "--since", "15m")
        [sent] = self.query["since"]
        age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(sent.upper())
        self.assertTrue(890 <= age.total_seconds() <= 960, age)

    def test_since_nonsense(self):
        run = self.spreader("event", "list", "--since", "yesterday")
        self.assertEqual(2, run.code)
        self.assertIn("an age such as 15m", run.err)

    def test_no_more_than_the_limit(self):
        following = [{"rel": "next", "href": self.url("/events?limit=2&marker=8")}]
        self.has_events("/events?limit=2", 9, 8, events_links=following)
        run = self.works("event", "list", "--limit", "2", "-f", "value", "-c", "id")
        self.assertEqual("9\n8\n", run.out)
        self.assertEqual(["GET /events?limit=2"], self.wire)

    def test_all_of_them(self):
        following = [{"rel": "next", "href": self.url("/events?limit=1000&marker=8")}]
        self.has_events("/events?limit=1000", 9, 8, events_links=following)
        self.has_events("/events?limit=1000&marker=8", 7)
        run = self.works("event", "list", "--limit", "0", "-f", "value", "-c", "id")
        self.assertEqual("9\n8\n7\n", run.out)

    def test_causes_raw_and_readable(self):
        self.has_events("/events", 9)
        [row] = self.works("event", "list", "--long", "-f", "json").json
        self.assertEqual({"count": 10}, row["After"])
        self.assertEqual(("alice", "req-7"), (row["Actor"], row["Request ID"]))
        out = self.works("event", "list", "--long").out
        self.assertIn("| count=10 ", out)
        self.assertIn("| web   | -     | stack.update |", out)
