import numpy as np
import pytest
from mmaction.registry import TRANSFORMS

from aia_mmaction.datasets.flip_by_label_name import SHIPPED, flip_pairs


def names(dataset):
    return (SHIPPED / f'{dataset}.txt').read_text().splitlines()


def both_ways(pairs):
    return {**pairs, **{b: a for a, b in pairs.items()}}


# As MMAction2's configs and the authors' code have them as numbers.
SORTED = both_ways({86: 87, 93: 94, 166: 167})


@pytest.mark.parametrize(
    'labels, expected',
    [
        (names('sthv1'), both_ways({2: 4, 30: 41, 52: 66})),
        (sorted(names('sthv1')), SORTED),
        (names('sthv2'), SORTED),
        # swiping, sliding two fingers, turning the hand
        (names('jester'), both_ways({0: 1, 6: 7, 14: 15})),
        (['Turn left', 'Turn right', 'Turn leftover'], {0: 1, 1: 0}),
        # of UTD-MHAD
        (['swipe_left', 'swipe_right', 'wave'], {0: 1, 1: 0}),
        (['draw_circle_cw', 'draw_circle_ccw'], {0: 1, 1: 0}),
        (['TURN COUNTER-CLOCKWISE', 'Turn clockwise'], {0: 1, 1: 0}),
        (['Turn left', 'Turn', 'right'], {}),
    ],
)
def test_pairs(labels, expected):
    assert flip_pairs(labels) == expected


@pytest.mark.parametrize(
    'dataset, number', [('sthv1', 174), ('sthv2', 174), ('jester', 27)]
)
def test_shipped_names(dataset, number):
    assert len(set(names(dataset))) == len(names(dataset)) == number


@pytest.mark.parametrize('label, flipped', [(30, 41), (41, 30), (7, 7)])
def test_mirrors_image_and_label(label, flipped):
    flip = TRANSFORMS.build(dict(type='FlipByLabelName', labels='sthv1', flip_ratio=1))
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    results = flip(
        dict(imgs=[image.copy()], img_shape=(4, 6), modality='RGB', label=label)
    )
    assert results['label'] == flipped
    assert np.array_equal(results['imgs'][0], image[:, ::-1])


def test_names_of_a_file(tmp_path):
    path = tmp_path / 'labels.txt'
    path.write_text('Left\nleft hand\nright hand\n')
    flip = TRANSFORMS.build(dict(type='FlipByLabelName', labels=str(path)))
    assert flip.flip_label_map == {1: 2, 2: 1}


def test_names_without_sides(tmp_path):
    path = tmp_path / 'labels.txt'
    path.write_text('Holding\nThrowing\n')
    with pytest.raises(ValueError, match='got 2 names without.*use Flip'):
        TRANSFORMS.build(dict(type='FlipByLabelName', labels=str(path)))


def test_no_such_names():
    with pytest.raises(
        FileNotFoundError, match="'jester', 'sthv1', 'sthv2', 'utd-mhad' or a file"
    ):
        TRANSFORMS.build(dict(type='FlipByLabelName', labels='sthv3'))
