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

"""Real OpenStack clouds on one machine: Keystone and some Heats as processes of this user.

Everything here runs on the standard library alone, for nothing is installed at first. Start
with heat_sandbox.sandbox.Sandbox; it never touches a file outside the sandbox's directory and
its virtual environment, and never signals a process that it did not start.
"""

import sys

# Before any other import of this package, whose syntax an older interpreter could not read.
if sys.version_info < (3, 11):
    sys.exit("The sandbox needs Python 3.11 or newer, and this is " + sys.version.split()[0])
