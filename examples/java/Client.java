// A complete client on generated stubs alone: see ../README.md. Takes one address; any node forwards.

import com.google.protobuf.ByteString;
import dev.ottla.v1.*;
import dev.ottla.v1.Error; // java.lang has an Error and a Record, too
import dev.ottla.v1.Record;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.StreamObserver;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.BiConsumer;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;

public final class Client {
    static final long EARLIEST = -2;
    static final ErrorCode NONE = ErrorCode.ERROR_CODE_NONE;
    static final Set<Code> TRANSIENT = Set.of(Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED);
    static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    final ManagedChannel channel;
    final boolean hex;

    Client(String address, boolean hex) {
        channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
        this.hex = hex;
    }

    static <S extends AbstractStub<S>> S soon(S stub) {
        return stub.withDeadlineAfter(10, TimeUnit.SECONDS);
    }

    static final class Refused extends RuntimeException {
        Refused(Error error) {
            super(error.getCode() + ": " + error.getMessage());
        }
    }

    /** Calls until no retriable error is left, and returns the last answer; `errors` finds them in an answer. */
    static <A> A again(Callable<A> call, Function<A, Stream<Error>> errors) throws Exception {
        long deadline = System.currentTimeMillis() + 30_000;
        while (true) {
            Error first;
            try {
                A answer = call.call();
                first = errors.apply(answer).filter(e -> e.getCode() != NONE).findFirst().orElse(null);
                if (first == null) return answer;
            } catch (StatusRuntimeException e) {
                first = Error.newBuilder().setCode(ErrorCode.ERROR_CODE_NETWORK_EXCEPTION).setMessage(e.getMessage())
                    .setRetriable(TRANSIENT.contains(e.getStatus().getCode())).build();
            }
            if (!first.getRetriable() || System.currentTimeMillis() > deadline) throw new Refused(first);
            Thread.sleep(Math.max(50, first.getRetryAfterMs()));
        }
    }

    void createTopic(String topic, int partitions, int replication) throws Exception {
        CreateTopicsRequest.Builder request = CreateTopicsRequest.newBuilder();
        request.addTopicsBuilder().setName(topic).setNumPartitions(partitions).setReplicationFactor(replication);
        CreateTopicsResponse made = again(
            () -> soon(AdminServiceGrpc.newBlockingStub(channel)).createTopics(request.build()),
            answer -> answer.getTopicsList().stream().map(CreateTopicResult::getError));
        out.println(HexFormat.of().formatHex(made.getTopics(0).getTopicId().toByteArray()));
    }

    /** A record is sent again only while its own refusal is retriable. */
    void produce(String topic) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            SendRequest request = SendRequest.newBuilder().setTopic(topic).setAcks(-1).addRecords(parse(line)).build();
            SendResponse sent = again(() -> soon(DataServiceGrpc.newBlockingStub(channel)).send(request),
                answer -> answer.getResultsList().stream().map(SendResult::getError));
            out.println(sent.getResults(0).getPartition() + "\t" + sent.getResults(0).getOffset());
        }
    }

    List<FetchResult> fetch(String topic, Map<Integer, Long> positions, int waitMs) throws Exception {
        FetchRequest.Builder request = FetchRequest.newBuilder().setMaxWaitMs(waitMs);
        positions.forEach((number, offset) -> request.addPartitions(
            FetchPartition.newBuilder().setTopic(topic).setPartition(number).setOffset(offset)));
        return again(() -> soon(DataServiceGrpc.newBlockingStub(channel)).fetch(request.build()),
            answer -> answer.getPartitionsList().stream().map(FetchResult::getError)).getPartitionsList();
    }

    /** The records from the wanted offset on: the first batch may begin before it. */
    static void each(List<RecordBatch> batches, long wanted, BiConsumer<Long, Record> f) {
        for (RecordBatch batch : batches) {
            int place = 0;
            for (Record record : batch.getRecords().getRecordsList()) {
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
            for (FetchResult result : fetch(topic, Map.of(partition, offset), 500)) {
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
        final String id = UUID.randomUUID().toString();
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
            said.onNext(SessionRequest.newBuilder().setJoin(
                Join.newBuilder().setGroupId(group).addTopics(topic).setMemberId(id).setMemberEpoch(epoch)).build());
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
                epoch = 0;
                positions.clear();
            }
            if (response != null && response.hasAssignment()) {
                Assignment assignment = response.getAssignment();
                epoch = assignment.getMemberEpoch();
                Map<Integer, Long> before = new HashMap<>(positions);
                positions.clear();
                Owned.Builder owned = Owned.newBuilder().setAssignmentId(assignment.getAssignmentId());
                for (AssignedPartition given : assignment.getPartitionsList()) {
                    int number = given.getPartition().getPartition();
                    long start = given.hasCommittedOffset() ? given.getCommittedOffset() : EARLIEST;
                    owned.addPartitions(given.getPartition());
                    positions.put(number, before.getOrDefault(number, start));
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
            CommitOffsetsRequest.Builder commit =
                CommitOffsetsRequest.newBuilder().setGroupId(group).setMemberId(member.id).setMemberEpoch(member.epoch);
            for (FetchResult result : fetch(topic, member.positions, 200)) {
                each(result.getBatchesList(), member.positions.get(result.getPartition()), (at, record) -> {
                    out.println(result.getPartition() + "\t" + at + "\t" + show(record));
                    last[0] = System.currentTimeMillis();
                });
                member.positions.put(result.getPartition(), result.getNextOffset());
                commit.addOffsetsBuilder().setOffset(result.getNextOffset())
                    .getPartitionBuilder().setTopic(topic).setPartition(result.getPartition());
            }
            try {
                // A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
                soon(GroupServiceGrpc.newBlockingStub(channel)).commitOffsets(commit.build());
            } catch (StatusRuntimeException e) {
                if (!TRANSIENT.contains(e.getStatus().getCode())) throw e;
            }
        }
        member.said.onNext(SessionRequest.newBuilder().setLeave(Leave.getDefaultInstance()).build());
        member.said.onCompleted();
        while (!member.lost) Thread.sleep(10); // until the coordinator has heard it, too
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
        SendRequest request = SendRequest.newBuilder().setTopic(topic).setAcks(acks)
            .addRecords(SendRecord.newBuilder().setValue(value)).build();
        Error error = soon(DataServiceGrpc.newBlockingStub(channel)).send(request).getResults(0).getError();
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
        if (!hex || columns.length < 3 || columns[2].isEmpty()) return record.build();
        for (String header : columns[2].split(",")) {
            String[] pair = header.split("=", 2);
            Header.Builder built = Header.newBuilder().setKey(pair[0]);
            if (!pair[1].equals("-")) built.setValue(decode(pair[1]));
            record.addHeaders(built);
        }
        return record.build();
    }

    String show(Record record) {
        String columns = encode(record.hasKey(), record.getKey()) + "\t" + encode(record.hasValue(), record.getValue());
        if (!hex) return columns;
        return columns + "\t" + record.getHeadersList().stream()
            .map(h -> h.getKey() + "=" + encode(h.hasValue(), h.getValue())).collect(Collectors.joining(","));
    }

    public static void main(String[] argv) throws Exception {
        Deque<String> args = new ArrayDeque<>(List.of(argv));
        String address = "127.0.0.1:9192";
        boolean hex = false;
        while (args.peek() != null && args.peek().startsWith("--")) {
            String option = args.pop();
            if (option.equals("--hex")) hex = true;
            else if (option.equals("--address")) address = args.pop();
        }
        Client client = new Client(address, hex);
        try {
            String verb = args.pop(), first = args.pop();
            switch (verb) {
                case "create-topic" -> client.createTopic(
                    first, Integer.parseInt(args.pop()), Integer.parseInt(args.pop()));
                case "produce" -> client.produce(first);
                case "consume" -> client.consume(
                    first, Integer.parseInt(args.pop()), Long.parseLong(args.pop()), Integer.parseInt(args.pop()));
                case "group" -> client.group(first, args.pop(), Long.parseLong(args.pop()));
                case "segment" -> client.segment(first);
                case "errors" -> client.errors(first);
                default -> throw new NoSuchElementException();
            }
        } catch (Refused | StatusRuntimeException | IllegalArgumentException | NoSuchElementException e) {
            System.err.println(e.getMessage() == null ? "usage: see examples/README.md" : e.getMessage());
            System.exit(1);
        }
        client.channel.shutdownNow();
    }
}
