import sys

import grpc

from ottla.v1 import data_pb2, data_pb2_grpc

_, address, topic = sys.argv
data = data_pb2_grpc.DataServiceStub(grpc.insecure_channel(address))

sent = data.Send(data_pb2.SendRequest(topic=topic, records=[data_pb2.SendRecord(key=b"k", value=b"hello")]))
print("stored at offset", sent.results[0].offset)

read = data.Fetch(data_pb2.FetchRequest(partitions=[data_pb2.FetchPartition(topic=topic, offset=-2)]))
for batch in read.partitions[0].batches:
    for record in batch.records.records:
        print(record.key.decode(), record.value.decode())
