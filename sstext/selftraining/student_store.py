"""The students of a chain, on disk: what each has been trained to, and what it says of texts."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from sstext.config.run_config import RunConfig
from sstext.data.order import random_rows
from sstext.data.preparing import Texts, Tokens
from sstext.inference.corpus_scores import score_passes_to_disk, score_to_disk
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import Reporter
from sstext.pseudolabels.admission import Admission
from sstext.pseudolabels.probe import with_probe
from sstext.selftraining.plan import round_admission
from sstext.storage.run_folder import RunDirectory
from sstext.storage.whole import write_array_whole

#: Rows of the corpus on which a head is made as sure as the probe beside it.
PROBED_ROWS = 256


@dataclass(frozen=True)
class Fit:
    """What one training brought.

    Attributes:
        steps: optimizer steps.
        temperature: fitted on the development rows; without any, that at which the student agrees best with a probe, where the
            method has one (`sstext.pseudolabels.probe`), else 1.
        metrics: figures on the development rows, empty without any.
    """

    steps: int
    temperature: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Students:
    """A run's data, options and folder, and the students that the rounds of a chain have left there.

    Attributes:
        prior: (C,) class shares of the corpus as far as labels and options tell (see `Chain.class_shares`).
        held_out: tokenized labeled rows that it never learns from, where it is one of several that are cross-fitted.
        number: which of them it is, from 1; 0 where it has all labels.
        planned_steps: optimizer steps by round at most, where a budget sets them.
        estimates_prior: whether nobody knows the class shares of the corpus, so that predictions are asked.
    """

    config: RunConfig
    texts: Texts
    tokens: Tokens
    tokenizer: Any
    prior: np.ndarray
    directory: RunDirectory
    reporter: Reporter
    held_out: Any = None
    number: int = 0
    planned_steps: tuple[int, ...] | None = None
    estimates_prior: bool = False

    def phase(self, index: int, what: str) -> str:
        """How something that it does in a round is called where progress is shown."""
        return f"{f'chain {self.number}, ' if self.number else ''}round {index}: {what}"

    def fitted(self, index: int) -> Fit:
        """What the training of a finished round brought."""
        return Fit(**json.loads((self.directory.round(index) / "fit.json").read_text(encoding="utf-8")))

    def seed(self, index: int) -> int:
        """Seed of a round: head, dropout, order and edits differ between the rounds of a run, and between its chains."""
        return (self.config.seed + 1_000_003 * index + 15_485_863 * self.number) % 2**32

    def load(self, index: int) -> Any:
        """The student of a finished round, on its device."""
        folder = self.directory.round(index) / "model"
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        return model.to(resolve_device(self.config.device))

    @property
    def admission(self) -> Admission:
        """What decides which rows are admitted."""
        return round_admission(self.config)

    def score_development_rows(self, index: int) -> np.ndarray:
        """Logits of the development rows by the student of a round, as `score_held_out` gives those of the held-out ones.

        Kept in `round_<index>/dev.npy`.
        """
        return self._score_as_shipped(index, self.tokens.dev, "dev.npy")

    def score(self, index: int) -> np.ndarray:
        """Logits of the corpus by the student of a round, (N, C), kept in `round_<index>/scores.npy`.

        Where a method's own objective has seen labels alone, a probe labels together with the head.
        """
        config, device = self.config, resolve_device(self.config.device)
        folder = self.directory.round(index)
        if (folder / "scores.npy").exists():
            return np.load(folder / "scores.npy", mmap_mode="r", allow_pickle=False)
        precision = resolve_precision(config.precision, device)
        with self.reporter.phase(self.phase(index, "scoring"), len(self.tokens.corpus), "text") as tick:
            model = self.load(index)
            if self.labels_with_probe(index):
                model = self._with_probe(model, precision)
            return score_to_disk(model, self.tokens.corpus, self.tokenizer, folder, precision=precision, tick=tick)

    def sample_scores(self, index: int, rows: np.ndarray) -> np.ndarray:
        """Logits of some rows of the corpus, (n, C): of its whole scores where a round teaches, else kept in `sample.npy`.

        A round before the method's own ones teaches nobody: a few rows tell whether it has collapsed.
        """
        if index >= self.admission.label_rounds - 1:
            return self.score(index)[rows]
        file = self.directory.round(index) / "sample.npy"
        if not from_main_process(file.exists()):
            precision = resolve_precision(self.config.precision, resolve_device(self.config.device))
            logits = score(self.load(index), self.tokens.corpus.select(rows), self.tokenizer, precision=precision)
            if is_main_process():
                write_array_whole(file, logits)
            wait_for_everyone()
        return np.load(file, allow_pickle=False)

    @property
    def has_probe(self) -> bool:
        """Whether a probe says how sure a student may be, for which it takes a corpus."""
        return self.admission.probe and self.tokens.corpus is not None

    def labels_with_probe(self, index: int) -> bool:
        """Whether the scores of a round are those of head and probe, which are tempered already."""
        return self.admission.probe and index == self.admission.label_rounds - 1

    def _with_probe(self, model: Any, precision: str = "fp32") -> Any:
        corpus = self.tokens.corpus
        some = corpus.select(random_rows(len(corpus), min(len(corpus), PROBED_ROWS), self.config.seed))
        return with_probe(model, self.tokens.labeled, some, self.tokenizer, precision=precision)

    def score_temperature(self, index: int) -> float:
        """What the chain itself knows of how sure its scores of a finished round may be."""
        return 1.0 if self.labels_with_probe(index) else self.fitted(index).temperature

    def score_held_out(self, index: int) -> np.ndarray:
        """Logits of the held-out rows by the student of a round, in float32 as it would be shipped, (n, C).

        Kept in `round_<index>/held_out.npy`.
        """
        return self._score_as_shipped(index, self.held_out, "held_out.npy")

    def _score_as_shipped(self, index: int, rows: Any, name: str, probe: bool = False) -> np.ndarray:
        file = self.directory.round(index) / name
        if not from_main_process(file.exists()):
            model = self.load(index)
            logits = score(self._with_probe(model) if probe else model, rows, self.tokenizer)
            if is_main_process():
                write_array_whole(file, logits)
            wait_for_everyone()
        return np.load(file, allow_pickle=False)

    def score_held_out_with_probe(self, index: int) -> np.ndarray:
        """Logits of the held-out rows by head and probe together (see `labels_with_probe`), (n, C).

        Kept in `round_<index>/held_out_probe.npy`.
        """
        return self._score_as_shipped(index, self.held_out, "held_out_probe.npy", probe=True)

    def score_passes(self, index: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows (M,) of the corpus, and what dropout passes by the student of a round say of them, (M, C + 2).

        Kept in `round_<index>/passes.npy`, in the columns of `summarize_passes`.
        """
        admission, corpus, folder = self.admission, self.tokens.corpus, self.directory.round(index)
        count, seed = admission.scored_rows(len(corpus)), self.seed(index)
        rows = random_rows(len(corpus), count, seed)
        if (folder / "passes.npy").exists():
            return rows, np.load(folder / "passes.npy", mmap_mode="r", allow_pickle=False)
        precision = resolve_precision(self.config.precision, resolve_device(self.config.device))
        with self.reporter.phase(self.phase(index, "dropout passes"), count * admission.passes, "text") as tick:
            table = score_passes_to_disk(
                self.load(index), corpus.select(rows), self.tokenizer, folder / "passes.npy", passes=admission.passes,
                seed=seed, temperature=temperature, precision=precision, tick=tick,
            )  # fmt: skip
        return rows, table
