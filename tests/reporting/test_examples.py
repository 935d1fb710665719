"""Which texts are shown: the right ones, the same every time, from a corpus of any size."""

import numpy as np
import pytest
from made_up_run import ATTACK, CORPUS, FOLDERS, TEMPERATURE, make_run

from sstext.evaluation.calibration import softmax
from sstext.reporting.comparison import evidence_of
from sstext.reporting.examples import (
    MAX_CHARACTERS,
    SHOWN,
    Group,
    example_groups,
    sample_rows,
    sampled_corpus,
    shortened,
)
from sstext.reporting.run_files import RunFiles, open_run_files


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    return open_run_files(make_run(tmp_path_factory.mktemp("made_up") / "run", 8, folds=False))


@pytest.fixture(scope="module")
def groups(run: RunFiles) -> dict[str, Group]:
    return {group.key: group for group in example_groups(run, evidence_of(run))}


def all_texts(run: RunFiles) -> list[str]:
    assert run.corpus is not None
    return [run.corpus.text(row) for row in range(CORPUS)]


def test_kept_and_rejected_are_apart_and_are_what_the_file_says(run: RunFiles, groups: dict[str, Group]) -> None:
    """Guards against examples that are looked up by the wrong number: position in the corpus, not in the user's file."""
    import pyarrow.parquet as pq

    table = pq.read_table(run.path / "round_2" / "pseudo_labels.parquet")
    given = dict(zip(table["position"].to_pylist(), table["label"].to_pylist(), strict=True))
    texts = all_texts(run)
    kept = {shortened(texts[row]): label for row, label in given.items()}
    assert len(groups["kept"].examples) == len(groups["rejected"].examples) == SHOWN
    assert all(kept[example.text] == example.label for example in groups["kept"].examples)
    assert not any(example.text in kept for example in groups["rejected"].examples)


def test_the_most_telling_come_first(run: RunFiles, groups: dict[str, Group]) -> None:
    """The least sure of the kept, the surest of the rejected; as sure as the teacher, the round before, was."""
    scores = np.load(run.path / "round_1" / "scores.npy")
    confidence = softmax(scores.astype(np.float64), TEMPERATURE).max(-1)
    corpus = sampled_corpus(run.teaching)  # type: ignore[arg-type]
    assert groups["rejected"].examples[0].confidence == pytest.approx(confidence[~corpus.kept].max())
    kept = [example.confidence for example in groups["kept"].examples]
    assert kept[: SHOWN // 2] == sorted(kept[: SHOWN // 2])
    assert kept[SHOWN // 2 - 1] <= min(kept[SHOWN // 2 :])


def test_flipped_texts_changed_their_class_between_the_last_rounds(run: RunFiles, groups: dict[str, Group]) -> None:
    before, now = (np.load(run.path / FOLDERS[index] / "scores.npy").argmax(-1) for index in (1, 2))
    texts = [shortened(text) for text in all_texts(run)]
    assert groups["flipped"].examples
    for example in groups["flipped"].examples:
        row = texts.index(example.text)
        assert (example.label, example.other) == (run.classes[now[row]], run.classes[before[row]])
        assert example.label != example.other
    assert groups["flipped"].examples[0].text == shortened(ATTACK), "the surest of all comes first"


def test_confused_texts_are_mistakes_with_their_true_label(run: RunFiles, groups: dict[str, Group]) -> None:
    found = evidence_of(run)
    assert found is not None
    texts = found.texts.to_pylist()
    for example in groups["confused"].examples:
        row = texts.index(example.text)
        assert example.other == run.classes[found.labels[row]]
        assert example.label == run.classes[found.chosen[row].argmax()] != example.other


def test_the_same_rows_are_drawn_every_time_spread_over_the_whole() -> None:
    """Guards against a look at the head of a sorted corpus alone."""
    rows = sample_rows(1_000_000, 1000)
    np.testing.assert_array_equal(rows, sample_rows(1_000_000, 1000))
    assert len(np.unique(rows)) == 1000
    assert (np.diff(rows) > 0).all()
    assert 450_000 < rows.mean() < 550_000


def test_a_large_corpus_is_sampled(run: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a report that reads a hundred million rows."""
    monkeypatch.setattr("sstext.reporting.examples.sample_rows", lambda total, *_: np.arange(0, total, 10))
    sample = sampled_corpus(run.teaching)  # type: ignore[arg-type]
    assert sample.rows.tolist() == list(range(0, CORPUS, 10))
    assert 0 < sample.kept.sum() < len(sample.rows)


def test_long_texts_are_cut_and_say_so() -> None:
    text = shortened("word " * 1000)
    assert len(text) <= MAX_CHARACTERS
    assert text.endswith("…")
    assert shortened("as it is") == "as it is"
