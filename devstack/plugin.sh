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

# Called by DevStack as "plugin.sh MODE [PHASE]" at every phase; what is done is in lib/spreader.

_XTRACE_SPREADER_PLUGIN=$(set +o | grep xtrace)
set +o xtrace

# shellcheck source=devstack/lib/spreader
source "$DEST/heat-spreader/devstack/lib/spreader"

if is_service_enabled spreader; then
    case "$1/${2:-}" in
        stack/pre-install)
            # Packages of the system are in files/bindep.txt, and installed by now.
            :
            ;;
        stack/install)
            echo_summary "Installing Heat Spreader"
            install_spreader
            ;;
        stack/post-config)
            echo_summary "Configuring Heat Spreader"
            configure_spreader
            create_spreader_accounts
            ;;
        stack/extra)
            # Here and not sooner: only now has what [[post-config|$SPREADER_CONF]] in local.conf says
            # been put into the file.
            echo_summary "Starting Heat Spreader"
            init_spreader
            start_spreader
            register_spreader_clouds
            ;;
        stack/test-config)
            if is_service_enabled tempest; then
                configure_tempest_for_spreader
            fi
            ;;
        unstack/)
            stop_spreader
            ;;
        clean/)
            cleanup_spreader
            ;;
    esac
fi

$_XTRACE_SPREADER_PLUGIN
