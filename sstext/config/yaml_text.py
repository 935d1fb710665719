"""Read YAML that a user wrote. Whatever is wrong with it is one kind of error."""

import re
from typing import Any

import yaml

#: Values that a document may have, with those that aliases repeat.
_MOST = 100_000
_DEEPEST = 100


class _WithoutRepeats:
    """For a loader: a key that is given twice is an error. PyYAML would silently keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
            raise yaml.MarkedYAMLError(problem=f"{twice[0]!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Loader(_WithoutRepeats, yaml.SafeLoader):
    pass


class _WordLoader(_WithoutRepeats, yaml.BaseLoader):
    pass


def read_words(text: str) -> Any:
    """The content of a YAML document without YAML's types: `no`, `01` and `1.0` are words.

    Raises:
        yaml.YAMLError: it is not valid, or a key is given twice.
    """
    return yaml.load(text, Loader=_WordLoader)


def read_yaml(text: str) -> Any:
    """The content of a YAML document.

    Raises:
        yaml.YAMLError: it is not valid, a key is given twice, a value is not what its tag says, it is nested too deeply, or it
            contains itself.
    """
    depth = 0
    for mark in re.findall(r"[\[\]{}]", text):  # before PyYAML, which takes long to fail
        depth += 1 if mark in "[{" else -1
        if depth > _DEEPEST:
            raise yaml.YAMLError("nested too deeply")
    try:
        content = yaml.load(text, Loader=_Loader)
        _count(content)
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError("nested too deeply, or an alias that contains itself") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The constructors of PyYAML let pass what `int`, `float` and `datetime` raise.
        raise yaml.YAMLError(f"a value that cannot be read ({error})") from None
    return content


def _count(content: Any) -> None:
    """Refuse a document that is huge because of its aliases. One that contains itself is endless."""
    left, waiting = _MOST, [content]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise yaml.YAMLError("an alias that contains itself, or too many values")
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
