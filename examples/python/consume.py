"""Works on orders as a member of a group: start it twice and the partitions are shared.

Usage: python consume.py [TOPIC] [GROUP] [COUNT]
"""

import asyncio
import json
import sys

from ottla import Consumer


async def main(topic: str = "orders", group: str = "billing", count: str = "0") -> None:
    done = 0
    async with Consumer(topic, group=group) as consumer:
        async for record in consumer:
            order = json.loads(record.value or b"null")
            print(f"{record.partition} @ {record.offset}: {order}")
            done += 1
            if done == int(count):
                break  # this record counts as processed: the block ends without an exception


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
