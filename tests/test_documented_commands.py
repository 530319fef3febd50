"""Every kind of command of the pages is run by a test, or says why it cannot be.

Commands are told apart by how they begin; that their options exist is looked up.
"""

import re

import nbformat
import pytest

from .conftest import REPO

PAGES = [
    path
    for glob in ('*.md', 'docs/*.md', 'docs/*.ipynb')
    for path in sorted(REPO.glob(glob))
]

# How commands begin, by the test that runs them
RUN_BY = {
    'repairs/test_doctor.py::test_report_fix_and_undo': [
        r'python -m aia_mmaction\.doctor'
    ],
    'test_commands.py::TestThreeWays': [r'mim train mmaction tsm_imagenet'],
    'test_commands.py::TestMainJob': [
        r'mim train mmaction configs/tsm_r50_cinst_sthv1\.py$',
        r'mim test mmaction (configs/\S+|CONFIG_WITH_CINST) --checkpoint',
        r'--cfg-options test_dataloader\.dataset\.protocol',
    ],
    'test_commands.py::test_training_run': [
        r'mim train mmaction configs/tsn_r18_(cinst_)?motion-pairs\.py'
    ],
    'test_commands.py::test_awkward_videos': [
        r'mim test mmaction CONFIG .*on_error=blank'
    ],
    'test_commands.py::test_demo': [r'make demo'],
    'test_commands.py::test_ablation': [r'python tools/ablation\.py'],
    'test_commands.py::test_study': [r'(PYTHONPATH=\S+ )?python tools/study\.py'],
    'test_tutorial.py::test_every_cell_runs': [r'make tutorial'],
    'test_commands.py::test_warm_start': [
        r'mim train mmaction \S+ --cfg-options load_from'
    ],
    'test_kill_and_resume.py::test_killed': [r'mim train mmaction CONFIG --resume'],
    'test_wheel.py::test_mim_search': [r'mim search'],
    'test_wheel.py::test_mim_download': [r'mim download'],
    'test_wheel.py::test_tool': [r'python tools/data/make_motion_pairs\.py'],
    'test_mmaction2_tools.py::test_gridsearch_over_modules': [r'mim gridsearch'],
    'test_leaderboard.py::test_prepare_train_submit': [r'python tools/leaderboard\.py'],
    'tools/test_submit.py::test_several_dumps': [r'python tools/submit\.py'],
    'tools/test_ensemble.py::test_against': [r'python tools/ensemble\.py'],
    'tools/test_prepare.py::test_sthv1': [r'python tools/data/prepare\.py sthv1'],
    'tools/test_prepare.py::test_utd_mhad': [r'python tools/data/prepare\.py utd-mhad'],
    'tools/test_prepare.py::test_jhmdb': [r'python tools/data/prepare\.py jhmdb'],
    'tools/test_convert_official_checkpoint.py::test_commands': [
        r'python tools/convert_official_checkpoint\.py'
    ],
    'tools/test_export.py::test_command': [r'python tools/export\.py'],
    'tools/test_export.py::test_in_8_bits': [r'python tools/evaluate_onnx\.py'],
    'tools/test_predict_onnx.py::test_scores_are_those_of_mim_test': [
        r'python tools/predict_onnx\.py'
    ],
    'deployment/test_torchserve.py::test_handler': [r'python -c "from mmengine'],
    'tools/test_visualize_attention.py::test_whole_command': [
        r'python tools/visualize_attention\.py'
    ],
    'tools/test_benchmark.py::test_grid': [r'python tools/benchmark\.py grid'],
    'tools/test_benchmark.py::test_network': [
        r'python tools/benchmark\.py( network|$)'
    ],
    'tools/test_benchmark.py::test_exports': [r'python tools/benchmark\.py exports'],
    'tools/test_complexity.py::test_against_the_sizes_of_the_maps': [
        r'python tools/complexity\.py'
    ],
    'tools/test_gpu_report.py::test_layers_without_openmmlab': [
        r'make gpu-report',
        r'python tools/gpu_report\.py',
        r'python tools/benchmark\.py (resources|predict)',
    ],
    'test_mmaction2_tools.py::test_publish_model': [r'mim run mmaction'],
    'test_mmaction2_tools.py::test_show_dir': [r'mim test mmaction .*--show-dir'],
}
# The others, by the reason why no test runs them
NOT_RUN = {
    'CI itself runs them, or parts of them': [
        r'make (setup|lint|test|test-fast|test-all)(?!-)|pytest '
    ],
    'needs the network': [
        r"pip install (-e )?('(torch|\.)|\.)",
        r'pip install (onnx|torchserve|\'av|"moviepy)',
        r'make (release-check|test-versions|test-configs)',
    ],
    'takes an hour': [r'make long-run'],
    'needs Java; tests/deployment/test_torchserve.py runs the handler': [
        r'torch-model-archiver|torchserve|curl'
    ],
    'needs GPUs; tests/test_distributed.py runs two processes on a CPU': [
        r'mim (train|test) mmaction CONFIG .*--launcher pytorch'
    ],
    'needs Slurm': [r'mim train mmaction CONFIG --launcher slurm'],
    'needs two machines': [r'torchrun'],
    'belongs to the command below it': [r'lists=', r'cd '],
}
# Options that tools share are in the package.
PARSERS = ''.join(path.read_text() for path in (REPO / 'aia_mmaction').rglob('*.py'))
PATTERNS = [p for patterns in [*RUN_BY.values(), *NOT_RUN.values()] for p in patterns]


def text_of(page):
    """Of a notebook the prose: its cells of code run whole."""
    if page.suffix == '.md':
        return page.read_text()
    cells = nbformat.read(page, as_version=4).cells
    return '\n'.join(cell.source for cell in cells if cell.cell_type == 'markdown')


def documented():
    """Each command with its page, without comments, on one line."""
    for page in PAGES:
        text = text_of(page)
        for block in re.findall(r'```shell\n(.*?)```', text, re.DOTALL):
            for line in block.replace('\\\n', ' ').splitlines():
                command = ' '.join(re.sub(r'(^|\s)#.*', '', line).split())
                if command:
                    yield page.name, command
        prose = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
        for command in re.findall(
            r'`((?:python (?:-m |tools/)|(?:mim|make|pip|pytest) )[^`]+)`', prose
        ):
            command = ' '.join(command.split())
            # Such as `mim test`: a name, no more
            if not re.fullmatch(r'mim \w+( --[\w-]+)?', command):
                yield page.name, command


@pytest.mark.parametrize('page, command', documented())
def test_is_run(page, command):
    found = [pattern for pattern in PATTERNS if re.match(pattern, command)]
    assert len(found) == 1, (
        f'{page}: expected one pattern above for {command!r}, got {found}.'
    )


OF_TOOLS = [(p, command) for p, command in documented() if 'python tools/' in command]


@pytest.mark.parametrize('page, command', OF_TOOLS)
def test_options_exist(page, command):
    tool = re.search(r'python (tools/\S+\.py)', command)[1]
    known = (REPO / tool).read_text() + PARSERS
    options = re.findall(r'\s(--[a-z][\w-]*)', command)
    missing = [option for option in options if f"'{option}'" not in known]
    assert not missing, f'{page}: {command!r}'


def test_no_pattern_is_left_over():
    commands = [command for _, command in documented()]
    assert not [p for p in PATTERNS if not any(re.match(p, c) for c in commands)]


@pytest.mark.parametrize('name', RUN_BY)
def test_the_test_exists(name):
    file, test = name.split('::')
    text = (REPO / 'tests' / file).read_text()
    assert re.search(rf'^(def|class) {test}\b', text, re.MULTILINE)
