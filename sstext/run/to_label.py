"""The texts that a run leaves to be labeled next: `to_label.csv` in its folder."""

from pathlib import Path
from typing import Any

import numpy as np

from sstext.data.formats import read_rows
from sstext.data.formulas import Formulas
from sstext.data.labeling_tasks import write_labeling_tasks
from sstext.data.order import random_rows
from sstext.errors import UserError
from sstext.evaluation.calibration import Correction
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.methods.method import Stage
from sstext.modeling.embedder import Embedder
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.pseudolabels.texts_to_label import CANDIDATES, PER_CLASS, TextToLabel, texts_to_label, uncertainty
from sstext.run.suggesting import CANDIDATES_PER_TEXT, predicted_by_chains, tasks_of
from sstext.selftraining.cross_fitting import Run
from sstext.storage.run_folder import TO_LABEL

#: Texts that are embedded after a run with labels, at least. They take a hundredth of the time of a short training.
FEW_CANDIDATES = 512


def write_texts_to_label(run: Run, stage: Stage, correction: Correction) -> int:
    """Write the texts that should be labeled next to `to_label.csv`, ten for each class.

    After a run without labels, they are texts that many others are like, by the encoder as it was pretrained, because nothing
    checked what the students have learned. After other runs, they are chosen as `sstext suggest --run` does, but out of fewer
    candidates. A file that is there already may have labels of a person, and is kept.

    Args:
        run: a finished run.
        stage: the stage of the chosen model, which predicts.
        correction: of its predictions.

    Returns:
        The number of texts. It is 0 without a corpus, or if every text is labeled.
    """
    chain, unlabeled, file = run.whole, run.whole.texts.unlabeled, run.directory.path / TO_LABEL
    if chain.tokens.corpus is None or unlabeled is None:
        return 0
    if from_main_process(file.exists()):
        return _rows_in(file)
    chosen = _chosen(run, stage, correction)
    if not chosen:
        return 0
    rows = np.array([text.row for text in chosen])
    logits = score(chain.students.load(stage), chain.tokens.corpus.select(rows), chain.tokenizer)
    if is_main_process():
        probabilities = correction.probabilities(logits)
        texts = unlabeled.texts.select(rows)["text"][:]
        formulas = Formulas()
        tasks = tasks_of(chosen, texts, chain.texts.classes, probabilities)
        write_labeling_tasks(file, tasks, private=True, formulas=formulas)
        formulas.note(TO_LABEL, chain.reporter, "import its columns as text, or label with `sstext label`")
    wait_for_everyone()
    return len(rows)


def _rows_in(file: Path) -> int:
    """The number of rows. It is 0 if a person has made a file of it that is not read: this does not end a run."""
    try:
        return sum(len(rows) for rows in read_rows(file))
    except UserError:
        return 0


def _chosen(run: Run, stage: Stage, correction: Correction) -> list[TextToLabel]:
    """Texts to label, with their rows in the corpus."""
    chain, corpus = run.whole, run.whole.tokens.corpus
    classes, seed, zero_shot = len(chain.texts.classes), chain.config.seed, chain.texts.zero_shot
    count = PER_CLASS * classes
    size = CANDIDATES if zero_shot else max(FEW_CANDIDATES, CANDIDATES_PER_TEXT * count)
    some = random_rows(len(corpus), min(len(corpus), size), seed)
    if not zero_shot:
        some = some[_is_new(run, some)]
    if not len(some):
        return []
    labeled, unsure = None, None
    precision = resolve_precision(chain.config.precision, resolve_device(chain.config.device))
    with chain.reporter.phase("choosing texts to label", len(some), "text") as tick:
        if zero_shot:
            encoder = Embedder(chain.students.load(run.plan.baseline))
        else:
            encoder = Embedder(chain.students.load(stage), with_logits=True)
        embedded = score(encoder, corpus.select(some), chain.tokenizer, precision=precision, tick=tick)
        if not zero_shot:
            labeled = score(encoder, chain.tokens.labeled, chain.tokenizer, precision=precision)[:, classes:]
            probabilities = correction.probabilities(embedded[:, :classes])
            unsure = uncertainty(probabilities, predicted_by_chains(run.directory, some))
            embedded = embedded[:, classes:]
    # On each process, rounding could decide otherwise. All processes score the same rows.
    options: dict[str, Any] = {"labeled": labeled, "uncertain": unsure}
    chosen = from_main_process(texts_to_label(embedded, count, seed, **options) if is_main_process() else None)
    return [TextToLabel(int(some[text.row]), text.reason) for text in chosen]


def _is_new(run: Run, rows: np.ndarray) -> np.ndarray:
    """Whether texts of the corpus are not among the labeled ones, (n,)."""
    texts, unlabeled = run.whole.texts, run.whole.texts.unlabeled
    assert unlabeled is not None
    known = set(texts.labeled.texts["text"][:])
    return np.array([text not in known for text in unlabeled.texts.select(rows)["text"][:]], dtype=bool)
