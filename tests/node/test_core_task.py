"""What a node does as long as it runs never ends in silence."""

import asyncio

import pytest

from node.core_task import core


async def returns() -> None:
    await asyncio.sleep(0)


async def waits_for_a_cancelled_call() -> None:
    call = asyncio.get_running_loop().create_future()
    call.cancel()
    await call


async def raises() -> None:
    raise OSError("no port")


@pytest.mark.parametrize(
    ("work", "error"), [(returns, RuntimeError), (waits_for_a_cancelled_call, RuntimeError), (raises, OSError)]
)
async def test_whatever_ends_a_core_task_ends_its_group(work: object, error: type[Exception]) -> None:
    assert callable(work)

    async def together() -> None:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(core(work()))
            group.create_task(core(asyncio.sleep(60)))

    with pytest.raises(ExceptionGroup) as caught:
        await together()
    assert [type(each) for each in caught.value.exceptions] == [error]


async def test_who_stops_a_core_task_hears_of_no_error() -> None:
    task = asyncio.create_task(core(asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
