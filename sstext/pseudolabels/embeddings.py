"""Embeddings of texts by an encoder as it was pretrained: computed once per encoder and texts, and kept in the folder of a run.

All chains of a run begin with the same encoder, and read the same texts of the classes. Regression and start of a chain read
the same labeled rows. A run that is continued reads all of them again. What is kept is found by its content: no option and no
order of the phases can make it wrong.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from accelerate import PartialState

from sstext.data.batching import INPUTS
from sstext.inference.devices import TOKENS_PER_BATCH
from sstext.inference.scoring import device_of, score
from sstext.modeling.digests import add_rows, add_weights
from sstext.modeling.embedder import Embedder
from sstext.modeling.reading import has_reading_layer, reading_of
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.progress import Tick
from sstext.storage.damage import DamagedFileError, read_array
from sstext.storage.whole import PRIVATE_FOLDER, remove, write_array_whole

#: Bytes that are kept of a run at most. The oldest files go first.
MOST = 2**30
_HEADER = 128  # bytes of a .npy file before its values


@dataclass(frozen=True)
class Embeddings:
    """Embeddings (N, D) of tokenized rows, see `Embedder`. On the same machine, they are the same bits, kept or not.

    Several processes may use a folder at the same time: a file appears whole, and its name says what is in it.

    Attributes:
        folder: where they are kept. None: nowhere.
        most: bytes in the folder at most. Larger embeddings are not kept.
        also: a folder of earlier ones, which are read and stay as they are. None: there is none.
    """

    folder: Path | None = None
    most: int = MOST
    also: Path | None = None

    def for_parts_of(self, rows: int, width: int) -> "Embeddings":
        """The same if the embeddings (N, D) of all parts fit. Otherwise nothing is kept: each part would push out another."""
        return self if rows * width * 4 <= self.most else NOT_KEPT

    def of(
        self, model: Any, rows: Any, tokenizer: Any, *, precision: str = "fp32", tick: Tick | None = None,
        reading: str | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Embeddings (N, D) of rows by the encoder of a model.

        Args:
            model: an encoder or classifier, on its device. Its head is not read.
            rows, tokenizer, precision, tick: see `sstext.inference.scoring.score`.
            reading: mean or first token. Default: what belongs to the model.
        """
        reading = reading or reading_of(model)
        folders = [folder for folder in (self.folder, self.also) if folder is not None]
        name = f"{key_of(model, rows, tokenizer, precision, reading)}.npy" if folders else ""
        file = self.folder / name if self.folder is not None else None
        found = next((values for folder in folders if (values := _read(folder / name)) is not None), None)
        if from_main_process(found is not None):
            values = from_main_process(found)
            if tick is not None:
                tick(len(values))
            return np.asarray(values)
        values = score(Embedder(model, reading=reading), rows, tokenizer, precision=precision, tick=tick)
        size = values.nbytes + _HEADER
        if file is not None and is_main_process() and size <= self.most:
            file.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
            self._make_room(size)
            # Not recorded: its name says what is in it, and other chains may write or remove it at the same time.
            write_array_whole(file, values, private=True, recorded=False)
        wait_for_everyone()
        return values

    def _make_room(self, size: int) -> None:
        assert self.folder is not None
        states = []
        for file in self.folder.glob("*.npy"):
            with suppress(FileNotFoundError):  # another process makes room, too
                states.append((file.stat().st_mtime_ns, file.stat().st_size, file))
        there = sum(bytes for _, bytes, _ in states)
        for _, bytes, file in sorted(states):
            if there + size <= self.most:
                return
            remove(file)
            there -= bytes


#: For those who have no folder.
NOT_KEPT = Embeddings()


def key_of(model: Any, rows: Any, tokenizer: Any, precision: str, reading: str) -> str:
    """What the embeddings of rows depend on, as a hash: the weights of the encoder, all tokens, and how they are computed.

    The rows count together, because the padding of a row, and so its last bits, depend on the others.
    """
    device = device_of(model)
    how = (
        type(getattr(model, "base_model", model)).__name__, tokenizer.padding_side, tokenizer.pad_token_id, precision,
        reading, device.type, torch.__version__, torch.get_num_threads(),
        getattr(model.config, "_attn_implementation", None), TOKENS_PER_BATCH.get(device.type), PartialState().num_processes,
    )  # fmt: skip
    digest = xxhash.xxh3_128(repr(how).encode())
    add_weights(digest, _weights_of_encoder(model))
    add_rows(digest, rows.select_columns([name for name in INPUTS if name in rows.column_names]))
    return digest.hexdigest()


def _weights_of_encoder(model: Any) -> list[tuple[str, torch.Tensor]]:
    """The weights that embeddings depend on: neither those of a head nor those of a layer that was appended for it."""
    encoder = getattr(model, "base_model", model)
    left_out = ["pooler."]
    if has_reading_layer(model):
        left_out.append(f"encoder.layer.{len(encoder.encoder.layer) - 1}.")
    return [
        item for item in encoder.state_dict().items() if not item[0].startswith(tuple(left_out)) and item[1].numel()
    ]


def _read(file: Path) -> np.ndarray | None:
    """What is kept, or None. Another process may remove it at any moment. What cannot be read is computed again."""
    if not is_main_process() or not file.exists():
        return None
    try:
        return read_array(file)
    except DamagedFileError:
        return None
