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
"""``heat-spreader-manage``: what an operator does to the database, and to the keys of its secrets."""

import sys

from oslo_config import cfg
from oslo_db import exception as db_exc

from heat_spreader import conf as spreader_conf
from heat_spreader import context
from heat_spreader import exception
from heat_spreader import secret_store
from heat_spreader.db import api as db_api
from heat_spreader.db import credentials as db_credentials
from heat_spreader.db import events as db_events
from heat_spreader.db import migration

# Events that one transaction deletes: few enough that nobody waits for it.
BATCH = 1000


def _sync(conf: cfg.ConfigOpts) -> int:
    migration.sync(conf.command.revision)
    print(f"The database is at revision {migration.version()}.")
    return 0


def _version(conf: cfg.ConfigOpts) -> int:
    print(migration.version() or "none")
    return 0


def _check(conf: cfg.ConfigOpts) -> int:
    migration.check()
    print(f"This version can work on the database, which is at revision {migration.version()}.")
    return 0


def _stamp(conf: cfg.ConfigOpts) -> int:
    migration.stamp(conf.command.revision)
    print(f"The database is now said to be at revision {migration.version()}.")
    return 0


def _purge(conf: cfg.ConfigOpts) -> int:
    ctx = context.engine_context()
    purged = 0
    while True:
        found = db_events.purge_events(ctx, conf.command.days, BATCH)
        purged += found
        if found < BATCH:
            break
    print(f"{purged} events older than {conf.command.days} days are deleted.")
    return 0


def _days(text: str) -> int:
    days = int(text)
    if days < 1:
        raise ValueError(text)
    return days


def _key(conf: cfg.ConfigOpts) -> int:
    key_id = secret_store.add_key(conf.secrets.key_file)
    print(
        f"Key {key_id} is the first one in {conf.secrets.key_file}. Copy the file to every host and "
        "restart the services there; then run 'heat-spreader-manage credential rotate'."
    )
    return 0


def _rotate(conf: cfg.ConfigOpts) -> int:
    """Seal every secret with the first key; can be interrupted and repeated at any time."""
    store = secret_store.open_store(conf)
    if not store.key_id:
        print("There are no keys of ours to rotate to.", file=sys.stderr)
        return 1
    ctx = context.engine_context()
    done, lost, after = 0, 0, ""
    while batch := db_credentials.list_under_other_keys(
        ctx, store.key_id, after, conf.command.batch
    ):
        for credential_id, sealed in batch:
            after = credential_id
            try:
                secret = store.unseal(credential_id, sealed)
            except exception.SpreaderException as error:
                print(f"credential {credential_id}: {error}", file=sys.stderr)
                lost += 1
                continue
            anew = store.seal(credential_id, secret)
            done += db_credentials.reseal(ctx, credential_id, sealed, anew, store.key_id)
        print(f"{done} sealed with key {store.key_id}.", flush=True)
    left = db_credentials.count_under_other_keys(ctx, store.key_id)
    if left or lost:
        print(f"{left} secret(s) are still sealed with another key.", file=sys.stderr)
        return 1
    print(f"All secrets are sealed with key {store.key_id}; no other is needed any more.")
    return 0


def _add_commands(subparsers: object) -> None:
    db = subparsers.add_parser("db", help="The database schema.")  # type: ignore[attr-defined]
    commands = db.add_subparsers(dest="operation", required=True)
    sync = commands.add_parser(
        "sync", help="Create the tables, or migrate them to the newest form."
    )
    sync.add_argument("revision", nargs="?", default="head", help="Stop at this revision.")
    sync.set_defaults(run=_sync)
    stamp = commands.add_parser(
        "stamp",
        help="Say that the database is at a revision, and change no table: after a restore, or for one "
        "that was migrated by hand.",
    )
    stamp.add_argument("revision", help="The revision, or 'head' for the newest.")
    stamp.set_defaults(run=_stamp)
    purge = commands.add_parser(
        "purge",
        help="Delete old events. Whatever else is not needed any more is deleted by the engines.",
    )
    purge.add_argument(
        "--days",
        type=_days,
        default=90,
        help="Keep those of so many days (default: 90).",
    )
    purge.set_defaults(run=_purge)
    commands.add_parser("version", help="Print the revision of the database.").set_defaults(
        run=_version
    )
    credential = subparsers.add_parser(  # type: ignore[attr-defined]
        "credential", help="The keys of the secrets that projects bring."
    )
    operations = credential.add_subparsers(dest="operation", required=True)
    operations.add_parser(
        "key", help="Put a new key in front of those in [secrets] key_file; make the file."
    ).set_defaults(run=_key)
    rotate = operations.add_parser(
        "rotate", help="Seal every secret with the first key, in batches, while all is running."
    )
    rotate.add_argument("--batch", type=int, default=100, help="Secrets at a time (default: 100).")
    rotate.set_defaults(run=_rotate)
    commands.add_parser(
        "check", help="Exit with 1 unless this version can work on the database."
    ).set_defaults(run=_check)


def main() -> int:
    """Exit code 0 when done, 1 when it cannot be done."""
    conf = cfg.CONF
    conf.register_cli_opt(cfg.SubCommandOpt("command", title="Commands", handler=_add_commands))
    try:
        # What it prints is its answer; what it logs must not get between.
        spreader_conf.setup(conf, sys.argv[1:], defaults={("use_stderr", None): True})
        if conf.command.run is not _key:
            spreader_conf.check_database(conf)
            db_api.configure(conf)
        return int(conf.command.run(conf))
    except (exception.StartupError, exception.NoSecretStore) as error:
        print(error, file=sys.stderr)
    except exception.Unavailable as error:
        print(error, file=sys.stderr)
    except db_exc.DBError as error:
        print(f"The database cannot be used: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
