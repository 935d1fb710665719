"""ShardedTrainer: the weights of a student that FSDP has divided over the devices, made whole again."""

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint import load
from transformers import Trainer

#: Folder of a checkpoint with the weights of all devices, if FSDP writes them in parts (`SHARDED_STATE_DICT`).
SHARDS = "pytorch_model_fsdp_0"


class ShardedTrainer(Trainer):
    """A `Trainer` that makes sharded weights whole, so that what is saved at the end is an ordinary model of transformers.

    Its checkpoints stay as FSDP is told to write them (`fsdp_state_dict_type`).
    """

    args: Any
    model: Any
    is_fsdp_enabled: bool

    def whole_weights(self) -> dict[str, Tensor] | None:
        """The weights of all devices, or None if each device has the whole model. All processes must call it.

        Only the main process can rely on the result.
        """
        return self.accelerator.get_state_dict(self.model) if self.is_fsdp_enabled else None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer` does, which writes nothing if FSDP writes its checkpoints in parts."""
        super().save_model(output_dir, _internal_call)
        if not self.is_fsdp_enabled or "SHARDED" not in str(self.accelerator.state.fsdp_plugin.state_dict_type):
            return
        folder = output_dir or self.args.output_dir
        if _internal_call:  # `Trainer` looks for the folder of the best checkpoint before it has written any part of it
            Path(folder).mkdir(parents=True, exist_ok=True)
        else:
            self._save(folder, state_dict=self.whole_weights())

    def load_shards(self, checkpoint: str) -> bool:
        """Load the weights of a sharded checkpoint into a model that is whole. Returns whether the checkpoint has shards."""
        folder = Path(checkpoint, SHARDS)
        if not folder.is_dir():
            return False
        state: dict[str, Any] = {"model": self.model.state_dict()}
        load(state, checkpoint_id=folder, no_dist=True)  # in place
        return True
