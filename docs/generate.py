"""Rewrites the generated blocks of the documentation in place: `python -m docs.generate` (`--check` only compares).

A block stands between `<!-- generated: NAME -->` and `<!-- end -->` in a page of this folder. NAME is a row of BLOCKS,
a function that asks the compiler (docs/tour.py, docs/catalogue.py) or a benchmark's recorded results (docs/measured.py,
docs/ratios.py, docs/profiles.py) for its text.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from docs import catalogue, measured, profiles, ratios, tour
from smir.frontends.reference import function_table, grammar_ebnf, mask_table

FOLDER = Path(__file__).parent
COMMAND = "python -m docs.generate"
BLOCK = re.compile(r"(?<=^<!-- generated: )([\w-]+)( -->\n)(.*?)(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)
OPENING = re.compile(r"^<!-- generated:", re.MULTILINE)

BLOCKS: Mapping[str, Callable[[], str]] = {
    "functions": function_table,
    "masks": mask_table,
    "grammar": lambda: tour.fenced(grammar_ebnf(), "ebnf"),
    "spec": tour.spec,
    **{f"{level}-ir": partial(tour.ir, level) for level in ("mixer", "operators", "tile", "plan")},
    "triton-kernel": tour.triton_kernel,
    "numpy-program": tour.numpy_program,
    "two-sided-spec": tour.two_sided_spec,
    "two-sided-recurrence": tour.two_sided_recurrence,
    "kernels-with-erase": tour.kernels_with_erase,
    "mixed-tile": tour.mixed_tile,
    "scan-tile": tour.scan_tile,
    "exponents": tour.exponents,
    "forms": tour.forms,
    "no-form": tour.no_form,
    "stages": tour.stages,
    "tile-operation": tour.tile_operation,
    "mixers": catalogue.mixers,
    "literature": catalogue.of_literature,
    "budgets": measured.budgets,
    "golden": measured.golden,
    "target-limits": measured.target_limits,
    "gpu-errors": measured.gpu_errors,
    "gpu-gradients": measured.gpu_gradients,
    "gpu-golden": measured.gpu_golden,
    "gpu-long": measured.gpu_long,
    "kernel-resources": measured.kernel_resources,
    "step-vs-chunked": measured.step_vs_chunked,
    "crossover": measured.crossover,
    "host-overhead": measured.host_overhead,
    "compile-time": measured.compile_time,
    "gpu-examples": measured.gpu_examples,
    "gpu-packed": measured.gpu_packed,
    "gpu-equivalences": measured.gpu_equivalences,
    "gpu-decode": measured.gpu_decode,
    "gpu-decode-softmax": measured.gpu_decode_softmax,
    "gpu-graphs": measured.gpu_graphs,
    "gpu-sizes": measured.gpu_sizes,
    "gpu-large": measured.gpu_large,
    "kernel-profile": profiles.kernel_profile,
    "kernel-instructions": profiles.kernel_instructions,
    "cpu-peers": ratios.cpu_peers,
    "gpu-ratios": ratios.gpu_ratios,
    "gpu-first-call": ratios.gpu_first_call,
    "gpu-first-calls": ratios.gpu_first_calls,
    "gpu-scaling-lengths": ratios.gpu_scaling_lengths,
    "gpu-scaling-sizes": ratios.gpu_scaling_sizes,
    "gpu-scaling-heads": ratios.gpu_scaling_heads,
}


def pages() -> list[Path]:
    """The pages of the documentation."""
    return sorted(FOLDER.glob("*.md"))


def blocks_of(text: str) -> dict[str, str]:
    """The generated blocks of a page as they stand, by name. Raises ValueError for a block that never ends."""
    found = {name: body for name, _, body in BLOCK.findall(text)}
    if len(found) != len(OPENING.findall(text)):
        raise ValueError("a generated block stands twice, or has no `<!-- end -->`")
    return found


def generated(name: str) -> str:
    """What a block should say. Raises ValueError for an unknown name."""
    if name not in BLOCKS:
        raise ValueError(f"no generator for the block {name!r}; docs/generate.py knows {', '.join(BLOCKS)}")
    try:
        return BLOCKS[name]().rstrip("\n") + "\n"
    except measured.NotRecordedError as missing:
        return f"{missing}\n"


def renewed(text: str) -> str:
    """The page with every block generated anew."""
    blocks_of(text)
    return BLOCK.sub(lambda found: found[1] + found[2] + generated(found[1]), text)


def stale(text: str) -> list[str]:
    """The names of the blocks that don't say what they should."""
    return [name for name, body in blocks_of(text).items() if body != generated(name)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if a block is stale")
    check = parser.parse_args(arguments).check
    count = 0
    for page in pages():
        text = page.read_text(encoding="utf-8")
        names = stale(text)
        count += len(names)
        for name in names:
            print(f"docs/{page.name}: {name} {'is stale' if check else 'rewritten'}")
        if names and not check:
            page.write_text(renewed(text), encoding="utf-8")
    if check and count:
        print(f"run {COMMAND}")
    return int(check and count > 0)


if __name__ == "__main__":
    sys.exit(main())
