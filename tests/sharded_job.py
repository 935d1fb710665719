"""`sstext` with its weights sharded over processes on CPUs, where Accelerate would otherwise not shard.

Accelerate takes FSDP from its configuration only if the processes have accelerators. Here, they say that they have.
"""

import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from sstext.cli.main import main

as_it_is = PartialState.__init__


def as_if_on_accelerators(state: PartialState, *arguments: Any, **keywords: Any) -> None:
    as_it_is(state, *arguments, **keywords)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = as_if_on_accelerators  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
