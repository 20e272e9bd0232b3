"""What Ottla's speed is, beside two ceilings and NATS JetStream, measured in one run on one machine: `make bench`."""
