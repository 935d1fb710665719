"""The data doctor: check sources, and write what was found."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sstext.data.doctor.cleaning import check_folder, write_cleaned
from sstext.data.doctor.examine import Checkup, examined
from sstext.data.doctor.finding import Finding
from sstext.data.doctor.texts import ROLES, Columns, Given
from sstext.data.formulas import Formulas
from sstext.data.many_files import files_of
from sstext.data.sources import Source, as_source
from sstext.errors import UserError
from sstext.progress import SILENT, Reporter
from sstext.storage.whole import check_target, write_whole

if TYPE_CHECKING:
    from sstext.run.checking_with_encoder import WithEncoder  # it imports torch, and most checks need none


@dataclass(frozen=True)
class Findings:
    """What the data doctor says.

    Attributes:
        read: sentences on the sources and their classes.
        findings: the faults, those that make figures wrong first.
        changes: kind of change → number of rows, if cleaned copies were written.
    """

    read: list[str]
    findings: list[Finding]
    changes: dict[str, int] | None = None


def check(
    data: Sequence[Source] = (),
    *,
    unlabeled: Sequence[Source] = (),
    dev: Sequence[Source] = (),
    test: Sequence[Source] = (),
    json_file: str | Path | None = None,
    html_file: str | Path | None = None,
    fix: str | Path | None = None,
    columns: Mapping[str, Any] | None = None,
    with_encoder: "WithEncoder | None" = None,
    excel_safe: bool = False,
    reporter: Reporter = SILENT,
) -> Findings:
    """Check texts and labels (`sstext.data.doctor`).

    Args:
        data: sources whose rows with a label are labeled, and whose other rows are the corpus.
        unlabeled: further sources of the corpus. Their labels are not read.
        dev, test: sources of held-out rows.
        json_file, html_file: files to which all findings are written, for programs and as a page.
        fix: folder for cleaned copies and a list of the changes (`sstext.data.doctor.cleaning`).
        columns: fields of `sstext.data.doctor.texts.Columns`.
        with_encoder: an encoder for further checks (`sstext.run.checking_with_encoder`).
        excel_safe: whether csv files of `fix` get a ' before cells that a spreadsheet would run as formulas.
        reporter: shows progress.

    Raises:
        UserError: a source that cannot be read, or a file that cannot be written.
    """
    written = {
        name: Path(one) for name, one in {"json": json_file, "html": html_file, "fix": fix}.items() if one is not None
    }
    for name, other in combinations(written, 2):
        if written[name].resolve() == written[other].resolve():
            raise UserError(f"{other}: expected another name than that of {name}, found {written[other]}")
    for option, file in (("json", json_file), ("html", html_file)):
        if file is not None:
            check_target(option, Path(file))
            if any(_is_same(file, source) for source in (*data, *unlabeled, *dev, *test)):
                raise UserError(f"{option}: expected another file than those that are checked, found {file}")
    if fix is not None:
        check_folder(Path(fix))
    roles = {"data": data, "unlabeled": unlabeled, "dev": dev, "test": test}
    given = [
        Given(role, as_source(source, "test" if role == "test" else "train"))
        for role, sources in roles.items()
        for one in sources
        for source in _apart(one)
    ]
    of = Columns(**(columns or {}))
    with examined(given, of, lengths=with_encoder is None, reporter=reporter) as found:
        findings = list(found.findings)
        if with_encoder is not None:
            from sstext.run.checking_with_encoder import encoder_findings

            findings += encoder_findings(found.texts, with_encoder, reporter)
        record = _record(found, findings)
        if json_file is not None:
            write_whole(Path(json_file), json.dumps(record, ensure_ascii=False, indent=1) + "\n", recorded=False)
        if html_file is not None:
            from sstext.reporting.checkup_page import write_checkup_page

            write_checkup_page(Path(html_file), found.read, record["findings"])
        formulas = Formulas(excel_safe)
        changes = None if fix is None else write_cleaned(found.texts, Path(fix), of.encoding, formulas)
        formulas.note(str(fix), reporter)
        return Findings(found.read, findings, changes)


def _apart(source: Source) -> Sequence[Source]:
    """The files of a folder or a pattern, because the place of a finding is a file and a line. Other sources stay."""
    files = files_of(source)
    return [source] if files is None else files


def _is_same(file: str | Path, source: Source) -> bool:
    """Whether a source is this file."""
    if not isinstance(source, str | Path) or not Path(file).exists():
        return False
    try:
        return os.path.samefile(file, source)
    except (OSError, ValueError):  # it is a name on the Hub, or none at all
        return False


def _record(found: Checkup, findings: Sequence[Finding]) -> dict[str, Any]:
    texts = found.texts
    sources = [
        {"name": part.name, "role": part.given.role, "rows": len(part.rows), "text": part.text, "label": part.label}
        for part in texts.parts
    ]
    classes = {ROLES[role]: dict(texts.counts(texts.of(role)[texts.label[texts.of(role)] >= 0])) for role in (0, 2, 3)}
    return {"sources": sources, "classes": classes, "findings": [finding.record() for finding in findings]}
