"""Losses of bfloat16 scores, which MMAction2 hands to NumPy."""

from functools import wraps

from .repair import Repair


def _loss_fails() -> bool:
    import torch
    from mmaction.models.heads import BaseHead
    from mmaction.structures import ActionDataSample

    class Head:
        num_classes, topk, multi_class, label_smooth_eps = 2, (1,), False, 0.0

        @staticmethod
        def loss_cls(scores, labels, **kwargs):
            return scores.sum()

    sample = ActionDataSample().set_gt_label(0)
    try:
        BaseHead.loss_by_feat(Head(), torch.zeros(1, 2, dtype=torch.bfloat16), [sample])
    except TypeError:  # unsupported ScalarType
        return True
    return False


def _compute_loss_in_float32() -> None:
    import torch
    from mmaction.models.heads import BaseHead

    loss_by_feat = BaseHead.loss_by_feat

    @wraps(loss_by_feat)
    def repaired(self, cls_scores, data_samples):
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return loss_by_feat(self, cls_scores, data_samples)

    BaseHead.loss_by_feat = repaired


REPAIR = Repair(
    symptom='BaseHead hands bfloat16 scores to numpy, which has no bfloat16',
    affected='mmaction2 1.2.0',
    is_broken=_loss_fails,
    mend=_compute_loss_in_float32,
)
