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

"""The REST API: WSGI middleware, pecan, and one controller per noun. It never talks to a cloud."""

import pecan
import pecan.core
import pecan.decorators
import pecan.rest
import pecan.routing
import pecan.util

# pecan asks for the signature of the same few methods several times per request, and makes a new
# named tuple class for each answer: two thirds of a small request's time.
_getargspec = pecan.util.getargspec
_signatures: dict[object, object] = {}


def _remembered(method: object) -> object:
    function = getattr(method, "__func__", method)
    try:
        return _signatures[function]
    except KeyError:
        return _signatures.setdefault(function, _getargspec(method))


for _module in (pecan.core, pecan.decorators, pecan.rest, pecan.routing, pecan.util):
    if hasattr(_module, "getargspec"):
        _module.getargspec = _remembered
