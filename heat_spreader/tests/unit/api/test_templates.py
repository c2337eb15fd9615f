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

"""Reading templates: what they declare, and texts that want to hurt the reader."""

import time

from oslotest import base

from heat_spreader import exception
from heat_spreader.api import templates


class TestDeclared(base.BaseTestCase):
    def declared(self, text):
        found = templates.declared(text)
        return sorted(found.parameters), sorted(found.required)

    def test_hot(self):
        text = "heat_template_version: 2021-04-16\nparameters:\n  a: {type: string}\n  b: {default: 1}\n"
        self.assertEqual((["a", "b"], ["a"]), self.declared(text))

    def test_a_default_may_be_empty(self):
        text = "heat_template_version: rocky\nparameters: {a: {default: ''}, b: {default: null}}"
        self.assertEqual((["a", "b"], []), self.declared(text))

    def test_no_parameters(self):
        for parameters in ("", "parameters:", "parameters: {}", "parameters: ~"):
            text = f"heat_template_version: rocky\n{parameters}"
            self.assertEqual(([], []), self.declared(text))

    def test_cfn_as_json(self):
        text = (
            '{"AWSTemplateFormatVersion": "2010-09-09", "Parameters": {"A": {"Type": "String"}}}'
        )
        self.assertEqual((["A"], ["A"]), self.declared(text))

    def test_json_with_tabs(self):
        text = '{\n\t"HeatTemplateFormatVersion": "2012-12-12",\n\t"Parameters": {"A": {"Default": 1}}\n}'
        self.assertEqual((["A"], []), self.declared(text))

    def test_anchors_and_merged_mappings(self):
        text = """
heat_template_version: rocky
parameter_defaults: &common
  a: &text {type: string}
  b: {<<: *text, default: x}
parameters:
  <<: *common
  c: *text
  b: {type: number}
"""
        self.assertEqual((["a", "b", "c"], ["a", "b", "c"]), self.declared(text))

    def test_custom_tags_are_only_looked_at(self):
        text = "heat_template_version: rocky\nparameters: {a: !!python/object/apply:os.getcwd []}"
        self.assertEqual((["a"], ["a"]), self.declared(text))

    def test_no_template(self):
        for text, reason in (
            ("", "must be a mapping"),
            ("- a", "must be a mapping"),
            ("42", "must be a mapping"),
            ("a: b", "no heat_template_version"),
            ("a: b: c", "not YAML"),
            ("a: *b", "not YAML"),
            ("a: 1\n---\nb: 2", "not YAML"),
            ('{"a": 1,}', "not JSON"),
            ("heat_template_version: rocky\nparameters: [a]", "'parameters' must be a mapping"),
            ("heat_template_version: rocky\nparameters: text", "'parameters' must be a mapping"),
        ):
            error = self.assertRaises(exception.Invalid, templates.declared, text)
            self.assertIn(reason, str(error), text)


class TestHostile(base.BaseTestCase):
    """Each of these would take gigabytes, minutes or the whole process if it were constructed."""

    def refused_or_read_quickly(self, text):
        start = time.process_time()
        try:
            templates.declared(text)
        except exception.Invalid:
            pass
        self.assertLess(time.process_time() - start, 3)

    def test_nesting(self):
        for text in ("[" * 50_000, "{a: " * 50_000, "- " * 50_000, '{"a":' * 50_000):
            error = self.assertRaises(exception.Invalid, templates.declared, text)
            self.assertRegex(str(error), "nested|not JSON|not YAML")
        deep = "heat_template_version: rocky\na: " + "[" * 99 + "]" * 99
        templates.declared(deep)

    def test_a_billion_laughs(self):
        lines = ["heat_template_version: rocky", "a0: &a0 [lol, lol]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)]
        self.refused_or_read_quickly("\n".join(lines))

    def test_a_billion_merges(self):
        lines = ["heat_template_version: rocky", "a0: &a0 {x: 1}"]
        lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 60)]
        self.refused_or_read_quickly("\n".join([*lines, "parameters: {<<: *a59}"]))

    def test_a_loop(self):
        self.refused_or_read_quickly(
            "heat_template_version: rocky\nparameters: &p {<<: *p, a: *p}\n"
        )

    def test_thousands_of_parameters(self):
        entries = "".join(f"  p{n}: {{type: string}}\n" for n in range(6_000))
        text = f"heat_template_version: rocky\nparameters:\n{entries}"
        self.refused_or_read_quickly(text)
