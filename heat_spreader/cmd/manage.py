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
"""``heat-spreader-manage``: what an operator does to the database."""

import sys

from oslo_config import cfg
from oslo_db import exception as db_exc

from heat_spreader import conf as spreader_conf
from heat_spreader import context
from heat_spreader import exception
from heat_spreader.db import api as db_api
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
        spreader_conf.check_database(conf)
        db_api.configure(conf)
        return int(conf.command.run(conf))
    except exception.StartupError as error:
        print(error, file=sys.stderr)
    except exception.Unavailable as error:
        print(error, file=sys.stderr)
    except db_exc.DBError as error:
        print(f"The database cannot be used: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
