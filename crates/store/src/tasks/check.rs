//! What can be said against new tasks without asking the database: their fields, and circles among them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use core_types::ids::TaskId;

use crate::tasks::{NewTask, create::CreateTasksError};

/// Checks what needs no database and returns the places of the tasks, parents first.
pub(crate) fn order_of(tasks: &[NewTask]) -> Result<Vec<usize>, CreateTasksError> {
    let mut places = HashMap::new();
    for (index, task) in tasks.iter().enumerate() {
        check_fields(index, task)?;
        if task.dependencies.contains(&task.id) {
            return Err(CreateTasksError::DependencyOnItself { index });
        }
        if places.insert(task.id, index).is_some() {
            return Err(CreateTasksError::IdTaken { index });
        }
    }
    sort_parents_first(tasks, &places)
}

/// Kahn's algorithm; what it cannot place is in a circle or behind one.
fn sort_parents_first(
    tasks: &[NewTask],
    places: &HashMap<TaskId, usize>,
) -> Result<Vec<usize>, CreateTasksError> {
    let inner = |task: &NewTask| -> BTreeSet<usize> {
        task.dependencies.iter().filter_map(|id| places.get(id).copied()).collect()
    };
    let mut missing: Vec<usize> = Vec::with_capacity(tasks.len());
    let mut dependants: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, task) in tasks.iter().enumerate() {
        let parents = inner(task);
        missing.push(parents.len());
        for parent in parents {
            dependants.entry(parent).or_default().push(index);
        }
    }
    let free = missing.iter().enumerate().filter(|(_, count)| **count == 0);
    let mut queue: VecDeque<usize> = free.map(|(index, _)| index).collect();
    let mut order = Vec::with_capacity(tasks.len());
    while let Some(index) = queue.pop_front() {
        order.push(index);
        for child in dependants.get(&index).into_iter().flatten() {
            let Some(count) = missing.get_mut(*child) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                queue.push_back(*child);
            }
        }
    }
    match missing.iter().position(|count| *count > 0) {
        None => Ok(order),
        Some(stuck) => Err(cycle_behind(tasks, places, &missing, stuck)),
    }
}

/// Walks from a stuck task along stuck dependencies until it meets itself.
fn cycle_behind(
    tasks: &[NewTask],
    places: &HashMap<TaskId, usize>,
    missing: &[usize],
    stuck: usize,
) -> CreateTasksError {
    let mut walked: Vec<usize> = Vec::new();
    let mut next = Some(stuck);
    while let Some(place) = next.filter(|place| !walked.contains(place)) {
        walked.push(place);
        let dependencies = tasks.get(place).map(|task| task.dependencies.as_slice());
        next = dependencies
            .unwrap_or_default()
            .iter()
            .filter_map(|id| places.get(id).copied())
            .find(|parent| missing.get(*parent).is_some_and(|count| *count > 0));
    }
    let start = next.and_then(|place| walked.iter().position(|one| *one == place)).unwrap_or(0);
    let circle = walked.get(start..).unwrap_or_default();
    CreateTasksError::DependencyCycle {
        index: circle.first().copied().unwrap_or(stuck),
        path: circle.iter().filter_map(|place| Some(tasks.get(*place)?.id)).collect(),
    }
}

fn check_fields(index: usize, task: &NewTask) -> Result<(), CreateTasksError> {
    let invalid = |field, problem| Err(CreateTasksError::Invalid { index, field, problem });
    const NUL: &str = "holds the character NUL, which the database cannot store; remove it";
    let texts = [
        ("title", Some(&task.title)),
        ("goal", Some(&task.goal)),
        ("target_area", task.target_area.as_ref()),
        ("base_branch", task.base_branch.as_ref()),
        ("model", task.model.as_ref()),
        ("created_by", Some(&task.created_by)),
    ];
    for (field, text) in texts {
        if text.is_some_and(|text| text.contains('\0')) {
            return invalid(field, NUL);
        }
    }
    if !(-100..=100).contains(&task.priority) {
        return invalid("priority", "is out of range; allowed: -100 to 100");
    }
    if task.target_area.as_deref() == Some("") {
        return invalid("target_area", "is empty; name an area or leave it out");
    }
    // A row of an index holds at most a third of a page.
    if task.target_area.as_ref().is_some_and(|area| area.len() > 1024) {
        return invalid("target_area", "is too long; allowed: 1024 bytes");
    }
    if task.timebox.is_some_and(|timebox| timebox.as_millis() == 0) {
        return invalid("timebox", "is zero; allow at least a millisecond or leave it out");
    }
    if task.max_attempts == 0 || i32::try_from(task.max_attempts).is_err() {
        return invalid("max_attempts", "is out of range; allowed: 1 to 2147483647");
    }
    for (field, limit) in
        [("token_limit", task.token_limit), ("cost_limit_microusd", task.cost_limit_microusd)]
    {
        if limit.is_some_and(|limit| i64::try_from(limit).is_err()) {
            return invalid(field, "is out of range; allowed: 0 to 9223372036854775807");
        }
    }
    Ok(())
}
