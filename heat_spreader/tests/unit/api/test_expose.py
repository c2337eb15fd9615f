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

"""Strict JSON, and messages that tell a person which field is wrong and what belongs there."""

import decimal

from oslotest import base

from heat_spreader import exception
from heat_spreader.api import expose
from heat_spreader.api import schemas


class TestJson(base.BaseTestCase):
    def test_numbers_stay_exact(self):
        document = expose.parse_json(b'{"a": 0.1, "b": 1, "c": 1e-7}', "it")
        self.assertEqual(
            {"a": decimal.Decimal("0.1"), "b": 1, "c": decimal.Decimal("0.0000001")}, document
        )
        self.assertIsInstance(document["b"], int)

    def test_what_is_not_json(self):
        for text in (
            "",
            "{",
            "{'a': 1}",
            '{"a": 1,}',
            "NaN",
            "Infinity",
            "[-Infinity]",
            "1 2",
            '{"a": 1, "a": 1}',
            '[{"b": {"a": 1, "c": 2, "a": 3}}]',
            "1e999999999999999999999",
            "9" * 5000,
            "[" * 100_000,
        ):
            self.assertRaises(exception.Invalid, expose.parse_json, text, "it")

    def test_text_that_cannot_be_stored(self):
        for value in ("\x00", "\x1b", "\x7f", "\x85", "\ud800"):
            for document in (value, [value], {"a": value}, {value: 1}, [[{"a": [value]}]]):
                self.assertRaises(exception.Invalid, expose.check_text, document, "it")

    def test_text_that_can(self):
        expose.check_text(["line\nline\r\n\ttab", "größer", "中文", "🙂", {"é": "\u2028"}], "it")

    def test_depth(self):
        document = 1
        for _ in range(63):
            document = [document]
        expose.check_text(document, "it")
        self.assertRaises(exception.Invalid, expose.check_text, [document], "it")


class TestMessages(base.BaseTestCase):
    def message(self, schema, document):
        check = expose.validator(schema)
        error = self.assertRaises(exception.Invalid, check, document, "body")
        return str(error).removeprefix("The request is not valid: ")

    def test_they_name_the_field_and_say_what_belongs_there(self):
        create = schemas.STACK_CREATE
        valid = {"name": "web", "count": 1}
        for document, expected in (
            ([], "body: a list is not an object"),
            ({"count": 1}, "body: 'name' is missing"),
            ({**valid, "count": None}, "count: null is not a whole number from 0 to 1000000"),
            (
                {**valid, "failover": {"toleration": "1 s"}},
                "failover.toleration: '1 s' is not a whole number from 0 to 31536000",
            ),
            ({**valid, "members": {}}, "members: an object is not a list of at most 1000 members"),
            ({**valid, "members": [{}]}, "members[0]: 'cloud' is missing"),
            (
                {**valid, "members": [{"cloud": "a"}, {"cloud": "b", "maximum": -1}]},
                "members[1].maximum: -1 is not a whole number from 0 to 1000000, or null",
            ),
            (
                {**valid, "failback": {"stabel": 1}},
                "failback: unknown name 'stabel'; known are batch, mode, stable",
            ),
            ({**valid, "tags": [1]}, "tags[0]: 1 is not a tag: "),
            ({**valid, "files": {"a": 1}}, "files.a: 1 is not text"),
            (
                {**valid, "parameters": {"": 1}},
                "parameters: '' is not one line of 1 to 255 characters",
            ),
            ({**valid, "surge": decimal.Decimal("0.5")}, "surge: 0.5 is not a whole number from"),
        ):
            self.assertTrue(
                self.message(create, document).startswith(expected),
                self.message(create, document),
            )

    def test_they_are_short_however_long_the_value(self):
        for document in (
            {"name": "x" * 100_000, "count": 1},
            {"name": "web", "count": 10**4000},
            {"name": "web", "count": 1, "x" * 100_000: 1},
            {"name": "web", "count": 1, "files": {"x" * 100_000: 1}},
        ):
            self.assertLess(len(self.message(schemas.STACK_CREATE, document)), 700)
