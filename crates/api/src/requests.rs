//! What clients send: bodies and queries with their limits.

pub(crate) mod batch;
pub(crate) mod new_task;
pub(crate) mod paging;
