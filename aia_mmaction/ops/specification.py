"""What every path is told about a layer, besides its tensors."""

from typing import NamedTuple

from .reference import GateAxes

# Gates that the kernels of numba and Triton compute together; '' are none.
KERNEL_GATES = {'', 'C', 'THW'}
# Of an axis for numba, whose argmax is a 16-bit number
MAX_SIZE = 2**15 - 1


class Specification(NamedTuple):
    """What to compute.

    Its fields are arguments of the operators (:mod:`.operator`), in this
    order. A new option is added here, and read where it matters.
    """

    inner: str  # axes of the inner gates, '' for none
    outer: str  # axes of the outer gates
    num_segments: int  # frames per clip of 4-D input; 0 for 5-D
    eps: float  # added to the variance
    batch_stats: bool  # whether the norms use the statistics of the batch
    relu: bool  # whether the output goes through a ReLU
    # Processes that the statistics of the batch are over (:mod:`.sync`); '' for
    # this one alone
    group: str = ''

    @property
    def axes(self) -> GateAxes:
        """The axes of the gates."""
        return GateAxes(self.inner, self.outer)
