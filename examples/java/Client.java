// A complete client on generated stubs alone: see ../README.md. Takes one address; any node forwards.

import dev.ottla.v1.*;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import com.google.protobuf.ByteString;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;

public final class Client {
    static final long RETRY_MS = 30_000;
    static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    final ManagedChannel channel;
    final boolean hex;

    Client(String address, boolean hex) {
        channel = ManagedChannelBuilder.forTarget(address).usePlaintext().maxInboundMessageSize(32 << 20).build();
        this.hex = hex;
    }

    DataServiceGrpc.DataServiceBlockingStub data() {
        return DataServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS);
    }

    static final class Refused extends RuntimeException {
        Refused(dev.ottla.v1.Error error) {
            super(error.getCode() + ": " + error.getMessage());
        }
    }

    /** Calls until no retriable error is left. */
    static void again(Callable<List<dev.ottla.v1.Error>> call) throws Exception {
        long deadline = System.currentTimeMillis() + RETRY_MS;
        while (true) {
            dev.ottla.v1.Error first = null;
            try {
                for (dev.ottla.v1.Error error : call.call()) {
                    if (first == null && error.getCode() != ErrorCode.ERROR_CODE_NONE) first = error;
                }
            } catch (StatusRuntimeException e) {
                if (!transient_(e) || System.currentTimeMillis() > deadline) throw e;
                first = dev.ottla.v1.Error.newBuilder().setRetriable(true).build();
            }
            if (first == null) return;
            if (!first.getRetriable() || System.currentTimeMillis() > deadline) throw new Refused(first);
            Thread.sleep(Math.max(50, first.getRetryAfterMs()));
        }
    }

    static boolean transient_(StatusRuntimeException e) {
        Status.Code code = e.getStatus().getCode();
        return code == Status.Code.UNAVAILABLE || code == Status.Code.DEADLINE_EXCEEDED;
    }

    void createTopic(String topic, int partitions, int replication) throws Exception {
        NewTopic wanted = NewTopic.newBuilder().setName(topic).setNumPartitions(partitions).setReplicationFactor(replication).build();
        CreateTopicsRequest request = CreateTopicsRequest.newBuilder().addTopics(wanted).build();
        again(() -> {
            AdminServiceGrpc.AdminServiceBlockingStub admin = AdminServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS);
            CreateTopicResult result = admin.createTopics(request).getTopics(0);
            if (!result.hasError()) out.println(HexFormat.of().formatHex(result.getTopicId().toByteArray()));
            return List.of(result.getError());
        });
    }

    /** A record is sent again only while its own refusal is retriable. */
    void produce(String topic) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            SendRequest request = SendRequest.newBuilder().setTopic(topic).setAcks(-1).addRecords(parse(line)).build();
            again(() -> {
                SendResult result = data().send(request).getResults(0);
                if (!result.hasError()) out.println(result.getPartition() + "\t" + result.getOffset());
                return List.of(result.getError());
            });
        }
    }

    List<FetchResult> fetch(Iterable<FetchPartition> positions, int waitMs) throws Exception {
        FetchRequest request = FetchRequest.newBuilder().addAllPartitions(positions).setMaxWaitMs(waitMs).build();
        List<FetchResult> results = new ArrayList<>();
        again(() -> {
            results.clear();
            results.addAll(data().fetch(request).getPartitionsList());
            return results.stream().map(FetchResult::getError).collect(Collectors.toList());
        });
        return results;
    }

    /** The records from the wanted offset on: the first batch may begin before it. */
    static void each(List<RecordBatch> batches, long wanted, BiConsumer<Long, dev.ottla.v1.Record> f) {
        for (RecordBatch batch : batches) {
            int place = 0;
            for (dev.ottla.v1.Record record : batch.getRecords().getRecordsList()) {
                long at = batch.getBaseOffset() + (record.hasOffsetDelta() ? record.getOffsetDelta() : place);
                if (at >= wanted) f.accept(at, record);
                place++;
            }
        }
    }

    void consume(String topic, int partition, long start, int count) throws Exception {
        long offset = start;
        int[] left = {count};
        while (left[0] > 0) {
            FetchPartition position = FetchPartition.newBuilder().setTopic(topic).setPartition(partition).setOffset(offset).build();
            for (FetchResult result : fetch(List.of(position), 500)) {
                each(result.getBatchesList(), offset, (at, record) -> {
                    if (left[0]-- > 0) out.println(at + "\t" + show(record));
                });
                offset = result.getNextOffset();
            }
        }
    }

    /** One member of a group: says join, and keeps what it is told for the main loop. */
    final class Member implements StreamObserver<SessionResponse> {
        final BlockingQueue<SessionResponse> told = new ArrayBlockingQueue<>(64);
        final Map<Integer, Long> positions = new HashMap<>();
        final String group;
        final String topic;
        String id = "";
        int epoch = 0;
        volatile boolean lost = false;
        StreamObserver<SessionRequest> said;

        Member(String group, String topic) {
            this.group = group;
            this.topic = topic;
            join();
        }

        void join() {
            lost = false;
            said = GroupServiceGrpc.newStub(channel).session(this);
            Join join = Join.newBuilder().setGroupId(group).addTopics(topic).setMemberId(id).setMemberEpoch(epoch).build();
            said.onNext(SessionRequest.newBuilder().setJoin(join).build());
        }

        @Override public void onNext(SessionResponse response) {
            if (!response.hasTick()) told.add(response);
        }

        @Override public void onError(Throwable error) {
            lost = true;
        }

        @Override public void onCompleted() {
            lost = true;
        }

        /** Stops with what is not in a new assignment, starts with what is new. */
        void follow() throws InterruptedException {
            SessionResponse response = told.poll(positions.isEmpty() ? 20 : 1, TimeUnit.MILLISECONDS);
            if (response != null && response.hasError() && !response.getError().getRetriable()) {
                id = "";
                epoch = 0;
                positions.clear();
            }
            if (response != null && response.hasAssignment()) {
                Assignment assignment = response.getAssignment();
                id = assignment.getMemberId();
                epoch = assignment.getMemberEpoch();
                Map<Integer, Long> before = new HashMap<>(positions);
                positions.clear();
                Owned.Builder owned = Owned.newBuilder().setAssignmentId(assignment.getAssignmentId());
                for (AssignedPartition given : assignment.getPartitionsList()) {
                    int number = given.getPartition().getPartition();
                    owned.addPartitions(given.getPartition());
                    positions.put(number, before.getOrDefault(number, given.getCommittedOffset()));
                }
                said.onNext(SessionRequest.newBuilder().setOwned(owned).build());
            }
            if (lost && told.isEmpty()) {
                Thread.sleep(50);
                join();
            }
        }
    }

    void group(String group, String topic, long idleMs) throws Exception {
        Member member = new Member(group, topic);
        long[] last = {System.currentTimeMillis()};
        while (System.currentTimeMillis() - last[0] < idleMs) {
            member.follow();
            if (member.positions.isEmpty()) continue;
            List<FetchPartition> wanted = new ArrayList<>();
            member.positions.forEach((number, offset) ->
                wanted.add(FetchPartition.newBuilder().setTopic(topic).setPartition(number).setOffset(offset).build()));
            CommitOffsetsRequest.Builder commit = CommitOffsetsRequest.newBuilder().setGroupId(group).setMemberId(member.id).setMemberEpoch(member.epoch);
            for (FetchResult result : fetch(wanted, 200)) {
                each(result.getBatchesList(), member.positions.get(result.getPartition()), (at, record) -> {
                    out.println(result.getPartition() + "\t" + at + "\t" + show(record));
                    last[0] = System.currentTimeMillis();
                });
                member.positions.put(result.getPartition(), result.getNextOffset());
                TopicPartition where = TopicPartition.newBuilder().setTopic(topic).setPartition(result.getPartition()).build();
                commit.addOffsets(OffsetCommit.newBuilder().setPartition(where).setOffset(result.getNextOffset()));
            }
            try {
                // A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
                GroupServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS).commitOffsets(commit.build());
            } catch (StatusRuntimeException e) {
                if (!transient_(e)) throw e;
            }
        }
        member.said.onNext(SessionRequest.newBuilder().setLeave(Leave.getDefaultInstance()).build());
        member.said.onCompleted();
        Thread.sleep(200);
    }

    /** Reads a partition's file as the message it is. */
    void segment(String path) throws Exception {
        Segment file = Segment.parseFrom(Files.readAllBytes(Path.of(path)));
        each(file.getBatchesList(), 0, (at, record) -> out.println(at + "\t" + show(record)));
    }

    /** Three refusals: what the code is called, and whether to try again. */
    void errors(String topic) {
        ByteString small = ByteString.copyFromUtf8("x");
        ByteString large = ByteString.copyFrom(new byte[2_000_000]);
        refused("no-such-topic", -1, small);
        refused(topic, -1, large);
        refused(topic, 7, small);
    }

    void refused(String topic, int acks, ByteString value) {
        Records records = Records.newBuilder().addRecords(dev.ottla.v1.Record.newBuilder().setValue(value)).build();
        ProducePartition partition = ProducePartition.newBuilder().setTopic(topic).setBatch(RecordBatch.newBuilder().setRecords(records)).build();
        ProduceRequest request = ProduceRequest.newBuilder().setAcks(acks).addPartitions(partition).build();
        dev.ottla.v1.Error error = data().produce(request).getPartitions(0).getError();
        out.println(error.getCode() + "\t" + error.getRetriable());
    }

    ByteString decode(String text) {
        return hex ? ByteString.copyFrom(HexFormat.of().parseHex(text)) : ByteString.copyFromUtf8(text);
    }

    String encode(boolean present, ByteString bytes) {
        if (!hex) return bytes.toStringUtf8();
        return present ? HexFormat.of().formatHex(bytes.toByteArray()) : "-";
    }

    SendRecord parse(String line) {
        String[] columns = line.split("\t", -1);
        SendRecord.Builder record = SendRecord.newBuilder();
        String value = columns[columns.length == 1 ? 0 : 1];
        if (columns.length > 1 && !(hex && columns[0].equals("-"))) record.setKey(decode(columns[0]));
        if (!(hex && value.equals("-"))) record.setValue(decode(value));
        for (String header : hex && columns.length > 2 && !columns[2].isEmpty() ? columns[2].split(",") : new String[0]) {
            String[] pair = header.split("=", 2);
            Header.Builder built = Header.newBuilder().setKey(pair[0]);
            if (!pair[1].equals("-")) built.setValue(decode(pair[1]));
            record.addHeaders(built);
        }
        return record.build();
    }

    String show(dev.ottla.v1.Record record) {
        String columns = encode(record.hasKey(), record.getKey()) + "\t" + encode(record.hasValue(), record.getValue());
        if (!hex) return columns;
        return columns + "\t" + record.getHeadersList().stream()
            .map(h -> h.getKey() + "=" + encode(h.hasValue(), h.getValue())).collect(Collectors.joining(","));
    }

    public static void main(String[] argv) throws Exception {
        Deque<String> args = new ArrayDeque<>(List.of(argv));
        String address = "127.0.0.1:9092";
        boolean hex = false;
        while (args.peek() != null && args.peek().startsWith("--")) {
            String option = args.pop();
            if (option.equals("--hex")) hex = true;
            else if (option.equals("--address")) address = args.pop();
        }
        Client client = new Client(address, hex);
        try {
            switch (args.pop()) {
                case "create-topic" -> client.createTopic(args.pop(), Integer.parseInt(args.pop()), Integer.parseInt(args.pop()));
                case "produce" -> client.produce(args.pop());
                case "consume" -> client.consume(args.pop(), Integer.parseInt(args.pop()), Long.parseLong(args.pop()), Integer.parseInt(args.pop()));
                case "group" -> client.group(args.pop(), args.pop(), Long.parseLong(args.pop()));
                case "segment" -> client.segment(args.pop());
                case "errors" -> client.errors(args.pop());
                default -> throw new IllegalArgumentException("usage: see examples/README.md");
            }
        } catch (Refused | StatusRuntimeException e) {
            System.err.println(e.getMessage());
            System.exit(1);
        }
        client.channel.shutdownNow();
    }
}
