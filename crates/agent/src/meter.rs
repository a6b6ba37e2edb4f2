//! What a run may still use (D12): told to the database while it works, held against the limits of its task and the day.
//!
//! Tokens of other runs count while those live, for they tell, too. So all runs together go over the day's tokens by no
//! more than what each uses between two words of it, and by the model call it is in. Money is set aside by the claim,
//! see `store::spend`.

use std::{sync::Arc, time::Duration};

use core_types::{
    ids::RunKey,
    outcome::{RunOutcome, RunReport},
    sandbox::TaskBrief,
    usage::{SpendLimits, Usage, usd_text},
};
use jiff::Timestamp;
use store::{dispatch::spending::Standing, error::FencedError};
use telemetry::chain::error_chain;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::ledger::Ledger;

/// Least time between two words of what a run used.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How often a run that uses nothing asks what the others have left.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A run whose task has no limit on money gets up to this part of a day's money, see `store::spend`.
const SHARE_OF_DAY: u64 = 4;

const HINT_TASK_TOKENS: &str = "raise TASK_TOKEN_LIMIT and run `opentiger task retry`, or post the task anew with a higher `token_limit`";
const HINT_TASK_MONEY: &str = "raise TASK_COST_LIMIT_USD and run `opentiger task retry`, or post the task anew with a higher `cost_limit_usd`";
const HINT_SHARE: &str = "give the task a `cost_limit_usd`, or set TASK_COST_LIMIT_USD: without one a run may use a quarter of DAILY_COST_LIMIT_USD";
const HINT_DAY: &str = "it goes on at 00:00 UTC; for it to go on sooner raise the daily limit and run `opentiger task retry`";

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Which limit, what was used and what is allowed, for people.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
    /// When it is lifted; absent for a limit of the task, which is its end.
    pub lifted_at: Option<Timestamp>,
}

impl Reached {
    /// The report of a run that ends for it.
    #[must_use]
    pub fn report(self) -> RunReport {
        RunReport {
            hint: Some(self.hint.to_owned()),
            retry_at: self.lifted_at,
            ..RunReport::new(RunOutcome::LimitReached).with_message(self.message)
        }
    }
}

/// The limits of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    task_tokens: Option<u64>,
    task_money: Option<u64>,
    day_tokens: Option<u64>,
    day_money: Option<u64>,
}

impl Caps {
    /// The limits of a run of this task, which its own fields give, else the settings.
    #[must_use]
    pub fn of(task: &TaskBrief, limits: &SpendLimits) -> Self {
        Self {
            task_tokens: task.token_limit.or(limits.task_tokens),
            task_money: task.cost_limit_microusd.or(limits.task_cost_microusd),
            day_tokens: limits.day_tokens,
            day_money: limits.day_cost_microusd,
        }
    }

    /// The limit that is reached when the run has used `usage`, which the day in `standing` counts already.
    #[must_use]
    pub fn reached(&self, standing: &Standing, usage: &Usage) -> Option<Reached> {
        let task_tokens = standing.task_before.total_tokens().saturating_add(usage.total_tokens());
        if let Some(limit) = self.task_tokens.filter(|limit| task_tokens >= *limit) {
            let message = format!(
                "the task's limit of {limit} tokens is reached: {task_tokens} used over all its runs"
            );
            return Some(Reached { message, hint: HINT_TASK_TOKENS, lifted_at: None });
        }
        let task_money = standing.task_before.cost_microusd.saturating_add(usage.cost_microusd);
        if let Some(limit) = self.task_money.filter(|limit| task_money >= *limit) {
            let (limit, used) = (usd_text(limit), usd_text(task_money));
            let message =
                format!("the task's limit of {limit} is reached: {used} used over all its runs");
            return Some(Reached { message, hint: HINT_TASK_MONEY, lifted_at: None });
        }
        let (day, lifted_at) = (&standing.day, Some(standing.day.ends_at));
        if let Some(limit) = self.day_tokens.filter(|limit| day.tokens >= *limit) {
            let used = day.tokens;
            let message =
                format!("the day's limit of {limit} tokens is reached: {used} used by all runs");
            return Some(Reached { message, hint: HINT_DAY, lifted_at });
        }
        let share = self.share(standing).filter(|share| usage.cost_microusd >= *share)?;
        let whole = self.day_money.map_or(0, |day| day.div_ceil(SHARE_OF_DAY));
        let (allowed, used) = (usd_text(share), usd_text(usage.cost_microusd));
        let message = format!("the run's share of the day's money, {allowed}, is used up: {used}");
        // A share that was cut short by what others had used is the day's fault, a whole one is the task's.
        let is_whole = self.task_money.is_none() && share >= whole;
        let (hint, lifted_at) = if is_whole { (HINT_SHARE, None) } else { (HINT_DAY, lifted_at) };
        Some(Reached { message, hint, lifted_at })
    }

    /// What the run may use of the day's money, in millionths of a US dollar.
    fn share(&self, standing: &Standing) -> Option<u64> {
        let limit = self.day_money?;
        let left = limit.saturating_sub(standing.day.cost_microusd);
        // A limit that was set after the claim has nothing set aside.
        Some(if standing.reserved_microusd > 0 { standing.reserved_microusd } else { left })
    }

    /// The most money that the command line may be told to use, in millionths of a US dollar.
    #[must_use]
    pub fn budget(&self, standing: &Standing) -> Option<u64> {
        let used = standing.task_before.cost_microusd;
        let task = self.task_money.map(|limit| limit.saturating_sub(used));
        task.into_iter().chain(self.share(standing)).min()
    }
}

/// Tells what a run uses, and says when it reaches a limit; ends when it is dropped.
#[derive(Debug)]
pub struct Meter {
    caps: Caps,
    used: watch::Sender<Usage>,
    told: Arc<watch::Sender<Told>>,
    _telling: JoinSet<()>,
}

/// How the run stands, as far as is known.
#[derive(Debug, Clone)]
struct Told {
    standing: Standing,
    reached: Option<Reached>,
}

impl Meter {
    /// Asks what there is for a run, and starts to tell what it uses.
    ///
    /// # Errors
    /// [`FencedError`] where the run is not ours or the database does not answer: do not start the agent.
    pub async fn start(ledger: Ledger, key: RunKey, caps: Caps) -> Result<Self, FencedError> {
        let standing = ledger.record_usage(key, &Usage::default()).await?;
        let reached = caps.reached(&standing, &Usage::default());
        let told = Arc::new(watch::Sender::new(Told { standing, reached }));
        let (used, uses) = watch::channel(Usage::default());
        let telling = JoinSet::from_iter([tell(ledger, key, caps, uses, Arc::clone(&told))]);
        Ok(Self { caps, used, told, _telling: telling })
    }

    /// Takes what the run has used so far.
    pub fn note(&self, usage: Usage) {
        self.used.send_if_modified(|used| std::mem::replace(used, usage) != usage);
    }

    /// The limit that is reached, by what is known now.
    #[must_use]
    pub fn reached(&self) -> Option<Reached> {
        let told = self.told.borrow();
        told.reached.clone().or_else(|| self.caps.reached(&told.standing, &self.used.borrow()))
    }

    /// Returns when a limit is reached that other runs or earlier ones have a part in.
    ///
    /// # Cancel safety
    /// Cancel safe: it waits for a state.
    pub async fn exhausted(&self) {
        let mut told = self.told.subscribe();
        // The sender is ours, so this can only succeed.
        drop(told.wait_for(|told| told.reached.is_some()).await);
    }

    /// The most money that the command line may be told to use, in millionths of a US dollar.
    #[must_use]
    pub fn budget(&self) -> Option<u64> {
        self.caps.budget(&self.told.borrow().standing)
    }
}

async fn tell(
    ledger: Ledger,
    key: RunKey,
    caps: Caps,
    mut uses: watch::Receiver<Usage>,
    told: Arc<watch::Sender<Told>>,
) {
    loop {
        // Silence is no answer; that the meter is gone is one.
        if let Ok(Err(_)) = timeout(ASK_EVERY, uses.changed()).await {
            return;
        }
        let usage = *uses.borrow_and_update();
        match ledger.record_usage(key, &usage).await {
            Ok(standing) => {
                let reached = caps.reached(&standing, &usage);
                told.send_replace(Told { standing, reached });
            }
            Err(FencedError::Store(error)) => {
                tracing::debug!(error = %error_chain(&error), "usage not told");
                uses.mark_changed();
            }
            // The heartbeat says so to the run itself.
            Err(FencedError::Fenced { .. }) => return,
        }
        sleep(TELL_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use store::spend::DaySpend;

    use super::*;

    const NONE: Caps =
        Caps { task_tokens: None, task_money: None, day_tokens: None, day_money: None };

    fn tokens(count: u64) -> Usage {
        Usage { output_tokens: count, ..Usage::default() }
    }

    fn money(microusd: u64) -> Usage {
        Usage { cost_microusd: microusd, ..Usage::default() }
    }

    fn standing(before: Usage, day_tokens: u64, reserved: u64) -> Standing {
        Standing {
            task_before: before,
            day: DaySpend {
                tokens: day_tokens,
                cost_microusd: 0,
                reserved_microusd: reserved,
                ends_at: Timestamp::UNIX_EPOCH,
            },
            reserved_microusd: reserved,
        }
    }

    #[test]
    fn a_limit_of_the_task_counts_all_its_runs_and_is_its_end() {
        let caps = Caps { task_tokens: Some(100), ..NONE };
        let before = standing(tokens(60), 0, 0);
        assert_eq!(caps.reached(&before, &tokens(39)), None);
        let reached = caps.reached(&before, &tokens(45)).expect("105 of 100");
        assert!(reached.message.contains("100 tokens") && reached.message.contains("105 used"));
        assert_eq!(reached.report().retry_at, None);
        // What earlier runs used up leaves nothing to start with.
        assert!(caps.reached(&standing(tokens(100), 0, 0), &Usage::default()).is_some());
    }

    #[test]
    fn a_limit_of_the_day_counts_all_runs_and_is_lifted() {
        let caps = Caps { day_tokens: Some(1000), ..NONE };
        assert_eq!(caps.reached(&standing(tokens(0), 999, 0), &tokens(1)), None);
        let reached = caps.reached(&standing(tokens(0), 1000, 0), &tokens(1)).expect("all used");
        assert_eq!(reached.report().retry_at, Some(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn the_command_line_gets_what_the_tightest_limit_leaves() {
        let caps = Caps { task_money: Some(500), day_money: Some(1000), ..NONE };
        assert_eq!(caps.budget(&standing(money(100), 0, 300)), Some(300));
        assert_eq!(caps.budget(&standing(money(450), 0, 300)), Some(50));
        assert_eq!(NONE.budget(&standing(money(450), 0, 0)), None);
    }

    #[test]
    fn a_whole_share_of_the_day_is_the_tasks_end_and_one_cut_short_waits_for_the_next_day() {
        let caps = Caps { day_money: Some(1000), ..NONE };
        let whole = caps.reached(&standing(money(0), 0, 250), &money(250)).expect("all used");
        assert_eq!(whole.lifted_at, None);
        let cut = caps.reached(&standing(money(0), 0, 200), &money(200)).expect("all used");
        assert!(cut.lifted_at.is_some());
        assert_eq!(caps.reached(&standing(money(0), 0, 250), &money(249)), None);
    }
}
