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

"""Every error a user of the API can meet, in one tree.

An exception knows its HTTP code, a stable error code for programs, and a message that says what to
do. It knows nothing of the framework: one hook in the API turns it into an answer.

::

    SpreaderException                  500 spreader.internal
    ├── Invalid                        400 spreader.invalid
    │   ├── UnsupportedVersion         406 spreader.unsupported_version
    │   └── BodyTooLarge               413 spreader.body_too_large
    ├── Forbidden                      403 spreader.forbidden
    │   └── QuotaExceeded              403 spreader.quota_exceeded
    ├── NotFound                       404 spreader.not_found
    │   ├── StackNotFound              404 spreader.stack_not_found
    │   ├── MemberNotFound             404 spreader.member_not_found
    │   └── CloudNotFound              404 spreader.cloud_not_found
    ├── Conflict                       409 spreader.conflict
    │   ├── StackExists                409 spreader.stack_exists
    │   ├── StackDeleting              409 spreader.stack_deleting
    │   ├── HeatStackExists            409 spreader.heat_stack_exists
    │   ├── CloudExists                409 spreader.cloud_exists
    │   ├── CloudInUse                 409 spreader.cloud_in_use
    │   ├── AmbiguousName              409 spreader.ambiguous_name
    │   ├── SecretLost                 409 spreader.secret_lost
    │   └── TrustRefused               409 spreader.trust_refused
    ├── ConcurrentUpdate               412 spreader.concurrent_update
    ├── Unavailable                    503 spreader.unavailable
    ├── NoSecretStore                  503 spreader.no_secret_store
    ├── NoTrusts                       503 spreader.no_trusts
    └── StartupError                   (a command cannot start; never reaches the API)
"""


class SpreaderException(Exception):
    """Root of the tree. ``message`` is a format string for the keyword arguments."""

    code = 500
    error = "spreader.internal"
    message = "An unexpected error happened. The operator finds it in the log by its request id."

    def __init__(self, message: str | None = None, **details: object) -> None:
        super().__init__(message if message is not None else self.message % details)


class Invalid(SpreaderException):
    code = 400
    error = "spreader.invalid"
    message = "The request is not valid: %(reason)s"


class UnsupportedVersion(Invalid):
    code = 406
    error = "spreader.unsupported_version"
    message = (
        "API microversion %(version)s is not supported; ask for one from %(minimum)s "
        "to %(maximum)s, or for 'latest'."
    )


class BodyTooLarge(Invalid):
    code = 413
    error = "spreader.body_too_large"
    message = "The request body is larger than %(limit)s bytes."


class Forbidden(SpreaderException):
    code = 403
    error = "spreader.forbidden"
    message = "Access rule %(rule)s does not allow this for your roles in this project."


class QuotaExceeded(Forbidden):
    error = "spreader.quota_exceeded"
    message = (
        "The project may have %(limit)s %(resource)s, and with this it would have %(wanted)s. Remove some, "
        "or ask the operator for more; 'openstack spreader quota show' tells what there is."
    )


class NotFound(SpreaderException):
    code = 404
    error = "spreader.not_found"
    message = "Nothing is found at this URL."


class StackNotFound(NotFound):
    error = "spreader.stack_not_found"
    message = "No stack with the name or id '%(stack)s' exists in this project."


class MemberNotFound(NotFound):
    error = "spreader.member_not_found"
    message = "Stack '%(stack)s' has no member in cloud '%(cloud)s'."


class CloudNotFound(NotFound):
    error = "spreader.cloud_not_found"
    message = (
        "No cloud with the name or id '%(cloud)s' is registered for this project; "
        "'openstack spreader cloud list' shows those that are."
    )


class Conflict(SpreaderException):
    code = 409
    error = "spreader.conflict"
    message = "The request conflicts with the present state: %(reason)s"


class StackExists(Conflict):
    error = "spreader.stack_exists"
    message = "A stack named '%(name)s' exists in this project already; choose another name."


class StackDeleting(Conflict):
    error = "spreader.stack_deleting"
    message = "Stack '%(stack)s' is being deleted and takes no changes any more."


class HeatStackExists(Conflict):
    error = "spreader.heat_stack_exists"
    message = (
        "%(what)s cannot be changed any more: Heat stacks were made with it in %(clouds)s, and would "
        "stay as they are. Remove these members and add them again, or create another stack."
    )


class CloudExists(Conflict):
    error = "spreader.cloud_exists"
    message = "A cloud named '%(name)s' is registered in this project already."


class CloudInUse(Conflict):
    error = "spreader.cloud_in_use"
    message = "Cloud '%(cloud)s' still carries members of %(stacks)s stack(s); remove these members first."


class AmbiguousName(Conflict):
    error = "spreader.ambiguous_name"
    message = "More than one object is named '%(name)s'; use its id."


class SecretLost(Conflict):
    error = "spreader.secret_lost"
    message = (
        "The stored secret of this cloud cannot be used: %(reason)s. Set its credentials anew."
    )


class TrustRefused(Conflict):
    error = "spreader.trust_refused"
    message = (
        "Keystone lets this token make no trust, with which the service would act for you in a region: "
        "%(reason)s. Ask again with a token that you got with a password."
    )


class ConcurrentUpdate(SpreaderException):
    code = 412
    error = "spreader.concurrent_update"
    message = (
        "Stack '%(stack)s' is at generation %(current)s, not %(wanted)s: somebody changed it in "
        "the meantime. Read it again and repeat your change."
    )


class Unavailable(SpreaderException):
    code = 503
    error = "spreader.unavailable"
    message = (
        "The database does not answer. Try again in some seconds; if this was a change, look first "
        "whether it was made."
    )


class NoSecretStore(SpreaderException):
    code = 503
    error = "spreader.no_secret_store"
    message = "Credentials of projects cannot be kept here: %(reason)s."


class NoTrusts(SpreaderException):
    code = 503
    error = "spreader.no_trusts"
    message = "This service cannot act for you in regions by a trust: %(reason)s."


class StartupError(SpreaderException):
    """A command cannot start; the message tells the operator what to do."""

    error = "spreader.startup"
    message = "Cannot start: %(reason)s"
