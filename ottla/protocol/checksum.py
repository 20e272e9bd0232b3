"""CRC-32C (Castagnoli), the checksum of batches, small files and snapshots.

`crc32c(data, initial)`: of any bytes-like object; `initial` is the checksum of what comes before it, or a seed.
"""

from fastcrc.crc32 import iscsi as crc32c

__all__ = ["crc32c"]
