"""What transformers' users expect of a `Trainer`, and what `SemiSupervisedTrainer` makes of it: the rows of a table.

`make.py` writes the table into trainer_conventions.md. tests/training/test_trainer_conventions.py tries every row, and
fails where transformers has a public method or argument that no row names.
"""

from collections.abc import Iterable
from dataclasses import dataclass

#: Trainer's own code does it, and nothing of ours changes it.
INHERITED = "inherited"
#: Our code takes part in it, so that it works with unlabeled rows too.
WORKS = "works"
#: It raises an error that says why.
REFUSED = "refused"


@dataclass(frozen=True)
class Convention:
    """A method or argument of transformers, or several that are alike.

    Attributes:
        names: the names, separated by spaces.
        alone: what happens in plain fine-tuning, without unlabeled rows.
        paired: what happens if the objective computes the loss.
        note: what differs from `Trainer`, or why it is refused.
    """

    names: str
    alone: str = INHERITED
    paired: str = INHERITED
    note: str = ""


METHODS = (
    Convention(
        "train", WORKS, WORKS, "The state of the objective is new in every training, unless a checkpoint restores it."
    ),
    Convention("evaluate predict prediction_step", note="They read labeled rows; raw text is tokenized."),
    Convention(
        "evaluation_loop",
        WORKS,
        WORKS,
        "With `eval_teacher`, the model has the teacher's weights in it. Outputs that are not finite are an error.",
    ),
    Convention(
        "hyperparameter_search",
        WORKS,
        WORKS,
        "It reaches `method` and the keys of `method_args`; trials are independent.",
    ),
    Convention("call_model_init", WORKS, WORKS, "The classes of the model get names, and it gets its adapter."),
    Convention("compute_loss", WORKS, WORKS, "Alone, `Trainer`'s loss. Otherwise, the objective's."),
    Convention(
        "training_step", WORKS, WORKS, "If memory runs out, it computes a micro-batch in parts, with the same rows."
    ),
    Convention("compute_loss_context_manager autocast_smart_context_manager"),
    Convention("get_batch_samples", WORKS, WORKS, "With `--profile`, the time that it takes is measured."),
    Convention("get_train_dataloader", WORKS, WORKS, "Each item has a labeled row and its unlabeled rows."),
    Convention("get_eval_dataloader get_test_dataloader", WORKS, WORKS, "Raw text is tokenized."),
    Convention("num_examples", note="With unlabeled rows: labeled and pseudo-labeled rows, in whole batches."),
    Convention("set_initial_training_values get_total_train_batch_size get_cp_size get_sp_size get_tp_size"),
    Convention("create_optimizer", WORKS, WORKS, "The head may have its own rate (`head_learning_rate`)."),
    Convention(
        "create_optimizer_and_scheduler create_scheduler get_decay_parameter_names get_optimizer_cls_and_kwargs"
    ),
    Convention("get_optimizer_group get_learning_rates get_num_trainable_parameters"),
    Convention("create_accelerator_and_postprocess propagate_args_to_deepspeed end"),
    Convention("log", WORKS, WORKS, "The component losses are added, and numbers that are not finite are left out."),
    Convention("log_metrics save_metrics metrics_format save_state"),
    Convention("floating_point_ops store_flos num_tokens", note="They count labeled rows."),
    Convention(
        "save_model",
        WORKS,
        WORKS,
        "No pickle of the arguments lies beside the weights, which must be finite. Sharded weights are whole in it.",
    ),
    Convention("compare_trainer_and_checkpoint_args"),
    Convention("push_to_hub init_hf_repo", WORKS, WORKS, "They push the model and its card, and no other file."),
    Convention(
        "create_model_card",
        WORKS,
        WORKS,
        "It writes our card, with the rows, the method and the figures of the last evaluation.",
    ),
    Convention("add_callback pop_callback remove_callback is_local_process_zero is_world_process_zero"),
    Convention("loss_is_scaled_for_ga", WORKS, WORKS, "The loss is the mean over micro-batches, for every model."),
)

CONSTRUCTOR = (
    Convention("model model_init", WORKS, WORKS, "A model may be given by name, with `model_init_kwargs`."),
    Convention("args", WORKS, WORKS, "`SemiSupervisedTrainingArguments`, or plain `TrainingArguments`."),
    Convention("data_collator", INHERITED, WORKS, "It pads labeled and unlabeled rows."),
    Convention(
        "train_dataset eval_dataset processing_class",
        WORKS,
        WORKS,
        "Raw `text` is tokenized, and names of classes become numbers and name the classes of the model.",
    ),
    Convention("compute_loss_func", INHERITED, REFUSED, "The objective computes the loss; give `method=Objective(…)`."),
    Convention("compute_metrics preprocess_logits_for_metrics callbacks"),
    Convention(
        "optimizers", INHERITED, WORKS, "Refused by `reconstruction`, which trains a new head that the optimizer lacks."
    ),
    Convention("optimizer_cls_and_kwargs", note="Refused with `head_learning_rate`."),
)

ARGUMENTS = (
    Convention("output_dir do_train do_eval do_predict resume_from_checkpoint"),
    Convention(
        "per_device_train_batch_size",
        INHERITED,
        WORKS,
        "Labeled and pseudo-labeled rows; each comes with `unlabeled_batch_ratio` unlabeled rows.",
    ),
    Convention(
        "num_train_epochs max_steps", INHERITED, WORKS, "An epoch has one item per labeled and pseudo-labeled row."
    ),
    Convention("gradient_accumulation_steps", WORKS, WORKS, "The loss is the mean over micro-batches."),
    Convention("learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon optim optim_args optim_target_modules"),
    Convention("lr_scheduler_type lr_scheduler_kwargs warmup_steps warmup_ratio max_grad_norm"),
    Convention("label_smoothing_factor", INHERITED, REFUSED, "The objective defines the targets."),
    Convention(
        "bf16 fp16 tf32 bf16_full_eval fp16_full_eval", INHERITED, WORKS, "The state of the objective stays float32."
    ),
    Convention(
        "activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs"
    ),
    Convention("torch_compile torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config use_cache"),
    Convention("neftune_noise_alpha torch_empty_cache_steps auto_find_batch_size"),
    Convention("average_tokens_across_devices", note="No effect with unlabeled rows: their loss is a mean over rows."),
    Convention(
        "logging_strategy logging_steps logging_first_step logging_nan_inf_filter",
        INHERITED,
        WORKS,
        "The component losses are logged too.",
    ),
    Convention("include_num_input_tokens_seen", note="The tokens of labeled rows."),
    Convention("log_level log_level_replica log_on_each_node disable_tqdm report_to run_name project logging_dir"),
    Convention("trackio_space_id trackio_bucket_id trackio_static_space_id"),
    Convention("eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size prediction_loss_only"),
    Convention(
        "eval_do_concat_batches eval_use_gather_object eval_accumulation_steps include_for_metrics batch_eval_metrics"
    ),
    Convention(
        "save_strategy save_steps save_total_limit save_on_each_node enable_jit_checkpoint",
        INHERITED,
        WORKS,
        "A checkpoint has the state of the objective.",
    ),
    Convention("save_only_model", note="As in `Trainer`, such a checkpoint has the weights alone."),
    Convention("load_best_model_at_end metric_for_best_model greater_is_better"),
    Convention("ignore_data_skip restore_callback_states_from_checkpoint"),
    Convention(
        "push_to_hub hub_model_id hub_token hub_private_repo hub_always_push hub_revision",
        WORKS,
        WORKS,
        "Only the model and its card are pushed.",
    ),
    Convention(
        "hub_strategy",
        WORKS,
        WORKS,
        "`end` and `every_save`. The others would push the state of the optimizer, and are refused.",
    ),
    Convention(
        "seed data_seed full_determinism",
        INHERITED,
        WORKS,
        "They also decide the order and the edits of unlabeled rows.",
    ),
    Convention("use_cpu accelerator_config parallelism_config local_rank debug skip_memory_metrics"),
    Convention(
        "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout",
        INHERITED,
        WORKS,
        "Statistics of the unlabeled rows are those of all processes.",
    ),
    Convention(
        "fsdp fsdp_config deepspeed",
        note="FSDP is tested without unlabeled rows in a step, DeepSpeed with them; refused by `reconstruction`.",
    ),
    Convention(
        "dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor dataloader_multiprocessing_context"
    ),
    Convention("dataloader_drop_last dataloader_in_order", note="With unlabeled rows, all batches are whole."),
    Convention(
        "dataloader_persistent_workers",
        INHERITED,
        REFUSED,
        "Such workers do not notice a new epoch, which has other edits.",
    ),
    Convention("remove_unused_columns label_names", note="They act on rows for evaluation and on plain fine-tuning."),
    Convention(
        "train_sampling_strategy group_by_length length_column_name",
        INHERITED,
        REFUSED,
        "The batches keep the share of labeled rows, so their order is ours.",
    ),
)

#: Names that the oldest supported transformers lacks.
NEWER = frozenset(
    (
        "end", "loss_is_scaled_for_ga", "activation_checkpointing", "activation_checkpointing_kwargs", "trackio_bucket_id",
        "trackio_static_space_id", "dataloader_multiprocessing_context", "dataloader_in_order", "train_sampling_strategy",
        "ddp_static_graph",
    )
)  # fmt: skip
#: Names that the newest supported transformers lacks.
OLDER = frozenset(
    (
        "compare_trainer_and_checkpoint_args", "num_tokens", "propagate_args_to_deepspeed", "warmup_ratio", "logging_dir",
        "group_by_length",
    )
)  # fmt: skip


def names(rows: Iterable[Convention]) -> set[str]:
    """The names of all rows.

    >>> sorted(names(CONSTRUCTOR))[:2]
    ['args', 'callbacks']
    """
    return {name for row in rows for name in row.names.split()}


def table(rows: Iterable[Convention]) -> str:
    """The rows as Markdown.

    >>> print(table([Convention("train", WORKS, WORKS, "As always.")]))
    | name | without unlabeled rows | with unlabeled rows | what differs |
    |---|---|---|---|
    | `train` | works | works | As always. |
    """
    lines = [
        f"| {', '.join(f'`{name}`' for name in row.names.split())} | {row.alone} | {row.paired} | {row.note or '–'} |"
        for row in rows
    ]
    return "\n".join(
        ["| name | without unlabeled rows | with unlabeled rows | what differs |", "|---|---|---|---|", *lines]
    )
