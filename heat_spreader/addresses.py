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

"""Where clouds that projects register may be, so that nobody sends engines to the operator's doors.

Decides about addresses. Names are for whoever connects to resolve, at the moment of the connection:
what a name led to before says nothing.
"""

from collections.abc import Iterable
import ipaddress

from heat_spreader import exception

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Guard:
    """What may be connected to for a project."""

    def __init__(self, denied: Iterable[str], allowed: Iterable[str]) -> None:
        """:raises StartupError: something in the lists is no network"""
        self._denied = _networks("denied_networks", denied)
        self._allowed = _networks("allowed_networks", allowed)

    def permits(self, address: str) -> bool:
        """:param address: of IPv4 or IPv6, as the resolver gives it"""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        # Every address of IPv4 can be written as several of IPv6, and leads to the same place.
        inner = [found, *_embedded(found)]
        for network in self._allowed:
            if any(each.version == network.version and each in network for each in inner):
                return True
        return not any(
            each.version == network.version and each in network
            for each in inner
            for network in self._denied
        )

    def check_host(self, host: str) -> None:
        """Refuse at once what is refused whatever the resolver says.

        :raises Invalid: an address in a network that is denied, or a name of this machine
        """
        name = host.strip("[]").rstrip(".").lower()
        if name == "localhost" or name.endswith(".localhost"):
            name = "127.0.0.1"
        literal = _literal(name)
        if literal is not None and not self.permits(literal):
            raise exception.Invalid(
                reason=f"{host} is in a network in which this service does not let clouds of projects "
                "be; the operator can allow it ([tenants] allowed_networks)"
            )


def _networks(option: str, listed: Iterable[str]) -> list[_Network]:
    try:
        return [ipaddress.ip_network(network.strip()) for network in listed]
    except ValueError as error:
        raise exception.StartupError(reason=f"[tenants] {option}: {error}") from None


def _embedded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour]
    if address in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if int(address) >> 32 == 0 and int(address) > 1:  # the old "compatible" form
        found.append(ipaddress.IPv4Address(int(address)))
    if address.teredo is not None:
        found.extend(address.teredo)
    return [each for each in found if each is not None]


def _literal(name: str) -> str | None:
    """The address that a host of a URL is, also in the forms that only C libraries know."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    parts = name.split(".")
    try:
        numbers = [int(part, 8 if _is_octal(part) else 0) for part in parts]
    except ValueError:
        return None
    # 127.1, 0x7f000001 and 017700000001 are all the same place.
    *heads, last = numbers
    if len(numbers) > 4 or any(n > 255 or n < 0 for n in heads) or last < 0:
        return None
    value = sum(head << (24 - 8 * place) for place, head in enumerate(heads)) + last
    return str(ipaddress.IPv4Address(value)) if value <= 0xFFFFFFFF else None


def _is_octal(part: str) -> bool:
    return len(part) > 1 and part[0] == "0" and part.isdigit()
