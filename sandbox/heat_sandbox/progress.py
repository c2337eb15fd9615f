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

"""Tells a person what is going on while the sandbox installs and boots.

One line per stage with the seconds it took. While a stage runs, a terminal shows a spinner and
what it is doing; a file or a pipe gets that as a line now and then. It only prints.
"""

import collections.abc
import contextlib
import sys
import threading
import time

FRAMES = "|/-\\"
# Back to the start of the line, and erase it.
CLEAR = "\r\033[K"
# Without a terminal a long stage says at this interval, in seconds, that it still works.
HEARTBEAT = 15.0


class Stage:
    """The stage that runs now; `detail` is what it is doing at this moment."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.began = time.monotonic()

    def seconds(self) -> str:
        return f"{time.monotonic() - self.began:5.1f} s"

    def line(self) -> str:
        return f"{self.title}  {self.detail}" if self.detail else self.title


@contextlib.contextmanager
def stage(title: str) -> collections.abc.Iterator[Stage]:
    """Show a stage of the work for as long as the block runs."""
    current = Stage(title)
    done = threading.Event()
    tty = sys.stdout.isatty()
    painter = threading.Thread(target=_paint, args=(current, done, tty), daemon=True)
    painter.start()
    word = "failed"
    try:
        yield current
        word = "ok"
    except KeyboardInterrupt:
        word = "interrupted"
        raise
    finally:
        done.set()
        painter.join()
        print(f"{CLEAR if tty else ''}[{current.seconds()}] {title}: {word}", flush=True)


def _paint(current: Stage, done: threading.Event, tty: bool) -> None:
    frame = 0
    while not done.wait(0.2 if tty else HEARTBEAT):
        if tty:
            text = f"[{current.seconds()}] {FRAMES[frame % 4]} {current.line()}"
            print(f"{CLEAR}{text[:78]}", end="", flush=True)
            frame += 1
        else:
            print(f"[{current.seconds()}] {current.line()} ...", flush=True)
