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


"""Sends one HTTP request again and again over connections that stay open, and counts.

Without an HTTP library, so that the client takes as little as possible of the machine that it
shares with the server. Used as a process: prints what it found as JSON.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.parse


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, int]:
    """Status and length of the body."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    await reader.readexactly(length)
    return status, length


async def load(
    url: str, method: str, body: bytes, connections: int, seconds: float
) -> dict[str, object]:
    where = urllib.parse.urlsplit(url)
    target = where.path + (f"?{where.query}" if where.query else "")
    request = (
        f"{method} {target} HTTP/1.1\r\nHost: {where.netloc}\r\nAccept: application/json\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    times: list[float] = []
    answers: set[tuple[int, int]] = set()
    end = time.monotonic() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**22)
        while (began := time.monotonic()) < end:
            answers.add(await _ask(reader, writer, request))
            times.append(time.monotonic() - began)
        writer.close()

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(connections)))
    took = time.monotonic() - began
    statuses = sorted({status for status, _ in answers})
    if statuses[-1] >= 400:
        sys.exit(f"{method} {url} was answered with {statuses}")
    return {
        "requests": len(times),
        "seconds": took,
        "rate": len(times) / took,
        "median": sorted(times)[len(times) // 2],
        "length": max(length for _, length in answers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask for one URL again and again.")
    parser.add_argument("url")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body", default="")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    print(
        json.dumps(
            asyncio.run(
                load(
                    given.url,
                    given.method,
                    given.body.encode(),
                    given.connections,
                    given.seconds,
                )
            )
        )
    )


if __name__ == "__main__":
    main()
