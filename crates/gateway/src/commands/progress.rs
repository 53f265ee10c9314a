//! Bars for whoever waits in front of a terminal. Where standard error is none, nothing of them is written.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::sleep;

/// What takes no longer needs no bar: it would only flicker.
const PATIENCE: Duration = Duration::from_millis(300);
/// How often a bar that has no news moves, so that people see it is alive.
const TICK: Duration = Duration::from_millis(120);

/// A bar, as long as this is alive.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// For work that comes in so many pieces.
    pub(super) fn of(what: &'static str, pieces: usize) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(u64::try_from(pieces).unwrap_or(u64::MAX)),
            ProgressDrawTarget::stderr(),
        );
        let style = "{msg} [{bar:30}] {human_pos} of {human_len}, {elapsed}";
        Self::new(bar, style, what)
    }

    /// For work whose end nobody knows, by what is done of it.
    pub(super) fn counting(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self::new(bar, "{spinner} {msg}: {human_pos}, {elapsed}", what)
    }

    fn new(bar: ProgressBar, style: &str, what: &'static str) -> Self {
        let style = ProgressStyle::with_template(style).expect("the templates are ours");
        let bar = bar
            .with_style(style.progress_chars("=> "))
            .with_message(what);
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Self(bar)
    }

    /// So many pieces are done.
    pub(super) fn at(&self, done: usize) {
        self.0.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Waits for one long piece of work, and after a moment says so.
pub(super) async fn waiting<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = sleep(PATIENCE) => {}
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let _bar = Progress::new(bar, "{spinner} {msg}, {elapsed}", what);
    work.await
}
