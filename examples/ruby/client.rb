# frozen_string_literal: true

# A complete client on generated stubs alone: see ../README.md. Takes one address; any node forwards.
$LOAD_PATH.unshift(ENV.fetch('OTTLA_STUBS', File.join(__dir__, 'gen')))
require 'optparse'
require 'securerandom'
require 'ottla/v1/admin_services_pb'
require 'ottla/v1/data_services_pb'
require 'ottla/v1/group_services_pb'

include Ottla::V1 # rubocop:disable Style/MixinUsage

RETRY_SECONDS = 30
EARLIEST = -2
TRANSIENT = [GRPC::Unavailable, GRPC::DeadlineExceeded, GRPC::Cancelled].freeze
Refused = Class.new(StandardError)

# The program: one method per verb.
class Client
  def initialize(address, hex)
    @data = DataService::Stub.new(address, :this_channel_is_insecure)
    @admin = AdminService::Stub.new(address, :this_channel_is_insecure)
    @groups = GroupService::Stub.new(address, :this_channel_is_insecure)
    @hex = hex
  end

  def create_topic(topic, partitions, replication)
    new = NewTopic.new(name: topic, num_partitions: partitions.to_i, replication_factor: replication.to_i)
    again do
      result = @admin.create_topics(CreateTopicsRequest.new(topics: [new]), deadline: soon).topics.first
      puts result.topic_id.unpack1('H*') unless failed?(result.error)
      [result.error]
    end
  end

  # A record is sent again only while its own refusal is retriable.
  def produce(topic)
    $stdin.each_line(chomp: true) do |line|
      record = record_of(line)
      again do
        request = SendRequest.new(topic: topic, acks: -1, records: [record])
        result = @data.send(request, deadline: soon).results.first
        puts "#{result.partition}\t#{result.offset}" unless failed?(result.error)
        [result.error]
      end
    end
  end

  def consume(topic, partition, offset, count)
    offset = offset.to_i
    left = count.to_i
    while left.positive?
      fetch([FetchPartition.new(topic: topic, partition: partition.to_i, offset: offset)], 500).each do |result|
        records(result.batches, offset) do |at, record|
          next unless left.positive?

          puts "#{at}\t#{show(record)}"
          left -= 1
        end
        offset = result.next_offset
      end
    end
  end

  # Follows what it is told: stop with what is not in an assignment, start with what is new.
  def group(group, topic, idle_ms)
    told = Queue.new
    member = { id: SecureRandom.uuid, epoch: 0 }
    @said = Queue.new
    listener = Thread.new { listen(group, topic, member, told) }
    positions = {}
    last = now
    while (now - last) * 1000 < idle_ms.to_i
      positions = follow(told, member, positions)
      if positions.empty?
        sleep 0.02
        next
      end
      wanted = positions.map { |p, o| FetchPartition.new(topic: topic, partition: p, offset: o) }
      fetch(wanted, 200).each do |result|
        records(result.batches, positions[result.partition]) do |at, record|
          puts "#{result.partition}\t#{at}\t#{show(record)}"
          last = now
        end
        positions[result.partition] = result.next_offset
      end
      commit(group, topic, member, positions)
    end
    @said << SessionRequest.new(leave: Leave.new)
    @leaving = true
    @said << nil
    listener.join(10) # until the coordinator has heard it, too
  end

  # Reads a partition's file as the message it is.
  def segment(path)
    records(Segment.decode(File.binread(path)).batches, 0) { |at, record| puts "#{at}\t#{show(record)}" }
  end

  # Three refusals: what the code is called, and whether to try again.
  def errors(topic)
    small = SendRecord.new(value: 'x')
    large = SendRecord.new(value: 'x' * 2_000_000)
    [['no-such-topic', -1, small], [topic, -1, large], [topic, 7, small]].each do |name, acks, record|
      request = SendRequest.new(topic: name, acks: acks, records: [record])
      error = @data.send(request, deadline: soon).results.first.error
      puts "#{error.code}\t#{error.retriable}"
    end
  end

  private

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  def soon = Time.now + 10

  def failed?(error) = !error.nil? && error.code != :ERROR_CODE_NONE

  # Calls until no retriable error is left.
  def again
    deadline = now + RETRY_SECONDS
    loop do
      begin
        error = yield.find { |e| failed?(e) }
        return if error.nil?
      rescue *TRANSIENT => e
        raise if now > deadline

        error = Error.new(code: :ERROR_CODE_NETWORK_EXCEPTION, message: e.message, retriable: true)
      end
      raise Refused, "#{error.code}: #{error.message}" if now > deadline || !error.retriable

      sleep([error.retry_after_ms, 50].max / 1000.0)
    end
  end

  def fetch(positions, wait_ms)
    results = []
    again do
      request = FetchRequest.new(partitions: positions, max_wait_ms: wait_ms)
      results = @data.fetch(request, deadline: soon).partitions
      results.map(&:error)
    end
    results
  end

  # The first batch may begin before the wanted offset.
  def records(batches, wanted)
    batches.each do |batch|
      batch.records.records.each_with_index do |record, place|
        at = batch.base_offset + (record.has_offset_delta? ? record.offset_delta : place)
        yield at, record if at >= wanted
      end
    end
  end

  def listen(group, topic, member, told)
    until @leaving
      join = Join.new(group_id: group, topics: [topic], member_id: member[:id], member_epoch: member[:epoch])
      said = Queue.new([SessionRequest.new(join: join)])
      @said = said
      requests = Enumerator.new { |y| while (message = said.pop) do y << message end }
      begin
        @groups.session(requests) do |response|
          told << response
          said << nil if response.message == :error # the call ends when both sides have ended
        end
      rescue *TRANSIENT
        # as an end of the stream: comes back under its id
      end
      sleep 0.05
    end
  end

  def follow(told, member, positions)
    return positions if told.empty?

    response = told.pop
    if response.message == :error && !response.error.retriable
      member[:epoch] = 0
      return {}
    end
    return positions unless response.message == :assignment

    assignment = response.assignment
    member[:epoch] = assignment.member_epoch
    owned = assignment.partitions.map(&:partition)
    @said << SessionRequest.new(owned: Owned.new(assignment_id: assignment.assignment_id, partitions: owned))
    assignment.partitions.to_h do |given|
      number = given.partition.partition
      [number, positions.fetch(number, given.has_committed_offset? ? given.committed_offset : EARLIEST)]
    end
  end

  # A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
  def commit(group, topic, member, positions)
    offsets = positions.map do |p, o|
      OffsetCommit.new(partition: TopicPartition.new(topic: topic, partition: p), offset: o)
    end
    request = CommitOffsetsRequest.new(group_id: group, member_id: member[:id], member_epoch: member[:epoch],
                                       offsets: offsets)
    @groups.commit_offsets(request, deadline: soon)
  rescue *TRANSIENT
    nil
  end

  def decode(text)
    return text.b unless @hex

    text == '-' ? nil : [text].pack('H*')
  end

  def encode(bytes) = bytes.nil? ? '-' : bytes.unpack1('H*')

  def record_of(line)
    key, value, headers = line.split("\t", -1)
    return SendRecord.new(value: decode(key)) if value.nil?

    pairs = (@hex && headers ? headers : '').split(',').map do |header|
      name, text = header.split('=', 2)
      Header.new(key: name, value: decode(text))
    end
    SendRecord.new(key: decode(key), value: decode(value), headers: pairs)
  end

  def show(record)
    key = record.has_key? ? record.key : nil
    value = record.has_value? ? record.value : nil
    return "#{key}\t#{value}" unless @hex

    headers = record.headers.map { |h| "#{h.key}=#{encode(h.has_value? ? h.value : nil)}" }
    [encode(key), encode(value), headers.join(',')].join("\t")
  end
end

$stdout.sync = true
options = { address: '127.0.0.1:9192', hex: false }
OptionParser.new do |parser|
  parser.on('--address ADDRESS') { |address| options[:address] = address }
  parser.on('--hex') { options[:hex] = true }
end.order!
verb, *rest = ARGV
begin
  Client.new(options[:address], options[:hex]).public_send(verb.tr('-', '_'), *rest)
rescue Refused, GRPC::BadStatus => e
  abort e.message
rescue ArgumentError, NoMethodError
  abort 'usage: see examples/README.md'
end
