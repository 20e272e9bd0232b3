"""A web service that takes orders, and adds them up as they come back from the log.

Usage: pip install fastapi uvicorn 'ottla[prometheus]'; uvicorn web:app
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, Response
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel, PositiveInt

from ottla import Admin, Client, Consumer, OttlaError, Producer
from ottla.prometheus import ClientCollector
from ottla.serializers import to_json, to_type

TOPIC = "web-orders"


class Order(BaseModel):
    customer: str
    cents: PositiveInt


class Service:
    """What lives as long as the service does."""

    producer: Producer
    worker: asyncio.Task[None]
    totals: Counter[str]
    registry: CollectorRegistry


service = Service()


async def add_up(consumer: Consumer) -> None:
    async with consumer:
        async for record in consumer:
            order: Order = record.value  # type: ignore[assignment] # what the deserializer makes
            service.totals[order.customer] += order.cents


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with Client() as client:  # OTTLA_BOOTSTRAP, else 127.0.0.1:9192
        await Admin(client).create_topic(TOPIC, partitions=3, exists_ok=True)
        # No group: each process adds up everything, from the first record on, and needs no store of its own.
        consumer = Consumer(TOPIC, bootstrap=client, value_deserializer=to_type(Order))
        service.totals, service.registry = Counter(), CollectorRegistry()
        async with Producer(client, value_serializer=to_json) as service.producer:
            service.registry.register(ClientCollector(orders=service.producer, totals=consumer))
            service.worker = asyncio.create_task(add_up(consumer))
            try:
                yield
            finally:
                service.worker.cancel()
                await asyncio.gather(service.worker, return_exceptions=True)


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=201)
async def take(order: Order) -> dict[str, int]:
    """Answers when the order is on every replica that is in sync: what has a 201 is not lost."""
    try:
        stored = await service.producer.send_and_wait(TOPIC, order, key=order.customer)
    except OttlaError as error:
        raise HTTPException(503, error.message) from error
    return {"partition": stored.partition, "offset": stored.offset}


@app.get("/totals/{customer}")
async def total(customer: str) -> dict[str, int]:
    return {"cents": service.totals[customer]}


@app.get("/healthz")
async def health() -> dict[str, str]:
    """Without whoever adds up, the totals would stand still in silence."""
    if service.worker.done():
        raise HTTPException(503, f"nobody adds up any more: {service.worker!r}")
    return {"status": "ok"}


@app.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(service.registry), media_type="text/plain; version=0.0.4")
