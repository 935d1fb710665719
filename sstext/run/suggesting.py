"""Which texts to label next: `sstext suggest`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xxhash
from datasets import Dataset

from sstext.data.fingerprints import fingerprint
from sstext.data.labeling_tasks import LabelingTask
from sstext.data.loading import class_names, load_unlabeled
from sstext.data.order import random_rows
from sstext.data.tokens import TextEncoder, choose_max_length
from sstext.errors import MissingOptionsError, UserError
from sstext.evaluation.calibration import softmax
from sstext.inference.classifier import Classifier
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.modeling.pretrained import encoder_path, prefix_of, split_revision
from sstext.modeling.student import new_student
from sstext.progress import SILENT, Reporter, duration
from sstext.pseudolabels.regression import fit_regression
from sstext.pseudolabels.texts_to_label import (
    CANDIDATES,
    PER_CLASS,
    TextToLabel,
    texts_to_label,
    uncertainty,
)
from sstext.run.continuing import Labels, finished_run, labels_of, read_labels
from sstext.run.encoders import find_encoder
from sstext.storage.chunks import computed_in_chunks
from sstext.storage.damage import check, read_array, reading
from sstext.storage.run_folder import SCORES, RunDirectory, chain_folder, stage_name

#: Rows that are embedded before the result is stored, if it is kept.
CHUNK_ROWS = 4_096
#: Number of texts to choose if the classes are not known.
COUNT = 40
#: There are at least so many candidates for each text that is chosen.
CANDIDATES_PER_TEXT = 4


@dataclass(frozen=True)
class Suggestions:
    """The texts that should be labeled next.

    Attributes:
        tasks: the texts, in the order in which they were chosen.
        model: name of the model that guesses their classes, or None without a model.
        classes: names of the classes, as far as they are known.
        one_file: whether the labeled texts are those of the corpus file that have a label.
    """

    tasks: list[LabelingTask]
    model: str | None
    classes: Sequence[str] = ()
    one_file: bool = False


@dataclass(frozen=True)
class TextReader:
    """What reads texts: a pretrained encoder, or the model of a run.

    Attributes:
        name: in files of labeling tools.
        place: file or name that the weights come from.
        embedder: returns logits (C), if there are classes, then the embedding (D).
        classes: names of the C classes of the model; empty for an encoder.
    """

    name: str
    place: str
    embedder: Embedder
    tokens: TextEncoder
    classes: list[str]

    def read(
        self, texts: Sequence[str], reporter: Reporter, what: str, cache: Path | None = None, precision: str = "auto"
    ) -> np.ndarray:
        """Logits and embeddings, (N, C + D). They are stored in `cache` or taken from it."""
        precision = resolve_precision(precision, self.embedder.model.device)
        with reporter.phase(f"embedding {what}", len(texts), "text") as tick:

            def rows(start: int, end: int) -> np.ndarray:
                columns = self.tokens(texts[start:end])
                del columns["truncated"]
                inputs = [dict(zip(columns, one, strict=True)) for one in zip(*columns.values(), strict=True)]
                return score(self.embedder, inputs, self.tokens.tokenizer, precision=precision, tick=tick)

            if cache is None:
                return rows(0, len(texts))
            shape = (len(texts), int(self.embedder.config.num_labels))
            return np.asarray(computed_in_chunks(cache / f"{self._key(texts)}.npy", shape, CHUNK_ROWS, rows, done=tick))

    def _key(self, texts: Sequence[str]) -> str:
        """What the embeddings depend on: the texts, the weights, and how a text is cut."""
        weights = Path(self.place, "model.safetensors")
        known = fingerprint(weights) if weights.is_file() else self.place
        digest = xxhash.xxh3_128(repr((known, self.tokens.max_length, self.tokens.prefix, len(self.classes))).encode())
        for text in texts:
            digest.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
        return f"embedded-{digest.hexdigest()}"


def suggest(
    corpus: Any = None,
    *,
    count: int | None = None,
    encoder: str | None = None,
    labeled: Any = None,
    run: str | Path | None = None,
    candidates: int | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    unlabeled_value: str | Sequence[str] | None = None,
    encoding: str = "utf-8",
    max_length: int | None = None,
    prefix: str | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> Suggestions:
    """Choose the texts of a corpus that should be labeled next (`sstext.pseudolabels.texts_to_label`).

    Without labels, they are texts that many others are like. With labels, a regression on the embeddings says of which texts
    little is known. With a run, its model and the chains of its corpus say so, and the embeddings are those of the model. A
    quarter is always drawn at random.

    Args:
        corpus: unlabeled texts: a file, a Hub name or a data set. Default: the corpus of the run.
        count: number of texts. Default: 10 for each class, or 40 if the classes are not known.
        encoder: pretrained encoder. It is needed without a run.
        labeled: texts that are labeled already. They are not chosen again. Default: those of the run.
        run: folder of a finished run.
        candidates: number of texts that are embedded and chosen from, drawn at random. Default: 4,096, or 4 for each text to
            choose if these are more.
        seed: of all draws.
        cache: folder in which the embeddings are kept for further calls. Default: they are not kept.
        text_column, label_column, unlabeled_value, encoding, max_length, prefix, device: see `sstext.RunConfig`.
        reporter: shows progress and notes.

    Raises:
        UserError: data, an encoder or a run that cannot be used.
    """
    if corpus is None and run is None:
        raise UserError("corpus: no texts to choose from; give a file with texts, or --run with the folder of a run")
    for name, number in (("count", count), ("candidates", candidates)):
        if number is not None and number < 1:
            raise UserError(f"{name}: expected at least 1, found {number}")
    columns = {"text_column": text_column, "encoding": encoding}
    of_labels = {"label_column": label_column, "unlabeled_value": unlabeled_value}
    folder = None if run is None else finished_run(run)
    one_file = _labels_of_one_file(corpus, columns | of_labels) if labeled is None and folder is None else None
    known, labels, classes = _labeled_texts(labeled, folder, one_file, columns | of_labels, reporter)
    wanted = count if count is not None else PER_CLASS * len(classes) or COUNT
    texts, places = _candidates(corpus, folder, columns, set(known), wanted, candidates, seed, reporter)
    if not texts:
        raise UserError("corpus: every text is labeled already; give other texts")
    reader = open_reader(folder, encoder, texts, max_length, prefix, seed)
    reader.embedder.to(resolve_device(device))
    began = time.monotonic()
    outputs = reader.read(texts, reporter, "texts", None if cache is None else Path(cache))
    logits, embedded = np.split(outputs, [len(reader.classes)], axis=1)
    own = np.zeros((0, embedded.shape[1]))
    if known:
        own = reader.read(known, reporter, "labeled texts")[:, len(reader.classes) :]
    spent = time.monotonic() - began
    probabilities, uncertain, model = None, None, None
    if reader.classes:
        probabilities, classes, model = softmax(logits.astype(np.float64)), reader.classes, reader.name
        uncertain = uncertainty(probabilities, predicted_by_chains(folder, places) if corpus is None else ())
    elif known:
        probabilities = fit_regression(own, np.array(labels), len(classes)).probabilities(embedded)
        uncertain, model = uncertainty(probabilities), f"regression on {reader.name}"
    began = time.monotonic()
    with reporter.phase("choosing texts to label", None, "text"):
        chosen = texts_to_label(embedded, wanted, seed, labeled=own, uncertain=uncertain)
    reporter.note(
        f"embedding {len(texts):,} texts took {duration(spent)}, choosing {len(chosen):,} of them "
        f"{duration(time.monotonic() - began)}"
    )
    taken = [texts[one.row] for one in chosen]
    guesses = None if probabilities is None else probabilities[[one.row for one in chosen]]
    if reader.classes:  # as `sstext predict` says it, which reads in float32
        exact = reader.read(taken, reporter, "chosen texts", precision="fp32")
        guesses = softmax(exact[:, : len(reader.classes)].astype(np.float64))
    return Suggestions(tasks_of(chosen, taken, classes, guesses), model, tuple(classes), one_file is not None)


def _labels_of_one_file(corpus: Any, columns: dict[str, Any]) -> Labels | None:
    """The labels in a file that also has rows without one, as `sstext train FILE` reads it. None for other files."""
    if not isinstance(corpus, str | Path) or not Path(corpus).is_file():
        return None
    try:
        found = read_labels(corpus, least_classes=1, **columns)
    except UserError:  # it has no labels
        return None
    return found if found.unlabeled else None


def _labeled_texts(
    given: Any, run: RunDirectory | None, one_file: Labels | None, columns: dict[str, Any], reporter: Reporter
) -> tuple[list[str], list[int], list[str]]:
    """The texts that are labeled already, their classes as numbers, and the names of the classes."""
    classes: list[str] = [] if run is None else run.read_results()["classes"]
    if given is None and run is None and one_file is None:
        return [], [], []
    found = read_labels(given, **columns) if given is not None else labels_of(run) if run is not None else one_file
    if found is None:
        reporter.note(
            "labeled: the labeled texts of the run are not known and may be chosen again; --labeled names them"
        )
        return [], [], classes
    names = classes or class_names(found.classes.values())
    known = {text: names.index(label) for text, label in found.classes.items() if label in names}
    reporter.note(f"labeled: {len(found.classes):,} texts")
    return list(known), list(known.values()), names


def _candidates(
    corpus: Any, run: RunDirectory | None, columns: dict[str, Any], known: set[str], wanted: int, candidates: int | None,
    seed: int, reporter: Reporter,
) -> tuple[list[str], np.ndarray]:  # fmt: skip
    """The texts that are chosen from, each once and without those that are labeled, and their rows in the corpus."""
    with TemporaryDirectory(prefix="sstext-suggest-") as scratch:
        if corpus is not None:
            with reporter.phase("reading the corpus", None, "text") as tick:
                read = load_unlabeled(corpus, arrow_file=Path(scratch, "corpus.arrow"), tick=tick, **columns)
            for note in read.notes:
                reporter.note(note)
            rows = read.texts
        elif run is not None and run.corpus.is_file():
            with reading(run.corpus):
                rows = Dataset.from_file(str(run.corpus))
        else:
            has = "has no unlabeled texts"
            if run is not None and run.read_results()["rows"].get("unlabeled"):
                has = "no longer holds its unlabeled texts"
            example = (
                f"sstext suggest corpus.jsonl --run {run.path}" if run is not None else "sstext suggest corpus.jsonl"
            )
            raise UserError(f"corpus: the run {has}; give a file with texts, for example: {example}")
        size = candidates or max(CANDIDATES, CANDIDATES_PER_TEXT * wanted)
        some = random_rows(len(rows), min(len(rows), size), seed)
        if len(some) < len(rows):
            reporter.note(
                f"candidates: {len(some):,} of {len(rows):,} texts, drawn at random, are embedded and chosen from; "
                "--candidates takes more, or all"
            )
        first = dict[str, int]()
        for place, text in zip(some.tolist(), rows.select(some)["text"][:], strict=True):
            if text not in known:
                first.setdefault(text, place)
    return list(first), np.fromiter(first.values(), dtype=np.int64, count=len(first))


def open_reader(
    run: RunDirectory | None, encoder: str | None, texts: Sequence[str], max_length: int | None, prefix: str | None,
    seed: int,
) -> TextReader:  # fmt: skip
    """The model of the run, or else the encoder."""
    if run is not None:
        if encoder is not None:
            raise UserError("encoder: the run has its own; leave out --encoder, or --run")
        check(run.model, editable=True)
        classifier = Classifier.from_pretrained(run.model)
        limit = max_length or run.read_results()["max_length"]["training"]
        own = prefix if prefix is not None else classifier.encoder.prefix
        tokens = TextEncoder(classifier.tokenizer, min(limit, classifier.encoder.max_length), own)
        embedder = Embedder(classifier.model, with_logits=True)
        return TextReader(f"sstext, {run.path.name}", str(run.model), embedder, tokens, classifier.classes)
    if encoder is None:
        raise MissingOptionsError(
            "encoder: no pretrained encoder; give --encoder with a folder or a Hub name (or `demo`, English), or --run",
            "encoder",
        )
    found = find_encoder(encoder)
    own = prefix if prefix is not None else prefix_of(found.config)
    limit = min(max_length or choose_max_length(found.tokenizer, texts, found.limit, seed, own), found.limit)
    name, revision = split_revision(encoder)
    model = new_student(name, ["0", "1"], seed=seed, revision=revision)  # its head is not read
    tokens = TextEncoder(found.tokenizer, limit, own)
    return TextReader(Path(encoder).name, encoder_path(name), Embedder(model), tokens, [])


def predicted_by_chains(run: RunDirectory | None, places: np.ndarray) -> list[np.ndarray]:
    """The classes that the chains of a run predict for rows of its corpus. Empty if they have not scored it."""
    if run is None:
        return []
    records = run.rounds()
    found: list[np.ndarray] = []
    while (number := len(found) + 1) and (folder := run.path / chain_folder(number)).is_dir():
        stages = [RunDirectory(folder).stage(stage_name(record)) / SCORES for record in records]
        scored = [file for file in stages if file.is_file()]
        if not scored:
            return []
        found.append(read_array(scored[-1], mapped=True)[places].argmax(-1))
    return found


def tasks_of(
    chosen: Sequence[TextToLabel], texts: Sequence[str], classes: Sequence[str], probabilities: np.ndarray | None
) -> list[LabelingTask]:
    """Texts to label, with the classes that a model predicts for them if there is one."""
    if probabilities is None:
        return [LabelingTask(text, one.reason) for one, text in zip(chosen, texts, strict=True)]
    return [
        LabelingTask(text, one.reason, classes[int(row.argmax())], float(row.max()))
        for one, text, row in zip(chosen, texts, probabilities, strict=True)
    ]
