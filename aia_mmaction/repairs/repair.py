"""What a repair is."""

from typing import Callable, NamedTuple, Optional, Tuple, Union

from .on_disk import Edit, NewFiles


class Repair(NamedTuple):
    """A fault of an installed package, how to see it, and the mend.

    Every file of this folder with a ``REPAIR`` is one, and is deleted with the
    file. Its name is the file's. Nothing is imported at the top of such a file
    that may be missing, since the doctor runs where imports fail.
    """

    symptom: str
    """What fails without it."""
    affected: str
    """Versions in which that was seen."""
    upstream: str = 'no report known'
    """Where it is reported."""
    is_broken: Optional[Callable[[], bool]] = None
    """Tries what fails, and tells whether it does."""
    mend: Optional[Callable[[], None]] = None
    """Repairs it in memory; None for what can be repaired on disk only."""
    on_disk: Tuple[Union[Edit, NewFiles], ...] = ()
    """What ``doctor --fix`` changes."""
    comes_first: bool = False
    """Whether ``is_broken`` of the others needs it made."""
