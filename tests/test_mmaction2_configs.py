"""One config of MMAction2 of each kind; `make test-configs` has them all."""

import pytest

from . import mmaction2_configs
from .conftest import exhaustive_but

USUAL = [name for name in mmaction2_configs.EXAMPLES if '/trn/' in name]


def check(name):
    result = mmaction2_configs.try_one(name)
    assert not mmaction2_configs.surprise(result)


@pytest.mark.parametrize('name', exhaustive_but(USUAL, mmaction2_configs.EXAMPLES))
def test_config(name):
    check(name)


@pytest.mark.image_libraries
@pytest.mark.parametrize('name', mmaction2_configs.OF_IMAGE_LIBRARIES)
def test_config_of_an_image_library(name):
    check(name)
