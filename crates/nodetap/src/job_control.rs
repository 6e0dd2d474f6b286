//! Ctrl-Z. Who is stopped while a thread of the target stands still leaves it standing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGTSTP, SIGTTIN, SIGTTOU};
use signal_hook::flag::{register, register_conditional_default};

use crate::failure::{Failure, Result, reason};

/// As long as it is there, nodetap does not stop when the terminal asks it to: that is
/// noted, and done at a moment that suits.
#[derive(Debug)]
pub struct HeldStops {
    /// Asked to stop, and not stopped yet.
    asked: Arc<AtomicBool>,
    /// Stops as any program does.
    released: Arc<AtomicBool>,
}

impl HeldStops {
    /// From now on.
    pub fn hold() -> Result<HeldStops> {
        let held = HeldStops {
            asked: Arc::default(),
            released: Arc::default(),
        };
        for signal in [SIGTSTP, SIGTTIN, SIGTTOU] {
            register(signal, held.asked.clone())
                .and_then(|_| register_conditional_default(signal, held.released.clone()))
                .map_err(|error| {
                    let reason = reason(&error);
                    Failure::new(format_args!("cannot listen for signals: {reason}"))
                })?;
        }
        Ok(held)
    }

    /// Whether nodetap was asked to stop since this was asked last.
    pub fn take(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }
}

impl Drop for HeldStops {
    fn drop(&mut self) {
        self.released.store(true, Ordering::Relaxed);
        if self.take() {
            // What cannot be done was to be done by the terminal.
            let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
        }
    }
}
