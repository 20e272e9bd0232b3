"""`python -m node --config FILE [--set key=value ...]`: runs one node until it is told to stop.

Exit codes: 0 after a controlled stop, 1 where the node had to give up (its last log line says why), 2 for settings that
cannot work.
"""

import argparse
import sys
from pathlib import Path

from node import process


def main() -> int:
    process.hold_standard_streams()
    parser = argparse.ArgumentParser(prog="python -m node", description="Runs one Ottla node.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with Kafka's dotted names")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="flags", help="a setting; wins over all others"
    )
    parser.add_argument(
        "--test-hooks",
        action="store_true",
        help="let anybody who reaches the http listener inject faults: for tests only",
    )
    arguments = parser.parse_args()
    process.prepare()
    # Only now: grpc reads its environment when it is imported.
    with process.importing():
        from node.config import ConfigError, load
        from node.main import run

    try:
        settings = load(arguments.config, arguments.flags)
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"ottla: {line}", file=sys.stderr)
        return 2
    return run(settings, test_hooks=arguments.test_hooks)


if __name__ == "__main__":
    sys.exit(main())
