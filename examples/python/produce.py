"""Writes orders and says where each went. Usage: python produce.py [TOPIC] [COUNT]"""

import asyncio
import json
import sys

from ottla import Admin, Client, Producer


async def main(topic: str = "orders", count: str = "10") -> None:
    async with Client() as client:  # OTTLA_BOOTSTRAP, else 127.0.0.1:9192
        await Admin(client).create_topic(topic, partitions=3, exists_ok=True)
        async with Producer(client) as producer:
            deliveries = [
                await producer.send(topic, json.dumps({"order": number}), key=f"customer-{number % 4}")
                for number in range(int(count))
            ]
            for delivery in deliveries:
                stored = await delivery
                print(f"{stored.topic}-{stored.partition} @ {stored.offset}, on {stored.replicas_holding} replicas")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
