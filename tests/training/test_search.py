"""A search over hyperparameters: it reaches the method, and no trial knows of the one before."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from test_trainer import labeled, student, unlabeled
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

from sstext.errors import UserError
from sstext.methods.registry import IN_STEP, build
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def searcher(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`searcher(method=…, **arguments)`: a trainer with `model_init`, given a method itself or by its arguments. Rows are
    tokenized once."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokens: dict[str, Any] = {}

    def make(
        *, method: Any = None, as_argument: bool = False, init: Any = None, callbacks: Any = None, **arguments: Any
    ) -> Any:
        given = {"use_cpu": True, "per_device_train_batch_size": 4, "max_steps": 3, "logging_steps": 1, "learning_rate": 1e-2,
                 "save_strategy": "no", "disable_tqdm": True, "seed": 3, "report_to": "none"} | arguments  # fmt: skip
        if as_argument:
            given["method"], method = method, None
        trainer = SemiSupervisedTrainer(
            None, SemiSupervisedTrainingArguments(str(tmp_path_factory.mktemp("search")), **given),
            model_init=init or (lambda: student(tiny_encoder)), processing_class=tokenizer, method=method,
            train_dataset=tokens.get("train_dataset", labeled()), eval_dataset=tokens.get("eval_dataset", labeled(6)),
            unlabeled_dataset=tokens.get("unlabeled_dataset", unlabeled()), callbacks=callbacks,
        )  # fmt: skip
        tokens.update((name, getattr(trainer, name)) for name in ("train_dataset", "eval_dataset", "unlabeled_dataset"))
        return trainer

    return make


def trials(trainer: Any, space: Callable[[Any], dict[str, Any]], number: int = 2, **kwargs: Any) -> list[Any]:
    """The trials of a search, in their order."""
    storage = kwargs.setdefault("storage", optuna.storages.InMemoryStorage())
    trainer.hyperparameter_search(space, n_trials=number, study_name="one", backend="optuna", **kwargs)
    return optuna.load_study(study_name="one", storage=storage).trials


#: One method for every kind of state: none, moving averages of statistics, of weights, and of each row's predictions.
STATEFUL = ("supervised", "freematch", "mean-teacher", "temporal-ensembling")


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in STATEFUL else pytest.mark.slow) for name in IN_STEP],
)
@pytest.mark.parametrize("as_objective", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_trials_with_the_same_values_give_the_same_bits(
    searcher: Callable[..., Any], method: str, as_objective: bool
) -> None:
    """Guards state that survives a trial: weights, teachers, thresholds, memories. Another rate is the canary."""
    trainer = searcher(method=build(method)) if as_objective else searcher(method=method)
    rates = [1e-2, 1e-2, 2e-2]
    values = [t.value for t in trials(trainer, lambda trial: {"learning_rate": rates[trial.number]}, 3)]
    assert values[0] == values[1] != values[2]


class Seen:
    """Keeps what each trial trains with, and what it logs first."""

    def __init__(self) -> None:
        kept = self.kept = []

        class Callback(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                kept.append({"args": args.to_dict()})

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                if "loss" in logs:
                    kept[-1].setdefault("log", dict(logs))

        self.callback = Callback()


def test_a_search_reaches_the_method_and_its_mappings(searcher: Callable[..., Any]) -> None:
    """Guards values that are set and not used, and values of a trial that remain in the next one or after the search."""
    seen = Seen()
    trainer = searcher(
        callbacks=[seen.callback], method="uda", as_argument=True, method_args={"strength": 0.5}, max_steps=1
    )
    spaces: list[dict[str, Any]] = [
        {"method": "fixmatch", "method_args.threshold": 0.0},
        {"method": "fixmatch", "method_args": {"threshold": 0.3}, "edits.drop": 0.1, "gold_share": 0.5},
        {"method": "fixmatch", "regularizers": {"entropy": 0.1}, "per_device_train_batch_size": 2},
        {},
    ]
    composed = []
    trainer.get_train_dataloader = _then(
        trainer.get_train_dataloader, lambda: composed.append(trainer.training_objective)
    )
    trials(trainer, lambda trial: spaces[trial.number], 4)
    assert [(one.weight.threshold, one.strength, len(one.regularizers)) for one in composed] == [
        (0.0, 0.5, 0),
        (0.3, 1.0, 0),  # the whole mapping is replaced
        (0.95, 0.5, 1),
        (0.8, 0.5, 0),  # uda's own threshold
    ]
    found = [trial["args"] for trial in seen.kept]
    assert [args["edits"]["drop"] for args in found] == [0.0, 0.1, 0.0, 0.0]
    assert [args["gold_share"] for args in found] == [0.25, 0.5, 0.25, 0.25]
    assert [args["per_device_train_batch_size"] for args in found] == [4, 4, 2, 4]
    after = trainer.args
    assert (after.method, after.method_args, after.per_device_train_batch_size) == ("uda", {"strength": 0.5}, 4)
    assert trainer._train_batch_size == 4


def _then(function: Callable[[], Any], do: Callable[[], None]) -> Callable[[], Any]:
    def called() -> Any:
        result = function()
        do()
        return result

    return called


class PruneTheFirst(optuna.pruners.BasePruner):
    """Ends trial 0 at its first evaluation."""

    def prune(self, study: Any, trial: Any) -> bool:
        return trial.number == 0


def test_a_pruned_trial_leaves_nothing_behind(searcher: Callable[..., Any]) -> None:
    """Guards sums of losses, and a teacher, of a training that was cut short between two logs."""
    settings = {"method": "mean-teacher", "max_steps": 4, "logging_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    logs, values = [], []
    for pruner in (PruneTheFirst(), optuna.pruners.NopPruner()):
        seen = Seen()
        found = trials(searcher(callbacks=[seen.callback], **settings), lambda trial: {}, pruner=pruner)
        logs.append(seen.kept[-1]["log"])
        values.append(found[1].value)
        assert (found[0].state == optuna.trial.TrialState.PRUNED) == isinstance(pruner, PruneTheFirst)
        assert isinstance(pruner, optuna.pruners.NopPruner) or set(found[0].intermediate_values) == {2}
    assert values[0] == values[1]
    assert logs[0]["loss_unlabeled"] == logs[1]["loss_unlabeled"]


def test_a_study_goes_on_with_the_same_bits(searcher: Callable[..., Any], tmp_path: Path) -> None:
    """Two programs with one trial each find what one program finds with two: the storage is a file."""
    rates = (1e-2, 3e-2)

    def space(trial: Any) -> dict[str, Any]:
        return {"learning_rate": trial.suggest_float("learning_rate", *2 * [rates[trial.number]])}

    values: list[Any] = []
    for name, parts in (("whole", [2]), ("parts", [1, 1])):
        for number in parts:
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / name)))
            trainer = searcher(method="softmatch")
            found = trials(trainer, space, number, storage=storage, load_if_exists=True, n_jobs=1)
        values.append([(trial.number, trial.value, trial.params) for trial in found])
    assert values[0] == values[1]
    assert values[0][0] != values[0][1]
    assert len(values[0]) == 2


def test_a_trials_seed_draws_the_model_of_that_trial(searcher: Callable[..., Any], tiny_encoder: Path) -> None:
    """Guards a head that is drawn with the seed of the trial before."""
    heads: list[float] = []

    def init() -> Any:
        model = AutoModelForSequenceClassification.from_pretrained(tiny_encoder, num_labels=3)
        heads.append(model.classifier.weight[0, 0].item())
        return model

    trials(searcher(init=init, max_steps=1), lambda trial: {"seed": (7, 8, 7)[trial.number]}, 3)
    _, first, second, third = heads  # the first one is the constructor's
    assert first == third != second


def test_the_best_values_are_set_as_people_set_them(searcher: Callable[..., Any]) -> None:
    """Guards `setattr(trainer.args, name, value)` of transformers' guide, for a name with a dot."""
    trainer = searcher(method="fixmatch", max_steps=1)
    best = trainer.hyperparameter_search(
        lambda trial: {"method_args.threshold": trial.suggest_float("method_args.threshold", 0.4, 0.4)},
        n_trials=1,
        backend="optuna",
    )
    assert best.hyperparameters == {"method_args.threshold": 0.4}
    assert trainer.args.method_args == {}
    for name, value in best.hyperparameters.items():
        setattr(trainer.args, name, value)
    trainer.train()
    assert trainer.training_objective.weight.threshold == 0.4


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("fixmatch", {"method": "softmatch"}, "hp_space: method has no effect in a trial, because the trainer was given one"),
        (build("fixmatch"), {"method_args.threshold": 0.5}, "hp_space: method_args has no effect in a trial"),
        (None, {"threshold": 0.5}, "hp_space: there is no argument 'threshold'.*as in method_args.threshold"),
        (None, {"threshold.x": 0.5}, "hp_space: there is no argument 'threshold.x'"),
        (None, {"seed.x": 1}, "seed.x: expected a key of method_args or regularizers or"),
        (None, {"max_length": 8}, "hp_space: max_length has no effect in a trial: texts are tokenized"),
        (None, {"gold_share": 2.0}, "gold_share: expected a share between 0 and 1, found 2.0"),
        (None, {"method": "fixmatch", "method_args.treshold": 1}, "no argument 'treshold'; did you mean threshold"),
    ],
)  # fmt: skip
def test_a_value_without_an_effect_is_refused(
    searcher: Callable[..., Any], method: Any, values: dict[str, Any], message: str
) -> None:
    """Guards a search that measures the same training again and again."""
    with pytest.raises(UserError, match=message):
        searcher(method=method).hyperparameter_search(lambda trial: values, n_trials=1, backend="optuna")


def test_trials_at_the_same_time_are_refused(searcher: Callable[..., Any]) -> None:
    """Guards two threads that train one model."""
    with pytest.raises(UserError, match="n_jobs: expected 1, because all trials use this trainer, found 2"):
        searcher().hyperparameter_search(lambda trial: {}, n_trials=2, n_jobs=2)


def test_what_a_methods_name_in_a_trial_turns_on_is_checked(searcher: Callable[..., Any]) -> None:
    """Guards the refusals of the constructor, which sees plain fine-tuning only."""
    trainer = searcher(
        method="supervised", as_argument=True, dataloader_persistent_workers=True, dataloader_num_workers=1
    )
    with pytest.raises(UserError, match="dataloader_persistent_workers"):
        trainer.hyperparameter_search(lambda trial: {"method": "fixmatch"}, n_trials=1, backend="optuna")


# Ray


@pytest.mark.slow
def test_trials_of_ray_reach_the_method_and_run_in_processes_of_their_own(
    local_ray: Any, searcher: Callable[..., Any], tmp_path: Path
) -> None:
    """Each trial is a task with a copy of the trainer. Guards a value that does not arrive there, one that stays here, and a
    trainer that cannot be copied because a training before has stopped within an epoch."""
    from ray import tune

    trainer = searcher(method="fixmatch", as_argument=True, method_args={"threshold": 0.4})
    trainer.train()
    space = {"learning_rate": 2e-2, "method_args.threshold": tune.grid_search([0.0, 1.0])}
    interrupt = signal.getsignal(signal.SIGINT)
    best = trainer.hyperparameter_search(
        lambda trial: space, n_trials=1, backend="ray", storage_path=str(tmp_path), verbose=0,
        resources_per_trial={"cpu": 1},
    )  # fmt: skip
    assert signal.getsignal(signal.SIGINT) is interrupt, "Ctrl-C in a later training is ours again"
    analysis = best.run_summary
    losses = {trial.config["method_args.threshold"]: trial.last_result["objective"] for trial in analysis.trials}
    assert losses[0.0] != losses[1.0]
    assert best.objective == min(losses.values())
    assert trainer.args.method_args == {"threshold": 0.4}
    assert trainer.args.learning_rate == 1e-2
