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

"""Programs of Debian packages that are not installed: fetched and unpacked, no root needed.

Nothing is installed: the files lie in a directory of their own and are run from there.
"""

import collections.abc
import os
import pathlib
import shutil
import subprocess

SYSTEM = pathlib.Path("/")


class DebianError(Exception):
    """The packages cannot be had; the text tells the person what else to do."""


def fetch(
    package: str,
    prefixes: tuple[str, ...],
    unpacked: pathlib.Path,
    advice: str,
    amend: collections.abc.Callable[[pathlib.Path], None] = lambda draft: None,
) -> None:
    """Unpack a package and what it needs below `unpacked`, which appears when all is there.

    :param prefixes: packages of these names are taken even if they are installed
    :param amend: changes the files while they still lie elsewhere
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise DebianError(
            f"{package} is not installed and this is no Debian to fetch it: {advice}"
        )
    # What a system with nothing installed would need, so that the answer is always whole.
    plan = run(
        ["apt-get", "install", "--simulate", "-o", "Dir::State::status=/dev/null",
         "--no-install-recommends", package],
        f"apt-get knows no {package}: {advice}; or, as root: apt-get update",
    )  # fmt: skip
    there = set(run(["dpkg-query", "-W", "-f", "${Package}\n"], "dpkg-query failed").split())
    words = [line.split() for line in plan.splitlines() if line.startswith("Inst ")]
    names = [w[1] for w in words if w[1].startswith(prefixes) or w[1] not in there]
    draft = unpacked.with_name(unpacked.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    run(["apt-get", "download", *names], f"apt-get could not download: {advice}", draft)
    for file in draft.glob("*.deb"):
        run(["dpkg", "-x", file, draft], f"{file.name} cannot be unpacked")
        file.unlink()
    amend(draft)
    draft.rename(unpacked)


def run(
    command: collections.abc.Sequence[str | pathlib.Path],
    sorry: str,
    directory: pathlib.Path | None = None,
    **extra: str,
) -> str:
    """Run a program to its end and give what it printed.

    :raises DebianError: it failed; the text begins with `sorry`
    """
    done = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | {"LC_ALL": "C"} | extra,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DebianError(f"{sorry}\n{(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout
