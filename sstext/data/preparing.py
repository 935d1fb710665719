"""The sources of a run → its data: classes, tokenized rows, audit labels. All errors appear before training."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.data.corpus import AllLabeledError, Unlabeled, WithoutLabel, load_audit, load_unlabeled
from sstext.data.descriptions import class_texts, described_classes, kind_of
from sstext.data.loading import Labeled, load_labeled
from sstext.data.many_files import known_rows
from sstext.data.overlap import held_out_overlap
from sstext.data.run_sources import SPLITS, is_zero_shot
from sstext.data.sampling import Sample, draw, measured_rows
from sstext.data.tokens import TextEncoder, choose_max_length, tokenize
from sstext.errors import MissingOptionsError, UserError
from sstext.progress import SILENT, Reporter, Tick
from sstext.storage.damage import reading
from sstext.storage.mapped import give_back, open_rows
from sstext.storage.whole import write_whole

#: Tokens that a text of a class may have, even if the limit of the other texts is lower.
LONGEST_CLASS_TEXT = 512
#: Key of the row counts for unlabeled texts that are not read, because the training steps can use no more.
LEFT_OUT = "unlabeled_left_out"


@dataclass(frozen=True)
class Texts:
    """The data of a run before tokenization: C classes, B labeled rows, N unlabeled rows."""

    labeled: Labeled
    classes: list[str]
    unlabeled: Unlabeled | None = None
    dev: Labeled | None = None
    test: Labeled | None = None
    audit: np.ndarray | None = None  # (N,) true classes of the unlabeled rows
    class_texts: Labeled | None = None  # names or descriptions of the classes, beside the labeled rows
    zero_shot: bool = False  # whether nothing is labeled: `labeled` are the descriptions of the classes
    overlap: dict[str, int] = field(
        default_factory=dict
    )  # held-out texts that are training texts, see `held_out_overlap`

    def accounted(self) -> dict[str, dict[str, int]]:
        """What became of every row of every source: kept, or why not."""
        read = {"labeled": self.labeled, "unlabeled": self.unlabeled, "dev": self.dev, "test": self.test}
        return {name: dict(one.rows) for name, one in read.items() if one is not None and one.rows}

    def counts(self) -> dict[str, int]:
        """Number of rows by kind."""
        given = "descriptions" if self.zero_shot else "labeled"
        held = {given: self.labeled, "unlabeled": self.unlabeled, "dev": self.dev, "test": self.test}
        counted = {name: len(read.texts) for name, read in held.items() if read is not None}
        return counted | ({LEFT_OUT: self.unlabeled.left} if self.unlabeled is not None and self.unlabeled.left else {})


@dataclass(frozen=True)
class Tokens:
    """The tokenized rows of a run: data sets with `input_ids`, and with `labels` if the rows are labeled."""

    labeled: Any
    corpus: Any
    dev: Any
    max_length: int
    class_texts: Any = None
    truncated: dict[str, int] = field(default_factory=dict)


def read_texts(
    config: RunConfig,
    named: dict[str, Any],
    arrow_file: Path,
    reporter: Reporter,
    at_most: int | None = None,
    *,
    needs_corpus: bool = True,
) -> Texts:
    """Read all data, and report notes to `reporter`.

    Args:
        named: see `sstext.data.run_sources.sources`.
        arrow_file: file for the unlabeled corpus. It is kept, so that a resumed run can use it.
        at_most: number of texts of the corpus to keep, drawn at random (see `sstext.selftraining.planning.texts_wanted`).
            Default: all.
        needs_corpus: whether the run has rounds of pseudo-labels.

    Raises:
        UserError: if a source is missing, empty or wrong. The message names the file and the row.
    """
    zero_shot = is_zero_shot(config, named)
    sample = _sample_of(config, named)

    def with_notes(rows: Labeled) -> Labeled:
        for note in rows.notes:
            reporter.note(note)
        return rows

    def read(name: str, classes: list[str] | None = None) -> Labeled:
        return with_notes(load_labeled(
            named[name], what=name, classes=classes, split=SPLITS[name], text_column=config.text_column,
            label_column=config.label_column, encoding=config.encoding, unlabeled_value=config.unlabeled_value,
            views=config.views if name == "labeled" else (),
        ))  # fmt: skip

    labeled = with_notes(described_classes(config.descriptions, config.encoding)) if zero_shot else read("labeled")
    besides = labeled.without_label
    if "unlabeled" not in named and besides is None and sample is None and needs_corpus:
        alone = "use descriptions alone" if zero_shot else "train on labels alone"
        where = "" if zero_shot else f", leave the label of some rows of {spelled('labeled')} empty"
        raise MissingOptionsError(
            f"unlabeled: no unlabeled texts; give {spelled('unlabeled', 'corpus.jsonl')}{where}, or {spelled('rounds', 0)} to "
            f"{alone}", "unlabeled",
        )  # fmt: skip
    told = class_texts(config.descriptions, labeled.classes, config.encoding) if not zero_shot else None
    told = with_notes(told) if told is not None else None
    dev, test = (read(name, labeled.classes) if name in named else None for name in ("dev", "test"))
    if sample is not None:
        if besides is not None:
            reporter.note(f"sample: {len(besides):,} rows without a label are not read")
        drawn = _draw_sample(sample, config, labeled, dev, test, arrow_file, reporter, at_most)
        return replace(drawn, class_texts=told, overlap=_overlap(config, drawn.labeled, dev, drawn.test, reporter))
    same = {} if zero_shot else _overlap(config, labeled, dev, test, reporter)

    unlabeled, audit = None, None
    has_corpus = "unlabeled" in named or besides is not None
    if "audit" in named and not has_corpus:
        reporter.note("audit: not read, because there are no unlabeled texts")
    if config.views and not has_corpus:
        reporter.note("views: not read, because there are no unlabeled texts")
    if "audit" in named and "unlabeled" in named and besides is not None:
        raise UserError(
            f"audit: expected a true label for every unlabeled text, but {len(besides):,} of them are rows of "
            f"{spelled('labeled')} without a label; label them, delete them, or leave out {spelled('audit')}"
        )
    if has_corpus:
        own = [] if zero_shot else labeled.texts["text"][:]
        unlabeled = _read_corpus(config, named.get("unlabeled"), arrow_file, reporter, at_most, own, besides)
        if "audit" in named:
            rows = unlabeled.texts.data.column("row").to_numpy()
            audit = load_audit(
                named["audit"], classes=labeled.classes, rows=rows, total=unlabeled.total,
                label_column=config.label_column, encoding=config.encoding,
            )  # fmt: skip
            give_back(unlabeled.texts)
    return Texts(labeled, labeled.classes, unlabeled, dev, test, audit, told, zero_shot, same)


def _overlap(
    config: RunConfig, labeled: Labeled, dev: Labeled | None, test: Labeled | None, reporter: Reporter
) -> dict[str, int]:
    found, notes = held_out_overlap(labeled, dev, test, allowed=config.allow_overlap)
    for note in notes:
        reporter.note(note)
    return found


def _sample_of(config: RunConfig, named: dict[str, Any]) -> Sample | None:
    """The sample in the configuration, or None to use the data as they are."""
    if not config.sample:
        return None
    if besides := [name for name in ("unlabeled", "audit") if name in named]:
        raise UserError(
            f"sample: the unlabeled texts and labels come from the labeled data; leave out {' and '.join(besides)}"
        )
    if config.views:
        raise UserError(
            "sample: a sample has no paraphrases; leave out views, or give the unlabeled texts in a separate file"
        )
    return Sample.of(config.sample)


def _draw_sample(
    sample: Sample, config: RunConfig, labeled: Labeled, dev: Labeled | None, test: Labeled | None, arrow_file: Path,
    reporter: Reporter, at_most: int | None,
) -> Texts:  # fmt: skip
    """Draw the data of a run from the labeled rows: a few keep their labels, the others become unlabeled rows."""
    labels = np.asarray(labeled.texts["label"][:])
    drawn = draw(sample, labels, labeled.classes, seed=config.seed, test_apart=test is not None)
    if test is not None:
        few_of_test = test.texts.select(measured_rows(sample, len(test.texts)))
        not_drawn = {**test.rows, "kept": len(few_of_test), "not drawn": len(test.texts) - len(few_of_test)}
        measured = Labeled(few_of_test, test.classes, [], rows=not_drawn)
    elif len(drawn.test):
        measured = Labeled(labeled.texts.select(drawn.test), labeled.classes, [])
    else:
        measured = None
    corpus = labeled.texts.select(drawn.unlabeled).select_columns(["text"])
    few = Labeled(labeled.texts.select(drawn.labeled), labeled.classes, [], rows=_drawn(labeled, drawn))
    reporter.note(
        f"sample (seed {config.seed}): {len(few.texts):,} labeled rows, {sample.labels_per_class} of each class, and "
        f"{len(corpus):,} unlabeled rows (their labels are only used for the audit)"
        + (f"; {len(measured.texts):,} test rows" if measured is not None else "")
    )
    unlabeled = _read_corpus(config, corpus, arrow_file, SILENT, at_most, few.texts["text"][:])
    for note in unlabeled.notes[1:]:  # the first one names the source
        reporter.note(note)
    audit = labels[drawn.unlabeled][unlabeled.texts.data.column("row").to_numpy()]
    return Texts(few, labeled.classes, unlabeled, dev, measured, audit)


def _drawn(labeled: Labeled, drawn: Any) -> dict[str, int]:
    """What became of the labeled rows that a sample was drawn from."""
    used = {"drawn as unlabeled rows": len(drawn.unlabeled), "drawn as test rows": len(drawn.test)}
    others = len(labeled.texts) - len(drawn.labeled) - sum(used.values())
    moved = {why: count for why, count in {**used, "not drawn": others}.items() if count}
    return {**labeled.rows, "kept": len(drawn.labeled), **moved}


def _read_corpus(
    config: RunConfig,
    source: Any,
    arrow_file: Path,
    reporter: Reporter,
    at_most: int | None,
    labeled: Sequence[str],
    besides: WithoutLabel | None = None,
) -> Unlabeled:
    """Read the corpus from its Arrow file if an earlier call or another process wrote it, otherwise from the source."""
    counted = arrow_file.with_suffix(".json")
    if counted.exists():
        with reading(arrow_file):
            texts = open_rows(arrow_file)
        with reading(counted):
            return Unlabeled(texts, **json.loads(counted.read_text(encoding="utf-8")))
    size, why = config.corpus_size, {}
    if size is not None and (at_most is None or size < at_most):
        at_most, why = size, {"why_at_most": f"{spelled('corpus_size', size)} asks for no more"}

    def comparing(texts: int) -> AbstractContextManager[Tick]:
        return reporter.phase("comparing texts", texts, "text")

    def load(labeled: Sequence[str]) -> Unlabeled:
        with reporter.phase("reading the corpus", known_rows(source), "text") as tick:
            return load_unlabeled(
                source, arrow_file=arrow_file, text_column=config.text_column, views=config.views, encoding=config.encoding,
                at_most=at_most, seed=config.seed, tick=tick, comparing=comparing if config.drop_near_duplicates else None,
                besides=besides, labeled=labeled, **why,
            )  # fmt: skip

    try:
        unlabeled = load(labeled)
    except AllLabeledError as error:
        unlabeled = load(())
        unlabeled.notes.append(str(error))
    for note in unlabeled.notes:
        reporter.note(note)
    counts = {"total": unlabeled.total, "notes": unlabeled.notes, "left": unlabeled.left, "rows": unlabeled.rows}
    write_whole(counted, json.dumps(counts), private=True)
    return unlabeled


def text_encoder(texts: Texts, tokenizer: Any, limit: int, config: RunConfig) -> tuple[TextEncoder, str]:
    """What tokenizes the texts of a run with one encoder, and the reason for its maximum length.

    Args:
        limit: maximum number of tokens that the encoder reads.

    Raises:
        UserError: the prefix leaves no room for a text.
    """
    sample = texts.unlabeled.texts if texts.unlabeled is not None else texts.labeled.texts
    prefix = str(config.prefix or "")
    if config.max_length is None:
        max_length = choose_max_length(tokenizer, sample["text"], limit, config.seed, prefix)
        reason = f"95 % of the texts are not longer; the encoder reads up to {limit}"
    else:
        max_length, reason = min(config.max_length, limit), f"as set; the encoder reads up to {limit}"
    if prefix and (length := len(tokenizer(prefix)["input_ids"])) >= max_length:
        longer = f", or raise {spelled('max_length')}" if max_length < limit else ""
        raise UserError(
            f"prefix: expected fewer than {max_length} tokens, the maximum length of a text, found {length}; shorten it{longer}"
        )
    return TextEncoder(tokenizer, max_length, prefix), reason


def class_text_encoder(encoder: TextEncoder, limit: int) -> TextEncoder:
    """What tokenizes names or descriptions of the classes. They are few and must be whole, even if the texts are short.

    Args:
        encoder: what tokenizes the texts.
        limit: maximum number of tokens that the encoder reads.
    """
    longest = max(encoder.max_length, min(limit, LONGEST_CLASS_TEXT))
    return TextEncoder(encoder.tokenizer, longest, encoder.prefix)


def tokenize_texts(
    texts: Texts, tokenizer: Any, limit: int, config: RunConfig, cache: Path, reporter: Reporter
) -> Tokens:
    """Tokenize the data of a run once, to Arrow files in `cache`, and report the length and the number of cut texts.

    Args:
        limit: maximum number of tokens that the encoder reads.
    """
    encoder, reason = text_encoder(texts, tokenizer, limit, config)
    max_length = encoder.max_length
    reporter.note(f"max length: {max_length} tokens ({reason})")

    truncated, for_classes = dict[str, int](), class_text_encoder(encoder, limit)

    def encode(read: Labeled | Unlabeled | None, name: str, title: str = "", by: TextEncoder = encoder) -> Any:
        if read is None:
            return None
        rows, title = read.texts, title or name
        with reporter.phase(f"tokenizing {title}", len(rows), "text") as tick:
            tokens = tokenize(rows, by, cache=cache, name=name, tick=tick)
        truncated[name] = pc.sum(tokens.data.column("truncated")).as_py()
        give_back(tokens)
        if truncated[name]:
            cut = f"{truncated[name]:,} of {len(rows):,} texts {'were' if truncated[name] > 1 else 'was'} cut"
            reporter.note(f"{title}: {cut} to {by.max_length} tokens for training")
        return tokens

    described = ("class descriptions", for_classes) if texts.zero_shot else ()
    return Tokens(
        labeled=encode(texts.labeled, "labeled", *described),
        corpus=encode(texts.unlabeled, "unlabeled"),
        dev=encode(texts.dev, "dev"),
        max_length=max_length,
        class_texts=encode(texts.class_texts, "class_texts", f"class {kind_of(config.descriptions)}", for_classes),
        truncated=truncated,
    )
