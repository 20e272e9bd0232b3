// A complete client on generated stubs alone: see ../README.md. Takes one address; any node forwards.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	v1 "github.com/ottla/ottla/gen/go/ottla/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

type client struct {
	data   v1.DataServiceClient
	admin  v1.AdminServiceClient
	groups v1.GroupServiceClient
	hex    bool
}

// failing is an answer's item that may carry an error.
type failing interface{ GetError() *v1.Error }

// again calls until no retriable error is left, and returns the items of the last answer.
func again[T failing](call func(context.Context) ([]T, error)) ([]T, error) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		items, err := call(ctx)
		cancel()
		if code := status.Code(err); err != nil && code != codes.Unavailable && code != codes.DeadlineExceeded {
			return nil, err
		}
		first := &v1.Error{Code: v1.ErrorCode_ERROR_CODE_NETWORK_EXCEPTION, Message: fmt.Sprint(err), Retriable: true}
		for i := 0; err == nil && i < len(items); i++ {
			if first = items[i].GetError(); first.GetCode() != v1.ErrorCode_ERROR_CODE_NONE {
				break
			}
		}
		if err == nil && first.GetCode() == v1.ErrorCode_ERROR_CODE_NONE {
			return items, nil
		}
		if !first.Retriable || time.Now().After(deadline) {
			return nil, fmt.Errorf("%v: %s", first.Code, first.Message)
		}
		time.Sleep(50*time.Millisecond + time.Duration(first.RetryAfterMs)*time.Millisecond)
	}
}

func (c *client) createTopic(topic string, partitions, replication int32) error {
	topics := []*v1.NewTopic{{Name: topic, NumPartitions: &partitions, ReplicationFactor: &replication}}
	made, err := again(func(ctx context.Context) ([]*v1.CreateTopicResult, error) {
		answer, err := c.admin.CreateTopics(ctx, &v1.CreateTopicsRequest{Topics: topics})
		return answer.GetTopics(), err
	})
	for _, result := range made {
		fmt.Println(hex.EncodeToString(result.TopicId))
	}
	return err
}

// produce sends a record again only while its own refusal is retriable.
func (c *client) produce(topic string) error {
	all := int32(-1)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		request := &v1.SendRequest{Topic: topic, Acks: &all, Records: []*v1.SendRecord{c.parse(lines.Text())}}
		sent, err := again(func(ctx context.Context) ([]*v1.SendResult, error) {
			answer, err := c.data.Send(ctx, request)
			return answer.GetResults(), err
		})
		if err != nil {
			return err
		}
		fmt.Printf("%d\t%d\n", sent[0].Partition, sent[0].Offset)
	}
	return lines.Err()
}

func (c *client) fetch(positions []*v1.FetchPartition, waitMs int32) ([]*v1.FetchResult, error) {
	return again(func(ctx context.Context) ([]*v1.FetchResult, error) {
		answer, err := c.data.Fetch(ctx, &v1.FetchRequest{Partitions: positions, MaxWaitMs: &waitMs})
		return answer.GetPartitions(), err
	})
}

// each calls f for the records from the wanted offset on: the first batch may begin before it.
func each(batches []*v1.RecordBatch, wanted int64, f func(int64, *v1.Record)) {
	for _, batch := range batches {
		for place, record := range batch.GetRecords().GetRecords() {
			at := batch.BaseOffset + int64(place)
			if record.OffsetDelta != nil {
				at = batch.BaseOffset + int64(*record.OffsetDelta)
			}
			if at >= wanted {
				f(at, record)
			}
		}
	}
}

func (c *client) consume(topic string, partition int32, offset int64, count int) error {
	for count > 0 {
		results, err := c.fetch([]*v1.FetchPartition{{Topic: topic, Partition: partition, Offset: offset}}, 500)
		if err != nil {
			return err
		}
		for _, result := range results {
			each(result.Batches, offset, func(at int64, record *v1.Record) {
				if count > 0 {
					fmt.Printf("%d\t%s\n", at, c.show(record))
					count--
				}
			})
			offset = result.NextOffset
		}
	}
	return nil
}

// group follows what it is told: stops with what is not in an assignment, starts with what is new.
func (c *client) group(group, topic string, idle time.Duration) error {
	request := &v1.CommitOffsetsRequest{GroupId: group}
	positions, last := map[int32]int64{}, time.Now()
	for time.Since(last) < idle {
		stream, err := c.groups.Session(context.Background())
		if err != nil {
			return err
		}
		say := func(message *v1.SessionRequest) { _ = stream.Send(message) } // a stream that broke ends the reader, too
		say(&v1.SessionRequest{Message: &v1.SessionRequest_Join{Join: &v1.Join{
			GroupId: group, Topics: []string{topic}, MemberId: request.MemberId, MemberEpoch: request.MemberEpoch}}})
		heard := make(chan *v1.SessionResponse, 64)
		go func() {
			defer close(heard)
			for response, err := stream.Recv(); err == nil; response, err = stream.Recv() {
				heard <- response
			}
		}()
		for lost := false; !lost && time.Since(last) < idle; {
			select {
			case news, open := <-heard:
				lost = !open
				if e := news.GetError(); e != nil && !e.Retriable {
					request.MemberId, request.MemberEpoch, positions = "", 0, map[int32]int64{}
				}
				if assignment := news.GetAssignment(); assignment != nil {
					request.MemberId, request.MemberEpoch = assignment.MemberId, assignment.MemberEpoch
					kept, owned := map[int32]int64{}, &v1.Owned{AssignmentId: assignment.AssignmentId}
					for _, given := range assignment.Partitions {
						number := given.Partition.Partition
						owned.Partitions = append(owned.Partitions, given.Partition)
						kept[number] = given.GetCommittedOffset()
						if at, ok := positions[number]; ok {
							kept[number] = at
						}
					}
					positions = kept
					say(&v1.SessionRequest{Message: &v1.SessionRequest_Owned{Owned: owned}})
				}
			case <-time.After(time.Millisecond):
			}
			if any, err := c.read(topic, positions, request); err != nil {
				return err
			} else if any {
				last = time.Now()
			}
		}
		say(&v1.SessionRequest{Message: &v1.SessionRequest_Leave{Leave: &v1.Leave{}}})
		_ = stream.CloseSend()
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// read fetches what is owned once, prints and commits it. It says whether there was a record.
func (c *client) read(topic string, positions map[int32]int64, request *v1.CommitOffsetsRequest) (any bool, err error) {
	var wanted []*v1.FetchPartition
	for number, offset := range positions {
		wanted = append(wanted, &v1.FetchPartition{Topic: topic, Partition: number, Offset: offset})
	}
	if len(wanted) == 0 {
		return false, nil
	}
	results, err := c.fetch(wanted, 200)
	request.Offsets = nil
	for _, result := range results {
		each(result.Batches, positions[result.Partition], func(at int64, record *v1.Record) {
			fmt.Printf("%d\t%d\t%s\n", result.Partition, at, c.show(record))
			any = true
		})
		positions[result.Partition] = result.NextOffset
		where := &v1.TopicPartition{Topic: topic, Partition: result.Partition}
		request.Offsets = append(request.Offsets, &v1.OffsetCommit{Partition: where, Offset: result.NextOffset})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
	_, _ = c.groups.CommitOffsets(ctx, request)
	return any, err
}

// segment reads a partition's file as the message it is.
func (c *client) segment(path string) error {
	file := &v1.Segment{}
	bytes, err := os.ReadFile(path)
	if err == nil {
		err = proto.Unmarshal(bytes, file)
	}
	each(file.Batches, 0, func(at int64, record *v1.Record) { fmt.Printf("%d\t%s\n", at, c.show(record)) })
	return err
}

// errors provokes three refusals: what the code is called, and whether to try again.
func (c *client) errors(topic string) error {
	for _, try := range []struct {
		topic string
		acks  int32
		size  int
	}{{"no-such-topic", -1, 1}, {topic, -1, 2_000_000}, {topic, 7, 1}} {
		records := &v1.Records{Records: []*v1.Record{{Value: make([]byte, try.size)}}}
		batch := &v1.RecordBatch{Payload: &v1.RecordBatch_Records{Records: records}}
		partitions := []*v1.ProducePartition{{Topic: try.topic, Batch: batch}}
		acks := try.acks
		answer, err := c.data.Produce(context.Background(), &v1.ProduceRequest{Acks: &acks, Partitions: partitions})
		if err != nil {
			return err
		}
		fmt.Printf("%v\t%v\n", answer.Partitions[0].Error.Code, answer.Partitions[0].Error.Retriable)
	}
	return nil
}

func (c *client) decode(text string) []byte {
	if !c.hex {
		return []byte(text)
	}
	if text == "-" {
		return nil
	}
	bytes, _ := hex.DecodeString(text)
	return append([]byte{}, bytes...) // empty is not null
}

func (c *client) encode(bytes []byte) string {
	if !c.hex {
		return string(bytes)
	} else if bytes == nil {
		return "-"
	}
	return hex.EncodeToString(bytes)
}

func (c *client) parse(line string) *v1.SendRecord {
	columns := strings.Split(line, "\t")
	if len(columns) == 1 {
		return &v1.SendRecord{Value: c.decode(line)}
	}
	record := &v1.SendRecord{Key: c.decode(columns[0]), Value: c.decode(columns[1])}
	if c.hex && len(columns) > 2 && columns[2] != "" {
		for _, header := range strings.Split(columns[2], ",") {
			name, value, _ := strings.Cut(header, "=")
			record.Headers = append(record.Headers, &v1.Header{Key: name, Value: c.decode(value)})
		}
	}
	return record
}

func (c *client) show(record *v1.Record) string {
	columns := []string{c.encode(record.Key), c.encode(record.Value)}
	if c.hex {
		var headers []string
		for _, header := range record.Headers {
			headers = append(headers, header.Key+"="+c.encode(header.Value))
		}
		columns = append(columns, strings.Join(headers, ","))
	}
	return strings.Join(columns, "\t")
}

func run(c *client, args []string) error {
	number := func(at int) int64 {
		n, _ := strconv.ParseInt(args[at], 10, 64)
		return n
	}
	switch {
	case len(args) == 4 && args[0] == "create-topic":
		return c.createTopic(args[1], int32(number(2)), int32(number(3)))
	case len(args) == 2 && args[0] == "produce":
		return c.produce(args[1])
	case len(args) == 5 && args[0] == "consume":
		return c.consume(args[1], int32(number(2)), number(3), int(number(4)))
	case len(args) == 4 && args[0] == "group":
		return c.group(args[1], args[2], time.Duration(number(3))*time.Millisecond)
	case len(args) == 2 && args[0] == "segment":
		return c.segment(args[1])
	case len(args) == 2 && args[0] == "errors":
		return c.errors(args[1])
	}
	return errors.New("usage: see examples/README.md")
}

func main() {
	address := flag.String("address", "127.0.0.1:9092", "host:port of any node")
	hexadecimal := flag.Bool("hex", false, "keys and values are hexadecimal")
	flag.Parse()
	connection, err := grpc.Dial(*address, grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(32<<20)))
	if err == nil {
		defer connection.Close()
		c := &client{v1.NewDataServiceClient(connection), v1.NewAdminServiceClient(connection),
			v1.NewGroupServiceClient(connection), *hexadecimal}
		err = run(c, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
