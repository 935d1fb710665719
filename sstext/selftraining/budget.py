"""What a run is going to do and how long it takes: measured on a few batches, cut to a budget, and recorded."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from sstext.config.run_config import seconds_of
from sstext.inference.devices import autocast, resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.methods.registry import build
from sstext.methods.rounds import FOLDS
from sstext.modeling.length_groups import logits_in_length_groups
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import SILENT, Reporter, duration
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, cross_fitted
from sstext.selftraining.plan import built_objective
from sstext.selftraining.workers import workers_for
from sstext.storage.whole import write_whole

#: Recorded in the folder of a run with a budget: a continued run goes by it, however fast the machine is by then.
PLAN = "plan.json"


@dataclass(frozen=True)
class StepPlan:
    """What a run with a budget does.

    Attributes:
        steps: optimizer steps by round.
        rounds, folds: as the options of that name.
        seconds: what it was expected to take.
        left_out: what would have taken longer, for people.
    """

    steps: list[int]
    rounds: int
    folds: int
    seconds: float
    left_out: list[str]


def in_budget(run: Run, reporter: Reporter = SILENT) -> Run:
    """The run, cut to its budget where it has one, by the plan that is recorded in its folder."""
    budget = run.whole.config.budget
    if budget is None:
        return run
    file = run.directory.path / PLAN
    if not from_main_process(file.exists()):
        folds = len(run.chains) if run.cross_fitted else 0
        made = cut(run.whole, Pace.measured(run.whole), folds, seconds_of(budget))
        if is_main_process():
            write_whole(file, json.dumps(asdict(made)))
    wait_for_everyone()
    made = StepPlan(**json.loads(file.read_text(encoding="utf-8")))
    left = f"; left out: {', '.join(made.left_out)}" if made.left_out else ""
    more = "; even the least plan takes longer" if made.seconds > seconds_of(budget) else ""
    reporter.note(f"budget {budget}: about {duration(made.seconds)}{left}{more}")
    return planned_run(run, made)


def planned_run(run: Run, made: StepPlan) -> Run:
    """The chains of a run with the steps, rounds and folds of a plan."""

    def planned(chain: Chain) -> Chain:
        return replace(chain, config=replace(chain.config, rounds=made.rounds), planned_steps=tuple(made.steps))

    whole = replace(run.whole, directory=run.directory)
    if not made.folds:
        return Run(planned(whole), [planned(whole)], run.directory)
    chains = run.chains if len(run.chains) == made.folds else cross_fitted(whole, made.folds)
    return Run(planned(run.whole), [planned(chain) for chain in chains], run.directory)


def cut(whole: Chain, pace: "Pace", folds: int, budget: float) -> StepPlan:
    """The fullest plan that fits a budget: somewhat shorter trainings, then two chains, no pseudo-labels, no folds, no start.

    Without folds nothing tells harm from gain: rounds go before them, and plain fine-tuning alone is made much shorter. What
    does not fit even so is planned all the same.

    Args:
        folds: chains of the run; 0: one.
        budget: seconds.
    """
    full = planned_steps(whole)
    plans = [_cut(whole, pace, full, *how) for how in _cuts(whole.config.rounds, folds)]
    return next((plan for plan in plans if plan.seconds <= budget), plans[-1])


def _cuts(rounds: int, folds: int) -> Iterator[tuple[int, int, float, bool]]:
    """Rounds, folds, share of the steps, and whether plain fine-tuning is all: from the fullest plan to the least.

    Trainings are hardly shortened while pseudo-labels or folds are left: at 40 % of its steps `auto` did harm, and out-of-fold
    rows did not see it (recipes/benchmark/LOG.md).
    """
    some_folds = [folds, 2] if folds > 2 else [folds]
    for kept_rounds in [rounds, 0] if rounds else [0]:
        for kept_folds in some_folds:
            yield from ((kept_rounds, kept_folds, share, False) for share in (1.0, 0.85))
    yield from ((0, 0, share, False) for share in (1.0, 0.85))
    yield from ((0, 0, share, True) for share in (1.0, 0.85, 0.7, 0.5))


def _cut(
    whole: Chain, pace: "Pace", full: list[int], rounds: int, folds: int, share: float, plain_alone: bool
) -> StepPlan:
    chain = replace(whole, config=replace(whole.config, rounds=rounds))
    steps = [max(1, round(share * count)) for count in full][: 1 if plain_alone else chain.last_round + 1]
    seconds = pace.seconds(replace(chain, planned_steps=tuple(steps)), steps, folds)
    left_out = [f"{1 - share:.0%} of the steps"] if share < 1 else []
    left_out += ["all rounds of pseudo-labels"] if rounds < whole.config.rounds else []
    left_out += ["the start on the labels"] if plain_alone and chain.last_round else []
    if folds < folds_of(whole):
        left_out.append(f"{folds_of(whole) - folds} of the chains" if folds else "folds (nothing tells harm from gain)")
    return StepPlan(steps, rounds, folds, seconds, left_out)


def planned_steps(chain: Chain) -> list[int]:
    """Optimizer steps of a chain by round, where every round keeps as many rows as it may."""
    corpus = len(chain.tokens.corpus) if chain.tokens.corpus is not None else 0
    label_rounds = chain.admission.label_rounds

    def admitted(index: int) -> int:
        return 0 if index < label_rounds else chain.admission.at_most(corpus, chain.keep(index))

    return [chain.steps(index, admitted(index)) for index in range(chain.last_round + 1)]


def price(run: Run) -> str:
    """What cross-fitting costs, in a sentence, before it is paid."""
    pace, steps = Pace.measured(run.whole), planned_steps(run.whole)
    with_folds, without = (pace.seconds(run.whole, steps, folds) for folds in (len(run.chains), 0))
    return (
        f"cross-fitting: {len(run.chains)} chains and a last student take about {duration(with_folds)}, where one chain would "
        f"take {duration(without)} and tell nothing of harm (--folds 0)"
    )


@dataclass(frozen=True)
class Pace:
    """Seconds of a step of round 0, of a step of a further round, and of a text that is scored."""

    first: float
    further: float
    text: float

    @classmethod
    def measured(cls, chain: Chain) -> "Pace":
        """Time a few batches of each kind; the first of a kind warms up."""
        config, model = chain.config, chain.student(0).to(resolve_device(chain.config.device)).train()
        optimizer = torch.optim.AdamW(part for part in model.parameters() if part.requires_grad)
        precision = resolve_precision(config.precision, model.device)
        source = chain.tokens.corpus if chain.tokens.corpus is not None else chain.tokens.labeled

        def rows(count: int) -> Any:
            return source.select(range(min(count, len(source))))

        def step(count: int, index: int) -> float:
            """Seconds of a step of a round, with so many rows."""
            objective = built_objective(config, index)
            paired = index > 0 or not objective.plain or config.logit_adjustment > 0
            grouped = paired and objective.takes_groups
            features = [
                {"input_ids": ids} for ids in rows(max(1, count // PartialState().num_processes))["input_ids"][:]
            ]
            inputs = chain.tokenizer.pad(features, return_tensors="pt").to(model.device)
            began = 0.0
            for _ in range(2):
                began = _now(model.device)
                with autocast(model.device, precision):
                    logits = logits_in_length_groups(model, inputs, model) if grouped else model(**inputs).logits
                    loss = logits.float().logsumexp(-1).mean()
                loss.backward()
                optimizer.step()
            return _now(model.device) - began

        # Unlabeled rows of a step pass the teacher (forward alone, a third of the work) and the student.
        plain = build(config.method, config.method_args, config.regularizers).supervised
        more = 1.0 if plain else 1 + 4 / 3 * config.unlabeled_batch_ratio
        first, further = more * step(config.batch_size, 0), step(config.round_batch_size, chain.admission.label_rounds)
        sample = rows(256)
        score(model, sample, chain.tokenizer, precision=precision)
        began = time.monotonic()
        score(model, sample, chain.tokenizer, precision=precision)
        return cls(first, further, (time.monotonic() - began) / max(1, len(sample)))

    def seconds(self, chain: Chain, steps: Sequence[int], folds: int) -> float:
        """How long a run takes.

        Args:
            steps: of a chain by round.
            folds: chains beside the last student; 0: one chain.
        """
        # GPUs share the chains; processes on one CPU share its cores, and take about as long as one after the other.
        at_a_time = workers_for(chain.config) if resolve_device(chain.config.device).type == "cuda" else 1
        chains, last = math.ceil(max(1, folds) / at_a_time), steps[: chain.admission.label_rounds + 1] if folds else []
        training = self.first * (chains * steps[0] + sum(last[:1]))
        training += self.further * (chains * sum(steps[1:]) + sum(last[1:]))
        corpus = len(chain.tokens.corpus) if chain.tokens.corpus is not None else 0
        by_round = corpus + chain.admission.passes * chain.admission.scored_rows(corpus)
        scorings = max(0, chain.last_round + 1 - chain.admission.label_rounds) + (1 if folds else 0)
        texts = by_round * chains * scorings
        texts += corpus if folds and chain.admission.probe and chain.config.rounds else 0  # labels for the last student
        texts += 2 * (len(chain.texts.test.texts) if chain.texts.test is not None else 0)
        return training + self.text * texts


def _now(device: torch.device) -> float:
    """The time at which the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def folds_of(whole: Chain) -> int:
    """How many chains are cross-fitted; 0: none."""
    config = whole.config
    if config.folds is not None:
        return config.folds
    labeled = whole.tokens.labeled
    texts = {(label, *tokens) for label, tokens in zip(labeled["labels"][:], labeled["input_ids"][:], strict=True)}
    _, counts = np.unique([label for label, *_ in texts], return_counts=True)
    enough = counts[counts > 1].sum() >= 2 * FOLDS
    return FOLDS if config.method == "auto" and whole.tokens.dev is None and enough else 0
