"""Names that NumPy 2 took away, and MMAction2 1.2 still uses."""

from typing import Any

from .repair import Repair


def _names() -> dict:
    """What was there, by its old name."""
    import numpy as np

    def in1d(ar1: Any, ar2: Any, **kwargs: Any) -> np.ndarray:
        return np.isin(np.ravel(ar1), ar2, **kwargs)

    trapezoid = getattr(np, 'trapezoid', None)  # NumPy 1 has trapz
    return {'Inf': np.inf, 'NAN': np.nan, 'in1d': in1d, 'trapz': trapezoid}


def _are_missing() -> bool:
    import numpy as np

    return not all(hasattr(np, name) for name in _names())


def _give_back() -> None:
    import numpy as np

    for name, value in _names().items():
        if not hasattr(np, name):
            setattr(np, name, value)


REPAIR = Repair(
    symptom='NumPy 2 has no Inf, NAN, in1d and trapz, which MMAction2 uses: '
    'PoseC3D cannot train, and some metrics fail',
    affected='mmaction2 1.2.0 with numpy >= 2.0, in1d and trapz with numpy >= 2.4',
    is_broken=_are_missing,
    mend=_give_back,
)
