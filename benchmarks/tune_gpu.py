"""Fills the table of configurations that is shipped for a GPU: tunes library specs, forward alone and with gradients.

    python -m benchmarks.tune_gpu [--specs gla,kda] [--budget 20] [--forward 8] [--dtypes bfloat16] [--seconds 3000]

What is found goes into the user's cache as it is found, and into the table after every spec, so that the program may be
cut off at any time and goes on where it was (`--again` measures what the table has).
"""

import argparse
import re
import time
from pathlib import Path

import smir
from smir.compilation import Compilation
from smir.errors import SmirError
from smir.sampling import dimension_names
from smir.tuning.arguments import Shape
from smir.tuning.lookup import bucket_of, identity, mixer_hash
from smir.tuning.passes import passes_of
from smir.tuning.problem import Problem
from smir.tuning.settings import Family, code_of
from smir.tuning.shipped import FOLDER, read_table, write_table
from smir.tuning.store import Store
from smir.tuning.targets import target

SHAPE, SIZE, SMALL = (4, 4096, 16), 128, {"N": 16, "M": 64}
DEVICE = "cuda:0"
Families = dict[tuple[str, str, str], Family]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", default="", help="with commas between them; default: all")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each spec, forward and backward")
    parser.add_argument("--forward", type=float, default=8.0, help="seconds for each spec, forward alone")
    parser.add_argument("--dtypes", default="bfloat16", help="with commas between them")
    parser.add_argument("--seconds", type=float, default=3600.0, help="after which nothing new begins")
    parser.add_argument("--out", type=Path, help="default: the file of this device in smir/tuned")
    parser.add_argument("--again", action="store_true", help="also what the table has already")
    asked = parser.parse_args()
    tuned, end = target("triton"), time.monotonic() + asked.seconds
    device = tuned.device(DEVICE)
    out = asked.out or FOLDER / f"{re.sub(r'[^a-z0-9]+', '_', device.lower()).strip('_')}.json"
    families = known(out)
    names = asked.specs.split(",") if asked.specs else smir.library_names()
    for name in names:
        for dtype in asked.dtypes.split(","):
            for gradients, budget in ((True, asked.budget), (False, asked.forward)):
                if time.monotonic() > end or budget <= 0:
                    continue
                try:
                    tune(name, dtype, gradients, budget, families, asked.again)
                except SmirError as error:
                    print(f"{name:<27} {dtype} {'training' if gradients else 'forward':<9} {error}", flush=True)
            out.parent.mkdir(parents=True, exist_ok=True)
            write_table(out, device, tuned.compiler(), families)
    print(f"{len(families)} mixers in {out}")


def known(out: Path) -> Families:
    """What the table has."""
    if not out.exists():
        return {}
    return {(name, who.mixer, who.dtype): family for who, family, name in read_table(out)}


def is_current(done: Compilation, problem: Problem, family: Family) -> bool:
    """Whether the table knows these calls, and the kernels that ran then are those of today."""
    forms = family.entries.get(bucket_of(problem), {})
    return bool(forms) and all(
        form in done.plans and setting.code == code_of(passes_of(done, problem, form, setting.chunk).kernels.values())
        for form, setting in forms.items()
    )


def tune(name: str, dtype: str, gradients: bool, budget: float, families: Families, again: bool) -> None:
    """Tunes one spec for one kind of call and adds to the families."""
    mixer = smir.compile(name, backend="triton")
    done, spec = mixer.compilation, mixer.spec
    sizes = {dim: SMALL.get(dim, SIZE) for dim in dimension_names(spec)}
    wanted = [d.name for d in spec.declarations] if gradients else []
    problem = Problem.of_sizes(done, "triton", Shape.even(spec, *SHAPE, sizes), dtype, DEVICE, wanted)
    key = name, mixer_hash(done), dtype
    if not again and is_current(done, problem, families.get(key, Family())):
        return
    report = mixer.tune_for(problem, budget)
    found = Store().read(identity(done, problem)).family
    families[key] = Family({**families.get(key, Family()).entries, **found.entries})
    best = report.rows[0] if report.rows else None
    what = f"{best.form} {best.chunk}: {best.usual:.3f} -> {best.tuned:.3f} ms" if best else "nothing"
    c = report.counts
    what = f"{'training' if gradients else 'forward':<9} {what:<36}"
    print(f"{name:<27} {dtype} {what} {c.measured} measured, {c.refused} "
          f"refused, {len(c.quarantined)} wrong, {report.seconds:.0f} s", flush=True)  # fmt: skip
    for candidate, why in c.quarantined:
        print(f"    {candidate}: {why[:200]}", flush=True)


if __name__ == "__main__":
    main()
