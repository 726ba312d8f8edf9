"""What the operator costs with hundreds and thousands of AgentServices, beside what is physically possible and beside a Go operator.

`python -m tests.bench.operator` from the root of the repository (`make bench-operator`) runs etcd and an API server alone, no
controllers, so that nothing but the measured program writes. Each size is measured in one run with

- the limit: a Go client without any logic that sends the same writes, 50 at a time over one connection;
- the baseline: a plain controller-runtime operator with as many children of the same kinds;
- ours, in an environment like its image's.

`ranges.toml` says what must hold; `--check` fails outside it. Ratios within one run are the gate; absolute times are wide limits.
"""
