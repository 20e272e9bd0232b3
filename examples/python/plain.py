"""The same without asyncio. Usage: python plain.py"""

from ottla.sync import Admin, Consumer, Producer


def main() -> None:
    with Admin() as admin:
        topic = "plain-example"
        admin.create_topic(topic, partitions=1, exists_ok=True)
    with Producer() as producer:
        stored = producer.send_and_wait(topic, b"hello")
    with Consumer() as consumer:
        consumer.assign([(topic, 0)])
        consumer.seek(topic, 0, stored.offset)
        record = next(consumer)
        print(f"{record.value!r} at offset {record.offset}")


if __name__ == "__main__":
    main()
