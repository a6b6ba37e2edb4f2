//! Which process a test database belongs to, and whether it lives.

/// The process that a database belongs to, as its name says: boot, process, and when the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    boot: String,
    pid: u32,
    pub(crate) start: u64,
}

impl Owner {
    pub(crate) fn this() -> Self {
        let pid = std::process::id();
        Self { boot: boot(), pid, start: start_of(pid).unwrap_or_default() }
    }

    pub(crate) fn text(&self) -> String {
        format!("{}_{}_{}", self.boot, self.pid, self.start)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let boot = parts.next()?.to_owned();
        let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { boot, pid, start })
    }

    /// Databases of another boot may belong to another machine; they are left alone.
    pub(crate) fn is_dead(&self) -> bool {
        self.boot == boot() && start_of(self.pid) != Some(self.start)
    }
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.chars().filter(char::is_ascii_hexdigit).take(8).collect()
}

/// When a process started, in clock ticks since the boot (field 22 of `/proc/<pid>/stat`).
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_comes_back_from_its_text_and_lives() {
        let owner = Owner::this();
        assert_eq!(Owner::parse(&owner.text()), Some(owner.clone()));
        assert!(!owner.is_dead());
        assert!(Owner { start: owner.start + 1, ..owner }.is_dead());
        assert_eq!(Owner::parse("template_1234"), None);
    }
}
