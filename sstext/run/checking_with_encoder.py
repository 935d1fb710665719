"""Checks that need an encoder: its vocabulary and its limit, labels that look wrong, and texts unlike any labeled one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sstext.data.doctor.content import alone, rows_said, verb
from sstext.data.doctor.finding import PLACES, Finding
from sstext.data.doctor.languages import languages_of
from sstext.data.doctor.texts import LABELED, ROLES, UNLABELED, Texts
from sstext.data.order import random_rows
from sstext.evaluation.calibration import fit_temperature, softmax
from sstext.inference.devices import resolve_device
from sstext.progress import SILENT, Reporter
from sstext.pseudolabels.regression import out_of_fold
from sstext.run.encoders import find_encoder
from sstext.run.suggesting import open_reader

#: Share of the labels that may look wrong. With few rows per class, a model of the others knows too little to doubt them.
BELIEVABLE = 0.3
#: Texts of a role that are tokenized, and that are embedded, at most. They are drawn at random.
TOKENIZED, EMBEDDED = 20_000, 4_000
#: Share of unknown tokens, and tokens for each word, above which a vocabulary does not cover a script, or a known language.
#: An English vocabulary needs 1.2 tokens for an English word, 1.7 to 2.0 for a French or Spanish one, 2.5 for a German one.
UNKNOWN, PIECES, PIECES_OF_LANGUAGE = 0.01, 3.0, 2.0
#: Rows of a script, or labeled rows, from which on something can be said.
ENOUGH = 20
#: Share of the labeled texts that may be less like any other than a reported text of the corpus, and how many times more
#: texts must be found than this share.
UNLIKE, BY_CHANCE = 0.01, 3
#: Scripts that put no blanks between words.
_UNSPACED = ("CJK", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")


@dataclass(frozen=True)
class WithEncoder:
    """An encoder and how it reads texts.

    Attributes:
        encoder: folder, Hub name, or "demo".
        max_length, prefix, device, seed: see `sstext.RunConfig`.
    """

    encoder: str
    max_length: int | None = None
    prefix: str | None = None
    device: str = "auto"
    seed: int = 0


def encoder_findings(texts: Texts, by: WithEncoder, reporter: Reporter = SILENT) -> Iterator[Finding]:
    """All checks with an encoder.

    Raises:
        UserError: the encoder cannot be found or read.
    """
    yield from _tokens(texts, by, reporter)
    labeled = _drawn(texts, LABELED, EMBEDDED, by.seed)
    labeled = labeled[texts.label[labeled] >= 0]
    names, labels = np.unique(texts.label[labeled], return_inverse=True)
    if len(labeled) < ENOUGH or len(names) < 2:
        return
    corpus = _drawn(texts, UNLABELED, EMBEDDED, by.seed)
    some = [texts.text(int(row)) for row in labeled]
    reader = open_reader(None, by.encoder, some, by.max_length, by.prefix, by.seed)
    reader.embedder.to(resolve_device(by.device))
    own = reader.read(some, reporter, "labeled texts")
    # Without balance: probabilities that lean towards rare classes would make correct rows of frequent ones suspects.
    logits = out_of_fold(own, labels, len(names), seed=by.seed, balance=False).logits
    probabilities = softmax(logits, fit_temperature(logits, labels))
    suspects = label_suspects(probabilities, labels)
    if (
        0 < len(suspects) <= BELIEVABLE * len(labeled)
    ):  # if most labels look wrong, the model of the others is what is wrong
        first = suspects[0]
        guess = texts.classes[names[probabilities[first].argmax()]]
        said = (
            f"a model that was trained on the other rows predicts another label for {rows_said(len(suspects), len(labeled))}, "
            f"most clearly where the label is {texts.classes[names[labels[first]]]!r} and it predicts {guess!r}"
        )
        examples = alone(texts, labeled[suspects[:PLACES]])
        yield Finding("label noise", "labeled", len(suspects), said, "read these texts again", examples)
    if len(corpus):
        outside = reader.read([texts.text(int(row)) for row in corpus], reporter, "texts of the corpus")
        far = unlike(own, outside)
        if len(far) >= max(BY_CHANCE, BY_CHANCE * UNLIKE * len(corpus)):
            said = f"{rows_said(len(far), len(corpus))} {verb(len(far), 'is', 'are')} unlike every labeled text"
            remedy = "leave them out, or label some of them: they may be of a class that has no labels yet"
            yield Finding("unlike", "unlabeled", len(far), said, remedy, alone(texts, corpus[far[:PLACES]]))


def label_suspects(probabilities: NDArray, labels: NDArray) -> NDArray[np.int64]:
    """Rows whose label is probably wrong, the most doubtful first.

    A row is one if it is confidently of another class: its held-out probability p_j of a class j ≠ y reaches the average
    of the rows that are labeled j, t_j = mean_{i: y_i = j} p_ij, and exceeds p_y.

    Args:
        probabilities: (N, C) of rows that the model did not see.
        labels: (N,) y. Every class has a row.

    Source: confident learning (Northcutt, Jiang, Chuang 2021, arXiv 1911.00068, section 3).

    >>> label_suspects(np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]]), np.array([0, 0, 1, 1, 0]))
    array([4])
    """
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    averages = np.array([probabilities[labels == label, label].mean() for label in range(classes)])
    confident = np.where(probabilities >= averages, probabilities, 0)
    best = confident.argmax(-1)
    given = probabilities[rows, labels]
    found = np.flatnonzero((best != labels) & (confident[rows, best] > given))
    return found[np.argsort((given - confident[rows, best])[found], kind="stable")]


def unlike(labeled: NDArray, corpus: NDArray) -> NDArray[np.int64]:
    """Texts of the corpus that are unlike every labeled text, the least similar first.

    Their cosine to the nearest labeled text is below that of 99 % of the labeled texts to the nearest other one.

    Args:
        labeled, corpus: (B, D) and (N, D) embeddings of length 1.

    >>> unlike(np.array([[1.0, 0], [1, 0], [0.8, 0.6]]), np.array([[1.0, 0], [0, 1]]))
    array([1])
    """
    among = labeled @ labeled.T
    np.fill_diagonal(among, -np.inf)
    limit = np.quantile(among.max(1), UNLIKE, method="lower")
    nearest = (corpus @ labeled.T).max(1)
    found = np.flatnonzero(nearest < limit)
    return found[np.argsort(nearest[found], kind="stable")]


def _drawn(texts: Texts, role: int, size: int, seed: int) -> NDArray[np.int64]:
    own = texts.of(role)
    return own[random_rows(len(own), min(len(own), size), seed)]


def _tokens(texts: Texts, by: WithEncoder, reporter: Reporter) -> Iterator[Finding]:
    """Texts that are longer than the limit, and scripts that the vocabulary does not cover."""
    found = find_encoder(by.encoder)
    limit = min(by.max_length or found.limit, found.limit)
    tokenizer, spoken = found.tokenizer, dict[tuple[str, str], list[np.ndarray]]()
    special = tokenizer.num_special_tokens_to_add()
    for role, name in enumerate(ROLES):
        rows = _drawn(texts, role, TOKENIZED, by.seed)
        if not len(rows):
            continue
        counts = np.zeros((len(rows), 2), dtype=np.int64)
        with reporter.phase(f"tokenizing {name} texts", len(rows), "text") as tick:
            for start in range(0, len(rows), 1000):
                some = [texts.text(int(row)) for row in rows[start : start + 1000]]
                ids = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
                counts[start : start + 1000] = [(len(one), one.count(tokenizer.unk_token_id)) for one in ids]
                tick(len(some))
        groups = np.array(_languages_and_scripts(texts, rows))
        for group in {(str(language), str(script)) for language, script in groups}:
            own = (groups == group).all(1)
            spoken.setdefault(group, []).append(np.column_stack([rows[own], counts[own]]))
        long = counts[:, 0] + special > limit
        if long.any():
            said = (
                f"{rows_said(int(long.sum()), len(rows))} {verb(int(long.sum()), 'is', 'are')} longer than {limit:,} tokens "
                f"(the median is {int(np.median(counts[:, 0])) + special:,}, the longest {int(counts[:, 0].max()) + special:,})"
            )
            remedy = (
                "their ends are not read; cut them yourself if the end matters, or take an encoder with a higher limit"
            )
            yield Finding("length", name, int(long.sum()), said, remedy, alone(texts, rows[long]))
    for (language, script), parts in sorted(spoken.items()):
        yield from _coverage(texts, language, script, np.concatenate(parts))


def _languages_and_scripts(texts: Texts, rows: NDArray[np.int64]) -> list[tuple[str, str]]:
    """Language and script of each row. A language is "" if it is not known."""
    languages = languages_of([texts.text(int(row)) for row in rows])
    return [(language, texts.scripts[texts.script[row]]) for language, row in zip(languages, rows, strict=True)]


def _coverage(texts: Texts, language: str, script: str, counted: NDArray[np.int64]) -> Iterator[Finding]:
    """Unknown tokens and tokens for each word of the texts in a language. `counted` has rows, tokens and unknown tokens."""
    rows, tokens, unknown = counted.T
    share, pieces = unknown.sum() / max(1, tokens.sum()), tokens.sum() / max(1, texts.words[rows].sum())
    split = pieces > (PIECES_OF_LANGUAGE if language else PIECES) and script not in _UNSPACED
    if not script or len(rows) < ENOUGH or not (share > UNKNOWN or split):
        return
    worst = rows[np.argsort(-unknown / np.maximum(tokens, 1), kind="stable")]
    said = (
        f"the encoder's vocabulary does not cover {len(rows):,} texts in the {script} script"
        f"{f' and the language {language}' if language else ''}: {share:.1%} of the tokens are unknown, "
        f"{pieces:.1f} tokens for each word"
    )
    remedy = "take an encoder that was trained on this language"
    yield Finding("vocabulary", "texts", len(rows), said, remedy, alone(texts, worst))
