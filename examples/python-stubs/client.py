"""A complete client on generated stubs alone: see ../README.md. Uses grpcio's blocking API."""

import argparse
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator

import grpc

from ottla.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    data_pb2,
    data_pb2_grpc,
    error_pb2,
    group_pb2,
    group_pb2_grpc,
    record_pb2,
)

RETRY_SECONDS = 30
TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
EARLIEST = -2


class Refused(Exception):
    """An error that trying again does not help."""


def check(error: error_pb2.Error) -> None:
    if error.code:
        raise Refused(f"{error_pb2.ErrorCode.Name(error.code)}: {error.message}")


def again(call: Callable[[], list[error_pb2.Error]]) -> None:
    """Calls until no retriable error is left."""
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            errors = [error for error in call() if error.code]
        except grpc.RpcError as error:
            if error.code() not in TRANSIENT or time.monotonic() > deadline:
                raise
            errors = [error_pb2.Error(retriable=True)]
        if not errors:
            return
        if time.monotonic() > deadline or not errors[0].retriable:
            check(errors[0])
        time.sleep(max(errors[0].retry_after_ms, 50) / 1000)


class Client:
    def __init__(self, address: str, hexadecimal: bool) -> None:
        channel = grpc.insecure_channel(address)
        self.data = data_pb2_grpc.DataServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.groups = group_pb2_grpc.GroupServiceStub(channel)
        self.hex = hexadecimal

    def decode(self, text: str) -> bytes | None:
        if not self.hex:
            return text.encode()
        return None if text == "-" else bytes.fromhex(text)

    def encode(self, record: record_pb2.Record) -> str:
        key = record.key if record.HasField("key") else None
        value = record.value if record.HasField("value") else None
        if not self.hex:
            return f"{(key or b'').decode()}\t{(value or b'').decode()}"
        headers = ",".join(f"{h.key}={h.value.hex() if h.HasField('value') else '-'}" for h in record.headers)
        return "\t".join(["-" if x is None else x.hex() for x in (key, value)] + [headers])

    def create_topic(self, topic: str, partitions: int, replication: int) -> None:
        new = admin_pb2.NewTopic(name=topic, num_partitions=partitions, replication_factor=replication)

        def call() -> list[error_pb2.Error]:
            result = self.admin.CreateTopics(admin_pb2.CreateTopicsRequest(topics=[new]), timeout=10).topics[0]
            if not result.error.code:
                print(result.topic_id.hex())
            return [result.error]

        again(call)

    def record(self, line: str) -> data_pb2.SendRecord:
        columns = line.split("\t")
        if len(columns) == 1:
            return data_pb2.SendRecord(value=self.decode(columns[0]))
        record = data_pb2.SendRecord(key=self.decode(columns[0]), value=self.decode(columns[1]))
        for header in columns[2].split(",") if self.hex and len(columns) > 2 and columns[2] else []:
            name, _, value = header.partition("=")
            record.headers.add(key=name, value=self.decode(value))
        return record

    def produce(self, topic: str, lines: Iterator[str]) -> None:
        """A record is sent again only while its own refusal is retriable."""
        for line in lines:
            request = data_pb2.SendRequest(topic=topic, acks=-1, records=[self.record(line.rstrip("\n"))])

            def call(request: data_pb2.SendRequest = request) -> list[error_pb2.Error]:
                result = self.data.Send(request, timeout=10).results[0]
                if not result.error.code:
                    print(f"{result.partition}\t{result.offset}", flush=True)
                return [result.error]

            again(call)

    def fetch(self, positions: list[data_pb2.FetchPartition], wait_ms: int) -> list[data_pb2.FetchResult]:
        results: list[data_pb2.FetchResult] = []

        def call() -> list[error_pb2.Error]:
            request = data_pb2.FetchRequest(partitions=positions, max_wait_ms=wait_ms)
            results[:] = self.data.Fetch(request, timeout=10).partitions
            return [result.error for result in results]

        again(call)
        return results

    def consume(self, topic: str, partition: int, offset: int, count: int) -> None:
        while count > 0:
            for result in self.fetch([data_pb2.FetchPartition(topic=topic, partition=partition, offset=offset)], 500):
                for at, record in records(result.batches, offset):
                    if count > 0:
                        print(f"{at}\t{self.encode(record)}", flush=True)
                        count -= 1
                offset = result.next_offset

    def group(self, group: str, topic: str, idle_ms: int) -> None:
        """Joins, and follows what it is told: stop with what is not in an assignment, start with what is new."""
        said: queue.Queue[group_pb2.SessionRequest | None] = queue.Queue()
        told: queue.Queue[group_pb2.SessionResponse] = queue.Queue()
        member_id, epoch = str(uuid.uuid4()), 0
        positions: dict[int, int] = {}
        last = time.monotonic()
        leaving = False

        def listen() -> None:
            nonlocal said
            while not leaving:
                opened: queue.Queue[group_pb2.SessionRequest | None] = queue.Queue()
                join = group_pb2.Join(group_id=group, topics=[topic], member_id=member_id, member_epoch=epoch)
                opened.put(group_pb2.SessionRequest(join=join))
                said = opened  # not before: join is a stream's first word
                try:
                    for response in self.groups.Session(iter(opened.get, None)):
                        told.put(response)
                except grpc.RpcError as error:
                    if error.code() not in TRANSIENT:
                        raise
                time.sleep(0.05)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        while (time.monotonic() - last) * 1000 < idle_ms:
            try:
                response = told.get(timeout=0.001 if positions else 0.2)
            except queue.Empty:
                response = group_pb2.SessionResponse()
            if response.HasField("error") and not response.error.retriable:
                epoch, positions = 0, {}
            if response.HasField("assignment"):
                assignment = response.assignment
                epoch = assignment.member_epoch
                positions = {p.partition.partition: start(p, positions) for p in assignment.partitions}
                owned = [p.partition for p in assignment.partitions]
                said.put(
                    group_pb2.SessionRequest(
                        owned=group_pb2.Owned(assignment_id=assignment.assignment_id, partitions=owned)
                    )
                )
            if not positions:
                continue
            wanted = [data_pb2.FetchPartition(topic=topic, partition=p, offset=o) for p, o in positions.items()]
            offsets = []
            for result in self.fetch(wanted, 200):
                for at, record in records(result.batches, positions[result.partition]):
                    print(f"{result.partition}\t{at}\t{self.encode(record)}", flush=True)
                    last = time.monotonic()
                positions[result.partition] = result.next_offset
                where = data_pb2.TopicPartition(topic=topic, partition=result.partition)
                offsets.append(group_pb2.OffsetCommit(partition=where, offset=result.next_offset))
            if offsets:
                # A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
                self.groups.CommitOffsets(
                    group_pb2.CommitOffsetsRequest(
                        group_id=group, member_id=member_id, member_epoch=epoch, offsets=offsets
                    ),
                    timeout=10,
                )
        said.put(group_pb2.SessionRequest(leave=group_pb2.Leave()))
        leaving = True
        said.put(None)
        listener.join(timeout=10)  # until the coordinator has heard it, too

    def segment(self, path: str) -> None:
        """Reads a partition's file as the message it is."""
        with open(path, "rb") as file:
            for at, record in records(record_pb2.Segment.FromString(file.read()).batches, 0):
                print(f"{at}\t{self.encode(record)}")

    def errors(self, topic: str) -> None:
        """Three refusals: what the code is called, and whether to try again."""
        small, large = data_pb2.SendRecord(value=b"x"), data_pb2.SendRecord(value=bytes(2_000_000))
        for name, acks, record in (("no-such-topic", -1, small), (topic, -1, large), (topic, 7, small)):
            request = data_pb2.SendRequest(topic=name, acks=acks, records=[record])
            error = self.data.Send(request, timeout=10).results[0].error
            print(f"{error_pb2.ErrorCode.Name(error.code)}\t{str(error.retriable).lower()}")


def start(given: group_pb2.AssignedPartition, positions: dict[int, int]) -> int:
    """Where to read a partition: on, from what the group committed, or all that there is."""
    committed = given.committed_offset if given.HasField("committed_offset") else EARLIEST
    return positions.get(given.partition.partition, committed)


def records(batches: Iterable[record_pb2.RecordBatch], wanted: int) -> Iterator[tuple[int, record_pb2.Record]]:
    """(offset, record) from the wanted offset on: the first batch may begin before it."""
    for batch in batches:
        for place, record in enumerate(batch.records.records):
            at = batch.base_offset + (record.offset_delta if record.HasField("offset_delta") else place)
            if at >= wanted:
                yield at, record


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1:9192")
    parser.add_argument("--hex", action="store_true")
    parser.add_argument("verb", choices=["create-topic", "produce", "consume", "group", "segment", "errors"])
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args()
    client = Client(args.address, args.hex)
    rest = args.rest
    try:
        match args.verb:
            case "create-topic":
                client.create_topic(rest[0], int(rest[1]), int(rest[2]))
            case "produce":
                client.produce(rest[0], iter(sys.stdin))
            case "consume":
                client.consume(rest[0], int(rest[1]), int(rest[2]), int(rest[3]))
            case "group":
                client.group(rest[0], rest[1], int(rest[2]))
            case "segment":
                client.segment(rest[0])
            case "errors":
                client.errors(rest[0])
    except (Refused, grpc.RpcError) as error:
        sys.exit(error.details() if isinstance(error, grpc.RpcError) else str(error))
    except (IndexError, ValueError):
        sys.exit("usage: see examples/README.md")


if __name__ == "__main__":
    main()
