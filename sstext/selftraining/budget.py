"""How long a plan takes, measured on a few batches, and the fullest plan that fits a budget."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import PartialState

from sstext.config.run_config import seconds_of
from sstext.inference.devices import autocast, resolve_device, resolve_precision
from sstext.inference.scoring import score
from sstext.methods.method import FIRST_ROUND, Stage
from sstext.modeling.length_groups import logits_in_length_groups
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import SILENT, Reporter, duration
from sstext.selftraining.chain import Chain
from sstext.selftraining.plan import Plan
from sstext.selftraining.workers import workers_for

#: Number of timed batches of each kind. The fastest one counts, because other load on the machine only slows batches down.
TIMED = 3


def plan_in_budget(whole: Chain, reporter: Reporter = SILENT) -> Plan:
    """The plan of a run, cut to its budget if there is one. It is written to the folder of the run, or read from there.

    Args:
        whole: the chain with all labels and the full plan, in the folder of the run.
        reporter: gets a note with the expected time and with what a budget leaves out.
    """
    directory, budget = whole.directory, whole.config.budget
    if not from_main_process(directory.read_plan() is not None):
        made = whole.plan if budget is None else cut(whole, Pace.measure(whole), seconds_of(budget))
        if is_main_process():
            directory.write_plan(made.record())
    wait_for_everyone()
    record = directory.read_plan()
    if budget is None or record is None:
        return whole.plan
    made = whole.plan.cut_to(record)
    left = f"; left out: {', '.join(made.left_out)}" if made.left_out else ""
    more = "; even the shortest plan takes longer" if (made.seconds or 0) > seconds_of(budget) else ""
    reporter.note(f"budget {budget}: about {duration(made.seconds or 0)}{left}{more}")
    return made


def cut(whole: Chain, pace: "Pace", budget: float) -> Plan:
    """The fullest plan that fits a budget, see `Plan.cuts`. If none fits, it is the shortest one.

    Args:
        whole: the chain with all labels and the full plan.
        pace: pace of this machine.
        budget: time in seconds.
    """
    plan = whole.plan
    for plan in whole.plan.cuts():
        plan = replace(plan, seconds=pace.seconds(whole, plan))
        if plan.seconds is not None and plan.seconds <= budget:
            break
    return plan


def price(whole: Chain) -> str:
    """A sentence on the time that cross-fitting takes, before it begins."""
    pace, plan = Pace.measure(whole), whole.plan
    with_folds, without = (pace.seconds(whole, one) for one in (plan, plan.without_folds()))
    return (
        f"chains: {plan.folds} chains and a final model take about {duration(with_folds)}; --folds 0 takes "
        f"{duration(without)}, but does not check whether self-training helps"
    )


@dataclass(frozen=True)
class Pace:
    """Seconds of a step of each stage, by its name, and seconds per text that is scored."""

    steps: dict[str, float]
    text: float

    @classmethod
    def measure(cls, chain: Chain) -> "Pace":
        """Time a few batches of every kind of stage. The first one is a warm-up. The fastest of the others counts."""
        config, plan = chain.config, chain.plan
        model = chain.student(plan.baseline).to(resolve_device(config.device)).train()
        optimizer = torch.optim.AdamW(part for part in model.parameters() if part.requires_grad)
        precision = resolve_precision(config.precision, model.device)
        source = chain.tokens.corpus if chain.tokens.corpus is not None else chain.tokens.labeled

        def rows(count: int) -> Any:
            return source.select(range(min(count, len(source))))

        def step(count: int, grouped: bool) -> float:
            """Seconds of a step with `count` rows."""
            features = [
                {"input_ids": ids} for ids in rows(max(1, count // PartialState().num_processes))["input_ids"][:]
            ]
            inputs = chain.tokenizer.pad(features, return_tensors="pt").to(model.device)
            seconds = []
            for _ in range(1 + TIMED):
                began = _now(model.device)
                with autocast(model.device, precision):
                    logits = logits_in_length_groups(model, inputs, model) if grouped else model(**inputs).logits
                    loss = logits.float().logsumexp(-1).mean()
                loss.backward()
                optimizer.step()
                seconds.append(_now(model.device) - began)
            return min(seconds[1:])

        measured: dict[tuple[int, bool], float] = {}
        steps = {}
        plain = (plan.plain,) if plan.plain is not None else ()
        for stage in (*plan.method.stages(plan.rounds), *plain):
            if stage.frozen:
                steps[stage.name] = 0.0
                continue
            kind = stage.schedule.batch_size, _grouped(stage, config.logit_adjustment)
            if kind not in measured:
                measured[kind] = step(*kind)
            # Unlabeled rows of a step pass the teacher (forward alone, a third of the work) and the student.
            more = 1 + 4 / 3 * config.unlabeled_batch_ratio if stage.reads_corpus else 1.0
            steps[stage.name] = more * measured[kind]
        sample, seconds = rows(256), []
        for _ in range(1 + TIMED):
            began = time.monotonic()
            score(model, sample, chain.tokenizer, precision=precision)
            seconds.append(time.monotonic() - began)
        return cls(steps, min(seconds[1:]) / max(1, len(sample)))

    def seconds(self, chain: Chain, plan: Plan) -> float:
        """Expected time of a plan.

        Args:
            chain: of the run, with all labels.
            plan: with as many chains as it has folds, and a final model beside them.
        """
        # Each GPU trains its own chains. On a CPU, the processes share the cores and take about as long as one after another.
        at_a_time = workers_for(chain.config) if resolve_device(chain.config.device).type == "cuda" else 1
        chains = math.ceil(max(1, plan.folds) / at_a_time)
        training = sum(self.steps[stage.name] * plan.steps(stage) for stage in plan.stages) * chains
        if plan.folds:  # the chain with all labels: up to the first teacher, and the final model
            alone = plan.stages[: plan.teacher.position + 1]
            training += sum(self.steps[stage.name] * plan.steps(stage) for stage in alone)
        if plan.final is not None:
            training += self.steps[FIRST_ROUND] * plan.steps(plan.final)
        if plan.plain is not None and chain.texts.test is not None:
            training += self.steps[plan.plain.name] * plan.steps(plan.plain)
        scored = [stage for stage in plan.stages if plan.labels_corpus(stage)]
        selection = plan.selection
        passes = 0 if selection is None else selection.passes * selection.scored_rows(plan.corpus)
        texts = (plan.corpus + passes) * chains * len(scored)
        if plan.final is not None and (plan.teacher.with_probe or plan.teaches_once):
            texts += plan.corpus  # the labels of the final model
        measured = 2 if plan.plain is None else 3  # what is measured on the test rows, the model among it
        texts += measured * (len(chain.texts.test.texts) if chain.texts.test is not None else 0)
        return training + self.text * texts


def _grouped(stage: Stage, logit_adjustment: float) -> bool:
    """Whether the rows of a step pass through the student in groups of similar length."""
    objective = stage.objective()
    paired = stage.selection is not None or not objective.plain or logit_adjustment > 0
    return paired and objective.takes_groups


def _now(device: torch.device) -> float:
    """The time at which the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
