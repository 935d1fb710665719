"""`Classifier`: load a trained model and predict."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from sstext.data.tokens import TextEncoder
from sstext.errors import UserError, listed
from sstext.evaluation.calibration import confidence_for, softmax
from sstext.evaluation.held_out import cause_and_remedy
from sstext.hub.access import ask_once
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.modeling.pretrained import explained, length_limit, load_tokenizer, prefix_of
from sstext.progress import Tick


class Classifier:
    """A trained classifier: it predicts class names or probabilities for texts.

    Texts are read up to the model's limit. If the model was trained with a prefix, it is put before every text. The prediction
    for a text does not depend on the other texts. The default precision is float32.

    Args:
        model: a sequence classifier.
        tokenizer: its tokenizer.
        device, precision: see `resolve_device` and `resolve_precision`.
        max_length: T, maximum number of tokens that are read of a text. Default: the model's limit.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str = "auto",
        precision: str = "fp32",
        max_length: int | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.model, self.tokenizer = model.to(self.device).eval(), tokenizer
        limit = length_limit(tokenizer, model.config)
        self.encoder = TextEncoder(tokenizer, min(max_length or limit, limit), prefix_of(model.config))
        self.classes: list[str] = [model.config.id2label[number] for number in range(model.config.num_labels)]
        self.truncated = 0  # number of texts that were cut since loading

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None, **arguments: Any) -> "Classifier":
        """Load a classifier from a directory or the Hub. Only safetensors are read.

        Args:
            name: directory or Hub name.
            revision: branch, tag or commit on the Hub.
            **arguments: see `Classifier`.

        Raises:
            UserError: if there is no such model, or it is not a text classifier.
        """
        with explained(str(name)):
            there = ask_once(str(name), revision, cached=("model.safetensors", "model.safetensors.index.json"))
            if there is not None and not any(file.endswith(".safetensors") for file in there):
                # Raised before transformers loads the model, because it would have a bot on the Hub convert the
                # weights.
                raise OSError(f"no safetensors among {listed(there)}")
            config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
            if not any("SequenceClassification" in kind for kind in config.architectures or []):
                raise UserError(
                    f"{name}: expected a trained text classifier, found {config.architectures or 'a bare config'}; "
                    "use the `model` folder of a run (out/model)"
                )
            model = AutoModelForSequenceClassification.from_pretrained(
                name, revision=revision, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
            )
        return cls(model, load_tokenizer(str(name), revision), **arguments)

    def logits(self, texts: Sequence[str], tick: Tick | None = None) -> np.ndarray:
        """Logits, (N, C) float32."""
        if isinstance(texts, str):
            raise UserError("expected a list of texts, found one string; use predict([text])")
        texts = ["" if text is None else str(text) for text in texts]
        if not texts:
            return np.zeros((0, len(self.classes)), dtype=np.float32)
        columns = self.encoder(texts)
        self.truncated += sum(columns["truncated"])
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return score(self.model, rows, self.tokenizer, precision=self.precision, tick=tick)

    def predict_proba(self, texts: Sequence[str], tick: Tick | None = None) -> np.ndarray:
        """Probabilities of the classes (in the order of `classes`), (N, C). Each row sums to 1."""
        return softmax(self.logits(texts, tick))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The name of the most probable class of every text."""
        return [self.classes[number] for number in self.logits(texts).argmax(-1)]

    def threshold(self, precision: float) -> float:
        """The lowest confidence at which predictions have at least the given precision, as estimated in training.

        Raises:
            UserError: if the model has no estimate, or no threshold has this precision.
        """
        if not 0 < precision <= 1:
            raise UserError(f"target precision: expected a share above 0 and up to 1, found {precision}")
        known = getattr(self.model.config, "sstext", None) or {}
        curve = known.get("precision_curve")
        if not curve:
            cause, remedy = cause_and_remedy(known.get("nothing_held_out"))
            raise UserError(
                f"target precision: this model has no estimate of its precision, because {cause}; {remedy}, or give --dev, and "
                "train it again"
            )
        found = confidence_for(curve, precision)
        if found is None:
            best = max(share for _, share, _ in curve)
            raise UserError(
                f"target precision: expected at most {best:.3f}, the estimated precision of the most confident texts, "
                f"found {precision}"
            )
        return found

    def stream(self, texts: Iterator[Sequence[str]], tick: Tick | None = None) -> Iterator[np.ndarray]:
        """Probabilities batch by batch, for texts that do not fit in memory."""
        for batch in texts:
            yield self.predict_proba(batch, tick)
