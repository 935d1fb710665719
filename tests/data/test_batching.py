"""Batching: every draw is a pure function of (seed, item), shares are exact, and every row shows what it was asked for."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from sstext.data.batching import Relabeled, TrainingRows
from sstext.data.order import ClassRuns, KeyedPermutation, RowStream, random_rows

CLS, SEP = 2, 3


def corpus(n: int, first: int, **more: Any) -> list[dict[str, Any]]:
    """n tokenized texts of 1 … 4 ordinary tokens; the one at position i reads first + i."""
    return [{"input_ids": [CLS, *[first + i] * (1 + i % 4), SEP], "labels": i % 2, **more} for i in range(n)]


def noise(ids: Any, rng: np.random.Generator) -> list[int]:
    """An edit that leaves one token in place and writes a random one: what it was given can be told from what it made."""
    return [ids[0], int(rng.integers(10**6, 10**9))]


def training_rows(**settings: Any) -> TrainingRows:
    """Four labeled rows (100 …), nine pseudo-labeled ones (200 …), seven unlabeled ones (300 …)."""
    defaults: dict[str, Any] = {
        "length": 24, "seed": 1, "pseudo_labeled": corpus(9, 200, weight=0.5), "gold_share": 0.25,
        "unlabeled": corpus(7, 300), "ratio": 1.5,
    }  # fmt: skip
    return TrainingRows(corpus(4, 100), **(defaults | settings))


def first_token(item: dict[str, Any]) -> int:
    return item["inputs"]["input_ids"][1]


def is_labeled(item: dict[str, Any]) -> bool:
    return first_token(item) < 200


# Order


@pytest.mark.parametrize("n", [*range(1, 71), 127, 128, 129, 255, 257, 1000, 4097])
def test_permutation_is_a_bijection(n: int) -> None:
    """Guards the cycle walk at every size around powers of two: a row drawn twice is a row that is never drawn."""
    assert sorted(map(KeyedPermutation(n, 3, 1), range(n))) == list(range(n))


def test_permutations_differ_by_every_part_of_the_key() -> None:
    """Guards against passes, streams or seeds that share one order, and against keys that are summed."""
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (2**64 + 5, 0, 0), (0,), (0, 0)]
    orders = {tuple(map(KeyedPermutation(50, *key), range(50))) for key in keys}
    assert len(orders) == len(keys)
    assert tuple(range(50)) not in orders


@pytest.mark.parametrize("n", [3, 5, 16, 60])
def test_every_row_may_come_first(n: int) -> None:
    """Over 200·n keys each row comes first 200 times, within five standard deviations: guards against a bias by position."""
    counts = np.bincount([KeyedPermutation(n, key)(0) for key in range(200 * n)], minlength=n)
    assert np.abs(counts - 200).max() < 5 * math.sqrt(200)


def test_a_permutation_of_a_trillion_rows_costs_nothing() -> None:
    """O(1): guards against an order that is stored. A thousand neighbors land apart and inside."""
    n = 10**12
    permutation = KeyedPermutation(n, 0)
    images = [permutation(index) for index in (*range(500), *range(n - 500, n))]
    assert len(set(images)) == 1000
    assert 0 <= min(images) < n / 100 < 0.99 * n < max(images) < n


def test_permutation_refuses_what_it_has_not() -> None:
    """Guards against an index that wraps around into another row."""
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"expected an index below 5, found {index}"):
            KeyedPermutation(5, 0)(index)
    with pytest.raises(ValueError, match="expected at least one row to permute, found 0"):
        KeyedPermutation(0)


def test_every_pass_of_a_stream_visits_each_row_once_in_its_own_order() -> None:
    """Guards against rows that are starved, and against the same order in every pass."""
    stream = RowStream(13, seed=0, stream=2)
    passes = [[stream(13 * number + i) for i in range(13)] for number in range(4)]
    for number, visits in enumerate(passes):
        assert sorted(row for row, _ in visits) == list(range(13))
        assert {draw for _, draw in visits} == {number}
    assert len({tuple(row for row, _ in visits) for visits in passes}) == 4


# Items


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3, 0.5, 0.7, 0.99, 1.0])
def test_gold_share_holds_in_any_window(share: float) -> None:
    """Of any k consecutive items ⌊k · share⌋ or one more are labeled: guards against batches without a single labeled row."""
    items = training_rows(gold_share=share, length=120, unlabeled=None)
    labeled = np.array([is_labeled(items[i]) for i in range(120)])
    total = np.concatenate([[0], np.cumsum(labeled)])
    for k in (1, 2, 3, 7, 16, 64, 120):
        assert set(total[k:] - total[:-k]) <= {math.floor(k * share), math.floor(k * share) + 1}


def test_no_row_is_skipped_between_items() -> None:
    """Gold and pseudo-labeled rows are each drawn in whole passes, interleaved: guards against an index counted twice."""
    items = training_rows(length=48)
    tokens = [first_token(items[i]) for i in range(48)]
    labeled, pseudo = [t for t in tokens if t < 200], [t for t in tokens if t >= 200]
    assert [sorted(labeled[i : i + 4]) for i in (0, 4, 8)] == [[100, 101, 102, 103]] * 3
    assert [sorted(pseudo[i : i + 9]) for i in (0, 9, 18, 27)] == [list(range(200, 209))] * 4


def test_items_carry_their_labels_and_weights() -> None:
    """Guards against labels of another row; labeled rows have no weight of their own and count in full."""
    items = training_rows(unlabeled=None)
    for item in (items[i] for i in range(24)):
        assert item["labels"] == first_token(item) % 2
        assert item["weight"] == (1.0 if is_labeled(item) else 0.5)
        assert set(item) == {"inputs", "labels", "weight"}


def test_without_pseudo_labels_every_item_is_labeled() -> None:
    """Guards a gold share that was left in the arguments."""
    items = training_rows(pseudo_labeled=None, gold_share=0.25)
    assert all(is_labeled(items[i]) for i in range(24))


@pytest.mark.parametrize("ratio", [0.3, 0.5, 1.0, 1.5, 2.0])
def test_unlabeled_rows_come_at_their_ratio_without_gap_or_overlap(ratio: float) -> None:
    """⌊i · ratio⌋ … ⌊(i+1) · ratio⌋ − 1: guards against a ratio that is rounded, and rows that are skipped."""
    items = training_rows(ratio=ratio, length=40)
    stream = RowStream(7, seed=1, stream=2)
    counts = [len(items[i]["unlabeled"]) for i in range(40)]
    assert sum(counts) == math.floor(40 * ratio)
    assert set(counts) <= {math.floor(ratio), math.ceil(ratio)}
    ids = [view["id"] for i in range(40) for view in items[i]["unlabeled"]]
    assert ids == [stream(index)[0] for index in range(len(ids))]


def test_items_are_a_pure_function_of_seed_and_item() -> None:
    """Resuming, workers and processes read items in any order: guards against an iterator's state."""
    one, other = (training_rows(edit=noise, strong=noise) for _ in range(2))
    backward = {i: other[i] for i in reversed(range(24))}
    assert all(one[i] == backward[i] == one[i] for i in range(24))
    reseeded = training_rows(edit=noise, strong=noise, seed=2)
    assert not any(one[i] == reseeded[i] for i in range(24))


def test_epochs_go_on_in_one_endless_plan() -> None:
    """Item i of epoch e is item e · length + i: guards against epochs that repeat, and against rows lost between them."""
    short, endless = training_rows(length=10, edit=noise), training_rows(length=100, edit=noise)
    for epoch in (0, 3, 1):
        short.set_epoch(epoch)
        assert [short[i] for i in range(len(short))] == [endless[10 * epoch + i] for i in range(10)]


def test_edits_are_drawn_anew_at_every_visit() -> None:
    """Guards against one fixed augmentation per row: visits 0, 1, 2 of a row must differ."""
    items = training_rows(edit=noise, strong=noise, length=60)
    labeled = [tuple(items[i]["inputs"]["input_ids"]) for i in range(60) if len(items[i]["inputs"]["input_ids"]) == 2]
    assert len(set(labeled)) == len(labeled) == 60
    views = [view for i in range(60) for view in items[i]["unlabeled"]]
    strong = [tuple(view["strong"]["input_ids"]) for view in views]
    assert len(set(strong)) == len(strong) == 90
    assert len({view["id"] for view in views}) == 7


def test_the_weak_view_is_never_edited() -> None:
    """The teacher reads the text itself: guards against targets made from noise."""
    items = training_rows(edit=noise, strong=noise)
    rows = corpus(7, 300)
    views = [view for i in range(24) for view in items[i]["unlabeled"]]
    assert all(view["weak"] == {"input_ids": rows[view["id"]]["input_ids"]} for view in views)
    assert all(view["strong"] != view["weak"] for view in views)


def test_without_edits_nothing_is_edited() -> None:
    """Guards against noise that nobody asked for; the strong view is then the weak one, padded once."""
    items = training_rows()
    texts = {row["input_ids"][1]: row["input_ids"] for row in corpus(4, 100) + corpus(9, 200)}
    assert all(items[i]["inputs"]["input_ids"] == texts[first_token(items[i])] for i in range(24))
    assert all(view["strong"] is view["weak"] for i in range(24) for view in items[i]["unlabeled"])


def test_other_inputs_stay_as_long_as_the_edited_ids() -> None:
    """token_type_ids of a text whose tokens were dropped: guards against columns of two lengths in one row."""
    labeled = corpus(
        4, 100, token_type_ids=[0] * 6, attention_mask=[1] * 6, text="never an input", truncated=False, row=7
    )
    items = TrainingRows(labeled, length=4, seed=0, edit=noise)
    assert {tuple(items[i]["inputs"]) for i in range(4)} == {("input_ids", "token_type_ids")}
    assert all(len(items[i]["inputs"]["token_type_ids"]) == 2 for i in range(4))


def test_columns_of_the_user_are_no_inputs() -> None:
    """A `source` or `title` beside the text: guards against a padding error in paired training, where Trainer has none."""
    items = TrainingRows(corpus(4, 100, source="web", title="a title"), length=4, seed=0)
    assert set(items[0]["inputs"]) == {"input_ids"}


# What a device draws


def views_of(items: TrainingRows) -> list[dict[str, Any]]:
    """The unlabeled rows of all items."""
    return [view for i in range(len(items)) for view in items[i]["unlabeled"]]


def test_keys_are_63_bits_and_one_for_every_visit() -> None:
    """Guards random numbers on a device that repeat over visits or rows, and a key that no signed integer can hold."""
    items = training_rows(length=400, ratio=2.0)
    views = views_of(items)
    keys = [view["key"] for view in views]
    assert len(set(keys)) == len(views) == 800
    assert all(0 <= key < 2**63 for key in keys)
    assert max(keys) > 2**62, "63 bits are there to be used"
    assert not set(keys) & {view["key"] for view in views_of(training_rows(length=400, ratio=2.0, seed=2))}


def test_a_key_follows_its_row_and_visit_alone() -> None:
    """Guards numbers that hang on batch, ratio or the other rows: the same visit has the same key in any plan."""

    def keys(items: TrainingRows) -> list[tuple[int, int]]:
        return [(view["id"], view["key"]) for view in views_of(items)]

    plans = training_rows(length=28, ratio=2.0), training_rows(length=56, ratio=1.0, pseudo_labeled=None, strong=noise)
    assert keys(plans[0]) == keys(plans[1])


# Further views


def test_strong_labels_are_labeled_rows_with_numbers_of_their_own() -> None:
    """Guards AdaMatch's second view: the same text, edited apart from the first, and other numbers for equal row numbers."""
    items = training_rows(strong_labels=True, edit=noise, strong=noise, length=60)
    plain = training_rows(length=60)
    drawn = [items[i][name]["input_ids"] for i in range(60) for name in ("inputs", "strong")]
    drawn += [view["strong"]["input_ids"] for view in views_of(items)]
    assert len({ids[1] for ids in drawn}) == len(drawn) == 210
    unedited = training_rows(strong_labels=True, strong=lambda ids, rng: [*ids, 9], length=60)
    for i in range(60):
        assert unedited[i]["inputs"] == plain[i]["inputs"], "the labeled rows themselves are not edited"
        assert unedited[i]["strong"]["input_ids"] == [*plain[i]["inputs"]["input_ids"], 9]


def hide(ids: Any, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """A masking whose result can be told from its input: one random token, and the whole text as targets."""
    return [int(rng.integers(10**6, 10**9)), *ids[1:]], list(ids)


def test_masked_views_are_made_of_the_text_itself() -> None:
    """Guards reconstruction of an edited copy, and one that hides the same tokens at every visit."""
    views = views_of(training_rows(masked=hide, strong=noise, length=60))
    rows = corpus(7, 300)
    for view in views:
        assert view["masked_targets"] == rows[view["id"]]["input_ids"] == view["weak"]["input_ids"]
        assert view["masked"]["input_ids"][1:] == view["weak"]["input_ids"][1:]
    firsts = [view["masked"]["input_ids"][0] for view in views] + [view["strong"]["input_ids"][1] for view in views]
    assert len(set(firsts)) == len(firsts) == 180
    texts = corpus(7, 300, token_type_ids=[0] * 6)
    (view, *_) = views_of(training_rows(masked=hide, unlabeled=texts))
    assert set(view["masked"]) == {"input_ids", "token_type_ids"}


def test_what_nobody_asked_for_is_not_there() -> None:
    """Guards batches against copies that cost time and are read by nobody."""
    item = training_rows(edit=noise, strong=noise)[1]
    assert set(item) == {"labels", "weight", "inputs", "unlabeled"}
    assert set(item["unlabeled"][0]) == {"id", "key", "weak", "strong"}
    alone = training_rows(unlabeled=None, strong_labels=True, masked=hide, strong=noise)[0]
    assert set(alone) == {"labels", "weight", "inputs", "strong"}


# Pseudo-labels


def test_relabeled_rows_copy_nothing_and_override_labels() -> None:
    """Guards against true labels of the corpus leaking into a round."""
    rows = Relabeled(corpus(7, 300), np.array([5, 2]), np.array([1, 1]), np.array([0.5, 1.0]))
    assert len(rows) == 2
    assert [(row["input_ids"][1], int(row["labels"]), float(row["weight"])) for row in (rows[0], rows[1])] == [
        (305, 1, 0.5),
        (302, 1, 1.0),
    ]


def test_batches_of_two_processes_are_the_batch_of_one() -> None:
    """Neighboring windows of one plan share no unlabeled row within a pass: guards against processes that learn the same."""
    items = training_rows(ratio=1.0, length=7)
    windows = [[view["id"] for i in range(*bounds) for view in items[i]["unlabeled"]] for bounds in pairwise((0, 3, 7))]
    assert not set(windows[0]) & set(windows[1])
    assert sorted(windows[0] + windows[1]) == list(range(7))


@pytest.mark.parametrize(("batch", "ratio"), [(10, 0.7), (5, 1.4), (10, 2.3), (4, 0.25), (3, 1 / 3)])
def test_every_batch_has_equally_many_unlabeled_rows(batch: int, ratio: float) -> None:
    """Processes exchange statistics of their rows: in floats ⌊i · .7⌋ is now and then one short, and they would hang."""
    rows = [{"input_ids": [2, 5, 3], "labels": 0}] * 7
    planned = TrainingRows(rows, length=batch * 20, seed=0, unlabeled=rows, ratio=ratio)
    sizes = {sum(len(planned[i * batch + k]["unlabeled"]) for k in range(batch)) for i in range(20)}
    assert sizes == {round(batch * ratio)}


# Runs of a class


def test_runs_visit_every_row_once_a_pass_and_keep_classes_together() -> None:
    """Classes of 5, 8 and 1 rows in runs of 4: 3 + 2, 4 + 4 and 1; guards against rows lost in a remainder."""
    labels = np.repeat([0, 1, 2], [5, 8, 1])
    rows = ClassRuns(labels, run=4, seed=3, stream=0)
    passes = [[rows(14 * turn + i) for i in range(14)] for turn in range(2)]
    for turn, drawn in enumerate(passes):
        assert sorted(row for row, _ in drawn) == list(range(14))
        assert {draw for _, draw in drawn} == {turn}
        classes = labels[[row for row, _ in drawn]]
        changes = 1 + np.count_nonzero(np.diff(classes))
        assert changes <= 5, "a run was torn apart"
    assert [row for row, _ in passes[0]] != [row for row, _ in passes[1]]
    assert [rows(i) for i in range(14)] == passes[0], "a pass depends on what was drawn before"


def test_a_batch_holds_several_rows_of_its_classes() -> None:
    """Twelve classes of four: 8 rows in any order rarely have two of a class, in runs of 4 they are two classes."""
    labeled = Dataset.from_dict({"input_ids": [[1]] * 48, "labels": [i % 12 for i in range(48)]})
    for runs, most in ((4, 2), (1, 8)):
        items = TrainingRows(labeled, length=48, seed=0, class_runs=runs)
        classes = [len({items[i]["labels"] for i in range(start, start + 8)}) for start in range(0, 48, 8)]
        assert max(classes) <= most
        assert runs == 4 or min(classes) > 2


def test_a_random_part_of_the_rows() -> None:
    """Distinct, ascending, the same for a seed, every row as often as any other; guards the first rows of a sorted file."""
    chosen = [random_rows(40, 10, seed) for seed in range(400)]
    assert all((np.diff(rows) > 0).all() and len(rows) == 10 for rows in chosen)
    np.testing.assert_array_equal(chosen[3], random_rows(40, 10, 3))
    counts = np.bincount(np.concatenate(chosen), minlength=40)  # 100 each, σ = 8.7
    assert (np.abs(counts - 100) < 40).all()
    assert len(random_rows(10**12, 5, 0)) == 5  # nothing of that size is made
