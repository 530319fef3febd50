import copy
import gc
import pickle

import numpy as np
import pytest
from mmaction.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from torch.utils.data import DataLoader

from aia_mmaction.datasets.unreadable import TooManyUnreadable, UnreadableError

from ..benchmarks import write_frames, write_list, write_video
from ..conftest import REPO, slow_but

GOOD = ['good0.mp4', 'good1.mp4', 'good2.mp4']
BAD = ['empty.mp4', 'text.mp4', 'cut.mp4', 'missing.mp4']


@pytest.fixture
def videos(tmp_path):
    for i, name in enumerate(GOOD):
        write_video(tmp_path / name, i)
    (tmp_path / 'empty.mp4').write_bytes(b'')
    (tmp_path / 'text.mp4').write_text('no video')
    (tmp_path / 'cut.mp4').write_bytes((tmp_path / GOOD[0]).read_bytes()[:300])
    return tmp_path


def decode(size=8, **kwargs):
    return [
        dict(type='ReadableDecordInit', **kwargs),
        dict(type='SampleFrames', clip_len=1, num_clips=4, test_mode=True),
        dict(type='ReadableDecordDecode', **kwargs),
        dict(type='Resize', scale=(size, size), keep_ratio=False),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs', meta_keys=('filename',)),
    ]


def dataset(folder, names, pipeline, **kwargs):
    write_list(folder / 'list.txt', [f'{n} {i}' for i, n in enumerate(names)])
    return DATASETS.build(
        dict(
            type='VideoDataset',
            ann_file=str(folder / 'list.txt'),
            data_prefix=dict(video=str(folder)),
            pipeline=pipeline,
            **kwargs,
        )
    )


class TestTraining:
    @pytest.mark.parametrize('bad', BAD)
    def test_names_the_file_and_draws_another(self, videos, bad, capfd):
        data = dataset(videos, [bad, GOOD[0]], decode(on_error='skip'))
        sample = data[0]
        assert sample['data_samples'].filename == str(videos / GOOD[0])
        printed = ''.join(capfd.readouterr())
        assert f'{videos / bad} cannot be read' in printed
        assert '(1 of 1 so far)' in printed

    def test_stops_with_the_list(self, videos):
        pipeline = decode(on_error='skip', max_share=0.002)  # 2 of 1,000
        data = dataset(videos, BAD, pipeline)
        with pytest.raises(TooManyUnreadable, match='at most 0.20%') as error:
            data[0]
        names = set(str(error.value).splitlines()[1:-1])
        assert names <= {str(videos / name) for name in BAD}
        assert '3 of 3' in str(error.value)

    @pytest.mark.parametrize('context', slow_but(['fork'], ['fork', 'spawn']))
    def test_counts_over_all_workers(self, videos, context, monkeypatch):
        # How long PyTorch waits for a worker that still imports, 5 s
        monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.5)
        pipeline = decode(on_error='skip', max_share=0.008)  # 8 of 1,000
        data = dataset(videos, [*BAD, *GOOD[:1]] * 4, pipeline)
        loader = DataLoader(
            data, num_workers=2, multiprocessing_context=context, collate_fn=list
        )
        with pytest.raises(RuntimeError, match=r'at most 0.80%.*got (9|\d\d) of'):
            for _ in range(10):
                list(loader)
        gc.collect()  # ends the workers

    def test_the_list_is_removed_with_the_dataset(self, videos):
        transform = TRANSFORMS.build(decode(on_error='skip')[0])
        path = transform.failures._list
        copied = copy.deepcopy(transform)
        assert copied.failures is transform.failures
        assert not path.exists()  # a killed run without failures leaves none
        copied.failures.add('cut.mp4')
        assert transform.failures.add('text.mp4') == ['cut.mp4', 'text.mp4']
        del transform, copied
        assert not path.exists()


class TestTesting:
    @pytest.mark.parametrize('bad', BAD)
    def test_an_error_names_the_file(self, videos, bad):
        data = dataset(videos, [bad], decode(), test_mode=True)
        with pytest.raises(UnreadableError, match=f'{videos / bad} cannot'):
            data[0]

    @pytest.mark.parametrize('bad', BAD)
    def test_blank_if_asked_for(self, videos, bad, capfd):
        data = dataset(videos, [bad], decode(on_error='blank'), test_mode=True)
        sample = data[0]
        assert sample['inputs'].shape == (4, 3, 8, 8)
        assert sample['inputs'].abs().max() == 0
        assert sample['data_samples'].filename == str(videos / bad)
        printed = ''.join(capfd.readouterr())
        assert f'{videos / bad} cannot be read' in printed
        assert 'a black clip takes its place' in printed

    def test_good_videos_are_mmaction2_s(self, videos):
        ours = dataset(videos, GOOD, decode(on_error='blank'), test_mode=True)
        pipeline = [
            dict(type=t.pop('type').replace('Readable', ''), **t) for t in decode()
        ]
        plain = dataset(videos, GOOD, pipeline, test_mode=True)
        for a, b in zip(ours, plain):
            assert a['inputs'].equal(b['inputs'])


class TestRawFrames:
    @pytest.mark.parametrize('broken', ['00001.jpg', '00011.jpg'])
    @pytest.mark.parametrize('content', [b'', b'no image', None])
    def test_names_folder_and_frame(self, tmp_path, broken, content):
        write_frames(tmp_path / '7', 0)
        if content is None:
            (tmp_path / '7' / broken).unlink()
        else:
            (tmp_path / '7' / broken).write_bytes(content)
        transform = TRANSFORMS.build(dict(type='ReadableRawFrameDecode'))
        results = dict(
            frame_dir=str(tmp_path / '7'),
            filename_tmpl='{:05}.jpg',
            modality='RGB',
            frame_inds=np.array([1, 11]),
        )
        with pytest.raises(UnreadableError, match=f'{tmp_path / "7"} cannot.*{broken}'):
            transform(results)


class TestWhatIsNotAboutTheFile:
    """Is raised as it is, whatever is to be done about broken files."""

    @pytest.fixture(params=['raise', 'skip', 'blank'])
    def read(self, request):
        def read(transform, **results):
            config = dict(type=f'Readable{transform}', on_error=request.param)
            return TRANSFORMS.build(config)(results)

        return read

    def test_folder_of_frames_for_a_video(self, read, tmp_path):
        with pytest.raises(KeyError, match='filename'):
            read('DecordInit', frame_dir=str(tmp_path))

    def test_video_for_a_folder_of_frames(self, read, videos):
        with pytest.raises(KeyError, match='frame_dir'):
            read('RawFrameDecode', filename=str(videos / GOOD[0]))

    def test_no_frames_were_chosen(self, read, videos):
        results = read('DecordInit', filename=str(videos / GOOD[0]))
        with pytest.raises(KeyError, match='frame_inds'):
            read('DecordDecode', **results)

    def test_frames_that_are_not_there(self, read, videos):
        results = read('DecordInit', filename=str(videos / GOOD[0]))
        with pytest.raises(IndexError, match='expected frames 0 to'):
            read('DecordDecode', **results, frame_inds=np.array([0, 10**6]))

    @pytest.mark.parametrize('key', ['array', 'imgs'])
    @pytest.mark.parametrize(
        'transform', ['DecordInit', 'DecordDecode', 'RawFrameDecode']
    )
    def test_frames_in_memory(self, read, transform, key):
        """As MMAction2's long_video_demo and webcam_demo hand them in."""
        frames = np.zeros((8, 4, 5, 3), np.uint8)
        assert read(transform, **{key: frames}) == {key: frames}


def test_key_frames_are_refused():
    with pytest.raises(ValueError, match="expected mode='accurate', got 'efficient'"):
        TRANSFORMS.build(dict(type='ReadableDecordDecode', mode='efficient'))


def test_unknown_option():
    with pytest.raises(ValueError, match="'skip', 'raise' or 'blank'"):
        TRANSFORMS.build(dict(type='ReadableDecordInit', on_error='ignore'))


def test_of_the_benchmark_configs():
    """Training goes on, testing does not."""
    for name in ('sthv1', 'sthv2', 'sthv2_3d', 'jester', 'diving48', 'egtea'):
        cfg = Config.fromfile(REPO / f'configs/_base_/datasets/{name}.py')
        for pipeline, on_error in (
            (cfg.train_dataloader, 'skip'),
            (cfg.test_dataloader, None),
        ):
            decoders = [
                t
                for t in pipeline.dataset.pipeline
                if t.type.endswith(('Decode', 'Init'))
            ]
            assert decoders
            for transform in decoders:
                assert transform.type.startswith('Readable')
                assert transform.get('on_error') == on_error


def test_transforms_without_a_list_can_be_pickled():
    transform = TRANSFORMS.build(dict(type='ReadableDecordInit'))
    assert pickle.loads(pickle.dumps(transform)).on_error == 'raise'
