//! Waiting for a state in place of sleeping.

use std::{fmt::Display, time::Duration};

use tokio::time::Instant;

/// The first pause between two looks; each further one is longer, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until there is a result, and returns it.
///
/// `look` says in its error what it saw instead.
///
/// # Panics
/// When `limit` has passed; the text names `what` and what the last look saw.
#[track_caller]
pub fn wait_for<T, E, F>(
    what: &str,
    limit: Duration,
    mut look: F,
) -> impl Future<Output = T> + use<'_, T, E, F>
where
    E: Display,
    F: AsyncFnMut() -> Result<T, E>,
{
    let caller = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let seen = match look().await {
                Ok(result) => return result,
                Err(seen) => seen,
            };
            let waited = started.elapsed();
            assert!(waited < limit, "waited {waited:?} for {what} at {caller}; last seen: {seen}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_result_of_the_first_good_look_is_returned() {
        let mut looks = 0;
        let result = wait_for("three looks", Duration::from_secs(1), async || {
            looks += 1;
            if looks == 3 { Ok("there") } else { Err(format!("look {looks}")) }
        });
        assert_eq!(result.await, "there");
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "for a miracle")]
    async fn what_never_comes_ends_in_a_panic_that_names_it() {
        wait_for::<(), _, _>("a miracle", Duration::from_secs(5), async || Err("nothing")).await;
    }
}
