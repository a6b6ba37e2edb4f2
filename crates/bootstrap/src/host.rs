//! Which host this is: the set of processes that can see each other by pid and end each other's launches.

use std::fs;

/// How much of an id is enough to tell it from any other.
const ID_LENGTH: usize = 12;

/// A name that two processes share exactly when one can see the other by its pid and its launches by their id: node,
/// machine, pid namespace, and the id of the store of launches in the state directory.
///
/// Whoever has another name concludes nothing from a pid that is not there, nor from a launch that is not there.
#[must_use]
pub fn host_name(launch_store: &str) -> String {
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let namespace: String =
        namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let parts = [node, shortened(machine.trim()), namespace, shortened(launch_store)];
    let parts: Vec<&str> =
        parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join(".")
}

fn shortened(id: &str) -> String {
    id.chars().take(ID_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_same_each_time_and_not_empty() {
        assert_eq!(host_name("0123456789abcdef"), host_name("0123456789abcdef"));
        assert!(!host_name("").is_empty());
    }

    #[test]
    fn two_state_directories_of_one_machine_are_two_hosts() {
        assert_ne!(host_name("0123456789abcdef"), host_name("1123456789abcdef"));
    }
}
