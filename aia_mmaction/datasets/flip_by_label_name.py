import re
from pathlib import Path
from typing import Dict, Sequence

from mmaction.datasets.transforms import Flip
from mmaction.registry import TRANSFORMS
from mmengine.fileio import exists, list_from_file

# Class names of Something-Something in MMAction2's order, of Jester in that of its
# label file, and of UTD-MHAD in that of its numbers, one per line.
SHIPPED = Path(__file__).parent / 'labels'

SIDES = {
    'left': 'right',
    'right': 'left',
    'clockwise': 'counterclockwise',
    'counterclockwise': 'clockwise',
    'cw': 'ccw',
    'ccw': 'cw',
}
# Words may be joined by underscores, which \b takes for letters.
SIDE = re.compile(rf'(?<![a-z])({"|".join(SIDES)})(?![a-z])')


def flip_pairs(names: Sequence[str]) -> Dict[int, int]:
    """Which class a mirrored video of a class is of, where it is another.

    Left becomes right, and clockwise counterclockwise (cw, ccw), written in
    capitals or not, with spaces or underscores.

    Args:
        names (Sequence[str]): Class names in the order of their numbers.

    Returns:
        dict: Both directions, ``{86: 87, 87: 86, ...}``.
    """
    plain = [
        re.sub(r'counter[ _-]clockwise', 'counterclockwise', name.lower())
        for name in names
    ]
    mirrored = [SIDE.sub(lambda word: SIDES[word[0]], name) for name in plain]
    return {
        i: plain.index(other)
        for i, (name, other) in enumerate(zip(plain, mirrored))
        if other != name and other in plain
    }


@TRANSFORMS.register_module()
class FlipByLabelName(Flip):
    """MMAction2's ``Flip`` that changes left to right in the label too.

    Args:
        labels (str): A file with one class name per line in the order of
            their numbers, or one that the package has: ``'sthv1'`` or
            ``'sthv2'``, Something-Something in MMAction2's order,
            ``'jester'``, ``'utd-mhad'``.
        **kwargs: Arguments of ``Flip``.

    Raises:
        FileNotFoundError: If ``labels`` is none of these.
        ValueError: If no name has a mirrored one: then ``Flip`` is meant, or
            the file is another.
    """

    def __init__(self, labels: str, **kwargs) -> None:
        shipped = SHIPPED / f'{labels}.txt'
        path = shipped if shipped.exists() else labels
        if not exists(path):
            known = ', '.join(sorted(repr(path.stem) for path in SHIPPED.iterdir()))
            raise FileNotFoundError(
                f'FlipByLabelName: expected labels to be {known} or a file with one '
                f'class name per line, got {labels!r}, which is no file.'
            )
        names = list_from_file(path, encoding='utf-8-sig')
        pairs = flip_pairs(names)
        if not pairs:
            raise ValueError(
                'FlipByLabelName: expected names such as "Pushing something '
                'from left to right" and their mirrored ones in '
                f'{labels!r}, got {len(names)} names without. If no class '
                'changes in a mirror, use Flip.'
            )
        super().__init__(flip_label_map=pairs, **kwargs)
