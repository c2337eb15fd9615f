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


"""The reference for what changes many Heat stacks: their PATCHes, sent as fast as threads can.

The same HTTP library, the same sessions, connections that are open already, one token, and nothing
else: no database, no decision, no look at the answer. Used as a process, as the engine is one.
"""

import argparse
from concurrent import futures
import json
import pathlib
import time

from heat_spreader.engine import clouds


def send(paths: list[pathlib.Path], threads: int, changes: dict[str, list[list[object]]]) -> float:
    """Seconds until the last one was accepted. :param threads: for each cloud, as the engine has"""
    connections = clouds.Clouds([str(path) for path in paths], pool_size=threads)
    pools = {cloud: futures.ThreadPoolExecutor(threads) for cloud in changes}

    def warm(cloud: str) -> None:
        connections.connect(cloud).get("/stacks?limit=1", log=False)

    def patch(cloud: str, name: str, heat_stack_id: str, count: int) -> None:
        connections.connect(cloud).patch(
            f"/stacks/{name}/{heat_stack_id}", json={"parameters": {"count": count}}, log=False
        )

    futures.wait(
        [pool.submit(warm, cloud) for cloud, pool in pools.items() for _ in range(threads)]
    )
    began = time.monotonic()
    sent = [
        pools[cloud].submit(patch, cloud, *change)  # type: ignore[arg-type]
        for cloud, each in changes.items()
        for change in each
    ]
    for one in sent:
        one.result()
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Send PATCHes to Heats.")
    parser.add_argument("clouds_yaml", type=pathlib.Path)
    parser.add_argument("changes", type=pathlib.Path, help="by cloud: name, id and count of each")
    parser.add_argument("--threads", type=int, required=True, help="for each cloud")
    given = parser.parse_args()
    changes = json.loads(given.changes.read_text())
    print(json.dumps(send([given.clouds_yaml], given.threads, changes)))


if __name__ == "__main__":
    main()
