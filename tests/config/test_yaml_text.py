"""YAML that users write: whatever is wrong with it is one kind of error."""

import pytest
import yaml

from sstext.config.pairs import from_pairs
from sstext.config.yaml_text import read_yaml
from sstext.errors import UserError


@pytest.mark.parametrize(
    "text",
    ["a: 0b_", "a: 2020-13-45", "a: !!timestamp z", "a: !!float", "a: 0x_", "a: &b [*b]", "&a {b: *a}", "a: " + "[" * 2000,
     "a: 1\nb: 2\na: 3", "a: {b: 1, b: 2}",
     "a: [", "a: !!python/name:os.system", "a: !!int x", "a: !!bool maybe", "a: !!binary é",
     "\n".join(["a0: &a0 [1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))])],
)  # fmt: skip
def test_what_cannot_be_read_is_a_yaml_error(text: str) -> None:
    """Guards tracebacks of PyYAML's constructors, endless documents, huge ones made of aliases, and options that are given
    twice, of which the first one would be lost."""
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)


@pytest.mark.parametrize("value", ["0x_", "!!timestamp z", "&a [*a]"])
def test_values_of_flags_are_read_in_the_same_way(value: str) -> None:
    """Guards tracebacks of PyYAML for `--method-args threshold=0x_`."""
    with pytest.raises(UserError, match="expected a YAML value, found"):
        from_pairs([f"threshold={value}"])


def test_ordinary_documents_are_read() -> None:
    """Canary: anchors and lists are no reason to refuse."""
    assert read_yaml("a: &x {b: 1}\nc: *x\nd: [1, [2]]") == {"a": {"b": 1}, "c": {"b": 1}, "d": [1, [2]]}
