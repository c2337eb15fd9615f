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

"""What each request may contain: JSON Schema for every body and every query.

A ``description`` completes the sentence "<value> is not …" of an error message. Queries arrive as
text, so their schemas are patterns; ``\\Z`` and not ``$``, which would let a line end through.
"""

from typing import Any

Schema = dict[str, Any]

MAX_COUNT = 1_000_000
# Seconds in a year: more is a mistake.
MAX_SECONDS = 31_536_000


def _object(properties: Schema, **keywords: Any) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "description": "an object",
        **keywords,
    }


def _integer(low: int, high: int) -> Schema:
    return {
        "type": "integer",
        "minimum": low,
        "maximum": high,
        "description": f"a whole number from {low} to {high}",
    }


def _text(pattern: str, description: str, maximum: int) -> Schema:
    return {
        "type": "string",
        "pattern": pattern,
        "maxLength": maximum,
        "description": description,
    }


def _choice(*values: str) -> Schema:
    return {"enum": [*values], "description": f"one of {', '.join(values)}"}


def _or_null(schema: Schema) -> Schema:
    return {
        **schema,
        "type": [schema["type"], "null"],
        "description": f"{schema['description']}, or null",
    }


BOOLEAN: Schema = {"type": "boolean", "description": "true or false"}

# The Heat stacks carry the name of the stack, so it must be one that Heat takes.
STACK_NAME = _text(
    r"^[a-zA-Z][a-zA-Z0-9_.-]*\Z",
    "a name: a letter, then letters, digits, '_', '.' and '-', at most 255 in all",
    255,
)
# Clouds are named as in the operator's clouds.yaml, where a digit may come first.
CLOUD_NAME = _text(
    r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z",
    "a name: a letter or digit, then letters, digits, '_', '.' and '-', at most 255 in all",
    255,
)
LINE = _text(r"^[^\x00-\x1f\x7f-\x9f]+\Z", "one line of 1 to 255 characters", 255)
DESCRIPTION: Schema = {
    "type": "string",
    "maxLength": 4096,
    "description": "text of at most 4096 characters",
}
WEIGHT: Schema = {
    "type": ["number", "string"],
    "maxLength": 32,
    "description": "a weight: a decimal from 0 to 1, as a number or as text",
}
PARAMETERS: Schema = {
    "type": "object",
    "propertyNames": LINE,
    "maxProperties": 1000,
    "description": "an object of at most 1000 template parameters",
}
_DOCUMENT: Schema = {
    "type": ["string", "object"],
    "minLength": 1,
    "description": "YAML or JSON, as text or as an object",
}
_ENVIRONMENT: Schema = {
    "type": ["string", "object", "null"],
    "description": "YAML or JSON, as text or as an object, or null",
}

# --- members --------------------------------------------------------------------------------------

_MEMBER: Schema = {
    "weight": WEIGHT,
    "minimum": _integer(0, MAX_COUNT),
    "maximum": _or_null(_integer(0, MAX_COUNT)),
    "priority": _integer(0, MAX_COUNT),
    "parameters": PARAMETERS,
}
MEMBER_PUT = _object(_MEMBER)
MEMBER_UPDATE = _object(_MEMBER, minProperties=1)
WEIGHTS = _object(
    {
        "weights": {
            "type": "object",
            "additionalProperties": WEIGHT,
            "description": "an object with a weight for each cloud",
        }
    },
    required=["weights"],
)

# --- stacks ---------------------------------------------------------------------------------------

_STACK: Schema = {
    "description": DESCRIPTION,
    "count": _integer(0, MAX_COUNT),
    "count_parameter": LINE,
    "min_clouds": _integer(0, 1000),
    "rounding": _choice("exact", "ceil"),
    "environment": _ENVIRONMENT,
    "files": {
        "type": "object",
        "propertyNames": {
            "minLength": 1,
            "maxLength": 4096,
            "description": "a file name of 1 to 4096 characters",
        },
        "additionalProperties": {"type": "string", "description": "text"},
        "description": "an object with the text of each file",
    },
    "parameters": PARAMETERS,
    "tags": {
        "type": "array",
        "items": _text(
            r'^[^\x00-\x1f\x7f-\x9f,"\\]+\Z',
            "a tag: 1 to 80 characters without commas, double quotes and backslashes",
            80,
        ),
        "maxItems": 64,
        "uniqueItems": True,
        "description": "a list of at most 64 tags",
    },
    "timeout_mins": _or_null(_integer(1, 100_000)),
    "failover": _object(
        {
            "rule": _choice("even", "proportional", "ordered", "hold"),
            "toleration": _integer(0, MAX_SECONDS),
        }
    ),
    "failback": _object(
        {
            "mode": _choice("auto", "manual"),
            "stable": _integer(0, MAX_SECONDS),
            "batch": _or_null(_integer(1, MAX_COUNT)),
        }
    ),
    "surge": _or_null(_integer(0, MAX_COUNT)),
    "rebalance": _object(
        {
            "mode": _choice("immediate", "gradual", "on-demand"),
            "step": _integer(1, MAX_COUNT),
        }
    ),
    "repair": _object(
        {
            "drift": _choice("heal", "report", "ignore"),
            "missing": _choice("recreate", "hold", "move"),
            "stuck": _choice("report", "retry"),
        }
    ),
}
STACK_CREATE = _object(
    {
        "name": STACK_NAME,
        "template": _DOCUMENT,
        "members": {
            "type": "array",
            "items": _object({"cloud": LINE, **_MEMBER}, required=["cloud"]),
            "maxItems": 1000,
            "description": "a list of at most 1000 members",
        },
        **_STACK,
    },
    required=["name", "count"],
)
STACK_UPDATE = _object(_STACK, minProperties=1)
_NO_ARGUMENTS: Schema = {"type": "null", "description": "null: the action takes no arguments"}
STACK_ACTION = _object(
    dict.fromkeys(("check", "retry", "failback", "force-failover"), _NO_ARGUMENTS),
    minProperties=1,
    maxProperties=1,
    description="exactly one action: check, retry, failback or force-failover",
)

# --- clouds ---------------------------------------------------------------------------------------

_PROJECTS: Schema = {
    "type": "array",
    "items": _text(r"^[a-zA-Z0-9_.-]+\Z", "the id of a project", 64),
    "maxItems": 1000,
    "uniqueItems": True,
    "description": "a list of at most 1000 ids of projects",
}
_SECRET = _text(r"^[^\x00-\x1f\x7f-\x9f]+\Z", "one line of 1 to 1024 characters", 1024)
_CREDENTIALS = _object(
    {
        "auth_url": _text(
            r"^https?://[!-~]+\Z", "an address like https://keystone.example/v3", 1024
        ),
        "application_credential_id": LINE,
        "application_credential_secret": _SECRET,
        "username": LINE,
        "password": _SECRET,
        "user_domain_name": LINE,
        "project_name": LINE,
        "project_domain_name": LINE,
        "cacert": {
            "type": ["string", "null"],
            "maxLength": 65536,
            "description": "certificates in PEM form, at most 65536 characters, or null",
        },
        "insecure": BOOLEAN,
        "timeout": {
            "type": ["number", "null"],
            "minimum": 0.5,
            "maximum": 3600,
            "description": "a number of seconds from 0.5 to 3600, or null",
        },
    },
    minProperties=1,
)
_CLOUD: Schema = {
    "description": DESCRIPTION,
    "config_cloud": LINE,
    "region": _or_null(LINE),
    "shared": BOOLEAN,
    "projects": _PROJECTS,
    "credentials": _CREDENTIALS,
}
CLOUD_KINDS = ("config", "region", "application_credential", "password")
CLOUD_CREATE = _object(
    {"name": CLOUD_NAME, "kind": _choice(*CLOUD_KINDS), **_CLOUD}, required=["name"]
)
CLOUD_UPDATE = _object(
    {
        "name": CLOUD_NAME,
        "cordoned": BOOLEAN,
        "cordoned_until": _or_null(LINE),
        "draining": BOOLEAN,
        "draining_until": _or_null(LINE),
        "lost": BOOLEAN,
        **_CLOUD,
    },
    minProperties=1,
)
CLOUD_ACTION = _object(
    {"check": _NO_ARGUMENTS},
    minProperties=1,
    maxProperties=1,
    description="exactly one action: check",
)

OBSERVATION = _object(
    {
        "observer": _text(
            r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z",
            "a name: a letter or digit, then letters, digits, '_', '.' and '-', at most 200 in all",
            200,
        ),
        "zone": _or_null(LINE),
        "outcome": _choice("ok", "unreachable"),
        "detail": DESCRIPTION,
        "latency_ms": _or_null(_integer(0, 10_000_000)),
        "expires_in": _integer(10, 86_400),
    },
    required=["outcome", "expires_in"],
)
_LABELS: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string", "description": "text"},
    "maxProperties": 1000,
    "description": "an object with at most 1000 texts",
}
_ALERTMANAGERS_OWN = """version groupKey truncatedAlerts status receiver groupLabels commonLabels
    commonAnnotations externalURL""".split()
# As Alertmanager sends it. Of what is in an alert we need a part, and leave the rest alone.
ALERTS = _object(
    {
        "alerts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "status": _choice("firing", "resolved"),
                    "labels": _LABELS,
                    "annotations": _LABELS,
                },
                "required": ["status"],
                "description": "an alert",
            },
            "maxItems": 1000,
            "description": "a list of at most 1000 alerts",
        },
        **{name: {} for name in _ALERTMANAGERS_OWN},
    },
    required=["alerts"],
)

# --- quotas --------------------------------------------------------------------------------------

_LIMIT: Schema = {
    "type": ["integer", "null"],
    "minimum": -1,
    "maximum": 2_000_000_000,
    "description": "a whole number from 0, -1 for any number, or null for the default",
}
QUOTA_UPDATE = _object(
    {"stacks": _LIMIT, "members": _LIMIT, "units": _LIMIT, "clouds": _LIMIT}, minProperties=1
)

# --- queries --------------------------------------------------------------------------------------

_FLAG = _text(r"^([Tt]rue|[Ff]alse|0|1)\Z", "true or false", 5)
_PAGE: Schema = {
    "limit": _text(r"^[1-9][0-9]*\Z", "a whole number from 1", 9),
    "marker": LINE,
}

NOTHING = _object({})
STACK_LIST = _object(
    {
        **_PAGE,
        "name": LINE,
        "status": LINE,
        "tag": LINE,
        "cloud": LINE,
        "sort": _text(
            r"^(name|status|count|created_at|updated_at)(:(asc|desc))?\Z",
            "a column and a direction like name:asc; the columns are name, status, count, "
            "created_at and updated_at",
            64,
        ),
        "all_projects": _FLAG,
    }
)
STACK_DELETE = _object({"release": _FLAG, "forget": _FLAG})
CLOUD_LIST = _object({**_PAGE, "name": LINE, "verdict": LINE, "all_projects": _FLAG})
STACK_EVENT_LIST = _object(
    {
        **_PAGE,
        "marker": _text(r"^[0-9]+\Z", "the number of an event", 18),
        "type": LINE,
        "cloud": LINE,
        "since": LINE,
    }
)
EVENT_LIST = _object({**STACK_EVENT_LIST["properties"], "all_projects": _FLAG})
