//! Changing settings: who may change which key, what each may be, then one transaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use core_config::{
    database::{DatabaseSnapshot, check_update},
    fault::Fault,
    load::Loaded,
    table::setting,
};
use http::StatusCode;
use serde_json::Value;
use store::config_rows::{ConfigRows, ConfigUpdate, SetConfigError};
use tokio::time::timeout;

use crate::{
    access::caller::Caller,
    error::{ApiError, FieldFault},
    requests::config::{Condition, Updates},
    state::ApiState,
};

/// How long an answer waits until this process has the change in force, so that whoever reads next sees it.
const IN_FORCE: Duration = Duration::from_secs(2);
/// How much of a key is repeated, in bytes; no key of ours is longer.
const KEY_SHOWN: usize = 64;

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Changed {
    /// It is made.
    Made {
        /// The settings of this process after it.
        loaded: Arc<Loaded>,
        /// The keys whose rows are others now.
        keys: Vec<String>,
    },
    /// The settings have another revision than the caller wanted.
    Stale {
        /// The one they have.
        revision: i64,
    },
}

/// Changes rows, all or none.
pub(crate) async fn change_rows(
    state: ApiState,
    caller: Caller,
    condition: Condition,
    Updates(updates): Updates,
) -> Result<Changed, ApiError> {
    check_caller(&caller, &updates, &state.settings())?;
    let before = state.store.config_rows().await?;
    let checked = check_values(&before, &updates)?;
    if !condition.holds_for(before.revision) {
        return Ok(Changed::Stale { revision: before.revision });
    }
    let expected = match condition {
        Condition::Any => None,
        Condition::OneOf(_) => Some(before.revision),
    };
    let who = caller.who();
    let after = match state.store.set_config_rows(&checked, &who, expected).await {
        Ok(rows) => rows,
        Err(SetConfigError::RevisionChanged { actual, .. }) => {
            return Ok(Changed::Stale { revision: actual });
        }
        Err(SetConfigError::Store(error)) => return Err(error.into()),
    };
    let differs = |key: &&String| before.rows.get(*key) != checked[*key].value.as_ref();
    let keys: Vec<String> = checked.keys().filter(differs).cloned().collect();
    if !keys.is_empty() {
        tracing::info!(caller = %who, settings.revision = after.revision, settings.keys = ?keys, "settings changed by request");
    }
    Ok(Changed::Made { loaded: in_force(&state, after).await, keys })
}

/// What reaches the host is changed by whoever proves who they are (C8). To take away a row that cannot be used changes
/// nothing of that: it was not in force.
fn check_caller(
    caller: &Caller,
    updates: &BTreeMap<String, Option<Value>>,
    loaded: &Loaded,
) -> Result<(), ApiError> {
    if caller.has_key() {
        return Ok(());
    }
    let is_faulty =
        |key: &str| loaded.database_faults.iter().flatten().any(|fault| fault.key == key);
    let reaching = updates.iter().filter(|(key, value)| {
        let mends = value.is_none() && is_faulty(key);
        !mends && setting(key).is_some_and(|setting| setting.reaches_host)
    });
    let refused: Vec<FieldFault> = reaching
        .map(|(key, _)| {
            let allowed = "`X-API-Key`, `Authorization: Bearer`, or a variable of the environment";
            FieldFault::new(
                field(key),
                "reaches the host and is not changed without a key",
                allowed,
            )
        })
        .collect();
    if refused.is_empty() {
        Ok(())
    } else {
        Err(ApiError::with_fields(StatusCode::FORBIDDEN, "key_required", refused))
    }
}

fn check_values(
    before: &ConfigRows,
    updates: &BTreeMap<String, Option<Value>>,
) -> Result<BTreeMap<String, ConfigUpdate>, ApiError> {
    let mut checked = BTreeMap::new();
    let mut faults = Vec::new();
    for (key, value) in updates {
        match check_update(key, value.as_ref(), before.rows.contains_key(key)) {
            Ok(value) => {
                // What a key of another version holds is not known, so it is not shown.
                let secret = setting(key).is_none_or(|setting| setting.kind.is_secret());
                checked.insert(key.clone(), ConfigUpdate { value, secret });
            }
            Err(fault) => faults.push(refusal(fault)),
        }
    }
    if faults.is_empty() {
        Ok(checked)
    } else {
        Err(ApiError::with_fields(StatusCode::BAD_REQUEST, "invalid_settings", faults))
    }
}

fn refusal(fault: Fault) -> FieldFault {
    let what = match fault.hint.as_str() {
        "" => fault.what,
        hint => format!("{}; {hint}", fault.what),
    };
    FieldFault::new(field(&fault.key), what, fault.allowed)
}

fn field(key: &str) -> String {
    format!("updates.{}", core_types::event::cut_text(key, KEY_SHOWN))
}

/// The settings of this process once it has the rows in force; where it takes too long, as they will be.
async fn in_force(state: &ApiState, rows: ConfigRows) -> Arc<Loaded> {
    let mut settings = state.settings.clone();
    let newer = settings.wait_for(|loaded| loaded.revision >= Some(rows.revision));
    if let Ok(Ok(loaded)) = timeout(IN_FORCE, newer).await {
        return Arc::clone(&loaded);
    }
    let snapshot = DatabaseSnapshot { revision: rows.revision, rows: rows.rows };
    Arc::new(state.settings().after(&snapshot))
}
