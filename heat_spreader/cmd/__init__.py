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
"""The commands. What is chosen for a whole process is chosen here, before anything else is imported.

The backend of oslo.service, for the import of oslo.messaging would choose eventlet for good. And how
many arenas glibc allocates from: with one for each thread most of what they free is never used again.
As only one thread of Python computes at a time, two are as fast (benchmarks: ``real_heats``,
``failover``).
"""

import contextlib
import ctypes
import os

from oslo_service import backend

M_ARENA_MAX = -8  # of malloc.h

backend.init_backend(backend.BackendType.THREADING)

if "MALLOC_ARENA_MAX" not in os.environ:
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
