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

"""Where clouds of projects may be: addresses in all the forms in which they can be written."""

import ipaddress

import hypothesis
from hypothesis import strategies as st
from oslotest import base

from heat_spreader import addresses
from heat_spreader import exception
from heat_spreader.tests import fixtures


class TestGuard(base.BaseTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.denied = self.useFixture(fixtures.Config()).conf.tenants.denied_networks
        self.guard = addresses.Guard(self.denied, [])

    def test_the_operators_own_doors_are_denied_by_default(self):
        for (
            address
        ) in """127.0.0.1 127.8.8.8 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1
            169.254.169.254 100.64.0.1 198.18.0.1 224.0.0.1 255.255.255.255
            :: ::1 fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 ff02::1 fec0::1
            ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::
            2001:0:7f00:1::1 nonsense""".split():
            self.assertFalse(self.guard.permits(address), address)
        self.assertFalse(self.guard.permits(""))

    def test_the_rest_of_the_world_is_not(self):
        for (
            address
        ) in "192.0.2.1 8.8.8.8 172.32.0.1 11.0.0.1 2001:db8::1 2a00::1 ::ffff:8.8.8.8".split():
            self.assertTrue(self.guard.permits(address), address)

    def test_what_is_allowed_goes_before(self):
        guard = addresses.Guard(self.denied, ["10.20.0.0/24", "fd00::/16"])
        for address in ("10.20.0.7", "::ffff:10.20.0.7", "fd00::1"):
            self.assertTrue(guard.permits(address), address)
        for address in ("10.20.1.7", "10.0.0.1", "127.0.0.1", "fd01::1"):
            self.assertFalse(guard.permits(address), address)

    def test_a_host_that_is_denied_whatever_the_resolver_says(self):
        for host in """127.0.0.1 localhost LOCALHOST. a.localhost [::1] 127.1 0x7f.0.0.1 0x7f000001
            2130706433 017700000001 0177.0.0.1 169.254.169.254 10.0.0.1 0""".split():
            self.assertRaises(exception.Invalid, self.guard.check_host, host)

    def test_names_are_for_the_connection_to_resolve(self):
        for (
            host
        ) in "keystone.example 192.0.2.1 [2001:db8::1] 1.2.3.4.5 0xzz 256.1.1.1 a.1".split():
            self.guard.check_host(host)

    def test_a_list_that_is_none(self):
        for denied, allowed in ((["10.0.0.0/33"], []), ([], ["here"]), ([], ["10.0.0.1/8"])):
            error = self.assertRaises(exception.StartupError, addresses.Guard, denied, allowed)
            self.assertIn("_networks", str(error))

    @hypothesis.given(st.ip_addresses(v=4))
    @hypothesis.settings(database=None, deadline=None)
    def test_every_way_to_write_an_address_means_the_same(self, address):
        number = int(address)
        mapped = ipaddress.ip_address("::ffff:0:0") + number
        permitted = self.guard.permits(str(address))
        self.assertEqual(permitted, self.guard.permits(str(mapped)))
        for host in (str(address), str(number), hex(number), f"0{number:o}", f"[{mapped}]"):
            if permitted:
                self.guard.check_host(host)
            else:
                self.assertRaises(exception.Invalid, self.guard.check_host, host)
