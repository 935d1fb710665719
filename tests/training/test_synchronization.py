"""How often a training waits for its device, and how much it computes."""

import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import make_trainer
from torch.utils._python_dispatch import TorchDispatchMode

import sstext

OURS = str(Path(sstext.__file__).parent)
#: Reads of `torch.nn.functional.one_hot` check its classes, but not on a GPU, and rows are grouped by length on CPUs only.
ON_CPU_ONLY = ("targets.py", "length_groups.py")


class Reads(TorchDispatchMode):
    """Counts the values that the host reads of tensors, by the file of ours that reads them: on a GPU, each read waits."""

    def __init__(self) -> None:
        super().__init__()
        self.by_file: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            outside = [
                frame.filename for frame in traceback.extract_stack() if "torch" not in Path(frame.filename).parts
            ]
            caller = outside[-2]  # the last one is this function
            if caller.startswith(OURS):
                self.by_file[Path(caller).name] += 1
        return func(*args, **(kwargs or {}))


def reads(encoder: Path, output: Path, method: str, steps: int) -> Counter[str]:
    trainer = make_trainer(encoder, output, method, max_steps=steps, logging_steps=1_000, logging_nan_inf_filter=False)
    with Reads() as found:
        trainer.train()
    return Counter({name: count for name, count in found.by_file.items() if name not in ON_CPU_ONLY})


@pytest.mark.parametrize(
    "method", ["supervised", "auto", "fixmatch", "mean-teacher", "softmatch", "r-drop", "vat", "uda"]
)
def test_a_step_reads_one_number(tiny_encoder: Path, tmp_path: Path, method: str) -> None:
    """The norm of the gradients, which decides whether the step is skipped. Guards `.item()` in a loss or a log."""
    more = reads(tiny_encoder, tmp_path, method, 8)
    more.subtract(reads(tiny_encoder, tmp_path, method, 4))
    assert {name: count / 4 for name, count in more.items() if count} == {"finite.py": 1}


def test_rows_that_a_method_does_not_read_are_not_computed(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a corpus that goes through the student although the method learns from labels alone."""
    passed = {}
    for method in ("supervised", "fixmatch"):
        trainer = make_trainer(tiny_encoder, tmp_path, method, max_steps=2)
        rows: list[int] = []
        layer = trainer.model.base_model.encoder.layer[-1]
        layer.register_forward_hook(lambda module, inputs, output, rows=rows: rows.append(len(inputs[0])))
        trainer.train()
        passed[method] = sum(rows)
    assert passed == {"supervised": 2 * 4, "fixmatch": 2 * (4 + 8 + 8)}
