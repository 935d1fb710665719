"""Chain: one self-training chain on disk. What a student says of the corpus decides which rows the next one is fitted on."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sstext.data.batching import Relabeled
from sstext.data.order import random_rows
from sstext.evaluation.calibration import fit_temperature
from sstext.evaluation.metrics import development_metrics
from sstext.modeling.student import new_student
from sstext.processes import is_main_process, wait_for_everyone
from sstext.pseudolabels.alignment import CalibratedScores, Probabilities
from sstext.pseudolabels.class_shares import estimated_prior, half_way_prior
from sstext.pseudolabels.selection import Scores, Selection, margin_history, select
from sstext.pseudolabels.table import PSEUDO_LABELS, read_pseudo_labels, write_pseudo_labels
from sstext.selftraining.plan import round_steps
from sstext.selftraining.stage_arguments import round_arguments
from sstext.selftraining.student_store import Fit, Students
from sstext.storage.whole import write_folder_whole, write_whole
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.fit import trained

#: Rows of the corpus that tell its class shares.
PRIOR_ROWS = 10_000


class Chain(Students):
    """Students that learn from each other: a round fits one to what the one before it says. Never from another chain's.

    Fields: see `Students`.
    """

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

    # Admit

    @property
    def last_round(self) -> int:
        """The round after which there is none: those that see labels alone, and `rounds` more; fewer, where a plan says so."""
        last = self.admission.label_rounds - 1 + self.config.rounds
        return last if self.planned_steps is None else min(last, len(self.planned_steps) - 1)

    def keep(self, index: int) -> float:
        """Share of the scored rows that round `index` may train on; the last one goes on."""
        place = index - self.admission.label_rounds
        return self.config.keep[min(place, len(self.config.keep) - 1)]

    def admit(
        self,
        index: int,
        logits: np.ndarray,
        temperature: float,
        share: float | None = None,
        history: Sequence[Probabilities] | None = None,
    ) -> Selection:
        """Choose the rows that round `index` trains on, and write them to its `pseudo_labels.parquet`.

        Args:
            index: of the round that trains on them.
            logits: (N, C) of the corpus, by the student before.
            temperature: of that student.
            share: of the corpus that may join (default: `keep`).
            history: what was said of the corpus in the rounds before (default: by the chain's own students).
        """
        admission = self.admission
        shares = self.class_shares(logits, temperature)
        prior = shares if admission.align else None
        scores = Scores(CalibratedScores(logits, temperature, prior))
        if admission.passes:
            rows, table = self.score_passes(index - 1, temperature)
            scores = Scores(CalibratedScores(table[:, :-2], 1.0, prior), rows, table[:, -2], table[:, -1])
        if admission.history:
            if history is None:
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
        """The class shares that quotas and alignment follow, (C,): `prior`, or where nobody knows them, what students predict.

        Where a probe labels first, its answers tell once and for all: they are calibrated, and of balanced labels alone; later
        students learn from labels that the shares are in already. Else half way to what the last student predicts.

        Args:
            logits, temperature: (N, C) of the last student.
        """
        if not self.estimates_prior:
            return self.prior
        if not self.admission.probe:
            return half_way_prior(self.prior, CalibratedScores(logits, temperature).mean())
        first = self.score(self.admission.label_rounds - 1)
        some = random_rows(len(first), min(len(first), PRIOR_ROWS), self.config.seed)
        return estimated_prior(self.prior, CalibratedScores(first, 1.0)[some])

    def admitted(self, index: int) -> Selection | None:
        """The rows that round `index` trains on, as they were written; None in a round that sees labels alone."""
        if index < self.admission.label_rounds:
            return None
        return read_pseudo_labels(self.directory.round(index) / PSEUDO_LABELS, self.texts.classes)
