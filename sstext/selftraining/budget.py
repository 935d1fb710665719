"""The fullest plan that fits a budget, and the price of a plan in a sentence."""

from dataclasses import replace

from sstext.config.run_config import seconds_of
from sstext.config.spelling import spelled
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import SILENT, Reporter, duration
from sstext.selftraining.chain import Chain
from sstext.selftraining.pace import Pace
from sstext.selftraining.plan import Plan


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


def cut(whole: Chain, pace: Pace, budget: float) -> Plan:
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
    model = "a final model" if plan.final is not None else "a model with all labels"
    unchecked = (
        "does not check whether self-training helps" if plan.rounds else "holds out no labels to check the model"
    )
    return (
        f"chains: {plan.folds} chains and {model} take about {duration(with_folds)}; with "
        f"{spelled('folds', 0)}, it takes {duration(without)}, but {unchecked}"
    )
