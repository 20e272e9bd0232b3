"""What the nodes wrote about themselves: rules that their own logs show to be broken."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')
# Events that mean a bug of ours, whatever was done to the node.
_NEVER = {"request_failed": "a request ended with an exception", "http_failed": "a page ended with an exception"}


def flaws_in(logs: Mapping[int, Iterable[str]]) -> list[str]:
    """One line per broken rule: two leaders of a partition in one epoch, a broken invariant, an exception of ours."""
    leaders: dict[tuple[str, str], set[int]] = defaultdict(set)
    flaws = []
    for node, lines in sorted(logs.items()):
        for line in lines:
            if "event" not in line:
                continue
            event = _fields(line)
            name = str(event.get("event", ""))
            if name == "leading":
                leaders[str(event.get("partition")), str(event.get("epoch"))].add(node)
            elif "InvariantError" in line:
                flaws.append(f"node {node} found a broken invariant: {line.strip()[:300]}")
            elif name in _NEVER:
                flaws.append(f"node {node}: {_NEVER[name]}: {line.strip()[:300]}")
    flaws += [
        f"{partition} had {len(who)} leaders in epoch {epoch}: nodes {sorted(who)}"
        for (partition, epoch), who in sorted(leaders.items())
        if len(who) > 1
    ]
    return flaws


def _fields(line: str) -> dict[str, object]:
    if line.startswith("{"):
        try:
            found = json.loads(line)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}
    return {name: value.strip('"') for name, value in _PAIR.findall(line)}
