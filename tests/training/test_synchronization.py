"""How often a training waits for its device, and how much it computes."""

import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import make_trainer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import sstext
from sstext.objective import objective
from sstext.training.finite import READ_AFTER

OURS = str(Path(sstext.__file__).parent)
#: Reads of `torch.nn.functional.one_hot` check its classes, but not on a GPU, and rows are grouped by length on CPUs only.
ON_CPU_ONLY = ("targets.py", "length_groups.py")


ATEN, METHODS = torch.ops.aten, torch.Tensor
#: What the host waits for on a GPU: values, and the number of rows that a mask has.
VALUES = (ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN.masked_select.default)
COPIES = (METHODS.tolist, METHODS.numpy, METHODS.cpu)


class Waits:
    """Counts what a GPU would be waited for, by the file of ours that asks for it."""

    def __init__(self) -> None:
        self.by_file: Counter[str] = Counter()

    def count(self) -> None:
        outside = [frame.filename for frame in traceback.extract_stack() if "torch" not in Path(frame.filename).parts]
        callers = [name for name in outside if name != __file__]
        if callers and callers[-1].startswith(OURS):
            self.by_file[Path(callers[-1]).name] += 1


class Operations(TorchDispatchMode):
    """Sees what is computed, at the lowest level."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None) -> Any:
        masked = func is ATEN.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in VALUES or masked:
            self.waits.count()
        return func(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    """Sees methods that copy to the host: on a CPU, they compute nothing."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None) -> Any:
        if func in COPIES:
            self.waits.count()
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide on this CPU as on an accelerator: read counts seldom, and let no pass depend on the content of rows."""
    monkeypatch.setitem(READ_AFTER, "cpu", READ_AFTER["cuda"])
    monkeypatch.setattr(objective, "may_choose_rows", lambda *_: False)


def reads(encoder: Path, output: Path, method: str, steps: int, **more: Any) -> Counter[str]:
    settings = {"max_steps": steps, "logging_steps": 1_000, "logging_nan_inf_filter": False, **more}
    trainer = make_trainer(encoder, output, method, **settings)
    found = Waits()
    with Operations(found), Calls(found):
        trainer.train()
    return Counter({name: count for name, count in found.by_file.items() if name not in ON_CPU_ONLY})


def reads_of_a_step(encoder: Path, output: Path, method: str, **more: Any) -> dict[str, float]:
    found = reads(encoder, output, method, 8, **more)
    found.subtract(reads(encoder, output, method, 4, **more))
    return {name: count / 4 for name, count in found.items() if count}


@pytest.mark.parametrize("method", ["supervised", "auto", "fixmatch", "softmatch", "r-drop", "uda"])
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_step_reads_no_number(tiny_encoder: Path, tmp_path: Path, method: str) -> None:
    """Guards `.item()` in a loss, in a log, or in the decision whether a step is skipped."""
    assert reads_of_a_step(tiny_encoder, tmp_path, method) == {}


@pytest.mark.parametrize(
    ("method", "optim", "reads"),
    [
        ("mean-teacher", "adamw_torch_fused", {"finite.py": 1}),  # a teacher must know whether the step was skipped
        ("fixmatch", "adafactor", {"finite.py": 1}),  # this optimizer cannot be told on the device
        (
            "vat",
            "adamw_torch_fused",
            {"views.py": 1},
        ),  # the noise of a row depends on the row alone, and the host draws it
    ],
)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_step_that_reads_a_number(
    tiny_encoder: Path, tmp_path: Path, method: str, optim: str, reads: dict[str, int]
) -> None:
    """Guards further reads, and what the guide says of these methods."""
    assert reads_of_a_step(tiny_encoder, tmp_path, method, optim=optim) == reads


def test_rows_that_a_method_does_not_read_are_not_computed(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a corpus that goes through the student although the method learns from labels alone, or no row is confident."""
    passed = {}
    for method, args in {"supervised": {}, "fixmatch": {"threshold": 0.0}, "uda": {"threshold": 1.1}}.items():
        trainer = make_trainer(tiny_encoder, tmp_path, method, max_steps=2, method_args=args)
        rows: list[int] = []
        layer = trainer.model.base_model.encoder.layer[-1]
        layer.register_forward_hook(lambda module, inputs, output, rows=rows: rows.append(len(inputs[0])))
        trainer.train()
        passed[method] = sum(rows)
    assert passed == {"supervised": 2 * 4, "fixmatch": 2 * (4 + 8 + 8), "uda": 2 * (4 + 8)}
