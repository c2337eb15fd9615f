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
# Stand-ins for what DevStack gives its plugins. Each writes down what it was asked for, as one line of
# $SPREADER_TEST_WORK/asked, and does the least that lets the next phase go on: files are written, Keystone
# is told, processes are started. They say what DevStack's functions do, not how they do it.

declare -A GITDIR
APACHE_CONF_DIR=$SPREADER_TEST_WORK/apache
TEMPEST_CONFIG=$SPREADER_TEST_WORK/tempest.conf
DATABASE_BACKENDS=mysql
ENABLED_SERVICES=${ENABLED_SERVICES:-key,mysql,rabbit,tempest}
CURL_GET="curl -g"

function asked {
    local IFS=$'\t'
    echo "$*" >>"$SPREADER_TEST_WORK/asked"
}

function tell_keystone {
    "$SPREADER_TEST_PYTHON" "$SPREADER_TEST_HERE/tell_keystone.py" "$@"
}

function sudo {
    "$@"
}

function define_plugin {
    :
}

function plugin_requires {
    :
}

function echo_summary {
    echo "== $*"
}

function get_python_exec_prefix {
    dirname "$SPREADER_TEST_PYTHON"
}

function die {
    echo "line $1: ${*:2}" >&2
    exit 1
}

function trueorfalse {
    case ${!2:-$1} in
        1 | [yY]* | [tT]*) echo True ;;
        *) echo False ;;
    esac
}

function enable_service {
    local service
    for service in "$@"; do
        [[ ,$ENABLED_SERVICES, == *,"$service",* ]] || ENABLED_SERVICES+=,$service
    done
}

function is_service_enabled {
    local service
    for service in "$@"; do
        [[ ,$ENABLED_SERVICES, != *,"$service",* ]] || return 0
        if declare -F "is_${service}_enabled" >/dev/null && "is_${service}_enabled"; then
            return 0
        fi
    done
    return 1
}

function setup_develop {
    asked setup_develop "$@"
    # It is installed where the tests run; that its extras exist is what can be seen here.
    "$SPREADER_TEST_PYTHON" - "$2" <<'EOT'
import importlib.metadata
import sys

known = importlib.metadata.metadata("heat-spreader").get_all("Provides-Extra")
unknown = set(sys.argv[1].split(",")) - set(known)
sys.exit(f"heat-spreader has no extra {unknown}" if unknown else 0)
EOT
}

function iniset {
    "$SPREADER_TEST_PYTHON" "$SPREADER_TEST_HERE/iniset.py" "$@"
}

function setup_logging {
    asked setup_logging "$@"
    iniset "$1" DEFAULT logging_exception_prefix "ERROR %(name)s"
}

function database_connection_url {
    echo "$SPREADER_TEST_DATABASE_URL/$1?charset=utf8"
}

function recreate_database {
    asked recreate_database "$@"
    mysql -u "$DATABASE_USER" -h "$MYSQL_HOST" \
        -e "DROP DATABASE IF EXISTS $1; CREATE DATABASE $1 CHARACTER SET utf8"
}

function iniset_rpc_backend {
    asked iniset_rpc_backend "$@"
    iniset "$2" DEFAULT transport_url "$SPREADER_TEST_TRANSPORT_URL"
}

function configure_keystone_authtoken_middleware {
    asked configure_keystone_authtoken_middleware "$@"
    local option
    for option in auth_type=password interface=public "auth_url=$KEYSTONE_SERVICE_URI" \
        "username=$2" "password=$SERVICE_PASSWORD" "user_domain_name=Default" \
        "project_name=service" "project_domain_name=Default" \
        "www_authenticate_uri=$KEYSTONE_SERVICE_URI" "memcached_servers=$MEMCACHE_SERVERS" \
        ${4:+"service_type=$4"}; do
        iniset "$1" "${3:-keystone_authtoken}" "${option%%=*}" "${option#*=}"
    done
}

function create_service_user {
    asked create_service_user "$@"
    tell_keystone user "$1" "$SERVICE_PASSWORD" service ${2:+"$2"}
}

function get_or_create_service {
    asked get_or_create_service "$@"
    tell_keystone service "$1" "$2"
}

function get_or_create_endpoint {
    asked get_or_create_endpoint "$@"
    tell_keystone endpoint "$@"
}

function apache_site_config_for {
    echo "$APACHE_CONF_DIR/$1.conf"
}

function write_uwsgi_config {
    asked write_uwsgi_config "$@"
    local socket=$SPREADER_TEST_WORK/$5.socket setting
    for setting in "module=$2" processes=2 master=true enable-threads=true lazy-apps=true \
        "hook-master-start=unix_signal:15 gracefully_kill_them_all" buffer-size=65535 \
        "socket=$socket" chmod-socket=666; do
        iniset "$1" uwsgi "${setting%%=*}" "${setting#*=}"
    done
    echo "ProxyPass \"$3\" \"unix:$socket|uwsgi://uwsgi-uds-$5\" retry=0 acquire=1" \
        >"$(apache_site_config_for "$5")"
    "$SYSTEMCTL" restart apache2
}

function remove_uwsgi_config {
    asked remove_uwsgi_config "$@"
    rm -f "$1"
}

function run_process {
    asked run_process "$@"
    is_service_enabled "$1" || return 0
    [[ $2 == /* ]] || die $LINENO "the command of $1 does not begin with a path"
    printf '[Service]\nExecStart = %s\nEnvironment = "PATH=%s"\n' "$2" "$PATH" \
        >"$SPREADER_TEST_UNITS/devstack@$1.service"
    "$SYSTEMCTL" enable "devstack@$1"
    "$SYSTEMCTL" start "devstack@$1"
}

function stop_process {
    asked stop_process "$@"
    "$SYSTEMCTL" stop "devstack@$1"
    "$SYSTEMCTL" disable "devstack@$1"
}

function test_with_retry {
    timeout "${3:-10}" sh -c "until $1; do sleep ${4:-0.5}; done" || die $LINENO "$2"
}

# What stack.sh, unstack.sh and clean.sh do around the plugin

function load {
    source "$DEST/heat-spreader/devstack/override-defaults"
    source "$DEST/heat-spreader/devstack/settings"
}

function phase {
    source "$DEST/heat-spreader/devstack/plugin.sh" "$@"
}

function merge_post_config {
    local section option value
    while read -r section option value; do
        iniset "$SPREADER_CONF" "$section" "$option" "$value"
    done <"$SPREADER_TEST_WORK/post-config"
}
