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

"""usage: tell_keystone.py user NAME PASSWORD PROJECT [ROLE] | service NAME TYPE | endpoint TYPE REGION URL...

What DevStack's functions of similar names tell Keystone: made where it is not there yet.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[4] / "sandbox"))

from heat_sandbox import identity


def main() -> None:
    what, *words = sys.argv[1:]
    keystone = identity.Keystone(
        os.environ["KEYSTONE_SERVICE_URI"], "admin", os.environ["ADMIN_PASSWORD"], "admin"
    )
    if what == "user":
        name, password, project, *roles = words
        user = keystone.ensure("user", {"name": name, "domain_id": "default"}, password=password)
        keystone.call("PATCH", f"/users/{user}", {"user": {"password": password}})
        where = keystone.ensure("project", {"name": project, "domain_id": "default"})
        for role in ("service", *roles):
            keystone.grant(f"projects/{where}", user, keystone.ensure("role", {"name": role}))
    elif what == "service":
        name, kind = words
        keystone.ensure("service", {"type": kind}, name=name)
    else:
        kind, region, *urls = words
        service = keystone.ensure("service", {"type": kind})
        for interface, url in zip(("public", "admin", "internal"), urls, strict=False):
            match = {"service_id": service, "region_id": region, "interface": interface}
            endpoint = keystone.ensure("endpoint", match, url=url)
            keystone.call("PATCH", f"/endpoints/{endpoint}", {"endpoint": {"url": url}})


if __name__ == "__main__":
    main()
