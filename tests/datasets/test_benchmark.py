import pytest
from mmaction.registry import DATASETS


@pytest.mark.parametrize(
    'cls, prefix',
    [('BenchmarkVideoDataset', 'video'), ('BenchmarkRawframeDataset', 'img')],
)
class TestBenchmarkDatasets:
    def build(self, cls, prefix, folder, ann_file='list.txt'):
        return DATASETS.build(
            dict(
                type=cls,
                ann_file=str(folder / ann_file),
                data_prefix={prefix: str(folder / 'data')},
                guide='the README',
                pipeline=[],
            )
        )

    def test_missing_list(self, cls, prefix, tmp_path):
        with pytest.raises(
            FileNotFoundError, match='list.txt.*How to get it: the README'
        ):
            self.build(cls, prefix, tmp_path)

    def test_missing_folder(self, cls, prefix, tmp_path):
        (tmp_path / 'list.txt').write_text('')
        with pytest.raises(
            FileNotFoundError, match="/data'.*How to get it: the README"
        ):
            self.build(cls, prefix, tmp_path)

    def test_reads_like_mmaction2_s(self, cls, prefix, tmp_path):
        (tmp_path / 'data').mkdir()
        line = 'a.avi 3' if prefix == 'video' else 'a 12 3'
        (tmp_path / 'list.txt').write_text(f'{line}\n')
        guided = self.build(cls, prefix, tmp_path)
        plain = DATASETS.build(
            dict(
                type=cls.replace('Benchmark', ''),
                ann_file=str(tmp_path / 'list.txt'),
                data_prefix={prefix: str(tmp_path / 'data')},
                pipeline=[],
            )
        )
        assert guided.get_data_info(0) == plain.get_data_info(0)
        assert guided.get_data_info(0)['label'] == 3

    def test_data_root(self, cls, prefix, tmp_path):
        (tmp_path / 'data').mkdir()
        (tmp_path / 'list.txt').write_text('a 1 2' if prefix == 'img' else 'a 2')
        DATASETS.build(
            dict(
                type=cls,
                data_root=str(tmp_path),
                ann_file='list.txt',
                data_prefix={prefix: 'data'},
                guide='the README',
                pipeline=[],
            )
        )
