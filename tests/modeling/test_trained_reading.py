"""What an encoder was trained to read, as its folder says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sstext.modeling.pretrained import trained_reading


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, "mean"),
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),  # both, side by side
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode": ["cls"]}, None),
        ({"word_embedding_dimension": 16}, None),
        ([], None),
        ("{", None),
    ],
)
def test_the_file_of_sentence_transformers_is_read(
    told: Any, expected: str | None, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Guards a reading under the wrong name, and a run that ends with a traceback because of a stranger's file."""
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    assert trained_reading(str(folder)) is None
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(told if isinstance(told, str) else json.dumps(told))
    assert trained_reading(str(folder)) == expected


def test_the_model_of_an_earlier_run_says_it_in_its_configuration(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards a model that is trained further, and reads something else from then on."""
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    for value, expected in (("first", "first"), ("mean", "mean"), ("max", None)):
        (folder / "config.json").write_text(json.dumps(config | {"sstext_pooling": value}))
        assert trained_reading(str(folder)) == expected


def test_the_packaged_encoder_was_trained_for_the_mean(demo_encoder: Path) -> None:
    """Guards the demonstration: all our numbers are those of the mean."""
    assert trained_reading(str(demo_encoder)) == trained_reading("demo") == "mean"
