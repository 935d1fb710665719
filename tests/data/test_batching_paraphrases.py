"""Batching: paraphrases of a row are drawn at every visit, each alike, and by the same numbers in any process."""

from collections import Counter
from typing import Any

import numpy as np
from test_batching import CLS, SEP, corpus, first_token, hide, noise, training_rows, views_of
from torch.utils.data import DataLoader

from sstext.data.batching import Relabeled
from sstext.data.tokens import VIEW_INPUTS


def copy_of(ids: Any, rng: np.random.Generator) -> list[int]:
    """No edit: what is drawn can be seen."""
    return list(ids)


def paraphrased(n: int = 3) -> list[dict[str, Any]]:
    """Rows 300 …; the row at position i has i + 1 paraphrases, 1000 · i + 10, 1000 · i + 11, …, longer than the text."""

    def inputs(token: int) -> dict[str, list[int]]:
        return {"input_ids": [CLS, *[token] * 9, SEP], "token_type_ids": [0] * 11}

    return [
        row | {VIEW_INPUTS: [inputs(1000 * i + 10 + k) for k in range(i + 1)]}
        for i, row in enumerate(corpus(n, 300, token_type_ids=[0] * 6))
    ]


def test_one_paraphrase_is_drawn_at_every_visit_each_alike() -> None:
    """1, 2 and 3 paraphrases: shares 1, ½ and ⅓ within five standard deviations.

    Guards one fixed paraphrase per row, and the own text among those that are drawn.
    """
    views = views_of(training_rows(unlabeled=paraphrased(), strong=copy_of, length=3_000, ratio=1.0))
    for row in range(3):
        drawn = Counter(view["strong"]["input_ids"][1] for view in views if view["id"] == row)
        visits, share = drawn.total(), 1 / (row + 1)
        assert visits == 1_000
        assert set(drawn) == {1000 * row + 10 + k for k in range(row + 1)}
        bound = 5 * (share * (1 - share) / visits) ** 0.5
        assert max(abs(count / visits - share) for count in drawn.values()) <= bound


def test_a_paraphrase_brings_inputs_of_its_own() -> None:
    """Guards token types of the text beside the ids of a longer paraphrase; the teacher still reads the text."""
    rows = paraphrased()
    for view in views_of(training_rows(unlabeled=rows, strong=copy_of)):
        assert set(map(len, view["strong"].values())) == {11}
        assert view["weak"]["input_ids"] == rows[view["id"]]["input_ids"]


def test_edits_come_on_top_of_the_paraphrase() -> None:
    """Guards edits of the text in the place of the paraphrase's; they differ from visit to visit of the same one."""
    items = training_rows(unlabeled=paraphrased(1), strong=lambda ids, rng: [*ids[:2], int(rng.integers(10**9))])
    strong = [view["strong"]["input_ids"] for view in views_of(items)]
    assert {tuple(ids[:2]) for ids in strong} == {(CLS, 10)}
    assert len({ids[2] for ids in strong}) == len(strong)


def test_kept_rows_are_noised_from_their_paraphrases_and_labeled_rows_are_not() -> None:
    """Guards student noise of a round; without edits nothing is drawn."""
    kept = Relabeled(paraphrased(), np.arange(3), np.array([0, 1, 0]), np.ones(3))
    noised, plain = (training_rows(pseudo_labeled=kept, unlabeled=None, edit=edit) for edit in (copy_of, None))
    tokens = {first_token(noised[i]) for i in range(24)}
    assert tokens == {100, 101, 102, 103, 10, 1010, 1011, 2010, 2011, 2012}
    assert {first_token(plain[i]) for i in range(24)} == {100, 101, 102, 103, 300, 301, 302}


def test_other_rows_draw_what_they_drew() -> None:
    """A row that gets a paraphrase changes its own views and no others: guards a generator that rows share."""
    texts = corpus(7, 300)
    one = [row | {VIEW_INPUTS: [{"input_ids": [CLS, 9, SEP]}]} if i == 2 else row for i, row in enumerate(texts)]

    def appending(ids: Any, rng: np.random.Generator) -> list[int]:
        return [*ids, int(rng.integers(10**9))]

    pairs = zip(*(views_of(training_rows(unlabeled=rows, strong=appending)) for rows in (texts, one)), strict=True)
    assert all((before == after) == (before["id"] != 2) for before, after in pairs)


def test_workers_make_the_items_of_one_process() -> None:
    """Guards state in a worker: the same items, paraphrases, hidden tokens and keys with two workers as with none."""
    settings = {"unlabeled": paraphrased(), "edit": noise, "strong": noise, "strong_labels": True, "masked": hide}
    items = [
        [item for batch in DataLoader(training_rows(**settings), 4, num_workers=n, collate_fn=list) for item in batch]
        for n in (0, 2)
    ]
    assert items[0] == items[1]
    assert len(items[0]) == 24
