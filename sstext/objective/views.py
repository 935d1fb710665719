"""Views: the version of an unlabeled row that the student gets as input."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sstext.errors import UserError
from sstext.objective.divergences import kl
from sstext.objective.part import Part, dropout_off, in_range

_REMEDY = (
    "views that change embeddings need an encoder that has no decoder and is not compiled: choose another encoder, or "
    "a method with the view augmented"
)


@dataclass(frozen=True)
class Seen:
    """N unlabeled rows as the student's input.

    Attributes:
        inputs: inputs of the forward pass, (N, T) each.
        shift: (N, T, D) added to the token embeddings.
    """

    inputs: Mapping[str, Tensor]
    shift: Tensor | None = None


class View(Part):
    """Makes the student's input from the unlabeled rows."""

    strong = False  #: whether the batches must contain a changed copy of every unlabeled row
    shifts = False  #: whether it adds a shift to the token embeddings

    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Seen:
        """Return the student's input for the unlabeled rows."""
        raise NotImplementedError


class Same(View):
    """The student sees the same rows as the teacher."""

    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Seen:
        return Seen(unlabeled["weak"])


class Augmented(View):
    """The student sees a copy with token edits (`sstext.data.edits`) or a paraphrase, drawn again at every visit."""

    strong = True

    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Seen:
        return Seen(unlabeled["strong"])


class EmbeddingNoise(View):
    """The student sees the row with Gaussian noise on the embeddings of its tokens.

    e + scale · rms(e) · z with z ~ N(0, 1) per token and dimension, rms(e) over the row's tokens. The relative noise is
    the same for every encoder.

    Args:
        scale: standard deviation of the noise in units of the row's root mean square embedding. Measured on MiniLM
            after 60 supervised steps: at .5 the prediction moves by KL .02 to .03 and 1 to 12 % of the rows change
            class. At 1 it moves by KL .2 (9 to 31 %).
    """

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        self.scale = in_range("scale", scale, 0)

    shifts = True

    @torch.no_grad()
    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Seen:
        inputs = unlabeled["weak"]
        embedded, mask = _embedded(student, inputs)
        shift = self.scale * _root_mean_square(embedded, mask) * mask * normal(unlabeled["keys"], embedded)
        return Seen(inputs, shift)


class Adversarial(View):
    """The student sees the row with its embeddings moved in the direction that changes the prediction most.

    r = ε ‖e‖ g/‖g‖₂ with g = ∇_d KL(q ‖ p(e + d)) at d = ξ ‖e‖ u, u a random unit vector per row: one power iteration,
    in float32 and without dropout. ‖·‖ is taken over all tokens and dimensions of a row. ε and ξ are therefore relative
    to the row's embeddings, and comparable between encoders and lengths.

    Source: Miyato et al. 2018 (VAT), algorithm 1; on embeddings: Miyato et al. 2017, eqs. 6–7.

    Args:
        epsilon: ε, length of the perturbation in units of the row's embeddings. Measured on MiniLM after 60 supervised steps:
            at .01 the prediction moves by KL .09 (5 to 16 % of the rows change class), at .03 by .4 to .6 (17 to 36 %), at .1
            by 1 to 2. A random perturbation of .1 moves it by .001.
        xi: ξ, step of the finite difference, in the same units. From 1e-5 to 1e-3 the direction is stable (cosine .4 to
            .5 between two draws). From .03 on it differs in every draw.
    """

    def __init__(self, epsilon: float = 0.02, xi: float = 0.001) -> None:
        super().__init__()
        self.epsilon, self.xi = in_range("epsilon", epsilon, 0), in_range("xi", xi, 1e-6)

    shifts = True

    def prepare(self, student: nn.Module, unlabeled: Mapping[str, Any]) -> Seen:
        inputs = unlabeled["weak"]
        embedded, mask = _embedded(student, inputs)
        norm = embedded.flatten(1).norm(dim=1)[:, None, None]
        direction = _unit(normal(unlabeled["keys"], embedded) * mask)
        with (
            torch.enable_grad(),
            dropout_off(student),
            torch.autocast(embedded.device.type, enabled=False),
        ):
            with torch.no_grad():
                probs = _logits(student, inputs).softmax(-1)
            shift = (self.xi * norm * direction).requires_grad_()
            with shifted_embeddings(student, shift):
                # Rows are independent, so the gradient of the sum is the gradient of each row.
                divergence = kl(_logits(student, inputs), probs).sum()
            gradient = torch.autograd.grad(divergence, shift)[0]
        return Seen(inputs, self.epsilon * norm * _unit(gradient * mask))


@contextmanager
def shifted_embeddings(student: nn.Module, shift: Tensor | None, first: int = 0) -> Iterator[None]:
    """Add `shift` (N, T, D) to the token embeddings of rows `first` … `first + N − 1`, in the one forward pass inside.

    Raises:
        UserError: the embedding layer was not called exactly once (a compiled model, or one with a decoder).
    """
    if shift is None:
        yield
        return
    calls = 0

    def add(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if embedded.shape[1:] != shift.shape[1:]:
            raise UserError(f"{type(student).__name__}: its embeddings are not rows × tokens × width; {_REMEDY}")
        last = first + len(shift)
        return torch.cat([embedded[:first], embedded[first:last] + shift.to(embedded.dtype), embedded[last:]])

    handle = student.get_input_embeddings().register_forward_hook(add)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()
    if calls != 1:
        raise UserError(
            f"{type(student).__name__}: expected one lookup of token embeddings per pass, found {calls}; {_REMEDY}"
        )


def normal(keys: Tensor, like: Tensor) -> Tensor:
    """Standard normal numbers with the shape and device of `like` (N, T, D). Each row is a pure function of its key.

    A row's numbers do not depend on padding, on the batch or on the number of processes. `keys` has the shape (N,).
    """
    rows = [np.random.default_rng(key).standard_normal(like.shape[1:], dtype=np.float32) for key in keys.tolist()]
    return torch.from_numpy(np.stack(rows)).to(like)


def _logits(student: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The student's logits without autocast: Accelerate wraps the forward of the *instance*, not of the class."""
    return type(student).forward(student, **inputs).logits.float()


@torch.no_grad()
def _embedded(student: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Token embeddings of N rows with zeros at padding, (N, T, D) float32, and the mask (N, T, 1)."""
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    return student.get_input_embeddings()(inputs["input_ids"]).float() * mask, mask  # type: ignore[operator]


def _root_mean_square(embedded: Tensor, mask: Tensor) -> Tensor:
    return (embedded.square().sum((1, 2)) / (mask.sum((1, 2)) * embedded.shape[-1]).clamp_min(1)).sqrt()[:, None, None]


def _unit(direction: Tensor) -> Tensor:
    """Scale each row to length 1. A row of zeros stays unchanged.

    A row is divided by its largest number first. If the prediction is certain, the gradient is so small that its
    squares are 0 in float32, and the division by a length of almost 0 would give a huge step.
    """
    largest = direction.abs().flatten(1).amax(1)[:, None, None]
    scaled = direction / largest.clamp_min(torch.finfo(direction.dtype).tiny)
    return scaled / scaled.flatten(1).norm(dim=1).clamp_min(0.5)[:, None, None]  # at least 1, except for rows of zeros


#: Name → view, for the `view` argument of a method.
VIEWS: dict[str, type[View]] = {
    "same": Same,
    "augmented": Augmented,
    "noise": EmbeddingNoise,
    "adversarial": Adversarial,
}


def as_view(view: str | View) -> View:
    """Return the view, or make the view with this name, with its defaults.

    >>> as_view("same")
    Same()
    """
    if isinstance(view, View):
        return view
    if not isinstance(view, str) or view not in VIEWS:
        raise UserError(f"view: expected one of {', '.join(VIEWS)}, found {view!r}")
    return VIEWS[view]()
