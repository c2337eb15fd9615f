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
# usage: phases.sh stack | unstack | clean
#
# Takes the plugin through DevStack's phases, as its scripts of these names do: with the stand-ins beside
# this file, or with the functions of the DevStack that SPREADER_TEST_DEVSTACK names.

set -o errexit

function failed {
    echo "phases.sh $mode: line $1 of ${BASH_SOURCE[1]} failed" >&2
}
trap 'failed $LINENO' ERR

mode=$1
SPREADER_TEST_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DEST=$SPREADER_TEST_WORK/dest
DATA_DIR=$SPREADER_TEST_WORK/data
if [[ -n "${SPREADER_TEST_DEVSTACK:-}" ]]; then
    source "$SPREADER_TEST_HERE/real.sh"
else
    source "$SPREADER_TEST_HERE/stand-ins.sh"
fi

set -o xtrace
load
case $mode in
    stack)
        phase stack pre-install
        phase stack install
        phase stack post-config
        merge_post_config
        phase stack extra
        phase stack test-config
        ;;
    unstack | clean)
        phase "$mode"
        ;;
esac
