import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class build_py_with_mim(build_py):
    """Put configs, tools and their index where `mim` looks: under `.mim`."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        mim = Path(self.build_lib) / 'aia_mmaction' / '.mim'
        for folder in ('configs', 'tools'):
            shutil.copytree(
                HERE / folder,
                mim / folder,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns('__pycache__'),
            )
        shutil.copy(HERE / 'model-index.yml', mim)


def version():
    scope = {}
    exec((HERE / 'aia_mmaction' / 'version.py').read_text(), scope)
    return scope['__version__']


setup(
    name='aia_mmaction',
    version=version(),
    description='Attention in Attention (CinST, STinC) for MMAction2',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The contributors of aia_mmaction',
    license='Apache-2.0',
    keywords='video classification, action recognition, attention, MMAction2',
    packages=find_packages(include=['aia_mmaction', 'aia_mmaction.*']),
    package_data={'aia_mmaction': ['py.typed', 'datasets/labels/*.txt']},
    cmdclass={'build_py': build_py_with_mim},
    python_requires='>=3.8',
    # Those of `make test-versions`
    classifiers=[
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'License :: OSI Approved :: Apache Software License',
        *(f'Programming Language :: Python :: 3.{n}' for n in (8, 9, 10, 11, 12, 13)),
    ],
    # mmcv and mmcv-lite own the same folder, so neither is named here: the
    # user has one of them, or takes it with an extra.
    install_requires=[
        'torch>=2.1',
        'mmengine>=0.10.4,<1.0.0',
        'mmaction2>=1.2.0,<1.3.0',
        'decord>=0.6.0; sys_platform != "darwin"',
        'eva-decord>=0.6.0; sys_platform == "darwin"',
        # mmaction2 imports it and does not declare it.
        'importlib_metadata',
        # MMEngine and mim need pkg_resources, which setuptools 81 dropped.
        'setuptools<81; python_version < "3.12"',
        # Older ones fail to import in Python 3.12.
        'setuptools>=66.1,<81; python_version >= "3.12"',
    ],
    extras_require={
        'mmcv-lite': ['mmcv-lite>=2.0.1,<2.2.0'],
        # It needs a part of pip that pip 25 does not have.
        'mim': ['openmim>=0.3.9', 'pip<25'],
        # The fast path on CPUs
        'cpu': ['numba'],
        # Reads what decord does not, or not in order. There is none for Python 3.8.
        'video': ['av>=15; python_version >= "3.9"'],
        'onnx': ['onnx', 'onnxruntime'],
        # docs/tutorial.ipynb
        'tutorial': ['ipykernel', 'nbclient'],
        'lint': ['codespell', 'mypy', 'ruff'],
        'tests': [
            'pytest',
            'pytest-xdist',
            'hypothesis',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'ipykernel',
            'nbclient',
        ],
    },
)
