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

"""Every option of the service, by group, and the one place where configuration is set up.

Only ``cmd/``, ``wsgi/`` and test fixtures touch the global configuration object; everything else is
handed values or a ``conf``. (oslo.messaging reads some options of its own from the global object, so
the service uses it rather than a private one.)
"""

from collections.abc import Mapping
from collections.abc import Sequence
import socket

from keystonemiddleware import opts as auth_token_opts
from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import log
from oslo_middleware import cors
from oslo_policy import opts as policy_opts
from oslo_reports import opts as report_opts
import pbr.version

from heat_spreader import exception
from heat_spreader import trusts

VERSION = pbr.version.VersionInfo("heat-spreader").version_string()

default_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<the host name>",
        help="Name of this host. Engines are observers under this name, so it must differ between "
        "hosts and stay the same over restarts.",
    ),
]

api_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "auth_strategy",
        default="keystone",
        choices=[
            ("keystone", "Validate tokens with Keystone."),
            (
                "http_basic",
                "Check user names and passwords against http_basic_auth_user_file. Everybody in it is "
                "an administrator of one project. For a small site, and only behind TLS.",
            ),
            ("none", "Everybody is the administrator of one project. Loopback only."),
        ],
        help="How callers are known. 'none' is refused unless the API listens on a loopback address.",
    ),
    cfg.StrOpt(
        "http_basic_auth_user_file",
        default="/etc/heat-spreader/htpasswd",
        help="Users and bcrypt hashes for auth_strategy http_basic, as 'htpasswd -B' writes them. Read "
        "again when it changes; must not be readable for everybody.",
    ),
    cfg.HostAddressOpt(
        "host",
        default="127.0.0.1",
        help="Address on which 'heat-spreader run' listens. WSGI servers have their own setting.",
    ),
    cfg.PortOpt(
        "port",
        default=8797,
        help="Port on which 'heat-spreader run' listens. WSGI servers have their own setting.",
    ),
    cfg.IntOpt(
        "max_limit",
        default=1000,
        min=1,
        help="The most records in one page of a listing. A client that asks for more gets this many "
        "and a link to the next page; a higher value makes single answers larger and slower.",
    ),
]

engine_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "zone",
        help="Failure zone of this host, for example a data centre. When clouds are judged, all hosts of "
        "one zone together have one vote. Hosts without a zone have one each.",
    ),
    cfg.IntOpt(
        "workers",
        default=1,
        min=1,
        help="Engine processes on this host. More make rounds of different stacks run on more "
        "cores; each opens its own connections and probes every cloud.",
    ),
    cfg.IntOpt(
        "threads",
        default=32,
        min=1,
        help="Rounds that one engine process runs at the same time. Raise it when many stacks wait "
        "while clouds answer slowly; each needs a database connection.",
    ),
    cfg.PortOpt(
        "metrics_port",
        default=0,
        help="Port on which an engine process serves numbers to Prometheus: verdicts, probes, votes, "
        "failovers, the brake. With several workers each takes the next one that is free. 0 serves none. They "
        "name clouds and projects, and nobody is asked who he is.",
    ),
    cfg.HostAddressOpt(
        "metrics_host",
        default="127.0.0.1",
        help="Address on which the metrics are served. Another one than loopback shows them to the network.",
    ),
    cfg.FloatOpt(
        "sweep_interval",
        default=1.0,
        min=0.05,
        help="Seconds between two looks for stacks that are due. A lost RPC message costs at most "
        "this long; a lower value asks the database more often.",
    ),
    cfg.FloatOpt(
        "progress_interval",
        default=1.0,
        min=0.05,
        help="Seconds between two looks at a cloud in which a Heat stack is being changed. A lower "
        "value notices the end sooner and asks that Heat more often.",
    ),
    cfg.FloatOpt(
        "resync_interval",
        default=3600.0,
        min=1.0,
        help="Seconds after which a quiet stack gets a round although nothing seems to have moved. "
        "Whatever moves in a cloud is seen in its listing and leads to a round at once, so this only "
        "makes good what nobody thought of. A lower value costs rounds: at 300 seconds 10 000 stacks "
        "need 33 of them each second.",
    ),
    cfg.FloatOpt(
        "claim_lease",
        default=60.0,
        min=2.0,
        help="Seconds for which an engine may work on a stack before it has to renew its claim. "
        "Stacks of an engine that died wait at most this long; it must be at least "
        "twice [clouds] timeout, or an engine has to give up rounds in the middle.",
    ),
    cfg.FloatOpt(
        "retry_interval",
        default=15.0,
        min=0.1,
        help="Seconds before a write that a cloud refused is tried again; doubled at each further "
        "refusal up to 20 times this value, with jitter.",
    ),
    cfg.FloatOpt(
        "full_for",
        default=300.0,
        min=0.1,
        help="Seconds for which a cloud in which a raise failed is held for full and its further units "
        "are offered to the other clouds; doubled at each further failure up to 16 times this value. A "
        "lower value fills a cloud sooner that has got room again, and asks a full one more often.",
    ),
    cfg.FloatOpt(
        "update_deadline",
        default=3660.0,
        min=1.0,
        help="Seconds that Heat may be at work on one change of a stack that names no timeout_mins of "
        "its own; after that the stack says that it is stuck and, where its user wants that, the change "
        "is sent again. It should be a minute more than stack_action_timeout of the Heats.",
    ),
]

health_opts: list[cfg.Opt] = [
    cfg.FloatOpt(
        "probe_interval",
        default=10.0,
        min=0.1,
        help="Seconds between two observations of a cloud. A lower value notices an outage sooner "
        "and asks every Heat more often.",
    ),
    cfg.FloatOpt(
        "probe_timeout",
        default=5.0,
        min=0.1,
        help="Seconds after which an observation without an answer is a miss. Too low a value takes "
        "a slow cloud for a dead one.",
    ),
    cfg.IntOpt(
        "misses",
        default=3,
        min=1,
        help="Misses in a row, a probe_interval apart, before an observer holds a cloud for unreachable. "
        "The first miss makes "
        "it suspect. A higher value rides out longer disturbances and reacts later.",
    ),
    cfg.IntOpt(
        "goods",
        default=3,
        min=1,
        help="Good answers in a row before an observer holds a cloud that was unreachable for "
        "healthy again.",
    ),
    cfg.FloatOpt(
        "brake_window",
        default=300.0,
        min=0.0,
        help="Seconds within which outages of several clouds count as one. When at least three clouds, and "
        "more than half of those that are known, become unreachable within this time, nothing moves by "
        "itself until enough of them are back or an administrator forces it. A higher value also stops "
        "outages that follow from each other.",
    ),
    cfg.DictOpt(
        "watchdogs",
        default={},
        help="Watchdogs that report without a token of Keystone's, for example Alertmanager: the name of "
        "each with the SHA-256, in hexadecimal, of its secret. It sends the secret as 'Authorization: Bearer' "
        "and may do nothing but report what it sees of clouds. Make a secret of 32 random bytes at least.",
    ),
    cfg.DictOpt(
        "watchdog_zones",
        default={},
        help="The failure zone of each of these watchdogs. Those without one have a vote each.",
    ),
    cfg.StrOpt(
        "alert_label",
        default="cloud",
        help="The label of an alert that names the cloud which it is about. Alerts without it are ignored.",
    ),
    cfg.IntOpt(
        "alert_expiry",
        default=18000,
        min=60,
        help="Seconds for which a firing alert stands without being sent again. It should be a little more "
        "than the repeat_interval of the Alertmanager, which is four hours by default. A lower value forgets "
        "an alert that still fires; with a higher one an Alertmanager that died has its say for longer.",
    ),
    cfg.ListOpt(
        "references",
        default=[],
        help="URLs that answer whatever becomes of the clouds, for example of a router or a public site. "
        "A host that misses more than half of the clouds at once asks them, and the message bus; when "
        "none of the URLs answers, or no broker, its votes do not count until one does. Any answer will "
        "do, an error too. Without URLs only the bus is asked.",
    ),
]

spread_opts: list[cfg.Opt] = [
    cfg.IntOpt(
        "toleration",
        default=60,
        min=0,
        help="Seconds that a stack waits, once a cloud is judged unreachable, before its units go to "
        "the other clouds; for stacks that name none of their own.",
    ),
    cfg.IntOpt(
        "stable",
        default=300,
        min=0,
        help="Seconds that a cloud which came back must stay healthy before units go back to it; "
        "for stacks that name none of their own. It is doubled each time that the cloud goes away again "
        "within stable_ceiling after it has come back.",
    ),
    cfg.IntOpt(
        "stable_ceiling",
        default=3600,
        min=0,
        help="Seconds to which the time grows that a cloud which keeps going away must stay healthy, and "
        "after which it counts as well again. A lower value gives units back sooner to a cloud that may "
        "not stay.",
    ),
]

clouds_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "config_file",
        help="The clouds.yaml with the operator's clouds. When unset, the usual places are searched: "
        "the current directory, ~/.config/openstack, /etc/openstack.",
    ),
    cfg.FloatOpt(
        "timeout",
        default=10.0,
        min=0.1,
        help="Seconds to wait for any single answer of a cloud other than a probe's; an entry's "
        "api_timeout in clouds.yaml goes before it. A change that is given up may have been carried "
        "out all the same, which costs a further look.",
    ),
    cfg.IntOpt(
        "concurrency",
        default=16,
        min=1,
        help="Requests that one engine process has under way in one cloud at the same time. A cloud "
        "that hangs holds up this many threads and no more. As many again may wait for a place, and "
        "for a moment only; what is beyond that is tried again a little later.",
    ),
    cfg.IntOpt(
        "max_in_progress",
        default=100,
        min=1,
        help="Operations of Heat that may be under way in one cloud, as far as its listing shows "
        "them, before an engine begins no further one there; a step that waits for this says so in "
        "its member's reason. A higher value finishes a large change sooner where that Heat has the "
        "workers for it, and overwhelms it where it has not. Several engines may together exceed it "
        "by what they begin between two listings.",
    ),
]

tenants_opts: list[cfg.Opt] = [
    cfg.ListOpt(
        "denied_networks",
        default=[
            # "This network", loopback, link-local (metadata services answer there), private, shared,
            # benchmarks, multicast and what is reserved; the same in IPv6.
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12"),
            *("192.168.0.0/16", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            *("::/128", "::1/128", "fe80::/10", "fc00::/7", "fec0::/10", "ff00::/8"),
        ],
        help="Networks in which clouds that projects register may not be: neither their Keystone nor "
        "anything in its catalog. Each address is looked at when it is connected to, whatever name "
        "led there. Take a network out, and projects can make engines knock at every door in it.",
    ),
    cfg.ListOpt(
        "allowed_networks",
        default=[],
        help="Networks in which their clouds may be all the same, for example that of your own second "
        "cloud: 10.20.0.0/24. Goes before denied_networks.",
    ),
    cfg.BoolOpt(
        "allow_insecure",
        default=False,
        help="Whether administrators may register clouds whose TLS certificates are not checked. "
        "Whoever is on the way to such a cloud can read its credentials.",
    ),
    cfg.FloatOpt(
        "max_timeout",
        default=60.0,
        min=0.1,
        help="The longest timeout, in seconds, that may be set for a cloud. It must be at most half of "
        "[engine] claim_lease to be of use.",
    ),
    cfg.IntOpt(
        "expiry_warning",
        default=30,
        min=0,
        help="Days before an application credential expires from which on its cloud says so.",
    ),
]

quota_opts: list[cfg.Opt] = [
    cfg.IntOpt(
        resource,
        default=default,
        min=-1,
        help=f"How many {what} a project may have that has no limit of its own; -1: any number. "
        "Lowering it takes nothing away.",
    )
    for resource, default, what in (
        ("stacks", 1000, "stacks"),
        ("members", 10_000, "members of stacks, all of its stacks together,"),
        ("units", 100_000, "units, all of its stacks together,"),
        ("clouds", 100, "clouds of its own"),
    )
]

notifications_opts: list[cfg.Opt] = [
    cfg.BoolOpt(
        "enabled",
        default=False,
        help="Whether engines tell events to others as notifications, by the driver and on the topics of "
        "[oslo_messaging_notifications]. Events are on record in any case.",
    ),
]

secrets_opts: list[cfg.Opt] = [
    cfg.StrOpt(
        "store",
        default="local",
        choices=[
            ("local", "In the database, encrypted with the keys of key_file."),
            (
                "castellan",
                "In Barbican or Vault, see [key_manager]; the database has a reference.",
            ),
        ],
        help="Where the secrets of clouds that projects register are kept.",
    ),
    cfg.StrOpt(
        "key_file",
        default="/etc/heat-spreader/secrets.keys",
        help="Keys of the store 'local', one a line; the first one encrypts, all of them decrypt. The "
        "same on every host. Made, and a new key put in front, by 'heat-spreader-manage credential "
        "key'. Only its owner may write it and only its group may read it. Without it no project can "
        "bring a cloud that needs a secret.",
    ),
]

GROUPS: dict[str | None, list[cfg.Opt]] = {
    None: default_opts,
    "api": api_opts,
    "engine": engine_opts,
    "health": health_opts,
    "spread": spread_opts,
    "clouds": clouds_opts,
    "tenants": tenants_opts,
    "quota": quota_opts,
    "notifications": notifications_opts,
    "secrets": secrets_opts,
}


def list_opts() -> list[tuple[str | None, list[cfg.Opt]]]:
    """For oslo-config-generator: our own groups and the authentication section."""
    return [*GROUPS.items(), *trusts.list_opts(), *auth_token_opts.list_auth_token_opts()]


def register(conf: cfg.ConfigOpts) -> None:
    """Register every option and the defaults that differ from the libraries' own."""
    for group, opts in GROUPS.items():
        conf.register_opts(opts, group=group)
    trusts.register(conf)
    db_options.set_defaults(conf)
    policy_opts.set_defaults(conf, policy_file="policy.yaml")
    report_opts.set_defaults(conf)
    set_defaults()


def set_defaults() -> None:
    """Defaults of ours for options of the libraries; oslo-config-generator calls this for the sample."""
    # So many transactions may run at once with [engine] threads at its default. For one that is beyond
    # the pool a connection is made and closed, which in a large failover costs more than its statements.
    cfg.set_defaults(db_options.database_opts, max_pool_size=20)
    cors.set_defaults(
        allow_headers=[
            "X-Auth-Token",
            "OpenStack-API-Version",
            "If-Match",
            "X-OpenStack-Request-ID",
        ],
        expose_headers=["OpenStack-API-Version", "ETag", "Location", "X-OpenStack-Request-ID"],
        allow_methods=["GET", "PUT", "POST", "DELETE", "PATCH"],
    )


def setup(
    conf: cfg.ConfigOpts,
    argv: Sequence[str],
    *,
    defaults: Mapping[tuple[str, str | None], object] | None = None,
    config_files: Sequence[str] | None = None,
) -> None:
    """Register options, parse the command line and the files, and set up logging.

    :param defaults: (option, group) to a default of this command's own
    :param config_files: instead of those that oslo.config finds
    :raises StartupError: an option or a file is wrong
    """
    register(conf)
    log.register_options(conf)
    for (option, group), default in (defaults or {}).items():
        conf.set_default(option, default, group=group)
    log.set_defaults(
        default_log_levels=[*log.get_default_log_levels(), "openstack=WARN", "keystoneauth=ERROR"]
    )
    try:
        conf(
            list(argv),
            project="heat-spreader",
            version=VERSION,
            default_config_files=None if config_files is None else list(config_files),
        )
        # A value is looked at when it is first asked for, and that would be in the middle of a request.
        for group, opts in GROUPS.items():
            for opt in opts:
                (conf if group is None else conf[group])[opt.dest]
    except (cfg.ConfigFilesNotFoundError, cfg.ConfigFileValueError, cfg.ConfigFileParseError) as e:
        raise exception.StartupError(reason=str(e)) from e
    log.setup(conf, "heat_spreader", VERSION)


def check_database(conf: cfg.ConfigOpts) -> None:
    """:raises StartupError: no database is named"""
    if not conf.database.connection:
        raise exception.StartupError(
            reason="no database is configured; set [database] connection in heat-spreader.conf"
        )


def check(conf: cfg.ConfigOpts) -> None:
    """Refuse settings with which an engine cannot work.

    :raises StartupError: with what to change
    """
    check_database(conf)
    if conf.clouds.timeout * 2 > conf.engine.claim_lease:
        raise exception.StartupError(
            reason=f"[engine] claim_lease ({conf.engine.claim_lease}) must be at least twice [clouds] "
            f"timeout ({conf.clouds.timeout}), or engines lose stacks while they wait"
        )
