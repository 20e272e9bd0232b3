"""`make kafka`: writes node/kafka/messages from table.txt. With a folder as argument, there instead."""

import sys
from pathlib import Path

from node.kafka.schema.emit import NOTE, module, module_name
from node.kafka.schema.table import Api, load

MESSAGES = Path(__file__).resolve().parent.parent / "messages"


def index(apis: list[Api]) -> str:
    """What there is: read at start, while an API's own module is imported when it is first asked for."""
    lines = [f'"""Every API that has codecs, {NOTE}"""', "", "from typing import Final, NamedTuple", "", ""]
    lines += ["class Api(NamedTuple):", "    key: int", "    name: str", "    low: int", "    high: int"]
    lines += [
        "    flexible: int  # the first version with tagged fields and compact lengths",
        "    module: str",
        "",
        "",
    ]
    lines.append("APIS: Final = {")
    for api in apis:
        home = "node.kafka" if api.by_hand else "node.kafka.messages"
        what = f'{api.key}, "{api.name}", {api.versions.low}, {api.versions.high}, {api.flexible}'
        lines.append(f'    {api.key}: Api({what}, "{home}.{module_name(api.name)}"),')
    return "\n".join([*lines, "}"]) + "\n"


def write(folder: Path) -> None:
    apis = load()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.py"):
        stale.unlink()
    (folder / "__init__.py").write_text(index(apis))
    for api in apis:
        if not api.by_hand:
            (folder / f"{module_name(api.name)}.py").write_text(module(api))


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES)
