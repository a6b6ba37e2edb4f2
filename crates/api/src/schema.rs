//! Schemas of the words and ids that `core-types` owns, for the OpenAPI document.

use core_types::{
    auth::{AuthReason, CheckedBy},
    gate::{GateCause, GateWord},
    notice::{NoticeEvent, NoticeState},
    outcome::{RunOutcome, table::OutcomeClass},
    process::{ProcessKind, ProcessName, ProcessState, Wanted},
    readiness::CheckState,
    task::{
        BlockReason, ExecutionEnvironment, ExecutorKind, RiskLevel, Role, RunStatus, TaskStatus,
    },
};
use serde_json::Value;
use utoipa::openapi::{
    KnownFormat, SchemaFormat,
    schema::{Array, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type},
};

use crate::requests::{
    auth::SWITCH,
    cleanup::{DAYS_MAX, Removable},
    diff::{BYTES_MAX, FORMATS},
    filters::{AGENT_STATES, ORDERS, SEARCH_MAX},
    log::TAIL_MAX,
    paging::{EVENTS_MAX, PAGE_MAX},
    processes::LINES_MAX,
};

fn words(words: &[&str]) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .enum_values(Some(words.iter().map(|word| Value::from(*word))))
}

fn id(kind: &str) -> Object {
    let pattern = format!("^{kind}-[0-9a-f]{{32}}$");
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).pattern(Some(pattern)).build()
}

/// The same schema with `null` as one more value.
fn or_null(mut object: Object) -> Object {
    object.schema_type = SchemaType::Array(vec![Type::String, Type::Null]);
    if let Some(words) = &mut object.enum_values {
        words.push(Value::Null);
    }
    object
}

pub(crate) fn role() -> Object {
    words(Role::WORDS).build()
}

pub(crate) fn role_worker() -> Object {
    words(Role::WORDS).default(Some(Role::Worker.as_str().into())).build()
}

pub(crate) fn risk() -> Object {
    words(RiskLevel::WORDS).build()
}

pub(crate) fn risk_medium() -> Object {
    words(RiskLevel::WORDS).default(Some(RiskLevel::Medium.as_str().into())).build()
}

pub(crate) fn executor() -> Object {
    words(ExecutorKind::WORDS).build()
}

pub(crate) fn task_status() -> Object {
    words(TaskStatus::WORDS).build()
}

fn list_of(item: Object) -> Array {
    ArrayBuilder::new().items(item).min_items(Some(1)).build()
}

pub(crate) fn task_statuses() -> Array {
    list_of(task_status())
}

pub(crate) fn run_statuses() -> Array {
    list_of(run_status())
}

pub(crate) fn run_outcomes() -> Array {
    list_of(words(RunOutcome::WORDS).build())
}

pub(crate) fn order() -> Object {
    words(ORDERS).build()
}

pub(crate) fn agent_state() -> Object {
    words(AGENT_STATES).build()
}

pub(crate) fn plain_text() -> Object {
    text().build()
}

pub(crate) fn search_text() -> Object {
    text().max_length(Some(SEARCH_MAX)).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .min_length(Some(1))
        .pattern(Some(r"^[^\u0000]+$"))
}

pub(crate) fn moment() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .build()
}

pub(crate) fn optional_executor() -> Object {
    or_null(executor())
}

pub(crate) fn optional_block_reason() -> Object {
    or_null(words(BlockReason::WORDS).build())
}

pub(crate) fn run_status() -> Object {
    words(RunStatus::WORDS).build()
}

pub(crate) fn optional_run_outcome() -> Object {
    or_null(words(RunOutcome::WORDS).build())
}

pub(crate) fn optional_outcome_class() -> Object {
    or_null(words(OutcomeClass::WORDS).build())
}

pub(crate) fn environment() -> Object {
    words(ExecutionEnvironment::WORDS).build()
}

pub(crate) fn auth_reason() -> Object {
    words(AuthReason::WORDS).build()
}

pub(crate) fn checked_by() -> Object {
    words(CheckedBy::WORDS).build()
}

pub(crate) fn check_state() -> Object {
    words(CheckState::WORDS).build()
}

pub(crate) fn switch() -> Object {
    words(SWITCH).build()
}

pub(crate) fn gate_state() -> Object {
    words(GateWord::WORDS).build()
}

pub(crate) fn optional_gate_cause() -> Object {
    or_null(words(GateCause::WORDS).build())
}

pub(crate) fn task_id() -> Object {
    id(core_types::ids::TaskId::KIND)
}

pub(crate) fn optional_task_id() -> Object {
    or_null(task_id())
}

pub(crate) fn optional_run_id() -> Object {
    or_null(run_id())
}

pub(crate) fn optional_agent_id() -> Object {
    or_null(agent_id())
}

pub(crate) fn run_id() -> Object {
    id(core_types::ids::RunId::KIND)
}

pub(crate) fn agent_id() -> Object {
    id(core_types::ids::AgentId::KIND)
}

pub(crate) fn process_name() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(ProcessName::PATTERN))
        .build()
}

pub(crate) fn process_kind() -> Object {
    words(ProcessKind::WORDS).build()
}

pub(crate) fn process_state() -> Object {
    words(ProcessState::WORDS).build()
}

pub(crate) fn wanted() -> Object {
    words(Wanted::WORDS).build()
}

pub(crate) fn process_lines() -> Object {
    count(LINES_MAX)
}

pub(crate) fn page_limit() -> Object {
    count(PAGE_MAX)
}

pub(crate) fn events_limit() -> Object {
    count(EVENTS_MAX)
}

pub(crate) fn boolean() -> Object {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::Boolean)).build()
}

pub(crate) fn notice_id() -> Object {
    id(core_types::ids::NoticeId::KIND)
}

pub(crate) fn notice_event() -> Object {
    words(NoticeEvent::WORDS).build()
}

pub(crate) fn notice_state() -> Object {
    words(NoticeState::WORDS).build()
}

pub(crate) fn notice_states() -> Array {
    list_of(notice_state())
}

pub(crate) fn removables() -> Array {
    list_of(words(Removable::WORDS).build())
}

pub(crate) fn days() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .minimum(Some(0))
        .maximum(Some(DAYS_MAX))
        .build()
}

pub(crate) fn diff_format() -> Object {
    words(FORMATS).build()
}

pub(crate) fn diff_bytes() -> Object {
    count(BYTES_MAX)
}

pub(crate) fn log_tail() -> Object {
    count(TAIL_MAX)
}

fn count(max: u32) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .minimum(Some(1))
        .maximum(Some(max))
        .build()
}

pub(crate) fn event_number() -> Object {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0)).build()
}
