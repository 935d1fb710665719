"""The students of a chain on disk: the results of their trainings, and their predictions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from sstext.config.run_config import RunConfig
from sstext.data.order import random_rows
from sstext.data.preparing import Tokens
from sstext.inference.corpus_scores import score_passes_to_disk, score_to_disk
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.methods.method import Stage
from sstext.modeling.finite import refuse_bad_weights
from sstext.modeling.reading import hold_reading, read_linear
from sstext.modeling.student import ATTENTION
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import Reporter
from sstext.pseudolabels.admission import Admission
from sstext.pseudolabels.alignment import CorpusScores
from sstext.pseudolabels.class_texts import WeighedClassTexts
from sstext.pseudolabels.embeddings import NOT_KEPT, Embeddings
from sstext.pseudolabels.probe import regression_logits, with_probe
from sstext.selftraining.plan import Plan
from sstext.storage.damage import read_array, reading
from sstext.storage.run_folder import (
    DEV_SCORES,
    FIT,
    HELD_OUT_SCORES,
    HELD_OUT_SCORES_WITH_PROBE,
    MODEL,
    PASSES,
    SAMPLE_SCORES,
    SCORES,
    RunDirectory,
)
from sstext.storage.whole import write_array_whole

#: Rows of the corpus on which students are compared: their class shares, and whether they agree.
EVIDENCE_ROWS = 512
#: Rows of the corpus on which the temperature of a head is fitted to the probe.
PROBED_ROWS = 256
#: In the folder of a stage: predictions that depend only on its student and on the rows. A sample depends on other stages, too.
SCORED_ONCE = (SCORES, HELD_OUT_SCORES, HELD_OUT_SCORES_WITH_PROBE, DEV_SCORES)


@dataclass(frozen=True)
class Fit:
    """The result of one training.

    Attributes:
        steps: number of optimizer steps.
        temperature: softmax temperature. It is fitted on development rows if there are any. Otherwise, it makes the student as
            confident as the probe. Without a probe, it is 1.
        metrics: metrics on the development rows. Empty without development rows.
        skipped_steps: number of steps that were skipped, because their loss or gradients were not finite.
        training_hash, scores_hash: of all that the training and the predictions of the student depend on, see
            `sstext.selftraining.reuse`. Empty in runs of earlier versions.
    """

    steps: int
    temperature: float
    metrics: dict[str, float]
    skipped_steps: int = 0
    training_hash: str = ""
    scores_hash: str = ""


@dataclass(frozen=True)
class StudentStore:
    """The students of the finished stages of a chain, in its folder.

    Attributes:
        config, plan: options and plan of the run.
        tokens: labeled rows of the chain, the corpus and the development rows.
        tokenizer: the tokenizer of the encoder.
        directory: the folder of the chain.
        reporter: shows progress.
        held_out: tokenized labeled rows that the chain never learns from, or None.
        number: of the chain, from 1; 0 for the chain with all labels.
        class_texts: names or descriptions of the classes, or None.
        embeddings: by the encoder as it was pretrained.
    """

    config: RunConfig
    plan: Plan
    tokens: Tokens
    tokenizer: Any
    directory: RunDirectory
    reporter: Reporter
    held_out: Any = None
    number: int = 0
    class_texts: WeighedClassTexts | None = None
    embeddings: Embeddings = NOT_KEPT

    # On disk

    def folder(self, stage: Stage) -> Path:
        """The folder of a stage."""
        return self.directory.stage(stage.name)

    def phase(self, stage: Stage, what: str) -> str:
        """The name of a phase in progress lines."""
        return f"{f'chain {self.number}, ' if self.number else ''}{stage.name}: {what}"

    def seed(self, stage: Stage) -> int:
        """Seed of a stage. Head, dropout, order and edits differ between the stages of a run, and between its chains.

        Plain fine-tuning is the same whether it is a stage or is only measured beside the model.
        """
        plain = self.plan.method.plain
        position = plain.position if plain is not None and stage.name == plain.name else stage.position
        return (self.config.seed + 1_000_003 * position + 15_485_863 * self.number) % 2**32

    def is_fitted(self, stage: Stage) -> bool:
        """Whether the training of a stage is finished."""
        return (self.folder(stage) / FIT).exists()

    def fitted(self, stage: Stage) -> Fit:
        """The result of the training of a finished stage."""
        return self.read_fit(self.folder(stage))

    @staticmethod
    def read_fit(folder: Path) -> Fit:
        """The result of the training whose student is in a folder."""
        with reading(folder / FIT):
            return Fit(**json.loads((folder / FIT).read_text(encoding="utf-8")))

    def load(self, stage: Stage) -> Any:
        """The student of a finished stage, on its device."""
        folder = self.folder(stage) / MODEL
        with reading(folder):
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, attn_implementation=self.config.model_args.get(ATTENTION)
            )
        refuse_bad_weights(model, str(folder))
        hold_reading(model)  # without dropout in dropout passes too
        return model.to(resolve_device(self.config.device))

    # The corpus

    def scores(self, stage: Stage) -> CorpusScores:
        """Scores of the corpus by the student of a stage, with its probe if it has one. They are kept in `scores.npy`."""
        temperature = 1.0 if stage.with_probe else self.fitted(stage).temperature
        return CorpusScores(self._corpus_logits(stage), temperature, stage.with_probe)

    def scores_all(self, stage: Stage) -> bool:
        """Whether the student of a stage scores the whole corpus in any case, and not only a sample."""
        return stage.with_probe or self.plan.labels_corpus(stage)

    def _corpus_logits(self, stage: Stage) -> np.ndarray:
        folder = self.folder(stage)
        if (folder / SCORES).exists():
            return read_array(folder / SCORES, mapped=True)
        precision = self.precision
        with self.reporter.phase(self.phase(stage, "scoring"), len(self.tokens.corpus), "text") as tick:
            model = self.load(stage)
            if stage.with_probe:
                model = self.with_probe(model, precision)
            return score_to_disk(model, self.tokens.corpus, self.tokenizer, folder, precision=precision, tick=tick)

    @property
    def sample(self) -> np.ndarray:
        """The rows of the corpus on which students are compared, (n,)."""
        size = len(self.tokens.corpus)
        return random_rows(size, min(size, EVIDENCE_ROWS), self.config.seed)

    def sample_logits(self, stage: Stage) -> np.ndarray:
        """Logits for the sample of the corpus, (n, C).

        If all rows are scored anyway, because a later stage of the chain learns from this one, the sample is taken from them.
        Otherwise only the sample is scored, and kept in `sample.npy`.
        """
        if (self.folder(stage) / SCORES).exists() or (self.number and self.scores_all(stage)):
            return self._corpus_logits(stage)[self.sample]
        file = self.folder(stage) / SAMPLE_SCORES
        if not from_main_process(file.exists()):
            model, rows = self.load(stage), self.tokens.corpus.select(self.sample)
            if stage.frozen:
                logits = regression_logits(
                    model, [read_linear(model)], rows, self.tokenizer, precision=self.precision, kept=self.embeddings
                )
            else:
                logits = score(model, rows, self.tokenizer, precision=self.precision)
            if is_main_process():
                write_array_whole(file, logits)
            wait_for_everyone()
        return read_array(file)

    def sample_scores(self, stage: Stage) -> CorpusScores:
        """Scores of a regression for the sample of the corpus. A regression is calibrated as a probe is."""
        return CorpusScores(self.sample_logits(stage), self.fitted(stage).temperature, with_probe=True)

    def score_passes(self, stage: Stage, admission: Admission, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows (M,) of the corpus, and a summary of dropout passes over them by the student of a stage, (M, C + 2).

        Kept in `passes.npy`, in the columns of `summarize_passes`.
        """
        corpus, folder = self.tokens.corpus, self.folder(stage)
        count, seed = admission.scored_rows(len(corpus)), self.seed(stage)
        rows = random_rows(len(corpus), count, seed)
        if (folder / PASSES).exists():
            return rows, read_array(folder / PASSES, mapped=True)
        with self.reporter.phase(self.phase(stage, "dropout passes"), count * admission.passes, "text") as tick:
            table = score_passes_to_disk(
                self.load(stage), corpus.select(rows), self.tokenizer, folder / PASSES, passes=admission.passes,
                seed=seed, temperature=temperature, precision=self.precision, tick=tick,
            )  # fmt: skip
        return rows, table

    @property
    def precision(self) -> str:
        """The precision in which the corpus is scored."""
        return resolve_precision(self.config.precision, resolve_device(self.config.device))

    # Labeled rows

    def score_held_out(self, stage: Stage, probe: bool = False) -> np.ndarray:
        """Logits of the held-out rows by the student of a stage, (n, C), in float32 as the model predicts.

        Args:
            probe: whether head and probe predict together, instead of the head alone.
        """
        name = HELD_OUT_SCORES_WITH_PROBE if probe else HELD_OUT_SCORES
        return self._score_labeled(stage, self.held_out, name, probe)

    def score_development_rows(self, stage: Stage) -> np.ndarray:
        """Logits of the development rows by the student of a stage, (n, C), in float32 as the model predicts."""
        return self._score_labeled(stage, self.tokens.dev, DEV_SCORES)

    def _score_labeled(self, stage: Stage, rows: Any, name: str, probe: bool = False) -> np.ndarray:
        file = self.folder(stage) / name
        if not from_main_process(file.exists()):
            model = self.load(stage)
            logits = score(self.with_probe(model) if probe else model, rows, self.tokenizer)
            if is_main_process():
                write_array_whole(file, logits)
            wait_for_everyone()
        return read_array(file)

    # The probe

    @property
    def has_probe(self) -> bool:
        """Whether a probe calibrates the students. It needs a corpus."""
        return self.plan.method.teacher.with_probe and self.tokens.corpus is not None

    def with_probe(self, model: Any, precision: str = "fp32") -> Any:
        """A student with a probe that is fitted on the labeled rows of the chain."""
        corpus = self.tokens.corpus
        some = corpus.select(random_rows(len(corpus), min(len(corpus), PROBED_ROWS), self.config.seed))
        told = self.class_texts
        return with_probe(
            model, self.tokens.labeled, some, self.tokenizer, precision=precision,
            class_texts=told.tokens if told is not None else None, weight=told.weight if told is not None else 0.0,
        )  # fmt: skip
