// A complete client on generated stubs alone: see ../README.md. Takes one address; any node forwards.

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <fstream>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "ottla/v1/admin.grpc.pb.h"
#include "ottla/v1/data.grpc.pb.h"
#include "ottla/v1/group.grpc.pb.h"

using namespace ottla::v1;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int64_t kEarliest = -2;

struct Refused : std::runtime_error { using std::runtime_error::runtime_error; };

template <typename S, typename Q, typename R>
using Method = grpc::Status (S::*)(grpc::ClientContext*, const Q&, R*);
template <typename R, typename I>
using Items = const google::protobuf::RepeatedPtrField<I>& (R::*)() const;  // the field with what may have an error

// One call: the answer, and the first error in it, be it an item's or the call's own.
template <typename S, typename Q, typename R, typename I>
std::pair<R, Error> call(S* stub, Method<S, Q, R> method, const Q& request, Items<R, I> items) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  R response;
  Error first;
  const auto status = (stub->*method)(&context, request, &response);
  if (const auto code = status.error_code(); code != grpc::OK) {
    first.set_code(ERROR_CODE_NETWORK_EXCEPTION);
    first.set_message(status.error_message());
    first.set_retriable(code == grpc::UNAVAILABLE || code == grpc::DEADLINE_EXCEEDED || code == grpc::CANCELLED);
  }
  for (const I& item : (response.*items)())
    if (first.code() == ERROR_CODE_NONE) first = item.error();
  return {response, first};
}

// Calls until there is no error, or one that trying again does not help.
template <typename S, typename Q, typename R, typename I>
R again(S* stub, Method<S, Q, R> method, const Q& request, Items<R, I> items) {
  for (const auto deadline = Clock::now() + std::chrono::seconds(30);;) {
    const auto [response, error] = call(stub, method, request, items);
    if (error.code() == ERROR_CODE_NONE) return response;
    if (!error.retriable() || Clock::now() > deadline)
      throw Refused(ErrorCode_Name(error.code()) + ": " + error.message());
    std::this_thread::sleep_for(milliseconds(std::max(50, error.retry_after_ms())));
  }
}

std::string to_hex(const std::string& bytes) {
  std::string text;
  for (unsigned char c : bytes) (text += "0123456789abcdef"[c >> 4]) += "0123456789abcdef"[c & 15];
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
  Client(const std::shared_ptr<grpc::Channel>& channel, bool hex)
      : hex_(hex), data_(channel), admin_(channel), groups_(channel) {}

  void create_topic(const std::string& topic, int partitions, int replication) {
    CreateTopicsRequest request;
    NewTopic* wanted = request.add_topics();
    wanted->set_name(topic);
    wanted->set_num_partitions(partitions);
    wanted->set_replication_factor(replication);
    const auto made = again(&admin_, &AdminService::Stub::CreateTopics, request, &CreateTopicsResponse::topics);
    std::cout << to_hex(made.topics(0).topic_id()) << std::endl;
  }

  // A record is sent again only while its own refusal is retriable.
  void produce(const std::string& topic) {
    for (std::string line; std::getline(std::cin, line);) {
      SendRequest request;
      request.set_topic(topic);
      request.set_acks(-1);
      parse(line, request.add_records());
      const auto sent = again(&data_, &DataService::Stub::Send, request, &SendResponse::results).results(0);
      std::cout << sent.partition() << '\t' << sent.offset() << std::endl;
    }
  }

  void consume(const std::string& topic, int partition, int64_t offset, int count) {
    while (count > 0) {
      for (const auto& result : fetch(topic, {{partition, offset}}, 500)) {
        each(result.batches(), offset, [&](int64_t at, const Record& record) {
          if (count-- > 0) std::cout << at << '\t' << show(record) << std::endl;
        });
        offset = result.next_offset();
      }
    }
  }

  // Follows what it is told: stops with what is not in an assignment, starts with what is new.
  void group(const std::string& group, const std::string& topic, int idle_ms) {
    commit_.set_group_id(group);
    commit_.set_member_id("cpp-" + std::to_string(std::random_device()()) + "-" + std::to_string(getpid()));
    auto last = Clock::now();
    const auto busy = [&] { return Clock::now() - last < milliseconds(idle_ms); };
    while (busy()) {
      grpc::ClientContext session;
      auto stream = groups_.Session(&session);
      SessionRequest hello, bye;
      hello.mutable_join()->set_group_id(group);
      hello.mutable_join()->add_topics(topic);
      hello.mutable_join()->set_member_id(commit_.member_id());
      hello.mutable_join()->set_member_epoch(commit_.member_epoch());
      stream->Write(hello);
      SessionResponse response;
      const auto hear = [&] { return std::async(std::launch::async, [&] { return stream->Read(&response); }); };
      std::future<bool> heard = hear();
      while (busy()) {
        if (heard.wait_for(milliseconds(positions_.empty() ? 20 : 1)) == std::future_status::ready) {
          if (!heard.get()) break;
          follow(response, stream.get());
          heard = hear();
        }
        if (!positions_.empty() && read(topic)) last = Clock::now();
      }
      bye.mutable_leave();
      stream->Write(bye);
      stream->WritesDone();
      while (heard.valid() && heard.get()) heard = hear();
    }
  }

  // Reads a partition's file as the message it is.
  void segment(const std::string& path) {
    Segment file;
    std::ifstream stream(path, std::ios::binary);
    if (!file.ParseFromIstream(&stream)) throw Refused("not a segment: " + path);
    each(file.batches(), 0, [&](int64_t at, const Record& record) { std::cout << at << '\t' << show(record) << '\n'; });
  }

  // Three refusals: what the code is called, and whether to try again.
  void errors(const std::string& topic) {
    using Try = std::tuple<std::string, int, int>;
    for (const auto& [name, acks, size] : {Try{"no-such-topic", -1, 1}, Try{topic, -1, 2000000}, Try{topic, 7, 1}}) {
      SendRequest request;
      request.set_topic(name);
      request.set_acks(acks);
      request.add_records()->set_value(std::string(size, 'x'));
      const Error error = call(&data_, &DataService::Stub::Send, request, &SendResponse::results).second;
      std::cout << ErrorCode_Name(error.code()) << '\t' << (error.retriable() ? "true" : "false") << std::endl;
    }
  }

 private:
  google::protobuf::RepeatedPtrField<FetchResult> fetch(
      const std::string& topic, const std::map<int, int64_t>& positions, int wait_ms) {
    FetchRequest request;
    request.set_max_wait_ms(wait_ms);
    for (const auto& [number, offset] : positions) {
      FetchPartition* wanted = request.add_partitions();
      wanted->set_topic(topic);
      wanted->set_partition(number);
      wanted->set_offset(offset);
    }
    return again(&data_, &DataService::Stub::Fetch, request, &FetchResponse::partitions).partitions();
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
      commit_.clear_member_epoch();
      positions_.clear();
    }
    if (!response.has_assignment()) return;
    const Assignment& assignment = response.assignment();
    commit_.set_member_epoch(assignment.member_epoch());
    auto before = std::exchange(positions_, {});
    SessionRequest answer;
    answer.mutable_owned()->set_assignment_id(assignment.assignment_id());
    for (const auto& given : assignment.partitions()) {
      const int number = given.partition().partition();
      const int64_t start = given.has_committed_offset() ? given.committed_offset() : kEarliest;
      positions_[number] = before.count(number) ? before[number] : start;
      *answer.mutable_owned()->add_partitions() = given.partition();
    }
    stream->Write(answer);
  }

  // One fetch of what is owned, printed and committed. Says whether there was a record.
  bool read(const std::string& topic) {
    bool any = false;
    commit_.clear_offsets();
    for (const auto& result : fetch(topic, positions_, 200)) {
      each(result.batches(), positions_[result.partition()], [&](int64_t at, const Record& record) {
        std::cout << result.partition() << '\t' << at << '\t' << show(record) << std::endl;
        any = true;
      });
      positions_[result.partition()] = result.next_offset();
      OffsetCommit* offset = commit_.add_offsets();
      offset->mutable_partition()->set_topic(topic);
      offset->mutable_partition()->set_partition(result.partition());
      offset->set_offset(result.next_offset());
    }
    // A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
    call(&groups_, &GroupService::Stub::CommitOffsets, commit_, &CommitOffsetsResponse::offsets);
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
    for (const auto& h : record.headers())
      text += (text.back() == '\t' ? "" : ",") + h.key() + "=" + (h.has_value() ? to_hex(h.value()) : "-");
    return text;
  }

  const bool hex_;
  DataService::Stub data_;
  AdminService::Stub admin_;
  GroupService::Stub groups_;
  CommitOffsetsRequest commit_;  // with the member's id and epoch
  std::map<int, int64_t> positions_;
};

int main(int argc, char** argv) try {
  std::deque<std::string> args(argv + 1, argv + argc);
  std::string address = "127.0.0.1:9192";
  bool hex = false;
  for (; !args.empty() && args[0].rfind("--", 0) == 0; args.pop_front()) {
    if (args[0] == "--hex") hex = true;
    else args.pop_front(), address = args.at(0);
  }
  Client client(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()), hex);
  const std::string verb = args.at(0), first = args.at(1);
  const auto number = [&args](int at) { return std::stoll(args.at(at)); };
  if (verb == "create-topic") client.create_topic(first, number(2), number(3));
  else if (verb == "produce") client.produce(first);
  else if (verb == "consume") client.consume(first, number(2), number(3), number(4));
  else if (verb == "group") client.group(first, args.at(2), number(3));
  else if (verb == "segment") client.segment(first);
  else if (verb == "errors") client.errors(first);
  else throw Refused("there is no " + verb);
} catch (const Refused& refused) {
  std::cerr << refused.what() << std::endl;
  return 1;
} catch (const std::logic_error&) {  // too few arguments, or one that is no number
  std::cerr << "usage: see examples/README.md" << std::endl;
  return 1;
}
