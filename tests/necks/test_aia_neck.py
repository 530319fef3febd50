import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import build_optim_wrapper

from aia_mmaction import AIANeck

from ..conftest import samples, scores_of

RESNET = dict(type='ResNet', depth=18, out_indices=(2, 3))
TSM = dict(
    type='ResNetTSM', depth=18, num_segments=4, pretrained2d=False, out_indices=(2, 3)
)
SWIN = dict(
    type='SwinTransformer3D',
    arch=dict(embed_dims=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]),
    pretrained2d=False,
    window_size=(2, 2, 2),
)
MVIT = dict(
    type='MViT',
    arch=dict(embed_dims=24, num_layers=2, num_heads=1, downscale_indices=[1]),
    spatial_size=32,
    temporal_size=8,
    out_scales=[-1],
)
UNIFORMER = dict(
    type='UniFormer',
    depth=[1, 1, 1, 1],
    embed_dim=[16, 32, 64, 64],
    head_dim=16,
    img_size=32,
    pretrained2d=False,
)

# name: (backbone, head)
NETWORKS_3D = {
    'swin': (SWIN, dict(type='I3DHead', in_channels=192)),
    'mvit': (
        dict(output_cls_token=False, **MVIT),
        dict(type='MViTHead', in_channels=48, with_cls_token=False),
    ),
    'uniformer': (UNIFORMER, dict(type='I3DHead', in_channels=64)),
    'r2plus1d': (
        dict(type='ResNet3d', depth=18, pretrained2d=False),
        dict(type='I3DHead', in_channels=512),
    ),
}


def build_2d(backbone=RESNET, plugins='CinST', head='TSNHead', **kwargs):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='Recognizer2D',
            backbone=dict(backbone),
            neck=dict(type='AIANeck', plugins=plugins, num_segments=4),
            cls_head=dict(
                type=head, num_classes=3, in_channels=512, average_clips='prob'
            ),
            **kwargs,
        )
    )


def build_3d(name, **kwargs):
    backbone, head = NETWORKS_3D[name]
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=dict(backbone),
            neck=dict(type='AIANeck'),
            cls_head=dict(num_classes=3, average_clips='prob', **head),
            **kwargs,
        )
    )


def scores(model, inputs):
    model.eval()
    with torch.no_grad():
        results = model.predict(inputs, samples(len(inputs)))
    return scores_of(results)


class TestRecognizer2D:
    @pytest.mark.parametrize('backbone', [RESNET, TSM])
    def test_trains(self, backbone):
        model = build_2d(backbone)
        model.train()
        losses = model.loss(torch.randn(2, 4, 3, 32, 32), samples(2))
        losses['loss_cls'].backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name

    def test_is_the_layer_on_the_last_map(self):
        model = build_2d()
        model.eval()
        clips = torch.randn(2, 4, 3, 32, 32)
        with torch.no_grad():
            _, x = model.backbone(clips.flatten(0, 1))
            # [N * T, C, H, W] -> [N, C, T, H, W]
            x = x.unflatten(0, (2, 4)).transpose(1, 2)
            feature = model.neck.attention(x).mean(dim=(2, 3, 4))
            expected = model.cls_head.fc_cls(feature).softmax(dim=1)
        torch.testing.assert_close(scores(model, clips), expected)

    @pytest.mark.parametrize('backbone', [RESNET, TSM])
    def test_crops_are_clips_of_their_own(self, backbone):
        """The score is the mean over crops, as if each came alone."""
        model = build_2d(backbone)
        crops = torch.randn(2, 3, 4, 3, 32, 32)
        expected = torch.stack(
            [scores(model, crops[:, i].contiguous()) for i in range(3)]
        ).mean(dim=0)
        torch.testing.assert_close(scores(model, crops.flatten(1, 2)), expected)

    def test_fcn_test(self):
        model = build_2d(TSM, head='TPNHead')
        crops = torch.randn(2, 3 * 4, 3, 32, 32)
        expected = scores(model, crops)
        model.test_cfg = dict(fcn_test=True)
        torch.testing.assert_close(scores(model, crops), expected)

    def test_one_map(self):
        model = build_2d(dict(RESNET, out_indices=(3,)))
        with pytest.raises(ValueError, match=r'e.g. out_indices=\(2, 3\)'):
            model.loss(torch.randn(2, 4, 3, 32, 32), samples(2))

    def test_part_of_a_clip(self):
        with pytest.raises(ValueError, match='num_segments=4 frames, got 6'):
            build_2d().loss(torch.randn(2, 6, 3, 32, 32), samples(2))


@pytest.mark.parametrize('name', NETWORKS_3D)
class TestRecognizer3D:
    def test_trains(self, name):
        model = build_3d(name)
        model.train()
        losses = model.loss(torch.randn(2, 1, 3, 8, 32, 32), samples(2))
        losses['loss_cls'].backward()
        for key, parameter in model.neck.named_parameters():
            assert parameter.grad.abs().sum() > 0, key

    def test_is_the_layer_on_the_map(self, name):
        model = build_3d(name)
        model.eval()
        clip = torch.randn(2, 3, 8, 32, 32)
        with torch.no_grad():
            x = model.backbone(clip)
            x = x if isinstance(x, torch.Tensor) else x[0]
            feature = model.neck.attention(x).mean(dim=(2, 3, 4))
            expected = model.cls_head.fc_cls(feature).softmax(dim=1)
        torch.testing.assert_close(scores(model, clip[:, None]), expected)

    def test_crops(self, name):
        model = build_3d(name)
        crops = torch.randn(2, 3, 3, 8, 32, 32)
        expected = torch.stack(
            [scores(model, crops[:, i : i + 1].contiguous()) for i in range(3)]
        ).mean(dim=0)
        torch.testing.assert_close(scores(model, crops), expected)
        model.test_cfg = dict(fcn_test=True)
        torch.testing.assert_close(scores(model, crops), expected)


def test_class_token():
    """MViT's head reads only the token, so attention would do nothing."""
    model = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=dict(MVIT),
            neck=dict(type='AIANeck'),
            cls_head=dict(type='MViTHead', num_classes=3, in_channels=48),
        )
    )
    with pytest.raises(ValueError, match='output_cls_token=False'):
        model.loss(torch.randn(1, 1, 3, 8, 32, 32), samples(1))


VIT = dict(
    type='VisionTransformer',
    img_size=32,
    embed_dims=32,
    depth=1,
    num_heads=2,
    mlp_ratio=2,
    num_frames=4,
)


@pytest.mark.parametrize(
    'backbone',
    [
        VIT,
        dict(
            type='TimeSformer',
            num_frames=4,
            img_size=32,
            patch_size=16,
            embed_dims=32,
            num_heads=2,
            num_transformer_layers=1,
            pretrained=None,
        ),
    ],
)
def test_vectors(backbone):
    """Their remedy is not that of MViT."""
    model = MODELS.build(
        dict(type='Recognizer3D', backbone=backbone, neck=dict(type='AIANeck'))
    )
    with pytest.raises(ValueError, match='Set return_feat_map=True') as error:
        model.extract_feat(torch.randn(1, 1, 3, 4, 32, 32), stage='neck')
    assert 'MViT' not in str(error.value)


def test_map_of_a_vision_transformer():
    model = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=dict(VIT, return_feat_map=True),
            neck=dict(type='AIANeck'),
            cls_head=dict(type='I3DHead', num_classes=3, in_channels=32),
        )
    )
    model.loss(torch.randn(2, 1, 3, 4, 32, 32), samples(2))['loss_cls'].backward()
    assert all(p.grad is not None for p in model.neck.parameters())


def test_layer_decay():
    """MMAction2's constructor takes no batch norms."""

    def optim_wrapper(**layer):
        backbone, head = NETWORKS_3D['mvit']
        neck = dict(type='AIANeck', plugins=[dict(cfg=dict(type='CinST', **layer))])
        model = MODELS.build(
            dict(
                type='Recognizer3D',
                backbone=dict(backbone),
                neck=neck,
                cls_head=dict(num_classes=3, **head),
            )
        )
        model.loss(torch.randn(1, 1, 3, 8, 32, 32), samples(1))['loss_cls'].backward()
        return model, build_optim_wrapper(
            model,
            dict(
                type='OptimWrapper',
                constructor='LearningRateDecayOptimizerConstructor',
                paramwise_cfg=dict(num_layers=2, decay_rate=0.5),
                optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01),
            ),
        )

    with pytest.raises(AssertionError, match='BN is not supported'):
        optim_wrapper()
    model, wrapper = optim_wrapper(norm_cfg=dict(type='GN', num_groups=1))
    rates = {
        parameter: group['lr']
        for group in wrapper.param_groups
        for parameter in group['params']
    }
    # of the head, the last layer
    assert {rates[p] for p in model.neck.parameters()} == {
        rates[model.cls_head.fc_cls.bias]
    }


def test_two_pathways():
    slow_and_fast = torch.randn(1, 8, 2, 4, 4), torch.randn(1, 2, 8, 4, 4)
    with pytest.raises(ValueError, match='use plugins of the backbone'):
        AIANeck()(slow_and_fast)


def test_num_segments_in_a_3d_recognizer():
    with pytest.raises(ValueError, match='leave num_segments out'):
        AIANeck(num_segments=4)(torch.randn(1, 8, 4, 4, 4))


def test_no_num_segments_in_a_2d_recognizer():
    with pytest.raises(ValueError, match='set num_segments of the neck'):
        AIANeck()([torch.randn(1, 8, 4, 4, 4), torch.randn(1, 8, 4, 2, 2)])


def test_two_entries_are_a_cascade():
    neck = AIANeck('C2ST').eval()
    x = torch.randn(1, 8, 4, 4, 4)
    first, second = neck.attention
    assert torch.equal(neck(x)[0], second(first(x)))


@pytest.mark.parametrize(
    'plugins, error',
    [
        ('CinTS', "got 'CinTS'. Did you mean 'CinST'"),
        ([dict(cfg=dict(type='CinST'), blocks=(0,))], 'a neck has no stages'),
    ],
)
def test_bad_plugins(plugins, error):
    with pytest.raises(ValueError, match=error):
        AIANeck(plugins)


@pytest.mark.parametrize('num_segments', [0, '8'])
def test_bad_num_segments(num_segments):
    with pytest.raises(ValueError, match='to be a positive int'):
        AIANeck(num_segments=num_segments)
