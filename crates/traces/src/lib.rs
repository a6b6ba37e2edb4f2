//! Traces for a collector that speaks OTLP: one for each task, with its runs and their phases.
//!
//! Made from the record of a run when it has ended, and not while it lives: so a trace is whole also where a process was
//! killed on the way, host and sandbox look alike, and nothing that works for an agent speaks to a collector. It is the
//! dispatcher that tells. What each process did in between is in its log, with the same ids.

pub mod exporter;
pub mod spans;
