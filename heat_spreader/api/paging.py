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

"""Long lists in pages: how many records, and where the next page is."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
import urllib.parse

import pecan


def limit(query: Mapping[str, str], maximum: int) -> int:
    """How many records to answer: what is asked for, but at most ``[api] max_limit``."""
    return min(int(query.get("limit", maximum)), maximum)


def page(
    noun: str, rows: Sequence[Any], query: Mapping[str, str], size: int, view: Callable[..., Any]
) -> dict[str, Any]:
    """One page of a list.

    :param rows: one more than ``size``, if there are as many: then there is a next page
    """
    answer: dict[str, Any] = {noun: [view(row) for row in rows[:size]]}
    if len(rows) > size:
        # path_url has the prefix under which a proxy or a WSGI server mounts us.
        following = urllib.parse.urlencode({**query, "marker": rows[size - 1].id})
        answer[f"{noun}_links"] = [
            {"rel": "next", "href": f"{pecan.request.path_url}?{following}"}
        ]
    return answer
