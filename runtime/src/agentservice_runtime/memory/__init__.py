"""Conversations that are remembered from one request to the next (`spec.conversations`).

What is kept of a turn and how much of it is given to the next one, `turns` says; who may go on with which conversation and
that it has one turn at a time, `memory`; how the stores are spoken with, `redis_store` and `postgres_store`; `endpoint` shows a
conversation and forgets it.
"""
