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

# A stack that is made before the upgrade, and is there, unchanged and of use, all along.
#
# usage: resources.sh create | verify PHASE | verify_noapi PHASE | destroy

set -o errexit

source "$GRENADE_DIR/grenaderc"
source "$GRENADE_DIR/functions"
source "$TOP_DIR/openrc" demo demo

set -o xtrace

STACK=grenade-spreader

function create {
    local template=$SAVE_DIR/$STACK.yaml cloud
    cat >"$template" <<'EOT'
heat_template_version: 2021-04-16
parameters:
  count: {type: number, default: 0}
resources:
  group:
    type: OS::Heat::ResourceGroup
    properties:
      count: {get_param: count}
      resource_def: {type: OS::Heat::RandomString}
EOT
    cloud=$(openstack spreader cloud list -f value -c Name | head -n 1)
    timeout 300 openstack spreader stack create "$STACK" --count 2 -t "$template" \
        --weight "$cloud=1" --wait
    resource_save heat-spreader cloud "$cloud"
    resource_save heat-spreader heat_stack "$(openstack stack show "$STACK" -f value -c id)"
}

function verify {
    local found
    found=$(openstack spreader stack show "$STACK" -f value -c status)
    [[ $found == ACTIVE ]] || die $LINENO "Stack $STACK is $found, not ACTIVE"
    if [[ ${1:-} == post-upgrade ]]; then
        # Not only is it there: the new release moves what the old one made.
        timeout 300 openstack spreader stack set "$STACK" --count 3 --wait
    fi
}

# While the services are down the clouds run what they were told to run.
function verify_noapi {
    local found expected
    expected=$(resource_get heat-spreader heat_stack)
    found=$(openstack stack show "$STACK" -f value -c id)
    [[ $found == "$expected" ]] || die $LINENO "Heat stack $STACK is $found, was $expected"
}

function destroy {
    timeout 300 openstack spreader stack delete "$STACK" --wait
    ! openstack stack show "$STACK" || die $LINENO "Heat stack $STACK outlived its deletion"
}

case $1 in
    create) create ;;
    verify) verify "${2:-}" ;;
    verify_noapi) verify_noapi ;;
    destroy) destroy ;;
    *)
        echo "usage: $0 create | verify PHASE | verify_noapi PHASE | destroy" >&2
        exit 2
        ;;
esac
