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
"""``heat-spreader-status upgrade check``: may this version's services be started now.

To be run with the new version and the configuration in force, after ``db sync`` and before anything is
restarted. The exit code is that of OpenStack's upgrade tools: 0 yes, 1 yes, but read the warning, 2 no, 255
it could not tell.
"""

import sys

from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_upgradecheck import common_checks
from oslo_upgradecheck import upgradecheck

from heat_spreader import conf as spreader_conf
from heat_spreader import context
from heat_spreader import exception
from heat_spreader import policies
from heat_spreader import rpc
from heat_spreader import secret_store
from heat_spreader.db import api as db_api
from heat_spreader.db import credentials as db_credentials
from heat_spreader.db import engines as db_engines
from heat_spreader.db import migration

SUCCESS, WARNING, FAILURE = upgradecheck.Code
# Three heartbeats: who missed all of them is not running.
ALIVE = 30


class Checks(upgradecheck.UpgradeCommands):
    """Each check gives a code, and what to do unless that is SUCCESS."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def _configuration(self) -> upgradecheck.Result:
        try:
            spreader_conf.check(self._conf)
        except exception.StartupError as error:
            return upgradecheck.Result(FAILURE, str(error))
        return upgradecheck.Result(SUCCESS)

    def _schema(self) -> upgradecheck.Result:
        try:
            migration.check()
        except exception.StartupError as error:
            return upgradecheck.Result(FAILURE, str(error))
        found, wanted = migration.version(), migration.head()
        if found != wanted:
            return upgradecheck.Result(
                WARNING,
                f"The database is at revision {found}, newer than this version ({wanted}). That is fine in "
                "the middle of an upgrade by one version; finish it.",
            )
        return upgradecheck.Result(SUCCESS)

    def _policy_form(self) -> upgradecheck.Result:
        return common_checks.check_policy_json(self, self._conf)

    def _policy_rules(self) -> upgradecheck.Result:
        try:
            unknown = policies.unknown_rules(self._conf)
        except exception.StartupError as error:
            return upgradecheck.Result(FAILURE, str(error))
        if unknown:
            return upgradecheck.Result(
                WARNING,
                f"{self._conf.oslo_policy.policy_file} has rules that do not exist and change nothing: "
                f"{', '.join(unknown)}. Look for a mistake in the name, or take them out.",
            )
        return upgradecheck.Result(SUCCESS)

    def _engines(self) -> upgradecheck.Result:
        try:
            alive = db_engines.list_engines(context.engine_context(), ALIVE)
        except db_exc.DBError:
            return upgradecheck.Result(FAILURE, "There is no table of engines; see the schema.")
        versions: dict[str, list[str]] = {}
        for engine in alive:
            versions.setdefault(engine.version, []).append(engine.host)
        if len(versions) > 1:
            said = "; ".join(
                f"{version} on {', '.join(sorted(set(hosts)))}"
                for version, hosts in sorted(versions.items())
            )
            return upgradecheck.Result(
                WARNING,
                f"Engines of several versions are running: {said}. Finish that upgrade before the next "
                "one begins; two versions work together when they follow each other.",
            )
        return upgradecheck.Result(SUCCESS)

    def _queues(self) -> upgradecheck.Result:
        advice = rpc.queue_advice(self._conf)
        if advice is None:
            return upgradecheck.Result(SUCCESS)
        needed, text = advice
        return upgradecheck.Result(FAILURE if needed else WARNING, text)

    def _secrets(self) -> upgradecheck.Result:
        secrets = self._conf.secrets
        try:
            key_id = secret_store.open_store(self._conf).key_id
            others = db_credentials.count_under_other_keys(context.engine_context(), key_id)
        except exception.StartupError as error:
            return upgradecheck.Result(FAILURE, str(error))
        except db_exc.DBError:
            return upgradecheck.Result(
                FAILURE, "There is no table of credentials; see the schema."
            )
        if not others:
            return upgradecheck.Result(SUCCESS)
        if secrets.store != "local":
            return upgradecheck.Result(
                FAILURE, f"{others} secret(s) were kept by the store 'local'; set them anew."
            )
        if not key_id:
            return upgradecheck.Result(
                FAILURE, f"{others} secret(s) are stored, and there is no {secrets.key_file}."
            )
        return upgradecheck.Result(
            WARNING,
            f"{others} secret(s) are sealed with another key than the first one; run "
            "'heat-spreader-manage credential rotate' before you take a key away.",
        )

    _upgrade_checks = (
        ("Configuration", _configuration),
        ("Database schema", _schema),
        ("Policy file format", _policy_form),
        ("Policy file rules", _policy_rules),
        ("Engine versions", _engines),
        ("Message queues", _queues),
        ("Secrets of projects", _secrets),
    )


def main() -> int:
    """The code of the worst check; 255 when they could not be made."""
    conf = cfg.CONF
    upgradecheck.register_cli_options(conf, Checks(conf))
    try:
        spreader_conf.setup(conf, sys.argv[1:], defaults={("use_stderr", None): True})
        spreader_conf.check_database(conf)
        db_api.configure(conf)
    except exception.StartupError as error:
        print(error, file=sys.stderr)
        return 255
    # Where its own main, which would read other files, leaves it for --json.
    upgradecheck.CONF = conf
    return int(upgradecheck.run(conf))


if __name__ == "__main__":
    sys.exit(main())
