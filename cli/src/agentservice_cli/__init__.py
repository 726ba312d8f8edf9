"""The agentservice command line: an agent here, and the same agent in a cluster.

`commands` says what can be typed, and imports what a command needs only when it runs. Below it, one module decides one
thing: `manifests` reads files, `local` is an agent without a cluster, `ask` a question to an agent, `cluster`
everything that talks to an API server.
"""

__version__ = "0.1.0"
