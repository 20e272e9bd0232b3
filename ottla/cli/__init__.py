"""The `ottla` command. Nothing here imports asyncio, grpc or rich before a command needs it: `--help` must be quick."""
