import com.google.protobuf.ByteString;
import dev.ottla.v1.*;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;

public final class Smallest {
    public static void main(String[] args) {
        String address = args[0], topic = args[1];
        ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
        DataServiceGrpc.DataServiceBlockingStub data = DataServiceGrpc.newBlockingStub(channel);

        SendRequest.Builder request = SendRequest.newBuilder().setTopic(topic);
        request.addRecordsBuilder().setKey(ByteString.copyFromUtf8("k")).setValue(ByteString.copyFromUtf8("hello"));
        SendResponse sent = data.send(request.build());
        System.out.println("stored at offset " + sent.getResults(0).getOffset());

        FetchRequest.Builder wanted = FetchRequest.newBuilder();
        wanted.addPartitionsBuilder().setTopic(topic).setOffset(-2);
        for (RecordBatch batch : data.fetch(wanted.build()).getPartitions(0).getBatchesList()) {
            for (dev.ottla.v1.Record record : batch.getRecords().getRecordsList()) {
                System.out.println(record.getKey().toStringUtf8() + " " + record.getValue().toStringUtf8());
            }
        }
        channel.shutdownNow();
    }
}
