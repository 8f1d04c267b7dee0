"""Tile operations shared by the kernels: running sums, scans, rotations, exponentials.

A tile's rows are the tokens of a chunk. Sums of decays are matrix products with matrices of zeros and ones, exact
because the other operand is split into bfloat16 parts: PARTS of them, or one float32 product when PARTS is 0.
"""

import triton
import triton.language as tl


@triton.jit
def weigh_rows(weights, x, PARTS: tl.constexpr):
    """`weights @ x` for weights of 0 and 1."""
    if PARTS == 0:
        total = tl.dot(weights.to(tl.float32), x, input_precision="ieee")
    elif PARTS == 1:
        total = tl.dot(weights.to(tl.bfloat16), x.to(tl.bfloat16))
    else:
        binary = weights.to(tl.bfloat16)
        high = x.to(tl.bfloat16)
        rest = x - high.to(tl.float32)
        middle = rest.to(tl.bfloat16)
        total = tl.dot(binary, middle)
        if PARTS == 3:
            low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
            total = tl.dot(binary, low, total)
        total = tl.dot(binary, high, total)
    return total


@triton.jit
def weigh_cols(x, weights, PARTS: tl.constexpr):
    """`x @ weights` for weights of 0 and 1."""
    if PARTS == 0:
        total = tl.dot(x, weights.to(tl.float32), input_precision="ieee")
    else:
        binary = weights.to(tl.bfloat16)
        high = x.to(tl.bfloat16)
        rest = x - high.to(tl.float32)
        middle = rest.to(tl.bfloat16)
        total = tl.dot(middle, binary)
        if PARTS == 3:
            low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
            total = tl.dot(low, binary, total)
        total = tl.dot(high, binary, total)
    return total


@triton.jit
def precise_product(a, b, PRODUCT: tl.constexpr, PRECISION: tl.constexpr):
    """`a @ b` with all digits of the operand that comes in float32: a product more, of what rounding takes from it."""
    high_a, high_b = a.to(PRODUCT), b.to(PRODUCT)
    total = tl.dot(high_a, high_b, input_precision=PRECISION)
    if a.dtype != PRODUCT:
        total = tl.dot((a - high_a.to(tl.float32)).to(PRODUCT), high_b, total)
    if b.dtype != PRODUCT:
        total = tl.dot(high_a, (b - high_b.to(tl.float32)).to(PRODUCT), total)
    return total


@triton.jit
def wide_product(a, b, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    """`a @ b`, where wide numbers are float64, in float64."""
    if WIDE == tl.float64:  # noqa: SIM108, SIM300
        total = tl.dot(a.to(WIDE), b.to(WIDE))
    else:
        total = tl.dot(a, b, input_precision=PRECISION)
    return total


@triton.jit
def sum_weights(C: tl.constexpr, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Row i holds ones for the rows that a running sum has added up at row i."""
    i, m = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    if REVERSE:
        i, m = m, i
    return m < i if EXCLUSIVE else m <= i


@triton.jit
def running_sum(x, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr, PARTS: tl.constexpr):
    """Running sum over the rows of a tile."""
    return weigh_rows(sum_weights(x.shape[0], REVERSE, EXCLUSIVE), x, PARTS)


@triton.jit
def scanned_sum(x, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """The same without a matrix product, in float32."""
    total = tl.cumsum(x, axis=0, reverse=REVERSE)
    return shift_rows(total, 0.0, REVERSE) if EXCLUSIVE else total


@triton.jit
def running_sum_transposed(x, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr, PARTS: tl.constexpr):
    """Running sum over the columns: `running_sum` of the transposed tile, transposed."""
    return weigh_cols(x, tl.trans(sum_weights(x.shape[1], REVERSE, EXCLUSIVE).to(tl.float32)), PARTS)


@triton.jit
def running_sum_column(x, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """Running sum of a column; the exclusive one takes a row's own number out again in float64."""
    C: tl.constexpr = x.shape[0]
    flat = tl.reshape(x, (C,))
    if EXCLUSIVE:
        wide = flat.to(tl.float64)
        total = (tl.cumsum(wide, axis=0, reverse=REVERSE) - wide).to(x.dtype)
    else:
        total = tl.cumsum(flat, axis=0, reverse=REVERSE)
    return tl.reshape(total, (C, 1))


@triton.jit
def two_parts(x):
    """A float64 as a multiple of 1/8 and the rest, in float32: the first parts of sums below 2^20 subtract exactly."""
    high = (x + 844424930131968.0) - 844424930131968.0
    return high.to(tl.float32), (x - high).to(tl.float32)


@triton.jit
def segment_sum(g, REVERSE: tl.constexpr, EXCLUSIVE: tl.constexpr):
    """D_ij = sum of g over j+1..i (exclusive: j+1..i-1); reverse: i..j-1 (i+1..j-1).

    A difference of running sums in float64: of clamped logs, whose sums are at most some 1e6, it keeps 1e-10. Float32
    takes it in two parts, of which the first is exact: a number for each row and each column, and no scan of the tile.
    """
    C: tl.constexpr = g.shape[0]
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    whole = running_sum_column(g.to(tl.float64), REVERSE, False)
    reached = whole - g if EXCLUSIVE else whole
    if g.dtype == tl.float64:
        total = reached - tl.reshape(whole, (1, C))
    else:
        high, low = two_parts(reached)
        before, rest = two_parts(whole)
        total = (high - tl.reshape(before, (1, C))) + (low - tl.reshape(rest, (1, C)))
    return tl.where(i < j if REVERSE else i > j, total, 0.0)


@triton.jit
def swap_pairs(a):
    """The two of every interleaved pair of columns exchanged."""
    ROWS: tl.constexpr = a.shape[0]
    HALF: tl.constexpr = a.shape[1] // 2
    even, odd = tl.split(tl.reshape(a, (ROWS, HALF, 2)))
    return tl.reshape(tl.join(odd, even), (ROWS, 2 * HALF))


@triton.jit
def cross_pairs(a, b):
    """a0 b1 - a1 b0 for interleaved pairs of columns."""
    ROWS: tl.constexpr = a.shape[0]
    HALF: tl.constexpr = a.shape[1] // 2
    first, second = tl.split(tl.reshape(a * swap_pairs(b), (ROWS, HALF, 2)))
    return first - second


@triton.jit
def turn_pairs(a, b):
    """(a b1, -a b0) for interleaved pairs of columns of b; a has half as many."""
    HALF: tl.constexpr = b.shape[1] // 2
    return tl.reshape(tl.join(a, -a), (b.shape[0], 2 * HALF)) * swap_pairs(b)


@triton.jit
def cos_and_sin(x):
    """Both at once: the nearest multiple of pi/2 subtracted in three parts, then polynomials (Cephes, float32).

    As accurate as float32 for |x| < 8192, without the branch and the memory that a library takes for larger ones.
    """
    turns = tl.floor(x * 0.6366197723675814 + 0.5)
    r = ((x - turns * 1.5703125) - turns * 4.837512969970703125e-4) - turns * 7.54978995489188e-8
    z = r * r
    s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r
    c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0
    quarter = turns.to(tl.int32) & 3
    swapped = (quarter & 1) == 1
    sin = tl.where(swapped, c, s)
    cos = tl.where(swapped, s, c)
    return tl.where(((quarter + 1) & 2) != 0, -cos, cos), tl.where((quarter & 2) != 0, -sin, sin)


@triton.jit
def rotate(theta, a, INVERSE: tl.constexpr):
    """Rotates interleaved pairs of columns by the angles theta (half as many columns)."""
    HALF: tl.constexpr = a.shape[1] // 2
    cos, sine = cos_and_sin(theta)
    sin = -sine if INVERSE else sine
    # whole tiles are multiplied, so that only the exchange inside pairs has a layout of its own
    same = tl.reshape(tl.join(cos, cos), (theta.shape[0], 2 * HALF))
    crossed = tl.reshape(tl.join(-sin, sin), (theta.shape[0], 2 * HALF))
    return a * same + swap_pairs(a) * crossed


@triton.jit
def compose_sums(a, x, b, y):
    """First h -> a h + x, then h -> b h + y."""
    return a * b, b * x + y


@triton.jit
def compose_maxima(a, x, b, y):
    """First m -> max(a + m, x), then m -> max(b + m, y)."""
    return a + b, larger(b + x, y)


@triton.jit
def compose_log_sums(a, x, b, y):
    """First l -> logaddexp(a + l, x), then l -> logaddexp(b + l, y)."""
    return a + b, logaddexp(b + x, y, tl.bfloat16)


@triton.jit
def compose_exact_log_sums(a, x, b, y):
    """The same where products are float32."""
    return a + b, logaddexp(b + x, y, tl.float32)


@triton.jit
def is_edge(C: tl.constexpr, REVERSE: tl.constexpr):
    """Marks the row of the last token that a scan visits."""
    return tl.arange(0, C)[:, None] == (0 if REVERSE else C - 1)


@triton.jit
def scan_rows(decay, write, start, KIND: tl.constexpr, REVERSE: tl.constexpr, PRODUCT: tl.constexpr):
    """A state after each row, from the state `start` before the first one (reverse: after the last one)."""
    C: tl.constexpr = write.shape[0]
    N: tl.constexpr = write.shape[1]
    first = is_edge(C, not REVERSE)
    if KIND == "sum":
        write = tl.where(first, decay * start + write, write)
    elif KIND == "max":
        write = tl.where(first, larger(decay + start, write), write)
    else:
        write = tl.where(first, logaddexp(decay + start, write, PRODUCT), write)
    if N == 1:
        decay, write = tl.reshape(decay, (C,)), tl.reshape(write, (C,))
    if KIND == "sum":
        _, state = tl.associative_scan((decay, write), 0, compose_sums, reverse=REVERSE)
    elif KIND == "max":
        _, state = tl.associative_scan((decay, write), 0, compose_maxima, reverse=REVERSE)
    elif PRODUCT == tl.float32:  # noqa: SIM300
        _, state = tl.associative_scan((decay, write), 0, compose_exact_log_sums, reverse=REVERSE)
    else:
        _, state = tl.associative_scan((decay, write), 0, compose_log_sums, reverse=REVERSE)
    return tl.reshape(state, (C, N))


@triton.jit
def shift_rows(x, start, REVERSE: tl.constexpr):
    """Each row holds the one before it (reverse: after it), the first (last) one `start`."""
    C: tl.constexpr = x.shape[0]
    row = tl.arange(0, C)[:, None]
    before = tl.minimum(row + 1, C - 1) if REVERSE else tl.maximum(row - 1, 0)
    return tl.where(is_edge(C, not REVERSE), start, tl.gather(x, tl.broadcast_to(before, x.shape), 0))


@triton.jit
def scan_columns_back(decay, write, start, KIND: tl.constexpr, PRODUCT: tl.constexpr):
    """`scan_rows` in reverse, where a thread holds whole columns: turning them round is a matter of names.

    A scan that is itself in reverse exchanges values between threads for it (Triton 3.6).
    """
    return tl.flip(scan_rows(tl.flip(decay, 0), tl.flip(write, 0), start, KIND, False, PRODUCT), 0)


@triton.jit
def last_two(x, before, others, y, before_y, others_y):
    """Of two runs of rows together: the last row, the one before it, and how many there are beside the last."""
    return y, tl.where(others_y > 0, before_y, x), others + others_y + 1


@triton.jit
def shift_columns(x, start, REVERSE: tl.constexpr):
    """`shift_rows` where a thread holds whole columns: nothing is exchanged."""
    turned = tl.flip(x, 0) if REVERSE else x
    _, before, _ = tl.associative_scan((turned, turned, tl.zeros(x.shape, tl.int32)), 0, last_two)
    before = tl.flip(before, 0) if REVERSE else before
    return tl.where(is_edge(x.shape[0], not REVERSE), start, before)


@triton.jit
def edge_row(x, REVERSE: tl.constexpr):
    """The last row (reverse: the first)."""
    return tl.sum(tl.where(is_edge(x.shape[0], REVERSE), x, 0.0), axis=0, keep_dims=True)


@triton.jit
def place_row(row, C: tl.constexpr, REVERSE: tl.constexpr):
    """Zeros, but the last (reverse: first) of C rows is this one."""
    return tl.where(is_edge(C, REVERSE), row, 0.0)


@triton.jit
def add_to_edge(x, row, REVERSE: tl.constexpr):
    """The tile, with a row added to its last (reverse: first) one."""
    return tl.where(is_edge(x.shape[0], REVERSE), x + row, x)


@triton.jit
def valid_rows(x, inside, fill, RAGGED: tl.constexpr):
    """The tile with one number in the rows that are no tokens, of which there are some in RAGGED chunks alone."""
    return tl.where(inside[:, None], x, fill) if RAGGED else x


@triton.jit
def spread_outer(x, COUNT: tl.constexpr):
    """Columns to the lanes of a matrix whose rows they are."""
    wide = tl.broadcast_to(tl.expand_dims(x, 2), (x.shape[0], x.shape[1], COUNT))
    return tl.reshape(wide, (x.shape[0], x.shape[1] * COUNT))


@triton.jit
def spread_inner(x, COUNT: tl.constexpr):
    """Columns to the lanes of a matrix whose columns they are."""
    wide = tl.broadcast_to(tl.expand_dims(x, 1), (x.shape[0], COUNT, x.shape[1]))
    return tl.reshape(wide, (x.shape[0], COUNT * x.shape[1]))


@triton.jit
def fold_outer(x, COUNT: tl.constexpr):
    """Lanes to the matrix' rows: sums over its COUNT columns."""
    return tl.sum(tl.reshape(x, (x.shape[0], x.shape[1] // COUNT, COUNT)), axis=2)


@triton.jit
def fold_inner(x, COUNT: tl.constexpr):
    """Lanes to the matrix' columns: sums over its COUNT rows."""
    return tl.sum(tl.reshape(x, (x.shape[0], COUNT, x.shape[1] // COUNT)), axis=1)


@triton.jit
def inner_product(a, b, COUNT: tl.constexpr):
    """The sum of `a[i] * b[i]` over two stretches of memory, in float32: a piece at a time is in registers."""
    PIECE: tl.constexpr = 2048
    total = tl.zeros((PIECE,), tl.float32)
    for first in range(0, COUNT, PIECE):
        i = first + tl.arange(0, PIECE)
        x = tl.load(a + i, mask=i < COUNT, other=0.0).to(tl.float32)
        total += x * tl.load(b + i, mask=i < COUNT, other=0.0).to(tl.float32)
    return tl.sum(total)


@triton.jit
def larger(a, b):
    """The larger of two numbers; NaN where one is, which the GPU's own maximum would leave out."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def smaller(a, b):
    """The smaller of two numbers; NaN where one is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def logaddexp(a, b, PRODUCT: tl.constexpr):
    """log(e^a + e^b); both may be -inf."""
    sum_of_both = tl.maximum(a, b) + tl.log(1.0 + exp(-tl.abs(a - b), PRODUCT))
    return tl.where(a == b, a + 0.6931471805599453, sum_of_both)


@triton.jit
def exp(x, PRODUCT: tl.constexpr):
    """e^x: as exact as float32 where products are, else the GPU's own; float64 in float64.

    A power of two is one operation of a GPU. `tl.exp` takes four more for results below 2^-126, which are zero here.
    """
    if x.dtype == tl.float64:
        y = tl.exp(x)
    elif PRODUCT == tl.float32:  # noqa: SIM300
        y = exact_exp(x)
    else:
        y = tl.exp2(x * 1.4426950408889634)
    return y


@triton.jit
def exp_of_product(x, row, PRODUCT: tl.constexpr):
    """e^(x row) for a row that is the same for many tiles: where it needn't be exact, it meets log2(e) first."""
    if x.dtype == tl.float64 or PRODUCT == tl.float32:  # noqa: SIM300
        y = exp(x * row, PRODUCT)
    else:
        y = tl.exp2(x * (row * 1.4426950408889634))
    return y


@triton.jit
def finite(x):
    """The number, or the largest finite one of its sign."""
    return smaller(larger(x, -3.4028234e38), 3.4028234e38)


@triton.jit
def widen(x, WIDE: tl.constexpr):
    """The number in the type that a divisor which may cancel is made in: float64 where inputs are float32."""
    return x.to(WIDE)


@triton.jit
def exact_exp(x):
    """e^x to one unit in the last place of float32, with errors that don't lean to one side (Cephes).

    The GPU's own rounds x log2(e) first and is off by up to 6e-8 (2 + |x|), the same way for the same x: in a product
    of hundreds of equal decays that adds up. 0 at -inf, NaN stays.
    """
    inside = tl.where(x < -105.0, -105.0, tl.where(x > 90.0, 90.0, x))
    # x = n log(2) + r: adding 1.5 * 2^23 rounds to a whole number, which is then in the last bits
    shifted = inside * 1.4426950408889634 + 12582912.0
    n = shifted - 12582912.0
    r = (inside - n * 0.693359375) - n * -2.12194440e-4
    high = (1.9875691500e-4 * r + 1.3981999507e-3) * r + 8.3334519073e-3
    power = 1.0 + (r + r * r * (((high * r + 4.1665795894e-2) * r + 1.6666665459e-1) * r + 5.0000001201e-1))
    # 2^n in two factors: the smallest and the largest results need more than one exponent has room for
    whole = shifted.to(tl.int32, bitcast=True) - 0x4B400000
    half = whole >> 1
    first = ((half + 127) << 23).to(tl.float32, bitcast=True)
    return power * first * ((whole - half + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def sigmoid(x, PRODUCT: tl.constexpr):
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + exp(-x, PRODUCT))


@triton.jit
def tanh(x, PRODUCT: tl.constexpr):
    """Hyperbolic tangent, without cancellation near zero and without overflow far from it."""
    e = exp(-2.0 * tl.abs(x), PRODUCT)
    large = (1.0 - e) / (1.0 + e)
    small = tl.abs(x) * (1.0 - x * x * (1.0 / 3.0 - x * x * (2.0 / 15.0)))
    size = tl.where(tl.abs(x) < 0.125, small, large)
    return tl.where(x < 0, -size, size)
