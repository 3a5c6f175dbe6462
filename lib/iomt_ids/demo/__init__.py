"""The embedded default data: every class of the contract, synthetic and saying so.

No row here was captured anywhere. The classes overlap on purpose, and the faults of the real
release are imitated on purpose: duplicates, a clock disguised as a column, window sizes that name
the class. A score on this data says that the code works, nothing about any network.
"""

from iomt_ids.demo.captures import MIN_ROWS
from iomt_ids.demo.files import DemoFile, demo_files, rows_for_bytes

__all__ = ["MIN_ROWS", "DemoFile", "demo_files", "rows_for_bytes"]
