"""The asyncio client. Its public names are in `ottla`; the blocking versions are in `ottla.sync`."""
