"""Three consumers of one group beside the demo's stream, each a process of its own; one is killed on the way."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from examples.demo.member import COMMIT_MS
from examples.demo.screen import Screen
from examples.demo.shares import GroupVerdict, Shares
from ottla.cli.failure import Failure

GROUP: Final = "three"
MEMBERS: Final = 3
# Where in the stream the kill comes: after the node is back.
KILL_AT: Final = 0.6
PATIENCE_S: Final = 60.0
_STOP_S: Final = 5.0
_LOOK_S: Final = 0.02
_ROOT: Final = str(Path(__file__).resolve().parents[2])


class Group:
    """Use it as `async with`: leaving ends the processes."""

    def __init__(
        self, bootstrap: str, topic: str, partitions: int, total: int, screen: Screen, directory: Path
    ) -> None:
        self._arguments = (bootstrap, topic, GROUP)
        self._total = total
        self._screen = screen
        self._directory = directory
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._listening: list[asyncio.Task[None]] = []
        self.shares = Shares(partitions)
        self.victim = 0

    async def __aenter__(self) -> "Group":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}
        for number in range(1, MEMBERS + 1):
            log = self._log(number).open("ab")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "ottla.cli.child", str(os.getpid()), str(int(signal.SIGKILL))),
                *("-m", "examples.demo.member", *self._arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends them
            )
            log.close()
            self._processes[number] = process
            self._listening.append(asyncio.create_task(self._listen(number, process)))
        self._screen.say(f"group {GROUP}: {MEMBERS} consumers, each a process that commits every {COMMIT_MS} ms")
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self._processes.values():
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await asyncio.gather(*self._listening, return_exceptions=True)

    def _log(self, number: int) -> Path:
        return self._directory / f"consumer-{number}.log"

    async def _listen(self, number: int, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # killed in the middle of a line
            if "owns" in said:
                self.shares.on_owned(number, said["owns"], time.monotonic())
            else:
                self.shares.on_processed(*said["done"])

    async def strike(self) -> None:
        """Kills the consumer with most partitions in mid-stream, and waits until others have them. Raises Failure."""
        await self._until(lambda: self.shares.processed >= KILL_AT * self._total, "the group did not get far")
        await self._until(lambda: self.shares.everything_owned_by(MEMBERS), "the group's consumers did not share")
        self.victim = self.shares.most_loaded()
        partitions = self.shares.owned_by(self.victim)
        self.shares.on_killed(self.victim, time.monotonic())
        self._processes[self.victim].kill()
        owned = ", ".join(map(str, partitions))
        self._screen.say(f"kill -9 consumer {self.victim} of the group, which reads partitions {owned}")
        await self._until(lambda: self.shares.takeover_s is not None, "nobody took over from the killed consumer")
        self._screen.say(f"others have its partitions, {self.shares.takeover_s:.2f} s later")

    async def finish(self, ends: list[int]) -> GroupVerdict:
        """Waits until the group has worked through everything, a minute without progress at most."""
        with contextlib.suppress(Failure):
            await self._until(lambda: not self.shares.verdict(ends).skipped, "the group did not read to the end")
        return self.shares.verdict(ends)

    async def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        seen, changed_s = -1, time.monotonic()
        while not holds():
            for number, process in self._processes.items():
                if process.returncode is not None and number != self.victim:
                    message = f"consumer {number} of the group ended with exit code {process.returncode}"
                    raise Failure("CONSUMER_FAILED", message, f"look into {self._log(number)}")
            if self.shares.processed != seen:
                seen, changed_s = self.shares.processed, time.monotonic()
            elif time.monotonic() - changed_s > PATIENCE_S:
                message = f"{otherwise}: no progress for {PATIENCE_S:.0f} s"
                raise Failure("REQUEST_TIMED_OUT", message, "look into the nodes' logs")
            await asyncio.sleep(_LOOK_S)
