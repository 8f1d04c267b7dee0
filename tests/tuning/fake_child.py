"""A trial process without a device: times are a formula, and some candidates are wrong or bring it down.

    python fake_child.py FOLDER

Every candidate that was tried is a line of FOLDER/tried.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path


def kernel_ms(options: dict[str, int]) -> float:
    """Least at 8 warps, 3 stages and the widest block."""
    block = max((v for k, v in options.items() if k.startswith("BLOCK")), default=64)
    return 1.0 + abs(options["num_warps"] - 8) / 4 + abs(options["num_stages"] - 3) / 3 + 16 / block


def answer(candidate: dict, known: dict[str, dict[str, dict]]) -> dict:
    for side, own in candidate["options"].items():
        known.setdefault(side, {})
        for options in own.values():
            if options["num_warps"] == 16:
                os.kill(os.getpid(), signal.SIGSEGV)  # as a kernel that reads outside of its memory
            if options["num_stages"] == 4:
                return {"kind": "wrong", "reason": "y is 7 times as far off as it may be"}
            if options["num_stages"] == 1 and options["num_warps"] == 2:
                time.sleep(60)
    times = {side: {name: kernel_ms(candidate["options"].get(side, {}).get(name, {"num_warps": 4, "num_stages": 2}))
                    for name in KERNELS} for side in ("forward",)}  # fmt: skip
    whole = sum(ms for own in times.values() for ms in own.values()) + candidate["chunk"] / 1000
    return {"kind": "ok", "reason": "", "kernels": times, "whole": whole}


KERNELS = ("prep_output", "carry_S")

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    next(sys.stdin)
    print(json.dumps({"kind": "ready"}), flush=True)
    for line in sys.stdin:
        with open(folder / "tried", "a") as file:
            file.write(line)
        print(json.dumps(answer(json.loads(line), {})), flush=True)
