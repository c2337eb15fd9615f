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

"""What the sandbox needs Keystone to know: regions, services, projects, users and roles.

Every step looks before it makes something, so the whole may be repeated after a failure.
"""

import collections.abc
import dataclasses
import json
import typing
import urllib.error
import urllib.parse
import urllib.request

# A proxy of the user's must not see calls to this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class IdentityError(Exception):
    """Keystone refused something."""


@dataclasses.dataclass(frozen=True)
class Account:
    """A user that the sandbox makes, with its roles in one project of the same domain."""

    user: str
    project: str
    roles: tuple[str, ...]
    domain: str = "default"


ELSEWHERE = "elsewhere"
ACCOUNTS = (
    # Heat itself validates tokens, and mints trusts for its users.
    Account("heat", "service", ("admin", "service")),
    # "service" is what a service needs to validate its callers' tokens.
    Account("heat_spreader", "service", ("service",)),
    Account("demo", "demo", ("member",)),
    Account("reader", "demo", ("reader",)),
    Account("demo2", "demo2", ("member",)),
    # A project that has the name of another one, in another domain.
    Account("demo3", "demo", ("member",), ELSEWHERE),
)
# A domain of its own for the users and projects that Heat makes for its stacks.
HEAT_DOMAIN = "heat"
HEAT_DOMAIN_ADMIN = "heat_domain_admin"


def call(
    method: str, url: str, token: str | None = None, body: object = None, timeout: float = 20
) -> tuple[dict[str, typing.Any], collections.abc.Mapping[str, str]]:
    """Send one JSON request and give the decoded body and the headers of its answer."""
    headers = {"Accept": "application/json"}
    if token:
        headers["X-Auth-Token"] = token
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with _opener.open(request, timeout=timeout) as response:
        text = response.read()
        return (json.loads(text) if text else {}), response.headers


class Keystone:
    """Keystone's REST interface as one user; `url` ends in /v3."""

    def __init__(
        self, url: str, user: str, password: str, project: str, domain_name: str = "Default"
    ) -> None:
        self.url = url
        domain = {"name": domain_name}
        who = {"user": {"name": user, "domain": domain, "password": password}}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": who},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        answer, headers = call("POST", f"{url}/auth/tokens", body=body)
        self.token = headers["X-Subject-Token"]
        self.project_id: str = answer["token"]["project"]["id"]
        self.user_id: str = answer["token"]["user"]["id"]

    def call(self, method: str, path: str, body: object = None) -> dict[str, typing.Any]:
        try:
            return call(method, self.url + path, self.token, body)[0]
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise IdentityError(f"{method} {path}: {error.code} {said}") from error

    def ensure(self, noun: str, match: dict[str, str], **more: object) -> str:
        """Find the thing that has these attributes, or make it; give its id."""
        found = self.call("GET", f"/{noun}s?{urllib.parse.urlencode(match)}")[f"{noun}s"]
        # Keystone ignores a filter that it does not know.
        for thing in found:
            if all(thing[name] == value for name, value in match.items()):
                return str(thing["id"])
        made = self.call("POST", f"/{noun}s", {noun: {**match, **more}})
        return str(made[noun]["id"])

    def grant(self, where: str, user: str, role: str) -> None:
        self.call("PUT", f"/{where}/users/{user}/roles/{role}")


def populate(
    keystone: Keystone,
    passwords: collections.abc.Mapping[str, str],
    heats: collections.abc.Sequence[tuple[str, str]],
    spreader_url: str,
) -> None:
    """Make what the Heats of this Keystone need; `heats` are (region, URL) of each."""
    roles = {
        name: keystone.ensure("role", {"name": name})
        for name in ("admin", "service", "member", "reader", "heat_stack_user")
    }
    domains = {"default": "default", ELSEWHERE: keystone.ensure("domain", {"name": ELSEWHERE})}
    projects = {
        (domain, name): keystone.ensure("project", {"name": name, "domain_id": domains[domain]})
        for domain, name in sorted({(account.domain, account.project) for account in ACCOUNTS})
    }
    for account in ACCOUNTS:
        user = keystone.ensure(
            "user",
            {"name": account.user, "domain_id": domains[account.domain]},
            password=passwords[account.user],
        )
        for role in account.roles:
            project = projects[account.domain, account.project]
            keystone.grant(f"projects/{project}", user, roles[role])

    domain = keystone.ensure("domain", {"name": HEAT_DOMAIN})
    domain_admin = keystone.ensure(
        "user",
        {"name": HEAT_DOMAIN_ADMIN, "domain_id": domain},
        password=passwords[HEAT_DOMAIN_ADMIN],
    )
    keystone.grant(f"domains/{domain}", domain_admin, roles["admin"])

    services = {
        kind: keystone.ensure("service", {"type": kind}, name=name)
        for kind, name in (
            ("identity", "keystone"),
            ("orchestration", "heat"),
            ("multi-region-orchestration", "heat-spreader"),
        )
    }
    known = {region["id"] for region in keystone.call("GET", "/regions")["regions"]}
    for region, heat_url in heats:
        if region not in known:
            keystone.call("POST", "/regions", {"region": {"id": region}})
        for kind, url in (
            ("identity", keystone.url),
            ("orchestration", heat_url + "/v1/%(tenant_id)s"),
            ("multi-region-orchestration", spreader_url),
        ):
            for interface in ("public", "internal", "admin"):
                match = {
                    "service_id": services[kind],
                    "region_id": region,
                    "interface": interface,
                }
                keystone.ensure("endpoint", match, url=url)
