#include <grpcpp/grpcpp.h>

#include <iostream>

#include "ottla/v1/data.grpc.pb.h"

using namespace ottla::v1;

int main(int, char** argv) {
  const std::string address = argv[1], topic = argv[2];
  DataService::Stub data(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));

  grpc::ClientContext sending, reading;
  SendRequest request;
  SendResponse sent;
  request.set_topic(topic);
  request.add_records()->set_key("k");
  request.mutable_records(0)->set_value("hello");
  if (!data.Send(&sending, request, &sent).ok()) return 1;
  std::cout << "stored at offset " << sent.results(0).offset() << std::endl;

  FetchRequest wanted;
  FetchResponse read;
  wanted.add_partitions()->set_topic(topic);
  wanted.mutable_partitions(0)->set_offset(-2);
  if (!data.Fetch(&reading, wanted, &read).ok()) return 1;
  for (const auto& batch : read.partitions(0).batches())
    for (const auto& record : batch.records().records())
      std::cout << record.key() << ' ' << record.value() << std::endl;
}
