"""Kafka's wire protocol: the second front door. Codecs and state machines here decide nothing about the log."""
