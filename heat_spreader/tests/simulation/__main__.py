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

"""Run scenarios: ``python -m heat_spreader.tests.simulation --help``."""

import argparse
from collections import Counter
import gc
import multiprocessing
import os
import sys
import time

from heat_spreader.tests.simulation import plants
from heat_spreader.tests.simulation import scenario

_AGAIN = 200  # every so many scenarios one is run twice, to see that it takes the same course


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m heat_spreader.tests.simulation",
        description="Let engines, Heats and users do what seeds decide, and check the invariants.",
    )
    parser.add_argument("--scenarios", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    parser.add_argument("--least", type=int, default=0, help="but not before so many scenarios")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="run this one alone, and print its trace")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plant", choices=sorted(plants.PLANTS), help="with this bug planted")
    parser.add_argument("--most", type=int, default=5, help="end after so many violations")
    options = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets decides the order of events, so it has to be the same every time.
        os.environ["PYTHONHASHSEED"] = "0"
        command = [sys.executable, "-m", "heat_spreader.tests.simulation"]
        os.execv(sys.executable, command + (sys.argv[1:] if arguments is None else arguments))
    if options.seed is not None:
        return _replay(options.seed, options.plant)
    return _Runner(options).run()


def _replay(seed: int, plant: str | None) -> int:
    result = scenario.play(seed, plants.PLANTS[plant]() if plant else None)
    tell(result, plant)
    return 1 if result.violation else 0


def tell(result: scenario.Result, plant: str | None) -> None:
    """Print the course of a scenario."""
    for moment, who, what, *more in result.trace:
        said = " ".join(str(part) for part in (what, *more) if part != "")
        print(f"{moment:9.3f}  {who:14s}  {said}")
    print(f"seed {result.seed}: {result.violation or 'no violation'}, trace {result.digest}")
    if result.violation:
        again = f" --plant {plant}" if plant else ""
        print(f"replay: tox -e simulation -- --seed {result.seed}{again}")


def _play(job: tuple[int, int, str | None]) -> list[scenario.Result]:
    """Some scenarios, in a process of their own; only those that went wrong keep their traces."""
    first, number, plant = job
    results = []
    for seed in range(first, first + number):
        result = scenario.play(seed, plants.PLANTS[plant]() if plant else None)
        if seed % _AGAIN == 0 and not result.violation:
            digest = scenario.play(seed, plants.PLANTS[plant]() if plant else None).digest
            result.counts["run twice"] += 1
            if digest != result.digest:
                result.violation = "determinism: the same seed took another course"
        if not result.violation:
            result.trace = []
        results.append(result)
        if sum(bool(result.violation) for result in results) >= 2:
            break  # all of them may be wrong, and slow
    gc.collect()
    return results


def _begin() -> None:
    scenario.play(0)
    # Collections cost a tenth of the time, and most of what they look at is modules.
    gc.collect()
    gc.freeze()
    gc.disable()


class _Runner:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._counts: Counter[str] = Counter()
        self._done = 0
        self._violations: list[scenario.Result] = []
        self._started = time.monotonic()
        self._told = self._started

    def run(self) -> int:
        options = self._options
        end = options.first + options.scenarios
        chunk = 20
        jobs = (
            (first, min(chunk, end - first), options.plant)
            for first in range(options.first, end, chunk)
        )
        with multiprocessing.get_context("fork").Pool(options.processes, _begin) as pool:
            for results in pool.imap_unordered(_play, jobs):
                for result in results:
                    self._take(result)
                enough = self._done >= options.least and self._passed() >= (
                    options.seconds or float("inf")
                )
                if enough or len(self._violations) >= options.most:
                    pool.terminate()
                    break
        self._close()
        return 1 if self._violations else 0

    def _passed(self) -> float:
        return time.monotonic() - self._started

    def _take(self, result: scenario.Result) -> None:
        self._done += 1
        self._counts += result.counts
        if result.violation:
            self._violations.append(result)
            if len(self._violations) == 1:
                tell(result, self._options.plant)
            else:
                again = f" --plant {self._options.plant}" if self._options.plant else ""
                print(f"seed {result.seed}: {result.violation}")
                print(f"replay: tox -e simulation -- --seed {result.seed}{again}")
        if time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            rate = self._done / self._passed()
            print(
                f"{self._done} of {self._options.scenarios} scenarios, {rate:.0f} a second, "
                f"{len(self._violations)} violations",
                flush=True,
            )

    def _close(self) -> None:
        counts = dict(self._counts)
        for kind in ("rounds", "events", "writes to Heats", "run twice"):
            print(f"{counts.pop(kind, 0)} {kind}", end=", ")
        counts.pop("seconds to rest", None)
        print("in all")
        met = {
            k.removeprefix("met "): v for k, v in sorted(counts.items()) if k.startswith("met ")
        }
        done = {k: v for k, v in sorted(counts.items()) if not k.startswith("met ")}
        print("begun: " + ", ".join(f"{number} {kind}" for kind, number in done.items()))
        print("met: " + ", ".join(f"{number} {kind}" for kind, number in met.items()))
        passed = self._passed()
        print(
            f"{self._done} scenarios, {len(self._violations)} with a violation, in {passed:.0f} s "
            f"({passed * self._options.processes * 1000 / max(1, self._done):.0f} ms of a core each)"
        )


if __name__ == "__main__":
    sys.exit(main())
