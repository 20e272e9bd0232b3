// A complete client on generated stubs alone: see ../README.md. Takes one address; any node forwards.

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "ottla/v1/admin.grpc.pb.h"
#include "ottla/v1/data.grpc.pb.h"
#include "ottla/v1/group.grpc.pb.h"

using namespace ottla::v1;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct Refused : std::runtime_error { using std::runtime_error::runtime_error; };

bool transient(const grpc::Status& status) {
  return status.error_code() == grpc::UNAVAILABLE || status.error_code() == grpc::DEADLINE_EXCEEDED;
}

// Calls until no retriable error is left.
void again(const std::function<grpc::Status(grpc::ClientContext*, std::vector<Error>*)>& call) {
  const auto deadline = Clock::now() + std::chrono::seconds(30);
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    std::vector<Error> errors;
    const grpc::Status status = call(&context, &errors);
    if (!status.ok()) {
      if (!transient(status) || Clock::now() > deadline) throw Refused(status.error_message());
      errors.emplace_back().set_code(ERROR_CODE_NETWORK_EXCEPTION);
      errors.back().set_retriable(true);
    }
    const Error* first = nullptr;
    for (const Error& error : errors)
      if (!first && error.code() != ERROR_CODE_NONE) first = &error;
    if (!first) return;
    if (!first->retriable() || Clock::now() > deadline)
      throw Refused(ErrorCode_Name(first->code()) + ": " + first->message());
    std::this_thread::sleep_for(milliseconds(std::max(50, first->retry_after_ms())));
  }
}

std::string to_hex(const std::string& bytes) {
  std::string text;
  for (unsigned char c : bytes) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", c);
    text += pair;
  }
  return text;
}

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (char c : text) c == at ? void(parts.emplace_back()) : parts.back().push_back(c);
  return parts;
}

class Client {
 public:
  Client(const std::string& address, bool hex) : hex_(hex) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(32 << 20);
    auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    data_ = DataService::NewStub(channel);
    admin_ = AdminService::NewStub(channel);
    groups_ = GroupService::NewStub(channel);
  }

  void create_topic(const std::string& topic, int partitions, int replication) {
    CreateTopicsRequest request;
    NewTopic* wanted = request.add_topics();
    wanted->set_name(topic);
    wanted->set_num_partitions(partitions);
    wanted->set_replication_factor(replication);
    again([&](grpc::ClientContext* context, std::vector<Error>* errors) {
      CreateTopicsResponse response;
      const auto status = admin_->CreateTopics(context, request, &response);
      for (const auto& result : response.topics()) {
        errors->push_back(result.error());
        if (!result.has_error()) std::cout << to_hex(result.topic_id()) << std::endl;
      }
      return status;
    });
  }

  // A record is sent again only while its own refusal is retriable.
  void produce(const std::string& topic) {
    for (std::string line; std::getline(std::cin, line);) {
      SendRequest request;
      request.set_topic(topic);
      request.set_acks(-1);
      parse(line, request.add_records());
      again([&](grpc::ClientContext* context, std::vector<Error>* errors) {
        SendResponse response;
        const auto status = data_->Send(context, request, &response);
        for (const auto& result : response.results()) {
          errors->push_back(result.error());
          if (!result.has_error()) std::cout << result.partition() << '\t' << result.offset() << std::endl;
        }
        return status;
      });
    }
  }

  void consume(const std::string& topic, int partition, int64_t offset, int count) {
    while (count > 0) {
      const FetchResponse response = fetch(topic, {{partition, offset}}, 500);
      for (const auto& result : response.partitions()) {
        each(result.batches(), offset, [&](int64_t at, const Record& record) {
          if (count-- > 0) std::cout << at << '\t' << show(record) << std::endl;
        });
        offset = result.next_offset();
      }
    }
  }

  // Follows what it is told: stops with what is not in an assignment, starts with what is new.
  void group(const std::string& group, const std::string& topic, int idle_ms) {
    auto last = Clock::now();
    bool over = false;
    while (!over) {
      grpc::ClientContext session;
      auto stream = groups_->Session(&session);
      SessionRequest hello;
      Join* join = hello.mutable_join();
      join->set_group_id(group);
      join->add_topics(topic);
      join->set_member_id(member_id_);
      join->set_member_epoch(epoch_);
      stream->Write(hello);
      std::mutex mutex;
      std::deque<SessionResponse> told;
      std::atomic<bool> lost{false};
      std::thread listener([&] {
        for (SessionResponse response; stream->Read(&response);) {
          std::lock_guard<std::mutex> lock(mutex);
          told.push_back(response);
        }
        lost = true;
      });
      while (!over) {
        SessionResponse response;
        {
          std::lock_guard<std::mutex> lock(mutex);
          if (told.empty() && lost) break;
          if (!told.empty()) {
            response = told.front();
            told.pop_front();
          }
        }
        follow(response, stream.get());
        if (positions_.empty()) std::this_thread::sleep_for(milliseconds(20));
        else if (read(group, topic)) last = Clock::now();
        over = Clock::now() - last > milliseconds(idle_ms);
      }
      SessionRequest bye;
      bye.mutable_leave();
      stream->Write(bye);
      stream->WritesDone();
      listener.join();
      std::this_thread::sleep_for(milliseconds(50));
    }
  }

  // Reads a partition's file as the message it is.
  void segment(const std::string& path) {
    Segment file;
    std::ifstream stream(path, std::ios::binary);
    if (!file.ParseFromIstream(&stream)) throw Refused("not a segment: " + path);
    each(file.batches(), 0, [&](int64_t at, const Record& record) { std::cout << at << '\t' << show(record) << std::endl; });
  }

  // Three refusals: what the code is called, and whether to try again.
  void errors(const std::string& topic) {
    for (const auto& [name, acks, size] : std::vector<std::tuple<std::string, int, int>>{
             {"no-such-topic", -1, 1}, {topic, -1, 2000000}, {topic, 7, 1}}) {
      ProduceRequest request;
      request.set_acks(acks);
      ProducePartition* partition = request.add_partitions();
      partition->set_topic(name);
      partition->mutable_batch()->mutable_records()->add_records()->set_value(std::string(size, 'x'));
      grpc::ClientContext context;
      ProduceResponse response;
      if (const auto status = data_->Produce(&context, request, &response); !status.ok()) throw Refused(status.error_message());
      const Error& error = response.partitions(0).error();
      std::cout << ErrorCode_Name(error.code()) << '\t' << (error.retriable() ? "true" : "false") << std::endl;
    }
  }

 private:
  FetchResponse fetch(const std::string& topic, const std::map<int, int64_t>& positions, int wait_ms) {
    FetchRequest request;
    request.set_max_wait_ms(wait_ms);
    for (const auto& [number, offset] : positions) {
      FetchPartition* wanted = request.add_partitions();
      wanted->set_topic(topic);
      wanted->set_partition(number);
      wanted->set_offset(offset);
    }
    FetchResponse response;
    again([&](grpc::ClientContext* context, std::vector<Error>* errors) {
      response.Clear();
      const auto status = data_->Fetch(context, request, &response);
      for (const auto& result : response.partitions()) errors->push_back(result.error());
      return status;
    });
    return response;
  }

  // The records from the wanted offset on: the first batch may begin before it.
  template <typename Batches>
  static void each(const Batches& batches, int64_t wanted, const std::function<void(int64_t, const Record&)>& f) {
    for (const auto& batch : batches) {
      int place = 0;
      for (const auto& record : batch.records().records()) {
        const int64_t at = batch.base_offset() + (record.has_offset_delta() ? record.offset_delta() : place);
        if (at >= wanted) f(at, record);
        ++place;
      }
    }
  }

  void follow(const SessionResponse& response, grpc::ClientReaderWriter<SessionRequest, SessionResponse>* stream) {
    if (response.has_error() && !response.error().retriable()) {
      member_id_.clear();
      epoch_ = 0;
      positions_.clear();
    }
    if (!response.has_assignment()) return;
    const Assignment& assignment = response.assignment();
    member_id_ = assignment.member_id();
    epoch_ = assignment.member_epoch();
    const auto before = std::exchange(positions_, {});
    SessionRequest answer;
    answer.mutable_owned()->set_assignment_id(assignment.assignment_id());
    for (const auto& given : assignment.partitions()) {
      const int number = given.partition().partition();
      const auto known = before.find(number);
      positions_[number] = known == before.end() ? given.committed_offset() : known->second;
      *answer.mutable_owned()->add_partitions() = given.partition();
    }
    stream->Write(answer);
  }

  // One fetch of what is owned, printed and committed. Says whether there was a record.
  bool read(const std::string& group, const std::string& topic) {
    bool any = false;
    CommitOffsetsRequest commit;
    commit.set_group_id(group);
    commit.set_member_id(member_id_);
    commit.set_member_epoch(epoch_);
    const FetchResponse fetched = fetch(topic, positions_, 200);
    for (const auto& result : fetched.partitions()) {
      each(result.batches(), positions_[result.partition()], [&](int64_t at, const Record& record) {
        std::cout << result.partition() << '\t' << at << '\t' << show(record) << std::endl;
        any = true;
      });
      positions_[result.partition()] = result.next_offset();
      OffsetCommit* offset = commit.add_offsets();
      offset->mutable_partition()->set_topic(topic);
      offset->mutable_partition()->set_partition(result.partition());
      offset->set_offset(result.next_offset());
    }
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    CommitOffsetsResponse stored;
    // A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
    groups_->CommitOffsets(&context, commit, &stored);
    return any;
  }

  void parse(const std::string& line, SendRecord* record) const {
    const auto columns = split(line, '\t');
    const std::string& value = columns[columns.size() == 1 ? 0 : 1];
    if (columns.size() > 1 && !(hex_ && columns[0] == "-")) record->set_key(hex_ ? from_hex(columns[0]) : columns[0]);
    if (!(hex_ && value == "-")) record->set_value(hex_ ? from_hex(value) : value);
    if (!hex_ || columns.size() < 3 || columns[2].empty()) return;
    for (const auto& text : split(columns[2], ',')) {
      const auto pair = split(text, '=');
      Header* header = record->add_headers();
      header->set_key(pair[0]);
      if (pair[1] != "-") header->set_value(from_hex(pair[1]));
    }
  }

  std::string show(const Record& record) const {
    if (!hex_) return record.key() + "\t" + record.value();
    std::string text = (record.has_key() ? to_hex(record.key()) : "-") + "\t" +
                       (record.has_value() ? to_hex(record.value()) : "-") + "\t";
    for (int i = 0; i < record.headers_size(); ++i) {
      const Header& header = record.headers(i);
      text += (i ? "," : "") + header.key() + "=" + (header.has_value() ? to_hex(header.value()) : "-");
    }
    return text;
  }

  const bool hex_;
  std::unique_ptr<DataService::Stub> data_;
  std::unique_ptr<AdminService::Stub> admin_;
  std::unique_ptr<GroupService::Stub> groups_;
  std::string member_id_;
  int epoch_ = 0;
  std::map<int, int64_t> positions_;
};

int main(int argc, char** argv) {
  std::deque<std::string> args(argv + 1, argv + argc);
  std::string address = "127.0.0.1:9092";
  bool hex = false;
  while (!args.empty() && args[0].rfind("--", 0) == 0) {
    if (args[0] == "--hex") hex = true;
    else if (args.size() > 1) { address = args[1]; args.pop_front(); }
    args.pop_front();
  }
  try {
    Client client(address, hex);
    if (args.empty()) args.emplace_back();
    if (const std::string verb = args[0]; verb == "create-topic" && args.size() == 4) client.create_topic(args[1], std::stoi(args[2]), std::stoi(args[3]));
    else if (verb == "produce" && args.size() == 2) client.produce(args[1]);
    else if (verb == "consume" && args.size() == 5) client.consume(args[1], std::stoi(args[2]), std::stoll(args[3]), std::stoi(args[4]));
    else if (verb == "group" && args.size() == 4) client.group(args[1], args[2], std::stoi(args[3]));
    else if (verb == "segment" && args.size() == 2) client.segment(args[1]);
    else if (verb == "errors" && args.size() == 2) client.errors(args[1]);
    else throw Refused("usage: see examples/README.md");
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
