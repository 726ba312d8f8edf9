"""Runs in a pod of the cluster: asks an agent through OpenAI's own SDK and tells in a line of JSON what came back.

The SDK is as its users have it, retries on. Every HTTP request that it sends is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from typing import Any

import httpx2
import openai
from reach import reach


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--requests", type=int, required=True, help="in all")
    parser.add_argument("--body", required=True)
    options = parser.parse_args()
    body: Any = json.loads(options.body)
    counts = Counter[str]()
    refusals: list[dict[str, str | None]] = []
    left = options.requests

    async with httpx2.AsyncClient(trust_env=False) as first:
        await reach(first, options.url)

    async def count(_: Any) -> None:
        counts["http_requests"] += 1

    transport = openai.DefaultAsyncHttpxClient(event_hooks={"request": [count]}, trust_env=False, timeout=60)
    async with openai.AsyncOpenAI(base_url=f"{options.url}/v1", api_key="none", http_client=transport) as client:

        async def ask() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                try:
                    await client.post("/run", body=body, cast_to=object)
                    counts["served"] += 1
                except openai.RateLimitError as refused:
                    counts["refused"] += 1
                    names = ("retry-after", "x-should-retry")
                    told = {name: refused.response.headers.get(name) for name in names}
                    refusals.append({**told, "body": refused.response.text})
                except openai.APIError as error:
                    counts[f"failed: {type(error).__name__}: {error}"] += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(options.clients):
                tasks.create_task(ask())
    print(json.dumps({"counts": counts, "refusals": refusals}))


asyncio.run(main())
