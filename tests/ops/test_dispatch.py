import copy
import re

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

import aia_mmaction
from aia_mmaction import CinST, ParallelAttention, ops
from aia_mmaction.ops import dispatch
from aia_mmaction.ops.parity import relative_errors

FAST = ('numba', 'fused')


def feature_map(**kwargs):
    return torch.randn(2, 3, 4, 5, 6, **kwargs)


def choose(layer, x=None, impl='auto'):
    x = feature_map() if x is None else x
    return ops.choose(impl, x, layer.axes, layer._gates())


class TestAuto:
    def test_on_a_cpu(self, monkeypatch):
        monkeypatch.setattr(dispatch, '_HAS_TRITON', False)
        monkeypatch.setattr(dispatch, '_HAS_NUMBA', True)
        assert choose(CinST()) == ('numba', ['triton: Triton is not installed'])
        monkeypatch.setattr(dispatch, '_HAS_NUMBA', False)
        path, refused = choose(CinST())
        assert path == 'fused'
        assert refused[1:] == ['numba: numba is not installed: pip install numba']

    def test_one_debug_line_says_it(self, capfd):
        MMLogger.get_instance('which path', log_level='DEBUG')
        layer = CinST()
        for _ in range(3):
            layer(feature_map())
        printed = ''.join(capfd.readouterr())
        (line,) = (n for n in printed.splitlines() if 'CinST' in n)
        assert re.search(r"CinST: impl='auto' takes (numba|fused) \(triton: ", line)

    @pytest.mark.parametrize(
        'norm_cfg,reason',
        [
            (dict(type='GN', num_groups=1), 'GroupNorm'),
            (dict(type='BN3d', affine=False), 'no weight'),
        ],
    )
    def test_other_norms_take_the_reference(self, norm_cfg, reason):
        path, (refused,) = choose(CinST(norm_cfg=norm_cfg))
        assert path == 'reference'
        assert reason in refused

    def test_sync_batch_norm(self):
        """Fast, too; over processes see tests/ops/test_sync.py."""
        layer = nn.SyncBatchNorm.convert_sync_batchnorm(CinST())
        assert choose(layer)[0] in FAST
        assert choose(CinST(norm_cfg=dict(type='SyncBN')))[0] in FAST
        layer.gate_t.norm.process_group = object()
        assert choose(layer)[0] == 'reference'

    def test_sync_batch_norm_in_a_graph(self, monkeypatch):
        """Its process group is no constant of one."""
        layer = nn.SyncBatchNorm.convert_sync_batchnorm(CinST())
        monkeypatch.setattr(dispatch, 'is_compiling', lambda: True)
        path, (refused,) = choose(layer)
        assert path == 'reference' and 'SyncBN in training' in refused
        assert choose(layer.eval())[0] in FAST

    def test_weights_that_are_plain_attributes(self):
        """As in a replica of DataParallel, and under FSDP."""
        layer, x = CinST().eval(), feature_map()
        expected = layer(x)
        for module in list(layer.modules()):
            for name, tensor in list(module._parameters.items()):
                if tensor is not None:
                    delattr(module, name)
                    setattr(module, name, tensor.detach().clone())
            for name, tensor in list(module._buffers.items()):
                delattr(module, name)
                setattr(module, name, tensor)
        assert choose(layer)[0] in FAST
        assert torch.equal(layer(x), expected)

    def test_some_norms_frozen(self):
        layer = CinST()
        layer.gate_t.norm.eval()
        path, (refused,) = choose(layer)
        assert path == 'reference'
        assert 'some norms are in training mode' in refused
        errors = relative_errors(layer, feature_map(), feature_map())
        assert max(errors.values()) < 1e-5

    def test_all_norms_frozen(self):
        """``norm_eval`` of a backbone in training."""
        layer = CinST()
        for gate in layer.children():
            gate.norm.eval()
        assert choose(layer)[0] in FAST
        before = copy.deepcopy(dict(layer.named_buffers()))
        layer(feature_map()).sum().backward()
        for name, buffer in layer.named_buffers():
            assert torch.equal(buffer, before[name])

    @pytest.mark.parametrize('module', ['gate_c', 'gate_t.conv', 'gate_h.norm'])
    def test_hooks_run(self, module):
        """Who looks at the gates with hooks, sees them."""
        layer, seen = CinST(), []
        handle = layer.get_submodule(module).register_forward_hook(
            lambda *args: seen.append(args)
        )
        layer(feature_map())
        assert len(seen) == 1
        handle.remove()
        assert choose(layer)[0] in FAST

    def test_replaced_convolution(self):
        layer = CinST()
        layer.gate_c.conv = nn.Sequential(layer.gate_c.conv)
        assert choose(layer)[0] == 'reference'
        layer(feature_map())

    @pytest.mark.parametrize(
        'options,reason',
        [
            (dict(bias=True), 'the convolution has bias='),
            (dict(padding=2, dilation=2), r'padding=(2, 2, 2), dilation=(2, 2, 2)'),
            (dict(padding_mode='circular'), 'padding_mode=circular'),
            (dict(kernel_size=1, padding=0), 'kernel_size=(1, 1, 1)'),
        ],
    )
    def test_another_convolution_is_computed_by_the_reference(self, options, reason):
        layer = CinST()
        options = dict(dict(kernel_size=3, padding=1, bias=False), **options)
        layer.gate_t.conv = nn.Conv3d(2, 1, **options)
        self.assert_reference(layer, reason)

    def test_norms_that_differ_in_eps(self):
        layer = CinST()
        layer.gate_h.norm.eps = 0.1
        self.assert_reference(layer, 'the norms differ in eps')

    def assert_reference(self, layer, reason):
        path, (refused,) = choose(layer)
        assert path == 'reference' and reason in refused
        x, reference = feature_map(), copy.deepcopy(layer)
        reference.impl = 'reference'
        assert torch.equal(layer(x), reference(x))
        with pytest.raises(RuntimeError, match='cannot run'):
            choose(layer, impl='fused')

    def test_pytorch_that_does_not_tell_of_exports(self, monkeypatch):
        """Before 2.7."""
        monkeypatch.delattr(torch.compiler, 'is_exporting', raising=False)
        assert choose(CinST())[0] in FAST

    def test_nothing_to_compute(self):
        x = torch.randn(0, 3, 4, 5, 6)
        assert choose(CinST(), x)[0] == 'reference'
        assert CinST()(x).shape == x.shape

    def test_single_value_is_pytorchs_own_error(self):
        with pytest.raises(ValueError, match='more than 1 value per channel'):
            CinST()(torch.randn(1, 3, 1, 1, 1))
        x = torch.randn(1, 3, 1, 1, 1)
        assert CinST().eval()(x).shape == x.shape

    def test_mixed_precision_without_autocast_is_pytorchs_own_error(self):
        with pytest.raises(RuntimeError, match='type'):
            CinST()(feature_map().bfloat16())

    def test_functional_transforms(self):
        layer = CinST().eval()
        x = torch.randn(3, 2, 3, 4, 5, 6)
        torch.testing.assert_close(
            torch.vmap(layer)(x), torch.stack([layer(clip) for clip in x])
        )
        _, got = torch.func.jvp(layer, (x[0],), (x[1],))
        assert got.shape == x[0].shape

    def test_old_torch(self, monkeypatch):
        monkeypatch.delattr(torch.library, 'custom_op')
        path, (refused,) = choose(CinST())
        assert path == 'reference'
        assert 'needs torch >= 2.4' in refused


class TestByName:
    @pytest.mark.parametrize('impl', ['fused', 'numba'])
    def test_what_cannot_run_is_an_error(self, impl):
        layer = CinST(impl=impl, norm_cfg=dict(type='GN', num_groups=1))
        with pytest.raises(
            RuntimeError,
            match=f"impl='{impl}' cannot run: the norm is a GroupNorm. Use impl='auto'",
        ):
            layer(feature_map())

    def test_triton_without_a_gpu(self, monkeypatch):
        monkeypatch.setattr(dispatch, '_INTERPRETS_TRITON', False)
        monkeypatch.setattr(dispatch, '_HAS_TRITON', True)
        with pytest.raises(RuntimeError, match='x is on cpu'):
            CinST(impl='triton')(feature_map())
        monkeypatch.setattr(dispatch, '_HAS_TRITON', False)
        with pytest.raises(RuntimeError, match='Triton is not installed'):
            CinST(impl='triton')(feature_map())

    def test_triton_and_float64(self, monkeypatch):
        monkeypatch.setattr(dispatch, '_INTERPRETS_TRITON', True)
        monkeypatch.setattr(dispatch, '_HAS_TRITON', True)
        with pytest.raises(RuntimeError, match='x is float64'):
            CinST(impl='triton').double()(feature_map(dtype=torch.float64))

    @pytest.mark.parametrize(
        'x,reason',
        [
            (feature_map(dtype=torch.float64), 'x is float64'),
            (torch.randn(1, 1, 2, 1, 2**15), 'x has an axis of more than 32767'),
            (feature_map(device='meta'), 'x is on meta, and numba is for CPUs'),
        ],
    )
    def test_what_numba_refuses(self, x, reason, monkeypatch):
        monkeypatch.setattr(dispatch, '_HAS_NUMBA', True)
        layer = CinST().to(x.dtype)
        with pytest.raises(RuntimeError, match=reason):
            choose(layer, x, 'numba')

    def test_compiled_went_away(self):
        with pytest.warns(FutureWarning, match="impl='compiled' went away"):
            assert CinST(impl='compiled').impl == 'auto'

    def test_unknown_name(self):
        with pytest.raises(
            ValueError,
            match="impl: expected auto, triton, numba, fused, reference, got 'fast'",
        ):
            CinST(impl='fast')

    def test_branches(self):
        layer = ParallelAttention(
            [dict(type='ChannelContext'), dict(type='CinST', impl='fused')],
            impl='reference',
        )
        assert [branch.impl for branch in layer.branches] == ['reference', 'fused']


class TestBlock:
    """`with aia_mmaction.impl('reference'):`."""

    def taken(self, layer):
        layer._path = None
        layer(feature_map())
        return layer._path

    def test_goes_before_everything_and_is_over_after_it(self, monkeypatch):
        monkeypatch.setenv('AIA_MMACTION_IMPL', 'fused')
        layer = CinST(impl='fused')
        with aia_mmaction.impl('reference'):
            assert self.taken(layer) == 'reference'
            with aia_mmaction.impl('fused'):
                assert self.taken(layer) == 'fused'
            assert self.taken(layer) == 'reference'
        assert self.taken(layer) == 'fused'
        assert layer.impl == 'fused'

    def test_is_over_after_an_error(self):
        layer = CinST(impl='fused')
        with pytest.raises(KeyError), aia_mmaction.impl('reference'):
            raise KeyError
        assert self.taken(layer) == 'fused'

    def test_what_cannot_run_is_an_error(self):
        layer = CinST(norm_cfg=dict(type='GN', num_groups=1))
        with aia_mmaction.impl('fused'), pytest.raises(RuntimeError, match='GroupNorm'):
            layer(feature_map())

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="expected auto, .* got 'fast'"):
            with aia_mmaction.impl('fast'):
                pass


class TestEnvironment:
    def test_replaces_every_layers(self, monkeypatch):
        monkeypatch.setenv('AIA_MMACTION_IMPL', 'reference')
        assert CinST().impl == CinST(impl='fused').impl == 'reference'

    def test_unknown_name(self, monkeypatch):
        monkeypatch.setenv('AIA_MMACTION_IMPL', 'fast')
        with pytest.raises(
            ValueError, match="AIA_MMACTION_IMPL: expected auto, .* 'fast'"
        ):
            CinST()
