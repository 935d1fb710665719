"""Example texts of the report: selected, not selected, changed class, confused. They are drawn with a fixed seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sstext.evaluation.calibration import softmax
from sstext.reporting.comparison import Evidence
from sstext.reporting.curves import confused_pairs, confusion
from sstext.reporting.readers import UNREADABLE
from sstext.reporting.run_files import RunFiles, Teaching
from sstext.storage.run_folder import stage_name

#: Size of the corpus sample: enough rows for a histogram, and few enough to be fast with any corpus.
SAMPLE = 20_000
#: Examples per group. One half is the most informative, the other half is random.
SHOWN = 24
PAIRS, TEXTS_PER_PAIR = 8, 4
MAX_CHARACTERS = 600


@dataclass(frozen=True)
class Example:
    """One text with its predicted class, and its true or earlier class in `other`."""

    text: str
    label: str
    confidence: float
    other: str = ""


@dataclass(frozen=True)
class Group:
    """Examples of one kind. `other` names the meaning of their second label."""

    key: str
    title: str
    meaning: str
    examples: Sequence[Example]
    other: str = ""


@dataclass(frozen=True)
class SampledCorpus:
    """n rows of the corpus, in order, with the predictions of the teacher of the last pseudo-labels.

    Attributes:
        rows: (n,) positions.
        probabilities: (n, C).
        kept: (n,) whether the row was selected as a pseudo-label.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    kept: np.ndarray


def sample_rows(total: int, limit: int = SAMPLE, seed: int = 0) -> np.ndarray:
    """At most `limit` of `total` rows in ascending order. Every call returns the same rows.

    >>> sample_rows(3), len(sample_rows(10**8, 5))
    (array([0, 1, 2]), 5)
    """
    if total <= limit:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, limit, replace=False, shuffle=False))


def sampled_corpus(teaching: Teaching) -> SampledCorpus:
    """Sample the corpus, with the teacher's predictions."""
    rows = sample_rows(len(teaching.scores))
    probabilities = softmax(np.asarray(teaching.scores[rows], dtype=np.float64), teaching.temperature)
    kept = np.zeros(len(rows), dtype=bool)
    for positions in _row_groups(teaching.labels, ["position"]):
        kept |= np.isin(rows, positions["position"].to_numpy())
    return SampledCorpus(rows, probabilities, kept)


def example_groups(run: RunFiles, evidence: Evidence | None) -> list[Group]:
    """All groups that the files of a run allow."""
    groups = []
    if run.corpus is not None and run.teaching is not None:
        try:
            groups += [_kept(run, run.teaching), _rejected(run, run.teaching), *_flipped(run)]
        except UNREADABLE:
            run.say_missing("Pseudo-labels, scores and texts do not fit together: their examples are left out.")
    if evidence is not None:
        groups.append(_confused(run.classes, evidence))
    return [group for group in groups if group.examples]


def _kept(run: RunFiles, teaching: Teaching) -> Group:
    """Pseudo-labels: the least confident of the sample, then random ones."""
    rows, labels = _sampled_pseudo_labels(teaching.labels, run.classes)
    probabilities = softmax(np.asarray(teaching.scores[rows], dtype=np.float64), teaching.temperature)
    confidence = probabilities[np.arange(len(rows)), labels]
    picked = _telling_and_random(confidence)
    return Group(
        "kept",
        "Selected",
        f"some of the pseudo-labels that trained {teaching.student}: the least confident first, then a random sample",
        [Example(_text(run, rows[i]), run.classes[labels[i]], float(confidence[i])) for i in picked],
    )


def _rejected(run: RunFiles, teaching: Teaching) -> Group:
    """Rows that were not selected: the most confident of the sample, then random ones."""
    corpus = sampled_corpus(teaching)
    left = np.flatnonzero(~corpus.kept)
    confidence, labels = corpus.probabilities[left].max(-1), corpus.probabilities[left].argmax(-1)
    picked = _telling_and_random(-confidence)
    return Group(
        "rejected",
        "Not selected",
        f"texts that did not train {teaching.student}; the most confident first, then a random sample",
        [Example(_text(run, corpus.rows[left[i]]), run.classes[labels[i]], float(confidence[i])) for i in picked],
    )


def _flipped(run: RunFiles) -> Iterator[Group]:
    """Rows whose class changed between the last two stages with scores, the most confident predictions first."""
    for earlier, record in reversed(list(pairwise(run.rounds))):
        after, before = run.scores(record["index"]), run.scores(earlier["index"])
        if after is None or before is None:
            continue
        rows = sample_rows(min(len(after[0]), len(before[0])))
        now, then = (softmax(np.asarray(s[rows], dtype=np.float64), t) for s, t in (after, before))
        changed = np.flatnonzero(now.argmax(-1) != then.argmax(-1))
        picked = changed[np.argsort(-now[changed].max(-1), kind="stable")][:SHOWN]
        share = f"{len(changed) / max(1, len(rows)):.1%} of {len(rows):,} texts"
        predictions = "predictions of chain 1" if run.cross_fitted else "predictions"
        yield Group(
            "flipped",
            "Changed class",
            f"{predictions} that differ between the stages “{stage_name(earlier)}” and “{stage_name(record)}” "
            f"({share}); the most confident first",
            [
                Example(
                    _text(run, rows[i]),
                    run.classes[now[i].argmax()],
                    float(now[i].max()),
                    run.classes[then[i].argmax()],
                )
                for i in picked
            ],
            other="before",
        )
        return


def _confused(classes: Sequence[str], evidence: Evidence) -> Group:
    """Mistakes of the most confused pairs of classes, the most confident first."""
    predicted, confidence = evidence.chosen.argmax(-1), evidence.chosen.max(-1)
    examples = []
    for pair in confused_pairs(confusion(evidence.chosen, evidence.labels), PAIRS):
        rows = np.flatnonzero((evidence.labels == pair.true) & (predicted == pair.predicted))
        for row in rows[np.argsort(-confidence[rows], kind="stable")][:TEXTS_PER_PAIR]:
            text = shortened(evidence.texts[int(row)].as_py())
            examples.append(Example(text, classes[pair.predicted], float(confidence[row]), classes[pair.true]))
    meaning = f"mistakes on {evidence.rows}, for the most confused pairs of classes; the most confident first"
    return Group("confused", "Confused", meaning, examples, other="true class")


def _sampled_pseudo_labels(path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n,) and labels (n,) of at most `SAMPLE` different pseudo-labels, from at most four row groups."""
    pieces = sample_rows(pq.ParquetFile(path).num_row_groups, limit=4)
    table = pa.concat_tables(_row_groups(path, ["position", "label"], pieces))
    labels = pc.index_in(table["label"].cast(pa.string()), pa.array(list(classes))).to_numpy()
    positions, first = np.unique(table["position"].to_numpy(), return_index=True)
    some = sample_rows(len(positions))
    return positions[some], labels[first[some]].astype(np.int64)


def _row_groups(path: Path, columns: list[str], pieces: Sequence[int] | np.ndarray | None = None) -> Iterator[pa.Table]:
    """Read a parquet file piece by piece, because it may be larger than memory."""
    with pq.ParquetFile(path) as file:
        for piece in range(file.num_row_groups) if pieces is None else pieces:
            yield file.read_row_group(int(piece), columns=columns)


def _telling_and_random(order: np.ndarray, seed: int = 0) -> list[int]:
    """Indices of `SHOWN` rows: one half has the lowest `order`, the other is random. Both are sorted by `order`."""
    ranked = np.argsort(order, kind="stable")
    telling, others = ranked[: SHOWN // 2], ranked[SHOWN // 2 :]
    return [*telling.tolist(), *others[sample_rows(len(others), SHOWN - len(telling), seed)].tolist()]


def _text(run: RunFiles, row: int) -> str:
    assert run.corpus is not None
    return shortened(run.corpus.text(row))


def shortened(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Cut a long text, and end it with an ellipsis.

    >>> shortened("one two", limit=4)
    'one…'
    """
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
