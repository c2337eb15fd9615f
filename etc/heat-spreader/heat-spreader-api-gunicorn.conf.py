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

# The API under gunicorn:
#   gunicorn -c heat-spreader-api-gunicorn.conf.py heat_spreader.wsgi.api:application
# Under systemd it takes the socket of heat-spreader-api.socket; by hand it gets one by --bind.

worker_class = "gthread"
# About one process for each core, for Python computes in one thread of a process at a time.
workers = 4
threads = 4
# SIGTERM and SIGHUP: seconds that a request may still take.
graceful_timeout = 60
# A connection that is kept open may be closed in the moment in which the next request comes.
keepalive = 0
# Tokens are long, and stand in a header.
limit_request_field_size = 65535
proc_name = "heat-spreader-api"
