"""Which partition a key belongs to: murmur2 as Kafka's Java client computes it, so that all clients agree."""


def murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with Kafka's seed 0x9747b28c. Returns an unsigned value."""
    m = 0x5BD1E995
    mask = 0xFFFFFFFF
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_for_key(key: bytes, partitions: int) -> int:
    """`toPositive(murmur2(key)) % partitions`, the rule of Kafka's default partitioner."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
