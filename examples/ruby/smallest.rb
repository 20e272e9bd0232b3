require 'ottla/v1/data_services_pb'
include Ottla::V1

address, topic = ARGV
data = DataService::Stub.new(address, :this_channel_is_insecure)

sent = data.send(SendRequest.new(topic: topic, records: [SendRecord.new(key: 'k', value: 'hello')]))
puts "stored at offset #{sent.results.first.offset}"

read = data.fetch(FetchRequest.new(partitions: [FetchPartition.new(topic: topic, offset: -2)]))
read.partitions.first.batches.each do |batch|
  batch.records.records.each { |record| puts "#{record.key} #{record.value}" }
end
