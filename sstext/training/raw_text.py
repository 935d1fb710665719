"""RawTextTrainer: a `Trainer` whose data sets may have raw text and class names."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import DataLoader
from transformers import Trainer

from sstext.training.rows import as_data_set, check_labels, refuse_stream, tokenized


class RawTextTrainer(Trainer):
    """A `Trainer` that tokenizes raw rows and replaces class names by the numbers of the model. See `sstext.training.rows`."""

    args: Any
    model: Any
    processing_class: Any
    train_dataset: Any
    eval_dataset: Any
    unlabeled_dataset: Any
    pseudo_labeled_dataset: Any

    @property
    def paired(self) -> bool:
        """Whether the objective computes the loss, so that rows are read in an order of our own."""
        raise NotImplementedError

    def tokenize_all(self, own_loss: bool) -> None:
        """Tokenize all data sets. Unless the caller has a loss or a collator, the labeled rows must have labels."""
        config, pseudo_labeled = self.model.config, self.pseudo_labeled_dataset
        if self.train_dataset is not None and not own_loss:
            several = config.num_labels > 1 and config.problem_type in (None, "single_label_classification")
            check_labels(self.train_dataset, config.num_labels if several else None, "train_dataset")
        for rows, name in ((self.train_dataset, "train_dataset"), (self.unlabeled_dataset, "unlabeled_dataset"),
                           (pseudo_labeled, "pseudo_labeled_dataset")):  # fmt: skip
            if self.paired:
                refuse_stream(rows, name)
        self.train_dataset = self._tokenized(self.train_dataset, "train_dataset")
        self.unlabeled_dataset = self._tokenized(self.unlabeled_dataset, "unlabeled_dataset", self.args.views)
        kept = [view for view in self.args.views if view in getattr(pseudo_labeled, "column_names", ())]
        self.pseudo_labeled_dataset = self._tokenized(pseudo_labeled, "pseudo_labeled_dataset", kept)
        rows = self.eval_dataset
        if isinstance(rows, Mapping):
            self.eval_dataset = {key: self._tokenized(each, f"eval_dataset {key!r}") for key, each in rows.items()}
        else:
            self.eval_dataset = self._tokenized(rows, "eval_dataset")

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the evaluation batches. Raw text is tokenized."""
        return super().get_eval_dataloader(self._tokenized(eval_dataset, "eval_dataset"))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Return the batches of `predict`. Raw text is tokenized."""
        return super().get_test_dataloader(self._tokenized(test_dataset, "test_dataset of an evaluation"))

    def _tokenized(self, rows: Any, name: str, views: Sequence[str] = ()) -> Any:
        """Tokenize raw `text` rows and their columns `views`. See `sstext.training.rows`."""
        config, tokenizer = self.model.config, self.processing_class
        return tokenized(as_data_set(rows, name), name, tokenizer, config, max_length=self.args.max_length, views=views)
