"""The user's files → what a run works on: classes, tokenized rows, audit labels; every complaint before training starts."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from sstext.config.run_config import RunConfig
from sstext.data.loading import Labeled, Unlabeled, fingerprint, load_audit, load_labeled, load_unlabeled
from sstext.data.sampling import Sample, draw, measured_rows
from sstext.data.tokens import TextEncoder, choose_max_length, tokenize
from sstext.errors import UserError
from sstext.hub.card import LEFT_OUT
from sstext.progress import SILENT, Reporter
from sstext.storage.whole import write_whole

#: Options that name data, in the order in which they are read → the split that is taken where a name has several.
SPLITS = {"labeled": "train", "unlabeled": "train", "dev": "validation", "test": "test", "audit": "train"}


@dataclass(frozen=True)
class Texts:
    """The data of a run as read, before any token: C classes, B labeled rows, N unlabeled ones."""

    labeled: Labeled
    classes: list[str]
    unlabeled: Unlabeled | None = None
    dev: Labeled | None = None
    test: Labeled | None = None
    audit: np.ndarray | None = None  # (N,) true classes of the unlabeled rows

    def counts(self) -> dict[str, int]:
        """Number of rows by kind."""
        held = {"labeled": self.labeled, "unlabeled": self.unlabeled, "dev": self.dev, "test": self.test}
        counted = {name: len(read.texts) for name, read in held.items() if read is not None}
        return counted | ({LEFT_OUT: self.unlabeled.left} if self.unlabeled is not None and self.unlabeled.left else {})


@dataclass(frozen=True)
class Tokens:
    """The tokenized rows of a run (data sets with `input_ids`, labeled ones with `labels`)."""

    labeled: Any
    corpus: Any
    dev: Any
    max_length: int
    truncated: dict[str, int] = field(default_factory=dict)


def sources(config: RunConfig, **given: Any) -> dict[str, Any]:
    """Every source of data by its option: a data set given in Python, else what the configuration names."""
    unknown = sorted(given.keys() - SPLITS.keys())
    if unknown:
        raise TypeError(f"expected data as {', '.join(SPLITS)}, found {unknown[0]!r}")
    return {
        name: given.get(name) if given.get(name) is not None else getattr(config, name)
        for name in SPLITS
        if given.get(name) is not None or getattr(config, name) is not None
    }


def fingerprints(named: dict[str, Any]) -> dict[str, str]:
    """Fingerprint of every source: tells whether a run folder belongs to the same data."""
    return {name: fingerprint(source, SPLITS[name]) for name, source in named.items()}


def read_texts(
    config: RunConfig,
    named: dict[str, Any],
    arrow_file: Path,
    reporter: Reporter,
    at_most: int | None = None,
    *,
    needs_corpus: bool = True,
) -> Texts:
    """Read all data; notes go to `reporter`.

    Args:
        named: see `sources`.
        arrow_file: where the unlabeled corpus goes (kept there for a run that is continued).
        at_most: texts of the corpus that are kept, drawn at random (see `sstext.selftraining.plan.texts_wanted`); None: all.
        needs_corpus: whether the run has rounds of pseudo-labels.

    Raises:
        UserError: a source is missing, empty or wrong (file and row are named).
    """
    if "labeled" not in named:
        raise UserError("labeled: no labeled texts; give --labeled my.csv (columns text and label)")
    sample = _sample_of(config, named)
    if "unlabeled" not in named and sample is None and needs_corpus:
        raise UserError(
            "unlabeled: no unlabeled texts; give --unlabeled corpus.jsonl, or --rounds 0 to train on labels alone"
        )

    def read(name: str, classes: list[str] | None = None) -> Labeled:
        rows = load_labeled(
            named[name], what=name, classes=classes, split=SPLITS[name], text_column=config.text_column,
            label_column=config.label_column, encoding=config.encoding,
        )  # fmt: skip
        for note in rows.notes:
            reporter.note(note)
        return rows

    labeled = read("labeled")
    dev, test = (read(name, labeled.classes) if name in named else None for name in ("dev", "test"))
    if sample is not None:
        return _sampled(sample, config, labeled, dev, test, arrow_file, reporter, at_most)

    unlabeled, audit = None, None
    if "audit" in named and "unlabeled" not in named:
        reporter.note("audit: not read, there are no unlabeled texts whose pseudo-labels it could measure")
    if config.views and "unlabeled" not in named:
        reporter.note("views: not read, there are no unlabeled texts whose paraphrases they could be")
    if "unlabeled" in named:
        unlabeled = _read_corpus(config, named["unlabeled"], arrow_file, reporter, at_most)
        if "audit" in named:
            rows = unlabeled.texts.data.column("row").to_numpy()
            audit = load_audit(
                named["audit"], classes=labeled.classes, rows=rows, total=unlabeled.total,
                label_column=config.label_column, encoding=config.encoding,
            )  # fmt: skip
    return Texts(labeled, labeled.classes, unlabeled, dev, test, audit)


def _sample_of(config: RunConfig, named: dict[str, Any]) -> Sample | None:
    """The sample that is asked for; None where the data are taken as they are."""
    if not config.sample:
        return None
    if besides := [name for name in ("unlabeled", "audit") if name in named]:
        raise UserError(
            f"sample: takes unlabeled texts and their true labels from the labeled data; leave out {' and '.join(besides)}"
        )
    if config.views:
        raise UserError(
            "sample: draws texts alone; leave out views, or give the unlabeled texts in a file of their own"
        )
    return Sample.of(config.sample)


def _sampled(
    sample: Sample, config: RunConfig, labeled: Labeled, dev: Labeled | None, test: Labeled | None, arrow_file: Path,
    reporter: Reporter, at_most: int | None,
) -> Texts:  # fmt: skip
    """The data of a run on a part of the labeled rows, which hides the labels of all others."""
    labels = np.asarray(labeled.texts["label"][:])
    drawn = draw(sample, labels, labeled.classes, seed=config.seed, test_apart=test is not None)
    if test is not None:
        measured = Labeled(test.texts.select(measured_rows(sample, len(test.texts))), test.classes, [])
    elif len(drawn.test):
        measured = Labeled(labeled.texts.select(drawn.test), labeled.classes, [])
    else:
        measured = None
    corpus = labeled.texts.select(drawn.unlabeled).select_columns(["text"])
    few = Labeled(labeled.texts.select(drawn.labeled), labeled.classes, [])
    reporter.note(
        f"sample (seed {config.seed}): {len(few.texts):,} labeled rows, {sample.labels_per_class} of each class, and "
        f"{len(corpus):,} whose labels are hidden (for the audit alone)"
        + (f"; {len(measured.texts):,} test rows" if measured is not None else "")
    )
    unlabeled = _read_corpus(config, corpus, arrow_file, SILENT, at_most)
    if unlabeled.left:
        reporter.note(unlabeled.notes[-1])
    audit = labels[drawn.unlabeled][unlabeled.texts.data.column("row").to_numpy()]
    return Texts(few, labeled.classes, unlabeled, dev, measured, audit)


def _read_corpus(
    config: RunConfig, source: Any, arrow_file: Path, reporter: Reporter, at_most: int | None
) -> Unlabeled:
    """The corpus from its Arrow file where an earlier call (or another process) has written it, else from the source."""
    counted = arrow_file.with_suffix(".json")
    if counted.exists():
        return Unlabeled(Dataset.from_file(str(arrow_file)), **json.loads(counted.read_text(encoding="utf-8")))
    with reporter.phase("reading the corpus", None, "text") as tick:
        unlabeled = load_unlabeled(
            source, arrow_file=arrow_file, text_column=config.text_column, views=config.views, encoding=config.encoding,
            at_most=at_most, seed=config.seed, tick=tick,
        )  # fmt: skip
    for note in unlabeled.notes:
        reporter.note(note)
    write_whole(counted, json.dumps({"total": unlabeled.total, "notes": unlabeled.notes, "left": unlabeled.left}))
    return unlabeled


def tokenize_texts(
    texts: Texts, tokenizer: Any, limit: int, config: RunConfig, cache: Path, reporter: Reporter
) -> Tokens:
    """Tokenize what a run trains on, once, to Arrow files in `cache`; says the length that was chosen and what was cut.

    Args:
        limit: the most tokens that the encoder reads.
    """
    sample = texts.unlabeled.texts if texts.unlabeled is not None else texts.labeled.texts
    if config.max_length is None:
        max_length = choose_max_length(tokenizer, sample["text"], limit, config.seed)
        reason = f"the 95th percentile; the encoder reads up to {limit}"
    else:
        max_length, reason = min(config.max_length, limit), f"as asked; the encoder reads up to {limit}"
    reporter.note(f"max length: {max_length} tokens ({reason})")

    encoder = TextEncoder(tokenizer, max_length)
    truncated: dict[str, int] = {}

    def encode(read: Labeled | Unlabeled | None, name: str) -> Any:
        if read is None:
            return None
        rows = read.texts
        with reporter.phase(f"tokenizing {name}", len(rows), "text") as tick:
            tokens = tokenize(rows, encoder, cache=cache, name=name, tick=tick)
        truncated[name] = pc.sum(tokens.data.column("truncated")).as_py()
        if truncated[name]:
            reporter.note(f"{name}: {truncated[name]:,} of {len(rows):,} texts are longer and were cut for training")
        return tokens

    return Tokens(
        labeled=encode(texts.labeled, "labeled"),
        corpus=encode(texts.unlabeled, "unlabeled"),
        dev=encode(texts.dev, "dev"),
        max_length=max_length,
        truncated=truncated,
    )
