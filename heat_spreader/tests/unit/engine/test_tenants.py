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

"""Acting for projects: ways into their clouds, what they are good for, and where they must not lead."""

import gc
import pathlib
import socket
import time
import weakref

import fixtures as fixtures_lib
from oslo_utils import uuidutils
from oslotest import base
import sqlalchemy as sa

from heat_spreader import addresses
from heat_spreader import context
from heat_spreader import exception
from heat_spreader import secret_store
from heat_spreader import trusts
from heat_spreader.db import api as db_api
from heat_spreader.db import clouds as db_clouds
from heat_spreader.db import credentials as db_credentials
from heat_spreader.db import models
from heat_spreader.engine import clouds
from heat_spreader.engine import heat
from heat_spreader.engine import service
from heat_spreader.engine import tenants
from heat_spreader.engine.core import values
from heat_spreader.tests import fake_heat
from heat_spreader.tests import fixtures

HERE = ["127.0.0.1/32"]


class TenantsTest(base.BaseTestCase):
    """Two Heats and a Keystone on loopback ports, and a database with clouds of a project."""

    def setUp(self) -> None:
        super().setUp()
        self.config = self.useFixture(fixtures.Database()).config
        self.ctx = context.RequestContext(user_id="ann", project_id="green", overwrite=False)
        self.site = self.useFixture(fake_heat.FakeSite("one", "two"))
        keys = str(pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "keys")
        secret_store.add_key(keys)
        self.store = secret_store.Local(keys)
        self.connections = self.make(HERE)

    def make(self, allowed: list[str]) -> clouds.Clouds:
        guard = addresses.Guard(self.config.conf.tenants.denied_networks, allowed)
        self.agent = tenants.Agent(self.store, trusts.Trusts(self.config.conf), guard)
        return clouds.Clouds([self.site.clouds_yaml], timeout=2, reach=self.agent.reach)

    def credential(self, **more: object) -> dict[str, object]:
        keystone = self.site.keystone
        settings = {
            "auth_url": self.site.auth_url,
            "username": keystone.user,
            "project_name": keystone.project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            **more,
        }
        secret = str(settings.pop("password", keystone.password))
        credential_id = uuidutils.generate_uuid()
        return {
            "id": credential_id,
            "kind": "password",
            "settings": settings,
            "sealed": self.store.seal(credential_id, secret),
            "key_id": self.store.key_id,
        }

    def register(self, name: str = "mine", **more: object) -> models.Cloud:
        values = {"name": name, "kind": "password", "region": "region-one", "project_id": "green"}
        return db_clouds.create_cloud(self.ctx, values, credential=self.credential(**more))

    def refused(self, call: object, *args: object) -> str:
        error = self.assertRaises(heat.HeatError, call, *args)
        self.assertEqual(values.Outcome.REFUSING, error.outcome)
        return error.detail

    def asked(self) -> int:
        return sum(len(each.requests) for each in (self.site.keystone, *self.site.heats.values()))


class TestReach(TenantsTest):
    def test_a_cloud_of_a_project_is_reached_as_the_project_says(self):
        heat.list_stacks(self.connections.reach(self.register()), None)
        self.assertEqual(1, len(self.site.heats["one"].requests))

    def test_an_operators_cloud_is_reached_by_clouds_yaml(self):
        cloud = db_clouds.create_cloud(
            self.ctx, {"name": "two", "kind": "config", "project_id": "p"}
        )
        heat.list_stacks(self.connections.reach(cloud), None)
        self.assertEqual(1, len(self.site.heats["two"].requests))

    def test_one_session_for_as_long_as_the_credentials_stay(self):
        cloud = self.register()
        connection = self.connections.reach(cloud)
        self.assertIs(connection, self.connections.reach(cloud))
        changed = db_clouds.update_cloud(
            self.ctx, cloud.id, {}, credential=self.credential(timeout=1.5)
        )
        self.assertIsNot(connection, self.connections.reach(changed))
        # Who knows only the cloud of before goes on with the session of before.
        moved = db_clouds.update_cloud(self.ctx, cloud.id, {"region": "region-two"})
        heat.list_stacks(self.connections.reach(moved), None)
        self.assertEqual(1, len(self.site.heats["two"].requests))

    def test_nothing_is_kept_of_a_cloud_that_was_removed(self):
        key_file = str(pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "keys")
        secret_store.add_key(key_file)
        self.config.set("secrets", key_file=key_file)
        self.config.set("tenants", allowed_networks=HERE)
        self.useFixture(
            fixtures_lib.MonkeyPatch("heat_spreader.engine.service.REFRESH_INTERVAL", 0.05)
        )
        self.store = secret_store.open_store(self.config.conf)
        removed, kept = self.register("removed"), self.register("kept")
        engine = service.Engine(self.config.conf, "fake://")
        engine.start()
        self.addCleanup(engine.stop)
        connections = {
            cloud.name: weakref.ref(engine._connections.reach(cloud)) for cloud in (removed, kept)
        }
        db_clouds.delete_cloud(self.ctx, removed.id)
        for _ in range(200):
            gc.collect()
            if connections["removed"]() is None:
                break
            time.sleep(0.05)
        self.assertIsNone(connections["removed"]())
        self.assertIsNotNone(connections["kept"]())

    def test_credentials_that_are_just_being_replaced_are_no_refusal(self):
        cloud = self.register()
        db_clouds.update_cloud(self.ctx, cloud.id, {}, credential=self.credential())
        error = self.assertRaises(heat.HeatError, self.connections.reach, cloud)
        self.assertEqual(values.Outcome.BUSY, error.outcome)

    def test_a_wrong_password_is_told_with_what_to_do_and_without_itself(self):
        said = self.refused(self.connections.reach, self.register(password="tell-nobody"))
        self.assertIn("does not accept the credentials registered for this cloud", said)
        self.assertIn("cloud set --username", said)
        self.assertNotIn("clouds.yaml", said)
        self.assertNotIn("tell-nobody", said)

    def test_a_secret_that_was_put_into_another_row_is_not_used(self):
        victim, thief = self.register("victim"), self.register("thief")
        with db_api.engine().begin() as connection:
            stolen = connection.scalar(
                sa.select(models.Credential.sealed).where(
                    models.Credential.id == victim.credential_id
                )
            )
            connection.execute(
                sa.update(models.Credential)
                .where(models.Credential.id == thief.credential_id)
                .values(sealed=stolen)
            )
        before = self.asked()
        self.assertIn("stored for something else", self.refused(self.connections.reach, thief))
        self.assertEqual(before, self.asked())


class TestWhereItMayLead(TenantsTest):
    def test_nothing_is_even_connected_to_in_a_network_that_is_denied(self):
        connections = self.make([])
        said = self.refused(connections.reach, self.register())
        self.assertIn("127.0.0.1 is in a network in which this service does not let", said)
        self.assertEqual(0, self.asked())

    def test_a_name_is_looked_at_where_it_leads(self):
        real = socket.getaddrinfo

        def resolve(host: str, *args: object, **kwargs: object) -> object:
            return real("127.0.0.1" if host == "keystone.harmless" else host, *args, **kwargs)

        self.useFixture(fixtures_lib.MonkeyPatch("socket.getaddrinfo", resolve))
        port = self.site.auth_url.rpartition(":")[2]
        cloud = self.register(auth_url=f"http://keystone.harmless:{port}")
        self.connections.reach(cloud)
        before = self.asked()
        said = self.refused(self.make([]).reach, cloud)
        self.assertIn("keystone.harmless is in a network", said)
        self.assertEqual(before, self.asked())

    def test_a_keystone_cannot_send_us_where_it_may_not_be(self):
        for url in ("http://169.254.169.254/latest", "http://10.0.0.1:8004/v1", "http://[::1]:1/"):
            self.site.keystone.catalog[0] = ("region-one", url)
            connection = self.make(HERE).reach(self.register(uuidutils.generate_uuid()))
            said = self.refused(heat.list_stacks, connection, None)
            self.assertIn("is in a network in which", said)

    def test_operators_clouds_may_be_anywhere(self):
        connections = self.make([])
        heat.list_stacks(connections.connect("one"), None)


class TestTrial(TenantsTest):
    def trial(self, cloud: models.Cloud) -> models.Trial:
        for due in db_credentials.claim_trials(self.ctx, 60, 10):
            tenants.try_out(self.connections, due)
        return db_credentials.list_trials(self.ctx, [cloud.id])[cloud.id]

    def works(self, trial: models.Trial) -> dict[str, bool | None]:
        return {step: answer["ok"] for step, answer in trial.answers.items()}

    def test_everything_works_and_nothing_is_left_behind(self):
        trial = self.trial(self.register())
        self.assertEqual(dict.fromkeys(tenants.STEPS, True), self.works(trial))
        self.assertIsNotNone(trial.tried_at)
        self.assertIsNone(trial.due_at)
        left = heat.list_stacks(self.connections.connect("one"), None)
        self.assertEqual([], [each.name for each in left if not each.deleting])

    def test_what_comes_after_a_failure_is_not_tried(self):
        trial = self.trial(self.register(password="wrong"))
        works = dict.fromkeys(tenants.STEPS, None) | {"authenticate": False}
        self.assertEqual(works, self.works(trial))
        self.assertIn("does not accept", trial.answers["authenticate"]["detail"])

    def test_a_region_that_the_catalogue_does_not_have(self):
        cloud = self.register()
        cloud = db_clouds.update_cloud(self.ctx, cloud.id, {"region": "nowhere"})
        trial = self.trial(cloud)
        works = self.works(trial)
        self.assertEqual((True, False, None), tuple(works[step] for step in tenants.STEPS[:3]))

    def test_each_is_one_engines_to_try_until_it_dies(self):
        self.register()
        self.assertEqual(1, len(db_credentials.claim_trials(self.ctx, 60, 10)))
        self.assertEqual(0, len(db_credentials.claim_trials(self.ctx, 60, 10)))
        with db_api.engine().begin() as connection:
            connection.exec_driver_sql("UPDATE trials SET due_at = '2026-01-01 00:00:00'")
        self.assertEqual(1, len(db_credentials.claim_trials(self.ctx, 60, 10)))

    def test_what_was_seen_with_credentials_of_before_is_not_stored(self):
        cloud = self.register()
        db_clouds.update_cloud(self.ctx, cloud.id, {}, credential=self.credential())
        db_credentials.save_trial(self.ctx, cloud, {"list": {"ok": True, "detail": ""}}, None)
        self.assertEqual({}, db_credentials.list_trials(self.ctx, [cloud.id])[cloud.id].answers)


class TestTheEnd(TenantsTest):
    def retired(self) -> list[str]:
        return [each.id for each in db_credentials.list_retired(self.ctx, 10)]

    def test_what_is_replaced_or_removed_is_forgotten(self):
        cloud = self.register()
        first = cloud.credential_id
        changed = db_clouds.update_cloud(self.ctx, cloud.id, {}, credential=self.credential())
        self.assertEqual([first], self.retired())
        db_clouds.delete_cloud(self.ctx, cloud.id)
        self.assertEqual({first, changed.credential_id}, set(self.retired()))
        self.agent.revoke_retired()
        self.assertEqual([], self.retired())

    def test_a_key_manager_that_is_away_is_asked_again(self):
        cloud = self.register()
        db_clouds.delete_cloud(self.ctx, cloud.id)

        class Away:
            key_id = ""

            def discard(self, sealed: str) -> None:
                raise exception.NoSecretStore(reason="it is away")

        self.agent._store = Away()
        self.agent.revoke_retired()
        self.assertEqual([cloud.credential_id], self.retired())
