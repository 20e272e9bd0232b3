package main

import (
	"context"
	"fmt"
	"log"
	"os"

	v1 "github.com/ottla/ottla/gen/go/ottla/v1"
	"google.golang.org/grpc"
)

func main() {
	ctx, address, topic := context.Background(), os.Args[1], os.Args[2]
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	data := v1.NewDataServiceClient(connection)

	records := []*v1.SendRecord{{Key: []byte("k"), Value: []byte("hello")}}
	sent, err := data.Send(ctx, &v1.SendRequest{Topic: topic, Records: records})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored at offset", sent.Results[0].Offset)

	positions := []*v1.FetchPartition{{Topic: topic, Offset: -2}}
	read, err := data.Fetch(ctx, &v1.FetchRequest{Partitions: positions})
	if err != nil {
		log.Fatal(err)
	}
	for _, batch := range read.Partitions[0].Batches {
		for _, record := range batch.GetRecords().Records {
			fmt.Println(string(record.Key), string(record.Value))
		}
	}
}
