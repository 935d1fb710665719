"""Feed the commands bad input for as long as you like: python tests/fuzz_soak.py --inputs 100000 --seed 1

It prints the distinct failures with the seed of one input each; `--only SEED` runs that input alone and shows its files.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", HF_DEACTIVATE_ASYNC_LOAD="1")


def main() -> int:
    """Run the inputs. The exit code is 1 if one of them fails."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--inputs", type=int, default=100_000)
    asked.add_argument("--seconds", type=float, default=1e9)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", type=int)
    asked.add_argument("--deep", type=float, default=0.02)
    given = asked.parse_args()

    import torch

    from sstext.cli.main import INTERRUPTED
    from tests.fuzzing import Fuzz, outcome_of
    from tests.small_models import keep_loaded, make_encoder, make_model

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="sstext-fuzz-") as scratch:
        place = Path(scratch)
        encoder = make_encoder(place / "encoder")
        model = make_model(encoder, place / "model", ["x", "y", "z"])
        keep_loaded()
        (place / "work").mkdir()
        fuzz = Fuzz(place / "work", encoder, model, given.deep)
        codes: Counter[int | None] = Counter()
        failures: dict[str, tuple[int, list[str]]] = {}
        began = time.monotonic()
        seeds = [given.only] if given.only is not None else range(given.seed * 10**9, given.seed * 10**9 + given.inputs)
        for done, seed in enumerate(seeds, 1):
            arguments = fuzz.arguments(Random(seed))
            code, wrong = outcome_of(arguments, place / "work")
            codes[code] += 1
            if code == INTERRUPTED:  # a command takes Ctrl-C and SIGTERM, and this is what they are for
                break
            if given.only is not None:
                print(
                    arguments,
                    {p.name: p.read_bytes()[:400] for p in (place / "work").iterdir() if p.is_file()},
                    code,
                    wrong,
                )
            kind = wrong.split(": ", 2)[0] + ": " + wrong.split(": ")[1] if wrong.count(": ") > 1 else wrong
            if wrong and kind not in failures:
                failures[kind] = (seed, arguments)
                print(f"seed {seed}: {wrong}: {[one[:60] for one in arguments]}", flush=True)
            if done % 5000 == 0:
                print(
                    f"{done:,} inputs, {time.monotonic() - began:.0f} s, {dict(codes)}, {len(failures)} failures",
                    flush=True,
                )
            if time.monotonic() - began > given.seconds:
                break
        print(f"{sum(codes.values()):,} inputs, exit codes {dict(codes)}, {len(failures)} distinct failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
