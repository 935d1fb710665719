"""Results of one file → groups of which each makes a table: those of one generation, one encoder and one draw."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cells import DRAWS, TELLABLE, Cell, Profile, draw_in, plan, told_in
from told import FIRST, TOLD

from sstext.errors import UserError


@dataclass(frozen=True)
class Group:
    """Cells that may be compared, because they differ in what is measured alone: the method, and what it is told.

    Attributes:
        first: whether they are of the first generation, which was told nothing.
        cells: those of the profile that are planned; what is told is that of the results.
        results: key of a cell → its result, also of cells that are not planned.
    """

    first: bool
    encoder: str
    draw: str
    cells: list[Cell]
    results: Mapping[str, dict[str, Any]]

    @property
    def told(self) -> list[str]:
        """What any method is told, each once."""
        return list(dict.fromkeys(cell.told for cell in self.cells))

    @property
    def strangers(self) -> int:
        """Number of results with other settings than the profile's."""
        return len(self.results.keys() - {cell.key for cell in self.cells})

    @property
    def said(self) -> str:
        """What tells the group from others of its profile."""
        if self.first:
            return FIRST if self.encoder == "demo" else f"{FIRST}, encoder `{self.encoder}`"
        return f"{self.draw} labels, encoder `{self.encoder}`"

    @property
    def file_name(self) -> str:
        """The same for a file; empty for the first generation, whose figures had no more than the name of the profile."""
        encoder = "" if self.encoder == "demo" else re.sub(r"[^\w.-]", "-", f"-{self.encoder}")
        return encoder if self.first else f"-{self.draw}{encoder}"


def groups(profile: Profile, results: Mapping[str, dict[str, Any]]) -> list[Group]:
    """The groups of a file of results: balanced draws before random ones, the first generation last.

    Raises:
        UserError: no results, or results on several kinds of rows: one kind chooses settings, the other must not.
    """
    kinds = sorted({row["settings"]["on"] for row in results.values()})
    if len(kinds) != 1:
        raise UserError(f"expected results on one kind of rows, found {len(kinds)}: {kinds}")
    by_kind: dict[tuple[bool, int, str], dict[str, dict[str, Any]]] = {}
    for key, row in results.items():
        settings = row["settings"]
        kind = (told_in(settings) == FIRST, DRAWS.index(draw_in(settings)), settings["run"]["encoder"])
        by_kind.setdefault(kind, {})[key] = row
    found = []
    for first, number, encoder in sorted(by_kind):
        own = by_kind[first, number, encoder]
        there = {told_in(row["settings"]) for row in own.values() if row["method"] in TELLABLE} | set(profile.told)
        told = [FIRST] if first else [one for one in TOLD if one in there]
        planned = plan(profile, encoder=encoder, on=kinds[0], told=told, draws=[DRAWS[number]])
        found.append(Group(first, encoder, DRAWS[number], planned, own))
    return found
