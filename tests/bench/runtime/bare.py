"""The limit: the library's own loop, nothing served. `python bare.py PORT` takes one order per line and answers with one.

An order is {"stream": bool, "requests": n, "at_once": n}, its answer {"cpu": s, "seconds": s, "first": [s, ...]}.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

import uvloop
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def agent(server: str) -> Agent[None, str]:
    """Return the agent of all that is compared: ours has the same instructions and the same cap."""
    model = OpenAIChatModel("bench", provider=OpenAIProvider(base_url=f"{server}/v1", api_key="none"))
    return Agent(model, instructions="Answer briefly.", model_settings={"max_tokens": 2000})


async def _measure(agent: Agent[None, str], order: dict[str, Any]) -> dict[str, Any]:
    numbers = iter(range(order["requests"]))
    first: list[float] = []

    async def stream(text: str) -> None:
        began = time.perf_counter()
        told = False
        async with agent.run_stream(text) as answer:
            async for _ in answer.stream_text(delta=True, debounce_by=None):
                if not told:
                    told = True
                    first.append(time.perf_counter() - began)

    async def client() -> None:
        for number in numbers:
            text = f"What is the meaning of this number: {order['batch']}-{number}?"
            await (stream(text) if order["stream"] else agent.run(text))

    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(order["at_once"]):
            tasks.create_task(client())
    return {"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - began, "first": first}


async def main() -> None:
    made = agent(f"http://127.0.0.1:{sys.argv[1]}")
    loop = asyncio.get_running_loop()
    is_warm = False
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        sys.stdout.write(json.dumps(await _measure(made, json.loads(line))) + "\n")
        sys.stdout.flush()
        if not is_warm:
            is_warm = True
            gc.collect()
            gc.freeze()


if __name__ == "__main__":
    uvloop.run(main())
