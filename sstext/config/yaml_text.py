"""Read YAML that a user wrote. Whatever is wrong with it is one kind of error."""

import re
from typing import Any

import yaml

#: Values that a document may have, with those that aliases repeat.
_MOST = 100_000
_DEEPEST = 100


def read_yaml(text: str) -> Any:
    """The content of a YAML document.

    Raises:
        yaml.YAMLError: it is not valid, a value is not what its tag says, it is nested too deeply, or it contains itself.
    """
    depth = 0
    for mark in re.findall(r"[\[\]{}]", text):  # before PyYAML, which takes long to fail
        depth += 1 if mark in "[{" else -1
        if depth > _DEEPEST:
            raise yaml.YAMLError("nested too deeply")
    try:
        content = yaml.safe_load(text)
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
