from typing import Optional, Sequence, Tuple, Union

from mmaction.registry import MODELS
from torch import Tensor, nn

from aia_mmaction.layers import build_layer
from aia_mmaction.plugins.grammar import Plugin, parse_list


@MODELS.register_module()
class AIANeck(nn.Module):
    """Attention on the feature map that a backbone gives the head.

    For backbones that take no ``plugins``, such as Swin, MViT and UniFormer,
    and for those that do.

    In a ``Recognizer2D`` set ``num_segments``, give the backbone two or more
    ``out_indices`` (``Recognizer2D`` cannot hand a single map to a neck), and
    take ``TSNHead``, or ``TPNHead`` for ``fcn_test``. The last map is used.

    Args:
        plugins (Sequence[dict] | str): The name of one of the paper's modules
            or a list of ``dict(cfg=...)``, applied in order. Defaults to
            ``'CinST'``.
        num_segments (int, optional): Frames per clip in a ``Recognizer2D``; a
            ``Recognizer3D`` needs none. Defaults to None.

    Raises:
        TypeError, ValueError: If ``plugins`` says something else.
    """

    def __init__(
        self,
        plugins: Union[str, Sequence[dict]] = 'CinST',
        num_segments: Optional[int] = None,
    ) -> None:
        super().__init__()
        if num_segments is not None and (
            not isinstance(num_segments, int) or num_segments < 1
        ):
            raise ValueError(
                'AIANeck: expected num_segments to be a positive '
                f'int, the frames per clip, got {num_segments!r}.'
                ' Leave it out in a Recognizer3D.'
            )
        self.num_segments = num_segments
        self.attention = nn.Sequential()
        for entry in parse_list(plugins):
            cfg = Plugin.parse(entry, num_stages=1).cfg
            if set(entry) != {'cfg'}:
                raise ValueError(
                    'AIANeck: expected entries like '
                    f"dict(cfg=dict(type='CinST')), got {entry!r}: a neck has "
                    'no stages, blocks and positions to choose from.'
                )
            self.attention.append(build_layer(cfg))

    def forward(
        self, x: Union[Tensor, Sequence[Tensor]], data_samples: Optional[list] = None
    ) -> Tuple[Union[Tensor, Sequence[Tensor]], dict]:
        """Refine the map.

        Args:
            x (Tensor | Sequence[Tensor]): Of a ``Recognizer3D`` a map
                ``[N, C, T, H, W]``, or a tuple that holds one. Of a
                ``Recognizer2D`` a list of maps of that shape, in which the
                clips of a video (test-time crops) follow one another along T.
            data_samples (list, optional): Not used.

        Returns:
            tuple: What the head takes, and no auxiliary losses. For a
            ``Recognizer3D`` the refined map as it came in, for a
            ``Recognizer2D`` the last one, refined and averaged over the
            frames: ``[N * clips, C, 1, H, W]``.

        Raises:
            ValueError: If the backbone gives something else.
        """
        if self.num_segments is not None:
            return self._forward_2d(x, self.num_segments), dict()
        if isinstance(x, Tensor) and x.dim() == 5:
            return self.attention(x), dict()
        if (
            isinstance(x, (tuple, list))
            and len(x) == 1
            and isinstance(x[0], Tensor)
            and x[0].dim() == 5
        ):
            refined = [self.attention(x[0])]
            return tuple(refined) if isinstance(x, tuple) else refined, dict()
        raise ValueError(
            'AIANeck: expected one feature map [N, C, T, H, W] of a '
            f'Recognizer3D, got {_describe(x)}. {_remedy(x)}'
        )

    def _forward_2d(
        self, maps: Union[Tensor, Sequence[Tensor]], num_segments: int
    ) -> Tensor:
        if isinstance(maps, Tensor):
            raise ValueError(
                'AIANeck: expected the list of maps of a Recognizer2D, got '
                f'{_describe(maps)}. For a Recognizer3D leave num_segments '
                'out.'
            )
        x = maps[-1]
        if x.dim() != 5:
            # Recognizer2D iterates over what the backbone gives; of a single
            # map it takes the batch for the list. The repair single_map says
            # so earlier, unless it is turned off.
            raise ValueError(
                'AIANeck: expected two or more maps of a Recognizer2D, got '
                'one, which Recognizer2D takes apart along the batch. Give '
                'the backbone two out_indices, e.g. out_indices=(2, 3); the '
                'last is used.'
            )
        if x.shape[2] % num_segments:
            raise ValueError(
                'AIANeck: expected whole clips of '
                f'num_segments={num_segments} frames, got {x.shape[2]} '
                'frames. Give num_clips of the pipeline and num_segments of '
                'backbone and neck the same value.'
            )
        # [N, C, clips * T, H, W] -> [N, C, clips, T, H, W]
        x = x.unflatten(2, (-1, num_segments))
        # -> [N, clips, C, T, H, W] -> [N * clips, C, T, H, W]
        x = x.transpose(1, 2).flatten(0, 1)
        return self.attention(x).mean(dim=2, keepdim=True)


def _remedy(x: Union[Tensor, Sequence]) -> str:
    """For what a ``Recognizer3D`` cannot have given a neck."""
    if isinstance(x, Tensor):
        return (
            'Tokens, or their mean, have no frames and places for the attention to '
            'relate. Set return_feat_map=True of VisionTransformer, and take a head '
            'for maps, such as I3DHead; TimeSformer and UniFormerV2 keep theirs to '
            'themselves.'
        )
    if len(x) == 1:  # [map, class token] of the last stage
        return (
            'Where a class token comes with the map, the head reads only the token. '
            'Set output_cls_token=False of MViT and with_cls_token=False of its head.'
        )
    if isinstance(x, tuple):
        return 'For networks of several pathways use plugins of the backbone.'
    return 'For a Recognizer2D set num_segments of the neck.'


def _describe(x: Union[Tensor, Sequence]) -> str:
    if isinstance(x, Tensor):
        return f'one of shape {tuple(x.shape)}'
    shown = [_describe(each) for each in x[:3]]
    return f'{len(x)}: {", ".join(shown)}{", ..." if len(x) > 3 else ""}'
