"""The networks here are written from the authors' key names and the paper's
equations, with nothing of aia_mmaction or MMAction2 in them: a converted
checkpoint is right if MMAction2's recognizer computes the same scores.
"""

import argparse
import functools
import re
import sys

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.fileio import list_from_file
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from torch import nn

from aia_mmaction.conversion import files, official
from aia_mmaction.datasets.flip_by_label_name import SHIPPED
from tools import convert_official_checkpoint as tool

from ..conftest import REPO, exhaustive_but, run

TOOL = REPO / 'tools/convert_official_checkpoint.py'


# module: (layers, how they are joined)
MODULES = {
    'C': (['C'], 'cascade'),
    'ST': (['ST'], 'cascade'),
    'C2ST': (['C', 'ST'], 'cascade'),
    'ST2C': (['ST', 'C'], 'cascade'),
    'CplusST': (['C', 'ST'], 'parallel'),
    'CinST': (['CinST'], 'cascade'),
    'STinC': (['STinC'], 'cascade'),
    'CinST2STinC': (['CinST', 'STinC'], 'cascade'),
    'STinC2CinST': (['STinC', 'CinST'], 'cascade'),
    'STinCplusCinST': (['STinC', 'CinST'], 'parallel'),
}
COUNTS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
SEGMENTS = 8
LABELS = ['turning', 'Pushing', 'pulling', 'Älter', 'lifting']


@pytest.fixture(autouse=True)
def one_thread():
    """The clips are small: threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Attention(nn.Module):
    """One of C, ST, CinST, STinC on features [N * T, C, H, W]."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        for axis in {'C': 'C', 'ST': 'THW'}.get(kind, 'CTHW'):
            self.add_module(f'{axis}_conv', nn.Conv3d(2, 1, 3, padding=1, bias=False))
            self.add_module(f'{axis}_bn', nn.BatchNorm3d(1))

    def gate(self, x, axis):
        order = {'C': 'CTHW', 'T': 'TCHW', 'H': 'HTCW', 'W': 'WTHC'}[axis]
        order = [0] + ['NCTHW'.index(a) for a in order]
        y = x.permute(order)
        y = torch.stack([y.max(dim=1).values, y.mean(dim=1)], dim=1)
        y = getattr(self, f'{axis}_bn')(getattr(self, f'{axis}_conv')(y))
        return y.sigmoid().permute([order.index(i) for i in range(5)])

    def st_gate(self, x):
        return sum(self.gate(x, axis) for axis in 'THW') / 3

    def forward(self, x):
        x = x.unflatten(0, (-1, SEGMENTS)).transpose(1, 2)
        if self.kind == 'C':
            x = x * self.gate(x, 'C')
        elif self.kind == 'ST':
            x = x * self.st_gate(x)
        elif self.kind == 'CinST':
            x = x * self.st_gate(x * self.gate(x, 'C'))
        elif self.kind == 'STinC':
            x = x * self.gate(x * self.st_gate(x), 'C')
        return x.transpose(1, 2).flatten(0, 1)


def shift(x):
    """The authors shift in the forward pass, so that no name tells of it."""
    x = x.unflatten(0, (-1, SEGMENTS))
    out, fold = x.clone(), x.shape[2] // 8
    out[:, :-1, :fold] = x[:, 1:, :fold]
    out[:, -1, :fold] = 0
    out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
    out[:, 0, fold : 2 * fold] = 0
    return out.flatten(0, 1)


class Bottleneck(nn.Module):
    def __init__(self, inplanes, planes, stride, module, shifted):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.shifted = shifted
        self.downsample = nn.Identity()
        if stride > 1 or inplanes != 4 * planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, 4 * planes, 1, stride, bias=False),
                nn.BatchNorm2d(4 * planes),
            )
        layers, self.joined = MODULES[module] if module else ([], 'cascade')
        self.names = ['eft'] if len(layers) == 1 else ['eft1', 'eft2']
        self.names = self.names[: len(layers)]
        for name, kind in zip(self.names, layers):
            self.add_module(name, Attention(kind))

    def attend(self, x):
        layers = [getattr(self, name) for name in self.names]
        if self.joined == 'parallel':
            return (layers[0](x) + layers[1](x)) / 2
        for layer in layers:
            x = layer(x)
        return x

    def forward(self, x):
        out = self.conv1(shift(x) if self.shifted else x)
        out = self.bn1(out).relu()
        out = self.attend(self.bn2(self.conv2(out))).relu()
        out = self.bn3(self.conv3(out))
        return (out + self.downsample(x)).relu()


class Base(nn.Module):
    def __init__(self, depth, module, attended, shifted):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inplanes = 64
        for stage, count in enumerate(COUNTS[depth], start=1):
            planes, blocks = 32 * 2**stage, []
            for i in range(count):
                blocks.append(
                    Bottleneck(
                        inplanes,
                        planes,
                        2 if stage > 1 and i == 0 else 1,
                        module if (stage, i) in attended else None,
                        (stage, i) in shifted,
                    )
                )
                inplanes = 4 * planes
            self.add_module(f'layer{stage}', nn.Sequential(*blocks))

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class AuthorsNetwork(nn.Module):
    def __init__(self, depth, module, attended, shifted, num_classes):
        super().__init__()
        self.base_model = Base(depth, module, attended, shifted)
        self.new_fc = nn.Linear(2048, num_classes)

    def forward(self, x):  # [N, T, 3, H, W] -> [N, num_classes]
        x = self.base_model(x.flatten(0, 1)).mean(dim=(2, 3))
        return self.new_fc(x).unflatten(0, (-1, SEGMENTS)).mean(dim=1)


def all_blocks(depth):
    return {
        (stage, i)
        for stage, count in enumerate(COUNTS[depth], start=1)
        for i in range(count)
    }


def authors_blocks(depth):
    """Where the authors attend, and shift: 0, 2, 4, ... of a long layer3."""
    return {
        (stage, i)
        for stage, i in all_blocks(depth)
        if not (depth == 101 and stage == 3 and i % 2)
    }


def authors_network(module, tsm=False, depth=50, shifted=None, classes=5):
    if shifted is None:
        shifted = authors_blocks(depth) if tsm else ()
    # Names count here, and the values are drawn below.
    with torch.device('meta'):
        network = AuthorsNetwork(depth, module, authors_blocks(depth), shifted, classes)
    network = network.to_empty(device='cpu').eval()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith('num_batches_tracked'):
            tensor.fill_(7)
        elif name.endswith('running_var') or (
            tensor.dim() == 1 and name.endswith('weight')
        ):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.dim() == 4:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
        elif tensor.dim() == 5:  # gates that are far from flat
            tensor.normal_(0, 1, generator=generator)
        else:
            tensor.normal_(0, 0.1, generator=generator)
    return network


def with_prefix(state_dict, prefix='module.'):
    return {prefix + key: tensor for key, tensor in state_dict.items()}


def state_dict_of(*args, **kwargs):
    return with_prefix(authors_network(*args, **kwargs).state_dict())


def with_net(state_dict, shifted=None):
    """With the original TSM repository's names of the shifted convolutions."""
    blocks = shifted or authors_blocks(50)
    pattern = '|'.join(rf'layer{stage}\.{i}' for stage, i in blocks)
    return edited(state_dict, rename=(rf'({pattern})\.conv1\.w', r'\1.conv1.net.w'))


@functools.lru_cache(maxsize=None)
def shell_of(*args, **kwargs):
    """Keys as in state_dict_of, with tensors that are cheap to write."""
    return {key: torch.zeros(5) for key in state_dict_of(*args, **kwargs)}


@pytest.fixture(scope='module')
def tsn_cinst():
    return state_dict_of('CinST')


def score_difference(network, recognizer):
    """Between the class scores of a clip, relative to the largest."""
    x = torch.randn(1, SEGMENTS, 3, 32, 32)
    with torch.no_grad():
        expected = network(x)
        feats, _ = recognizer.eval().extract_feat(x)
        got = recognizer.cls_head(feats, SEGMENTS)
    assert got.shape == expected.shape and expected.std() > 1e-3
    return ((got - expected).abs().max() / expected.abs().max()).item()


def assert_identical(got, expected):
    """Keys, their order, dtypes and bits."""
    assert list(got) == list(expected)
    for key, tensor in expected.items():
        assert got[key].dtype == tensor.dtype, key
        assert torch.equal(got[key], tensor), key


def convert(monkeypatch, capsys, *args):
    """Run the tool in this process, and return what it printed."""
    if not {'--backbone', '--reverse'} & set(args):
        args = (*args, '--backbone', 'tsn')
    monkeypatch.setattr(sys, 'argv', ['tool', *map(str, args)])
    tool.main()
    return capsys.readouterr().out


def to_mmaction2(*args, backbone='tsn', **kwargs):
    return official.to_mmaction2(*args, backbone=backbone, **kwargs)


# --- every layout ---

# Each module, and the shift with each way of joining two layers
MODULE_CASES = [
    *((module, False) for module in (None, *MODULES)),
    *((module, True) for module in (None, 'CinST', 'C2ST', 'STinCplusCinST')),
]


# One of a kind: none, one layer, two one after another, two in parallel
HOW_OFTEN = {
    'CinST': (),
    None: pytest.mark.slow,
    'C2ST': pytest.mark.slow,
    'STinCplusCinST': pytest.mark.slow,
}


@pytest.mark.parametrize(
    'module, tsm',
    [
        pytest.param(*case, marks=HOW_OFTEN.get(case[0], pytest.mark.exhaustive))
        for case in MODULE_CASES
    ],
)
def test_resnet50(module, tsm):
    network = authors_network(module, tsm)
    source = network.state_dict()
    if not tsm:
        source = with_prefix(source)

    backbone = 'tsm' if tsm else 'tsn'
    recognizer, found, converted = to_mmaction2(source, module, backbone=backbone)

    assert str(found) == (
        f'{"TSM" if tsm else "TSN"}, ResNet-50, 5 classes, '
        + (f'attention {module} in 16 blocks' if module else 'no attention')
    )
    recognizer.load_state_dict(converted['state_dict'], strict=True)
    assert_identical(official.to_authors(converted)[1]['state_dict'], dict(source))
    assert score_difference(network, recognizer) < 1e-5


MMACTION2_BLOCKS = {block for block in all_blocks(101) if block[1] % 2 == 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    'module, shifted, argument',
    [
        ('CinST', (), None),
        ('CinST', authors_blocks(101), True),
        (None, authors_blocks(101), True),
    ],
)
def test_resnet101(module, shifted, argument):
    network = authors_network(module, depth=101, shifted=shifted)
    source = with_prefix(network.state_dict())
    backbone = 'tsm' if shifted else 'tsn'
    recognizer, found, converted = to_mmaction2(source, module, backbone=backbone)
    # 3 + 4 + 12 + 3
    assert str(found) == (
        f'{"TSM" if shifted else "TSN"}, ResNet-101, 5 classes, '
        + (f'attention {module} in 22 blocks' if module else 'no attention')
    )
    backbone = official.model_config(found)['backbone']
    assert backbone.get('shift_short_stages') is argument
    recognizer.load_state_dict(converted['state_dict'], strict=True)
    assert_identical(official.to_authors(converted)[1]['state_dict'], source)
    assert score_difference(network, recognizer) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    'depth, shifted, argument',
    [
        (50, authors_blocks(50), None),
        (101, authors_blocks(101), True),
        (101, MMACTION2_BLOCKS, None),
    ],
    ids=['R50', 'R101', 'R101 of MMAction2'],
)
@pytest.mark.parametrize('backbone', [None, 'tsm'])
def test_names_of_the_original_tsm(depth, shifted, argument, backbone):
    """They say themselves that it is a TSM."""
    network = authors_network('STinC', depth=depth, shifted=shifted)
    source = with_net(network.state_dict(), shifted)
    recognizer, found, converted = to_mmaction2(source, 'STinC', backbone=backbone)
    assert found.tsm
    config = official.model_config(found)['backbone']
    assert config.get('shift_short_stages') is argument
    recognizer.load_state_dict(converted['state_dict'], strict=True)
    assert_identical(official.to_authors(converted)[1]['state_dict'], source)
    assert score_difference(network, recognizer) < 1e-5


def test_the_backbone_decides_what_is_computed():
    network = authors_network('CinST', tsm=True)
    recognizer, _, converted = to_mmaction2(network.state_dict(), 'CinST')
    recognizer.load_state_dict(converted['state_dict'], strict=True)
    assert score_difference(network, recognizer) > 1e-2


def test_the_backbone_has_to_be_said():
    with pytest.raises(
        official.ConversionError, match='--backbone tsn or --backbone tsm'
    ):
        to_mmaction2(shell_of('CinST'), 'CinST', backbone=None)
    source = with_net(shell_of('CinST', tsm=True))
    with pytest.raises(official.ConversionError, match='Use --backbone tsm'):
        to_mmaction2(source, 'CinST', backbone='tsn')


def test_the_module_decides_what_is_computed():
    """The comparison of scores would see a wrong module."""
    network = authors_network('CinST')
    recognizer, _, converted = to_mmaction2(network.state_dict(), 'STinC')
    recognizer.load_state_dict(converted['state_dict'], strict=True)
    assert score_difference(network, recognizer) > 1e-2


def test_input_is_neither_changed_nor_shared(tsn_cinst):
    before = {key: tensor.clone() for key, tensor in tsn_cinst.items()}
    converted = to_mmaction2(tsn_cinst, 'CinST', LABELS)[2]
    copy = {k: t.clone() for k, t in converted['state_dict'].items()}
    back = official.to_authors(converted, labels=LABELS)[1]
    for tensor in back['state_dict'].values():
        tensor.zero_()
    assert_identical(converted['state_dict'], copy)
    for tensor in converted['state_dict'].values():
        tensor.zero_()
    assert_identical(tsn_cinst, before)


def test_dtypes_and_order_of_the_file(tsn_cinst):
    source = {
        key: tsn_cinst[key].half() if 'conv3' in key else tsn_cinst[key]
        for key in sorted(tsn_cinst)
    }
    source['module.new_fc.bias'][0] = float('-inf')
    converted = to_mmaction2(source, 'CinST')[2]
    assert_identical(official.to_authors(converted)[1]['state_dict'], source)


def test_without_num_batches_tracked(tsn_cinst, tmp_path):
    """As PyTorch before 0.4.1 wrote it."""
    source = {
        key: tensor
        for key, tensor in tsn_cinst.items()
        if not key.endswith('num_batches_tracked')
    }
    recognizer, _, converted = to_mmaction2(source, 'CinST')
    files.write_checkpoint(converted, tmp_path / 'out.pth', recognizer)
    assert_identical(official.to_authors(converted)[1]['state_dict'], source)


# --- the classifier's order ---


def test_label_order(tsn_cinst):
    """A class keeps its row, whatever its number is."""
    weight, bias = (tsn_cinst[f'module.new_fc.{part}'] for part in ('weight', 'bias'))
    converted = to_mmaction2(tsn_cinst, 'CinST', LABELS)[2]
    # ASCII capitals, small letters, the rest: Python's order, as the authors'
    authors = ['Pushing', 'lifting', 'pulling', 'turning', 'Älter']
    for i, name in enumerate(LABELS):
        for part, tensor in (('weight', weight), ('bias', bias)):
            got = converted['state_dict'][f'cls_head.fc_cls.{part}'][i]
            assert torch.equal(got, tensor[authors.index(name)])
    back = official.to_authors(converted, labels=LABELS)[1]
    assert_identical(back['state_dict'], tsn_cinst)


def test_label_order_is_remembered(tsn_cinst):
    sorted_by_them = to_mmaction2(tsn_cinst, 'CinST', LABELS)[2]
    with pytest.raises(official.ConversionError, match='Give the same label file'):
        official.to_authors(sorted_by_them)
    as_it_is = to_mmaction2(tsn_cinst, 'CinST')[2]
    with pytest.raises(official.ConversionError, match='Leave it out'):
        official.to_authors(as_it_is, labels=LABELS)


@pytest.mark.parametrize(
    'content, error',
    [
        (None, 'got No such file or directory. Check the path'),
        ('b\n\na\n', 'an empty line 2. Remove it'),
        ('', 'an empty line 1'),
        ('b\na\nb\n', "'b' 2 times. Give the label file"),
        ('a\nb\nc\n', 'sorted names, which would change nothing. Leave'),
        ('b\nä'.encode('latin-1'), 'in UTF-8'),
        (
            'c\nb\na\n',
            'expected 5 names in the file of --label-order, one for '
            'each class of the checkpoint, got 3',
        ),
    ],
)
def test_wrong_label_file(content, error, tmp_path, tsn_cinst, monkeypatch, capsys):
    labels = tmp_path / 'labels.txt'
    if content is not None:
        labels.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(files.torch, 'load', lambda *_, **__: tsn_cinst)
    (tmp_path / 'in.pth').touch()
    with pytest.raises(SystemExit, match=error):
        convert(
            monkeypatch,
            capsys,
            tmp_path / 'in.pth',
            tmp_path / 'out.pth',
            '--module',
            'CinST',
            '--label-order',
            labels,
        )
    assert not (tmp_path / 'out.pth').exists()


def test_label_file_of_windows(tmp_path):
    path = tmp_path / 'labels.txt'
    path.write_bytes('\r\n'.join(LABELS).encode('utf-8-sig'))
    assert files.read_labels(path) == LABELS


# --- commands ---


@pytest.mark.slow
def test_commands(tmp_path):
    """There and back as a user does it, with a config of this repository."""
    source = state_dict_of('CinST', tsm=True, classes=174)
    torch.save(
        dict(
            epoch=50,
            arch='resnet50',
            state_dict=source,
            best_prec1=torch.tensor(48.5),
            optimizer=dict(state={}, param_groups=[dict(lr=0.01)]),
        ),
        tmp_path / 'authors.pth.tar',
    )
    names = [f'class {i}' for i in range(174)]
    (tmp_path / 'labels.txt').write_text('\n'.join(names) + '\n')
    command = (sys.executable, TOOL)
    order = ('--label-order', 'labels.txt')

    out = run(
        *command,
        'authors.pth.tar',
        'aia.pth',
        '--backbone',
        'tsm',
        '--module',
        'CinST',
        *order,
        cwd=tmp_path,
    )

    assert (
        'authors.pth.tar: TSM, ResNet-50, 174 classes, attention CinST in 16 blocks'
    ) in out
    assert 'num_segments of backbone and head is not in the file' in out
    assert 'training state: epoch, arch, best_prec1, optimizer' in out
    assert 'without --label-order' not in out
    line = re.search(r'^Config: (model = .*)$', out, flags=re.MULTILINE)[1]
    assert line == (
        "model = dict(backbone=dict(type='AIAResNetTSM', depth=50, "
        "plugins='CinST'), cls_head=dict(num_classes=174))"
    )
    (tmp_path / 'config.py').write_text(
        f"_base_ = '{REPO}/configs/tsm_r50_cinst_sthv1.py'\n{line}\n"
    )
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.model.backbone.update(pretrained=None, pretrained2d=False)
    recognizer = official.MODELS.build(cfg.model)
    load_checkpoint(
        recognizer, str(tmp_path / 'aia.pth'), map_location='cpu', strict=True
    )
    assert torch.equal(
        recognizer.cls_head.fc_cls.weight[2],
        source['module.new_fc.weight'][sorted(names).index('class 2')],
    )

    run(*command, 'aia.pth', 'back.pth.tar', '--reverse', *order, cwd=tmp_path)
    back = torch.load(tmp_path / 'back.pth.tar', weights_only=True)
    assert_identical(back['state_dict'], source)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'aia.pth',
        'authors.pth.tar',
        'back.pth.tar',
        'config.py',
        'labels.txt',
    ]


@pytest.mark.slow
def test_a_checkpoint_of_training(tmp_path, monkeypatch, capsys):
    """What MMEngine saved has the authors' names, all of them."""
    expected = state_dict_of('C2ST', tsm=True, classes=174)
    recognizer, _, converted = to_mmaction2(expected, 'C2ST')
    recognizer.load_state_dict(converted['state_dict'])
    history = HistoryBuffer()
    history.update(0.5)
    torch.save(
        dict(
            meta=dict(epoch=1, cfg='...'),
            state_dict=recognizer.state_dict(),
            message_hub=dict(log_scalars={'train/loss': history}),
            optimizer=dict(state={}, param_groups=[]),
            param_schedulers=[dict(last_step=np.float64(3))],
        ),
        tmp_path / 'epoch_1.pth',
    )
    out = convert(
        monkeypatch, capsys, tmp_path / 'epoch_1.pth', tmp_path / 'out.pth', '--reverse'
    )
    assert (
        'attention C2ST in 16 blocks' in out and 'V1' in out and '--label-order' in out
    )
    assert 'training state: message_hub, optimizer, param_schedulers' in out
    got = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert_identical({key: got[key] for key in expected}, expected)
    assert set(got) == set(expected)


@pytest.mark.parametrize(
    'module, found',
    [
        ('CinST', 'CinST or STinC'),
        ('CplusST', 'CplusST'),
        ('STinC2CinST', 'CinST2STinC or STinC2CinST'),
        ('STinCplusCinST', 'STinCplusCinST'),
    ],
)
def test_what_reverse_can_tell(module, found):
    """Without our meta; a cascade and parallel modules differ in our keys."""
    converted = to_mmaction2(state_dict_of(module), module)[2]
    del converted['meta']
    assert f'attention {found} in' in str(official.to_authors(converted)[0])


@pytest.mark.slow
def test_reverse_of_mmaction2s_tsm_r101(tmp_path, monkeypatch, capsys):
    """Its names would be those of a network that shifts other blocks."""
    model = official.build_recognizer(
        official.Network(True, 101, False, 5, attended=22, modules=['C'])
    )
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'in.pth')
    with pytest.raises(SystemExit, match='shift_short_stages=True.*every second'):
        convert(
            monkeypatch, capsys, tmp_path / 'in.pth', tmp_path / 'out.pth', '--reverse'
        )
    assert not (tmp_path / 'out.pth').exists()


# --- errors ---


def edited(state_dict, remove=None, rename=None):
    """Without the keys that match, or with a part of the keys renamed."""
    result = {
        key: tensor
        for key, tensor in state_dict.items()
        if not (remove and re.search(remove, key))
    }
    if rename:
        result = {re.sub(*rename, key): t for key, t in result.items()}
    return result


def shell_of_ours():
    return {
        'backbone.layer1.0.conv2.conv.weight': torch.zeros(5),
        'cls_head.fc_cls.weight': torch.zeros(5),
    }


EFT, TSM101 = dict(module='CinST'), dict(module='CinST', tsm=True, depth=101)

# What is wrong: the keys, the options, and what the error says.
KEY_ERRORS = {
    'another project': (
        lambda: {'encoder.weight': torch.zeros(5), 'fc.bias': torch.zeros(5)},
        [],
        'expected keys such as .* got 2 keys without them: encoder.weight, '
        'fc.bias, ... Is it the checkpoint of another project',
    ),
    'torchvision': (
        lambda: edited(shell_of(**EFT), rename=(r'module.(base_model\.)?', '')),
        ['--module', 'CinST'],
        'another project',
    ),
    'MMAction2, forward': (shell_of_ours, [], 'Use --reverse'),
    'authors, reverse': (
        lambda: edited(shell_of(**EFT), rename=(r'module\.', '')),
        ['--reverse'],
        'Leave --reverse out',
    ),
    'authors with prefix, reverse': (
        lambda: shell_of(**EFT),
        ['--reverse'],
        'Leave --reverse out',
    ),
    'prefix in some keys': (
        lambda: edited(shell_of(**EFT), rename=(r'^module\.new', 'new')),
        [],
        'expected all keys to start with "module.", or none, .*new_fc.weight',
    ),
    'ResNet-152': (
        lambda: {
            **shell_of(**EFT),
            'module.base_model.layer3.6.conv1.weight': torch.zeros(5),
        },
        [],
        r'\(3, 4, 6, 3\) or ResNet-101 .* got 3, 4, 7, 3 blocks',
    ),
    'a block is missing': (
        lambda: edited(shell_of(**EFT), remove=r'layer2\.3'),
        [],
        'got 3, 3, 6, 3 blocks',
    ),
    'ResNet-34': (
        lambda: edited(shell_of(**EFT), remove='conv3|bn3'),
        [],
        'without conv3 .ResNet-18 or 34',
    ),
    'shift in some blocks': (
        lambda: edited(
            with_net(shell_of('CinST', tsm=True)),
            rename=(r'layer2\.1\.conv1\.net', 'layer2.1.conv1'),
        ),
        [],
        'got it in 15 of 16 blocks: not in layer2.1',
    ),
    'shift in all of a long stage': (
        lambda: edited(
            with_net(shell_of(**TSM101), authors_blocks(101)),
            rename=(r'layer3\.(\d+)\.conv1\.weight', r'layer3.\1.conv1.net.weight'),
        ),
        [],
        'got it in 33 of 33 blocks: but in layer3.1',
    ),
    'mixed modules': (
        lambda: edited(shell_of(**EFT), remove=r'layer2\.1\.eft\.C'),
        [],
        'eft with gates CHTW in layer1.0 and eft with gates HTW in layer2.1',
    ),
    'cascade in one block': (
        lambda: edited(
            shell_of(**EFT), rename=(r'layer4\.2\.eft\.C', 'layer4.2.eft1.C')
        ),
        [],
        'in layer1.0 and eft with gates HTW, eft1 with gates C in layer4.2',
    ),
    'no attention in a block': (
        lambda: edited(shell_of(**EFT), remove=r'layer4\.1\.eft'),
        [],
        'got it in 15 of 16 blocks: not in layer4.1',
    ),
    'attention in an odd block of a long stage': (
        lambda: edited(shell_of(**TSM101), rename=(r'layer3\.4\.eft', 'layer3.5.eft')),
        [],
        'got it in 22 of 33 blocks: not in layer3.4, but in layer3.5',
    ),
    'no such module': (
        lambda: edited(shell_of(**EFT), remove=r'eft\.T'),
        [],
        'got eft with gates CHW',
    ),
    'several modules': (lambda: shell_of(**EFT), [], 'the keys fit CinST, STinC alike'),
    'several double modules': (
        lambda: shell_of('CinST2STinC'),
        [],
        'the keys fit CinST2STinC, STinC2CinST, STinCplusCinST alike',
    ),
    'cascade or parallel': (
        lambda: shell_of('C2ST'),
        [],
        'the keys fit C2ST, CplusST alike',
    ),
    'another module': (
        lambda: shell_of(**EFT),
        ['--module', 'C2ST'],
        'expected CinST or STinC, .* got --module C2ST',
    ),
    'a module for none': (
        lambda: shell_of(None),
        ['--module', 'C'],
        'expected no attention, .* Leave --module out',
    ),
    'shapes': (
        lambda: shell_of('C'),
        [],
        r'missing|has shape \(5,\), expected \(64, 3, 7, 7\)',
    ),
}


@pytest.mark.parametrize(
    'case',
    exhaustive_but(['another project', 'ResNet-34', 'mixed modules'], KEY_ERRORS),
)
def test_wrong_keys(case, tmp_path, monkeypatch, capsys):
    make, options, error = KEY_ERRORS[case]
    src = tmp_path / 'in.pth'
    torch.save(dict(state_dict=make()), src)
    with pytest.raises(SystemExit) as raised:
        convert(monkeypatch, capsys, src, tmp_path / 'out.pth', *options)
    message = str(raised.value)
    assert re.search(error, message), message
    assert message.startswith(f'{src}: expected ') and ', got ' in message
    assert list(tmp_path.iterdir()) == [src]


@pytest.mark.parametrize(
    'edit, error',
    [
        (
            lambda s: s.pop('module.base_model.layer1.0.bn1.running_var'),
            'missing base_model.layer1.0.bn1.running_var',
        ),
        (
            lambda s: s.pop('module.base_model.layer1.0.bn1.num_batches_tracked'),
            'missing base_model.layer1.0.bn1.num_batches_tracked',
        ),
        (
            lambda s: s.pop('module.base_model.layer3.5.eft.W_bn.bias'),
            'missing base_model.layer3.5.eft.W_bn.bias',
        ),
        (
            lambda s: s.update({'module.base_model.fc.weight': torch.zeros(5)}),
            'unknown base_model.fc.weight',
        ),
        (
            lambda s: s.update({'module.new_fc.weight': torch.zeros(5, 512)}),
            r'new_fc.weight has shape \(5, 512\), expected \(5, 2048\)',
        ),
        (
            lambda s: s.update({'module.new_fc.weight': torch.tensor(1.0)}),
            r'new_fc.weight has shape \(\)',
        ),
        (
            lambda s: s.update(
                {'module.base_model.layer4.0.eft.T_conv.weight': torch.zeros(1)}
            ),
            r'eft.T_conv.weight has shape \(1,\), expected \(1, 2, 3, 3, 3\)',
        ),
    ],
)
def test_every_key_counts(edit, error, tsn_cinst):
    source = dict(tsn_cinst)
    edit(source)
    with pytest.raises(official.ConversionError, match=error):
        to_mmaction2(source, 'CinST')


def test_every_key_counts_in_reverse(tsn_cinst):
    state_dict = to_mmaction2(tsn_cinst, 'CinST')[2]['state_dict']
    last = 'backbone.layer4.2.conv2.activate.after_norm.0.gate_c.norm.bias'
    missing = {key: state_dict[key] for key in state_dict if key != last}
    with pytest.raises(official.ConversionError, match=f'missing {last}'):
        official.to_authors(dict(state_dict=missing))
    for extra in (
        'neck.weight',
        last.replace('conv2', 'conv3'),
        last.replace('after_norm', 'after_conv'),
    ):
        with pytest.raises(official.ConversionError, match=f'unknown {extra}'):
            official.to_authors(dict(state_dict={**state_dict, extra: torch.zeros(1)}))


def test_parallel_and_cascade_are_not_mixed_up():
    """They have the same names in the authors' layout."""
    state_dict = to_mmaction2(state_dict_of('C2ST'), 'C2ST')[2]['state_dict']
    mixed = edited(
        state_dict, rename=(r'(layer4\.2.*after_norm)\.(\d)\.', r'\1.0.branches.\2.')
    )
    with pytest.raises(
        official.ConversionError, match=r'missing \S*layer1.0\S*branches'
    ):
        official.to_authors(dict(state_dict=mixed))


def write_truncated(path, zipped, keep):
    torch.save(
        dict(state_dict=shell_of('CinST')), path, _use_new_zipfile_serialization=zipped
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


FILE_ERRORS = {
    'nothing': (lambda path: path.touch(), 'may be truncated'),
    'truncated': (lambda path: write_truncated(path, True, 0.9), 'may be truncated'),
    'truncated in the middle': (
        lambda path: write_truncated(path, True, 0.5),
        'may be truncated',
    ),
    'truncated, old format': (
        lambda path: write_truncated(path, False, 0.9),
        'may be truncated',
    ),
    'text': (lambda path: path.write_text('hello world'), 'cannot read'),
    'code': (
        lambda path: torch.save(dict(state_dict={}, args=argparse.Namespace()), path),
        'got a pickle of argparse.Namespace, which could run code',
    ),
    'missing': (lambda path: None, 'no such file'),
    'folder': (lambda path: path.mkdir(), 'got a folder'),
    'tensor': (lambda path: torch.save(torch.zeros(1), path), 'got a Tensor'),
    'no tensors': (
        lambda path: torch.save(dict(epoch=1, arch='x'), path),
        'got a dict with epoch, arch',
    ),
    'empty': (
        lambda path: torch.save(dict(state_dict={}), path),
        'expected a state_dict of named tensors',
    ),
    'list': (
        lambda path: torch.save(dict(state_dict=[1]), path),
        'expected a state_dict of named tensors',
    ),
}


@pytest.mark.parametrize('case', FILE_ERRORS)
def test_bad_file(case, tmp_path, monkeypatch, capsys):
    make, error = FILE_ERRORS[case]
    src = tmp_path / 'in.pth'
    make(src)
    with pytest.raises(SystemExit, match=error) as raised:
        convert(monkeypatch, capsys, src, tmp_path / 'out.pth')
    assert str(raised.value).startswith(f'{src}: expected ')
    assert list(tmp_path.iterdir()) == ([] if case == 'missing' else [src])


def test_bad_destination(tmp_path, monkeypatch, capsys):
    src, there = tmp_path / 'in.pth', tmp_path / 'there.pth'
    src.write_text('source')
    there.write_text('precious')
    for dst, error in (
        (src, 'the same. Choose another DST'),
        (tmp_path / '..' / tmp_path.name / 'in.pth', 'the same'),
        (there, 'got one that does'),
        (tmp_path, 'got a folder'),
        (tmp_path / 'none' / 'x.pth', 'Create it first'),
    ):
        with pytest.raises(SystemExit, match=error):
            convert(monkeypatch, capsys, src, dst)
    assert (src.read_text(), there.read_text()) == ('source', 'precious')


@pytest.mark.parametrize('error', [OSError, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_half_written(error, tmp_path, monkeypatch):
    dst = tmp_path / 'out.pth'

    def save(checkpoint, path):
        assert path.parent.parent == tmp_path
        path.write_bytes(b'half')
        raise error('No space left')

    monkeypatch.setattr(files.torch, 'save', save)
    with pytest.raises(
        error if error is KeyboardInterrupt else files.FileError, match='No space left'
    ):
        files.write_checkpoint(dict(state_dict={}), dst)
    assert not list(tmp_path.iterdir())


def test_written_only_if_it_loads(tmp_path):
    with pytest.raises(files.FileError, match='missing keys'):
        files.write_checkpoint(
            dict(state_dict={}), tmp_path / 'out.pth', nn.Linear(1, 1)
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_command_fails_without_traceback(tmp_path):
    torch.save(shell_of('CinST'), tmp_path / 'in.pth')
    out = run(
        sys.executable,
        TOOL,
        'in.pth',
        'out.pth',
        '--backbone',
        'tsn',
        cwd=tmp_path,
        check=False,
    )
    assert 'expected --module' in out and 'Traceback' not in out
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


@pytest.mark.parametrize(
    'args, output',
    [
        (['in.pth', 'out.pth', '--module', 'Cinst'], "invalid choice: 'Cinst'"),
        (['--help'], 'is the one that the name says first'),
    ],
)
def test_usage(args, output, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        convert(monkeypatch, capsys, *args)
    assert output in ''.join(capsys.readouterr())


# --- the backbone of the authors' TSM-R101 ---


def shifted_blocks(backbone):
    names = [name for name, _ in backbone.named_parameters()]
    found = (
        re.match(r'layer(\d)\.(?:net\.)?(\d+)\.conv1\.conv\.net', name)
        for name in names
    )
    return {(int(match[1]), int(match[2])) for match in found if match}


def build_tsm(**kwargs):
    # Values do not matter, and R101 is large.
    with torch.device('meta'):
        return official.MODELS.build(
            dict(type='AIAResNetTSM', pretrained=None, pretrained2d=False, **kwargs)
        )


@pytest.mark.parametrize(
    'depth, option, expected',
    [
        (50, False, all_blocks(50)),
        (50, True, all_blocks(50)),
        (101, False, MMACTION2_BLOCKS),
        (101, True, authors_blocks(101)),
    ],
)
def test_shift_short_stages(depth, option, expected):
    backbone = build_tsm(depth=depth, shift_short_stages=option)
    assert shifted_blocks(backbone) == expected
    assert not any('.net.net' in name for name in backbone.state_dict())
    assert shifted_blocks(build_tsm(depth=depth)) == (
        all_blocks(50) if depth == 50 else MMACTION2_BLOCKS
    )


def test_shift_short_stages_keeps_the_stages_settings():
    backbone = build_tsm(
        depth=101,
        num_segments=8,
        shift_div=4,
        temporal_pool=True,
        shift_short_stages=True,
    )
    assert shifted_blocks(backbone) == authors_blocks(101)
    shifts = {
        name: (module.num_segments, module.shift_div)
        for name, module in backbone.named_modules()
        if type(module).__name__ == 'TemporalShift'
    }
    assert shifts['layer1.1.conv1.conv'] == (8, 4)
    assert shifts['layer2.net.1.conv1.conv'] == (4, 4)
    assert shifts['layer4.1.conv1.conv'] == (4, 4)


@pytest.mark.parametrize('options', [dict(is_shift=False), dict(shift_place='block')])
def test_shift_short_stages_needs_the_shift(options):
    with pytest.raises(ValueError, match='Leave shift_short_stages out'):
        build_tsm(depth=50, shift_short_stages=True, **options)
    build_tsm(depth=50, **options)


def test_v1_names_in_another_order(tmp_path):
    names = list_from_file(SHIPPED / 'sthv1.txt')
    path = tmp_path / 'labels.txt'
    path.write_text(''.join(f'{name}\n' for name in names))
    assert files.read_labels(path) == names
    path.write_text(''.join(f'{name}\n' for name in names[::-1]))
    with pytest.raises(files.FileError, match='order of the official label file'):
        files.read_labels(path)
