"""A2A 1.0 in front of an agent: agents of other systems find it by its card and ask it by JSON-RPC.

What the card says, `card`; what a request asks, `request`; how runs and failures are worded, `answer`; which method does
what, `endpoint`. The documents are those of the protocol's a2a.proto (version 1.0) as its JSON mapping has them.
"""
