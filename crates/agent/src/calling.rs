//! The call of the agent's command line: what it is told, where it works, and what is kept out of its way.

use std::time::Duration;

use checkout::checkouts::Checkout;
use core_types::{
    event::RunEvent,
    outcome::{RunOutcome, RunReport},
    sandbox::AttemptsBefore,
};
use executor::{
    invocation::{AgentTask, Executor, Invocation, Place},
    prompt::{self, Before, PastFailure, PromptParts},
};
use launcher::spec::{LaunchSpec, Limits, OutputLimits, StopPolicy, StopSignal};
use telemetry::chain::error_chain;

use crate::{
    life::{EndedEarly, Life, Scene},
    meter::Meter,
    policy::LEASE_GRACE,
    run::launch_labels,
    session::{AgentCall, SessionEnd, SessionLimits, prepare_agent, run_agent},
    sessions::in_sandbox,
    set_aside::SetAside,
    trouble::{Step, report_of},
};

/// Longest time of the call before the agent's own.
const PREPARE_WITHIN: Duration = Duration::from_secs(60);
/// Agent output kept on disk, in bytes, at its beginning and at its end.
const AGENT_OUTPUT: OutputLimits = OutputLimits { head_bytes: 64 << 20, tail_bytes: 16 << 20 };

impl Life<'_> {
    /// Has the agent work in the checkout; when this returns, nothing that it started is alive.
    pub(crate) async fn agent(
        &self,
        checkout: &Checkout,
        before: &AttemptsBefore,
    ) -> Result<(SessionEnd, Meter), EndedEarly> {
        let meter = self.meter().await?;
        let end = self.agent_under(&meter, checkout, before).await?;
        meter.note(end.verdict.usage);
        Ok((end, meter))
    }

    async fn agent_under(
        &self,
        meter: &Meter,
        checkout: &Checkout,
        before: &AttemptsBefore,
    ) -> Result<SessionEnd, EndedEarly> {
        let place = self.place(checkout)?;
        let end = self.agent_in(meter, checkout, &place, before, "agent").await?;
        if before.session.is_none() || !end.verdict.session_lost {
            return Ok(end);
        }
        let text =
            "the session that was to go on is not there any more; the agent begins a new one";
        self.around.recorder.record(RunEvent::Notice { text: text.to_owned() }).await;
        let without = AttemptsBefore { session: None, ..before.clone() };
        self.agent_in(meter, checkout, &place, &without, "agent-anew").await
    }

    async fn agent_in(
        &self,
        meter: &Meter,
        checkout: &Checkout,
        place: &Place,
        before: &AttemptsBefore,
        part: &str,
    ) -> Result<SessionEnd, EndedEarly> {
        let invocation = self.invocation(place, before, meter.budget())?;
        let aside = self.set_aside(checkout, invocation.set_aside).await?;
        let end = self.call(meter, checkout, &invocation, part).await;
        self.end_rest_of_agent().await?;
        let back = aside.put_back();
        let end = end?;
        // What the agent made of the places they go to is its work, and no fault of this host.
        if let Err(error) = back
            && end.verdict.outcome.is_ok()
        {
            let message = format!("the repository's files cannot be put back: {error}");
            let report = RunReport::new(RunOutcome::CollectFailed).with_message(message);
            return Err(Box::new(report));
        }
        Ok(end)
    }

    async fn call(
        &self,
        meter: &Meter,
        checkout: &Checkout,
        invocation: &Invocation,
        part: &str,
    ) -> Result<SessionEnd, EndedEarly> {
        self.confirm().await?;
        let task = self.task;
        let limits = SessionLimits {
            idle: self.policy.idle_of(task.executor),
            total: task.timebox.unwrap_or(self.policy.timebox),
            grace: self.policy.grace,
        };
        let spec = self.agent_spec(checkout, invocation, limits.total);
        if let Some(args) = &invocation.prepare {
            let spec = LaunchSpec {
                args: args.clone(),
                limits: Limits { wall: Some(PREPARE_WITHIN), ..spec.limits },
                ..spec.clone()
            };
            let ready = prepare_agent(&self.around, self.key, invocation, spec).await;
            self.confirm().await?;
            if !ready {
                // The call would wait in a directory that is gone, without a word, until its idle limit.
                tracing::warn!("session not made ready to go on");
                return Ok(SessionEnd::lost());
            }
        }
        let key = self.key;
        let call = AgentCall { part, spec, invocation };
        Ok(run_agent(&self.around, key, call, limits, meter).await)
    }

    fn agent_spec(
        &self,
        checkout: &Checkout,
        invocation: &Invocation,
        total: Duration,
    ) -> LaunchSpec {
        LaunchSpec {
            program: invocation.program.clone(),
            args: invocation.args.clone(),
            env: invocation.env.clone(),
            cwd: checkout.work.clone(),
            user: None,
            limits: Limits {
                memory_bytes: self.policy.memory_limit,
                cpu_millis: None,
                processes: self.policy.process_limit,
                // The shim's own limit stands behind this worker's, for the case that it hangs.
                wall: Some(total + self.policy.grace + Duration::from_secs(60)),
            },
            output: AGENT_OUTPUT,
            stop: StopPolicy {
                grace: self.policy.grace.min(LEASE_GRACE),
                signal: StopSignal::Terminate,
            },
            lease: Some(self.around.heartbeat.launch_lease()),
            labels: launch_labels(self.key),
            container: None,
        }
    }

    fn place(&self, checkout: &Checkout) -> Result<Place, EndedEarly> {
        let task = self.task;
        let place = Place::on_host(
            self.parent_env.iter(),
            self.policy.agent_home.clone(),
            checkout.work.clone(),
            checkout.tmp.clone(),
            rustix::process::geteuid().is_root(),
        );
        let unmade = |error| unusable("make a place for its sessions", &error);
        match &self.scene {
            Scene::Host(hosted) => {
                let place = place.map_err(|error| not_callable(&error))?;
                let own = hosted.shop.sessions.of_task(task.id, task.executor, &place.home);
                Ok(Place { config_dir: own.map_err(unmade)?, ..place })
            }
            Scene::Sandbox(boxed) => {
                let place = place.map_err(|error| not_callable(&error))?;
                let assignment = boxed.assignment;
                let own = in_sandbox(task.executor, &assignment.state, &assignment.logins);
                Ok(Place {
                    config_dir: Some(own.map_err(unmade)?),
                    login_dir: assignment.logins.claude_code.clone(),
                    sandboxed: true,
                    ..place
                })
            }
        }
    }

    fn invocation(
        &self,
        place: &Place,
        before: &AttemptsBefore,
        budget: Option<u64>,
    ) -> Result<Invocation, EndedEarly> {
        let task = self.task;
        let agent_task = AgentTask {
            prompt: self.prompt(before),
            model: task.model.clone(),
            resume: before.session.clone(),
            cost_limit_microusd: budget,
        };
        let executor = Executor::new(task.executor, &self.policy.executors);
        executor.invocation(&agent_task, place).map_err(|error| not_callable(&error))
    }

    async fn set_aside(
        &self,
        checkout: &Checkout,
        names: &[&'static str],
    ) -> Result<SetAside, EndedEarly> {
        let kept = checkout.fresh_directory("aside");
        let kept = kept.map_err(|error| report_of(Step::Checkout, &error))?;
        let aside = SetAside::take(&checkout.work, kept, names);
        let aside = aside.map_err(|error| unusable("set files aside", &error))?;
        if !aside.names().is_empty() {
            let names: Vec<String> = aside.names().iter().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            let text = format!("kept from the agent, which would execute them: {names}");
            self.around.recorder.record(RunEvent::Notice { text }).await;
        }
        Ok(aside)
    }

    fn prompt(&self, before: &AttemptsBefore) -> String {
        let task = self.task;
        let failures: Vec<PastFailure<'_>> = before
            .failures
            .iter()
            .map(|failure| PastFailure { what: &failure.what, output: failure.output.as_deref() })
            .collect();
        let prompt = prompt::build(&PromptParts {
            role: task.role,
            instructions: self.policy.instructions_of(task.role),
            title: &task.title,
            goal: &task.goal,
            context: task.context.as_ref(),
            verification: self.verification(),
            failures: &failures,
            feedback: task.feedback.as_deref(),
            before: told_of(before),
        });
        prompt::without_secrets(prompt, &self.policy.executors.secrets())
    }

    /// The commands that decide about the result: the task's, else its role's.
    pub(crate) fn verification(&self) -> &[Vec<String>] {
        let task = self.task;
        if task.verification.is_empty() {
            self.policy.verification_of(task.role)
        } else {
            &task.verification
        }
    }
}

const fn told_of(before: &AttemptsBefore) -> Before {
    match (&before.session, before.with_result) {
        (Some(_), with_result) => Before::Session { with_result },
        (None, true) => Before::Result,
        (None, false) => Before::Nothing,
    }
}

fn not_callable(error: &executor::invocation::ExecutorError) -> EndedEarly {
    let mut report = RunReport::new(RunOutcome::LaunchFailed);
    report.message = Some(error_chain(error).to_string());
    report.hint = Some(error.hint().to_owned());
    Box::new(report)
}

/// The report of a step in this host's files that failed.
fn unusable(what: &str, error: &std::io::Error) -> EndedEarly {
    let message = format!("cannot {what}: {error}");
    Box::new(RunReport::new(RunOutcome::HostFailed).with_message(message))
}
