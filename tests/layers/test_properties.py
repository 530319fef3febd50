"""What holds for every input, whatever its shape, dtype and strides."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from aia_mmaction import (
    ChannelContext,
    CinST,
    ParallelAttention,
    SpatioTemporalContext,
    STinC,
)

from ..conftest import needs_fast_paths

LAYERS = [
    ChannelContext,
    SpatioTemporalContext,
    CinST,
    STinC,
    lambda **kwargs: ParallelAttention(
        branches=[dict(type='CinST'), dict(type='STinC')], **kwargs
    ),
]
IMPLS = ['reference', pytest.param('auto', marks=needs_fast_paths)]
# Relative to the largest value; float16 and bfloat16 keep 11 and 8 bits.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}
HALF = [torch.float16, torch.bfloat16]
if not hasattr(torch.library, 'custom_op'):
    # PyTorch < 2.4 has no convolution of float16 on CPUs.
    HALF.remove(torch.float16)
    del TOLERANCE[torch.float16]

each_impl = pytest.mark.parametrize('impl', IMPLS)
sweep = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def layers(draw, impl):
    """A layer whose norms do not start at zero and one, and its dtype."""
    num_segments = draw(st.integers(1, 6))
    layer = draw(st.sampled_from(LAYERS))(num_segments=num_segments)
    torch.manual_seed(draw(st.integers(0, 99)))
    for module in layer.modules():
        if hasattr(module, 'impl'):
            module.impl = impl
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    layer.train(draw(st.booleans()))
    return layer, num_segments


@st.composite
def inputs(draw, num_segments, dtypes=tuple(TOLERANCE)):
    """[N * T, C, H, W] or [N, C, T, H, W] of any strides."""
    n = draw(st.integers(1, 3))
    c, h, w = (draw(st.integers(1, 9)) for _ in range(3))
    # A norm in training needs two values, whichever axis is pooled away.
    assume(sum(size > 1 for size in (n, c, num_segments, h, w)) > 1)
    shape = (n * num_segments, c, h, w)
    if draw(st.booleans()):
        shape = (n, c, num_segments, h, w)
    x = torch.randn(shape, dtype=torch.float64)
    x = x.to(draw(st.sampled_from(dtypes)))
    strides = draw(st.sampled_from(['contiguous', 'channels_last', 'turned', 'part']))
    if strides == 'channels_last':
        x = x.contiguous(
            memory_format=torch.channels_last
            if x.dim() == 4
            else torch.channels_last_3d
        )
    elif strides == 'turned':
        x = x.transpose(-1, 1).contiguous().transpose(-1, 1)
    elif strides == 'part':
        x = torch.cat([x, x], 1)[:, ::2][:, :c]
        x = torch.cat([x, x], -1)[..., 1 : w + 1]
    return x


def attend(layer, x):
    """The output; half precision as in training, under autocast."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    if not half:
        layer = layer.to(x.dtype)
    with torch.autocast('cpu', x.dtype if half else torch.bfloat16, half):
        return layer(x)


def assert_close(got, expected, dtype):
    size = expected.double().abs().max()
    error = (got.double() - expected.double()).abs().max()
    assert error <= TOLERANCE[dtype] * size


@each_impl
@sweep
@given(st.data())
def test_outputs_and_gradients(impl, data):
    """Each output is its input times a gate between 0 and 1, and gradients
    reach the input and every weight.
    """
    layer, num_segments = data.draw(layers(impl))
    x = data.draw(inputs(num_segments)).requires_grad_()
    out = attend(layer, x)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    gate = (out / x)[x != 0].double()
    assert ((gate >= 0) & (gate <= 1)).all()
    if x.dtype == torch.float64:
        assert ((gate > 0) & (gate < 1)).all()
    out.sum().backward()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.shape == tensor.shape
        assert tensor.grad.isfinite().all()


@each_impl
@sweep
@given(st.data())
def test_order_of_the_clips(impl, data):
    layer, num_segments = data.draw(layers(impl))
    x = data.draw(inputs(num_segments))
    frames = num_segments if x.dim() == 4 else 1
    clips = x.shape[0] // frames
    order = torch.tensor(data.draw(st.permutations(range(clips))))
    # clip numbers to positions in the first axis
    order = (order[:, None] * frames + torch.arange(frames)).flatten()
    twin = copy.deepcopy(layer)
    assert_close(attend(layer, x[order]), attend(twin, x)[order], x.dtype)


@each_impl
@sweep
@given(st.data())
def test_folded_frames(impl, data):
    layer, num_segments = data.draw(layers(impl))
    x = data.draw(inputs(num_segments))
    if x.dim() == 5:
        # [N, C, T, H, W] -> [N * T, C, H, W]
        folded = x.transpose(1, 2).flatten(0, 1)
    else:
        # [N * T, C, H, W] -> [N, C, T, H, W]
        folded, x = x, x.unflatten(0, (-1, num_segments)).transpose(1, 2)
    got = attend(copy.deepcopy(layer), folded)
    got = got.unflatten(0, (-1, num_segments)).transpose(1, 2)
    assert_close(got, attend(layer, x), x.dtype)


@each_impl
@sweep
@given(st.data())
def test_evaluation_is_deterministic(impl, data):
    layer, num_segments = data.draw(layers(impl))
    layer.eval()
    x = data.draw(inputs(num_segments))
    before = copy.deepcopy(layer).to(x.dtype).state_dict()
    with torch.no_grad():
        first, second = attend(layer, x.clone()), attend(layer, x.clone())
    assert torch.equal(first, second)
    layer.to(x.dtype)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


@each_impl
@sweep
@given(
    st.data(),
    st.sampled_from([1e4, -1e4, 0.0, 1.0]),
    st.sampled_from(['constant', 'random', 'one frame', 'one value']),
)
def test_extreme_values(impl, data, value, kind):
    layer, num_segments = data.draw(layers(impl))
    x = data.draw(inputs(num_segments, (*HALF, torch.float32))) / 4
    filled = torch.full_like(x, value)
    if kind == 'random':
        filled *= x.clamp(-1, 1)
    elif kind == 'one frame':
        filled[1:] = 0
    elif kind == 'one value':
        filled[:, 1:] = 0
        filled[1:] = 0
    x = filled.requires_grad_()
    out = attend(layer, x)
    assert out.isfinite().all()
    out.mean().backward()
    for tensor in (x, *layer.parameters()):
        assert not tensor.grad.isnan().any()
