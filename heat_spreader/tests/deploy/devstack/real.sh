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
# DevStack's own functions, from the copy of a checkout in $SPREADER_TEST_WORK/devstack, with the least around
# them: no package is installed, and of its services only the Keystone, MariaDB, RabbitMQ and Apache of the
# test are there. To be run in a mount namespace whose /etc is a copy: they write where DevStack does.

TOP_DIR=$SPREADER_TEST_WORK/devstack
RC_DIR=$TOP_DIR
FILES=$TOP_DIR/files
unset OS_CLOUD

source "$TOP_DIR/functions"
source "$TOP_DIR/lib/stack"
GetDistro
rm -f "$TOP_DIR/.localrc.auto"
extract_localrc_section "$TOP_DIR/local.conf" "$TOP_DIR/localrc" "$TOP_DIR/.localrc.auto"
source "$TOP_DIR/stackrc"
STACK_USER=$(id -un)
SSL_BUNDLE_FILE=$DATA_DIR/ca-bundle.pem
TEMPEST_CONFIG=$SPREADER_TEST_WORK/tempest.conf
function echo_summary {
    echo "== $*"
}

function load {
    source "$TOP_DIR/lib/database"
    source "$TOP_DIR/lib/rpc_backend"
    fetch_plugins
    run_phase override_defaults
    source "$TOP_DIR/lib/apache"
    source "$TOP_DIR/lib/tls"
    source "$TOP_DIR/lib/keystone"
    # Where the test has them, and not where a DevStack would.
    KEYSTONE_SERVICE_URI=$SPREADER_TEST_KEYSTONE_URL
    initialize_database_backends
    BASE_SQL_CONN=$SPREADER_TEST_DATABASE_URL
    # shellcheck disable=SC2329  # iniset_rpc_backend calls it
    function get_transport_url {
        echo "$SPREADER_TEST_TRANSPORT_URL"
    }
    run_phase source
}

function phase {
    run_phase "$@"
}

function merge_post_config {
    merge_config_group "$TOP_DIR/local.conf" post-config
}

