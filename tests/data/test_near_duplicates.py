"""A corpus without near duplicates, and a random part of a corpus."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sstext.data.corpus import load_unlabeled
from sstext.data.in_memory import in_memory


def _read(texts: list[str], folder: Path, **how: Any) -> Any:
    return load_unlabeled(in_memory(texts), arrow_file=folder / "corpus.arrow", **how)


def test_one_of_each_group_is_kept_and_every_row_is_accounted_for(tmp_path: Path) -> None:
    """Guards the first text of a group, the numbers of the rows in the source, and the counts in data.json."""
    own = "the parcel that I ordered last week has still not arrived"
    texts = ["where is my money", f"{own}!", "  ", own.upper(), f"{own} yet", "please cancel it"]
    read = _read(texts, tmp_path, comparing=lambda count: nullcontext(lambda n=1: None))
    assert read.texts["text"][:] == [texts[0], texts[1], texts[5]]
    assert read.texts["row"][:] == [0, 1, 5]
    assert read.rows == {"rows": 6, "kept": 3, "without text": 1, "near duplicates": 2}
    assert "unlabeled: 2 of 5 texts are near duplicates of others and left out" in read.notes


def test_near_duplicates_are_sought_among_the_texts_that_were_drawn(tmp_path: Path) -> None:
    """Guards the bound of time and memory: a small part of a large corpus is compared, not the whole."""
    compared: list[int] = []

    def comparing(count: int) -> Any:
        compared.append(count)
        return nullcontext(lambda n=1: None)

    texts = [f"{number} {word * 9} {number}" for number in range(50) for word in ("ab", "cd")]
    read = _read(
        texts, tmp_path, at_most=20, why_at_most="--corpus-size 20 asks for no more", seed=3, comparing=comparing
    )
    assert compared == [20]
    counted = read.rows
    assert counted["rows"] == 100 == sum(value for name, value in counted.items() if name != "rows")
    assert counted["left out at random"] == 80
    assert any("drawn at random; --corpus-size 20 asks" in note for note in read.notes)


def test_the_seed_draws_the_part(tmp_path: Path) -> None:
    """Guards a repeated run: the same seed draws the same texts, another one others."""
    texts = [f"text {number}" for number in range(100)]
    drawn = [
        _read(texts, tmp_path / str(turn), at_most=10, seed=seed).texts["row"][:] for turn, seed in enumerate((0, 0, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(rows) for rows in drawn] == [10, 10, 10]
