//! System tests, tidy checks and benchmarks live in this package; there is nothing to link.
#![forbid(unsafe_code)]
