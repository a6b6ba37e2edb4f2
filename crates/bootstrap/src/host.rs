//! Which host this is: the set of processes that can see each other by pid.

use std::fs;

/// A name that two processes share exactly when one can see the other by its pid: node, machine and pid namespace.
#[must_use]
pub fn host_name() -> String {
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine: String = machine.trim().chars().take(12).collect();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let namespace: String =
        namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let parts = [node, machine, namespace];
    let parts: Vec<&str> =
        parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_same_each_time_and_not_empty() {
        assert_eq!(host_name(), host_name());
        assert!(!host_name().is_empty());
    }
}
