"""Runs in a pod of the cluster: asks an agent at a steady rate, keeps streams open, and tells the fate of each as a line of JSON.

Every second request goes over a kept connection, the others open their own, as real callers do both. Nothing is
retried. It ends when standard input does, or after `--requests`; what is open then may finish.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from reach import reach

TIMEOUT_SECONDS = 60.0


def tell(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def problem(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


async def ask(client: httpx2.AsyncClient, url: str, *, body: Any, headers: dict[str, str], kept: bool) -> None:
    began = time.time()
    told: dict[str, Any] = {"kind": "run", "url": url, "began": began, "kept": kept}
    try:
        answer = await client.post(f"{url}/v1/run", content=body, headers=headers)
        content = answer.json()
        told |= {"status": answer.status_code, "ok": answer.status_code == 200, "answer": content.get("output")}
        if answer.status_code != 200:
            told["error"] = json.dumps(content)
    except Exception as error:
        told |= {"ok": False, "error": problem(error)}
    tell(**told, ended=time.time())


async def events(answer: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def listen(client: httpx2.AsyncClient, url: str, *, body: Any, headers: dict[str, str]) -> bool:
    began = time.time()
    told: dict[str, Any] = {
        "kind": "stream",
        "url": url,
        "began": began,
        "kept": False,
        "ok": False,
        "error": "cut: no result",
    }
    deltas = 0
    try:
        async with client.stream("POST", f"{url}/v1/stream", content=body, headers=headers) as answer:
            told["status"] = answer.status_code
            if answer.status_code != 200:
                told["error"] = (await answer.aread()).decode()
            else:
                async for name, data in events(answer):
                    deltas += name == "delta"
                    if name == "result":
                        told |= {"ok": True, "answer": data["output"], "error": None}
                    elif name == "error":
                        told["error"] = json.dumps(data)
    except Exception as error:
        told["error"] = problem(error)
    tell(**told, deltas=deltas, ended=time.time())
    return bool(told["ok"])


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("urls", nargs="+", help="agents, asked in turn")
    parser.add_argument("--rate", type=float, default=0, help="requests per second")
    parser.add_argument("--streams", type=int, default=0, help="streams open at once")
    parser.add_argument("--requests", type=int, default=0, help="end after so many")
    parser.add_argument("--body", default='{"input": "How are you?"}')
    parser.add_argument("--header", action="append", default=[])
    options = parser.parse_args()

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    if not options.requests:
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()
    headers = {"Content-Type": "application/json", **dict(h.split(": ", 1) for h in options.header)}
    kept_limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
    own_limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with (
        httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, limits=kept_limits, trust_env=False) as kept,
        httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, limits=own_limits, trust_env=False) as own,
        asyncio.TaskGroup() as tasks,
    ):

        async def keep_listening() -> None:
            while not stop.is_set():
                if not await listen(own, options.urls[0], body=options.body, headers=headers):
                    await asyncio.sleep(0.5)

        await asyncio.gather(*(reach(own, url) for url in set(options.urls)))
        for _ in range(options.streams):
            tasks.create_task(keep_listening())
        began, sent = loop.time(), 0
        while not stop.is_set() and (not options.requests or sent < options.requests):
            if not options.rate and not options.requests:
                await stop.wait()
                break
            url, is_kept = options.urls[sent % len(options.urls)], sent // len(options.urls) % 2 == 0
            client = kept if is_kept else own
            tasks.create_task(ask(client, url, body=options.body, headers=headers, kept=is_kept))
            sent += 1
            if options.rate:
                await asyncio.sleep(max(0, began + sent / options.rate - loop.time()))


asyncio.run(main())
