"""`python -m ottla.verify.digest DIRECTORY TOPIC_ID`: hashes of a node's logs of one topic, as JSON by partition.

The wire is the disk: replicas that agree are equal byte by byte, wherever their segments begin.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20


def digests_in(directory: Path, topic_id: bytes) -> dict[int, str]:
    """A hash for each log of the topic in a data directory. A log that is missing is not in the answer."""
    found = {}
    for log in sorted(directory.glob(f"{topic_id.hex()}-*")):
        number = log.name.rpartition("-")[2]
        if not number.isdecimal():
            continue  # on its way out
        digest, size = hashlib.sha256(), 0
        for segment in sorted(log.glob("*.log")):
            with segment.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
        found[int(number)] = f"{digest.hexdigest()[:16]} of {size} bytes"
    return found


if __name__ == "__main__":
    print(json.dumps(digests_in(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]))))
