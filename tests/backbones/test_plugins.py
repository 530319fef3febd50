import copy
import pickle

import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from aia_mmaction import CinST, insert_plugins
from aia_mmaction.plugins import attention_layers

from ..conftest import needs_fast_paths, samples, slow_but
from .conftest import NETWORKS, build_aia, build_plain, make_input

CINST = [dict(cfg=dict(type='CinST'))]


def is_aia(key):
    return '.after_norm.' in key or '.after_conv.' in key


def positions(model):
    """'layer1.0.conv2.after_norm' of every inserted layer."""
    return [
        name.replace('.activate', '').rpartition('.')[0]
        for name, _ in attention_layers(model)
    ]


class TestPlaces:
    def test_every_block_after_norm2_by_default(self, network):
        model = build_aia(network)
        blocks = sum(len(getattr(model, name)) for name in model.res_layers)
        assert len(positions(model)) == blocks
        assert all(p.endswith('conv2.after_norm') for p in positions(model))
        assert all(type(m) is CinST for _, m in attention_layers(model))

    def test_between_norm_and_activation(self):
        conv2 = build_aia('tsn50').eval().layer1[0].conv2
        ((_, attention),) = attention_layers(conv2)
        x = torch.randn(4, 64, 6, 5)
        expected = attention(conv2.bn(conv2.conv(x))).relu()
        assert torch.equal(conv2(x), expected)

    @needs_fast_paths
    @pytest.mark.parametrize('inplace', [True, False])
    def test_works_in_place_where_the_activation_does(self, inplace):
        model = build_aia('tsn50', act_cfg=dict(type='ReLU', inplace=inplace))
        conv2, kept = model.eval().layer1[0].conv2, []
        conv2.bn.register_forward_hook(lambda *args: kept.append(args[2]))
        with torch.no_grad():
            out = conv2(torch.randn(4, 64, 6, 5))
        assert (kept[0] is out) == inplace

    def test_a_hook_of_a_layer_sees_its_output_alone(self):
        conv2 = build_aia('tsn50').eval().layer1[0].conv2
        ((_, attention),) = attention_layers(conv2)
        x, seen = torch.randn(4, 64, 6, 5), []
        expected = conv2(x)
        attention.register_forward_hook(lambda *args: seen.append(args[2].clone()))
        assert torch.equal(conv2(x), expected)
        assert seen[0].min() < 0
        assert torch.equal(seen[0].relu(), expected)

    def test_where_the_block_has_no_activation(self):
        conv2 = build_aia('tsn').eval().layer1[0].conv2
        ((_, attention),) = attention_layers(conv2)
        x = torch.randn(4, 64, 6, 5)
        assert torch.equal(conv2(x), attention(conv2.bn(conv2.conv(x))))
        conv2.init_weights()  # ConvModule looks at act_cfg here

    def test_after_conv_is_after_the_activation(self):
        plugins = [dict(cfg=dict(type='CinST'), position='after_conv1')]
        conv1 = build_aia('tsn50', plugins=plugins).eval().layer1[0].conv1
        ((_, attention),) = attention_layers(conv1)
        x = torch.randn(4, 64, 6, 5)
        assert torch.equal(conv1(x), attention(conv1.bn(conv1.conv(x)).relu()))

    @pytest.mark.parametrize(
        'position', [f'after_{what}{i}' for what in ('norm', 'conv') for i in (1, 2, 3)]
    )
    def test_every_position(self, position):
        plugins = [dict(cfg=dict(type='STinC'), position=position)]
        model = build_aia('tsn50', plugins=plugins)
        place = f'conv{position[-1]}.{position[:-1]}'
        assert len(positions(model)) == 16
        assert all(p.endswith(place) for p in positions(model))
        model(make_input('tsn50')).sum().backward()
        assert all(p.grad is not None for p in model.parameters())

    def test_two_entries_are_a_cascade(self):
        plugins = [dict(cfg=dict(type=t)) for t in ('CinST', 'STinC')]
        conv2 = build_aia('tsn50', plugins=plugins).eval().layer1[0].conv2
        first, second = (layer for _, layer in attention_layers(conv2))
        assert [type(m).__name__ for m in (first, second)] == ['CinST', 'STinC']
        x = torch.randn(4, 64, 6, 5)
        expected = second(first(conv2.bn(conv2.conv(x)))).relu()
        assert torch.equal(conv2(x), expected)

    def test_parallel_branches_share_num_segments(self):
        cfg = dict(
            type='ParallelAttention', branches=[dict(type='CinST'), dict(type='STinC')]
        )
        model = build_aia('tsn', plugins=[dict(cfg=cfg)])
        assert model(make_input('tsn')).shape[0] == 8

    def test_input_by_name(self, network):
        model = build_aia(network)
        model.eval()
        x = make_input(network)
        assert torch.equal(model(x=x), model(x))

    def test_class_as_type(self):
        """As in MMEngine's pure-Python configs."""
        model = build_aia('tsn', plugins=[dict(cfg=dict(type=CinST))])
        assert len(positions(model)) == 8

    def test_stages(self):
        plugins = [{**CINST[0], 'stages': (False, True, False, True)}]
        model = build_aia('tsn', plugins=plugins)
        assert {p.split('.')[0] for p in positions(model)} == {'layer2', 'layer4'}

    def test_blocks(self):
        model = build_aia('tsn50', plugins=[{**CINST[0], 'blocks': (0, 2)}])
        assert [p.rpartition('.conv2')[0] for p in positions(model)] == [
            f'layer{stage}.{block}' for stage in (1, 2, 3, 4) for block in (0, 2)
        ]

    def test_every_second_block_of_a_long_stage(self):
        model = build_aia('tsn50', depth=101)
        blocks = [p.split('.')[:2] for p in positions(model)]
        assert [int(b) for s, b in blocks if s == 'layer3'] == list(range(0, 23, 2))
        assert [int(b) for s, b in blocks if s == 'layer4'] == [0, 1, 2]

    @pytest.mark.parametrize(
        'wrapped',
        [
            dict(shift_place='block'),
            dict(
                non_local=((0, 0, 0), (0, 1, 0, 0), (0,) * 6, (0,) * 3),
                non_local_cfg=dict(sub_sample=True, mode='gaussian'),
            ),
        ],
    )
    def test_wrapped_blocks(self, wrapped):
        model = build_aia('tsm', depth=50, **wrapped)
        assert len(positions(model)) == 16
        model(make_input('tsm'))

    def test_temporal_pool_halves_the_segments(self):
        model = build_aia('tsm', temporal_pool=True)
        segments = [m.num_segments for n, m in attention_layers(model)]
        assert segments == [4] * 2 + [2] * 6
        assert model(make_input('tsm')).shape[0] == 4

    def test_paper_s_number_of_parameters(self):
        model = build_aia('tsm', depth=50)
        assert sum(p.numel() for n, p in model.named_parameters() if is_aia(n)) == 3584


class TestPlainNetwork:
    def test_no_plugins_is_mmaction2_to_the_bit(self, network):
        plain, aia = build_plain(network), build_aia(network, plugins=[])
        for model in (plain, aia):
            torch.manual_seed(1)
            model.init_weights()
        assert list(plain.state_dict()) == list(aia.state_dict())
        for a, b in zip(plain.state_dict().values(), aia.state_dict().values()):
            assert torch.equal(a, b)
        x = make_input(network)
        for mode in (True, False):
            plain.train(mode)
            aia.train(mode)
            assert torch.equal(plain(x), aia(x))

    def test_checkpoints_are_exchangeable(self, network):
        plain, aia = build_plain(network), build_aia(network)
        result = aia.load_state_dict(plain.state_dict(), strict=False)
        assert not result.unexpected_keys
        assert result.missing_keys == [
            k for k in aia.state_dict() if is_aia(k) and 'num_batches_tracked' not in k
        ]
        result = plain.load_state_dict(aia.state_dict(), strict=False)
        assert not result.missing_keys
        assert result.unexpected_keys == [k for k in aia.state_dict() if is_aia(k)]

    def test_strict_loading_stays_strict(self):
        plain, aia = build_plain('tsn'), build_aia('tsn')
        with pytest.raises(RuntimeError, match='Missing key'):
            aia.load_state_dict(plain.state_dict(), strict=True)

    @pytest.mark.parametrize('name', slow_but(['tsm'], ['tsn', 'tsm', 'r2plus1d']))
    def test_fine_tuning_a_plain_checkpoint(self, name, tmp_path, capfd):
        """The log says in one line that only the attention is missing."""
        head = {
            'tsn': dict(type='TSNHead'),
            'tsm': dict(type='TSMHead', num_segments=4),
            'r2plus1d': dict(type='I3DHead'),
        }[name]
        recognizers = []
        for build in (build_plain, build_aia):
            recognizers.append(
                MODELS.build(
                    dict(
                        type='Recognizer3D' if name == 'r2plus1d' else 'Recognizer2D',
                        backbone=dict(type='ResNet', depth=18),
                        cls_head=dict(num_classes=3, in_channels=512, **head),
                    )
                )
            )
            recognizers[-1].backbone = build(name)
        plain, aia = recognizers
        path = tmp_path / 'plain.pth'
        torch.save(dict(state_dict=plain.backbone.state_dict()), path)
        state = {f'backbone.{k}': v for k, v in torch.load(path)['state_dict'].items()}
        torch.save(dict(state_dict=state), path)

        load_checkpoint(aia, str(path))
        lines = [
            line
            for line in ''.join(capfd.readouterr()).splitlines()
            if 'keys of the attention are not in the checkpoint' in line
        ]
        assert len(lines) == 1
        # 8 layers x 4 gates x (kernel, weight, bias, mean, var)
        assert '160 of 160 keys' in lines[0]
        # The head is missing too, and is no part of the backbone.
        assert '0 other keys of the backbone are missing' in lines[0]

        frames = make_input(name)
        feats = aia.backbone(frames)
        losses = aia.cls_head.loss(feats, samples(2), num_segs=4)
        losses['loss_cls'].backward()
        assert all(p.grad is not None for p in aia.parameters())

    def test_missing_backbone_keys_are_counted(self, capfd):
        plain, aia = build_plain('tsn'), build_aia('tsn')
        state = plain.state_dict()
        del state['layer4.1.conv2.bn.weight']
        aia.load_state_dict(state, strict=False)
        log = ''.join(capfd.readouterr())
        assert '1 other keys of the backbone are missing' in log


class TestInsertPlugins:
    def test_layers_that_are_never_called(self, capfd):
        """One warning, and none where all of them are."""
        network = insert_plugins(build_plain('tsn'), 'C2ST', num_segments=4)
        network(make_input('tsn'))
        assert 'were not' not in ''.join(capfd.readouterr())
        network = build_plain('tsn')
        network.layer4[1].forward = lambda x: x
        insert_plugins(network, 'C2ST', num_segments=4)
        for _ in range(2):
            network(make_input('tsn'))
        printed = ''.join(capfd.readouterr())
        place = 'layer4.1.conv2.activate.after_norm'
        assert printed.count(f'got 1 that were not: {place}. They') == 1

    def test_children_of_others_that_are_called_the_same(self):
        network = build_plain('tsn')
        network.layer1[0].after_norm = nn.LayerNorm(3)
        assert attention_layers(network) == []
        insert_plugins(network, 'CinST', num_segments=4)
        assert len(attention_layers(network)) == 8

    def test_on_an_mmaction2_model(self, network):
        plain, aia = build_plain(network), build_aia(network)
        num_segments = None if network in ('tsm', 'r2plus1d') else 4
        assert insert_plugins(plain, CINST, num_segments) is plain
        plain.load_state_dict(aia.state_dict())
        x = make_input(network)
        for model in (plain, aia):
            model.eval()
        assert torch.equal(plain(x), aia(x))

    def test_on_a_recognizer(self):
        recognizer = MODELS.build(
            dict(
                type='Recognizer2D',
                backbone=dict(type='ResNetTSM', depth=18, num_segments=4),
                cls_head=dict(
                    type='TSMHead', num_classes=3, in_channels=512, num_segments=4
                ),
            )
        )
        insert_plugins(recognizer, CINST)
        assert len(attention_layers(recognizer.backbone)) == 8

    def test_on_c2d_which_halves_the_frames(self):
        model = insert_plugins(
            MODELS.build(dict(type='C2D', depth=18)), CINST, num_segments=4
        )
        assert [m.num_segments for _, m in attention_layers(model)] == [4] * 2 + [2] * 6
        assert model(torch.randn(2, 3, 4, 32, 32)).shape == (2, 512, 2, 1, 1)

    @pytest.mark.parametrize(
        'cfg',
        [
            dict(type='CinST'),
            dict(type='ParallelAttention', branches=[dict(type='CinST')]),
        ],
    )
    def test_under_another_default_scope(self, cfg):
        """MMEngine's Runner has the scope mmengine unless told otherwise."""
        model = build_plain('tsm')
        with DefaultScope.overwrite_default_scope('mmengine'):
            insert_plugins(model, [dict(cfg=cfg)])

    @pytest.mark.parametrize('training', [False, True])
    def test_takes_mode_and_dtype_of_the_model(self, training):
        model = build_plain('tsn').double()
        model.train(training)
        insert_plugins(model, CINST, num_segments=4)
        assert all(
            m.training == training
            for _, layer in attention_layers(model)
            for m in layer.modules()
        )
        assert model(make_input('tsn').double()).dtype == torch.float64

    def test_twice(self):
        model = build_aia('tsn50')
        insert_plugins(model, [dict(cfg=dict(type='STinC'))])
        assert [type(m).__name__ for _, m in attention_layers(model.layer1[0])] == [
            'CinST',
            'STinC',
        ]

    def test_copies_are_independent(self, network):
        model = build_aia(network)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            before = copy.deepcopy(model.state_dict())
            other.init_weights()
            for key, value in model.state_dict().items():
                assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    'bad, error',
    [
        (dict(cfg=dict(type='CinTS')), "got 'CinTS'. Did you mean 'CinST'"),
        (dict(cfg=dict(type='aia_mmaction.CinTS')), "got 'aia_mmaction.CinTS'"),
        (
            dict(cfg=dict(type='ParallelAttention', branches=[dict(type='cinst')])),
            "got 'cinst'. Did you mean 'CinST'",
        ),
        (
            dict(cfg=dict(type='CinST'), position='after_norm'),
            "got 'after_norm'. The paper uses after_norm2",
        ),
        (
            dict(cfg=dict(type='CinST'), position='after_norm3'),
            r'position that the blocks of this backbone have \(after_norm1, '
            r'after_norm2, after_conv1, after_conv2\)',
        ),
        (
            dict(cfg=dict(type='CinST'), stages=(True, True, True)),
            r'stages to hold 4 bools.*got \(True, True, True\)',
        ),
        (dict(cfg=dict(type='CinST'), stages=True), 'stages to hold 4 bools'),
        (
            dict(cfg=dict(type='CinST'), blocks=(0, 2)),
            r'blocks between 0 and 1 for stage 0.*got \[2\]',
        ),
        (dict(cfg=dict(type='CinST'), stages=(0, 1, 2, 3)), 'stages to hold 4 bools'),
        (dict(cfg=dict(type='CinST'), blocks=1), 'blocks to be indices'),
        (dict(cfg=dict(type='CinST'), blocks=(0, 0)), 'blocks to be indices'),
        (
            dict(
                cfg=dict(
                    type='ParallelAttention',
                    branches=[dict(type='STinC', num_segments=2)],
                )
            ),
            '4 in the backbone, 2 in the plugin STinC',
        ),
        (dict(cfg=dict(type='CinST'), postion='after_norm1'), 'got postion'),
        (
            dict(cfg=dict(type='CinST'), pathways=('slow',)),
            r"pathways out of none, got \('slow',\). Only SlowFast",
        ),
        (
            dict(cfg=dict(type='CinST', num_segments=8)),
            '4 in the backbone, 8 in the plugin CinST',
        ),
        (
            dict(cfg=dict(type='CinST', channels=8)),
            'Expected a layer with its options',
        ),
        (dict(cfg=dict(type='ParallelAttention')), 'expected the branches'),
        (dict(cfg=dict(type='BN2d')), 'BN2d takes num_features'),
        (dict(type='CinST'), 'expected entries like'),
        (dict(cfg='CinST'), 'expected cfg to be a dict'),
    ],
)
def test_bad_entries(bad, error):
    model = build_aia('tsn', plugins=[])
    keys = list(model.state_dict())
    with pytest.raises((TypeError, ValueError), match=error):
        insert_plugins(model, [*CINST, bad])
    assert list(model.state_dict()) == keys, 'the model was changed'


def test_plugins_must_be_a_list():
    with pytest.raises(TypeError, match='or a list of dicts'):
        build_aia('tsn', plugins=CINST[0])


def test_two_plugins_disagree():
    cfgs = [dict(type='CinST', num_segments=n) for n in (8, 4)]
    with pytest.raises(ValueError, match='8 in the plugin.*4 in the plugin'):
        insert_plugins(build_plain('tsm'), [dict(cfg=cfg) for cfg in cfgs])


def test_not_a_backbone():
    with pytest.raises(TypeError, match='expected a backbone.*got Linear'):
        insert_plugins(nn.Linear(2, 2), CINST)


def test_activation_with_parameters():
    with pytest.raises(ValueError, match='activation without parameters'):
        build_aia(
            'tsn',
            act_cfg=dict(type='PReLU'),
            plugins=[{**CINST[0], 'position': 'after_norm1'}],
        )


class TestNumSegments:
    def test_missing(self):
        with pytest.raises(ValueError, match='one num_segments.*got none'):
            insert_plugins(build_plain('tsn'), CINST)

    def test_argument_against_backbone(self):
        with pytest.raises(ValueError, match='8 in the argument, 4 in the backbone'):
            insert_plugins(build_plain('tsm'), CINST, num_segments=8)

    def test_head_against_backbone(self):
        recognizer = MODELS.build(
            dict(
                type='Recognizer2D',
                backbone=dict(type='ResNetTSM', depth=18, num_segments=4),
                cls_head=dict(type='TSMHead', num_classes=3, in_channels=512),
            )
        )
        with pytest.raises(ValueError, match='4 in the backbone, 8 in the head'):
            insert_plugins(recognizer, CINST)

    def test_useless_in_a_plugin_for_3d(self):
        plugins = [dict(cfg=dict(type='CinST', num_segments=4))]
        with pytest.raises(ValueError, match='got 4 in the plugin CinST'):
            build_aia('r2plus1d', plugins=plugins)

    def test_useless_for_3d(self):
        with pytest.raises(ValueError, match='expected no num_segments'):
            insert_plugins(build_plain('r2plus1d'), CINST, num_segments=4)

    @pytest.mark.parametrize('name', [n for n in NETWORKS if 'ts' in n])
    def test_does_not_divide_the_batch(self, name):
        with pytest.raises(ValueError, match='num_segments=4 frames, got a batch of 6'):
            build_aia(name)(make_input(name)[:6])
