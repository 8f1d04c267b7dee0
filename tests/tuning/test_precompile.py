"""Kernels compiled beforehand: launches find them, and what doesn't fit on a GPU is refused before it is tried."""

import subprocess
import sys

from smir.tuning.arguments import Shape
from smir.tuning.child import COMPILE
from smir.tuning.passes import passes
from smir.tuning.problem import Candidate, Problem
from smir.tuning.targets import target
from smir.tuning.workshop import Workshop
from tests.tuning.conftest import compilation

# The two ways of asking for a kernel meet in one entry of Triton's cache.
SAME_KEYS = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

class Device:
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0

driver.set_active(Device())
import smir
from smir.backends.triton_gpu import ahead_of_time as ahead

plan = smir.compile("gla").plan("chunked")
for name, kernel, keywords in ahead.recorded_launches(plan, ahead.Workload({"K": 64, "V": 64}), "sm_90"):
    own = {p.name for p in kernel.params}
    source = ahead._source(kernel, {k: v for k, v in keywords.items() if k in own})
    launched = []
    backend = kernel.device_caches[0][3]
    kernel.compile = lambda found, target, options: launched.append((found, options)) or object()
    kernel.run(grid=(1,), warmup=True, **keywords)
    (found, options), = launched
    assert found.hash() == source.hash(), name
    ours = backend.parse_options({k: v for k, v in keywords.items() if k not in own})
    assert backend.parse_options(dict(options)).hash() == ours.hash(), name
print("same")

# The first call compiles all kernels, each in a thread of its own; the next one finds nothing to do.
import threading
from importlib import import_module
from types import SimpleNamespace
from smir.backends.triton_gpu.first_call import compile_together
from smir.backends.triton_gpu.runtime import prepare

def tensor(leaf):
    return torch.empty((1, 128, 2, *(64 for axis in (leaf.rows, leaf.cols) if axis in "KV")), device="meta")

arrays = {leaf.name: tensor(leaf) for leaf in plan.leaves}
ready = prepare(plan, arrays)
threads, module = [], import_module(ready.launch.__module__)
compiled = SimpleNamespace(metadata=SimpleNamespace(shared=1024))
for name in ready.cold:
    kernel = getattr(module, name)
    kernel.device_caches[0]
    kernel.compile = lambda found, **others: threads.append(threading.current_thread().name) or compiled
count = len(ready.cold)
inputs = [arrays[name] for name, _ in ready.inputs]
found = compile_together(ready.launch, ready.cold, inputs, dict(ready.keywords))
assert found == dict.fromkeys(ready.cold, 1024)
assert len(threads) == count == len(plan.kernels) and "MainThread" not in threads
print("together")
"""


def test_launches_find_what_was_compiled_beforehand_and_a_first_call_compiles_together():
    done = subprocess.run([sys.executable, "-c", SAME_KEYS], capture_output=True, text=True)
    assert done.stdout.split() == ["same", "together"], done.stderr


def test_kernels_are_compiled_in_processes_and_misfits_are_refused(home, monkeypatch):
    """For Hopper. When the processes are gone, the search goes on without them."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(home / "triton"))
    done = compilation()
    asked = Problem.of_sizes(done, "triton", Shape.even(done.spec, 1, 512, 2, {"K": 64, "V": 64}), "bfloat16",
                             "cuda:0", ["q", "k", "v", "g"])  # fmt: skip
    plans = passes(done, "chunked", frozenset(asked.wanted))
    usual = target("triton").usual_options(plans.plans["backward"], {"K": 64, "V": 64}, 64, "bfloat16")["carry_d_S"]
    fits, misfit, late = (
        Candidate("chunked", 64, {"backward": {"carry_d_S": options}}, ("backward", "carry_d_S"))
        for options in (usual, {**usual, "num_stages": 32}, {**usual, "num_stages": 3})
    )
    shop = Workshop(asked, "sm_90")
    shop._compiler = shop.start(COMPILE, asked)
    try:
        for job in (fits, misfit):
            shop.compile(job, 1.0)
        while not (shop.is_compiled(fits) and shop.is_compiled(misfit)):
            assert shop.wait(60.0)
        assert shop.refused(fits) is None
        assert "shared memory" in shop.refused(misfit)
        assert list((home / "triton").rglob("*.cubin"))
        shop._compiler.close()
        shop.compile(late, 1.0)
        while shop.wait(10.0):
            pass
        assert shop.is_compiled(late) and shop.refused(late) is None
    finally:
        shop.close()
