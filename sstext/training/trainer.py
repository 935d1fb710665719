"""SemiSupervisedTrainer: the Hugging Face `Trainer` with unlabeled rows in its batches and an objective in its loss."""

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
from sstext.methods.registry import OF_ROUNDS, build
from sstext.modeling.pretrained import length_limit
from sstext.objective.objective import Objective
from sstext.objective.outputs import LABELED_STRONG, MASKED
from sstext.objective.regularizers import Regularizer
from sstext.training.arguments import SemiSupervisedTrainingArguments
from sstext.training.callbacks import TellObjective
from sstext.training.heads import HeadRateTrainer, TokenHeadTrainer
from sstext.training.pushing import HubTrainer

STATE_FILE = "semi_supervised_state.safetensors"


class SemiSupervisedTrainer(HubTrainer, HeadRateTrainer, TokenHeadTrainer):
    """Fine-tunes on labeled rows, and on unlabeled or pseudo-labeled ones beside them; used as one uses `Trainer`.

    L = L_labeled + λ · ramp(t/T) · L_unlabeled, see `sstext.objective.Objective`. Without unlabeled and pseudo-labeled rows
    it is `Trainer`, to the bit (at accumulation 1; beyond it, the loss is the mean over micro-batches).

    Args:
        model, args, data_collator, train_dataset, eval_dataset, processing_class: as in `Trainer`. A data set with raw
            `text` and `label` columns is tokenized (cut at `args.max_length`); one with `input_ids` is taken as it is.
            The collator pads; the default pads dynamically.
        unlabeled_dataset: rows with `text` or `input_ids`, for methods that learn from them inside a step;
            `args.unlabeled_batch_ratio` of them come with each labeled row. Raw ones may have paraphrases in the columns
            `args.views`.
        pseudo_labeled_dataset: rows with labels (classes or probabilities) that count as labeled, each `weight`-ed;
            gold rows keep a share of `args.gold_share` in every batch, and both get token edits (`args.student_noise`).
        method: name of a method (see `sstext methods`) or an `Objective`; overrides `args.method`.
        **kwargs: as in `Trainer`.

    Logged beside `loss`: `loss_labeled`, `loss_unlabeled`, `kept_share`, `mean_weight` and the loss of every regularizer
    (means since the last log).

    Raises:
        UserError: a method that needs unlabeled rows has none, a multi-label model, wrong columns or arguments.
    """

    args: SemiSupervisedTrainingArguments
    model: Any
    processing_class: Any
    train_dataset: Any
    objective: Objective
    # Models that take **kwargs would make Trainer skip the division by the accumulation steps.
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
            args._n_gpu = 1  # DataParallel would split the pairs; several devices are `accelerate launch`'s
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
            self.loss_is_scaled_for_ga = None  # the caller's function, Trainer's own rule

        self.train_dataset = self._tokenized(train_dataset, "train_dataset")
        self.unlabeled_dataset = self._tokenized(unlabeled_dataset, "unlabeled_dataset", args.views)
        kept = [view for view in args.views if view in getattr(pseudo_labeled_dataset, "column_names", ())]
        self.pseudo_labeled_dataset = self._tokenized(pseudo_labeled_dataset, "pseudo_labeled_dataset", kept)
        if isinstance(eval_dataset, Mapping):
            self.eval_dataset = {name: self._tokenized(rows, name) for name, rows in eval_dataset.items()}
        else:
            self.eval_dataset = self._tokenized(eval_dataset, "eval_dataset")
        if self.paired and args.dataloader_persistent_workers:
            raise UserError("dataloader_persistent_workers: such workers never hear of a new epoch; leave it off")

    # What is trained on

    @property
    def paired(self) -> bool:
        """Whether training batches hold more than the labeled rows, so that the objective computes the loss."""
        return self.pseudo_labeled_dataset is not None or not self.objective.plain or self.args.logit_adjustment > 0

    def _build_objective(self) -> Objective:
        method = self.method if self.method is not None else self.args.method
        args, config = self.args, self.model.config
        if isinstance(method, Objective):
            objective, name = method, "the objective"
            for option in ("method_args", "regularizers"):
                if getattr(args, option):
                    raise UserError(f"{option}: an Objective has its own; give it there, or method a name")
        else:
            objective = build(method, args.method_args, args.regularizers)
            name = " with ".join([method, ", ".join(args.regularizers)] if args.regularizers else [method])
        if args.label_smoothing_factor and (self.pseudo_labeled_dataset is not None or not objective.plain):
            raise UserError("label_smoothing_factor: only plain fine-tuning smooths labels; leave it at 0")
        if config.problem_type == "multi_label_classification" and "multi-label" not in objective.tasks:
            tasks = " and ".join(objective.tasks)
            raise UserError(f"{name} serves {tasks} tasks; the model says problem_type={config.problem_type!r}")
        if method in OF_ROUNDS and build(method, args.method_args).plain:
            raise UserError(f"{name} works between rounds: give it to `sstext train`, or to self_train(RunConfig(…))")
        if not objective.supervised and self.unlabeled_dataset is None:
            raise UserError(f"{name} learns from unlabeled text; give unlabeled_dataset=…, or method='supervised'")
        return objective.to(args.device)

    def _tokenized(self, rows: Any, name: str, views: Sequence[str] = ()) -> Any:
        """Raw `text` rows, and their columns `views`, tokenized for the caller; anything else as it is."""
        columns = getattr(rows, "column_names", None)
        if columns is None or "input_ids" in columns:
            if views and columns and VIEW_INPUTS not in columns:
                raise UserError(f"views: {name} is tokenized, its paraphrases are not; give all of it as raw text")
            return rows
        if self.processing_class is None:
            raise UserError(f"{name} has raw text; give processing_class=tokenizer, or tokenize it")
        if "text" not in columns:
            raise UserError(f"{name}: expected a column 'text' or 'input_ids', found {listed(columns)}")
        limit = length_limit(self.processing_class, self.model.config)
        max_length = self.args.max_length
        if max_length is None:
            max_length = limit if "eval" in name else choose_max_length(self.processing_class, rows["text"], limit)
        encoder = TextEncoder(self.processing_class, min(max_length, limit))
        if views:
            rows = with_view_texts(rows, views, name)
        return tokenize(self._with_class_numbers(rows, name), encoder).remove_columns("truncated")

    def _with_class_numbers(self, rows: Any, name: str) -> Any:
        if name == "unlabeled_dataset" and "label" in rows.column_names:
            return rows.remove_columns("label")  # never read, so that anything may stand there
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
        """The training batches; in paired training an epoch is one pass over as many items as there are labeled rows."""
        if not isinstance(self.method, Objective):
            self.objective = self._build_objective()  # hyper-parameter search has changed the arguments since
        if not self.paired:
            return super().get_train_dataloader()
        if not isinstance(self.data_collator, PairedCollator):
            self.data_collator = PairedCollator(self.data_collator)
        args, objective = self.args, self.objective
        unlabeled = None if objective.supervised else self.unlabeled_dataset
        rows_each = self._train_batch_size * Fraction(args.unlabeled_batch_ratio).limit_denominator(10**6)
        if unlabeled is not None and args.world_size > 1 and rows_each.denominator > 1:
            raise UserError(  # the processes exchange statistics of their rows: each must have as many as the others
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
        edits = None
        if noisy or strong:
            edits = TokenEdits.for_tokenizer(self.processing_class, **args.edits)
        return TrainingRows(
            self.train_dataset,
            length=math.ceil(rows / batch) * batch,
            seed=args.data_seed if args.data_seed is not None else args.seed,
            pseudo_labeled=pseudo_labeled,
            gold_share=args.gold_share,
            class_runs=self._runs_wanted(),
            edit=edits if noisy else None,
            unlabeled=unlabeled,
            ratio=args.unlabeled_batch_ratio,
            strong=edits if strong else None,
            strong_labels=LABELED_STRONG in objective.blocks,
            masked=MaskedTokens.for_tokenizer(self.processing_class) if MASKED in objective.blocks else None,
        )

    def _label_shift(self) -> Tensor | None:
        """τ log π, (C,): π = class shares of the labels in a batch, gold and pseudo-labeled ones by `gold_share`."""
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

    def _runs_wanted(self) -> int:
        """Rows of a class that a regularizer wants to see together; 1: it does not matter."""
        return max([1, *(part.class_runs for part in self.objective.regularizers if isinstance(part, Regularizer))])

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The evaluation batches; raw text is tokenized here too."""
        return super().get_eval_dataloader(self._tokenized(eval_dataset, "eval_dataset"))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """The batches of `predict`; raw text is tokenized here too."""
        return super().get_test_dataloader(self._tokenized(test_dataset, "test_dataset of an evaluation"))

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        if self.paired and description == "Training":
            return data_collator  # nested items have no columns to remove
        return super()._get_collator_with_removed_columns(data_collator, description)

    # What is minimized

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective's loss on paired training batches, `Trainer`'s own everywhere else."""
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
        """The rows of all processes; where they have a gradient, it flows to this process's own.

        Processes average their gradients: the own rows count once per process, so that the average is what one process
        with all rows would compute.
        """
        processes = self.accelerator.num_processes
        if processes == 1:
            return rows
        everyone = self.accelerator.gather(rows.detach())
        if not rows.requires_grad:
            return everyone
        own, first = rows.detach() + processes * (rows - rows.detach()), self.accelerator.process_index * len(rows)
        return torch.cat([everyone[:first], own, everyone[first + len(rows) :]])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of the component losses since the last log."""
        if "loss" in logs and self._sums:  # every rank comes here together, so that the reduction is safe
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

    # What a checkpoint holds

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if not self.paired:
            return
        state = {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        state |= self.token_head_state()
        if self._sums:  # else the first log after a resume would be short
            names, sums = self._reduced_sums()
            state |= {f"sums.{name}": row for name, row in zip(names, sums, strict=True)}
        if self.args.should_save:
            # Cloned: parts that two others share would be one memory under two names, which safetensors refuses.
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
