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

const earliest = -2

type client struct {
	data   v1.DataServiceClient
	admin  v1.AdminServiceClient
	groups v1.GroupServiceClient
	hex    bool
}

// check ends the program where there is an error.
func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// again calls until no retriable error is left, and returns the items of the last answer.
func again[Q, R any, T interface{ GetError() *v1.Error }](
	call func(context.Context, Q, ...grpc.CallOption) (R, error), request Q, items func(R) []T) []T {
	for deadline := time.Now().Add(30 * time.Second); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		answer, err := call(ctx, request)
		cancel()
		first := &v1.Error{}
		if code := status.Code(err); err != nil {
			first.Code, first.Message = v1.ErrorCode_ERROR_CODE_NETWORK_EXCEPTION, status.Convert(err).Message()
			first.Retriable = code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled
		}
		for _, item := range items(answer) {
			if first.Code == v1.ErrorCode_ERROR_CODE_NONE && item.GetError() != nil {
				first = item.GetError()
			}
		}
		if first.Code == v1.ErrorCode_ERROR_CODE_NONE {
			return items(answer)
		}
		if !first.Retriable || time.Now().After(deadline) {
			check(fmt.Errorf("%v: %s", first.Code, first.Message))
		}
		time.Sleep(50*time.Millisecond + time.Duration(first.RetryAfterMs)*time.Millisecond)
	}
}

func (c *client) createTopic(topic string, partitions, replication int32) {
	topics := []*v1.NewTopic{{Name: topic, NumPartitions: &partitions, ReplicationFactor: &replication}}
	request := &v1.CreateTopicsRequest{Topics: topics}
	made := again(c.admin.CreateTopics, request, (*v1.CreateTopicsResponse).GetTopics)
	fmt.Println(hex.EncodeToString(made[0].TopicId))
}

// produce sends a record again only while its own refusal is retriable.
func (c *client) produce(topic string) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		request := &v1.SendRequest{Topic: topic, Acks: proto.Int32(-1), Records: []*v1.SendRecord{c.parse(lines.Text())}}
		sent := again(c.data.Send, request, (*v1.SendResponse).GetResults)
		fmt.Printf("%d\t%d\n", sent[0].Partition, sent[0].Offset)
	}
	check(lines.Err())
}

func (c *client) fetch(topic string, positions map[int32]int64, waitMs int32) []*v1.FetchResult {
	request := &v1.FetchRequest{MaxWaitMs: &waitMs}
	for number, offset := range positions {
		request.Partitions = append(request.Partitions, &v1.FetchPartition{Topic: topic, Partition: number, Offset: offset})
	}
	return again(c.data.Fetch, request, (*v1.FetchResponse).GetPartitions)
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

func (c *client) consume(topic string, partition int32, offset int64, count int) {
	for count > 0 {
		for _, result := range c.fetch(topic, map[int32]int64{partition: offset}, 500) {
			each(result.Batches, offset, func(at int64, record *v1.Record) {
				if count > 0 {
					fmt.Printf("%d\t%s\n", at, c.show(record))
					count--
				}
			})
			offset = result.NextOffset
		}
	}
}

// group follows what it is told: stops with what is not in an assignment, starts with what is new.
func (c *client) group(group, topic string, idle time.Duration) {
	id := fmt.Sprintf("go-%d-%d", os.Getpid(), time.Now().UnixNano())
	request := &v1.CommitOffsetsRequest{GroupId: group, MemberId: id}
	positions, last := map[int32]int64{}, time.Now()
	for time.Since(last) < idle {
		stream, err := c.groups.Session(context.Background())
		check(err)
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
		for open := true; open && time.Since(last) < idle; {
			var news *v1.SessionResponse
			select {
			case news, open = <-heard:
			case <-time.After(time.Millisecond):
			}
			if e := news.GetError(); e != nil && !e.Retriable {
				request.MemberEpoch, positions = 0, nil
			}
			if assignment := news.GetAssignment(); assignment != nil {
				request.MemberEpoch = assignment.MemberEpoch
				before, owned := positions, &v1.Owned{AssignmentId: assignment.AssignmentId}
				positions = map[int32]int64{}
				for _, given := range assignment.Partitions {
					owned.Partitions = append(owned.Partitions, given.Partition)
					number := given.Partition.Partition
					positions[number] = earliest
					if given.CommittedOffset != nil {
						positions[number] = *given.CommittedOffset
					}
					if at, known := before[number]; known {
						positions[number] = at
					}
				}
				say(&v1.SessionRequest{Message: &v1.SessionRequest_Owned{Owned: owned}})
			}
			if len(positions) > 0 && c.read(topic, positions, request) {
				last = time.Now()
			}
		}
		say(&v1.SessionRequest{Message: &v1.SessionRequest_Leave{Leave: &v1.Leave{}}})
		_ = stream.CloseSend()
		for range heard { // until the coordinator has heard it, too
		}
	}
}

// read fetches what is owned once, prints and commits it. It says whether there was a record.
func (c *client) read(topic string, positions map[int32]int64, request *v1.CommitOffsetsRequest) (any bool) {
	request.Offsets = nil
	for _, result := range c.fetch(topic, positions, 200) {
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
	return any
}

// segment reads a partition's file as the message it is.
func (c *client) segment(path string) {
	file := &v1.Segment{}
	bytes, err := os.ReadFile(path)
	check(err)
	check(proto.Unmarshal(bytes, file))
	each(file.Batches, 0, func(at int64, record *v1.Record) { fmt.Printf("%d\t%s\n", at, c.show(record)) })
}

// errors provokes three refusals: what the code is called, and whether to try again.
func (c *client) errors(topic string) {
	small, large := []*v1.SendRecord{{}}, []*v1.SendRecord{{Value: make([]byte, 2_000_000)}}
	for _, request := range []*v1.SendRequest{
		{Topic: "no-such-topic", Records: small},
		{Topic: topic, Records: large},
		{Topic: topic, Records: small, Acks: proto.Int32(7)},
	} {
		answer, err := c.data.Send(context.Background(), request)
		check(err)
		fmt.Printf("%v\t%v\n", answer.Results[0].Error.Code, answer.Results[0].Error.Retriable)
	}
}

func (c *client) decode(text string) []byte {
	if !c.hex {
		return []byte(text)
	}
	if text == "-" {
		return nil
	}
	bytes, _ := hex.DecodeString(text)
	return bytes
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

func run(c *client, args []string) {
	numbers := make([]int64, len(args))
	for i, text := range args {
		numbers[i], _ = strconv.ParseInt(text, 10, 64)
	}
	switch n := len(args); {
	case n == 4 && args[0] == "create-topic":
		c.createTopic(args[1], int32(numbers[2]), int32(numbers[3]))
	case n == 2 && args[0] == "produce":
		c.produce(args[1])
	case n == 5 && args[0] == "consume":
		c.consume(args[1], int32(numbers[2]), numbers[3], int(numbers[4]))
	case n == 4 && args[0] == "group":
		c.group(args[1], args[2], time.Duration(numbers[3])*time.Millisecond)
	case n == 2 && args[0] == "segment":
		c.segment(args[1])
	case n == 2 && args[0] == "errors":
		c.errors(args[1])
	default:
		check(errors.New("usage: see examples/README.md"))
	}
}

func main() {
	address := flag.String("address", "127.0.0.1:9192", "host:port of any node")
	hexadecimal := flag.Bool("hex", false, "keys and values are hexadecimal")
	flag.Parse()
	connection, err := grpc.Dial(*address, grpc.WithInsecure())
	check(err)
	defer connection.Close()
	run(&client{v1.NewDataServiceClient(connection), v1.NewAdminServiceClient(connection),
		v1.NewGroupServiceClient(connection), *hexadecimal}, flag.Args())
}
