"""The demo: `make demo`, or `python -m examples.demo` where Ottla is installed."""
