"""What a study trains."""

import copy
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Union

from mmengine.config import Config

from aia_mmaction.plugins import PAPER_MODULES
from aia_mmaction.utils.config import owner_of_plugins

PLAIN = 'plain'

# What `plugins` says for each, the paper's modules and attention of others
MODULES: Dict[str, Union[str, List[dict]]] = {
    PLAIN: [],
    **{name: name for name in PAPER_MODULES},
    # For networks that are trained already
    'CinST-identity': [dict(cfg=dict(type='CinST', init='identity'))],
    'STinC-identity': [dict(cfg=dict(type='STinC', init='identity'))],
    **{
        name: [dict(cfg=cfg)]
        for name, cfg in dict(
            SE=dict(type='TimmAttention', attn_type='se'),
            CBAM=dict(type='TimmAttention', attn_type='cbam'),
            ECA=dict(type='TimmAttention', attn_type='eca'),
            GC=dict(type='TimmAttention', attn_type='gc'),
            NonLocal=dict(type='NonLocal2d', sub_sample=True),
        ).items()
    },
}


class Model(NamedTuple):
    """A config, with a module of :data:`MODULES` in place of its attention."""

    config: Path
    module: Optional[str] = None  # None for the config as it is

    @property
    def name(self) -> str:
        """How reports and folders call it."""
        stem = self.config.stem
        return stem if self.module is None else f'{stem}+{self.module}'

    def read(self, cfg_options: Dict[str, Any]) -> Config:
        """The whole config, with options as of ``--cfg-options``."""
        cfg = Config.fromfile(self.config)
        cfg.merge_from_dict(cfg_options)
        if self.module is not None:
            owner_of_plugins(cfg.model).plugins = copy.deepcopy(MODULES[self.module])
        return cfg
