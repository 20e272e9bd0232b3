"""The vocabulary that client and server share: batch bytes, error codes, names, the partitioner. Pure."""
