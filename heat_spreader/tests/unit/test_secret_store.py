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

"""Secrets at rest: what is stored gives nothing away, and nothing out to the wrong row."""

import base64
import os
import pathlib
import socket

from castellan import options
from castellan.common import exception as castellan_exc
from castellan.common import utils
from castellan.key_manager import key_manager
import fixtures as fixtures_lib
from oslotest import base

from heat_spreader import exception
from heat_spreader import secret_store
from heat_spreader.tests import fixtures

SECRET = "pa55 wörd:with\ncolons"


class LocalTest(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = pathlib.Path(self.useFixture(fixtures_lib.TempDir()).path) / "keys"
        secret_store.add_key(str(self.file))

    def store(self) -> secret_store.Local:
        return secret_store.Local(str(self.file))

    def refused(self) -> str:
        return str(self.assertRaises(exception.StartupError, self.store))


class TestLocal(LocalTest):
    def test_what_goes_in_comes_out(self):
        store = self.store()
        sealed = store.seal("row", SECRET)
        self.assertEqual(SECRET, self.store().unseal("row", sealed))
        self.assertNotEqual(sealed, store.seal("row", SECRET))
        store.discard(sealed)

    def test_what_is_stored_shows_nothing_and_says_which_key(self):
        store = self.store()
        sealed = store.seal("row", SECRET)
        self.assertTrue(sealed.startswith(f"v1:{store.key_id}:"))
        for shown in (SECRET, base64.b64encode(SECRET.encode()).decode(), "row"):
            self.assertNotIn(shown, sealed)
        self.assertNotIn(store.key_id, self.file.read_text())

    def test_another_row_does_not_get_it(self):
        store = self.store()
        error = self.assertRaises(
            exception.SecretLost, store.unseal, "other", store.seal("row", SECRET)
        )
        self.assertNotIn(SECRET, str(error))

    def test_what_was_changed_is_not_given_out(self):
        store = self.store()
        sealed = store.seal("row", SECRET)
        changed = sealed[:-4] + ("AAAA" if sealed[-4:] != "AAAA" else "BBBB")
        for broken in (changed, sealed[:-10], "v2:" + sealed[3:], "nothing", ""):
            self.assertRaises(exception.SecretLost, store.unseal, "row", broken)

    def test_a_new_key_stands_in_front_and_the_old_ones_still_open(self):
        old = self.store()
        sealed = old.seal("row", SECRET)
        key_id = secret_store.add_key(str(self.file))
        new = self.store()
        self.assertEqual(key_id, new.key_id)
        self.assertEqual(SECRET, new.unseal("row", sealed))
        # A host that has the old file yet cannot read what is new, and says what is wrong.
        error = self.assertRaises(
            exception.NoSecretStore, old.unseal, "row", new.seal("row", SECRET)
        )
        self.assertIn(key_id, str(error))

    def test_a_key_that_was_taken_away_too_early(self):
        sealed = self.store().seal("row", SECRET)
        self.file.unlink()
        secret_store.add_key(str(self.file))
        self.assertRaises(exception.NoSecretStore, self.store().unseal, "row", sealed)

    def test_without_a_file_nothing_is_kept(self):
        self.file.unlink()
        store = self.store()
        error = self.assertRaises(exception.NoSecretStore, store.seal, "row", SECRET)
        self.assertIn("heat-spreader-manage credential key", str(error))
        self.assertNotIn(SECRET, str(error))
        self.assertEqual("", store.key_id)


class TestKeyFile(LocalTest):
    def test_it_is_made_for_its_owner_alone(self):
        self.assertEqual(0o600, self.file.stat().st_mode & 0o777)
        self.file.chmod(0o640)
        secret_store.add_key(str(self.file))
        self.assertEqual(0o640, self.file.stat().st_mode & 0o777)
        self.assertEqual(["keys"], os.listdir(self.file.parent))

    def test_a_file_that_others_may_read_or_change_is_refused(self):
        for mode in (0o604, 0o644, 0o660, 0o602, 0o610, 0o777):
            self.file.chmod(mode)
            self.assertIn(f"{mode:04o}", self.refused())
        for mode in (0o600, 0o640, 0o400, 0o440):
            self.file.chmod(mode)
            self.store()

    def test_what_is_no_key_is_refused_and_not_shown(self):
        for text in ("", "\n# nothing\n", "not-a-key\n", self.file.read_text() + "c2hvcnQ=\n"):
            self.file.write_text(text)
            said = self.refused()
            self.assertIn("heat-spreader-manage credential key", said)
            self.assertNotIn("c2hvcnQ", said)
            self.assertNotIn("not-a-key", said)


class KeyManager(key_manager.KeyManager):
    """A Barbican of which nobody has to start a server."""

    kept: dict[str, object] = {}
    away = False

    def __init__(self, configuration: object = None) -> None:
        pass

    def store(self, context: object, managed_object: object, **kwargs: object) -> str:
        self.check()
        name = f"ref-{len(self.kept)}"
        self.kept[name] = managed_object
        return name

    def get(self, context: object, managed_object_id: str, **kwargs: object) -> object:
        self.check()
        if managed_object_id not in self.kept:
            raise castellan_exc.ManagedObjectNotFoundError(uuid=managed_object_id)
        return self.kept[managed_object_id]

    def delete(self, context: object, managed_object_id: str, **kwargs: object) -> None:
        self.get(context, managed_object_id)
        del self.kept[managed_object_id]

    def check(self) -> None:
        if type(self).away:
            raise RuntimeError(f"it said {SECRET}")

    create_key = create_key_pair = copy = list = None
    add_consumer = remove_consumer = None


class TestCastellan(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.config = self.useFixture(fixtures.Config())
        self.config.set("secrets", store="castellan")
        KeyManager.kept = {}
        KeyManager.away = False
        options.set_defaults(self.config.conf)
        self.config.conf.register_opts(utils.credential_opts, "key_manager")
        self.config.set("key_manager", backend=f"{__name__}.KeyManager")
        self.config.set("key_manager", auth_type="token", token="t")
        self.store = secret_store.open_store(self.config.conf)

    def test_we_keep_a_reference_only(self):
        sealed = self.store.seal("row", SECRET)
        self.assertEqual("castellan:ref-0", sealed)
        self.assertEqual(SECRET, self.store.unseal("row", sealed))
        self.assertRaises(exception.SecretLost, self.store.unseal, "other", sealed)
        self.store.discard(sealed)
        self.assertEqual({}, KeyManager.kept)
        self.store.discard(sealed)
        self.assertRaises(exception.SecretLost, self.store.unseal, "row", sealed)

    def test_what_another_store_kept(self):
        self.assertRaises(exception.SecretLost, self.store.unseal, "row", "v1:key:token")

    def test_while_it_is_away(self):
        sealed = self.store.seal("row", SECRET)
        KeyManager.away = True
        for call in (
            lambda: self.store.seal("row", SECRET),
            lambda: self.store.unseal("row", sealed),
            lambda: self.store.discard(sealed),
        ):
            error = self.assertRaises(exception.NoSecretStore, call)
            self.assertNotIn(SECRET, str(error))
            self.assertIn("user of [key_manager]", str(error))

    def test_without_a_way_to_log_in_the_option_is_named(self):
        KeyManager.away = True
        self.config.set("key_manager", auth_type=None)
        error = self.assertRaises(exception.NoSecretStore, self.store.seal, "row", SECRET)
        self.assertIn("[key_manager] auth_type is not set", str(error))
        self.assertNotIn(SECRET, str(error))

    def test_a_barbican_that_never_answers(self):
        deaf = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(deaf.close)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        self.config.set("key_manager", backend="barbican")
        store = secret_store.open_store(self.config.conf)
        self.config.set("barbican", timeout=0.2)
        self.config.set("barbican", barbican_endpoint=url)
        self.config.set("key_manager", auth_url=f"{url}/v3")
        error = self.assertRaises(exception.NoSecretStore, store.seal, "row", SECRET)
        self.assertIn("does not answer", str(error))
        self.assertNotIn(SECRET, str(error))

    def test_a_vault_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            url = f"http://127.0.0.1:{gone.getsockname()[1]}"
        self.config.set("key_manager", backend="vault", auth_type=None)
        store = secret_store.open_store(self.config.conf)
        # Vault's driver reads it once.
        self.config.set("vault", vault_url=url)
        store = secret_store.open_store(self.config.conf)
        error = self.assertRaises(exception.NoSecretStore, store.seal, "row", SECRET)
        self.assertIn("check vault_url", str(error))
        self.assertNotIn("auth_type", str(error))
        self.assertNotIn(SECRET, str(error))
