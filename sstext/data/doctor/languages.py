"""Languages of texts, told by a small model (extra `languages`). Without it, only scripts are known."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sstext.data.doctor.content import alone, rows_said, verb
from sstext.data.doctor.finding import Finding
from sstext.data.doctor.texts import ROLES, Texts
from sstext.data.order import random_rows

#: Texts of a role whose language is told, at most. They are drawn at random, and 10,000 short ones take a second or two.
READ = 20_000
#: Probability below which a language counts as unknown. Above it, no English text of six data sets was called another one.
SURE = 0.8


@lru_cache(maxsize=1)
def _model() -> Any:
    """The model, or None if the extra is not installed."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def languages_of(texts: Sequence[str]) -> list[str]:
    """The language of each text as a code of ISO 639-1, or "" if it is not certain, or if the extra is not installed."""
    model = _model()
    if model is None:
        return [""] * len(texts)
    found = (model.classify(text) for text in texts)
    return [language if sure >= SURE else "" for language, sure in found]


def languages(texts: Texts) -> Iterator[Finding]:
    """Texts in another language than most, in the same script. Another script is a finding of its own."""
    if _model() is None or not (texts.script > 0).any():
        return
    usual_script = int(np.bincount(texts.script[texts.script > 0]).argmax())
    known: dict[int, tuple[NDArray[np.int64], NDArray[np.str_]]] = {}
    for role in range(len(ROLES)):
        own = texts.of(role)
        own = own[texts.script[own] == usual_script]
        rows = own[random_rows(len(own), min(len(own), READ), 0)]
        if len(rows):
            known[role] = rows, np.array(languages_of([texts.text(int(row)) for row in rows]))
    every = np.concatenate([found for _, found in known.values()])
    names, counts = np.unique(every[every != ""], return_counts=True)
    if len(names) < 2:
        return
    usual = names[counts.argmax()]
    for role, (rows, found) in known.items():
        others = (found != "") & (found != usual)
        if not others.any():
            continue
        names, counts = np.unique(found[others], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:4]
        shown = ", ".join(f"{names[number]} {counts[number]:,}" for number in order)
        count = int(others.sum())
        said = (
            f"{rows_said(count, len(rows))} {verb(count, 'is', 'are')} not in the language of most, which is {usual} "
            f"({shown})"
        )
        remedy = "take a multilingual encoder, or leave them out"
        yield Finding("language", ROLES[role], count, said, remedy, alone(texts, rows[others]))
