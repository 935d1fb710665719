"""Make the plan of a run: from the options and the number of rows to the stages of its method."""

from dataclasses import replace

from sstext.config.option_groups import EDITS
from sstext.config.run_config import RunConfig
from sstext.methods.method import Method, Schedule
from sstext.methods.registry import compose
from sstext.objective.weights import Everyone
from sstext.selftraining.plan import Plan, stages_of

#: Texts of a corpus that are read in any case.
LEAST_TEXTS = 4_096


def method_of(config: RunConfig) -> Method:
    """Compose the method of a run, with the batch sizes, learning rates and steps of its options.

    Raises:
        UserError: no such method or argument, or a value out of range.
    """
    method = compose(
        config.method, config.method_args, regularizers=config.regularizers, keep=config.keep,
        align=config.prior != "none", compared=bool(config.folds),
        changed=config.logit_adjustment > 0 or config.class_weight is not None or config.edits != EDITS,
    )  # fmt: skip
    first = tuple(replace(stage, schedule=_schedule_of_start(stage.schedule, config)) for stage in method.first)
    plain = replace(method.plain, schedule=_schedule_of_start(method.plain.schedule, config)) if method.plain else None
    method = replace(method, plain=plain)
    if method.round is None:
        return replace(method, first=first)
    of_round = replace(method.round.schedule, share=1 - config.gold_share, exactly=config.round_steps)
    return replace(method, first=first, round=replace(method.round, schedule=of_round))


def _schedule_of_start(schedule: Schedule, config: RunConfig) -> Schedule:
    """The schedule of a stage without pseudo-labels, with the options that apply to it.

    `round_steps` can make it shorter, but not longer, because a student soon memorizes a hundred labels.
    """
    if not schedule.most:
        return schedule
    if schedule.of_rounds:
        return replace(schedule, at_most=config.round_steps)
    return replace(schedule, batch_size=config.batch_size, learning_rate=config.learning_rate, exactly=config.steps)


def rounds_of_run(config: RunConfig, method: Method) -> int:
    """Number of rounds: that of the option, or otherwise that of the method."""
    return method.rounds if config.rounds is None else config.rounds


def make_plan(
    config: RunConfig,
    *,
    labeled: int,
    corpus: int,
    folds: int,
    test: int = 0,
    dev: int = 0,
    method: Method | None = None,
) -> Plan:
    """The full plan of a run.

    Args:
        labeled, corpus, test, dev: number of rows. A corpus of 0 rows means that there is none.
        folds: number of chains. 0 means one chain with all labels.
        method: the result of `method_of`. Default: it is composed here.

    >>> plan = make_plan(RunConfig(), labeled=64, corpus=10_000, folds=3)
    >>> [(stage.name, plan.steps(stage)) for stage in (*plan.stages, plan.final)]
    [('regression', 0), ('start', 48), ('final', 625)]
    """
    method = method_of(config) if method is None else method
    stages, final = stages_of(method, rounds_of_run(config, method), folds)
    return Plan(method, stages, final, folds, labeled, corpus, test=test, dev=dev)


def texts_wanted(config: RunConfig, method: Method | None = None) -> int | None:
    """Number of texts of the corpus that a run can use, or None if it looks at all of them.

    If every row is used, training sees only a random sample (steps × batch size). Reading a random sample of that size
    gives the same result, so the rest is never loaded or scored. `LEAST_TEXTS` are enough to tell the class shares and
    a collapse. If rows are chosen by what is predicted, all rows are candidates.

    Args:
        method: the result of `method_of`. Default: it is composed here.

    >>> texts_wanted(RunConfig()), texts_wanted(RunConfig(method="self-training"))
    (48000, None)
    """
    method = method_of(config) if method is None else method
    selection, grow = method.selection, method.round
    if selection is None or grow is None:
        return None
    everyone = selection.quotas == "none" and isinstance(selection.weight, Everyone) and not selection.min_confidence
    if not everyone or grow.reads_corpus or any(stage.reads_corpus for stage in method.first):
        return None
    room = (grow.schedule.exactly or grow.schedule.most) * grow.schedule.rows_per_step
    return max(LEAST_TEXTS, int(max(1, rounds_of_run(config, method)) * room))
