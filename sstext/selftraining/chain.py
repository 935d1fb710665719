"""Chain: one line of teachers and students. The predictions of each student select the pseudo-labels of the next one."""

import gc
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import concatenate_datasets
from torch import Tensor

from sstext.config.run_config import RunConfig
from sstext.data.batching import Relabeled
from sstext.data.preparing import Texts, Tokens
from sstext.evaluation.calibration import fit_temperature
from sstext.evaluation.metrics import development_metrics
from sstext.hub.foreign import drop_code
from sstext.inference.devices import resolve_device
from sstext.methods.method import Stage
from sstext.modeling.finite import refuse_bad_weights
from sstext.modeling.pretrained import save_tokenizer, split_revision
from sstext.modeling.student import new_student
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.profiling import SAVING, section
from sstext.progress import Reporter
from sstext.pseudolabels.alignment import CalibratedScores, CorpusScores, Probabilities
from sstext.pseudolabels.class_shares import ClassShares
from sstext.pseudolabels.class_texts import WeighedClassTexts
from sstext.pseudolabels.embeddings import Embeddings
from sstext.pseudolabels.probe import with_descriptions, with_regression
from sstext.pseudolabels.selection import Scores, Selection, margin_history, select
from sstext.pseudolabels.table import read_pseudo_labels, write_pseudo_labels
from sstext.selftraining.plan import Plan
from sstext.selftraining.reuse import copy_if_whole, key_of_scores, key_of_training, same_training
from sstext.selftraining.student_store import SCORED_ONCE, Fit, StudentStore
from sstext.storage.mapped import give_back
from sstext.storage.run_folder import CHECKPOINTS, FIT, LOG, MODEL, PSEUDO_LABELS, RunDirectory
from sstext.storage.whole import write_folder_whole, write_whole
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.fit import train_student, without_times
from sstext.training.stage_arguments import patience_of, stage_arguments


@dataclass(frozen=True)
class Chain:
    """One chain of a run: its data, its plan and its folder. It never learns from the pseudo-labels of another chain.

    Attributes:
        config: the options of the run.
        plan: its stages.
        texts: the data of the run, as read.
        tokens: its labeled rows, the corpus and the development rows.
        tokenizer: the tokenizer of the encoder.
        shares: class shares of the corpus, as known from its labels and the options.
        directory: its folder.
        reporter: shows progress.
        held_out: tokenized labeled rows that it never learns from, or None.
        number: from 1 with folds; 0 for the chain with all labels.
        class_texts: names or descriptions of the classes, weighed by its own labels; None: there are none.
        reading: what the labels prefer, the mean or the first token. None: nothing was compared, and heads read the mean.
        earlier: folder of a finished run. A training that was the same there is taken from it (`reuse`). None: nothing is.
    """

    config: RunConfig
    plan: Plan
    texts: Texts
    tokens: Tokens
    tokenizer: Any
    shares: ClassShares
    directory: RunDirectory
    reporter: Reporter
    held_out: Any = None
    number: int = 0
    class_texts: WeighedClassTexts | None = None
    reading: str | None = None
    earlier: Path | None = None

    @property
    def students(self) -> StudentStore:
        """Its students on disk."""
        return StudentStore(
            self.config, self.plan, self.tokens, self.tokenizer, self.directory, self.reporter, self.held_out, self.number,
            self.class_texts, self.embeddings,
        )  # fmt: skip

    @property
    def embeddings(self) -> Embeddings:
        """Embeddings by the encoder as it was pretrained, which all chains of the run share, and those of the earlier run."""
        own, earlier = RunDirectory(str(self.config.output)), self.earlier
        return Embeddings(own.embeddings, also=RunDirectory(earlier).embeddings if earlier is not None else None)

    # Train

    def fit(self, stage: Stage) -> Fit:
        """Train the student of a stage on the labeled rows and its pseudo-labels, and write it to the folder of the stage.

        Training continues from the newest whole checkpoint, if there is one.

        Raises:
            KeyboardInterrupt: the training was stopped by a signal, after writing a checkpoint.
        """
        if not self.students.is_fitted(stage):
            self._train(stage)
            gc.collect()  # a trainer is part of cycles, and holds the pseudo-labels
            wait_for_everyone()
        elif is_main_process():  # a kill may have left its checkpoints
            shutil.rmtree(self.students.folder(stage) / CHECKPOINTS, ignore_errors=True)
        fit = self.students.fitted(stage)
        self.reporter.trained(fit.steps)
        return fit

    def _train(self, stage: Stage) -> None:
        student, selected = self.student(stage), self.selected(stage)
        key = key_of_training(self, stage, selected, student)
        if self._take_over(stage, key):
            return None
        if stage.frozen:
            return self._fit_regression(stage, student, key)
        folder = self.students.folder(stage)
        checkpoints = folder / CHECKPOINTS
        trainer = train_student(
            self._with_regression(student) if stage.regression_head else student,
            self.training_arguments(stage, selected, checkpoints),
            self.rows_of(stage),
            self.tokenizer,
            objective=stage.objective(),
            pseudo_labeled=None
            if selected is None
            else Relabeled(self.tokens.corpus, selected.rows, selected.taught, selected.weight),
            patience=patience_of(self.config),
            reporter=self.reporter,
            name=self.students.phase(stage, "training"),
            group=f"chain_{self.number}" if self.number else "train",
        )
        weights = trainer.whole_weights()  # all processes give theirs
        if is_main_process():
            self.write_model(trainer.student, folder / MODEL, weights)
            history = [json.dumps(entry) for entry in without_times(trainer.state.log_history)]
            write_whole(folder / LOG, "\n".join(history) + "\n")
        # The accelerator keeps its state for the whole process, and the next stage needs the memory.
        trainer.accelerator.free_memory()
        wait_for_everyone()
        self._finish(stage, key, trainer.state.global_step, trainer.skipped_steps.total)

    def _fit_regression(self, stage: Stage, student: Any, key: str) -> None:
        """Make the student of a stage without steps: a regression on the encoder as it was pretrained."""
        model = self._with_regression(student)
        if is_main_process():
            self.write_model(model, self.students.folder(stage) / MODEL)
        wait_for_everyone()
        self._finish(stage, key, steps=0, skipped_steps=0)

    def _finish(self, stage: Stage, key: str, steps: int, skipped_steps: int) -> None:
        """Calibrate a student that is trained and written, and keep the result of its training."""
        temperature, metrics = self._calibrate(stage)
        if is_main_process():
            fit = Fit(steps, temperature, metrics, skipped_steps, key, key_of_scores(self, stage, key))
            write_whole(self.students.folder(stage) / FIT, json.dumps(asdict(fit)))
            shutil.rmtree(self.students.folder(stage) / CHECKPOINTS, ignore_errors=True)

    def _take_over(self, stage: Stage, key: str) -> bool:
        """Take the student of a stage from the earlier run, if its training there was the same. Returns whether it was."""
        if self.earlier is None:
            return False
        found = from_main_process(same_training(self.earlier, key) if is_main_process() else None)
        if found is None:
            return False
        folder = self.students.folder(stage)
        fit = StudentStore.read_fit(found)
        same_rows = fit.scores_hash == key_of_scores(self, stage, key)
        if is_main_process():
            copy_if_whole(found, folder, (MODEL, LOG))
        wait_for_everyone()
        if not same_rows:
            self._finish(stage, key, fit.steps, fit.skipped_steps)
        elif is_main_process():
            write_whole(folder / FIT, json.dumps(asdict(fit)))
            # Last, so that predictions are never beside a student that is trained anew.
            copy_if_whole(found, folder, SCORED_ONCE)
        wait_for_everyone()
        name = self.students.phase(stage, "training")
        self.reporter.note(f"{name}: taken from {self.earlier.name}, because nothing that it depends on has changed")
        return True

    def _with_regression(self, student: Any) -> Any:
        """A student whose head is a regression on the labeled rows and the texts of the classes.

        Without labels, its head is the zero-shot classifier of the descriptions.
        """
        if self.texts.zero_shot:
            student = student.to(resolve_device(self.config.device))
            with_descriptions(student, self.tokens.labeled, self.tokenizer, kept=self.embeddings)
            return student
        told = self.class_texts
        beside, weight = (told.tokens, told.weight) if told is not None else (None, 0.0)
        student = student.to(resolve_device(self.config.device))
        with_regression(
            student, self.tokens.labeled, self.tokenizer, class_texts=beside, weight=weight, kept=self.embeddings
        )
        return student

    def rows_of(self, stage: Stage) -> Tokens:
        """The rows that a stage trains on. Where it reads the texts of the classes, they are labeled rows beside the others."""
        told = self.class_texts
        if not stage.reads_class_texts or told is None or not told.weight:
            return self.tokens
        both = [self.tokens.labeled, told.as_rows(len(self.tokens.labeled))]
        names = ["input_ids", "labels"]
        return replace(self.tokens, labeled=concatenate_datasets([rows.select_columns(names) for rows in both]))

    def student(self, stage: Stage) -> Any:
        """The student of a stage before its training: the encoder with a new head, or the student of another stage."""
        config, before = self.config, stage.starts_from
        name, revision = split_revision(str(config.encoder))
        return new_student(
            name if before is None else str(self.directory.stage(before) / MODEL),
            self.texts.classes,
            keep_head=before is not None,
            seed=self.students.seed(stage),
            revision=revision if before is None else None,
            dropout=config.dropout,
            freeze_embeddings="embeddings" in config.freeze,
            freeze_layers=config.frozen_layers,
            reading=stage.reading(config.pooling, self.reading),
            prefix=str(config.prefix or ""),
            model_args=config.model_args,
        )

    def steps(self, stage: Stage, selected: int) -> int:
        """Optimizer steps of a stage that trains on `selected` pseudo-labeled rows."""
        return stage.schedule.steps(len(self.tokens.labeled) if stage.selection is None else selected)

    def training_arguments(
        self, stage: Stage, selected: Selection | None, output: Path
    ) -> SemiSupervisedTrainingArguments:
        """The arguments of the trainer of a stage."""
        return stage_arguments(
            self.config,
            stage,
            steps=self.steps(stage, len(selected) if selected is not None else 0),
            seed=self.students.seed(stage),
            max_length=self.tokens.max_length,
            has_development_rows=self.tokens.dev is not None,
            output=output,
        )

    def save(self, model: Any, path: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write a model and its tokenizer in the format of transformers, without a pickle."""
        model.save_pretrained(path, safe_serialization=True, state_dict=weights)
        save_tokenizer(self.tokenizer, path)
        drop_code(path)

    def write_model(self, model: Any, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write a model and its tokenizer to a folder, whole or not at all.

        Args:
            weights: all of its weights, if the model itself has only a part of them. Default: those of the model.

        Raises:
            UserError: the model has weights that are not finite.
        """
        refuse_bad_weights(model, str(folder), weights)
        with section(SAVING):
            write_folder_whole(folder, lambda path: self.save(model, path, weights))

    def _calibrate(self, stage: Stage) -> tuple[float, dict[str, float]]:
        """Temperature and metrics of the student of a stage, see `Fit`. They are computed in float32, as the model predicts."""
        students = self.students
        if self.tokens.dev is None:
            probed = students.has_probe and not stage.frozen  # a regression is as confident as a probe
            return students.with_probe(students.load(stage)).temperature if probed else 1.0, {}
        logits = students.score_development_rows(stage)
        labels = np.asarray(self.tokens.dev["labels"][:])
        if (logits.argmax(-1) == labels).all():
            return 1.0, development_metrics(logits, labels)  # without a mistake, no temperature can be fitted
        temperature = fit_temperature(logits, labels)
        return temperature, development_metrics(logits, labels)

    # Select

    def select(self, stage: Stage) -> Selection:
        """Select the pseudo-labels of a stage, from the scores of the student that it learns from, and save them."""
        teacher = self.plan.named(str(stage.learns_from))
        return self.select_from(stage, self.students.scores(teacher), keep=stage.keep, teacher=teacher)

    def select_from(
        self,
        stage: Stage,
        scores: CorpusScores,
        *,
        keep: float,
        teacher: Stage | None = None,
        history: Sequence[Probabilities] | None = None,
    ) -> Selection:
        """Select the pseudo-labels that a stage trains on, and save them in its folder.

        Args:
            stage: the stage that learns from them.
            scores: scores of the corpus.
            keep: share of the corpus that may be selected.
            teacher: the stage whose student made the scores, if it is a student of this chain.
            history: probabilities of the corpus in earlier rounds. Default: those of the chain's own students.
        """
        admission = stage.selection
        assert admission is not None, f"{stage.name} has no pseudo-labels"
        shares = self.class_shares(scores)
        prior = shares if admission.align else None
        candidates = Scores(scores.aligned(prior))
        if admission.passes and teacher is not None:
            rows, table = self.students.score_passes(teacher, admission, scores.temperature)
            candidates = Scores(CalibratedScores(table[:, :-2], 1.0, prior), rows, table[:, -2], table[:, -1])
        if admission.history:
            if history is None and teacher is not None:
                earlier = self.plan.teachers(teacher)[:-1]
                history = [self.students.scores(before).aligned(prior) for before in earlier]
            candidates = replace(candidates, margin=margin_history([*(history or []), candidates.probs]))
        selected = select(candidates, admission, share=keep, prior=shares, seed=self.students.seed(stage))
        give_back(scores.logits)
        if is_main_process():
            path, corpus = self.students.folder(stage) / PSEUDO_LABELS, self.tokens.corpus
            write_pseudo_labels(path, selected, corpus=corpus, classes=self.texts.classes, index=stage.position)
        wait_for_everyone()
        return selected

    def class_shares(self, scores: CorpusScores) -> np.ndarray:
        """The class shares that quotas and alignment follow, (C,).

        With a probe, they are estimated once, from the first teacher. Later students were trained on labels that are already
        shifted to these shares, so their predictions are not fresh evidence. Where there are no later teachers, the scores
        themselves are read. If the labels are not balanced, a frozen regression is read, because it alone weighs rare classes.

        Args:
            scores: scores of the last teacher.
        """
        first, students = self.plan.teacher, self.students
        if self.shares.source == "both" and self.plan.baseline.frozen:
            scores = students.sample_scores(self.plan.baseline)
        elif self.shares.estimated and first.with_probe and not self.plan.teaches_once and students.is_fitted(first):
            scores = students.scores(first)
        return self.shares.of_corpus(scores, self.config.seed)

    def selected(self, stage: Stage) -> Selection | None:
        """The saved pseudo-labels that a stage trains on, or None if it has none."""
        if stage.selection is None:
            return None
        return read_pseudo_labels(self.students.folder(stage) / PSEUDO_LABELS, self.texts.classes)
