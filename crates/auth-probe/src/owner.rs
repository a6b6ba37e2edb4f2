//! Who made a launch of a check: written on it, so that whoever finds it knows whether anybody still waits for it.

use launcher::identity::ProcessIdentity;

/// The mark of this process; of one that cannot read its own identity it names nobody.
pub(crate) fn mark() -> String {
    let own = ProcessIdentity::own().ok();
    own.and_then(|own| serde_json::to_string(&own).ok()).unwrap_or_default()
}

/// Whether the process of a mark has ended. Of a mark that names nobody it is not known, which is no evidence.
pub(crate) fn is_gone(mark: &str) -> bool {
    serde_json::from_str(mark).is_ok_and(|owner: ProcessIdentity| !owner.is_alive())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_mark_is_of_somebody_alive_and_only_another_life_is_gone() {
        let own = ProcessIdentity::own().unwrap();
        assert!(!is_gone(&mark()));
        let earlier = ProcessIdentity { start_ticks: own.start_ticks - 1, ..own };
        assert!(is_gone(&serde_json::to_string(&earlier).unwrap()));
        assert!(!is_gone("login"));
    }
}
