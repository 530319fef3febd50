"""Pictures of predictions, ``mim test --show-dir``."""

from .on_disk import Edit
from .repair import Repair

HOOK = Edit(
    symptom='mim test --show-dir stops: the hook is not in the config',
    package='mmaction',
    path='.mim/tools/test.py',
    old="""\
        assert 'visualization' in cfg.default_hooks, \\
            'VisualizationHook is not set in the `default_hooks` field of ' \\
            'config. Please set `visualization=dict(type="VisualizationHook")`'
""",
    new="""\
        cfg.default_hooks.setdefault('visualization', {})
        cfg.default_hooks.visualization.setdefault('type', 'VisualizationHook')
""",
    for_tools=True,
)


def _nothing_is_drawn() -> bool:
    """Hand a hook two frames, and look at what it hands the visualizer."""
    from types import SimpleNamespace

    import torch
    from mmaction.engine.hooks import VisualizationHook
    from mmaction.structures import ActionDataSample

    seen: dict = {}

    class Hook(VisualizationHook):
        def __init__(self) -> None:
            self.enable, self.interval, self.out_dir = True, 1, None
            self.draw_args = dict(show=False)
            self._visualizer = visualizer

    visualizer = SimpleNamespace(
        add_datasample=lambda name, video, **kwargs: seen.update(
            kwargs, shape=video.shape
        )
    )
    batch = dict(inputs=[torch.zeros(2, 3, 4, 5)])
    Hook().after_test_iter(
        SimpleNamespace(visualizer=visualizer), 0, batch, [ActionDataSample()]
    )
    return seen['shape'] != (2, 4, 5, 3) or 'show' in seen


def _draw_predictions() -> None:
    from mmaction.engine.hooks import VisualizationHook

    def after_val_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        """Draw every ``interval``-th sample while validating."""
        by_epoch = getattr(runner.train_loop, 'max_epochs', None) is not None
        step = runner.epoch if by_epoch else runner.iter
        _draw(self, runner, batch_idx, data_batch, outputs, step)

    def after_test_iter(self, runner, batch_idx, data_batch, outputs) -> None:
        """Draw every ``interval``-th sample while testing."""
        _draw(self, runner, batch_idx, data_batch, outputs, 0)

    VisualizationHook.after_val_iter = after_val_iter
    VisualizationHook.after_test_iter = after_test_iter


def _draw(hook, runner, batch_idx, data_batch, outputs, step) -> None:
    import os.path as osp

    if not hook.enable:
        return
    for i, (inputs, sample) in enumerate(zip(data_batch['inputs'], outputs)):
        index = batch_idx * len(outputs) + i
        if index % hook.interval:
            continue
        frames = _frames(inputs)
        if frames is None:
            continue
        path = sample.get('filename', sample.get('frame_dir'))
        name = osp.basename(path) if path else str(index)
        options = dict(hook.draw_args)
        options['show_frames'] = options.pop('show', False)
        if hook.out_dir is not None:
            options['out_path'] = hook.file_client.join_path(
                hook.out_dir, f'{name}_{step}'
            )
        runner.visualizer.add_datasample(
            name, video=frames, data_sample=_as_drawn(sample), step=step, **options
        )


def _frames(inputs):
    """``[T, H, W, 3]`` of one view; None for what is no picture."""
    if inputs.dim() == 5:
        # [M, C, T, H, W] -> [T, C, H, W] of the view in the middle
        inputs = inputs[len(inputs) // 2].transpose(0, 1)
    if inputs.shape[1] != 3:  # optical flow, skeletons
        return None
    return inputs.permute(0, 2, 3, 1).cpu().numpy().astype('uint8')


def _as_drawn(sample):
    """Labels under the names by which ``ActionVisualizer`` knows them."""
    from mmaction.structures import ActionDataSample
    from mmengine.structures import LabelData

    drawn = ActionDataSample()
    label = sample.get('gt_label')
    if label is not None and (label >= 0).all():  # -1: not known
        if label.is_floating_point():  # several of them, as a vector
            label = label.nonzero().flatten()
        drawn.gt_label = label.cpu()
        drawn.gt_labels = LabelData(item=drawn.gt_label)
    if 'pred_label' in sample:
        drawn.pred_labels = LabelData(
            item=sample.pred_label.cpu(), score=sample.pred_score.cpu()
        )
    return drawn


REPAIR = Repair(
    symptom='VisualizationHook (mim test --show-dir) takes clips apart wrongly, '
    'passes an argument that ActionVisualizer does not have, and draws no labels',
    affected='mmaction2 1.2.0',
    is_broken=_nothing_is_drawn,
    mend=_draw_predictions,
    on_disk=(HOOK,),
)
