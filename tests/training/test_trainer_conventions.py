"""Every public method and argument of transformers' `Trainer` works, is refused, or is inherited.

recipes/guide/trainer_conventions.py lists them. Each is tried in plain fine-tuning ("alone") and with unlabeled rows
("paired"). Two tiny trainings serve all quick tests.
"""

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from packaging.version import Version
from test_trainer import labeled, student, unlabeled, weights
from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

from sstext.errors import UserError
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.trainer import SemiSupervisedTrainer

GUIDE = Path(__file__).parents[2] / "recipes" / "guide"
KINDS = ("alone", "paired")


def conventions() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trainer_conventions", GUIDE / "trainer_conventions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLE = conventions()
METHODS, CONSTRUCTOR, ARGUMENTS = (
    {name: row for row in rows for name in row.names.split()}
    for rows in (TABLE.METHODS, TABLE.CONSTRUCTOR, TABLE.ARGUMENTS)
)
PUBLIC = {name for name in dir(Trainer) if not name.startswith("_")}
PARAMETERS = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
FIELDS = {field.name for field in fields(TrainingArguments)}


# The list


@pytest.mark.parametrize(
    ("known", "there"),
    [(METHODS, PUBLIC), (CONSTRUCTOR, PARAMETERS), (ARGUMENTS, FIELDS)],
    ids=("methods", "constructor", "arguments"),
)
def test_every_convention_of_transformers_is_in_the_list(known: dict[str, Any], there: set[str]) -> None:
    """Guards a method or argument that transformers adds: nobody has asked what our trainer makes of it."""
    assert there - set(known) == set(), "add it to recipes/guide/trainer_conventions.py, and say what it does here"
    assert set(known) - there <= TABLE.OLDER | TABLE.NEWER, "transformers has no such name"
    if Version(transformers.__version__) >= Version("5.23"):
        assert set(known) - there <= TABLE.OLDER


def test_a_name_stands_in_the_list_once() -> None:
    for rows in (TABLE.METHODS, TABLE.CONSTRUCTOR, TABLE.ARGUMENTS):
        listed = [name for row in rows for name in row.names.split()]
        assert len(listed) == len(set(listed))
        for row in rows:
            assert {row.alone, row.paired} <= {TABLE.INHERITED, TABLE.WORKS, TABLE.REFUSED}
            assert row.note or TABLE.REFUSED not in (row.alone, row.paired), f"{row.names}: why?"


@pytest.mark.parametrize("name", sorted(set(METHODS) & PUBLIC))
def test_what_is_inherited_is_not_changed(name: str) -> None:
    """Guards a table that calls a method inherited that one of our classes defines, and the other way round."""
    own = inspect.getattr_static(SemiSupervisedTrainer, name)
    is_inherited = own is inspect.getattr_static(Trainer, name)
    assert is_inherited == (METHODS[name].alone == METHODS[name].paired == TABLE.INHERITED)


# A trainer, with as many arguments as go together


class Hear(TrainerCallback):
    """Counts the events that it hears of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.heard.append("step")

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.heard.append("evaluate")


#: Argument → a value that is not its default. All go together; `test_an_argument_alone` tries them one by one.
TOGETHER: dict[str, Any] = {
    "per_device_train_batch_size": 4, "per_device_eval_batch_size": 3, "max_steps": 2, "learning_rate": 1e-2,
    "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-7,
    "lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}, "warmup_steps": 1,
    "max_grad_norm": 0.5, "logging_steps": 1,
    "logging_first_step": True, "logging_strategy": "steps", "logging_nan_inf_filter": False, "log_level": "error",
    "log_level_replica": "error", "log_on_each_node": False, "disable_tqdm": True, "report_to": "none", "run_name": "a-run",
    "eval_strategy": "steps", "eval_steps": 1, "eval_delay": 1, "eval_accumulation_steps": 2, "eval_do_concat_batches": True,
    "eval_use_gather_object": True, "include_for_metrics": ["loss"], "eval_on_start": True, "save_strategy": "steps",
    "save_steps": 1, "save_total_limit": 1, "save_on_each_node": True, "load_best_model_at_end": True,
    "metric_for_best_model": "one_rows", "greater_is_better": True, "seed": 3, "data_seed": 4, "use_cpu": True,
    "accelerator_config": {"even_batches": False}, "dataloader_pin_memory": False, "dataloader_drop_last": True,
    "label_names": ["labels"], "skip_memory_metrics": True, "include_num_input_tokens_seen": True,
    "average_tokens_across_devices": False, "torch_empty_cache_steps": 1,
    "restore_callback_states_from_checkpoint": True, "ddp_timeout": 60, "do_train": True, "do_eval": True, "do_predict": True,
    "hub_strategy": "end", "hub_always_push": True, "hub_private_repo": True, "gradient_accumulation_steps": 2,
    "full_determinism": False, "project": "a-project", "optim": "adamw_torch", "num_train_epochs": 5,
}  # fmt: skip
#: Those whose values `TrainingArguments` replaces by others, such as members of an enumeration.
RESOLVED = {"accelerator_config", "report_to", "include_num_input_tokens_seen"}
#: Argument → a value that is tried alone, in a slow test.
ALONE: dict[str, Any] = {
    "neftune_noise_alpha": 0.1,
    "optim_args": "eps=1e-3", "warmup_ratio": 0.5, "bf16": True, "bf16_full_eval": True, "gradient_checkpointing": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False}, "activation_checkpointing": True,
    "activation_checkpointing_kwargs": {"use_reentrant": False}, "use_cache": True, "auto_find_batch_size": True,
    "prediction_loss_only": True, "batch_eval_metrics": True, "save_only_model": True, "ignore_data_skip": True,
    "dataloader_num_workers": 1, "dataloader_prefetch_factor": 2, "dataloader_multiprocessing_context": "fork",
    "dataloader_in_order": False, "remove_unused_columns": False, "full_determinism": True,
    "enable_jit_checkpoint": True, "logging_dir": "logs", "hub_model_id": "someone/model", "hub_token": "none",
    "hub_revision": "v1", "resume_from_checkpoint": None,
}  # fmt: skip
#: Argument → a value that is refused with unlabeled rows, what else it needs, and the start of the message.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "label_smoothing_factor": ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is supported only for plain"),
    "dataloader_persistent_workers": (
        {"dataloader_persistent_workers": True, "dataloader_num_workers": 1}, "dataloader_persistent_workers: ",
    ),
    "train_sampling_strategy": ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy: "),
    "group_by_length": ({"group_by_length": True}, "group_by_length: "),
    "length_column_name": ({"length_column_name": "size"}, "length_column_name: "),
}  # fmt: skip
#: Why an argument is not tried here.
ELSEWHERE = {
    "output_dir": "every test gives it",
    **dict.fromkeys(("fp16", "fp16_full_eval", "tf32"), "needs a GPU"),
    **dict.fromkeys(
        (
            "torch_compile",
            "torch_compile_backend",
            "torch_compile_mode",
            "use_liger_kernel",
            "liger_kernel_config",
            "optim_target_modules",
        ),
        "needs a compiler or another library",
    ),
    **dict.fromkeys(("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), "needs another library"),
    "push_to_hub": "test_pushing.py",
    "debug": "transformers' own hook fails on the masks of BERT, which are booleans",
    **dict.fromkeys(
        (
            "fsdp",
            "fsdp_config",
            "deepspeed",
            "parallelism_config",
            "local_rank",
            "ddp_find_unused_parameters",
            "ddp_bucket_cap_mb",
            "ddp_broadcast_buffers",
            "ddp_static_graph",
            "ddp_backend",
        ),
        "needs several processes",
    ),
}


@pytest.fixture(scope="module")
def parts(tiny_encoder: Path) -> dict[str, Any]:
    """Tokenized rows, so that no trainer tokenizes them again, and their tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)

    def tokens(rows: Dataset) -> Dataset:
        found = rows.map(lambda row: tokenizer(row["text"])).remove_columns("text")
        return found.rename_column("label", "labels") if "label" in found.column_names else found

    return {
        "tokenizer": tokenizer,
        "labeled": tokens(labeled(16)),
        "few": tokens(labeled(6)),
        "unlabeled": tokens(unlabeled()),
    }


def arguments(output: Path, kind: str, **given: Any) -> SemiSupervisedTrainingArguments:
    """Arguments of a training of two steps, without those that the installed transformers lacks."""
    usual = {name: TOGETHER[name] for name in ("max_steps", "learning_rate", "use_cpu", "disable_tqdm", "report_to")}
    values = {"save_strategy": "no", "per_device_train_batch_size": 4} | usual | given
    values = {name: value for name, value in values.items() if name in FIELDS}
    return SemiSupervisedTrainingArguments(
        str(output), method="softmatch" if kind == "paired" else "supervised", **values
    )


@pytest.fixture(scope="module", params=KINDS)
def trained(request: Any, tiny_encoder: Path, parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trainer with all arguments of `TOGETHER`, and all of the constructor that go together, after its training."""
    hear = Hear()
    trainer = SemiSupervisedTrainer(
        None, arguments(tmp_path_factory.mktemp("conventions"), request.param, **TOGETHER),
        DataCollatorWithPadding(parts["tokenizer"]), parts["labeled"], {"one": parts["few"], "two": parts["few"]},
        parts["tokenizer"],
        model_init=lambda: student(tiny_encoder), callbacks=[hear],
        compute_metrics=lambda given: {"rows": len(given.label_ids), "width": given.predictions.shape[-1]},
        preprocess_logits_for_metrics=lambda logits, labels: logits[:, :2],
        unlabeled_dataset=parts["unlabeled"] if request.param == "paired" else None,
    )  # fmt: skip
    trainer.kind, trainer.hear, trainer.ended = request.param, hear, trainer.train()
    return trainer


# What the trained trainer shows


def test_every_argument_is_tried_or_says_why_not() -> None:
    tried = set(TOGETHER) | set(ALONE) | set(REFUSED)
    assert tried | set(ELSEWHERE) == set(ARGUMENTS)
    assert not tried & set(ELSEWHERE)
    assert {name for name, row in ARGUMENTS.items() if row.paired == TABLE.REFUSED} == set(REFUSED)


def test_the_arguments_act_together(trained: Any) -> None:
    """Guards values that the trainer replaces, and trainings that leave out what they ask for."""
    args, state = trained.args, trained.state
    for name in set(TOGETHER) & FIELDS - RESOLVED:
        assert getattr(args, name) == TOGETHER[name], name
    assert state.global_step == state.max_steps == trained.ended.global_step == 2
    logs = [log for log in state.log_history if "loss" in log]
    assert [log["step"] for log in logs] == [1, 2]
    assert ("loss_unlabeled" in logs[0]) == (trained.kind == "paired")
    evaluated = [log for log in state.log_history if "eval_one_rows" in log]
    assert [log["step"] for log in evaluated] == [0, 1, 2]
    assert state.num_input_tokens_seen > 0
    assert state.total_flos > 0
    assert state.best_metric == 6
    kept = sorted(path.name for path in Path(args.output_dir).glob("checkpoint-*"))
    assert kept == ["checkpoint-1"], "the best one, and no other"


def test_the_constructors_arguments_act(trained: Any) -> None:
    assert trained.hear.heard.count("step") == 2
    assert trained.hear.heard.count("evaluate") == 3 * 2
    evaluated = next(log for log in trained.state.log_history if "eval_two_width" in log)
    assert evaluated["eval_two_width"] == 2, "preprocess_logits_for_metrics"
    assert evaluated["eval_two_rows"] == 6
    assert trained.model_init is not None


def batch_of(trainer: Any) -> Any:
    trainer.model.train()
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def rows_of(trainer: Any) -> Any:
    return trainer.train_dataset.select(range(3))


def seen_callback(trainer: Any) -> bool:
    trainer.add_callback(Hear)
    popped = trainer.pop_callback(Hear)
    trainer.add_callback(popped)
    before = len(trainer.callback_handler.callbacks)
    trainer.remove_callback(popped)
    return isinstance(popped, Hear) and len(trainer.callback_handler.callbacks) == before - 1


def optimizer_is_made(trainer: Any, make: Callable[[], Any]) -> bool:
    trainer.optimizer = trainer.lr_scheduler = None
    make()
    trained = {id(one) for group in trainer.optimizer.param_groups for one in group["params"]}
    return trained == {id(one) for one in trainer.model.parameters()}


def folder(trainer: Any) -> Path:
    return Path(trainer.args.output_dir)


def saved(trainer: Any) -> bool:
    trainer.save_model(str(folder(trainer) / "saved"))
    names = {path.name for path in (folder(trainer) / "saved").iterdir()}
    return {"model.safetensors", "config.json"} <= names and not any(name.endswith(".bin") for name in names)


def written(trainer: Any, act: Callable[[], Any], name: str) -> bool:
    (folder(trainer) / name).unlink(missing_ok=True)
    act()
    return (folder(trainer) / name).stat().st_size > 0


def formatted(trainer: Any) -> bool:
    """In new versions, it is a function without `self` that only hangs on the class."""
    own = [trainer] if "self" in inspect.signature(Trainer.metrics_format).parameters else []
    return "train_runtime" in Trainer.metrics_format(*own, trainer.ended.metrics)


def logged(trainer: Any) -> bool:
    trainer.log({"something": 1.5})
    return trainer.state.log_history.pop()["something"] == 1.5


def stored(trainer: Any) -> bool:
    before, trainer.current_flos = trainer.state.total_flos, 7
    trainer.store_flos()
    return trainer.state.total_flos == before + 7 and trainer.current_flos == 0


def loss_of_step(trainer: Any) -> bool:
    loss = trainer.training_step(trainer.model, batch_of(trainer))
    trainer.model.zero_grad()
    return bool(loss.isfinite()) and not loss.requires_grad


def row_count(trainer: Any) -> bool:
    """16 rows, in whole batches of 4 × 2 micro-batches."""
    return trainer.num_examples(trainer.get_train_dataloader()) == 16


#: Method → whether it does what it says, for a trainer after its training. In this order.
CHECKS: dict[str, Callable[[Any], bool]] = {
    "train": lambda t: t.ended.metrics["train_runtime"] > 0,
    "evaluate": lambda t: t.evaluate(rows_of(t))["eval_rows"] == 3,
    "predict": lambda t: t.predict(rows_of(t)).predictions.shape == (3, 2),
    "evaluation_loop": lambda t: t.evaluation_loop(t.get_eval_dataloader(rows_of(t)), "some").num_samples == 3,
    "prediction_step": lambda t: (
        t.prediction_step(t.model.eval(), next(iter(t.get_eval_dataloader(rows_of(t)))), False)[1].shape[0] == 3
    ),
    "call_model_init": lambda t: t.call_model_init() is not t.model,
    "compute_loss": lambda t: t.compute_loss(t.model, batch_of(t)).requires_grad,
    "compute_loss_context_manager": lambda t: t.compute_loss_context_manager().__enter__() is not t,
    "autocast_smart_context_manager": lambda t: t.autocast_smart_context_manager().__enter__() is None,
    "training_step": loss_of_step,
    "get_batch_samples": lambda t: len(t.get_batch_samples(iter(t.get_train_dataloader()), 2, t.args.device)[0]) == 2,
    "get_train_dataloader": lambda t: ("unlabeled" in next(iter(t.get_train_dataloader()))) == (t.kind == "paired"),
    "get_eval_dataloader": lambda t: len(t.get_eval_dataloader("one").dataset) == 6,
    "get_test_dataloader": lambda t: len(t.get_test_dataloader(rows_of(t)).dataset) == 3,
    "num_examples": row_count,
    "num_tokens": lambda t: t.num_tokens(t.get_eval_dataloader(rows_of(t))) > 3,
    "set_initial_training_values": lambda t: (
        t.set_initial_training_values(t.args, t.get_train_dataloader(), *_batch_argument(t))[-1] == 2
    ),
    "get_total_train_batch_size": lambda t: t.get_total_train_batch_size(t.args) == 8,
    **{f"get_{name}_size": lambda t, name=name: getattr(t, f"get_{name}_size")() == 1 for name in ("cp", "sp", "tp")},
    "get_decay_parameter_names": lambda t: (
        not any(name.endswith("bias") for name in t.get_decay_parameter_names(t.model))
    ),
    "get_num_trainable_parameters": lambda t: (
        t.get_num_trainable_parameters() == sum(one.numel() for one in t.model.parameters())
    ),
    "get_optimizer_cls_and_kwargs": lambda t: t.get_optimizer_cls_and_kwargs(t.args, t.model)[1]["lr"] == 1e-2,
    "create_optimizer": lambda t: optimizer_is_made(t, t.create_optimizer),
    "create_scheduler": lambda t: t.create_scheduler(2) is t.lr_scheduler,
    "create_optimizer_and_scheduler": lambda t: optimizer_is_made(t, lambda: t.create_optimizer_and_scheduler(2)),
    "get_optimizer_group": lambda t: len(t.get_optimizer_group()) == 2,
    "get_learning_rates": lambda t: len(t.get_learning_rates()) == 2,
    "log": logged,
    "log_metrics": lambda t: t.log_metrics("train", t.ended.metrics) is None,
    "metrics_format": formatted,
    "save_metrics": lambda t: written(t, lambda: t.save_metrics("train", t.ended.metrics), "train_results.json"),
    "save_state": lambda t: written(t, t.save_state, "trainer_state.json"),
    "save_model": saved,
    "create_model_card": lambda t: written(t, t.create_model_card, "README.md"),
    "floating_point_ops": lambda t: t.floating_point_ops(batch_of(t)) > 0,
    "store_flos": stored,
    "compare_trainer_and_checkpoint_args": lambda t: t.compare_trainer_and_checkpoint_args(t.args, t.state) is None,
    **dict.fromkeys(("add_callback", "pop_callback", "remove_callback"), seen_callback),
    "is_local_process_zero": lambda t: t.is_local_process_zero(),
    "is_world_process_zero": lambda t: t.is_world_process_zero(),
    "loss_is_scaled_for_ga": lambda t: t.loss_is_scaled_for_ga is False,
    "create_accelerator_and_postprocess": lambda t: t.create_accelerator_and_postprocess() is None,
    "end": lambda t: t.end() is None,
}
#: Methods that other files try.
IN_OTHER_FILES = {
    "hyperparameter_search": ("test_search.py", "hyperparameter_search"),
    "push_to_hub": ("test_pushing.py", "push_to_hub("),
    "init_hf_repo": ("test_pushing.py", "push_to_hub=True"),  # the constructor then makes the repository
}
#: Why a method is not tried.
UNTRIED = {"propagate_args_to_deepspeed": "needs deepspeed"}


def _batch_argument(trainer: Any) -> list[int]:
    """The oldest versions want the batch size of all processes too."""
    known = inspect.signature(Trainer.set_initial_training_values).parameters
    return [trainer.get_total_train_batch_size(trainer.args)] if "total_train_batch_size" in known else []


def test_every_method_has_a_check() -> None:
    assert set(CHECKS) | set(IN_OTHER_FILES) | set(UNTRIED) == set(METHODS)
    for file, word in IN_OTHER_FILES.values():
        assert word in (Path(__file__).parent / file).read_text(encoding="utf-8"), word


@pytest.mark.parametrize("name", [name for name in CHECKS if name in PUBLIC])
def test_a_method_works(trained: Any, name: str) -> None:
    """Guards a method that only works for flat batches, or for a training without an objective."""
    assert CHECKS[name](trained)


# What needs a trainer of its own


def make(
    tiny_encoder: Path, parts: dict[str, Any], output: Path, kind: str, *, given: Any = None, **settings: Any
) -> Any:
    return SemiSupervisedTrainer(
        student(tiny_encoder), arguments(output, kind, **(given or {})), train_dataset=parts["labeled"],
        eval_dataset=parts["few"], processing_class=parts["tokenizer"],
        unlabeled_dataset=parts["unlabeled"] if kind == "paired" else None, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_of_ones_own(tiny_encoder: Path, parts: dict[str, Any], tmp_path: Path, kind: str) -> None:
    """`optimizers` and `optimizer_cls_and_kwargs`: a rate of 0 trains nothing, and another one does."""
    for rate in (0.0, 0.1):
        trainer = make(tiny_encoder, parts, tmp_path, kind, optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": rate}))
        before = weights(trainer).clone()
        trainer.train()
        assert isinstance(trainer.optimizer.optimizer, torch.optim.SGD)
        assert torch.equal(before, weights(trainer)) == (rate == 0)
    model = student(tiny_encoder)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = SemiSupervisedTrainer(
        model, arguments(tmp_path, kind), train_dataset=parts["labeled"], processing_class=parts["tokenizer"],
        unlabeled_dataset=parts["unlabeled"] if kind == "paired" else None, optimizers=(optimizer, None),
    )  # fmt: skip
    trainer.train()
    assert torch.equal(before, weights(trainer))


def test_a_loss_of_ones_own_is_used_alone_and_refused_with_unlabeled_rows(
    tiny_encoder: Path, parts: dict[str, Any], tmp_path: Path
) -> None:
    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        return outputs["logits"].sum() * 0 + 3.0

    trainer = make(tiny_encoder, parts, tmp_path, "alone", compute_loss_func=loss)
    assert trainer.train().training_loss == pytest.approx(3.0)
    with pytest.raises(UserError, match="compute_loss_func: the objective computes the loss"):
        make(tiny_encoder, parts, tmp_path, "paired", compute_loss_func=loss)


@pytest.mark.parametrize("name", sorted(set(REFUSED) & FIELDS))
def test_an_argument_is_refused_with_unlabeled_rows_alone(
    tiny_encoder: Path, parts: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """Guards an argument without an effect, and a refusal that plain fine-tuning hears too."""
    given, message = REFUSED[name]
    make(tiny_encoder, parts, tmp_path, "alone", given=given)
    with pytest.raises(UserError, match=f"^{message}"):
        make(tiny_encoder, parts, tmp_path, "paired", given=given)


@pytest.mark.parametrize("missing", ["train_dataset", "processing_class"])
def test_what_a_training_with_unlabeled_rows_lacks_is_named(
    tiny_encoder: Path, parts: dict[str, Any], tmp_path: Path, missing: str
) -> None:
    """Guards a trainer for evaluation alone, which is made without them, and an error of Python when it trains."""
    given = {"train_dataset": parts["labeled"], "processing_class": parts["tokenizer"]} | {missing: None}
    trainer = SemiSupervisedTrainer(
        student(tiny_encoder), arguments(tmp_path, "alone"), DataCollatorWithPadding(parts["tokenizer"]), method="fixmatch",
        unlabeled_dataset=parts["unlabeled"], **given,
    )  # fmt: skip
    with pytest.raises(UserError, match=f"^{missing}: .*give {missing}="):
        trainer.train()


def test_strategies_that_push_a_whole_checkpoint_are_refused() -> None:
    for name in ("checkpoint", "all_checkpoints"):
        with pytest.raises(UserError, match="hub_strategy"):
            SemiSupervisedTrainingArguments("out", use_cpu=True, hub_strategy=name)


#: What an argument needs beside itself.
BESIDE: dict[str, dict[str, Any]] = {
    "gradient_checkpointing_kwargs": {"gradient_checkpointing": True},
    "activation_checkpointing_kwargs": {"activation_checkpointing": True},
    "dataloader_prefetch_factor": {"dataloader_num_workers": 1},
    "dataloader_multiprocessing_context": {"dataloader_num_workers": 1},
    "dataloader_in_order": {"dataloader_num_workers": 1},
    "save_only_model": {"save_strategy": "steps", "save_steps": 1},
    "eval_steps": {"eval_strategy": "steps"},
    "eval_delay": {"eval_strategy": "epoch"},
    "num_train_epochs": {"max_steps": -1},
    "load_best_model_at_end": {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1},
    "metric_for_best_model": {"metric_for_best_model": "loss"},
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine_with_restarts"},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted((set(TOGETHER) | set(ALONE)) & FIELDS))
def test_an_argument_alone(tiny_encoder: Path, parts: dict[str, Any], tmp_path: Path, name: str, kind: str) -> None:
    """Without unlabeled rows, what is inherited gives the bits of `Trainer`; with them, it gives a finite loss."""
    given = {name: (TOGETHER | ALONE)[name]} | BESIDE.get(name, {})
    trainer = make(tiny_encoder, parts, tmp_path / "ours", kind, given=given)
    before = weights(trainer).clone()
    assert torch.isfinite(torch.tensor(trainer.train().training_loss))
    assert not torch.equal(before, weights(trainer))
    if kind == "alone" and ARGUMENTS[name].alone == TABLE.INHERITED:
        ours = arguments(tmp_path / "plain", kind, **given)
        values = {one.name: getattr(ours, one.name) for one in fields(TrainingArguments) if one.init}
        plain = Trainer(
            student(tiny_encoder), TrainingArguments(**values), DataCollatorWithPadding(parts["tokenizer"]), parts["labeled"],
            parts["few"], parts["tokenizer"],
        )  # fmt: skip
        plain.train()
        assert torch.equal(weights(plain), weights(trainer))
