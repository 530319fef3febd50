"""From what the owners ship to the lists that the configs read."""

import contextlib
import io
import json
import os
import re
import shutil
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from aia_mmaction.datasets.preparation import archives, checking
from aia_mmaction.datasets.video_reader import Video
from tools.data import prepare as tool

from ..benchmarks import NUM_FRAMES, write_frames, write_video
from ..conftest import REPO, run, slow_but

TOOL = REPO / 'tools/data/prepare.py'

V1_LABELS = [
    'Pushing something from left to right',
    'Holding something',
    'Pushing something from right to left',
]
V2_LABELS = ['Approaching something', 'Bending something']


def prepare(benchmark, source, cwd, *options):
    """Run the tool in a directory; return what it prints."""
    before, argv, printed = os.getcwd(), sys.argv, io.StringIO()
    sys.argv = [str(TOOL), benchmark, source, '--num-workers', '2', *options]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(printed):
            tool.main()
    finally:
        os.chdir(before)
        sys.argv = argv
    return printed.getvalue()


def lines(path):
    return path.read_text().splitlines()


def make_sthv1(source, dataset='something-something'):
    name = f'20bn-{dataset}-v1'
    for video in range(1, 6):
        write_frames(source / name / str(video), video)
    prefix = f'{dataset}-v1-'
    (source / f'{prefix}labels.csv').write_text('\n'.join(V1_LABELS))
    (source / f'{prefix}train.csv').write_text(
        ''.join(f'{i};{V1_LABELS[i % 3]}\n' for i in (2, 1, 3))
    )
    (source / f'{prefix}validation.csv').write_text(f'4;{V1_LABELS[0]}\n')
    (source / f'{prefix}test.csv').write_text('5\n')
    return source / name


def make_sthv2(source):
    folder = source / '20bn-something-something-v2'
    for video in range(1, 6):
        write_video(folder / f'{video}.webm', video)
    prefix = 'something-something-v2-'
    write = {
        'labels': {name: str(i) for i, name in enumerate(V2_LABELS)},
        'train': [
            dict(
                id='1',
                label='bending a fork',
                template='Bending [something]',
                placeholders=['a fork'],
            ),
            dict(
                id='2',
                label='approaching a tree',
                template='Approaching [something]',
                placeholders=['a tree'],
            ),
        ],
        'validation': [dict(id='3', template='Bending [something]')],
        'test': [dict(id='5'), dict(id='4')],
    }
    for name, content in write.items():
        (source / f'{prefix}{name}.json').write_text(json.dumps(content))
    return folder


def make_diving48(source):
    for name in ('a_00001', 'b_00002'):
        write_video(source / 'rgb' / f'{name}.mp4', 1)
    (source / 'Diving48_vocab.json').write_text(
        json.dumps(
            [['Back', '15som', '05Twis', 'FREE'], ['Back', '15som', '15Twis', 'FREE']]
        )
    )
    for split, name, label in (('train', 'a_00001', 1), ('test', 'b_00002', 0)):
        (source / f'Diving48_V2_{split}.json').write_text(
            json.dumps([dict(vid_name=name, label=label, start_frame=0, end_frame=9)])
        )


def make_egtea(source):
    clips = [f'OP01-R0{i}-PastaSalad-{i}-2-F000001-F000002' for i in (1, 2, 3)]
    for i, clip in enumerate(clips):
        write_video(
            source / 'cropped_clips' / '-'.join(clip.split('-')[:3]) / f'{clip}.mp4', i
        )
    labels = source / 'action_annotation'
    labels.mkdir()
    (labels / 'action_idx.txt').write_text(
        'Inspect/Read recipe 1\nOpen fridge 2\nCut tomato 3\n'
    )
    for fold in (1, 2, 3):
        test = clips[fold - 1]
        train = [clip for clip in clips if clip != test]
        (labels / f'train_split{fold}.txt').write_text(
            ''.join(f'{clip} {clips.index(clip) + 1} 1 1\n' for clip in train)
        )
        (labels / f'test_split{fold}.txt').write_text(f'{test} {fold} 1 1 \n')
    return clips


@pytest.mark.parametrize(
    'order,numbers', [('mmaction2', (2, 1, 0, 0)), ('sorted', (2, 1, 0, 1))]
)
def test_sthv1(tmp_path, order, numbers):
    make_sthv1(tmp_path / 'raw')
    printed = prepare('sthv1', 'raw', tmp_path, '--label-order', order)
    data = tmp_path / 'data/sthv1'
    labels = V1_LABELS if order == 'mmaction2' else sorted(V1_LABELS)
    assert lines(data / 'labels.txt') == labels
    of = [labels.index(V1_LABELS[i % 3]) for i in (2, 1, 3)]
    assert lines(data / 'sthv1_train_list_rawframes.txt') == [
        f'{video} {NUM_FRAMES} {k}' for video, k in zip((2, 1, 3), of)
    ]
    assert lines(data / 'sthv1_val_list_rawframes.txt') == [
        f'4 {NUM_FRAMES} {labels.index(V1_LABELS[0])}'
    ]
    assert lines(data / 'sthv1_test_list_rawframes.txt') == [f'5 {NUM_FRAMES}']
    assert (data / 'rawframes/5/00001.jpg').exists()
    assert '86,017' in printed
    assert (f"labels='{'data/sthv1'}/labels.txt'" in printed) == (order == 'sorted')


def test_jester(tmp_path):
    """Beside another benchmark, whose files have such names, too."""
    make_sthv1(tmp_path / 'raw')
    shutil.rmtree(tmp_path / 'raw' / '20bn-something-something-v1')
    (tmp_path / 'raw' / 'something-something-v1-labels.csv').write_text('Waving\n')
    make_sthv1(tmp_path / 'raw', 'jester')
    printed = prepare('jester', 'raw', tmp_path, '--label-order', 'sorted')
    data = tmp_path / 'data/jester'
    assert lines(data / 'labels.txt') == sorted(V1_LABELS)
    assert lines(data / 'jester_val_list_rawframes.txt') == [f'4 {NUM_FRAMES} 1']
    assert lines(data / 'jester_test_list_rawframes.txt') == [f'5 {NUM_FRAMES}']
    assert (data / 'rawframes/5/00001.jpg').exists()
    for count in ('118,562', '14,787', '14,743'):
        assert count in printed
    assert "labels='data/jester/labels.txt'" in printed


def test_newer_package_of_sthv2(tmp_path, capsys):
    """Its names have no prefix, and it brings the answers of the test."""
    raw = tmp_path / 'raw'
    make_sthv2(raw)
    for path in raw.glob('*.json'):
        path.rename(raw / path.name.rsplit('-', 1)[1])
    answers = raw / 'test-answers.csv'
    answers.write_text(f'4;{V2_LABELS[0]}\n5;{V2_LABELS[1]}\n')
    test_list = tmp_path / 'data/sthv2/sthv2_test_list_videos.txt'
    prepare('sthv2', 'raw', tmp_path, '--with-test-labels')
    assert lines(test_list) == ['5.webm 1', '4.webm 0']
    prepare('sthv2', 'raw', tmp_path)
    assert lines(test_list) == ['5.webm', '4.webm']

    for text, expected in (
        (f'4;{V2_LABELS[0]}\n', 'got none for 5'),
        ('4;Swimming\n5;Swimming\n', "got 'Swimming'"),
        ('4\n', 'line 1: expected ID;label'),
    ):
        answers.write_text(text)
        with pytest.raises(SystemExit, match=expected):
            prepare('sthv2', 'raw', tmp_path, '--with-test-labels')
    answers.unlink()
    with pytest.raises(SystemExit, match=r'Expected \*test-answers.csv'):
        prepare('sthv2', 'raw', tmp_path, '--with-test-labels')
    with pytest.raises(SystemExit, match='expected sthv2, got jester'):
        prepare('jester', 'raw', tmp_path, '--with-test-labels')
    with pytest.raises(SystemExit, match='expected utd-mhad, got sthv2'):
        prepare('sthv2', 'raw', tmp_path, '--modality', 'rgb')
    with pytest.raises(SystemExit, match='sthv1, sthv2 or jester, got jhmdb'):
        prepare('jhmdb', 'raw', tmp_path, '--label-order', 'sorted')


def test_sthv2(tmp_path):
    make_sthv2(tmp_path / 'raw')
    printed = prepare('sthv2', 'raw', tmp_path)
    data = tmp_path / 'data/sthv2'
    assert lines(data / 'labels.txt') == V2_LABELS
    assert lines(data / 'sthv2_train_list_videos.txt') == ['1.webm 1', '2.webm 0']
    assert lines(data / 'sthv2_val_list_videos.txt') == ['3.webm 1']
    assert lines(data / 'sthv2_test_list_videos.txt') == ['5.webm', '4.webm']
    for count in ('168,913', '24,777', '27,157'):
        assert count in printed


@pytest.mark.slow
def test_diving48_from_the_command_line(tmp_path):
    make_diving48(tmp_path / 'raw')
    run(sys.executable, TOOL, 'diving48', 'raw', cwd=tmp_path)
    data = tmp_path / 'data/diving48'
    assert lines(data / 'labels.txt')[1] == 'Back 15som 15Twis FREE'
    assert lines(data / 'diving48_train_list_videos.txt') == ['a_00001.mp4 1']
    assert lines(data / 'diving48_val_list_videos.txt') == ['b_00002.mp4 0']


def write_depth(path, millimetres):
    """Frames that are the same in all pixels, but for the columns at the sides."""
    depth = np.empty((240, 320, len(millimetres)), np.uint16)
    depth[:] = millimetres
    depth[:, :33] = depth[:, 273:] = 2000
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, dict(d_depth=depth), do_compression=True)


def test_utd_mhad(tmp_path):
    """Depth becomes brightness: 255 at 2 m or nearer, 55 from 3.6 m on, else 0."""
    depth = tmp_path / 'source' / 'Depth'
    millimetres = [0, 500, 2000, 2800, 3600, 9000]
    for person in 1, 2, 3, 7:
        write_depth(depth / f'a9_s{person}_t1_depth.mat', millimetres)
    (depth / 'a10_s4_t2_depth.mat').write_text('cut off')
    printed = prepare('utd-mhad', 'source', tmp_path)
    made = tmp_path / 'data/utd-mhad'
    assert lines(made / 'utd-mhad_train_list_videos.txt') == [
        'a09_s1_t1.mp4 8',
        'a09_s3_t1.mp4 8',
        'a09_s7_t1.mp4 8',
    ]
    assert lines(made / 'utd-mhad_test_list_videos.txt') == ['a09_s2_t1.mp4 8']
    # To choose settings without the people of the test
    assert lines(made / 'utd-mhad_tuning_train_list_videos.txt') == [
        'a09_s1_t1.mp4 8',
        'a09_s3_t1.mp4 8',
    ]
    assert lines(made / 'utd-mhad_tuning_val_list_videos.txt') == ['a09_s7_t1.mp4 8']
    assert 'a10_s4_t2.mp4: a10_s4_t2_depth.mat' in (made / 'unreadable.txt').read_text()
    assert re.search(r'train_list_videos.txt +3 +0 +431', printed)
    labels = lines(made / 'labels.txt')
    assert labels[8:10] == ['draw_circle_cw', 'draw_circle_ccw'] and len(labels) == 27

    video = made / 'videos/a09_s1_t1.mp4'
    frames = Video(video.read_bytes()).get_batch(range(6)).asnumpy()
    assert frames.shape == (6, 160, 160, 3)
    means, spread = frames.mean((1, 2, 3)), frames.std((1, 2, 3))
    assert np.abs(means - [0, 255, 255, 155, 55, 55]).max() < 3
    assert spread.max() < 3  # the columns at the sides are cut off

    # Made again when the recording is newer, and only then
    before = (
        video.stat().st_mtime_ns,
        (made / 'videos/a09_s2_t1.mp4').stat().st_mtime_ns,
    )
    write_depth(depth / 'a9_s2_t1_depth.mat', [2000])
    os.utime(depth / 'a9_s2_t1_depth.mat', (time.time() + 9, time.time() + 9))
    prepare('utd-mhad', 'source', tmp_path)
    assert video.stat().st_mtime_ns == before[0]
    assert (made / 'videos/a09_s2_t1.mp4').stat().st_mtime_ns > before[1]


def test_utd_mhad_in_colour(tmp_path):
    for name in 'a1_s1_t1', 'a27_s8_t4':
        write_video(tmp_path / f'source/RGB/{name}_color.avi', 1)
    prepare('utd-mhad', 'source', tmp_path, '--modality', 'rgb')
    made = tmp_path / 'data/utd-mhad-rgb'
    assert lines(made / 'utd-mhad_train_list_videos.txt') == ['a1_s1_t1_color.avi 0']
    assert lines(made / 'utd-mhad_test_list_videos.txt') == ['a27_s8_t4_color.avi 26']
    assert (made / 'videos').resolve() == tmp_path / 'source/RGB'
    with pytest.raises(SystemExit, match='Expected recordings such as a9_s1_t1_depth'):
        prepare('utd-mhad', 'source', tmp_path)


def test_jhmdb(tmp_path):
    source = tmp_path / 'source'
    (source / 'splits').mkdir(parents=True)
    names = dict(wave=['w#1.avi', 'w(2).avi'], brush_hair=['b_1.avi', 'b_2.avi'])
    for label, (one, two) in names.items():
        for name in one, two:
            write_video(source / 'ReCompress_Videos' / label / name, 1)
        for fold in 1, 2, 3:
            parts = f'{one} {1 + fold // 2 % 2}\n{two} {2 - fold // 2 % 2}\n'
            (source / f'splits/{label}_test_split{fold}.txt').write_text(parts)
    printed = prepare('jhmdb', 'source', tmp_path)
    made = tmp_path / 'data/jhmdb'
    assert lines(made / 'labels.txt') == ['brush_hair', 'wave']
    assert lines(made / 'jhmdb_train_split_1_videos.txt') == [
        'brush_hair/b_1.avi 0',
        'wave/w#1.avi 1',
    ]
    assert lines(made / 'jhmdb_test_split_2_videos.txt') == [
        'brush_hair/b_1.avi 0',
        'wave/w#1.avi 1',
    ]
    assert re.search(r'jhmdb_train_split_1_videos.txt +2 +0 +660', printed)

    path = source / 'splits/wave_test_split2.txt'
    path.write_text('w#1.avi 3\n')
    with pytest.raises(SystemExit, match='expected "NAME.avi 1" or "NAME.avi 2", got'):
        prepare('jhmdb', 'source', tmp_path)


def test_egtea(tmp_path):
    clips = make_egtea(tmp_path / 'raw')
    printed = prepare('egtea', 'raw', tmp_path)
    data = tmp_path / 'data/egtea'
    assert lines(data / 'labels.txt') == [
        'Inspect/Read recipe',
        'Open fridge',
        'Cut tomato',
    ]
    for fold in (1, 2, 3):
        (line,) = lines(data / f'egtea_test_split_{fold}_videos.txt')
        assert line == f'OP01-R0{fold}-PastaSalad/{clips[fold - 1]}.mp4 {fold - 1}'
        assert (data / 'videos' / line.split()[0]).exists()
        assert len(lines(data / f'egtea_train_split_{fold}_videos.txt')) == 2
    assert '10,321' in printed


class TestUnreadable:
    def test_left_out_and_listed_until_replaced(self, tmp_path):
        folder = make_sthv2(tmp_path / 'raw')
        whole = (folder / '2.webm').read_bytes()
        (folder / '2.webm').write_bytes(whole[:300])
        (folder / '5.webm').unlink()
        printed = prepare('sthv2', 'raw', tmp_path)
        data = tmp_path / 'data/sthv2'
        assert lines(data / 'sthv2_train_list_videos.txt') == ['1.webm 1']
        assert lines(data / 'sthv2_test_list_videos.txt') == ['4.webm']
        names = [line.split(':')[0] for line in lines(data / 'unreadable.txt')]
        assert names == ['2.webm', '5.webm']
        assert '5.webm: missing' in lines(data / 'unreadable.txt')
        assert '2 unreadable videos' in printed

        (folder / '2.webm').write_bytes(whole)
        prepare('sthv2', 'raw', tmp_path)
        assert len(lines(data / 'sthv2_train_list_videos.txt')) == 2
        assert len(lines(data / 'unreadable.txt')) == 1

    @pytest.mark.parametrize('damage', ['gap', 'cut'])
    def test_frames(self, tmp_path, damage):
        folder = make_sthv1(tmp_path / 'raw')
        if damage == 'gap':
            (folder / '2/00003.jpg').unlink()
        else:
            frame = folder / f'2/{NUM_FRAMES:05}.jpg'
            frame.write_bytes(frame.read_bytes()[:-200])
        prepare('sthv1', 'raw', tmp_path)
        data = tmp_path / 'data/sthv1'
        (line,) = lines(data / 'unreadable.txt')
        assert line.startswith('2: ')
        assert ('00003.jpg is missing' in line) == (damage == 'gap')

    def test_continues_where_it_was_stopped(self, tmp_path):
        names = [f'{i}' for i in range(4)]
        for name in names:
            write_frames(tmp_path / name, 0)
        journal = tmp_path / 'journal'
        first = checking.check(tmp_path, names, checking.check_frames, journal, 1)
        # stopped while it wrote the third
        done = [line for line in lines(journal) if line]
        journal.write_text('\n'.join(done[:2] + [done[2][:9]]))
        kept = [json.loads(line)[0] for line in done[:2]]
        for name in kept:  # their change is not seen
            (tmp_path / name / '00001.jpg').write_bytes(b'')
        again = checking.check(tmp_path, names, checking.check_frames, journal, 1)
        assert again == first
        again = checking.check(tmp_path, names, checking.check_frames, journal, 1)
        assert again == first

    @pytest.mark.parametrize('function', slow_but(['crash'], ['crash', 'hang']))
    def test_decoders_that_crash_or_hang(self, tmp_path, monkeypatch, function):
        monkeypatch.setattr(checking, 'SECONDS', 1)
        names = ['good0', function, 'good1']
        for name in names:
            (tmp_path / name).touch()
        results = checking.check(tmp_path, names, misbehave, tmp_path / 'journal', 2)
        assert results.pop(function) == (0, 'the decoder crashes or hangs')
        assert set(results.values()) == {(7, None)}


def misbehave(path):
    import ctypes
    import faulthandler
    import os
    import signal

    if path.name == 'crash':
        faulthandler.disable()  # its report would be all that one sees
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name == 'hang':
        ctypes.PyDLL(None).sleep(60)  # in a library, with Python's lock
    return 7


class TestArchives:
    def test_one_in_parts(self, tmp_path):
        """As Something-Something is shipped."""
        folder = make_sthv2(tmp_path / 'made')
        raw = tmp_path / 'raw'
        raw.mkdir()
        for path in (tmp_path / 'made').glob('*.json'):
            path.rename(raw / path.name)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode='w:gz') as archive:
            archive.add(folder, folder.name)
        packed, third = packed.getvalue(), len(packed.getvalue()) // 3
        for i in range(3):
            part = packed[i * third : (i + 1) * third if i < 2 else None]
            (raw / f'20bn-something-something-v2-0{i}').write_bytes(part)
        prepare('sthv2', 'raw', tmp_path)
        data = tmp_path / 'data/sthv2'
        assert (data / 'videos/3.webm').exists()
        assert lines(data / 'sthv2_val_list_videos.txt') == ['3.webm 1']
        assert (data / 'unreadable.txt').read_text() == ''
        # Again, without reading the archives
        for part in raw.glob('20bn*'):
            part.write_bytes(b'')
        prepare('sthv2', 'raw', tmp_path)
        assert lines(data / 'sthv2_val_list_videos.txt') == ['3.webm 1']

    @pytest.mark.parametrize('kind', ['tar', 'zip'])
    @pytest.mark.parametrize('name', ['../outside', '/outside', 'a/../../b'])
    def test_nothing_outside(self, tmp_path, kind, name):
        source = tmp_path / 'deep' / 'source'
        source.mkdir(parents=True)
        if kind == 'tar':
            with tarfile.open(source / 'x.tar', 'w') as archive:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        else:
            with zipfile.ZipFile(source / 'x.zip', 'w') as archive:
                archive.writestr(name, 'x')
        before = set(tmp_path.rglob('*'))
        target = tmp_path / 'deep' / 'target'
        try:
            archives.unpack(source, target)
        except archives.ArchiveError as error:
            assert name.lstrip('/') in str(error)
        for path in set(tmp_path.rglob('*')) - before:
            assert path == target or target in path.parents

    def test_link_to_outside(self, tmp_path):
        with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
            link = tarfile.TarInfo('link')
            link.type, link.linkname = tarfile.SYMTYPE, '/etc'
            archive.addfile(link)
        with pytest.raises(archives.ArchiveError, match='x.tar'):
            archives.unpack(tmp_path, tmp_path / 'target')

    @pytest.mark.parametrize('name', ['x.zip', 'x.tar.gz'])
    def test_broken(self, tmp_path, name):
        (tmp_path / name).write_bytes(b'PK nothing')
        with pytest.raises(archives.ArchiveError, match=f'{name}.*Download'):
            archives.unpack(tmp_path, tmp_path / 'target')


def test_names_are_not_interpreted(tmp_path):
    """Neither by a shell nor as patterns or variables."""
    source = 'raw $(touch canary) *[x] %s {a} ~ `touch canary`'
    make_sthv2(tmp_path / source)
    prepare('sthv2', source, tmp_path, '--target', 'out $HOME;touch canary')
    target = tmp_path / 'out $HOME;touch canary'
    assert len(lines(target / 'sthv2_train_list_videos.txt')) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [target.name, source]


class TestErrors:
    def check(self, cwd, expected):
        with pytest.raises(SystemExit, match=re.escape(expected)):
            prepare('sthv2', 'raw', cwd)
        assert not list(cwd.glob('data/sthv2/*list*'))

    def test_no_source(self, tmp_path):
        self.check(tmp_path, 'Expected a folder with the download, got raw')

    def test_no_annotations(self, tmp_path):
        (tmp_path / 'raw').mkdir()
        self.check(tmp_path, 'Expected *labels.json in raw')

    def test_no_videos(self, tmp_path):
        folder = make_sthv2(tmp_path / 'raw')
        for path in folder.iterdir():
            path.unlink()
        self.check(tmp_path, 'Expected the videos or their archives in raw')

    def test_cut_json(self, tmp_path):
        make_sthv2(tmp_path / 'raw')
        path = tmp_path / 'raw/something-something-v2-train.json'
        path.write_text(path.read_text()[:50])
        self.check(tmp_path, f'{path.name}: expected JSON')

    def test_unknown_label(self, tmp_path):
        make_sthv2(tmp_path / 'raw')
        path = tmp_path / 'raw/something-something-v2-train.json'
        path.write_text(json.dumps([dict(id='1', template='Flying')]))
        self.check(tmp_path, "got 'Flying' for 1.webm")

    @pytest.mark.parametrize('name', ['../1', '/1', '1 2'])
    def test_names_that_are_paths(self, tmp_path, name):
        make_sthv2(tmp_path / 'raw')
        path = tmp_path / 'raw/something-something-v2-train.json'
        path.write_text(json.dumps([dict(id=name, template='Bending [something]')]))
        self.check(tmp_path, 'Expected names of videos without spaces')
