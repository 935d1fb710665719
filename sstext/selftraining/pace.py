"""How fast this machine is, measured on a few batches, and how long a plan takes at this pace."""

import math
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from sstext.data.batching import Relabeled
from sstext.data.order import random_rows
from sstext.errors import is_out_of_memory
from sstext.inference.devices import autocast, resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.methods.method import Stage
from sstext.modeling.embedder import Embedder
from sstext.pseudolabels.regression import fit_regression
from sstext.selftraining.chain import Chain
from sstext.selftraining.plan import Plan
from sstext.selftraining.work import Counter, Work
from sstext.selftraining.workers import workers_for
from sstext.training.memory import split
from sstext.training.trainer import SemiSupervisedTrainer

#: Number of timed steps of each kind. Their median counts. Each has another batch, as in a training: on a batch that was just
#: read, a step is faster.
TIMED = 3
#: Number of batches that are drawn. Those whose lengths are nearest to their mean are timed.
DRAWN = 24
#: Number of texts that are scored, in the precision of the run and in float32, which may take longer. Each is done twice,
#: and the faster time counts.
SCORED, SCORED_EXACTLY = 256, 64
#: Number of labeled rows that a regression is fitted on.
FITTED = 500


@dataclass(frozen=True)
class Pace:
    """Seconds for a unit of work, see `Work`.

    Attributes:
        steps: of a step of each stage, by its name.
        text: of a text that is scored in the precision of the run.
        exact: of a text that is scored in float32. None: as `text`.
        fit: of a regression on the labeled rows.
        read, write: of a model that is read from disk or written.
        measuring: of measuring all this, which is a part of a short run.
    """

    steps: dict[str, float]
    text: float
    exact: float | None = None
    fit: float = 0.0
    read: float = 0.0
    write: float = 0.0
    measuring: float = 0.0

    @classmethod
    def measure(cls, chain: Chain) -> "Pace":
        """Time a few steps of every kind of stage, and the scoring of a few texts. Nothing is left on disk."""
        config, plan, device = chain.config, chain.plan, resolve_device(chain.config.device)
        started = _now(device)
        precision = resolve_precision(config.precision, device)
        plain = (plan.plain,) if plan.plain is not None else ()
        measured: dict[Any, float] = {}
        steps, model, read = dict[str, float](), None, math.inf
        for stage in (*plan.method.stages(plan.rounds), *plain):
            kind = stage.objective, stage.schedule.batch_size, stage.selection is None
            if not stage.frozen and kind not in measured:
                began = _now(device)
                model = chain.student(replace(stage, starts_from=None))
                read = min(read, _now(device) - began)
                measured[kind] = _seconds_of_step(chain, stage, model, precision)
            steps[stage.name] = 0.0 if stage.frozen else measured[kind]
        if model is None:  # every stage is a regression
            model = chain.student(plan.baseline)
        model = model.to(device)
        source = chain.tokens.corpus if chain.tokens.corpus is not None else chain.tokens.labeled

        def seconds_of_text(count: int, precision: str) -> float:
            sample = source.select(random_rows(len(source), min(len(source), count), config.seed))
            times = []
            for _ in range(2):
                began = _now(device)
                score(model, sample, chain.tokenizer, precision=precision)
                times.append(_now(device) - began)
            return min(times) / len(sample)

        text = seconds_of_text(SCORED, precision)
        exact = text if precision == "fp32" else seconds_of_text(SCORED_EXACTLY, "fp32")
        fits = plan.regression is not None or any(stage.regression_head for stage in plan.stages)
        fit = _seconds_of_fit(chain, model) if fits else 0.0
        with tempfile.TemporaryDirectory(prefix="sstext-pace-") as folder:
            began = _now(device)
            chain.save(model, Path(folder))
            write = _now(device) - began
        read = 0.0 if math.isinf(read) else read
        return cls(steps, text, exact, fit, read, write, measuring=_now(device) - started)

    def seconds(self, chain: Chain, plan: Plan) -> float:
        """Expected time of a plan.

        Args:
            chain: of the run, with all labels.
            plan: with as many chains as it has folds, and a final model beside them.
        """
        # Each GPU trains its own chains. On a CPU, the processes share the cores and take about as long as one after another.
        at_a_time = workers_for(chain.config) if resolve_device(chain.config.device).type == "cuda" else 1
        counter, chains = counter_of(chain, plan), math.ceil(max(1, plan.folds) / at_a_time)
        return self.measuring + chains * self._of(counter.chain()) + self._of(counter.rest())

    def _of(self, work: Work) -> float:
        exact = self.text if self.exact is None else self.exact
        return (
            sum(self.steps[name] * count for name, count in work.steps.items())
            + self.text * work.texts
            + exact * work.exact
            + self.fit * work.fits
            + self.read * work.reads
            + self.write * work.writes
        )


def counter_of(chain: Chain, plan: Plan) -> Counter:
    """Counts the work of a plan on the data of a run.

    Args:
        chain: of the run, with all labels.
        plan: its plan, or a shorter one.
    """
    told = chain.class_texts
    return Counter(
        plan,
        told=len(told.tokens) if told is not None and told.weight else 0,
        weighs=told is not None,
        classes=len(chain.texts.classes),
    )


def _seconds_of_step(chain: Chain, stage: Stage, model: Any, precision: str) -> float:
    """Seconds of an optimizer step of a stage, with rows, token edits and losses as in its training.

    The labels of a round are not known yet: all classes of its rows of the corpus are equally likely.
    """
    pseudo_labeled = None
    if stage.selection is not None:
        corpus, classes = chain.tokens.corpus, len(chain.texts.classes)
        rows = random_rows(len(corpus), min(len(corpus), DRAWN * stage.schedule.batch_size), chain.config.seed)
        pseudo_labeled = Relabeled(corpus, rows, np.full((len(rows), classes), 1 / classes), np.ones(len(rows)))
    objective = stage.objective()
    objective.reads_all = True  # no text is confident yet, and in the training many will be
    with tempfile.TemporaryDirectory(prefix="sstext-pace-") as folder:
        arguments = chain.training_arguments(stage, None, Path(folder))
        arguments.report_to = []  # loggers are told of trainings alone
        trainer = SemiSupervisedTrainer(
            model,
            arguments,
            train_dataset=chain.rows_of(stage).labeled,
            eval_dataset=chain.tokens.dev,
            processing_class=chain.tokenizer,
            unlabeled_dataset=chain.tokens.corpus,
            pseudo_labeled_dataset=pseudo_labeled,
            method=objective,
        )
        device = trainer.args.device
        began = _now(device)
        batches = list(islice(trainer.get_train_dataloader(), DRAWN))
        loading = (_now(device) - began) / len(batches)
        student, optimizer = trainer.model.train(), trainer.create_optimizer()
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # steps take as long, and the model, which times the scoring next, stays as it is
        parts = 1
        lengths = np.array([_tokens(batch, padded=not trainer.paired) for batch in batches])
        nearest = np.abs(lengths - lengths.mean()).argsort(kind="stable")[:TIMED]
        timed, seconds = list(islice(cycle(nearest), TIMED)), []
        for number in [timed[-1], *timed]:  # the first one is a warm-up
            batch = batches[number]
            began = _now(device)
            while not _passes(trainer, batch, precision, parts):
                parts *= 2  # as the training will do, see `sstext.training.memory`
                optimizer.zero_grad()
            torch.nn.utils.clip_grad_norm_(student.parameters(), trainer.args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(_now(device) - began)
        trainer.accelerator.free_memory()
    return (median(seconds[1:]) + loading) * trainer.args.gradient_accumulation_steps


def _passes(trainer: SemiSupervisedTrainer, batch: Any, precision: str, parts: int) -> bool:
    """Make the forward and backward passes of a batch, in parts. Returns whether memory was enough.

    Raises:
        RuntimeError: it is not, even for single rows.
    """
    try:
        for part in range(parts):
            with autocast(trainer.args.device, precision):
                loss = trainer.compute_loss(trainer.model, split(batch, part, parts))
            loss.backward()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or parts >= len(batch["input_ids"]):
            raise
        return False
    return True


def _tokens(batch: Any, padded: bool) -> int:
    """Number of tokens in a batch. A batch that is split into groups of similar length has hardly any padding."""
    return int(batch["input_ids"].numel() if padded else batch["attention_mask"].sum())


def _seconds_of_fit(chain: Chain, model: Any) -> float:
    """Seconds of a regression on all labeled rows. It is fitted to some of them, and takes longer in proportion."""
    told, labeled = chain.class_texts, chain.tokens.labeled
    if told is None:
        rows = random_rows(len(labeled), min(len(labeled), FITTED), chain.config.seed)
        embedded, labels = score(Embedder(model), labeled.select(rows), chain.tokenizer), labeled["labels"][:]
        labels = np.asarray(labels)[rows]
    else:
        embedded, labels = told.labeled, told.labels
    began = _now(torch.device("cpu"))
    fit_regression(embedded, labels, len(chain.texts.classes))
    return (_now(torch.device("cpu")) - began) * len(labeled) / len(labels)


def _now(device: torch.device) -> float:
    """The time at which the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
