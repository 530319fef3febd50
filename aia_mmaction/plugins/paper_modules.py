"""The ten modules of the paper's study (arXiv 2204.09303, section IV)."""

from typing import Any, Dict, List

_C, _ST, _CINST, _STINC = (
    dict(type=name)
    for name in ('ChannelContext', 'SpatioTemporalContext', 'CinST', 'STinC')
)


def _cascade(*layers: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [dict(cfg=layer) for layer in layers]


def _parallel(*layers: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [dict(cfg=dict(type='ParallelAttention', branches=list(layers)))]


# What `plugins='C2ST'` stands for.
PAPER_MODULES: Dict[str, List[Dict[str, Any]]] = {
    'C': _cascade(_C),
    'ST': _cascade(_ST),
    'C2ST': _cascade(_C, _ST),
    'ST2C': _cascade(_ST, _C),
    'CplusST': _parallel(_C, _ST),
    'CinST': _cascade(_CINST),
    'STinC': _cascade(_STINC),
    'CinST2STinC': _cascade(_CINST, _STINC),
    'STinC2CinST': _cascade(_STINC, _CINST),
    'STinCplusCinST': _parallel(_STINC, _CINST),
}
