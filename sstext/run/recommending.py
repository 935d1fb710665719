"""After a run without labels: which texts of the corpus should be labeled first."""

import numpy as np

from sstext.data.order import random_rows
from sstext.data.writers import RowWriter
from sstext.evaluation.calibration import softmax
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.methods.method import Stage
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.pseudolabels.probe import Embedder
from sstext.pseudolabels.texts_to_label import CANDIDATES, PER_CLASS, texts_to_label
from sstext.selftraining.cross_fitting import Run
from sstext.storage.run_folder import TO_LABEL


def write_texts_to_label(run: Run, stage: Stage, temperature: float) -> int:
    """Write the texts that should be labeled first to `to_label.csv`, with an empty column for their labels.

    The columns are `text`, `label` (empty), `reason`, `predicted_label` and `probability` (of the predicted label). The
    embeddings are those of the encoder as it was pretrained, because nothing checked what the students have learned.

    Args:
        run: a finished run.
        stage: the stage of the chosen model, which predicts.
        temperature: of its predictions.

    Returns:
        The number of texts. It is 0 without a corpus.
    """
    chain, unlabeled = run.whole, run.whole.texts.unlabeled
    corpus, classes = chain.tokens.corpus, chain.texts.classes
    if corpus is None or unlabeled is None:
        return 0
    seed, precision = chain.config.seed, resolve_precision(chain.config.precision, resolve_device(chain.config.device))
    some = random_rows(len(corpus), min(len(corpus), CANDIDATES), seed)
    with chain.reporter.phase("choosing texts to label", len(some), "text") as tick:
        encoder = Embedder(chain.students.load(run.plan.baseline))
        embedded = score(encoder, corpus.select(some), chain.tokenizer, precision=precision, tick=tick)
    # On each process, k-means could end elsewhere. All processes score the same rows.
    chosen = from_main_process(texts_to_label(embedded, PER_CLASS * len(classes), seed) if is_main_process() else None)
    rows = some[[text.row for text in chosen]]
    logits = score(chain.students.load(stage), corpus.select(rows), chain.tokenizer)
    probabilities = softmax(logits.astype(np.float64), temperature)
    if is_main_process():
        with RowWriter(run.directory.path / TO_LABEL) as writer:
            writer.write(
                {
                    "text": unlabeled.texts.select(rows)["text"][:],
                    "label": [None] * len(rows),
                    "reason": [text.reason for text in chosen],
                    "predicted_label": [classes[number] for number in probabilities.argmax(-1)],
                    "probability": [round(float(highest), 4) for highest in probabilities.max(-1)],
                }
            )
    wait_for_everyone()
    return len(rows)
