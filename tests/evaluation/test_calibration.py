"""Temperature and alignment: hand-derived values, invariances and limits; folding checked on real heads."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from sstext.errors import UserError
from sstext.evaluation.calibration import (
    fit_temperature,
    matching_temperature,
    softmax,
    temperature_of_confidence,
)
from sstext.modeling.fold_temperature import fold_temperature
from sstext.pseudolabels.alignment import CalibratedScores, align

TINY = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_labels": 3,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.5,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def calibrated_logits() -> tuple[Tensor, Tensor]:
    """Logits whose probabilities are exactly the shares of the labels: .75/.25 on 4 rows and .9/.1 on 10."""
    shares = torch.tensor([[0.75, 0.25]] * 4 + [[0.9, 0.1]] * 10)
    return shares.log(), torch.tensor([0] * 3 + [1] + [0] * 9 + [1])


def noisy_logits() -> tuple[Tensor, Tensor]:
    """Random logits (200, 5) and labels that they predict badly."""
    logits = torch.randn(200, 5, dtype=torch.float64)
    return logits, (logits + 2 * torch.randn(200, 5)).argmax(1)


def probe() -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]]), "attention_mask": torch.ones(2, 4)}


def negative_log_likelihood(logits: Tensor, labels: Tensor, temperature: float) -> float:
    return float(nn.functional.cross_entropy(logits / temperature, labels))


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_known_temperature_is_recovered(scale: float):
    """Calibrated logits times T have temperature T; T = 1 is the calibrated model itself."""
    logits, labels = calibrated_logits()
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale, rel=1e-5)


def test_known_temperature_is_recovered_from_drawn_labels():
    """Labels drawn from softmax(z) and a model that says 2.5 z: 20,000 rows give T to a few percent."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, 4))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    assert fit_temperature(2.5 * logits, labels) == pytest.approx(2.5, rel=0.05)


def test_the_minimum_is_a_minimum():
    """Guards a root of the wrong function: the likelihood is worse on either side."""
    logits, labels = noisy_logits()
    best = fit_temperature(logits, labels)
    assert 0.05 < best < 20
    for factor in (0.99, 1.01):
        assert negative_log_likelihood(logits, labels, best * factor) > negative_log_likelihood(logits, labels, best)


def test_temperature_scales_with_the_logits_and_ignores_the_rest():
    """k · z has temperature k · T; a constant added to a row, the order of rows and of classes, and copies change nothing."""
    logits, labels = noisy_logits()
    temperature = fit_temperature(logits, labels)
    rows, classes = torch.randperm(200), torch.tensor([3, 0, 4, 1, 2])
    assert fit_temperature(4 * logits, labels) == pytest.approx(4 * temperature)
    assert fit_temperature(logits + 100 * torch.randn(200, 1), labels) == pytest.approx(temperature)
    assert fit_temperature(logits[rows], labels[rows]) == pytest.approx(temperature)
    assert fit_temperature(logits[:, classes], classes.argsort()[labels]) == pytest.approx(temperature)
    assert fit_temperature(logits.repeat(2, 1), labels.repeat(2)) == pytest.approx(temperature)


def test_weights_are_how_often_a_row_counts():
    """Twice is there twice, never is not there; with a belief, too, which weighs as much as the rows are many."""
    logits, labels = noisy_logits()
    some, all_of_them = torch.arange(200) < 80, torch.ones(200)
    twice = fit_temperature(torch.cat([logits, logits[some]]), torch.cat([labels, labels[some]]))
    assert fit_temperature(logits, labels, weights=all_of_them + some) == pytest.approx(twice)
    assert fit_temperature(logits, labels, weights=some.float()) == pytest.approx(
        fit_temperature(logits[some], labels[some])
    )
    believed = fit_temperature(logits, labels, believed=5.0)
    assert fit_temperature(logits, labels, believed=5.0, weights=all_of_them.numpy()) == believed


def test_tensors_and_read_only_arrays_give_the_same(recwarn: pytest.WarningsRecorder):
    """Scores come from a memory-mapped file, in float32: torch must not warn that it could write to it."""
    logits, labels = noisy_logits()
    array = logits.float().numpy()
    array.flags.writeable = False
    assert fit_temperature(array, labels.tolist()) == fit_temperature(logits.float().requires_grad_(), labels)
    assert not recwarn.list


def test_extremes_stop_at_the_bounds():
    """All rows right: T would fall to 0; all wrong, or no better than chance: it would grow for ever."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(logits, [0, 1]) == pytest.approx(0.05)
    assert fit_temperature(logits, [1, 0]) == pytest.approx(20)
    assert fit_temperature(1e4 * logits, [0, 1]) == pytest.approx(0.05)
    assert fit_temperature(torch.tensor([[2.0, 0.0]] * 2), [0, 1]) == pytest.approx(20)


def test_equal_logits_have_temperature_one():
    """Every temperature is as good: guards a bound, which would be folded into the head."""
    assert fit_temperature(torch.full((4, 3), 7.3), [0, 1, 2, 0]) == 1.0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.0, 1.0]], [2], "labels 0 … 1, found .* label 2 in row 0"),
        ([[0.0, 1.0]] * 2, [0, -100], "label -100 in row 1"),
        ([[0.0, float("inf")]], [0], r"found logits \[0.0, inf\]"),
        ([[0.0, 1.0]], [0, 1], r"found shapes \(1, 2\) and \(2,\)"),
        (np.zeros((0, 2)), [], r"found shapes \(0, 2\) and \(0,\)"),
    ],
)
def test_unsound_logits_are_refused(logits: list, labels: list, message: str):
    with pytest.raises(UserError, match=message):
        fit_temperature(logits, labels)


def tiny_model(kind: type[PreTrainedModel]) -> PreTrainedModel:
    config = {BertForSequenceClassification: BertConfig, RobertaForSequenceClassification: RobertaConfig}[kind](**TINY)
    model = kind(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)  # transformers starts at 0, where a bias that is forgotten does not show
    return model


@pytest.mark.parametrize("kind", [BertForSequenceClassification, RobertaForSequenceClassification])
@pytest.mark.parametrize("training", [False, True])
def test_folding_divides_the_logits(kind: type[PreTrainedModel], training: bool):
    """Guards a bias left out, a wrong layer, a probe disturbed by dropout, and a mode or gradient left behind."""
    model = tiny_model(kind).eval()
    before = model(**probe()).logits
    model.train(training)
    model.base_model.eval()  # a frozen encoder under a head in training
    fold_temperature(model, 2.5, probe())
    assert model.training is training
    assert not model.base_model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert torch.allclose(model.eval()(**probe()).logits, before / 2.5, rtol=1e-5)
    assert (before - before / 2.5).abs().max() > 0.01  # canary: the division is visible


def test_a_shift_is_added_after_the_division():
    """Guards a shift that is divided, too, and a layer that cannot take it, which must stay as it was."""
    model, shift = tiny_model(BertForSequenceClassification).eval(), torch.tensor([1.0, -2.0, 0.5])
    before = model(**probe()).logits
    fold_temperature(model, 2.0, probe(), shift)
    assert torch.allclose(model(**probe()).logits, before / 2 + shift, atol=1e-5)
    model.classifier = nn.Linear(model.classifier.in_features, 3, bias=False)
    weight = model.classifier.weight.clone()
    with pytest.raises(UserError, match="layer 'classifier' has no bias, which a shift of the logits needs"):
        fold_temperature(model, 2.0, probe(), shift)
    assert torch.equal(model.classifier.weight, weight)


def test_folding_changes_the_head_alone():
    """Guards an encoder that is scaled too: embeddings of the chosen model are used elsewhere."""
    model = tiny_model(BertForSequenceClassification)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold_temperature(model, 4.0, probe())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


class Head(nn.Module):
    """A model of its own: `classifier` makes the logits of x (N, 4), `last` is registered after it."""

    def __init__(self, last: nn.Module, squash: bool = False) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=3)
        self.classifier = nn.Linear(4, 3, bias=False)
        self.last = last
        self.squash = squash

    def forward(self, x: Tensor) -> SimpleNamespace:
        logits = self.classifier(x)
        return SimpleNamespace(logits=logits.tanh() if self.squash else logits)


@pytest.mark.parametrize(
    ("model", "layer"), [(Head(nn.Linear(4, 3)), "'last'"), (Head(nn.Linear(4, 2), squash=True), "'classifier'")]
)
def test_a_layer_that_does_not_make_the_logits_is_refused(model: Head, layer: str):
    """A wrong layer, and a right one with something behind it: weights come back bit for bit, the mode too."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match=f"Head: layer {layer} is not the float32 output layer"):
        fold_temperature(model, 3.0, {"x": torch.randn(5, 4)})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_a_head_without_bias_is_folded():
    """Decoders' `score` layer has none; a later layer with another number of outputs is passed over."""
    model, x = Head(nn.Linear(4, 2)), torch.randn(5, 4)
    before = model(x).logits
    fold_temperature(model, 0.5, {"x": x})
    assert torch.allclose(model(x).logits, 2 * before)


def test_weights_come_back_when_the_probe_fails():
    """Guards a half-changed model where the second forward raises, for example because memory runs out."""

    class Failing(Head):
        calls = 0

        def forward(self, x: Tensor) -> SimpleNamespace:
            self.calls += 1
            if self.calls == 2:
                raise MemoryError
            return super().forward(x)

    model = Failing(nn.Identity())
    before = model.classifier.weight.clone()
    with pytest.raises(MemoryError):
        fold_temperature(model, 2.0, {"x": torch.randn(5, 4)})
    assert torch.equal(model.classifier.weight, before)


def test_logits_that_are_not_numbers_are_refused():
    """Guards a comparison that NaN passes."""
    with pytest.raises(UserError, match="is not the float32 output layer"):
        fold_temperature(Head(nn.Identity()), 2.0, {"x": torch.full((1, 4), float("nan"))})


def test_a_model_without_a_head_is_refused_by_name():
    model = Head(nn.Identity())
    model.classifier = nn.Linear(4, 7)
    with pytest.raises(UserError, match=r"Head: expected an nn\.Linear layer with 3 outputs"):
        fold_temperature(model, 2.0, {"x": torch.randn(5, 4)})


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_temperatures_are_refused(temperature: float):
    with pytest.raises(UserError, match="temperature: expected a finite number above 0"):
        fold_temperature(Head(nn.Identity()), temperature, {"x": torch.randn(5, 4)})


def random_shares(rows: int = 200, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.linspace(0.3, 2, classes), size=rows)


@pytest.mark.parametrize("prior", [[0.25] * 4, [0.1, 0.2, 0.3, 0.4], [0.97, 0.01, 0.01, 0.01]])
def test_aligned_mean_is_the_prior(prior: list[float]):
    """Guards too few iterations, and rows that no longer sum to 1."""
    aligned = align(random_shares(), prior, iterations=1000)
    assert aligned.mean(0) == pytest.approx(prior, abs=1e-6)
    assert aligned.sum(1) == pytest.approx(np.ones(200))
    assert (aligned >= 0).all()


def test_one_iteration_by_hand():
    """Rows (.8 .2) and (.4 .6) have mean (.6 .4); a uniform prior gives the factors 5/6 and 5/4.

    (2/3 1/4) becomes (8/11 3/11), and (1/3 3/4) becomes (4/13 9/13).
    """
    given = np.array([[0.8, 0.2], [0.4, 0.6]])
    assert align(given, [0.5, 0.5], iterations=1) == pytest.approx(np.array([[8 / 11, 3 / 11], [4 / 13, 9 / 13]]))
    assert given.tolist() == [[0.8, 0.2], [0.4, 0.6]]  # the scores are not changed in place


def test_no_iteration_and_aligned_input_are_the_identity():
    """Guards drift: what is already aligned comes back bit for bit."""
    shares = random_shares()
    assert np.array_equal(align(shares, [0.25] * 4, iterations=0), shares)
    assert np.array_equal(align(shares, shares.mean(0)), shares)


def test_alignment_moves_all_rows_by_the_same_factors():
    """q′ / q is w (C,) times a number of the row: the odds of two classes move by one factor in every row."""
    shares = random_shares()
    aligned = align(shares, [0.1, 0.2, 0.3, 0.4])
    factors = (aligned[:, 1:] / aligned[:, :1]) / (shares[:, 1:] / shares[:, :1])
    assert factors == pytest.approx(np.broadcast_to(factors[0], factors.shape))
    assert np.abs(factors[0] - 1).max() > 0.1  # canary: something moved


def test_a_class_with_prior_zero_gets_nothing():
    """A row that was sure of that class knows only the prior then: guards 0/0."""
    aligned = align([[0.0, 0.0, 1.0], [0.5, 0.25, 0.25], [0.2, 0.7, 0.1]], [0.5, 0.5, 0.0])
    assert (aligned[:, 2] == 0).all()
    assert aligned.sum(1) == pytest.approx(np.ones(3))
    assert aligned.mean(0) == pytest.approx([0.5, 0.5, 0], abs=1e-6)


def test_a_class_without_any_mass_cannot_get_any():
    """Guards the division of its share by 0: nothing can be done, and nothing is."""
    assert np.array_equal(align([[1.0, 0.0]] * 3, [0.5, 0.5]), [[1.0, 0.0]] * 3)


def test_the_prior_is_scaled():
    """Counts of labels are a prior too."""
    shares = random_shares()
    assert align(shares, [1, 2, 3, 4]) == pytest.approx(align(shares, [0.1, 0.2, 0.3, 0.4]))


@pytest.mark.parametrize(
    ("shares", "prior", "message"),
    [
        ([[0.5, 0.5]], [1.0], r"found shapes \(1, 2\) and \(1,\)"),
        (np.zeros((0, 2)), [0.5, 0.5], r"found shapes \(0, 2\)"),
        ([[0.5, 0.5], [3.0, -1.0]], [0.5, 0.5], r"found \[3.0, -1.0\] in row 1"),
        ([[0.5, 0.5]], [1.5, -0.5], "prior: expected class shares of 0 or more"),
        ([[0.5, 0.5]], [0.0, 0.0], "not all 0"),
        ([[0.5, 0.5]], [float("nan"), 1.0], "prior: expected"),
    ],
)
def test_unsound_shares_are_refused(shares: list, prior: list, message: str):
    with pytest.raises(UserError, match=message):
        align(shares, prior)


def test_scores_read_in_slices_are_those_of_the_whole_corpus() -> None:
    """Guards corpora that no memory holds: any rows of `CalibratedScores` are the rows of `align(softmax(logits / T))`."""
    logits = np.random.default_rng(0).normal(size=(50, 3))
    prior = np.array([0.5, 0.3, 0.2])
    whole = align(softmax(logits, 2.0), prior)
    scores = CalibratedScores(logits, 2.0, prior)
    assert len(scores) == 50
    np.testing.assert_allclose(np.concatenate([scores[:20], scores[20:]]), whole, atol=1e-12)
    np.testing.assert_allclose(scores[np.array([7, 3])], whole[[7, 3]], atol=1e-12)
    np.testing.assert_allclose(CalibratedScores(logits, 2.0)[:5], softmax(logits[:5], 2.0))


def test_a_sample_aligns_a_large_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the sample's spread: with a tenth of the rows, the mean comes within 2 points of the prior, not left at 60 %."""
    monkeypatch.setattr(CalibratedScores, "SAMPLE", 200)
    logits = np.random.default_rng(0).normal(loc=[0.5, 0.0], size=(2_000, 2))
    scores = CalibratedScores(logits, 1.0, np.array([0.5, 0.5]))
    assert abs(softmax(logits)[:, 0].mean() - 0.5) > 0.05
    assert abs(scores[:][:, 0].mean() - 0.5) < 0.02


def test_matching_a_class_for_sure_is_fitting_it() -> None:
    """One-hot probabilities are labels; and what a model says at T = 2 is matched at 2, whatever its rows are."""
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(50, 4)), rng.integers(4, size=50)
    assert matching_temperature(logits, np.eye(4)[labels]) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)
    assert matching_temperature(logits, softmax(logits, 2.0)) == pytest.approx(2.0, rel=1e-6)
    assert matching_temperature(np.zeros((3, 4)), np.full((3, 4), 0.25)) == 1.0


def test_a_temperature_gives_the_confidence_that_is_asked_for() -> None:
    """Guards the direction: more confidence is a lower temperature. What no temperature can give ends at a bound."""
    logits = np.random.default_rng(0).normal(size=(50, 4))
    for wanted in (0.3, 0.6, 0.9):
        found = temperature_of_confidence(logits, wanted)
        assert softmax(logits, found).max(-1).mean() == pytest.approx(wanted, abs=1e-9)
    assert temperature_of_confidence(logits, 0.9) < temperature_of_confidence(logits, 0.3)
    assert temperature_of_confidence(logits, 0.2) == 20.0, "less than 1/4 is impossible"
    assert temperature_of_confidence(np.full((3, 4), 2.0), 0.9) == 1.0


def test_a_narrow_prior_holds_the_temperature() -> None:
    """By hand: the narrower the prior, the nearer to it. Guards a spread that is dropped on the way."""
    logits, labels = 3 * np.log([[0.75, 0.25]] * 4), [0, 0, 0, 1]
    found = [fit_temperature(logits, labels, believed=1.0, spread=spread) for spread in (0.01, 0.25, 0.5, 100.0)]
    assert found[0] == pytest.approx(1.0, abs=0.01)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(3.0, rel=1e-3)
