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


"""One line for each figure: ours, the reference's from the same run, and whether it is as wanted."""

from collections import abc
import math
import pathlib
import sys

import servers

MET, MISSED = "met", "MISSED"


def show(
    what: str,
    ours: float,
    unit: str,
    *,
    reference: float | None = None,
    against: str = "",
    ratio: float | None = None,
    least: float | None = None,
    most: float | None = None,
    of: str = "",
) -> None:
    """Print a line.

    :param against: what the reference is
    :param ratio: to be shown instead of ours / reference
    :param least: wanted of the ratio if there is a reference, of our figure otherwise
    :param most: the same, from above
    :param of: what the wanted value is of, if of neither of these
    """
    line = f"{what}: {_number(ours)} {unit}"
    value = ours
    if reference is not None:
        value = ours / reference if ratio is None else ratio
        line += f"; {against}: {_number(reference)} {unit}; ratio {_number(value)}"
    if least is not None or most is not None:
        met = (least is None or value >= least) and (most is None or value <= most)
        bounds = [f">= {_number(least)}"] if least is not None else []
        bounds += [f"<= {_number(most)}"] if most is not None else []
        line += (
            f"; wanted{' ' + of if of else ''} {' and '.join(bounds)}: {MET if met else MISSED}"
        )
    print(line, flush=True)


def note(text: str) -> None:
    """Say what helps to read the figures."""
    print(f"    ({text})", flush=True)


def progress(text: str) -> None:
    """Say what takes so long; not part of the result."""
    print(f"    ... {text}", file=sys.stderr, flush=True)


def tell(main: abc.Callable[[], None]) -> None:
    """Run a benchmark. What cannot be measured on this machine is a line as well."""
    try:
        main()
    except servers.Missing as error:
        print(f"{pathlib.Path(sys.argv[0]).stem}: NOT MEASURED: {error}", flush=True)


def _number(value: float) -> str:
    """Three digits are as much as a benchmark can tell."""
    if not value:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):.{max(digits, 0)}f}"
