"""Names and sentences in Markdown: none of them can end its place or become markup."""

import json
import re
from collections.abc import Iterable
from typing import Any

from sstext.plain import plain

#: What begins HTML, a link, an image, a code span, an entity or an escape in a sentence.
_MARKUP = {"&": "&amp;", "<": "&lt;", "[": r"\[", "]": r"\]", "`": r"\`", "\\": r"\\"}
#: What Markdown makes a link of by itself: addresses of pages and of people.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:(?=//)\S*|\b(?:www\.|mailto:|xmpp:)\S+|[^\s@]+@[^\s@]+\.\S+", re.IGNORECASE)


def code(name: Any) -> str:
    """A name as a code span, whatever it consists of.

    >>> code("late"), code("a`<b>`")
    ('`late`', '`` a`<b>` ``')
    """
    shown = _on_a_line(name)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    ticks, blank = "`" * (longest + 1), " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{ticks}{blank}{shown}{blank}{ticks}"


def sentence(said: Any) -> str:
    """A sentence on one line, without markup. Addresses are code spans, because no Markdown makes links of these.

    >>> print(sentence("the class <b>late</b> of [x](y), see https://example.org"))
    the class &lt;b>late&lt;/b> of \\[x\\](y), see `https://example.org`
    """
    shown, parts, end = _on_a_line(said), list[str](), 0
    for found in _ADDRESS.finditer(shown):
        parts += _without_markup(shown[end : found.start()]), code(found[0])
        end = found.end()
    return "".join((*parts, _without_markup(shown[end:])))


def _without_markup(said: str) -> str:
    return re.sub(r"[&<`\[\]\\]", lambda found: _MARKUP[found[0]], said)


def quoted(name: str) -> str:
    """A name in double quotes, as Python and a shell read it.

    >>> print(quoted('my "model"'))
    "my \\"model\\""
    """
    return plain(json.dumps(name, ensure_ascii=False))


def table(header: Iterable[Any], lines: Iterable[Iterable[Any]]) -> str:
    """A Markdown table. Bars inside cells are escaped, because they would start a new column."""
    rows = [[sentence(cell).replace("|", r"\|") for cell in row] for row in (header, *lines)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _on_a_line(value: Any) -> str:
    """A value without line breaks, because they would end a Markdown table, list or code span."""
    return plain(" ".join(str(value).split()))
