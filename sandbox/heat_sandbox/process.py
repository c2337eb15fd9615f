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

"""Starting, finding again and signalling the sandbox's processes.

A process is remembered by its pid and its start time, so a pid that the kernel has given to
somebody else meanwhile is never taken for ours. Linux only: it reads /proc.
"""

import collections.abc
import dataclasses
import os
import pathlib
import signal
import subprocess
import time

# Tells which sandbox and which of its processes a pid belongs to, also for the children that
# the process makes itself (heat-engine's workers, epmd).
MARK = "HEAT_SANDBOX_PROCESS"


@dataclasses.dataclass(frozen=True)
class Started:
    """A process we started: started_at is its /proc start time, in clock ticks since boot."""

    pid: int
    started_at: int


@dataclasses.dataclass(frozen=True)
class Stat:
    """What /proc/PID/stat says about a process."""

    state: str
    parent: int
    started_at: int


def read_stat(pid: int) -> Stat | None:
    """Read /proc/PID/stat; None when there is no such process, or only its zombie."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in brackets and may itself hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return Stat(state=fields[0], parent=int(fields[1]), started_at=int(fields[19]))


def environment(**extra: str) -> dict[str, str]:
    """Environment for a child: ours, without what would point it at another cloud or a proxy."""
    # PYTHON*: a PYTHONPATH mixes in somebody else's packages, and PYTHONDONTWRITEBYTECODE makes
    # each start of Heat take 6 s instead of 2.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OS_", "PYTHON")) and not name.lower().endswith("_proxy")
    }
    # SPT_NOENV: setproctitle, which heat-engine uses, would write its title over our mark.
    return kept | {"PYTHONWARNINGS": "ignore", "SPT_NOENV": "1"} | extra


def start(
    mark: str,
    command: collections.abc.Sequence[str | os.PathLike[str]],
    output: pathlib.Path,
    extra_environment: dict[str, str] | None = None,
) -> Started:
    """Start a process that outlives us, in a session of its own, its output in a file."""
    with open(output, "ab") as out:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=output.parent,
            env=environment(**{MARK: mark}, **(extra_environment or {})),
        )
    # The kernel is not through with its exec when we are told so, and until then it bears no mark.
    while (stat := read_stat(child.pid)) and not _environ(child.pid):
        time.sleep(0.001)
    # It may have died already; then no start time matches and it counts as dead.
    return Started(child.pid, stat.started_at if stat else -1)


def state(process: Started | None) -> str:
    """Tell whether the process is "running", "stopped" by a signal, or "dead"."""
    stat = read_stat(process.pid) if process else None
    if process is None or stat is None or stat.started_at != process.started_at:
        return "dead"
    return "stopped" if stat.state in "Tt" else "running"


def _environ(pid: int) -> bytes:
    """The environment that a process of this user was started with; empty for any other."""
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def marked(prefix: str) -> list[Started]:
    """Find this user's processes whose mark is the prefix itself or lies below it.

    With their children, for PostgreSQL's write their titles over the mark.
    """
    ours: dict[int, Stat] = {}
    others: dict[int, Stat] = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        stat = read_stat(pid)
        if stat is None:
            continue
        others[pid] = stat
        for variable in _environ(pid).split(b"\0"):
            name, _, value = os.fsdecode(variable).partition("=")
            if name == MARK and (value == prefix or value.startswith(prefix + "/")):
                ours[pid] = others.pop(pid)
                break
    while children := [pid for pid, stat in others.items() if stat.parent in ours]:
        ours |= {pid: others.pop(pid) for pid in children}
    return [Started(pid, stat.started_at) for pid, stat in ours.items()]


def alive(processes: collections.abc.Iterable[Started]) -> bool:
    """Tell whether any of the processes is still there, be it stopped."""
    return any(state(process) != "dead" for process in processes)


def send(processes: collections.abc.Iterable[Started], signum: signal.Signals) -> None:
    """Signal those of the processes that are still the ones we started."""
    for process in processes:
        if state(process) != "dead":
            try:
                os.kill(process.pid, signum)
            except ProcessLookupError:
                pass


def end(processes: collections.abc.Sequence[Started], patience: float) -> None:
    """End processes: politely, then after `patience` seconds by force. Returns when gone."""
    send(processes, signal.SIGTERM)
    # A stopped process would not see the SIGTERM.
    send(processes, signal.SIGCONT)
    deadline = time.monotonic() + patience
    forced = False
    while alive(processes):
        if not forced and time.monotonic() >= deadline:
            send(processes, signal.SIGKILL)
            forced = True
        time.sleep(0.05)


def age(process: Started) -> float:
    """Seconds since the process was started."""
    uptime = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    return max(0.0, uptime - process.started_at / os.sysconf("SC_CLK_TCK"))


def memory(process: Started) -> int:
    """Resident memory of the process in bytes; 0 when it is gone."""
    try:
        pages = pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
