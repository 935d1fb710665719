"""SemiSupervisedTrainer: the Hugging Face `Trainer` with unlabeled rows in its batches and an objective as its loss."""

import inspect
import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler
from transformers import TrainingArguments
from transformers.utils import logging

from sstext.data.batching import TrainingRows
from sstext.data.collating import PairedCollator
from sstext.data.edits import MaskedTokens, TokenEdits
from sstext.errors import UserError
from sstext.methods.catalog import named
from sstext.methods.registry import build, refuse_loop_arguments, works_between_rounds_only
from sstext.modeling.pretrained import prefix_of
from sstext.objective.objective import Objective
from sstext.objective.outputs import LABELED_STRONG, MASKED
from sstext.objective.regularizers import Regularizer
from sstext.profiling import FORWARD, section
from sstext.training.adapters import AdapterTrainer, check_adapter
from sstext.training.arguments import SemiSupervisedTrainingArguments, our_arguments
from sstext.training.callbacks import LogLastStep, RestoreLoss, TellObjective
from sstext.training.checkpoints import CheckpointTrainer
from sstext.training.class_balance import class_weights, shares_in_batches
from sstext.training.construction import (
    DEFAULT_METHOD,
    Preparation,
    check_keywords,
    default_in_words,
    default_method,
    refuse_with_pairs,
)
from sstext.training.finite import FiniteTrainer, seen_in_gradients
from sstext.training.heads import HeadRateTrainer
from sstext.training.memory import MemoryTrainer
from sstext.training.models import is_adapted
from sstext.training.profiled import ProfiledTrainer
from sstext.training.pushing import HubTrainer
from sstext.training.raw_text import RawTextTrainer
from sstext.training.rows import as_data_set
from sstext.training.search import SearchTrainer
from sstext.training.sharding import ShardedTrainer
from sstext.training.weights import check_weights

logger = logging.get_logger(__name__)


class SemiSupervisedTrainer(
    ProfiledTrainer,
    SearchTrainer,
    CheckpointTrainer,
    RawTextTrainer,
    AdapterTrainer,
    HubTrainer,
    HeadRateTrainer,
    MemoryTrainer,
    ShardedTrainer,
    FiniteTrainer,
):
    """Fine-tunes on labeled rows together with unlabeled or pseudo-labeled rows. It is used like `Trainer`.

    L = L_labeled + λ · ramp(t/T) · L_unlabeled, see `sstext.objective.Objective`. Without unlabeled and pseudo-labeled
    rows, it equals `Trainer` bit for bit. With gradient accumulation, the loss is the mean over micro-batches. Steps whose loss
    or gradients are not finite are skipped (`sstext.training.finite`). If memory runs out, micro-batches are split
    (`sstext.training.memory`).

    Args:
        model, args, data_collator, train_dataset, eval_dataset, processing_class: as in `Trainer`. A data set with raw
            `text` and `label` columns (or a list of such dictionaries) is tokenized (cut at `args.max_length`). A data set
            with `input_ids` is not. Class names in the labels name the classes of a model that has none, and are
            replaced by the numbers of the model. The collator pads. Default: dynamic padding. A model may be given by
            name, with `args.model_init_kwargs`; its tokenizer is the default of `processing_class`.
        unlabeled_dataset: rows with `text` or `input_ids`, for methods that learn from them inside a step. Each labeled
            row comes with `args.unlabeled_batch_ratio` unlabeled rows. Raw rows may have paraphrases in the columns
            `args.views`.
        pseudo_labeled_dataset: rows with labels (classes or probabilities) and a `weight` each, used as labeled rows.
            The given labeled rows have the share `args.gold_share` in every batch. Both get token edits
            (`args.student_noise`).
        method: name of a method (see `sstext methods`) or an `Objective`. It overrides `args.method`. Default: see
            `default_method`.
        peft_config: for example `peft.LoraConfig(r=8)`: the adapter and the head are trained. See `args.merge_adapter`.
        **kwargs: as in `Trainer`.

    Besides `loss`, it logs `loss_labeled`, `loss_unlabeled`, `kept_share`, `mean_weight` and the loss of every
    regularizer (means since the last log).

    Raises:
        UserError: the method needs unlabeled rows and has none, the model is multi-label, it has other classes than the
            labels, or columns or arguments are wrong.
    """

    args: SemiSupervisedTrainingArguments
    model: Any
    training_objective: Objective
    # If a model takes **kwargs, Trainer would skip the division by the accumulation steps.
    loss_is_scaled_for_ga: bool | None = False

    def __init__(
        self,
        model: Any = None,
        args: TrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        unlabeled_dataset: Any = None,
        pseudo_labeled_dataset: Any = None,
        method: str | Objective | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(kwargs, inspect.signature(SemiSupervisedTrainer.__init__).parameters)
        args = our_arguments(args)
        if args.n_gpu > 1:
            args._n_gpu = 1  # DataParallel would split the pairs; use `accelerate launch` for several devices
        train_dataset = as_data_set(train_dataset, "train_dataset")
        self._prepare = Preparation.of(train_dataset, peft_config)
        if isinstance(model, str):
            model, processing_class = self._prepare.load(model, args.model_init_kwargs, processing_class, args.seed)
        elif args.model_init_kwargs:
            raise UserError("model_init_kwargs: they are for a model that is given by name; leave them out")
        if model is not None:
            model = self._prepare(model)
        check_adapter(peft_config is not None or is_adapted(model), args, pushed=args.push_to_hub)
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        if train_dataset is not None:
            check_weights(self.model, args)
        self.method = method
        self.unlabeled_dataset = as_data_set(unlabeled_dataset, "unlabeled_dataset")
        self.pseudo_labeled_dataset = as_data_set(pseudo_labeled_dataset, "pseudo_labeled_dataset")
        self.training_objective = self._build_objective()
        self.add_callback(TellObjective(self))
        self.add_callback(LogLastStep())
        self.add_callback(RestoreLoss(self))
        self._refuse_with_pairs()
        if self.compute_loss_func is None:
            self.model_accepts_loss_kwargs = False
        else:
            self.loss_is_scaled_for_ga = None  # the caller's loss function follows Trainer's rule
        self.tokenize_all(own_loss=data_collator is not None or self.compute_loss_func is not None)
        if args.class_weight is not None and train_dataset is not None:
            self._balance_classes(self.training_objective)  # raises its errors now
        self._say_choices()

    def call_model_init(self, trial: Any = None) -> Any:
        """Call `model_init`, and prepare its model."""
        return self._prepare(super().call_model_init(trial))

    def _say_choices(self) -> None:
        """Log which method is used if none was named, and which weights if there are two kinds of them."""
        method = self.chosen_method
        chosen = self.method is None and self.args.method is None and method == DEFAULT_METHOD
        name = method if isinstance(method, str) else "the objective"
        for message in (default_in_words() if chosen else "", self.weights_in_words(self.training_objective, name)):
            if message and self.is_world_process_zero() and logging.get_verbosity() <= logging.WARNING:
                logger.warning(message)

    # The method

    @property
    def chosen_method(self) -> str | Objective:
        """The method of the training: that of the trainer, of its arguments, or the default."""
        given = self.method if self.method is not None else self.args.method
        return (
            given if given is not None else default_method(self.unlabeled_dataset is not None, self.args.regularizers)
        )

    @property
    def paired(self) -> bool:
        """Whether the objective computes the loss. It does, unless the loss is plain cross-entropy on labeled rows."""
        return (
            self.pseudo_labeled_dataset is not None
            or not self.training_objective.plain
            or self.args.logit_adjustment > 0
            or self.args.class_weight is not None
        )

    def _refuse_with_pairs(self) -> None:
        """Refuse what paired training does not support. A search over hyperparameters may turn it on."""
        if self.paired:
            refuse_with_pairs(self.args, self.compute_loss_func)

    def _build_objective(self) -> Objective:
        method, args, config = self.chosen_method, self.args, self.model.config
        if isinstance(method, Objective):
            objective, name = method, "the objective"
            for option in ("method_args", "regularizers"):
                if getattr(args, option):
                    raise UserError(f"{option}: an Objective has its own; set it there, or give method as a name")
        else:
            if self.method is None and args.method is None and args.method_args:
                raise UserError("method_args: arguments of which method? name it in method=…")
            refuse_loop_arguments(method, args.method_args)
            objective = build(method, args.method_args, args.regularizers)
            name = named(method, args.regularizers)
        adjusted = args.logit_adjustment > 0 or args.class_weight is not None
        if args.label_smoothing_factor and (self.pseudo_labeled_dataset is not None or not objective.plain or adjusted):
            raise UserError(
                "label_smoothing_factor is supported only for plain fine-tuning (method='supervised', no pseudo-labels, "
                "logit_adjustment or class_weight); leave it at 0"
            )
        if config.problem_type == "multi_label_classification" and "multi-label" not in objective.tasks:
            tasks = " and ".join(objective.tasks)
            raise UserError(f"{name} supports {tasks} tasks; the model has problem_type={config.problem_type!r}")
        if isinstance(method, str) and works_between_rounds_only(method, args.method_args):
            raise UserError(f"{name} works between rounds: give it to `sstext train`, or to self_train(RunConfig(…))")
        if not objective.supervised and self.unlabeled_dataset is None:
            raise UserError(f"{name} learns from unlabeled text; give unlabeled_dataset=…, or method='supervised'")
        self.check_teacher(objective, name)
        return objective.to(args.device)

    # The training data

    def get_train_dataloader(self) -> DataLoader:
        """Return the training batches. In paired training, an epoch has one item per labeled and pseudo-labeled row."""
        if not isinstance(self.method, Objective):
            self.training_objective = self._build_objective()  # hyperparameter search may have changed the arguments
        self._refuse_with_pairs()
        if not self.paired:
            return super().get_train_dataloader()
        if self.train_dataset is None:
            raise UserError("train_dataset: a training needs labeled rows; give train_dataset=…")
        if not isinstance(self.data_collator, PairedCollator):
            self.data_collator = PairedCollator(self.data_collator)
        args, objective = self.args, self.training_objective
        unlabeled = None if objective.supervised else self.unlabeled_dataset
        rows_each = self._train_batch_size * Fraction(args.unlabeled_batch_ratio).limit_denominator(10**6)
        if unlabeled is not None and args.world_size > 1 and rows_each.denominator > 1:
            raise UserError(  # processes exchange statistics of their rows, so each needs the same number of rows
                "unlabeled_batch_ratio: expected a whole number of unlabeled rows per process and step, found "
                f"{float(rows_each):g}"
            )
        if MASKED in objective.blocks:
            self.add_token_head()
        rows_of_corpus = len(unlabeled) if unlabeled is not None else 0
        objective.bind(self.model.config.num_labels, rows_of_corpus, self.accelerator.unwrap_model(self.model))
        objective.to(args.device)
        self._balance_classes(objective)
        in_order: Any = SequentialSampler
        planned = self._planned_rows(unlabeled)
        return self._get_dataloader(planned, "Training", self._train_batch_size, in_order, is_training=True)

    def _planned_rows(self, unlabeled: Any) -> TrainingRows:
        args, objective, pseudo_labeled = self.args, self.training_objective, self.pseudo_labeled_dataset
        rows = len(self.train_dataset) + (len(pseudo_labeled) if pseudo_labeled is not None else 0)
        batch = self._train_batch_size * args.gradient_accumulation_steps * args.world_size
        noisy = pseudo_labeled is not None and args.student_noise
        strong = objective.wants_strong
        if (noisy or strong or MASKED in objective.blocks) and self.processing_class is None:
            raise UserError("processing_class: tokens are changed in this training; give processing_class=tokenizer")
        edits, prefix = None, prefix_of(self.model.config)
        if noisy or strong:
            edits = TokenEdits.for_tokenizer(self.processing_class, prefix=prefix, **args.edits)
        return TrainingRows(
            self.train_dataset,
            length=math.ceil(rows / batch) * batch,
            seed=args.data_seed if args.data_seed is not None else args.seed,
            pseudo_labeled=pseudo_labeled,
            gold_share=args.gold_share,
            class_runs=max([1, *(part.class_runs for part in objective.regularizers if isinstance(part, Regularizer))]),
            edit=edits if noisy else None,
            unlabeled=unlabeled,
            ratio=args.unlabeled_batch_ratio,
            strong=edits if strong else None,
            strong_labels=LABELED_STRONG in objective.blocks,
            masked=MaskedTokens.for_tokenizer(self.processing_class, prefix=prefix)
            if MASKED in objective.blocks
            else None,
        )

    def _balance_classes(self, objective: Objective) -> None:
        """Set τ log π and the class weights, (C,): π = class shares in a batch. See `sstext.training.class_balance`."""
        args, config = self.args, self.model.config
        objective.label_shift = objective.class_weight = None
        if not args.logit_adjustment and args.class_weight is None:
            return
        shares = shares_in_batches(self.train_dataset, self.pseudo_labeled_dataset, config.num_labels, args.gold_share)
        weights = class_weights(args.class_weight, shares, config.id2label)
        if args.logit_adjustment:
            shift = args.logit_adjustment * np.log(shares)
            objective.label_shift = torch.tensor(shift, dtype=torch.float32, device=args.device)
        if weights is not None:
            objective.class_weight = torch.tensor(weights, dtype=torch.float32, device=args.device)

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        if self.paired and description == "Training":
            return data_collator  # nested items have no columns to remove
        return super()._get_collator_with_removed_columns(data_collator, description)

    # The loss

    @section(FORWARD)
    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the objective's loss for paired training batches, and `Trainer`'s loss for all others."""
        if not (self.paired and model.training):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels, weight = inputs.pop("labels"), inputs.pop("weight")
        unlabeled, strong = inputs.pop("unlabeled", None), inputs.pop("strong", None)
        losses = self.training_objective(
            model,
            inputs,
            labels,
            weight,
            unlabeled,
            strong=strong,
            progress=self.progress(),
            gather=self._gather,
            unwrapped=self.accelerator.unwrap_model(model),
        )
        self.add_components(losses.components)
        total = seen_in_gradients(losses.total)
        return (total, {"logits": losses.logits}) if return_outputs else total

    def progress(self) -> float:
        """Share of the training that is done, t/T."""
        return self.state.global_step / max(1, self.state.max_steps)

    def _gather(self, rows: Tensor) -> Tensor:
        """Gather the rows of all processes. A gradient flows to this process's rows.

        Processes average their gradients. The gradient of this process's rows is therefore multiplied by the number of
        processes: the average is then the gradient of one process with all rows.
        """
        processes = self.accelerator.num_processes
        if processes == 1:
            return rows
        gathered = self.accelerator.gather(rows.detach())
        if not rows.requires_grad:
            return gathered
        own, first = rows.detach() + processes * (rows - rows.detach()), self.accelerator.process_index * len(rows)
        return torch.cat([gathered[:first], own, gathered[first + len(rows) :]])
