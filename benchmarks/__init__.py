"""The figures of docs/benchmarks.md, measured: `./dev bench [name]`; no part of the service imports this."""
