"""The test protocols of the benchmarks, by name."""

from typing import Any, Dict, List, Sequence

from aia_mmaction.utils.config import type_name

# How frames are resized and cropped, and how often a video is sampled.
_SHORT_SIDE_256 = dict(type='Resize', scale=(-1, 256))
PROTOCOLS: Dict[str, Dict[str, Any]] = {
    # one clip, centre crop 224 of the frame at 256
    'efficient': dict(
        samples=1, resize=_SHORT_SIDE_256, crop=dict(type='CenterCrop', crop_size=224)
    ),
    # two clips, three crops of 256 each
    'accurate': dict(
        samples=2, resize=_SHORT_SIDE_256, crop=dict(type='ThreeCrop', crop_size=256)
    ),
    # one clip, centre crop 240 of the frame at 240 x 320
    'authors': dict(
        samples=1,
        resize=dict(type='Resize', scale=(320, 240), keep_ratio=False),
        crop=dict(type='CenterCrop', crop_size=240),
    ),
}


def with_protocol(pipeline: Sequence[dict], name: str) -> List[dict]:
    """A test pipeline with its sampling, resizing and cropping replaced.

    Args:
        pipeline (Sequence[dict]): With one ``SampleFrames`` or
            ``UniformSample``, one ``Resize`` and one crop.
        name (str): A key of :data:`PROTOCOLS`.

    Raises:
        ValueError: If there is no such protocol, or the pipeline has another
            form.
    """
    if name not in PROTOCOLS:
        raise ValueError(
            f'protocol: expected {", ".join(PROTOCOLS)} or None '
            f'for the pipeline as it is, got {name!r}.'
        )
    protocol = PROTOCOLS[name]
    changed, kinds = [], []
    for transform in pipeline:
        kind = type_name(transform)
        if kind == 'SampleFrames' and transform['clip_len'] == 1:
            transform = {**transform, 'twice_sample': protocol['samples'] == 2}
        elif kind in ('SampleFrames', 'UniformSample'):
            # For 3-D networks each clip is a view of its own.
            transform = {**transform, 'num_clips': protocol['samples']}
        elif kind == 'Resize':
            transform = protocol['resize']
        elif kind.endswith('Crop'):
            transform, kind = protocol['crop'], 'a crop'
        else:
            kind = ''
        changed.append(transform)
        kinds.append(kind.replace('SampleFrames', 'UniformSample'))
    if sorted(filter(None, kinds)) != ['Resize', 'UniformSample', 'a crop']:
        raise ValueError(
            f'protocol={name!r}: expected a pipeline with one SampleFrames or '
            'UniformSample, one Resize and one crop to be replaced, got '
            f'{", ".join(map(type_name, pipeline))}. Leave protocol '
            'out and write the pipeline as you want it.'
        )
    return changed
