"""Sizes of calls as a person writes them: `B=4,T=4096,H=16,K=128,V=128`."""

from smir.errors import ArgumentError
from smir.ir.mixer import Mixer
from smir.sampling import check_sizes, dimension_names
from smir.tuning.arguments import Shape

EXAMPLE = "for example --shape B=4,T=4096,H=16,K=128,V=128"
LEADING = {"B": 1, "T": 4096, "H": 1}
USUAL_SIZE = 64


def parse_shape(mixer: Mixer, text: str) -> Shape:
    """Batch, tokens, heads and dimensions; what isn't said has a usual size. Raises ArgumentError.

    A dimension of the spec that is called B or H as well is `dim.B`, `dim.H`.
    """
    found: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if not number.isdigit() or int(number) < 1:
            raise ArgumentError(f"--shape: {part!r} is not NAME=NUMBER", hint=EXAMPLE)
        found[name.strip()] = int(number)
    lead = {name: found.pop(name, usual) for name, usual in LEADING.items()}
    own = {name.removeprefix("dim."): size for name, size in found.items()}
    check_sizes(mixer, own)
    sizes = {**dict.fromkeys(dimension_names(mixer), USUAL_SIZE), **own}
    return Shape.even(mixer, lead["B"], lead["T"], lead["H"], sizes)
