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

"""usage: iniset.py FILE SECTION OPTION VALUE. Sets an option where it is, or at the end of its section."""

import pathlib
import re
import sys


def main() -> None:
    path, section, option, value = pathlib.Path(sys.argv[1]), *sys.argv[2:]
    lines = path.read_text().splitlines() if path.exists() else []
    if f"[{section}]" not in lines:
        lines += [f"[{section}]"]
    begin = lines.index(f"[{section}]") + 1
    ends = [n for n in range(begin, len(lines)) if lines[n].startswith("[")]
    end = ends[0] if ends else len(lines)
    there = [n for n in range(begin, end) if re.match(rf"{re.escape(option)}\s*=", lines[n])]
    if there:
        lines[there[0]] = f"{option} = {value}"
    else:
        lines.insert(end, f"{option} = {value}")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
