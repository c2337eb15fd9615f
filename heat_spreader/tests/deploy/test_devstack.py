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

"""The DevStack plugin, taken through every phase, against a real Keystone, real Heats and a real Apache.

With stand-ins for DevStack's functions, or, where SPREADER_TEST_DEVSTACK names a checkout of DevStack, with
its own; these write to /etc, so they get a mount namespace in which it is a copy, and that takes root.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as keystone_exceptions
from keystoneauth1 import session
from keystoneauth1.identity import v3
import openstack
from oslotest import base
import yaml

from spreaderclient import sdk
from spreaderclient.sdk import stack as sdk_stack

TOP = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent / "devstack"
sys.path.insert(0, str(TOP / "sandbox"))

from heat_sandbox import identity  # noqa: E402
from heat_sandbox import sandbox  # noqa: E402
from heat_sandbox import site  # noqa: E402
from heat_sandbox import spreader  # noqa: E402

BASE_PORT = 23200
APACHE_PORT, MEMCACHED_PORT = BASE_PORT + 60, BASE_PORT + 61
HOST = f"127.0.0.1:{APACHE_PORT}"
PREFIX = f"http://{HOST}/multi-region-orchestration"
# What local.conf adds to our configuration file: short times, so that nobody waits.
POST_CONFIG: dict[str, dict[str, object]] = {
    **{section: options for section, options in spreader.QUICK.items() if section != "spread"},
    "cors": {"allowed_origin": "https://dashboard.example"},
}

APACHE = """
ServerRoot {work}
ServerName 127.0.0.1
PidFile {work}/apache2.pid
Listen {host}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_uwsgi_module /usr/lib/apache2/modules/mod_proxy_uwsgi.so
ErrorLog {work}/apache2.log
{user}
IncludeOptional {sites}/*.conf
"""
LOCAL_CONF = """
[[local|localrc]]
DEST={work}/dest
DATA_DIR={work}/data
ADMIN_PASSWORD={admin}
SERVICE_PASSWORD=service-secret
DATABASE_PASSWORD={database}
RABBIT_PASSWORD=unused
DATABASE_USER=spreader
MYSQL_USER=spreader
MYSQL_HOST=127.0.0.1
MYSQL_GATHER_PERFORMANCE=False
RABBIT_HOST=127.0.0.1
HOST_IP=127.0.0.1
SERVICE_HOST={host}
MEMCACHE_SERVERS=127.0.0.1:{memcached}
DEVSTACK_VENV={venv}
REQUIREMENTS_DIR={work}/requirements
API_WORKERS=2
OFFLINE=False
ERROR_ON_CLONE=False
disable_all_services
enable_service key mysql rabbit tempest
enable_plugin heat-spreader file://{top} main
SPREADER_CLOUDS="RegionOne west=RegionTwo"
[[post-config|$SPREADER_CONF]]
"""


class TestDevStack(base.BaseTestCase):
    """One long test, as the phases build on each other."""

    def setUp(self) -> None:
        super().setUp()
        self.devstack = os.environ.get("SPREADER_TEST_DEVSTACK")
        # Apache's workers, who are nobody, must get to a socket in it whose path is short; the temporary
        # directory of a test is neither open nor short.
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="spreader-devstack.", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.work.chmod(0o755)
        self.box = sandbox.Sandbox(TOP / ".sandbox-test-devstack")
        self.addCleanup(self._remove)
        self._remove()
        self.box.up(
            sandbox.Settings(
                clouds=2, convergence="off", base_port=BASE_PORT, spreader_port=APACHE_PORT
            )
        )
        self.addCleanup(lambda: site_.down())
        site_ = site.Site(self.box, pathlib.Path(sys.executable).parent, apis=0, engines=0)
        site_.make_servers()
        self._start_memcached()
        self._prepare(site_)
        self.addCleanup(self._stop_all)

    def _remove(self) -> None:
        if self.box.exists():
            self.box.down(delete=True)

    def _start_memcached(self) -> None:
        command = ["memcached", "-l", "127.0.0.1", "-p", str(MEMCACHED_PORT), "-m", "16"]
        if not os.geteuid():
            command += ["-u", "nobody"]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.addCleanup(running.wait, 10)
        self.addCleanup(running.terminate)

    def _prepare(self, site_: site.Site) -> None:
        """Everything that DevStack finds when it begins."""
        admin = self.box.account("admin")
        self.keystone = identity.Keystone(
            admin["auth_url"], admin["username"], admin["password"], admin["project"]
        )
        # It is the plugin's to tell Keystone of us.
        (ours,) = self.keystone.call("GET", "/services?type=multi-region-orchestration")[
            "services"
        ]
        self.keystone.call("DELETE", f"/services/{ours['id']}")
        (user,) = self.keystone.call("GET", "/users?name=heat_spreader")["users"]
        self.keystone.call("DELETE", f"/users/{user['id']}")
        self._set_password("demo", admin["password"])

        for name in ("dest", "data", "apache", "bin", "units", "systemd"):
            (self.work / name).mkdir()
        (self.work / "dest" / "heat-spreader").symlink_to(TOP)
        shutil.copy(HERE / "systemctl", self.work / "bin" / "systemctl")
        self._write_clouds_yaml(admin)
        venv = self._venv() if self.devstack else pathlib.Path(sys.executable).parents[1]
        etc = pathlib.Path("/etc")
        sites = etc / "apache2/sites-enabled" if self.devstack else self.work / "apache"
        self.units = etc / "systemd/system" if self.devstack else self.work / "units"
        apache = self.work / "apache2.conf"
        user_line = "User nobody\nGroup nogroup" if not os.geteuid() else ""
        apache.write_text(APACHE.format(work=self.work, host=HOST, sites=sites, user=user_line))
        unit = f"[Service]\nExecStart = /usr/sbin/apache2 -f {apache} -DFOREGROUND\n"
        (self.work / "units" / "apache2.service").write_text(unit)
        database_url, _, _ = site_.database_url.rpartition("/")
        _, _, password = database_url.partition("spreader:")
        password, _, _ = password.partition("@")
        local_conf = LOCAL_CONF.format(
            work=self.work, admin=admin["password"], database=password, host=HOST, top=TOP,
            venv=venv, memcached=MEMCACHED_PORT,
        )  # fmt: skip
        lines = []
        for section, options in POST_CONFIG.items():
            local_conf += f"[{section}]\n"
            for option, value in options.items():
                local_conf += f"{option} = {value}\n"
                lines.append(f"{section} {option} {value}\n")
        (self.work / "post-config").write_text("".join(lines))
        self.environment = {
            "PATH": f"{self.work / 'bin'}:{venv / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "HOME": str(self.work),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TOP),
            "PYTHONWARNINGS": "ignore",
            "SPREADER_TEST_WORK": str(self.work),
            "SPREADER_TEST_UNITS": str(self.units),
            "SPREADER_TEST_PYTHON": sys.executable,
            "SPREADER_TEST_DATABASE_URL": database_url,
            "SPREADER_TEST_TRANSPORT_URL": site_.transport_url,
            "SPREADER_TEST_KEYSTONE_URL": admin["auth_url"],
            "OS_CLIENT_CONFIG_FILE": str(self.work / "clouds.yaml"),
            "MYSQL_TCP_PORT": str(BASE_PORT + site.DATABASE),
        }
        for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL"):
            if name in os.environ:
                self.environment[name] = os.environ[name]
        if self.devstack:
            self._prepare_real(local_conf)
        else:
            self.prefix: list[str] = []
            self.environment |= {
                "SYSTEMCTL": str(self.work / "bin" / "systemctl"),
                "SPREADER_CONF_DIR": str(self.work / "etc"),
                "KEYSTONE_SERVICE_URI": admin["auth_url"],
                "ADMIN_PASSWORD": admin["password"],
                "SERVICE_PASSWORD": "service-secret",
                "SERVICE_PROTOCOL": "http",
                "SERVICE_HOST": HOST,
                "SERVICE_TIMEOUT": "60",
                "REGION_NAME": "RegionOne",
                "STACK_USER": str(os.geteuid()),
                "DATABASE_TYPE": "mysql",
                "ENABLE_DEBUG_LOG_LEVEL": "False",
                "MEMCACHE_SERVERS": f"127.0.0.1:{MEMCACHED_PORT}",
                "SPREADER_CLOUDS": "RegionOne west=RegionTwo",
                "MYSQL_HOST": "127.0.0.1",
                "DATABASE_USER": "spreader",
                "MYSQL_PWD": password,
            }
        self.conf = pathlib.Path("/etc/heat-spreader" if self.devstack else self.work / "etc")

    def _prepare_real(self, local_conf: str) -> None:
        """A mount namespace, held open by a process in it, in which DevStack may write as it likes."""
        assert self.devstack is not None
        if os.geteuid():
            raise AssertionError("SPREADER_TEST_DEVSTACK needs root: it mounts over /etc")
        checkout = self.work / "devstack"
        # Without extras.d: its hook for Tempest would install Tempest.
        shutil.copytree(self.devstack, checkout, ignore=shutil.ignore_patterns(".git", "extras.d"))
        (checkout / "local.conf").write_text(local_conf)
        bin_directory = self.work / "bin"
        for name, text in {
            "sudo": 'while [[ ${1:-} == -* ]]; do shift; done\nexec env "$@"\n',
            "systemd-tmpfiles": "mkdir -p /var/run/uwsgi\n",
            "a2query": "exit 0\n",
            "a2enmod": "exit 0\n",
            "a2ensite": 'ln -sf "../sites-available/$1.conf" /etc/apache2/sites-enabled/\n',
            "a2dissite": 'rm -f "/etc/apache2/sites-enabled/$1.conf"\n',
        }.items():
            (bin_directory / name).write_text(f"#!/bin/bash\n{text}")
            (bin_directory / name).chmod(0o755)
        constraints = self.work / "requirements" / ".venv" / "bin"
        constraints.mkdir(parents=True)
        (constraints / "edit-constraints").symlink_to("/bin/true")
        (self.work / "requirements" / "upper-constraints.txt").touch()
        for name in ("upper", "overlay", "run"):
            (self.work / name).mkdir()
        holder = subprocess.Popen(["unshare", "--mount", "sleep", "infinity"])
        self.addCleanup(holder.wait, 10)
        self.addCleanup(holder.kill)
        self.prefix = ["nsenter", "--mount", "--target", str(holder.pid), "--"]
        deadline = time.monotonic() + 10
        own = os.stat("/proc/self/ns/mnt").st_ino
        while os.stat(f"/proc/{holder.pid}/ns/mnt").st_ino == own:
            self.assertLess(time.monotonic(), deadline, "no mount namespace")
            time.sleep(0.05)
        script = f"""set -eu
mount --make-rprivate /
mount -t overlay overlay -o lowerdir=/etc,upperdir={self.work}/upper,workdir={self.work}/overlay /etc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/uwsgi /etc/apache2/sites-available /etc/apache2/sites-enabled /etc/systemd/system
mount --bind {bin_directory}/systemctl /usr/bin/systemctl
cp {self.work}/units/apache2.service /etc/systemd/system/
"""
        subprocess.run([*self.prefix, "bash", "-c", script], check=True)
        self.environment["SPREADER_TEST_DEVSTACK"] = str(checkout)
        self.before = self._left()

    def _venv(self) -> pathlib.Path:
        """What DevStack makes for all its services, with the packages of the tests in it."""
        made = self.work / "venv"
        subprocess.run(
            [TOP / "tools" / "venv", made], check=True, env=os.environ | {"PYTHON": sys.executable}
        )
        (packages,) = made.glob("lib/python3*/site-packages")
        (theirs,) = pathlib.Path(sys.executable).parents[1].glob("lib/python3*/site-packages")
        (packages / "tests.pth").write_text(f"{theirs}\n")
        for program in ("openstack", "uwsgi"):
            source = pathlib.Path(sys.executable).parent / program
            text = source.read_bytes()
            if text.startswith(b"#!"):
                _, _, rest = text.partition(b"\n")
                (made / "bin" / program).write_bytes(f"#!{made}/bin/python\n".encode() + rest)
                (made / "bin" / program).chmod(0o755)
            else:
                (made / "bin" / program).symlink_to(source)
        return made

    def _set_password(self, name: str, password: str) -> None:
        (user,) = self.keystone.call("GET", f"/users?name={name}")["users"]
        self.keystone.call("PATCH", f"/users/{user['id']}", {"user": {"password": password}})

    def _write_clouds_yaml(self, admin: dict[str, str]) -> None:
        who = {
            "auth_url": admin["auth_url"],
            "username": "admin",
            "password": admin["password"],
            "user_domain_id": "default",
        }
        project = {"project_domain_id": "default"}
        entries = {
            "devstack-admin": {"auth": {**who, **project, "project_name": "admin"}},
            "devstack-system-admin": {"auth": {**who, "system_scope": "all"}},
            "devstack": {"auth": {**who, **project, "username": "demo", "project_name": "demo"}},
        }
        clouds = {name: {**entry, "region_name": "RegionOne"} for name, entry in entries.items()}
        (self.work / "clouds.yaml").write_text(yaml.safe_dump({"clouds": clouds}))

    def _stop_all(self) -> None:
        for number in self._running().values():
            subprocess.run(["kill", "-KILL", "--", f"-{number}"], check=False)

    # Steps

    def take_through(self, mode: str) -> str:
        done = subprocess.run(
            [*self.prefix, "bash", str(HERE / "phases.sh"), mode],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        log = self.work / f"{mode}.log"
        log.write_text(done.stdout)
        if done.returncode:
            logs = "".join(
                f"\n--- {file.name}\n{file.read_text(errors='replace')[-3000:]}"
                for file in (self.work / "systemd").glob("*.log")
            )
            raise AssertionError(f"{mode} failed:\n{done.stdout[-6000:]}{logs}")
        return done.stdout

    def openstack(self, cloud: str, *words: str, timeout: float = 120) -> str:
        """What an openstack command of a user prints."""
        done = subprocess.run(
            [sys.executable, "-m", "openstackclient.shell", "--os-cloud", cloud, *words],
            env={**self.environment, "PYTHONPATH": str(TOP)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def get(self, path: str, token: str | None = None) -> tuple[int, object]:
        request = urllib.request.Request(PREFIX + path)
        if token:
            request.add_header("X-Auth-Token", token)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def asked(self, function: str) -> list[list[str]]:
        """How the plugin called a function; the stand-ins write it down."""
        lines = [line.split("\t") for line in (self.work / "asked").read_text().splitlines()]
        return [line[1:] for line in lines if line[0] == function]

    def _running(self) -> dict[str, int]:
        found = {}
        for file in (self.work / "systemd").glob("*.pid"):
            number = int(file.read_text())
            if pathlib.Path(f"/proc/{number}").exists():
                found[file.stem] = number
        return found

    def _left(self) -> set[str]:
        """The files below /etc that are not as they were on this machine."""
        if not self.devstack:
            found = [*(self.work / "etc").rglob("*"), *(self.work / "apache").rglob("*")]
        else:
            found = [path for path in (self.work / "upper").rglob("*") if path.is_file()]
        return {str(path.relative_to(self.work)) for path in found}

    # The test

    def test_a_devstack_from_its_first_phase_to_its_last(self) -> None:
        self.take_through("stack")
        self._check_what_is_configured()
        self._check_the_api_behind_apache()
        self._check_what_dashboards_need()
        self.assertEqual("https://dashboard.example", self._preflight())
        self._check_the_main_job()
        self._check_what_the_page_says()
        if not self.devstack:
            self._check_an_upgrade()
        self.take_through("unstack")
        self.assertEqual({"apache2"}, set(self._running()), "what still runs")
        stops = (self.work / "systemd" / "stops").read_text().splitlines()
        self.assertIn("devstack@spreader-api ended", stops, "it had to be killed")
        self.assertIn("devstack@spreader-engine ended", stops, "it had to be killed")
        self._check_a_second_time()
        self.take_through("unstack")
        self.take_through("clean")
        self._check_nothing_is_left()

    def _check_what_is_configured(self) -> None:
        (service,) = self.keystone.call("GET", "/services?type=multi-region-orchestration")[
            "services"
        ]
        self.assertEqual("heat-spreader", service["name"])
        endpoints = self.keystone.call("GET", f"/endpoints?service_id={service['id']}")[
            "endpoints"
        ]
        self.assertEqual(
            {("public", PREFIX), ("internal", PREFIX), ("admin", PREFIX)},
            {(each["interface"], each["url"]) for each in endpoints},
        )
        (user,) = self.keystone.call("GET", "/users?name=heat_spreader")["users"]
        grants = self.keystone.call(
            "GET", f"/role_assignments?user.id={user['id']}&include_names=true"
        )["role_assignments"]
        self.assertEqual(["service"], [each["role"]["name"] for each in grants])
        tempest = (self.work / "tempest.conf").read_text()
        self.assertIn("spreader = True", tempest)
        if not self.devstack:
            self.assertEqual(
                [[str(self.work / "dest/heat-spreader"), "memcached,mysql"]],
                self.asked("setup_develop"),
            )
            api, engine = self.asked("run_process")
            self.assertEqual(["spreader-api", "spreader-engine"], [api[0], engine[0]])
            self.assertRegex(api[1], r"^/\S*uwsgi --procname-prefix spreader-api --ini /")
            (uwsgi,) = self.asked("write_uwsgi_config")
            self.assertEqual("heat_spreader.wsgi.api:application", uwsgi[1])

    def _check_the_api_behind_apache(self) -> None:
        code, versions = self.get("/")
        self.assertEqual(200, code)
        (version,) = versions["versions"]  # type: ignore[index]
        self.assertEqual(f"{PREFIX}/v1/", version["links"][0]["href"])
        code, refused = self.get("/v1/stacks")
        self.assertEqual(401, code)
        self.assertIn("X-Auth-Token", refused["errors"][0]["detail"])  # type: ignore[index]
        code, _ = self.get("/v1/clouds", self.keystone.token)
        self.assertEqual(200, code)
        code, page = self.get("/v1/clouds?limit=1", self.keystone.token)
        self.assertTrue(page["clouds_links"][0]["href"].startswith(f"{PREFIX}/v1/clouds?"), page)  # type: ignore[index]

    def _check_what_dashboards_need(self) -> None:
        """Found by its type, asked as Horizon asks: through the catalogue, in pages, with a version."""
        admin = self.box.account("admin")
        login = session.Session(
            v3.Password(
                admin["auth_url"],
                username="demo",
                password=admin["password"],
                project_name="demo",
                user_domain_id="default",
                project_domain_id="default",
            )
        )
        service = {"service_type": "multi-region-orchestration", "region_name": "RegionOne"}
        found = adapter.Adapter(login, min_version="1", max_version="latest", **service)
        data = found.get_endpoint_data()
        self.assertEqual(f"{PREFIX}/v1/", data.url)
        self.assertEqual(((1, 0), "CURRENT"), (data.min_microversion, data.status))
        answer = found.get("/stacks", microversion="1.0")
        self.assertEqual("multi-region-orchestration 1.0", answer.headers["OpenStack-API-Version"])
        refused = self.assertRaises(
            keystone_exceptions.NotAcceptable,
            found.get,
            "/stacks",
            headers={"OpenStack-API-Version": "multi-region-orchestration 1.999"},
        )
        self.assertIn("1.999", refused.response.json()["errors"][0]["detail"])
        elsewhere = adapter.Adapter(login, **{**service, "region_name": "RegionTwo"})
        self.assertRaises(keystone_exceptions.EndpointNotFound, elsewhere.get_endpoint)

        for number in range(3):
            body = {"name": f"s{number}", "count": number, "members": []}
            made = found.post("/stacks", json=body)
            self.assertEqual(202, made.status_code)
            self.assertTrue(made.headers["Location"].startswith(f"{PREFIX}/v1/stacks/"))
        again = self.assertRaises(
            keystone_exceptions.Conflict, found.post, "/stacks", json={"name": "s1", "count": 1}
        )
        self.assertIn("s1", again.response.json()["errors"][0]["detail"])
        self.assertRaises(keystone_exceptions.NotFound, found.get, "/stacks/nowhere")
        self.assertRaises(
            keystone_exceptions.Forbidden, found.post, "/clouds", json={"name": "mine"}
        )
        page = found.get("/stacks", params={"limit": 2, "sort": "name:desc"}).json()
        self.assertEqual(["s2", "s1"], [stack["name"] for stack in page["stacks"]])
        (following,) = page["stacks_links"]
        self.assertEqual("next", following["rel"])
        rest = login.get(following["href"]).json()
        self.assertEqual(["s0"], [stack["name"] for stack in rest["stacks"]])
        marker = page["stacks"][-1]["id"]
        rest = found.get("/stacks", params={"limit": 1001, "marker": marker, "sort": "name:desc"})
        self.assertEqual(["s0"], [stack["name"] for stack in rest.json()["stacks"]])
        self.assertEqual(
            ["s1"], [stack["name"] for stack in found.get("/stacks?name=s1").json()["stacks"]]
        )
        self.assertLessEqual(
            {"id", "name", "status", "status_reason", "created_at", "updated_at", "project_id"},
            set(page["stacks"][0]),
        )

        connection = openstack.connection.Connection(session=login, region_name="RegionOne")
        listed = sdk_stack.Stack.list(sdk.connect(connection))
        self.assertEqual({"s0", "s1", "s2"}, {stack.name for stack in listed})
        for number in range(3):
            self.assertEqual(202, found.delete(f"/stacks/s{number}").status_code)

    def _preflight(self) -> str | None:
        """Which origin is allowed, as a browser asks before it asks with a token."""
        request = urllib.request.Request(f"{PREFIX}/v1/stacks", method="OPTIONS")
        request.add_header("Origin", "https://dashboard.example")
        request.add_header("Access-Control-Request-Method", "POST")
        request.add_header("Access-Control-Request-Headers", "X-Auth-Token,OpenStack-API-Version")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.headers["Access-Control-Allow-Origin"]  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            return error.headers["Access-Control-Allow-Origin"]  # type: ignore[no-any-return]

    def _check_the_main_job(self) -> None:
        """As the demo user does it, with nothing but what openrc and the catalogue say."""
        clouds = json.loads(self.openstack("devstack", "spreader", "cloud", "list", "-f", "json"))
        self.assertEqual({"RegionOne", "west"}, {cloud["Name"] for cloud in clouds})
        self.openstack(
            "devstack", "spreader", "stack", "create", "web", "--count", "10",
            "--weight", "RegionOne=.7", "--weight", "west=.3",
            "-t", str(TOP / "sandbox" / "web.yaml"), "--wait",
        )  # fmt: skip
        self.assertEqual({"cloud1": 7, "cloud2": 3}, self._in_the_heats("web"))
        self.openstack("devstack", "spreader", "stack", "set", "web", "--count", "20", "--wait")
        self.assertEqual({"cloud1": 14, "cloud2": 6}, self._in_the_heats("web"))
        self.openstack("devstack", "spreader", "stack", "delete", "web", "--wait")

    def _check_what_the_page_says(self) -> None:
        """The commands of the page about DevStack, typed one after another. Its openrc is a stand-in."""
        (self.work / "openrc").write_text("export OS_CLOUD=devstack\n")
        shutil.copy(TOP / "sandbox" / "web.yaml", self.work)
        page = (TOP / "doc/source/install/devstack.rst").read_text()
        commands = [line.strip()[2:] for line in page.splitlines() if line.strip()[:2] == "$ "]
        self.assertEqual(". openrc demo demo", commands[0])
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(commands)],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertEqual(3, self._in_the_heats("web", "cloud1")["cloud1"])
        self.openstack("devstack", "spreader", "stack", "delete", "web", "--wait")

    def _in_the_heats(self, name: str, *clouds: str) -> dict[str, int | None]:
        """What they say of a Heat stack; all of them, or those that are named."""
        found: dict[str, int | None] = {}
        admin = self.box.account("admin")
        demo = identity.Keystone(admin["auth_url"], "demo", admin["password"], "demo")
        for cloud in self.box.clouds():
            if clouds and cloud.name not in clouds:
                continue
            url = f"{cloud.heat.url}/v1/{demo.project_id}/stacks/{name}?resolve_outputs=False"
            stack, _ = identity.call("GET", url, demo.token)
            found[cloud.name] = int(stack["stack"]["parameters"]["count"])
        return found

    def _check_an_upgrade(self) -> None:
        """Grenade's scripts, in Grenade's order, from this tree to this tree, with stand-ins for its functions."""
        (self.work / "save").mkdir()
        self._run_grenade("resources.sh", "create")
        self._run_grenade("resources.sh", "verify", "pre-upgrade")
        self._run_grenade("shutdown.sh")
        self.assertEqual({"apache2"}, set(self._running()), "what still runs")
        self._run_grenade("resources.sh", "verify_noapi", "pre-upgrade")
        self._run_grenade("upgrade.sh")
        self.assertTrue((self.work / "save" / "etc.heat-spreader" / "heat-spreader.conf").exists())
        self._run_grenade("resources.sh", "verify", "post-upgrade")
        self._run_grenade("resources.sh", "destroy")

    def _run_grenade(self, script: str, *words: str) -> None:
        upgrade = TOP / "devstack" / "upgrade"
        done = subprocess.run(
            ["bash", upgrade / script, *words],
            env={
                **self.environment,
                "GRENADE_DIR": str(HERE / "grenade"),
                "TOP_DIR": str(HERE / "grenade"),
                "SPREADER_TEST_HERE": str(HERE),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        self.assertEqual(0, done.returncode, f"{script} {words}:\n{done.stdout[-5000:]}")

    def _check_a_second_time(self) -> None:
        """Whoever unstacks stacks again: with an empty database, and nothing twice in Keystone."""
        for file in (self.work / "post-config", self.work / "devstack" / "local.conf"):
            if file.exists():
                lines = file.read_text().splitlines(keepends=True)
                file.write_text("".join(line for line in lines if "allowed_origin" not in line))
        self.take_through("stack")
        self.assertEqual(
            1,
            len(
                self.keystone.call("GET", "/services?type=multi-region-orchestration")["services"]
            ),
        )
        clouds = json.loads(self.openstack("devstack", "spreader", "cloud", "list", "-f", "json"))
        self.assertEqual(2, len(clouds))
        self.assertIsNone(self._preflight())

    def _check_nothing_is_left(self) -> None:
        self.assertEqual({"apache2"}, set(self._running()))
        if not self.devstack:
            self.assertEqual(set(), self._left())
            self.assertFalse((self.work / "data" / "heat-spreader").exists())
            return
        left = {
            path
            for path in self._left() - self.before
            # These DevStack's own clean.sh removes, or leaves.
            if "devstack@" not in path and "tmpfiles.d" not in path and "gitconfig" not in path
        }
        self.assertEqual(set(), left)
