"""The quick check of the data before a training: what the data doctor finds without an encoder. The report shows it."""

import json
from collections import Counter
from pathlib import Path

from sstext.data.doctor.examine import examined
from sstext.data.doctor.finding import Finding
from sstext.data.doctor.texts import Given
from sstext.data.loading import Labeled
from sstext.data.order import random_rows
from sstext.data.preparing import Texts
from sstext.progress import SILENT, Reporter
from sstext.storage.whole import write_whole

#: Rows of a kind that are checked at most. They are drawn at random, and take about two seconds, or five if
#: languages are told (`sstext.data.doctor.languages`).
CHECKED = 20_000
#: Examples of a finding that are kept.
EXAMPLES = 5
#: Kinds of findings that are notes of their own when the data are read (`sstext.data.doubts`, `sstext.data.overlap`).
_NAMED = ("leak", "scores", "pairs", "near-twin classes", "single row", "class sets")


def check_texts(texts: Texts, file: Path, seed: int = 0, reporter: Reporter = SILENT) -> list[Finding]:
    """Check the texts of a run, say in a line what was found, and write it to a file for the report.

    Args:
        texts: the data of the run. Descriptions of the classes are not checked.
        file: the file to write: rows and classes by role, and records of the findings with some examples.
        seed: of the rows that are drawn, if there are more than `CHECKED` of a kind.
    """
    labeled = {"labeled": texts.labeled, "dev": texts.dev, "test": texts.test}
    if texts.zero_shot:
        del labeled["labeled"]
    known = {name: read for name, read in labeled.items() if read is not None}
    rows = {name: read.texts for name, read in known.items()}
    if texts.unlabeled is not None:
        rows["unlabeled"] = texts.unlabeled.texts.select_columns(["text"])
    drawn = {name: random_rows(len(read), min(len(read), CHECKED), seed) for name, read in rows.items()}
    given = [
        Given("data" if name == "labeled" else name, rows[name].select(some), name)
        for name, some in drawn.items() if len(some)
    ]  # fmt: skip
    if not given:
        return []
    with reporter.phase("checking the data", None, "text"), examined(given) as found:
        findings = [one for one in found.findings if not _usual(one)]
    records = [one.record() for one in findings]
    for record in records:
        record["examples"] = record["examples"][:EXAMPLES]
    content = {
        "rows": {name: {"all": len(read), "checked": len(drawn[name])} for name, read in rows.items()},
        "classes": {name: _by_class(read) for name, read in known.items()},
        "findings": records,
    }
    write_whole(file, json.dumps(content, ensure_ascii=False, indent=1) + "\n", private=True)
    if new := [one for one in findings if not _named(one)]:
        kinds, count = ", ".join(dict.fromkeys(one.kind for one in new)), len(new)
        more = "more " if len(findings) > count else ""
        reporter.note(
            f"check: {count:,} {more}finding{'s' if count != 1 else ''} in the data ({kinds}); `sstext report` shows them, and "
            "`sstext check` looks at all rows"
        )
    return findings


def _named(finding: Finding) -> bool:
    """Whether a note has named a finding when the data were read."""
    repeated = finding.kind in ("duplicate", "contradiction") and finding.where == "labeled"
    return repeated or finding.kind in _NAMED


def _usual(finding: Finding) -> bool:
    """Near copies of labeled texts in the corpus, which do no harm. The labeled texts themselves are left out of it."""
    return finding.kind in ("overlap", "near overlap") and finding.where == "unlabeled"


def _by_class(read: Labeled) -> dict[str, int]:
    counts = Counter(read.texts["label"][:])
    return {name: counts[number] for number, name in enumerate(read.classes)}
