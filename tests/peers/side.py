"""One of the two brokers as an exchange sees it, and what was said."""

import time
from collections.abc import Callable
from typing import Any

from tests.peers.batches import batch
from tests.peers.normal import Normalizer, Step
from tests.peers.wire import Closed, Connection, Tree

NEW_S = 60.0


class Side:
    """Names carry the exchange's own prefix, which is the same at both brokers."""

    def __init__(self, address: tuple[str, int], prefix: str) -> None:
        self.address, self.prefix = address, prefix
        self.steps: list[Step] = []
        self.ids: dict[str, bytes] = {}
        self._normal = Normalizer()
        self._connections: dict[str, Connection] = {}

    def name(self, name: str) -> str:
        return self.prefix + name

    def connection(self, name: str = "") -> Connection:
        if name not in self._connections:
            self._connections[name] = Connection(self.address)
        return self._connections[name]

    def note(self, label: str, value: Any, keep: Callable[[Tree], Any] = lambda answer: answer) -> None:
        """What is compared."""
        told = isinstance(value, dict) and ("ends" in value or "unreadable" in value)
        self.steps.append((label, self._normal(value if told else keep(value))))

    def quiet(self, api: str, v: int, on: str = "", **body: Any) -> Tree:
        """Asks, and keeps the answer out of the comparison; an ended connection is an answer, too."""
        self.send(api, v, on, **body)
        return self.receive(on)

    def send(self, api: str, v: int, on: str = "", *, answered: bool = True, **body: Any) -> None:
        """Of a request whose answer is read later, or never comes."""
        self.connection(on).send(api, v, body, answered=answered)

    def receive(self, on: str = "") -> Tree:
        try:
            return self.connection(on).receive()
        except Closed:
            return {"ends": "the connection is closed"}
        except TimeoutError:
            return {"ends": "no answer"}

    def ask(
        self, api: str, v: int, on: str = "", label: str = "", keep: Callable[[Tree], Any] = lambda answer: answer,
        **body: Any,
    ) -> Tree:  # fmt: skip
        """A step: asks and notes the answer. After an ended connection the next step has a new one."""
        answer = self.quiet(api, v, on, **body)
        self.note(f"{api}{' ' + label if label else ''}", answer, keep)
        if "ends" in answer:
            self._connections.pop(on).close()
        return answer

    def until(self, good: Callable[[Tree], bool], api: str, v: int, **body: Any) -> Tree:
        """Asks until the answer is good; none of it is compared."""
        end = time.monotonic() + NEW_S
        while not good(answer := self.quiet(api, v, **body)):
            if time.monotonic() > end:
                raise AssertionError(f"{self.address}: {api} says {answer} after {NEW_S} s")
            time.sleep(0.03)
        return answer

    def topic(self, name: str = "t", partitions: int = 1, **configs: str) -> str:
        """A new topic whose leaders serve; underscores in names of configs are dots."""
        full = self.name(name)
        pairs = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
        new = {"name": full, "num_partitions": partitions, "replication_factor": 1, "configs": pairs}
        [made] = self.quiet("CreateTopics", 5, topics=[new], timeout_ms=10_000)["topics"]
        assert made["error_code"] in (0, 36), made
        self.ids[full] = self.served(full, partitions)
        return full

    def served(self, full: str, partitions: int = 1) -> bytes:
        """Waits until all leaders of a topic serve; its id."""
        asked = {"topics": [{"name": full}], "allow_auto_topic_creation": False}
        found = self.until(
            lambda a: len(a["topics"][0]["partitions"]) == partitions
            and all(p["error_code"] == 0 for p in a["topics"][0]["partitions"]),
            "Metadata", 12, **asked,
        )  # fmt: skip
        ends = [{"partition_index": number, "timestamp": -1} for number in range(partitions)]
        self.until(
            lambda a: all(p["error_code"] == 0 for p in a["topics"][0]["partitions"]),
            "ListOffsets", 5, replica_id=-1, topics=[{"name": full, "partitions": ends}],
        )  # fmt: skip
        topic_id: bytes = found["topics"][0]["topic_id"]
        self._normal(topic_id, "topic_id")  # numbered as it is made, whatever the order in answers
        return topic_id

    def put(self, topic: str, data: bytes | list[bytes | None], partition: int = 0) -> int:
        """Appends a batch; its first offset."""
        data = data if isinstance(data, bytes) else batch(data)
        part = {"index": partition, "records": data}
        answer = self.quiet("Produce", 9, **produce(topic, [part]))
        [found] = answer["responses"][0]["partition_responses"]
        assert found["error_code"] == 0, found
        offset: int = found["base_offset"]
        return offset

    def close(self) -> None:
        for each in self._connections.values():
            each.close()


def produce(topic: str, parts: list[Tree], acks: int = -1, topic_id: bytes = bytes(16)) -> Tree:
    named = {"name": topic, "topic_id": topic_id, "partition_data": parts}
    return {"acks": acks, "timeout_ms": 10_000, "topic_data": [named]}
