from mmaction.registry import MODELS

from .base import AIABackbone

try:
    from mmaction.models.backbones.mobileone_tsm import MobileOneTSM
except Exception as error:  # it is mmpretrain's MobileOne
    _reason = f'{type(error).__name__}: {error}'

    class MobileOneTSM:  # type: ignore[no-redef]
        """Says what is missing to whoever builds it."""

        def __init__(self, *args, **kwargs) -> None:
            raise ImportError(
                'AIAMobileOneTSM: expected mmpretrain, which MobileOneTSM is '
                f'built on, got {_reason}. Install it, or what it lacks: '
                'pip install mmpretrain'
            )


@MODELS.register_module()
class AIAMobileOneTSM(AIABackbone, MobileOneTSM):
    """MMAction2's ``MobileOneTSM`` with attention.

    A block is a depthwise and a pointwise part; ``after_norm2`` is behind the
    sum of the pointwise part's branches, before its activation.

    Args:
        plugins (Sequence[dict] | str): See :class:`AIABackbone`.
        **kwargs: Arguments of ``MobileOneTSM``.

    Raises:
        ImportError: If mmpretrain is not installed or cannot be imported.
    """
