"""Several networks trained and tested alike, several times, and compared."""

from .models import MODULES, PLAIN, Model
from .report import Study, write_report
from .runs import Record, run_all

__all__ = ['MODULES', 'PLAIN', 'Model', 'Record', 'Study', 'run_all', 'write_report']
