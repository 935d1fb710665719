"""The options of a run → the arguments of one round's trainer, and what is admitted between two rounds."""

from dataclasses import replace
from typing import Any

from sstext.config.options import default_of, options
from sstext.config.run_config import BY_METHOD, RunConfig
from sstext.methods.registry import BETWEEN_ROUNDS, admission_of, build
from sstext.objective.objective import Objective
from sstext.objective.targets import Hard, Soft
from sstext.objective.weights import Everyone
from sstext.pseudolabels.admission import Admission

#: Optimizer steps of a round, at most, where nobody says how many.
MOST_STEPS = 2_000


#: Texts of a corpus that are looked at in any case.
LEAST_TEXTS = 4_096


def round_steps(config: RunConfig, index: int, *, labeled: int, admitted: int) -> int:
    """Optimizer steps of a round: 20 passes over the labeled rows, or 3 over the admitted ones, within bounds.

    `auto` makes more trainings, and each of them half as long at least; its start takes 30 passes, its rounds 1.5.
    `round_steps` may make the start shorter, but not longer: a hundred labels are soon known by heart.

    Plain fine-tuning takes 60 steps at least: with 40 labels, 120 were worse (recipes/benchmark/LOG.md).

    >>> config = RunConfig(method="supervised")
    >>> round_steps(config, 0, labeled=64, admitted=0), round_steps(config, 1, labeled=64, admitted=10_000)
    (80, 1250)
    """
    admission = round_admission(config)
    plain = index == 0 and round_objective(config, index)["method"] == "supervised"
    least = 60 if config.method == "auto" or plain else 120
    if is_first(config, index):
        return config.steps or min(500, max(least, 20 * labeled // config.batch_size))
    if index < admission.label_rounds:
        usual = min(500, max(least, 30 * labeled // config.round_batch_size))
        return min(usual, config.round_steps or usual)
    passes = 1.5 if config.method == "auto" else 3
    return config.round_steps or min(MOST_STEPS, max(least, int(passes * admitted / kept_per_step(config))))


def kept_per_step(config: RunConfig) -> float:
    """Pseudo-labeled rows of a step."""
    return max(1.0, config.round_batch_size * (1 - config.gold_share))


def texts_wanted(config: RunConfig) -> int | None:
    """How many texts of the corpus the rounds of a run can read; None: all of it is looked at.

    Where every text joins, a round reads what its steps have room for, drawn at random; a corpus of as many as all rounds have
    room for, drawn at random itself, teaches as much, and the rest need not be scored. `LEAST_TEXTS` tell the class shares and
    a collapse well enough. Where rows are chosen by what was predicted, the best ones may be anywhere.

    >>> texts_wanted(RunConfig()), texts_wanted(RunConfig(method="self-training"))
    (48000, None)
    """
    admission = round_admission(config)
    everyone = admission.quotas == "none" and isinstance(admission.weight, Everyone) and not config.min_confidence
    if not everyone or any(reads_corpus(config, index) for index in range(admission.label_rounds + 1)):
        return None
    room = (config.round_steps or MOST_STEPS) * kept_per_step(config)
    return max(LEAST_TEXTS, int(max(1, config.rounds) * room))


def is_first(config: RunConfig, index: int) -> bool:
    """Whether a round trains as a first one does: the method's own training, and the plain one that it is compared with."""
    return index == 0 or (config.method != "auto" and index < round_admission(config).label_rounds)


def round_objective(config: RunConfig, index: int) -> dict[str, Any]:
    """`method`, `method_args` and `regularizers` of a round's trainer.

    >>> round_objective(RunConfig(method="ust", regularizers={"entropy": .1}), 1)
    {'method': 'supervised', 'method_args': {}, 'regularizers': {'entropy': 0.1}}
    """
    admission = round_admission(config)
    # Round 0 of a method that has a start of its own is what it is compared with: plain fine-tuning.
    baseline = admission.labels_first and index == 0
    start_is_over = admission.start_only and index >= admission.label_rounds
    plain = config.method in BETWEEN_ROUNDS or baseline or start_is_over
    return {
        "method": "supervised" if plain else config.method,
        "method_args": {} if plain else config.method_args,
        "regularizers": {} if baseline else config.regularizers,
    }


def built_objective(config: RunConfig, index: int) -> Objective:
    """The objective of a round's trainer."""
    asked = round_objective(config, index)
    return build(asked["method"], asked["method_args"], asked["regularizers"])


def reads_corpus(config: RunConfig, index: int) -> bool:
    """Whether the student of a round learns from unlabeled text inside its steps.

    >>> reads_corpus(RunConfig(method="fixmatch"), 0), reads_corpus(RunConfig(method="auto"), 2)
    (True, False)
    """
    return not built_objective(config, index).supervised


def round_admission(config: RunConfig) -> Admission:
    """What is admitted between two rounds: as the method says if it is one of the round loop, else as the options say.

    With folds, a method inside a step has a round of its own after the plain one that it is compared with.

    >>> round_admission(RunConfig(pseudo_labels="soft")).target
    Soft()
    """
    own = admission_of(config.method, config.method_args)
    if own is None:
        compared = bool(config.folds) and not build(config.method, config.method_args, config.regularizers).plain
        own = Admission(follows_options=True, labels_first=compared)
    if not own.follows_options:
        return own
    soft = config.pseudo_labels == "soft"
    every_row = soft and min(config.keep) == 1  # the alignment balances them, and a doubtful row says so itself
    return replace(
        own, target=Soft() if soft else Hard(), align=config.alignment, quotas="none" if every_row else "prior"
    )


def options_of_no_effect(config: RunConfig) -> list[str]:
    """Options that were given, and that the method of the round loop decides in another way.

    >>> options_of_no_effect(RunConfig(method="ust", keep=[.25], prior="uniform"))
    ['prior']
    """
    own = admission_of(config.method, config.method_args)
    if own is None or own.follows_options:
        return []
    decided = ["prior", "alignment", "pseudo_labels"] + (["keep"] if own.quotas == "none" else [])
    known = options(RunConfig)
    return [name for name in decided if getattr(config, name) != BY_METHOD.get(name, ("", default_of(known[name])))[1]]
