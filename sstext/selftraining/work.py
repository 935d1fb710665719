"""What a plan does, counted: optimizer steps, texts that are scored, and models that are read and written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sstext.methods.method import FIRST_ROUND, Stage
from sstext.pseudolabels.regression import FOLDS, WEIGHTS
from sstext.pseudolabels.texts_to_label import CANDIDATES, PER_CLASS
from sstext.selftraining.plan import Plan
from sstext.selftraining.student_store import EVIDENCE_ROWS, PROBED_ROWS
from sstext.storage.run_folder import FINAL

#: Evaluations on the development rows in a training that does not stop early.
EVALUATIONS = 6
#: A checkpoint has the student and two moments of the optimizer, each as large as the student.
WRITES_OF_CHECKPOINT = 3


@dataclass(frozen=True)
class Work:
    """Work that can be added up.

    Attributes:
        steps: optimizer steps by the name of their stage. Those of the final model count as steps of the first round.
        texts: texts that are scored in the precision of the run.
        exact: texts that are scored in float32, as the model predicts.
        fits: regressions on the labeled rows.
        reads, writes: models that are read from disk or written.
    """

    steps: Mapping[str, int] = field(default_factory=dict)
    texts: int = 0
    exact: int = 0
    fits: int = 0
    reads: int = 0
    writes: int = 0

    def __add__(self, other: "Work") -> "Work":
        names = (*self.steps, *(name for name in other.steps if name not in self.steps))
        return Work(
            {name: self.steps.get(name, 0) + other.steps.get(name, 0) for name in names},
            self.texts + other.texts,
            self.exact + other.exact,
            self.fits + other.fits,
            self.reads + other.reads,
            self.writes + other.writes,
        )


def labels_of_chain(plan: Plan) -> int:
    """Number of labels that a chain of a plan learns from. It takes fewer steps than a training on all labels."""
    return plan.labeled - (plan.labeled // plan.folds if plan.folds else 0)


@dataclass(frozen=True)
class Counter:
    """Counts the work of a plan. It assumes that all stages are run, and that the chains choose the first teacher.

    Attributes:
        plan: the plan.
        told: number of texts of the classes that regressions and probes read.
        weighs: whether every chain weighs texts of the classes.
        classes: C, number of classes.
        save_steps: optimizer steps between two checkpoints.
    """

    plan: Plan
    told: int = 0
    weighs: bool = False
    classes: int = 0
    save_steps: int = 50

    def chain(self) -> Work:
        """Work of one chain: one of those without a fold of the labels or, without folds, the only one."""
        plan, work = self.plan, Work(fits=len(WEIGHTS) * FOLDS if self.weighs and self.plan.folds else 0)
        labeled = labels_of_chain(plan)
        held_out = plan.labeled - labeled
        for stage in plan.stages:
            work += self._training(stage, labeled)
            if plan.folds:
                judged = self._probe(labeled) if plan.judges_probe(stage) else Work()
                work += replace(judged, exact=judged.exact + held_out, reads=1)
                shared = Work(reads=1) if stage.frozen and plan.corpus else self._sample()  # see `rest`
                work += self._corpus(stage, labeled) if self._scores_all(stage) else shared
            elif plan.labels_corpus(stage):
                work += self._corpus(stage, labeled)
        return work

    def rest(self) -> Work:
        """Work beside the chains: all labels, the final model, and what is measured."""
        plan, work = self.plan, Work(reads=2, writes=1)  # `model/`, and its configuration
        if plan.folds:
            for stage in plan.stages[: plan.teacher.position + 1]:
                work += self._training(stage, plan.labeled)
            if plan.baseline.frozen:  # the regressions of all chains read the same embeddings
                work += Work(texts=self._rows_of_sample)
            if plan.final is not None:
                if plan.teacher.with_probe or plan.teaches_once:
                    work += self._corpus(plan.teacher, plan.labeled)
                if plan.regression_teaches:  # those of all chains in one pass
                    work += Work(texts=plan.corpus, reads=plan.folds + 1)
                work += self._training(plan.final, plan.labeled)
                work += replace(self._sample(), exact=self._rows_of_sample, reads=2)
        else:  # the model is tried on some texts
            tried = 0 if plan.dev else min(plan.labeled, EVIDENCE_ROWS)
            work += Work(exact=self._rows_of_sample + tried, reads=1)
        if plan.zero_shot and plan.corpus:  # the texts to label: their choice, and predictions for them
            candidates = min(plan.corpus, CANDIDATES)
            work += Work(exact=candidates + min(candidates, PER_CLASS * self.classes), reads=2)
        if plan.test:
            measured = 2 + (plan.plain is not None or plan.regression is not None)
            work += Work(exact=measured * plan.test, reads=measured)
        if plan.trains_plain_apart and plan.plain is not None:
            work += self._training(plan.plain, plan.labeled)
        if plan.regression is not None:
            if plan.test:
                work += self._training(plan.regression, plan.labeled)
            if plan.folds or plan.dev:
                work += Work(exact=plan.labeled + plan.dev, fits=max(1, plan.folds), reads=1)
        return work

    def _training(self, stage: Stage, labeled: int) -> Work:
        """A training on some labeled rows, and what calibrates its student."""
        plan = self.plan
        steps = plan.steps(stage) if stage.selection is not None else stage.schedule.steps(labeled)
        work = Work(reads=1, writes=1)
        if stage.regression_head:
            work += Work(exact=labeled + self.told, fits=1)
        if not stage.frozen:
            checkpoints = -(-steps // self.save_steps) if not plan.dev else EVALUATIONS
            name = FIRST_ROUND if stage.name == FINAL else stage.name
            work += Work({name: steps}, writes=WRITES_OF_CHECKPOINT * checkpoints)
        if plan.dev:
            work += Work(texts=EVALUATIONS * plan.dev * (not stage.frozen), exact=plan.dev, reads=1)
        elif plan.method.teacher.with_probe and plan.corpus and not stage.frozen:
            work += replace(self._probe(labeled), reads=1)
        return work

    def _scores_all(self, stage: Stage) -> bool:
        return bool(self.plan.corpus) and (stage.with_probe or self.plan.labels_corpus(stage))

    def _corpus(self, stage: Stage, labeled: int) -> Work:
        """The student of a stage labels the corpus."""
        plan, selection = self.plan, self.plan.selection
        probe = self._probe(labeled) if stage.with_probe else Work()
        work = replace(probe, texts=plan.corpus + probe.exact, exact=0, reads=1)
        if selection is not None and selection.passes and plan.labels_corpus(stage):
            work += Work(texts=selection.passes * selection.scored_rows(plan.corpus), reads=1)
        return work

    def _sample(self) -> Work:
        return Work(texts=self._rows_of_sample, reads=1) if self.plan.corpus else Work()

    @property
    def _rows_of_sample(self) -> int:
        return min(self.plan.corpus, EVIDENCE_ROWS)

    def _probe(self, labeled: int) -> Work:
        """A probe reads labeled rows, texts of the classes and some of the corpus."""
        return Work(exact=labeled + self.told + min(self.plan.corpus, PROBED_ROWS), fits=1)
