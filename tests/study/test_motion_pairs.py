"""Studies of rendered videos keep apart what is of other videos."""

import pytest

from aia_mmaction.study import motion_pairs


@pytest.mark.parametrize('changed', ['--work-dir', '--out'])
def test_results_of_other_videos_are_refused(tmp_path, monkeypatch, changed):
    monkeypatch.setattr(motion_pairs, 'run_command', lambda *command: None)

    def render(folders, *dataset_args):
        options = [part for option in folders.items() for part in option]
        monkeypatch.setattr(
            'sys.argv', ['tool', *options, '--dataset-args', *dataset_args]
        )
        arguments = motion_pairs.parser('', 'unused').parse_args()
        motion_pairs.render(arguments, tmp_path / 'script.py')

    folders = {name: f'{tmp_path}/{name}' for name in ('--work-dir', '--out')}
    render(folders, '--num-test', '8')
    render(folders, '--num-test', '8')
    folders[changed] = f'{tmp_path}/another'
    with pytest.raises(SystemExit, match=r'\[.*16.*\], got results of \[.*8'):
        render(folders, '--num-test', '16')
    # and the other folder is as if nobody had asked
    assert not (tmp_path / 'another').exists()
