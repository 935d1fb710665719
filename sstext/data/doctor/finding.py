"""What a check finds: one line for people, and all places for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: Characters of a text that an example shows, in a line and in a file.
SHOWN, WRITTEN = 60, 200
#: Places of a finding that are kept.
PLACES = 1_000


@dataclass(frozen=True)
class Place:
    """A row of a source.

    Attributes:
        file: name of the source.
        at: where the row is in it, for example "line 3".
        text: the beginning of its text.
        label: its label, or None.
        by: the people who gave the label, if the source tells.
    """

    file: str
    at: str
    text: str
    label: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class Finding:
    """A fault, or something that is often one.

    Attributes:
        kind: of the check, such as "leak" or "contradiction".
        where: the rows that it is about: "labeled", "unlabeled", "dev", "test", or the name of a source.
        count: number of rows, texts or classes.
        said: what was found, with the count. It is a sentence without a period.
        remedy: what the user can do.
        examples: groups of places, the first of which is shown. The places of a group belong together, such as two copies.
    """

    kind: str
    where: str
    count: int
    said: str
    remedy: str
    examples: Sequence[Sequence[Place]] = field(default_factory=tuple)

    def __str__(self) -> str:
        return f"{self.where}: {self.said}{self.example()}; {self.remedy}"

    def example(self) -> str:
        """The first example in parentheses, with a blank before it, or "".

        >>> late = [Place("a.csv", "line 2", "late", "delivery", "ann"), Place("b.csv", "line 9", "late", "refund")]
        >>> Finding("contradiction", "labeled", 1, "1 text has different labels", "decide on one", [late]).example()
        " (a.csv line 2 'delivery' by ann, b.csv line 9 'refund': 'late')"
        """
        if not self.examples:
            return ""
        group = self.examples[0][:3]
        labels = [place.label for place in group]
        names, file = [], self.where
        for place in group:
            label = f" {place.label!r}" if place.label is not None and len(set(labels)) > 1 else ""
            at, file = place.at if place.file == file else f"{place.file} {place.at}", place.file
            names.append(f"{at}{label}{f' by {place.by}' if label and place.by else ''}")
        text = group[0].text
        shown = repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
        return f" ({', '.join(names)}{f': {shown}' if text.strip() else ''})"

    def record(self) -> dict[str, Any]:
        """All of it, for a JSON file."""
        return {
            "kind": self.kind, "where": self.where, "count": self.count, "said": self.said, "remedy": self.remedy,
            "examples": [[asdict(place) for place in group] for group in self.examples],
        }  # fmt: skip
