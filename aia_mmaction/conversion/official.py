"""The layout of the AIA authors' checkpoints, and MMAction2's.

Nothing but names tells what a file holds: the network, its depth and the
attention are read off them.
"""

import re
from collections import defaultdict
from typing import List, NamedTuple, Optional

from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

from aia_mmaction.plugins import PAPER_MODULES
from aia_mmaction.plugins.grammar import LONG_STAGE

DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}

# Keys by which a checkpoint of each layout is known, less ``module.``.
AUTHORS = ('base_model.layer1.0.conv2.weight', 'new_fc.weight')
MMACTION2 = ('backbone.layer1.0.conv2.conv.weight', 'cls_head.fc_cls.weight')


class ConversionError(ValueError):
    """The checkpoint cannot be converted; says why, and what to do."""


class Network(NamedTuple):
    """What the key names say."""

    tsm: Optional[bool]  # None where they cannot say it
    depth: int
    # TSM-R101 of the authors, which MMAction2 shifts differently
    shift_short_stages: bool
    num_classes: int
    attended: int  # number of blocks with attention
    modules: List[str]  # names that fit the keys, [] without attention

    def __str__(self):
        attention = (
            f'attention {" or ".join(self.modules)} in {self.attended} blocks'
            if self.modules
            else 'no attention'
        )
        return (
            f'{"TSM" if self.tsm else "TSN"}, ResNet-{self.depth}, '
            f'{self.num_classes} classes, {attention}'
        )


# --- names ---


def authors_names(keys, net=False):
    """The authors' name, less ``module.``, of each of MMAction2's names.

    With ``net``, a shifted convolution has the name that the original TSM
    repository gives it.
    """
    two_layers = any('.after_norm.1.' in key or '.branches.' in key for key in keys)

    def attention(match):
        layer, branch, axis, part = match.groups()
        part = dict(conv='conv', norm='bn')[part]
        number = int(branch or layer) + 1 if two_layers else ''
        return f'.eft{number}.{axis.upper()}_{part}'

    names = {}
    for key in keys:
        name = re.sub('^backbone', 'base_model', key)
        name = re.sub(r'^cls_head\.fc_cls', 'new_fc', name)
        name = re.sub(
            r'\.conv2\.activate\.after_norm\.(\d)(?:\.branches\.(\d))?'
            r'\.gate_([cthw])\.(conv|norm)',
            attention,
            name,
        )
        name = re.sub(r'\.downsample\.conv\.', '.downsample.0.', name)
        name = re.sub(r'\.downsample\.bn\.', '.downsample.1.', name)
        name = re.sub(r'\.conv(\d)\.conv\.', r'.conv\1.', name)
        if not net:
            name = name.replace('.conv1.net.', '.conv1.')
        name = re.sub(r'\.conv(\d)\.bn\.', r'.bn\1.', name)
        names[key] = name
    return names


def eft_layers(module):
    """The gates of a module, e.g. {'eft1': {'C'}, 'eft2': {'T', 'H', 'W'}}."""
    layers = []
    for entry in PAPER_MODULES[module]:
        layers += entry['cfg'].get('branches', [entry['cfg']])
    classes = [MODELS.get(layer['type']) for layer in layers]
    gates = [set(layer.axes.all()) for layer in classes]
    if len(gates) == 1:
        return {'eft': gates[0]}
    return {f'eft{i}': axes for i, axes in enumerate(gates, start=1)}


# --- what is in the file ---


def recognise(tensors):
    """Read the network off a state dict with the authors' names.

    Returns:
        Network: What was found.
    """
    blocks = defaultdict(set)  # names below each block, by stage and index
    for name in tensors:
        match = re.match(r'base_model\.layer([1-4])\.(\d+)\.(.+)', name)
        if match:
            blocks[int(match[1]), int(match[2])].add(match[3])
    depth = find_depth(blocks)
    # The authors attend to, and shift, every second block of a long stage.
    sizes = [stage for stage, _ in blocks]
    picked = {
        (stage, index)
        for stage, index in blocks
        if sizes.count(stage) < LONG_STAGE or index % 2 == 0
    }
    tsm, shift_short_stages = find_shift(blocks, picked)
    modules = find_modules(blocks, picked)
    return Network(
        tsm=tsm,
        depth=depth,
        shift_short_stages=shift_short_stages,
        num_classes=tensors['new_fc.weight'].shape[:1].numel(),
        attended=len(picked) if modules else 0,
        modules=modules,
    )


def find_depth(blocks):
    """ResNet-50 or 101, by the numbers of blocks in the stages."""
    counts = tuple(sum(stage == i for stage, _ in blocks) for i in (1, 2, 3, 4))
    bottleneck = any('conv3.weight' in names for names in blocks.values())
    if counts not in DEPTHS or not bottleneck:
        kind = '' if bottleneck else ' without conv3 (ResNet-18 or 34)'
        raise ConversionError(
            'expected the bottleneck blocks of ResNet-50 (3, 4, 6, 3) or '
            f'ResNet-101 (3, 4, 23, 3), got {", ".join(map(str, counts))} '
            f'blocks{kind} in layer1 to layer4. Other depths are not '
            'supported; if the network should have one of these, the file is '
            'incomplete.'
        )
    return DEPTHS[counts]


def find_shift(blocks, picked):
    """Whether it is a TSM, and one that needs shift_short_stages.

    (None, False) where the names cannot say it.
    """
    shifted = {block for block, names in blocks.items() if 'conv1.net.weight' in names}
    if not shifted:
        return None, False
    has_long_stage = picked != set(blocks)
    if shifted == picked:
        return True, has_long_stage
    if has_long_stage and shifted == {b for b in blocks if b[1] % 2 == 0}:
        return True, False  # what MMAction2 shifts
    raise ConversionError(
        'expected the temporal shift (conv1.net.weight) in no block, or in '
        'every block, of layer3 in ResNet-101 in every second one (0, 2, '
        f'...), got it in {len(shifted)} of {len(blocks)} blocks: '
        f'{difference(shifted, picked)}. No config gives such a network; is '
        'the file complete?'
    )


def find_modules(blocks, picked):
    """Names of the modules that fit the keys, [] if there is no attention."""
    attention = {}  # {'eft1': {'C'}, ...} of each block that has some
    for block, names in sorted(blocks.items()):
        for name in names:
            match = re.match(r'(eft\d*)\.([CTHW])_', name)
            if match:
                layers = attention.setdefault(block, {})
                layers.setdefault(match[1], set()).add(match[2])
    if not attention:
        return []
    first, layers = next(iter(attention.items()))
    for block, other in attention.items():
        if other != layers:
            raise ConversionError(
                'expected the same attention in all blocks, got '
                f'{_show_layers(layers)} in {_show(first)} and '
                f'{_show_layers(other)} in {_show(block)}. Mixed modules are '
                "not one of the paper's ten; is the file complete?"
            )
    if set(attention) != picked:
        raise ConversionError(
            'expected attention in every block, of layer3 in ResNet-101 in '
            f'every second one (0, 2, ...), got it in {len(attention)} of '
            f'{len(blocks)} blocks: {difference(set(attention), picked)}. '
            'Mixed networks are not supported; is the file complete?'
        )
    modules = [name for name in PAPER_MODULES if eft_layers(name) == layers]
    if not modules:
        raise ConversionError(
            "expected the attention of one of the paper's modules "
            f'({", ".join(PAPER_MODULES)}), got {_show_layers(layers)}. Is '
            'the file complete?'
        )
    return modules


def _show(block):
    return 'layer{}.{}'.format(*block)


def _show_layers(layers):
    return ', '.join(
        f'{name} with gates {"".join(sorted(axes))}'
        for name, axes in sorted(layers.items())
    )


def difference(got, expected):
    """One block of each kind of difference is enough to find the fault."""
    parts = [(expected - got, 'not in'), (got - expected, 'but in')]
    return ', '.join(f'{word} {_show(min(blocks))}' for blocks, word in parts if blocks)


# --- conversion ---


def split_prefix(state_dict):
    """``module.``, which DataParallel writes, and what is below it."""
    with_prefix = [key.startswith('module.') for key in state_dict]
    if not any(with_prefix):
        return '', state_dict
    if not all(with_prefix):
        odd = list(state_dict)[with_prefix.index(False)]
        raise ConversionError(
            'expected all keys to start with "module.", or none, got '
            f'{sum(with_prefix)} of {len(with_prefix)} that do, {odd} does '
            'not. Is this one checkpoint?'
        )
    return 'module.', {
        key[len('module.') :]: tensor for key, tensor in state_dict.items()
    }


def check_layout(state_dict, reverse):
    """A checkpoint of the layout to convert from, not something else."""
    wanted, other = (MMACTION2, AUTHORS) if reverse else (AUTHORS, MMACTION2)
    if set(wanted) <= set(state_dict):
        return
    if set(other) <= set(state_dict):
        raise ConversionError(
            "expected a checkpoint in MMAction2's layout, got one in the "
            "authors'. Leave --reverse out."
            if reverse
            else "expected a checkpoint in the authors' layout, got one in "
            "MMAction2's. Use --reverse to convert it to the authors'."
        )
    prefix = '' if reverse else ', with or without "module."'
    raise ConversionError(
        f'expected keys such as {" and ".join(wanted)}{prefix}, got '
        f'{len(state_dict)} keys without them: '
        f'{", ".join(list(state_dict)[:4])}, ... Is it the checkpoint of '
        'another project?'
    )


def choose_backbone(network, name):
    """A TSN or a TSM, as the names or else ``name`` say."""
    if network.tsm is None and name is None:
        raise ConversionError(
            'expected --backbone tsn or --backbone tsm, since the names in the '
            'file are the same for both, got none. Name the one that was trained.'
        )
    if network.tsm is None:
        # The authors shift every block that they attend to.
        tsm = name == 'tsm'
        shift = tsm and network.depth == 101
        return network._replace(tsm=tsm, shift_short_stages=shift)
    if name == 'tsn':
        raise ConversionError(
            'expected a TSN, as --backbone says, got the temporal shift '
            '(conv1.net.weight). Use --backbone tsm.'
        )
    return network


def choose_module(network, name, reverse):
    """Keep the modules that are meant of those that fit the keys."""
    fitting = network.modules
    if name is not None and name not in fitting:
        raise ConversionError(
            f'expected {" or ".join(fitting) or "no attention"}, which the '
            f'keys of the file say, got --module {name}. '
            f'{"Name another." if fitting else "Leave --module out."}'
        )
    # The authors' names are the same for all that fit.
    if name is None and len(fitting) > 1 and not reverse:
        raise ConversionError(
            f'expected --module, since the keys fit {", ".join(fitting)} '
            'alike, got none. Name the one that was trained, e.g. --module '
            f'{fitting[0]}.'
        )
    return network._replace(modules=[name] if name else fitting)


def model_config(network):
    """The parts of a config that the checkpoint decides."""
    backbone = dict(
        type='AIAResNetTSM' if network.tsm else 'AIAResNet', depth=network.depth
    )
    if network.shift_short_stages:
        backbone['shift_short_stages'] = True
    backbone['plugins'] = network.modules[0] if network.modules else []
    return dict(backbone=backbone, cls_head=dict(num_classes=network.num_classes))


def build_recognizer(network):
    """The recognizer of the config, without ImageNet weights."""
    init_default_scope('mmaction')
    cfg = model_config(network)
    cfg['backbone'].update(pretrained=None)
    if network.tsm:
        cfg['backbone'].update(pretrained2d=False)
    cfg['cls_head'].update(
        type='TSMHead' if network.tsm else 'TSNHead', in_channels=2048
    )
    return MODELS.build(dict(type='Recognizer2D', **cfg))


def check_tensors(got, expected):
    """Every key is used, every key is filled, and the shapes are equal."""
    if not any(key.endswith('num_batches_tracked') for key in got):
        # PyTorch before 0.4.1 did not count them. Strict loading allows that.
        expected = {
            key: tensor
            for key, tensor in expected.items()
            if not key.endswith('num_batches_tracked')
        }
    faults = [f'missing {key}' for key in expected if key not in got]
    faults += [f'unknown {key}' for key in got if key not in expected]
    faults += [
        f'{key} has shape {tuple(got[key].shape)}, expected {tuple(tensor.shape)}'
        for key, tensor in expected.items()
        if key in got and got[key].shape != tensor.shape
    ]
    if faults:
        raise ConversionError(
            f'expected {len(expected)} tensors, got {len(got)} with '
            f'{len(faults)} faults:\n  '
            + '\n  '.join(faults[:10])
            + ('\n  ...' if len(faults) > 10 else '')
            + '\nNothing is left out or made up: use a complete checkpoint of '
            'this network.'
        )


def reorder_classes(state_dict, labels, reverse):
    """Bring the rows of the classifier into the other order, in place.

    The authors' class i is the i-th of the sorted names.
    """
    classifier = [key for key in state_dict if 'new_fc.' in key or 'fc_cls.' in key]
    num_classes = len(state_dict[classifier[0]])
    if len(labels) != num_classes:
        raise ConversionError(
            f'expected {num_classes} names in the file of --label-order, one '
            f'for each class of the checkpoint, got {len(labels)}. Give the '
            'label file of the dataset that it was trained on.'
        )
    source, target = (labels, sorted(labels)) if reverse else (sorted(labels), labels)
    rows = [source.index(name) for name in target]
    for key in classifier:
        state_dict[key] = state_dict[key][rows]


def to_mmaction2(state_dict, module=None, labels=None, backbone=None):
    """Convert the authors' state dict.

    Args:
        state_dict (dict): With the authors' names.
        module (str, optional): Name of the module, needed where the keys
            leave several. Defaults to None.
        labels (List[str], optional): Class names in MMAction2's order, if
            the authors sorted them. Defaults to None.
        backbone (str, optional): ``'tsn'`` or ``'tsm'``, needed where the
            keys cannot say it. Defaults to None.

    Returns:
        tuple: The recognizer that the result is for, what was found, and the
        checkpoint to save. Keys stay in the order of the file, which
        :func:`to_authors` gives back.
    """
    prefix, tensors = split_prefix(state_dict)
    check_layout(tensors, reverse=False)
    found = recognise(tensors)
    network = choose_module(choose_backbone(found, backbone), module, reverse=False)
    recognizer = build_recognizer(network)
    target = recognizer.state_dict()
    net = bool(found.tsm)
    names = {theirs: ours for ours, theirs in authors_names(target, net).items()}
    check_tensors(tensors, {name: target[names[name]] for name in names})
    converted = {
        names[name]: tensor.detach().clone() for name, tensor in tensors.items()
    }
    if labels is not None:
        reorder_classes(converted, labels, reverse=False)
    meta = dict(
        module=network.modules[0] if network.modules else None,
        prefix=prefix,
        net=net,
        label_order=labels is not None,
    )
    return (
        recognizer,
        network,
        dict(meta=dict(converted_from_authors=meta), state_dict=converted),
    )


def to_authors(checkpoint, module=None, labels=None):
    """Convert a checkpoint in MMAction2's layout.

    Args:
        checkpoint (dict): With a ``state_dict``. If :func:`to_mmaction2` made
            it, its ``meta`` says more.
        module (str, optional): Name of the module, to be checked against the
            keys. Defaults to None.
        labels (List[str], optional): Class names in MMAction2's order, to
            be sorted. Defaults to None.

    Returns:
        tuple: What was found, and the checkpoint to save.
    """
    _, state_dict = split_prefix(checkpoint['state_dict'])
    check_layout(state_dict, reverse=True)
    meta = (checkpoint.get('meta') or {}).get('converted_from_authors', {})
    if meta.get('label_order', labels is not None) != (labels is not None):
        raise ConversionError(
            'expected --label-order, with which the file was converted, got '
            'none. Give the same label file again.'
            if labels is None
            else 'expected no --label-order, since the file was converted without '
            'it, got one. Leave it out.'
        )
    names = authors_names(state_dict, net=True)
    network = recognise({names[key]: state_dict[key] for key in state_dict})
    # MMAction2's names tell a TSM, so that what they do not tell is a TSN.
    network = choose_backbone(network, None if network.tsm else 'tsn')
    net = meta.get('net', False)
    one_short = network.depth == 101 and not network.shift_short_stages
    if network.tsm and one_short and not net:
        raise ConversionError(
            "expected a TSM-R101 with shift_short_stages=True, as the authors' "
            'shifts every block of layer1, 2 and 4, got one that shifts every '
            'second. Their code would compute something else with it.'
        )
    names = authors_names(state_dict, net)
    # The authors' names do not tell a cascade from parallel modules, ours do.
    parallel = any('.branches.' in key for key in state_dict)
    network = network._replace(
        modules=[
            name
            for name in network.modules
            if ('branches' in PAPER_MODULES[name][0]['cfg']) == parallel
        ]
    )
    network = choose_module(network, module or meta.get('module'), reverse=True)
    check_tensors(state_dict, build_recognizer(network).state_dict())
    # The authors save a DataParallel model.
    prefix = meta.get('prefix', 'module.')
    converted = {
        prefix + names[key]: tensor.detach().clone()
        for key, tensor in state_dict.items()
    }
    if labels is not None:
        reorder_classes(converted, labels, reverse=True)
    return network, dict(state_dict=converted)
