#!/usr/bin/env bash
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

# Installs the new release over the old one's configuration and database, and starts it.

echo "*********************************************************************"
echo "Begin $0"
echo "*********************************************************************"

function cleanup {
    set +o errexit
    echo "*********************************************************************"
    echo "ERROR: Abort $0"
    echo "*********************************************************************"
    # Whoever called us is to notice.
    trap 2
    kill -2 $$
}
trap cleanup SIGHUP SIGINT SIGTERM

RUN_DIR=$(cd "$(dirname "$0")" && pwd)

source "$GRENADE_DIR/grenaderc"
source "$GRENADE_DIR/functions"

set -o errexit

source "$TARGET_DEVSTACK_DIR/stackrc"
source "$TARGET_DEVSTACK_DIR/lib/tls"
source "$TARGET_DEVSTACK_DIR/lib/apache"
source "$TARGET_DEVSTACK_DIR/lib/keystone"
source "$TARGET_DEVSTACK_DIR/lib/database"

source "$TARGET_RELEASE_DIR/heat-spreader/devstack/settings"
source "$TARGET_RELEASE_DIR/heat-spreader/devstack/lib/spreader"

set -o xtrace

# For whoever looks into a failure.
[[ -d $SAVE_DIR/etc.heat-spreader ]] || cp -pr "$SPREADER_CONF_DIR" "$SAVE_DIR/etc.heat-spreader"

install_spreader

# from-RELEASE/upgrade-heat-spreader, where a release needs more than a new database schema.
upgrade_project heat-spreader "$RUN_DIR" "$BASE_DEVSTACK_BRANCH" "$TARGET_DEVSTACK_BRANCH"

# The steps of the documentation: the schema first, then whether all is ready, then the services.
"$SPREADER_BIN_DIR/heat-spreader-manage" --config-file "$SPREADER_CONF" db sync ||
    die $LINENO "The database could not be migrated"
rc=0
"$SPREADER_BIN_DIR/heat-spreader-status" --config-file "$SPREADER_CONF" upgrade check || rc=$?
# 1 is a warning: read it, and go on.
[[ $rc -le 1 ]] || die $LINENO "heat-spreader-status upgrade check found what must be done first"

start_spreader
ensure_services_started spreader-api spreader-engine

set +o xtrace
echo "*********************************************************************"
echo "SUCCESS: End $0"
echo "*********************************************************************"
