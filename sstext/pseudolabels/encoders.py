"""How well the embeddings of an encoder predict held-out labels, by which one of several encoders is chosen."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sstext.inference.scoring import score
from sstext.modeling.embedder import Embedder
from sstext.modeling.reading import MEAN, READINGS
from sstext.progress import Tick
from sstext.pseudolabels.reading_choice import calibrated_losses, choose_reading
from sstext.pseudolabels.regression import ClassTexts, choose_weight, out_of_fold


@dataclass(frozen=True)
class EncoderFigures:
    """Cross-validated figures of logistic regressions on the embeddings of an encoder.

    Attributes:
        log_loss: mean log-loss of held-out labels in nats, at the temperature.
        temperature: makes these labels most likely. It is below 1 if the embeddings of all texts are similar, because the
            penalty then keeps the regression too cautious.
        accuracy: share of the held-out labels that are predicted.
        weight: number of labeled rows that the texts of a class count like together. 0 means that they are not used.
        reading: which embeddings were taken, of the mean of the tokens or of the first token.
    """

    log_loss: float
    temperature: float
    accuracy: float
    weight: float
    reading: str = MEAN


def encoder_figures(
    encoder: Any,
    labeled: Any,
    class_texts: Any,
    tokenizer: Any,
    *,
    classes: int,
    seed: int = 0,
    tick: Tick | None = None,
    reading: str | None = MEAN,
    trained: str | None = None,
) -> EncoderFigures:
    """Predict held-out labels from the embeddings of an encoder as it was pretrained.

    The log-loss is that of the calibrated regression, as the model of a run is calibrated. Otherwise encoders would be compared
    by how far their embeddings lie apart, and not by what they tell.

    If there are class texts, they are used as in a run: with the weight that has the lowest log-loss of held-out labels.

    Args:
        encoder: an encoder or classifier, on its device.
        labeled: B tokenized rows with `labels`.
        class_texts: tokenized names or descriptions of the classes with `labels`, or None.
        tokenizer: of the encoder.
        classes: C.
        seed: of the folds. With the same seed, all encoders have the same folds.
        tick: called with the number of embedded rows.
        reading: which embeddings are taken, mean or first token. None: those that `choose_reading` chooses.
        trained: what the encoder was trained for, or None if that is unknown.

    Raises:
        UserError: the encoder returns no hidden states.
    """
    labels, compared = np.asarray(labeled["labels"][:]), READINGS if reading is None else (reading,)
    readings = {
        name: score(Embedder(encoder, reading=name), labeled, tokenizer, tick=tick if name == compared[0] else None)
        for name in compared
    }
    reading = (
        choose_reading(readings, labels, classes, seed, trained=trained).reading if len(readings) > 1 else compared[0]
    )
    embedder, embedded = Embedder(encoder, reading=reading), readings[reading]
    texts, weight = None, 0.0
    if class_texts is not None:
        texts = ClassTexts(score(embedder, class_texts, tokenizer), np.asarray(class_texts["labels"][:]))
        weight = choose_weight(embedded, labels, classes, texts, seed).weight
    held_out = out_of_fold(embedded, labels, classes, texts, weight, seed)
    losses, temperature = calibrated_losses(held_out, labels)
    return EncoderFigures(float(losses.mean()), temperature, float(held_out.right.mean()), weight, reading)
