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
)

const retryFor = 30 * time.Second

type client struct {
	data   v1.DataServiceClient
	admin  v1.AdminServiceClient
	groups v1.GroupServiceClient
	hex    bool
}

// again calls until no retriable error is left.
func again(call func(context.Context) ([]*v1.Error, error)) error {
	deadline := time.Now().Add(retryFor)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		results, err := call(ctx)
		cancel()
		var first *v1.Error
		if err != nil {
			code := status.Code(err)
			if code != codes.Unavailable && code != codes.DeadlineExceeded {
				return err
			}
			first = &v1.Error{Code: v1.ErrorCode_ERROR_CODE_NETWORK_EXCEPTION, Message: err.Error(), Retriable: true}
		}
		for _, e := range results {
			if first == nil && e.GetCode() != v1.ErrorCode_ERROR_CODE_NONE {
				first = e
			}
		}
		if first == nil {
			return nil
		}
		if !first.Retriable || time.Now().After(deadline) {
			return fmt.Errorf("%v: %s", first.Code, first.Message)
		}
		pause := time.Duration(first.RetryAfterMs) * time.Millisecond
		if pause < 50*time.Millisecond {
			pause = 50 * time.Millisecond
		}
		time.Sleep(pause)
	}
}

func (c *client) createTopic(topic string, partitions, replication int32) error {
	topics := []*v1.NewTopic{{Name: topic, NumPartitions: &partitions, ReplicationFactor: &replication}}
	return again(func(ctx context.Context) ([]*v1.Error, error) {
		answer, err := c.admin.CreateTopics(ctx, &v1.CreateTopicsRequest{Topics: topics})
		if err != nil {
			return nil, err
		}
		if answer.Topics[0].Error.GetCode() == v1.ErrorCode_ERROR_CODE_NONE {
			fmt.Println(hex.EncodeToString(answer.Topics[0].TopicId))
		}
		return []*v1.Error{answer.Topics[0].Error}, nil
	})
}

// produce sends a record again only while its own refusal is retriable.
func (c *client) produce(topic string) error {
	all := int32(-1)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		record, err := c.parse(lines.Text())
		if err != nil {
			return err
		}
		request := &v1.SendRequest{Topic: topic, Acks: &all, Records: []*v1.SendRecord{record}}
		err = again(func(ctx context.Context) ([]*v1.Error, error) {
			answer, err := c.data.Send(ctx, request)
			if err != nil {
				return nil, err
			}
			result := answer.Results[0]
			if result.Error.GetCode() == v1.ErrorCode_ERROR_CODE_NONE {
				fmt.Printf("%d\t%d\n", result.Partition, result.Offset)
			}
			return []*v1.Error{result.Error}, nil
		})
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

func (c *client) fetch(positions []*v1.FetchPartition, waitMs int32) (results []*v1.FetchResult, err error) {
	err = again(func(ctx context.Context) ([]*v1.Error, error) {
		answer, err := c.data.Fetch(ctx, &v1.FetchRequest{Partitions: positions, MaxWaitMs: &waitMs})
		if err != nil {
			return nil, err
		}
		results = answer.Partitions
		var failed []*v1.Error
		for _, result := range results {
			failed = append(failed, result.Error)
		}
		return failed, nil
	})
	return results, err
}

// each calls f for the records from the wanted offset on: the first batch may begin before it.
func each(result *v1.FetchResult, wanted int64, f func(int64, *v1.Record)) {
	for _, batch := range result.Batches {
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
			each(result, offset, func(at int64, record *v1.Record) {
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

type member struct {
	group, topic, id string
	epoch            int32
	stream           v1.GroupService_SessionClient
	told             chan *v1.SessionResponse
	lost             chan error
}

// join opens a stream and says who comes, or comes back.
func (c *client) join(m *member) error {
	stream, err := c.groups.Session(context.Background())
	if err != nil {
		return err
	}
	join := &v1.Join{GroupId: m.group, Topics: []string{m.topic}, MemberId: m.id, MemberEpoch: m.epoch}
	if err := stream.Send(&v1.SessionRequest{Message: &v1.SessionRequest_Join{Join: join}}); err != nil {
		return err
	}
	m.stream, m.told, m.lost = stream, make(chan *v1.SessionResponse, 64), make(chan error, 1)
	go func(told chan *v1.SessionResponse, lost chan error) {
		for {
			response, err := stream.Recv()
			if err != nil {
				lost <- err
				return
			}
			told <- response
		}
	}(m.told, m.lost)
	return nil
}

// follow takes what was told: stop with what is not in an assignment, start with what is new.
func (c *client) follow(m *member, positions map[int32]int64) (map[int32]int64, error) {
	select {
	case <-m.lost:
		time.Sleep(50 * time.Millisecond)
		return positions, c.join(m)
	case response := <-m.told:
		if e := response.GetError(); e != nil && !e.Retriable {
			m.id, m.epoch = "", 0
			return nil, nil
		}
		assignment := response.GetAssignment()
		if assignment == nil {
			return positions, nil
		}
		m.id, m.epoch = assignment.MemberId, assignment.MemberEpoch
		kept := map[int32]int64{}
		owned := &v1.Owned{AssignmentId: assignment.AssignmentId}
		for _, given := range assignment.Partitions {
			number := given.Partition.Partition
			owned.Partitions = append(owned.Partitions, given.Partition)
			kept[number] = given.GetCommittedOffset()
			if at, ok := positions[number]; ok {
				kept[number] = at
			}
		}
		// A stream that breaks here is noticed by its reader; what is owned is said again by the next join.
		_ = m.stream.Send(&v1.SessionRequest{Message: &v1.SessionRequest_Owned{Owned: owned}})
		return kept, nil
	case <-time.After(time.Millisecond):
		return positions, nil
	}
}

func (c *client) group(group, topic string, idle time.Duration) error {
	m := &member{group: group, topic: topic}
	if err := c.join(m); err != nil {
		return err
	}
	positions := map[int32]int64{}
	for last := time.Now(); time.Since(last) < idle; {
		var err error
		if positions, err = c.follow(m, positions); err != nil && status.Code(err) != codes.Unavailable {
			return err
		}
		if len(positions) == 0 {
			continue
		}
		var wanted []*v1.FetchPartition
		for number, offset := range positions {
			wanted = append(wanted, &v1.FetchPartition{Topic: topic, Partition: number, Offset: offset})
		}
		results, err := c.fetch(wanted, 200)
		if err != nil {
			return err
		}
		request := &v1.CommitOffsetsRequest{GroupId: group, MemberId: m.id, MemberEpoch: m.epoch}
		for _, result := range results {
			each(result, positions[result.Partition], func(at int64, record *v1.Record) {
				fmt.Printf("%d\t%d\t%s\n", result.Partition, at, c.show(record))
				last = time.Now()
			})
			positions[result.Partition] = result.NextOffset
			where := &v1.TopicPartition{Topic: topic, Partition: result.Partition}
			request.Offsets = append(request.Offsets, &v1.OffsetCommit{Partition: where, Offset: result.NextOffset})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		// A refusal (another epoch by now) costs nothing: the next assignment or commit settles it.
		_, _ = c.groups.CommitOffsets(ctx, request)
		cancel()
	}
	_ = m.stream.Send(&v1.SessionRequest{Message: &v1.SessionRequest_Leave{Leave: &v1.Leave{}}})
	_ = m.stream.CloseSend()
	time.Sleep(200 * time.Millisecond)
	return nil
}

// errors provokes three refusals: what the code is called, and whether to try again.
func (c *client) errors(topic string) error {
	small := &v1.Record{Value: []byte("x")}
	large := &v1.Record{Value: make([]byte, 2_000_000)}
	for _, try := range []struct {
		topic  string
		acks   int32
		record *v1.Record
	}{{"no-such-topic", -1, small}, {topic, -1, large}, {topic, 7, small}} {
		records := &v1.RecordBatch_Records{Records: &v1.Records{Records: []*v1.Record{try.record}}}
		partition := &v1.ProducePartition{Topic: try.topic, Batch: &v1.RecordBatch{Payload: records}}
		acks := try.acks
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		answer, err := c.data.Produce(ctx, &v1.ProduceRequest{Acks: &acks, Partitions: []*v1.ProducePartition{partition}})
		cancel()
		if err != nil {
			return err
		}
		fmt.Printf("%v\t%v\n", answer.Partitions[0].Error.Code, answer.Partitions[0].Error.Retriable)
	}
	return nil
}

func (c *client) decode(text string) ([]byte, error) {
	if !c.hex {
		return []byte(text), nil
	}
	if text == "-" {
		return nil, nil
	}
	bytes, err := hex.DecodeString(text)
	return append([]byte{}, bytes...), err // empty is not null
}

func (c *client) encode(bytes []byte) string {
	if c.hex && bytes == nil {
		return "-"
	}
	if c.hex {
		return hex.EncodeToString(bytes)
	}
	return string(bytes)
}

func (c *client) parse(line string) (record *v1.SendRecord, err error) {
	columns := strings.Split(line, "\t")
	record = &v1.SendRecord{}
	if len(columns) == 1 {
		record.Value, err = c.decode(columns[0])
		return record, err
	}
	if record.Key, err = c.decode(columns[0]); err != nil {
		return nil, err
	}
	if record.Value, err = c.decode(columns[1]); err != nil || !c.hex || len(columns) < 3 || columns[2] == "" {
		return record, err
	}
	for _, header := range strings.Split(columns[2], ",") {
		name, text, _ := strings.Cut(header, "=")
		value, err := c.decode(text)
		if err != nil {
			return nil, err
		}
		record.Headers = append(record.Headers, &v1.Header{Key: name, Value: value})
	}
	return record, nil
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
		n, err := strconv.ParseInt(args[at], 10, 64)
		if err != nil {
			panic(err)
		}
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
