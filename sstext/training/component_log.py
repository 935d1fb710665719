"""ComponentLogTrainer: the component losses of the objective are logged beside the loss."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

SUMS = "sums."  # prefix of the sums in a checkpoint
UNLOGGED = "unlogged_loss.json"  # file of a checkpoint


class ComponentLogTrainer(Trainer):
    """A `Trainer` that logs the means of component losses since the last log, over all processes."""

    args: Any
    _tr_loss: Tensor
    _globalstep_last_logged: int

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._sums: dict[str, Tensor] = {}
        self._unlogged: dict[str, Any] | None = None
        super().__init__(*arguments, **keywords)

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as `Trainer` does, with new sums: a training that was cut short, for example a pruned trial, leaves its own."""
        self._sums, self._unlogged = {}, None
        return super().train(*arguments, **keywords)

    def add_components(self, components: Mapping[str, tuple[Tensor, Tensor | int]]) -> None:
        """Add the component losses of one micro-batch: name → (sum, count). Sums that are not finite are left out."""
        for name, (total, count) in components.items():
            sums = self._sums.setdefault(name, torch.zeros(2, device=self.args.device))
            finite = torch.isfinite(total)
            sums[0] += torch.where(finite, total, 0)
            sums[1] += torch.where(finite, count, 0)

    def components_so_far(self) -> dict[str, Tensor]:
        """The sums since the last log. A step that is begun again begins with them (`restore_components`)."""
        return {name: sums.clone() for name, sums in self._sums.items()}

    def restore_components(self, before: Mapping[str, Tensor]) -> None:
        """Forget what was added since `components_so_far`, because the same rows are computed again."""
        self._sums = {name: sums.clone() for name, sums in before.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and add the means of the component losses since the last log."""
        if "loss" in logs and self._sums:  # all ranks log at the same step, so the reduction is safe
            logs |= {name: float(total / count) if count else 0.0 for name, (total, count) in self._reduced().items()}
            self._sums = {}
        super().log(logs, start_time)

    def sums_state(self) -> dict[str, Tensor]:
        """The sums since the last log, for a checkpoint. Without them, the first log after a resume would miss steps."""
        return {SUMS + name: row for name, row in self._reduced().items()}

    def load_sums(self, state: Mapping[str, Tensor]) -> None:
        """Restore the sums from a checkpoint's state. The state may contain other entries."""
        if self.is_world_process_zero():  # the sums of all processes, counted once
            self._sums = {name.removeprefix(SUMS): value for name, value in state.items() if name.startswith(SUMS)}

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        mean = self.accelerator.reduce(self._tr_loss.detach().clone(), "mean").item()
        if self.args.should_save:
            unlogged = {"loss": mean, "logged_step": self._globalstep_last_logged}
            Path(output_dir, UNLOGGED).write_text(json.dumps(unlogged), encoding="utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and (file := Path(checkpoint, UNLOGGED)).is_file():
            self._unlogged = json.loads(file.read_text(encoding="utf-8"))

    def restore_loss(self) -> None:
        """Restore the loss since the last log from the checkpoint of this training, if it begins with one."""
        if self._unlogged is not None:
            self._tr_loss.fill_(self._unlogged["loss"])
            self._globalstep_last_logged = self._unlogged["logged_step"]
            self._unlogged = None

    def _reduced(self) -> dict[str, Tensor]:
        """Name → (2,) sum and count of all processes."""
        if not self._sums:
            return {}
        names = sorted(self._sums)
        sums = self.accelerator.reduce(torch.stack([self._sums[name] for name in names]), "sum")
        return dict(zip(names, sums, strict=True))
