"""What holds for every list of plugins."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from aia_mmaction.plugins import attention_layers

from .conftest import build_aia, build_plain, make_input

CFGS = st.sampled_from(
    [
        dict(type='ChannelContext'),
        dict(type='SpatioTemporalContext'),
        dict(type='CinST'),
        dict(type='STinC'),
        dict(type='CinST', norm_cfg=dict(type='GN', num_groups=1)),
        dict(
            type='ParallelAttention', branches=[dict(type='STinC'), dict(type='CinST')]
        ),
    ]
)
# Both blocks of a ResNet-18's stages have two convolutions.
ENTRIES = st.fixed_dictionaries(
    dict(cfg=CFGS),
    optional=dict(
        stages=st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
        position=st.sampled_from(
            ['after_norm1', 'after_norm2', 'after_conv1', 'after_conv2']
        ),
        blocks=st.sampled_from([(0,), (1,), (0, 1)]),
    ),
)


@pytest.mark.slow
@settings(
    max_examples=20,
    phases=[Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
)
@given(
    st.sampled_from(['tsn', 'tsm', 'r2plus1d']),
    st.lists(ENTRIES, max_size=3),
    st.booleans(),
)
def test_any_list_of_plugins(name, plugins, training):
    model = build_aia(name, plugins=plugins)
    model.train(training)
    expected = sum(
        sum(entry.get('stages', [True] * 4)) * len(entry.get('blocks', (0, 1)))
        for entry in plugins
    )
    assert len(attention_layers(model)) == expected
    x = make_input(name)
    out = model(x)
    plain = build_plain(name)
    plain.train(training)
    assert out.shape == plain(x).shape
    out.mean().backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert bool(missing) == bool(plugins)
