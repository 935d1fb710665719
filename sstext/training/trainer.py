"""SemiSupervisedTrainer: the Hugging Face `Trainer` with unlabeled rows in its batches and an objective as its loss."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from sstext.data.batching import Relabeled, TrainingRows, label_shares
from sstext.data.collating import PairedCollator
from sstext.data.edits import MaskedTokens, TokenEdits
from sstext.data.tokens import VIEW_INPUTS, TextEncoder, choose_max_length, tokenize, with_view_texts
from sstext.errors import UserError, listed
from sstext.methods.registry import build, refuse_loop_arguments, works_between_rounds_only
from sstext.modeling.pretrained import length_limit, prefix_of
from sstext.objective.objective import Objective
from sstext.objective.outputs import LABELED_STRONG, MASKED
from sstext.objective.regularizers import Regularizer
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.callbacks import TellObjective
from sstext.training.heads import HeadRateTrainer, TokenHeadTrainer
from sstext.training.pushing import HubTrainer

STATE_FILE = "semi_supervised_state.safetensors"


class SemiSupervisedTrainer(HubTrainer, HeadRateTrainer, TokenHeadTrainer):
    """Fine-tunes on labeled rows together with unlabeled or pseudo-labeled rows. It is used like `Trainer`.

    L = L_labeled + λ · ramp(t/T) · L_unlabeled, see `sstext.objective.Objective`. Without unlabeled and pseudo-labeled
    rows, it equals `Trainer` bit for bit. With gradient accumulation, the loss is the mean over micro-batches.

    Args:
        model, args, data_collator, train_dataset, eval_dataset, processing_class: as in `Trainer`. A data set with raw
            `text` and `label` columns is tokenized (cut at `args.max_length`). A data set with `input_ids` is used
            unchanged. The collator pads. Default: dynamic padding.
        unlabeled_dataset: rows with `text` or `input_ids`, for methods that learn from them inside a step. Each labeled
            row comes with `args.unlabeled_batch_ratio` unlabeled rows. Raw rows may have paraphrases in the columns
            `args.views`.
        pseudo_labeled_dataset: rows with labels (classes or probabilities) and a `weight` each, used as labeled rows.
            The given labeled rows have the share `args.gold_share` in every batch. Both get token edits
            (`args.student_noise`).
        method: name of a method (see `sstext methods`) or an `Objective`. It overrides `args.method`.
        **kwargs: as in `Trainer`.

    Besides `loss`, it logs `loss_labeled`, `loss_unlabeled`, `kept_share`, `mean_weight` and the loss of every
    regularizer (means since the last log).

    Raises:
        UserError: the method needs unlabeled rows and has none, the model is multi-label, or columns or arguments are
            wrong.
    """

    args: SemiSupervisedTrainingArguments
    model: Any
    processing_class: Any
    train_dataset: Any
    objective: Objective
    # If a model takes **kwargs, Trainer would skip the division by the accumulation steps.
    loss_is_scaled_for_ga: bool | None = False

    def __init__(
        self,
        model: Any = None,
        args: SemiSupervisedTrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        unlabeled_dataset: Any = None,
        pseudo_labeled_dataset: Any = None,
        method: str | Objective | None = None,
        **kwargs: Any,
    ) -> None:
        args = args if args is not None else SemiSupervisedTrainingArguments("tmp_trainer")
        if args.n_gpu > 1:
            args._n_gpu = 1  # DataParallel would split the pairs; use `accelerate launch` for several devices
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        self.method = method
        self.unlabeled_dataset, self.pseudo_labeled_dataset = unlabeled_dataset, pseudo_labeled_dataset
        self.objective = self._build_objective()
        self._sums: dict[str, Tensor] = {}
        self.add_callback(TellObjective(self))
        if self.compute_loss_func is None:
            self.model_accepts_loss_kwargs = False
        elif self.paired:
            raise UserError("compute_loss_func: the objective computes the loss here; give method=Objective(…) instead")
        else:
            self.loss_is_scaled_for_ga = None  # the caller's loss function follows Trainer's rule

        self.train_dataset = self._tokenized(train_dataset, "train_dataset")
        self.unlabeled_dataset = self._tokenized(unlabeled_dataset, "unlabeled_dataset", args.views)
        kept = [view for view in args.views if view in getattr(pseudo_labeled_dataset, "column_names", ())]
        self.pseudo_labeled_dataset = self._tokenized(pseudo_labeled_dataset, "pseudo_labeled_dataset", kept)
        if isinstance(eval_dataset, Mapping):
            self.eval_dataset = {name: self._tokenized(rows, name) for name, rows in eval_dataset.items()}
        else:
            self.eval_dataset = self._tokenized(eval_dataset, "eval_dataset")
        if self.paired and args.dataloader_persistent_workers:
            raise UserError("dataloader_persistent_workers: persistent workers do not notice a new epoch; leave it off")

    # The training data

    @property
    def paired(self) -> bool:
        """Whether the objective computes the loss. It does, unless the loss is plain cross-entropy on labeled rows."""
        return self.pseudo_labeled_dataset is not None or not self.objective.plain or self.args.logit_adjustment > 0

    def _build_objective(self) -> Objective:
        method = self.method if self.method is not None else self.args.method
        args, config = self.args, self.model.config
        if isinstance(method, Objective):
            objective, name = method, "the objective"
            for option in ("method_args", "regularizers"):
                if getattr(args, option):
                    raise UserError(f"{option}: an Objective has its own; set it there, or give method as a name")
        else:
            refuse_loop_arguments(method, args.method_args)
            objective = build(method, args.method_args, args.regularizers)
            name = " with ".join([method, ", ".join(args.regularizers)] if args.regularizers else [method])
        if args.label_smoothing_factor and (self.pseudo_labeled_dataset is not None or not objective.plain):
            raise UserError(
                "label_smoothing_factor is supported only for plain fine-tuning (method='supervised', no pseudo-labels); "
                "leave it at 0"
            )
        if config.problem_type == "multi_label_classification" and "multi-label" not in objective.tasks:
            tasks = " and ".join(objective.tasks)
            raise UserError(f"{name} supports {tasks} tasks; the model has problem_type={config.problem_type!r}")
        if isinstance(method, str) and works_between_rounds_only(method, args.method_args):
            raise UserError(f"{name} works between rounds: give it to `sstext train`, or to self_train(RunConfig(…))")
        if not objective.supervised and self.unlabeled_dataset is None:
            raise UserError(f"{name} learns from unlabeled text; give unlabeled_dataset=…, or method='supervised'")
        return objective.to(args.device)

    def _tokenized(self, rows: Any, name: str, views: Sequence[str] = ()) -> Any:
        """Tokenize raw `text` rows and their columns `views`. Return anything else unchanged."""
        columns = getattr(rows, "column_names", None)
        if columns is None or "input_ids" in columns:
            if views and columns and VIEW_INPUTS not in columns:
                raise UserError(f"views: {name} is tokenized, but its paraphrases are not; give both as raw text")
            return rows
        if self.processing_class is None:
            raise UserError(f"{name} has raw text; give processing_class=tokenizer, or tokenize it")
        if "text" not in columns:
            raise UserError(f"{name}: expected a column 'text' or 'input_ids', found {listed(columns)}")
        limit = length_limit(self.processing_class, self.model.config)
        max_length, prefix = self.args.max_length, prefix_of(self.model.config)
        if max_length is None:
            max_length = limit
            if "eval" not in name:
                max_length = choose_max_length(self.processing_class, rows["text"], limit, prefix=prefix)
        encoder = TextEncoder(self.processing_class, min(max_length, limit), prefix)
        if views:
            rows = with_view_texts(rows, views, name)
        return tokenize(self._with_class_numbers(rows, name), encoder).remove_columns("truncated")

    def _with_class_numbers(self, rows: Any, name: str) -> Any:
        if name == "unlabeled_dataset" and "label" in rows.column_names:
            return rows.remove_columns("label")  # never read, so it may contain anything
        if "label" not in rows.column_names or not len(rows) or not isinstance(rows[0]["label"], str):
            return rows
        known = self.model.config.label2id
        found = set(rows["label"])
        if not found <= set(known):
            raise UserError(
                f"{name}: labels {listed(sorted(found - set(known)))} are not in the model's label2id "
                f"({listed(list(known))}); give label2id to from_pretrained, or class numbers"
            )
        numbers = [known[label] for label in rows["label"]]
        return rows.remove_columns("label").add_column("label", numbers)

    def get_train_dataloader(self) -> DataLoader:
        """Return the training batches. In paired training, an epoch has one item per labeled and pseudo-labeled row."""
        if not isinstance(self.method, Objective):
            self.objective = self._build_objective()  # hyperparameter search may have changed the arguments
        if not self.paired:
            return super().get_train_dataloader()
        if not isinstance(self.data_collator, PairedCollator):
            self.data_collator = PairedCollator(self.data_collator)
        args, objective = self.args, self.objective
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
        objective.label_shift = self._label_shift()
        in_order: Any = SequentialSampler
        planned = self._planned_rows(unlabeled)
        return self._get_dataloader(planned, "Training", self._train_batch_size, in_order, is_training=True)

    def _planned_rows(self, unlabeled: Any) -> TrainingRows:
        args, objective, pseudo_labeled = self.args, self.objective, self.pseudo_labeled_dataset
        rows = len(self.train_dataset) + (len(pseudo_labeled) if pseudo_labeled is not None else 0)
        batch = self._train_batch_size * args.gradient_accumulation_steps * args.world_size
        noisy = pseudo_labeled is not None and args.student_noise
        strong = objective.wants_strong or LABELED_STRONG in objective.blocks
        edits, prefix = None, prefix_of(self.model.config)
        if noisy or strong:
            edits = TokenEdits.for_tokenizer(self.processing_class, prefix=prefix, **args.edits)
        return TrainingRows(
            self.train_dataset,
            length=math.ceil(rows / batch) * batch,
            seed=args.data_seed if args.data_seed is not None else args.seed,
            pseudo_labeled=pseudo_labeled,
            gold_share=args.gold_share,
            class_runs=self._class_runs(),
            edit=edits if noisy else None,
            unlabeled=unlabeled,
            ratio=args.unlabeled_batch_ratio,
            strong=edits if strong else None,
            strong_labels=LABELED_STRONG in objective.blocks,
            masked=MaskedTokens.for_tokenizer(self.processing_class, prefix=prefix)
            if MASKED in objective.blocks
            else None,
        )

    def _label_shift(self) -> Tensor | None:
        """τ log π, (C,): π = class shares in a batch, with labeled and pseudo-labeled rows mixed by `gold_share`."""
        tau, classes, pseudo_labeled = (
            self.args.logit_adjustment,
            self.model.config.num_labels,
            self.pseudo_labeled_dataset,
        )
        if not tau:
            return None
        shares = label_shares(self.train_dataset["labels"][:], classes)
        if pseudo_labeled is not None:
            labels = pseudo_labeled.labels if isinstance(pseudo_labeled, Relabeled) else pseudo_labeled["labels"][:]
            shares = self.args.gold_share * shares + (1 - self.args.gold_share) * label_shares(labels, classes)
        return torch.tensor(tau * np.log(shares), dtype=torch.float32, device=self.args.device)

    def _class_runs(self) -> int:
        """Number of consecutive rows of one class that the regularizers need. Default: 1."""
        return max([1, *(part.class_runs for part in self.objective.regularizers if isinstance(part, Regularizer))])

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the evaluation batches. Raw text is tokenized."""
        return super().get_eval_dataloader(self._tokenized(eval_dataset, "eval_dataset"))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Return the batches of `predict`. Raw text is tokenized."""
        return super().get_test_dataloader(self._tokenized(test_dataset, "test_dataset of an evaluation"))

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        if self.paired and description == "Training":
            return data_collator  # nested items have no columns to remove
        return super()._get_collator_with_removed_columns(data_collator, description)

    # The loss

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute the objective's loss for paired training batches, and `Trainer`'s loss for all others."""
        if not (self.paired and model.training):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels, weight = inputs.pop("labels"), inputs.pop("weight")
        unlabeled, strong = inputs.pop("unlabeled", None), inputs.pop("strong", None)
        losses = self.objective(
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
        for name, (total, count) in losses.components.items():
            sums = self._sums.setdefault(name, torch.zeros(2, device=self.args.device))
            sums[0] += total
            sums[1] += count
        return (losses.total, {"logits": losses.logits}) if return_outputs else losses.total

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

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and add the means of the component losses since the last log."""
        if "loss" in logs and self._sums:  # all ranks log at the same step, so the reduction is safe
            names, sums = self._reduced_sums()
            logs |= {
                name: float(total / max(count, 1)) for name, (total, count) in zip(names, sums.tolist(), strict=True)
            }
            self._sums = {}
        super().log(logs, start_time)

    def _reduced_sums(self) -> tuple[list[str], Tensor]:
        names = sorted(self._sums)
        sums = self.accelerator.reduce(torch.stack([self._sums[name] for name in names]), "sum")
        return names, sums

    # Checkpoints

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if not self.paired:
            return
        state = {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        state |= self.token_head_state()
        if self._sums:  # without them, the first log after a resume would miss steps
            names, sums = self._reduced_sums()
            state |= {f"sums.{name}": row for name, row in zip(names, sums, strict=True)}
        if self.args.should_save:
            # Cloned, because a shared part would be the same memory under two names, which safetensors refuses.
            save_file(
                {name: value.cpu().contiguous().clone() for name, value in state.items()}, Path(output_dir, STATE_FILE)
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not self.paired:
            return
        state = load_file(Path(checkpoint, STATE_FILE), device=str(self.args.device))
        prefix = "objective."
        self.objective.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self.load_token_head(state)
        if self.is_world_process_zero():  # the sums of all processes, counted once
            self._sums = {k.removeprefix("sums."): v for k, v in state.items() if k.startswith("sums.")}
