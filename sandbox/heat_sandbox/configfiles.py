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

"""The text of the configuration files that the sandbox leaves.

Pure functions from settings to text: nothing here reads or writes a file.
"""

import collections.abc
import json
import pathlib


def ini(sections: collections.abc.Mapping[str, collections.abc.Mapping[str, object]]) -> str:
    """Write sections of options the way oslo.config reads them."""
    lines = []
    for name, options in sections.items():
        lines.append(f"[{name}]")
        for option, value in options.items():
            lines.append(f"{option} = {str(value).lower() if isinstance(value, bool) else value}")
        lines.append("")
    return "\n".join(lines)


def sqlite(path: pathlib.Path) -> dict[str, object]:
    # Nobody mourns a sandbox after a power cut, and without fsync it boots twice as fast.
    return {"connection": f"sqlite:///{path}?timeout=60", "sqlite_synchronous": False}


def keystone_conf(log: pathlib.Path, database: pathlib.Path, keys: pathlib.Path) -> str:
    """Configuration of a Keystone."""
    return ini(
        {
            # insecure_debug: the body of a 401 or 403 says why.
            "DEFAULT": {"log_file": log, "insecure_debug": True},
            "database": sqlite(database),
            "token": {"provider": "fernet", "expiration": 14400},
            "fernet_tokens": {"key_repository": keys / "fernet"},
            "fernet_receipts": {"key_repository": keys / "fernet"},
            "credential": {"key_repository": keys / "credential"},
            # As few as bcrypt allows: these passwords are random and long.
            "identity": {"password_hash_rounds": 4},
            # In memory, so that no memcached is needed.
            "cache": {"enabled": True, "backend": "oslo_cache.dict"},
            "trust": {"max_redelegation_count": 3},
        }
    )


def heat_conf(
    *,
    name: str,
    region: str,
    keystone_port: int,
    database: pathlib.Path,
    paste: pathlib.Path,
    venv: pathlib.Path,
    bus: str,
    convergence: bool,
    rpc_timeout: int,
    resource_limit: int | None,
    heat_password: str,
    domain_admin_password: str,
    encryption_key: str,
) -> str:
    """Configuration of a Heat, API and engine; encryption_key must have 32 characters."""
    keystone = f"http://127.0.0.1:{keystone_port}"
    heat_user = {
        "auth_type": "password",
        "auth_url": f"{keystone}/v3",
        "username": "heat",
        "password": heat_password,
        "user_domain_id": "default",
    }
    return ini(
        {
            "DEFAULT": {
                "host": name,
                "transport_url": bus,
                "rpc_response_timeout": rpc_timeout,
                # Unset it is four processes and more.
                "num_engine_workers": 1,
                "executor_thread_pool_size": 16,
                "convergence_engine": convergence,
                # Several Heats in one Keystone: each finds the services of its own region.
                "region_name_for_services": region,
                "auth_encryption_key": encryption_key,
                "deferred_auth_method": "trusts",
                "stack_user_domain_name": "heat",
                "stack_domain_admin": "heat_domain_admin",
                "stack_domain_admin_password": domain_admin_password,
                # The defaults are under /etc; these come with the package.
                "environment_dir": venv / "etc/heat/environment.d",
                "template_dir": venv / "etc/heat/templates",
                "plugin_dirs": "",
                "enable_stack_abandon": True,
                "enable_stack_adopt": True,
                "max_stacks_per_tenant": 10000,
                # So long a deletion waits for an engine that was killed with the stack in its hands.
                "error_wait_time": 20,
                **({"max_resources_per_stack": resource_limit} if resource_limit else {}),
            },
            "database": sqlite(database),
            "paste_deploy": {"api_paste_config": paste},
            "clients_keystone": {"auth_uri": keystone},
            "keystone_authtoken": {
                **heat_user,
                "www_authenticate_uri": f"{keystone}/v3",
                "project_name": "service",
                "project_domain_id": "default",
                "region_name": region,
                "service_token_roles_required": True,
                # By default Heat goes on believing a token that was revoked for five minutes.
                "token_cache_time": 10,
            },
            # Without it, creating a stack answers 500: Heat keeps a trust to this user.
            "trustee": heat_user,
            "oslo_messaging_notifications": {"driver": "noop"},
        }
    )


def clouds_yaml(
    entries: collections.abc.Mapping[str, collections.abc.Mapping[str, str]],
) -> str:
    """Write a clouds.yaml; an entry has auth_url, username, password, project, domain and region."""
    lines = ["clouds:"]
    for name, entry in entries.items():
        # A JSON string is a YAML string.
        lines += [
            f"  {name}:",
            "    auth_type: password",
            "    auth:",
            f"      auth_url: {json.dumps(entry['auth_url'])}",
            f"      username: {json.dumps(entry['username'])}",
            f"      password: {json.dumps(entry['password'])}",
            f"      project_name: {json.dumps(entry['project'])}",
            f"      user_domain_name: {json.dumps(entry['domain'])}",
            f"      project_domain_name: {json.dumps(entry['domain'])}",
            f"    region_name: {json.dumps(entry['region'])}",
            '    identity_api_version: "3"',
            '    interface: "public"',
        ]
    return "\n".join(lines) + "\n"


def openrc(clouds: pathlib.Path, venv: pathlib.Path) -> str:
    """Write a shell file that points OpenStack clients at the sandbox."""
    return f"""\
# Use it so: . ./openrc
for name in $(env | sed -n 's/^\\(OS_[A-Za-z0-9_]*\\)=.*/\\1/p'); do unset "$name"; done
unset name
export OS_CLIENT_CONFIG_FILE='{clouds}'
export OS_CLOUD=cloud1
# A proxy cannot reach this machine's own address.
export no_proxy="127.0.0.1${{no_proxy:+,$no_proxy}}"
# At the end: an openstack command of your own, with its plugins, comes first.
case ":$PATH:" in
    *":{venv}/bin:"*) ;;
    *) export PATH="$PATH:{venv}/bin" ;;
esac
"""
