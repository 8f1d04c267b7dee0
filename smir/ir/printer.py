"""Any level of IR as readable text, one value a line: `%3 = exp(%2) : K x 1 @step`.

Values are named after local definitions and leaves where these have a name, else numbered. `parser.parse_ir` reads
the text back.
"""

from collections.abc import Iterable, Iterator, Mapping

from smir.ir.graph import Node, walk
from smir.ir.kernel import Kernel, KernelPlan, Loop, Store
from smir.ir.mixer import Declaration, Mixer, State
from smir.ir.operator import Diagonal, Elementwise, MicroStep, Operator, OperatorProgram, Write
from smir.ir.pairs import PairProgram, PairRead
from smir.ir.text import is_name, show_attr, show_dims, show_interval, show_name
from smir.ir.tile_program import Carry, Output, Result, Scan, TileLeaf, TileProgram

IR = Mixer | OperatorProgram | PairProgram | TileProgram | KernelPlan
Names = Mapping[Node, str]


def print_ir(ir: IR) -> str:
    """The text of a mixer, an operator program, a tile program or a kernel plan."""
    if isinstance(ir, Mixer):
        lines = _mixer(ir)
    elif isinstance(ir, OperatorProgram):
        lines = _operators(ir)
    elif isinstance(ir, PairProgram):
        lines = _pairs(ir)
    elif isinstance(ir, TileProgram):
        lines = _tile(ir)
    else:
        lines = _plan(ir)
    return "\n".join(lines) + "\n"


# ---- values -----------------------------------------------------------------------------------------------------


def name_values(roots: Iterable[Node], hints: Iterable[tuple[str, Node]] = ()) -> dict[Node, str]:
    """A distinct name for every value below the roots, in the order in which they are computed."""
    wanted: dict[Node, str] = {}
    taken: set[str] = set()
    nodes = list(walk(roots))
    leaves = ((str(n["name"]), n) for n in nodes if not n.args and n.get("name") is not None)
    for name, node in (*hints, *leaves):
        if node not in wanted and name not in taken and is_name(name):
            wanted[node] = name
            taken.add(name)
    names: dict[Node, str] = {}
    for node in nodes:
        names[node] = "%" + wanted.get(node, str(len(names)))
    return names


def _values(names: Names) -> Iterator[str]:
    for node, name in names.items():
        args = ", ".join(names[a] for a in node.args)
        attrs = "".join(f" {key}={show_attr(value)}" for key, value in node.attrs)
        yield f"{name} = {node.op}({args}){attrs} : {node.type}"


def _block(head: str, body: Iterable[str]) -> list[str]:
    return [f"{head} {{", *(f"  {line}" for line in body), "}"]


# ---- mixer IR ---------------------------------------------------------------------------------------------------


def _mixer(mixer: Mixer) -> list[str]:
    names = name_values((*mixer.roots(), *(n for _, n in mixer.names)), mixer.names)
    body = [*map(_declaration, mixer.declarations)]
    body += map(_state, mixer.states)
    body += _values(names)
    body += [f"update {show_name(s.name)} = {names[s.update]}" for s in mixer.states]
    body += [f"output {names[mixer.output]} : {show_dims(mixer.output_dims)}"]
    body += [f"name {show_name(name)} = {names[node]}" for name, node in mixer.names]
    return _block(f"mixer {show_name(mixer.name)}", body)


def _declaration(d: Declaration) -> str:
    group = "" if d.group is None else f" group={d.group}"
    return f"{d.kind} {show_name(d.name)} : {show_dims(d.dims)}{group}{show_interval(d.range)}"


def _state(s: State) -> str:
    scale = f" log={show_name(s.log)}" if s.log is not None else ""
    return f"state {show_name(s.name)} : {show_dims(s.dims)} = {float(s.initial)!r}{scale}"


# ---- operator IR ------------------------------------------------------------------------------------------------


def _operators(program: OperatorProgram) -> list[str]:
    names = name_values((*program.vectors(), program.output), program.mixer.names)
    body = [*_mixer(program.mixer), *_values(names)]
    for stage in program.stages:
        body += _operator(stage, names) if isinstance(stage, Operator) else [_elementwise(stage, names)]
    for r in program.reads:
        body.append(f"read {show_name(r.name)} = {show_name(r.state)} {r.when} {names[r.query]}")
    return _block("operators", [*body, f"output {names[program.output]}"])


def _operator(operator: Operator, names: Names) -> list[str]:
    flag = " transposed" if operator.transposed else ""
    head = f"operator {show_name(operator.state)} : {operator.rows} x {operator.cols} {operator.direction}{flag}"
    return _block(head, (line for step in operator.steps for line in _micro_step(step, names)))


def _micro_step(step: MicroStep, names: Names) -> list[str]:
    sides = (("scalar", step.decay.scalar), ("rows", step.decay.rows), ("cols", step.decay.cols))
    decays = [_diagonal(side, part, names) for side, part in sides if part]
    turns = (("rows", step.rotation.rows), ("cols", step.rotation.cols))
    rotations = [f"rotate {side} angle={names[angle]}" for side, angle in turns if angle]
    drives = [f"drive {show_name(d.state)} {d.when} scale={names[d.scale]}" for d in step.drives]
    return _block("step", [*rotations, *decays, *(_write(w, names) for w in step.writes), *drives])


def _elementwise(e: Elementwise, names: Names) -> str:
    parts = f"decay={names[e.decay]} write={names[e.write]}"
    return f"elementwise {show_name(e.state)} : {e.kind} {e.direction} {parts}"


def _diagonal(side: str, part: Diagonal, names: Names) -> str:
    return f"decay {side} log={names[part.log]}" + (f" sign={names[part.sign]}" if part.sign else "")


def _write(write: Write, names: Names) -> str:
    value = f" value={names[write.value]}" if write.value else ""
    erase = f" erase={names[write.erase.vector]} when={write.erase.when}" if write.erase else ""
    return f"write left={names[write.left]}{value}{erase}"


# ---- pair IR ----------------------------------------------------------------------------------------------------


def _pairs(program: PairProgram) -> list[str]:
    names = name_values(program.roots(), program.mixer.names)
    body = [*_mixer(program.mixer), *_values(names)]
    body += [f"vector {show_name(name)} = {names[column]}" for name, column in program.vectors]
    body += [_pair_read(r, names) for r in program.reads]
    return _block("pairs", [*body, f"output {names[program.output]}"])


def _pair_read(r: PairRead, names: Names) -> str:
    parts = (("scores", r.scores), ("mask", r.mask), ("value", r.value), ("channels", r.channels))
    given = "".join(f" {key}={names[node]}" for key, node in parts if node is not None)
    return f"read {show_name(r.name)} = {r.kind}{given}"


# ---- tile IR and kernel plans -----------------------------------------------------------------------------------


def _tile(program: TileProgram) -> list[str]:
    names = name_values(program.roots())
    body = [*map(_leaf, program.leaves), *_values(names)]
    for scan in program.scans:
        body += _block(f"scan {_order(scan)}", _scan(scan, names))
    return _block(
        f"tile {show_name(program.name)} {program.form}", [*body, *(_output(o, names) for o in program.outputs)]
    )


def _output(output: Output, names: Names) -> str:
    return f"output {_result(output.result)} = {names[output.value]}"


def _result(r: Result) -> str:
    target = f" target={show_attr(r.target)}" if r.target else ""
    return f"{r.kind} {show_name(r.name)} : {r.rows} x {r.cols} offset={r.offset}{target}"


def _leaf(leaf: TileLeaf) -> str:
    return f"leaf {leaf.kind} {show_name(leaf.name)} : {leaf.rows} x {leaf.cols}{show_interval(leaf.range)}"


def _order(scan: Scan) -> str:
    kernel = f" kernel={show_attr(scan.kernel)}" if scan.kernel else ""
    reach = "" if scan.reach is None else f" reach={scan.reach}"
    return f"{scan.order}{kernel}{reach}{' inward' if scan.inward else ''}"


def _scan(scan: Scan, names: Names) -> list[str]:
    exports = [f"export {show_name(name)} = {names[value]}" for name, value in scan.exports]
    each = [f"each {show_name(name)} = {names[value]}" for name, value in scan.each]
    return [*(_carry(c, names) for c in scan.carries), *exports, *each]


def _carry(carry: Carry, names: Names) -> str:
    state = "" if carry.state is None else f" state={show_attr(carry.state)}"
    flags = (" transposed" if carry.transposed else "") + ("" if carry.final else " start_only")
    begin = "" if carry.start is None else f" start={names[carry.start]}"
    start = f"{float(carry.initial)!r}{state}{flags}{begin}"
    return f"carry {show_name(carry.name)} : {carry.rows} x {carry.cols} = {start} next={names[carry.next]}"


def _plan(plan: KernelPlan) -> list[str]:
    body = [*map(_leaf, plan.leaves), *(f"result {_result(r)}" for r in plan.results)]
    body += [f"buffer {show_name(b.name)} : {b.rows} x {b.cols} {b.extent} {b.dtype} {b.owner}" for b in plan.buffers]
    for kernel in plan.kernels:
        body += _kernel(kernel)
    if plan.walks:
        body += _block("walks", [line for kernel in plan.walks for line in _kernel(kernel)])
    return _block(f"plan {show_name(plan.name)} {plan.form}", body)


def _kernel(kernel: Kernel) -> list[str]:
    exports = (value for loop in kernel.loops for _, value in (*loop.scan.exports, *loop.scan.each))
    names = name_values((*exports, *kernel.roots()))
    body = [f"role {show_name(axis)} {role}" for axis, role in kernel.roles]
    body += _values(names)
    for loop in kernel.loops:
        body += _block(f"loop {_order(loop.scan)}", _loop(loop, names))
    body += [_store("store", s, names) for s in kernel.stores]
    segments = " segments" if kernel.in_segments else ""
    return _block(f"kernel {show_name(kernel.name)}{segments} formula={show_attr(kernel.formula)}", body)


def _loop(loop: Loop, names: Names) -> list[str]:
    stores = [_store("store", s, names) for s in loop.stores]
    return [*_scan(loop.scan, names), *stores, *(_store("final_store", s, names) for s in loop.final_stores)]


def _store(word: str, store: Store, names: Names) -> str:
    summed = f" summed={show_attr(store.summed)}" if store.summed is not None else ""
    turned = " transposed" if store.transposed else ""
    return f"{word} {show_name(store.target)} = {names[store.value]}{turned}{summed}"
