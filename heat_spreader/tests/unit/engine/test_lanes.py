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

"""What is bounded in a lane, and that nobody waits behind a cloud that hangs."""

import contextlib
import datetime
import threading
import time

from oslotest import base

from heat_spreader.engine import heat
from heat_spreader.engine import lanes
from heat_spreader.engine import observe

START = datetime.datetime(2026, 1, 1)


def listing(*statuses, at=START):
    rows = [
        heat.HeatStack(str(n), str(n), status, "", None, ()) for n, status in enumerate(statuses)
    ]
    return observe.Snapshot(at, 0.0, {row.id: row for row in rows})


class LanesTest(base.BaseTestCase):
    def setUp(self):
        super().setUp()
        self.listings = {"east": listing(), "west": listing()}
        self.lending = 0
        self.lent = threading.Event()
        self.open = threading.Event()
        self.addCleanup(self.open.set)
        self.on_the_wire = threading.Semaphore(0)

    def lanes(self, concurrency=2, max_in_progress=100):
        @contextlib.contextmanager
        def lent():
            self.lending += 1
            self.lent.set()
            yield
            self.lending -= 1

        found = lanes.Lanes(concurrency, max_in_progress, self.listings.get, lent=lent)
        self.addCleanup(found.stop)
        return found

    def hang(self):
        self.on_the_wire.release()
        self.open.wait(30)
        return "late"

    def hold(self, line, cloud="east", rounds=2):
        """Rounds whose requests hang in the cloud; their results once it answers."""
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(line.run({1: (cloud, self.hang)})))
            for _ in range(rounds)
        ]
        for thread in threads:
            thread.start()
        for _ in threads:
            self.assertTrue(self.on_the_wire.acquire(timeout=10))

        def finish():
            self.open.set()
            for thread in threads:
                thread.join()
            return results

        return finish


class TestPlaces(LanesTest):
    def test_jobs_in_several_clouds(self):
        line = self.lanes()
        done = line.run({"a": ("east", lambda: 1), "b": ("west", lambda: 2)})
        self.assertEqual({"a": 1, "b": 2}, done)
        self.assertEqual({}, line.run({}))

    def test_a_full_lane_keeps_nobody(self):
        line = self.lanes(concurrency=2)
        finish = self.hold(line)
        done = line.run({"a": ("east", lambda: 1), "b": ("west", lambda: 2)})
        self.assertIsInstance(done["a"], lanes.PutOff)
        self.assertEqual(2, done["b"])
        self.assertEqual([{1: "late"}, {1: "late"}], finish())
        self.assertEqual({"a": 1}, line.run({"a": ("east", lambda: 1)}))

    def test_few_wait_for_a_place(self):
        line = self.lanes(concurrency=2)
        finish = self.hold(line)
        sent = []
        done = line.run({n: ("east", lambda n=n: sent.append(n)) for n in range(9)})
        self.assertEqual([], sent)
        for result in done.values():
            self.assertIsInstance(result, lanes.PutOff)
        # Those beyond what may wait were told so at once, the others after a moment.
        self.assertEqual(2, len({result.reason for result in done.values()}))
        finish()

    def test_a_round_that_waits_lends_its_place(self):
        line = self.lanes()
        finish = self.hold(line, rounds=1)
        self.assertTrue(self.lent.wait(10))
        self.assertEqual(1, self.lending)
        finish()
        self.assertEqual(0, self.lending)

    def test_an_error_goes_to_whoever_asked(self):
        line = self.lanes()
        self.assertRaises(ZeroDivisionError, line.run, {"a": ("east", lambda: 1 / 0)})
        self.assertEqual({"a": 1}, line.run({"a": ("east", lambda: 1)}))

    def test_the_end_comes_although_somebody_waits_for_a_place(self):
        line = self.lanes(concurrency=1)
        finish = self.hold(line, rounds=1)
        results = []
        waiting = threading.Thread(
            target=lambda: results.append(line.run({1: ("east", lambda: "sent")})), daemon=True
        )
        waiting.start()
        while line._lanes["east"].load < 2:
            time.sleep(0.001)
        ending = threading.Thread(target=line.stop, daemon=True)
        ending.start()
        ending.join(10)
        self.assertFalse(ending.is_alive())
        waiting.join(10)
        self.assertIsInstance(results[0][1], lanes.PutOff)
        finish()

    def test_after_the_end_nothing_is_sent(self):
        line = self.lanes()
        self.assertEqual({"a": 1}, line.run({"a": ("east", lambda: 1)}))
        line.stop()
        self.assertIsInstance(line.run({"a": ("east", lambda: 1)})["a"], lanes.PutOff)


class TestDoubt(LanesTest):
    def test_nothing_is_sent_to_a_cloud_in_doubt(self):
        line = self.lanes()
        self.listings["east"] = None
        done = line.run({"a": ("east", lambda: 1), "b": ("west", lambda: 2)})
        self.assertIsInstance(done["a"], lanes.PutOff)
        self.assertEqual(2, done["b"])
        self.listings["east"] = listing()
        self.assertEqual({"a": 1}, line.run({"a": ("east", lambda: 1)}))

    def test_whoever_comes_later_is_told_how_many_came_before(self):
        """So that not all of them come back at the same moment; a new listing begins anew."""
        line = self.lanes()
        self.listings["east"] = None
        told = [line.run({"a": ("east", lambda: 1)})["a"].before for _ in range(3)]
        self.assertEqual([0, 1, 2], told)
        self.listings["east"] = listing("UPDATE_IN_PROGRESS")
        line.run({"a": ("east", lambda: 1)}, begin=lambda: START)
        self.listings["east"] = None
        self.assertEqual(0, line.run({"a": ("east", lambda: 1)})["a"].before)

    def test_nor_what_waits_for_its_place_when_the_doubt_arises(self):
        line = self.lanes(concurrency=1)
        sent = []

        def fail():
            self.on_the_wire.release()
            self.open.wait(30)
            self.listings["east"] = None

        first = threading.Thread(target=line.run, args=({1: ("east", fail)},))
        first.start()
        self.assertTrue(self.on_the_wire.acquire(timeout=10))
        opener = threading.Timer(lanes.PATIENCE / 5, self.open.set)
        opener.start()
        done = line.run({"a": ("east", lambda: sent.append(1))})
        first.join()
        opener.join()
        self.assertIsInstance(done["a"], lanes.PutOff)
        self.assertEqual([], sent)


class TestOperations(LanesTest):
    def begin(self, line, number, cloud="east", at=START):
        """Begin so many operations; how many were sent."""
        done = line.run({n: (cloud, lambda: "sent") for n in range(number)}, begin=lambda: at)
        return list(done.values()).count("sent")

    def test_no_more_than_so_many_at_once(self):
        line = self.lanes(concurrency=8, max_in_progress=5)
        self.listings["east"] = listing(
            "UPDATE_IN_PROGRESS", "CREATE_COMPLETE", "CREATE_IN_PROGRESS"
        )
        self.assertEqual(3, self.begin(line, 4))
        self.assertEqual(0, self.begin(line, 1))
        self.assertEqual(5, self.begin(line, 6, cloud="west"))

    def test_a_new_listing_tells_what_became_of_them(self):
        line = self.lanes(concurrency=8, max_in_progress=3)
        at = START + datetime.timedelta(seconds=1)
        self.assertEqual(3, self.begin(line, 3, at=at))
        # What was asked for before they were begun does not tell of them.
        self.listings["east"] = listing("UPDATE_COMPLETE", at=START)
        self.assertEqual(0, self.begin(line, 1, at=at))
        self.listings["east"] = listing(
            "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", at=at + datetime.timedelta(seconds=1)
        )
        self.assertEqual(2, self.begin(line, 3, at=at + datetime.timedelta(seconds=2)))

    def test_what_only_asks_is_not_counted(self):
        line = self.lanes(concurrency=8, max_in_progress=1)
        self.listings["east"] = listing("UPDATE_IN_PROGRESS")
        self.assertEqual({"a": 1}, line.run({"a": ("east", lambda: 1)}))


class TestKeep(LanesTest):
    def workers(self):
        return sum(thread.name.startswith("work-") for thread in threading.enumerate())

    def test_a_lane_ends_with_its_cloud(self):
        before = self.workers()
        line = self.lanes()
        line.run({1: ("east", list), 2: ("west", list)})
        line.keep(["west"])
        for _ in range(1000):
            if self.workers() == before + 1:
                break
            time.sleep(0.01)
        self.assertEqual(before + 1, self.workers())
        # One of that name gets another.
        self.assertEqual({1: [], 2: []}, line.run({1: ("east", list), 2: ("west", list)}))

    def test_one_in_use_goes_on_until_it_is_not(self):
        line = self.lanes()
        finish = self.hold(line)
        line.keep([])
        # It is still the same lane, in which two hang.
        self.assertIsInstance(line.run({1: ("east", list)})[1], lanes.PutOff)
        self.assertEqual([{1: "late"}, {1: "late"}], finish())
