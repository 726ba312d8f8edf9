"""The app of the production guide, written anew for the library of today with one agent for all requests: `uvicorn guide:app`.

It checks nothing, counts nothing, limits nothing and streams nothing: what a service costs that does no more than this.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from pydantic import BaseModel
from tests.bench.runtime.bare import agent

shared = agent(os.environ["MODEL_SERVER"])
app = FastAPI()


class Query(BaseModel):
    input: str


class Answer(BaseModel):
    response: str
    tokens_used: int


@app.post("/v1/run")
async def run(query: Query) -> Answer:
    result = await shared.run(query.input)
    return Answer(response=result.output, tokens_used=result.usage.total_tokens)


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}
