"""Report and mend what is broken in an installation of the OpenMMLab stack.

Runs where ``import aia_mmaction`` fails, and therefore imports nothing that
may be missing before it has looked.

Examples:
    python -m aia_mmaction.doctor         # versions, problems, remedies
    python -m aia_mmaction.doctor --fix   # repair on disk what can be
    python -m aia_mmaction.doctor --undo  # take that back
"""

import argparse
import sys
from importlib.util import find_spec
from typing import List, Optional

from .repairs.report import fix, report, undo


def main(args: Optional[List[str]] = None) -> int:
    """Report, fix or undo; return 1 if a problem is left."""
    parser = argparse.ArgumentParser(
        prog='python -m aia_mmaction.doctor',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--fix', action='store_true', help='repair on disk what can be')
    group.add_argument('--undo', action='store_true', help='take back what --fix did')
    options = parser.parse_args(args)
    if (options.fix or options.undo) and not find_spec('mmaction'):
        parser.exit(
            1,
            'doctor: mmaction2 is not installed, there is nothing '
            'to change. Install it: pip install mmaction2\n',
        )
    if options.fix:
        text, sound = fix(), True
    elif options.undo:
        text, sound = undo(), True
    else:
        text, sound = report()
    print(text)
    return 0 if sound else 1


if __name__ == '__main__':
    sys.exit(main())
