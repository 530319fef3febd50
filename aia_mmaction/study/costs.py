"""What the networks of a study cost."""

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Mapping

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from aia_mmaction.benchmarking.complexity import cost
from aia_mmaction.benchmarking.report import environment
from aia_mmaction.benchmarking.timing import Setting, keep_freed_memory
from aia_mmaction.benchmarking.untrained import build_network
from aia_mmaction.datasets.example import example_inputs
from aia_mmaction.utils.config import type_name
from aia_mmaction.utils.files import write_text

REPEATS = 30


def read_or_measure(path: Path, configs: Mapping[str, Config]) -> Dict[str, Any]:
    """Parameters, multiply-adds and milliseconds of each network for a clip.

    Multiply-adds are what MMEngine counts: convolutions, linear layers and norms.
    Time is that of a forward pass on the CPU, without reading the video; all
    networks are measured in turns, so one that is new has all measured again, and
    one whose config has changed.

    Args:
        path (Path): Where the results are kept.
        configs (Mapping[str, Config]): Of the networks, by their names.
    """
    if path.exists():
        found = json.loads(path.read_text(encoding='utf-8'))
        costs = found['models']
        if all(
            name in costs and costs[name].get('config') == digest(cfg)
            for name, cfg in configs.items()
        ):
            return found
    found = _measure(configs)
    write_text(path, json.dumps(found, indent=1) + '\n')
    return found


def digest(cfg: Config) -> str:
    """Tells configs apart."""
    text = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@torch.no_grad()
def _measure(configs: Mapping[str, Config]) -> Dict[str, Any]:
    init_default_scope('mmaction')
    keep_freed_memory()
    first = next(iter(configs.values()))
    hooks = [type_name(hook) for hook in first.get('custom_hooks', ())]
    setting = Setting(
        torch.device('cpu'),
        channels_last='ChannelsLastHook' in hooks,
        repeats=REPEATS,
    )
    networks, costs, forwards = {}, {}, {}
    for name, cfg in configs.items():
        model = networks[name] = build_network(cfg).eval()
        x = example_inputs(cfg, 'test').float()
        if x.dim() == 6:  # the views of a 3-D network are a batch
            x = x[:, :1]
        costs[name] = cost(model, x)
        model, x = setting.prepare(model), setting.prepare(x)
        forwards[name] = lambda model=model, x=x: model(x, mode='tensor')
    seconds = setting.interleave(forwards)
    return dict(
        environment=environment(setting),
        input=list(x.shape),
        models={
            name: dict(
                config=digest(configs[name]),
                parameters=costs[name].parameters,
                multiply_adds=costs[name].multiply_adds,
                milliseconds=round(1000 * seconds[name], 2),
            )
            for name in configs
        },
    )
