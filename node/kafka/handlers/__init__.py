"""What each API of Kafka asks of `node.api`, and what is said of the answer: translators, as gRPC's services are."""
