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

"""What goes in comes out, the same on every database: times, text, JSON, big and small numbers."""

import datetime
import gc
import os
import pathlib
import time

import fixtures
import sqlalchemy as sa
from sqlalchemy import orm

from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import models
from heat_spreader.db import rounds as db_rounds
from heat_spreader.db import stacks as db_stacks
from heat_spreader.tests.unit.db import backends

load_tests = backends.on_each

MARKS = "größe 世界 🔥 \"'\\%_; --"


def utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


class TestClock(backends.DatabaseTestCase):
    # How a session of each database is put into another time zone.
    ZONES = {
        "mysql": ("init_command=SET+time_zone='%2B09:00'", "SELECT NOW()"),
        "postgresql": ("options=-ctimezone=Asia/Tokyo", "SELECT now()::timestamp"),
        "sqlite": ("", "SELECT datetime('now', 'localtime')"),
    }

    def now(self):
        with orm.Session(db_api.engine()) as session:
            return db_api.now(session)

    def assert_is_now(self, moment):
        self.assertLess(abs((moment - utc()).total_seconds()), 5)

    def test_it_is_naive_utc(self):
        moment = self.now()
        self.assertIs(datetime.datetime, type(moment))
        self.assertIsNone(moment.tzinfo)
        self.assert_is_now(moment)

    def test_it_goes_on_within_a_transaction(self):
        with orm.Session(db_api.engine()) as session:
            first = db_api.now(session)
            time.sleep(0.01)
            passed = db_api.now(session) - first
        self.assertGreaterEqual(passed, datetime.timedelta(milliseconds=9))

    def test_whatever_the_time_zone_of_the_session_is(self):
        self.useFixture(fixtures.EnvironmentVariable("TZ", "Asia/Tokyo"))
        time.tzset()
        self.addCleanup(time.tzset)
        # Clean-ups run in reverse: the variable must be back before the zone is read again.
        self.addCleanup(os.environ.pop, "TZ", None)
        parameters, local_time = self.ZONES[self.backend]
        self.config.set("database", connection_parameters=parameters)
        db_api.configure(self.config.conf)
        with db_api.engine().connect() as connection:
            local = connection.exec_driver_sql(local_time).scalar_one()
        if isinstance(local, str):
            local = datetime.datetime.fromisoformat(local)
        self.assertLess(abs((local - utc()).total_seconds() - 9 * 3600), 5)
        self.assert_is_now(self.now())
        stack = self.stack()
        for row in (stack, self.read(stack)):
            self.assert_is_now(row.created_at)
            self.assert_is_now(row.due_at)
        self.assertEqual([stack.id], db_rounds.due_stacks(self.ctx, 10))
        claim = db_rounds.claim_stack(self.ctx, stack.id, "one", 60)
        self.assert_is_now(claim.moment)
        self.assertEqual([], db_rounds.due_stacks(self.ctx, 10))

    def test_fractions_of_a_second_are_kept(self):
        claimed = self.claim(self.stack("web", [self.cloud()]))
        moment = datetime.datetime(2026, 1, 2, 3, 4, 59, 999999)
        self.save(claimed, members={claimed.members[0].id: {"observed_at": moment}})
        self.assertEqual(moment, self.read(claimed).members[0].observed_at)
        fractions = {self.now().microsecond for _ in range(5)}
        self.assertNotEqual({0}, fractions)


class TestValues(backends.DatabaseTestCase):
    def test_text_in_every_script(self):
        long = "🔥" * 70_000
        cloud = self.cloud(description=MARKS)
        stack = self.stack(
            "web",
            [cloud],
            description=MARKS,
            template=long,
            environment=MARKS,
            files={MARKS: long},
            parameters={MARKS: MARKS},
            tags=[MARKS],
        )
        row = self.read(stack)
        self.assertEqual((MARKS, long, MARKS), (row.description, row.template, row.environment))
        self.assertEqual({MARKS: long}, row.files)
        self.assertEqual(({MARKS: MARKS}, [MARKS]), (row.parameters, row.tags))
        self.assertEqual(MARKS, row.members[0].cloud.description)
        db_clouds.set_verdict(self.ctx, cloud, "healthy", MARKS, {MARKS: MARKS})
        event = self.events(type="cloud.verdict")[0]
        self.assertIn(MARKS, event.message)
        self.assertEqual({MARKS: MARKS}, event.evidence)

    def test_reasons_of_any_length(self):
        """A stack in a thousand clouds has much to say."""
        long = "ß" * 70_000
        cloud = self.cloud()
        self.assertTrue(db_clouds.set_verdict(self.ctx, cloud, "healthy", long, {}))
        claimed = self.claim(self.stack("web", [cloud]))
        reasons = {"status_reason": long, "problem": long, "heat_status_reason": long}
        self.save(
            claimed,
            values={"status_reason": long, "ledger": {long: 1}},
            members={claimed.members[0].id: reasons},
            events=[{"type": "x", "message": long, "before": long, "after": [long]}],
        )
        row = self.read(claimed)
        self.assertEqual((long, {long: 1}), (row.status_reason, row.ledger))
        member = row.members[0]
        self.assertEqual(reasons, {column: getattr(member, column) for column in reasons})
        self.assertEqual(long, member.cloud.verdict_reason)
        event = self.events(type="x")[0]
        self.assertEqual((long, long, [long]), (event.message, event.before, event.after))

    def test_json_keeps_its_types(self):
        document = {
            "text": "",
            "whole": 10**15,
            "part": 0.1,
            "yes": True,
            "nothing": None,
            "list": [1, "1", [], {}],
        }
        stack = self.stack(parameters=document, tags=[], files={})
        row = self.read(stack)
        self.assertEqual(document, row.parameters)
        self.assertIs(True, row.parameters["yes"])
        self.assertEqual(([], {}), (row.tags, row.files))
        self.save(
            self.claim(stack),
            events=[
                {"type": "a", "message": "m", "before": 0, "after": False, "evidence": [None]},
                {"type": "b", "message": "m"},
            ],
        )
        full, empty = self.events(stack_id=stack.id)[1:]
        self.assertEqual((0, False, [None]), (full.before, full.after, full.evidence))
        self.assertIs(False, full.after)
        self.assertEqual((None, None, None), (empty.before, empty.after, empty.evidence))

    def test_numbers_up_to_what_the_api_takes(self):
        cloud = self.cloud()
        stack = self.stack(
            count=1_000_000,
            surge=1_000_000,
            timeout_mins=100_000,
            failover_toleration=31_536_000,
            failback_stable=31_536_000,
        )
        row = db_stacks.update_stack(
            self.ctx, stack.id, members={cloud.id: {"weight": "0.123456789", "maximum": 10**6}}
        )
        self.assertEqual((10**6, 10**6, 100_000), (row.count, row.surge, row.timeout_mins))
        self.assertEqual(31_536_000, row.failback_stable)
        self.assertEqual(("0.123456789", 10**6), (row.members[0].weight, row.members[0].maximum))

    def test_names_of_full_length(self):
        name = "n" * 255
        cloud = self.cloud(name)
        stack = self.stack(name, [cloud], count_parameter="p" * 255)
        self.assertEqual(stack.id, db_stacks.get_stack(self.ctx, name, "green").id)
        self.assertEqual(cloud.id, db_clouds.get_cloud(self.ctx, name, "green").id)

    def test_rows_hold_all_that_was_asked_for_without_a_session(self):
        stack = self.stack("web", [self.cloud()])
        claim = db_rounds.claim_stack(self.ctx, stack.id, "one", 60)
        content = {"template", "environment", "files"}
        for row, left_out in (
            (stack, set()),
            (claim.stack, content),  # a round that creates nothing needs none of it
            (self.read(stack), set()),
        ):
            self.assertEqual("cloud1", row.members[0].cloud.name)
            for table, record, missing in (
                (models.Stack, row, left_out),
                (models.Member, row.members[0], set()),
                (models.Cloud, row.members[0].cloud, set()),
            ):
                columns = set(table.__table__.columns.keys())
                self.assertEqual(missing, columns - vars(record).keys())


class TestSQLite(backends.DatabaseTestCase):
    on = ("sqlite",)

    def test_a_file_is_set_up_for_threads(self):
        with db_api.engine().connect() as connection:
            for pragma, expected in (
                ("journal_mode", "wal"),
                ("foreign_keys", 1),
                ("synchronous", 1),
                ("busy_timeout", 30000),
            ):
                found = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
                self.assertEqual(expected, found, pragma)

    def test_its_log_is_copied_back_only_at_the_end(self):
        """After each write it would be, if no connection stayed open; and that takes far longer."""
        log = pathlib.Path(db_api.engine().url.database + "-wal")
        for name in ("a", "b"):
            self.stack(name)
            self.assertTrue(log.exists())
        db_api.dispose()
        self.assertFalse(log.exists())
        self.assertEqual(2, len(db_stacks.list_stacks(self.ctx, None, limit=10)))

    def test_a_transaction_that_nobody_ended_is_over(self):
        """Or the next one on its connection would not begin, and each of its writes would stand."""
        self.stack("web")
        db_api.dispose()  # so that there is only this one connection
        left = db_api.engine().connect()
        left.execute(sa.text("SELECT 1"))
        del left
        gc.collect()
        with db_api.engine().connect() as connection:
            connection.execute(sa.delete(models.Member))
            connection.execute(sa.delete(models.Stack))
            connection.rollback()
        self.assertEqual(1, len(db_stacks.list_stacks(self.ctx, None, limit=10)))
