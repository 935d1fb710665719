"""Classifier: load, predict, predict_proba, stream; scoring in batches of equal cost, shared out over processes."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from sstext.data.batching import INPUTS
from sstext.data.tokens import TextEncoder
from sstext.errors import UserError, listed
from sstext.evaluation.calibration import confidence_for, softmax
from sstext.hub.access import ask_once
from sstext.modeling.pretrained import explained, length_limit, load_tokenizer
from sstext.progress import Tick

#: Padded tokens per forward pass: enough to fill a device, and small enough for its memory (and a CPU's cache).
TOKENS_PER_BATCH = {"cpu": 4_096, "cuda": 131_072, "mps": 16_384}


def resolve_device(name: str = "auto") -> torch.device:
    """`auto`: this process's GPU where there is one, else MPS, else the CPU; any other name as torch takes it.

    Raises:
        UserError: the device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device: expected auto, cpu, cuda, cuda:N or mps, found {name!r}") from None
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing or device.type not in TOKENS_PER_BATCH:
        raise UserError(f"device: {name!r} is not available here; use --device auto")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """fp32, bf16 or fp16; `auto` is bf16 where the device multiplies bfloat16 natively, else fp32.

    A mixed precision set by `accelerate launch` is honored by `auto`.

    Raises:
        UserError: the device cannot do it.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if name == "auto" and launched in ("bf16", "fp16"):
        name = launched
    if name == "auto":
        return "bf16" if _has_native_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise UserError("precision: fp16 training wants a GPU; use --precision bf16 or fp32 on a CPU")
    return name


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(check is not None and check() for check in checks)
    return False


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Mixed precision for a forward pass (nothing at fp32)."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def plan_batches(lengths: Sequence[int] | np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """Rows in batches of at most `tokens_per_batch` padded tokens, of like lengths, longest first.

    Longest first, because memory then peaks at the start. Every row is in exactly one batch.

    >>> [batch.tolist() for batch in plan_batches([1, 9, 2, 8], 18)]
    [[1, 3], [2, 0]]
    """
    lengths = np.asarray(lengths)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


@torch.inference_mode()
def score(
    model: nn.Module,
    rows: Any,
    tokenizer: Any,
    *,
    precision: str = "fp32",
    tokens_per_batch: int | None = None,
    dropout: bool = False,
    tick: Tick | None = None,
) -> np.ndarray:
    """Logits of tokenized rows, (N, C) float32, in the order of the rows.

    Under `accelerate launch` every process scores a share, and all get the whole result.

    Args:
        model: a sequence classifier, on its device.
        rows: N rows with `input_ids` (a data set, or a list of dicts).
        tokenizer: pads.
        precision: fp32, bf16 or fp16.
        tokens_per_batch: padded tokens per forward pass; default by device.
        dropout: whether the model's dropout is on, as in training; its masks are torch's own random numbers.
        tick: told the number of rows after every batch (of this process).
    """
    state, device = PartialState(), next(model.parameters()).device
    budget = tokens_per_batch or TOKENS_PER_BATCH.get(device.type, 16_384)
    mine = np.arange(state.process_index, len(rows), state.num_processes)
    features = _features(rows, mine)
    share = math.ceil(len(rows) / state.num_processes)  # a gather wants equal shapes: shorter shares are padded
    logits = torch.zeros(share, model.config.num_labels, device=device)  # type: ignore[union-attr, arg-type]
    training = model.training
    model.train(dropout)
    for batch in plan_batches([len(feature["input_ids"]) for feature in features], budget):
        inputs = tokenizer.pad([features[row] for row in batch], return_tensors="pt").to(device)
        with autocast(device, precision):
            logits[torch.from_numpy(batch).to(device)] = model(**inputs).logits.float()
        if tick is not None:
            tick(len(batch) * state.num_processes)  # the others are about as far
    model.train(training)
    if state.num_processes > 1:
        shares = gather(logits).view(state.num_processes, share, -1)
        logits = shares.transpose(0, 1).reshape(-1, shares.shape[-1])  # row = share row × processes + process
    return logits[: len(rows)].cpu().numpy()


def _features(rows: Any, chosen: np.ndarray) -> list[dict[str, list]]:
    """The inputs of the chosen rows; a data set is read by columns, twenty times quicker than row by row."""
    if not hasattr(rows, "column_names"):
        return [{name: rows[row][name] for name in INPUTS if name in rows[row]} for row in chosen]
    names = [name for name in INPUTS if name in rows.column_names]
    columns = rows.select_columns(names)[chosen.tolist()]
    return [dict(zip(names, values, strict=True)) for values in zip(*(columns[name] for name in names), strict=True)]


class Classifier:
    """A trained classifier: texts in, class names or probabilities out.

    Predictions read a text up to the model's limit, in float32 unless asked otherwise, and are the same for a text alone and
    in any company.

    Args:
        model: a sequence classifier.
        tokenizer: its tokenizer.
        device, precision: see `resolve_device` and `resolve_precision`.
        max_length: T, tokens of a text that are read; default: as many as the model can.
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
        self.encoder = TextEncoder(tokenizer, min(max_length or limit, limit))
        self.classes: list[str] = [model.config.id2label[number] for number in range(model.config.num_labels)]
        self.truncated = 0  # texts that were longer than what is read, since loading

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None, **arguments: Any) -> "Classifier":
        """Load a classifier from a directory or the Hub (safetensors only; `revision`: branch, tag or commit).

        Raises:
            UserError: there is none, or it is no text classifier.
        """
        with explained(str(name)):
            there = ask_once(str(name), revision, cached=("model.safetensors", "model.safetensors.index.json"))
            if there is not None and not any(file.endswith(".safetensors") for file in there):
                # Said before transformers finds out, which has a bot of the Hub convert the weights.
                raise OSError(f"no safetensors among {listed(there)}")
            config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
            if not any("SequenceClassification" in kind for kind in config.architectures or []):
                raise UserError(
                    f"{name}: expected a trained text classifier, found {config.architectures or 'a bare config'}; "
                    "give the `model` folder of a run (out/model)"
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
        """Probabilities of the classes (in the order of `classes`), (N, C), rows summing to 1."""
        return softmax(self.logits(texts, tick))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable class of every text, by name."""
        return [self.classes[number] for number in self.logits(texts).argmax(-1)]

    def threshold(self, precision: float) -> float:
        """The confidence from which on predictions are right in a share `precision` of the cases, as training estimated it.

        Raises:
            UserError: it made no estimate, or no text is that sure.
        """
        if not 0 < precision <= 1:
            raise UserError(f"target_precision: expected a share above 0 and up to 1, found {precision}")
        curve = (getattr(self.model.config, "sstext", None) or {}).get("precision_curve")
        if not curve:
            raise UserError(
                "target_precision: this model knows nothing of its precision; train it with --folds or --dev"
            )
        found = confidence_for(curve, precision)
        if found is None:
            best = max(share for _, share, _ in curve)
            raise UserError(
                f"target_precision: expected at most {best:.3f}, the precision that even the surest texts are estimated at, "
                f"found {precision}"
            )
        return found

    def stream(self, texts: Iterator[Sequence[str]], tick: Tick | None = None) -> Iterator[np.ndarray]:
        """Probabilities batch by batch, for more texts than memory holds."""
        for batch in texts:
            yield self.predict_proba(batch, tick)


def calm_libraries() -> None:
    """Our own notes and progress lines replace those of the libraries (here, and not on import: they are the program's)."""
    import datasets
    import huggingface_hub
    import transformers

    huggingface_hub.utils.logging.set_verbosity_error()  # its retries; what fails in the end is said once
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
