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

"""Runs one OpenStack process of the sandbox inside the sandbox's virtual environment.

It serves Keystone, Barbican or one Heat on the loopback address. It writes no configuration and
changes no installed file: what has to differ from a data centre is done here, in memory.
"""

import argparse
import grp
import multiprocessing
import os
import pathlib
import pwd
import signal
import sys
import threading
import types

import sqlalchemy


def take_the_write_lock_at_begin() -> None:
    """Make every SQLite transaction start as a writer.

    oslo.db sends a deferred BEGIN. A transaction that reads first and writes later cannot become
    a writer once another one has committed in between: SQLite answers "database is locked" at
    once, whatever the busy timeout, and stacks fail at random. A listener on the class runs
    before oslo.db's own one on the engine, and that one leaves a marked connection alone.
    """

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "begin")
    def begin_immediate(conn: sqlalchemy.engine.Connection) -> None:
        if conn.dialect.name == "sqlite" and "in_transaction" not in conn.info:
            conn.exec_driver_sql("BEGIN IMMEDIATE")
            conn.info["in_transaction"] = True


def skip_the_leaf_sleep() -> None:
    """Let convergence walk the graph without its pause of a second after each leaf."""
    from heat.engine import stack

    real = stack.time
    unhurried = types.SimpleNamespace(**vars(real))
    unhurried.sleep = lambda seconds: real.sleep(0 if seconds == 1 else seconds)
    stack.time = unhurried


def listen(application, port: int) -> None:
    """Serve a WSGI application on 127.0.0.1 until SIGTERM or SIGINT."""
    from cheroot import wsgi

    server = wsgi.Server(("127.0.0.1", port), application, numthreads=16, timeout=120)

    def stop(signum: int, frame: object) -> None:
        # stop() joins the threads that this signal may have interrupted, so it needs its own.
        threading.Thread(target=server.stop, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        server.start()
    finally:
        # Heat's engine threads never end by themselves.
        os._exit(0)


def keystone(config: pathlib.Path, port: int) -> None:
    """Serve Keystone; OS_BOOTSTRAP_PASSWORD asks to make its keys and its administrator first."""
    if "OS_BOOTSTRAP_PASSWORD" in os.environ:
        # A run of keystone-manage is mostly imports, and we need the same ones. A fork each,
        # for Keystone fills its registries only once in a process.
        from keystone.cmd import cli

        for command in keystone_setup(f"http://127.0.0.1:{port}/v3"):
            arguments = ["keystone-manage", "--config-file", str(config), *command]
            child = multiprocessing.get_context("fork").Process(target=cli.main, args=[arguments])
            child.start()
            child.join()
            if child.exitcode:
                sys.exit(f"keystone-manage {command[0]} failed")
        del os.environ["OS_BOOTSTRAP_PASSWORD"]
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(config)
    sys.argv = ["keystone"]
    from keystone.wsgi import api

    listen(api.application, port)


def keystone_setup(url: str) -> list[list[str]]:
    """List the runs of keystone-manage that make Keystone's keys and its administrator."""
    owner = ["--keystone-user", pwd.getpwuid(os.getuid()).pw_name]
    owner += ["--keystone-group", grp.getgrgid(os.getgid()).gr_name]
    bootstrap = ["bootstrap", "--bootstrap-region-id", "RegionOne"]
    for interface in ("public", "internal", "admin"):
        bootstrap += [f"--bootstrap-{interface}-url", url]
    return [["fernet_setup", *owner], ["credential_setup", *owner], bootstrap]


def barbican(config: pathlib.Path, port: int) -> None:
    """Serve Barbican of a paste configuration; its own one is in the directory .barbican of HOME."""
    from paste import deploy

    sys.argv = ["barbican"]
    listen(deploy.loadapp(f"config:{config}"), port)


def heat_application(config: pathlib.Path, log: pathlib.Path):
    """Load Heat's API: this import parses the configuration and opens the message bus."""
    sys.argv = ["heat-api", "--config-file", str(config), "--log-file", str(log)]
    from heat.wsgi import api

    return api.application


def heat(config: pathlib.Path, log: pathlib.Path, port: int, fast: bool) -> None:
    """Serve Heat's API and run its engine in this same process, so that they need no broker."""
    # Before anything else imports oslo.service, or it settles on eventlet.
    from oslo_service import backend

    backend.init_backend(backend.BackendType.THREADING)
    application = heat_application(config, log)

    from heat.common import config as heat_config

    # Registers auth_encryption_key, which the sanity check below reads.
    from heat.engine import service
    from heat.rpc import api as rpc_api
    from oslo_config import cfg

    heat_config.startup_sanity_check()
    if fast:
        skip_the_leaf_sleep()
    # Not service.launch(): it forks, and a forked engine cannot hear an in-memory bus.
    service.EngineService(cfg.CONF.host, rpc_api.ENGINE_TOPIC).start()
    listen(application, port)


def heat_engine(config: pathlib.Path, log: pathlib.Path, fast: bool) -> None:
    """Run the stock heat-engine, which takes its work from a broker."""
    sys.argv = ["heat-engine", "--config-file", str(config), "--log-file", str(log)]
    from heat.cmd import engine

    if fast:
        skip_the_leaf_sleep()
    engine.main()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=pathlib.Path, required=True)
    parser.add_argument("--log", type=pathlib.Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument(
        "what", choices=["keystone", "barbican", "heat", "heat-api", "heat-engine"]
    )
    args = parser.parse_args()
    take_the_write_lock_at_begin()
    match args.what:
        case "keystone":
            keystone(args.config, args.port)
        case "barbican":
            barbican(args.config, args.port)
        case "heat":
            heat(args.config, args.log, args.port, args.fast)
        case "heat-api":
            listen(heat_application(args.config, args.log), args.port)
        case "heat-engine":
            heat_engine(args.config, args.log, args.fast)


if __name__ == "__main__":
    main()
