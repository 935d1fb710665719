"""Chain: one self-training chain on disk, and the three things that it does in a round: fit, score, admit."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from sstext.arguments import round_admission, round_arguments, round_steps
from sstext.calibration import CalibratedScores, fit_temperature
from sstext.config import RunConfig
from sstext.data.batching import Relabeled, random_rows
from sstext.data.preparing import Texts, Tokens
from sstext.fitting import trained
from sstext.inference import (
    from_main_process,
    is_main_process,
    resolve_device,
    resolve_precision,
    score,
    wait_for_everyone,
)
from sstext.model_selection import development_metrics
from sstext.objective.admission import Admission
from sstext.probe import with_probe
from sstext.progress import Reporter
from sstext.pseudo_labels import PSEUDO_LABELS, read_pseudo_labels, write_pseudo_labels
from sstext.run_directory import RunDirectory, write_array_whole, write_folder_whole, write_whole
from sstext.scoring import score_passes_to_disk, score_to_disk
from sstext.selection import Scores, Selection, estimated_prior, margin_history, select
from sstext.student import new_student
from sstext.training_arguments import SemiSupervisedTrainingArguments

#: Rows of the corpus on which a head is made as sure as the probe beside it.
PROBED_ROWS = 256


@dataclass(frozen=True)
class Fit:
    """What one training brought.

    Attributes:
        steps: optimizer steps.
        temperature: fitted on the development rows; without any, that at which the student agrees best with a probe, where the
            method has one (`sstext.probe`), else 1.
        metrics: figures on the development rows, empty without any.
    """

    steps: int
    temperature: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Chain:
    """A run's data, options and folder. Rounds of a chain learn from its own models only.

    Attributes:
        prior: (C,) class shares of the corpus as far as labels and options tell (see `class_shares`).
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

    # Fit

    def fit(self, index: int, admitted: Selection | None) -> Fit:
        """Train the student of a round on the labeled rows and the admitted ones, to `round_<index>/model`.

        Continues from the newest whole checkpoint where there is one.

        Raises:
            KeyboardInterrupt: the training was stopped by a signal, after writing a checkpoint.
        """
        folder = self.directory.round(index)
        if not (folder / "fit.json").exists():
            self._train(index, admitted, folder)
            wait_for_everyone()
        fit = self.fitted(index)
        self.reporter.trained(fit.steps)
        return fit

    def fitted(self, index: int) -> Fit:
        """What the training of a finished round brought."""
        return Fit(**json.loads((self.directory.round(index) / "fit.json").read_text(encoding="utf-8")))

    def _train(self, index: int, admitted: Selection | None, folder: Path) -> None:
        checkpoints = folder / "checkpoints"
        trainer = trained(
            self.student(index),
            self.training_arguments(index, admitted, checkpoints),
            self.tokens,
            self.tokenizer,
            pseudo_labeled=self._pseudo_labeled(admitted),
            patience=self.config.patience,
            reporter=self.reporter,
            name=self.phase(index, "training"),
            group=f"chain_{self.number}" if self.number else "train",
        )
        if is_main_process():
            write_folder_whole(folder / "model", lambda path: self.save(trainer.student, path))
            history = [json.dumps(entry) for entry in trainer.state.log_history]
            write_whole(folder / "log.jsonl", "\n".join(history) + "\n")
        trainer.accelerator.free_memory()  # its state is one for the whole process: the next round needs the memory
        wait_for_everyone()
        temperature, metrics = self._calibrated(index)
        if is_main_process():
            fit = {"steps": trainer.state.global_step, "temperature": temperature, "metrics": metrics}
            write_whole(folder / "fit.json", json.dumps(fit))
            shutil.rmtree(checkpoints, ignore_errors=True)

    def student(self, index: int) -> Any:
        """The student of a round before its training: the encoder with a new head, or the previous round's (`start`)."""
        config = self.config
        goes_on = config.start == "previous" and index >= self.admission.label_rounds
        return new_student(
            str(self.directory.round(index - 1) / "model") if goes_on else str(config.encoder),
            self.texts.classes,
            keep_head=goes_on,
            seed=self.seed(index),
            revision=None if goes_on else config.revision,
            dropout=config.dropout,
            freeze_embeddings=config.freeze_embeddings,
            freeze_layers=config.freeze_layers,
        )

    def seed(self, index: int) -> int:
        """Seed of a round: head, dropout, order and edits differ between the rounds of a run, and between its chains."""
        return (self.config.seed + 1_000_003 * index + 15_485_863 * self.number) % 2**32

    def steps(self, index: int, admitted: int) -> int:
        """Optimizer steps of a round that trains on `admitted` pseudo-labeled rows."""
        if self.planned_steps is not None:
            usual = round_steps(self.config, index, labeled=len(self.tokens.labeled), admitted=admitted)
            return min(self.planned_steps[index], usual)
        return round_steps(self.config, index, labeled=len(self.tokens.labeled), admitted=admitted)

    def training_arguments(
        self, index: int, admitted: Selection | None, output: Path
    ) -> SemiSupervisedTrainingArguments:
        """The arguments of a round's `SemiSupervisedTrainer`."""
        return round_arguments(
            self.config,
            index,
            steps=self.steps(index, len(admitted) if admitted is not None else 0),
            seed=self.seed(index),
            max_length=self.tokens.max_length,
            has_development_rows=self.tokens.dev is not None,
            output=output,
        )

    def _pseudo_labeled(self, admitted: Selection | None) -> Any:
        if admitted is None:
            return None
        labels = admitted.labels if admitted.targets is None else admitted.targets
        return Relabeled(self.tokens.corpus, admitted.rows, labels, admitted.weight)

    def save(self, model: Any, path: Path) -> None:
        """Write a model and its tokenizer as plain transformers loads them, without a pickle."""
        model.save_pretrained(path, safe_serialization=True)
        self.tokenizer.save_pretrained(path)

    def load(self, index: int) -> Any:
        """The student of a finished round, on its device."""
        folder = self.directory.round(index) / "model"
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        return model.to(resolve_device(self.config.device))

    def _calibrated(self, index: int) -> tuple[float, dict[str, float]]:
        """Temperature and figures of a round's student, see `Fit`, in float32 as it is shipped."""
        if self.tokens.dev is None:
            return self._with_probe(self.load(index)).temperature if self.has_probe else 1.0, {}
        logits = self.score_development_rows(index)
        labels = np.asarray(self.tokens.dev["labels"][:])
        if (logits.argmax(-1) == labels).all():
            return 1.0, development_metrics(logits, labels)  # without a mistake, nothing says how sure to be
        temperature = fit_temperature(logits, labels)
        return temperature, development_metrics(logits, labels)

    # Score

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

    # Admit

    @property
    def admission(self) -> Admission:
        """What decides which rows are admitted."""
        return round_admission(self.config)

    @property
    def last_round(self) -> int:
        """The round after which there is none: those that see labels alone, and `rounds` more; fewer, where a plan says so."""
        last = self.admission.label_rounds - 1 + self.config.rounds
        return last if self.planned_steps is None else min(last, len(self.planned_steps) - 1)

    def keep(self, index: int) -> float:
        """Share of the scored rows that round `index` may train on; the last one goes on."""
        place = index - self.admission.label_rounds
        return self.config.keep[min(place, len(self.config.keep) - 1)]

    def admit(self, index: int, logits: np.ndarray, temperature: float, share: float | None = None) -> Selection:
        """Choose the rows that round `index` trains on, and write them to its `pseudo_labels.parquet`.

        Args:
            index: of the round that trains on them.
            logits: (N, C) of the corpus, by the student before.
            temperature: of that student.
            share: of the corpus that may join (default: `keep`).
        """
        admission = self.admission
        shares = self.class_shares(logits, temperature)
        prior = shares if admission.align else None
        scores = Scores(CalibratedScores(logits, temperature, prior))
        if admission.passes:
            rows, table = self.score_passes(index - 1, temperature)
            scores = Scores(CalibratedScores(table[:, :-2], 1.0, prior), rows, table[:, -2], table[:, -1])
        if admission.history:
            earlier = range(admission.label_rounds - 1, index - 1)
            history = [CalibratedScores(self.score(r), self.score_temperature(r), prior) for r in earlier]
            scores = replace(scores, margin=margin_history([*history, scores.probs]))
        admitted = select(
            scores,
            admission,
            share=self.keep(index) if share is None else share,
            prior=shares,
            min_confidence=self.config.min_confidence,
            seed=self.seed(index),
        )
        if is_main_process():
            ids = self.tokens.corpus.data.column("row").take(admitted.rows).combine_chunks()
            path = self.directory.round(index) / PSEUDO_LABELS
            write_pseudo_labels(path, admitted, ids=ids, classes=self.texts.classes, index=index)
        wait_for_everyone()
        return admitted

    def class_shares(self, logits: np.ndarray, temperature: float) -> np.ndarray:
        """The class shares that quotas and alignment follow, (C,): `prior`, or where nobody knows them, half way to what the
        last student predicts for the corpus."""
        if not self.estimates_prior:
            return self.prior
        return estimated_prior(self.prior, CalibratedScores(logits, temperature).mean())

    def admitted(self, index: int) -> Selection | None:
        """The rows that round `index` trains on, as they were written; None in a round that sees labels alone."""
        if index < self.admission.label_rounds:
            return None
        return read_pseudo_labels(self.directory.round(index) / PSEUDO_LABELS, self.texts.classes)
