"""The plan of a run: which stages are trained, on which rows, in which order, and for how long.

A plan is made once (`sstext.selftraining.planning`). The loop executes it, a budget cuts it, `--dry-run` prints it, and
`plan.json` keeps it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sstext.methods.catalog import composition, composition_between_rounds
from sstext.methods.method import Belief, Method, Stage
from sstext.pseudolabels.admission import Admission
from sstext.storage.run_folder import FINAL, ZERO_SHOT

#: What a budget left out, if it left no chains.
LEFT_OUT_FOLDS = (
    "the folds (self-training is then not checked)",
    "the folds (the model is then not checked)",
)
#: Shares of the steps that a budget may leave: of a plan with rounds or folds, and of the baseline alone. At 40 % of its steps
#: `auto` did harm, and held-out rows did not show it (recipes/benchmark/LOG.md).
SHARES, SHARES_OF_BASELINE = (1.0, 0.85), (1.0, 0.85, 0.7, 0.5)


#: Labels up to which a frozen regression is compared with a model that has nothing to do with it.
MOST_MEASURED = 5_000


@dataclass(frozen=True)
class Plan:
    """The stages of a run on its data.

    Attributes:
        method: the method that the stages come from.
        stages: the stages in order. All others are compared with the first one.
        final: the stage of the final model, which learns from all labels and the averaged pseudo-labels of the chains. None
            without folds or without rounds. If the method teaches once, no stage before it reads pseudo-labels.
        folds: number of chains, each without one fold of the labels. 0 means one chain with all labels.
        labeled, corpus, test, dev: number of rows.
        left_out: what a budget left out, in words.
        seconds: expected time, or None if it was not measured.
        compares: whether plain fine-tuning is measured on the test rows beside the model, see `plain`.
    """

    method: Method
    stages: tuple[Stage, ...]
    final: Stage | None
    folds: int
    labeled: int
    corpus: int
    left_out: tuple[str, ...] = ()
    seconds: float | None = None
    test: int = 0
    dev: int = 0
    compares: bool = True

    # Read it

    @property
    def baseline(self) -> Stage:
        """The stage that all others are compared with."""
        return self.stages[0]

    @property
    def zero_shot(self) -> bool:
        """Whether nothing is labeled: descriptions of the classes take the place of the labeled rows."""
        return self.baseline.name == ZERO_SHOT

    @property
    def last(self) -> Stage:
        """The last stage before the final model."""
        return self.stages[-1]

    @property
    def teacher(self) -> Stage:
        """The first teacher: the last stage without pseudo-labels. Its student labels the corpus first."""
        return [stage for stage in self.stages if stage.learns_from is None][-1]

    @property
    def rounds(self) -> int:
        """Number of rounds of pseudo-labels."""
        return max(sum(stage.learns_from is not None for stage in self.stages), self.final is not None)

    @property
    def teaches_once(self) -> bool:
        """Whether the chains only make teachers, and the final model is the one student."""
        return self.final is not None and self.last.learns_from is None

    @property
    def plain(self) -> Stage | None:
        """Plain fine-tuning with all labels, which is measured on the test rows beside the model.

        It is a stage of the plan, if one has its name. None if there are no test rows, if the first stage is plain fine-tuning
        already, or if a budget leaves it out.
        """
        plain = self.method.plain
        if plain is None or not self.compares or not self.test or not self.baseline.frozen:
            return None
        return next((stage for stage in self.stages if stage.name == plain.name), plain)

    @property
    def regression(self) -> Stage | None:
        """The frozen regression with which the model is compared on test rows, held-out rows or development rows.

        None if there are none, if it is a stage, or if there are so many labels that it takes minutes.
        """
        compared = (self.test or self.folds or self.dev) and self.labeled <= MOST_MEASURED
        return self.method.regression if compared else None

    @property
    def regression_teaches(self) -> bool:
        """Whether the regressions of the first stage label the corpus beside the chosen teacher."""
        return self.teaches_once and self.baseline.frozen and bool(self.corpus)

    def judges_probe(self, stage: Stage) -> bool:
        """Whether held-out rows judge head and probe of a stage together: if the chains only make teachers, as it labels."""
        return self.teaches_once and stage.with_probe

    def labels_corpus(self, stage: Stage) -> bool:
        """Whether a later student learns from what the student of a stage says of the corpus."""
        if self.final is not None and stage.name == self.last.name:
            return True
        return any(stage.name == later.learns_from for later in self.stages)

    @property
    def selection(self) -> Admission | None:
        """How pseudo-labels are selected, or None if the method has none."""
        return self.method.selection

    @property
    def aligns(self) -> bool:
        """Whether predictions are aligned to the class shares of the corpus."""
        return self.selection is None or self.selection.align

    @property
    def expected_gain(self) -> Belief:
        """The gain of its rounds that is expected before anything is measured."""
        return self.method.expected_gain

    @property
    def gain_of_student(self) -> float:
        """What the model is expected to gain over the stages, if they are only its teachers; otherwise 0."""
        return self.expected_gain.over_round if self.teaches_once else 0.0

    def after(self, stage: Stage) -> Stage | None:
        """The next stage, or None after the last one."""
        return (
            self.stages[stage.position + 1] if stage.name != FINAL and stage.position + 1 < len(self.stages) else None
        )

    def before(self, stage: Stage) -> Stage | None:
        """The stage before, or None before the first one."""
        return self.stages[stage.position - 1] if stage.position else None

    def named(self, name: str) -> Stage:
        """The stage with this name."""
        return next(stage for stage in (*self.stages, self.final) if stage is not None and stage.name == name)

    def teachers(self, stage: Stage) -> tuple[Stage, ...]:
        """The stages whose students label the corpus up to a stage, the first teacher first."""
        return self.stages[self.teacher.position : stage.position + 1]

    def keep_after(self, stage: Stage) -> float:
        """Share of the corpus that a round after this stage may select. It is also defined if no round follows.

        After a stage before the first teacher, it is the share of the first round.
        """
        return self.method.share_of_round(max(0, stage.position - self.teacher.position) + 1)

    def steps(self, stage: Stage) -> int:
        """Number of optimizer steps of a stage, if it selects as many rows as it may."""
        if stage.selection is None:
            return stage.schedule.steps(self.labeled)
        return stage.schedule.steps(stage.selection.at_most(self.corpus, stage.keep))

    def trainings(self, stage: Stage) -> int:
        """Number of trainings of a stage: one per chain. With folds, the stages up to the first teacher also get all labels."""
        if stage.name == FINAL or not self.folds:
            return 1
        return self.folds + (stage.position <= self.teacher.position)

    # Shorten it

    def cuts(self) -> Iterator["Plan"]:
        """The plan, then shorter ones: fewer steps, no comparison, two chains, no chains, no rounds, only the baseline.

        The corpus is what a run is for. It goes after the chains, which only check it, and before the start: without a start,
        the regression alone would label it, and students of a regression were worse than the regression
        (recipes/benchmark/LOG.md). Plain fine-tuning for the test rows is left out before the chains, because the model does
        not depend on it. It is never shortened: a comparison with half of it would flatter the model.
        """
        some_folds = [self.folds, 2, 0] if self.folds > 2 else [self.folds, 0] if self.folds else [0]
        for rounds in [self.rounds, 0] if self.rounds else [0]:
            for folds in some_folds if rounds or not self.rounds else [0]:
                yield from self._cuts(rounds, folds, SHARES)
        yield from self._cuts(0, 0, SHARES_OF_BASELINE if self.steps(self.baseline) else (1.0,), baseline_alone=True)

    def _cuts(self, rounds: int, folds: int, shares: Sequence[float], baseline_alone: bool = False) -> Iterator["Plan"]:
        """The plan with these rounds and folds, with plain fine-tuning for the test rows and then without it."""
        whole = self._cut(rounds, folds, 1.0, baseline_alone)
        for compares in (True, False) if whole.trains_plain_apart else (self.compares,):
            yield from (self._cut(rounds, folds, share, baseline_alone, compares) for share in shares)

    @property
    def trains_plain_apart(self) -> bool:
        """Whether plain fine-tuning is trained for the test rows alone, because it is no stage of the plan."""
        return self.plain is not None and self.plain not in self.stages

    @property
    def left_out_folds(self) -> bool:
        """Whether a budget left out the folds."""
        return any(words in self.left_out for words in LEFT_OUT_FOLDS)

    def without_folds(self) -> "Plan":
        """The same plan with one chain that has all labels."""
        stages, final = stages_of(self.method, self.rounds, 0)
        return replace(self, stages=stages, final=final, folds=0)

    def _cut(
        self, rounds: int, folds: int, share: float, baseline_alone: bool = False, compares: bool = True
    ) -> "Plan":
        left_out = [f"{1 - share:.0%} of the steps"] if share < 1 else []
        left_out += ["the comparison with plain fine-tuning on the test rows"] if not compares else []
        left_out += ["all rounds of pseudo-labels"] if rounds < self.rounds else []
        left_out += ["the start on the labels"] if baseline_alone and self.teacher is not self.baseline else []
        if folds < self.folds:
            checked = LEFT_OUT_FOLDS[0 if rounds else 1]
            left_out.append(f"{self.folds - folds} of the chains" if folds else checked)
        made = stages_of(self.method, rounds, folds)
        kept = made[0][:1] if baseline_alone else made[0]
        return replace(
            self, stages=tuple(self._with_share(stage, share) for stage in kept),
            final=self._with_share(made[1], share) if made[1] is not None else None, folds=folds,
            left_out=(*self.left_out, *left_out), compares=self.compares and compares,
        )  # fmt: skip

    def _with_share(self, stage: Stage, share: float) -> Stage:
        """A stage with a share of its steps. Plain fine-tuning that others are compared with keeps all of them."""
        steps = self.steps(stage)
        if self.method.plain is not None and stage.name == self.method.plain.name:
            share = 1.0
        return _shortened(stage, min(steps, max(1, round(share * steps))))

    # Write and read it

    def record(self) -> dict[str, Any]:
        """The content of `plan.json`."""
        every = (*self.stages, self.final) if self.final is not None else self.stages
        return {
            "stages": [self._described(stage) for stage in every],
            "folds": self.folds,
            "expected_gain": self.expected_gain.over_baseline,
            "labeled": self.labeled,
            "corpus": self.corpus,
            "compared": None if self.plain is None else self.plain.name,
            "left_out": list(self.left_out),
            "seconds": self.seconds,
        }

    def _described(self, stage: Stage) -> dict[str, Any]:
        return {
            "name": stage.name,
            "learns_from": stage.learns_from,
            "labeled_by": self.labeled_by(stage),
            "selection": None if stage.selection is None else composition_between_rounds(stage.selection),
            "keep": None if stage.selection is None or stage.selection.quotas == "none" else stage.keep,
            "starts_from": stage.starts_from or "encoder",
            "objective": composition(stage.objective()),
            "steps": self.steps(stage),
            "batch_size": stage.schedule.batch_size,
            "learning_rate": stage.schedule.learning_rate,
        }

    def labeled_by(self, stage: Stage) -> str | None:
        """What labels the corpus for a stage, or None if it has no pseudo-labels."""
        if stage.name == FINAL:  # it may start from another student than planned
            by = ["the chains"]
            if self.teacher.with_probe or self.teaches_once:
                by.append(f"the {self.teacher.name} with all labels")
            if self.regression_teaches:
                by.append(f"the {self.baseline.name}s")
            return by[0] if len(by) == 1 else f"{', '.join(by[:-1])}, and {by[-1]}"
        return self.named(stage.learns_from).labels_with if stage.learns_from is not None else None

    def cut_to(self, record: Mapping[str, Any]) -> "Plan":
        """The plan that an earlier call cut to a budget, from its `plan.json`."""
        steps = {stage["name"]: stage["steps"] for stage in record["stages"]}
        folds, learning = record["folds"], [name for name in steps if name.startswith("round ")]
        stages, final = stages_of(self.method, len(learning) or int("final" in steps), folds)
        return replace(
            self, stages=tuple(_shortened(stage, steps[stage.name]) for stage in stages if stage.name in steps),
            final=_shortened(final, steps["final"]) if final is not None and "final" in steps else None, folds=folds,
            left_out=tuple(record["left_out"]), seconds=record["seconds"], compares=record.get("compared", "") is not None,
        )  # fmt: skip


def _shortened(stage: Stage, steps: int) -> Stage:
    return replace(stage, schedule=replace(stage.schedule, at_most=steps))


def stages_of(method: Method, rounds: int, folds: int) -> tuple[tuple[Stage, ...], Stage | None]:
    """The stages that every chain goes through, and the final one.

    The final stage is the first round once more, with all labels and the averaged pseudo-labels of all chains.
    """
    stages = method.stages(rounds)
    learning = [stage for stage in stages if stage.learns_from is not None]
    if not folds or not learning:
        return stages, None
    final = replace(learning[0], name=FINAL, learns_from="the chains")
    once = method.teaches_once and len(learning) == 1
    return tuple(stage for stage in stages if stage.learns_from is None) if once else stages, final
