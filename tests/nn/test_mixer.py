"""The layer: shapes, gradients, ranges, states, and what torch expects of any module."""

import copy
import io
import pickle

import pytest
import torch

import smir
from smir.frontends import parse_mixer
from smir.library import load
from smir.nn import Mixer
from smir.sampling import dimension_names

HARMLESS = "mixer m\n  input x: {}\n  state S: {}\n  S[t] = 0.5 * S[t-1] + x[t]\n  y[t] = S[t]\n"

# A layer can't know the length of a sequence, which some parameters have.
NAMES = [n for n in smir.library_names() if "T" not in {str(x) for d in parse_mixer(load(n)).params for x in d.dims}]


def layer(spec="gated_delta_rule", width=12, heads=2, seed=0, **options):
    torch.manual_seed(seed)
    return Mixer(spec, width, heads, **options)


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Tensors this small lose time to threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NAMES)
def test_every_library_spec_trains(name):
    mixer = layer(name, sizes={"K": 4} if "K" in dimension_names(smir.compile(name).spec) else {})
    x = torch.randn(2, 7, 12, requires_grad=True)
    y = mixer(x)
    assert y.shape == x.shape and y.isfinite().all()
    y.square().sum().backward()
    for what, tensor in {"x": x, **dict(mixer.named_parameters())}.items():
        assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.any(), what


@pytest.mark.parametrize("name", NAMES)
def test_arguments_keep_the_promises_even_when_pushed(name):
    mixer = layer(name)
    with torch.no_grad():
        for p in mixer.parameters():
            p.mul_(40)
        mixer.compiled(**mixer.arguments(10 * torch.randn(2, 5, 12)), check_ranges=True)


@pytest.mark.parametrize("name", NAMES)
def test_initial_decays_remember_long(name):
    """Constant part of every gate: forgets 1/32 to 1/512 a step, less in every further head."""
    mixer = layer(name, 16, heads=4)
    with torch.no_grad():
        found = mixer.arguments(torch.zeros(1, 1, 16))
    for role in (r for r in mixer.roles if r.kept is not None):
        value = found[role.name]
        forgets = (value - role.kept).abs().flatten()
        assert forgets.max() == pytest.approx(1 / 32, rel=1e-4) and forgets.min() == pytest.approx(1 / 512, rel=1e-3)
        assert (forgets.diff() < 0).all()


def test_the_mixer_gets_what_its_declarations_say():
    mixer = layer(sizes={"K": 4, "V": 5})
    with torch.no_grad():
        found = mixer.arguments(torch.randn(3, 6, 12))
    shapes = {"q": (3, 6, 2, 4), "k": (3, 6, 2, 4), "v": (3, 6, 2, 5), "g": (3, 6, 2), "beta": (3, 6, 2)}
    assert {n: tuple(a.shape) for n, a in found.items()} == shapes
    torch.testing.assert_close(found["k"].norm(dim=-1), torch.ones(3, 6, 2))
    assert (found["q"].norm(dim=-1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("dims", ["scalar", "V", "V, V"])
def test_outputs_of_any_shape(dims):
    mixer = layer(HARMLESS.format(dims, dims), sizes={} if dims == "scalar" else {"V": 3})
    assert mixer(torch.randn(2, 5, 12)).shape == (2, 5, 12)
    assert (mixer.norm is None) == (dims == "scalar")


def test_the_state_carries_on():
    mixer, x = layer(dtype=torch.float64), torch.randn(2, 20, 12, dtype=torch.float64)
    whole = mixer(x)
    first, state = mixer(x[:, :8], return_state=True)
    second, _ = mixer(x[:, 8:], state, return_state=True)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert {n: tuple(s.shape) for n, s in state.items()} == {"S": (2, 2, 6, 6)}


@pytest.mark.parametrize("name", ["gated_delta_rule", "short_convolution", "softmax_causal", "mlstm"])
def test_steps_are_the_whole_call(name):
    """Token by token, in place after the first part, and a few at once."""
    mixer, x = layer(name, dtype=torch.float64), torch.randn(2, 20, 12, dtype=torch.float64)
    with torch.no_grad():
        whole, final = mixer(x, return_state=True)
        y, state = mixer(x[:, :8], return_state=True)
        parts = [y]
        for t in range(8, 12):
            y, state = mixer.step(x[:, t], state)
            assert y.shape == (2, 12)
            parts.append(y[:, None])
        y, state = mixer.step(x[:, 12:15], state, several=True)
        parts.append(y)
        for t in range(15, 20):
            y, state = mixer.step(x[:, t], state, inplace=True)
            parts.append(y[:, None])
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert set(state) == set(final)
    for entry, value in final.items():
        torch.testing.assert_close(state[entry], value)


def test_a_step_begins_a_sequence_and_has_gradients():
    mixer, x = layer("gla"), torch.randn(2, 3, 12)
    y, state = mixer.step(x[:, 0])
    y, _ = mixer.step(x[:, 1], state)
    found = torch.autograd.grad(y.square().sum(), list(mixer.parameters()))
    expected = torch.autograd.grad(mixer(x[:, :2])[:, 1].square().sum(), list(mixer.parameters()))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "sees_ahead"), [("lion_s", True), ("scalar_decay", False)])
def test_direction(name, sees_ahead):
    mixer, x = layer(name), torch.randn(1, 9, 12)
    changed = x.clone()
    changed[:, 6] += 1
    assert torch.equal(mixer(x)[:, :6], mixer(changed)[:, :6]) != sees_ahead


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(copied):
    mixer, x = layer(), torch.randn(2, 5, 12)
    other = copied(mixer)
    torch.testing.assert_close(other(x), mixer(x), rtol=0, atol=0)
    with torch.no_grad():
        other.out.weight.zero_()
    assert mixer.out.weight.any() and repr(other) == repr(mixer)


def test_state_dict_goes_round():
    first, second, x = layer("mamba2_ssd", seed=1), layer("mamba2_ssd", seed=2), torch.randn(2, 5, 12)
    assert not torch.equal(first(x), second(x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file))
    assert torch.equal(first(x), second(x))
    assert {"param_A", "param_D", "vectors.weight", "gates.bias", "out.weight"} <= set(first.state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(dtype):
    mixer, x = layer(dtype=dtype), torch.randn(2, 5, 12, dtype=dtype)
    y = mixer(x)
    y.sum().backward()
    assert y.dtype == dtype and all(p.grad.dtype == dtype for p in mixer.parameters())
    reference = copy.deepcopy(mixer).double()(x.double())
    assert (y - reference).abs().max() <= 20 * torch.finfo(dtype).eps * reference.abs().max()


def test_devices_are_passed_on():
    assert {p.device.type for p in layer(device="meta").parameters()} == {"meta"}


def test_seeds_decide_the_weights():
    weights = [list(layer("mamba2_ssd", seed=s).state_dict().values()) for s in (3, 3, 4)]
    assert all(map(torch.equal, weights[0], weights[1])) and not all(map(torch.equal, weights[0], weights[2]))


def test_layers_of_one_spec_share_the_compilation():
    assert layer(seed=1).compiled is layer(seed=2).compiled is not layer(chunk=4).compiled


def test_form_and_chunk_reach_the_compiler():
    mixer, x = layer(form="chunked", chunk=4, dtype=torch.float64), torch.randn(1, 11, 12, dtype=torch.float64)
    assert mixer.compiled.form == "chunked" and "form=chunked, chunk=4" in mixer.extra_repr()
    torch.testing.assert_close(mixer(x), layer(form="step", dtype=torch.float64)(x))
    with pytest.raises(smir.FormError):
        layer(HARMLESS.format("V", "V").replace("0.5 * S[t-1]", "tanh(S[t-1])"), form="chunked")


@torch.no_grad()
def test_the_output_keeps_the_scale_of_its_input():
    x = torch.randn(2, 40, 64)
    for name in NAMES:
        scale = layer(name, 64, 4)(x).std().item()
        assert 0.5 < scale < 2, (name, scale)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer("no_such_mixer"), "no spec of the library"),
        (lambda: layer(width=0), "d_model is a positive whole number"),
        (lambda: layer(heads=2.0), "heads is a positive whole number"),
        (lambda: layer(heads=13), "13 heads don't fit into d_model=12"),
        (lambda: layer(sizes={"Q": 3}), "has no dimension 'Q'"),
        (lambda: layer(sizes={"K": 0}), "can't have the size 0"),
        (lambda: layer(HARMLESS.format("K/4", "K/4")), "don't suit m: dimension"),
        (lambda: layer()(torch.randn(5, 12)), r"x has shape \(5, 12\), expected \[B, T, 12\]"),
        (lambda: layer()(torch.randn(1, 5, 13)), r"expected \[B, T, 12\]"),
        (lambda: layer()(torch.randn(1, 5, 12), {"Z": torch.zeros(1)}), "has no state 'Z'"),
        (lambda: layer().step(torch.randn(1, 5, 12)), r"x has shape \(1, 5, 12\), expected \[B, 12\]"),
        (lambda: layer().step(torch.randn(5, 12), several=True), r"expected \[B, T, 12\]"),
        (lambda: layer("lion_s").step(torch.randn(1, 12)), "lion_s"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(smir.SmirError, match=message) as caught:
        call()
    assert caught.value.hint


def test_the_package_is_an_attribute():
    assert smir.nn.Mixer is Mixer and "nn" in dir(smir)


def test_no_parameter_without_a_use():
    """Queries, keys, values, the norm of a head, the projection back."""
    assert sum(p.numel() for p in layer("linear_attention").parameters()) == 3 * 144 + 6 + 144


def test_packed_sequences():
    layer = Mixer("gla", d_model=16, heads=2)
    x = torch.randn(1, 9, 16, requires_grad=True)
    y, state = layer(x, return_state=True, cu_seqlens=torch.tensor([0, 4, 9]))
    parts = [layer(x[:, :4], return_state=True), layer(x[:, 4:], return_state=True)]
    torch.testing.assert_close(y, torch.cat([part for part, _ in parts], 1))
    torch.testing.assert_close(state["S"], torch.cat([final["S"] for _, final in parts]))
