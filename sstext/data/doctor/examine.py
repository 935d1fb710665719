"""All checks of some sources, in the order of their weight."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sstext.data.doctor import classes, content, duplicates
from sstext.data.doctor.finding import Finding
from sstext.data.doctor.languages import languages
from sstext.data.doctor.texts import Columns, Given, Texts
from sstext.errors import UserError
from sstext.progress import SILENT, Reporter


@dataclass(frozen=True)
class Checkup:
    """What was read and found.

    Attributes:
        texts: all rows.
        read: sentences on the sources and their classes.
        findings: those that make figures wrong first.
    """

    texts: Texts
    read: list[str]
    findings: list[Finding]


@contextmanager
def examined(
    given: Sequence[Given], columns: Columns | None = None, *, lengths: bool = True, reporter: Reporter = SILENT
) -> Iterator[Checkup]:
    """Read sources and check them. The texts can be read inside the block.

    Args:
        given: the sources and what they are used for.
        columns: which columns hold texts and labels.
        lengths: whether to guess from the number of words which texts are too long.
        reporter: shows progress.

    Raises:
        UserError: no source, or one that cannot be read.
    """
    if not given:
        raise UserError("check: expected at least one file, found none; name files with texts")
    with TemporaryDirectory(prefix="sstext-check-") as scratch:
        with reporter.phase("reading", None, "text") as tick:
            texts = Texts(given, columns or Columns(), Path(scratch), tick)
        with reporter.phase("comparing texts", None, "text"):
            groups = duplicates.similar_groups(texts)
        with reporter.phase("checking", None, "check") as tick:
            found: list[Finding] = []
            for check in (duplicates.leaks, duplicates.contradictions):
                found += check(texts, groups)
                tick()
            for of_texts in (classes.sets, classes.columns, classes.names, *content.CHECKS, languages):
                found += of_texts(texts)
                tick()
            found += duplicates.repeats(texts, groups)
            found += classes.balance(texts)
            found += content.lengths(texts) if lengths else ()
        yield Checkup(texts, classes.described(texts), found)
